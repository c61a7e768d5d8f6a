/**
 * A path: one destination address of an association with everything RFC 9260 keeps per destination transport address
 * (§6.3 RTO, §7 congestion control, §8.2 path failure, §8.3 heartbeats, §7.3 path MTU).
 */

import { Callout, type CalloutWheel } from '../kern/callout.js';
import { MSEC, type Nanos } from '../kern/clock.js';
import type { InAddr } from '../netinet/in.js';
import type { PathState } from './api.js';
import type { Association } from './association.js';
import { COMMON_HEADER } from './constants.js';

// Why a path sends from the address that it does (Path.sourceChoice).
export const SOURCE_NONE = 0;
export const SOURCE_GIVEN = 1;
export const SOURCE_ROUTE = 2;
const SOURCE_SCORED = 4;
/** An address was chosen for its link, for the peer's subnet (its prefix), and for the number of other paths that use it. */
export function sourceScored(link: boolean, onLink: boolean, prefix: number, users: number): number {
  return SOURCE_SCORED + (link ? 1 : 0) + (onLink ? 2 : 0) + (prefix << 3) + (users << 11);
}

export class Path {
  readonly asoc: Association;
  /** Index in Association.paths; stable for the life of the association. */
  readonly id: number;
  readonly addr: InAddr;
  state: PathState = 'unconfirmed';
  /** Our address for this path, and why that one: the interface's own object where there is one, so never written. */
  source: InAddr;
  /** Why it is that one: SOURCE_ROUTE, ... or sourceScored(). */
  sourceChoice = SOURCE_NONE;
  hasSource = false;
  /** The interface that owns the source has lost its link: not used for sending while another path is there. */
  linkDown = false;
  /** Peer's UDP port (RFC 6951), 0 = plain SCTP in IP. */
  encapsPort = 0;
  /** DSCP bits of the TOS byte. */
  tos = 0;

  // Round trip, §6.3.1 (ns). srtt 0 = nothing measured yet.
  srtt: Nanos = 0;
  rttvar: Nanos = 0;
  rto: Nanos;
  /** True when the next new chunk sent is to be timed: one measurement a round trip (rule C4). */
  rttWanted = true;
  /** True while rto is what back-off made of it (rule E2). */
  backedOff = false;

  // Congestion control, §7.2 (bytes).
  cwnd = 0;
  ssthresh = 0;
  /** No congestion was seen yet: ssthresh follows the peer's window, which may be tuning itself to the path (§7.2.1). */
  ssthreshOpen = true;
  partialBytesAcked = 0;
  flight = 0;
  /** Fast recovery: no second reduction until this TSN is acknowledged (§7.2.4). */
  inFastRecovery = false;
  recoveryExit = 0;
  /** Highest TSN sent when cwnd was last cut for ECNE. */
  ecnCut = 0;
  ecnCutValid = false;

  // What the SACK being processed has done, reset by each SACK.
  /** The interface takes trains: what leaves in a burst is cut by the card. Set when a packet to it is begun. */
  trains = false;
  netAck = 0;
  /** Of netAck: what was sent once only, so that there is no doubt about the path (Karn). */
  netAckOnce = 0;
  /** The earliest TSN outstanding on the path was acknowledged (§6.3.2 R3). */
  earliestAcked = false;
  /** Flight size before the SACK: the window was fully used if this reached cwnd. */
  flightBefore = 0;
  /** The window was fully used when the first SACK of this batch came: output has not run since. */
  windowFull = false;

  /** IP packet size in bytes. */
  mtu: number;
  /** Fixed by the user (SPP_PMTUD_DISABLE). */
  mtuFixed = false;

  errors = 0;
  maxErrors: number;
  /** Errors beyond which the path is potentially failed (RFC 7829); 0xffff = never. */
  pfThreshold: number;
  /** Potentially failed: active still, but data goes elsewhere while it can; never told to the user. */
  pf = false;

  // Heartbeats, §8.3.
  hbEnabled = true;
  hbInterval: Nanos;
  /** Outstanding nonces: two 32-bit words, 0 = none. */
  hbNonce0 = 0;
  hbNonce1 = 0;
  /** The one before, which was not answered in time: its answer comes late, and is nobody's forgery. */
  hbLate0 = 0;
  hbLate1 = 0;
  hbSentAt: Nanos = -1;
  lastHeartbeatAck: Nanos = 0;
  /** Time of the last chunk sent that could measure the round trip: heartbeats go to idle paths only. */
  lastUsed: Nanos = 0;
  /** Time of the last DATA chunk sent: a window not used for long shrinks (§7.2.1). */
  lastData: Nanos = 0;

  /** Next in its chain of the table by peer address (Sctp.byAddress). */
  nextPeer: Path | undefined = undefined;

  // Timers are made when first asked for.
  #t3: Callout | undefined = undefined;
  #hb: Callout | undefined = undefined;
  #pmtuRaise: Callout | undefined = undefined;

  constructor(asoc: Association, id: number, addr: InAddr) {
    this.asoc = asoc;
    this.id = id;
    this.addr = addr.clone();
    this.source = this.addr;
    this.rto = asoc.rtoInitial * MSEC;
    this.mtu = 1500;
    this.maxErrors = asoc.pathMaxRxt;
    this.pfThreshold = asoc.pfThreshold;
    this.hbInterval = asoc.hbInterval * MSEC;
  }

  /** T3, retransmission (§6.3.2). */
  get t3(): Callout {
    return (this.#t3 ??= Callout.of(this.asoc.timers.t3, this as Path));
  }
  /** The heartbeat timer (§8.3). */
  get hb(): Callout {
    return (this.#hb ??= Callout.of(this.asoc.timers.hb, this as Path));
  }
  /** When a larger MTU is tried again (§7.3). */
  get pmtuRaise(): Callout {
    return (this.#pmtuRaise ??= Callout.of(this.asoc.timers.pmtuRaise, this as Path));
  }
  stopTimers(w: CalloutWheel): void {
    if (this.#t3 !== undefined) w.stop(this.#t3);
    if (this.#hb !== undefined) w.stop(this.#hb);
    if (this.#pmtuRaise !== undefined) w.stop(this.#pmtuRaise);
  }
  /** The path is idle: a timer that does not run is made again when data comes. */
  releaseIdle(): void {
    if (this.#t3?.pending !== true) this.#t3 = undefined;
    if (this.#pmtuRaise?.pending !== true) this.#pmtuRaise = undefined;
  }

  /** Why `source` is the address used, in words. */
  get sourceWhy(): string {
    const c = this.sourceChoice;
    if (c === SOURCE_NONE) return 'no address of ours can reach the peer';
    if (c === SOURCE_GIVEN) return 'the address the peer wrote to';
    if (c === SOURCE_ROUTE) return 'chosen by the route';
    const prefix = (c >> 3) & 0xff;
    const users = c >> 11;
    return [
      (c & 1) !== 0 ? 'link up' : 'link down, but the only one',
      (c & 2) !== 0 ? `in the peer's subnet /${prefix}` : 'routed',
      users === 0 ? 'used by no other path' : `used by ${users} other path${users > 1 ? 's' : ''}`,
    ].join(', ');
  }
  /** IP (and UDP) header bytes in front of SCTP on this path. */
  get overhead(): number {
    return (this.addr.family === 4 ? 20 : 40) + (this.encapsPort !== 0 ? 8 : 0);
  }
  /** Largest SCTP packet, common header included, a multiple of 4. */
  get packetRoom(): number {
    return (this.mtu - this.overhead) & ~3;
  }
  /** Largest payload of all chunks of a packet. */
  get chunkRoom(): number {
    return this.packetRoom - COMMON_HEADER;
  }
  /** True when data may be sent here now by preference. */
  get usable(): boolean {
    return this.state === 'active' && !this.linkDown && !this.pf;
  }
}
