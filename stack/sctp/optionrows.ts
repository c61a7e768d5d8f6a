/**
 * The socket options as rows of data (RFC 6458 §8; numbers of FreeBSD, and Linux's beside them): level, struct, which way
 * they go, how the struct's record becomes the object of api.ts and back, and what they belong to. setOption and getOption
 * obey the objects; binary.ts makes of these rows what a C program calls; the tests go through them.
 */

import { type EventName, SSTAT } from './api.js';
import { type CRecord, type CValue, type Layout, layoutOf, swap16, swap32 } from './layout.js';
import { notificationRow } from './notifications.js';

/** What an option, notification, control message or sysctl belongs to that is not there yet. */
export type Extension =
  | 'auth' // RFC 4895
  | 'asconf' // RFC 5061, with the adaptation indication
  | 'pr' // RFC 3758, RFC 7496
  | 'reconfig' // RFC 6525
  | 'nrsack'
  | 'pktdrop'
  | 'cmt' // concurrent multipath transfer
  | 'interleaving' // RFC 8260 §2
  | 'schedulers' // RFC 8260 §3
  | 'cc' // other congestion controls than RFC 9260's
  | 'zero-checksum' // RFC 9653
  | 'nat'
  | 'vrf';

/** Struct's record ↔ object of api.ts; an undefined object is a value that cannot be (EINVAL). */
export interface Codec {
  toApi(r: CRecord): unknown;
  toC(v: unknown): CRecord;
}

export interface OptionRow {
  readonly name: string;
  readonly level: 'sctp' | 'socket';
  readonly number: number;
  /** Linux's number; undefined: Linux does not have it. */
  readonly linux: number | undefined;
  /** g: getsockopt, s: setsockopt, gs: both. */
  readonly access: 'g' | 's' | 'gs';
  readonly layout: Layout;
  readonly codec: Codec;
  /** Not there yet: ENOPROTOOPT until the extension is loaded. 'none': FreeBSD has a number but no code for it either. */
  readonly extension?: Extension | 'none';
}

type Convert = readonly [toApi: (v: CValue) => unknown, toC: (v: unknown) => CValue];
type Obj = Record<string, unknown>;
const obj = (v: unknown): Obj => (typeof v === 'object' && v !== null ? (v as Obj) : {});
const cval = (v: unknown): CValue => (typeof v === 'boolean' ? Number(v) : (v as CValue));

/** Pairs "c_field key": the field of the struct and the property of the object; conversions where they differ in kind. */
export function pairs(spec: string, convert: Readonly<Record<string, Convert>> = {}): Codec {
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
/** The object is a plain number (or a list of addresses). */
const plain = (field: string): Codec => ({ toApi: r => r[field], toC: v => ({ [field]: cval(v) }) });
/** A C flag: the option's object is a number above 0 or 0. */
const unsigned: Codec = { toApi: r => Number(r.value) >>> 0, toC: v => ({ value: cval(v) }) };
const bool: Convert = [v => v !== 0, v => Number(v === true || (typeof v === 'number' && v !== 0))];
const lookup = (table: Readonly<Record<string, number>>): Convert => [
  v => Object.keys(table).find(k => table[k] === v),
  v => (typeof v === 'number' ? v : (table[String(v)] ?? 0)),
];
const port: Convert = [v => swap16(v as number), v => swap16(Number(v ?? 0))];
const ppid: Convert = [v => swap32(v as number), v => swap32(Number(v ?? 0))];
/** Milliseconds are whole numbers in C. */
const ms: Convert = [v => v, v => Math.round(Number(v ?? 0))];
const most16: Convert = [v => v, v => Math.min(Number(v ?? 0), 0xffff)];
const eventType: Convert = [
  v => notificationRow(v as number)?.event ?? `event-${v}`,
  v => notificationRow(v as EventName)?.number ?? 0,
];

export const PATH_STATES = { active: 1, inactive: 2, unconfirmed: 0x200 };
const assocValue = pairs('assoc_id assocId, assoc_value value');
const paddrinfo = pairs(
  'spinfo_assoc_id assocId, spinfo_address address, spinfo_state state, spinfo_cwnd cwnd, spinfo_srtt srtt, spinfo_rto rto, spinfo_mtu chunkRoom',
  { spinfo_state: lookup(PATH_STATES), spinfo_srtt: ms, spinfo_rto: ms },
);
const status = pairs(
  'sstat_assoc_id assocId, sstat_state state, sstat_rwnd rwnd, sstat_unackdata unackdata, sstat_penddata penddata, sstat_instrms instrms, sstat_outstrms outstrms, sstat_fragmentation_point fragmentationPoint, sstat_primary primary',
  {
    sstat_state: lookup(SSTAT),
    sstat_unackdata: most16,
    sstat_penddata: most16,
    sstat_primary: [r => paddrinfo.toApi((r ?? {}) as CRecord), v => paddrinfo.toC(v)],
  },
);
/** sinfo_flags carries the partial reliability policy in its low bits; a lifetime without one is the timed policy. */
const sndrcv: Codec = {
  toApi: r => {
    const flags = Number(r.sinfo_flags);
    const ttl = Number(r.sinfo_timetolive);
    return {
      sid: r.sinfo_stream,
      flags: flags & 0xfff0,
      ppid: swap32(Number(r.sinfo_ppid)),
      context: r.sinfo_context,
      assocId: r.sinfo_assoc_id,
      prPolicy: (flags & 0xf) === 0 && ttl > 0 ? 1 : flags & 0xf,
      prValue: ttl,
    };
  },
  toC: v => {
    const o = obj(v);
    return {
      sinfo_stream: cval(o.sid),
      sinfo_flags: Number(o.flags ?? 0) | Number(o.prPolicy ?? 0),
      sinfo_ppid: swap32(Number(o.ppid ?? 0)),
      sinfo_context: cval(o.context),
      sinfo_timetolive: cval(o.prValue),
      sinfo_assoc_id: cval(o.assocId),
    };
  },
};
const sndinfo = pairs('snd_sid sid, snd_flags flags, snd_ppid ppid, snd_context context, snd_assoc_id assocId', {
  snd_ppid: ppid,
});
const SUBSCRIBE =
  'sctp_data_io_event dataIo, sctp_association_event association, sctp_address_event address, sctp_send_failure_event sendFailure, sctp_peer_error_event peerError, sctp_shutdown_event shutdown, sctp_partial_delivery_event partialDelivery, sctp_adaptation_layer_event adaptationLayer, sctp_authentication_event authentication, sctp_sender_dry_event senderDry, sctp_stream_reset_event streamReset';

const rows: OptionRow[] = [];
/** "number/linux access", e.g. "1f/32 gs" or "9f00/- gs". */
function option(
  name: string,
  where: string,
  layout: string,
  codec: Codec,
  extension?: Extension | 'none',
  level: OptionRow['level'] = 'sctp',
): void {
  const [, number, linux, access] = /^([0-9a-f]+)\/(\d+|-) (gs?|s)$/.exec(where)!;
  rows.push({
    name,
    level,
    number: Number.parseInt(number!, 16),
    linux: linux === '-' ? undefined : Number(linux),
    access: access as OptionRow['access'],
    layout: layoutOf(layout),
    codec,
    ...(extension === undefined ? {} : { extension }),
  });
}
const int = (name: string, where: string, extension?: Extension | 'none') =>
  option(name, where, 'int', unsigned, extension);
const value = (name: string, where: string, extension?: Extension | 'none') =>
  option(name, where, 'sctp_assoc_value', assocValue, extension);

// RFC 6458 §8.1 and FreeBSD's of the same kind.
option(
  'SCTP_RTOINFO',
  '01/0 gs',
  'sctp_rtoinfo',
  pairs('srto_assoc_id assocId, srto_initial initial, srto_max max, srto_min min'),
);
option(
  'SCTP_ASSOCINFO',
  '02/1 gs',
  'sctp_assocparams',
  pairs(
    'sasoc_assoc_id assocId, sasoc_peer_rwnd peerRwnd, sasoc_local_rwnd localRwnd, sasoc_cookie_life cookieLife, sasoc_asocmaxrxt asocMaxRxt, sasoc_number_peer_destinations numberPeerDestinations',
  ),
);
const initmsg = pairs(
  'sinit_num_ostreams numOstreams, sinit_max_instreams maxInstreams, sinit_max_attempts maxAttempts, sinit_max_init_timeo maxInitTimeo',
);
option('SCTP_INITMSG', '03/2 gs', 'sctp_initmsg', initmsg);
int('SCTP_NODELAY', '04/3 gs');
int('SCTP_AUTOCLOSE', '05/4 gs');
option(
  'SCTP_SET_PEER_PRIMARY_ADDR',
  '06/5 s',
  'sctp_setpeerprim',
  pairs('sspp_addr address, sspp_assoc_id assocId'),
  'asconf',
);
option('SCTP_PRIMARY_ADDR', '07/6 gs', 'sctp_setprim', pairs('ssp_addr address, ssp_assoc_id assocId'));
option('SCTP_ADAPTATION_LAYER', '08/7 gs', 'sctp_setadaptation', plain('ssb_adaptation_ind'), 'asconf');
int('SCTP_DISABLE_FRAGMENTS', '09/8 gs');
option(
  'SCTP_PEER_ADDR_PARAMS',
  '0a/9 gs',
  'sctp_paddrparams',
  pairs(
    'spp_address address, spp_assoc_id assocId, spp_hbinterval hbInterval, spp_pathmtu pathMtu, spp_flags flags, spp_ipv6_flowlabel flowLabel, spp_pathmaxrxt pathMaxRxt, spp_dscp dscp',
  ),
);
option('SCTP_DEFAULT_SEND_PARAM', '0b/10 gs', 'sctp_sndrcvinfo', sndrcv);
option(
  'SCTP_EVENTS',
  '0c/11 gs',
  'sctp_event_subscribe',
  pairs(SUBSCRIBE, Object.fromEntries(SUBSCRIBE.split(', ').map(p => [p.split(' ')[0]!, bool]))),
);
int('SCTP_I_WANT_MAPPED_V4_ADDR', '0d/12 gs');
value('SCTP_MAXSEG', '0e/13 gs');
option(
  'SCTP_DELAYED_SACK',
  '0f/16 gs',
  'sctp_sack_info',
  pairs('sack_assoc_id assocId, sack_delay delay, sack_freq freq'),
);
int('SCTP_FRAGMENT_INTERLEAVE', '10/18 gs');
int('SCTP_PARTIAL_DELIVERY_POINT', '11/19 gs');
const keyId = pairs('scact_assoc_id assocId, scact_keynumber keyNumber');
option('SCTP_AUTH_CHUNK', '12/21 s', 'sctp_authchunk', plain('sauth_chunk'), 'auth');
option(
  'SCTP_AUTH_KEY',
  '13/23 s',
  'sctp_authkey',
  pairs('sca_assoc_id assocId, sca_keynumber keyNumber, sca_keylength keyLength, sca_key key'),
  'auth',
);
option(
  'SCTP_HMAC_IDENT',
  '14/22 gs',
  'sctp_hmacalgo',
  pairs('shmac_number_of_idents count, shmac_idents idents'),
  'auth',
);
option('SCTP_AUTH_ACTIVE_KEY', '15/24 gs', 'sctp_authkeyid', keyId, 'auth');
option('SCTP_AUTH_DELETE_KEY', '16/25 s', 'sctp_authkeyid', keyId, 'auth');
int('SCTP_USE_EXT_RCVINFO', '17/- gs');
int('SCTP_AUTO_ASCONF', '18/30 gs', 'asconf');
value('SCTP_MAX_BURST', '19/20 gs');
value('SCTP_CONTEXT', '1a/17 gs');
int('SCTP_EXPLICIT_EOR', '1b/- gs');
int('SCTP_REUSE_PORT', '1c/36 gs');
option('SCTP_AUTH_DEACTIVATE_KEY', '1d/35 s', 'sctp_authkeyid', keyId, 'auth');
option(
  'SCTP_EVENT',
  '1e/127 gs',
  'sctp_event',
  pairs('se_assoc_id assocId, se_type type, se_on on', { se_type: eventType, se_on: bool }),
);
int('SCTP_RECVRCVINFO', '1f/32 gs');
int('SCTP_RECVNXTINFO', '20/33 gs');
option('SCTP_DEFAULT_SNDINFO', '21/34 gs', 'sctp_sndinfo', sndinfo);
option(
  'SCTP_DEFAULT_PRINFO',
  '22/114 gs',
  'sctp_default_prinfo',
  pairs('pr_policy policy, pr_value value, pr_assoc_id assocId'),
  'pr',
);
option(
  'SCTP_PEER_ADDR_THLDS',
  '23/31 gs',
  'sctp_paddrthlds',
  pairs(
    'spt_address address, spt_assoc_id assocId, spt_pathmaxrxt pathMaxRxt, spt_pathpfthld pathPfThld, spt_pathcpthld pathCpThld',
  ),
);
option(
  'SCTP_REMOTE_UDP_ENCAPS_PORT',
  '24/132 gs',
  'sctp_udpencaps',
  pairs('sue_address address, sue_assoc_id assocId, sue_port port', { sue_port: port }),
);
value('SCTP_ECN_SUPPORTED', '25/130 gs');
value('SCTP_PR_SUPPORTED', '26/113 gs', 'pr');
value('SCTP_AUTH_SUPPORTED', '27/129 gs', 'auth');
value('SCTP_ASCONF_SUPPORTED', '28/128 gs', 'asconf');
value('SCTP_RECONFIG_SUPPORTED', '29/117 gs', 'reconfig');
value('SCTP_NRSACK_SUPPORTED', '30/- gs', 'nrsack');
value('SCTP_PKTDROP_SUPPORTED', '31/- gs', 'pktdrop');
value('SCTP_MAX_CWND', '32/- gs');
value('SCTP_ACCEPT_ZERO_CHECKSUM', '33/- s', 'zero-checksum');

// Read only, RFC 6458 §8.2.
option('SCTP_STATUS', '100/14 g', 'sctp_status', status);
option('SCTP_GET_PEER_ADDR_INFO', '101/15 g', 'sctp_paddrinfo', paddrinfo);
const authChunks = pairs('gauth_assoc_id assocId, gauth_number_of_chunks count, gauth_chunks chunks');
option('SCTP_PEER_AUTH_CHUNKS', '102/26 g', 'sctp_authchunks', authChunks, 'auth');
option('SCTP_LOCAL_AUTH_CHUNKS', '103/27 g', 'sctp_authchunks', authChunks, 'auth');
int('SCTP_GET_ASSOC_NUMBER', '104/28 g');
option('SCTP_GET_ASSOC_ID_LIST', '105/29 g', 'sctp_assoc_ids', {
  toApi: () => 0,
  toC: v => ({ gaids_number_of_ids: (v as number[]).length, gaids_assoc_id: v as number[] }),
});
option(
  'SCTP_TIMEOUTS',
  '106/- g',
  'sctp_timeouts',
  pairs(
    'stimo_assoc_id assocId, stimo_init init, stimo_data data, stimo_sack sack, stimo_shutdown shutdown, stimo_heartbeat heartbeat, stimo_cookie cookie, stimo_shutdownack shutdownAck',
  ),
);
const prstatus = pairs(
  'sprstat_assoc_id assocId, sprstat_sid sid, sprstat_policy policy, sprstat_abandoned_unsent abandonedUnsent, sprstat_abandoned_sent abandonedSent',
);
option('SCTP_PR_STREAM_STATUS', '107/116 g', 'sctp_prstatus', prstatus, 'pr');
option('SCTP_PR_ASSOC_STATUS', '108/115 g', 'sctp_prstatus', prstatus, 'pr');

// RFC 6525 §6.3.
value('SCTP_ENABLE_STREAM_RESET', '900/118 gs', 'reconfig');
option(
  'SCTP_RESET_STREAMS',
  '901/119 s',
  'sctp_reset_streams',
  pairs('srs_assoc_id assocId, srs_flags flags, srs_number_streams count, srs_stream_list streams'),
  'reconfig',
);
option('SCTP_RESET_ASSOC', '902/120 s', 'sctp_assoc_t', pairs('assoc_id assocId'), 'reconfig');
option(
  'SCTP_ADD_STREAMS',
  '903/121 s',
  'sctp_add_streams',
  pairs('sas_assoc_id assocId, sas_instrms in, sas_outstrms out'),
  'reconfig',
);

// FreeBSD's own.
int('SCTP_SET_DEBUG_LEVEL', '1005/- gs', 'none');
int('SCTP_CLR_STAT_LOG', '1007/- s');
option(
  'SCTP_GET_SNDBUF_USE',
  '1101/- g',
  'sctp_sockstat',
  pairs('ss_assoc_id assocId, ss_total_sndbuf sndbuf, ss_total_recv_buf rcvbuf'),
);
int('SCTP_GET_STAT_LOG', '1103/- g');
option(
  'SCTP_PCB_STATUS',
  '1104/- g',
  'sctp_pcbinfo',
  pairs(
    'ep_count endpoints, asoc_count associations, laddr_count localAddresses, raddr_count remoteAddresses, chk_count chunks, readq_count readQueue, free_chunks freeChunks, stream_oque streamQueue',
  ),
);
option(
  'SCTP_GET_NONCE_VALUES',
  '1105/- g',
  'sctp_get_nonce_values',
  pairs('gn_assoc_id assocId, gn_peers_tag peerTag, gn_local_tag localTag'),
);
value('SCTP_CMT_ON_OFF', '1200/- gs', 'cmt');
value('SCTP_CMT_USE_DAC', '1201/- gs', 'none');
value('SCTP_PLUGGABLE_CC', '1202/- gs');
value('SCTP_STREAM_SCHEDULER', '1203/123 gs');
option(
  'SCTP_STREAM_SCHEDULER_VALUE',
  '1204/124 gs',
  'sctp_stream_value',
  pairs('assoc_id assocId, stream_id sid, stream_value value'),
  'schedulers',
);
option(
  'SCTP_CC_OPTION',
  '1205/- gs',
  'sctp_cc_option',
  {
    toApi: r => ({ option: r.option, ...obj(assocValue.toApi((r.aid_value ?? {}) as CRecord)) }),
    toC: v => ({ option: cval(obj(v).option), aid_value: assocValue.toC(v) }),
  },
  'cc',
);
value('SCTP_INTERLEAVING_SUPPORTED', '1206/125 gs', 'interleaving');
option('SCTP_SET_DYNAMIC_PRIMARY', '2001/- s', 'sctp_setprim', pairs('ssp_addr address, ssp_assoc_id assocId'));
value('SCTP_VRF_ID', '3001/- gs', 'vrf');
value('SCTP_ADD_VRF_ID', '3002/- s', 'vrf');
value('SCTP_GET_VRF_IDS', '3003/- g', 'vrf');
value('SCTP_GET_ASOC_VRF', '3004/- g', 'vrf');
value('SCTP_DEL_VRF_ID', '3005/- s', 'vrf');
int('SCTP_GET_PACKET_LOG', '4001/- g', 'none');

// What the library functions are made of (RFC 6458 §9).
const list: Codec = {
  toApi: r => r.addr,
  toC: v => ({ addr: v as CValue }),
};
/** In: an association's id. Out: the list. */
const listOfAssoc: Codec = { toApi: r => r.sget_assoc_id, toC: v => ({ addr: v as CValue }) };
const counted: Codec = {
  toApi: r => (r.count === (r.addr as unknown[]).length ? r.addr : undefined),
  toC: v => ({ count: (v as unknown[]).length, addr: v as CValue }),
};
option('SCTP_BINDX_ADD_ADDR', '8001/100 s', 'sctp_getaddresses', list);
option('SCTP_BINDX_REM_ADDR', '8002/101 s', 'sctp_getaddresses', list);
option('SCTP_GET_PEER_ADDRESSES', '8003/108 g', 'sctp_getaddresses', listOfAssoc);
option('SCTP_GET_LOCAL_ADDRESSES', '8004/109 g', 'sctp_getaddresses', listOfAssoc);
int('SCTP_GET_LOCAL_ADDR_SIZE', '8005/- g');
int('SCTP_GET_REMOTE_ADDR_SIZE', '8006/- g');
option('SCTP_CONNECT_X', '8007/110 s', 'sctp_connectx', counted);
option('SCTP_CONNECT_X_DELAYED', '8008/- s', 'sctp_connectx', counted);
option('SCTP_CONNECT_X_COMPLETE', '8009/- s', 'sockaddr', {
  toApi: r => (r.addr as unknown[])[0],
  toC: v => ({ addr: [v] as CValue }),
});
option('SCTP_PEELOFF', '800a/102 g', 'sctp_peeloff_opt', {
  toApi: r => r.assoc_id,
  toC: () => ({}), // the descriptor is the caller's to give
});
value('SCTP_GET_ADDR_LEN', '800b/- g');
int('SCTP_LISTEN_FIX', '800c/- s', 'none');
int('SCTP_SET_INITIAL_DBG_SEQ', '9f00/- gs');

// Level SOL_SOCKET; Linux's numbers of SOL_SOCKET 1.
option(
  'SO_LINGER',
  '80/13 gs',
  'linger',
  {
    toApi: r => ({ onoff: r.l_onoff !== 0, linger: r.l_linger }),
    // FreeBSD reads the flag's own bit back.
    toC: v => ({ l_onoff: obj(v).onoff === true ? 0x80 : 0, l_linger: cval(obj(v).linger) }),
  },
  undefined,
  'socket',
);
option('SO_ACCEPTCONN', '2/30 g', 'int', unsigned, undefined, 'socket');
option('SO_REUSEADDR', '4/2 gs', 'int', unsigned, undefined, 'socket');
option('SO_SNDBUF', '1001/7 gs', 'int', unsigned, undefined, 'socket');
option('SO_RCVBUF', '1002/8 gs', 'int', unsigned, undefined, 'socket');
option('SO_ERROR', '1007/4 g', 'int', unsigned, undefined, 'socket');
option('SO_TYPE', '1008/3 g', 'int', unsigned, undefined, 'socket');
option('SO_PROTOCOL', '1016/38 g', 'int', unsigned, undefined, 'socket');

export const OPTIONS: readonly OptionRow[] = rows;
/** Other names that headers have for the same numbers. */
export const OPTION_ALIASES: Readonly<Record<string, number>> = {
  SCTP_ADAPTION_LAYER: 0x08,
  SCTP_SET_EVENTS: 0x0c,
  SCTP_DELAYED_ACK_TIME: 0x0f,
  SCTP_PLUGGABLE_SS: 0x1203,
  SCTP_SS_VALUE: 0x1204,
};
const byNumber = new Map(rows.map(r => [`${r.level} ${r.number}`, r]));
const byLinux = new Map(rows.filter(r => r.linux !== undefined).map(r => [`${r.level} ${r.linux}`, r]));

/** The row of an option by its number, FreeBSD's or Linux's. */
export const optionRow = (
  level: OptionRow['level'],
  number: number,
  numbers: 'freebsd' | 'linux' = 'freebsd',
): OptionRow | undefined => (numbers === 'linux' ? byLinux : byNumber).get(`${level} ${number}`);

/** Codecs that control messages share with options. */
export const CODECS = { sndrcv, sndinfo, initmsg } as const;
