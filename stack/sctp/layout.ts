/**
 * The structs of the SCTP socket API as rows of data: FreeBSD's netinet/sctp_uio.h on amd64 (RFC 6458 §5, §6, §8), laid out
 * by C's rules into offsets and sizes, and the way between their bytes and records of their fields.
 *
 * A record has the C names: numbers, addresses, lists, nested records. Integers are little-endian; ports and addresses
 * inside a sockaddr are in network order, as C has them.
 */

import type { SockAddr } from '../kern/socket.js';
import { InAddr } from '../netinet/in.js';

export type Scalar = 'u8' | 'u16' | 'u32' | 'i32' | 'u64';
/**
 * A number, a sockaddr_storage, a nested struct, bytes that mean nothing, and at the end of a struct an open array: of
 * numbers, or of sockaddrs one behind the other, each as long as its family's.
 */
export type CType =
  | { readonly kind: 'scalar'; readonly scalar: Scalar }
  | { readonly kind: 'sockaddr' }
  | { readonly kind: 'struct'; readonly layout: Layout }
  | { readonly kind: 'reserved'; readonly bytes: number }
  | { readonly kind: 'tail'; readonly scalar: Scalar }
  | { readonly kind: 'sockaddrs' };

export interface CField {
  readonly name: string;
  readonly type: CType;
  readonly offset: number;
}
export interface Layout {
  readonly name: string;
  /** sizeof; an open array at the end counts nothing. */
  readonly size: number;
  readonly align: number;
  readonly fields: readonly CField[];
}

export type CValue = number | SockAddr | undefined | readonly number[] | readonly SockAddr[] | Uint8Array | CRecord;
export interface CRecord {
  [field: string]: CValue;
}

const WIDTH: Readonly<Record<Scalar, number>> = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8 };
/** sizeof(struct sockaddr_storage); it is aligned as an int64_t. */
export const SOCKADDR_STORAGE = 128;
/** sizeof(struct sockaddr_in) and sizeof(struct sockaddr_in6). */
export const SOCKADDR_IN = 16;
export const SOCKADDR_IN6 = 28;
const AF_INET = 2;
const AF_INET6 = 28;

export const LAYOUTS: ReadonlyMap<string, Layout> = new Map();

function sizeOf(t: CType): number {
  switch (t.kind) {
    case 'scalar':
      return WIDTH[t.scalar];
    case 'sockaddr':
      return SOCKADDR_STORAGE;
    case 'struct':
      return t.layout.size;
    case 'reserved':
      return t.bytes;
    default:
      return 0;
  }
}
function alignOf(t: CType): number {
  switch (t.kind) {
    case 'scalar':
    case 'tail':
      return WIDTH[t.scalar];
    case 'sockaddr':
      return 8;
    case 'struct':
      return t.layout.align;
    case 'reserved':
    case 'sockaddrs':
      return 1;
  }
}

function parseType(text: string): CType {
  if (text === 'sockaddr' || text === 'sockaddrs') return { kind: text };
  if (text.endsWith('[]')) return { kind: 'tail', scalar: text.slice(0, -2) as Scalar };
  if (/^\d+$/.test(text)) return { kind: 'reserved', bytes: Number(text) };
  if (text in WIDTH) return { kind: 'scalar', scalar: text as Scalar };
  return { kind: 'struct', layout: layoutOf(text) };
}

/** A struct by C's rules; `spec` is "field:type field:type …", a type as in CType or a number of bytes that mean nothing. */
function struct(name: string, spec: string): void {
  let at = 0;
  let align = 1;
  const fields: CField[] = [];
  for (const item of spec.trim().split(/\s+/)) {
    const [field, text] = item.split(':') as [string, string];
    const type = parseType(text);
    const a = alignOf(type);
    align = Math.max(align, a);
    at = Math.ceil(at / a) * a;
    fields.push({ name: field, type, offset: at });
    at += sizeOf(type);
  }
  (LAYOUTS as Map<string, Layout>).set(name, { name, size: Math.ceil(at / align) * align, align, fields });
}

/** The layout of a struct by its C name. Throws TypeError for one that is not here. */
export function layoutOf(name: string): Layout {
  const l = LAYOUTS.get(name);
  if (l === undefined) throw new TypeError(`no struct ${name}`);
  return l;
}

// Values of options.
struct('int', 'value:i32');
struct('linger', 'l_onoff:i32 l_linger:i32');
struct('timeval', 'tv_sec:u64 tv_usec:u64');
struct('sctp_assoc_t', 'assoc_id:u32');
struct('sctp_rtoinfo', 'srto_assoc_id:u32 srto_initial:u32 srto_max:u32 srto_min:u32');
struct(
  'sctp_assocparams',
  'sasoc_assoc_id:u32 sasoc_peer_rwnd:u32 sasoc_local_rwnd:u32 sasoc_cookie_life:u32 sasoc_asocmaxrxt:u16 sasoc_number_peer_destinations:u16',
);
struct(
  'sctp_initmsg',
  'sinit_num_ostreams:u16 sinit_max_instreams:u16 sinit_max_attempts:u16 sinit_max_init_timeo:u16',
);
struct('sctp_setpeerprim', 'sspp_addr:sockaddr sspp_assoc_id:u32 sspp_padding:4');
struct('sctp_setprim', 'ssp_addr:sockaddr ssp_assoc_id:u32 ssp_padding:4');
struct('sctp_setadaptation', 'ssb_adaptation_ind:u32');
struct(
  'sctp_paddrparams',
  'spp_address:sockaddr spp_assoc_id:u32 spp_hbinterval:u32 spp_pathmtu:u32 spp_flags:u32 spp_ipv6_flowlabel:u32 spp_pathmaxrxt:u16 spp_dscp:u8',
);
struct(
  'sctp_sndrcvinfo',
  'sinfo_stream:u16 sinfo_ssn:u16 sinfo_flags:u16 sinfo_ppid:u32 sinfo_context:u32 sinfo_timetolive:u32 sinfo_tsn:u32 sinfo_cumtsn:u32 sinfo_assoc_id:u32 sinfo_keynumber:u16 sinfo_keynumber_valid:u16 __reserve_pad:92',
);
struct(
  'sctp_extrcvinfo',
  'sinfo_stream:u16 sinfo_ssn:u16 sinfo_flags:u16 sinfo_ppid:u32 sinfo_context:u32 sinfo_timetolive:u32 sinfo_tsn:u32 sinfo_cumtsn:u32 sinfo_assoc_id:u32 serinfo_next_flags:u16 serinfo_next_stream:u16 serinfo_next_aid:u32 serinfo_next_length:u32 serinfo_next_ppid:u32 sinfo_keynumber:u16 sinfo_keynumber_valid:u16 __reserve_pad:76',
);
struct(
  'sctp_event_subscribe',
  'sctp_data_io_event:u8 sctp_association_event:u8 sctp_address_event:u8 sctp_send_failure_event:u8 sctp_peer_error_event:u8 sctp_shutdown_event:u8 sctp_partial_delivery_event:u8 sctp_adaptation_layer_event:u8 sctp_authentication_event:u8 sctp_sender_dry_event:u8 sctp_stream_reset_event:u8',
);
struct('sctp_assoc_value', 'assoc_id:u32 assoc_value:u32');
struct('sctp_sack_info', 'sack_assoc_id:u32 sack_delay:u32 sack_freq:u32');
struct('sctp_authchunk', 'sauth_chunk:u8');
struct('sctp_authkey', 'sca_assoc_id:u32 sca_keynumber:u16 sca_keylength:u16 sca_key:u8[]');
struct('sctp_hmacalgo', 'shmac_number_of_idents:u32 shmac_idents:u16[]');
struct('sctp_authkeyid', 'scact_assoc_id:u32 scact_keynumber:u16');
struct('sctp_authchunks', 'gauth_assoc_id:u32 gauth_number_of_chunks:u32 gauth_chunks:u8[]');
struct('sctp_event', 'se_assoc_id:u32 se_type:u16 se_on:u8');
struct('sctp_sndinfo', 'snd_sid:u16 snd_flags:u16 snd_ppid:u32 snd_context:u32 snd_assoc_id:u32');
struct('sctp_prinfo', 'pr_policy:u16 pr_value:u32');
struct('sctp_default_prinfo', 'pr_policy:u16 pr_value:u32 pr_assoc_id:u32');
struct('sctp_authinfo', 'auth_keynumber:u16');
struct(
  'sctp_rcvinfo',
  'rcv_sid:u16 rcv_ssn:u16 rcv_flags:u16 rcv_ppid:u32 rcv_tsn:u32 rcv_cumtsn:u32 rcv_context:u32 rcv_assoc_id:u32',
);
struct('sctp_nxtinfo', 'nxt_sid:u16 nxt_flags:u16 nxt_ppid:u32 nxt_length:u32 nxt_assoc_id:u32');
struct('sctp_recvv_rn', 'recvv_rcvinfo:sctp_rcvinfo recvv_nxtinfo:sctp_nxtinfo');
struct(
  'sctp_sendv_spa',
  'sendv_flags:u32 sendv_sndinfo:sctp_sndinfo sendv_prinfo:sctp_prinfo sendv_authinfo:sctp_authinfo',
);
struct(
  'sctp_paddrthlds',
  'spt_address:sockaddr spt_assoc_id:u32 spt_pathmaxrxt:u16 spt_pathpfthld:u16 spt_pathcpthld:u16',
);
struct('sctp_udpencaps', 'sue_address:sockaddr sue_assoc_id:u32 sue_port:u16');
struct(
  'sctp_paddrinfo',
  'spinfo_address:sockaddr spinfo_assoc_id:u32 spinfo_state:i32 spinfo_cwnd:u32 spinfo_srtt:u32 spinfo_rto:u32 spinfo_mtu:u32',
);
struct(
  'sctp_status',
  'sstat_assoc_id:u32 sstat_state:i32 sstat_rwnd:u32 sstat_unackdata:u16 sstat_penddata:u16 sstat_instrms:u16 sstat_outstrms:u16 sstat_fragmentation_point:u32 sstat_primary:sctp_paddrinfo',
);
struct('sctp_assoc_ids', 'gaids_number_of_ids:u32 gaids_assoc_id:u32[]');
struct(
  'sctp_timeouts',
  'stimo_assoc_id:u32 stimo_init:u32 stimo_data:u32 stimo_sack:u32 stimo_shutdown:u32 stimo_heartbeat:u32 stimo_cookie:u32 stimo_shutdownack:u32',
);
struct(
  'sctp_prstatus',
  'sprstat_assoc_id:u32 sprstat_sid:u16 sprstat_policy:u16 sprstat_abandoned_unsent:u64 sprstat_abandoned_sent:u64',
);
struct('sctp_stream_value', 'assoc_id:u32 stream_id:u16 stream_value:u16');
struct('sctp_cc_option', 'option:i32 aid_value:sctp_assoc_value');
struct('sctp_sockstat', 'ss_assoc_id:u32 ss_total_sndbuf:u32 ss_total_recv_buf:u32');
struct('sctp_get_nonce_values', 'gn_assoc_id:u32 gn_peers_tag:u32 gn_local_tag:u32');
struct(
  'sctp_pcbinfo',
  'ep_count:u32 asoc_count:u32 laddr_count:u32 raddr_count:u32 chk_count:u32 readq_count:u32 free_chunks:u32 stream_oque:u32',
);
struct('sctp_reset_streams', 'srs_assoc_id:u32 srs_flags:u16 srs_number_streams:u16 srs_stream_list:u16[]');
struct('sctp_add_streams', 'sas_assoc_id:u32 sas_instrms:u16 sas_outstrms:u16');
struct('sctp_peeloff_opt', 's:i32 assoc_id:u32 new_sd:i32');
struct('sctp_getaddresses', 'sget_assoc_id:u32 addr:sockaddrs');
struct('sctp_connectx', 'count:i32 addr:sockaddrs');
struct('sockaddr', 'addr:sockaddrs');

// Control messages without a struct of their own.
struct('in_addr', 's_addr:u8[]');
struct('in6_addr', 's6_addr:u8[]');

// Notifications.
const head = (p: string): string => `${p}_type:u16 ${p}_flags:u16 ${p}_length:u32`;
struct(
  'sctp_assoc_change',
  `${head('sac')} sac_state:u16 sac_error:u16 sac_outbound_streams:u16 sac_inbound_streams:u16 sac_assoc_id:u32 sac_info:u8[]`,
);
struct(
  'sctp_paddr_change',
  `${head('spc')} spc_aaddr:sockaddr spc_state:u32 spc_error:u32 spc_assoc_id:u32 spc_padding:4`,
);
struct('sctp_remote_error', `${head('sre')} sre_error:u16 sre_assoc_id:u32 sre_data:u8[]`);
struct('sctp_send_failed', `${head('ssf')} ssf_error:u32 ssf_info:sctp_sndrcvinfo ssf_assoc_id:u32 ssf_data:u8[]`);
struct(
  'sctp_send_failed_event',
  `${head('ssfe')} ssfe_error:u32 ssfe_info:sctp_sndinfo ssfe_assoc_id:u32 ssfe_data:u8[]`,
);
struct('sctp_shutdown_event', `${head('sse')} sse_assoc_id:u32`);
struct('sctp_adaptation_event', `${head('sai')} sai_adaptation_ind:u32 sai_assoc_id:u32`);
struct('sctp_pdapi_event', `${head('pdapi')} pdapi_indication:u32 pdapi_stream:u16 pdapi_seq:u16 pdapi_assoc_id:u32`);
struct(
  'sctp_authkey_event',
  `${head('auth')} auth_keynumber:u16 auth_altkeynumber:u16 auth_indication:u32 auth_assoc_id:u32`,
);
struct('sctp_stream_reset_event', `${head('strreset')} strreset_assoc_id:u32 strreset_stream_list:u16[]`);
struct('sctp_sender_dry_event', `${head('sender_dry')} sender_dry_assoc_id:u32`);
struct('sctp_notifications_stopped_event', `${head('sn')} sn_assoc_id:u32`);
struct(
  'sctp_assoc_reset_event',
  `${head('assocreset')} assocreset_assoc_id:u32 assocreset_local_tsn:u32 assocreset_remote_tsn:u32`,
);
struct(
  'sctp_stream_change_event',
  `${head('strchange')} strchange_assoc_id:u32 strchange_instrms:u16 strchange_outstrms:u16`,
);

// Bytes.

/** sizeof an address as FreeBSD's sockaddr_in or sockaddr_in6. */
export const sockaddrSize = (a: SockAddr): number => (a.addr.family === 6 ? SOCKADDR_IN6 : SOCKADDR_IN);

/** sa_len 1 | sa_family 1 | port 2, network order | IPv4: address 4; IPv6: flow 4, address 16, scope 4. */
export function writeSockaddr(dv: DataView, off: number, a: SockAddr): void {
  const six = a.addr.family === 6;
  dv.setUint8(off, sockaddrSize(a));
  dv.setUint8(off + 1, six ? AF_INET6 : AF_INET);
  dv.setUint16(off + 2, a.port);
  a.addr.write(dv, off + (six ? 8 : 4));
}
/** The sockaddr at `off` with `room` bytes; undefined: of another family, or cut short. */
export function readSockaddr(dv: DataView, off: number, room = SOCKADDR_STORAGE): SockAddr | undefined {
  if (room < SOCKADDR_IN) return undefined;
  const family = dv.getUint8(off + 1);
  const port = dv.getUint16(off + 2);
  if (family === AF_INET) return { addr: new InAddr().read4(dv, off + 4), port };
  if (family === AF_INET6 && room >= SOCKADDR_IN6) return { addr: new InAddr(6).read6(dv, off + 8), port };
  return undefined;
}

function setScalar(dv: DataView, off: number, s: Scalar, v: number): void {
  if (s === 'u8') dv.setUint8(off, v);
  else if (s === 'u16') dv.setUint16(off, v, true);
  else if (s === 'u64') {
    dv.setUint32(off, v, true);
    dv.setUint32(off + 4, Math.floor(v / 0x1_0000_0000), true);
  } else dv.setUint32(off, v, true);
}
function getScalar(dv: DataView, off: number, s: Scalar): number {
  if (s === 'u8') return dv.getUint8(off);
  if (s === 'u16') return dv.getUint16(off, true);
  if (s === 'i32') return dv.getInt32(off, true);
  if (s === 'u64') return dv.getUint32(off, true) + dv.getUint32(off + 4, true) * 0x1_0000_0000;
  return dv.getUint32(off, true);
}

const tailOf = (l: Layout): CField | undefined => {
  const last = l.fields[l.fields.length - 1];
  return last?.type.kind === 'tail' || last?.type.kind === 'sockaddrs' ? last : undefined;
};
const numbers = (v: CValue): readonly number[] | Uint8Array =>
  Array.isArray(v) || v instanceof Uint8Array ? (v as readonly number[]) : [];
const addresses = (v: CValue): readonly SockAddr[] => (Array.isArray(v) ? (v as readonly SockAddr[]) : []);

/** sizeof a record: the struct, and what its open array holds. */
export function recordSize(l: Layout, r: CRecord): number {
  const tail = tailOf(l);
  if (tail === undefined) return l.size;
  const v = r[tail.name];
  let n = 0;
  if (tail.type.kind === 'tail') n = numbers(v).length * WIDTH[tail.type.scalar];
  else for (const a of addresses(v)) n += sockaddrSize(a);
  return n === 0 ? l.size : Math.max(l.size, tail.offset + n);
}

/** A record as the bytes of its struct; fields left out are 0, too large ones cut as C cuts them. */
export function encodeStruct(l: Layout, r: CRecord): Uint8Array {
  const out = new Uint8Array(recordSize(l, r));
  writeStruct(new DataView(out.buffer), 0, l, r);
  return out;
}
function writeStruct(dv: DataView, base: number, l: Layout, r: CRecord): void {
  for (const { name, type, offset } of l.fields) {
    const v = r[name];
    const at = base + offset;
    if (type.kind === 'scalar') setScalar(dv, at, type.scalar, typeof v === 'number' ? v : 0);
    else if (type.kind === 'sockaddr') {
      if (v !== undefined) writeSockaddr(dv, at, v as SockAddr);
    } else if (type.kind === 'struct') writeStruct(dv, at, type.layout, (v ?? {}) as CRecord);
    else if (type.kind === 'tail')
      for (const [i, x] of numbers(v).entries()) setScalar(dv, at + i * WIDTH[type.scalar], type.scalar, x);
    else if (type.kind === 'sockaddrs') {
      let o = at;
      for (const a of addresses(v)) {
        writeSockaddr(dv, o, a);
        o += sockaddrSize(a);
      }
    }
  }
}

/**
 * The record in bytes, which hold at least the struct (throws RangeError otherwise: the caller checks the size); what
 * follows belongs to the open array. A list of sockaddrs ends before one that is none.
 */
export function decodeStruct(l: Layout, bytes: Uint8Array): CRecord {
  return readStruct(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, l, bytes.length);
}
function readStruct(dv: DataView, base: number, l: Layout, end: number): CRecord {
  const r: CRecord = {};
  for (const { name, type, offset } of l.fields) {
    const at = base + offset;
    if (type.kind === 'scalar') r[name] = getScalar(dv, at, type.scalar);
    else if (type.kind === 'sockaddr') r[name] = readSockaddr(dv, at);
    else if (type.kind === 'struct') r[name] = readStruct(dv, at, type.layout, at + type.layout.size);
    else if (type.kind === 'tail') {
      const list: number[] = [];
      for (let o = at; o + WIDTH[type.scalar] <= end; o += WIDTH[type.scalar]) list.push(getScalar(dv, o, type.scalar));
      r[name] = list;
    } else if (type.kind === 'sockaddrs') r[name] = readSockaddrs(dv, at, end);
  }
  return r;
}
function readSockaddrs(dv: DataView, at: number, end: number): SockAddr[] {
  const list: SockAddr[] = [];
  for (let o = at; o < end; ) {
    const a = readSockaddr(dv, o, end - o);
    if (a === undefined) break;
    list.push(a);
    o += sockaddrSize(a);
  }
  return list;
}

/** A 16-bit and a 32-bit number in the other byte order: ports and payload protocol identifiers stand in network order. */
export const swap16 = (n: number): number => ((n & 0xff) << 8) | ((n >>> 8) & 0xff);
export const swap32 = (n: number): number =>
  (((n & 0xff) << 24) | ((n & 0xff00) << 8) | ((n >>> 8) & 0xff00) | ((n >>> 24) & 0xff)) >>> 0;
