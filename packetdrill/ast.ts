/**
 * What a packetdrill script says, as data: the contract between the language half (lexer, parser, printer, reports) and the
 * run-time half (runner, wire, mapping, system calls). The dialect is nplab's, the part of it that SCTP scripts need.
 *
 * Three rules hold everywhere:
 *  - `...` is the value ANY, a symbol of its own, so that no number, string or list can be mistaken for it. `x=...` and, for
 *    lists, `x=[...]` both become ANY.
 *  - Names that stand for numbers on the wire (flag letters, chunk and parameter types in lists, address types) are numbers
 *    here; forms.ts has the tables and print.ts turns them back into names.
 *  - Script numbers are as written: tags and TSNs are not mapped, ports not resolved, byte order is the host's. Fields of
 *    32 bits are 0 … 2³²-1.
 */

// ---------------------------------------------------------------------------------------------------------------- basics

/** The wildcard `...`. */
export const ANY: unique symbol = Symbol('...');
export type Any = typeof ANY;

/** A number, or "do not care". */
export type Num = number | Any;
/** Bytes as written in `[0x01, 2, …]`, or "do not care". An empty list is written `[]` and is not ANY. */
export type Bytes = Uint8Array | Any;
/** A list of numbers, or "do not care". */
export type Nums = readonly number[] | Any;
/** Text in double quotes (escapes resolved), or "do not care". */
export type Text = string | Any;

/** Where something starts in its source: line and column count from 1, the column in UTF-16 units. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

// ---------------------------------------------------------------------------------------------------------------- script

export interface Script {
  readonly file: string;
  readonly options: readonly ScriptOption[];
  /** Back-quoted command in front of the first event, without a time. */
  readonly init?: Command;
  readonly events: readonly ScriptEvent[];
  /** Back-quoted command behind the last event, without a time. */
  readonly cleanup?: Command;
  /** What the parser let pass but wants said (unknown options, …); none of it fails the script. */
  readonly warnings: readonly Warning[];
}

export interface Warning {
  readonly at: Position;
  readonly text: string;
}

/** `--NAME` or `--NAME=VALUE`. The value is its text: `ipv6`, `15000`, `SYM=1`; quotes of a string are taken off. */
export interface ScriptOption {
  readonly at: Position;
  readonly name: string;
  readonly value?: string;
}

/** A back-quoted shell text. commands.ts reads the sysctl settings out of it. */
export interface Command {
  readonly at: Position;
  /** The text between the back-quotes, verbatim. */
  readonly text: string;
}

export type ScriptEvent = PacketEvent | SyscallEvent | CommandEvent | CodeEvent;

interface EventBase {
  /** Where the time stamp starts. */
  readonly at: Position;
  readonly time: Time;
  /** The event as written, time stamp included, comments and line breaks too; for reports. */
  readonly source: string;
}

/** `< …` injects towards the stack under test, `> …` expects from it. */
export interface PacketEvent extends EventBase {
  readonly kind: 'packet';
  readonly packet: Packet;
}

export interface SyscallEvent extends EventBase {
  readonly kind: 'syscall';
  readonly call: Syscall;
}

export interface CommandEvent extends EventBase {
  readonly kind: 'command';
  readonly command: Command;
}

/** `%{ … }%`: Python with TCP_INFO preset; parsed, but nothing here runs it. */
export interface CodeEvent extends EventBase {
  readonly kind: 'code';
  readonly text: string;
}

/**
 * Times in seconds, as written. The parser allows `any` and `window` on outbound packets only and `blocking` on system calls
 * only, and sees to it that a window and a blocking call do not end before they start.
 */
export type Time =
  /** `1.25`: since the start of the script. */
  | { readonly kind: 'absolute'; readonly seconds: number }
  /** `+0.3`: since the previous event completed. */
  | { readonly kind: 'relative'; readonly seconds: number }
  /** `*`: whenever. */
  | { readonly kind: 'any' }
  /** `a~b` (absolute), `+a~+b` (relative: both from the moment the previous event completed). */
  | { readonly kind: 'window'; readonly relative: boolean; readonly from: number; readonly to: number }
  /** `a...b`, `+a...b`: a call that starts at `from` and must return at `to`; when relative, both from the same origin. */
  | { readonly kind: 'blocking'; readonly relative: boolean; readonly from: number; readonly to: number };

// --------------------------------------------------------------------------------------------------------------- packets

export type Packet = SctpPacket | IcmpPacket;

interface PacketBase {
  /** Where the direction sign stands. */
  readonly at: Position;
  readonly direction: 'in' | 'out';
  /** Outer headers, outermost first. */
  readonly encap: readonly Encap[];
  /** `(ttl 64, ce)`; absent when nothing was written: not checked outbound, defaults inbound. */
  readonly ip?: IpInfo;
  /** `SRC > DST` in front of the transport: parsed, without effect (facts part 3). */
  readonly ports?: Ports;
}

export interface Ports {
  readonly src: number;
  readonly dst: number;
}

export type Encap =
  | { readonly kind: 'ipv4' | 'ipv6'; readonly ip?: IpInfo; readonly src: string; readonly dst: string }
  | { readonly kind: 'gre' }
  | { readonly kind: 'mpls'; readonly labels: readonly MplsLabel[] };

export interface MplsLabel {
  readonly label: number;
  readonly tc: number;
  readonly ttl: number;
  readonly bottom: boolean;
}

/** IP header fields named in the script; those left out are undefined. */
export interface IpInfo {
  /** `ttl N` or `hlim N`. */
  readonly ttl?: number;
  /** `tos 0x…` or `class 0x…`: the whole octet. */
  readonly tos?: number;
  /** DSCP, 0 … 63. */
  readonly dscp?: number;
  /** ECN codepoint: 0 noecn, 1 ect1, 2 ect0, 3 ce, or `ect01` = either of 1 and 2. */
  readonly ecn?: 0 | 1 | 2 | 3 | 'ect01';
  readonly flowlabel?: number;
}

/** Exactly one of `chunks` and `raw` is there. */
export interface SctpPacket extends PacketBase {
  readonly transport: 'sctp';
  /** Where the word `sctp` stands. */
  readonly sctpAt: Position;
  /** `sctp(tag=N)`, undefined when not written. */
  readonly tag?: number;
  /** `bad_crc32c` (inbound only) or `zero_checksum`. */
  readonly checksum?: 'bad' | 'zero';
  /** `/udp(S > D)` (RFC 6951). */
  readonly udp?: Ports;
  /** Chunks in order; may be empty (a bare common header). */
  readonly chunks?: readonly Chunk[];
  /** `sctp: [0x01, …]`: bytes behind the common header, inbound only. */
  readonly raw?: Uint8Array;
}

/** ICMP or ICMPv6, as ip_version decides; forms.ts `icmpNumbers` gives type and code. */
export interface IcmpPacket extends PacketBase {
  readonly transport: 'icmp';
  readonly icmpAt: Position;
  /** `unreachable`, `type_3`, … */
  readonly type: string;
  /** `frag_needed`, `code_4`, … */
  readonly code?: string;
  readonly mtu?: number;
  readonly id?: number;
  readonly echoed?: Echoed;
}

/** What an ICMP error quotes. */
export type Echoed =
  | { readonly kind: 'sctp'; readonly tag: number; readonly udp?: Ports }
  | { readonly kind: 'udp'; readonly len: number }
  | { readonly kind: 'tcp'; readonly start: number; readonly end: number; readonly len: number };

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

// ---------------------------------------------------------------------------------------------------------- system calls

/** `name(args) = result [ERRNO] [(note)]`. */
export interface Syscall {
  readonly at: Position;
  readonly name: string;
  readonly args: readonly Expr[];
  /** Integer, word or `...`. */
  readonly result: Expr;
  /** The word behind the result, for example `EINPROGRESS`. */
  readonly errno?: string;
  /** Text in parentheses; commentary, never compared. */
  readonly note?: string;
}

interface ExprBase {
  readonly at: Position;
}

/** Expressions of system calls. Nothing is evaluated here: words are platform constants that the run time knows. */
export type Expr = IntExpr | WordExpr | OrExpr | StringExpr | ListExpr | StructExpr | CallExpr | AnyExpr | NullExpr;

/** Decimal or hex, negative too; a fraction only where somebody wrote one. */
export interface IntExpr extends ExprBase {
  readonly kind: 'int';
  readonly value: number;
  /** Written as `0x…`; only the printer cares. */
  readonly hex: boolean;
}

/** `SOCK_STREAM`, `IPPROTO_SCTP`. */
export interface WordExpr extends ExprBase {
  readonly kind: 'word';
  readonly word: string;
}

/** `A|B|0x4`: two terms or more, each an int, word or call. */
export interface OrExpr extends ExprBase {
  readonly kind: 'or';
  readonly terms: readonly Expr[];
}

/** In double quotes, escapes resolved. Addresses written without quotes are strings too. */
export interface StringExpr extends ExprBase {
  readonly kind: 'string';
  readonly value: string;
}

/** `[a, b]`; `[...]` is a list of one AnyExpr. */
export interface ListExpr extends ExprBase {
  readonly kind: 'list';
  readonly items: readonly Expr[];
}

/** `{name=value, …}`; the short iovec `{..., 10}` has fields without names. */
export interface StructExpr extends ExprBase {
  readonly kind: 'struct';
  readonly fields: readonly StructField[];
}

export interface StructField {
  readonly at: Position;
  /** Undefined in a positional struct. */
  readonly name?: string;
  /** The number in `msg_iov(2)=…`. */
  readonly count?: Expr;
  readonly value: Expr;
}

/** `htons(n)`, `htonl(n)`, `inet_addr("…")`: the name is not checked here. */
export interface CallExpr extends ExprBase {
  readonly kind: 'call';
  readonly name: string;
  readonly args: readonly Expr[];
}

/** `...` */
export interface AnyExpr extends ExprBase {
  readonly kind: 'any';
}

/** `NULL` */
export interface NullExpr extends ExprBase {
  readonly kind: 'null';
}
