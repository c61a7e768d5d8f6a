/**
 * A packet that came against the line that expects it (facts part 4.5): headers where the script writes them, chunks after
 * mapping, and what a match leaves for later lines.
 */

import type { IcmpPacket, InitChunk, IpInfo, Packet, SctpPacket } from './ast.js';
import { type Captured, type CapturedIcmp, type CapturedSctp, findParameter, firstChunk } from './capture.js';
import { compareChunks } from './compare.js';
import { decodeChunks } from './decode.js';
import { ScriptError } from './encode.js';
import { icmpNumbers, icmpWords } from './forms.js';
import type { Waiting } from './host.js';
import type { Base, Mapping } from './mapping.js';
import type { Difference } from './result.js';

/** Every difference, and the packet that came as a script would write it. */
export interface Match {
  readonly differences: readonly Difference[];
  readonly shown: Packet;
}

export function matchPacket(want: Packet, got: Waiting, mapping: Mapping): Match {
  const { packet, base } = got;
  if (want.transport === 'sctp' && packet.kind === 'sctp') return matchSctp(want, packet, base, mapping);
  if (want.transport === 'icmp' && packet.kind === 'icmp') return matchIcmp(want, packet, base);
  const [expected, came] = want.transport === 'icmp' ? ['ICMP', 'SCTP'] : ['SCTP', 'ICMP'];
  return { differences: [{ field: 'packet', expected, got: came }], shown: show(want, packet, base) };
}

const add = (out: Difference[], field: string, expected: number | string, got: number | string): void => {
  if (expected !== got) out.push({ field, expected: String(expected), got: String(got) });
};

function layers(p: Packet): string {
  const outer = p.encap.map(e => e.kind.toUpperCase());
  return [
    ...outer,
    'IP',
    ...(p.transport === 'icmp' ? ['ICMP'] : p.udp === undefined ? ['SCTP'] : ['UDP', 'SCTP']),
  ].join('/');
}

function compareIp(ip: IpInfo | undefined, got: Captured, out: Difference[]): void {
  if (ip === undefined) return;
  if (ip.ttl !== undefined) add(out, 'ttl', ip.ttl, got.ttl);
  if (ip.tos !== undefined) add(out, 'tos', ip.tos, got.tos);
  if (ip.dscp !== undefined) add(out, 'dscp', ip.dscp, got.tos >>> 2);
  if (ip.flowlabel !== undefined) add(out, 'flowlabel', ip.flowlabel, got.flowlabel);
  const ecn = got.tos & 3;
  if (ip.ecn === 'ect01') add(out, 'ecn', 'ect0 or ect1', ecn === 1 || ecn === 2 ? 'ect0 or ect1' : ecn);
  else if (ip.ecn !== undefined) add(out, 'ecn', ip.ecn, ecn);
}

/** A packet that came, for people: headers as far as `like` writes them. */
function show(like: Packet, packet: Captured, base: Base | undefined): Packet {
  if (packet.kind === 'icmp') return showIcmp(like, packet, base);
  const want = like.transport === 'sctp' ? like : undefined;
  const chunks = decodeChunks(packet.body, want?.chunks, {
    tsn: n => base?.tsnToScript(n) ?? n,
    tag: n => base?.tagToScript(n) ?? n,
  });
  return {
    at: like.at,
    direction: 'out',
    encap: [],
    ip: showIp(like.ip, packet),
    transport: 'sctp',
    sctpAt: want?.sctpAt ?? like.at,
    chunks,
    udp: packet.udp,
    tag: want?.tag === undefined ? undefined : packet.tag,
    checksum: packet.checksum === 'good' ? undefined : packet.checksum,
  };
}

/** Those fields of the header that the script asks for. */
function showIp(want: IpInfo | undefined, got: Captured): IpInfo | undefined {
  if (want === undefined) return undefined;
  return {
    ttl: want.ttl === undefined ? undefined : got.ttl,
    tos: want.tos === undefined ? undefined : got.tos,
    dscp: want.dscp === undefined ? undefined : got.tos >>> 2,
    ecn: want.ecn === undefined ? undefined : ((got.tos & 3) as 0 | 1 | 2 | 3),
    flowlabel: want.flowlabel === undefined ? undefined : got.flowlabel,
  };
}

function matchSctp(want: SctpPacket, packet: CapturedSctp, base: Base | undefined, mapping: Mapping): Match {
  const chunks = want.chunks ?? [];
  const init = chunks.find((c): c is InitChunk => c.name === 'INIT' || c.name === 'INIT_ACK');
  const first = firstChunk(packet.body);
  if (init !== undefined && base !== undefined && first?.type === (init.name === 'INIT' ? 1 : 2)) {
    const number = (v: unknown) => (typeof v === 'number' ? v : 0);
    mapping.label(base, number(init.tag), number(init.tsn));
  }
  const shown = show(want, packet, base) as SctpPacket;
  const out: Difference[] = [];
  if (want.tag !== undefined) add(out, 'tag', want.tag, packet.tag);
  add(out, 'layers', layers(want), layers(shown));
  if (want.checksum === 'zero') add(out, 'checksum', 'zero', packet.checksum);
  else if (packet.checksum === 'bad') add(out, 'checksum', 'right', 'wrong');
  compareIp(want.ip, packet, out);
  out.push(...compareChunks(chunks, shown.chunks ?? []));
  return { differences: out, shown };
}

/** What a matched packet leaves for later lines: numbers, the cookie, heartbeat information. */
export function learn(got: Waiting, mapping: Mapping): void {
  const { packet, base } = got;
  if (packet.kind !== 'sctp') return;
  const first = firstChunk(packet.body);
  if (base !== undefined && first !== undefined && (first.type === 1 || first.type === 2)) {
    const cookie = first.type === 2 ? findParameter(first.bytes, 20, 7) : undefined;
    mapping.matchedInit(base, first.type === 1, cookie);
  }
  const { body } = packet;
  for (let o = 0; o + 4 <= body.length; ) {
    const len = (body[o + 2]! << 8) | body[o + 3]!;
    if (len < 4 || o + len > body.length) return;
    if (body[o] === 4) mapping.heartbeat = findParameter(body.subarray(o, o + len), 4, 1);
    o += (len + 3) & ~3;
  }
}

const familyOf = (p: CapturedIcmp): 'ipv4' | 'ipv6' => (p.src.family === 4 ? 'ipv4' : 'ipv6');

/** A quoted packet is the peer's: its verification tag is one of ours, which the script has its own number for. */
function quotedTag(p: CapturedIcmp, base: Base | undefined): number | undefined {
  const tag = p.quoted?.tag;
  return tag === undefined ? undefined : (base?.tagToScript(tag) ?? tag);
}

function showIcmp(like: Packet, p: CapturedIcmp, base: Base | undefined): IcmpPacket {
  const want = like.transport === 'icmp' ? like : undefined;
  const words = icmpWords(familyOf(p), p.type, p.code);
  const tag = quotedTag(p, base);
  const echoed: IcmpPacket['echoed'] =
    p.quoted?.udp !== undefined && (want?.echoed?.kind === 'udp' || tag === undefined)
      ? { kind: 'udp', len: p.quoted.udp.len }
      : tag === undefined
        ? undefined
        : { kind: 'sctp', tag, udp: p.quoted?.udp?.ports };
  return {
    at: like.at,
    direction: 'out',
    encap: [],
    ip: showIp(like.ip, p),
    transport: 'icmp',
    icmpAt: want?.icmpAt ?? like.at,
    ...words,
    mtu: want?.mtu === undefined ? undefined : mtuOf(p),
    id: want?.id === undefined ? undefined : p.word >>> 16,
    echoed,
  };
}
const mtuOf = (p: CapturedIcmp): number => (p.src.family === 4 ? p.word & 0xffff : p.word);

function matchIcmp(want: IcmpPacket, p: CapturedIcmp, base: Base | undefined): Match {
  const numbers = icmpNumbers(familyOf(p), want.type, want.code);
  if (numbers === undefined)
    throw new ScriptError(`no ICMP of ${familyOf(p)} is called "${want.type} ${want.code ?? ''}"`, want.icmpAt);
  const shown = showIcmp(want, p, base);
  const out: Difference[] = [];
  if (want.encap.length > 0) add(out, 'layers', layers(want), layers(shown));
  if (p.checksum === 'bad') add(out, 'checksum', 'right', 'wrong');
  compareIp(want.ip, p, out);
  add(out, 'type', numbers.type, p.type);
  add(out, 'code', numbers.code, p.code);
  if (want.mtu !== undefined) add(out, 'mtu', want.mtu, mtuOf(p));
  if (want.id !== undefined) add(out, 'id', want.id, p.word >>> 16);
  const e = want.echoed;
  if (e?.kind === 'sctp') {
    add(out, 'quoted tag', e.tag, quotedTag(p, base) ?? 'none');
    const ports = p.quoted?.udp?.ports;
    if (e.udp !== undefined)
      add(
        out,
        'quoted UDP ports',
        `${e.udp.src} > ${e.udp.dst}`,
        ports === undefined ? 'none' : `${ports.src} > ${ports.dst}`,
      );
  } else if (e?.kind === 'udp') add(out, 'quoted UDP length', e.len + 8, p.quoted?.udp?.len ?? 'none');
  else if (e?.kind === 'tcp') out.push({ field: 'quoted packet', expected: 'TCP', got: 'none' });
  return { differences: out, shown };
}
