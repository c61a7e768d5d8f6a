/** System calls that send and receive, in all the forms of RFC 6458 §3, §4, §5 and §9 that scripts use (facts part 5.1). */

import { MSG_NOTIFICATION, RecvInfo, type SockAddr } from '../stack/kern/socket.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import { SCTP_DEFAULT_SEND_PARAM } from '../stack/sctp/api.js';
import * as binary from '../stack/sctp/binary.js';
import { sndrcvinfoOf } from '../stack/sctp/cmsg.js';
import { decodeStruct, layoutOf, swap32 } from '../stack/sctp/layout.js';
import * as library from '../stack/sctp/library.js';
import type { Expr, StructField } from './ast.js';
import { type Attempt, type Calls, type Descriptor, type Descriptors, done } from './descriptors.js';
import {
  compareAddress,
  compareRecord,
  type Iovec,
  iovecs,
  member,
  need,
  numberOf,
  sockaddr,
  sockaddrs,
} from './expressions.js';
import { alignment, compareControl, controlOf, msghdr, recvvInfo, sendvInfo, sndrcvRequest } from './messages.js';
import type { Difference } from './result.js';
import { fieldName, notificationLayout } from './structs.js';
import { ERRNOS, flagText, wordValue } from './values.js';

const EINVAL = ERRNOS.EINVAL!;
const MSG_CTRUNC = wordValue('MSG_CTRUNC')!;
/** Largest buffer that a script may ask for; a read takes less anyway. */
const MAX_BUFFER = 16 << 20;
const zeros = new Uint8Array(65536);

export function dataCalls(k: Descriptors): Calls {
  return { ...sendCalls(k), ...receiveCalls(k) };
}

const total = (list: readonly Iovec[]): number => list.reduce((n, v) => n + v.len, 0);

// --------------------------------------------------------------------------------------------------------------- sending

/** `to`: the first address that the message names. The data is zeros. */
function sending(
  k: Descriptors,
  d: Descriptor,
  len: number,
  flags: number,
  to: SockAddr | undefined,
  f: (data: Uint8Array) => number,
): Attempt {
  const data = len <= zeros.length ? zeros.subarray(0, Math.max(len, 0)) : undefined;
  return k.blocking(d, 'send', flags, () => {
    if (len < 0 || len > MAX_BUFFER) return done(-EINVAL);
    if (to !== undefined) k.env.sending(d.so, to);
    return done(f(data ?? new Uint8Array(len)));
  });
}

function sendCalls(k: Descriptors): Calls {
  const peer = () => k.env.peer();
  const plain = (d: Descriptor, len: number, flags = 0, to?: SockAddr) =>
    sending(k, d, len, flags, to, data => d.so.send(data, 0, len, undefined, to, flags));
  return {
    write: a => k.on(a, d => plain(d, need(a[2], 'a length'))),
    writev: a => k.on(a, d => plain(d, total(iovecs(a[1])))),
    send: a => k.on(a, d => plain(d, need(a[2], 'a length'), need(a[3], 'flags'))),
    sendto: a => k.on(a, d => plain(d, need(a[2], 'a length'), need(a[3], 'flags'), sockaddr(a[4], peer()))),
    sctp_sendmsg: a =>
      k.on(a, d => {
        const to = destination(k, a[3], a[4]);
        const [ppid, flags] = [swap32(need(a[5], 'a ppid')), need(a[6], 'flags') & 0xffff];
        const sid = need(a[7], 'a stream') & 0xffff;
        const [ttl, context] = [need(a[8], 'a time to live') >>> 0, need(a[9], 'a context') >>> 0];
        return sending(k, d, need(a[2], 'a length'), 0, to, data =>
          library.sctp_sendmsg(d.so, data, to, ppid, flags, sid, ttl, context),
        );
      }),
    sctp_send: a =>
      k.on(a, d => {
        const [len, flags] = [need(a[2], 'a length'), need(a[4], 'flags')];
        const info = sndrcvRequest(a[3], peer());
        return sending(k, d, len, flags, undefined, data => d.so.send(data, 0, len, info, undefined, flags));
      }),
    sctp_sendx: a =>
      k.on(a, d => {
        const [len, flags] = [need(a[2], 'a length'), need(a[6], 'flags')];
        const list = sockaddrs(a[3], peer()).slice(0, Math.max(numberOf(a[4]) ?? Number.POSITIVE_INFINITY, 0));
        const info = sndrcvRequest(a[5], peer());
        return sending(k, d, len, flags, list[0], data =>
          library.sctp_sendx(d.so, data, list, info ?? defaults(d), flags),
        );
      }),
    sctp_sendv: a =>
      k.on(a, d => {
        const none = a[3] === undefined || a[3].kind === 'any' || a[3].kind === 'null';
        const list = none
          ? []
          : sockaddrs(a[3], peer()).slice(0, Math.max(numberOf(a[4]) ?? Number.POSITIVE_INFINITY, 0));
        const v = sendvInfo(a[5], numberOf(a[6]) ?? 0, numberOf(a[7]) ?? 0, peer());
        const flags = numberOf(a[8]) ?? 0;
        if (v === undefined || (!none && list.length === 0)) return () => done(-EINVAL);
        const to = list[0] ?? (a[3]?.kind === 'any' && (numberOf(a[4]) ?? 0) > 0 ? peer() : undefined);
        return sending(k, d, total(iovecs(a[1])), flags, to, data =>
          library.sctp_sendv(d.so, [data], list.length > 0 || to === undefined ? list : [to], v, flags),
        );
      }),
    sendmsg: a => k.on(a, d => sendmsg(k, d, a)),
  };
}

const defaults = (d: Descriptor) =>
  d.so.getsockopt(IPPROTO_SCTP, SCTP_DEFAULT_SEND_PARAM, 0) as NonNullable<ReturnType<typeof sndrcvRequest>>;

/** `...` is the peer (for one-to-one sockets it makes no difference), NULL nobody. */
function destination(k: Descriptors, to: Expr | undefined, len: Expr | undefined): SockAddr | undefined {
  if (to === undefined || (to.kind === 'any' && numberOf(len) === 0)) return undefined;
  return sockaddr(to, k.env.peer());
}

function sendmsg(k: Descriptors, d: Descriptor, a: readonly Expr[]): Attempt {
  const m = msghdr(a[1], 'sendmsg');
  const peer = k.env.peer();
  const name = member(m, 'msg_name');
  const to = name === undefined || numberOf(name.count) === 0 ? undefined : sockaddr(name.value, peer);
  const control = controlOf(member(m, 'msg_control'), k.env.abi, peer);
  const flags = numberOf(a[2]) ?? 0;
  const len = total(iovecs(member(m, 'msg_iov')?.value));
  return sending(k, d, len, flags, to, data => binary.sendmsg(d.so, data, control, to, flags, alignment(k.env.abi)));
}

// ------------------------------------------------------------------------------------------------------------- receiving

/** Where a receive call puts what it tells beside the data. */
interface Outputs {
  readonly from?: Expr | undefined;
  readonly sinfo?: Expr | undefined;
  readonly control?: StructField | undefined;
  /** sctp_recvv. */
  readonly info?: Expr | undefined;
  readonly infolen?: Expr | undefined;
  readonly infotype?: Expr | undefined;
  readonly flags?: Expr | undefined;
}

function receiveCalls(k: Descriptors): Calls {
  const one = (a: readonly Expr[]): Iovec[] => [{ base: a[1]!, len: need(a[2], 'a length') }];
  return {
    read: a => k.on(a, d => receive(k, d, one(a), 0)),
    readv: a => k.on(a, d => receive(k, d, iovecs(a[1]), 0)),
    recv: a => k.on(a, d => receive(k, d, one(a), need(a[3], 'flags'))),
    recvfrom: a => k.on(a, d => receive(k, d, one(a), need(a[3], 'flags'), { from: a[4] })),
    sctp_recvmsg: a => k.on(a, d => receive(k, d, one(a), 0, { from: a[3], sinfo: a[5], flags: a[6] })),
    sctp_recvv: a =>
      k.on(a, d => {
        const out = { from: a[3], info: a[5], infolen: a[6], infotype: a[7], flags: a[8] };
        return receive(k, d, iovecs(a[1]), 0, out);
      }),
    recvmsg: a =>
      k.on(a, d => {
        const m = msghdr(a[1], 'recvmsg');
        return receive(k, d, iovecs(member(m, 'msg_iov')?.value), numberOf(a[2]) ?? 0, {
          from: member(m, 'msg_name')?.value,
          control: member(m, 'msg_control'),
          flags: member(m, 'msg_flags')?.value,
        });
      }),
  };
}

/** One message, a piece of one, or (a piece of) a notification. */
function receive(k: Descriptors, d: Descriptor, iov: readonly Iovec[], flags: number, out: Outputs = {}): Attempt {
  const len = total(iov);
  if (len < 0 || len > MAX_BUFFER) return () => done(-EINVAL);
  return k.blocking(d, 'receive', flags, () => {
    const info = new RecvInfo();
    const buf = new Uint8Array(len);
    const { n, infotype } = library.sctp_recvv(d.so, buf, info, flags);
    if (n < 0) return done(n);
    const note = (info.msgFlags & MSG_NOTIFICATION) !== 0 ? buf.subarray(0, n) : undefined;
    const differences: Difference[] = [];
    compareBase(k, iov[0]?.base, note, differences);
    compareOutputs(k, d, { info, infotype, message: n > 0 || info.msgFlags !== 0 }, out, differences);
    return { value: n, differences };
  });
}

/** A struct literal as iov_base is a notification that must have come. */
function compareBase(k: Descriptors, base: Expr | undefined, note: Uint8Array | undefined, out: Difference[]): void {
  if (base === undefined || base.kind !== 'struct') return;
  const layout = note === undefined ? undefined : notificationLayout(note);
  if (layout === undefined || note === undefined) {
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
  // Of the TSNs only ours are mapped (facts part 4.6).
  const numbers = k.env.mapping.current;
  compareRecord('iov_base', base, layout, decodeStruct(layout, note), out, (field, n) =>
    field === 'assocreset_local_tsn' && numbers !== undefined ? numbers.tsnToScript(n) : n,
  );
}

function compareOutputs(
  k: Descriptors,
  d: Descriptor,
  got: { readonly info: RecvInfo; readonly infotype: number; readonly message: boolean },
  out: Outputs,
  differences: Difference[],
): void {
  const { info, infotype, message } = got;
  const note = (info.msgFlags & MSG_NOTIFICATION) !== 0;
  let { msgFlags } = info;
  if (out.from !== undefined && out.from.kind !== 'null' && message)
    compareAddress('address of the sender', out.from, info.from, differences);
  if (out.sinfo !== undefined && message)
    compareRecord('sinfo', out.sinfo, layoutOf('sctp_sndrcvinfo'), sndrcvinfoOf(info), differences);
  if (out.control !== undefined && compareControl(d.so, info, message && !note, out.control, k.env.abi, differences))
    msgFlags |= MSG_CTRUNC;
  if (out.infotype !== undefined || out.info !== undefined) {
    const i = recvvInfo(info, infotype);
    compareNumber('infotype', out.infotype, infotype, differences);
    compareNumber('infolen', out.infolen, i?.layout.size ?? 0, differences);
    if (out.info?.kind === 'struct') {
      if (i !== undefined) compareRecord('info', out.info, i.layout, i.data, differences);
      else differences.push({ field: 'info', expected: 'information', got: 'none' });
    }
  }
  const want = numberOf(out.flags);
  if (want !== undefined && want !== msgFlags)
    differences.push({ field: 'msg_flags', expected: flagText(want, 'MSG_'), got: flagText(msgFlags, 'MSG_') });
}

function compareNumber(field: string, e: Expr | undefined, got: number, out: Difference[]): void {
  const want = numberOf(e);
  if (want !== undefined && want !== got) out.push({ field, expected: String(want), got: String(got) });
}
