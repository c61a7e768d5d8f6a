/**
 * Transmit side of the driver: a packet's mbuf chain becomes a descriptor chain with a virtio_net_hdr in front. VIRTIO 1.2
 * §5.1.6.2. The header goes into the packet's own headroom, so that the usual packet is one descriptor; only a packet
 * without headroom borrows a header slot. Used chains are reclaimed when the ring runs low and once a poll.
 */

import { NET_HDR_BYTES, NET_HDR_GSO_SCTP } from '../nic/virtqueue.js';
import {
  CSUM_IP,
  CSUM_SCTP,
  CSUM_UDP,
  M_NULL,
  MB_CSUM,
  MB_NEXT,
  MB_OFF,
  MB_PKTLEN,
  MB_SEGSZ,
  type Mbuf,
  type MbufPool,
} from '../stack/kern/mbuf.js';
import type { Ifnet } from '../stack/net/ifnet.js';
import type { DriverCounters } from './counters.js';
import type { CardInfo } from './probe.js';
import { HDR_SLOT } from './rings.js';
import type { VirtqDriver } from './virtq-driver.js';

/** Most descriptors for one packet, header included; a longer chain is copied together first. */
export const TX_SEGS_MAX = 16;
const ETHER_HEADER = 14;
/** Packets that are taken back at once. */
const RUN = 256;
// For the loop over packets (what a module imports is looked up each time that it is used). LIKE: checksum requests that mbuf
// and virtio_net_hdr write alike; UDP: the one that they do not.
const LIKE = CSUM_SCTP | CSUM_IP;
const UDP = CSUM_UDP;
const HDR = NET_HDR_BYTES;
const OFF = MB_OFF;
const NEXT = MB_NEXT;
const PKTLEN = MB_PKTLEN;
const SEGSZ = MB_SEGSZ;
const CSUM = MB_CSUM;

export class TxRing {
  readonly vq: VirtqDriver;
  readonly #pool: MbufPool;
  readonly #ifp: Ifnet;
  readonly #counters: DriverCounters;
  readonly #hdr: number;
  readonly #headers: number;
  readonly #frameMax: number;
  /** Somebody saw `ready()` false and waits for room: completions are to interrupt. */
  #waiting = false;
  readonly #u16: Uint16Array;
  readonly #sent = new Int32Array(2 * RUN); // packets, and lengths of no interest

  constructor(vq: VirtqDriver, pool: MbufPool, ifp: Ifnet, info: CardInfo, counters: DriverCounters, headers: number) {
    this.vq = vq;
    this.#pool = pool;
    this.#ifp = ifp;
    this.#counters = counters;
    this.#hdr = info.hdrBytes;
    this.#headers = headers;
    const { buffer } = pool.u8;
    this.#u16 = new Uint16Array(buffer, 0, buffer.byteLength >>> 1);
    this.#frameMax = info.mtu + ETHER_HEADER + 4;
    vq.disableInterrupts();
  }

  /** Packets that the card has and has not given back. */
  get inFlight(): number {
    let n = 0;
    for (let id = 0; id < this.vq.size; id++) if (this.vq.owner(id) !== M_NULL) n++;
    return n;
  }

  /** Takes a packet and makes it available (seen by the card after `flush`). False when it was dropped and counted. */
  output(m: Mbuf): boolean {
    const pool = this.#pool;
    const vq = this.vq;
    if (vq.free < TX_SEGS_MAX) this.reclaim();
    const len = pool.pktlen[m]!;
    const segsz = pool.segsz[m]!;
    if (len < ETHER_HEADER || (segsz === 0 ? len > this.#frameMax : len > this.#ifp.trainBytes))
      return this.#drop(m, 'tx_bad');
    const c = pool.csum[m]! & (CSUM_SCTP | CSUM_UDP | CSUM_IP);
    // CSUM_SCTP, CSUM_IP and CSUM_UDP to NET_HDR_F_SCTP_CSUM, _IP_CSUM and _UDP_CSUM.
    let word = (c & LIKE) | ((c & UDP) << 2);
    if (segsz !== 0) word |= (NET_HDR_GSO_SCTP << 8) | (pool.hdrlen[m]! << 16);
    if (pool.next[m] === M_NULL && pool.leading(m) >= this.#hdr) {
      if (vq.free < 1) return this.#drop(m, 'tx_ring_full');
      const at = pool.off[m]! - this.#hdr;
      this.#header(at, word, segsz);
      vq.own(vq.add(at, len + this.#hdr, 0), m);
    } else if (!this.#chain(m, word, segsz)) return false;
    const counters = this.#ifp.counters;
    counters.opackets += segsz === 0 ? 1 : Math.ceil((len - pool.hdrlen[m]!) / segsz);
    counters.obytes += len;
    if ((pool.u8[pool.off[m]!]! & 1) !== 0) counters.omcasts++;
    return true;
  }

  /**
   * Takes the packets list[0, n), as `output` takes each. The usual ones (one mbuf with headroom, no train) go to the ring in
   * runs. Returns how many were not dropped.
   */
  outputRun(list: Int32Array, n: number): number {
    const { words, stride } = this.#pool;
    const vq = this.vq;
    const hdr = this.#hdr;
    if (vq.news) this.reclaim();
    let taken = 0;
    for (let k = 0; k < n; ) {
      const run = this.#prepare(list, k, Math.min(n - k, vq.free));
      if (run === 0) {
        if (this.output(list[k++]!)) taken++;
        continue;
      }
      vq.addRun(list, k, run, words, MB_OFF * stride, -hdr, MB_PKTLEN * stride, hdr, 0);
      taken += run;
      k += run;
    }
    return taken;
  }
  /**
   * Writes virtio_net_hdr in front of the packets list[from, from + n) for as long as each is one mbuf with headroom, at an
   * even address, and no train, and counts them as sent. Returns how many that were. (A loop without calls, over 16-bit
   * words.)
   */
  #prepare(list: Int32Array, from: number, n: number): number {
    const { words, stride } = this.#pool;
    const u16 = this.#u16;
    const { counters } = this.#ifp;
    const longest = this.#frameMax;
    const off = OFF * stride;
    const next = NEXT * stride;
    const pktlen = PKTLEN * stride;
    const segsz = SEGSZ * stride;
    const csum = CSUM * stride;
    let bytes = 0;
    let groups = 0;
    let k = 0;
    if (this.#hdr !== NET_HDR_BYTES) return 0;
    for (; k < n; k++) {
      const m = list[from + k]!;
      const len = words[m + pktlen]!;
      const at = words[m + off]! - HDR;
      if ((words[m + segsz]! | words[m + next]! | (at & 1)) !== 0) break;
      if (len < ETHER_HEADER || len > longest || at < words[m]!) break; // base
      const c = words[m + csum]!;
      const h = at >> 1;
      u16[h] = (c & LIKE) | ((c & UDP) << 2);
      u16[h + 1] = 0;
      u16[h + 2] = 0;
      u16[h + 3] = 0;
      u16[h + 4] = 0;
      u16[h + 5] = 0;
      groups += u16[h + 6]! & 1;
      bytes += len;
    }
    counters.opackets += k;
    counters.obytes += bytes;
    counters.omcasts += groups;
    return k;
  }

  #header(at: number, word: number, segsz: number): void {
    const { dv } = this.#pool;
    dv.setUint32(at, word, true);
    dv.setUint32(at + 4, segsz, true);
    dv.setUint32(at + 8, 0, true);
    if (this.#hdr > 12) {
      dv.setUint32(at + 12, 0, true);
      dv.setUint32(at + 16, 0, true);
    }
  }

  /** A packet in several pieces: header slot first, then one descriptor for each piece that is not empty. */
  #chain(packet: Mbuf, word: number, segsz: number): boolean {
    const pool = this.#pool;
    const vq = this.vq;
    let m = packet;
    let pieces = 0;
    for (let n = m; n !== M_NULL; n = pool.next[n]!) if (pool.len[n]! > 0) pieces++;
    if (pieces + 1 > TX_SEGS_MAX) {
      m = pool.pullup(m);
      if (m === M_NULL) {
        this.#counters.tx_no_mbuf++;
        this.#ifp.counters.odrops++;
        return false;
      }
      this.#counters.tx_pullup++;
      pieces = 1;
    }
    if (vq.free < pieces + 1) return this.#drop(m, 'tx_ring_full');
    const head = vq.take1(0, 0, 0);
    const at = this.#headers + head * HDR_SLOT;
    this.#header(at, word, segsz);
    vq.fill(head, at, this.#hdr);
    let last = head;
    for (let n = m; n !== M_NULL; n = pool.next[n]!) {
      if (pool.len[n]! === 0) continue;
      const d = vq.take1(pool.off[n]!, pool.len[n]!, 0);
      vq.link(last, d);
      last = d;
    }
    vq.offer(head);
    vq.own(head, m);
    return true;
  }

  #drop(m: Mbuf, why: 'tx_bad' | 'tx_ring_full'): false {
    this.#pool.freem(m);
    this.#counters[why]++;
    if (why === 'tx_bad') this.#ifp.counters.oerrors++;
    else this.#ifp.counters.odrops++;
    return false;
  }

  /** True when any packet would be taken now. When not, asks to be told by interrupt when half of the ring is free. */
  ready(): boolean {
    if (this.vq.free > TX_SEGS_MAX) return true;
    this.reclaim();
    if (this.vq.free > TX_SEGS_MAX) return true;
    if (!this.#waiting) {
      this.#waiting = true;
      if (this.vq.enableInterrupts(Math.max(1, this.vq.size >>> 2))) {
        this.reclaim();
        return this.vq.free > TX_SEGS_MAX;
      }
    }
    return false;
  }

  /** Frees what the card has sent; returns how many packets. */
  reclaim(): number {
    const vq = this.vq;
    if (!vq.news) return 0;
    const n = vq.pending();
    for (let left = n; left > 0; left -= RUN)
      this.#pool.freeRun(this.#sent, vq.takeRun(Math.min(left, RUN), this.#sent));
    if (this.#waiting && vq.free > TX_SEGS_MAX) {
      this.#waiting = false;
      vq.disableInterrupts();
    }
    return n;
  }

  /** Frees every packet; the card must have been reset, or have lost the queue. */
  stop(): void {
    for (let id = 0; id < this.vq.size; id++) this.#pool.freem(this.vq.disown(id));
  }
}
