/**
 * mbuf: pooled packet memory, after BSD's mbuf(9).
 *
 * An mbuf is a small positive integer: an index into the pool's typed arrays, never an object. 0 is "no mbuf".
 * All data lies in one region that the card sees too, so a descriptor's address is `pool.off[m]` and nothing is copied
 * between driver and stack. Three sizes: small (headers, control), cluster (one packet), jumbo (a train of packets).
 *
 * Ownership: one owner at a time. A function that takes an mbuf owns it, and must pass it on or free it; who frees a
 * packet that was to be delivered counts why. A chain is linked by `next`, a queue of packets by `nextpkt`.
 */

import { bcopy, bcopyin } from './bytes.js';

export type Mbuf = number;
export const M_NULL: Mbuf = 0;

/** Checksum and offload flags of a packet header (`pool.csum`), named after mbuf(9)'s CSUM_*. */
export const CSUM_L3_OK = 0x01; // received: IP header checksum checked or trusted
export const CSUM_L4_OK = 0x02; // received: UDP/TCP/ICMP checksum checked or trusted
export const CSUM_SCTP_OK = 0x04; // received: CRC32c of every SCTP packet in this mbuf was good
export const CSUM_SCTP_BAD = 0x08; // received: the card found a bad CRC32c
export const CSUM_SCTP = 0x10; // transmit: the card is to fill in CRC32c
export const CSUM_UDP = 0x20; // transmit: the card is to fill in the UDP checksum
export const CSUM_IP = 0x40; // transmit: the card is to fill in the IPv4 header checksum
export const M_BCAST = 0x100; // received as link-layer broadcast
export const M_MCAST = 0x200; // received as link-layer multicast
export const M_LOOP = 0x400; // came back from a loopback interface

export const SMALL_BYTES = 256;
export const CLUSTER_BYTES = 2048;
export const JUMBO_BYTES = 65536 + 512;

/** Room left in front of a freshly made packet, enough for Ethernet + VLAN + IPv6 + UDP + options. */
export const HEADROOM = 96;

export interface MbufPoolSizes {
  readonly small: number;
  readonly cluster: number;
  readonly jumbo: number;
}

/**
 * The columns of `words`, in their order: column c of mbuf m is words[c * stride + m]. For loops over many mbufs and many
 * columns, in which one array costs less than ten.
 */
export const MB_BASE = 0;
export const MB_SIZE = 1;
export const MB_OFF = 2;
export const MB_LEN = 3;
export const MB_NEXT = 4;
export const MB_NEXTPKT = 5;
export const MB_PKTLEN = 6;
export const MB_RCVIF = 7;
export const MB_CSUM = 8;
export const MB_SEGSZ = 9;
export const MB_HDRLEN = 10;
export const MB_FLOW = 11;
const COLUMNS = 13; // and the one of the kept views
/** Words between columns: so many that entries of the same mbuf do not fall into the same sets of a cache. */
const strideOf = (count: number): number => ((count + 1 + 1023) & ~1023) + 80;

export const DEFAULT_POOL: MbufPoolSizes = { small: 8192, cluster: 12288, jumbo: 256 };

export class MbufPool {
  readonly u8: Uint8Array;
  readonly dv: DataView;
  /** Number of mbufs, index 1..count. */
  readonly count: number;

  /** All columns one behind the other, see MB_BASE; those by name are views of it. */
  readonly words: Int32Array;
  readonly stride: number;

  /** First byte of the buffer, and its size. Constant. */
  readonly base: Int32Array;
  readonly size: Int32Array;
  /** First byte of the data (absolute in the region) and its length in this mbuf. */
  readonly off: Int32Array;
  readonly len: Int32Array;
  readonly next: Int32Array;
  readonly nextpkt: Int32Array;

  // Packet header, valid in the first mbuf of a packet.
  readonly pktlen: Int32Array;
  readonly rcvif: Int32Array; // index of the receiving interface
  readonly csum: Int32Array; // CSUM_* and M_* flags
  readonly segsz: Int32Array; // tso_segsz: payload bytes per segment of a train, 0 = one packet
  readonly hdrlen: Int32Array; // header bytes in front of a train's payload, counted from off
  readonly flow: Int32Array; // flow id (RSS hash)

  /** Whose each mbuf is: 0 = the stack's, else the tag of an extension's account (kpipool.ts). A free one has 0. */
  readonly owner: Uint8Array;
  /** Mbufs that each tag holds now; [0] is not kept. */
  readonly held = new Int32Array(256);

  /** Allocations that found the pool empty, by class. */
  readonly failed = { small: 0, cluster: 0, jumbo: 0 };

  /** Columns of bytes, `stride` apart: live, owner, class. */
  readonly #bytes: Uint8Array;
  readonly #live: Uint8Array;
  readonly #views: (Uint8Array | undefined)[];
  readonly #viewOff: Int32Array;
  readonly #class: Uint8Array; // 0 small, 1 cluster, 2 jumbo
  readonly #free: readonly [Int32Array, Int32Array, Int32Array];
  readonly #top: Int32Array; // number of free ones per class
  readonly #total: readonly [number, number, number];

  /** Bytes of region that a pool of these sizes needs. */
  static bytes(sizes: MbufPoolSizes): number {
    return sizes.small * SMALL_BYTES + sizes.cluster * CLUSTER_BYTES + sizes.jumbo * JUMBO_BYTES;
  }

  /** A pool in `buffer` from byte `offset` (8-byte aligned) on. Throws RangeError when the buffer is too small. */
  constructor(sizes: MbufPoolSizes = DEFAULT_POOL, buffer?: ArrayBufferLike, offset = 0) {
    const bytes = MbufPool.bytes(sizes);
    const region = buffer ?? new ArrayBuffer(bytes);
    if (offset % 8 !== 0 || offset + bytes > region.byteLength)
      throw new RangeError('mbuf pool does not fit its region');
    this.u8 = new Uint8Array(region);
    this.dv = new DataView(region);
    const n = (this.count = sizes.small + sizes.cluster + sizes.jumbo);
    const stride = (this.stride = strideOf(n));
    const words = (this.words = new Int32Array(COLUMNS * stride));
    let columns = 0;
    const column = () => {
      const from = columns++ * stride;
      return words.subarray(from, from + n + 1);
    };
    this.base = column();
    this.size = column();
    this.off = column();
    this.len = column();
    this.next = column();
    this.nextpkt = column();
    this.pktlen = column();
    this.rcvif = column();
    this.csum = column();
    this.segsz = column();
    this.hdrlen = column();
    this.flow = column();
    const bytesOf = (this.#bytes = new Uint8Array(3 * stride));
    this.#live = bytesOf.subarray(0, n + 1);
    this.owner = bytesOf.subarray(stride, stride + n + 1);
    this.#views = new Array<Uint8Array | undefined>(n + 1).fill(undefined);
    this.#viewOff = column();
    this.#class = bytesOf.subarray(2 * stride, 2 * stride + n + 1);
    this.#free = [new Int32Array(sizes.small), new Int32Array(sizes.cluster), new Int32Array(sizes.jumbo)];
    this.#total = [sizes.small, sizes.cluster, sizes.jumbo];
    this.#top = new Int32Array(3);
    let at = offset;
    let m = 1;
    for (const [cls, bytesEach] of [SMALL_BYTES, CLUSTER_BYTES, JUMBO_BYTES].entries()) {
      const total = this.#total[cls]!;
      for (let i = 0; i < total; i++, m++, at += bytesEach) {
        this.base[m] = at;
        this.size[m] = bytesEach;
        this.#class[m] = cls;
      }
      // The lowest index is handed out first.
      for (let i = 0; i < total; i++) this.#free[cls]![i] = m - 1 - i;
      this.#top[cls] = total;
    }
  }

  /** Mbufs now in use, by class: a test that ends where it began has leaked nothing. */
  get inUse(): { small: number; cluster: number; jumbo: number } {
    return {
      small: this.#total[0] - this.#top[0]!,
      cluster: this.#total[1] - this.#top[1]!,
      jumbo: this.#total[2] - this.#top[2]!,
    };
  }
  get totals(): { small: number; cluster: number; jumbo: number } {
    return { small: this.#total[0], cluster: this.#total[1], jumbo: this.#total[2] };
  }
  get freeSmall(): number {
    return this.#top[0]!;
  }
  get freeClusters(): number {
    return this.#top[1]!;
  }
  get freeJumbos(): number {
    return this.#top[2]!;
  }

  #take(cls: number, headroom: number): Mbuf {
    const top = this.#top[cls]! - 1;
    if (top < 0) return M_NULL;
    this.#top[cls] = top;
    const m = this.#free[cls]![top]!;
    this.#live[m] = 1;
    this.off[m] = this.base[m]! + headroom;
    this.len[m] = 0;
    this.next[m] = 0;
    this.nextpkt[m] = 0;
    this.pktlen[m] = 0;
    this.rcvif[m] = 0;
    this.csum[m] = 0;
    this.segsz[m] = 0;
    this.hdrlen[m] = 0;
    this.flow[m] = 0;
    return m;
  }

  /** An empty mbuf of 256 bytes with `headroom` bytes left in front, or M_NULL (counted) when none is free. */
  getSmall(headroom = HEADROOM): Mbuf {
    const m = this.#take(0, headroom);
    if (m === M_NULL) this.failed.small++;
    return m;
  }
  /** An empty mbuf of 2,048 bytes, or M_NULL. */
  getCluster(headroom = HEADROOM): Mbuf {
    const m = this.#take(1, headroom);
    if (m === M_NULL) this.failed.cluster++;
    return m;
  }
  /** An empty mbuf of 64 KiB + 512, or M_NULL. */
  getJumbo(headroom = HEADROOM): Mbuf {
    const m = this.#take(2, headroom);
    if (m === M_NULL) this.failed.jumbo++;
    return m;
  }
  /** The smallest mbuf that holds headroom + bytes, larger ones when the class is empty, or M_NULL. */
  get(bytes: number, headroom = HEADROOM): Mbuf {
    const need = bytes + headroom;
    let m = need <= SMALL_BYTES ? this.#take(0, headroom) : M_NULL;
    if (m === M_NULL && need <= CLUSTER_BYTES) m = this.#take(1, headroom);
    if (m === M_NULL && need <= JUMBO_BYTES) m = this.#take(2, headroom);
    if (m === M_NULL) {
      if (need <= SMALL_BYTES) this.failed.small++;
      else if (need <= CLUSTER_BYTES) this.failed.cluster++;
      else this.failed.jumbo++;
    }
    return m;
  }

  /**
   * Up to n empty mbufs as `get` gives them, into list[0..]: what a sender of a burst asks for. Returns how many there were;
   * fewer than n is counted as a failure once.
   */
  getRun(list: Int32Array, n: number, bytes: number, headroom = HEADROOM): number {
    const need = bytes + headroom;
    let k = need <= SMALL_BYTES ? this.#takeRun(list, n, 0, headroom) : 0;
    if (k < n && need <= CLUSTER_BYTES) k += this.#takeRun(list, n, 1, headroom, k);
    for (; k < n; k++) {
      const m = this.get(bytes, headroom);
      if (m === M_NULL) break;
      list[k] = m;
    }
    return k;
  }
  /** Mbufs of one class into list[k, n), as far as there are any. Returns how many. (A loop without calls.) */
  #takeRun(list: Int32Array, n: number, cls: number, headroom: number, k = 0): number {
    const { words, stride } = this;
    const live = this.#live;
    const stack = this.#free[cls]!;
    const top = this.#top[cls]!;
    const count = Math.min(n - k, top);
    for (let i = 0; i < count; i++) {
      const m = stack[top - 1 - i]!;
      list[k + i] = m;
      live[m] = 1;
      let w = m + 2 * stride;
      words[w] = words[m]! + headroom; // off, from base
      words[(w += stride)] = 0; // len, next, nextpkt, pktlen, rcvif, csum, segsz, hdrlen, flow
      words[(w += stride)] = 0;
      words[(w += stride)] = 0;
      words[(w += stride)] = 0;
      words[(w += stride)] = 0;
      words[(w += stride)] = 0;
      words[(w += stride)] = 0;
      words[(w += stride)] = 0;
      words[w + stride] = 0;
    }
    this.#top[cls] = top - count;
    return count;
  }
  /**
   * Up to n clusters, or jumbos, for a receive ring, into list[0..]. Nothing is known of them but the buffer (`base`, `size`)
   * and that nothing is chained to them: who hands one up sets off, len, nextpkt and the whole packet header. Returns
   * how many there were; fewer than n is counted as a failure once.
   */
  takeRun(list: Int32Array, n: number, jumbo: boolean): number {
    const cls = jumbo ? 2 : 1;
    const stack = this.#free[cls]!;
    const live = this.#live;
    const { next } = this;
    let top = this.#top[cls]!;
    const count = Math.min(n, top);
    for (let k = 0; k < count; k++) {
      const m = stack[--top]!;
      live[m] = 1;
      next[m] = 0;
      list[k] = m;
    }
    this.#top[cls] = top;
    if (count < n) this.failed[jumbo ? 'jumbo' : 'cluster']++;
    return count;
  }
  /** Frees the packets list[0, n), chains and all. Like `free` it throws when one of them is not in use. */
  freeRun(list: Int32Array, n: number): void {
    for (let k = 0; k < n; k++) {
      k += this.#freeAlike(list, k, n);
      if (k < n) this.freem(list[k]!);
    }
  }
  /**
   * Frees the packets list[k, n) for as long as each is one mbuf of the first one's class that belongs to the stack. Returns
   * how many. (A loop without calls.)
   */
  #freeAlike(list: Int32Array, k: number, n: number): number {
    const { next, stride } = this;
    const states = this.#bytes;
    const cls = this.#class[list[k]!]!;
    const stack = this.#free[cls]!;
    const top = this.#top[cls]!;
    let i = 0;
    for (; k + i < n; i++) {
      const m = list[k + i]!;
      if (states[m] !== 1 || states[m + stride] !== 0 || states[m + 2 * stride] !== cls || next[m] !== 0) break;
      states[m] = 0;
      stack[top + i] = m;
    }
    this.#top[cls] = top + i;
    return i;
  }

  /**
   * A small mbuf or a cluster for `bytes` (at most CLUSTER_BYTES) without a packet header (m_get, where the others are
   * m_gethdr): `off` stands at its first byte, `len` is `bytes`, the packet's columns are not set. Never a jumbo: those few
   * are for packets. M_NULL (counted) when none is free.
   */
  getData(bytes: number): Mbuf {
    let cls = bytes <= SMALL_BYTES ? 0 : 1;
    if (cls === 0 && this.#top[0] === 0) cls = 1;
    const top = this.#top[cls]! - 1;
    if (top < 0) {
      if (bytes <= SMALL_BYTES) this.failed.small++;
      else this.failed.cluster++;
      return M_NULL;
    }
    this.#top[cls] = top;
    const m = this.#free[cls]![top]!;
    this.#live[m] = 1;
    this.off[m] = this.base[m]!;
    this.len[m] = bytes;
    this.next[m] = 0;
    this.nextpkt[m] = 0;
    return m;
  }

  /** Frees one mbuf and returns the rest of its chain. Freeing twice is a programmer's error and throws. */
  free(m: Mbuf): Mbuf {
    if (this.#live[m] !== 1) throw new Error(`mbuf ${m} freed twice or never allocated`);
    this.#live[m] = 0;
    const tag = this.owner[m]!;
    if (tag !== 0) {
      this.owner[m] = 0;
      this.held[tag]!--;
    }
    const cls = this.#class[m]!;
    this.#free[cls]![this.#top[cls]!++] = m;
    return this.next[m]!;
  }
  /** Frees a whole chain. */
  freem(m: Mbuf): void {
    while (m !== M_NULL) m = this.free(m);
  }
  isLive(m: Mbuf): boolean {
    return this.#live[m] === 1;
  }

  /** Gives a chain to another owner: 0 = the stack, else an account's tag. Ends at what has that owner already. */
  assign(m: Mbuf, tag: number): void {
    const { owner, held } = this;
    for (; m !== M_NULL; m = this.next[m]!) {
      const was = owner[m]!;
      if (was === tag) return; // also where a chain has been tied into a ring
      if (was !== 0) held[was]!--;
      if (tag !== 0) held[tag]!++;
      owner[m] = tag;
    }
  }
  /** Frees every mbuf that a tag still holds. Returns how many they were. */
  reclaim(tag: number): number {
    if (tag === 0 || this.held[tag] === 0) return 0;
    let n = 0;
    for (let m = 1; m <= this.count; m++) {
      if (this.owner[m] !== tag || this.#live[m] !== 1) continue;
      this.free(m);
      n++;
    }
    return n;
  }

  /** Bytes in front of the data. */
  leading(m: Mbuf): number {
    return this.off[m]! - this.base[m]!;
  }
  /** Bytes behind the data. */
  trailing(m: Mbuf): number {
    return this.base[m]! + this.size[m]! - this.off[m]! - this.len[m]!;
  }

  /**
   * Makes room for n bytes in front of a packet (M_PREPEND): moves the pointer, or chains a new mbuf in front. Adjusts
   * pktlen, and hdrlen of a train. Returns the (new) head, or M_NULL when the pool is empty (the packet is then freed).
   */
  prepend(m: Mbuf, n: number): Mbuf {
    if (this.off[m]! - this.base[m]! >= n) {
      this.off[m]! -= n;
      this.len[m]! += n;
      this.pktlen[m]! += n;
      if (this.segsz[m]! !== 0) this.hdrlen[m]! += n;
      return m;
    }
    const h = this.get(n, HEADROOM);
    if (h === M_NULL) {
      this.freem(m);
      return M_NULL;
    }
    this.len[h] = n;
    this.next[h] = m;
    this.nextpkt[h] = this.nextpkt[m]!;
    this.nextpkt[m] = 0;
    this.pktlen[h] = this.pktlen[m]! + n;
    this.rcvif[h] = this.rcvif[m]!;
    this.csum[h] = this.csum[m]!;
    this.segsz[h] = this.segsz[m]!;
    this.hdrlen[h] = this.segsz[m]! !== 0 ? this.hdrlen[m]! + n : 0;
    this.flow[h] = this.flow[m]!;
    return h;
  }

  /** Cuts n bytes off the front of a packet whose first mbuf holds at least n. */
  adj(m: Mbuf, n: number): void {
    this.off[m]! += n;
    this.len[m]! -= n;
    this.pktlen[m]! -= n;
    if (this.segsz[m]! !== 0) this.hdrlen[m] = Math.max(0, this.hdrlen[m]! - n);
  }

  /** Cuts a packet down to `total` bytes (drops link-layer padding). Frees mbufs that become empty. */
  trim(m: Mbuf, total: number): void {
    if (total >= this.pktlen[m]!) return;
    this.pktlen[m] = total;
    let left = total;
    for (let n = m; n !== M_NULL; n = this.next[n]!) {
      if (this.len[n]! >= left) {
        this.len[n] = left;
        const rest = this.next[n]!;
        this.next[n] = M_NULL;
        this.freem(rest);
        return;
      }
      left -= this.len[n]!;
    }
  }

  /**
   * Makes a packet contiguous in its first mbuf (m_pullup of everything). Returns the head (perhaps another mbuf), or
   * M_NULL when no mbuf is large enough (the packet is then freed). A one-mbuf packet is returned as it is.
   */
  pullup(m: Mbuf): Mbuf {
    if (this.next[m] === M_NULL) return m;
    const total = this.pktlen[m]!;
    const n = this.get(total, HEADROOM);
    if (n === M_NULL) {
      this.freem(m);
      return M_NULL;
    }
    this.copydata(m, 0, total, this.off[n]!);
    this.len[n] = total;
    this.copyHeader(n, m);
    this.freem(m);
    return n;
  }

  /**
   * Makes the first n bytes of a packet contiguous (m_pullup). Returns the head, or M_NULL when the packet is shorter than
   * n or no mbuf was free (the packet is then freed).
   */
  pullupTo(m: Mbuf, n: number): Mbuf {
    if (this.len[m]! >= n) return m;
    if (this.pktlen[m]! < n) {
      this.freem(m);
      return M_NULL;
    }
    m = this.pullup(m);
    if (m === M_NULL || this.len[m]! >= n) return m;
    this.freem(m);
    return M_NULL;
  }

  /** Packets that a train stands for (at least 1); 1 for a plain packet. */
  segments(m: Mbuf): number {
    const seg = this.segsz[m]!;
    return seg === 0 ? 1 : Math.max(1, Math.ceil((this.pktlen[m]! - this.hdrlen[m]!) / seg));
  }

  /** Copies the packet header (everything but the data and the links) from one mbuf to another. */
  copyHeader(to: Mbuf, from: Mbuf): void {
    this.pktlen[to] = this.pktlen[from]!;
    this.rcvif[to] = this.rcvif[from]!;
    this.csum[to] = this.csum[from]!;
    this.segsz[to] = this.segsz[from]!;
    this.hdrlen[to] = this.hdrlen[from]!;
    this.flow[to] = this.flow[from]!;
  }

  /** Copies n bytes from `skip` bytes into a chain to region offset `to`. Returns the bytes copied (the chain may end). */
  copydata(m: Mbuf, skip: number, n: number, to: number): number {
    let done = 0;
    for (; m !== M_NULL && done < n; m = this.next[m]!) {
      const len = this.len[m]!;
      if (skip >= len) {
        skip -= len;
        continue;
      }
      const part = Math.min(len - skip, n - done);
      const from = this.off[m]! + skip;
      bcopy(this.u8, from, to + done, part);
      done += part;
      skip = 0;
    }
    return done;
  }

  /** Copies n bytes from `skip` bytes into a chain to another array. Returns the bytes copied. */
  copyout(m: Mbuf, skip: number, n: number, out: Uint8Array, outOff: number): number {
    let done = 0;
    for (; m !== M_NULL && done < n; m = this.next[m]!) {
      const len = this.len[m]!;
      if (skip >= len) {
        skip -= len;
        continue;
      }
      const part = Math.min(len - skip, n - done);
      const from = this.off[m]! + skip;
      if (part <= 32) for (let i = 0; i < part; i++) out[outOff + done + i] = this.u8[from + i]!;
      else bcopyin(out, outOff + done, this.#view(m, from, part));
      done += part;
      skip = 0;
    }
    return done;
  }

  /**
   * Bytes [from, from+n) of the region as a view that is kept with the mbuf: packets of one size, one after the other in the
   * same mbuf, make it once and not each time.
   */
  #view(m: Mbuf, from: number, n: number): Uint8Array {
    const kept = this.#views[m];
    if (kept !== undefined && this.#viewOff[m] === from && kept.length === n) return kept;
    this.#viewOff[m] = from;
    return (this.#views[m] = this.u8.subarray(from, from + n));
  }

  /**
   * A packet (one mbuf, or a chain of clusters when larger than a jumbo or when no jumbo is free) holding a copy of bytes
   * src[off, off+n), pktlen set; M_NULL when the pool is empty.
   */
  fromBytes(src: Uint8Array, off = 0, n = src.length - off, headroom = HEADROOM): Mbuf {
    const whole = n + headroom <= JUMBO_BYTES && this.#top[2]! > 0;
    const head = this.get(whole ? n : Math.min(n, CLUSTER_BYTES - headroom), headroom);
    if (head === M_NULL) return M_NULL;
    let tail = head;
    let done = 0;
    for (;;) {
      const room = this.trailing(tail);
      const part = Math.min(room, n - done);
      this.u8.set(src.subarray(off + done, off + done + part), this.off[tail]!);
      this.len[tail] = part;
      done += part;
      if (done >= n) break;
      const m = this.get(Math.min(n - done, CLUSTER_BYTES), 0);
      if (m === M_NULL) {
        this.freem(head);
        return M_NULL;
      }
      this.next[tail] = m;
      tail = m;
    }
    this.pktlen[head] = n;
    return head;
  }

  /** A copy of a packet's bytes, for tests, logs and the socket's edge (allocates). */
  toBytes(m: Mbuf): Uint8Array {
    const out = new Uint8Array(this.pktlen[m]!);
    this.copyout(m, 0, out.length, out, 0);
    return out;
  }
}
