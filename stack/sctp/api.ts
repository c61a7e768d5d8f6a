/**
 * The SCTP socket API's names and numbers (RFC 6458, FreeBSD's values) and the shapes of option values and notifications
 * as objects. The byte layouts belong to the binary interface, not here.
 */

import type { SockAddr } from '../kern/socket.js';

export { SO_BROADCAST, SO_ERROR, SO_LINGER, SO_RCVBUF, SO_REUSEADDR, SO_SNDBUF, SOL_SOCKET } from '../kern/socket.js';
export const SO_ACCEPTCONN = 0x0002; // number, read only
export const SO_TYPE = 0x1008; // number, read only
export const SO_PROTOCOL = 0x1016; // number, read only
/** Options of level IPPROTO_IP and IPPROTO_IPV6 that an SCTP socket takes. */
export const IP_TOS = 3; // number
export const IPV6_V6ONLY = 27; // number, before bind
export const IPV6_TCLASS = 61; // number

// Socket options, level IPPROTO_SCTP. Their C structs, access and Linux numbers are rows of optionrows.ts.
export const SCTP_RTOINFO = 0x01; // RtoInfo
export const SCTP_ASSOCINFO = 0x02; // AssocParams
export const SCTP_INITMSG = 0x03; // InitMsg
export const SCTP_NODELAY = 0x04; // number
export const SCTP_AUTOCLOSE = 0x05; // number, seconds; one-to-many
export const SCTP_PRIMARY_ADDR = 0x07; // { assocId, address }
export const SCTP_DISABLE_FRAGMENTS = 0x09; // number
export const SCTP_PEER_ADDR_PARAMS = 0x0a; // PeerAddrParams
export const SCTP_DEFAULT_SEND_PARAM = 0x0b; // SendInfo
export const SCTP_EVENTS = 0x0c; // EventSubscribe
export const SCTP_I_WANT_MAPPED_V4_ADDR = 0x0d; // number
export const SCTP_MAXSEG = 0x0e; // AssocValue
export const SCTP_DELAYED_SACK = 0x0f; // { assocId, delay ms, freq }
export const SCTP_FRAGMENT_INTERLEAVE = 0x10; // 0, 1, 2
export const SCTP_PARTIAL_DELIVERY_POINT = 0x11; // number, bytes
export const SCTP_USE_EXT_RCVINFO = 0x17; // number
export const SCTP_MAX_BURST = 0x19; // AssocValue
export const SCTP_CONTEXT = 0x1a; // AssocValue
export const SCTP_EXPLICIT_EOR = 0x1b; // number
export const SCTP_REUSE_PORT = 0x1c; // number; one-to-one, before bind
export const SCTP_EVENT = 0x1e; // { assocId, type: EventName, on: boolean }
export const SCTP_RECVRCVINFO = 0x1f; // number
export const SCTP_RECVNXTINFO = 0x20; // number
export const SCTP_DEFAULT_SNDINFO = 0x21; // SendInfo without prPolicy and prValue
export const SCTP_PEER_ADDR_THLDS = 0x23; // PeerAddrThresholds
export const SCTP_REMOTE_UDP_ENCAPS_PORT = 0x24; // { assocId, address?: SockAddr, port }
export const SCTP_ECN_SUPPORTED = 0x25; // AssocValue
export const SCTP_MAX_CWND = 0x32; // AssocValue
export const SCTP_STATUS = 0x100; // AssocStatus, read only
export const SCTP_GET_PEER_ADDR_INFO = 0x101; // PathInfo, read only
export const SCTP_GET_ASSOC_NUMBER = 0x104; // number
export const SCTP_GET_ASSOC_ID_LIST = 0x105; // number[]
export const SCTP_TIMEOUTS = 0x106; // Timeouts, read only
export const SCTP_CLR_STAT_LOG = 0x1007; // EOPNOTSUPP, as FreeBSD without packet logging
export const SCTP_GET_SNDBUF_USE = 0x1101; // { assocId, sndbuf, rcvbuf } bytes, read only
export const SCTP_GET_STAT_LOG = 0x1103; // EOPNOTSUPP
export const SCTP_PCB_STATUS = 0x1104; // PcbStatus, read only
export const SCTP_GET_NONCE_VALUES = 0x1105; // { assocId, peerTag, localTag }, read only
export const SCTP_PLUGGABLE_CC = 0x1202; // AssocValue
export const SCTP_STREAM_SCHEDULER = 0x1203; // AssocValue
export const SCTP_SET_DYNAMIC_PRIMARY = 0x2001; // privileged: EPERM
export const SCTP_BINDX_ADD_ADDR = 0x8001; // SockAddr[]
export const SCTP_BINDX_REM_ADDR = 0x8002; // SockAddr[]
export const SCTP_GET_PEER_ADDRESSES = 0x8003; // SockAddr[], arg assocId
export const SCTP_GET_LOCAL_ADDRESSES = 0x8004; // SockAddr[], arg assocId
export const SCTP_GET_LOCAL_ADDR_SIZE = 0x8005; // number: bytes of the list as C's sockaddrs
export const SCTP_GET_REMOTE_ADDR_SIZE = 0x8006; // the same, arg assocId
/** setsockopt with SockAddr[]: begins an association and returns its id. */
export const SCTP_CONNECT_X = 0x8007;
/** The same, but the INIT waits for SCTP_CONNECT_X_COMPLETE (or RTO.Initial). */
export const SCTP_CONNECT_X_DELAYED = 0x8008;
export const SCTP_CONNECT_X_COMPLETE = 0x8009; // SockAddr of the peer
/** getsockopt with an association id: a Socket of its own for that association, as on macOS. */
export const SCTP_PEELOFF = 0x800a;
export const SCTP_GET_ADDR_LEN = 0x800b; // AssocValue: value AF_INET or AF_INET6 in, its sockaddr's size out
export const SCTP_SET_INITIAL_DBG_SEQ = 0x9f00; // number: the next initial TSN, for tests; 0 = random
/** Ours: the paths of an association with all that `nke paths` prints. arg assocId. */
export const SCTP_GET_PATHS = 0x9f10; // PathInfo[]
/** Ours: abort with a reason text. */
export const SCTP_ABORT_ASSOC = 0x9f11; // { assocId, reason: string }

// snd_flags / rcv_flags.
export const SCTP_NOTIFICATION = 0x0010;
export const SCTP_COMPLETE = 0x0020;
export const SCTP_EOF = 0x0100;
export const SCTP_ABORT = 0x0200;
export const SCTP_UNORDERED = 0x0400;
export const SCTP_ADDR_OVER = 0x0800;
export const SCTP_SENDALL = 0x1000;
export const SCTP_EOR = 0x2000;
export const SCTP_SACK_IMMEDIATELY = 0x4000;

// Association ids with a meaning of their own.
export const SCTP_FUTURE_ASSOC = 0;
export const SCTP_CURRENT_ASSOC = 1;
export const SCTP_ALL_ASSOC = 2;

/** Partial reliability policies (RFC 3758, RFC 7496): checked, and obeyed once the extension is there. */
export const SCTP_PR_SCTP_NONE = 0;
export const SCTP_PR_SCTP_TTL = 1;
export const SCTP_PR_SCTP_BUF = 2;
export const SCTP_PR_SCTP_RTX = 3;

/** Features in the assoc-change notification (sac_info). */
export const SCTP_ASSOC_SUPPORTS_PR = 1;
export const SCTP_ASSOC_SUPPORTS_AUTH = 2;
export const SCTP_ASSOC_SUPPORTS_ASCONF = 3;
export const SCTP_ASSOC_SUPPORTS_MULTIBUF = 4;
export const SCTP_ASSOC_SUPPORTS_RE_CONFIG = 5;
export const SCTP_ASSOC_SUPPORTS_INTERLEAVING = 6;

// spp_flags.
export const SPP_HB_ENABLE = 0x1;
export const SPP_HB_DISABLE = 0x2;
export const SPP_HB_DEMAND = 0x4;
export const SPP_PMTUD_ENABLE = 0x8;
export const SPP_PMTUD_DISABLE = 0x10;
export const SPP_HB_TIME_IS_ZERO = 0x80;
export const SPP_IPV6_FLOWLABEL = 0x100;
export const SPP_DSCP = 0x200;

export interface RtoInfo {
  assocId: number;
  initial: number; // ms
  max: number;
  min: number;
}
export interface AssocParams {
  assocId: number;
  peerRwnd: number; // read only
  localRwnd: number; // read only
  cookieLife: number; // ms
  asocMaxRxt: number;
  numberPeerDestinations: number; // read only
}
export interface InitMsg {
  numOstreams: number;
  maxInstreams: number;
  maxAttempts: number;
  maxInitTimeo: number; // ms
}
export interface AssocValue {
  assocId: number;
  value: number;
}
export interface PeerAddrParams {
  assocId: number;
  address?: SockAddr;
  hbInterval: number; // ms
  pathMaxRxt: number;
  pathMtu: number; // room for chunks: without the IP and the common header
  flags: number; // SPP_*
  dscp: number;
  /** Kept and given back; packets go out with flow label 0. */
  flowLabel?: number;
}
export interface PeerAddrThresholds {
  assocId: number;
  address?: SockAddr;
  pathMaxRxt: number;
  /** Errors after which a path is potentially failed (RFC 7829); 0xffff = never. */
  pathPfThld: number;
  /** Primary path switchover is not there: 0xffff alone. */
  pathCpThld: number;
}
/** Time-outs of an association so far. */
export interface Timeouts {
  assocId: number;
  init: number;
  data: number;
  sack: number;
  shutdown: number;
  heartbeat: number;
  cookie: number;
  shutdownAck: number;
}
/** What the whole stack's SCTP holds now. */
export interface PcbStatus {
  endpoints: number;
  associations: number;
  localAddresses: number;
  remoteAddresses: number;
  chunks: number;
  readQueue: number;
  freeChunks: number;
  streamQueue: number;
}
/** The old form of subscribing, all events at once (RFC 6458 §6.2.1). */
export interface EventSubscribe {
  /** SCTP_SNDRCV (or SCTP_EXTRCV) comes with each message. */
  dataIo: boolean;
  association: boolean;
  address: boolean;
  /** The old form of send-failed. */
  sendFailure: boolean;
  peerError: boolean;
  shutdown: boolean;
  partialDelivery: boolean;
  adaptationLayer: boolean;
  authentication: boolean;
  senderDry: boolean;
  streamReset: boolean;
}

/** sctp_status.sstat_state and its text. */
export const SSTAT = {
  CLOSED: 0,
  COOKIE_WAIT: 2,
  COOKIE_ECHOED: 4,
  ESTABLISHED: 8,
  SHUTDOWN_SENT: 0x10,
  SHUTDOWN_RECEIVED: 0x20,
  SHUTDOWN_ACK_SENT: 0x40,
  SHUTDOWN_PENDING: 0x80,
} as const;
export type StateName = keyof typeof SSTAT;

export type PathState = 'active' | 'inactive' | 'unconfirmed';

export interface PathInfo {
  readonly assocId: number;
  readonly address: SockAddr;
  readonly state: PathState;
  readonly primary: boolean;
  readonly cwnd: number; // bytes
  readonly ssthresh: number;
  readonly flight: number;
  readonly srtt: number; // ms, 0 = not measured
  readonly rto: number; // ms
  readonly mtu: number; // bytes of the IP packet
  readonly chunkRoom: number; // bytes of it for chunks: C's spinfo_mtu (RFC 6458 §8.2.2)
  readonly errors: number;
  readonly source: string; // our address for this path
  readonly why: string; // why it was chosen
  readonly lastHeartbeatAck: number; // ns of the stack's clock, 0 = never
  readonly encapsPort: number; // 0 = not encapsulated
}
export interface AssocStatus {
  readonly assocId: number;
  readonly state: StateName;
  readonly rwnd: number; // peer's
  readonly unackdata: number; // chunks in flight
  readonly penddata: number; // bytes waiting to be read
  readonly instrms: number;
  readonly outstrms: number;
  readonly fragmentationPoint: number;
  readonly primary: PathInfo | undefined;
}

export type NotificationType = Notification['type'];
/** What SCTP_EVENT takes: the notifications, the old form of one, and those that come with extensions. */
export type EventName =
  | NotificationType
  | 'send-failed-deprecated'
  | 'adaptation-indication'
  | 'authentication'
  | 'stream-reset'
  | 'notifications-stopped'
  | 'assoc-reset'
  | 'stream-change';

/** Why an association or path ended or changed, for people: which rule, and where it stands. */
export interface Reason {
  readonly text: string;
  readonly section: string; // "RFC 9260 §5.1.6"
}

export type Notification =
  | {
      readonly type: 'assoc-change';
      readonly state: 'comm-up' | 'comm-lost' | 'restart' | 'shutdown-comp' | 'cant-start';
      readonly assocId: number;
      readonly outStreams: number;
      readonly inStreams: number;
      /** errno. */
      readonly error: number;
      /** The error cause's code and name, if an ABORT ended it, either way. */
      readonly causeCode?: number;
      readonly cause: string;
      readonly reason: Reason;
      /** comm-up, restart: SCTP_ASSOC_SUPPORTS_*. */
      readonly features?: readonly number[];
      /** comm-lost, cant-start: the peer's ABORT chunk, at most 512 bytes. */
      readonly abort?: Uint8Array;
    }
  | {
      readonly type: 'peer-addr-change';
      readonly state: 'available' | 'unreachable' | 'removed' | 'added' | 'made-prim' | 'confirmed';
      readonly assocId: number;
      readonly address: SockAddr;
      readonly reason: Reason;
    }
  | {
      readonly type: 'remote-error';
      readonly assocId: number;
      /** The first cause's code, and the whole ERROR chunk, at most 512 bytes. */
      readonly cause: number;
      readonly data: Uint8Array;
    }
  | {
      readonly type: 'send-failed';
      readonly assocId: number;
      readonly sent: boolean;
      readonly sid: number;
      readonly ppid: number;
      readonly context: number;
      readonly flags: number;
      readonly data: Uint8Array;
      /** The error cause that ended the association, 0 without one. */
      readonly error: number;
      /** Subscribed to in its old form: SCTP_SEND_FAILED, not SCTP_SEND_FAILED_EVENT. */
      readonly deprecated?: boolean;
    }
  | { readonly type: 'shutdown'; readonly assocId: number }
  | {
      readonly type: 'partial-delivery';
      readonly assocId: number;
      readonly sid: number;
      readonly ssn: number;
      /** SCTP_PARTIAL_DELIVERY_ABORTED. */
      readonly indication?: 1;
    }
  | { readonly type: 'sender-dry'; readonly assocId: number };
