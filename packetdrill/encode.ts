/**
 * From the tree to the wire: chunks, parameters and error causes of an injected packet as bytes (facts parts 4.1 to 4.4; wire
 * forms of RFC 9260 §3.3, RFC 3758, 6525, 8260, 9653). Lengths are sent as written even when they are wrong; padding follows
 * the bytes that are really there.
 */

import { InAddr } from '../stack/netinet/in.js';
import { ANY, type Any, type Bytes, type Cause, type Chunk, type Num, type Parameter, type Position } from './ast.js';
import { CAUSES, CHUNKS, PARAMETERS } from './forms.js';

/** Trouble with a script that shows only when it runs; the runner makes a failure of the event out of it. */
export class ScriptError extends Error {
  readonly at: Position | undefined;
  constructor(text: string, at?: Position) {
    super(text);
    this.at = at;
  }
}

/** What an injected packet takes from the exchange so far. */
export interface ToWire {
  /** A TSN (or re-configuration number) that the stack under test chose: script → live. */
  tsn(script: number): number;
  /** The state cookie that `COOKIE_ECHO[val=...]` gives back; undefined: none was captured. */
  readonly cookie: Uint8Array | undefined;
  /** The information of the last HEARTBEAT captured. */
  readonly heartbeat: Uint8Array | undefined;
}

/** Numbers that stay as they are: for pieces outside any association. */
export const VERBATIM: ToWire = { tsn: n => n >>> 0, cookie: undefined, heartbeat: undefined };

/** What PAD values and offered cookies are filled with: any constant does (facts part 4.1). */
const FILL = 0x50;

/** A growing big-endian writer that can patch what it has written. */
export class Writer {
  #buf = new Uint8Array(2048);
  #dv = new DataView(this.#buf.buffer);
  length = 0;
  #room(n: number): number {
    const at = this.length;
    if (at + n > this.#buf.length) {
      const bigger = new Uint8Array(Math.max(this.#buf.length * 2, at + n));
      bigger.set(this.#buf.subarray(0, at));
      this.#buf = bigger;
      this.#dv = new DataView(bigger.buffer);
    }
    this.length = at + n;
    return at;
  }
  u8(v: number): this {
    this.#buf[this.#room(1)] = v;
    return this;
  }
  u16(v: number): this {
    this.#dv.setUint16(this.#room(2), v);
    return this;
  }
  u32(v: number): this {
    this.#dv.setUint32(this.#room(4), v);
    return this;
  }
  bytes(b: Uint8Array): this {
    const at = this.#room(b.length);
    this.#buf.set(b, at);
    return this;
  }
  fill(n: number, value: number): this {
    const at = this.#room(Math.max(n, 0));
    this.#buf.fill(value, at, this.length);
    return this;
  }
  patch16(at: number, v: number): void {
    this.#dv.setUint16(at, v);
  }
  /** Zeros up to a multiple of four bytes from `start`. */
  pad(start: number): this {
    return this.fill(-(this.length - start) & 3, 0);
  }
  take(): Uint8Array {
    return this.#buf.slice(0, this.length);
  }
}

function need(v: Num | undefined, what: string, at: Position): number {
  if (typeof v !== 'number') throw new ScriptError(`an injected packet needs a value for ${what}`, at);
  return v;
}
/** A value that may be left open inbound. */
const or = (v: Num | undefined, otherwise: number): number => (typeof v === 'number' ? v : otherwise);
function needList<T>(v: readonly T[] | Any, what: string, at: Position): readonly T[] {
  if (v === ANY) throw new ScriptError(`an injected packet needs a list for ${what}`, at);
  return v;
}

/** The chunks of a packet, each padded. */
export function encodeChunks(chunks: readonly Chunk[], to: ToWire): Uint8Array {
  const w = new Writer();
  for (const c of chunks) {
    const start = w.length;
    encodeChunk(w, c, to);
    w.pad(start);
  }
  return w.take();
}

/** One chunk, without padding behind it. */
export function encodeChunk(w: Writer, c: Chunk, to: ToWire): void {
  const start = w.length;
  const type = c.name === 'CHUNK' ? need(c.type, 'type', c.at) : CHUNKS.get(c.name)!.type!;
  const flags = c.flgs === undefined ? 0 : need(c.flgs, `flgs of ${c.name}`, c.at);
  w.u8(type).u8(flags).u16(0);
  chunkBody(w, c, to);
  const said = 'len' in c && typeof c.len === 'number' && !(c.name === 'COOKIE_ECHO' && c.val === ANY);
  w.patch16(start + 2, said ? (c.len as number) : w.length - start);
}

function chunkBody(w: Writer, c: Chunk, to: ToWire): void {
  const at = c.at;
  const n = (v: Num | undefined, what: string) => need(v, `${what} of ${c.name}`, at);
  switch (c.name) {
    case 'CHUNK':
      if (c.val === ANY) w.fill(or(c.len, 4) - 4, 0);
      else w.bytes(c.val);
      return;
    case 'DATA':
      w.u32(n(c.tsn, 'tsn')).u16(n(c.sid, 'sid')).u16(n(c.ssn, 'ssn')).u32(n(c.ppid, 'ppid'));
      w.fill(n(c.len, 'len') - 16, 0);
      return;
    case 'I_DATA':
      w.u32(n(c.tsn, 'tsn')).u16(n(c.sid, 'sid')).u16(0).u32(n(c.mid, 'mid'));
      w.u32(n(c.ppid ?? c.fsn, c.fsn === undefined ? 'ppid' : 'fsn'));
      w.fill(n(c.len, 'len') - 20, 0);
      return;
    case 'INIT':
    case 'INIT_ACK':
      w.u32(n(c.tag, 'tag')).u32(n(c.a_rwnd, 'a_rwnd')).u16(n(c.os, 'os')).u16(n(c.is, 'is')).u32(or(c.tsn, 0));
      encodeParameters(w, needList(c.params, `parameters of ${c.name}`, at), to);
      return;
    case 'SACK':
    case 'NR_SACK':
      encodeSack(w, c, to);
      return;
    case 'HEARTBEAT':
    case 'HEARTBEAT_ACK':
      encodeHeartbeat(w, c, to);
      return;
    case 'ABORT':
    case 'ERROR':
      encodeCauses(w, needList(c.causes, `causes of ${c.name}`, at), to);
      return;
    case 'SHUTDOWN':
      w.u32(to.tsn(n(c.cum_tsn, 'cum_tsn')));
      return;
    case 'COOKIE_ECHO':
      if (c.val !== ANY) w.bytes(c.val);
      else if (to.cookie === undefined) throw new ScriptError('no state cookie has been captured yet', at);
      else w.bytes(to.cookie);
      return;
    case 'PAD':
      if (c.val !== ANY) w.bytes(c.val);
      else w.fill(or(c.len, 4) - 4, FILL);
      return;
    case 'ECNE':
      w.u32(to.tsn(n(c.tsn, 'tsn')));
      return;
    case 'CWR': // the peer's answer to our ECNE: speaks of the peer's own TSNs
      w.u32(n(c.tsn, 'tsn'));
      return;
    case 'RECONFIG':
      encodeParameters(w, needList(c.params, 'parameters of RECONFIG', at), to);
      return;
    case 'FORWARD_TSN':
      w.u32(n(c.cum_tsn, 'cum_tsn'));
      for (const id of needList(c.ids, 'ids', at)) w.u16(n(id.sid, 'sid')).u16(n(id.ssn, 'ssn'));
      return;
    case 'I_FORWARD_TSN':
      w.u32(n(c.cum_tsn, 'cum_tsn'));
      for (const id of needList(c.ids, 'ids', at)) w.u16(n(id.sid, 'sid')).u16(n(id.u, 'u')).u32(n(id.mid, 'mid'));
      return;
    default:
      return; // SHUTDOWN_ACK, COOKIE_ACK, SHUTDOWN_COMPLETE: the header is all
  }
}

/** Gap offsets are never mapped, the cumulative TSN and the duplicates are the other side's TSNs. */
function encodeSack(w: Writer, c: Chunk & { name: 'SACK' | 'NR_SACK' }, to: ToWire): void {
  const gaps = needList(c.gaps, 'gaps', c.at);
  const nr = c.name === 'NR_SACK' ? needList(c.nr_gaps, 'nr_gaps', c.at) : [];
  const dups = needList(c.dups, 'dups', c.at);
  w.u32(to.tsn(need(c.cum_tsn, 'cum_tsn', c.at))).u32(need(c.a_rwnd, 'a_rwnd', c.at));
  w.u16(gaps.length);
  if (c.name === 'NR_SACK') w.u16(nr.length).u16(dups.length).u16(0);
  else w.u16(dups.length);
  for (const g of [...gaps, ...nr]) w.u16(need(g.start, 'gaps', c.at)).u16(need(g.end, 'gaps', c.at));
  for (const d of dups) w.u32(to.tsn(d));
}

/** An ACK whose information is open gives back what was captured last (facts part 4.8). */
function encodeHeartbeat(w: Writer, c: Chunk & { name: 'HEARTBEAT' | 'HEARTBEAT_ACK' }, to: ToWire): void {
  if (c.name === 'HEARTBEAT_ACK' && (c.info === ANY || c.info.val === ANY)) {
    if (to.heartbeat === undefined) throw new ScriptError('no HEARTBEAT has been captured yet', c.at);
    w.u16(1)
      .u16(to.heartbeat.length + 4)
      .bytes(to.heartbeat);
  } else if (c.info === ANY) w.u16(1).u16(4);
  else encodeParameter(w, c.info, to);
}

/** Parameters one after the other, padded between, and behind the last (where the packet's padding would be anyway). */
export function encodeParameters(w: Writer, list: readonly Parameter[], to: ToWire): void {
  for (const [i, p] of list.entries()) {
    const start = w.length;
    encodeParameter(w, p, to);
    // A chunk's length leaves out the padding of its last parameter (RFC 9260 §3.2).
    if (i < list.length - 1) w.pad(start);
  }
}

/** One parameter, without padding behind it. */
export function encodeParameter(w: Writer, p: Parameter, to: ToWire): void {
  const start = w.length;
  const generic = p.name === 'PARAMETER' || p.name === 'RECONFIG_REQUEST_GENERIC';
  w.u16(generic ? need(p.type, 'type', p.at) : PARAMETERS.get(p.name)!.type!).u16(0);
  parameterBody(w, p, to);
  w.patch16(start + 2, 'len' in p && typeof p.len === 'number' ? p.len : w.length - start);
}

function address(text: string | Any, family: 4 | 6, at: Position): Uint8Array {
  const a = text === ANY ? undefined : InAddr.parse(text);
  if (a === undefined || a.family !== family)
    throw new ScriptError(`an injected packet needs an IPv${family} address`, at);
  const out = new Uint8Array(family === 4 ? 4 : 16);
  a.write(new DataView(out.buffer), 0);
  return out;
}

function parameterBody(w: Writer, p: Parameter, to: ToWire): void {
  const n = (v: Num | undefined, what: string) => need(v, `${what} of ${p.name}`, p.at);
  const filled = (len: Num, val: Bytes, value: number) => (val === ANY ? w.fill(or(len, 4) - 4, value) : w.bytes(val));
  switch (p.name) {
    case 'PARAMETER':
    case 'HEARTBEAT_INFORMATION':
      filled(p.len, p.val, 0);
      return;
    case 'STATE_COOKIE':
    case 'PAD':
      filled(p.len, p.val, FILL);
      return;
    case 'IPV4_ADDRESS':
      w.bytes(address(p.addr, 4, p.at));
      return;
    case 'IPV6_ADDRESS':
      w.bytes(address(p.addr, 6, p.at));
      return;
    case 'UNRECOGNIZED_PARAMETER':
      encodeParameters(w, needList(p.params, 'params', p.at), to);
      return;
    case 'COOKIE_PRESERVATIVE':
      w.u32(n(p.incr, 'incr'));
      return;
    case 'HOSTNAME_ADDRESS':
      if (p.addr === ANY) throw new ScriptError('an injected packet needs a host name', p.at);
      w.bytes(new TextEncoder().encode(p.addr)).u8(0);
      return;
    case 'SUPPORTED_ADDRESS_TYPES':
      for (const t of needList(p.types, 'types', p.at)) w.u16(t);
      return;
    case 'SUPPORTED_EXTENSIONS':
      for (const t of needList(p.types, 'types', p.at)) w.u8(t);
      return;
    // Requests carry the peer's own numbers; answers speak of the requests of the stack under test (facts part 4.6).
    case 'OUTGOING_SSN_RESET':
      w.u32(n(p.req_sn, 'req_sn'))
        .u32(to.tsn(n(p.resp_sn, 'resp_sn')))
        .u32(n(p.last_tsn, 'last_tsn'));
      for (const s of needList(p.sids, 'sids', p.at)) w.u16(s);
      return;
    case 'INCOMING_SSN_RESET':
      w.u32(n(p.req_sn, 'req_sn'));
      for (const s of needList(p.sids, 'sids', p.at)) w.u16(s);
      return;
    case 'SSN_TSN_RESET':
      w.u32(n(p.req_sn, 'req_sn'));
      return;
    case 'RECONFIG_RESPONSE':
      w.u32(to.tsn(n(p.resp_sn, 'resp_sn'))).u32(n(p.result, 'result'));
      if (p.sender_next_tsn !== undefined) w.u32(n(p.sender_next_tsn, 'sender_next_tsn'));
      if (p.receiver_next_tsn !== undefined) w.u32(to.tsn(n(p.receiver_next_tsn, 'receiver_next_tsn')));
      return;
    case 'ADD_OUTGOING_STREAMS':
    case 'ADD_INCOMING_STREAMS':
      w.u32(n(p.req_sn, 'req_sn')).u16(n(p.number_of_new_streams, 'number_of_new_streams')).u16(0);
      return;
    case 'RECONFIG_REQUEST_GENERIC':
      w.u32(n(p.req_sn, 'req_sn'));
      if (p.val === ANY) w.fill(or(p.len, 8) - 8, 0);
      else w.bytes(p.val);
      return;
    case 'ZERO_CHECKSUM_ACCEPTABLE':
      w.u32(n(p.edmid, 'edmid'));
      return;
    case 'ADAPTATION_INDICATION':
      w.u32(n(p.adaptation_code_point, 'adaptation_code_point'));
      return;
    default:
      return; // ECN_CAPABLE, FORWARD_TSN_SUPPORTED
  }
}

/** Error causes one after the other, padded between. */
function encodeCauses(w: Writer, list: readonly Cause[], to: ToWire): void {
  for (const [i, c] of list.entries()) {
    const start = w.length;
    w.u16(c.name === 'CAUSE' ? need(c.code, 'code', c.at) : CAUSES.get(c.name)!.type!).u16(0);
    causeBody(w, c, to);
    w.patch16(start + 2, c.name === 'CAUSE' && typeof c.len === 'number' ? c.len : w.length - start);
    if (i < list.length - 1) w.pad(start);
  }
}

function causeBody(w: Writer, c: Cause, to: ToWire): void {
  const n = (v: Num | undefined, what: string) => need(v, `${what} of ${c.name}`, c.at);
  const none = (what: string) => new ScriptError(`an injected packet needs a value for ${what} of ${c.name}`, c.at);
  switch (c.name) {
    case 'CAUSE':
      if (c.info === ANY) w.fill(or(c.len, 4) - 4, 0);
      else w.bytes(c.info);
      return;
    case 'INVALID_STREAM_IDENTIFIER':
      w.u16(n(c.sid, 'sid')).u16(0);
      return;
    case 'MISSING_MANDATORY_PARAMETER': {
      const types = needList(c.types, 'types', c.at);
      w.u32(types.length);
      for (const t of types) w.u16(t);
      return;
    }
    case 'STALE_COOKIE_ERROR':
      w.u32(n(c.staleness, 'staleness'));
      return;
    case 'UNRESOLVABLE_ADDRESS':
      if (c.param === ANY) throw none('param');
      encodeParameter(w, c.param, to);
      return;
    case 'UNRECOGNIZED_CHUNK_TYPE': {
      if (c.chk === ANY) throw none('chk');
      const start = w.length;
      encodeChunk(w, c.chk, to);
      w.pad(start); // counts into the cause's length (facts part 4.4)
      return;
    }
    case 'UNRECOGNIZED_PARAMETERS':
    case 'RESTART_WITH_NEW_ADDRESSES':
      encodeParameters(w, needList(c.params, 'params', c.at), to);
      return;
    case 'NO_USER_DATA':
      w.u32(n(c.tsn, 'tsn'));
      return;
    case 'USER_INITIATED_ABORT':
    case 'PROTOCOL_VIOLATION':
      if (c.info === ANY) throw none('info');
      w.bytes(new TextEncoder().encode(c.info));
      return;
    default:
      return; // causes without contents
  }
}
