/**
 * An association: the transmission control block of RFC 9260 §14, cut by owner: set-up, sender, receiver, life cycle.
 * Only state and what keeps it consistent lives here; procedures are in files of their own.
 */

import { Callout } from '../kern/callout.js';
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

/** Timers of an association, each a procedure in timers.ts. */
export interface AssocTimers {
  t1(a: Association): void;
  t2(a: Association): void;
  guard(a: Association): void;
  sack(a: Association): void;
  autoclose(a: Association): void;
}

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
  readonly subscribed: Set<EventName>;
  readonly defaultSend: SendInfo;
  context: number;
  /** Time-outs so far (SCTP_TIMEOUTS). */
  readonly timeouts = { init: 0, data: 0, sack: 0, shutdown: 0, heartbeat: 0, cookie: 0, shutdownAck: 0 };

  // Paths.
  readonly paths: Path[] = [];
  primary!: Path;
  /** Where new data goes now: the primary, or an alternate while that is not usable. */
  current!: Path;
  errors = 0;
  /** HEARTBEATs to unconfirmed paths in the round that began then: at most HB.Max.Burst (§5.4). */
  probes = 0;
  probesSince = Number.NEGATIVE_INFINITY;
  /** Addresses we told the peer; undefined: whatever the packet leaves with. */
  localAddresses: InAddr[] = [];

  // Sender.
  initialTsn: Tsn;
  nextTsn: Tsn;
  /** Highest cumulative TSN that the peer has acknowledged. */
  cumAcked: Tsn;
  /** Outstanding chunks, by TSN & mask: mbufs from cumAcked+1 to nextTsn-1. */
  ring: Int32Array = new Int32Array(64);
  ringMask = 63;
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
  /** One byte per TSN beyond cumTsn, by TSN & (TSN_MAP_BITS-1). Allocated when the association is established. */
  tsnMap: Uint8Array = NO_MAP;
  readonly dups: number[] = [];
  sackDue = false;
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
  inStreams: (InStream | undefined)[] = [];
  inStreamCount = 0;
  outStreamCount: number;
  /** Fragments of incomplete messages, by TSN & (TSN_MAP_BITS-1). */
  fragments: Int32Array = NO_FRAGMENTS;
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

  readonly t1: Callout;
  readonly t2: Callout;
  readonly guard: Callout;
  readonly sackTimer: Callout;
  readonly autocloseTimer: Callout;
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
    this.subscribed = new Set(ep.subscribed);
    this.defaultSend = { ...ep.defaultSend };
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
    this.t1 = new Callout(() => timers.t1(this));
    this.t2 = new Callout(() => timers.t2(this));
    this.guard = new Callout(() => timers.guard(this));
    this.sackTimer = new Callout(() => timers.sack(this));
    this.autocloseTimer = new Callout(() => timers.autoclose(this));
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
    if (this.tsnMap.length === 0) this.tsnMap = new Uint8Array(TSN_MAP_BITS);
    else this.tsnMap.fill(0);
    this.inStreams = new Array(inStreams).fill(undefined);
    this.inStreamCount = inStreams;
  }

  /** The ring has room for one more outstanding chunk: doubles it when full. */
  growRing(): void {
    const old = this.ring;
    const oldMask = this.ringMask;
    const size = old.length * 2;
    this.ring = new Int32Array(size);
    this.ringMask = size - 1;
    for (let t = (this.cumAcked + 1) | 0; ((this.nextTsn - t) | 0) > 0; t = (t + 1) | 0)
      this.ring[t & this.ringMask] = old[t & oldMask]!;
  }
}

const NO_MAP = new Uint8Array(0);
const NO_FRAGMENTS = new Int32Array(0);
