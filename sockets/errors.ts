/**
 * Errors as programs see them: the stack's -errno (sys/errno.h, RFC 6458 §3 and §4) as an Error that carries the rule
 * behind it, because "ECONNRESET" alone tells a person nothing about what to do.
 */

import { type ErrnoName, errnoName } from '../stack/kern/errno.js';
import type { Socket } from '../stack/kern/socket.js';

/** What to say when the protocol gave no reason of its own. */
const sentences: Partial<Record<ErrnoName, string>> = {
  EPROTONOSUPPORT: 'the protocol is not there: load its network kernel extension first',
  EAFNOSUPPORT: 'an address of the other family cannot be used with this socket',
  EADDRINUSE: 'another socket has this address and port',
  EADDRNOTAVAIL: 'no interface of this host has that address',
  EACCES: 'not permitted',
  EINVAL: 'the call does not fit the state of the socket, or an argument is out of range',
  EISCONN: 'the socket is connected already',
  ENOTCONN: 'the socket has no association',
  EALREADY: 'an association is being set up already',
  EPIPE: 'the association is shutting down and takes no new data (RFC 9260 §9.2)',
  EMSGSIZE: 'the message is larger than the send buffer (RFC 6458 §8.1.20)',
  ECONNREFUSED: 'the peer answered INIT with ABORT: nothing listens there (RFC 9260 §8.4)',
  ECONNRESET: 'the peer aborted the association (RFC 9260 §9.1)',
  ECONNABORTED: 'the association was aborted (RFC 9260 §9.1)',
  ETIMEDOUT: 'the peer did not answer (RFC 9260 §8.1)',
  EHOSTUNREACH: 'no path to the peer',
  ENETUNREACH: 'no route to the peer',
  ENETDOWN: 'the interface is down',
  ENOBUFS: 'a queue or the buffer pool is full',
  ENOPROTOOPT: 'the protocol does not know this option',
  EOPNOTSUPP: 'the protocol does not do this',
};

/** A call that failed. `code` is the name, `errno` the positive number of stack/kern/errno.ts. */
export class SctpError extends Error {
  override readonly name = 'SctpError';
  /** "ECONNREFUSED", ... */
  readonly code: string;
  /** Positive errno (FreeBSD's numbers). */
  readonly errno: number;
  /** Why, in a sentence, with the RFC section where a rule decided. */
  readonly reason: string;
  /** The call: "connect", "setsockopt(SCTP_INITMSG)", ... */
  readonly syscall: string;
  constructor(errno: number, syscall: string, reason = '') {
    const code = errnoName(errno);
    const why = reason || sentences[code as ErrnoName] || 'no reason was given';
    super(`${syscall} ${code}: ${why}`);
    this.code = code;
    this.errno = Math.abs(errno);
    this.reason = why;
    this.syscall = syscall;
  }
}

/** The error for a negative result of a call on `so`. Takes the reason that the protocol left, so that it is told once. */
export function socketError(so: Socket, errno: number, syscall: string): SctpError {
  const reason = so.errorReason;
  so.errorReason = '';
  return new SctpError(errno, syscall, reason);
}

/** Throws the SctpError of a negative result, else returns the result. */
export function must(so: Socket, result: number, syscall: string): number {
  if (result < 0) throw socketError(so, result, syscall);
  return result;
}
