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

import type { Chunk } from './elements.js';

export type * from './elements.js';

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
