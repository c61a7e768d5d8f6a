// SCTP in UDP (RFC 6951) between us and the Linux kernel: our udp card in the namespace of the test, on the address of the
// bridge that the guest's TAP is on; the guest encapsulates all its SCTP.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Appliance } from '../appliance.js';
import { skipWithoutKernelPeer, startKernelPeer } from '../vm/sctp-peer.js';
import { bootGuest, type Guest } from '../vm/uml.js';
import { accept, connect, finish, listen, receive, send, withClean } from './ends.js';
import { guestNic, onNet, Place, skipWithoutPlace, v4, v6 } from './place.js';

const skip = skipWithoutKernelPeer() || skipWithoutPlace();
const MiB = 1 << 20;
const PORT = 5001;
const OURS = 9900;
const LINUX = 9899;

describe('Linux kernel, SCTP in UDP', () => {
  let place: Place;
  let guest: Guest;

  before(async () => {
    if (skip !== false) return;
    place = new Place();
    try {
      place.addNetwork(0, 1, onNet(0, 1));
      guest = await bootGuest({ netns: place.netns, nics: [guestNic(0)] });
      await guest.encapsulate(LINUX, OURS);
    } catch (error) {
      await guest?.shutdown();
      place[Symbol.dispose]();
      throw error;
    }
  });
  after(async () => {
    await guest?.shutdown();
    place?.[Symbol.dispose]();
  });

  for (const [family, us, linux] of [
    ['IPv4', v4(0, 1), v4(0, 2)],
    ['IPv6', v6(0, 1), v6(0, 2)],
  ] as const) {
    test(`${family}: 16 MiB each way in 1,400-byte messages, with equal hashes`, { skip }, async t => {
      const address = us.includes(':') ? `[${us}]` : us;
      const ours = Appliance.create({ cards: [{ port: `udp:${address}:${OURS}` }], kexts: ['SCTP'] });
      const amount = { bytes: 16 * MiB, message: 1400 };
      await withClean(ours, async () => {
        const sink = await startKernelPeer(guest, 'sink', { addresses: [linux] });
        const out = await connect(ours, [linux], PORT, { encaps: LINUX });
        const sent = await send(out, amount);
        await finish(out);
        const received = await sink.result();
        assert.equal(received.sha256, sent.sha256);
        t.diagnostic(`to the kernel ${(received.gbps * 1000).toFixed(0)} Mbit/s`);

        const listener = listen(ours, { port: PORT, addresses: [us] });
        const source = await startKernelPeer(guest, 'source', { addresses: [linux], peers: [us], ...amount });
        const socket = await accept(listener);
        const came = await receive(socket);
        socket.close();
        listener.close();
        assert.equal(came.sha256, (await source.result()).sha256);
        t.diagnostic(`from the kernel ${((came.bytes * 8) / came.seconds / 1e6).toFixed(0)} Mbit/s`);
      });
    });
  }
});
