/**
 * Neighbour discovery (RFC 4861): solicitations and advertisements. Duplicate address detection (RFC 4862 §5.4) is
 * optimistic (RFC 4429): an address may be used at once, and is taken away again if somebody else has it. Every interface
 * that resolves neighbours gets a link-local address from its link address (RFC 4862 §5.3, RFC 4291 appendix A).
 * Router discovery and redirects are counted and ignored: routes are static here.
 *
 *  NS:  | 135 | 0 | checksum | reserved            | target, 16 | options |
 *  NA:  | 136 | 0 | checksum | R S O | reserved     | target, 16 | options |
 *  options: | type | length in 8 bytes | data |, 1 = source, 2 = target link address
 */

import { Callout } from '../kern/callout.js';
import { SEC } from '../kern/clock.js';
import type { Mbuf } from '../kern/mbuf.js';
import { M_NULL } from '../kern/mbuf.js';
import type { IpInfo } from '../kern/protosw.js';
import type { SysctlRow } from '../kern/sysctl.js';
import { multicastMac, readMac, writeMac } from '../net/ethernet.js';
import { IFF_LOOPBACK, IFF_NOARP, type Ifnet } from '../net/ifnet.js';
import { type LlEntry, LlTable } from '../net/lltable.js';
import type { Stack } from '../stack.js';
import { InAddr, IPPROTO_ICMPV6 } from './in.js';
import { finish, sumPseudo, sumRange } from './in_cksum.js';

export const ND_NEIGHBOR_SOLICIT = 135;
export const ND_NEIGHBOR_ADVERT = 136;
export const ND_OPT_SOURCE = 1;
export const ND_OPT_TARGET = 2;
const NA_SOLICITED = 0x40000000;
const NA_OVERRIDE = 0x20000000;
const ND_LEN = 24;
const OPT_LEN = 8;

export const ND6_SYSCTLS: readonly SysctlRow[] = [
  { name: 'auto_linklocal', default: 1, min: 0, max: 1, meaning: 'give interfaces a link-local address' },
  {
    name: 'dad_count',
    default: 1,
    min: 0,
    max: 16,
    meaning: 'probes for a duplicate of a new address (RFC 4862 section 5.1)',
  },
];

export const ND6_COUNTERS = {
  solicits_received: 0,
  adverts_received: 0,
  solicits_sent: 0,
  adverts_sent: 0,
  malformed: 0,
  bad_hop_limit: 0,
  not_on_link: 0,
  ignored: 0,
  duplicates: 0,
  conflicts: 0,
  no_source: 0,
  nobufs: 0,
};

/** An address on probation. */
interface Tentative {
  readonly ifp: Ifnet;
  readonly addr: InAddr;
  readonly timer: Callout;
  left: number;
}

const ANY6 = new InAddr(6);
const ALL_NODES = InAddr.of('ff02::1');

export class Nd6 {
  readonly counters: Record<keyof typeof ND6_COUNTERS, number> = { ...ND6_COUNTERS };
  readonly settings = { auto_linklocal: 1, dad_count: 1 };
  readonly table: LlTable;
  readonly #stack: Stack;
  readonly #tentative: Tentative[] = [];
  readonly #target = new InAddr(6);
  readonly #mac = new Uint8Array(6);
  readonly #node = new InAddr(6);

  constructor(stack: Stack) {
    this.#stack = stack;
    this.table = new LlTable(stack.clock, stack.callouts, stack.pool, {
      solicit: (e, unicast) => this.#solicitEntry(e, unicast),
      release: (e, m) => stack.interfaces.release(e, m),
    });
    stack.sysctl.add('net.inet6.nd6', ND6_SYSCTLS, this.settings);
    stack.counters.add('nd6', this.counters);
    stack.counters.add('nd6.table', this.table.counters);
    stack.interfaces.setResolver(6, this.table);
    stack.interfaces.onAttach(ifp => {
      for (const group of ['224.0.0.1', 'ff02::1']) this.#group(ifp, InAddr.of(group), true);
    });
    stack.interfaces.onAddress((ifp, addr, added) => this.#address(ifp, addr, added));
    stack.interfaces.onUsable((ifp, usable) => this.#usable(ifp, usable));
  }

  /** A neighbour discovery message, checksum checked, contiguous. Takes ownership. */
  input(m: Mbuf, info: IpInfo) {
    const pool = this.#stack.pool;
    const dv = pool.dv;
    const at = pool.off[m]!;
    const type = dv.getUint8(at);
    if (type !== ND_NEIGHBOR_SOLICIT && type !== ND_NEIGHBOR_ADVERT) return this.#drop(m, 'ignored');
    // RFC 4861 §7.1: 255 shows that no router has touched it.
    if (info.ttl !== 255) return this.#drop(m, 'bad_hop_limit');
    const ifp = info.ifp!;
    if (dv.getUint8(at + 1) !== 0 || pool.pktlen[m]! < ND_LEN || (ifp.flags & (IFF_NOARP | IFF_LOOPBACK)) !== 0)
      return this.#drop(m, 'malformed');
    const target = this.#target.read6(dv, at + 8);
    if (target.isMulticast) return this.#drop(m, 'malformed');
    const option = this.#linkOption(
      at + ND_LEN,
      at + pool.pktlen[m]!,
      type === ND_NEIGHBOR_SOLICIT ? ND_OPT_SOURCE : ND_OPT_TARGET,
    );
    if (option < 0) return this.#drop(m, 'malformed');
    if (option > 0) {
      readMac(dv, option, this.#mac);
      if ((this.#mac[0]! & 1) !== 0) return this.#drop(m, 'malformed');
    }
    const flags = dv.getInt32(at + 4);
    pool.freem(m);
    if (type === ND_NEIGHBOR_SOLICIT) this.#solicited(ifp, info, target, option > 0);
    else this.#advertised(ifp, info, target, option > 0, flags);
  }

  /** Offset of the link address in the option of a kind; 0 when there is none, -1 when the options are malformed. */
  #linkOption(from: number, end: number, kind: number): number {
    const dv = this.#stack.pool.dv;
    let found = 0;
    for (let o = from; o < end; ) {
      if (o + 2 > end) return -1;
      const n = dv.getUint8(o + 1) << 3;
      if (n === 0 || o + n > end) return -1; // RFC 4861 §4.6: zero length kills the packet
      if (dv.getUint8(o) === kind && n === OPT_LEN && found === 0) found = o + 2;
      o += n;
    }
    return found;
  }

  #solicited(ifp: Ifnet, info: IpInfo, target: InAddr, hasMac: boolean): void {
    this.counters.solicits_received++;
    const probing = info.src.isUnspecified;
    // RFC 4861 §7.1.1: a probe goes to the solicited-node group and carries no link address.
    if (probing && (hasMac || !info.dst.isMulticast)) {
      this.counters.malformed++;
      return;
    }
    if (!ifp.has(target)) return;
    const tentative = this.#isTentative(ifp, target);
    if (probing) {
      if (tentative) this.#duplicate(ifp, target);
      else this.#advert(ifp, target, ALL_NODES, NA_OVERRIDE);
      return;
    }
    // §7.1.1 has no word on it, but who is not on this link has no business with its caches.
    if (!this.#stack.routes.isOnLink(ifp, info.src)) {
      this.counters.not_on_link++;
      return;
    }
    // RFC 4429 §3.3: an optimistic address does not override.
    const override = tentative ? 0 : NA_OVERRIDE;
    if (hasMac) this.table.learn(ifp, info.src, this.#mac, true, false);
    else if (!this.table.knows(ifp, info.src)) {
      // An optimistic neighbour asks without saying where it is. If we are optimistic too, asking it in turn would get us
      // the same question back: tell everybody instead (an unsolicited advertisement, RFC 4861 §7.2.6).
      this.#advert(ifp, target, ALL_NODES, override);
      return;
    }
    this.#advert(ifp, target, info.src, NA_SOLICITED | override);
  }

  #advertised(ifp: Ifnet, info: IpInfo, target: InAddr, hasMac: boolean, flags: number): void {
    this.counters.adverts_received++;
    const solicited = (flags & NA_SOLICITED) !== 0;
    if (solicited && info.dst.isMulticast) {
      this.counters.malformed++;
      return;
    }
    if (ifp.has(target)) {
      if (this.#isTentative(ifp, target)) this.#duplicate(ifp, target);
      else this.counters.conflicts++;
      return;
    }
    if (hasMac) this.table.learn(ifp, target, this.#mac, false, solicited, (flags & NA_OVERRIDE) !== 0);
    else if (solicited) this.table.confirm(ifp, target);
  }

  // Sending

  #advert(ifp: Ifnet, target: InAddr, dst: InAddr, flags: number): void {
    if (this.#send(ifp, ND_NEIGHBOR_ADVERT, flags, target, target, dst, ND_OPT_TARGET)) this.counters.adverts_sent++;
  }
  #solicitEntry(e: LlEntry, unicast: boolean): void {
    const source = this.#settledSource(e.ifp, e.addr);
    if (source === undefined) {
      // RFC 4429 §3.2: an optimistic address MUST NOT be the source of a solicitation. What is to be sent waits until it
      // has stood the test (askAgain); that this question was not asked does not count.
      e.asked = 0;
      this.counters.no_source++;
      return;
    }
    const dst = unicast ? e.addr : this.#solicitedNode(e.addr);
    if (this.#send(e.ifp, ND_NEIGHBOR_SOLICIT, 0, e.addr, source, dst, ND_OPT_SOURCE)) this.counters.solicits_sent++;
  }
  /** Our address to ask a neighbour from: one in its subnet, else any; never one on probation. */
  #settledSource(ifp: Ifnet, neighbour: InAddr): InAddr | undefined {
    let other: InAddr | undefined;
    for (const { addr, prefix } of ifp.addresses) {
      if (addr.family !== 6 || this.#isTentative(ifp, addr)) continue;
      if (neighbour.inPrefix(addr, prefix)) return addr;
      other ??= addr;
    }
    return other;
  }

  #send(ifp: Ifnet, type: number, flags: number, target: InAddr, src: InAddr, dst: InAddr, option: number): boolean {
    const pool = this.#stack.pool;
    const m = pool.getSmall();
    if (m === M_NULL) {
      this.counters.nobufs++;
      return false;
    }
    const dv = pool.dv;
    const at = pool.off[m]!;
    const n = ND_LEN + (option !== 0 ? OPT_LEN : 0);
    dv.setUint32(at, (type << 24) >>> 0);
    dv.setInt32(at + 4, flags);
    target.write(dv, at + 8);
    if (option !== 0) {
      dv.setUint16(at + ND_LEN, (option << 8) | 1);
      writeMac(dv, at + ND_LEN + 2, ifp.mac);
    }
    pool.len[m] = pool.pktlen[m] = n;
    dv.setUint16(at + 2, finish(sumPseudo(src, dst, IPPROTO_ICMPV6, n) + sumRange(dv, at, n)));
    return this.#stack.ip6.outputOn(ifp, m, src, dst, IPPROTO_ICMPV6, 255) === 0;
  }

  // Addresses

  #usable(ifp: Ifnet, usable: boolean): void {
    if (!usable || (ifp.flags & (IFF_NOARP | IFF_LOOPBACK)) !== 0) return;
    const addresses = ifp.addresses.filter(a => a.addr.family === 6).map(a => a.addr);
    if (this.settings.auto_linklocal !== 0 && !addresses.some(a => a.isLinkLocal))
      this.#stack.interfaces.addAddress(ifp, linkLocal(ifp.mac), 64);
    for (const a of addresses) this.#begin(ifp, a);
  }

  #address(ifp: Ifnet, addr: InAddr, added: boolean): void {
    if (addr.family !== 6 || (ifp.flags & (IFF_NOARP | IFF_LOOPBACK)) !== 0) return;
    // Once per address: the driver counts who is in a group, and two addresses may share one.
    this.#group(ifp, this.#solicitedNode(addr), added);
    if (!added) this.#settle(ifp, addr);
    else if (ifp.running) this.#begin(ifp, addr);
  }
  #group(ifp: Ifnet, group: InAddr, join: boolean): void {
    if ((ifp.flags & (IFF_NOARP | IFF_LOOPBACK)) === 0) ifp.driver?.setMulticast(multicastMac(group), join);
  }

  /** Looks for a duplicate of an address. */
  #begin(ifp: Ifnet, addr: InAddr): void {
    this.#settle(ifp, addr);
    if (this.settings.dad_count === 0) return;
    const t: Tentative = {
      ifp,
      addr: addr.clone(),
      timer: new Callout(() => this.#probe(t)),
      left: this.settings.dad_count,
    };
    this.#tentative.push(t);
    this.#probe(t);
  }
  #probe(t: Tentative): void {
    if (t.left-- <= 0) {
      this.#settle(t.ifp, t.addr);
      // Nobody objected: now the others may learn where it is.
      this.#advert(t.ifp, t.addr, ALL_NODES, NA_OVERRIDE);
      // What waited for an address that may ask is asked for now (RFC 4429 §3.2).
      this.table.askAgain(t.ifp);
      return;
    }
    this.#stack.callouts.reset(t.timer, SEC);
    if (this.#send(t.ifp, ND_NEIGHBOR_SOLICIT, 0, t.addr, ANY6, this.#solicitedNode(t.addr), 0))
      this.counters.solicits_sent++;
  }
  /** Ends the probation of an address. */
  #settle(ifp: Ifnet, addr: InAddr): void {
    const i = this.#tentative.findIndex(t => t.ifp === ifp && t.addr.equals(addr));
    if (i < 0) return;
    this.#stack.callouts.stop(this.#tentative[i]!.timer);
    this.#tentative.splice(i, 1);
  }
  #isTentative(ifp: Ifnet, addr: InAddr): boolean {
    for (let i = 0; i < this.#tentative.length; i++) {
      const t = this.#tentative[i]!;
      if (t.ifp === ifp && t.addr.equals(addr)) return true;
    }
    return false;
  }
  /** RFC 4862 §5.4.5. */
  #duplicate(ifp: Ifnet, addr: InAddr): void {
    this.counters.duplicates++;
    const text = addr.toString();
    this.#stack.interfaces.removeAddress(ifp, addr);
    this.#stack.events.emit({
      kind: 'protocol',
      protocol: 'nd6',
      what: 'duplicate-address',
      reason: `another host on ${ifp.name} has ${text}; the address was taken away`,
      section: 'RFC 4862 section 5.4.5',
      detail: { ifname: ifp.name, address: text },
    });
  }

  /** ff02::1:ffXX:XXXX, RFC 4291 §2.7.1. Scratch: valid until the next call. */
  #solicitedNode(addr: InAddr): InAddr {
    const g = this.#node;
    g.w0 = 0xff020000 | 0;
    g.w1 = 0;
    g.w2 = 1;
    g.w3 = 0xff000000 | (addr.w3 & 0xffffff) | 0;
    return g;
  }

  #drop(m: Mbuf, why: keyof typeof ND6_COUNTERS): void {
    this.counters[why]++;
    this.#stack.pool.freem(m);
  }
}

/** fe80::/64 with the modified EUI-64 of a link address (RFC 4291 appendix A). */
export function linkLocal(mac: Uint8Array): InAddr {
  const w2 = ((mac[0]! ^ 2) << 24) | (mac[1]! << 16) | (mac[2]! << 8) | 0xff;
  const w3 = (0xfe << 24) | (mac[3]! << 16) | (mac[4]! << 8) | mac[5]!;
  return new InAddr(6, 0xfe800000, 0, w2, w3);
}
