/** System calls that ask and set: options, names, descriptors' flags, readiness (facts part 5.1). */

import { MSEC } from '../stack/kern/clock.js';
import type { SockAddr } from '../stack/kern/socket.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import { SCTP_ALL_ASSOC, SCTP_CURRENT_ASSOC, SCTP_GET_SNDBUF_USE } from '../stack/sctp/api.js';
import * as library from '../stack/sctp/library.js';
import type { Expr } from './ast.js';
import {
  type Attempt,
  type Calls,
  type Descriptor,
  type Descriptors,
  done,
  type Outcome,
  Timeout,
} from './descriptors.js';
import { ScriptError } from './encode.js';
import { compareAddress, compareAddresses, listOf, member, need, numberOf, sockaddr } from './expressions.js';
import { getOption, type OptionEnvironment, setOption } from './options.js';
import type { Difference } from './result.js';
import { ERRNOS, flagText, wordValue } from './values.js';

const { EFAULT, EINVAL, ENOTTY } = ERRNOS as Record<'EFAULT' | 'EINVAL' | 'ENOTTY', number>;
const word = (name: string): number => wordValue(name)!;
const O_RDWR = word('O_RDWR');
const O_NONBLOCK = word('O_NONBLOCK');

export function queryCalls(k: Descriptors): Calls {
  const options = (d: Descriptor): OptionEnvironment => ({ d, peer: k.env.peer() });
  return {
    getsockopt: a => k.now(a, d => getOption(options(d), need(a[1], 'a level'), need(a[2], 'an option'), a[3], a[4])),
    setsockopt: a =>
      k.now(a, d => setOption(options(d), need(a[1], 'a level'), need(a[2], 'an option'), a[3], numberOf(a[4]))),
    // libsctp puts the id into the struct (facts part 2.4).
    sctp_opt_info: a =>
      k.now(a, d => {
        const id = numberOf(a[1]) ?? 0;
        if (a[3] === undefined || a[3].kind === 'null') return -EFAULT;
        if (id === SCTP_CURRENT_ASSOC || id === SCTP_ALL_ASSOC) return -EINVAL;
        return getOption(options(d), IPPROTO_SCTP, need(a[2], 'an option'), a[3], a[4], id);
      }),
    sctp_getpaddrs: a => k.now(a, d => addresses(library.sctp_getpaddrs(d.so, numberOf(a[1]) ?? 0), a[2])),
    sctp_getladdrs: a => k.now(a, d => addresses(library.sctp_getladdrs(d.so, numberOf(a[1]) ?? 0), a[2])),
    sctp_freepaddrs: () => () => done(0),
    sctp_freeladdrs: () => () => done(0),
    sctp_getaddrlen: a => k.now(a, d => library.sctp_getaddrlen(d.so, need(a[1], 'a family') as 2 | 28)),
    sctp_getassocid: a => k.now(a, d => library.sctp_getassocid(d.so, sockaddr(a[1], k.env.peer()) ?? k.env.peer())),
    getsockname: a => k.now(a, d => named(d.so.sockaddr(), a[1])),
    getpeername: a => k.now(a, d => named(d.so.peeraddr(), a[1])),
    fcntl: a => k.now(a, d => fcntl(d, a)),
    ioctl: a => k.now(a, d => ioctl(d, a)),
    poll: a => poll(k, a),
  };
}

function fcntl(d: Descriptor, a: readonly Expr[]): number {
  switch (need(a[1], 'a command')) {
    case word('F_GETFL'):
      return O_RDWR | (d.nonblocking ? O_NONBLOCK : 0);
    case word('F_SETFL'):
      d.nonblocking = (need(a[2], 'flags') & O_NONBLOCK) !== 0;
      return 0;
    case word('F_GETFD'):
    case word('F_SETFD'):
      return 0; // close on exec: there is no exec
    default:
      return -EINVAL;
  }
}

/** FIONBIO, and what waits in the buffers: FIONREAD to be read, FIONWRITE to be sent, FIONSPACE what is free for that. */
function ioctl(d: Descriptor, a: readonly Expr[]): number | Outcome {
  const request = need(a[1], 'a request');
  if (request === word('FIONBIO')) {
    d.nonblocking = need(a[2], 'a value') !== 0;
    return 0;
  }
  const use = d.so.getsockopt(IPPROTO_SCTP, SCTP_GET_SNDBUF_USE) as { sndbuf: number; rcvbuf: number } | number;
  const { sndbuf, rcvbuf } = typeof use === 'number' ? { sndbuf: 0, rcvbuf: 0 } : use;
  const got = new Map([
    [word('FIONREAD'), rcvbuf],
    [word('FIONWRITE'), sndbuf],
    [word('FIONSPACE'), d.so.space],
  ]).get(request);
  if (got === undefined) return -ENOTTY;
  const want = numberOf(a[2]);
  if (want === undefined || want === got) return 0;
  return done(0, [{ field: 'value', expected: String(want), got: String(got) }]);
}

function named(got: SockAddr | number, e: Expr | undefined): Outcome {
  if (typeof got === 'number') return done(got);
  const differences: Difference[] = [];
  if (e !== undefined && e.kind !== 'null') compareAddress('address', e, got, differences);
  return done(0, differences);
}

/** The number of addresses; `[…]` names all of them, in any order. */
function addresses(got: readonly SockAddr[] | number, e: Expr | undefined): Outcome {
  if (typeof got === 'number') return done(got);
  const differences: Difference[] = [];
  if (e !== undefined) compareAddresses('addresses', e, got, differences);
  return done(got.length, differences);
}

const POLLIN = word('POLLIN') | word('POLLRDNORM');
const POLLOUT = word('POLLOUT') | word('POLLWRNORM');
const POLLERR = word('POLLERR');
const POLLNVAL = word('POLLNVAL');

/** poll([{fd=, events=, revents=}, …], n, timeout): blocks by its timeout in ms; -1 = for ever. */
function poll(k: Descriptors, a: readonly Expr[]): Attempt {
  const ms = need(a[2], 'a timeout');
  const timeout = new Timeout(k.env.stack, ms < 0 ? Number.POSITIVE_INFINITY : ms * MSEC);
  const items = a[0] === undefined || a[0].kind === 'null' ? [] : listOf(a[0]);
  return () => {
    const differences: Difference[] = [];
    let n = 0;
    for (const [i, x] of items.entries()) {
      if (x.kind !== 'struct') throw new ScriptError('a pollfd literal is expected here', x.at);
      const fd = need(member(x, 'fd')?.value, 'fd');
      const got = fd < 0 ? 0 : revents(k.get(fd), numberOf(member(x, 'events')?.value) ?? 0);
      if (got !== 0) n++;
      const want = numberOf(member(x, 'revents')?.value);
      if (want !== undefined && want !== got)
        differences.push({ field: `revents ${i + 1}`, expected: flagText(want, 'POLL'), got: flagText(got, 'POLL') });
    }
    return n === 0 && !timeout.over ? 'blocked' : { value: n, differences };
  };
}
function revents(d: Descriptor | undefined, events: number): number {
  if (d === undefined) return POLLNVAL;
  let got = d.so.error !== 0 ? POLLERR : 0;
  if (d.so.readable) got |= events & POLLIN;
  if (d.so.writable) got |= events & POLLOUT;
  return got;
}
