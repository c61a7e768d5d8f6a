/**
 * The forms of chunks, parameters and error causes as rows of data: name in the script, number on the wire, fields in order
 * and what may trail. Parser, printer and reports read these rows, and so may whoever encodes. Numbers are those of RFC 9260
 * §3.2, §3.3 and §3.3.10, RFC 3758, 4820, 6525, 8260, 9653 and the NR-SACK draft; the forms are nplab's.
 */

import type { Cause, CauseName, Chunk, ChunkName, Parameter, ParameterName } from './ast.js';

/** What a field holds, hence how it is written. Every kind but the embedded lists' elements may be `...`. */
export type FieldKind =
  | 'u8'
  | 'u16'
  | 'u32'
  /** 8 bits: a number, or the letters of the form. */
  | 'flags'
  /** `[0x01, 2]` */
  | 'bytes'
  /** `[2:3, 5:5]` */
  | 'gaps'
  | 'u16-list'
  | 'u32-list'
  /** `[{sid,ssn}, …]` */
  | 'stream-sequences'
  /** `[{sid,u,mid}, …]` */
  | 'stream-messages'
  /** `[IPv4, IPv6, HOSTNAME, N]` */
  | 'address-types'
  /** `[FORWARD_TSN, N]` */
  | 'chunk-types'
  /** `[STATE_COOKIE, N]` */
  | 'parameter-types'
  /** Number or `SCTP_OVER_DTLS`. */
  | 'edmid'
  | 'ipv4'
  | 'ipv6'
  | 'text'
  | 'parameters'
  | 'parameter'
  | 'chunk';

/** `key=value`. */
export interface Field<K extends string = string> {
  readonly key: K;
  readonly kind: FieldKind;
  /** Required unless said otherwise. `absent` is what the tree holds when it was not written; undefined: nothing. */
  readonly optional?: { readonly absent?: unknown };
}

/** What follows the fields without a name in front: a list, or for HEARTBEAT exactly one parameter. */
export interface Tail<K extends string = string> {
  readonly key: K;
  readonly of: 'parameters' | 'causes' | 'heartbeat-information';
}

export interface Form<N extends string = string, K extends string = string> {
  readonly name: N;
  /** Number on the wire: 8 bits for chunks, 16 for parameters and causes. Undefined: a field says it. */
  readonly type?: number;
  readonly fields: readonly Field<K>[];
  readonly tail?: Tail<K>;
  /** Letters of the flags, most significant first; the last is bit 0. */
  readonly letters?: string;
  /** `NAME[...]` leaves every field open. */
  readonly whole?: true;
  /** Smallest value of `len` that makes sense: the fixed part, header included. */
  readonly minimum?: number;
}

/** Keys of every member of a union, not only those that all share. */
type KeysOf<T> = T extends unknown ? Exclude<keyof T, 'at' | 'name'> & string : never;
type Forms<T extends { name: string }> = {
  readonly [N in T['name']]: Form<N, KeysOf<Containing<T, N>>>;
};
/** The member of a union whose `name` is N or a union that contains N. */
type Containing<T, N> = T extends { name: infer M } ? (N extends M ? T : never) : never;

const f = <const K extends string>(key: K, kind: FieldKind): Field<K> => ({ key, kind });
const optional = <const K extends string>(key: K, kind: FieldKind, absent?: unknown): Field<K> => ({
  key,
  kind,
  optional: { absent },
});
const flgs = f('flgs', 'flags');
const params = { key: 'params', of: 'parameters' } as const;
const causes = { key: 'causes', of: 'causes' } as const;
const info = { key: 'info', of: 'heartbeat-information' } as const;
const NO_SIDS: readonly number[] = [];

const INIT_FIELDS = [
  flgs,
  f('tag', 'u32'),
  f('a_rwnd', 'u32'),
  f('os', 'u16'),
  f('is', 'u16'),
  f('tsn', 'u32'),
] as const;

const CHUNK_ROWS: Forms<Chunk> = {
  CHUNK: { name: 'CHUNK', fields: [f('type', 'u8'), flgs, f('len', 'u16'), f('val', 'bytes')], minimum: 4 },
  DATA: {
    name: 'DATA',
    type: 0,
    letters: 'IUBE',
    minimum: 16,
    fields: [flgs, f('len', 'u16'), f('tsn', 'u32'), f('sid', 'u16'), f('ssn', 'u16'), f('ppid', 'u32')],
  },
  INIT: { name: 'INIT', type: 1, fields: INIT_FIELDS, tail: params },
  INIT_ACK: { name: 'INIT_ACK', type: 2, fields: INIT_FIELDS, tail: params },
  SACK: {
    name: 'SACK',
    type: 3,
    fields: [flgs, f('cum_tsn', 'u32'), f('a_rwnd', 'u32'), f('gaps', 'gaps'), f('dups', 'u32-list')],
  },
  HEARTBEAT: { name: 'HEARTBEAT', type: 4, fields: [flgs], tail: info },
  HEARTBEAT_ACK: { name: 'HEARTBEAT_ACK', type: 5, fields: [flgs], tail: info },
  ABORT: { name: 'ABORT', type: 6, letters: 'T', fields: [flgs], tail: causes },
  SHUTDOWN: { name: 'SHUTDOWN', type: 7, fields: [flgs, f('cum_tsn', 'u32')] },
  SHUTDOWN_ACK: { name: 'SHUTDOWN_ACK', type: 8, fields: [flgs] },
  ERROR: { name: 'ERROR', type: 9, fields: [flgs], tail: causes },
  COOKIE_ECHO: { name: 'COOKIE_ECHO', type: 10, fields: [flgs, f('len', 'u16'), f('val', 'bytes')], minimum: 4 },
  COOKIE_ACK: { name: 'COOKIE_ACK', type: 11, fields: [flgs] },
  ECNE: { name: 'ECNE', type: 12, fields: [flgs, f('tsn', 'u32')] },
  CWR: { name: 'CWR', type: 13, fields: [flgs, f('tsn', 'u32')] },
  SHUTDOWN_COMPLETE: { name: 'SHUTDOWN_COMPLETE', type: 14, letters: 'T', fields: [flgs] },
  NR_SACK: {
    name: 'NR_SACK',
    type: 0x10,
    fields: [
      flgs,
      f('cum_tsn', 'u32'),
      f('a_rwnd', 'u32'),
      f('gaps', 'gaps'),
      f('nr_gaps', 'gaps'),
      f('dups', 'u32-list'),
    ],
  },
  I_DATA: {
    name: 'I_DATA',
    type: 0x40,
    letters: 'IUBE',
    minimum: 20,
    fields: [
      flgs,
      f('len', 'u16'),
      f('tsn', 'u32'),
      f('sid', 'u16'),
      f('mid', 'u32'),
      optional('ppid', 'u32'),
      optional('fsn', 'u32'),
    ],
  },
  RECONFIG: { name: 'RECONFIG', type: 0x82, fields: [flgs], tail: params },
  PAD: { name: 'PAD', type: 0x84, fields: [flgs, f('len', 'u16'), f('val', 'bytes')], minimum: 4 },
  FORWARD_TSN: {
    name: 'FORWARD_TSN',
    type: 0xc0,
    fields: [optional('flgs', 'flags'), f('cum_tsn', 'u32'), f('ids', 'stream-sequences')],
  },
  I_FORWARD_TSN: {
    name: 'I_FORWARD_TSN',
    type: 0xc2,
    fields: [optional('flgs', 'flags'), f('cum_tsn', 'u32'), f('ids', 'stream-messages')],
  },
};

const PARAMETER_ROWS: Forms<Parameter> = {
  PARAMETER: { name: 'PARAMETER', fields: [f('type', 'u16'), f('len', 'u16'), f('val', 'bytes')], minimum: 4 },
  HEARTBEAT_INFORMATION: {
    name: 'HEARTBEAT_INFORMATION',
    type: 1,
    whole: true,
    fields: [f('len', 'u16'), f('val', 'bytes')],
    minimum: 4,
  },
  IPV4_ADDRESS: { name: 'IPV4_ADDRESS', type: 5, fields: [f('addr', 'ipv4')] },
  IPV6_ADDRESS: { name: 'IPV6_ADDRESS', type: 6, fields: [f('addr', 'ipv6')] },
  STATE_COOKIE: {
    name: 'STATE_COOKIE',
    type: 7,
    whole: true,
    fields: [f('len', 'u16'), f('val', 'bytes')],
    minimum: 4,
  },
  UNRECOGNIZED_PARAMETER: { name: 'UNRECOGNIZED_PARAMETER', type: 8, fields: [f('params', 'parameters')] },
  COOKIE_PRESERVATIVE: { name: 'COOKIE_PRESERVATIVE', type: 9, fields: [f('incr', 'u32')] },
  HOSTNAME_ADDRESS: { name: 'HOSTNAME_ADDRESS', type: 11, fields: [f('addr', 'text')] },
  SUPPORTED_ADDRESS_TYPES: { name: 'SUPPORTED_ADDRESS_TYPES', type: 12, fields: [f('types', 'address-types')] },
  OUTGOING_SSN_RESET: {
    name: 'OUTGOING_SSN_RESET',
    type: 13,
    fields: [f('req_sn', 'u32'), f('resp_sn', 'u32'), f('last_tsn', 'u32'), optional('sids', 'u16-list', NO_SIDS)],
  },
  INCOMING_SSN_RESET: {
    name: 'INCOMING_SSN_RESET',
    type: 14,
    fields: [f('req_sn', 'u32'), optional('sids', 'u16-list', NO_SIDS)],
  },
  SSN_TSN_RESET: { name: 'SSN_TSN_RESET', type: 15, fields: [f('req_sn', 'u32')] },
  RECONFIG_RESPONSE: {
    name: 'RECONFIG_RESPONSE',
    type: 16,
    fields: [
      f('resp_sn', 'u32'),
      f('result', 'u32'),
      optional('sender_next_tsn', 'u32'),
      optional('receiver_next_tsn', 'u32'),
    ],
  },
  ADD_OUTGOING_STREAMS: {
    name: 'ADD_OUTGOING_STREAMS',
    type: 17,
    fields: [f('req_sn', 'u32'), f('number_of_new_streams', 'u16')],
  },
  ADD_INCOMING_STREAMS: {
    name: 'ADD_INCOMING_STREAMS',
    type: 18,
    fields: [f('req_sn', 'u32'), f('number_of_new_streams', 'u16')],
  },
  RECONFIG_REQUEST_GENERIC: {
    name: 'RECONFIG_REQUEST_GENERIC',
    fields: [f('type', 'u16'), f('len', 'u16'), f('req_sn', 'u32'), f('val', 'bytes')],
    minimum: 8,
  },
  ECN_CAPABLE: { name: 'ECN_CAPABLE', type: 0x8000, fields: [] },
  ZERO_CHECKSUM_ACCEPTABLE: { name: 'ZERO_CHECKSUM_ACCEPTABLE', type: 0x8001, fields: [f('edmid', 'edmid')] },
  PAD: { name: 'PAD', type: 0x8005, fields: [f('len', 'u16'), f('val', 'bytes')], minimum: 4 },
  SUPPORTED_EXTENSIONS: { name: 'SUPPORTED_EXTENSIONS', type: 0x8008, fields: [f('types', 'chunk-types')] },
  FORWARD_TSN_SUPPORTED: { name: 'FORWARD_TSN_SUPPORTED', type: 0xc000, fields: [] },
  ADAPTATION_INDICATION: {
    name: 'ADAPTATION_INDICATION',
    type: 0xc006,
    fields: [f('adaptation_code_point', 'u32')],
  },
};

const CAUSE_ROWS: Forms<Cause> = {
  CAUSE: { name: 'CAUSE', fields: [f('code', 'u16'), f('len', 'u16'), f('info', 'bytes')], minimum: 4 },
  INVALID_STREAM_IDENTIFIER: { name: 'INVALID_STREAM_IDENTIFIER', type: 1, fields: [f('sid', 'u16')] },
  MISSING_MANDATORY_PARAMETER: {
    name: 'MISSING_MANDATORY_PARAMETER',
    type: 2,
    fields: [f('types', 'parameter-types')],
  },
  STALE_COOKIE_ERROR: { name: 'STALE_COOKIE_ERROR', type: 3, fields: [f('staleness', 'u32')] },
  OUT_OF_RESOURCE: { name: 'OUT_OF_RESOURCE', type: 4, fields: [] },
  UNRESOLVABLE_ADDRESS: { name: 'UNRESOLVABLE_ADDRESS', type: 5, fields: [f('param', 'parameter')] },
  UNRECOGNIZED_CHUNK_TYPE: { name: 'UNRECOGNIZED_CHUNK_TYPE', type: 6, fields: [f('chk', 'chunk')] },
  INVALID_MANDATORY_PARAMETER: { name: 'INVALID_MANDATORY_PARAMETER', type: 7, fields: [] },
  UNRECOGNIZED_PARAMETERS: { name: 'UNRECOGNIZED_PARAMETERS', type: 8, fields: [f('params', 'parameters')] },
  NO_USER_DATA: { name: 'NO_USER_DATA', type: 9, fields: [f('tsn', 'u32')] },
  COOKIE_RECEIVED_WHILE_SHUTDOWN: { name: 'COOKIE_RECEIVED_WHILE_SHUTDOWN', type: 10, fields: [] },
  RESTART_WITH_NEW_ADDRESSES: { name: 'RESTART_WITH_NEW_ADDRESSES', type: 11, fields: [f('params', 'parameters')] },
  USER_INITIATED_ABORT: { name: 'USER_INITIATED_ABORT', type: 12, fields: [f('info', 'text')] },
  PROTOCOL_VIOLATION: { name: 'PROTOCOL_VIOLATION', type: 13, fields: [f('info', 'text')] },
};

/** Names come from scripts: maps, so that no name finds something of Object's. */
const byName = (rows: Readonly<Record<string, Form>>) => new Map<string, Form>(Object.entries(rows));
export const CHUNKS: ReadonlyMap<string, Form> = byName(CHUNK_ROWS);
export const PARAMETERS: ReadonlyMap<string, Form> = byName(PARAMETER_ROWS);
export const CAUSES: ReadonlyMap<string, Form> = byName(CAUSE_ROWS);

/** Names in lists of chunk types: every chunk with a number, and those that have no form of their own. */
export const CHUNK_TYPES: ReadonlyMap<string, number> = new Map([
  ...Object.values<Form>(CHUNK_ROWS).flatMap(c => (c.type === undefined ? [] : [[c.name, c.type] as const])),
  ['AUTH', 0x0f],
  ['ASCONF_ACK', 0x80],
  ['PKTDROP', 0x81],
  ['ASCONF', 0xc1],
]);

/** Names in lists of parameter types. */
export const PARAMETER_TYPES: ReadonlyMap<string, number> = new Map([
  ...Object.values<Form>(PARAMETER_ROWS).flatMap(p => (p.type === undefined ? [] : [[p.name, p.type] as const])),
  ['RANDOM', 0x8002],
  ['CHUNKS', 0x8003],
  ['HMAC_ALGORITHM', 0x8004],
]);

/** Names in SUPPORTED_ADDRESS_TYPES; the first of a number is the one that is printed. */
export const ADDRESS_TYPES: ReadonlyMap<string, number> = new Map([
  ['IPv4', 5],
  ['IPv6', 6],
  ['HOSTNAME', 11],
  ['IPV4', 5],
  ['IPV6', 6],
]);

/** Error detection methods of RFC 9653 §8. */
export const EDMIDS: ReadonlyMap<string, number> = new Map([['SCTP_OVER_DTLS', 1]]);

function numberOf<N extends string>(rows: Readonly<Record<N, Form>>): ReadonlyMap<number, N> {
  const out = new Map<number, N>();
  for (const [name, form] of Object.entries<Form>(rows)) if (form.type !== undefined) out.set(form.type, name as N);
  return out;
}

/** From the number on the wire to the name of the form; numbers without one want CHUNK, PARAMETER or CAUSE. */
export const CHUNK_NAMES: ReadonlyMap<number, ChunkName> = numberOf(CHUNK_ROWS);
export const PARAMETER_NAMES: ReadonlyMap<number, ParameterName> = numberOf(PARAMETER_ROWS);
export const CAUSE_NAMES: ReadonlyMap<number, CauseName> = numberOf(CAUSE_ROWS);

// ------------------------------------------------------------------------------------------------------------------ ICMP

/** Types of ICMP (RFC 792, 1191) with their codes by name. */
interface IcmpType {
  readonly type: number;
  readonly codes: Readonly<Record<string, number>>;
}

const ICMP: ReadonlyMap<string, IcmpType> = new Map<string, IcmpType>([
  ['echo_reply', { type: 0, codes: {} }],
  [
    'unreachable',
    {
      type: 3,
      codes: {
        net_unreachable: 0,
        host_unreachable: 1,
        protocol_unreachable: 2,
        port_unreachable: 3,
        frag_needed: 4,
        source_route_failed: 5,
        net_unknown: 6,
        host_unknown: 7,
        source_host_isolated: 8,
        net_prohibited: 9,
        host_prohibited: 10,
        net_unreachable_for_tos: 11,
        host_unreachable_for_tos: 12,
        packet_filtered: 13,
        precedence_violation: 14,
        precedence_cutoff: 15,
      },
    },
  ],
  ['source_quench', { type: 4, codes: {} }],
  ['redirect', { type: 5, codes: {} }],
  ['echo_request', { type: 8, codes: {} }],
  ['time_exceeded', { type: 11, codes: { ttl_exceeded_in_transit: 0, frag_reass_exceeded: 1 } }],
  ['parameter_problem', { type: 12, codes: {} }],
]);

/** Types of ICMPv6 (RFC 4443, 4861). */
const ICMP6: ReadonlyMap<string, IcmpType> = new Map<string, IcmpType>([
  [
    'unreachable',
    {
      type: 1,
      codes: { no_route: 0, admin_prohibited: 1, not_neighbour: 2, address_unreachable: 3, port_unreachable: 4 },
    },
  ],
  ['packet_too_big', { type: 2, codes: {} }],
  ['time_exceeded', { type: 3, codes: { exceeded_hop_limit: 0, exceeded_frag_time: 1 } }],
  ['parameter_problem', { type: 4, codes: {} }],
  ['echo_request', { type: 128, codes: {} }],
  ['echo_reply', { type: 129, codes: {} }],
  ['router_solicitation', { type: 133, codes: {} }],
  ['router_advertisement', { type: 134, codes: {} }],
]);

const octet = (text: string, prefix: string): number | undefined => {
  const m = new RegExp(`^${prefix}_(\\d{1,3})$`).exec(text);
  return m !== null && Number(m[1]) <= 255 ? Number(m[1]) : undefined;
};

/**
 * Type and code of an ICMP packet as the script names them, for the family on the wire. Undefined when that family does not
 * know the words. Without a code it is 0.
 */
export function icmpNumbers(
  family: 'ipv4' | 'ipv6',
  type: string,
  code: string | undefined,
): { readonly type: number; readonly code: number } | undefined {
  const row = (family === 'ipv4' ? ICMP : ICMP6).get(type);
  const number = row?.type ?? octet(type, 'type');
  if (number === undefined) return undefined;
  if (code === undefined) return { type: number, code: 0 };
  const named = row !== undefined && Object.hasOwn(row.codes, code) ? row.codes[code] : octet(code, 'code');
  return named === undefined ? undefined : { type: number, code: named };
}

/** The words for type and code, `type_N` and `code_N` for those without; no code when it is 0 and has no word. */
export function icmpWords(
  family: 'ipv4' | 'ipv6',
  type: number,
  code: number,
): { readonly type: string; readonly code: string | undefined } {
  const found = [...(family === 'ipv4' ? ICMP : ICMP6)].find(([, row]) => row.type === type);
  const word = Object.entries(found?.[1].codes ?? {}).find(([, n]) => n === code)?.[0];
  return { type: found?.[0] ?? `type_${type}`, code: word ?? (code === 0 ? undefined : `code_${code}`) };
}
