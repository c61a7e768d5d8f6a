/** SCTP's numbers on the wire: chunk types, flags, parameters and error causes (RFC 9260 §3, RFC 6951). */

// Chunk types, RFC 9260 §3.2.
export const DATA = 0x00;
export const INIT = 0x01;
export const INIT_ACK = 0x02;
export const SACK = 0x03;
export const HEARTBEAT = 0x04;
export const HEARTBEAT_ACK = 0x05;
export const ABORT = 0x06;
export const SHUTDOWN = 0x07;
export const SHUTDOWN_ACK = 0x08;
export const ERROR = 0x09;
export const COOKIE_ECHO = 0x0a;
export const COOKIE_ACK = 0x0b;
export const ECNE = 0x0c;
export const CWR = 0x0d;
export const SHUTDOWN_COMPLETE = 0x0e;

/** Names for people, indexed by chunk type. */
export const CHUNK_NAMES: Readonly<Record<number, string>> = {
  [DATA]: 'DATA',
  [INIT]: 'INIT',
  [INIT_ACK]: 'INIT ACK',
  [SACK]: 'SACK',
  [HEARTBEAT]: 'HEARTBEAT',
  [HEARTBEAT_ACK]: 'HEARTBEAT ACK',
  [ABORT]: 'ABORT',
  [SHUTDOWN]: 'SHUTDOWN',
  [SHUTDOWN_ACK]: 'SHUTDOWN ACK',
  [ERROR]: 'ERROR',
  [COOKIE_ECHO]: 'COOKIE ECHO',
  [COOKIE_ACK]: 'COOKIE ACK',
  [ECNE]: 'ECNE',
  [CWR]: 'CWR',
  [SHUTDOWN_COMPLETE]: 'SHUTDOWN COMPLETE',
};

// DATA flags, §3.3.1.
export const DATA_E = 0x01;
export const DATA_B = 0x02;
export const DATA_U = 0x04;
export const DATA_I = 0x08; // RFC 7053
/** T bit of ABORT and SHUTDOWN COMPLETE, §3.3.7: the verification tag is reflected. */
export const T_BIT = 0x01;

// Parameters, §3.3.2.1, §3.3.3.1.
export const PARAM_HEARTBEAT_INFO = 0x0001;
export const PARAM_IPV4 = 0x0005;
export const PARAM_IPV6 = 0x0006;
export const PARAM_STATE_COOKIE = 0x0007;
export const PARAM_UNRECOGNIZED = 0x0008;
export const PARAM_COOKIE_PRESERVATIVE = 0x0009;
export const PARAM_HOST_NAME = 0x000b;
export const PARAM_SUPPORTED_ADDR_TYPES = 0x000c;
export const PARAM_ECN = 0x8000;
export const PARAM_SUPPORTED_EXT = 0x8008;

// Error causes, §3.3.10.
export const CAUSE_INVALID_STREAM = 1;
export const CAUSE_MISSING_PARAM = 2;
export const CAUSE_STALE_COOKIE = 3;
export const CAUSE_OUT_OF_RESOURCE = 4;
export const CAUSE_UNRESOLVABLE_ADDR = 5;
export const CAUSE_UNRECOGNIZED_CHUNK = 6;
export const CAUSE_INVALID_PARAM = 7;
export const CAUSE_UNRECOGNIZED_PARAMS = 8;
export const CAUSE_NO_USER_DATA = 9;
export const CAUSE_COOKIE_IN_SHUTDOWN = 10;
export const CAUSE_RESTART_NEW_ADDR = 11;
export const CAUSE_USER_ABORT = 12;
export const CAUSE_PROTOCOL_VIOLATION = 13;

export const CAUSE_NAMES: Readonly<Record<number, string>> = {
  1: 'invalid stream identifier',
  2: 'missing mandatory parameter',
  3: 'stale cookie',
  4: 'out of resource',
  5: 'unresolvable address',
  6: 'unrecognized chunk type',
  7: 'invalid mandatory parameter',
  8: 'unrecognized parameters',
  9: 'no user data',
  10: 'cookie received while shutting down',
  11: 'restart of an association with new addresses',
  12: 'user initiated abort',
  13: 'protocol violation',
};

// Sizes in bytes.
export const COMMON_HEADER = 12;
export const CHUNK_HEADER = 4;
export const DATA_HEADER = 16;
export const SACK_HEADER = 16;
export const INIT_HEADER = 20;

/** UDP port of RFC 6951. */
export const UDP_TUNNEL_PORT = 9899;

/** Room in TSNs that a receiver keeps track of beyond its cumulative TSN; larger ones are dropped (facts §7.19). */
export const TSN_MAP_BITS = 4096;
/** Most duplicate TSNs reported in one SACK. */
export const MAX_DUPS = 20;
/** What one chunk is taken to cost a peer's buffer beyond its payload. */
export const CHUNK_OVERHEAD = 256;
/** Silly window limits: a peer window below this counts as zero; ours below this is told as zero. */
export const SENDER_SWS = 1420;
export const RECEIVER_SWS = 3000;
export const MIN_RWND = 4096;
/** An INIT or INIT ACK with a smaller a_rwnd is refused, RFC 9260 §3.3.2. */
export const MIN_PEER_RWND = 1500;

export const pad4 = (n: number): number => (n + 3) & ~3;
