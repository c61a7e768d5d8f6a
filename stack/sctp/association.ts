/**
 * An association: the transmission control block of RFC 9260 §14, cut by owner: set-up, sender, receiver, life cycle.
 * Only state and what keeps it consistent lives here; procedures are in files of their own.
 */

import { Callout, type CalloutWheel } from '../kern/callout.js';
import type { Mbuf } from '../kern/mbuf.js';
import type { SendInfo } from '../kern/socket.js';
import type { InAddr } from '../netinet/in.js';
import type { EventName, Reason, StateName } from './api.js';
import { ChunkQueue } from './chunks.js';
import type { CongestionControl } from './congestion.js';
import { TSN_MAP_BITS } from './constants.js';
import type { Endpoint } from './endpoint.js';
import type { Path } from './path.js';
import type { StreamScheduler } from './streams.js';
import { OutStreams } from './streams.js';
import type { AssocId, Tsn, Vtag } from './types.js';

/** A control chunk waiting to be bundled: its bytes, and the path it must take (undefined: the primary one). */
export interface ControlChunk {
  readonly bytes: Uint8Array;
  readonly path: Path | undefined;
}

/** What only an association being set up has, RFC 9260 §5.1. */
export type Setup =
  | {
      readonly kind: 'cookie-wait';
      tries: number;
      preservative: number;
      timeoutNs: number;
      path: Path;
      /** The INIT has not gone out yet (SCTP_CONNECT_X_DELAYED). */
      delayed?: boolean;
    }
  | {
      readonly kind: 'cookie-echoed';
      tries: number;
      staleTries: number;
      timeoutNs: number;
      path: Path;
      readonly cookie: Uint8Array;
      sentAt: number;
      sendCookie: boolean;
    };

/** Inbound ordered delivery of one stream: next SSN, and complete messages held back, in SSN order by nextpkt. */
export class InStream {
  nextSsn = 0;
  held: Mbuf = 0;
  heldCount = 0;
}

/** Timers of an association and its paths, one table for a stack: each a procedure in timers.ts or paths.ts. */
export interface AssocTimers {
  readonly t1: (a: Association) => void;
  readonly t2: (a: Association) => void;
  readonly guard: (a: Association) => void;
  readonly sack: (a: Association) => void;
  readonly autoclose: (a: Association) => void;
  readonly t3: (p: Path) => void;
  readonly hb: (p: Path) => void;
  readonly pmtuRaise: (p: Path) => void;
}

/** Time-outs that an association has had (SCTP_TIMEOUTS). */
export interface TimeoutCounts {
  init: number;
  data: number;
  sack: number;
  shutdown: number;
  heartbeat: number;
  cookie: number;
  shutdownAck: number;
}

// What an association begins with instead of empty tables of its own: nothing is ever put into these.
const NO_MAP = new Uint8Array(0);
const NO_RING = new Int32Array(0);
const NO_STREAMS: undefined[] = [];
const NO_PATHS: readonly Path[] = Object.freeze([]);
const NO_ADDRESSES: readonly InAddr[] = Object.freeze([]);
/** Sizes that tables begin with, powers of two. */
const MIN_RING = 16;
const MIN_MAP = 64;
const MIN_FRAGMENTS = 64;
const MIN_STREAMS = 4;

/** Most control chunks that may wait; a peer cannot make us queue more. */
export const CONTROL_LIMIT = 64;

export class Association {
  endpoint: Endpoint;
  readonly id: AssocId;
  state: StateName = 'CLOSED';
  setup: Setup | undefined;
  readonly localPort: number;
  readonly peerPort: number;
  myTag: Vtag;
  peerTag: Vtag = 0 as Vtag;
  /** Tie-tags, §5.2.2. */
  tieLocal = 0;
  tiePeer = 0;
  /** Who began: 'active' sent the INIT. For counters and reports. */
  role: 'active' | 'passive' = 'active';

  // Parameters, ms, taken from the endpoint.
  rtoInitial: number;
  rtoMin: number;
  rtoMax: number;
  cookieLife: number;
  maxInitTries: number;
  maxInitTimeo: number;
  maxRxt: number;
  pathMaxRxt: number;
  hbInterval: number;
  sackDelay: number;
  sackFreq: number;
  maxBurst: number;
  nodelay: boolean;
  autoclose: number; // seconds
  ecnWanted: boolean;
  /** Both sides have it. */
  ecn = false;
  /** Largest payload of one DATA chunk, set by the user (0 = path MTU alone). */
  maxseg: number;
  tos: number;
  maxCwnd: number;
  pfThreshold: number;
  flowLabel: number;
  /** Inbound streams that we take. */
  maxInStreams: number;

  // The user's.
  /** Shared with the endpoint and other associations until it is changed: never written, but replaced. */
  subscribed: ReadonlySet<EventName>;
  defaultSend: Readonly<SendInfo>;
  context: number;
  #timeouts: TimeoutCounts | undefined = undefined;

  // Paths.
  paths: readonly Path[] = NO_PATHS;
  primary!: Path;
  /** Where new data goes now: the primary, or an alternate while that is not usable. */
  current!: Path;
  errors = 0;
  /** HEARTBEATs to unconfirmed paths in the round that began then: at most HB.Max.Burst (§5.4). */
  probes = 0;
  probesSince = Number.NEGATIVE_INFINITY;
  /** Addresses we told the peer; undefined: whatever the packet leaves with. */
  localAddresses: readonly InAddr[] = NO_ADDRESSES;

  // Sender.
  initialTsn: Tsn;
  nextTsn: Tsn;
  /** Highest cumulative TSN that the peer has acknowledged. */
  cumAcked: Tsn;
  /** Outstanding chunks, by TSN & mask: mbufs from cumAcked+1 to nextTsn-1. Made for the first one, let go when idle. */
  ring: Int32Array = NO_RING;
  ringMask = 0;
  /** Bytes in flight over all paths, and chunks. */
  flight = 0;
  flightChunks = 0;
  /** Chunks to be retransmitted. */
  resend = 0;
  /** No chunk below this TSN is marked for retransmission. */
  resendFrom: Tsn;
  highestAcked: Tsn;
  peerRwnd = 0;
  /** The a_rwnd of the last SACK as it stood in it. */
  peerArwnd = 0;
  /** True while a zero-window probe is in flight. */
  probing = false;
  readonly out: OutStreams;
  scheduler: StreamScheduler;
  cc: CongestionControl;
  /** Bytes of user data queued: not yet sent, and sent but not acknowledged. */
  queuedBytes = 0;
  queuedChunks = 0;
  /** Packets that may still be sent before the next batch of input (Max.Burst, §6.1 D). */
  burst = 0;
  /** A SACK has come since the last output. */
  sacked = false;
  /** Control chunks to send, in order. */
  readonly control: ControlChunk[] = [];
  /** The CWR to send, and the lowest TSN of an ECNE to send. */
  cwrTsn = 0;
  cwrDue = false;
  ecneTsn = 0;
  ecneDue = false;
  fastRetransmitDue = false;
  /** T3 has just expired: one packet goes now, the rest as SACKs come (§6.3.3 E3). */
  timedOut = false;
  /** COOKIE ACK is due, to this path; it goes before everything else (§5.1 D). */
  cookieAckPath: Path | undefined;
  dryReported = true;

  // Receiver.
  peerInitialTsn: Tsn = 0 as Tsn;
  cumTsn: Tsn = 0 as Tsn;
  highestTsn: Tsn = 0 as Tsn;
  /**
   * One byte per TSN beyond cumTsn, by TSN & tsnMask; all zero while there is no gap. Made for the first gap, doubled for
   * wider ones up to TSN_MAP_BITS, let go when idle.
   */
  tsnMap: Uint8Array = NO_MAP;
  tsnMask = 0;
  readonly dups: number[] = [];
  sackDue = false;
  /** The host has woken from sleep: no data goes out before a path has answered (links.ts). */
  wakening = false;
  /** Lowest TSN in the packet being processed, for ECNE (RFC 4960 appendix A). */
  packetTsn = 0;
  packetHasTsn = false;
  /** Packets with DATA since the last SACK. */
  packetsSinceSack = 0;
  /** A gap was there when the last SACK was sent. */
  hadGap = false;
  firstData = true;
  /** Where the last DATA came from: SACKs go back there (§6.4). */
  lastFrom: Path | undefined;
  /** As many as have been used, at least: see inStream. */
  inStreams: (InStream | undefined)[] = NO_STREAMS;
  inStreamCount = 0;
  outStreamCount: number;
  /** Fragments of incomplete messages, by TSN & fragmentMask; made, doubled and let go like tsnMap. */
  fragments: Int32Array = NO_RING;
  fragmentMask = 0;
  /** Bytes held back: fragments and messages out of order; and chunks. */
  heldBytes = 0;
  heldChunks = 0;
  /** Bytes of this association in the socket's receive queue. */
  deliveredBytes = 0;
  /** Partial delivery in progress: the message's first mbuf in the receive queue, and the next TSN of it. */
  pdHead: Mbuf = 0;
  pdNext: Tsn = 0 as Tsn;
  pdActive = false;
  pdSid = 0;
  pdOrdered = false;
  /** Complete messages that wait for the partial delivery to end. */
  readonly waiting = new ChunkQueue();
  /** The window last told to the peer. */
  toldRwnd = 0;
  /** Receive buffer tuning: bytes read in this round, and when the round began. */
  tuneBytes = 0;
  tuneStart = 0;

  // Life cycle.
  /** The peer's SHUTDOWN has come, or ours is to go out once all is acknowledged. */
  closing = false;
  lastActive = 0;
  /** Why it ended; set once. */
  reason: Reason | undefined;
  dead = false;
  /** In the list of associations whose output is due. */
  dirty = false;

  // Timers are made when first asked for: an idle association has none but its heartbeats.
  readonly #timers: AssocTimers;
  #t1: Callout | undefined = undefined;
  #t2: Callout | undefined = undefined;
  #guard: Callout | undefined = undefined;
  #sackTimer: Callout | undefined = undefined;
  #autocloseTimer: Callout | undefined = undefined;
  /** Where the last SHUTDOWN or SHUTDOWN ACK went. */
  shutdownPath: Path | undefined;
  /** SHUTDOWN is to be sent again: DATA came after it (§9.2). */
  shutdownAgain = false;

  constructor(
    ep: Endpoint,
    id: AssocId,
    localPort: number,
    peerPort: number,
    tag: Vtag,
    initialTsn: Tsn,
    cc: CongestionControl,
    scheduler: StreamScheduler,
    timers: AssocTimers,
  ) {
    this.endpoint = ep;
    this.id = id;
    this.localPort = localPort;
    this.peerPort = peerPort;
    this.myTag = tag;
    const o = ep.options;
    this.rtoInitial = o.rtoInitial;
    this.rtoMin = o.rtoMin;
    this.rtoMax = o.rtoMax;
    this.cookieLife = o.cookieLife;
    this.maxInitTries = o.maxInitTries;
    this.maxInitTimeo = o.maxInitTimeo;
    this.maxRxt = o.maxRxt;
    this.pathMaxRxt = o.pathMaxRxt;
    this.hbInterval = o.hbInterval;
    this.sackDelay = o.sackDelay;
    this.sackFreq = o.sackFreq;
    this.maxBurst = o.maxBurst;
    this.nodelay = o.nodelay;
    this.autoclose = o.autoclose;
    this.ecnWanted = o.ecn;
    this.maxseg = o.maxseg;
    this.tos = o.tos;
    this.maxCwnd = o.maxCwnd;
    this.pfThreshold = o.pfThreshold;
    this.flowLabel = o.flowLabel;
    this.maxInStreams = o.inStreams;
    this.subscribed = ep.subscribed;
    this.defaultSend = ep.defaultSend;
    this.context = o.context;
    this.outStreamCount = o.outStreams;
    this.out = new OutStreams();
    this.initialTsn = initialTsn;
    this.nextTsn = initialTsn;
    this.cumAcked = ((initialTsn - 1) | 0) as Tsn;
    this.highestAcked = this.cumAcked;
    this.resendFrom = initialTsn;
    this.cc = cc;
    this.scheduler = scheduler;
    this.#timers = timers;
  }

  get timers(): AssocTimers {
    return this.#timers;
  }
  /** T1 of set-up (§5.1). */
  get t1(): Callout {
    return (this.#t1 ??= Callout.of(this.#timers.t1, this as Association));
  }
  /** T2 of shutdown (§9.2). */
  get t2(): Callout {
    return (this.#t2 ??= Callout.of(this.#timers.t2, this as Association));
  }
  /** T5, the shutdown guard (§9.2). */
  get guard(): Callout {
    return (this.#guard ??= Callout.of(this.#timers.guard, this as Association));
  }
  /** The delayed SACK (§6.2). */
  get sackTimer(): Callout {
    return (this.#sackTimer ??= Callout.of(this.#timers.sack, this as Association));
  }
  get autocloseTimer(): Callout {
    return (this.#autocloseTimer ??= Callout.of(this.#timers.autoclose, this as Association));
  }
  /** True while the delayed SACK waits. */
  get sackPending(): boolean {
    return this.#sackTimer?.pending === true;
  }
  /** Stops every timer of the association itself; paths have their own. */
  stopTimers(w: CalloutWheel): void {
    if (this.#t1 !== undefined) w.stop(this.#t1);
    if (this.#t2 !== undefined) w.stop(this.#t2);
    if (this.#guard !== undefined) w.stop(this.#guard);
    if (this.#sackTimer !== undefined) w.stop(this.#sackTimer);
    if (this.#autocloseTimer !== undefined) w.stop(this.#autocloseTimer);
  }
  /** Set-up is over: what only it needs goes. */
  endSetup(w: CalloutWheel): void {
    this.setup = undefined;
    if (this.#t1 !== undefined) w.stop(this.#t1);
    this.#t1 = undefined;
  }
  /** Time-outs so far. */
  get timeouts(): TimeoutCounts {
    return (this.#timeouts ??= { init: 0, data: 0, sack: 0, shutdown: 0, heartbeat: 0, cookie: 0, shutdownAck: 0 });
  }

  /** Chunks between the cumulative acknowledgement and the last one sent. */
  get outstanding(): number {
    return (this.nextTsn - this.cumAcked - 1) | 0;
  }
  /** True when data may be exchanged (the sender's view). */
  get canSendData(): boolean {
    return (
      this.state === 'ESTABLISHED' ||
      this.state === 'SHUTDOWN_PENDING' ||
      this.state === 'SHUTDOWN_RECEIVED' ||
      this.state === 'COOKIE_ECHOED'
    );
  }
  get established(): boolean {
    return this.state !== 'CLOSED' && this.state !== 'COOKIE_WAIT' && this.state !== 'COOKIE_ECHOED';
  }
  get hasGap(): boolean {
    return this.highestTsn !== this.cumTsn;
  }

  /** Prepares for receiving: the peer's first TSN and our streams are known. */
  startReceiving(peerInitial: Tsn, inStreams: number): void {
    this.peerInitialTsn = peerInitial;
    this.cumTsn = ((peerInitial - 1) | 0) as Tsn;
    this.highestTsn = this.cumTsn;
    this.tsnMap.fill(0);
    this.inStreams = NO_STREAMS;
    this.inStreamCount = inStreams;
  }

  /** The state of an inbound stream below inStreamCount: the table grows by doubling to the highest one used. */
  inStream(sid: number): InStream {
    if (sid >= this.inStreams.length) {
      let size = Math.max(this.inStreams.length, MIN_STREAMS);
      while (size <= sid) size *= 2;
      const bigger: (InStream | undefined)[] = new Array(Math.min(size, this.inStreamCount)).fill(undefined);
      for (let i = 0; i < this.inStreams.length; i++) bigger[i] = this.inStreams[i];
      this.inStreams = bigger;
    }
    return (this.inStreams[sid] ??= new InStream());
  }

  /** The TSN map has room for TSN t, which lies beyond cumTsn by less than TSN_MAP_BITS. */
  growMap(t: number): void {
    const old = this.tsnMap;
    const oldMask = this.tsnMask;
    let size = Math.max(old.length, MIN_MAP);
    while (size <= ((t - this.cumTsn) | 0)) size *= 2;
    this.tsnMap = new Uint8Array(size);
    this.tsnMask = size - 1;
    if (old.length === 0) return;
    for (let x = (this.cumTsn + 1) | 0; ((this.highestTsn - x) | 0) >= 0; x = (x + 1) | 0)
      this.tsnMap[x & this.tsnMask] = old[x & oldMask]!;
  }

  /** Makes the place of TSN t in the ring of fragments free, if doubling it does; `tsn`: that of each mbuf. */
  growFragments(t: number, tsn: Int32Array): void {
    do {
      const old = this.fragments;
      const size = Math.max(old.length * 2, MIN_FRAGMENTS);
      if (size > TSN_MAP_BITS) return;
      this.fragments = new Int32Array(size);
      this.fragmentMask = size - 1;
      for (let i = 0; i < old.length; i++) {
        const m = old[i]!;
        if (m !== 0) this.fragments[tsn[m]! & this.fragmentMask] = m;
      }
    } while (this.fragments[t & this.fragmentMask] !== 0);
  }

  /**
   * Nothing has been under way for a heartbeat interval: lets go of what only data under way needs. It is made again when
   * data comes, so an idle association holds little.
   */
  releaseIdle(): void {
    if (this.outstanding !== 0 || this.hasGap || this.heldChunks !== 0) return;
    this.ring = NO_RING;
    this.ringMask = 0;
    this.tsnMap = NO_MAP;
    this.tsnMask = 0;
    this.fragments = NO_RING;
    this.fragmentMask = 0;
    if (!this.sackPending) this.#sackTimer = undefined;
  }

  /** The ring has room for one more outstanding chunk: doubles it when full. */
  growRing(): void {
    const old = this.ring;
    const oldMask = this.ringMask;
    const size = Math.max(old.length * 2, MIN_RING);
    this.ring = new Int32Array(size);
    this.ringMask = size - 1;
    for (let t = (this.cumAcked + 1) | 0; ((this.nextTsn - t) | 0) > 0; t = (t + 1) | 0)
      this.ring[t & this.ringMask] = old[t & oldMask]!;
  }
}
