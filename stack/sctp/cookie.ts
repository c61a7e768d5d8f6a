/**
 * The state cookie (RFC 9260 §5.1.3, §5.1.5): everything needed to make the association, signed with HMAC-SHA-256 under
 * one of two secrets, so that a half-open association costs no memory here. It carries a copy of the peer's INIT.
 *
 * Layout (big endian): signature 32 | version 1, flags 1 (bit 0 ECN, bit 1 IPv6 addresses), in streams 2 | my tag 4 |
 * peer tag 4 | tie-tag local 4 | tie-tag peer 4 | my initial TSN 4 | life ms 4 | local port 2 | peer port 2 |
 * encapsulation port 2, out streams 2 | created (ns, float64) 8 | source address 16 | destination address 16 | INIT chunk
 */

import { hash, timingSafeEqual } from 'node:crypto';
import { type Clock, MSEC, type Random, SEC } from '../kern/clock.js';
import { InAddr } from '../netinet/in.js';
import type { Tunables } from './tunables.js';
import { ByteWriter } from './wire.js';

export interface CookieFields {
  ecn: boolean;
  inStreams: number;
  outStreams: number;
  myTag: number;
  peerTag: number;
  tieLocal: number;
  tiePeer: number;
  myTsn: number;
  lifeMs: number;
  localPort: number;
  peerPort: number;
  encapsPort: number;
  created: number;
  /** Source of the INIT, and our address that it was sent to. */
  src: InAddr;
  dst: InAddr;
  /** The INIT chunk as received; from `open`, a part of the cookie itself. */
  init: Uint8Array;
}

const SIGNATURE = 32;
const FIXED = SIGNATURE + 80;
const VERSION = 1;

/** SHA-256 works on blocks of so many bytes; a key is filled up with zeros to one (RFC 2104 §2). */
const BLOCK = 64;
/** Longest body signed without making the buffer larger. */
const BODY = 1024;

/**
 * HMAC-SHA-256 (RFC 2104) under one key, out of two one-shot hashes: node:crypto's Hmac is a stream, an object with a
 * finaliser each time, and cookies are made for whoever asks.
 */
class Hmac {
  readonly key = new Uint8Array(32);
  /** Key XOR ipad, then the body; key XOR opad, then the inner hash. */
  #inner = Buffer.alloc(BLOCK + BODY);
  readonly #outer = Buffer.alloc(BLOCK + SIGNATURE);

  /** `key` has been written. */
  keyed(): void {
    for (let i = 0; i < BLOCK; i++) {
      this.#inner[i] = (this.key[i] ?? 0) ^ 0x36;
      this.#outer[i] = (this.key[i] ?? 0) ^ 0x5c;
    }
  }
  /** Writes the signature of bytes from `from` on to the beginning of `to`. */
  sign(bytes: Uint8Array, from: number, to: Uint8Array): void {
    const n = BLOCK + bytes.length - from;
    if (n > this.#inner.length) {
      const bigger = Buffer.alloc(n);
      bigger.set(this.#inner.subarray(0, BLOCK));
      this.#inner = bigger;
    }
    const inner = this.#inner.subarray(0, n);
    inner.set(from === 0 ? bytes : bytes.subarray(from), BLOCK);
    this.#outer.write(hash('sha256', inner, 'binary'), BLOCK, 'latin1');
    const s = hash('sha256', this.#outer, 'binary');
    for (let i = 0; i < SIGNATURE; i++) to[i] = s.charCodeAt(i);
  }
}

export class CookieJar {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #tunables: Tunables;
  readonly #secrets: readonly [Hmac, Hmac];
  /** What is computed and what was given, to be compared. */
  readonly #signature = new Uint8Array(SIGNATURE);
  readonly #given = new Uint8Array(SIGNATURE);
  #madeAt: number;

  constructor(clock: Clock, random: Random, tunables: Tunables) {
    this.#clock = clock;
    this.#random = random;
    this.#tunables = tunables;
    this.#secrets = [new Hmac(), new Hmac()];
    for (const s of this.#secrets) {
      random.fill(s.key);
      s.keyed();
    }
    this.#madeAt = clock.now;
  }

  /** Makes a new secret; the old one still verifies until the next rotation. */
  rotate(): void {
    const [now, before] = this.#secrets;
    before.key.set(now.key);
    before.keyed();
    this.#random.fill(now.key);
    now.keyed();
    this.#madeAt = this.#clock.now;
  }

  make(f: CookieFields): Uint8Array {
    if (this.#clock.now - this.#madeAt >= this.#tunables.secret_lifetime * SEC) this.rotate();
    const w = new ByteWriter();
    const v6 = f.src.family === 6;
    for (let i = 0; i < SIGNATURE; i += 8) w.f64(0);
    w.u8(VERSION)
      .u8((f.ecn ? 1 : 0) | (v6 ? 2 : 0))
      .u16(f.inStreams);
    w.u32(f.myTag).u32(f.peerTag).u32(f.tieLocal).u32(f.tiePeer).u32(f.myTsn).u32(f.lifeMs);
    w.u16(f.localPort).u16(f.peerPort).u16(f.encapsPort).u16(f.outStreams).f64(f.created);
    w.u32(f.src.w0).u32(f.src.w1).u32(f.src.w2).u32(f.src.w3);
    w.u32(f.dst.w0).u32(f.dst.w1).u32(f.dst.w2).u32(f.dst.w3);
    w.u32(0); // keeps FIXED a multiple of 8
    w.bytes(f.init);
    const bytes = w.take();
    this.#secrets[0].sign(bytes, SIGNATURE, bytes);
    return bytes;
  }

  /** The fields of a cookie with a good signature, or undefined. Life is not judged here (see `staleness`). */
  open(bytes: Uint8Array): CookieFields | undefined {
    if (bytes.length < FIXED + 20) return undefined;
    const given = this.#given;
    for (let i = 0; i < SIGNATURE; i++) given[i] = bytes[i]!;
    const [now, before] = this.#secrets;
    now.sign(bytes, SIGNATURE, this.#signature);
    if (!timingSafeEqual(this.#signature, given)) {
      before.sign(bytes, SIGNATURE, this.#signature);
      if (!timingSafeEqual(this.#signature, given)) return undefined;
    }
    const dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (bytes[32] !== VERSION) return undefined;
    const family = (bytes[33]! & 2) !== 0 ? 6 : 4;
    const addr = (o: number) =>
      new InAddr(family, dv.getInt32(o), dv.getInt32(o + 4), dv.getInt32(o + 8), dv.getInt32(o + 12));
    return {
      ecn: (bytes[33]! & 1) !== 0,
      inStreams: dv.getUint16(34),
      myTag: dv.getUint32(36),
      peerTag: dv.getUint32(40),
      tieLocal: dv.getUint32(44),
      tiePeer: dv.getUint32(48),
      myTsn: dv.getInt32(52),
      lifeMs: dv.getUint32(56),
      localPort: dv.getUint16(60),
      peerPort: dv.getUint16(62),
      encapsPort: dv.getUint16(64),
      outStreams: dv.getUint16(66),
      created: dv.getFloat64(68),
      src: addr(76),
      dst: addr(92),
      init: bytes.subarray(FIXED),
    };
  }

  /** Microseconds by which a cookie has outlived its life; 0 = still good; undefined = from the future. */
  staleness(f: CookieFields): number | undefined {
    const age = this.#clock.now - f.created;
    if (age < 0) return undefined;
    const over = age - f.lifeMs * MSEC;
    return over <= 0 ? 0 : Math.ceil(over / 1000);
  }
}
