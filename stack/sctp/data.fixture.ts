/**
 * For tests of one side alone: host a with an association set up in earnest, whose peer is then replaced by the test. What a
 * sends is recorded as chunks, what it receives is what the test injects, packet by packet, in virtual time.
 */

import assert from 'node:assert/strict';
import { CSUM_L3_OK, CSUM_L4_OK, CSUM_SCTP_OK } from '../kern/mbuf.js';
import { IpInfo } from '../kern/protosw.js';
import type { SendInfo, Socket } from '../kern/socket.js';
import type { NotificationType } from './api.js';
import type { Association } from './association.js';
import { COMMON_HEADER, DATA, ECNE, pad4, SACK } from './constants.js';
import type { Endpoint } from './endpoint.js';
import { check, type PairOptions, SctpPair, sendInfo } from './harness.js';
import { checkInvariants } from './invariants.js';
import type { Sctp } from './sctp.js';
import { ByteWriter } from './wire.js';

/** A chunk that was sent. */
export interface Sent {
  readonly type: number;
  readonly flags: number;
  /** The whole chunk, header included, padding not. */
  readonly bytes: Uint8Array;
  readonly dv: DataView;
  /** Packet number, link it left by, its ECN bits, when. */
  readonly packet: number;
  readonly link: number;
  readonly ecn: number;
  readonly at: number;
  /** DATA: TSN less the first one; -1 for others. */
  readonly tsn: number;
}

export class Puppet {
  readonly pair: SctpPair;
  readonly so: Socket;
  readonly s: Sctp;
  readonly a: Association;
  /** Chunks sent since the last `take`. */
  #sent: Sent[] = [];
  #packets = 0;
  /** First TSN of ours, and of the peer. */
  readonly first: number;
  readonly peerFirst: number;

  constructor(
    options: PairOptions & { readonly tune?: (so: Socket) => void; readonly events?: readonly NotificationType[] } = {},
  ) {
    const pair = (this.pair = new SctpPair({ pool: { small: 512, cluster: 1024, jumbo: 8 }, ...options }));
    const [c] = pair.connect(options.events ?? [], options.tune);
    pair.net.run(1e9); // heartbeats confirm the other paths
    this.so = c;
    this.s = pair.kexts[0].sctp!;
    this.a = (c.pcb as Endpoint).only!;
    this.a.nodelay = true;
    this.first = this.a.nextTsn;
    this.peerFirst = (this.a.cumTsn + 1) | 0;
    for (const [i, l] of pair.links.entries()) {
      l.options = { ...l.options, loss: () => true, delay: 0 };
      l.onFrame = (from, frame, at) => {
        if (from === pair.a) this.#record(frame, i, at);
      };
    }
  }
  get now(): number {
    return this.pair.net.clock.now;
  }

  #record(frame: Uint8Array, link: number, at: number): void {
    const dv = new DataView(frame.buffer, frame.byteOffset, frame.length);
    assert.equal(dv.getUint16(12), 0x0800, 'the fixture reads plain IPv4');
    if (dv.getUint8(23) !== 132 || (dv.getUint16(20) & 0x1fff) !== 0) return; // not SCTP, or a later fragment
    const packet = this.#packets++;
    const end = Math.min(14 + dv.getUint16(16), frame.length);
    for (let o = 14 + 20 + COMMON_HEADER; o + 4 <= end; ) {
      const len = dv.getUint16(o + 2);
      const bytes = frame.slice(o, Math.min(o + len, end));
      const type = bytes[0]!;
      const view = new DataView(bytes.buffer);
      const tsn = type === DATA ? (view.getInt32(4) - this.first) | 0 : -1;
      this.#sent.push({ type, flags: bytes[1]!, bytes, dv: view, packet, link, ecn: dv.getUint8(15) & 3, at, tsn });
      o += pad4(len);
    }
  }
  /** Takes what was sent since the last call, after letting everything due now happen. */
  take(): Sent[] {
    this.pair.net.run(0);
    checkInvariants(this.s);
    const out = this.#sent;
    this.#sent = [];
    return out;
  }
  /** TSNs (less the first one) of the DATA sent since the last call. */
  tsns(): number[] {
    return this.take()
      .filter(c => c.type === DATA)
      .map(c => c.tsn);
  }
  run(ns: number): this {
    this.pair.net.run(ns);
    checkInvariants(this.s);
    return this;
  }
  /** Queues `n` messages of so many bytes. */
  send(bytes: number, n = 1, over: Partial<SendInfo> = {}): this {
    for (let i = 0; i < n; i++) check(this.so.send(new Uint8Array(bytes).fill(7), 0, bytes, sendInfo(over)));
    return this;
  }

  /** A packet from the peer's address of link `link`: chunks behind a good common header. */
  inject(chunks: readonly Uint8Array[], link = 0, tos = 0): this {
    const w = new ByteWriter().u16(this.a.peerPort).u16(this.a.localPort).u32(this.a.myTag).u32(0);
    for (const c of chunks) w.bytes(c);
    const bytes = w.take();
    const pool = this.pair.a.pool;
    const m = pool.fromBytes(bytes, 0, bytes.length, 64);
    pool.csum[m] = CSUM_L3_OK | CSUM_L4_OK | CSUM_SCTP_OK;
    const p = this.a.paths[link]!;
    const info = new IpInfo();
    info.src.copy(p.addr);
    info.dst.copy(p.source);
    info.tos = tos;
    this.s.input(m, info);
    this.pair.net.run(0);
    if (!this.a.dead) checkInvariants(this.s);
    return this;
  }
  /** A SACK up to TSN `cum` (less the first one; -1 = nothing), gap blocks as pairs of TSNs, and a window. */
  sackChunk(
    cum: number,
    gaps: readonly (readonly [number, number])[] = [],
    arwnd = 200_000,
    dups: readonly number[] = [],
  ): Uint8Array {
    return new ByteWriter()
      .chunk(SACK, 0, w => {
        w.u32((this.first + cum) >>> 0)
          .u32(arwnd)
          .u16(gaps.length)
          .u16(dups.length);
        for (const [from, to] of gaps) w.u16(from - cum).u16(to - cum);
        for (const d of dups) w.u32((this.first + d) >>> 0);
      })
      .take();
  }
  sack(cum: number, gaps: readonly (readonly [number, number])[] = [], arwnd = 200_000, link = 0): this {
    return this.inject([this.sackChunk(cum, gaps, arwnd)], link);
  }
  /** A DATA chunk of the peer: TSN less its first one; flags default to a whole message. */
  dataChunk(
    tsn: number,
    o: { sid?: number; ssn?: number; flags?: number; bytes?: number; fill?: number } = {},
  ): Uint8Array {
    const body = new Uint8Array(o.bytes ?? 4).fill(o.fill ?? tsn & 255);
    return new ByteWriter()
      .chunk(DATA, o.flags ?? 3, w =>
        w
          .u32((this.peerFirst + tsn) >>> 0)
          .u16(o.sid ?? 0)
          .u16(o.ssn ?? tsn & 0xffff)
          .u32(0)
          .bytes(body),
      )
      .take();
  }
  data(tsn: number, o: Parameters<Puppet['dataChunk']>[1] = {}, link = 0, tos = 0): this {
    return this.inject([this.dataChunk(tsn, o)], link, tos);
  }
  /** The SACKs among chunks, decoded: TSNs less the peer's first one. */
  sacks(
    list = this.take(),
  ): { cum: number; arwnd: number; gaps: number[][]; dups: number[]; link: number; at: number }[] {
    return list
      .filter(c => c.type === SACK)
      .map(({ dv, link, at }) => {
        const cum = (dv.getInt32(4) - this.peerFirst) | 0;
        const gaps = Array.from({ length: dv.getUint16(12) }, (_, i) => [
          cum + dv.getUint16(16 + 4 * i),
          cum + dv.getUint16(18 + 4 * i),
        ]);
        const dups = Array.from(
          { length: dv.getUint16(14) },
          (_, i) => (dv.getInt32(16 + 4 * (gaps.length + i)) - this.peerFirst) | 0,
        );
        return { cum, arwnd: dv.getUint32(8), gaps, dups, link, at };
      });
  }
  /** ECNE or CWR of the peer about TSN `tsn` (less our first one, or the peer's). */
  ecnChunk(type: number, tsn: number): Uint8Array {
    return new ByteWriter()
      .chunk(type, 0, w => w.u32(((type === ECNE ? this.first : this.peerFirst) + tsn) >>> 0))
      .take();
  }
}
