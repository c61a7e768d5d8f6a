/**
 * The SCTP socket API's names and numbers (RFC 6458, FreeBSD's values) and the shapes of option values and notifications
 * as objects. The byte layouts belong to the binary interface, not here.
 */

import type { SockAddr } from '../kern/socket.js';

export const SOL_SOCKET = 0xffff;
export const SO_LINGER = 0x80; // { onoff: boolean, linger: seconds }
export const SO_SNDBUF = 0x1001;
export const SO_RCVBUF = 0x1002;

// Socket options, level IPPROTO_SCTP.
export const SCTP_RTOINFO = 0x01; // RtoInfo
export const SCTP_ASSOCINFO = 0x02; // AssocParams
export const SCTP_INITMSG = 0x03; // InitMsg
export const SCTP_NODELAY = 0x04; // number
export const SCTP_AUTOCLOSE = 0x05; // number, seconds
export const SCTP_PRIMARY_ADDR = 0x07; // { assocId, address }
export const SCTP_DISABLE_FRAGMENTS = 0x09; // number
export const SCTP_PEER_ADDR_PARAMS = 0x0a; // PeerAddrParams
export const SCTP_DEFAULT_SEND_PARAM = 0x0b; // SendInfo
export const SCTP_MAXSEG = 0x0e; // AssocValue
export const SCTP_DELAYED_SACK = 0x0f; // { assocId, delay ms, freq }
export const SCTP_MAX_BURST = 0x19; // AssocValue
export const SCTP_EVENT = 0x1e; // { assocId, type: NotificationType, on: boolean }
export const SCTP_REMOTE_UDP_ENCAPS_PORT = 0x24; // { assocId, address?: SockAddr, port }
export const SCTP_ECN_SUPPORTED = 0x25; // AssocValue
export const SCTP_MAX_CWND = 0x32; // AssocValue
export const SCTP_STATUS = 0x100; // AssocStatus, read only
export const SCTP_GET_PEER_ADDR_INFO = 0x101; // PathInfo, read only
export const SCTP_GET_ASSOC_NUMBER = 0x104; // number
export const SCTP_GET_ASSOC_ID_LIST = 0x105; // number[]
export const SCTP_PLUGGABLE_CC = 0x1202; // AssocValue
export const SCTP_BINDX_ADD_ADDR = 0x8001; // SockAddr[]
export const SCTP_BINDX_REM_ADDR = 0x8002; // SockAddr[]
export const SCTP_GET_PEER_ADDRESSES = 0x8003; // SockAddr[], arg assocId
export const SCTP_GET_LOCAL_ADDRESSES = 0x8004; // SockAddr[], arg assocId
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

// spp_flags.
export const SPP_HB_ENABLE = 0x1;
export const SPP_HB_DISABLE = 0x2;
export const SPP_HB_DEMAND = 0x4;
export const SPP_PMTUD_ENABLE = 0x8;
export const SPP_PMTUD_DISABLE = 0x10;
export const SPP_HB_TIME_IS_ZERO = 0x80;
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
  pathMtu: number; // payload for SCTP, without IP header
  flags: number; // SPP_*
  dscp: number;
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
      readonly error: number;
      readonly cause: string;
      readonly reason: Reason;
    }
  | {
      readonly type: 'peer-addr-change';
      readonly state: 'available' | 'unreachable' | 'removed' | 'added' | 'made-prim' | 'confirmed';
      readonly assocId: number;
      readonly address: SockAddr;
      readonly reason: Reason;
    }
  | { readonly type: 'remote-error'; readonly assocId: number; readonly cause: number; readonly data: Uint8Array }
  | {
      readonly type: 'send-failed';
      readonly assocId: number;
      readonly sent: boolean;
      readonly sid: number;
      readonly ppid: number;
      readonly context: number;
      readonly flags: number;
      readonly data: Uint8Array;
      readonly error: number;
    }
  | { readonly type: 'shutdown'; readonly assocId: number }
  | { readonly type: 'partial-delivery'; readonly assocId: number; readonly sid: number; readonly ssn: number }
  | { readonly type: 'sender-dry'; readonly assocId: number };
