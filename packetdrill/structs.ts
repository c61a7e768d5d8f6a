/**
 * The binary face of the socket API as rows of data: the structs of FreeBSD's netinet/sctp_uio.h (amd64) with offsets and
 * sizes, the socket options with their numbers, and how each is made into the objects of stack/sctp/api.ts and back
 * (RFC 6458; facts part 2 of SCTP, parts 5.2 and 5.3 of packetdrill). A new option is one row here.
 *
 * Between bytes and objects stands a record of the C names: numbers, addresses, lists, nested records.
 */

import type { SockAddr } from '../stack/kern/socket.js';
import { InAddr } from '../stack/netinet/in.js';
import { type NotificationType, SSTAT } from '../stack/sctp/api.js';
import { addWords } from './values.js';

// --------------------------------------------------------------------------------------------------------------- layouts

type Scalar = 'u8' | 'u16' | 'u32' | 'i32' | 'u64';
/** sockaddr_storage, a nested struct, a fixed array of bytes that means nothing, or the open array at the end. */
export type CType =
  | { readonly kind: 'scalar'; readonly scalar: Scalar }
  | { readonly kind: 'sockaddr' }
  | { readonly kind: 'struct'; readonly layout: Layout }
  | { readonly kind: 'reserved'; readonly bytes: number }
  | { readonly kind: 'tail'; readonly scalar: Scalar };

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

export type CValue = number | SockAddr | undefined | readonly number[] | CRecord;
export interface CRecord {
  [field: string]: CValue;
}

const WIDTH: Readonly<Record<Scalar, number>> = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8 };
/** sizeof and alignof of sockaddr_storage: it holds an int64_t. */
const SOCKADDR = 128;

export const LAYOUTS: ReadonlyMap<string, Layout> = new Map();

const sizeOf = (t: CType): number =>
  t.kind === 'scalar'
    ? WIDTH[t.scalar]
    : t.kind === 'sockaddr'
      ? SOCKADDR
      : t.kind === 'struct'
        ? t.layout.size
        : t.kind === 'reserved'
          ? t.bytes
          : 0;
const alignOf = (t: CType): number =>
  t.kind === 'scalar' || t.kind === 'tail'
    ? WIDTH[t.scalar]
    : t.kind === 'sockaddr'
      ? 8
      : t.kind === 'struct'
        ? t.layout.align
        : 1;

function parseType(text: string): CType {
  if (text === 'sockaddr') return { kind: 'sockaddr' };
  if (text.endsWith('[]')) return { kind: 'tail', scalar: text.slice(0, -2) as Scalar };
  if (/^\d+$/.test(text)) return { kind: 'reserved', bytes: Number(text) };
  if (text in WIDTH) return { kind: 'scalar', scalar: text as Scalar };
  const layout = LAYOUTS.get(text);
  if (layout === undefined) throw new TypeError(`no C type ${text}`);
  return { kind: 'struct', layout };
}

/** Lays a struct out by C's rules; `spec` is "field:type field:type …", types as in parseType. */
function struct(name: string, spec: string): Layout {
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
  const layout = { name, size: Math.ceil(at / align) * align, align, fields };
  (LAYOUTS as Map<string, Layout>).set(name, layout);
  return layout;
}

// Values of options.
struct('int', 'value:i32');
struct('sctp_assoc_t', 'assoc_id:u32');
struct('linger', 'l_onoff:i32 l_linger:i32');
struct('timeval', 'tv_sec:u64 tv_usec:u64');
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

export function layoutOf(name: string): Layout {
  const l = LAYOUTS.get(name);
  if (l === undefined) throw new TypeError(`no struct ${name}`);
  return l;
}

/** Names that scripts use for fields called otherwise in C. */
const ALIASES: Readonly<Record<string, string>> = {
  onoff: 'l_onoff',
  linger: 'l_linger',
  shmac_number_idents: 'shmac_number_of_idents',
  sreinfo_next_flags: 'serinfo_next_flags',
  sreinfo_next_stream: 'serinfo_next_stream',
  sreinfo_next_aid: 'serinfo_next_aid',
  sreinfo_next_length: 'serinfo_next_length',
  sreinfo_next_ppid: 'serinfo_next_ppid',
  sauth_assoc_id: 'auth_assoc_id',
  ssp_address: 'ssp_addr',
  sspp_address: 'sspp_addr',
  sai_adaption_ind: 'sai_adaptation_ind',
};
export const fieldName = (written: string): string => (Object.hasOwn(ALIASES, written) ? ALIASES[written]! : written);

/** Fields that hold an association id: 0 when left out, and not compared then. */
export const isAssocId = (field: string): boolean => /(^|_)assoc_id$|_aid$/.test(field);

// ----------------------------------------------------------------------------------------------------------------- bytes

const AF_INET = 2;
const AF_INET6 = 28;

function writeSockaddr(dv: DataView, off: number, a: SockAddr | undefined): void {
  if (a === undefined) return;
  const six = a.addr.family === 6;
  dv.setUint8(off, six ? 28 : 16); // sa_len
  dv.setUint8(off + 1, six ? AF_INET6 : AF_INET);
  dv.setUint16(off + 2, a.port);
  a.addr.write(dv, off + (six ? 8 : 4));
}
function readSockaddr(dv: DataView, off: number): SockAddr | undefined {
  const family = dv.getUint8(off + 1);
  const port = dv.getUint16(off + 2);
  if (family === AF_INET) return { addr: new InAddr().read4(dv, off + 4), port };
  if (family === AF_INET6) return { addr: new InAddr(6).read6(dv, off + 8), port };
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
  return last?.type.kind === 'tail' ? last : undefined;
};
const numbers = (v: CValue): readonly number[] =>
  Array.isArray(v) || v instanceof Uint8Array ? (v as readonly number[]) : [];

/** sizeof a record: the struct, and what its open array holds. */
export function recordSize(l: Layout, r: CRecord): number {
  const tail = tailOf(l);
  if (tail?.type.kind !== 'tail') return l.size;
  const n = numbers(r[tail.name]).length;
  return n === 0 ? l.size : Math.max(l.size, tail.offset + n * WIDTH[tail.type.scalar]);
}

/** A record as the bytes of its struct, little-endian; fields left out are 0, too large ones cut as C cuts them. */
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
    else if (type.kind === 'sockaddr') writeSockaddr(dv, at, v as SockAddr | undefined);
    else if (type.kind === 'struct') writeStruct(dv, at, type.layout, (v ?? {}) as CRecord);
    else if (type.kind === 'tail')
      for (const [i, x] of numbers(v).entries()) setScalar(dv, at + i * WIDTH[type.scalar], type.scalar, x);
  }
}

/** The record in bytes, which hold at least the struct; what follows belongs to the open array. */
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
    }
  }
  return r;
}

// --------------------------------------------------------------------------------------------------------------- options

/** Bytes-side record ↔ object of api.ts. */
export interface Codec {
  toApi(r: CRecord): unknown;
  toC(v: unknown): CRecord;
}

export interface OptionRow {
  readonly name: string;
  readonly level: 'sctp' | 'socket';
  readonly number: number;
  readonly layout: Layout;
  readonly codec: Codec;
}

type Convert = readonly [toApi: (v: CValue) => unknown, toC: (v: unknown) => CValue];
type Obj = Record<string, unknown>;
const obj = (v: unknown): Obj => (typeof v === 'object' && v !== null ? (v as Obj) : {});
const cval = (v: unknown): CValue => (typeof v === 'boolean' ? Number(v) : (v as CValue));

/** Pairs "c_field key": the field of the struct and the property of the object; conversions where they differ in kind. */
function pairs(spec: string, convert: Readonly<Record<string, Convert>> = {}): Codec {
  const list = spec
    .trim()
    .split(/\s*,\s*/)
    .map(p => p.split(/\s+/) as [string, string]);
  return {
    toApi: r => {
      const out: Obj = {};
      for (const [c, key] of list) {
        const v = convert[c] === undefined ? r[c] : convert[c][0](r[c]);
        if (v !== undefined) out[key] = v;
      }
      return out;
    },
    toC: v => {
      const out: CRecord = {};
      for (const [c, key] of list) out[c] = convert[c] === undefined ? cval(obj(v)[key]) : convert[c][1](obj(v)[key]);
      return out;
    },
  };
}
/** The object is a plain number. */
const plain = (field: string): Codec => ({ toApi: r => r[field], toC: v => ({ [field]: cval(v) }) });
/** { assocId, value } */
const assocValue = pairs('assoc_id assocId, assoc_value value');
/** The unspecified address says nobody in particular (FreeBSD takes it for none). */
const nobody: Convert = [v => (isAnyone(v) ? undefined : v), v => v as CValue];
const isAnyone = (v: CValue): boolean =>
  typeof v === 'object' && 'addr' in v && v.addr instanceof InAddr && v.addr.isUnspecified;
const bool: Convert = [v => v !== 0, v => Number(v === true || (typeof v === 'number' && v !== 0))];
const lookup = (table: Readonly<Record<string, number>>): Convert => [
  v => Object.keys(table).find(k => table[k] === v),
  v => (typeof v === 'number' ? v : (table[String(v)] ?? 0)),
];

/** se_type ↔ the notification's name; 4, the send failure of the old generation, is 'send-failed-deprecated'. */
export const EVENT_NUMBERS: Readonly<Record<string, number>> = {
  'assoc-change': 1,
  'peer-addr-change': 2,
  'remote-error': 3,
  'send-failed': 0xe,
  shutdown: 5,
  'adaptation-indication': 6,
  'partial-delivery': 7,
  authentication: 8,
  'stream-reset': 9,
  'sender-dry': 0xa,
  'notifications-stopped': 0xb,
  'assoc-reset': 0xc,
  'stream-change': 0xd,
};
const eventType: Convert = [
  v =>
    v === 4 ? 'send-failed-deprecated' : (Object.keys(EVENT_NUMBERS).find(k => EVENT_NUMBERS[k] === v) ?? `event-${v}`),
  v => (v === 'send-failed-deprecated' ? 4 : (EVENT_NUMBERS[String(v)] ?? 0)),
];

const PATH_STATES = { active: 1, inactive: 2, unconfirmed: 0x200 };
/** Milliseconds are whole numbers in C. */
const ms: Convert = [v => v, v => Math.round(Number(v ?? 0))];
const paddrinfo = pairs(
  'spinfo_assoc_id assocId, spinfo_address address, spinfo_state state, spinfo_cwnd cwnd, spinfo_srtt srtt, spinfo_rto rto, spinfo_mtu chunkRoom',
  { spinfo_state: lookup(PATH_STATES), spinfo_srtt: ms, spinfo_rto: ms },
);
const status = pairs(
  'sstat_assoc_id assocId, sstat_state state, sstat_rwnd rwnd, sstat_unackdata unackdata, sstat_penddata penddata, sstat_instrms instrms, sstat_outstrms outstrms, sstat_fragmentation_point fragmentationPoint, sstat_primary primary',
  { sstat_state: lookup(SSTAT), sstat_primary: [r => paddrinfo.toApi((r ?? {}) as CRecord), v => paddrinfo.toC(v)] },
);
/** The payload protocol identifier: network order in C, a number in the stack's objects. */
const ppid: Convert = [v => swap32(Number(v ?? 0)), v => swap32(Number(v ?? 0))];
const sndrcv = pairs(
  'sinfo_stream sid, sinfo_flags flags, sinfo_ppid ppid, sinfo_context context, sinfo_timetolive prValue, sinfo_assoc_id assocId',
  { sinfo_ppid: ppid },
);
const sndinfo = pairs('snd_sid sid, snd_flags flags, snd_ppid ppid, snd_context context, snd_assoc_id assocId', {
  snd_ppid: ppid,
});
const SUBSCRIBE =
  'sctp_data_io_event dataIo, sctp_association_event association, sctp_address_event address, sctp_send_failure_event sendFailure, sctp_peer_error_event peerError, sctp_shutdown_event shutdown, sctp_partial_delivery_event partialDelivery, sctp_adaptation_layer_event adaptationLayer, sctp_authentication_event authentication, sctp_sender_dry_event senderDry, sctp_stream_reset_event streamReset';

const rows: OptionRow[] = [];
const row = (level: OptionRow['level'], name: string, number: number, layout: string, codec: Codec): void => {
  rows.push({ name, level, number, layout: layoutOf(layout), codec });
};
const option = (name: string, number: number, layout: string, codec: Codec) => row('sctp', name, number, layout, codec);
const int = (name: string, number: number) => option(name, number, 'int', plain('value'));
const value = (name: string, number: number) => option(name, number, 'sctp_assoc_value', assocValue);

option(
  'SCTP_RTOINFO',
  0x01,
  'sctp_rtoinfo',
  pairs('srto_assoc_id assocId, srto_initial initial, srto_max max, srto_min min'),
);
option(
  'SCTP_ASSOCINFO',
  0x02,
  'sctp_assocparams',
  pairs(
    'sasoc_assoc_id assocId, sasoc_peer_rwnd peerRwnd, sasoc_local_rwnd localRwnd, sasoc_cookie_life cookieLife, sasoc_asocmaxrxt asocMaxRxt, sasoc_number_peer_destinations numberPeerDestinations',
  ),
);
option(
  'SCTP_INITMSG',
  0x03,
  'sctp_initmsg',
  pairs(
    'sinit_num_ostreams numOstreams, sinit_max_instreams maxInstreams, sinit_max_attempts maxAttempts, sinit_max_init_timeo maxInitTimeo',
  ),
);
int('SCTP_NODELAY', 0x04);
int('SCTP_AUTOCLOSE', 0x05);
option('SCTP_SET_PEER_PRIMARY_ADDR', 0x06, 'sctp_setpeerprim', pairs('sspp_addr address, sspp_assoc_id assocId'));
option('SCTP_PRIMARY_ADDR', 0x07, 'sctp_setprim', pairs('ssp_addr address, ssp_assoc_id assocId'));
option('SCTP_ADAPTATION_LAYER', 0x08, 'sctp_setadaptation', plain('ssb_adaptation_ind'));
int('SCTP_DISABLE_FRAGMENTS', 0x09);
option(
  'SCTP_PEER_ADDR_PARAMS',
  0x0a,
  'sctp_paddrparams',
  pairs(
    'spp_address address, spp_assoc_id assocId, spp_hbinterval hbInterval, spp_pathmtu pathMtu, spp_flags flags, spp_ipv6_flowlabel flowlabel, spp_pathmaxrxt pathMaxRxt, spp_dscp dscp',
    { spp_address: nobody },
  ),
);
option('SCTP_DEFAULT_SEND_PARAM', 0x0b, 'sctp_sndrcvinfo', sndrcv);
option('SCTP_EVENTS', 0x0c, 'sctp_event_subscribe', pairs(SUBSCRIBE));
int('SCTP_I_WANT_MAPPED_V4_ADDR', 0x0d);
value('SCTP_MAXSEG', 0x0e);
option('SCTP_DELAYED_SACK', 0x0f, 'sctp_sack_info', pairs('sack_assoc_id assocId, sack_delay delay, sack_freq freq'));
int('SCTP_FRAGMENT_INTERLEAVE', 0x10);
int('SCTP_PARTIAL_DELIVERY_POINT', 0x11);
option('SCTP_AUTH_CHUNK', 0x12, 'sctp_authchunk', plain('sauth_chunk'));
option('SCTP_AUTH_KEY', 0x13, 'sctp_authkey', pairs('sca_assoc_id assocId, sca_keynumber keyNumber, sca_key key'));
option('SCTP_HMAC_IDENT', 0x14, 'sctp_hmacalgo', pairs('shmac_number_of_idents count, shmac_idents idents'));
option('SCTP_AUTH_ACTIVE_KEY', 0x15, 'sctp_authkeyid', pairs('scact_assoc_id assocId, scact_keynumber keyNumber'));
option('SCTP_AUTH_DELETE_KEY', 0x16, 'sctp_authkeyid', pairs('scact_assoc_id assocId, scact_keynumber keyNumber'));
int('SCTP_USE_EXT_RCVINFO', 0x17);
int('SCTP_AUTO_ASCONF', 0x18);
value('SCTP_MAX_BURST', 0x19);
value('SCTP_CONTEXT', 0x1a);
int('SCTP_EXPLICIT_EOR', 0x1b);
int('SCTP_REUSE_PORT', 0x1c);
option('SCTP_AUTH_DEACTIVATE_KEY', 0x1d, 'sctp_authkeyid', pairs('scact_assoc_id assocId, scact_keynumber keyNumber'));
option(
  'SCTP_EVENT',
  0x1e,
  'sctp_event',
  pairs('se_assoc_id assocId, se_type type, se_on on', { se_type: eventType, se_on: bool }),
);
int('SCTP_RECVRCVINFO', 0x1f);
int('SCTP_RECVNXTINFO', 0x20);
option('SCTP_DEFAULT_SNDINFO', 0x21, 'sctp_sndinfo', sndinfo);
option(
  'SCTP_DEFAULT_PRINFO',
  0x22,
  'sctp_default_prinfo',
  pairs('pr_policy policy, pr_value value, pr_assoc_id assocId'),
);
option(
  'SCTP_PEER_ADDR_THLDS',
  0x23,
  'sctp_paddrthlds',
  pairs(
    'spt_address address, spt_assoc_id assocId, spt_pathmaxrxt pathMaxRxt, spt_pathpfthld pathPfThld, spt_pathcpthld pathCpThld',
    { spt_address: nobody },
  ),
);
option(
  'SCTP_REMOTE_UDP_ENCAPS_PORT',
  0x24,
  'sctp_udpencaps',
  // sue_port is in network order.
  pairs('sue_address address, sue_assoc_id assocId, sue_port port', {
    sue_address: nobody,
    sue_port: [v => swap(v as number), v => swap(Number(v ?? 0))],
  }),
);
value('SCTP_ECN_SUPPORTED', 0x25);
value('SCTP_PR_SUPPORTED', 0x26);
value('SCTP_AUTH_SUPPORTED', 0x27);
value('SCTP_ASCONF_SUPPORTED', 0x28);
value('SCTP_RECONFIG_SUPPORTED', 0x29);
value('SCTP_NRSACK_SUPPORTED', 0x30);
value('SCTP_PKTDROP_SUPPORTED', 0x31);
value('SCTP_MAX_CWND', 0x32);
value('SCTP_ACCEPT_ZERO_CHECKSUM', 0x33);
option('SCTP_STATUS', 0x100, 'sctp_status', status);
option('SCTP_GET_PEER_ADDR_INFO', 0x101, 'sctp_paddrinfo', paddrinfo);
const authChunks = pairs('gauth_assoc_id assocId, gauth_number_of_chunks count, gauth_chunks chunks');
option('SCTP_PEER_AUTH_CHUNKS', 0x102, 'sctp_authchunks', authChunks);
option('SCTP_LOCAL_AUTH_CHUNKS', 0x103, 'sctp_authchunks', authChunks);
int('SCTP_GET_ASSOC_NUMBER', 0x104);
option('SCTP_GET_ASSOC_ID_LIST', 0x105, 'sctp_assoc_ids', {
  toApi: () => undefined,
  toC: v => ({ gaids_number_of_ids: numbers(v as CValue).length, gaids_assoc_id: numbers(v as CValue) }),
});
option(
  'SCTP_TIMEOUTS',
  0x106,
  'sctp_timeouts',
  pairs(
    'stimo_assoc_id assocId, stimo_init init, stimo_data data, stimo_sack sack, stimo_shutdown shutdown, stimo_heartbeat heartbeat, stimo_cookie cookie, stimo_shutdownack shutdownAck',
  ),
);
const prstatus = pairs(
  'sprstat_assoc_id assocId, sprstat_sid sid, sprstat_policy policy, sprstat_abandoned_unsent abandonedUnsent, sprstat_abandoned_sent abandonedSent',
);
option('SCTP_PR_STREAM_STATUS', 0x107, 'sctp_prstatus', prstatus);
option('SCTP_PR_ASSOC_STATUS', 0x108, 'sctp_prstatus', prstatus);
value('SCTP_ENABLE_STREAM_RESET', 0x900);
option(
  'SCTP_RESET_STREAMS',
  0x901,
  'sctp_reset_streams',
  pairs('srs_assoc_id assocId, srs_flags flags, srs_number_streams count, srs_stream_list streams'),
);
option('SCTP_RESET_ASSOC', 0x902, 'sctp_assoc_t', pairs('assoc_id assocId'));
option('SCTP_ADD_STREAMS', 0x903, 'sctp_add_streams', pairs('sas_assoc_id assocId, sas_instrms in, sas_outstrms out'));
option(
  'SCTP_GET_SNDBUF_USE',
  0x1101,
  'sctp_sockstat',
  pairs('ss_assoc_id assocId, ss_total_sndbuf sndbuf, ss_total_recv_buf rcvbuf'),
);
option(
  'SCTP_PCB_STATUS',
  0x1104,
  'sctp_pcbinfo',
  pairs(
    'ep_count endpoints, asoc_count associations, laddr_count localAddresses, raddr_count remoteAddresses, chk_count chunks, readq_count readQueue, free_chunks freeChunks, stream_oque streamQueues',
  ),
);
option(
  'SCTP_GET_NONCE_VALUES',
  0x1105,
  'sctp_get_nonce_values',
  pairs('gn_assoc_id assocId, gn_peers_tag peerTag, gn_local_tag localTag'),
);
value('SCTP_CMT_ON_OFF', 0x1200);
value('SCTP_CMT_USE_DAC', 0x1201);
value('SCTP_PLUGGABLE_CC', 0x1202);
value('SCTP_PLUGGABLE_SS', 0x1203);
option('SCTP_SS_VALUE', 0x1204, 'sctp_stream_value', pairs('assoc_id assocId, stream_id sid, stream_value value'));
option('SCTP_CC_OPTION', 0x1205, 'sctp_cc_option', {
  toApi: r => ({ option: r.option, ...obj(assocValue.toApi((r.aid_value ?? {}) as CRecord)) }),
  toC: v => ({ option: cval(obj(v).option), aid_value: assocValue.toC(v) }),
});
value('SCTP_INTERLEAVING_SUPPORTED', 0x1206);
row('socket', 'SO_LINGER', 0x0080, 'linger', {
  toApi: r => ({ onoff: r.l_onoff !== 0, linger: r.l_linger }),
  // FreeBSD reads the flag's own bit back.
  toC: v => ({ l_onoff: obj(v).onoff === true ? 0x80 : 0, l_linger: cval(obj(v).linger) }),
});
row('socket', 'SO_SNDBUF', 0x1001, 'int', plain('value'));
row('socket', 'SO_RCVBUF', 0x1002, 'int', plain('value'));
row('socket', 'SO_ERROR', 0x1007, 'int', plain('value'));

function swap(n: number): number {
  return ((n & 0xff) << 8) | ((n >>> 8) & 0xff);
}

export const OPTIONS: readonly OptionRow[] = rows;
const byNumber = new Map(rows.map(r => [`${r.level} ${r.number}`, r]));
export const optionRow = (level: OptionRow['level'], number: number): OptionRow | undefined =>
  byNumber.get(`${level} ${number}`);

addWords(Object.fromEntries(rows.map(r => [r.name, r.number])));
addWords({
  SCTP_ADAPTION_LAYER: 0x08,
  SCTP_SET_EVENTS: 0x0c,
  SCTP_STREAM_SCHEDULER: 0x1203,
  SCTP_STREAM_SCHEDULER_VALUE: 0x1204,
  SCTP_GET_PEER_ADDRESSES: 0x8003,
  SCTP_GET_LOCAL_ADDRESSES: 0x8004,
});

// --------------------------------------------------------------------------------------------------------- notifications

export interface NotificationRow {
  /** The `type` of the stack's object. */
  readonly event: string;
  readonly number: number;
  /** Prefix of the fields type, flags, length. */
  readonly prefix: string;
  readonly layout: Layout;
  /** From the stack's object; type, flags and length are filled in behind it where they are not given. */
  fields(n: Obj): CRecord;
}

const STATES: Readonly<Record<string, number>> = {
  'comm-up': 1,
  'comm-lost': 2,
  restart: 3,
  'shutdown-comp': 4,
  'cant-start': 5,
};
const ADDRESS_STATES: Readonly<Record<string, number>> = {
  available: 1,
  unreachable: 2,
  removed: 3,
  added: 4,
  'made-prim': 5,
  confirmed: 6,
};
/** SCTP_ASSOC_SUPPORTS_MULTIBUF: what FreeBSD always has. */
const MULTIBUF = 4;

const bytesOf = (v: unknown): readonly number[] => (v instanceof Uint8Array ? [...v] : Array.isArray(v) ? v : []);
const snd = (n: Obj): CRecord => ({
  snd_sid: cval(n.sid),
  snd_flags: cval(n.flags),
  snd_ppid: swap32(Number(n.ppid ?? 0)),
  snd_context: cval(n.context),
  snd_assoc_id: cval(n.assocId),
});
const swap32 = (n: number): number =>
  (((n & 0xff) << 24) | ((n & 0xff00) << 8) | ((n >>> 8) & 0xff00) | ((n >>> 24) & 0xff)) >>> 0;

const notification = (
  event: string,
  number: number,
  prefix: string,
  layout: string,
  fields: (n: Obj) => CRecord,
): NotificationRow => ({ event, number, prefix, layout: layoutOf(layout), fields });

export const NOTIFICATIONS: readonly NotificationRow[] = [
  notification('assoc-change', 1, 'sac', 'sctp_assoc_change', n => ({
    sac_state: STATES[String(n.state)] ?? 0,
    sac_error: cval(n.error),
    sac_outbound_streams: cval(n.outStreams),
    sac_inbound_streams: cval(n.inStreams),
    sac_assoc_id: cval(n.assocId),
    sac_info:
      n.state === 'comm-up' || n.state === 'restart' ? bytesOf(n.features ?? [MULTIBUF]) : bytesOf(n.abort ?? []),
  })),
  notification('peer-addr-change', 2, 'spc', 'sctp_paddr_change', n => ({
    spc_aaddr: n.address as SockAddr,
    spc_state: ADDRESS_STATES[String(n.state)] ?? 0,
    spc_error: cval(n.error ?? 0),
    spc_assoc_id: cval(n.assocId),
  })),
  notification('remote-error', 3, 'sre', 'sctp_remote_error', n => ({
    sre_error: swap32(Number(n.cause ?? 0)) >>> 16, // RFC 6458 §6.1.3: in network byte order
    sre_assoc_id: cval(n.assocId),
    sre_data: bytesOf(n.data),
  })),
  // The old form, chosen when only that one was subscribed to: see notificationRow.
  notification('send-failed', 4, 'ssf', 'sctp_send_failed', n => ({
    ssf_flags: n.sent === true ? 2 : 1,
    ssf_error: cval(n.error),
    ssf_info: {
      sinfo_stream: cval(n.sid),
      sinfo_flags: cval(n.flags),
      sinfo_ppid: swap32(Number(n.ppid ?? 0)),
      sinfo_context: cval(n.context),
      sinfo_assoc_id: cval(n.assocId),
    },
    ssf_assoc_id: cval(n.assocId),
    ssf_data: bytesOf(n.data),
  })),
  notification('send-failed', 0xe, 'ssfe', 'sctp_send_failed_event', n => ({
    ssfe_flags: n.sent === true ? 2 : 1,
    ssfe_error: cval(n.error),
    ssfe_info: snd(n),
    ssfe_assoc_id: cval(n.assocId),
    ssfe_data: bytesOf(n.data),
  })),
  notification('shutdown', 5, 'sse', 'sctp_shutdown_event', n => ({ sse_assoc_id: cval(n.assocId) })),
  notification('adaptation-indication', 6, 'sai', 'sctp_adaptation_event', n => ({
    sai_adaptation_ind: cval(n.indication),
    sai_assoc_id: cval(n.assocId),
  })),
  notification('partial-delivery', 7, 'pdapi', 'sctp_pdapi_event', n => ({
    pdapi_indication: cval(n.indication ?? 1),
    pdapi_stream: cval(n.sid),
    pdapi_seq: cval(n.ssn),
    pdapi_assoc_id: cval(n.assocId),
  })),
  notification('authentication', 8, 'auth', 'sctp_authkey_event', n => ({
    auth_keynumber: cval(n.keyNumber),
    auth_altkeynumber: cval(n.altKeyNumber ?? 0),
    auth_indication: cval(n.indication),
    auth_assoc_id: cval(n.assocId),
  })),
  notification('stream-reset', 9, 'strreset', 'sctp_stream_reset_event', n => ({
    strreset_flags: cval(n.flags),
    strreset_assoc_id: cval(n.assocId),
    strreset_stream_list: bytesOf(n.streams),
  })),
  notification('sender-dry', 0xa, 'sender_dry', 'sctp_sender_dry_event', n => ({
    sender_dry_assoc_id: cval(n.assocId),
  })),
  notification('notifications-stopped', 0xb, 'sn', 'sctp_notifications_stopped_event', n => ({
    sn_assoc_id: cval(n.assocId),
  })),
  notification('assoc-reset', 0xc, 'assocreset', 'sctp_assoc_reset_event', n => ({
    assocreset_flags: cval(n.flags),
    assocreset_assoc_id: cval(n.assocId),
    assocreset_local_tsn: cval(n.localTsn),
    assocreset_remote_tsn: cval(n.remoteTsn),
  })),
  notification('stream-change', 0xd, 'strchange', 'sctp_stream_change_event', n => ({
    strchange_flags: cval(n.flags),
    strchange_assoc_id: cval(n.assocId),
    strchange_instrms: cval(n.inStreams),
    strchange_outstrms: cval(n.outStreams),
  })),
];

/** The row of a notification of the stack; `oldSendFailed`: the socket knows SCTP_SEND_FAILED only. */
export function notificationRow(type: NotificationType | string, oldSendFailed = false): NotificationRow | undefined {
  return NOTIFICATIONS.find(r => r.event === type && (type !== 'send-failed' || (r.number === 4) === oldSendFailed));
}

/** The bytes that a read of this notification gives. Undefined: a type without a struct. */
export function encodeNotification(n: { readonly type: string }, oldSendFailed = false): Uint8Array | undefined {
  const r = notificationRow(n.type, oldSendFailed);
  if (r === undefined) return undefined;
  const record: CRecord = { ...r.fields(n as unknown as Obj), [`${r.prefix}_type`]: r.number };
  record[`${r.prefix}_length`] = recordSize(r.layout, record);
  return encodeStruct(r.layout, record);
}

/** The layout of a notification's bytes, by its first field. */
export function notificationLayout(bytes: Uint8Array): Layout | undefined {
  const type = bytes.length < 2 ? 0 : bytes[0]! | (bytes[1]! << 8);
  return NOTIFICATIONS.find(r => r.number === type)?.layout;
}
