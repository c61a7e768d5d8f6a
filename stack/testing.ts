/**
 * VirtualNet: a network of stacks in virtual time, for tests. Links are wires in memory between two interfaces; there is
 * no card and no driver code. Everything is decided by the seed and by what the test does: the same bytes every time.
 *
 *   const net = new VirtualNet();
 *   const a = net.addHost('a');
 *   const b = net.addHost('b');
 *   net.link(a, b, { delay: 10 * MSEC, addresses: [['10.0.0.1/24'], ['10.0.0.2/24']] });
 *   net.runUntil(() => done);
 */

import { Clock, MSEC, type Nanos, type Random, SEC, SeededRandom } from './kern/clock.js';
import { EINVAL } from './kern/errno.js';
import {
  CSUM_IP,
  CSUM_L3_OK,
  CSUM_L4_OK,
  CSUM_SCTP,
  CSUM_SCTP_OK,
  CSUM_UDP,
  M_NULL,
  type Mbuf,
  MbufPool,
  type MbufPoolSizes,
} from './kern/mbuf.js';
import {
  IFF_BROADCAST,
  IFF_MULTICAST,
  IFF_NOARP,
  IFF_POINTOPOINT,
  IFF_RUNNING,
  IFF_UP,
  type IfDriver,
  Ifnet,
} from './net/ifnet.js';
import { InAddr } from './netinet/in.js';
import { Stack } from './stack.js';

export interface LinkOptions {
  /** One way, in ns; a function is asked per frame (its number, counted per direction) and may so reorder. */
  readonly delay?: Nanos | ((frame: Uint8Array, n: number) => Nanos);
  readonly mtu?: number;
  /** Bits per second; none = infinite. */
  readonly rate?: number;
  /** Bytes that may wait for a limited rate; what does not fit is dropped as by a router's queue. */
  readonly queue?: number;
  /** True: this frame (n-th of its direction, from 0) is lost. A train is one frame. */
  readonly loss?: (frame: Uint8Array, n: number, from: Stack) => boolean;
  /** May change or replace a frame in flight; undefined: lost. */
  readonly alter?: (frame: Uint8Array, n: number, from: Stack) => Uint8Array | undefined;
  /** The medium carries IP: no ARP, no neighbour discovery. */
  readonly noarp?: boolean;
  /** The interfaces take trains and fill in all checksums; what arrives counts as checked. */
  readonly trains?: boolean;
  /** What the cards fill in; default: everything with trains, else nothing. */
  readonly hwassist?: number;
  /** Addresses of both ends, as "10.0.0.1/24". */
  readonly addresses?: readonly [readonly string[], readonly string[]];
  /** False: the interfaces are attached but left down. */
  readonly up?: boolean;
}

/** A frame on its way. */
interface Flight {
  readonly at: Nanos;
  readonly bytes: Uint8Array;
  readonly segsz: number;
  readonly hdrlen: number;
  readonly csum: number;
}

/** One end of a link: the interface, and the wire that leaves it. */
export class LinkEnd implements IfDriver {
  readonly stack: Stack;
  readonly ifp: Ifnet;
  peer!: LinkEnd;
  readonly counters = { sent: 0, lost: 0, queue_full: 0, delivered: 0, no_mbuf: 0, carrier_lost: 0 };
  readonly #link: VirtualLink;
  /** In order of arrival; equal times in order of sending. */
  readonly #flying: Flight[] = [];
  #n = 0;
  #free: Nanos = 0; // when the wire is free again

  constructor(link: VirtualLink, stack: Stack, ifp: Ifnet) {
    this.#link = link;
    this.stack = stack;
    this.ifp = ifp;
    ifp.driver = this;
  }

  output(m: Mbuf): boolean {
    const pool = this.stack.pool;
    const now = this.stack.clock.now;
    const { options } = this.#link;
    let bytes: Uint8Array | undefined = pool.toBytes(m);
    const segsz = pool.segsz[m]!;
    const hdrlen = pool.hdrlen[m]!;
    const csum = pool.csum[m]!;
    const { counters } = this.ifp;
    counters.opackets += pool.segments(m);
    counters.obytes += bytes.length;
    pool.freem(m);
    const n = this.#n++;
    this.counters.sent++;
    this.#link.onFrame?.(this.stack, bytes, now);
    if (options.loss?.(bytes, n, this.stack)) bytes = undefined;
    else if (options.alter !== undefined) bytes = options.alter(bytes, n, this.stack);
    if (bytes === undefined) {
      this.counters.lost++;
      return true;
    }
    let leaves = now;
    if (options.rate !== undefined) {
      const waiting = (Math.max(0, this.#free - now) * options.rate) / (8 * SEC);
      if (options.queue !== undefined && waiting + bytes.length > options.queue) {
        this.counters.queue_full++;
        return true;
      }
      leaves = this.#free = Math.max(now, this.#free) + Math.round((bytes.length * 8 * SEC) / options.rate);
    }
    const { delay = 0 } = options;
    const at = leaves + (typeof delay === 'number' ? delay : delay(bytes, n));
    let i = this.#flying.length;
    while (i > 0 && this.#flying[i - 1]!.at > at) i--;
    // What the sender's card would have filled in, or a train, comes as checked by the receiver's.
    const offloaded = (csum & (CSUM_SCTP | CSUM_UDP | CSUM_IP)) !== 0 || segsz > 0;
    const flight = { at, bytes, segsz, hdrlen, csum: offloaded ? CSUM_L3_OK | CSUM_L4_OK | CSUM_SCTP_OK : 0 };
    this.#flying.splice(i, 0, flight);
    return true;
  }

  /** When the next frame arrives at the peer. */
  deadline(): Nanos {
    return this.#flying[0]?.at ?? Number.POSITIVE_INFINITY;
  }
  /** Frames under way. */
  get flying(): number {
    return this.#flying.length;
  }
  /** Hands what has arrived to the peer. Returns how many. */
  deliver(now: Nanos): number {
    let n = 0;
    while (this.#flying.length > 0 && this.#flying[0]!.at <= now) {
      const f = this.#flying.shift()!;
      n++;
      if (!this.#link.carrier) {
        this.counters.carrier_lost++;
        continue;
      }
      const pool = this.peer.stack.pool;
      const m = pool.fromBytes(f.bytes, 0, f.bytes.length, 64);
      if (m === M_NULL) {
        this.counters.no_mbuf++;
        continue;
      }
      pool.segsz[m] = f.segsz;
      pool.hdrlen[m] = f.hdrlen;
      pool.csum[m] = f.csum;
      this.counters.delivered++;
      this.peer.ifp.counters.ipackets += pool.segments(m);
      this.peer.ifp.counters.ibytes += f.bytes.length;
      this.peer.ifp.input(m);
    }
    return n;
  }
  flush(): void {}
  ready(): boolean {
    return true;
  }
  /** As the card's driver does it: flags, event, then the link. */
  setUp(up: boolean): number {
    const { ifp } = this;
    if (!up) this.setLink(false, 'the interface was taken down');
    ifp.flags = up ? ifp.flags | IFF_UP : ifp.flags & ~IFF_UP;
    ifp.event({ kind: up ? 'if-up' : 'if-down', ifname: ifp.name });
    if (up) this.setLink(this.#link.carrier, 'carrier');
    return 0;
  }
  setLink(up: boolean, reason: string): void {
    const { ifp } = this;
    if (up === ifp.link) return;
    ifp.link = up;
    ifp.flags = up ? ifp.flags | IFF_RUNNING : ifp.flags & ~IFF_RUNNING;
    ifp.counters.link_changes++;
    ifp.event({ kind: up ? 'link-on' : 'link-off', ifname: ifp.name, reason });
  }
  setMac(mac: Uint8Array): number {
    if (mac.length !== 6) return -EINVAL;
    this.ifp.mac.set(mac);
    return 0;
  }
  setPromisc(): number {
    return 0;
  }
  setMulticast(): number {
    return 0;
  }
  detach(): void {
    this.#flying.length = 0;
  }
}

export class VirtualLink {
  /** May be replaced while the net runs: loss that begins later, a new delay. */
  options: LinkOptions;
  readonly a: LinkEnd;
  readonly b: LinkEnd;
  /** Sees every frame that is sent, before loss. */
  onFrame: ((from: Stack, frame: Uint8Array, at: Nanos) => void) | undefined;
  carrier = true;

  constructor(
    a: Stack,
    b: Stack,
    names: readonly [string, string],
    macs: readonly [Uint8Array, Uint8Array],
    options: LinkOptions,
  ) {
    this.options = options;
    const { mtu = 1500, noarp = false, trains = false } = options;
    const end = (stack: Stack, name: string, mac: Uint8Array) => {
      const flags = noarp ? IFF_NOARP | IFF_POINTOPOINT | IFF_MULTICAST : IFF_BROADCAST | IFF_MULTICAST;
      const ifp = new Ifnet(name, mac, mtu, flags);
      ifp.hwassist = options.hwassist ?? (trains ? CSUM_SCTP | CSUM_UDP | CSUM_IP : 0);
      ifp.trainBytes = trains ? 65535 : 0;
      ifp.trainSegments = trains ? 64 : 0;
      return new LinkEnd(this, stack, ifp);
    };
    this.a = end(a, names[0], macs[0]);
    this.b = end(b, names[1], macs[1]);
    this.a.peer = this.b;
    this.b.peer = this.a;
  }

  /** Pulls the cable, or plugs it in again: both interfaces report it, what is under way is lost. */
  setCarrier(up: boolean): void {
    if (this.carrier === up) return;
    this.carrier = up;
    for (const e of [this.a, this.b])
      if ((e.ifp.flags & IFF_UP) !== 0) e.setLink(up, up ? 'cable plugged in' : 'cable pulled');
  }
  setMtu(mtu: number): void {
    for (const e of [this.a, this.b]) e.ifp.event({ kind: 'mtu', ifname: e.ifp.name, mtu });
  }
}

/** An interface without a wire: what is sent is kept, what is received comes from the test. */
export class TestInterface implements IfDriver {
  readonly ifp: Ifnet;
  readonly stack: Stack;
  /** Frames sent, Ethernet header included, with what their mbuf said. */
  readonly sent: { bytes: Uint8Array; segsz: number; hdrlen: number; csum: number }[] = [];
  readonly groups = new Map<string, number>();
  flushes = 0;
  /** False: `output` refuses, as a full ring does. */
  accept = true;

  constructor(
    stack: Stack,
    name: string,
    options: { readonly mtu?: number; readonly flags?: number; readonly addresses?: readonly string[] } = {},
  ) {
    this.stack = stack;
    const mac = Uint8Array.of(2, 0, 0, 0, 1, stack.interfaces.list().length);
    this.ifp = new Ifnet(name, mac, options.mtu ?? 1500, options.flags ?? IFF_BROADCAST | IFF_MULTICAST);
    this.ifp.driver = this;
    this.ifp.link = true;
    stack.interfaces.attach(this.ifp);
    for (const text of options.addresses ?? []) {
      const [addr, prefix] = text.split('/');
      const e = stack.interfaces.addAddress(this.ifp, InAddr.of(addr!), Number(prefix));
      if (e < 0) throw new Error(`cannot give ${text} to ${name} (${e})`);
    }
    stack.interfaces.setUp(this.ifp, true);
  }
  /** Receives a frame. */
  inject(
    bytes: Uint8Array,
    more: { csum?: number; segsz?: number; hdrlen?: number; pieces?: readonly number[] } = {},
  ): void {
    const { pool } = this.stack;
    let m = M_NULL;
    let tail = M_NULL;
    let from = 0;
    // As one mbuf, or as a chain of pieces of the lengths given and the rest.
    for (const n of [...(more.pieces ?? []), bytes.length]) {
      const to = Math.min(bytes.length, from + n);
      if (to === from && m !== M_NULL) continue;
      const p = pool.fromBytes(bytes, from, to - from, 64);
      if (p === M_NULL) throw new Error('the pool is empty');
      if (m === M_NULL) m = p;
      else pool.next[tail] = p;
      tail = p;
      from = to;
    }
    pool.pktlen[m] = bytes.length;
    pool.csum[m] = more.csum ?? 0;
    pool.segsz[m] = more.segsz ?? 0;
    pool.hdrlen[m] = more.hdrlen ?? 0;
    this.ifp.input(m);
  }
  /** Takes what was sent. */
  take(): Uint8Array[] {
    return this.sent.splice(0).map(f => f.bytes);
  }
  output(m: Mbuf): boolean {
    const { pool } = this.stack;
    if (this.accept)
      this.sent.push({ bytes: pool.toBytes(m), segsz: pool.segsz[m]!, hdrlen: pool.hdrlen[m]!, csum: pool.csum[m]! });
    else this.ifp.counters.odrops++;
    pool.freem(m);
    return this.accept;
  }
  flush(): void {
    this.flushes++;
  }
  ready(): boolean {
    return this.accept;
  }
  setUp(up: boolean): number {
    this.ifp.flags = up ? this.ifp.flags | IFF_RUNNING : this.ifp.flags & ~IFF_RUNNING;
    return 0;
  }
  setMac(): number {
    return 0;
  }
  setPromisc(): number {
    return 0;
  }
  setMulticast(mac: Uint8Array, join: boolean): number {
    const key = Buffer.from(mac).toString('hex');
    this.groups.set(key, (this.groups.get(key) ?? 0) + (join ? 1 : -1));
    return 0;
  }
  detach(): void {}
}

const TEST_POOL: MbufPoolSizes = { small: 2048, cluster: 2048, jumbo: 32 };
/** Steps at one instant after which a net is thought to run in circles. */
const MAX_STEPS = 100_000;

export class VirtualNet {
  readonly clock: Clock;
  readonly random: Random;
  readonly hosts: Stack[] = [];
  readonly links: VirtualLink[] = [];
  readonly names = new Map<Stack, string>();
  readonly #seed: number;
  #kicked = false; // a socket call has made work since the last step

  constructor(options: { readonly seed?: number; readonly start?: Nanos } = {}) {
    this.#seed = options.seed ?? 1;
    this.clock = new Clock(options.start ?? SEC);
    this.random = new SeededRandom(this.#seed);
  }

  /** A host with its own mbufs and its own random numbers. */
  addHost(name: string, options: { readonly pool?: MbufPoolSizes; readonly random?: Random } = {}): Stack {
    const random = options.random ?? new SeededRandom(Math.imul(this.#seed, 1000003) + this.hosts.length + 1);
    const pool = new MbufPool(options.pool ?? TEST_POOL);
    const kick = () => {
      this.#kicked = true;
    };
    const stack = new Stack({ clock: this.clock, random, pool, kick });
    this.hosts.push(stack);
    this.names.set(stack, name);
    return stack;
  }

  /** Joins two hosts by a new interface on each, named nke0, nke1, ... by host; brings both up. */
  link(a: Stack, b: Stack, options: LinkOptions = {}): VirtualLink {
    const name = (s: Stack) => `nke${s.interfaces.list().length - 1}`;
    const mac = (s: Stack, i: number) => Uint8Array.of(2, 0, 0, this.hosts.indexOf(s), this.links.length, i);
    const names = [name(a), a === b ? `nke${a.interfaces.list().length}` : name(b)] as const;
    const link = new VirtualLink(a, b, names, [mac(a, 1), mac(b, 2)], options);
    this.links.push(link);
    for (const [i, e] of [link.a, link.b].entries()) {
      e.stack.interfaces.attach(e.ifp);
      for (const text of options.addresses?.[i] ?? []) {
        const [addr, prefix] = text.split('/');
        const error = e.stack.interfaces.addAddress(e.ifp, InAddr.of(addr!), Number(prefix));
        if (error < 0) throw new Error(`cannot give ${text} to ${e.ifp.name} (${error})`);
      }
      if (options.up !== false) e.stack.interfaces.setUp(e.ifp, true);
    }
    return link;
  }

  /** When something happens next. */
  deadline(): Nanos {
    let t = Number.POSITIVE_INFINITY;
    for (const s of this.hosts) t = Math.min(t, s.deadline());
    for (const l of this.links) t = Math.min(t, l.a.deadline(), l.b.deadline());
    return t;
  }

  /** Does everything that is due now, hosts and links in order of their making. Checks `done` after every step. */
  #settle(done?: () => boolean): boolean {
    const now = this.clock.now;
    for (let step = 0; step < MAX_STEPS; step++) {
      this.#kicked = false;
      for (const l of this.links) {
        l.a.deliver(now);
        l.b.deliver(now);
      }
      for (const s of this.hosts) s.run(now);
      if (done?.()) return true;
      if (!this.#kicked && this.deadline() > now) return false;
    }
    throw new Error(`the net still has work at ${now} ns after ${MAX_STEPS} steps: something runs in circles`);
  }

  /**
   * Runs until `condition` holds (then true), or until nothing is left to happen or `limit` of virtual time is over (then
   * false). With a number: until that instant, at which the clock then stands; true.
   */
  runUntil(condition: (() => boolean) | Nanos, limit: Nanos = 600 * SEC): boolean {
    const done = typeof condition === 'number' ? undefined : condition;
    const end = typeof condition === 'number' ? condition : this.clock.now + limit;
    for (;;) {
      if (this.#settle(done)) return true;
      const next = this.deadline();
      if (next > end) {
        if (done === undefined || next !== Number.POSITIVE_INFINITY) this.clock.now = Math.max(this.clock.now, end);
        return done === undefined;
      }
      this.clock.now = next;
    }
  }
  /** Runs for a time from now. */
  run(duration: Nanos): void {
    this.runUntil(this.clock.now + duration);
  }
  /** Mbufs in use over all hosts, after the stacks have let go of what their caches hold; 0 = nothing leaked. */
  leaked(): number {
    let n = 0;
    for (const s of this.hosts) {
      s.drain();
      const { small, cluster, jumbo } = s.pool.inUse;
      n += small + cluster + jumbo;
    }
    return n;
  }
}

export { MSEC, SEC };
