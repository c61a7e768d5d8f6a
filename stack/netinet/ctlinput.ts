/**
 * What ICMP and ICMPv6 share: how a quoted packet finds the protocol that sent it, and the limit on what we say.
 */

import type { Nanos } from '../kern/clock.js';
import { SEC } from '../kern/clock.js';
import type { CtlInput } from '../kern/protosw.js';
import type { Stack } from '../stack.js';
import type { InAddr } from './in.js';
import { IPPROTO_SCTP, IPPROTO_UDP } from './in.js';

/**
 * Tells the protocol of a quoted packet. `off` and `n` are the quoted bytes behind its IP header. UDP from the port of a
 * tunnel is unwrapped (RFC 6951 §5.5): the tunnelled protocol, SCTP, is told, with the UDP ports.
 * Returns false when nobody wanted to know.
 */
export function notify(
  stack: Stack,
  kind: CtlInput['kind'],
  src: InAddr,
  dst: InAddr,
  proto: number,
  mtu: number,
  off: number,
  n: number,
): boolean {
  let udpSrc = 0;
  let udpDst = 0;
  if (proto === IPPROTO_UDP && n >= 8) {
    const port = stack.pool.dv.getUint16(off);
    if (stack.udp.isTunnel(port)) {
      udpSrc = port;
      udpDst = stack.pool.dv.getUint16(off + 2);
      proto = IPPROTO_SCTP;
      off += 8;
      n -= 8;
    }
  }
  const row = stack.protocols.inputFor(src.family, proto);
  if (row?.ctlinput === undefined) return false;
  row.ctlinput({ kind, src, dst, mtu, payload: stack.pool.u8.subarray(off, off + n), udpSrc, udpDst });
  return true;
}

/** Allows `rate()` things a second, saving up at most a second's worth (RFC 4443 §2.4 (f), a token bucket). */
export class RateLimit {
  readonly #clock: { readonly now: Nanos };
  readonly #rate: () => number;
  #tokens: number;
  #at: Nanos;
  constructor(clock: { readonly now: Nanos }, rate: () => number) {
    this.#clock = clock;
    this.#rate = rate;
    this.#tokens = rate();
    this.#at = clock.now;
  }
  /** True when one more may go. */
  take(): boolean {
    const rate = this.#rate();
    const now = this.#clock.now;
    this.#tokens = Math.min(rate, this.#tokens + ((now - this.#at) / SEC) * rate);
    this.#at = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
