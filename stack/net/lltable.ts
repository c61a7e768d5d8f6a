/**
 * lltable: the table of link-layer neighbours, after BSD's if_llatbl(9). ARP and neighbour discovery share it: its states
 * and timers are those of neighbour unreachability detection (RFC 4861 §7.3), which RFC 1122 §2.3.2.1 wants of ARP too.
 *
 * Bounds: entries per table, frames held per unresolved entry. A full table gives up its least recently used entry.
 */

import { Callout, type CalloutWheel } from '../kern/callout.js';
import { type Nanos, SEC } from '../kern/clock.js';
import type { Mbuf, MbufPool } from '../kern/mbuf.js';
import { M_NULL } from '../kern/mbuf.js';
import type { InAddr } from '../netinet/in.js';
import { ETHER_ADDR_LEN } from './ethernet.js';
import { IFF_UP, type Ifnet } from './ifnet.js';

export type LlState = 'incomplete' | 'reachable' | 'stale' | 'delay' | 'probe' | 'failed';

export interface LlParameters {
  readonly entries: number;
  /** Frames held per unresolved entry; the oldest gives way. */
  readonly hold: number;
  /** How long a confirmed address needs no new confirmation (REACHABLE_TIME). */
  readonly reachable: Nanos;
  /** Between requests (RETRANS_TIMER). */
  readonly retrans: Nanos;
  /** Requests before giving up (MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT). */
  readonly solicits: number;
  /** How long a stale address is used before it is probed (DELAY_FIRST_PROBE_TIME). */
  readonly delay: Nanos;
  /** How long an unresolvable address is not asked for again. */
  readonly negative: Nanos;
  /** How long an entry that nobody uses is kept. */
  readonly idle: Nanos;
}

export const LL_DEFAULTS: LlParameters = {
  entries: 1024,
  hold: 16,
  reachable: 30 * SEC,
  retrans: 1 * SEC,
  solicits: 3,
  delay: 5 * SEC,
  negative: 5 * SEC,
  idle: 1200 * SEC,
};

/** One neighbour (llentry). */
export class LlEntry {
  readonly ifp: Ifnet;
  readonly addr: InAddr;
  readonly mac = new Uint8Array(ETHER_ADDR_LEN);
  state: LlState = 'incomplete';
  /** Frames that wait for the link address, oldest first, linked by nextpkt. */
  head: Mbuf = M_NULL;
  tail: Mbuf = M_NULL;
  held = 0;
  asked = 0;
  used: Nanos = 0;
  /** The host has slept since it was confirmed: checked soon after it is next used. */
  slept = false;
  readonly timer: Callout;
  chain: LlEntry | undefined = undefined;
  constructor(ifp: Ifnet, addr: InAddr, fire: (e: LlEntry) => void) {
    this.ifp = ifp;
    this.addr = addr.clone();
    this.timer = new Callout(() => fire(this));
  }
}

export interface LlCounters extends Record<string, number> {
  /** Frames given up: hold queue full, no answer, interface or table gone. */
  hold_overflow: number;
  unresolved: number;
  flushed: number;
  entries: number;
  evicted: number;
  failed: number;
  probes: number;
}

/** What the protocol that owns the table does for it. */
export interface LlProtocol {
  /** Asks for an entry's link address: by broadcast or multicast, or of the neighbour itself. */
  solicit(e: LlEntry, unicast: boolean): void;
  /** Sends a held frame: its Ethernet header lacks only the destination, which is e.mac. */
  release(e: LlEntry, m: Mbuf): void;
}

const BUCKETS = 256;

/** The stack's time; `asleep`: the whole host sleeps, and its time stands still. */
export interface LlClock {
  readonly now: Nanos;
  readonly asleep?: boolean;
}

export class LlTable {
  readonly counters: LlCounters = {
    hold_overflow: 0,
    unresolved: 0,
    flushed: 0,
    entries: 0,
    evicted: 0,
    failed: 0,
    probes: 0,
  };
  readonly parameters: LlParameters;
  readonly #clock: LlClock;
  readonly #callouts: CalloutWheel;
  readonly #pool: MbufPool;
  readonly #protocol: LlProtocol;
  readonly #buckets: (LlEntry | undefined)[] = new Array(BUCKETS).fill(undefined);
  readonly #fire = (e: LlEntry): void => this.#timeout(e);

  constructor(
    clock: LlClock,
    callouts: CalloutWheel,
    pool: MbufPool,
    protocol: LlProtocol,
    parameters: Partial<LlParameters> = {},
  ) {
    this.#clock = clock;
    this.#callouts = callouts;
    this.#pool = pool;
    this.#protocol = protocol;
    this.parameters = { ...LL_DEFAULTS, ...parameters };
  }

  lookup(ifp: Ifnet, addr: InAddr): LlEntry | undefined {
    let e = this.#buckets[addr.hash() & (BUCKETS - 1)];
    while (e !== undefined && !(e.ifp === ifp && e.addr.equals(addr))) e = e.chain;
    return e;
  }

  /**
   * The data path: the neighbour's entry when its link address may be used now; undefined when `m` (a frame without
   * destination address) was taken to be held, or dropped because the neighbour does not answer.
   */
  resolve(ifp: Ifnet, addr: InAddr, m: Mbuf): LlEntry | undefined {
    const e = this.lookup(ifp, addr) ?? this.#create(ifp, addr);
    e.used = this.#clock.now;
    switch (e.state) {
      case 'stale':
        // RFC 4861 §7.3.3: use it, and check it unless somebody confirms it soon.
        e.state = 'delay';
        this.#callouts.reset(e.timer, e.slept ? this.parameters.retrans : this.parameters.delay);
        e.slept = false;
        return e;
      case 'reachable':
      case 'delay':
      case 'probe':
        return e;
      case 'failed':
        this.#pool.freem(m);
        this.counters.unresolved++;
        return undefined;
      case 'incomplete':
        this.#hold(e, m);
        if (e.asked === 0) this.#ask(e, false);
        return undefined;
    }
  }

  /**
   * Learns or confirms an address. `create` makes an entry that was not there; `confirmed` says that the neighbour
   * answered us (reachable) rather than that we overheard it (stale, RFC 4861 §7.2.3). `override` false keeps a different
   * address that is known already, and makes it stale (§7.2.5). Sends what was held.
   */
  learn(ifp: Ifnet, addr: InAddr, mac: Uint8Array, create: boolean, confirmed: boolean, override = true): void {
    let e = this.lookup(ifp, addr);
    if (e === undefined) {
      if (!create) return;
      e = this.#create(ifp, addr);
    }
    const known = e.state !== 'incomplete' && e.state !== 'failed';
    const differs = !sameMac(e.mac, mac);
    if (known && differs && !override) {
      if (e.state === 'reachable') this.#become(e, 'stale');
      return;
    }
    e.mac.set(mac);
    e.asked = 0;
    if (confirmed) this.#become(e, 'reachable');
    else if (!known || differs) this.#become(e, 'stale');
    let m = e.head;
    e.head = e.tail = M_NULL;
    e.held = 0;
    while (m !== M_NULL) {
      const next = this.#pool.nextpkt[m]!;
      this.#pool.nextpkt[m] = M_NULL;
      this.#protocol.release(e, m);
      m = next;
    }
  }

  /** An upper layer saw the neighbour answer (RFC 4861 §7.3.1): spares the probe. */
  confirm(ifp: Ifnet, addr: InAddr): void {
    const e = this.lookup(ifp, addr);
    if (e !== undefined && e.state !== 'incomplete' && e.state !== 'failed') this.#become(e, 'reachable');
  }

  /** Asks again at once for what an interface still waits to hear: the question was one that not everybody answers. */
  askAgain(ifp: Ifnet): void {
    for (const e of this.list()) if (e.ifp === ifp && e.state === 'incomplete') this.#ask(e, false);
  }

  /** True when a neighbour's link address is known. */
  knows(ifp: Ifnet, addr: InAddr): boolean {
    const e = this.lookup(ifp, addr);
    return e !== undefined && e.state !== 'incomplete' && e.state !== 'failed';
  }

  /**
   * Forgets the neighbours of an interface (all when undefined); held frames are freed. An interface that is up and goes
   * because the host sleeps keeps the link addresses it knows, stale (RFC 4861 §7.3.2): on waking they are used at once, and
   * checked when the first round trips are over.
   */
  flush(ifp?: Ifnet): void {
    const keep = ifp !== undefined && this.#clock.asleep === true && (ifp.flags & IFF_UP) !== 0;
    for (const e of this.list()) {
      if (ifp !== undefined && e.ifp !== ifp) continue;
      if (keep && e.state !== 'incomplete' && e.state !== 'failed') {
        this.#become(e, 'stale');
        e.slept = true;
      } else this.#delete(e);
    }
  }

  /** Snapshot for `nke arp` and tests. */
  list(): LlEntry[] {
    const out: LlEntry[] = [];
    for (let e of this.#buckets) for (; e !== undefined; e = e.chain) out.push(e);
    return out;
  }

  #become(e: LlEntry, state: 'reachable' | 'stale'): void {
    e.state = state;
    e.asked = 0;
    e.slept = false;
    this.#callouts.reset(e.timer, state === 'reachable' ? this.parameters.reachable : this.parameters.idle);
  }

  #hold(e: LlEntry, m: Mbuf): void {
    if (e.held >= this.parameters.hold) {
      const oldest = e.head;
      e.head = this.#pool.nextpkt[oldest]!;
      if (e.head === M_NULL) e.tail = M_NULL;
      this.#pool.freem(oldest);
      this.counters.hold_overflow++;
      e.held--;
    }
    this.#pool.nextpkt[m] = M_NULL;
    if (e.tail === M_NULL) e.head = m;
    else this.#pool.nextpkt[e.tail] = m;
    e.tail = m;
    e.held++;
  }

  #drop(e: LlEntry): number {
    let n = 0;
    for (let m = e.head; m !== M_NULL; n++) {
      const next = this.#pool.nextpkt[m]!;
      this.#pool.freem(m);
      m = next;
    }
    e.head = e.tail = M_NULL;
    e.held = 0;
    return n;
  }

  #ask(e: LlEntry, unicast: boolean): void {
    e.asked++;
    if (unicast) this.counters.probes++;
    this.#callouts.reset(e.timer, this.parameters.retrans);
    this.#protocol.solicit(e, unicast);
  }

  #timeout(e: LlEntry) {
    switch (e.state) {
      case 'incomplete':
        if (e.asked < this.parameters.solicits) return this.#ask(e, false);
        this.counters.unresolved += this.#drop(e);
        this.counters.failed++;
        e.state = 'failed';
        this.#callouts.reset(e.timer, this.parameters.negative);
        return;
      case 'reachable':
        return this.#become(e, 'stale');
      case 'delay':
      case 'probe':
        if (e.asked >= this.parameters.solicits) {
          this.counters.failed++;
          return this.#delete(e);
        }
        e.state = 'probe';
        return this.#ask(e, true);
      case 'stale':
      case 'failed':
        return this.#delete(e);
    }
  }

  #create(ifp: Ifnet, addr: InAddr): LlEntry {
    if (this.counters.entries >= this.parameters.entries) {
      const oldest = this.list().reduce((a, b) => (b.used < a.used ? b : a));
      this.#delete(oldest);
      this.counters.evicted++;
    }
    const e = new LlEntry(ifp, addr, this.#fire);
    const i = addr.hash() & (BUCKETS - 1);
    e.used = this.#clock.now;
    e.chain = this.#buckets[i];
    this.#buckets[i] = e;
    this.counters.entries++;
    return e;
  }

  #delete(e: LlEntry): void {
    this.#callouts.stop(e.timer);
    this.counters.flushed += this.#drop(e);
    const i = e.addr.hash() & (BUCKETS - 1);
    if (this.#buckets[i] === e) this.#buckets[i] = e.chain;
    else {
      let p = this.#buckets[i];
      while (p !== undefined && p.chain !== e) p = p.chain;
      if (p !== undefined) p.chain = e.chain;
    }
    e.chain = undefined;
    this.counters.entries--;
  }
}

function sameMac(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < ETHER_ADDR_LEN; i++) if (a[i] !== b[i]) return false;
  return true;
}
