/** System calls that make, join and end sockets and associations, with FreeBSD's results (facts parts 5 and 5.1). */

import { type SockAddr, Socket } from '../stack/kern/socket.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import { SCTP_STATUS } from '../stack/sctp/api.js';
import * as library from '../stack/sctp/library.js';
import type { Expr } from './ast.js';
import { type Attempt, type Calls, type Descriptor, type Descriptors, done, type Outcome } from './descriptors.js';
import { compareAddress, need, numberOf, sockaddr, sockaddrs } from './expressions.js';
import type { Difference } from './result.js';
import { ERRNOS, wordValue } from './values.js';

const { EBADF, EFAULT, EINPROGRESS, EINVAL } = ERRNOS as Record<'EBADF' | 'EFAULT' | 'EINPROGRESS' | 'EINVAL', number>;
const SOCK_NONBLOCK = wordValue('SOCK_NONBLOCK')!;
/** The bits of a type that are none of its flags. */
const SOCK_TYPE = 0xfffffff;

export function connectionCalls(k: Descriptors): Calls {
  const { env } = k;
  return {
    socket: a => () => {
      const type = need(a[1], 'a type');
      const so = env.stack.socket(numberOf(a[0]) ?? env.domain, type & SOCK_TYPE, numberOf(a[2]) ?? IPPROTO_SCTP);
      if (typeof so === 'number') return done(so);
      env.made(so);
      return k.open(so, (type & SOCK_NONBLOCK) !== 0);
    },
    bind: a =>
      k.now(a, d => {
        const addr = sockaddr(a[1], env.bindAddress);
        if (addr === undefined) return -EINVAL;
        const r = d.so.bind(addr);
        if (r >= 0) env.bound(d.so);
        return r;
      }),
    sctp_bindx: a =>
      k.now(a, d => {
        const list = counted(sockaddrs(a[1], env.bindAddress), a[2]);
        const r = library.sctp_bindx(d.so, list, need(a[3], 'flags'));
        if (r >= 0) env.bound(d.so);
        return r;
      }),
    listen: a =>
      k.now(a, d => {
        const r = d.so.listen(need(a[1], 'a backlog'));
        if (r >= 0) env.bound(d.so);
        return r;
      }),
    connect: a => k.on(a, d => connect(k, d, sockaddr(a[1], env.connectAddress))),
    sctp_connectx: a => k.now(a, d => connectx(k, d, counted(sockaddrs(a[1], env.connectAddress), a[2]), a[3])),
    accept: a => accept(k, a),
    accept4: a => accept(k, a, need(a[3], 'flags')),
    sctp_peeloff: a =>
      k.now(a, d => {
        const so = library.sctp_peeloff(d.so, need(a[1], 'an association'));
        return typeof so === 'number' ? so : k.open(so, d.nonblocking);
      }),
    shutdown: a => k.now(a, d => d.so.shutdown(need(a[1], 'how'))),
    close: a => {
      const n = need(a[0], 'a descriptor');
      return () => {
        const d = k.get(n);
        if (d === undefined) return done(-EBADF);
        k.delete(n);
        return done(d.so.close());
      };
    },
  };
}

/** As many of a list as the count says; none when it is 0 or less. */
function counted(list: readonly SockAddr[], count: Expr | undefined): readonly SockAddr[] {
  const n = numberOf(count);
  return n === undefined ? list : list.slice(0, Math.max(n, 0));
}

function connect(k: Descriptors, d: Descriptor, to: SockAddr | undefined): Attempt {
  let begun = false;
  return () => {
    if (!begun) {
      begun = true;
      if (to === undefined) return done(-EFAULT);
      k.env.connecting(d.so, to);
      const r = d.so.connect(to);
      if (r !== -EINPROGRESS || d.nonblocking) return done(r);
    }
    if (d.so.error !== 0) return done(-d.so.takeError());
    return d.so.writable ? done(0) : 'blocked';
  };
}

/**
 * sctp_connectx(fd, [addresses], n, [id]). FreeBSD makes a socket option of it, which begins the association and returns 0,
 * blocking or not; on other systems it is a connect that is in progress.
 */
function connectx(k: Descriptors, d: Descriptor, to: readonly SockAddr[], id: Expr | undefined): Outcome {
  if (to[0] !== undefined) k.env.connecting(d.so, to[0]);
  const r = library.sctp_connectx(d.so, to);
  if (r < 0) return done(r);
  const want = id?.kind === 'null' ? undefined : numberOf(id);
  const got = r > 0 ? r : idOf(d.so);
  const differences: Difference[] = [];
  // 0 is what a script puts there for the call to overwrite.
  if (want !== undefined && want !== 0 && want !== got)
    differences.push({ field: 'association id', expected: String(want), got: String(got) });
  return { value: 0, differences, also: -EINPROGRESS };
}
function idOf(so: Socket): number {
  const status = so.getsockopt(IPPROTO_SCTP, SCTP_STATUS);
  return typeof status === 'object' && status !== null ? (status as { assocId: number }).assocId : 0;
}

function accept(k: Descriptors, a: readonly Expr[], flags?: number): Attempt {
  return k.on(a, d =>
    k.blocking(d, 'receive', 0, () => {
      const so = d.so.accept();
      if (!(so instanceof Socket)) return done(so);
      const differences: Difference[] = [];
      const from = so.peeraddr();
      if (a[1] !== undefined && a[1].kind !== 'null')
        compareAddress('address of the peer', a[1], typeof from === 'number' ? undefined : from, differences);
      // BSD: the child inherits O_NONBLOCK from accept, and has it from the flags with accept4.
      const nonblocking = flags === undefined ? d.nonblocking : (flags & SOCK_NONBLOCK) !== 0;
      return { ...k.open(so, nonblocking), differences };
    }),
  );
}
