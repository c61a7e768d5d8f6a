/**
 * KextPool: the mbuf pool as an extension sees it. The tables are the pool's own, so packets are read and written as fast
 * as anywhere; what gets, frees or hands on an mbuf says whose it is (MbufPool.owner), so that one freed twice, freed after
 * it was passed on, or kept for ever is found and laid to the door of the extension that did it.
 */

import { HEADROOM, M_NULL, type Mbuf, type MbufPool } from './mbuf.js';

/** An extension has broken a rule of the kernel programming interface. The message says which. */
export class KextFault extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'KextFault';
  }
}

/** Tags of extensions: 0 is the stack, so at most 255 of them. */
export const MAX_TAG = 255;
/** Mbufs that an extension may hold at once unless its loader says otherwise; more, and its filter is taken out. */
export const MAX_HELD = 1024;

export class KextPool {
  readonly tag: number;
  /** Mbufs that it may hold at once. */
  readonly limit: number;
  /** The pool's tables (mbuf.ts): region, data offset and length, links, packet header. */
  readonly u8: Uint8Array;
  readonly dv: DataView;
  readonly base: Int32Array;
  readonly size: Int32Array;
  readonly off: Int32Array;
  readonly len: Int32Array;
  readonly next: Int32Array;
  readonly nextpkt: Int32Array;
  readonly pktlen: Int32Array;
  readonly rcvif: Int32Array;
  readonly csum: Int32Array;
  readonly segsz: Int32Array;
  readonly hdrlen: Int32Array;
  readonly flow: Int32Array;
  /** Mbufs it has got from the pool and frees it has made, and gets refused because it held too many or the pool was empty. */
  readonly counters = { allocated: 0, freed: 0, refused: 0 };
  readonly #pool: MbufPool;
  #closed = false;

  constructor(pool: MbufPool, tag: number, limit = MAX_HELD) {
    this.#pool = pool;
    this.tag = tag;
    this.limit = limit;
    this.u8 = pool.u8;
    this.dv = pool.dv;
    this.base = pool.base;
    this.size = pool.size;
    this.off = pool.off;
    this.len = pool.len;
    this.next = pool.next;
    this.nextpkt = pool.nextpkt;
    this.pktlen = pool.pktlen;
    this.rcvif = pool.rcvif;
    this.csum = pool.csum;
    this.segsz = pool.segsz;
    this.hdrlen = pool.hdrlen;
    this.flow = pool.flow;
  }

  /** Mbufs that the extension holds now. */
  get held(): number {
    return this.#pool.held[this.tag]!;
  }
  /** True when the mbuf is this extension's to use. */
  owns(m: Mbuf): boolean {
    return this.#pool.owner[m] === this.tag;
  }

  #may(): boolean {
    if (this.#closed) throw new KextFault('this extension is unloaded: it has no mbufs any more');
    if (this.#pool.held[this.tag]! < this.limit) return true;
    this.counters.refused++;
    return false;
  }
  #got(m: Mbuf): Mbuf {
    if (m === M_NULL) this.counters.refused++;
    else {
      this.counters.allocated++;
      this.#pool.assign(m, this.tag);
    }
    return m;
  }
  /** Throws KextFault unless the mbuf is this extension's. */
  #own(m: Mbuf, verb: string): void {
    if (this.#pool.owner[m] === this.tag) return;
    throw new KextFault(
      this.#pool.isLive(m)
        ? `${verb} mbuf ${m}, which is not its own (passed on before?)`
        : `${verb} mbuf ${m}, which is free (freed twice?)`,
    );
  }

  /** As MbufPool's: an empty mbuf, or M_NULL when there is none or the extension holds as many as it may. */
  getSmall(headroom = HEADROOM): Mbuf {
    return this.#may() ? this.#got(this.#pool.getSmall(headroom)) : M_NULL;
  }
  getCluster(headroom = HEADROOM): Mbuf {
    return this.#may() ? this.#got(this.#pool.getCluster(headroom)) : M_NULL;
  }
  getJumbo(headroom = HEADROOM): Mbuf {
    return this.#may() ? this.#got(this.#pool.getJumbo(headroom)) : M_NULL;
  }
  get(bytes: number, headroom = HEADROOM): Mbuf {
    return this.#may() ? this.#got(this.#pool.get(bytes, headroom)) : M_NULL;
  }
  /** A packet holding a copy of src[off, off+n), or M_NULL. */
  fromBytes(src: Uint8Array, off = 0, n = src.length - off, headroom = HEADROOM): Mbuf {
    return this.#may() ? this.#got(this.#pool.fromBytes(src, off, n, headroom)) : M_NULL;
  }

  /** Frees one mbuf and returns the rest of its chain. Throws KextFault for one that is not the extension's. */
  free(m: Mbuf): Mbuf {
    this.#own(m, 'frees');
    this.counters.freed++;
    return this.#pool.free(m);
  }
  /** Frees a chain. */
  freem(m: Mbuf): void {
    while (m !== M_NULL) m = this.free(m);
  }
  isLive(m: Mbuf): boolean {
    return this.#pool.isLive(m);
  }

  leading(m: Mbuf): number {
    return this.#pool.leading(m);
  }
  trailing(m: Mbuf): number {
    return this.#pool.trailing(m);
  }
  /** As MbufPool's; the new head, if there is one, is the extension's. M_NULL: the packet has been freed. */
  prepend(m: Mbuf, n: number): Mbuf {
    this.#own(m, 'prepends to');
    const h = this.#pool.prepend(m, n);
    if (h !== m && h !== M_NULL) this.#got(h);
    return h;
  }
  pullup(m: Mbuf): Mbuf {
    this.#own(m, 'pulls up');
    const h = this.#pool.pullup(m);
    if (h !== m && h !== M_NULL) this.#got(h);
    return h;
  }
  pullupTo(m: Mbuf, n: number): Mbuf {
    this.#own(m, 'pulls up');
    const h = this.#pool.pullupTo(m, n);
    if (h !== m && h !== M_NULL) this.#got(h);
    return h;
  }
  adj(m: Mbuf, n: number): void {
    this.#pool.adj(m, n);
  }
  trim(m: Mbuf, total: number): void {
    this.#own(m, 'trims');
    this.#pool.trim(m, total);
  }
  segments(m: Mbuf): number {
    return this.#pool.segments(m);
  }
  copyHeader(to: Mbuf, from: Mbuf): void {
    this.#pool.copyHeader(to, from);
  }
  copydata(m: Mbuf, skip: number, n: number, to: number): number {
    return this.#pool.copydata(m, skip, n, to);
  }
  copyout(m: Mbuf, skip: number, n: number, out: Uint8Array, outOff: number): number {
    return this.#pool.copyout(m, skip, n, out, outOff);
  }
  /** A copy of a packet's bytes (allocates). */
  toBytes(m: Mbuf): Uint8Array {
    return this.#pool.toBytes(m);
  }

  // For who calls the extension, and for what it hands packets to

  /** The stack lends the extension a packet: it is the extension's until given back. */
  lend(m: Mbuf): void {
    this.#pool.assign(m, this.tag);
  }
  /** The extension hands a packet on: it is the stack's again. Throws KextFault when it was not the extension's. */
  giveUp(m: Mbuf): void {
    this.#own(m, 'passes on');
    this.#pool.assign(m, 0);
  }
  /** Frees what the extension still holds and closes its account. Returns how many mbufs they were. */
  close(): number {
    this.#closed = true;
    return this.#pool.reclaim(this.tag);
  }
}
