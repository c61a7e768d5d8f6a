/**
 * Receive side of the driver: mbufs posted as buffers, used ones handed to the interface. VIRTIO 1.2 §5.1.6.3, §5.1.6.4.
 *
 * A buffer is one mbuf: virtio_net_hdr at RX_HEADROOM, the frame right behind it. With trains (or a large MTU) the buffers
 * are jumbos; a small frame in a jumbo is copied into a mbuf of its size and the jumbo goes straight back to the ring.
 */

import { DESC_F_WRITE, NET_HDR_GSO_SCTP, NET_HDR_GSO_SIZE, NET_HDR_HASH_VALUE } from '../nic/virtqueue.js';
import {
  CLUSTER_BYTES,
  JUMBO_BYTES,
  M_BCAST,
  M_MCAST,
  M_NULL,
  MB_BASE,
  MB_OFF,
  MB_SIZE,
  type MbufPool,
} from '../stack/kern/mbuf.js';
import type { Ifnet } from '../stack/net/ifnet.js';
import type { DriverCounters } from './counters.js';
import type { CardInfo } from './probe.js';
import type { VirtqDriver } from './virtq-driver.js';

/** Room in front of virtio_net_hdr, chosen so that the IP header behind 12 (or 20) and 14 bytes is aligned to 4. */
export const RX_HEADROOM = 66;
/** Frames of a jumbo buffer up to this length are copied out. */
export const COPYBREAK = 2000;
const ETHER_HEADER = 14;
/** Buffers that go to the ring or come from it at once. */
const RUN = 256;
// The same for this file's loops: what a module exports or imports is looked up each time that it is used.
const HEADROOM = RX_HEADROOM;
const COPIED_MOST = COPYBREAK;
const OFF = MB_OFF;
const GSO_SCTP = NET_HDR_GSO_SCTP << 8;

export class RxRing {
  readonly vq: VirtqDriver;
  readonly #pool: MbufPool;
  readonly #ifp: Ifnet;
  readonly #counters: DriverCounters;
  readonly #hdr: number;
  readonly #hash: boolean;
  readonly #jumbo: boolean;
  readonly #longest: number; // frame that a buffer holds
  readonly #u16: Uint16Array;
  readonly #want: number;
  posted = 0;
  /** The last refill found the pool empty: try again even though nothing was received. */
  starved = false;
  #stopped = false;
  // Taken from the ring, [next, taken) of them not delivered yet: mbufs, and behind them (at RUN) the bytes used of each.
  readonly #run = new Int32Array(2 * RUN);
  #next = 0;
  #taken = 0;
  readonly #fresh = new Int32Array(RUN); // on their way into the ring

  /** `want`: buffers to keep posted, at most the size of the queue. */
  constructor(vq: VirtqDriver, pool: MbufPool, ifp: Ifnet, info: CardInfo, counters: DriverCounters, want: number) {
    this.vq = vq;
    this.#pool = pool;
    this.#ifp = ifp;
    this.#counters = counters;
    this.#hdr = info.hdrBytes;
    this.#hash = info.hdrBytes > NET_HDR_HASH_VALUE;
    const frame = Math.max(info.mtu + ETHER_HEADER + 4, info.trainRxBytes);
    this.#jumbo = RX_HEADROOM + info.hdrBytes + frame > CLUSTER_BYTES;
    this.#longest = (this.#jumbo ? JUMBO_BYTES : CLUSTER_BYTES) - RX_HEADROOM - info.hdrBytes;
    const { buffer } = pool.u8;
    this.#u16 = new Uint16Array(buffer, 0, buffer.byteLength >>> 1);
    this.#want = Math.min(want, vq.size);
  }

  get jumbo(): boolean {
    return this.#jumbo;
  }

  /** Posts buffers until as many as wanted are out or the pool is empty. Returns true when the doorbell is to be rung. */
  refill(): boolean {
    const was = this.starved;
    this.starved = false;
    while (this.posted < this.#want) {
      const n = Math.min(this.#want - this.posted, RUN);
      const got = this.#pool.takeRun(this.#fresh, n, this.#jumbo);
      this.#post(this.#fresh, got);
      if (got === n) continue;
      this.starved = true;
      if (!was) this.#counters.rx_refill_short++;
      break;
    }
    return this.vq.publish();
  }
  #post(list: Int32Array, n: number): void {
    const { words, stride } = this.#pool;
    this.vq.addRun(list, 0, n, words, MB_BASE * stride, RX_HEADROOM, MB_SIZE * stride, -RX_HEADROOM, DESC_F_WRITE);
    this.posted += n;
  }
  /** Posts one buffer once more. */
  #repost(m: number): void {
    this.#fresh[0] = m;
    this.#post(this.#fresh, 1);
  }

  /** Hands at most `budget` received frames to the interface; returns how many used buffers were seen. */
  poll(budget: number): number {
    const vq = this.vq;
    const run = this.#run;
    // (an upcall that polls is handed the rest of the batch that it is in, before another one is taken)
    this.#handUp();
    let seen = 0;
    while (seen < budget && vq.news && !this.#stopped) {
      const n = Math.min(vq.pending(), budget - seen, RUN);
      const taken = vq.takeRun(n, run);
      this.posted -= taken;
      this.#counters.rx_bad += n - taken;
      seen += n;
      for (let k = this.#usual(0, taken); k < taken; k = this.#usual(k + 1, taken)) run[k] = this.#unusual(k);
      this.#next = 0;
      this.#taken = taken;
      this.#handUp();
    }
    return seen;
  }

  /** Hands up mbuf[next, taken). What is delivered may lead to the interface being taken down, which leaves none. */
  #handUp(): void {
    const ifp = this.#ifp;
    const run = this.#run;
    while (this.#next < this.#taken) {
      const m = run[this.#next++]!;
      if (m !== M_NULL) ifp.input(m);
    }
  }

  /**
   * Fills in the packet headers of the mbufs [k, taken) for as long as each holds the usual: one packet to a station, in a
   * buffer of its own. Returns the first that holds something else. (A loop without calls, over 16-bit words: buffers and
   * headers begin at even addresses.)
   */
  #usual(k: number, taken: number): number {
    const { words, stride } = this.#pool;
    const u16 = this.#u16;
    const run = this.#run;
    const { counters, index } = this.#ifp;
    const hdr = this.#hdr;
    const longest = this.#longest;
    const least = this.#jumbo ? COPIED_MOST + 1 : ETHER_HEADER;
    const first = k;
    const off = OFF * stride;
    let bytes = 0;
    if (this.#hash) return k;
    for (; k < taken; k++) {
      const m = run[k]!;
      const n = (run[RUN + k]! - hdr) | 0;
      if (n < least || n > longest) break;
      const at = words[m]! + HEADROOM; // from base
      const data = at + hdr;
      const word = u16[at >> 1]!;
      if (word > 0xff || (u16[data >> 1]! & 1) !== 0) break;
      let w = m + off;
      words[w] = data;
      words[(w += stride)] = n; // len
      words[(w += stride + stride)] = 0; // nextpkt; next is 0 since the buffer was posted
      words[(w += stride)] = n; // pktlen
      words[(w += stride)] = index; // rcvif
      // NET_HDR_F_DATA_VALID, _IP_CSUM, _SCTP_CSUM and _SCTP_BAD to CSUM_L4_OK, _L3_OK, _SCTP_OK and _SCTP_BAD.
      words[(w += stride)] = (word & 2) | ((word & 0x40) >>> 6) | ((word & 0x30) >>> 2);
      words[(w += stride)] = 0; // segsz, hdrlen, flow
      words[(w += stride)] = 0;
      words[w + stride] = 0;
      bytes += n;
    }
    counters.ipackets += k - first;
    counters.ibytes += bytes;
    return k;
  }

  /** Mbuf k when it holds anything else: the one to hand up, or M_NULL when it made no sense or there was none (counted). */
  #unusual(k: number): number {
    const pool = this.#pool;
    const { counters, index } = this.#ifp;
    const { dv } = pool;
    const hdr = this.#hdr;
    let m = this.#run[k]!;
    const n = (this.#run[RUN + k]! - hdr) | 0;
    if (n < ETHER_HEADER || n > this.#longest) {
      // The card gave the buffer back unused, or claims more than fits.
      counters.ierrors++;
      this.#counters.rx_bad++;
      this.#repost(m);
      return M_NULL;
    }
    const at = pool.base[m]! + HEADROOM;
    const first = at + hdr;
    const word = dv.getUint32(at, true);
    const gsoSize = (word & 0xff00) === GSO_SCTP ? dv.getUint16(at + NET_HDR_GSO_SIZE, true) : 0;
    const hash = this.#hash ? dv.getInt32(at + NET_HDR_HASH_VALUE, true) : 0;
    if (this.#jumbo && n <= COPIED_MOST) {
      m = this.#copied(m, first, n);
      if (m === M_NULL) return M_NULL;
    } else pool.off[m] = first;
    pool.len[m] = n;
    pool.pktlen[m] = n;
    pool.nextpkt[m] = 0;
    pool.rcvif[m] = index;
    pool.segsz[m] = gsoSize;
    pool.hdrlen[m] = gsoSize > 0 ? word >>> 16 : 0;
    pool.flow[m] = hash;
    let sums = (word & 2) | ((word & 0x40) >>> 6) | ((word & 0x30) >>> 2);
    const data = pool.off[m]!;
    if ((pool.u8[data]! & 1) !== 0) {
      sums |= dv.getUint16(data) === 0xffff && dv.getInt32(data + 2) === -1 ? M_BCAST : M_MCAST;
      counters.imcasts++;
    }
    pool.csum[m] = sums;
    counters.ipackets += gsoSize > 0 ? Math.ceil((n - (word >>> 16)) / gsoSize) : 1;
    counters.ibytes += n;
    return m;
  }

  /** A small frame out of jumbo m, which goes straight back to the ring: an mbuf of its size, or M_NULL (counted). */
  #copied(m: number, first: number, n: number): number {
    const pool = this.#pool;
    const to = pool.get(n, RX_HEADROOM + this.#hdr);
    if (to !== M_NULL) {
      this.#copy(first, pool.off[to]!, n);
      this.#counters.rx_copybreak++;
    } else {
      this.#counters.rx_no_mbuf++;
      this.#ifp.counters.idrops++;
    }
    this.#repost(m);
    return to;
  }
  /** Copies n bytes between even places with room for one more behind them; few of them faster than a call would. */
  #copy(from: number, to: number, n: number): void {
    if (n > 128) {
      this.#pool.u8.copyWithin(to, from, from + n);
      return;
    }
    const u16 = this.#u16;
    const f = from >> 1;
    const t = to >> 1;
    const halves = (n + 1) >> 1;
    for (let i = 0; i < halves; i++) u16[t + i] = u16[f + i]!;
  }

  /** Frees every buffer still posted; the card must have been reset, or have lost the queue. */
  stop(): void {
    this.#stopped = true;
    while (this.#next < this.#taken) this.#pool.freem(this.#run[this.#next++]!);
    for (let id = 0; id < this.vq.size; id++) this.#pool.freem(this.vq.disown(id));
    this.posted = 0;
  }
}
