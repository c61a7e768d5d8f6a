/**
 * Congestion control as a table of functions, and module 0: RFC 9260 §7.2 with appropriate byte counting (RFC 3465, L).
 * Other modules attach by being another table.
 */

import type { Association } from './association.js';
import type { Path } from './path.js';
import type { Tunables } from './tunables.js';

export interface CongestionControl {
  readonly name: string;
  /** First window of a path; ssthresh starts at the peer's window (§7.2.1). */
  init(p: Path, peerRwnd: number, t: Tunables): void;
  /** A SACK has acknowledged p.netAck new bytes on p; `advanced`: the cumulative TSN moved. */
  afterSack(a: Association, p: Path, advanced: boolean, t: Tunables): void;
  afterFastRetransmit(p: Path): void;
  afterTimeout(p: Path): void;
  afterEcnEcho(p: Path): void;
  /** Nothing was sent on p for so many RTOs; data is about to be sent again. */
  afterIdle(p: Path, rtos: number): void;
  /** The path MTU changed. */
  afterMtuChange(p: Path, old: number): void;
}

/** min(4 MTU, max(2 MTU, 4380)), or so many packets as the tunable says, at most Max.Burst. */
export function initialWindow(p: Path, t: Tunables): number {
  const mtu = p.mtu;
  if (t.initial_cwnd === 0) return Math.min(4 * mtu, Math.max(2 * mtu, 4380));
  const packets = p.asoc.maxBurst > 0 ? Math.min(t.initial_cwnd, p.asoc.maxBurst) : t.initial_cwnd;
  return packets * (mtu - 12);
}

export const rfc9260: CongestionControl = {
  name: 'rfc9260',
  init(p, peerRwnd, t) {
    p.cwnd = initialWindow(p, t);
    p.ssthresh = Math.max(peerRwnd, 2 * p.mtu);
    p.ssthreshOpen = true;
    p.partialBytesAcked = 0;
  },
  afterSack(a, p, advanced, t) {
    if (p.netAck === 0 || p.inFastRecovery) return;
    if (p.ssthreshOpen && a.peerArwnd > p.ssthresh) p.ssthresh = a.peerArwnd;
    // Of several SACKs in one batch each must count as if output had come between them, which would have filled the window
    // again as far as there is data: else only the first would find it full, and the window would grow at a fraction.
    const full = p.flightBefore >= p.cwnd || (p.windowFull && p.flightBefore + a.out.pendingBytes >= p.cwnd);
    if (p.cwnd <= p.ssthresh) {
      // Slow start, §7.2.1: only when the window was in full use and the cumulative TSN moves.
      if (full && advanced) p.cwnd += Math.min(p.netAck, t.abc_l_var * p.mtu);
    } else {
      // Congestion avoidance, §7.2.2: every SACK counts, those with gap blocks too.
      p.partialBytesAcked += p.netAck;
      if (p.partialBytesAcked >= p.cwnd) {
        if (full) {
          p.partialBytesAcked -= p.cwnd;
          p.cwnd += p.mtu;
        } else p.partialBytesAcked = p.cwnd;
      }
    }
    const max = p.asoc.maxCwnd;
    if (max > 0 && p.cwnd > max) p.cwnd = max;
  },
  afterFastRetransmit(p) {
    p.ssthreshOpen = false;
    p.ssthresh = Math.max(p.cwnd >> 1, 4 * p.mtu); // §7.2.3
    p.cwnd = p.ssthresh;
    p.partialBytesAcked = 0;
  },
  afterTimeout(p) {
    p.ssthreshOpen = false;
    p.ssthresh = Math.max(p.cwnd >> 1, 4 * p.mtu); // §7.2.3
    p.cwnd = p.mtu;
    p.partialBytesAcked = 0;
  },
  afterEcnEcho(p) {
    p.ssthreshOpen = false;
    p.ssthresh = Math.max(p.cwnd >> 1, 4 * p.mtu); // as for a loss (RFC 4960 appendix A), so §7.2.3
    p.cwnd = Math.min(p.cwnd, p.ssthresh);
    p.partialBytesAcked = 0;
  },
  afterIdle(p, rtos) {
    // §7.2.1: max(cwnd / 2, 4 PMDCS) once per RTO, after ssthresh was set to what had been reached.
    const floor = 4 * p.mtu;
    if (p.cwnd <= floor) return;
    p.ssthreshOpen = false;
    p.ssthresh = p.cwnd;
    for (let i = 0; i < rtos && p.cwnd > floor; i++) p.cwnd = Math.max(p.cwnd >> 1, floor);
    p.partialBytesAcked = 0;
  },
  afterMtuChange(p, old) {
    if (p.mtu < old && p.cwnd < p.mtu) p.cwnd = p.mtu;
  },
};

/** Selectable by SCTP_PLUGGABLE_CC and net.inet.sctp.default_cc_module. */
export const CC_MODULES: readonly CongestionControl[] = [rfc9260];
