// Our stack and the Linux kernel's SCTP: a guest (user-mode Linux) with its card on a TAP, bridged to our TAP in a namespace
// of the test, so that real Ethernet frames, ARP and neighbour discovery, IPv4 and IPv6 lie between the two.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Appliance, ApplianceConfig } from '../appliance.js';
import { skipWithoutKernelPeer, startKernelPeer } from '../vm/sctp-peer.js';
import { bootGuest, type Guest } from '../vm/uml.js';
import { accept, connect, deadline, echo, eventually, finish, listen, receive, send, withClean } from './ends.js';
import { guestNic, Place, skipWithoutPlace, tapAppliance, v4, v6 } from './place.js';

const skip = skipWithoutKernelPeer() || skipWithoutPlace();
const MiB = 1 << 20;
const PORT = 5001;

describe('Linux kernel', () => {
  let place: Place;
  let guest: Guest;

  before(async () => {
    if (skip !== false) return;
    place = new Place();
    try {
      place.addNetwork(0);
      guest = await bootGuest({ netns: place.netns, nics: [guestNic(0)] });
    } catch (error) {
      place[Symbol.dispose]();
      throw error;
    }
  });
  after(async () => {
    await guest?.shutdown();
    place?.[Symbol.dispose]();
  });

  /** One appliance for one test, which must end clean. */
  async function withOurs(
    body: (ours: Appliance) => Promise<void>,
    more: Partial<ApplianceConfig> = {},
  ): Promise<void> {
    const ours = tapAppliance([0], more);
    await withClean(ours, () => body(ours));
  }

  for (const [family, us, linux] of [
    ['IPv4', v4(0, 1), v4(0, 2)],
    ['IPv6', v6(0, 1), v6(0, 2)],
  ] as const) {
    for (const [mib, message] of [
      [1, 100],
      [64, family === 'IPv4' ? 1400 : 60_000],
    ] as const) {
      const amount = { bytes: mib * MiB, message };

      test(`${family}: ${mib} MiB in ${message}-byte messages from us to the kernel`, { skip }, async t => {
        await withOurs(async ours => {
          const sink = await startKernelPeer(guest, 'sink', { addresses: [linux] });
          const socket = await connect(ours, [linux], PORT, { addresses: [us] });
          const sent = await send(socket, amount);
          await finish(socket);
          const received = await sink.result();
          t.diagnostic(`${(received.gbps * 1000).toFixed(0)} Mbit/s`);
          assert.deepEqual([received.bytes, received.messages], [sent.bytes, sent.messages]);
          assert.equal(received.sha256, sent.sha256);
        });
      });

      test(`${family}: ${mib} MiB in ${message}-byte messages from the kernel to us`, { skip }, async t => {
        await withOurs(async ours => {
          const listener = listen(ours, { port: PORT, addresses: [us] });
          const source = await startKernelPeer(guest, 'source', { addresses: [linux], peers: [us], ...amount });
          const socket = await accept(listener);
          const received = await receive(socket);
          socket.close();
          listener.close();
          const sent = await source.result();
          t.diagnostic(`${((received.bytes * 8) / received.seconds / 1e6).toFixed(0)} Mbit/s`);
          assert.deepEqual([received.bytes, received.messages], [sent.bytes, sent.messages]);
          assert.equal(received.sha256, sent.sha256);
        });
      });
    }

    test(`${family}: both echo to each other`, { skip }, async () => {
      await withOurs(async ours => {
        for (const message of [64, 20_000]) {
          const listener = listen(ours, { port: PORT, addresses: [us] });
          const there = { addresses: [linux], message, count: 100 };
          const client = await startKernelPeer(guest, 'pingpong', { ...there, peers: [us] });
          const echoed = await echo(await accept(listener));
          listener.close();
          assert.equal((await client.result()).messages, echoed.messages);

          const server = await startKernelPeer(guest, 'echo', { addresses: [linux], streams: 4 });
          const socket = await connect(ours, [linux], PORT, { streams: 4 });
          for (let i = 0; i < 100; i++) {
            const data = Buffer.alloc(message, i);
            await socket.send(data, { stream: i % 4, ppid: i, ordered: i % 3 !== 0 });
            const back = await socket.recv({ signal: deadline(10_000, `echo ${i}`) });
            assert.ok(back?.data.equals(data), `message ${i}`);
            assert.deepEqual([back?.stream, back?.ppid, back?.ordered], [i % 4, i, i % 3 !== 0]);
          }
          await finish(socket);
          assert.equal((await server.result()).messages, 100);
        }
      });
    });

    test(`${family}: ABORT both ways, and refusals both ways`, { skip }, async () => {
      await withOurs(async ours => {
        const listener = listen(ours, { port: PORT, addresses: [us] });
        const to = { addresses: [linux], peers: [us] };
        const aborting = await startKernelPeer(guest, 'source', { ...to, seconds: 0.3, abort: true });
        await assert.rejects(receive(await accept(listener)), { code: 'ECONNRESET', reason: /RFC 9260 §/ });
        await aborting.result();

        const aborted = await startKernelPeer(guest, 'source', { ...to, bytes: 1 << 30 });
        const socket = await accept(listener);
        assert.ok(await socket.recv({ signal: deadline(10_000) }));
        socket.abort('enough');
        listener.close();
        // A writer that waits for room hears ESRCH.
        await assert.rejects(aborted.result(), /kernel source: (send|receive): .*(reset|pipe|abort|no such process)/i);

        const sink = await startKernelPeer(guest, 'sink', { addresses: [linux] });
        const out = await connect(ours, [linux], PORT);
        await out.send(Buffer.from('one message'));
        await eventually('it is acknowledged', () => ours.counters().sctp!.sctps_recvsacks! > 0);
        out.abort('enough');
        await assert.rejects(sink.result(), /kernel sink: receive: .*(reset|aborted)/i);

        const refused = await startKernelPeer(guest, 'source', { ...to, count: 1 });
        await assert.rejects(refused.result(), /Connection refused/);
        await assert.rejects(connect(ours, [linux], PORT), { code: 'ECONNREFUSED', reason: /RFC 9260 §/ });
      });
    });
  }
});
