/** Packets for the tests of ports: payloads that follow a seed, in the headers that a medium carries. Test support only. */
import assert from 'node:assert/strict';
import { parseAddress } from './address.js';
import { fold16, sum16 } from './headers.js';
import type { End } from './port.contract.js';
import type { Port } from './port.js';

/** Fills [at, end) with seed and bytes that follow from it: seed (4 bytes), length (4), then a pattern. Needs 8 bytes. */
export function writePayload(u8: Uint8Array, at: number, end: number, seed: number): void {
  const n = end - at;
  assert.ok(n >= 8);
  for (let i = 0; i < 4; i++) {
    u8[at + i] = seed >>> (24 - 8 * i);
    u8[at + 4 + i] = n >>> (24 - 8 * i);
  }
  for (let i = 8; i < n; i++) u8[at + i] = (seed * 31 + i * 7) & 255;
}

/** The seed of a payload that is whole, or -1. */
export function readPayload(u8: Uint8Array, at: number, end: number): number {
  if (end - at < 8) return -1;
  const word = (i: number) => ((u8[i]! << 24) | (u8[i + 1]! << 16) | (u8[i + 2]! << 8) | u8[i + 3]!) >>> 0;
  const seed = word(at);
  if (word(at + 4) !== end - at) return -1;
  for (let i = at + 8; i < end; i++) if (u8[i] !== ((seed * 31 + (i - at) * 7) & 255)) return -1;
  return seed;
}

const put16 = (u8: Uint8Array, at: number, v: number) => {
  u8[at] = v >>> 8;
  u8[at + 1] = v;
};
const put32 = (u8: Uint8Array, at: number, v: number) => {
  put16(u8, at, v >>> 16);
  put16(u8, at + 2, v);
};

/** Writes an IPv4 or IPv6 header for the packet [at, end) and returns where its payload begins. */
export function writeIp(u8: Uint8Array, at: number, end: number, from: string, to: string, proto: number): number {
  const source = parseAddress(from)!;
  const target = parseAddress(to)!;
  if (source.family === 4) {
    put32(u8, at, 0x45000000 | (end - at));
    put32(u8, at + 4, 0x4000);
    put32(u8, at + 8, (64 << 24) | (proto << 16));
    put32(u8, at + 12, source.w[3]!);
    put32(u8, at + 16, target.w[3]!);
    put16(u8, at + 10, fold16(sum16(u8, at, at + 20, 0)));
    return at + 20;
  }
  put32(u8, at, 0x60000000);
  put32(u8, at + 4, ((end - at - 40) << 16) | (proto << 8) | 64);
  for (let w = 0; w < 4; w++) {
    put32(u8, at + 8 + 4 * w, source.w[w]!);
    put32(u8, at + 24 + 4 * w, target.w[w]!);
  }
  return at + 40;
}

/** Where the payload of the IP packet at `at` begins. */
const ipPayload = (u8: Uint8Array, at: number) => (u8[at]! >>> 4 === 4 ? at + (u8[at]! & 15) * 4 : at + 40);

/** Ethernet frames of a type of our own (0x88b5, IEEE local experimental), so that a kernel's frames are told apart. */
export function etherEnd(port: Port, to: Uint8Array, from: Uint8Array): End {
  return {
    port,
    write(u8, off, len, seed) {
      u8.set(to, off);
      u8.set(from, off + 6);
      put16(u8, off + 12, 0x88b5);
      writePayload(u8, off + 14, off + len, seed);
    },
    read: (u8, off, len) =>
      len >= 22 && u8[off + 12] === 0x88 && u8[off + 13] === 0xb5 ? readPayload(u8, off + 14, off + len) : -1,
  };
}

/** IP packets of one protocol between two addresses. */
export function ipEnd(port: Port, from: string, to: string, proto: number): End {
  return {
    port,
    write: (u8, off, len, seed) => writePayload(u8, writeIp(u8, off, off + len, from, to, proto), off + len, seed),
    read(u8, off, len) {
      const version = u8[off]! >>> 4;
      if (version === 4 ? u8[off + 9] !== proto : u8[off + 6] !== proto) return -1;
      return readPayload(u8, ipPayload(u8, off), off + len);
    },
  };
}

/** UDP in IP; `fromPort` and `toPort` are asked when a packet is written, for ports that the system chooses. The first 12
 *  bytes of the UDP payload stand for the SCTP common header, in which a port may fill in a checksum. */
export function udpEnd(port: Port, from: string, to: string, fromPort: () => number, toPort: () => number): End {
  return {
    port,
    write(u8, off, len, seed) {
      const l4 = writeIp(u8, off, off + len, from, to, 17);
      put16(u8, l4, fromPort());
      put16(u8, l4 + 2, toPort());
      put16(u8, l4 + 4, off + len - l4);
      put16(u8, l4 + 6, 0);
      u8.fill(0, l4 + 8, l4 + 20);
      writePayload(u8, l4 + 20, off + len, seed);
    },
    read(u8, off, len) {
      const l4 = ipPayload(u8, off);
      const expected = parseAddress(to)!.w[3]! & 255;
      if (u8[l4 - 1] === undefined || off + len - l4 < 28) return -1;
      const source = u8[off]! >>> 4 === 4 ? u8[off + 15]! : u8[off + 23]!;
      const port16 = (u8[l4]! << 8) | u8[l4 + 1]!;
      const length = (u8[l4 + 4]! << 8) | u8[l4 + 5]!;
      if (source !== expected || port16 !== toPort() || length !== off + len - l4) return -1;
      return readPayload(u8, l4 + 20, off + len);
    },
  };
}
