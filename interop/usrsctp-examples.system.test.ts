// Debian's libusrsctp-examples as they come, in a namespace that has only lo: their servers with clients of ours, their
// clients with servers of ours, the command `nke traffic` among them.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Appliance } from '../appliance.js';
import {
  skipWithoutExamples,
  startClient,
  startDiscardServer,
  startEchoServer,
  startTsctpClient,
  startTsctpServer,
  tsctpResult,
  withoutDebug,
} from '../bench/usrsctp/examples.js';
import { accept, connect, deadline, finish, listen, receive, send, withClean } from './ends.js';
import { nke, Place, skipWithoutPlace } from './place.js';

const skip = skipWithoutExamples() || skipWithoutPlace();
const NEAR = 9900;
const FAR = 9899;

/** A namespace and our appliance on its loopback. */
async function withOurs(body: (ours: Appliance, place: Place) => Promise<void>): Promise<void> {
  using place = new Place();
  const ours = Appliance.create({ cards: [{ port: `udp:127.0.0.1:${NEAR}` }], kexts: ['SCTP'] });
  await withClean(ours, () => body(ours, place));
}

test('echo_server sends back what we send, from 1 byte to 8,000', { skip }, async () => {
  await withOurs(async (ours, { netns }) => {
    await using _server = await startEchoServer({ netns, localUdp: FAR, remoteUdp: NEAR });
    const socket = await connect(ours, ['127.0.0.1'], 7, { encaps: FAR });
    for (const size of [1, 2, 3, 4, 100, 1400, 1452, 1453, 3000, 8000]) {
      const data = Buffer.alloc(size, size);
      await socket.send(data, { ppid: size });
      // It reads into 10,240 bytes at a time, so these come back whole.
      const back = await socket.recv({ signal: deadline(5000, `the echo of ${size} bytes`) });
      assert.ok(back?.data.equals(data), `${size} bytes`);
    }
    await finish(socket);
  });
});

test('discard_server counts what we send', { skip }, async () => {
  await withOurs(async (ours, { netns }) => {
    await using server = await startDiscardServer({ netns, localUdp: FAR, remoteUdp: NEAR });
    const socket = await connect(ours, ['127.0.0.1'], 9, { encaps: FAR });
    for (let i = 1; i <= 100; i++) await socket.send(Buffer.alloc(i));
    await finish(socket);
    const lengths = await server.until('it had counted them', () => {
      const found = [...server.stdout.matchAll(/Msg of length (\d+) received/g)].map(m => Number(m[1]));
      return found.length === 100 ? found : undefined;
    });
    assert.deepEqual(
      lengths,
      Array.from({ length: 100 }, (_, i) => i + 1),
    );
  });
});

test('client of usrsctp talks to `nke traffic echo`', { skip }, async () => {
  using place = new Place();
  const { netns } = place;
  const server = nke(netns, ['traffic', 'echo', '--port', `udp:127.0.0.1:${NEAR}`, '--no-control']);
  await using _ = server;
  await server.until('it listened', () => /listening|SCTP port 7/i.test(server.stdout + server.stderr) || undefined);
  const input = 'hello\nworld\nof messages\n';
  const to = { netns, localUdp: FAR, remoteUdp: NEAR, address: '127.0.0.1', port: 7 };
  const client = startClient({ ...to, input, hold: 500 });
  assert.equal((await client.ended).status, 0, client.tail());
  assert.ok(withoutDebug(client.stdout).includes(input), withoutDebug(client.stdout));
  server.kill('SIGINT');
  assert.equal((await server.ended).status, 0, server.tail());
});

test('client of usrsctp talks to `nke traffic discard`', { skip }, async () => {
  using place = new Place();
  const { netns } = place;
  await using server = nke(netns, ['traffic', 'discard', '--port', `udp:127.0.0.1:${NEAR}`, '--no-control', '--json']);
  await server.until('it listened', () => server.stdout + server.stderr || undefined);
  const input = 'to be\nforgotten\n';
  const client = startClient({ netns, localUdp: FAR, remoteUdp: NEAR, address: '127.0.0.1', port: 9, input });
  assert.equal((await client.ended).status, 0, client.tail());
  server.kill('SIGINT');
  assert.equal((await server.ended).status, 0, server.tail());
  assert.match(server.stdout, /"messages":\s*2\b/, server.stdout);
});

test('`nke traffic client` checks every byte that echo_server of usrsctp sends back', { skip }, async () => {
  using place = new Place();
  const { netns } = place;
  await using _server = await startEchoServer({ netns, localUdp: FAR, remoteUdp: NEAR });
  const argv = ['traffic', 'client', '127.0.0.1', '--port', `udp:127.0.0.1:${NEAR}`, '--encaps-port', String(FAR)];
  const client = nke(netns, [...argv, '--messages', '2000', '--size', '100,1400,8000', '--json', '--no-control']);
  assert.equal((await client.ended).status, 0, client.tail());
  assert.match(client.stdout, /"messages":\s*2000\b/);
});

async function tsctpToUs(t: TestContext, length: number, messages: number): Promise<void> {
  await withOurs(async (ours, { netns }) => {
    const listener = listen(ours, { port: 5001 });
    const to = { netns, localUdp: FAR, remoteUdp: NEAR, port: 5001, address: '127.0.0.1' };
    const client = startTsctpClient({ ...to, length, messages });
    const socket = await accept(listener);
    const received = await receive(socket);
    socket.close();
    listener.close();
    assert.equal((await client.ended).status, 0, client.tail());
    assert.equal(tsctpResult(client.stdout)?.messages, messages);
    assert.deepEqual([received.messages, received.bytes], [messages, messages * length]);
    t.diagnostic(`${length} bytes: ${((received.bytes * 8) / received.seconds / 1e6).toFixed(0)} Mbit/s`);
  });
}

test('tsctp sends to us', { skip }, async t => {
  await tsctpToUs(t, 1400, 5000);
  await tsctpToUs(t, 60_000, 100);
});

test('we send to tsctp', { skip }, async t => {
  await withOurs(async (ours, { netns }) => {
    await using server = await startTsctpServer({ netns, localUdp: FAR, remoteUdp: NEAR, port: 5001 });
    const socket = await connect(ours, ['127.0.0.1'], 5001, { encaps: FAR });
    const sent = await send(socket, { bytes: 5000 * 1400, message: 1400 });
    await finish(socket);
    const received = await server.until('its result', () => tsctpResult(server.stdout));
    assert.deepEqual([received.messages, received.bytes], [sent.messages, sent.bytes]);
    t.diagnostic(`${((received.bytes * 8) / received.seconds / 1e6).toFixed(0)} Mbit/s`);
  });
});
