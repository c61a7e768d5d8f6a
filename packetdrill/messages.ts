/**
 * What a send says and a receive tells beside the data, between the script's literals and the stack's binary interface
 * (stack/sctp/cmsg.ts, library.ts): control messages (RFC 6458 §5.3), sendv and recvv information (§9.12, §9.13).
 */

import type { RecvInfo, SendInfo, SockAddr, Socket } from '../stack/kern/socket.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import { wantedOf } from '../stack/sctp/binary.js';
import {
  cmsgLen,
  cmsgRow,
  cmsgSpace,
  nxtinfoOf,
  rcvinfoOf,
  received,
  SCTP_AUTHINFO,
  SCTP_DSTADDRV4,
  SCTP_DSTADDRV6,
  SCTP_PRINFO,
} from '../stack/sctp/cmsg.js';
import { type CRecord, decodeStruct, encodeStruct, type Layout, layoutOf } from '../stack/sctp/layout.js';
import * as library from '../stack/sctp/library.js';
import { CODECS } from '../stack/sctp/optionrows.js';
import type { Expr, StructExpr, StructField } from './ast.js';
import { ScriptError } from './encode.js';
import { compareRecord, inAddr, listOf, member, need, numberOf, recordOf } from './expressions.js';
import type { Abi, Difference } from './result.js';

/** Most bytes of control messages that a script may ask for. */
const MAX_CONTROL = 65536;

/** To what a cmsghdr is aligned. */
export const alignment = (abi: Abi): number => (abi === 'compact' ? 4 : 8);

/** A literal as a C program's struct: every field is there, in C's width. */
const structOf = (l: Layout, e: Expr | undefined, peer: SockAddr): CRecord =>
  decodeStruct(l, encodeStruct(l, recordOf(e, l, peer)));

const SNDRCV = layoutOf('sctp_sndrcvinfo');
const SNDINFO = layoutOf('sctp_sndinfo');
const PRINFO = layoutOf('sctp_prinfo');
const SENDV = [undefined, SNDINFO, PRINFO, layoutOf('sctp_authinfo'), layoutOf('sctp_sendv_spa')];

const isOpen = (e: Expr | undefined): boolean =>
  e?.kind === 'any' || (e?.kind === 'list' && e.items.length === 1 && e.items[0]!.kind === 'any');
const isNothing = (e: Expr | undefined): boolean => e === undefined || e.kind === 'null' || isOpen(e);

/** The sctp_sndrcvinfo of sctp_send and sctp_sendx; undefined: NULL, the socket's defaults. */
export const sndrcvRequest = (e: Expr | undefined, peer: SockAddr): SendInfo | undefined =>
  isNothing(e) ? undefined : (CODECS.sndrcv.toApi(structOf(SNDRCV, e, peer)) as SendInfo);

const sndinfo = (r: CRecord) => CODECS.sndinfo.toApi(r) as library.SndInfo;
const prinfo = (r: CRecord): library.PrInfo => ({ prPolicy: Number(r.pr_policy), prValue: Number(r.pr_value) });

/** sctp_sendv's information (RFC 6458 §9.12); undefined: too short or of no known type, which libsctp calls EINVAL. */
export function sendvInfo(
  info: Expr | undefined,
  infolen: number,
  type: number,
  peer: SockAddr,
): library.SendvInfo | undefined {
  if (type === library.SCTP_SENDV_NOINFO) return !isNothing(info) || infolen !== 0 ? undefined : { type };
  const layout = SENDV[type];
  if (layout === undefined || infolen < layout.size || info === undefined || info.kind === 'null') return undefined;
  const r = structOf(layout, info, peer);
  if (type === library.SCTP_SENDV_SNDINFO) return { type, info: sndinfo(r) };
  if (type === library.SCTP_SENDV_PRINFO) return { type, info: prinfo(r) };
  if (type === library.SCTP_SENDV_AUTHINFO) return { type, info: { keyNumber: Number(r.auth_keynumber) } };
  return {
    type: library.SCTP_SENDV_SPA,
    flags: Number(r.sendv_flags),
    sndinfo: sndinfo(r.sendv_sndinfo as CRecord),
    prinfo: prinfo(r.sendv_prinfo as CRecord),
  };
}

// ------------------------------------------------------------------------------------------------------ control messages

/**
 * Lengths that scripts give to whole control messages though they are shorter than the struct with its padding (facts part
 * 5.2): packed structs behind a 12-byte header.
 */
const PACKED: ReadonlyMap<number, readonly number[]> = new Map([
  [SCTP_PRINFO, [18]],
  [SCTP_AUTHINFO, [16]],
]);

interface Cmsg {
  readonly len: number | undefined;
  readonly level: number;
  readonly type: number;
  readonly data: Expr | undefined;
}
function cmsgs(e: Expr | undefined): Cmsg[] {
  if (isNothing(e)) return [];
  return listOf(e!).map(x => {
    if (x.kind !== 'struct') throw new ScriptError('a cmsghdr literal is expected here', x.at);
    return {
      len: numberOf(member(x, 'cmsg_len')?.value),
      level: numberOf(member(x, 'cmsg_level')?.value) ?? IPPROTO_SCTP,
      type: need(member(x, 'cmsg_type')?.value, 'cmsg_type'),
      data: member(x, 'cmsg_data')?.value,
    };
  });
}

/** The data of a control message, whole. */
function cmsgData(c: Cmsg, peer: SockAddr): Uint8Array {
  const row = c.level === IPPROTO_SCTP ? cmsgRow(c.type) : undefined;
  if (row === undefined) return new Uint8Array(0);
  if (c.type !== SCTP_DSTADDRV4 && c.type !== SCTP_DSTADDRV6)
    return encodeStruct(row.layout, recordOf(c.data, row.layout, peer));
  const a = (c.data === undefined ? undefined : inAddr(c.data)) ?? peer.addr;
  const out = new Uint8Array(row.size);
  if (a.family === (c.type === SCTP_DSTADDRV4 ? 4 : 6)) a.write(new DataView(out.buffer), 0);
  else throw new ScriptError('the address is not of the family that cmsg_type says', c.data?.at);
  return out;
}

/**
 * The bytes of `msg_control(LEN)=[…]` of a sendmsg as a program would have laid them out, with the lengths that the script
 * writes, also those that lie; LEN (msg_controllen) cuts them when it is smaller.
 */
export function controlOf(field: StructField | undefined, abi: Abi, peer: SockAddr): Uint8Array {
  const align = alignment(abi);
  const parts: { readonly head: DataView; readonly bytes: Uint8Array }[] = [];
  let written = 0;
  let total = 0;
  for (const c of cmsgs(field?.value)) {
    const data = cmsgData(c, peer);
    const whole = cmsgLen(data.length, align);
    const len = c.len === undefined || (align === 4 && PACKED.get(c.type)?.includes(c.len)) ? whole : c.len;
    const there = Math.min(Math.max(len, cmsgLen(0, align)), whole);
    const bytes = new Uint8Array(cmsgSpace(there - cmsgLen(0, align), align));
    const head = new DataView(bytes.buffer);
    head.setUint32(0, len, true);
    head.setInt32(4, c.level, true);
    head.setInt32(8, c.type, true);
    bytes.set(data.subarray(0, there - cmsgLen(0, align)), cmsgLen(0, align));
    parts.push({ head, bytes });
    written = total + (c.len ?? len);
    total += bytes.length;
    if (total > MAX_CONTROL) throw new ScriptError(`more than ${MAX_CONTROL} bytes of control messages`, field?.at);
  }
  const out = new Uint8Array(total);
  let at = 0;
  for (const p of parts) {
    out.set(p.bytes, at);
    at += p.bytes.length;
  }
  const room = numberOf(field?.count);
  return room === undefined || room >= written ? out : out.subarray(0, Math.max(room, 0));
}

/**
 * Compares the control messages of a recvmsg with `msg_control(LEN)=[…]`. `message`: false for end of file and
 * notifications. True: LEN has no room for all of them (MSG_CTRUNC).
 */
export function compareControl(
  so: Socket,
  i: RecvInfo,
  message: boolean,
  field: StructField,
  abi: Abi,
  out: Difference[],
): boolean {
  const align = alignment(abi);
  const all = message ? received(i, wantedOf(so)) : [];
  const room = numberOf(field.count) ?? Number.POSITIVE_INFINITY;
  let used = 0;
  const got = all.filter(c => {
    const fits = used + cmsgLen(c.row.layout.size, align) <= room;
    used += cmsgSpace(c.row.layout.size, align);
    return fits;
  });
  const cut = got.length < all.length;
  if (isOpen(field.value)) return cut;
  const want = cmsgs(field.value);
  const name = (type: number) => cmsgRow(type)?.name ?? `cmsg_type ${type}`;
  const names = (types: readonly number[]) => `[${types.map(name).join(', ')}]`;
  if (want.length !== got.length || want.some((c, k) => c.type !== got[k]!.row.type)) {
    const [expected, came] = [names(want.map(c => c.type)), names(got.map(c => c.row.type))];
    out.push({ field: 'msg_control', expected, got: came });
    return cut;
  }
  for (const [k, c] of want.entries()) {
    const { row, data } = got[k]!;
    const len = cmsgLen(row.layout.size, align);
    const where = `msg_control ${row.name}`;
    if (c.len !== undefined && c.len !== len)
      out.push({ field: `${where}, cmsg_len`, expected: String(c.len), got: String(len) });
    if (c.data !== undefined) compareRecord(where, c.data, row.layout, data, out);
  }
  return cut;
}

/** What sctp_recvv gives for its infotype: the struct and its contents. */
export function recvvInfo(
  i: RecvInfo,
  infotype: number,
): { readonly layout: Layout; readonly data: CRecord } | undefined {
  switch (infotype) {
    case library.SCTP_RECVV_RCVINFO:
      return { layout: layoutOf('sctp_rcvinfo'), data: rcvinfoOf(i) };
    case library.SCTP_RECVV_NXTINFO:
      return { layout: layoutOf('sctp_nxtinfo'), data: nxtinfoOf(i.next!) };
    case library.SCTP_RECVV_RN:
      return {
        layout: layoutOf('sctp_recvv_rn'),
        data: { recvv_rcvinfo: rcvinfoOf(i), recvv_nxtinfo: nxtinfoOf(i.next!) },
      };
    default:
      return undefined;
  }
}

/** The msghdr literal of sendmsg and recvmsg. */
export function msghdr(e: Expr | undefined, call: string): StructExpr {
  if (e?.kind !== 'struct') throw new ScriptError(`${call} needs a msghdr literal`, e?.at);
  return e;
}
