/**
 * Control messages of sendmsg and recvmsg (RFC 6458 §5.3) as rows of data, in bytes both ways: what a sender asks for, and
 * what a receiver has switched on. Payload protocol identifiers stand in network order there, in host order in the objects.
 *
 * cmsghdr: cmsg_len 4 | cmsg_level 4 | cmsg_type 4, then the data; both begin at multiples of `align` (8 on amd64).
 */

import { EINVAL } from '../kern/errno.js';
import type { NextInfo, RecvInfo, SendInfo, SockAddr } from '../kern/socket.js';
import { InAddr, IPPROTO_SCTP } from '../netinet/in.js';
import { type InitMsg, SCTP_COMPLETE, SCTP_NOTIFICATION, SCTP_UNORDERED } from './api.js';
import { type CRecord, decodeStruct, encodeStruct, type Layout, layoutOf, swap32 } from './layout.js';
import { CODECS, type Extension } from './optionrows.js';

export interface CmsgRow {
  readonly name: string;
  readonly type: number;
  /** Linux's number; undefined: Linux does not have it. */
  readonly linux: number | undefined;
  /** s: goes with a message sent; g: comes with one received. */
  readonly way: 's' | 'g' | 'gs';
  readonly layout: Layout;
  /** Bytes of data; for addresses those of the address. */
  readonly size: number;
  readonly extension?: Extension;
}
const row = (
  name: string,
  type: number,
  linux: number | undefined,
  way: CmsgRow['way'],
  layout: string,
  extension?: Extension,
  size = layoutOf(layout).size,
): CmsgRow => ({
  name,
  type,
  linux,
  way,
  layout: layoutOf(layout),
  size,
  ...(extension === undefined ? {} : { extension }),
});

export const SCTP_INIT = 1;
export const SCTP_SNDRCV = 2;
export const SCTP_EXTRCV = 3;
export const SCTP_SNDINFO = 4;
export const SCTP_RCVINFO = 5;
export const SCTP_NXTINFO = 6;
export const SCTP_PRINFO = 7;
export const SCTP_AUTHINFO = 8;
export const SCTP_DSTADDRV4 = 9;
export const SCTP_DSTADDRV6 = 10;

export const CMSGS: readonly CmsgRow[] = [
  row('SCTP_INIT', SCTP_INIT, 0, 's', 'sctp_initmsg'),
  row('SCTP_SNDRCV', SCTP_SNDRCV, 1, 'gs', 'sctp_sndrcvinfo'),
  row('SCTP_EXTRCV', SCTP_EXTRCV, undefined, 'g', 'sctp_extrcvinfo'),
  row('SCTP_SNDINFO', SCTP_SNDINFO, 2, 's', 'sctp_sndinfo'),
  row('SCTP_RCVINFO', SCTP_RCVINFO, 3, 'g', 'sctp_rcvinfo'),
  row('SCTP_NXTINFO', SCTP_NXTINFO, 4, 'g', 'sctp_nxtinfo'),
  row('SCTP_PRINFO', SCTP_PRINFO, 5, 's', 'sctp_prinfo'), // checked; obeyed with the extension 'pr'
  row('SCTP_AUTHINFO', SCTP_AUTHINFO, 6, 's', 'sctp_authinfo', 'auth'),
  row('SCTP_DSTADDRV4', SCTP_DSTADDRV4, 7, 's', 'in_addr', undefined, 4),
  row('SCTP_DSTADDRV6', SCTP_DSTADDRV6, 8, 's', 'in6_addr', undefined, 16),
];
const byType = new Map(CMSGS.map(r => [r.type, r]));
export const cmsgRow = (type: number): CmsgRow | undefined => byType.get(type);

// serinfo_next_flags.
const NEXT_AVAIL = 1;
const NEXT_ISCOMPLETE = 2;
const NEXT_IS_UNORDERED = 4;
const NEXT_IS_NOTIFICATION = 8;

const HEADER = 12;
const up = (n: number, align: number): number => Math.ceil(n / align) * align;
/** CMSG_LEN(data): what cmsg_len says. */
export const cmsgLen = (data: number, align: number): number => up(HEADER, align) + data;
/** CMSG_SPACE(data): where the next one begins. */
export const cmsgSpace = (data: number, align: number): number => up(cmsgLen(data, align), align);

// Sending.

export interface SendRequest {
  readonly info: SendInfo | undefined;
  /** Some control message was too short: it counts as absent, but no association may be set up by it (EINVAL). */
  readonly truncated: boolean;
}

const emptyInfo = (): SendInfo => ({
  sid: 0,
  flags: 0,
  ppid: 0,
  context: 0,
  assocId: 0,
  prPolicy: 0,
  prValue: 0,
});

/**
 * What the control messages of a sendmsg ask for (facts part 2.4): SNDINFO and PRINFO are one request, SNDRCV wins over
 * them; INIT and addresses alone leave the rest to `defaults` (SCTP_DEFAULT_SEND_PARAM). Addresses get `port`. -EINVAL:
 * lengths that do not fit together.
 */
export function sendRequest(
  control: Uint8Array,
  port: number,
  align = 8,
  defaults: () => SendInfo = emptyInfo,
): SendRequest | number {
  const dv = new DataView(control.buffer, control.byteOffset, control.length);
  let info: SendInfo | undefined;
  let old: SendInfo | undefined;
  let init: InitMsg | undefined;
  const addresses: SockAddr[] = [];
  let truncated = false;
  for (let o = 0; o < control.length; ) {
    if (o + HEADER > control.length) return -EINVAL;
    const len = dv.getUint32(o, true);
    if (len < cmsgLen(0, align) || o + len > control.length) return -EINVAL;
    const r = dv.getInt32(o + 4, true) === IPPROTO_SCTP ? byType.get(dv.getInt32(o + 8, true)) : undefined;
    const data = control.subarray(o + cmsgLen(0, align), o + len);
    o += up(len, align);
    if (r === undefined || r.way === 'g') continue;
    if (data.length < r.size) {
      truncated = true;
      continue;
    }
    const c = decodeStruct(r.layout, data);
    if (r.type === SCTP_INIT) init = CODECS.initmsg.toApi(c) as InitMsg;
    else if (r.type === SCTP_SNDRCV) old = CODECS.sndrcv.toApi(c) as SendInfo;
    else if (r.type === SCTP_SNDINFO) info = Object.assign(info ?? emptyInfo(), CODECS.sndinfo.toApi(c));
    else if (r.type === SCTP_PRINFO) {
      info ??= emptyInfo();
      info.prPolicy = Number(c.pr_policy);
      info.prValue = Number(c.pr_value);
    } else if (r.type === SCTP_DSTADDRV4 || r.type === SCTP_DSTADDRV6) {
      const at = new DataView(data.buffer, data.byteOffset, data.length);
      addresses.push({
        addr: r.type === SCTP_DSTADDRV4 ? new InAddr().read4(at, 0) : new InAddr(6).read6(at, 0),
        port,
      });
    }
  }
  let whole = old ?? info;
  if (init !== undefined) (whole ??= defaults()).init = init;
  if (addresses.length > 0) (whole ??= defaults()).addresses = addresses;
  return { info: whole, truncated };
}

// Receiving.

/** Which control messages the user wants: SCTP_RECVRCVINFO, SCTP_RECVNXTINFO, SCTP_USE_EXT_RCVINFO, data_io of SCTP_EVENTS. */
export interface Wanted {
  readonly rcvInfo: boolean;
  readonly nxtInfo: boolean;
  readonly extRcv: boolean;
  readonly dataIo: boolean;
}

export const rcvinfoOf = (i: RecvInfo): CRecord => ({
  rcv_sid: i.sid,
  rcv_ssn: i.ssn,
  rcv_flags: i.flags,
  rcv_ppid: swap32(i.ppid),
  rcv_tsn: i.tsn,
  rcv_cumtsn: i.cumtsn,
  rcv_context: i.context,
  rcv_assoc_id: i.assocId,
});
export const nxtinfoOf = (n: NextInfo): CRecord => ({
  nxt_sid: n.sid,
  nxt_flags: n.flags,
  nxt_ppid: swap32(n.ppid),
  nxt_length: n.length,
  nxt_assoc_id: n.assocId,
});
export const sndrcvinfoOf = (i: RecvInfo): CRecord => ({
  sinfo_stream: i.sid,
  sinfo_ssn: i.ssn,
  sinfo_flags: i.flags,
  sinfo_ppid: swap32(i.ppid),
  sinfo_context: i.context,
  sinfo_tsn: i.tsn,
  sinfo_cumtsn: i.cumtsn,
  sinfo_assoc_id: i.assocId,
});
export function extrcvinfoOf(i: RecvInfo): CRecord {
  const n = i.next;
  if (n === undefined) return sndrcvinfoOf(i);
  const flags =
    NEXT_AVAIL |
    ((n.flags & SCTP_COMPLETE) !== 0 ? NEXT_ISCOMPLETE : 0) |
    ((n.flags & SCTP_UNORDERED) !== 0 ? NEXT_IS_UNORDERED : 0) |
    ((n.flags & SCTP_NOTIFICATION) !== 0 ? NEXT_IS_NOTIFICATION : 0);
  return {
    ...sndrcvinfoOf(i),
    serinfo_next_flags: flags,
    serinfo_next_stream: n.sid,
    serinfo_next_aid: n.assocId,
    serinfo_next_length: n.length,
    serinfo_next_ppid: swap32(n.ppid),
  };
}

/** The control messages that come with a message, in FreeBSD's order (facts part 2.4). */
export function received(i: RecvInfo, w: Wanted): { readonly row: CmsgRow; readonly data: CRecord }[] {
  const out: { row: CmsgRow; data: CRecord }[] = [];
  const add = (type: number, data: CRecord) => out.push({ row: byType.get(type)!, data });
  if (w.rcvInfo) add(SCTP_RCVINFO, rcvinfoOf(i));
  if (w.nxtInfo && i.next !== undefined) add(SCTP_NXTINFO, nxtinfoOf(i.next));
  if (w.dataIo) {
    if (w.extRcv) add(SCTP_EXTRCV, extrcvinfoOf(i));
    else add(SCTP_SNDRCV, sndrcvinfoOf(i));
  }
  return out;
}

/** The same as bytes. */
export function receivedControl(i: RecvInfo, w: Wanted, align = 8): Uint8Array {
  const parts = received(i, w).map(c => ({ type: c.row.type, data: encodeStruct(c.row.layout, c.data) }));
  return controlBytes(parts, align);
}

/** Control messages of level IPPROTO_SCTP one behind the other. */
export function controlBytes(parts: readonly { readonly type: number; readonly data: Uint8Array }[], align = 8) {
  let n = 0;
  for (const p of parts) n += cmsgSpace(p.data.length, align);
  const out = new Uint8Array(n);
  const dv = new DataView(out.buffer);
  let o = 0;
  for (const p of parts) {
    dv.setUint32(o, cmsgLen(p.data.length, align), true);
    dv.setInt32(o + 4, IPPROTO_SCTP, true);
    dv.setInt32(o + 8, p.type, true);
    out.set(p.data, o + cmsgLen(0, align));
    o += cmsgSpace(p.data.length, align);
  }
  return out;
}
