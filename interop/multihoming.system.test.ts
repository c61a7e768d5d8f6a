// A multi-homed association with the Linux kernel over two networks (two TAPs, two bridges): both paths are confirmed by
// heartbeats (RFC 9260 §8.3), one is cut in the middle of a transfer and mended again, and nothing is lost (§8.2).
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { Appliance } from '../appliance.js';
import type { AsyncSocket } from '../sockets/index.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import { type PathInfo, SCTP_GET_PATHS } from '../stack/sctp/api.js';
import { skipWithoutKernelPeer, startKernelPeer } from '../vm/sctp-peer.js';
import { bootGuest, type Guest } from '../vm/uml.js';
import { accept, connect, eventually, finish, listen, receive, send, withClean } from './ends.js';
import { guestNic, Place, skipWithoutPlace, tapAppliance, v4, v6 } from './place.js';

const skip = skipWithoutKernelPeer() || skipWithoutPlace();
const MiB = 1 << 20;
const PORT = 5001;
const BYTES = 32 * MiB;
/** Quick to notice and quick to come back; RFC 9260's defaults would take a minute (§16). */
const QUICK = {
  'net.inet.sctp.heartbeat_interval': 200,
  'net.inet.sctp.rto_min': 200,
  'net.inet.sctp.rto_initial': 500,
  'net.inet.sctp.path_rtx_max': 2,
};

describe('two paths to the Linux kernel', () => {
  let place: Place;
  let guest: Guest;

  before(async () => {
    if (skip !== false) return;
    place = new Place();
    try {
      place.addNetwork(0);
      place.addNetwork(1);
      guest = await bootGuest({ netns: place.netns, nics: [guestNic(0), guestNic(1)] });
      await guest.sysctl('net.sctp.rto_min', 200);
      await guest.sysctl('net.sctp.rto_initial', 500);
      await guest.sysctl('net.sctp.hb_interval', 200);
      await guest.sysctl('net.sctp.path_max_retrans', 2);
    } catch (error) {
      await guest?.shutdown();
      place[Symbol.dispose]();
      throw error;
    }
  });
  /**
   * Our cable is the carrier of our TAP. The guest's is the way from its TAP to the bridge: were its TAP down, the guest's
   * driver (vector_kern) would meet an error and never use the card again.
   */
  const plug = {
    ours: (on: boolean) => place.netns.setLink('nke0', on),
    its: (on: boolean) => place.netns.ip('link', 'set', 'g0n0', ...(on ? ['master', 'br0'] : ['nomaster'])),
  };
  beforeEach(() => {
    if (skip !== false) return;
    plug.ours(true);
    plug.its(true);
  });
  after(async () => {
    await guest?.shutdown();
    place?.[Symbol.dispose]();
  });

  async function withOurs(body: (ours: Appliance) => Promise<void>): Promise<void> {
    const ours = tapAppliance([0, 1], { sysctl: QUICK });
    await withClean(ours, () => body(ours));
  }

  const paths = (socket: AsyncSocket) => socket.getsockopt(IPPROTO_SCTP, SCTP_GET_PATHS, 0) as readonly PathInfo[];
  const pathTo = (socket: AsyncSocket, address: string) =>
    paths(socket).find(p => p.address.addr.toString() === address);
  const confirmed = (socket: AsyncSocket) =>
    eventually('both paths were confirmed by heartbeats', () => {
      const list = paths(socket);
      return list.length === 2 && list.every(p => p.state === 'active' && p.lastHeartbeatAck > 0);
    });

  /** Pulls a cable at a third of the transfer and plugs it in again at two thirds. */
  const cutting = (cable: 'ours' | 'its') => {
    let step = 0;
    return (bytes: number) => {
      if (bytes < ((step + 1) * BYTES) / 3 || step === 2) return;
      plug[cable](step === 1);
      step++;
    };
  };

  for (const [what, cable, near, far] of [
    ['our cable is pulled', 'ours', [v4(0, 1), v4(1, 1)], [v4(0, 2), v4(1, 2)]],
    ['its cable is pulled', 'its', [v4(0, 1), v4(1, 1)], [v4(0, 2), v4(1, 2)]],
    ['its cable is pulled, IPv6', 'its', [v6(0, 1), v6(1, 1)], [v6(0, 2), v6(1, 2)]],
  ] as const) {
    test(`we send, ${what}: the other path carries on, and the first comes back`, { skip }, async t => {
      await withOurs(async ours => {
        const sink = await startKernelPeer(guest, 'sink', { addresses: far });
        const socket = await connect(ours, [far[0]], PORT, { addresses: near });
        await confirmed(socket);
        const first = pathTo(socket, far[0]);
        assert.equal(first?.primary, true);
        assert.equal(first?.source, near[0]);
        const sent = await send(socket, { bytes: BYTES, message: 1400 }, 60_000, cutting(cable));
        assert.ok(ours.counters().sctp!.sctps_failover! > 0, 'new data took another path');
        // Heartbeats of a dead path back off with its RTO (§8.3, §6.3.3): when the cable is in again the next may be far away.
        await eventually('the first path was active again', () => pathTo(socket, far[0])?.state === 'active', 60_000);
        await finish(socket);
        const received = await sink.result();
        t.diagnostic(`${(received.gbps * 1000).toFixed(0)} Mbit/s`);
        assert.equal(received.bytes, sent.bytes);
        assert.equal(received.sha256, sent.sha256);
      });
    });

    test(`the kernel sends, ${what}: the other path carries on`, { skip }, async t => {
      await withOurs(async ours => {
        const listener = listen(ours, { port: PORT, addresses: near });
        const source = await startKernelPeer(guest, 'source', {
          addresses: far,
          peers: near,
          bytes: BYTES,
          message: 1400,
        });
        const socket = await accept(listener);
        const cut = cutting(cable);
        let known = 0;
        const received = await receive(socket, 60_000, bytes => {
          known ||= paths(socket).length;
          cut(bytes);
        });
        assert.equal(known, 2);
        socket.close();
        listener.close();
        const sent = await source.result();
        t.diagnostic(`${((received.bytes * 8) / received.seconds / 1e6).toFixed(0)} Mbit/s`);
        assert.equal(received.bytes, sent.bytes);
        assert.equal(received.sha256, sent.sha256);
      });
    });
  }

  test('one association over IPv4 on one network and IPv6 on the other', { skip }, async () => {
    await withOurs(async ours => {
      const far = [v4(0, 2), v6(1, 2)];
      const near = [v4(0, 1), v6(1, 1)];
      const sink = await startKernelPeer(guest, 'sink', { addresses: far });
      const socket = await connect(ours, [far[0]!], PORT, { addresses: near, family: 6 });
      await confirmed(socket);
      const sent = await send(socket, { bytes: BYTES, message: 1400 }, 60_000, cutting('its'));
      await finish(socket);
      assert.equal((await sink.result()).sha256, sent.sha256);
    });
  });
});
