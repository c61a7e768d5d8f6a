/** Two and three queues of one host, in virtual time, joined by the shared memory of worker appliances. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pathsHeld, SharedSteering, sharedMemory } from '../../workers/shared.js';
import { T_BIT } from './constants.js';
import * as f from './packets.fixture.js';

/** Hosts that share one memory; `settle` lets each take what was passed to it. */
function host(queues: number, held?: (shared: SharedArrayBuffer) => void) {
  const shared = sharedMemory(queues);
  const steerings = Array.from({ length: queues }, (_, q) => new SharedSteering(shared, q, queues, () => {}));
  const peers = steerings.map((steering, q) => new f.WirePeer({ steering, seed: q + 1 }));
  held?.(shared);
  return {
    peers,
    steerings,
    settle() {
      for (let round = 0; round < queues; round++)
        for (const [q, s] of steerings.entries()) if (s.take() > 0) peers[q]!.settle();
    },
    end() {
      for (const [q, p] of peers.entries()) {
        assert.equal(p.end(), 0, 'mbufs');
        assert.equal(pathsHeld(shared, q), 0, 'claims');
      }
    },
  };
}
type Host = ReturnType<typeof host>;
const passed = (h: Host) => h.peers.map(p => p.counted('sctps_steeredout', 'sctps_steeredin'));

test('every tag that a queue draws leads to it, and so do its ephemeral ports', () => {
  const h = host(3);
  for (const [q, p] of h.peers.entries())
    for (let i = 0; i < 20; i++) {
      const [, init] = p.connecting();
      assert.equal(init.chunks[0]!.init!.tag % 3, q);
      assert.equal(init.src % 3, q);
    }
  h.end();
});

test('an INIT for an association of another queue meets it: restart with tie-tags (§5.2.2)', () => {
  const h = host(2);
  const [home, away] = h.peers as [f.WirePeer, f.WirePeer];
  home.accepted();
  away.listen();
  // The peer has lost its state: a new tag, the same addresses and ports.
  away.inject(f.init({ tag: 77, tsn: 500 }), { dst: f.LOCAL_PORT });
  assert.deepEqual(away.take(), [], 'not answered here');
  h.settle();
  const answer = home.one('INIT ACK');
  assert.equal(answer.chunks[0]!.init!.tag % 2, 0, 'its cookie comes here by itself');
  home.inject(f.cookieEcho(f.cookieOf(answer)), { tag: answer.chunks[0]!.init!.tag, dst: f.LOCAL_PORT });
  assert.equal(home.stats.sctps_restartestab, 1);
  assert.deepEqual(passed(h), [
    [0, 1],
    [1, 0],
  ]);
  assert.deepEqual([home.associations.length, away.associations.length], [1, 0]);
  h.end();
});

test('an INIT from a new address that lists one of the association’s is passed on too (§5.1.2)', () => {
  const h = host(2);
  const [home, away] = h.peers as [f.WirePeer, f.WirePeer];
  home.accepted();
  away.listen();
  const params = [f.addressParam('10.0.0.2'), f.addressParam('10.0.0.9')];
  away.inject(f.init({ tag: 77, params }), { dst: f.LOCAL_PORT, from: '10.0.0.9' });
  h.settle();
  // §5.2.2: a restart that adds addresses is refused, by who knows the association.
  assert.equal(home.one().names, 'ABORT');
  assert.equal(home.stats.sctps_restartnewaddr, 1);
  h.end();
});

test('INITs that cross: the peer’s, which comes to another queue, is answered with the tag of ours (§5.2.1)', () => {
  const h = host(2);
  const [away, home] = h.peers as [f.WirePeer, f.WirePeer];
  const [, ours] = home.connecting();
  away.inject(f.init(), { dst: ours.src });
  assert.deepEqual(away.take(), []);
  h.settle();
  assert.equal(home.one('INIT ACK').chunks[0]!.init!.tag, ours.chunks[0]!.init!.tag);
  h.end();
});

test('a packet of another queue’s association, which came in a train with ours, goes there', () => {
  const h = host(2);
  const [home, away] = h.peers as [f.WirePeer, f.WirePeer];
  const [server] = home.accepted();
  const payload = Uint8Array.of(1, 2, 3);
  away.inject(f.data({ tsn: f.PEER_TSN, payload }), { dst: f.LOCAL_PORT, tag: home.tag });
  h.settle();
  assert.equal(server.readable, true);
  assert.deepEqual(passed(h), [
    [0, 1],
    [1, 0],
  ]);
  assert.equal(away.stats.sctps_ootb, 0);
  home.one('SACK');
  // One of nobody's is passed once, by its tag, and answered there.
  away.inject(f.data({ tsn: 1 }), { dst: 4444, tag: 10 });
  h.settle();
  assert.equal(home.one('ABORT').tag, 10);
  h.end();
});

test('a reflected tag is the peer’s own: its ABORT finds the association by address (§8.5.1 B)', () => {
  const h = host(2);
  const [home, away] = h.peers as [f.WirePeer, f.WirePeer];
  home.accepted();
  away.inject(f.abort(T_BIT), { dst: f.LOCAL_PORT, tag: f.PEER_TAG });
  h.settle();
  assert.equal(home.associations.length, 0);
  assert.equal(home.stats.sctps_abortrecv, 1);
  h.end();
});

test('a queue that only seems to hold the address passes the INIT on to the next that does', () => {
  const h = host(3);
  const [away, false1, home] = h.peers as [f.WirePeer, f.WirePeer, f.WirePeer];
  home.accepted();
  // Queue 1 claims every key: as if other addresses of its had fallen into the same slots.
  const { holder } = h.steerings[0]!;
  h.steerings[0]!.holder = (key, asked) => ((asked & 2) === 0 ? 1 : holder.call(h.steerings[0], key, asked));
  away.listen();
  false1.listen();
  away.inject(f.init({ tag: 77 }), { dst: f.LOCAL_PORT });
  h.settle();
  home.one('INIT ACK');
  assert.deepEqual(passed(h), [
    [1, 0],
    [1, 1],
    [0, 1],
  ]);
  h.end();
});

test('an INIT that no queue knows is answered where it came', () => {
  const h = host(2);
  for (const [q, p] of h.peers.entries()) {
    p.listen();
    p.inject(f.init({ tag: 5 }), { dst: f.LOCAL_PORT, src: 6000 + q });
    assert.equal(p.one('INIT ACK').chunks[0]!.init!.tag % 2, q);
  }
  assert.deepEqual(passed(h), [
    [0, 0],
    [0, 0],
  ]);
  h.end();
});
