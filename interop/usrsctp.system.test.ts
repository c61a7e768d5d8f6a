// Our stack and usrsctp (FreeBSD's in user space) over UDP encapsulation (RFC 6951) on loopback, through the quiet peer of
// bench/usrsctp: amounts and hashes in both directions, both ends of an association (§9.1 and §9.2 of RFC 9260), and
// parameters of extensions that we do not have (§3.2.1).
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Appliance } from '../appliance.js';
import { skipWithoutUsrsctp } from '../bench/usrsctp/build.js';
import { freeUdpPorts, startUsrsctp } from '../bench/usrsctp/peer.js';
import { native, nativeError } from '../nic/native.js';
import { accept, connect, deadline, echo, eventually, finish, listen, receive, send, withClean } from './ends.js';
import { dissect, skipWithoutTshark, verdict } from './tshark.js';

const skip = skipWithoutUsrsctp() || (native === undefined && `the C module is not built: ${nativeError}`);
const MiB = 1 << 20;
const PORT = 5001;

/** Our appliance on loopback, a UDP port for the peer, and how a test begins and ends. */
async function withOurs(
  body: (ours: Appliance, near: number, far: number) => Promise<void>,
  { address = '127.0.0.1', capture }: { address?: string; capture?: string } = {},
): Promise<void> {
  const [near, far] = (await freeUdpPorts(2)) as [number, number];
  const port = `udp:${address.includes(':') ? `[${address}]` : address}:${near}`;
  const ours = Appliance.create({
    cards: [{ port, ...(capture === undefined ? {} : { capture }) }],
    kexts: ['SCTP'],
  });
  await withClean(ours, () => body(ours, near, far));
}

for (const message of [100, 1400, 60_000]) {
  const bytes = message === 100 ? 8 * MiB : 64 * MiB;
  const amount = { bytes, message };

  test(`usrsctp: ${bytes / MiB} MiB in ${message}-byte messages from us to it`, { skip }, async t => {
    await withOurs(async (ours, _near, far) => {
      await using sink = await startUsrsctp('sink', { localUdp: far });
      const socket = await connect(ours, ['127.0.0.1'], PORT, { encaps: far });
      const sent = await send(socket, amount);
      await finish(socket);
      const received = await sink.result();
      t.diagnostic(`${(received.gbps * 1000).toFixed(0)} Mbit/s`);
      assert.deepEqual([received.bytes, received.messages], [sent.bytes, sent.messages]);
      assert.equal(received.sha256, sent.sha256);
    });
  });

  test(`usrsctp: ${bytes / MiB} MiB in ${message}-byte messages from it to us`, { skip }, async t => {
    await withOurs(async (ours, near, far) => {
      const listener = listen(ours, { port: PORT });
      await using source = await startUsrsctp('source', { localUdp: far, remoteUdp: near, ...amount });
      const socket = await accept(listener);
      const received = await receive(socket);
      socket.close();
      listener.close();
      const sent = await source.result();
      t.diagnostic(`${((received.bytes * 8) / received.seconds / 1e6).toFixed(0)} Mbit/s`);
      assert.deepEqual([received.bytes, received.messages], [sent.bytes, sent.messages]);
      assert.equal(received.sha256, sent.sha256);
      // A reader that lags closes the window again and again. Each time it must be told at once that it is open (§6.2):
      // a single T3-rtx of the peer is a second.
      assert.ok(received.seconds < 10, `${received.seconds} s: the peer waited for its retransmission timer`);
    });
  });
}

test('usrsctp: both echo to each other, on eight streams, over IPv4 and IPv6', { skip }, async () => {
  for (const address of ['127.0.0.1', '::1']) {
    for (const message of [64, 1400, 60_000]) {
      await withOurs(
        async (ours, near, far) => {
          const there = { localUdp: far, addresses: [address], streams: 8 };
          const listener = listen(ours, { port: PORT, addresses: [address], streams: 8 });
          // The client checks every byte that comes back.
          {
            await using client = await startUsrsctp('pingpong', {
              ...there,
              remoteUdp: near,
              peers: [address],
              message,
              count: 200,
            });
            const socket = await accept(listener);
            const echoed = await echo(socket);
            socket.close();
            const sent = await client.result();
            assert.equal(echoed.messages, sent.messages);
          }
          {
            await using server = await startUsrsctp('echo', there);
            const socket = await connect(ours, [address], PORT, { encaps: far, streams: 8 });
            for (let i = 0; i < 200; i++) {
              const data = Buffer.alloc(message, i);
              await socket.send(data, { stream: i % 8, ppid: i, ordered: i % 3 !== 0 });
              const back = await socket.recv({ signal: deadline(10_000) });
              assert.ok(back?.data.equals(data), `message ${i} of ${message} bytes`);
              assert.deepEqual([back?.stream, back?.ppid, back?.ordered], [i % 8, i, i % 3 !== 0]);
            }
            await finish(socket);
            assert.equal((await server.result()).messages, 200);
          }
          listener.close();
        },
        { address },
      );
    }
  }
});

test('usrsctp: unordered messages on 16 streams, all of them, in both directions', { skip }, async () => {
  await withOurs(async (ours, near, far) => {
    const streams = 16;
    const listener = listen(ours, { port: PORT, streams });
    await using source = await startUsrsctp('source', {
      localUdp: far,
      remoteUdp: near,
      count: 20_000,
      message: 700,
      streams,
      unordered: true,
    });
    const socket = await accept(listener);
    const received = await receive(socket);
    socket.close();
    listener.close();
    assert.deepEqual([received.messages, received.bytes], [20_000, 14_000_000]);
    assert.equal((await source.result()).messages, 20_000);

    await using sink = await startUsrsctp('sink', { localUdp: far, streams });
    const out = await connect(ours, ['127.0.0.1'], PORT, { encaps: far, streams });
    const data = Buffer.alloc(700, 'u');
    for (let i = 0; i < 20_000; i++) {
      const how = { stream: i % streams, ordered: false };
      while (!out.trySend(data, how)) await out.drained({ signal: deadline(20_000) });
    }
    await finish(out);
    const counted = await sink.result();
    assert.deepEqual([counted.messages, counted.bytes], [20_000, 14_000_000]);
  });
});

test('usrsctp: its ABORT reaches our reader and our writer as ECONNRESET, with the rule', { skip }, async () => {
  await withOurs(async (ours, near, far) => {
    const listener = listen(ours, { port: PORT });
    await using source = await startUsrsctp('source', { localUdp: far, remoteUdp: near, seconds: 0.3, abort: true });
    const socket = await accept(listener);
    await assert.rejects(receive(socket, 10_000), { code: 'ECONNRESET', reason: /RFC 9260 §/ });
    listener.close();
    await source.result();

    await using sink = await startUsrsctp('sink', { localUdp: far, count: 100, abort: true });
    const out = await connect(ours, ['127.0.0.1'], PORT, { encaps: far });
    await assert.rejects(send(out, { bytes: 1 << 30, message: 1400 }, 10_000), { code: 'ECONNRESET' });
    await sink.result();
    assert.equal(ours.counters().sctp!.sctps_abortrecv, 2);
  });
});

test('usrsctp: our ABORT reaches it, as a server and as a client', { skip }, async () => {
  await withOurs(async (ours, near, far) => {
    const listener = listen(ours, { port: PORT });
    await using source = await startUsrsctp('source', { localUdp: far, remoteUdp: near, bytes: 1 << 30 });
    const socket = await accept(listener);
    assert.ok(await socket.recv({ signal: deadline(10_000) }));
    socket.abort('enough');
    listener.close();
    await assert.rejects(source.result(), /usrsctp source: (send|receive): .*(reset|abort|pipe|not connected)/i);

    await using sink = await startUsrsctp('sink', { localUdp: far });
    const out = await connect(ours, ['127.0.0.1'], PORT, { encaps: far });
    await out.send(Buffer.from('one message'));
    await eventually('the message is acknowledged', () => ours.counters().sctp!.sctps_recvsacks! > 0);
    out.abort('enough');
    await assert.rejects(sink.result(), /usrsctp sink: receive: .*(reset|abort)/i);
    assert.equal(ours.counters().sctp!.sctps_abortsent, 2);
  });
});

test('usrsctp: a port where nothing listens refuses, on both sides', { skip }, async () => {
  await withOurs(async (ours, near, far) => {
    await using refused = await startUsrsctp('source', { localUdp: far, remoteUdp: near, count: 1 });
    await assert.rejects(refused.result(), /usrsctp source: \w+: Connection refused/);
    await using sink = await startUsrsctp('sink', { localUdp: far, timeout: 20 });
    await assert.rejects(connect(ours, ['127.0.0.1'], PORT + 1, { encaps: far }), {
      code: 'ECONNREFUSED',
      reason: /RFC 9260 §/,
    });
    assert.equal(sink.process.result, undefined);
  });
});

test('usrsctp: a peer that has lost its association answers with ABORT, T bit set, and we take it', {
  skip,
}, async () => {
  await withOurs(async (ours, _near, far) => {
    const socket = await (async () => {
      await using _sink = await startUsrsctp('sink', { localUdp: far });
      return await connect(ours, ['127.0.0.1'], PORT, { encaps: far });
    })(); // killed: it says nothing
    await using _again = await startUsrsctp('sink', { localUdp: far, timeout: 20 });
    await assert.rejects(send(socket, { bytes: 1 << 30, message: 1400 }, 15_000), { code: 'ECONNRESET' });
  });
});

test('usrsctp: parameters of extensions that we do not have are skipped, and reported where the type says so', {
  skip: skip || skipWithoutTshark(),
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'nke-interop-'));
  const capture = join(folder, 'a.pcapng');
  let ports: number[] = [];
  try {
    await withOurs(
      async (ours, near, far) => {
        ports = [near, far];
        const listener = listen(ours, { port: PORT });
        await using source = await startUsrsctp('source', { localUdp: far, remoteUdp: near, count: 10 });
        const socket = await accept(listener);
        assert.equal((await receive(socket)).messages, 10);
        socket.close();
        listener.close();
        await source.result();
        await using sink = await startUsrsctp('sink', { localUdp: far });
        const out = await connect(ours, ['127.0.0.1'], PORT, { encaps: far });
        await send(out, { bytes: 14_000, message: 1400 });
        await finish(out);
        await sink.result();
      },
      { capture },
    );
    const seen = verdict(capture, ports);
    assert.deepEqual([seen.sctp, seen.bad, seen.malformed], [seen.packets, 0, []]);
    const row = (filter: string) =>
      dissect(capture, ['sctp.chunk_type', 'sctp.parameter_type', 'sctp.cause_code'], { udpPorts: ports, filter });
    const [near, far] = ports;
    // Of 0x8002, 0x8003, 0x8004, 0x8008 nothing is said (highest bits 10); 0xc000 is reported (11).
    const [init] = row(`sctp.chunk_type == 1 && udp.srcport == ${far}`);
    assert.match(init![1]!, /0xc000/);
    const [ack] = row(`sctp.chunk_type == 2 && udp.srcport == ${near}`);
    const parameters = ack![1]!.split(',');
    assert.ok(parameters.includes('0x0008'), `an unrecognized parameter is reported: ${parameters}`);
    for (const silent of ['0x8002', '0x8003', '0x8004', '0x8008']) assert.ok(!parameters.includes(silent), silent);
    // What we do not know of an INIT ACK goes back in an ERROR beside the COOKIE ECHO (§5.1, cause 8).
    const [echoed] = row(`sctp.chunk_type == 10 && udp.srcport == ${near}`);
    assert.deepEqual(
      echoed![0]!
        .split(',')
        .map(Number)
        .sort((a, b) => a - b)
        .slice(-2),
      [9, 10],
    );
    assert.equal(Number(echoed![2]!), 8);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
