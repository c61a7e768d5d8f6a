/**
 * INIT and INIT ACK (RFC 9260 §3.3.2, §3.3.3): parsing with the unknown-parameter rules of §3.2.1, and building.
 *
 *  0                   1                   2                   3
 * | type 1 or 2   | flags 0       | length                        |
 * | initiate tag                                                  |
 * | a_rwnd                                                        |
 * | outbound streams              | inbound streams               |
 * | initial TSN                                                   |
 * | parameters ...                                                |
 */

import { InAddr } from '../netinet/in.js';
import {
  CAUSE_INVALID_PARAM,
  CAUSE_PROTOCOL_VIOLATION,
  CAUSE_UNRESOLVABLE_ADDR,
  INIT_HEADER,
  MIN_PEER_RWND,
  PARAM_COOKIE_PRESERVATIVE,
  PARAM_ECN,
  PARAM_HOST_NAME,
  PARAM_IPV4,
  PARAM_IPV6,
  PARAM_STATE_COOKIE,
  PARAM_SUPPORTED_ADDR_TYPES,
  PARAM_SUPPORTED_EXT,
  PARAM_UNRECOGNIZED,
} from './constants.js';
import { ByteWriter, cause, EMPTY, type Tlv, textBytes, walkTlvs } from './wire.js';

/** What an INIT or INIT ACK says. */
export interface InitInfo {
  tag: number;
  rwnd: number;
  outStreams: number;
  inStreams: number;
  tsn: number;
  addresses: InAddr[];
  ecn: boolean;
  /** Suggested increment of the cookie's life, ms; 0 = none. */
  preservative: number;
  /** Address families the sender takes; undefined = not said, so all. */
  families: { v4: boolean; v6: boolean } | undefined;
  /** Chunk types of the extensions the sender has (RFC 5061 §4.2.7). */
  extensions: Uint8Array;
  /** Parameters to report as unrecognized, whole, padding stripped; and how many more there were (MAX_REPORT). */
  unrecognized: Uint8Array[];
  unreported: number;
  /** Addresses not taken: more than the limit, or such as nobody can have. */
  droppedAddresses: number;
  cookie: Uint8Array | undefined;
}

/** Why an INIT is refused: the cause to send in the ABORT, and words. */
export interface InitError {
  readonly error: Uint8Array;
  readonly text: string;
  readonly section: string;
}

/** Largest INIT taken: our INIT ACK carries a copy of it in the cookie, and must itself stay below 64 KiB. */
export const MAX_INIT = 57_344;

const copy = (dv: DataView, off: number, len: number): Uint8Array =>
  new Uint8Array(dv.buffer, dv.byteOffset + off, len).slice();

/**
 * Parses a chunk of `len` bytes at `off` (header included, len checked against the packet by the caller, >= 20).
 * `limit` bounds the addresses taken. Returns the contents, or the error cause for an ABORT.
 */
export function parseInit(dv: DataView, off: number, len: number, limit: number): InitInfo | InitError {
  const info: InitInfo = {
    tag: dv.getUint32(off + 4),
    rwnd: dv.getUint32(off + 8),
    outStreams: dv.getUint16(off + 12),
    inStreams: dv.getUint16(off + 14),
    tsn: dv.getInt32(off + 16),
    addresses: [],
    ecn: false,
    preservative: 0,
    families: undefined,
    extensions: EMPTY,
    unrecognized: [],
    unreported: 0,
    droppedAddresses: 0,
    cookie: undefined,
  };
  if (info.rwnd < MIN_PEER_RWND)
    return {
      error: cause(CAUSE_INVALID_PARAM),
      text: `a_rwnd ${info.rwnd} is below ${MIN_PEER_RWND}`,
      section: '§3.3.2',
    };
  if (info.outStreams === 0 || info.inStreams === 0)
    return { error: cause(CAUSE_INVALID_PARAM), text: 'the number of streams is 0', section: '§3.3.2' };
  let failure: InitError | undefined;
  let stopped = false;
  const sound = walkTlvs(dv, off + INIT_HEADER, off + len, t => {
    if (stopped) {
      // §3.2.1: a COOKIE ECHO is sent in all four cases, so the cookie is looked for behind what ended the reading too.
      if (t.type === PARAM_STATE_COOKIE) info.cookie ??= copy(dv, t.off + 4, t.len - 4);
      return info.cookie === undefined;
    }
    const r = takeParam(dv, t, info, limit);
    if (typeof r === 'object') failure = r;
    stopped = r === false;
    return typeof r !== 'object';
  });
  if (failure !== undefined) return failure;
  if (!sound && !stopped)
    return {
      error: cause(CAUSE_PROTOCOL_VIOLATION, textBytes('bad parameter length')),
      text: 'a parameter has a bad length',
      section: '§3.2.1',
    };
  return info;
}

/** Takes one parameter; false = stop here, an error = refuse all. */
function takeParam(dv: DataView, t: Tlv, info: InitInfo, limit: number): boolean | InitError {
  const body = t.off + 4;
  switch (t.type) {
    case PARAM_IPV4:
      if (t.len !== 8) return badLength('IPv4 address');
      addAddress(info, new InAddr().read4(dv, body), limit);
      return true;
    case PARAM_IPV6:
      if (t.len !== 20) return badLength('IPv6 address');
      addAddress(info, new InAddr(6).read6(dv, body), limit);
      return true;
    case PARAM_STATE_COOKIE:
      info.cookie = copy(dv, body, t.len - 4);
      return true;
    case PARAM_ECN:
      info.ecn = true;
      return true;
    case PARAM_COOKIE_PRESERVATIVE:
      if (t.len !== 8) return badLength('cookie preservative');
      info.preservative = dv.getUint32(body);
      return true;
    case PARAM_SUPPORTED_ADDR_TYPES: {
      const f = { v4: false, v6: false };
      for (let at = body; at + 2 <= t.off + t.len; at += 2) {
        if (dv.getUint16(at) === PARAM_IPV4) f.v4 = true;
        if (dv.getUint16(at) === PARAM_IPV6) f.v6 = true;
      }
      info.families = f;
      return true;
    }
    case PARAM_SUPPORTED_EXT:
      info.extensions = copy(dv, body, t.len - 4);
      return true;
    case PARAM_UNRECOGNIZED: // in an INIT ACK: what the peer did not know of our INIT; nothing of ours may be missing
      return true;
    case PARAM_HOST_NAME: // §3.3.2.1.4: MUST NOT be used; answered by ABORT
      return {
        error: cause(CAUSE_UNRESOLVABLE_ADDR, copy(dv, t.off, t.len)),
        text: 'a host name address is not supported',
        section: '§3.3.2.1.4',
      };
    default:
      // §3.2.1: the highest two bits say what to do with a parameter that is not known.
      if ((t.type & 0x4000) !== 0) report(info, copy(dv, t.off, t.len));
      return (t.type & 0x8000) !== 0;
  }
}

function badLength(what: string): InitError {
  return {
    error: cause(CAUSE_PROTOCOL_VIOLATION, textBytes(`bad length of ${what}`)),
    text: `the ${what} parameter has a bad length`,
    section: '§3.2.1',
  };
}

/** Bytes of unrecognized parameters that go back in one INIT ACK or ERROR: what fits beside the rest in a packet. */
const MAX_REPORT = 1024;

function report(info: InitInfo, param: Uint8Array): void {
  let bytes = 0;
  for (const u of info.unrecognized) bytes += u.length + 8;
  if (bytes + param.length + 8 <= MAX_REPORT) info.unrecognized.push(param);
  else info.unreported++;
}

function addAddress(info: InitInfo, a: InAddr, limit: number): void {
  if (info.addresses.some(b => b.equals(a))) return;
  if (info.addresses.length >= limit || a.isMulticast || a.isBroadcast || a.isUnspecified || a.isV4Mapped)
    info.droppedAddresses++;
  else info.addresses.push(a);
}

export interface InitFields {
  readonly type: number;
  readonly tag: number;
  readonly rwnd: number;
  readonly outStreams: number;
  readonly inStreams: number;
  readonly tsn: number;
  readonly ecn: boolean;
  /** Cookie preservative to ask for, ms; 0 = none. INIT only. */
  readonly preservative: number;
  /** Families we take, INIT only; undefined = parameter left out. */
  readonly families: { v4: boolean; v6: boolean } | undefined;
  readonly addresses: readonly InAddr[];
  /** INIT ACK: the state cookie, and parameters of the INIT to report. */
  readonly cookie?: Uint8Array;
  readonly unrecognized?: readonly Uint8Array[];
}

/** The bytes of an INIT or INIT ACK; parameters in FreeBSD's order (facts part 1.0). Extensions add theirs where marked. */
export function buildInit(f: InitFields): Uint8Array {
  return new ByteWriter()
    .chunk(f.type, 0, w => {
      w.u32(f.tag).u32(f.rwnd).u16(f.outStreams).u16(f.inStreams).u32(f.tsn);
      // (adaptation indication attaches here)
      if (f.ecn) w.tlv(PARAM_ECN, () => {});
      // (FORWARD-TSN, zero checksum, NAT, supported extensions, RANDOM, HMAC-ALGO, CHUNKS attach here)
      if (f.preservative > 0) w.tlv(PARAM_COOKIE_PRESERVATIVE, p => p.u32(f.preservative));
      if (f.families !== undefined) {
        const { v4, v6 } = f.families;
        w.tlv(PARAM_SUPPORTED_ADDR_TYPES, p => {
          if (v4) p.u16(PARAM_IPV4);
          if (v6) p.u16(PARAM_IPV6);
        });
      }
      for (const a of f.addresses) w.addressParam(a);
      for (const u of f.unrecognized ?? []) w.tlv(PARAM_UNRECOGNIZED, p => p.bytes(u));
      if (f.cookie !== undefined) w.tlv(PARAM_STATE_COOKIE, p => p.bytes(f.cookie!));
    })
    .take();
}
