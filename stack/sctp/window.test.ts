import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SO_RCVBUF, SOL_SOCKET } from './api.js';
import { drain, SctpPair } from './harness.js';

test('a reader that makes room asks for a turn of the loop, which tells the peer at once (§6.2)', () => {
  const p = new SctpPair();
  const [client, server, listener] = p.connect([], so => so.setsockopt(SOL_SOCKET, SO_RCVBUF, 20_000));
  const message = new Uint8Array(100);
  while (client.send(message) > 0);
  p.net.run(1e9);
  assert.equal(server.readable, true);
  let kicks = 0;
  p.b.kick = () => kicks++;
  const updates = p.kexts[1].sctp!.stats.sctps_windowupdate;
  // Nothing is under way: without the turn the peer would hear of it with its next window probe, an RTO later.
  const { messages } = drain(server);
  assert.ok(messages.length > 10);
  assert.equal(p.kexts[1].sctp!.stats.sctps_windowupdate, updates + 1);
  assert.equal(kicks, 1);
  drain(server);
  assert.equal(kicks, 1);
  p.b.kick = () => {};
  client.close();
  p.net.run(60e9);
  drain(server);
  for (const so of [server, listener]) so.close();
  assert.equal(p.end(), 0);
});
