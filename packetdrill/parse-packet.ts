/** Packets: `< [encap] [ip-info] [ports] sctp…` and `icmp…` (facts parts 3, 4 and 4.10). */

import { isIPv4, isIPv6 } from 'node:net';
import type { Echoed, Encap, IcmpPacket, IpInfo, MplsLabel, Packet, Ports, SctpPacket } from './ast.js';
import type { Cursor } from './cursor.js';
import { ParseError } from './error.js';
import { icmpNumbers } from './forms.js';
import { parseChunks } from './parse-elements.js';

const U32 = 0xffffffff;

/** What may stand in front of every transport. */
type Prefix = Pick<SctpPacket, 'at' | 'direction' | 'encap' | 'ip' | 'ports'>;

/** The direction sign is the current token. */
export function parsePacket(c: Cursor): Packet {
  const at = c.at();
  const direction = c.take().text === '<' ? 'in' : 'out';
  const encap: Encap[] = [];
  for (let e = parseEncap(c); e !== undefined; e = parseEncap(c)) encap.push(e);
  const ip = c.is('(') || (c.is('[') && !startsEchoed(c)) ? parseIpInfo(c) : undefined;
  const ports = c.isNumber() ? parsePorts(c) : undefined;
  const prefix: Prefix = { at, direction, encap, ip, ports };
  if (c.is('[') || c.isWord('icmp')) return parseIcmp(c, prefix);
  if (c.isWord('sctp')) return parseSctp(c, prefix);
  return c.fail('`sctp` or `icmp`: packets of other protocols are not part of this runner');
}

/** `SRC > DST`. */
function parsePorts(c: Cursor): Ports {
  const src = c.number('a source port', 0xffff);
  c.expect('>', ' between source and destination port');
  return { src, dst: c.number('a destination port', 0xffff) };
}

function parseEncap(c: Cursor): Encap | undefined {
  if (c.isWord('ipv4') || c.isWord('ipv6')) {
    const kind = c.take().text as 'ipv4' | 'ipv6';
    const ip = c.is('(') || c.is('[') ? parseIpInfo(c) : undefined;
    const src = parseAddress(c, kind);
    c.expect('>', ' between outer addresses');
    const dst = parseAddress(c, kind);
    c.expect(':', ' behind an outer header');
    return { kind, ip, src, dst };
  }
  if (c.acceptWord('gre')) {
    c.expect(':', ' behind an outer header');
    return { kind: 'gre' };
  }
  if (c.acceptWord('mpls')) {
    const labels: MplsLabel[] = [];
    do labels.push(parseMpls(c));
    while (c.accept(','));
    c.expect(':', ' behind an outer header');
    return { kind: 'mpls', labels };
  }
  return undefined;
}

/** `(label N, tc N, [S], ttl N)`. */
function parseMpls(c: Cursor): MplsLabel {
  c.expect('(', ' and an MPLS label');
  let bottom = false;
  const values = new Map<string, number>();
  c.list(')', () => {
    if (c.accept('[')) {
      if (!c.acceptWord('S')) c.fail('S, for bottom of stack');
      c.expect(']');
      bottom = true;
      return;
    }
    const key = c.token.text;
    if (!c.acceptWord('label') && !c.acceptWord('tc') && !c.acceptWord('ttl')) c.fail('label, tc, [S] or ttl');
    values.set(key, c.number(key, key === 'label' ? 0xfffff : key === 'tc' ? 7 : 0xff));
  });
  return { label: values.get('label') ?? 0, tc: values.get('tc') ?? 0, ttl: values.get('ttl') ?? 0, bottom };
}

function parseAddress(c: Cursor, family: 'ipv4' | 'ipv6'): string {
  const good = family === 'ipv4' ? isIPv4 : isIPv6;
  if ((c.token.kind !== 'address' && c.token.kind !== 'string') || !good(c.token.text))
    c.fail(family === 'ipv4' ? 'an IPv4 address' : 'an IPv6 address');
  return c.take().text;
}

// ---------------------------------------------------------------------------------------------------------------- ip-info

/** DSCP names of RFC 2474, 2597, 3246, 5865 and 8622. */
const DSCP: ReadonlyMap<string, number> = new Map<string, number>([
  ...Array.from({ length: 8 }, (_, i) => [`cs${i}`, i << 3] as const),
  ...[1, 2, 3, 4].flatMap(k => [1, 2, 3].map(d => [`af${k}${d}`, (k << 3) | (d << 1)] as const)),
  ['ef', 46],
  ['voice-admit', 44],
  ['le', 1],
]);

const ECN: ReadonlyMap<string, NonNullable<IpInfo['ecn']>> = new Map<string, NonNullable<IpInfo['ecn']>>([
  ['noecn', 0],
  ['ect1', 1],
  ['ect0', 2],
  ['ce', 3],
  ['ect01', 'ect01'],
]);

const IP_INFO = 'ttl, hlim, flowlabel, tos, class, dscp or an ECN codepoint (noecn, ect0, ect1, ect01, ce)';

function parseIpInfo(c: Cursor): IpInfo {
  const close = c.take().text === '(' ? ')' : ']';
  const out: { -readonly [K in keyof IpInfo]: IpInfo[K] } = {};
  c.list(close, () => {
    const t = c.expectWord(IP_INFO);
    const at = c.at(t);
    const put = <K extends keyof IpInfo>(key: K, value: IpInfo[K]): void => {
      if (out[key] !== undefined) throw new ParseError(at, `${key} is there twice`);
      out[key] = value;
    };
    if (t.text === 'ttl' || t.text === 'hlim') put('ttl', c.number(t.text, 0xff));
    else if (t.text === 'tos' || t.text === 'class') put('tos', c.number(t.text, 0xff));
    else if (t.text === 'flowlabel') put('flowlabel', c.number(t.text, 0xfffff));
    else if (t.text === 'dscp') put('dscp', c.isNumber() ? c.number('a DSCP', 63) : named(c, DSCP, 'a DSCP'));
    else if (t.text === 'ecn') put('ecn', named(c, ECN, 'an ECN codepoint (noecn, ect0, ect1, ect01, ce)'));
    else if (ECN.has(t.text)) put('ecn', ECN.get(t.text));
    else if (DSCP.has(t.text)) put('dscp', DSCP.get(t.text));
    else c.fail(IP_INFO, t);
  });
  return out;
}

function named<T>(c: Cursor, names: ReadonlyMap<string, T>, what: string): T {
  const found = c.token.kind === 'word' ? names.get(c.token.text) : undefined;
  if (found === undefined) c.fail(what);
  c.take();
  return found;
}

// ------------------------------------------------------------------------------------------------------------------- sctp

function parseSctp(c: Cursor, prefix: Prefix): SctpPacket {
  const sctpAt = c.at();
  c.take();
  const head: { tag?: number; checksum?: 'bad' | 'zero' } = {};
  if (c.accept('(')) c.list(')', () => parseSctpAttribute(c, prefix, head));
  const udp = c.accept('/') ? parseUdpHead(c) : undefined;
  c.expect(':', ' behind the head of the packet');
  const packet = { transport: 'sctp' as const, ...prefix, sctpAt, tag: head.tag, checksum: head.checksum, udp };
  if (!c.is('[')) return { ...packet, chunks: parseChunks(c, prefix.direction) };
  if (prefix.direction === 'out')
    throw new ParseError(c.at(), 'a packet given as bytes can only be sent, not expected', 'chunks', '[');
  c.take();
  return { ...packet, raw: Uint8Array.from(c.list(']', () => c.number('a byte', 0xff))) };
}

const CHECKSUMS: ReadonlyMap<string, 'bad' | 'zero'> = new Map([
  ['bad_crc32c', 'bad'],
  ['zero_checksum', 'zero'],
]);

function parseSctpAttribute(c: Cursor, prefix: Prefix, head: { tag?: number; checksum?: 'bad' | 'zero' }): void {
  const t = c.token;
  const twice = () => new ParseError(c.at(t), `${t.text} cannot stand here again`);
  const checksum = t.kind === 'word' ? CHECKSUMS.get(t.text.toLowerCase()) : undefined;
  if (c.acceptWord('tag')) {
    if (head.tag !== undefined) throw twice();
    c.expect('=', ' behind tag');
    head.tag = c.number('a verification tag', U32);
  } else if (checksum !== undefined) {
    if (head.checksum !== undefined) throw twice();
    if (checksum === 'bad' && prefix.direction === 'out')
      throw new ParseError(c.at(t), 'bad_crc32c can only be sent, not expected', 'tag= or zero_checksum', t.text);
    c.take();
    head.checksum = checksum;
  } else c.fail('tag=, bad_crc32c or zero_checksum');
}

/** `udp(S > D)`, the slash taken. */
function parseUdpHead(c: Cursor): Ports {
  if (!c.acceptWord('udp')) c.fail('`udp(`');
  c.expect('(', ' behind udp');
  const ports = parsePorts(c);
  c.expect(')');
  return ports;
}

// ------------------------------------------------------------------------------------------------------------------- icmp

/** Does the bracket here open what an ICMP error quotes (and not ip-info)? */
function startsEchoed(c: Cursor): boolean {
  const t = c.peek();
  return t.kind === 'int' || t.kind === 'hex' || (t.kind === 'word' && (t.text === 'sctp' || t.text === 'udp'));
}

/** The quoted part may stand in front of `icmp` (an older order) or at the end. */
function parseIcmp(c: Cursor, prefix: Prefix): IcmpPacket {
  let echoed = c.is('[') ? parseEchoed(c) : undefined;
  const icmpAt = c.at();
  if (!c.acceptWord('icmp')) c.fail('`icmp`');
  const type = parseIcmpWord(c, 'an ICMP type', 'type');
  const known = (t: string, code?: string) =>
    icmpNumbers('ipv4', t, code) !== undefined || icmpNumbers('ipv6', t, code) !== undefined;
  if (!known(type.text)) c.fail('an ICMP type', type);
  const keyword = (): boolean => c.isWord('mtu') || c.isWord('id');
  let code: string | undefined;
  // Only words: a number here is the time of the next event.
  if (c.token.kind === 'word' && !keyword()) {
    const word = parseIcmpWord(c, 'an ICMP code', 'code');
    code = word.text;
    if (!known(type.text, code)) c.fail(`a code of ICMP ${type.text}`, word);
  }
  const rest: { mtu?: number; id?: number } = {};
  while (keyword()) {
    const t = c.take();
    const key = t.text as 'mtu' | 'id';
    if (rest[key] !== undefined) throw new ParseError(c.at(t), `${key} is there twice`);
    rest[key] = c.number(key, key === 'mtu' ? U32 : 0xffff);
  }
  if (echoed === undefined && c.is('[')) echoed = parseEchoed(c);
  return { transport: 'icmp', ...prefix, icmpAt, type: type.text, code, ...rest, echoed };
}

/** A word, or a bare number as `type_N` or `code_N`. */
function parseIcmpWord(c: Cursor, what: string, prefix: 'type' | 'code') {
  if (c.isNumber()) {
    const t = c.token;
    return { ...t, text: `${prefix}_${c.number(what, 0xff)}` };
  }
  return c.expectWord(what);
}

/** `[sctp(VTAG)]`, `[sctp(VTAG)/udp(s > d)]`, `[udp(len)]` or `[start:end(len)]`. */
function parseEchoed(c: Cursor): Echoed {
  c.expect('[');
  let out: Echoed;
  if (c.acceptWord('sctp')) {
    c.expect('(', ' and the verification tag');
    if (c.acceptWord('tag')) c.expect('=', ' behind tag');
    const tag = c.number('a verification tag', U32);
    c.expect(')');
    const udp = c.accept('/') ? parseUdpHead(c) : undefined;
    out = { kind: 'sctp', tag, udp };
  } else if (c.acceptWord('udp')) {
    c.expect('(', ' and a length');
    out = { kind: 'udp', len: c.number('a length', 0xffff) };
    c.expect(')');
  } else {
    const start = c.number('`sctp(TAG)`, `udp(LEN)` or a TCP sequence range', U32);
    c.expect(':', ' in a TCP sequence range');
    const end = c.number('a sequence number', U32);
    c.expect('(', ' and a length');
    out = { kind: 'tcp', start, end, len: c.number('a length', 0xffff) };
    c.expect(')');
  }
  c.expect(']');
  return out;
}
