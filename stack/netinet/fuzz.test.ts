import assert from 'node:assert/strict';
import { it } from 'node:test';
import { MSEC, SeededRandom } from '../kern/clock.js';
import { AF_INET, AF_INET6, SOCK_DGRAM } from '../kern/protosw.js';
import type { Socket } from '../kern/socket.js';
import { TestInterface, VirtualNet } from '../testing.js';
import { InAddr } from './in.js';
import {
  addr,
  arp,
  concat,
  ether,
  icmp,
  icmp6,
  ipv4,
  ipv6,
  MAC_PEER,
  MAC_US,
  pattern,
  udp,
} from './packets.fixture.js';

const FRAMES = 60_000;
const US = '10.0.0.1';
const PEER = '10.0.0.2';
const US6 = '2001:db8::1';
const PEER6 = '2001:db8::2';

/** Good frames of every kind that the stack knows, to be mutated. */
function corpus(): Uint8Array[] {
  const v4 = (p: Uint8Array) => ether(0x0800, p);
  const v6 = (p: Uint8Array) => ether(0x86dd, p);
  const quoted = ipv4(US, PEER, 17, udp(US, PEER, 9899, 9900, pattern(30)));
  const quoted6 = ipv6(US6, PEER6, 132, pattern(30));
  const opts = concat([17, 1, 1, 2, 0, 0, 0x1e, 4], new Uint8Array(8));
  const frag6 = (from: number, more: number, n: number) =>
    v6(ipv6(PEER6, US6, 44, concat([17, 0, from >>> 8, (from & 0xf8) | more, 0, 0, 0, 9], pattern(n))));
  return [
    v4(ipv4(PEER, US, 17, udp(PEER, US, 9900, 9899, pattern(60)))),
    v4(ipv4(PEER, US, 17, udp(PEER, US, 9900, 7, pattern(60)))),
    v4(ipv4(PEER, US, 17, udp(PEER, US, 9900, 8, pattern(60)), { options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0) })),
    v4(ipv4(PEER, US, 1, icmp(8, 0, 1, pattern(40)))),
    v4(ipv4(PEER, US, 1, icmp(3, 4, 1400, quoted))),
    v4(ipv4(PEER, US, 1, icmp(11, 0, 0, quoted.slice(0, 28)))),
    v4(ipv4(PEER, US, 17, pattern(64), { frag: 0x2000, id: 3 })),
    v4(ipv4(PEER, US, 17, pattern(64), { frag: 0x2008, id: 3 })),
    v4(ipv4(PEER, US, 17, pattern(20), { frag: 16, id: 3 })),
    v4(ipv4(PEER, US, 132, pattern(40))),
    ether(0x0806, arp(1, MAC_PEER, PEER, [0, 0, 0, 0, 0, 0], US)),
    ether(0x0806, arp(2, MAC_PEER, PEER, MAC_US, US)),
    v6(ipv6(PEER6, US6, 17, udp(PEER6, US6, 9900, 9899, pattern(60)))),
    v6(ipv6(PEER6, US6, 0, concat([60, 0, 5, 2, 0, 0, 1, 0], opts, udp(PEER6, US6, 9900, 7, pattern(8))))),
    v6(ipv6(PEER6, US6, 43, concat([17, 0, 0, 0, 0, 0, 0, 0], udp(PEER6, US6, 9900, 8, pattern(8))))),
    frag6(0, 1, 64),
    frag6(64, 1, 64),
    frag6(128, 0, 20),
    v6(ipv6(PEER6, US6, 58, icmp6(PEER6, US6, 128, 0, 1, pattern(40)))),
    v6(ipv6(PEER6, US6, 58, icmp6(PEER6, US6, 2, 0, 1300, quoted6))),
    v6(ipv6(PEER6, US6, 58, icmp6(PEER6, US6, 135, 0, 0, concat(addr(US6), [1, 1], MAC_PEER)), 255)),
    v6(ipv6(PEER6, US6, 58, icmp6(PEER6, US6, 136, 0, 0x60000000, concat(addr(PEER6), [2, 1], MAC_PEER)), 255)),
  ];
}

it(`survives ${FRAMES} mutated frames without throw or leak`, () => {
  const net = new VirtualNet({ seed: 99 });
  const s = net.addHost('a', { pool: { small: 4096, cluster: 2048, jumbo: 16 } });
  const t = new TestInterface(s, 'nke0', { addresses: [`${US}/24`, `${US6}/64`] });
  s.udp.tunnel(9899, m => s.pool.freem(m));
  const sockets = [AF_INET, AF_INET6].map(domain => {
    const so = s.socket(domain, SOCK_DGRAM, 0) as Socket;
    so.bind({ addr: new InAddr(domain === AF_INET ? 4 : 6), port: 7 });
    return so;
  });
  const frames = corpus();
  const random = new SeededRandom(4242);
  const { pool } = s;
  const scratch = new Uint8Array(2048);
  for (let k = 0; k < FRAMES; k++) {
    const frame = frames[random.u32() % frames.length]!;
    let n = frame.length;
    scratch.set(frame);
    for (let edits = random.u32() & 3; edits > 0; edits--) {
      const at = random.u32() % n;
      const r = random.u32();
      switch (r & 3) {
        case 0:
          scratch[at]! ^= 1 << ((r >>> 2) & 7);
          break;
        case 1:
          scratch[at] = r >>> 8;
          break;
        case 2: // a length or an offset at its edges
          scratch[at] = (r >>> 8) & 1 ? 255 : 0;
          break;
        case 3:
          n = (r >>> 8) % 4 === 0 ? at + 1 : n;
          break;
      }
    }
    // Mostly with checksums taken for good, so that mutations get deeper than the first check; in one or two mbufs, or as a train.
    const how = random.u32();
    const cut = (how & 0xf00) === 0 ? how % n : n;
    const m = pool.fromBytes(scratch, 0, cut, 64);
    if (cut < n) pool.next[m] = pool.fromBytes(scratch, cut, n - cut, 0);
    pool.pktlen[m] = n;
    pool.csum[m] = (how & 0x7000) === 0 ? 0 : 3;
    if ((how & 0xf0000) === 0) {
      pool.segsz[m] = 1 + ((how >>> 20) & 63);
      pool.hdrlen[m] = (how >>> 26) & 63;
    }
    t.ifp.input(m);
    if ((k & 255) === 0) {
      t.sent.length = 0;
      s.run(net.clock.now + 50 * MSEC);
    }
  }
  const c = s.ip.counters;
  // The fuzz is worth something only if it gets everywhere.
  for (const [name, n] of Object.entries({
    delivered: c.delivered,
    delivered6: s.ip6.counters.delivered,
    reassembled: c.reassembled,
    reassembled6: s.ip6.counters.reassembled,
    overlaps: s.ip.reassembly.counters.overlaps,
    tunnelled: s.udp.counters.tunnelled_in,
    nd: s.nd6.counters.solicits_received,
    arp: s.arp.counters.requests_received,
    icmp: s.icmp.counters.errors_received,
    options: s.ip6.counters.bad_option,
  }))
    assert.ok(n > 0, `never got to ${name}`);
  for (const so of sockets) so.close();
  net.run(120e9);
  assert.equal(net.leaked(), 0);
});
