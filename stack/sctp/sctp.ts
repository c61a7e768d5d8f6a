/**
 * One stack's SCTP: tables of endpoints and associations, the entry points for packets, the end of a batch. What FreeBSD
 * keeps in its base info. Everything else in this folder is procedures over it.
 */

import { Callout } from '../kern/callout.js';
import { SEC } from '../kern/clock.js';
import type { Mbuf } from '../kern/mbuf.js';
import type { CtlInput, IpInfo } from '../kern/protosw.js';
import type { InAddr } from '../netinet/in.js';
import type { Stack } from '../stack.js';
import type { Notification, Reason } from './api.js';
import type { Association } from './association.js';
import { ChunkTable } from './chunks.js';
import { CookieJar } from './cookie.js';
import type { Endpoint } from './endpoint.js';
import { handleIcmp } from './icmp.js';
import { inputPacket } from './input.js';
import { handleLinkEvent } from './links.js';
import { flushAssociation } from './output.js';
import { PacketBuilder } from './packet.js';
import type { Path } from './path.js';
import { reason } from './reasons.js';
import { TsnReceiver } from './receive.js';
import { COUNTERS, type CounterName, DROP_SECTIONS, newStats, type SctpStats } from './stats.js';
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

  readonly endpoints = new Set<Endpoint>();
  readonly #ports = new Map<number, Endpoint[]>();
  /** By our tag as a signed number: an unsigned one above 2^31 would be an object each time it is looked up. */
  readonly #tags = new Map<number, Association>();
  /** Paths by hash of (peer address, ports). */
  readonly #peers = new Map<number, Path[]>();
  /** Tags that must not be used again yet, with the time when they may. */
  readonly #timeWait = new Map<number, number>();
  readonly #timeWaitTimer = new Callout(() => this.#reap());
  /** Associations whose output is due, endpoints whose users are to be called. */
  #dirty: Association[] = [];
  #dirtySpare: Association[] = [];
  #woken: Endpoint[] = [];
  #wokenSpare: Endpoint[] = [];
  readonly #unsubscribe: () => void;
  /** Per kind of drop: when it was last told to the event stream, and how many have come since. */
  readonly #drops = new Map<CounterName, { told: number; since: number }>();
  /** UDP port the tunnel is registered on now (RFC 6951), 0 = none. */
  tunnelPort = 0;

  constructor(stack: Stack, crc32c: Crc32c, tunables: Tunables = defaultTunables()) {
    this.stack = stack;
    this.crc32c = crc32c;
    this.tunables = tunables;
    this.chunks = new ChunkTable(stack.pool);
    this.cookies = new CookieJar(stack.clock, stack.random, tunables);
    this.builder = new PacketBuilder(this);
    this.receiver = new TsnReceiver(this);
    this.#unsubscribe = stack.events.subscribe(e => handleLinkEvent(this, e));
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
    if (segsz === 0) inputPacket(this, m, off, total, info);
    else for (let at = 0; at < total; at += segsz) inputPacket(this, m, off + at, Math.min(segsz, total - at), info);
    pool.freem(m);
  };

  readonly ctlinput = (c: CtlInput): void => handleIcmp(this, c);

  /** End of a batch: sends what is due and calls the users whose sockets changed. */
  readonly flush = (): void => {
    // A user's upcall may send again: two rounds now, the rest with the next turn.
    for (let round = 0; round < 2 && (this.#dirty.length > 0 || this.#woken.length > 0); round++) {
      const dirty = this.#dirty;
      this.#dirty = this.#dirtySpare;
      this.#dirtySpare = dirty;
      for (let i = 0; i < dirty.length; i++) {
        const a = dirty[i]!;
        a.dirty = false;
        if (!a.dead) flushAssociation(this, a);
      }
      dirty.length = 0;
      this.builder.flush();
      const woken = this.#woken;
      this.#woken = this.#wokenSpare;
      this.#wokenSpare = woken;
      for (let i = 0; i < woken.length; i++) {
        const ep = woken[i]!;
        ep.woken = false;
        const so = ep.so;
        if (so?.upcall !== undefined) so.upcall(so);
      }
      woken.length = 0;
    }
    if (this.#dirty.length > 0 || this.#woken.length > 0) this.stack.kick();
  };

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

  /** Endpoints on a port. */
  onPort(port: number): readonly Endpoint[] {
    return this.#ports.get(port) ?? NONE;
  }
  addPort(ep: Endpoint): void {
    const list = this.#ports.get(ep.port);
    if (list === undefined) this.#ports.set(ep.port, [ep]);
    else list.push(ep);
  }
  removePort(ep: Endpoint): void {
    const list = this.#ports.get(ep.port);
    if (list === undefined) return;
    const i = list.indexOf(ep);
    if (i >= 0) list.splice(i, 1);
    if (list.length === 0) this.#ports.delete(ep.port);
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
    a.endpoint.asocs.set(a.id, a);
  }
  /** Gives an association another tag of ours (restart, collision). */
  retag(a: Association, tag: Vtag): void {
    if (this.#tags.get(a.myTag | 0) === a) this.#tags.delete(a.myTag | 0);
    a.myTag = tag;
    this.#tags.set(tag | 0, a);
  }
  addPeer(p: Path): void {
    const key = peerKey(p.addr, p.asoc.localPort, p.asoc.peerPort);
    const list = this.#peers.get(key);
    if (list === undefined) this.#peers.set(key, [p]);
    else list.push(p);
  }
  removePeer(p: Path): void {
    const key = peerKey(p.addr, p.asoc.localPort, p.asoc.peerPort);
    const list = this.#peers.get(key);
    if (list === undefined) return;
    const i = list.indexOf(p);
    if (i >= 0) list.splice(i, 1);
    if (list.length === 0) this.#peers.delete(key);
  }
  removeAssociation(a: Association): void {
    if (this.#tags.get(a.myTag | 0) === a) this.#tags.delete(a.myTag | 0);
    for (const p of a.paths) this.removePeer(p);
    a.endpoint.asocs.delete(a.id);
    if (a.peerTag !== 0) this.#holdTag(a.myTag);
  }
  byTag(tag: number): Association | undefined {
    return this.#tags.get(tag | 0);
  }
  /** The path of an association by the peer's address and both ports; `dst` is our address, which its endpoint must own. */
  byAddress(src: InAddr, dst: InAddr, localPort: number, peerPort: number): Path | undefined {
    const list = this.#peers.get(peerKey(src, localPort, peerPort));
    if (list === undefined) return undefined;
    for (let i = 0; i < list.length; i++) {
      const p = list[i]!;
      const a = p.asoc;
      if (a.localPort === localPort && a.peerPort === peerPort && p.addr.equals(src) && a.endpoint.accepts(dst))
        return p;
    }
    return undefined;
  }
  *associations(): IterableIterator<Association> {
    yield* this.#tags.values();
  }
  get associationCount(): number {
    return this.#tags.size;
  }

  /** A fresh tag: random, not 0, not in use, not in time-wait (RFC 9260 §5.3.1). */
  newTag(): Vtag {
    for (;;) {
      const t = this.stack.random.u32() >>> 0;
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
    if (this.#timeWait.size >= TIME_WAIT_LIMIT) {
      for (const oldest of this.#timeWait.keys()) {
        this.#timeWait.delete(oldest);
        break;
      }
    }
    this.#timeWait.set(tag, this.now + wait * SEC);
    if (!this.#timeWaitTimer.pending) this.stack.callouts.reset(this.#timeWaitTimer, wait * SEC);
  }
  #reap(): void {
    for (const [tag, until] of this.#timeWait) {
      if (until > this.now) {
        this.stack.callouts.reset(this.#timeWaitTimer, until - this.now);
        return;
      }
      this.#timeWait.delete(tag);
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
    this.stack.callouts.stop(this.#timeWaitTimer);
    this.builder.finish();
  }
}

const NONE: readonly Endpoint[] = [];
const TIME_WAIT_LIMIT = 4096;

function peerKey(addr: InAddr, localPort: number, peerPort: number): number {
  return addr.hash() ^ Math.imul((localPort << 16) | peerPort, 0x9e3779b1);
}
