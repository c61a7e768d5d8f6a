// What our captures show is sound by the judgement of tshark: no packet is malformed, every CRC32c is good; and tshark does
// say so of packets that are not. A session over a TAP with the Linux kernel (IPv4, IPv6, two paths, one of them cut), one
// over UDP with usrsctp, and one over a bad cable.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Appliance } from '../appliance.js';
import { skipWithoutUsrsctp } from '../bench/usrsctp/build.js';
import { freeUdpPorts, startUsrsctp } from '../bench/usrsctp/peer.js';
import { skipWithoutKernelPeer, startKernelPeer } from '../vm/sctp-peer.js';
import { bootGuest } from '../vm/uml.js';
import { accept, closeClean, connect, echo, finish, listen, receive, send } from './ends.js';
import { guestNic, Place, skipWithoutPlace, tapAppliance, v4, v6 } from './place.js';
import { dissect, skipWithoutTshark, verdict } from './tshark.js';

const MiB = 1 << 20;
const PORT = 5001;

/** A folder for captures, gone after the test. */
class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'nke-interop-'));
  file(name: string): string {
    return join(this.path, name);
  }
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

test('captures over TAPs with the Linux kernel: nothing malformed, every CRC32c good', {
  skip: skipWithoutTshark() || skipWithoutKernelPeer() || skipWithoutPlace(),
}, async () => {
  using folder = new Folder();
  using place = new Place();
  place.addNetwork(0);
  place.addNetwork(1);
  await using guest = await bootGuest({ netns: place.netns, nics: [guestNic(0), guestNic(1)] });
  for (const [name, ms] of [
    ['rto_min', 200],
    ['rto_initial', 500],
    ['hb_interval', 200],
  ] as const)
    await guest.sysctl(`net.sctp.${name}`, ms);
  const sysctl = {
    'net.inet.sctp.heartbeat_interval': 200,
    'net.inet.sctp.rto_min': 200,
    'net.inet.sctp.path_rtx_max': 2,
  };
  const ours = tapAppliance([0, 1], { sysctl }, folder.file('tap'));
  for (const [near, far] of [
    [
      [v4(0, 1), v4(1, 1)],
      [v4(0, 2), v4(1, 2)],
    ],
    [
      [v6(0, 1), v6(1, 1)],
      [v6(0, 2), v6(1, 2)],
    ],
  ] as const) {
    // Everything that an association can look like: set-up, data of all sizes, loss, heartbeats, both ends.
    for (const message of [1, 1400, 20_000]) {
      const sink = await startKernelPeer(guest, 'sink', { addresses: far });
      const socket = await connect(ours, [far[0]], PORT, { addresses: near });
      const bytes = message === 1 ? 200 : 2 * MiB;
      let cut = message !== 1400;
      await send(socket, { bytes, message }, 30_000, at => {
        if (cut || at < MiB) return;
        cut = true;
        place.netns.setLink('nke0', false);
      });
      place.netns.setLink('nke0', true);
      await finish(socket);
      assert.equal((await sink.result()).bytes, bytes);
    }
    const listener = listen(ours, { port: PORT, addresses: near });
    const client = await startKernelPeer(guest, 'pingpong', {
      addresses: far,
      peers: near,
      message: 5000,
      count: 50,
    });
    await echo(await accept(listener));
    await client.result();
    const aborting = await startKernelPeer(guest, 'source', { addresses: far, peers: near, bytes: 1 << 30 });
    const socket = await accept(listener);
    await socket.recv();
    socket.abort('enough of that');
    listener.close();
    await assert.rejects(aborting.result());
    await assert.rejects(connect(ours, [far[0]], PORT + 1, { addresses: near }), { code: 'ECONNREFUSED' });
  }
  await closeClean(ours);
  for (const n of [0, 1]) {
    const file = folder.file(`tap.${n}`);
    const { sctp, good, bad, malformed } = verdict(file);
    assert.ok(sctp > 100, `${sctp} packets of SCTP`);
    assert.deepEqual([good, bad, malformed], [sctp, 0, []]);
  }
  const kinds = new Set(
    [0, 1].flatMap(n =>
      dissect(folder.file(`tap.${n}`), ['sctp.chunk_type'], { filter: `sctp && eth.src == 02:00:00:00:0${n}:01` })
        .flatMap(([types]) => types!.split(','))
        .map(Number),
    ),
  );
  // DATA, INIT, INIT ACK, SACK, HEARTBEAT, HEARTBEAT ACK, ABORT, SHUTDOWN, ..., COOKIE ECHO, COOKIE ACK.
  for (const type of [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]) assert.ok(kinds.has(type), `we sent chunks of type ${type}`);
});

test('captures over UDP with usrsctp, IPv4 and IPv6: nothing malformed, every CRC32c good', {
  skip: skipWithoutTshark() || skipWithoutUsrsctp(),
}, async () => {
  using folder = new Folder();
  for (const address of ['127.0.0.1', '::1']) {
    const [near, far] = (await freeUdpPorts(2)) as [number, number];
    const file = folder.file(address.replaceAll(':', '_'));
    const port = `udp:${address.includes(':') ? `[${address}]` : address}:${near}`;
    const ours = Appliance.create({ cards: [{ port, capture: file }], kexts: ['SCTP'] });
    for (const message of [60, 1400, 30_000]) {
      const there = { localUdp: far, remoteUdp: near, addresses: [address], peers: [address] };
      await using sink = await startUsrsctp('sink', there);
      const out = await connect(ours, [address], PORT, { encaps: far });
      await send(out, { bytes: MiB, message });
      await finish(out);
      await sink.result();
      const listener = listen(ours, { port: PORT, addresses: [address] });
      await using source = await startUsrsctp('source', { ...there, bytes: MiB, message });
      await receive(await accept(listener));
      listener.close();
      await source.result();
    }
    await closeClean(ours);
    const { packets, sctp, good, bad, malformed } = verdict(file, [near, far]);
    assert.equal(sctp, packets);
    assert.ok(sctp > 4000, `${sctp} packets`);
    assert.deepEqual([good, bad, malformed], [sctp, 0, []]);
  }
});

test('tshark tells packets that a bad cable has damaged, as many as our card drops', {
  skip: skipWithoutTshark(),
}, async () => {
  using folder = new Folder();
  const [a, b] = (await freeUdpPorts(2)) as [number, number];
  const file = folder.file('bad');
  const one = Appliance.create({
    cards: [{ port: `udp:127.0.0.1:${a}`, faults: { seed: 3, corrupt: 0.05 } }],
    kexts: ['SCTP'],
  });
  const two = Appliance.create({ cards: [{ port: `udp:127.0.0.1:${b}`, capture: file }], kexts: ['SCTP'] });
  const listener = listen(two, { port: PORT });
  const [socket, out] = await Promise.all([accept(listener), connect(one, ['127.0.0.1'], PORT, { encaps: b })]);
  const [received, sent] = await Promise.all([
    receive(socket),
    send(out, { bytes: MiB, message: 1400 }).then(async moved => {
      await finish(out);
      return moved;
    }),
  ]);
  assert.equal(received.sha256, sent.sha256);
  listener.close();
  const counters = two.counters();
  await one.close();
  await two.close();
  const { good, bad, sctp } = verdict(file, [a, b]);
  assert.ok(bad > 5, `${bad} of ${sctp} packets have a bad CRC32c`);
  assert.equal(good + bad, sctp);
  assert.equal(counters['card.nke0']!.rx_csum_sctp_bad, bad);
  assert.equal(counters.sctp!.sctps_checksumerrors, bad);
});
