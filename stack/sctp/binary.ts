/**
 * The socket calls with C's bytes: getsockopt, setsockopt, sendmsg and recvmsg as a FreeBSD program makes them (RFC 6458
 * §5, §8), over the rows of optionrows.ts and cmsg.ts. Errors as FreeBSD's: no value EINVAL, a short struct EINVAL, more
 * than 64 KiB ENOBUFS, no such option ENOPROTOOPT. A program in TypeScript uses the objects of api.ts instead.
 */

import { EINVAL, ENOBUFS, ENOPROTOOPT } from '../kern/errno.js';
import { type RecvInfo, type SendInfo, type SockAddr, Socket } from '../kern/socket.js';
import { IPPROTO_SCTP } from '../netinet/in.js';
import * as api from './api.js';
import { receivedControl, sendRequest, type Wanted } from './cmsg.js';
import { decodeStruct, encodeStruct, layoutOf, sockaddrSize } from './layout.js';
import { type OptionRow, optionRow } from './optionrows.js';

/** Whose numbers the caller uses for options of level IPPROTO_SCTP. */
export type Numbers = 'freebsd' | 'linux';
const MOST = 65536;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;

/** The options of the levels below that SCTP's sockets have are all numbers: any name has this row. */
const BELOW: Pick<OptionRow, 'access' | 'layout' | 'codec'> = {
  access: 'gs',
  layout: layoutOf('int'),
  codec: { toApi: r => Number(r.value) >>> 0, toC: v => ({ value: v as number }) },
};
type Row = Pick<OptionRow, 'access' | 'layout' | 'codec'> & { readonly number: number };

/** An option's row, or -errno: a level that no layer has is EINVAL, an option that is not there ENOPROTOOPT. */
function rowOf(level: number, name: number, way: 'g' | 's', numbers: Numbers): Row | number {
  let r: Row | undefined;
  if (level === IPPROTO_SCTP) r = optionRow('sctp', name, numbers);
  else if (level === api.SOL_SOCKET) r = optionRow('socket', name);
  else if (level === IPPROTO_IP || level === IPPROTO_IPV6) r = { ...BELOW, number: name };
  else return -EINVAL;
  return r?.access.includes(way) === true ? r : -ENOPROTOOPT;
}

/** setsockopt(2): 0, -errno, or for SCTP_CONNECT_X the association's id, which is written into the value as well. */
export function setsockopt(
  so: Socket,
  level: number,
  name: number,
  value: Uint8Array | undefined,
  numbers: Numbers = 'freebsd',
): number {
  if (value === undefined) return -EINVAL;
  if (value.length > MOST) return -ENOBUFS;
  const r = rowOf(level, name, 's', numbers);
  if (typeof r === 'number') return r;
  if (value.length < r.layout.size) return -EINVAL;
  const v = r.codec.toApi(decodeStruct(r.layout, value));
  if (v === undefined) return -EINVAL;
  const n = so.setsockopt(level, r.number, v);
  if (n > 0 && value.length >= 4) new DataView(value.buffer, value.byteOffset).setUint32(0, n, true);
  return n;
}

/**
 * getsockopt(2): the option's bytes, -errno, or for SCTP_PEELOFF the new socket. `buffer` is the caller's: its contents are
 * the input of options that have one, its length the room there is. Lists of addresses are cut to whole ones that fit.
 */
export function getsockopt(
  so: Socket,
  level: number,
  name: number,
  buffer: Uint8Array | undefined,
  numbers: Numbers = 'freebsd',
): Uint8Array | Socket | number {
  if (buffer === undefined) return -EINVAL;
  const r = rowOf(level, name, 'g', numbers);
  if (typeof r === 'number') return r;
  if (buffer.length < r.layout.size && level === IPPROTO_SCTP) return -EINVAL;
  const arg = buffer.length < r.layout.size ? undefined : r.codec.toApi(decodeStruct(r.layout, buffer));
  const got = so.getsockopt(level, r.number, arg);
  if (typeof got === 'number' && got < 0) return got;
  if (got instanceof Socket) return got;
  if (r.layout.name === 'sctp_getaddresses') {
    let room = buffer.length - r.layout.size;
    const fit = (got as SockAddr[]).filter(a => (room -= sockaddrSize(a)) >= 0);
    return encodeStruct(r.layout, r.codec.toC(fit));
  }
  const bytes = encodeStruct(r.layout, r.codec.toC(got));
  if (bytes.length <= buffer.length) return bytes;
  return level === api.SOL_SOCKET ? bytes.slice(0, buffer.length) : -EINVAL;
}

/** sendmsg(2): bytes taken or -errno. */
export function sendmsg(
  so: Socket,
  data: Uint8Array,
  control: Uint8Array,
  to: SockAddr | undefined,
  flags = 0,
  align = 8,
): number {
  const r = sendRequest(control, to?.port ?? 0, align, () => {
    const v = so.getsockopt(IPPROTO_SCTP, api.SCTP_DEFAULT_SEND_PARAM, 0);
    return { ...(v as SendInfo) };
  });
  if (typeof r === 'number') return r;
  if (r.truncated && !known(so, r.info?.assocId ?? 0, to)) return -EINVAL;
  return so.send(data, 0, data.length, r.info, to, flags);
}

/** True when the association that a message is for exists. */
function known(so: Socket, assocId: number, to: SockAddr | undefined): boolean {
  const got =
    to === undefined
      ? so.getsockopt(IPPROTO_SCTP, api.SCTP_STATUS, { assocId })
      : so.getsockopt(IPPROTO_SCTP, api.SCTP_GET_PEER_ADDR_INFO, { assocId, address: to });
  return typeof got !== 'number';
}

/** What the socket's user has switched on (SCTP_RECVRCVINFO and its siblings). */
export function wantedOf(so: Socket): Wanted {
  const on = (name: number): boolean => Number(so.getsockopt(IPPROTO_SCTP, name)) > 0;
  const events = so.getsockopt(IPPROTO_SCTP, api.SCTP_EVENTS);
  return {
    rcvInfo: on(api.SCTP_RECVRCVINFO),
    nxtInfo: on(api.SCTP_RECVNXTINFO),
    extRcv: on(api.SCTP_USE_EXT_RCVINFO),
    dataIo: typeof events === 'object' && events !== null && (events as api.EventSubscribe).dataIo,
  };
}

/** recvmsg(2): bytes or -errno; `info` is filled in as by recv, and the control messages are returned with it. */
export function recvmsg(
  so: Socket,
  buffer: Uint8Array,
  info: RecvInfo,
  flags = 0,
  align = 8,
): { readonly n: number; readonly control: Uint8Array } {
  const n = so.recv(buffer, 0, buffer.length, info, flags);
  const message = n > 0 && info.notification === undefined;
  return { n, control: message ? receivedControl(info, wantedOf(so), align) : new Uint8Array(0) };
}
