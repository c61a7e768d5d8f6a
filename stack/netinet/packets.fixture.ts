/** Packets as bytes, built apart from the code under test, for the tests of net/ and netinet/. */

import { InAddr } from './in.js';

export const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replace(/[\s|:]/g, ''), 'hex'));
export const concat = (...parts: (Uint8Array | readonly number[])[]): Uint8Array =>
  Uint8Array.from(parts.flatMap(p => [...p]));
export const be16 = (n: number): number[] => [(n >>> 8) & 255, n & 255];
export const be32 = (n: number): number[] => [...be16(n >>> 16), ...be16(n & 0xffff)];

/** An address's bytes on the wire. */
export function addr(text: string): Uint8Array {
  const a = InAddr.of(text);
  const out = new Uint8Array(16);
  return out.slice(0, a.write(new DataView(out.buffer), 0));
}

/** RFC 1071, the slow and obvious way. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return ~sum & 0xffff;
}
/** With pseudo-header. */
export function checksumOver(src: string, dst: string, proto: number, bytes: Uint8Array): number {
  return checksum(concat(addr(src), addr(dst), be32(bytes.length), be32(proto), bytes));
}
const put16 = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
  bytes.set(be16(value), at);
  return bytes;
};

export const MAC_US = [2, 0, 0, 0, 1, 1];
export const MAC_PEER = [2, 0, 0, 0, 9, 9];
export function ether(
  type: number,
  payload: Uint8Array,
  dst: readonly number[] = MAC_US,
  src: readonly number[] = MAC_PEER,
): Uint8Array {
  return concat(dst, src, be16(type), payload);
}
export interface Ip4Options {
  readonly id?: number;
  readonly frag?: number;
  readonly ttl?: number;
  readonly tos?: number;
  readonly options?: Uint8Array;
  readonly total?: number;
}
export function ipv4(src: string, dst: string, proto: number, payload: Uint8Array, o: Ip4Options = {}): Uint8Array {
  const options = o.options ?? new Uint8Array();
  const hlen = 20 + options.length;
  const h = concat(
    [0x40 | (hlen / 4), o.tos ?? 0],
    be16(o.total ?? hlen + payload.length),
    be16(o.id ?? 1),
    be16(o.frag ?? 0),
    [o.ttl ?? 64, proto, 0, 0],
    addr(src),
    addr(dst),
    options,
  );
  return concat(put16(h, 10, checksum(h)), payload);
}
export function ipv6(src: string, dst: string, next: number, payload: Uint8Array, hlim = 64, tos = 0): Uint8Array {
  return concat(
    be32((0x60000000 | (tos << 20)) >>> 0),
    be16(payload.length),
    [next, hlim],
    addr(src),
    addr(dst),
    payload,
  );
}
export function udp(src: string, dst: string, srcPort: number, dstPort: number, data: Uint8Array): Uint8Array {
  const d = concat(be16(srcPort), be16(dstPort), be16(8 + data.length), [0, 0], data);
  return put16(d, 6, checksumOver(src, dst, 17, d) || 0xffff);
}
export function icmp(type: number, code: number, word: number, data: Uint8Array): Uint8Array {
  const d = concat([type, code, 0, 0], be32(word >>> 0), data);
  return put16(d, 2, checksum(d));
}
export function icmp6(
  src: string,
  dst: string,
  type: number,
  code: number,
  word: number,
  data: Uint8Array,
): Uint8Array {
  const d = concat([type, code, 0, 0], be32(word >>> 0), data);
  return put16(d, 2, checksumOver(src, dst, 58, d));
}
export function arp(
  op: number,
  senderMac: readonly number[],
  sender: string,
  targetMac: readonly number[],
  target: string,
): Uint8Array {
  return concat(hex('0001 0800 06 04'), be16(op), senderMac, addr(sender), targetMac, addr(target));
}
export const pattern = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * 7 + (i >>> 8)) & 255);
