// The socket API of RFC 6458 against the Linux kernel's in a guest, over two networks: what both ends see of each other's calls,
// and the same calls on both.
import { after, before, describe } from 'node:test';
import type { Appliance } from '../appliance.js';
import { compileC } from '../vm/compile.js';
import { skipWithoutKernelPeer } from '../vm/sctp-peer.js';
import { bootGuest, type Guest } from '../vm/uml.js';
import { controlOf, PeerEnd } from './api-end.js';
import { LineClient } from './api-line.js';
import { runRows, type Setting } from './api-run.js';
import { closeClean } from './ends.js';
import { guestNic, Place, skipWithoutPlace, tapAppliance, v4, v6 } from './place.js';

const skip = skipWithoutKernelPeer() || skipWithoutPlace();
const CONTROL = 7000;

describe('socket API: Linux kernel', () => {
  let place: Place;
  let guest: Guest;
  let ours: Appliance;
  let lines: LineClient | undefined;
  let setting: Setting;
  before(async () => {
    if (skip !== false) return;
    place = new Place();
    try {
      place.addNetwork(0, 1, [`${v4(0, 254)}/24`]);
      place.addNetwork(1);
      guest = await bootGuest({ netns: place.netns, nics: [guestNic(0), guestNic(1)] });
      const program = guest.put(compileC('vm/kernel-api.c', ['vm/api-peer.h']));
      const job = guest.start([program, '--control', `${v4(0, 2)}:${CONTROL}`]);
      await job.output(/^\{"ready":true\}/);
      const tcp = await controlOf(v4(0, 2), CONTROL);
      lines = new LineClient(tcp, tcp, () => tcp.destroy());
      ours = tapAppliance([0, 1]);
      const at = (host: number) => [v4(0, host), v4(1, host)];
      setting = {
        ours,
        peer: new PeerEnd('linux', lines, at(2), [v6(0, 2)]),
        v4: at(1),
        v6: [v6(0, 1)],
        encaps: 0,
        // The guest's way to the bridge: were its TAP down, its driver (vector_kern) would never use the card again.
        net: { second: up => void place.netns.ip('link', 'set', 'g0n1', ...(up ? ['master', 'br1'] : ['nomaster'])) },
      };
    } catch (error) {
      await guest?.shutdown();
      place[Symbol.dispose]();
      throw error;
    }
  });
  after(async () => {
    if (skip !== false) return;
    lines?.[Symbol.dispose]();
    try {
      if (ours !== undefined) await closeClean(ours);
    } finally {
      await guest?.shutdown();
      place?.[Symbol.dispose]();
    }
  });
  runRows('linux', skip, () => setting);
});
