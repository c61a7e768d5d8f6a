/**
 * System calls on the stack's sockets, with FreeBSD's arguments, results and errno values (facts part 5): descriptors by the
 * script's labels, blocking in virtual time, struct lengths checked, output arguments compared.
 *
 * A call is begun once and then attempted until it gives an outcome: one that would block on a blocking descriptor is
 * attempted again after every step of the stack.
 */

import { Callout } from '../stack/kern/callout.js';
import { MSEC } from '../stack/kern/clock.js';
import { RecvInfo, type SockAddr, Socket } from '../stack/kern/socket.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import type { Stack } from '../stack/stack.js';
import type { Expr, Syscall } from './ast.js';
import { ScriptError } from './encode.js';
import {
  addressText,
  compareAddress,
  compareRecord,
  type Iovec,
  iovecs,
  listOf,
  member,
  need,
  numberOf,
  sockaddr,
  sockaddrs,
} from './expressions.js';
import type { Mapping } from './mapping.js';
import {
  compareControl,
  emptyRequest,
  recvvInfo,
  type SendRequest,
  sendmsgRequest,
  sendvRequest,
  sndrcvOf,
  sndrcvRequest,
} from './messages.js';
import { getOption, type OptionEnvironment, setOption } from './options.js';
import type { Abi, Difference } from './result.js';
import { decodeStruct, fieldName, layoutOf, notificationLayout } from './structs.js';
import { ERRNOS, flagText, swap32 } from './values.js';

type Errnos = Record<'EAGAIN' | 'EBADF' | 'EFAULT' | 'EINPROGRESS' | 'EINVAL' | 'EOPNOTSUPP', number>;
const { EAGAIN, EBADF, EFAULT, EINPROGRESS, EINVAL, EOPNOTSUPP } = ERRNOS as Errnos;
const O_RDWR = 2;
const O_NONBLOCK = 4;
const MSG_PEEK = 0x2;
const MSG_DONTWAIT = 0x80;
const MSG_NOTIFICATION = 0x2000;
const SOCK_NONBLOCK = 0x20000000;
/** Largest buffer that a script may ask for; a read takes less anyway. */
const MAX_BUFFER = 16 << 20;

/** How a call ended: its value or -errno, and what differs in its output arguments. */
export interface Outcome {
  readonly value: number;
  readonly differences: readonly Difference[];
  /** A descriptor that the call has opened: bound to the label in the script's result. */
  readonly opened?: Descriptor;
}
export type Attempt = () => Outcome | 'blocked';

export interface Descriptor {
  readonly so: Socket;
  nonblocking: boolean;
  /** SOL_SOCKET options that only switch bits. */
  readonly bits: Map<number, number>;
}

/** What calls need of the run. */
export interface Environment {
  readonly stack: Stack;
  readonly domain: number;
  readonly abi: Abi;
  readonly mapping: Mapping;
  /** The obvious addresses. */
  readonly bindAddress: SockAddr;
  readonly connectAddress: SockAddr;
  peer(): SockAddr;
  /** A socket has been made: it is the one under test. */
  made(so: Socket): void;
  /** The socket under test is bound, listens, or connects. */
  bound(so: Socket): void;
  connecting(so: Socket, to: SockAddr): void;
  /** It sends to an address, which may be what sets up an association (one-to-many). */
  sending(so: Socket, to: SockAddr): void;
}

const done = (value: number, differences: readonly Difference[] = []): Outcome => ({ value, differences });
const zeros = new Uint8Array(65536);

export class Kernel {
  readonly #env: Environment;
  readonly #fds = new Map<number, Descriptor>();
  readonly #calls: ReadonlyMap<string, (args: readonly Expr[], call: Syscall) => Attempt>;

  constructor(env: Environment) {
    this.#env = env;
    this.#calls = new Map(Object.entries(this.#table()));
  }

  /** Prepares a call. Throws ScriptError for a call that cannot be made sense of. */
  begin(call: Syscall): Attempt {
    const f = this.#calls.get(call.name);
    if (f === undefined) throw new ScriptError(`the system call ${call.name} is not known here`, call.at);
    return f(call.args, call);
  }
  /** Gives the descriptor that a call opened the script's label. */
  label(fd: number, d: Descriptor): void {
    this.#fds.set(fd, d);
  }

  #fd(e: Expr | undefined): Descriptor | undefined {
    return this.#fds.get(need(e, 'a descriptor'));
  }
  /** A call on one descriptor: -EBADF without it. */
  #on(args: readonly Expr[], f: (d: Descriptor) => Attempt): Attempt {
    const d = this.#fd(args[0]);
    return d === undefined ? () => done(-EBADF) : f(d);
  }
  #now(args: readonly Expr[], f: (d: Descriptor) => number | Outcome): Attempt {
    return this.#on(args, d => () => {
      const r = f(d);
      return typeof r === 'number' ? done(r) : r;
    });
  }
  /** What would block does, unless the descriptor or the call says otherwise. */
  #blocking(d: Descriptor, flags: number, f: () => Outcome): Attempt {
    return () => {
      const r = f();
      return r.value === -EAGAIN && !d.nonblocking && (flags & MSG_DONTWAIT) === 0 ? 'blocked' : r;
    };
  }
  #open(so: Socket, nonblocking: boolean): Outcome {
    const opened = { so, nonblocking, bits: new Map<number, number>() };
    return { value: 0, differences: [], opened };
  }

  #table(): Record<string, (args: readonly Expr[], call: Syscall) => Attempt> {
    return { ...this.#life(), ...this.#data(), ...this.#rest() };
  }

  // ------------------------------------------------------------------------------------- making and ending connections

  #life(): Record<string, (args: readonly Expr[]) => Attempt> {
    const env = this.#env;
    return {
      socket: a => () => {
        const type = need(a[1], 'a type');
        const so = env.stack.socket(numberOf(a[0]) ?? env.domain, type & 0xfffffff, numberOf(a[2]) ?? IPPROTO_SCTP);
        if (typeof so === 'number') return done(so);
        env.made(so);
        return this.#open(so, (type & SOCK_NONBLOCK) !== 0);
      },
      bind: a =>
        this.#now(a, d => {
          const addr = sockaddr(a[1], env.bindAddress);
          if (addr === undefined) return -EINVAL;
          const r = d.so.bind(addr);
          if (r >= 0) env.bound(d.so);
          return r;
        }),
      listen: a =>
        this.#now(a, d => {
          const r = d.so.listen(need(a[1], 'a backlog'));
          if (r >= 0) env.bound(d.so);
          return r;
        }),
      connect: a => this.#on(a, d => this.#connect(d, [sockaddr(a[1], env.connectAddress)])),
      sctp_connectx: a =>
        this.#on(a, d => {
          const list = sockaddrs(a[1], env.connectAddress);
          const n = numberOf(a[2]) ?? list.length;
          if (n <= 0 || list.length === 0) return () => done(-EINVAL);
          return this.#connect(d, list.slice(0, n), a[3]);
        }),
      accept: a => this.#accept(a),
      accept4: a => this.#accept(a, need(a[3], 'flags')),
      close: a => {
        const n = need(a[0], 'a descriptor');
        return () => {
          const d = this.#fds.get(n);
          if (d === undefined) return done(-EBADF);
          this.#fds.delete(n);
          return done(d.so.close());
        };
      },
      shutdown: a => this.#now(a, d => d.so.shutdown(need(a[1], 'how'))),
      sctp_peeloff: a =>
        this.#now(a, d => {
          const so = d.so as Socket & { peeloff?: (id: number) => Socket | number };
          const made = so.peeloff?.(need(a[1], 'an association')) ?? -EOPNOTSUPP;
          return typeof made === 'number' ? made : this.#open(made, d.nonblocking);
        }),
    };
  }

  #connect(d: Descriptor, to: readonly (SockAddr | undefined)[], id?: Expr): Attempt {
    let begun = false;
    const list = to.filter(x => x !== undefined);
    const ended = (value: number): Outcome => {
      const differences: Difference[] = [];
      const want = value >= 0 && id !== undefined ? numberOf(id) : undefined;
      const status = want === undefined ? undefined : d.so.getsockopt(IPPROTO_SCTP, 0x100);
      const got = typeof status === 'object' && status !== null ? (status as { assocId: number }).assocId : 0;
      if (want !== undefined && want !== 0 && want !== got)
        differences.push({ field: 'association id', expected: String(want), got: String(got) });
      return { value, differences };
    };
    return () => {
      if (!begun) {
        begun = true;
        if (list.length === 0) return done(-EFAULT);
        this.#env.connecting(d.so, list[0]!);
        const r = d.so.connect(...list);
        if (r !== -EINPROGRESS || d.nonblocking) return ended(r);
      }
      if (d.so.error !== 0) return done(-d.so.takeError());
      return d.so.writable ? ended(0) : 'blocked';
    };
  }

  #accept(a: readonly Expr[], flags?: number): Attempt {
    return this.#on(a, d =>
      this.#blocking(d, 0, () => {
        const so = d.so.accept();
        if (!(so instanceof Socket)) return done(so);
        const differences: Difference[] = [];
        const from = so.peeraddr();
        if (a[1] !== undefined && a[1].kind !== 'null')
          compareAddress('address of the peer', a[1], typeof from === 'number' ? undefined : from, differences);
        // BSD: the child inherits O_NONBLOCK from accept, and from its flags with accept4.
        const nonblocking = flags === undefined ? d.nonblocking : (flags & SOCK_NONBLOCK) !== 0;
        const made = this.#open(so, nonblocking);
        return { ...made, differences };
      }),
    );
  }

  // -------------------------------------------------------------------------------------------------------------- data

  #data(): Record<string, (args: readonly Expr[]) => Attempt> {
    const peer = () => this.#env.peer();
    const total = (list: readonly Iovec[]) => list.reduce((n, v) => n + v.len, 0);
    return {
      write: a => this.#on(a, d => this.#send(d, need(a[2], 'a length'))),
      send: a => this.#on(a, d => this.#send(d, need(a[2], 'a length'), undefined, undefined, need(a[3], 'flags'))),
      writev: a => this.#on(a, d => this.#send(d, total(iovecs(a[1])))),
      sendto: a =>
        this.#on(a, d => this.#send(d, need(a[2], 'a length'), undefined, sockaddr(a[4], peer()), need(a[3], 'flags'))),
      sctp_sendmsg: a =>
        this.#on(a, d => {
          const r = emptyRequest();
          const flags = need(a[6], 'flags');
          const ttl = need(a[8], 'a time to live') >>> 0;
          r.ppid = swap32(need(a[5], 'a ppid'));
          r.flags = flags & 0xfff0;
          r.sid = need(a[7], 'a stream') & 0xffff;
          r.prPolicy = (flags & 0xf) === 0 && ttl > 0 ? 1 : flags & 0xf;
          r.prValue = ttl;
          r.context = need(a[9], 'a context') >>> 0;
          return this.#send(d, need(a[2], 'a length'), r, this.#destination(a[3], a[4]));
        }),
      sctp_send: a =>
        this.#on(a, d =>
          this.#send(d, need(a[2], 'a length'), sndrcvRequest(a[3], peer()), undefined, need(a[4], 'flags')),
        ),
      sctp_sendx: a =>
        this.#on(a, d => {
          const to = sockaddrs(a[3], peer())[0];
          return this.#send(d, need(a[2], 'a length'), sndrcvRequest(a[5], peer()), to, need(a[6], 'flags'));
        }),
      sctp_sendv: a =>
        this.#on(a, d => {
          const r = sendvRequest(a[5], numberOf(a[6]) ?? 0, numberOf(a[7]) ?? 0, peer());
          if (r === -1) return () => done(-EINVAL);
          const to =
            a[3] === undefined || a[3].kind === 'any' || a[3].kind === 'null' ? undefined : sockaddrs(a[3], peer())[0];
          return this.#send(d, total(iovecs(a[1])), r, to, numberOf(a[8]) ?? 0);
        }),
      sendmsg: a => this.#on(a, d => this.#sendmsg(d, a)),
      read: a => this.#on(a, d => this.#recv(d, [{ base: a[1]!, len: need(a[2], 'a length') }], 0)),
      recv: a => this.#on(a, d => this.#recv(d, [{ base: a[1]!, len: need(a[2], 'a length') }], need(a[3], 'flags'))),
      readv: a => this.#on(a, d => this.#recv(d, iovecs(a[1]), 0)),
      recvfrom: a =>
        this.#on(a, d =>
          this.#recv(d, [{ base: a[1]!, len: need(a[2], 'a length') }], need(a[3], 'flags'), { from: a[4] }),
        ),
      sctp_recvmsg: a =>
        this.#on(a, d =>
          this.#recv(d, [{ base: a[1]!, len: need(a[2], 'a length') }], 0, { from: a[3], sinfo: a[5], flags: a[6] }),
        ),
      sctp_recvv: a =>
        this.#on(a, d =>
          this.#recv(d, iovecs(a[1]), 0, { from: a[3], info: a[5], infolen: a[6], infotype: a[7], flags: a[8] }),
        ),
      recvmsg: a => this.#on(a, d => this.#recvmsg(d, a)),
    };
  }

  /** `...` is the peer (for one-to-one sockets it makes no difference), NULL nobody. */
  #destination(to: Expr | undefined, len: Expr | undefined): SockAddr | undefined {
    if (to === undefined || (to.kind === 'any' && numberOf(len) === 0)) return undefined;
    return sockaddr(to, this.#env.peer());
  }

  #send(d: Descriptor, len: number, info?: SendRequest, to?: SockAddr, flags = 0): Attempt {
    return this.#blocking(d, flags, () => {
      if (len < 0 || len > MAX_BUFFER) return done(-EINVAL);
      if (to !== undefined) this.#env.sending(d.so, to);
      const data = len <= zeros.length ? zeros : new Uint8Array(len);
      return done(d.so.send(data, 0, len, info, to, flags));
    });
  }

  #sendmsg(d: Descriptor, a: readonly Expr[]): Attempt {
    const m = a[1];
    if (m?.kind !== 'struct') throw new ScriptError('sendmsg needs a msghdr literal', m?.at);
    const peer = this.#env.peer();
    const name = member(m, 'msg_name');
    const first = sockaddr(name?.value, name === undefined || numberOf(name.count) === 0 ? undefined : peer);
    const { request, addresses } = sendmsgRequest(member(m, 'msg_control')?.value, this.#env.abi, peer);
    const to = first ?? (addresses[0] === undefined ? undefined : { addr: addresses[0].addr, port: peer.port });
    const len = iovecs(member(m, 'msg_iov')?.value).reduce((n, v) => n + v.len, 0);
    return this.#send(d, len, request, to, numberOf(a[2]) ?? 0);
  }

  #recvmsg(d: Descriptor, a: readonly Expr[]): Attempt {
    const m = a[1];
    if (m?.kind !== 'struct') throw new ScriptError('recvmsg needs a msghdr literal', m?.at);
    return this.#recv(d, iovecs(member(m, 'msg_iov')?.value), numberOf(a[2]) ?? 0, {
      from: member(m, 'msg_name')?.value,
      control: member(m, 'msg_control')?.value,
      flags: member(m, 'msg_flags')?.value,
    });
  }

  #recv(d: Descriptor, iov: readonly Iovec[], flags: number, out: Outputs = {}): Attempt {
    const len = iov.reduce((n, v) => n + v.len, 0);
    if (len < 0 || len > MAX_BUFFER) return () => done(-EINVAL);
    return this.#blocking(d, flags, () => {
      const info = new RecvInfo();
      const got = this.#take(d, len, flags, info);
      if (typeof got === 'number' && got < 0) return done(got);
      const differences: Difference[] = [];
      const n = typeof got === 'number' ? got : got.length;
      const message = n > 0 || info.msgFlags !== 0;
      this.#compareBase(iov[0]?.base, typeof got === 'number' ? undefined : got, differences);
      this.#compareOutputs(d, info, message, out, differences);
      return { value: n, differences };
    });
  }

  /** One message, a piece of one, or (a piece of) a notification as bytes; 0 or -errno. */
  #take(d: Descriptor, len: number, flags: number, info: RecvInfo): Uint8Array | number {
    const buf = new Uint8Array(len);
    const n = d.so.recv(buf, 0, len, info, flags & MSG_PEEK);
    return n < 0 || (info.msgFlags & MSG_NOTIFICATION) === 0 ? n : buf.subarray(0, n);
  }

  /** A struct literal as iov_base is a notification that must have come. */
  #compareBase(base: Expr | undefined, note: Uint8Array | undefined, out: Difference[]): void {
    if (base === undefined || base.kind !== 'struct') return;
    const layout = note === undefined ? undefined : notificationLayout(note);
    if (layout === undefined || note === undefined || note.length < layout.size) {
      const what = note === undefined ? 'data or nothing' : `${note.length} bytes of a notification`;
      out.push({ field: 'iov_base', expected: 'a notification', got: what });
      return;
    }
    const foreign = base.fields.find(
      f => f.name !== undefined && !layout.fields.some(x => x.name === fieldName(f.name!)),
    );
    if (foreign !== undefined) {
      out.push({ field: 'iov_base', expected: `a notification with ${foreign.name}`, got: `struct ${layout.name}` });
      return;
    }
    const base_ = this.#env.mapping.current;
    compareRecord('iov_base', base, layout, decodeStruct(layout, note), out, (field, n) =>
      field === 'assocreset_local_tsn' && base_ !== undefined ? base_.tsnToScript(n) : n,
    );
  }

  #compareOutputs(d: Descriptor, info: RecvInfo, message: boolean, out: Outputs, differences: Difference[]): void {
    if (out.from !== undefined && out.from.kind !== 'any' && out.from.kind !== 'null' && message)
      compareAddress('address of the sender', out.from, info.from, differences);
    if (out.sinfo !== undefined && out.sinfo.kind !== 'null' && message)
      compareRecord('sinfo', out.sinfo, layoutOf('sctp_sndrcvinfo'), sndrcvOf(info), differences);
    if (out.control !== undefined) compareControl(d.so, info, message, out.control, this.#env.abi, differences);
    if (out.infotype !== undefined || out.info !== undefined) {
      const i = recvvInfo(d.so, info, message && (info.msgFlags & MSG_NOTIFICATION) === 0);
      compareNumber('infotype', out.infotype, i.type, differences);
      compareNumber('infolen', out.infolen, i.layout?.size ?? 0, differences);
      if (out.info !== undefined && out.info.kind === 'struct') {
        if (i.layout !== undefined) compareRecord('info', out.info, i.layout, i.data, differences);
        else differences.push({ field: 'info', expected: 'information', got: 'none' });
      }
    }
    const want = numberOf(out.flags);
    if (want !== undefined && want !== info.msgFlags)
      differences.push({
        field: 'msg_flags',
        expected: flagText(want, 'MSG_'),
        got: flagText(info.msgFlags, 'MSG_'),
      });
  }

  // -------------------------------------------------------------------------------------------------------------- rest

  #rest(): Record<string, (args: readonly Expr[]) => Attempt> {
    const options = (d: Descriptor): OptionEnvironment => ({ d, peer: this.#env.peer() });
    return {
      fcntl: a =>
        this.#now(a, d => {
          const command = need(a[1], 'a command');
          if (command === 3) return O_RDWR | (d.nonblocking ? O_NONBLOCK : 0);
          if (command !== 4) return command === 1 || command === 2 ? 0 : -EINVAL;
          d.nonblocking = (need(a[2], 'flags') & O_NONBLOCK) !== 0;
          return 0;
        }),
      ioctl: a =>
        this.#now(a, d => {
          if (need(a[1], 'a request') !== 0x8004667e) return -EOPNOTSUPP;
          d.nonblocking = need(a[2], 'a value') !== 0;
          return 0;
        }),
      getsockopt: a =>
        this.#now(a, d => getOption(options(d), need(a[1], 'a level'), need(a[2], 'an option'), a[3], a[4])),
      setsockopt: a =>
        this.#now(a, d => setOption(options(d), need(a[1], 'a level'), need(a[2], 'an option'), a[3], numberOf(a[4]))),
      sctp_opt_info: a => this.#now(a, d => getOption(options(d), IPPROTO_SCTP, need(a[2], 'an option'), a[3], a[4])),
      getsockname: a => this.#now(a, d => this.#named(d.so.sockaddr(), a[1])),
      getpeername: a => this.#now(a, d => this.#named(d.so.peeraddr(), a[1])),
      poll: a => this.#poll(a),
      sctp_bindx: a =>
        this.#now(a, d => {
          const list = sockaddrs(a[1], this.#env.bindAddress);
          const n = numberOf(a[2]) ?? list.length;
          const how = need(a[3], 'flags');
          if (how !== 0x8001 && how !== 0x8002) return -EFAULT;
          if (n <= 0) return -EINVAL;
          const r = d.so.setsockopt(IPPROTO_SCTP, how, list.slice(0, n));
          if (r >= 0) this.#env.bound(d.so);
          return r;
        }),
      sctp_getpaddrs: a => this.#now(a, d => this.#addresses(d, 0x8003, a)),
      sctp_getladdrs: a => this.#now(a, d => this.#addresses(d, 0x8004, a)),
      sctp_freepaddrs: () => () => done(0),
      sctp_freeladdrs: () => () => done(0),
    };
  }

  #named(got: SockAddr | number, e: Expr | undefined): Outcome {
    if (typeof got === 'number') return done(got);
    const differences: Difference[] = [];
    if (e !== undefined) compareAddress('address', e, got, differences);
    return { value: 0, differences };
  }

  #addresses(d: Descriptor, option: number, a: readonly Expr[]): Outcome {
    const got = d.so.getsockopt(IPPROTO_SCTP, option, { assocId: numberOf(a[1]) ?? 0 });
    if (typeof got === 'number' && got < 0) return done(got);
    const list = got as readonly SockAddr[];
    const differences: Difference[] = [];
    const e = a[2];
    if (e?.kind === 'list' && !(e.items.length === 1 && e.items[0]!.kind === 'any')) {
      const want = sockaddrs(e, this.#env.peer());
      const same = (x: SockAddr, y: SockAddr) => x.port === y.port && x.addr.equals(y.addr);
      if (want.length !== list.length || want.some(x => !list.some(y => same(x, y))))
        differences.push({
          field: 'addresses',
          expected: want.map(addressText).join(', '),
          got: list.map(addressText).join(', '),
        });
    }
    return { value: list.length, differences };
  }

  /** poll([{fd=, events=, revents=}, …], n, timeout): blocks by its timeout; -1 = for ever. */
  #poll(a: readonly Expr[]): Attempt {
    const clock = this.#env.stack.clock;
    const timeout = need(a[2], 'a timeout');
    let until = 0;
    // The stack's wheel wakes whoever waits for the call.
    const timer = new Callout(() => {});
    return () => {
      if (until === 0) {
        until = timeout < 0 ? Number.POSITIVE_INFINITY : clock.now + timeout * MSEC;
        this.#env.stack.callouts.reset(timer, until - clock.now);
      }
      const differences: Difference[] = [];
      let n = 0;
      for (const [i, x] of listOf(a[0]!).entries()) {
        if (x.kind !== 'struct') throw new ScriptError('a pollfd literal is expected here', x.at);
        const so = this.#fds.get(need(member(x, 'fd')?.value, 'fd'))?.so;
        const events = numberOf(member(x, 'events')?.value) ?? 0;
        let got = 0;
        if (so === undefined) got = 0x20;
        else {
          if (so.readable) got |= events & 1;
          if (so.writable) got |= events & 4;
          if (so.error !== 0) got |= 8;
        }
        if (got !== 0) n++;
        const want = numberOf(member(x, 'revents')?.value);
        if (want !== undefined && want !== got)
          differences.push({ field: `revents ${i + 1}`, expected: flagText(want, 'POLL'), got: flagText(got, 'POLL') });
      }
      return n === 0 && clock.now < until ? 'blocked' : { value: n, differences };
    };
  }
}

/** Where a receive call puts what it tells beside the data. */
interface Outputs {
  readonly from?: Expr | undefined;
  readonly sinfo?: Expr | undefined;
  readonly control?: Expr | undefined;
  readonly info?: Expr | undefined;
  readonly infolen?: Expr | undefined;
  readonly infotype?: Expr | undefined;
  readonly flags?: Expr | undefined;
}

function compareNumber(field: string, e: Expr | undefined, got: number, out: Difference[]): void {
  const want = numberOf(e);
  if (want !== undefined && want !== got) out.push({ field, expected: String(want), got: String(got) });
}
