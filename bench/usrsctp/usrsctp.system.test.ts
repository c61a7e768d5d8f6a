// usrsctp against itself: shows that the peers are sound before our stack is measured against them.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { pidAlive } from '../../vm/cleanup.js';
import { Netns, skipWithoutNetns } from '../../vm/netns.js';
import { fillPattern } from '../../vm/payload.js';
import { skipWithoutKernelPeer, startKernelPeer } from '../../vm/sctp-peer.js';
import { bootGuest } from '../../vm/uml.js';
import { skipWithoutUsrsctp } from './build.js';
import {
  skipWithoutExamples,
  startClient,
  startDiscardServer,
  startEchoServer,
  startTsctpClient,
  startTsctpServer,
  tsctpResult,
  withoutDebug,
} from './examples.js';
import { freeUdpPorts, startUsrsctp } from './peer.js';

const skip = skipWithoutUsrsctp();
const skipExamples = skipWithoutExamples() || skipWithoutNetns();

test('usrsctp moves 64 MiB to usrsctp, and both hashes are that of the pattern', { skip }, async () => {
  const [a, b] = (await freeUdpPorts(2)) as [number, number];
  const bytes = 64 << 20;
  await using sink = await startUsrsctp('sink', { localUdp: a });
  await using source = await startUsrsctp('source', { localUdp: b, remoteUdp: a, bytes, message: 1400 });
  const [sent, received] = await Promise.all([source.result(), sink.result()]);
  const expected = new Uint8Array(bytes);
  fillPattern(expected, 0, bytes, 0);
  assert.equal(sent.bytes, bytes);
  assert.equal(received.bytes, bytes);
  assert.equal(received.messages, Math.ceil(bytes / 1400));
  assert.equal(sent.sha256, createHash('sha256').update(expected).digest('hex'));
  assert.equal(received.sha256, sent.sha256);
});

test('pingpong against echo: every echo is right, also of messages in many packets', { skip }, async () => {
  const [a, b] = (await freeUdpPorts(2)) as [number, number];
  for (const message of [64, 100_000]) {
    await using server = await startUsrsctp('echo', { localUdp: a });
    await using client = await startUsrsctp('pingpong', { localUdp: b, remoteUdp: a, count: 100, message });
    const [back, sent] = await Promise.all([server.result(), client.result()]);
    assert.equal(sent.messages, 100);
    assert.equal(back.messages, 100);
    assert.equal(back.sha256, sent.sha256);
    assert.ok(sent.rttMedianUs! > 0 && sent.rttMedianUs! <= sent.rttP99Us! && sent.rttP99Us! <= sent.rttMaxUs!);
  }
});

test('a server takes several associations in turn; streams, unordered delivery and IPv6 work', { skip }, async () => {
  const [a, b] = (await freeUdpPorts(2)) as [number, number];
  await using sink = await startUsrsctp('sink', { localUdp: a, associations: 2, addresses: ['::1'] });
  for (let i = 0; i < 2; i++) {
    const to = { localUdp: b, remoteUdp: a, addresses: ['::1'], peers: ['::1'] };
    await using source = await startUsrsctp('source', {
      ...to,
      count: 5000,
      streams: 8,
      unordered: i === 1,
      hash: false,
    });
    assert.equal((await source.result()).messages, 5000);
  }
  const results = await sink.results();
  assert.deepEqual(
    results.map(result => [result.messages, result.bytes]),
    [
      [5000, 7_000_000],
      [5000, 7_000_000],
    ],
  );
});

test('a peer nobody connects to ends by its own timeout, and says so', { skip }, async () => {
  const [a] = (await freeUdpPorts(1)) as [number];
  await using sink = await startUsrsctp('sink', { localUdp: a, timeout: 1 });
  await assert.rejects(sink.result(), /usrsctp sink: timeout/);
  assert.equal(sink.process.result?.status, 3);
});

test('an unusable option is one clear line and status 2', { skip }, async () => {
  await using source = await startUsrsctp('source', { localUdp: 9, remoteUdp: 10 });
  await assert.rejects(source.result(), /a client needs --bytes, --count or --seconds/);
  assert.equal(source.process.result?.status, 2);
});

test('client echoes through echo_server, and discard_server counts', { skip: skipExamples }, async () => {
  using netns = new Netns();
  const server = { netns, localUdp: 9899, remoteUdp: 9900 };
  const client = { netns, localUdp: 9900, remoteUdp: 9899, address: '127.0.0.1' };
  const echo = await startEchoServer(server);
  // Its standard input stays open until the echo can be back: at its end the client shuts down.
  const talker = startClient({ ...client, port: 7, input: 'hello\nworld\n', hold: 500 });
  assert.equal((await talker.ended).status, 0);
  // The client prints notifications as they come, also between two echoes.
  const echoed = withoutDebug(talker.stdout)
    .split('\n')
    .filter(line => line === 'hello' || line === 'world');
  assert.deepEqual(echoed, ['hello', 'world']);
  await echo[Symbol.asyncDispose]();
  assert.equal(pidAlive(echo.pid!), false);

  const discard = await startDiscardServer(server);
  const sender = startClient({ ...client, port: 9, input: 'to be\nforgotten\n' });
  assert.equal((await sender.ended).status, 0);
  await discard.until('it counted', () => /Msg of length 10 received/.exec(discard.stdout) ?? undefined);
  assert.match(discard.stdout, /Msg of length 6 received/);
});

test('tsctp sends to tsctp', { skip: skipExamples }, async () => {
  using netns = new Netns();
  const server = await startTsctpServer({ netns, localUdp: 9899, remoteUdp: 9900, port: 5001 });
  const to = { netns, localUdp: 9900, remoteUdp: 9899, port: 5001, address: '127.0.0.1' };
  const client = startTsctpClient({ ...to, length: 1400, messages: 1000 });
  assert.equal((await client.ended).status, 0);
  assert.equal(tsctpResult(client.stdout)?.messages, 1000);
  const received = await server.until('its result', () => tsctpResult(server.stdout));
  assert.equal(received.bytes, 1_400_000);
});

const skipGuest = skip || skipWithoutKernelPeer() || skipWithoutNetns();

test('usrsctp and the Linux kernel exchange data in UDP (RFC 6951), IPv4 and IPv6', { skip: skipGuest }, async () => {
  using netns = new Netns();
  netns.addTap('t0');
  netns.addBridge('br0', ['t0'], { addresses: ['10.9.0.254/24', 'fd09::fe/64'] });
  await using guest = await bootGuest({ netns, nics: [{ tap: 't0', addresses: ['10.9.0.1/24', 'fd09::1/64'] }] });
  await guest.encapsulate(9899, 9900);
  const amount = { bytes: 4 << 20, message: 1400 };
  for (const [host, linux] of [
    ['10.9.0.254', '10.9.0.1'],
    ['fd09::fe', 'fd09::1'],
  ] as const) {
    const here = { localUdp: 9900, remoteUdp: 9899, addresses: [host], peers: [linux] };
    const there = { addresses: [linux], peers: [host] };
    {
      const sink = await startKernelPeer(guest, 'sink', there);
      await using source = await startUsrsctp('source', { ...here, ...amount }, netns);
      const [sent, received] = await Promise.all([source.result(), sink.result()]);
      assert.equal(received.bytes, amount.bytes);
      assert.equal(received.sha256, sent.sha256);
    }
    {
      await using sink = await startUsrsctp('sink', here, netns);
      const source = await startKernelPeer(guest, 'source', { ...there, ...amount });
      const [sent, received] = await Promise.all([source.result(), sink.result()]);
      assert.equal(received.bytes, amount.bytes);
      assert.equal(received.sha256, sent.sha256);
    }
  }
});
