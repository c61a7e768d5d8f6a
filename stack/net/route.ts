/**
 * The routing table, the choice of source addresses (RFC 6724 in brief) and the host's cache of path MTUs (RFC 1191
 * §6.3, RFC 8201 §5.2).
 *
 * Routes come from three places: connected (an interface's address), local (our own addresses, by way of lo0) and
 * static. The longest prefix wins; among equals a usable interface, then connected before static, then the older.
 * For multi-homing the search can be tied to the interface that owns the source (`lookupFrom`): two cards in one subnet
 * each send what has their address.
 */

import type { Nanos } from '../kern/clock.js';
import { SEC } from '../kern/clock.js';
import { EEXIST, EINVAL, ENOENT, ENOMEM } from '../kern/errno.js';
import { InAddr } from '../netinet/in.js';
import { IFF_LOOPBACK, type Ifnet } from './ifnet.js';

export type RouteKind = 'local' | 'connected' | 'static';

export class Route {
  readonly kind: RouteKind;
  readonly ifp: Ifnet;
  /** The network, host bits zero. */
  readonly net: InAddr;
  readonly prefix: number;
  readonly gateway: InAddr | undefined;
  /** The source address that goes with it: a connected route's own address, or what a static route was given. */
  readonly source: InAddr | undefined;
  /** Own limit of a static route, 0 = the interface's. */
  readonly limit: number;
  /** Low word of the directed broadcast address of a connected IPv4 route, 0 = none. */
  readonly broadcast: number;

  constructor(
    kind: RouteKind,
    ifp: Ifnet,
    net: InAddr,
    prefix: number,
    gateway: InAddr | undefined,
    source: InAddr | undefined,
    limit: number,
  ) {
    this.kind = kind;
    this.ifp = ifp;
    this.net = masked(net, prefix);
    this.prefix = prefix;
    this.gateway = gateway;
    this.source = source;
    this.limit = limit;
    this.broadcast = kind === 'connected' && net.family === 4 && prefix < 31 ? this.net.w3 | (-1 >>> prefix) : 0;
  }
  /** Largest IP packet on the first hop, in bytes. */
  get mtu(): number {
    const mtu = this.ifp.mtu;
    return this.limit > 0 && this.limit < mtu ? this.limit : mtu;
  }
  /** Largest train that the interface takes, Ethernet header included; 0 = none. */
  get trainBytes(): number {
    return this.ifp.trainBytes;
  }
  get trainSegments(): number {
    return this.ifp.trainSegments;
  }
  toString(): string {
    const to = this.prefix === 0 ? 'default' : `${this.net}/${this.prefix}`;
    return `${to}${this.gateway === undefined ? '' : ` via ${this.gateway}`} dev ${this.ifp.name} ${this.kind}`;
  }
}

export const MAX_ROUTES = 1024;
const CACHE = 256;
const PMTU_ENTRIES = 256;
const PMTU_AGE: Nanos = 600 * SEC;

/** A direct-mapped memory of look-ups, dropped as a whole by raising the generation. */
class RouteCache {
  readonly src = Array.from({ length: CACHE }, () => new InAddr());
  readonly dst = Array.from({ length: CACHE }, () => new InAddr());
  readonly generation = new Int32Array(CACHE);
  readonly route: (Route | undefined)[] = new Array(CACHE).fill(undefined);
}

export class RouteTable {
  readonly counters = { lookups: 0, misses: 0, unreachable: 0, pmtu_updates: 0, pmtu_ignored: 0 };
  readonly #clock: { readonly now: Nanos };
  readonly #owner: (addr: InAddr) => Ifnet | undefined;
  readonly #interfaces: () => readonly Ifnet[];
  #loopback: Ifnet | undefined;
  #routes: Route[] = []; // longest prefix first
  readonly #cache = new RouteCache();
  #generation = 1;
  readonly #any = new InAddr(4);
  readonly #pmtuDst = Array.from({ length: PMTU_ENTRIES }, () => new InAddr());
  readonly #pmtuValue = new Int32Array(PMTU_ENTRIES);
  readonly #pmtuUntil = new Float64Array(PMTU_ENTRIES);

  /** `owner` and `interfaces` are dlil's: who has an address, and who there is. */
  constructor(
    clock: { readonly now: Nanos },
    owner: (addr: InAddr) => Ifnet | undefined,
    interfaces: () => readonly Ifnet[],
  ) {
    this.#clock = clock;
    this.#owner = owner;
    this.#interfaces = interfaces;
  }
  /** The interface by way of which a host reaches itself. */
  setLoopback(ifp: Ifnet): void {
    this.#loopback = ifp;
  }

  // Contents

  /**
   * Called by dlil for a new address: its connected route, and its local one by way of lo0. An address of loopback scope
   * gets no local route: on lo0 it needs none, and the medium behind a card that has one is the machine's own loopback,
   * where a peer may live at the very same address (told apart by its UDP port).
   */
  addressAdded(ifp: Ifnet, addr: InAddr, prefix: number): void {
    this.#insert(new Route('connected', ifp, addr, prefix, undefined, addr, 0));
    if (this.#loopback === undefined || addr.isLoopback) return;
    this.#insert(new Route('local', this.#loopback, addr, addr.family === 4 ? 32 : 128, undefined, addr, 0));
  }
  addressRemoved(ifp: Ifnet, addr: InAddr, prefix: number): void {
    const net = masked(addr, prefix);
    this.#routes = this.#routes.filter(
      r =>
        !(
          r.kind === 'connected' &&
          r.ifp === ifp &&
          r.prefix === prefix &&
          r.net.equals(net) &&
          r.source?.equals(addr)
        ) && !(r.kind === 'local' && r.net.equals(addr)),
    );
    this.invalidate();
  }
  /**
   * Adds a static route; `net` may have host bits, they are cleared. The gateway must be on-link on `ifp` (found when
   * `ifp` is left out). Returns 0, -EINVAL (families, prefix, gateway not on-link), -EEXIST or -ENOMEM (1,024 routes).
   */
  add(net: InAddr, prefix: number, gateway?: InAddr, ifp?: Ifnet, source?: InAddr, mtu = 0): number {
    const bits = net.family === 4 ? 32 : 128;
    if (!Number.isInteger(prefix) || prefix < 0 || prefix > bits) return -EINVAL;
    if (gateway !== undefined && gateway.family !== net.family) return -EINVAL;
    if (source !== undefined && (source.family !== net.family || this.#owner(source) === undefined)) return -EINVAL;
    if (gateway !== undefined) {
      const on = this.#routes.find(
        r => r.kind === 'connected' && gateway.inPrefix(r.net, r.prefix) && (ifp === undefined || r.ifp === ifp),
      );
      if (on === undefined) return -EINVAL;
      ifp = on.ifp;
    }
    if (ifp === undefined) return -EINVAL;
    if (this.#routes.length >= MAX_ROUTES) return -ENOMEM;
    const r = new Route('static', ifp, net, prefix, gateway?.clone(), source?.clone(), mtu);
    if (this.#routes.some(o => sameRoute(o, r))) return -EEXIST;
    this.#insert(r);
    return 0;
  }
  /** Removes the static routes to a network (those by way of one gateway, when given). Returns 0 or -ENOENT. */
  remove(net: InAddr, prefix: number, gateway?: InAddr): number {
    const to = masked(net, prefix);
    const keep = this.#routes.filter(
      r =>
        r.kind !== 'static' ||
        r.prefix !== prefix ||
        !r.net.equals(to) ||
        (gateway !== undefined && !r.gateway?.equals(gateway)),
    );
    if (keep.length === this.#routes.length) return -ENOENT;
    this.#routes = keep;
    this.invalidate();
    return 0;
  }
  removeInterface(ifp: Ifnet): void {
    this.#routes = this.#routes.filter(r => r.ifp !== ifp);
    this.invalidate();
  }
  list(): readonly Route[] {
    return this.#routes;
  }
  /** Forgets cached look-ups: routes, addresses or an interface's state have changed. */
  invalidate(): void {
    this.#generation = (this.#generation + 1) | 0;
  }

  // Look-up

  /** The route to an address, or undefined. Allocates nothing. */
  lookup(dst: InAddr): Route | undefined {
    return this.lookupFrom(this.#any, dst);
  }
  /**
   * The route to `dst` for packets from `src`: by the interface that owns src if it has any route there, even when its
   * link is down, else as `lookup`. An unspecified src asks for no source.
   */
  lookupFrom(src: InAddr, dst: InAddr): Route | undefined {
    this.counters.lookups++;
    const c = this.#cache;
    const i = (dst.hash() ^ Math.imul(src.w3 ^ src.w0, 31)) & (CACHE - 1);
    if (c.generation[i] === this.#generation && c.dst[i]!.equals(dst) && c.src[i]!.equals(src)) return c.route[i];
    this.counters.misses++;
    const r = this.#find(src, dst);
    if (r === undefined) this.counters.unreachable++;
    c.generation[i] = this.#generation;
    c.dst[i]!.copy(dst);
    c.src[i]!.copy(src);
    c.route[i] = r;
    return r;
  }

  #find(src: InAddr, dst: InAddr): Route | undefined {
    const owner = src.isUnspecified ? undefined : this.#owner(src);
    if (dst.isMulticast || dst.isBroadcast) return this.#findGroup(owner, dst);
    if (this.#loopback !== undefined) {
      const local = this.#longest(dst, this.#loopback);
      if (local?.kind === 'local') return local;
    }
    if (owner !== undefined) {
      const r = this.#longest(dst, owner);
      if (r !== undefined) return r;
    }
    return this.#longest(dst, undefined);
  }
  /** Longest prefix, tied to an interface or not. The list is ordered, so the first usable of the longest wins. */
  #longest(dst: InAddr, ifp: Ifnet | undefined): Route | undefined {
    let down: Route | undefined;
    // Loopback and link-local addresses are nobody's business beyond the link: no default route (RFC 4291 §2.5.6).
    const near = dst.isLoopback || dst.isLinkLocal;
    for (const r of this.#routes) {
      if (near && r.prefix === 0) break;
      if (down !== undefined && r.prefix < down.prefix) break;
      if ((ifp !== undefined && r.ifp !== ifp) || !dst.inPrefix(r.net, r.prefix)) continue;
      if (ifp !== undefined || r.ifp.running) return r;
      down ??= r;
    }
    return down;
  }
  /** Groups and 255.255.255.255 leave by the source's interface, or by the first that is usable. */
  #findGroup(owner: Ifnet | undefined, dst: InAddr): Route | undefined {
    const fixed = this.#routes.find(r => r.kind === 'static' && r.prefix > 0 && dst.inPrefix(r.net, r.prefix));
    if (fixed !== undefined && (owner === undefined || fixed.ifp === owner)) return fixed;
    const on = this.#routes.filter(r => r.kind === 'connected' && r.net.family === dst.family);
    if (owner !== undefined) return on.find(r => r.ifp === owner);
    return on.find(r => r.ifp.running && (r.ifp.flags & IFF_LOOPBACK) === 0);
  }

  /** True when an address is all-ones or an interface's directed broadcast. */
  isBroadcast(ifp: Ifnet, a: InAddr): boolean {
    if (a.family !== 4) return false;
    if (a.w3 === -1) return true;
    for (let i = 0; i < ifp.addresses.length; i++) {
      const { addr, prefix } = ifp.addresses[i]!;
      if (addr.family !== 4 || prefix >= 31) continue;
      const host = (-1 >>> prefix) | 0;
      if ((a.w3 & host) === host && ((a.w3 ^ addr.w3) & ~host) === 0) return true;
    }
    return false;
  }
  /** True when an address is reached without a gateway. */
  isOnLink(ifp: Ifnet, a: InAddr): boolean {
    for (let i = 0; i < ifp.addresses.length; i++)
      if (a.inPrefix(ifp.addresses[i]!.addr, ifp.addresses[i]!.prefix)) return true;
    return false;
  }

  // Source addresses

  /** Chooses the source address for packets to dst into `out`. False when there is none. */
  source(dst: InAddr, out: InAddr): boolean {
    const r = this.lookup(dst);
    const a = r === undefined ? undefined : this.#choose(r, dst);
    if (a === undefined) return false;
    out.copy(a);
    return true;
  }
  /** The same choice in words, for `nke paths`. */
  why(dst: InAddr): string {
    const r = this.lookup(dst);
    if (r === undefined) return `no route to ${dst}`;
    const said: string[] = [];
    const a = this.#choose(r, dst, said);
    const by = `${dst} matches ${r}${r.ifp.running ? '' : ' (interface not running)'}`;
    return a === undefined ? `${by}; no source address of its family` : `${by}; source ${a}: ${said.join(', ')}`;
  }

  #choose(r: Route, dst: InAddr, said?: string[]): InAddr | undefined {
    if (r.kind === 'static' && r.source !== undefined) {
      said?.push('given by the route');
      return r.source;
    }
    if (r.kind === 'local') {
      said?.push('the destination is our own (RFC 6724 rule 1)');
      return r.source;
    }
    let best = this.#best(r.ifp, undefined, dst, said);
    if (best !== undefined) return best;
    // An interface without an address of the family borrows one (weak host model, RFC 1122 §3.3.4.2).
    for (const other of this.#interfaces())
      if (other !== r.ifp && (other.flags & IFF_LOOPBACK) === 0) best = this.#best(other, best, dst, said);
    if (best !== undefined) said?.push(`${r.ifp.name} has none of this family`);
    return best;
  }

  /** The best of an interface's addresses and the one preferred so far; ties go to the address that was added first. */
  #best(ifp: Ifnet, best: InAddr | undefined, dst: InAddr, said?: string[]): InAddr | undefined {
    let rule = 0;
    for (let i = 0; i < ifp.addresses.length; i++) {
      const a = ifp.addresses[i]!.addr;
      if (a.family !== dst.family) continue;
      const won = best === undefined ? 1 : compareSources(best, a, dst);
      if (best !== undefined) rule = Math.abs(won);
      if (won < 0 || best === undefined) best = a;
    }
    if (best !== undefined) said?.push(rule === 0 ? 'the first of its family' : RULES[rule]!);
    return best;
  }

  // Path MTU

  /** What is known of the path to dst: the first hop's MTU, or less if a router has said so in the last ten minutes; 0 without a route. */
  pmtu(dst: InAddr, r: Route | undefined = this.lookup(dst)): number {
    if (r === undefined) return 0;
    const i = dst.hash() & (PMTU_ENTRIES - 1);
    const first = r.mtu;
    if (this.#pmtuUntil[i]! <= this.#clock.now || !this.#pmtuDst[i]!.equals(dst)) return first;
    return Math.min(first, this.#pmtuValue[i]!);
  }
  /**
   * A router's report, already checked to be about a packet of ours. Only ever lowers the MTU. For IPv6 not below 1,280
   * (RFC 8201 §4); for IPv4 not below 576, which every host reassembles (RFC 1122 §3.3.2): what goes out without DF a
   * router can fragment further, and a forged report does less harm. Returns true if it was taken.
   */
  learnPmtu(dst: InAddr, mtu: number): boolean {
    const least = dst.family === 4 ? 576 : 1280;
    if (mtu < least || mtu >= this.pmtu(dst)) {
      this.counters.pmtu_ignored++;
      return false;
    }
    const i = dst.hash() & (PMTU_ENTRIES - 1);
    this.#pmtuDst[i]!.copy(dst);
    this.#pmtuValue[i] = mtu;
    this.#pmtuUntil[i] = this.#clock.now + PMTU_AGE;
    this.counters.pmtu_updates++;
    return true;
  }

  #insert(r: Route): void {
    let i = 0;
    while (i < this.#routes.length && order(this.#routes[i]!, r) <= 0) i++;
    this.#routes.splice(i, 0, r);
    this.invalidate();
  }
}

/** Longest prefix first, then local, connected on a card, connected on lo0, static. */
function order(a: Route, b: Route): number {
  return b.prefix - a.prefix || rank(a) - rank(b);
}
function rank(r: Route): number {
  // A card that was given an address in 127/8 comes before lo0.
  if (r.kind === 'local') return 0;
  if (r.kind === 'static') return 3;
  return (r.ifp.flags & IFF_LOOPBACK) !== 0 ? 2 : 1;
}
function sameRoute(a: Route, b: Route): boolean {
  const gateways =
    a.gateway === undefined ? b.gateway === undefined : b.gateway !== undefined && a.gateway.equals(b.gateway);
  return a.kind === b.kind && a.ifp === b.ifp && a.prefix === b.prefix && a.net.equals(b.net) && gateways;
}

/** A copy with the host bits cleared. */
export function masked(a: InAddr, prefix: number): InAddr {
  const mask = (bits: number) => (bits <= 0 ? 0 : bits >= 32 ? -1 : ~(-1 >>> bits));
  if (a.family === 4) return new InAddr(4, 0, 0, 0xffff, a.w3 & mask(prefix));
  return new InAddr(
    6,
    a.w0 & mask(prefix),
    a.w1 & mask(prefix - 32),
    a.w2 & mask(prefix - 64),
    a.w3 & mask(prefix - 96),
  );
}

/** RFC 6724 §3.1 and §3.2: 2 link-local (and loopback), 14 global; private and unique local addresses are global. */
function scopeOf(a: InAddr): number {
  if (a.isMulticast) return a.family === 6 ? (a.w0 >>> 16) & 15 : 14;
  return a.isLoopback || a.isLinkLocal ? 2 : 14;
}
/** The label of RFC 6724 §2.1, as far as the families here need it. */
function labelOf(a: InAddr): number {
  if (a.family === 4) return 4;
  if (a.isLoopback) return 0;
  return a.w0 >>> 25 === 0x7e ? 13 : 1;
}
function commonPrefix(a: InAddr, b: InAddr): number {
  if (a.family === 4) return Math.clz32(a.w3 ^ b.w3);
  if (a.w0 !== b.w0) return Math.clz32(a.w0 ^ b.w0);
  if (a.w1 !== b.w1) return 32 + Math.clz32(a.w1 ^ b.w1);
  // §2.2: not beyond the source's subnet prefix; 64 bits is what every subnet has.
  return 64;
}

const RULES: Readonly<Record<number, string>> = {
  1: 'same address (RFC 6724 rule 1)',
  2: 'appropriate scope (RFC 6724 rule 2)',
  6: 'matching label (RFC 6724 rule 6)',
  8: 'longest matching prefix (RFC 6724 rule 8)',
};

/** RFC 6724 §5, rules 1, 2, 6 and 8: the number of the rule by which a is the better source, minus that if b is, or 0. */
export function compareSources(a: InAddr, b: InAddr, dst: InAddr): number {
  if (a.equals(dst)) return 1;
  if (b.equals(dst)) return -1;
  const sa = scopeOf(a);
  const sb = scopeOf(b);
  // Rule 2: the smaller scope is better unless it is smaller than the destination's.
  if (sa < sb) return sa < scopeOf(dst) ? -2 : 2;
  if (sb < sa) return sb < scopeOf(dst) ? 2 : -2;
  const label = labelOf(dst);
  const la = labelOf(a) === label;
  if (la !== (labelOf(b) === label)) return la ? 6 : -6;
  const d = commonPrefix(a, dst) - commonPrefix(b, dst);
  return d > 0 ? 8 : d < 0 ? -8 : 0;
}
