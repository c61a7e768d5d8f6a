/**
 * What a send says and a receive tells beside the data, in its C forms: sctp_sndrcvinfo, sctp_sndinfo and its siblings,
 * control messages (RFC 6458 §5.3), sendv and recvv information (§9.12, §9.13). Payload protocol identifiers stand in
 * network order there and in host order in the stack's objects.
 */

import type { RecvInfo, SendInfo, SockAddr, Socket } from '../stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP } from '../stack/netinet/in.js';
import type { Expr, StructExpr } from './ast.js';
import { ScriptError } from './encode.js';
import { compareRecord, listOf, member, need, numberOf, recordOf } from './expressions.js';
import type { Abi, Difference } from './result.js';
import { type CRecord, type Layout, layoutOf } from './structs.js';
import { swap32 } from './values.js';

const SNDINFO = layoutOf('sctp_sndinfo');
const PRINFO = layoutOf('sctp_prinfo');
const AUTHINFO = layoutOf('sctp_authinfo');
const SNDRCV = layoutOf('sctp_sndrcvinfo');
const SPA = layoutOf('sctp_sendv_spa');
const INITMSG = layoutOf('sctp_initmsg');

/** The stack's SendInfo and what only some requests have. */
export interface SendRequest extends SendInfo {
  keyNumber?: number;
}
export const emptyRequest = (): SendRequest => ({
  sid: 0,
  flags: 0,
  ppid: 0,
  context: 0,
  assocId: 0,
  prPolicy: 0,
  prValue: 0,
});

const num = (r: CRecord, field: string): number => Number(r[field] ?? 0);

export function takeSndinfo(to: SendRequest, r: CRecord): void {
  to.sid = num(r, 'snd_sid') & 0xffff;
  to.flags = num(r, 'snd_flags') & 0xffff;
  to.ppid = swap32(num(r, 'snd_ppid'));
  to.context = num(r, 'snd_context') >>> 0;
  to.assocId = num(r, 'snd_assoc_id') >>> 0;
}
function takePrinfo(to: SendRequest, r: CRecord): void {
  to.prPolicy = num(r, 'pr_policy') & 0xffff;
  to.prValue = num(r, 'pr_value') >>> 0;
}
/** The low nibble of the flags is the policy; a time to live without one means the timed policy (FreeBSD). */
export function takeSndrcv(to: SendRequest, r: CRecord): void {
  to.sid = num(r, 'sinfo_stream') & 0xffff;
  to.flags = num(r, 'sinfo_flags') & 0xfff0;
  to.ppid = swap32(num(r, 'sinfo_ppid'));
  to.context = num(r, 'sinfo_context') >>> 0;
  to.assocId = num(r, 'sinfo_assoc_id') >>> 0;
  const ttl = num(r, 'sinfo_timetolive') >>> 0;
  const policy = num(r, 'sinfo_flags') & 0xf;
  to.prPolicy = policy === 0 && ttl > 0 ? 1 : policy;
  to.prValue = ttl;
  if (num(r, 'sinfo_keynumber_valid') !== 0) to.keyNumber = num(r, 'sinfo_keynumber');
}
export function sndrcvRequest(e: Expr | undefined, peer: SockAddr): SendRequest | undefined {
  if (e === undefined || e.kind === 'null' || e.kind === 'any') return undefined;
  const to = emptyRequest();
  takeSndrcv(to, recordOf(e, SNDRCV, peer));
  return to;
}

const VALID = { sndinfo: 1, prinfo: 2, authinfo: 4 };

/** sctp_sendv's information (RFC 6458 §9.12); -1: too short or of no known type, which is EINVAL. */
export function sendvRequest(
  info: Expr | undefined,
  infolen: number,
  type: number,
  peer: SockAddr,
): SendRequest | undefined | -1 {
  if (type === 0) return info !== undefined && info.kind !== 'null' && infolen > 0 ? -1 : undefined;
  const layout = [undefined, SNDINFO, PRINFO, AUTHINFO, SPA][type];
  if (layout === undefined || infolen < layout.size || info === undefined || info.kind === 'null') return -1;
  const r = recordOf(info, layout, peer);
  const to = emptyRequest();
  if (type === 1) takeSndinfo(to, r);
  else if (type === 2) takePrinfo(to, r);
  else if (type === 3) to.keyNumber = num(r, 'auth_keynumber');
  else {
    const flags = num(r, 'sendv_flags');
    if ((flags & VALID.sndinfo) !== 0) takeSndinfo(to, (r.sendv_sndinfo ?? {}) as CRecord);
    if ((flags & VALID.prinfo) !== 0) takePrinfo(to, (r.sendv_prinfo ?? {}) as CRecord);
    if ((flags & VALID.authinfo) !== 0) to.keyNumber = num((r.sendv_authinfo ?? {}) as CRecord, 'auth_keynumber');
  }
  return to;
}

/** sizeof(struct cmsghdr), and with its alignment: CMSG_LEN(0). */
const cmsgHeader = (abi: Abi): number => (abi === 'compact' ? 12 : 16);

interface Cmsg {
  readonly literal: StructExpr;
  readonly len: number | undefined;
  readonly level: number;
  readonly type: number;
  readonly data: Expr | undefined;
}

function cmsgs(e: Expr | undefined): Cmsg[] {
  if (e === undefined || e.kind === 'any' || e.kind === 'null') return [];
  return listOf(e).map(x => {
    if (x.kind !== 'struct') throw new ScriptError('a cmsghdr literal is expected here', x.at);
    return {
      literal: x,
      len: numberOf(member(x, 'cmsg_len')?.value),
      level: numberOf(member(x, 'cmsg_level')?.value) ?? IPPROTO_SCTP,
      type: need(member(x, 'cmsg_type')?.value, 'cmsg_type'),
      data: member(x, 'cmsg_data')?.value,
    };
  });
}

/** What the control messages of a sendmsg ask for: SNDRCV wins over the newer ones; one cut short counts as absent. */
export function sendmsgRequest(
  control: Expr | undefined,
  abi: Abi,
  peer: SockAddr,
): { readonly request: SendRequest | undefined; readonly init: CRecord | undefined; readonly addresses: SockAddr[] } {
  let request: SendRequest | undefined;
  let init: CRecord | undefined;
  let old: SendRequest | undefined;
  const addresses: SockAddr[] = [];
  for (const c of cmsgs(control)) {
    if (c.level !== IPPROTO_SCTP) continue;
    const take = (l: Layout): CRecord | undefined =>
      c.len !== undefined && c.len < cmsgHeader(abi) + l.size ? undefined : recordOf(c.data, l, peer);
    if (c.type === 1) init = take(INITMSG);
    else if (c.type === 2) {
      const r = take(SNDRCV);
      if (r !== undefined) takeSndrcv((old = emptyRequest()), r);
    } else if (c.type === 4) {
      const r = take(SNDINFO);
      if (r !== undefined) takeSndinfo((request ??= emptyRequest()), r);
    } else if (c.type === 7) {
      const r = take(PRINFO);
      if (r !== undefined) takePrinfo((request ??= emptyRequest()), r);
    } else if (c.type === 8) {
      const r = take(AUTHINFO);
      if (r !== undefined) (request ??= emptyRequest()).keyNumber = num(r, 'auth_keynumber');
    } else if ((c.type === 9 || c.type === 10) && c.data !== undefined)
      addresses.push({ addr: dstaddr(c.data), port: 0 });
  }
  return { request: old ?? request, init, addresses };
}

function dstaddr(e: Expr): InAddr {
  const text = e.kind === 'call' ? e.args[e.args.length - 1] : e.kind === 'struct' ? e.fields[0]?.value : e;
  const inner = text?.kind === 'call' ? text.args[text.args.length - 1] : text;
  const a = inner?.kind === 'string' ? InAddr.parse(inner.value) : undefined;
  if (a === undefined) throw new ScriptError('an address is expected here', e.at);
  return a;
}

// --------------------------------------------------------------------------------------------------------------- receive

/** What a receiver may be told of the next message (SCTP_RECVNXTINFO); the stack's RecvInfo has it as `next`. */
interface NextInfo {
  readonly sid: number;
  readonly flags: number;
  readonly ppid: number;
  readonly length: number;
  readonly assocId: number;
}
const nextOf = (i: RecvInfo): NextInfo | undefined => (i as RecvInfo & { readonly next?: NextInfo }).next;

export const sndrcvOf = (i: RecvInfo): CRecord => ({
  sinfo_stream: i.sid,
  sinfo_ssn: i.ssn,
  sinfo_flags: i.flags,
  sinfo_ppid: swap32(i.ppid),
  sinfo_context: i.context,
  sinfo_timetolive: 0,
  sinfo_tsn: i.tsn,
  sinfo_cumtsn: i.cumtsn,
  sinfo_assoc_id: i.assocId,
});
function extrcvOf(i: RecvInfo): CRecord {
  const n = nextOf(i);
  return {
    ...sndrcvOf(i),
    serinfo_next_flags: n?.flags ?? 0,
    serinfo_next_stream: n?.sid ?? 0,
    serinfo_next_aid: n?.assocId ?? 0,
    serinfo_next_length: n?.length ?? 0,
    serinfo_next_ppid: swap32(n?.ppid ?? 0),
  };
}
const rcvOf = (i: RecvInfo): CRecord => ({
  rcv_sid: i.sid,
  rcv_ssn: i.ssn,
  rcv_flags: i.flags,
  rcv_ppid: swap32(i.ppid),
  rcv_tsn: i.tsn,
  rcv_cumtsn: i.cumtsn,
  rcv_context: i.context,
  rcv_assoc_id: i.assocId,
});
const nxtOf = (n: NextInfo): CRecord => ({
  nxt_sid: n.sid,
  nxt_flags: n.flags,
  nxt_ppid: swap32(n.ppid),
  nxt_length: n.length,
  nxt_assoc_id: n.assocId,
});

const on = (so: Socket, option: number): boolean => {
  const v = so.getsockopt(IPPROTO_SCTP, option);
  return typeof v === 'number' && v > 0;
};
/** Which pieces of information the socket's user has switched on. */
export function wanted(so: Socket): { rcv: boolean; nxt: boolean; sndrcv: boolean; ext: boolean } {
  const events = so.getsockopt(IPPROTO_SCTP, 0x0c);
  const io = typeof events === 'object' && events !== null ? (events as { dataIo?: unknown }).dataIo : undefined;
  return { rcv: on(so, 0x1f), nxt: on(so, 0x20), sndrcv: io === true || io === 1, ext: on(so, 0x17) };
}

/** The control messages that come with a message, in FreeBSD's order (facts part 2.4). */
function received(so: Socket, i: RecvInfo): { type: number; layout: Layout; data: CRecord }[] {
  const w = wanted(so);
  const next = nextOf(i);
  const out: { type: number; layout: Layout; data: CRecord }[] = [];
  if (w.rcv) out.push({ type: 5, layout: layoutOf('sctp_rcvinfo'), data: rcvOf(i) });
  if (w.nxt && next !== undefined) out.push({ type: 6, layout: layoutOf('sctp_nxtinfo'), data: nxtOf(next) });
  if (w.ext) out.push({ type: 3, layout: layoutOf('sctp_extrcvinfo'), data: extrcvOf(i) });
  else if (w.sndrcv) out.push({ type: 2, layout: SNDRCV, data: sndrcvOf(i) });
  return out;
}

/** Compares the control messages of a recvmsg with `msg_control=[…]`. `message`: false for end of file. */
export function compareControl(so: Socket, i: RecvInfo, message: boolean, e: Expr, abi: Abi, out: Difference[]): void {
  if (e.kind === 'any') return;
  const got = message ? received(so, i) : [];
  const want = cmsgs(e);
  const names = (list: readonly { type: number }[]) => `[${list.map(c => `cmsg_type ${c.type}`).join(', ')}]`;
  if (want.length !== got.length || want.some((c, k) => c.type !== got[k]!.type)) {
    out.push({ field: 'msg_control', expected: names(want), got: names(got) });
    return;
  }
  for (const [k, c] of want.entries()) {
    const g = got[k]!;
    const len = cmsgHeader(abi) + g.layout.size;
    if (c.len !== undefined && c.len !== len)
      out.push({ field: `msg_control ${k + 1}, cmsg_len`, expected: String(c.len), got: String(len) });
    if (c.data !== undefined) compareRecord(`msg_control ${k + 1}, cmsg_data`, c.data, g.layout, g.data, out);
  }
}

/** sctp_recvv's information: its type, length and contents (RFC 6458 §9.13). */
export function recvvInfo(
  so: Socket,
  i: RecvInfo,
  message: boolean,
): { readonly type: number; readonly layout: Layout | undefined; readonly data: CRecord } {
  const w = message ? wanted(so) : { rcv: false, nxt: false };
  const next = nextOf(i);
  const nxt = w.nxt && next !== undefined;
  if (w.rcv && nxt)
    return {
      type: 3,
      layout: layoutOf('sctp_recvv_rn'),
      data: { recvv_rcvinfo: rcvOf(i), recvv_nxtinfo: nxtOf(next) },
    };
  if (w.rcv) return { type: 1, layout: layoutOf('sctp_rcvinfo'), data: rcvOf(i) };
  if (nxt) return { type: 2, layout: layoutOf('sctp_nxtinfo'), data: nxtOf(next) };
  return { type: 0, layout: undefined, data: {} };
}
