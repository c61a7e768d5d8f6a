/**
 * Chunks, parameters and error causes of a script, by the names that it uses: the part of the tree (ast.ts, whose rules hold
 * here too) that stands for bytes of a packet. forms.ts has the same as rows for reading and writing them.
 */

import type { Any, Bytes, Num, Nums, Position, Text } from './ast.js';

// ---------------------------------------------------------------------------------------------------------------- chunks

/** A chunk by the name that the script uses. `flgs` is undefined only where the dialect has no such field (FORWARD-TSN). */
export type Chunk =
  | GenericChunk
  | DataChunk
  | IDataChunk
  | InitChunk
  | SackChunk
  | NrSackChunk
  | HeartbeatChunk
  | CauseChunk
  | ShutdownChunk
  | PlainChunk
  | ValueChunk
  | EcnChunk
  | ReconfigChunk
  | ForwardTsnChunk
  | IForwardTsnChunk;

export type ChunkName = Chunk['name'];

interface ElementBase {
  /** Where the name stands. */
  readonly at: Position;
}

interface ChunkBase extends ElementBase {
  readonly flgs: Num;
}

/** `CHUNK[type=, flgs=, len=, val=]`: any type. Inbound `len` may exceed 4 + bytes. */
export interface GenericChunk extends ChunkBase {
  readonly name: 'CHUNK';
  readonly type: Num;
  readonly len: Num;
  readonly val: Bytes;
}

/** `len` is the chunk length field: 16 + payload. */
export interface DataChunk extends ChunkBase {
  readonly name: 'DATA';
  readonly len: Num;
  readonly tsn: Num;
  readonly sid: Num;
  readonly ssn: Num;
  readonly ppid: Num;
}

/** One of `ppid` (first fragment) and `fsn` is there. `len` is 20 + payload. */
export interface IDataChunk extends ChunkBase {
  readonly name: 'I_DATA';
  readonly len: Num;
  readonly tsn: Num;
  readonly sid: Num;
  readonly mid: Num;
  readonly ppid?: Num;
  readonly fsn?: Num;
}

/** `os`, `is`: numbers of outbound and inbound streams. `params` ANY: whatever follows, any length. */
export interface InitChunk extends ChunkBase {
  readonly name: 'INIT' | 'INIT_ACK';
  readonly tag: Num;
  readonly a_rwnd: Num;
  readonly os: Num;
  readonly is: Num;
  readonly tsn: Num;
  readonly params: readonly Parameter[] | Any;
}

/** A gap block: offsets from the cumulative TSN, first and last. */
export interface Gap {
  readonly start: Num;
  readonly end: Num;
}

export interface SackChunk extends ChunkBase {
  readonly name: 'SACK';
  readonly cum_tsn: Num;
  readonly a_rwnd: Num;
  readonly gaps: readonly Gap[] | Any;
  readonly dups: Nums;
}

export interface NrSackChunk extends ChunkBase {
  readonly name: 'NR_SACK';
  readonly cum_tsn: Num;
  readonly a_rwnd: Num;
  readonly gaps: readonly Gap[] | Any;
  readonly nr_gaps: readonly Gap[] | Any;
  readonly dups: Nums;
}

/** `info` ANY: written as `...` in place of the parameter. */
export interface HeartbeatChunk extends ChunkBase {
  readonly name: 'HEARTBEAT' | 'HEARTBEAT_ACK';
  readonly info: HeartbeatInformation | Any;
}

export interface CauseChunk extends ChunkBase {
  readonly name: 'ABORT' | 'ERROR';
  readonly causes: readonly Cause[] | Any;
}

export interface ShutdownChunk extends ChunkBase {
  readonly name: 'SHUTDOWN';
  readonly cum_tsn: Num;
}

/** Chunks that are a header and nothing else. */
export interface PlainChunk extends ChunkBase {
  readonly name: 'SHUTDOWN_ACK' | 'COOKIE_ACK' | 'SHUTDOWN_COMPLETE';
}

/** Chunks that are a length and bytes. */
export interface ValueChunk extends ChunkBase {
  readonly name: 'COOKIE_ECHO' | 'PAD';
  readonly len: Num;
  readonly val: Bytes;
}

export interface EcnChunk extends ChunkBase {
  readonly name: 'ECNE' | 'CWR';
  readonly tsn: Num;
}

export interface ReconfigChunk extends ChunkBase {
  readonly name: 'RECONFIG';
  readonly params: readonly Parameter[] | Any;
}

export interface StreamSequence {
  readonly sid: Num;
  readonly ssn: Num;
}

/** No `flgs` in the dialect: 0 inbound; outbound it is not compared unless somebody wrote it all the same. */
export interface ForwardTsnChunk extends ElementBase {
  readonly name: 'FORWARD_TSN';
  readonly flgs?: Num;
  readonly cum_tsn: Num;
  readonly ids: readonly StreamSequence[] | Any;
}

export interface StreamMessage {
  readonly sid: Num;
  /** The U bit: 1 unordered. */
  readonly u: Num;
  readonly mid: Num;
}

export interface IForwardTsnChunk extends ElementBase {
  readonly name: 'I_FORWARD_TSN';
  readonly flgs?: Num;
  readonly cum_tsn: Num;
  readonly ids: readonly StreamMessage[] | Any;
}

// ------------------------------------------------------------------------------------------------------------ parameters

export type Parameter =
  | GenericParameter
  | HeartbeatInformation
  | AddressParameter
  | StateCookie
  | UnrecognizedParameter
  | CookiePreservative
  | HostnameAddress
  | TypesParameter
  | OutgoingSsnReset
  | IncomingSsnReset
  | SsnTsnReset
  | ReconfigResponse
  | AddStreams
  | ReconfigRequestGeneric
  | EmptyParameter
  | ZeroChecksumAcceptable
  | PadParameter
  | AdaptationIndication;

export type ParameterName = Parameter['name'];

/** `len` counts the header (4), not the padding. */
export interface GenericParameter extends ElementBase {
  readonly name: 'PARAMETER';
  readonly type: Num;
  readonly len: Num;
  readonly val: Bytes;
}

/** `[...]` is the same as `[len=..., val=...]`. */
export interface HeartbeatInformation extends ElementBase {
  readonly name: 'HEARTBEAT_INFORMATION';
  readonly len: Num;
  readonly val: Bytes;
}

/** `addr` is the textual address, without brackets, as written. */
export interface AddressParameter extends ElementBase {
  readonly name: 'IPV4_ADDRESS' | 'IPV6_ADDRESS';
  readonly addr: Text;
}

/** `[...]` is the same as `[len=..., val=...]`. */
export interface StateCookie extends ElementBase {
  readonly name: 'STATE_COOKIE';
  readonly len: Num;
  readonly val: Bytes;
}

export interface UnrecognizedParameter extends ElementBase {
  readonly name: 'UNRECOGNIZED_PARAMETER';
  readonly params: readonly Parameter[] | Any;
}

export interface CookiePreservative extends ElementBase {
  readonly name: 'COOKIE_PRESERVATIVE';
  readonly incr: Num;
}

/** On the wire the name is followed by a NUL, which counts into the length. */
export interface HostnameAddress extends ElementBase {
  readonly name: 'HOSTNAME_ADDRESS';
  readonly addr: Text;
}

/** Address types (16 bits each) or chunk types (8 bits each). */
export interface TypesParameter extends ElementBase {
  readonly name: 'SUPPORTED_ADDRESS_TYPES' | 'SUPPORTED_EXTENSIONS';
  readonly types: Nums;
}

/** `sids` is empty when not written. */
export interface OutgoingSsnReset extends ElementBase {
  readonly name: 'OUTGOING_SSN_RESET';
  readonly req_sn: Num;
  readonly resp_sn: Num;
  readonly last_tsn: Num;
  readonly sids: Nums;
}

/** `sids` is empty when not written. */
export interface IncomingSsnReset extends ElementBase {
  readonly name: 'INCOMING_SSN_RESET';
  readonly req_sn: Num;
  readonly sids: Nums;
}

export interface SsnTsnReset extends ElementBase {
  readonly name: 'SSN_TSN_RESET';
  readonly req_sn: Num;
}

/** The two TSNs are there together or not at all. */
export interface ReconfigResponse extends ElementBase {
  readonly name: 'RECONFIG_RESPONSE';
  readonly resp_sn: Num;
  readonly result: Num;
  readonly sender_next_tsn?: Num;
  readonly receiver_next_tsn?: Num;
}

export interface AddStreams extends ElementBase {
  readonly name: 'ADD_OUTGOING_STREAMS' | 'ADD_INCOMING_STREAMS';
  readonly req_sn: Num;
  readonly number_of_new_streams: Num;
}

/** `len` = 8 + bytes of `val`. */
export interface ReconfigRequestGeneric extends ElementBase {
  readonly name: 'RECONFIG_REQUEST_GENERIC';
  readonly type: Num;
  readonly len: Num;
  readonly req_sn: Num;
  readonly val: Bytes;
}

export interface EmptyParameter extends ElementBase {
  readonly name: 'ECN_CAPABLE' | 'FORWARD_TSN_SUPPORTED';
}

export interface ZeroChecksumAcceptable extends ElementBase {
  readonly name: 'ZERO_CHECKSUM_ACCEPTABLE';
  readonly edmid: Num;
}

/** The parameter 0x8005; a chunk PAD exists too, hence two interfaces. */
export interface PadParameter extends ElementBase {
  readonly name: 'PAD';
  readonly len: Num;
  readonly val: Bytes;
}

export interface AdaptationIndication extends ElementBase {
  readonly name: 'ADAPTATION_INDICATION';
  readonly adaptation_code_point: Num;
}

// ---------------------------------------------------------------------------------------------------------------- causes

export type Cause =
  | GenericCause
  | InvalidStreamIdentifier
  | MissingMandatoryParameter
  | StaleCookieError
  | EmptyCause
  | UnresolvableAddress
  | UnrecognizedChunkType
  | ParametersCause
  | NoUserData
  | TextCause;

export type CauseName = Cause['name'];

export interface GenericCause extends ElementBase {
  readonly name: 'CAUSE';
  readonly code: Num;
  readonly len: Num;
  readonly info: Bytes;
}

export interface InvalidStreamIdentifier extends ElementBase {
  readonly name: 'INVALID_STREAM_IDENTIFIER';
  readonly sid: Num;
}

/** Parameter types. */
export interface MissingMandatoryParameter extends ElementBase {
  readonly name: 'MISSING_MANDATORY_PARAMETER';
  readonly types: Nums;
}

export interface StaleCookieError extends ElementBase {
  readonly name: 'STALE_COOKIE_ERROR';
  readonly staleness: Num;
}

export interface EmptyCause extends ElementBase {
  readonly name: 'OUT_OF_RESOURCE' | 'INVALID_MANDATORY_PARAMETER' | 'COOKIE_RECEIVED_WHILE_SHUTDOWN';
}

export interface UnresolvableAddress extends ElementBase {
  readonly name: 'UNRESOLVABLE_ADDRESS';
  readonly param: Parameter | Any;
}

/** The embedded chunk's padding counts into the cause length. */
export interface UnrecognizedChunkType extends ElementBase {
  readonly name: 'UNRECOGNIZED_CHUNK_TYPE';
  readonly chk: Chunk | Any;
}

/** The padding behind the last embedded parameter does not count into the cause length. */
export interface ParametersCause extends ElementBase {
  readonly name: 'UNRECOGNIZED_PARAMETERS' | 'RESTART_WITH_NEW_ADDRESSES';
  readonly params: readonly Parameter[] | Any;
}

/** The TSN is never mapped. */
export interface NoUserData extends ElementBase {
  readonly name: 'NO_USER_DATA';
  readonly tsn: Num;
}

/** Text without a terminating NUL. */
export interface TextCause extends ElementBase {
  readonly name: 'USER_INITIATED_ABORT' | 'PROTOCOL_VIOLATION';
  readonly info: Text;
}
