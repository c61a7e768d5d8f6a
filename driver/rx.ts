/**
 * Receive side of the driver: mbufs posted as buffers, used ones handed to the interface. VIRTIO 1.2 §5.1.6.3, §5.1.6.4.
 *
 * A buffer is one mbuf: virtio_net_hdr at RX_HEADROOM, the frame right behind it. With trains (or a large MTU) the buffers
 * are jumbos; a small frame in a jumbo is copied into a mbuf of its size and the jumbo goes straight back to the ring.
 */

import { DESC_F_WRITE, NET_HDR_GSO_SCTP, NET_HDR_HASH_VALUE } from '../nic/virtqueue.js';
import { CLUSTER_BYTES, JUMBO_BYTES, M_BCAST, M_MCAST, M_NULL, type MbufPool } from '../stack/kern/mbuf.js';
import type { Ifnet } from '../stack/net/ifnet.js';
import type { DriverCounters } from './counters.js';
import type { CardInfo } from './probe.js';
import type { VirtqDriver } from './virtq-driver.js';

/** Room in front of virtio_net_hdr, chosen so that the IP header behind 12 (or 20) and 14 bytes is aligned to 4. */
export const RX_HEADROOM = 66;
/** Frames of a jumbo buffer up to this length are copied out. */
export const COPYBREAK = 2000;
const ETHER_HEADER = 14;

export class RxRing {
  readonly vq: VirtqDriver;
  readonly #pool: MbufPool;
  readonly #ifp: Ifnet;
  readonly #counters: DriverCounters;
  readonly #hdr: number;
  readonly #hash: boolean;
  readonly #jumbo: boolean;
  readonly #room: number;
  readonly #want: number;
  readonly #slot: Int32Array; // mbuf by descriptor
  posted = 0;
  /** The last refill found the pool empty: try again even though nothing was received. */
  starved = false;
  #stopped = false;

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
    this.#room = (this.#jumbo ? JUMBO_BYTES : CLUSTER_BYTES) - RX_HEADROOM;
    this.#want = Math.min(want, vq.size);
    this.#slot = new Int32Array(vq.size);
  }

  get jumbo(): boolean {
    return this.#jumbo;
  }

  /** Posts buffers until as many as wanted are out or the pool is empty. Returns true when the doorbell is to be rung. */
  refill(): boolean {
    const pool = this.#pool;
    const was = this.starved;
    this.starved = false;
    while (this.posted < this.#want) {
      const m = this.#jumbo ? pool.getJumbo(RX_HEADROOM) : pool.getCluster(RX_HEADROOM);
      if (m === M_NULL) {
        this.starved = true;
        if (!was) this.#counters.rx_refill_short++;
        break;
      }
      this.#post(m);
    }
    return this.vq.publish();
  }
  #post(m: number): void {
    this.#slot[this.vq.add(this.#pool.base[m]! + RX_HEADROOM, this.#room, DESC_F_WRITE)] = m;
    this.posted++;
  }

  /** Hands at most `budget` received frames to the interface; returns how many used buffers were seen. */
  poll(budget: number): number {
    const n = Math.min(this.vq.pending(), budget);
    const { dv, base } = this.#pool;
    for (let i = 0; i < n; i++) {
      const id = this.vq.take();
      if (id < 0) {
        this.#counters.rx_bad++;
        continue;
      }
      const m = this.#slot[id]!;
      this.#slot[id] = M_NULL;
      this.posted--;
      const len = this.vq.usedLen - this.#hdr;
      if (len < ETHER_HEADER || len + this.#hdr > this.#room) {
        // The card gave the buffer back unused, or claims more than fits.
        this.#ifp.counters.ierrors++;
        this.#counters.rx_bad++;
        this.#post(m);
        continue;
      }
      const at = base[m]! + RX_HEADROOM;
      this.#deliver(m, at + this.#hdr, len, dv.getUint32(at, true), dv.getUint16(at + 4, true));
      // What was delivered may have led to the interface being taken down.
      if (this.#stopped) return i + 1;
    }
    return n;
  }

  /** Frame of `len` bytes at `off` in mbuf m, with the first word of its virtio_net_hdr and its gso_size. */
  #deliver(m: number, off: number, len: number, word: number, gsoSize: number): void {
    const pool = this.#pool;
    const ifp = this.#ifp;
    const train = ((word >>> 8) & 0xff) === NET_HDR_GSO_SCTP && gsoSize > 0;
    const hash = this.#hash ? pool.dv.getInt32(off - this.#hdr + NET_HDR_HASH_VALUE, true) : 0;
    let to = m;
    if (this.#jumbo && len <= COPYBREAK) {
      to = pool.get(len, RX_HEADROOM + this.#hdr);
      if (to === M_NULL) {
        this.#counters.rx_no_mbuf++;
        ifp.counters.idrops++;
        this.#post(m);
        return;
      }
      pool.u8.copyWithin(pool.off[to]!, off, off + len);
      this.#post(m);
      this.#counters.rx_copybreak++;
    } else pool.off[m] = off;
    pool.len[to] = len;
    pool.pktlen[to] = len;
    pool.rcvif[to] = ifp.index;
    pool.flow[to] = hash;
    // NET_HDR_F_DATA_VALID, _IP_CSUM, _SCTP_CSUM and _SCTP_BAD to CSUM_L4_OK, _L3_OK, _SCTP_OK and _SCTP_BAD.
    let csum = (word & 2) | ((word & 0x40) >>> 6) | ((word & 0x30) >>> 2);
    const first = pool.off[to]!;
    if ((pool.u8[first]! & 1) !== 0) {
      csum |= pool.dv.getUint16(first) === 0xffff && pool.dv.getInt32(first + 2) === -1 ? M_BCAST : M_MCAST;
      ifp.counters.imcasts++;
    }
    pool.csum[to] = csum;
    if (train) {
      const hdrlen = word >>> 16;
      pool.segsz[to] = gsoSize;
      pool.hdrlen[to] = hdrlen;
      ifp.counters.ipackets += Math.ceil((len - hdrlen) / gsoSize);
    } else ifp.counters.ipackets++;
    ifp.counters.ibytes += len;
    ifp.input(to);
  }

  /** Frees every buffer still posted; the card must have been reset, or have lost the queue. */
  stop(): void {
    this.#stopped = true;
    for (let id = 0; id < this.#slot.length; id++) {
      const m = this.#slot[id]!;
      if (m !== M_NULL) this.#pool.free(m);
      this.#slot[id] = M_NULL;
    }
    this.posted = 0;
  }
}
