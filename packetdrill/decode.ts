/**
 * From the wire to the tree: a packet of the stack under test as chunks, parameters and causes in script numbers, for the
 * comparison and for people. An element that does not have exactly the form of its type (a length that is off, a list cut
 * short) is shown in its generic form, CHUNK, PARAMETER or CAUSE, which then does not match; the same form is taken when
 * the script asks for it.
 */

import { InAddr } from '../stack/netinet/in.js';
import {
  ANY,
  type Any,
  type Cause,
  type Chunk,
  type Gap,
  type HeartbeatInformation,
  type Parameter,
  type Position,
} from './ast.js';
import { CAUSE_NAMES, CHUNK_NAMES, PARAMETER_NAMES } from './forms.js';

/** Live → script, for the numbers that the stack under test chose. */
export interface FromWire {
  tsn(live: number): number;
  tag(live: number): number;
}

const WIRE: Position = { file: 'wire', line: 0, column: 0 };
const pad4 = (n: number): number => (n + 3) & ~3;

type Hints<T> = readonly T[] | Any | undefined;
const hintAt = <T>(h: Hints<T>, i: number): T | undefined => (h === ANY || h === undefined ? undefined : h[i]);

/** A bounded view of [off, end) in a packet. */
class Span {
  readonly dv: DataView;
  readonly off: number;
  readonly end: number;
  constructor(dv: DataView, off: number, end: number) {
    this.dv = dv;
    this.off = off;
    this.end = end;
  }
  get length(): number {
    return this.end - this.off;
  }
  u8(at: number): number {
    return this.dv.getUint8(this.off + at);
  }
  u16(at: number): number {
    return this.dv.getUint16(this.off + at);
  }
  u32(at: number): number {
    return this.dv.getUint32(this.off + at);
  }
  bytes(from = 0, to = this.length): Uint8Array {
    return new Uint8Array(this.dv.buffer, this.dv.byteOffset + this.off + from, to - from).slice();
  }
  from(at: number, to = this.length): Span {
    return new Span(this.dv, this.off + at, this.off + to);
  }
  list16(from: number): number[] {
    const out: number[] = [];
    for (let at = from; at + 2 <= this.length; at += 2) out.push(this.u16(at));
    return out;
  }
}

/** All chunks of a packet behind its common header. `expected`: the chunks of the script, by position. */
export function decodeChunks(bytes: Uint8Array, expected: readonly Chunk[] | undefined, from: FromWire): Chunk[] {
  const dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const out: Chunk[] = [];
  for (let off = 0; off < bytes.length; ) {
    const rest = bytes.length - off;
    const len = rest >= 4 ? dv.getUint16(off + 2) : 0;
    if (rest < 4 || len < 4 || len > rest) {
      // What cannot be a chunk ends the packet, shown whole.
      const type = dv.getUint8(off);
      const flgs = rest > 1 ? dv.getUint8(off + 1) : 0;
      out.push({ at: WIRE, name: 'CHUNK', type, flgs, len, val: bytes.slice(Math.min(off + 4, bytes.length)) });
      break;
    }
    out.push(decodeChunk(new Span(dv, off, off + len), hintAt(expected, out.length), from));
    off += pad4(len);
  }
  return out;
}

function decodeChunk(s: Span, hint: Chunk | undefined, from: FromWire): Chunk {
  const type = s.u8(0);
  const flgs = s.u8(1);
  const name = CHUNK_NAMES.get(type);
  const formed = name === undefined || hint?.name === 'CHUNK' ? undefined : formedChunk(name, flgs, s, hint, from);
  return formed ?? { at: WIRE, name: 'CHUNK', type, flgs, len: s.length, val: s.bytes(4) };
}

/** The chunk in its own form, or undefined when its bytes do not have it. */
function formedChunk(
  name: Chunk['name'],
  flgs: number,
  s: Span,
  hint: Chunk | undefined,
  from: FromWire,
): Chunk | undefined {
  const at = WIRE;
  const len = s.length;
  switch (name) {
    case 'DATA':
      if (len < 16) return undefined;
      return { at, name, flgs, len, tsn: from.tsn(s.u32(4)), sid: s.u16(8), ssn: s.u16(10), ppid: s.u32(12) };
    case 'I_DATA': {
      if (len < 20) return undefined;
      const c = { at, name, flgs, len, tsn: from.tsn(s.u32(4)), sid: s.u16(8), mid: s.u32(12) } as const;
      return (flgs & 2) !== 0 ? { ...c, ppid: s.u32(16) } : { ...c, fsn: s.u32(16) };
    }
    case 'INIT':
    case 'INIT_ACK': {
      if (len < 20) return undefined;
      const params = decodeParameters(s.from(20), hint?.name === name ? hint.params : undefined, from);
      if (params === undefined) return undefined;
      const [tag, tsn] = [from.tag(s.u32(4)), from.tsn(s.u32(16))];
      return { at, name, flgs, tag, a_rwnd: s.u32(8), os: s.u16(12), is: s.u16(14), tsn, params };
    }
    case 'SACK':
    case 'NR_SACK':
      return formedSack(name, flgs, s);
    case 'HEARTBEAT':
    case 'HEARTBEAT_ACK': {
      const p = len < 8 ? undefined : decodeParameters(s.from(4), undefined, from);
      if (p?.length !== 1 || p[0]!.name !== 'HEARTBEAT_INFORMATION') return undefined;
      return { at, name, flgs, info: p[0] as HeartbeatInformation };
    }
    case 'ABORT':
    case 'ERROR': {
      const causes = decodeCauses(s.from(4), hint?.name === name ? hint.causes : undefined, from);
      return causes === undefined ? undefined : { at, name, flgs, causes };
    }
    case 'SHUTDOWN':
      return len === 8 ? { at, name, flgs, cum_tsn: s.u32(4) } : undefined;
    case 'SHUTDOWN_ACK':
    case 'COOKIE_ACK':
    case 'SHUTDOWN_COMPLETE':
      return len === 4 ? { at, name, flgs } : undefined;
    case 'COOKIE_ECHO':
    case 'PAD':
      return { at, name, flgs, len, val: s.bytes(4) };
    case 'ECNE': // about the peer's TSNs
      return len === 8 || len === 12 ? { at, name, flgs, tsn: s.u32(4) } : undefined;
    case 'CWR': // about our own
      return len === 8 ? { at, name, flgs, tsn: from.tsn(s.u32(4)) } : undefined;
    case 'RECONFIG': {
      const params = decodeParameters(s.from(4), hint?.name === name ? hint.params : undefined, from);
      return params === undefined ? undefined : { at, name, flgs, params };
    }
    case 'FORWARD_TSN': {
      if (len < 8 || len % 4 !== 0) return undefined;
      const ids = [];
      for (let o = 8; o < len; o += 4) ids.push({ sid: s.u16(o), ssn: s.u16(o + 2) });
      return { at, name, flgs, cum_tsn: from.tsn(s.u32(4)), ids };
    }
    case 'I_FORWARD_TSN': {
      if (len < 8 || len % 8 !== 0) return undefined;
      const ids = [];
      for (let o = 8; o < len; o += 8) ids.push({ sid: s.u16(o), u: s.u16(o + 2), mid: s.u32(o + 4) });
      return { at, name, flgs, cum_tsn: from.tsn(s.u32(4)), ids };
    }
    default:
      return undefined;
  }
}

/** SACK (RFC 9260 §3.3.4) and NR-SACK: what they acknowledge are the peer's TSNs, which are never mapped. */
function formedSack(name: 'SACK' | 'NR_SACK', flgs: number, s: Span): Chunk | undefined {
  const fixed = name === 'SACK' ? 16 : 20;
  if (s.length < fixed) return undefined;
  const counts = name === 'SACK' ? [s.u16(12), 0, s.u16(14)] : [s.u16(12), s.u16(14), s.u16(16)];
  if (s.length !== fixed + 4 * (counts[0]! + counts[1]! + counts[2]!)) return undefined;
  let o = fixed;
  const take = (n: number): Gap[] => {
    const out: Gap[] = [];
    for (; n > 0; n--, o += 4) out.push({ start: s.u16(o), end: s.u16(o + 2) });
    return out;
  };
  const gaps = take(counts[0]!);
  const nr_gaps = take(counts[1]!);
  const dups: number[] = [];
  for (; o < s.length; o += 4) dups.push(s.u32(o));
  const head = { at: WIRE, flgs, cum_tsn: s.u32(4), a_rwnd: s.u32(8), gaps, dups };
  return name === 'SACK' ? { ...head, name } : { ...head, name, nr_gaps };
}

/**
 * A list of parameters, or undefined when lengths do not fit together. The padding behind the last one must not count into
 * the length of what contains it (RFC 9260 §3.2).
 */
function decodeParameters(s: Span, hints: Hints<Parameter>, from: FromWire): Parameter[] | undefined {
  const out: Parameter[] = [];
  for (let o = 0; o < s.length; ) {
    const len = s.length - o >= 4 ? s.u16(o + 2) : 0;
    if (len < 4 || o + len > s.length || (o + pad4(len) === s.length && len % 4 !== 0)) return undefined;
    out.push(decodeParameter(s.from(o, o + len), hintAt(hints, out.length), from));
    o += pad4(len);
  }
  return out;
}

function decodeParameter(s: Span, hint: Parameter | undefined, from: FromWire): Parameter {
  const type = s.u16(0);
  const name = PARAMETER_NAMES.get(type);
  if (hint?.name === 'RECONFIG_REQUEST_GENERIC' && s.length >= 8) {
    const req_sn = from.tsn(s.u32(4));
    return { at: WIRE, name: 'RECONFIG_REQUEST_GENERIC', type, len: s.length, req_sn, val: s.bytes(8) };
  }
  const formed = name === undefined || hint?.name === 'PARAMETER' ? undefined : formedParameter(name, s, hint, from);
  return formed ?? { at: WIRE, name: 'PARAMETER', type, len: s.length, val: s.bytes(4) };
}

function formedParameter(
  name: Parameter['name'],
  s: Span,
  hint: Parameter | undefined,
  from: FromWire,
): Parameter | undefined {
  const at = WIRE;
  const len = s.length;
  switch (name) {
    case 'HEARTBEAT_INFORMATION':
    case 'STATE_COOKIE':
    case 'PAD':
      return { at, name, len, val: s.bytes(4) };
    case 'IPV4_ADDRESS':
      return len === 8 ? { at, name, addr: new InAddr().read4(s.dv, s.off + 4).toString() } : undefined;
    case 'IPV6_ADDRESS':
      return len === 20 ? { at, name, addr: new InAddr(6).read6(s.dv, s.off + 4).toString() } : undefined;
    case 'UNRECOGNIZED_PARAMETER': {
      const params = decodeParameters(s.from(4), hint?.name === name ? hint.params : undefined, from);
      return params === undefined ? undefined : { at, name, params };
    }
    case 'COOKIE_PRESERVATIVE':
      return len === 8 ? { at, name, incr: s.u32(4) } : undefined;
    case 'HOSTNAME_ADDRESS':
      if (len < 5 || s.u8(len - 1) !== 0) return undefined;
      return { at, name, addr: new TextDecoder().decode(s.bytes(4, len - 1)) };
    case 'SUPPORTED_ADDRESS_TYPES':
      return len % 2 === 0 ? { at, name, types: s.list16(4) } : undefined;
    case 'SUPPORTED_EXTENSIONS':
      return { at, name, types: [...s.bytes(4)] };
    // Mapped: our own request numbers and TSNs. Verbatim: the peer's (facts part 4.6).
    case 'OUTGOING_SSN_RESET':
      if (len < 16 || len % 2 !== 0) return undefined;
      return {
        at,
        name,
        req_sn: from.tsn(s.u32(4)),
        resp_sn: s.u32(8),
        last_tsn: from.tsn(s.u32(12)),
        sids: s.list16(16),
      };
    case 'INCOMING_SSN_RESET':
      if (len < 8 || len % 2 !== 0) return undefined;
      return { at, name, req_sn: from.tsn(s.u32(4)), sids: s.list16(8) };
    case 'SSN_TSN_RESET':
      return len === 8 ? { at, name, req_sn: from.tsn(s.u32(4)) } : undefined;
    case 'RECONFIG_RESPONSE':
      if (len === 12) return { at, name, resp_sn: s.u32(4), result: s.u32(8) };
      if (len !== 20) return undefined;
      return {
        at,
        name,
        resp_sn: s.u32(4),
        result: s.u32(8),
        sender_next_tsn: from.tsn(s.u32(12)),
        receiver_next_tsn: s.u32(16),
      };
    case 'ADD_OUTGOING_STREAMS':
    case 'ADD_INCOMING_STREAMS':
      return len === 12 ? { at, name, req_sn: from.tsn(s.u32(4)), number_of_new_streams: s.u16(8) } : undefined;
    case 'ECN_CAPABLE':
    case 'FORWARD_TSN_SUPPORTED':
      return len === 4 ? { at, name } : undefined;
    case 'ZERO_CHECKSUM_ACCEPTABLE':
      return len === 8 ? { at, name, edmid: s.u32(4) } : undefined;
    case 'ADAPTATION_INDICATION':
      return len === 8 ? { at, name, adaptation_code_point: s.u32(4) } : undefined;
    default:
      return undefined;
  }
}

function decodeCauses(s: Span, hints: Hints<Cause>, from: FromWire): Cause[] | undefined {
  const out: Cause[] = [];
  for (let o = 0; o < s.length; ) {
    const len = s.length - o >= 4 ? s.u16(o + 2) : 0;
    if (len < 4 || o + len > s.length || (o + pad4(len) === s.length && len % 4 !== 0)) return undefined;
    out.push(decodeCause(s.from(o, o + len), hintAt(hints, out.length), from));
    o += pad4(len);
  }
  return out;
}

function decodeCause(s: Span, hint: Cause | undefined, from: FromWire): Cause {
  const code = s.u16(0);
  const name = CAUSE_NAMES.get(code);
  const formed = name === undefined || hint?.name === 'CAUSE' ? undefined : formedCause(name, s, hint, from);
  return formed ?? { at: WIRE, name: 'CAUSE', code, len: s.length, info: s.bytes(4) };
}

function formedCause(name: Cause['name'], s: Span, hint: Cause | undefined, from: FromWire): Cause | undefined {
  const at = WIRE;
  const len = s.length;
  switch (name) {
    case 'INVALID_STREAM_IDENTIFIER':
      return len === 8 ? { at, name, sid: s.u16(4) } : undefined;
    case 'MISSING_MANDATORY_PARAMETER':
      return len >= 8 && len === 8 + 2 * s.u32(4) ? { at, name, types: s.list16(8) } : undefined;
    case 'STALE_COOKIE_ERROR':
      return len === 8 ? { at, name, staleness: s.u32(4) } : undefined;
    case 'OUT_OF_RESOURCE':
    case 'INVALID_MANDATORY_PARAMETER':
    case 'COOKIE_RECEIVED_WHILE_SHUTDOWN':
      return len === 4 ? { at, name } : undefined;
    case 'UNRESOLVABLE_ADDRESS': {
      const given = hint?.name === name && hint.param !== ANY ? [hint.param] : undefined;
      const p = decodeParameters(s.from(4), given, from);
      return p?.length === 1 ? { at, name, param: p[0]! } : undefined;
    }
    case 'UNRECOGNIZED_CHUNK_TYPE': {
      // The embedded chunk's padding counts (facts part 4.4).
      const n = len >= 8 ? s.u16(6) : 0;
      if (n < 4 || len !== 4 + pad4(n)) return undefined;
      const given = hint?.name === name && hint.chk !== ANY ? hint.chk : undefined;
      return { at, name, chk: decodeChunk(s.from(4, 4 + n), given, VERBATIM_FROM) };
    }
    case 'UNRECOGNIZED_PARAMETERS':
    case 'RESTART_WITH_NEW_ADDRESSES': {
      const params = decodeParameters(s.from(4), hint?.name === name ? hint.params : undefined, VERBATIM_FROM);
      return params === undefined ? undefined : { at, name, params };
    }
    case 'NO_USER_DATA':
      return len === 8 ? { at, name, tsn: s.u32(4) } : undefined;
    case 'USER_INITIATED_ABORT':
    case 'PROTOCOL_VIOLATION':
      return { at, name, info: new TextDecoder().decode(s.bytes(4)) };
    default:
      return undefined;
  }
}

/** What is given back to the peer carries the peer's numbers. */
export const VERBATIM_FROM: FromWire = { tsn: n => n, tag: n => n };
