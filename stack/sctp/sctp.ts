/**
 * One stack's SCTP: tables of endpoints and associations, the entry points for packets, the end of a batch. What FreeBSD
 * keeps in its base info. Everything else in this folder is procedures over it.
 */

import { Callout } from '../kern/callout.js';
import { SEC } from '../kern/clock.js';
import type { Mbuf } from '../kern/mbuf.js';
import type { CtlInput, IpInfo } from '../kern/protosw.js';
import { Worklist } from '../kern/worklist.js';
import type { InAddr } from '../netinet/in.js';
import type { Stack } from '../stack.js';
import type { Notification, Reason } from './api.js';
import type { Association, AssocTimers } from './association.js';
import { ChunkTable } from './chunks.js';
import { CookieJar } from './cookie.js';
import type { Endpoint } from './endpoint.js';
import { handleIcmp } from './icmp.js';
import { beginInput, inputPacket } from './input.js';
import { handleLinkEvent, Wakening } from './links.js';
import { flushAssociation } from './output.js';
import { PacketBuilder } from './packet.js';
import type { Path } from './path.js';
import { reason } from './reasons.js';
import { TsnReceiver } from './receive.js';
import { SackWriter } from './sack.js';
import { COUNTERS, type CounterName, DROP_SECTIONS, newStats, type SctpStats } from './stats.js';
import { takeSteered } from './steer.js';
import { timersOf } from './timers.js';
import { defaultTunables, type Tunables } from './tunables.js';
import { type Vtag, vtag } from './types.js';

/** CRC32c of n bytes (RFC 9260 appendix A), as an unsigned number; the stack's own is used when none is given. */
export type Crc32c = (u8: Uint8Array, off: number, n: number) => number;

export class Sctp {
  readonly stack: Stack;
  readonly chunks: ChunkTable;
  readonly tunables: Tunables;
  readonly stats: SctpStats = newStats();
  readonly crc32c: Crc32c;
  readonly cookies: CookieJar;
  readonly builder: PacketBuilder;
  readonly receiver: TsnReceiver;
  readonly sacks: SackWriter;
  readonly timers: AssocTimers;

  readonly endpoints = new Set<Endpoint>();
  readonly #ports = new Map<number, PortUse>();
  /** By our tag as a signed number: an unsigned one above 2^31 would be an object each time it is looked up. */
  readonly #tags = new Map<number, Association>();
  /** Paths by hash of (peer address, ports), chained by nextPeer. */
  readonly #peers = new Map<number, Path>();
  /** Tags that must not be used again yet; in the order in which they may, with the time. */
  readonly #timeWait = new Set<number>();
  readonly #waits = new TagWaits();
  readonly #timeWaitTimer = new Callout(() => this.#reap());
  /** Associations whose output is due, endpoints whose users are to be called. */
  readonly #dirty = new Worklist<Association>();
  readonly #woken = new Worklist<Endpoint>();
  readonly #unsubscribe: () => void;
  readonly wakening: Wakening;
  /**
   * Hook for ASCONF (RFC 5061 §5.1): an address that the association may use has become ours, or is no more. Called once for
   * each association and address, after the paths have chosen their sources anew and links are judged, so that a chunk which
   * is queued by it leaves from an address that is still there. Nobody tells the peer as long as it is not set.
   */
  onLocalAddress: ((a: Association, addr: InAddr, added: boolean) => void) | undefined;
  /** Per kind of drop: when it was last told to the event stream, and how many have come since. */
  readonly #drops = new Map<CounterName, { told: number; since: number }>();
  /** The addresses listed to a peer last: what listAddresses shares. */
  listed: readonly InAddr[] = [];
  /** UDP port the tunnel is registered on now (RFC 6951), 0 = none. */
  tunnelPort = 0;
  /** While a packet is processed that other queues of this host passed here: a bit for each of them (steer.ts). */
  steered = 0;

  constructor(stack: Stack, crc32c: Crc32c, tunables: Tunables = defaultTunables()) {
    this.stack = stack;
    this.crc32c = crc32c;
    this.tunables = tunables;
    this.chunks = new ChunkTable(stack.pool);
    this.cookies = new CookieJar(stack.clock, stack.random, tunables);
    this.builder = new PacketBuilder(this);
    this.receiver = new TsnReceiver(this);
    this.sacks = new SackWriter(this);
    this.timers = timersOf(this);
    this.wakening = new Wakening(this);
    this.#unsubscribe = stack.events.subscribe(e => handleLinkEvent(this, e));
    if (stack.steering !== undefined) takeSteered(this, stack.steering);
  }

  get now(): number {
    return this.stack.clock.now;
  }

  /** A packet from IP, or a train of them (IP header stripped). Takes ownership. */
  readonly input = (m: Mbuf, info: IpInfo): void => {
    const pool = this.stack.pool;
    m = pool.pullup(m);
    if (m === 0) {
      this.drop('sctps_datadropnobuf');
      return;
    }
    const segsz = pool.segsz[m]!;
    const total = pool.pktlen[m]!;
    const off = pool.off[m]!;
    this.trainPackets = segsz === 0 ? 1 : Math.ceil(total / segsz);
    beginInput(info, pool.csum[m]!);
    if (segsz === 0) inputPacket(this, off, total);
    else for (let at = 0; at < total; at += segsz) inputPacket(this, off + at, Math.min(segsz, total - at));
    pool.freem(m);
  };

  /** Packets that came together as one train with the packet being processed; 1 = it came alone. */
  trainPackets = 1;

  readonly ctlinput = (c: CtlInput): void => handleIcmp(this, c);

  /** End of a batch: sends what is due and calls the users whose sockets changed. */
  readonly flush = (): void => {
    // A user's upcall may send again: two rounds now, the rest with the next turn.
    for (let round = 0; round < 2 && !(this.#dirty.empty && this.#woken.empty); round++) {
      this.#dirty.begin();
      for (let a = this.#dirty.next(); a !== undefined; a = this.#dirty.next()) {
        a.dirty = false;
        if (!a.dead) flushAssociation(this, a);
      }
      this.builder.flush();
      this.#countBytes();
      this.#woken.begin();
      for (let ep = this.#woken.next(); ep !== undefined; ep = this.#woken.next()) {
        ep.woken = false;
        const so = ep.so;
        if (so?.upcall !== undefined) so.upcall(so);
      }
    }
    if (!this.#dirty.empty || !this.#woken.empty) this.stack.kick();
  };

  /** Bytes of user data since the last flush: the counters have them once a batch, before any user is called. */
  bytesIn = 0;
  bytesOut = 0;
  #countBytes(): void {
    this.stats.sctps_inbytes += this.bytesIn;
    this.stats.sctps_outbytes += this.bytesOut;
    this.bytesIn = this.bytesOut = 0;
  }

  /** The association's output is to be looked at before the batch ends. */
  markDirty(a: Association): void {
    if (a.dirty) return;
    a.dirty = true;
    this.#dirty.push(a);
  }
  /** The endpoint's user is to be called before the batch ends. */
  wake(ep: Endpoint): void {
    if (ep.woken) return;
    ep.woken = true;
    this.#woken.push(ep);
  }

  // Endpoints and ports.

  /** Endpoints bound to a port: those that take INITs or may. Heirs of listeners have one association, and are found by it. */
  onPort(port: number): readonly Endpoint[] {
    return this.#ports.get(port)?.bound ?? NONE;
  }
  /** True when any endpoint has the port, heirs included. */
  portInUse(port: number): boolean {
    return this.#ports.has(port);
  }
  addPort(ep: Endpoint): void {
    let use = this.#ports.get(ep.port);
    if (use === undefined) this.#ports.set(ep.port, (use = { bound: [], heirs: 0 }));
    if (ep.isHeir) use.heirs++;
    else use.bound.push(ep);
  }
  removePort(ep: Endpoint): void {
    const use = this.#ports.get(ep.port);
    if (use === undefined) return;
    if (ep.isHeir) use.heirs--;
    else {
      const i = use.bound.indexOf(ep);
      if (i >= 0) use.bound.splice(i, 1);
    }
    if (use.bound.length === 0 && use.heirs === 0) this.#ports.delete(ep.port);
  }
  /** The endpoint that takes an INIT to this address and port. */
  listenerFor(dst: InAddr, port: number): Endpoint | undefined {
    let found: Endpoint | undefined;
    for (const ep of this.onPort(port)) {
      if (!ep.listening || ep.gone || !ep.accepts(dst)) continue;
      if (ep.addresses.length > 0) return ep; // bound to the very address: better than any
      found ??= ep;
    }
    return found;
  }

  // Associations.

  addAssociation(a: Association): void {
    this.#tags.set(a.myTag | 0, a);
    a.endpoint.addAssociation(a);
  }
  /** Gives an association another tag of ours (restart, collision). */
  retag(a: Association, tag: Vtag): void {
    if (this.#tags.get(a.myTag | 0) === a) this.#tags.delete(a.myTag | 0);
    a.myTag = tag;
    this.#tags.set(tag | 0, a);
  }
  addPeer(p: Path): void {
    const key = peerKey(p.addr, p.asoc.localPort, p.asoc.peerPort);
    this.stack.steering?.claim(key);
    const first = this.#peers.get(key);
    if (first === undefined) this.#peers.set(key, p);
    else {
      p.nextPeer = first.nextPeer;
      first.nextPeer = p;
    }
  }
  removePeer(p: Path): void {
    const key = peerKey(p.addr, p.asoc.localPort, p.asoc.peerPort);
    const first = this.#peers.get(key);
    this.stack.steering?.release(key);
    if (first === p) {
      if (p.nextPeer === undefined) this.#peers.delete(key);
      else this.#peers.set(key, p.nextPeer);
    } else {
      let before = first;
      while (before !== undefined && before.nextPeer !== p) before = before.nextPeer;
      if (before !== undefined) before.nextPeer = p.nextPeer;
    }
    p.nextPeer = undefined;
  }
  removeAssociation(a: Association): void {
    if (this.#tags.get(a.myTag | 0) === a) this.#tags.delete(a.myTag | 0);
    for (const p of a.paths) this.removePeer(p);
    a.endpoint.removeAssociation(a);
    if (a.peerTag !== 0) this.#holdTag(a.myTag);
  }
  byTag(tag: number): Association | undefined {
    return this.#tags.get(tag | 0);
  }
  /** The path of an association by the peer's address and both ports; `dst` is our address, which its endpoint must own. */
  byAddress(src: InAddr, dst: InAddr, localPort: number, peerPort: number): Path | undefined {
    let p = this.#peers.get(peerKey(src, localPort, peerPort));
    for (; p !== undefined; p = p.nextPeer) {
      const a = p.asoc;
      if (a.localPort === localPort && a.peerPort === peerPort && p.addr.equals(src) && a.endpoint.accepts(dst))
        return p;
    }
    return undefined;
  }
  /** The path of an endpoint's own association with a peer at `addr` and `peerPort`. */
  pathTo(ep: Endpoint, addr: InAddr, peerPort: number): Path | undefined {
    let p = this.#peers.get(peerKey(addr, ep.port, peerPort));
    for (; p !== undefined; p = p.nextPeer)
      if (p.asoc.endpoint === ep && p.asoc.peerPort === peerPort && p.addr.equals(addr)) return p;
    return undefined;
  }
  *associations(): IterableIterator<Association> {
    yield* this.#tags.values();
  }
  get associationCount(): number {
    return this.#tags.size;
  }

  /** A fresh tag: random, not 0, not in use, not in time-wait (RFC 9260 §5.3.1); with several queues one that leads here. */
  newTag(): Vtag {
    const st = this.stack.steering;
    for (;;) {
      const t = this.stack.random.u32() >>> 0;
      if (st !== undefined && t % st.queues !== st.queue) continue;
      if (t !== 0 && !this.#tags.has(t | 0) && !this.#timeWait.has(t)) return vtag(t);
    }
  }
  /** True while a tag of ours must not be used again: its association has ended a short while ago. */
  inTimeWait(tag: number): boolean {
    return this.#timeWait.has(tag);
  }
  #holdTag(tag: number): void {
    const wait = this.tunables.vtag_time_wait;
    if (wait === 0) return;
    if (this.#waits.full) this.#timeWait.delete(this.#waits.shift());
    this.#timeWait.add(tag);
    this.#waits.push(tag, this.now + wait * SEC);
    if (!this.#timeWaitTimer.pending) this.stack.callouts.reset(this.#timeWaitTimer, wait * SEC);
  }
  #reap(): void {
    while (this.#waits.count > 0) {
      const left = this.#waits.until - this.now;
      if (left > 0) {
        this.stack.callouts.reset(this.#timeWaitTimer, left);
        return;
      }
      this.#timeWait.delete(this.#waits.shift());
    }
  }

  // Reports.

  /** Tells the user of an endpoint, if subscribed. */
  notify(ep: Endpoint, n: Notification): void {
    const lost = ep.droppedNotifications;
    if (ep.notify(n, this.chunks)) this.wake(ep);
    else if (ep.droppedNotifications !== lost) this.drop('sctps_notedropped');
  }
  /**
   * Counts a drop and tells the event stream why, with its section: the first of each kind in a second, with the number
   * that came since the last one told, so that a flood does not drown everything else.
   */
  drop(counter: CounterName, a?: Association): void {
    this.stats[counter]++;
    let d = this.#drops.get(counter);
    if (d === undefined) this.#drops.set(counter, (d = { told: Number.NEGATIVE_INFINITY, since: 0 }));
    d.since++;
    if (this.now - d.told < SEC) return;
    const count = d.since;
    d.told = this.now;
    d.since = 0;
    this.report(a, 'drop', reason(COUNTERS[counter], DROP_SECTIONS[counter] ?? ''), { counter, count });
  }
  /** Tells the event stream what happened and why. */
  report(
    a: Association | undefined,
    what: string,
    reason: Reason,
    detail: Record<string, string | number | boolean> = {},
  ): void {
    this.stack.events.emit({
      kind: 'protocol',
      protocol: 'sctp',
      what,
      reason: reason.text,
      section: reason.section,
      detail: a === undefined ? detail : { assoc: a.id, localPort: a.localPort, peerPort: a.peerPort, ...detail },
    });
  }

  /** Lets go of the stack; there must be no endpoint left. */
  finish(): void {
    this.#unsubscribe();
    if (this.stack.steering !== undefined) this.stack.steering.receive = undefined;
    this.wakening.finish();
    this.stack.callouts.stop(this.#timeWaitTimer);
    this.builder.finish();
  }
}

const NONE: readonly Endpoint[] = [];
/** Who has a port: endpoints bound to it, and how many accepted and peeled-off ones. */
interface PortUse {
  readonly bound: Endpoint[];
  heirs: number;
}
const TIME_WAIT_LIMIT = 4096;

/** First in, first out: a Map that is emptied from its front would have to be searched for it. */
class TagWaits {
  readonly #tags = new Uint32Array(TIME_WAIT_LIMIT);
  readonly #untils = new Float64Array(TIME_WAIT_LIMIT);
  #head = 0;
  count = 0;
  get full(): boolean {
    return this.count === TIME_WAIT_LIMIT;
  }
  /** When the first one's time is over. */
  get until(): number {
    return this.#untils[this.#head]!;
  }
  push(tag: number, until: number): void {
    const at = (this.#head + this.count++) % TIME_WAIT_LIMIT;
    this.#tags[at] = tag;
    this.#untils[at] = until;
  }
  shift(): number {
    const tag = this.#tags[this.#head]!;
    this.#head = (this.#head + 1) % TIME_WAIT_LIMIT;
    this.count--;
    return tag;
  }
}

/** The key of a path in tables: a hash of the peer's address and both ports. */
export function peerKey(addr: InAddr, localPort: number, peerPort: number): number {
  return addr.hash() ^ Math.imul((localPort << 16) | peerPort, 0x9e3779b1);
}
