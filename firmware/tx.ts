/**
 * Transmit pipeline: chains from the transmit queue, offloads asked for in virtio_net_hdr, frames to the port, chains back
 * when the port has them. VIRTIO 1.2 §5.1.6.2. When the port refuses, frames stay where they are and the queue fills up:
 * that is the back-pressure that the driver sees.
 *
 * A popped chain goes through three steps, each of which can stop and go on later: prepared (parsed, gathered when it lies
 * scattered, CRC32c filled in for the whole batch at once), staged (header checksums, train cut into packets when the port
 * takes none), and sent (its chain is pushed back with its last packet).
 */

import { ETHER_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, ScratchRing } from '../nic/offload.js';
import { Batch } from '../nic/ports/port.js';
import { READABLE, type VirtqDevice } from '../nic/virtq-device.js';
import {
  NET_HDR_CSUM_OFFSET,
  NET_HDR_CSUM_START,
  NET_HDR_F_IP_CSUM,
  NET_HDR_F_NEEDS_CSUM,
  NET_HDR_F_SCTP_CSUM,
  NET_HDR_F_UDP_CSUM,
  NET_HDR_GSO_NONE,
  NET_HDR_GSO_SCTP,
} from '../nic/virtqueue.js';
import { BATCH, type Card, CUT_BYTES, GATHER_BYTES, TRAIN_BYTES, TRAIN_SEGMENTS } from './card.js';
import type { CounterName } from './statistics.js';

const VENDOR_CSUMS = NET_HDR_F_SCTP_CSUM | NET_HDR_F_IP_CSUM | NET_HDR_F_UDP_CSUM;
const NO_MARK = -1;

export class TxPipeline {
  readonly #card: Card;
  readonly #vq: VirtqDevice;
  readonly #gathered: ScratchRing;
  readonly #cuts: ScratchRing;
  readonly #batch = new Batch(BATCH);
  // By batch entry: the chain that ends with it (or -1), and the scratch marks that it releases (or NO_MARK).
  readonly #endsHead = new Int32Array(BATCH);
  readonly #endsGather = new Float64Array(BATCH);
  readonly #endsCut = new Float64Array(BATCH);
  readonly #bytes = new Int32Array(BATCH);
  readonly #columns: readonly (Int32Array | Float64Array)[];

  // By popped chain: [0, next) staged, [next, prepared) prepared, [prepared, popped) as popped.
  #popped = 0;
  #prepared = 0;
  #next = 0;
  #segment = 0; // of the train at `next`
  readonly #off = new Int32Array(BATCH);
  readonly #len = new Int32Array(BATCH);
  readonly #flags = new Int32Array(BATCH);
  readonly #segsz = new Int32Array(BATCH);
  readonly #hdrlen = new Int32Array(BATCH);
  readonly #ip = new Int32Array(BATCH); // 0: nothing to fill in
  readonly #l3 = new Int32Array(BATCH); // relative to off
  readonly #l4 = new Int32Array(BATCH); // of UDP, relative to off, 0 = no UDP
  readonly #end = new Int32Array(BATCH); // end of the IP packet, relative to off
  readonly #mark = new Float64Array(BATCH);
  readonly #drop = new Uint8Array(BATCH);
  // Plain runs: frames that ask for nothing go from the ring to the port without the three steps. The columns segsz, hdrlen
  // and flags of their batch are zero from the start and stay so.
  readonly #plain = new Batch(BATCH);
  readonly #plainHead = new Int32Array(BATCH);
  /** Chains pushed since the caller last looked. */
  pushed = 0;
  /** The port refused: nothing more goes until it says so. */
  blocked = false;

  constructor(card: Card, vq: VirtqDevice) {
    this.#card = card;
    this.#vq = vq;
    this.#gathered = new ScratchRing(card.scratch.gather, GATHER_BYTES);
    this.#cuts = new ScratchRing(card.scratch.cut, CUT_BYTES);
    const b = this.#batch;
    this.#columns = [b.off, b.len, b.segsz, b.hdrlen, this.#bytes, this.#endsHead, this.#endsGather, this.#endsCut];
  }

  /** Forgets every chain held. */
  reset(): void {
    this.#popped = this.#prepared = this.#next = this.#segment = 0;
    this.#batch.count = 0;
    this.#gathered.reset();
    this.#cuts.reset();
    this.blocked = false;
  }

  /** True when chains are held that were not sent yet. */
  get holding(): boolean {
    return this.#batch.count > 0 || this.#next < this.#popped;
  }

  /** Sends at most `budget` entries; returns how many the port took. */
  step(now: number, budget: number): number {
    const card = this.#card;
    const batch = this.#batch;
    let done = 0;
    this.blocked = false;
    if (!card.linkUp) return this.#discard(budget);
    // Every round pops, stages or sends; the bound on rounds is for a driver that keeps adding chains to be refused.
    for (let round = 0; done < budget && round < budget; round++) {
      if (this.#next === this.#popped && batch.count === 0 && !card.isIp) {
        done += this.#stepPlain(now, budget - done);
        if (this.blocked) break;
      }
      if (this.#next === this.#popped && !this.#pop(Math.min(BATCH, budget - done)) && batch.count === 0) break;
      if (this.#next === this.#prepared) this.#prepare();
      this.#stage();
      if (batch.count === 0) continue;
      const taken = card.port.transmit(batch, now);
      done += taken;
      this.#sent(taken);
      if (batch.count > 0) {
        card.counters.tx_busy++;
        this.blocked = true;
        break;
      }
    }
    this.#vq.publish();
    return done;
  }

  /**
   * Sends a run of frames, each in one descriptor, that ask for no checksum and are no train: `locate`, `request` and `entry`
   * for the usual frame in one pass. Ends at the first frame that is anything else, and leaves it in the ring. Returns how
   * many the port took.
   */
  #stepPlain(now: number, budget: number): number {
    const card = this.#card;
    const vq = this.#vq;
    const batch = this.#plain;
    const heads = this.#plainHead;
    const { off, len } = batch;
    const { hdrBytes } = card;
    const { dv } = card.memory;
    const longest = card.mtu + ETHER_HEADER;
    let done = 0;
    while (done < budget) {
      const most = Math.min(BATCH, budget - done);
      const popped = vq.popPlain(most, READABLE, hdrBytes, 0, heads, off, len, ETHER_HEADER);
      let n = 0;
      let bytes = 0;
      for (; n < popped; n++) {
        const l = len[n]!;
        // flags and gso_type: what follows them has no meaning without them.
        if (l > longest || dv.getUint16(off[n]! - hdrBytes, true) !== 0) break;
        bytes += l;
      }
      if (n < popped) vq.unpop(popped - n);
      if (n === 0) break;
      batch.count = n;
      const taken = card.port.transmit(batch, now);
      vq.pushRun(heads, taken);
      done += taken;
      const c = card.counters;
      if (taken < n) {
        // What the port refused is still in the ring: the queue fills up, and the driver sees it.
        vq.unpop(popped - taken - (popped - n));
        for (let k = taken; k < n; k++) bytes -= len[k]!;
        c.tx_busy++;
        this.blocked = true;
      }
      this.pushed += taken;
      c.tx_frames += taken;
      c.tx_packets += taken;
      c.tx_bytes += bytes;
      if (taken < n || n < popped || popped < most) break;
    }
    return done;
  }

  #pop(max: number): boolean {
    this.#popped = this.#vq.pop(max, READABLE);
    this.#prepared = this.#next = this.#segment = 0;
    return this.#popped > 0;
  }

  /** With the link down nothing waits: everything held or available is dropped and counted. */
  #discard(budget: number): number {
    let done = 0;
    for (let i = 0; i < this.#batch.count; i++) this.#giveBack(this.#endsHead[i]!);
    if (this.#segment > 0) this.#next += this.#giveBack(this.#vq.head[this.#next]!);
    this.#batch.count = 0;
    while (done < budget) {
      for (; this.#next < this.#popped; this.#next++) {
        // Refused while it was prepared: counted and pushed back already.
        if (this.#next < this.#prepared && this.#drop[this.#next] !== 0) continue;
        this.#giveBack(this.#vq.head[this.#next]!);
        done++;
      }
      if (!this.#pop(BATCH)) break;
    }
    this.#segment = 0;
    this.#gathered.reset();
    this.#cuts.reset();
    this.#vq.publish();
    return done;
  }
  #giveBack(head: number): number {
    if (head < 0) return 0;
    this.#card.counters.tx_link_down++;
    this.#complete(head);
    return 1;
  }
  #complete(head: number): void {
    this.#vq.push(head, 0);
    this.pushed++;
  }
  #refuse(i: number, why: CounterName): false {
    this.#card.counters[why]++;
    this.#drop[i] = 1;
    this.#complete(this.#vq.head[i]!);
    return false;
  }

  /** Parses popped chains until scratch memory runs out; fills in CRC32c for all of them in one call. */
  #prepare(): void {
    for (; this.#prepared < this.#popped; this.#prepared++) {
      const i = this.#prepared;
      this.#drop[i] = 0;
      this.#ip[i] = 0;
      this.#mark[i] = NO_MARK;
      const before = this.#gathered.mark;
      const at = this.#locate(i);
      if (at === -2) break;
      if (at < 0 || !this.#request(i, at)) this.#gathered.rewind(before);
    }
    this.#card.engine.fill();
  }

  /**
   * Finds the frame of chain i and gathers it when it lies in pieces. Sets off and len; returns the offset of its
   * virtio_net_hdr, -1 when the chain was refused, -2 when there is no scratch memory now.
   */
  #locate(i: number): number {
    const vq = this.#vq;
    const card = this.#card;
    const segs = vq.nseg[i]!;
    const s = vq.first[i]!;
    const hdr = card.hdrBytes;
    const addr = vq.segAddr[s]!;
    const len0 = vq.segLen[s]!;
    if (segs === 1 && len0 >= hdr + ETHER_HEADER) {
      this.#off[i] = addr + hdr;
      this.#len[i] = len0 - hdr;
      // Without our feature the buffer is read-only for the card (VIRTIO 1.2 §2.7.4): a checksum goes into a copy.
      if (card.txCsum || (card.memory.u8[addr]! & NET_HDR_F_NEEDS_CSUM) === 0) return addr;
    } else if (segs === 2 && len0 === hdr && vq.segLen[s + 1]! >= ETHER_HEADER) {
      this.#off[i] = vq.segAddr[s + 1]!;
      this.#len[i] = vq.segLen[s + 1]!;
      if (card.txCsum || (card.memory.u8[addr]! & NET_HDR_F_NEEDS_CSUM) === 0) return addr;
    }
    if (segs === 0) {
      this.#refuse(i, 'desc_bad');
      return -1;
    }
    let total = 0;
    for (let k = 0; k < segs; k++) total += vq.segLen[s + k]!;
    if (total < hdr + ETHER_HEADER || total > hdr + TRAIN_BYTES) {
      this.#refuse(i, total < hdr + ETHER_HEADER ? 'tx_runt' : 'tx_oversize');
      return -1;
    }
    const to = this.#gathered.alloc(total);
    if (to < 0) return -2;
    this.#mark[i] = this.#gathered.mark;
    let done = 0;
    for (let k = 0; k < segs; k++) {
      const from = vq.segAddr[s + k]!;
      card.memory.u8.copyWithin(to + done, from, from + vq.segLen[s + k]!);
      done += vq.segLen[s + k]!;
    }
    card.counters.tx_gathered++;
    this.#off[i] = to + hdr;
    this.#len[i] = total - hdr;
    return to;
  }

  /** Reads what virtio_net_hdr at `at` asks for; notes CRC32c work. False when the frame does not allow it (refused). */
  #request(i: number, at: number): boolean {
    const card = this.#card;
    const { dv } = card.memory;
    const off = this.#off[i]!;
    const len = this.#len[i]!;
    const word = dv.getUint32(at, true);
    const flags = word & 0xff;
    const gso = (word >>> 8) & 0xff;
    this.#flags[i] = flags;
    this.#segsz[i] = 0;
    this.#hdrlen[i] = 0;
    if (card.isIp) {
      const type = dv.getUint16(off + 12);
      if (type !== ETHERTYPE_IPV4 && type !== ETHERTYPE_IPV6) return this.#refuse(i, 'tx_not_ip');
      if (len <= ETHER_HEADER) return this.#refuse(i, 'tx_runt');
    }
    if (gso === NET_HDR_GSO_SCTP) return this.#requestTrain(i, word >>> 16, dv.getUint16(at + 4, true));
    if (gso !== NET_HDR_GSO_NONE) return this.#refuse(i, 'tx_bad_train');
    if (
      len > card.mtu + ETHER_HEADER &&
      (len > card.mtu + ETHER_HEADER + 4 || dv.getUint16(off + 12) !== ETHERTYPE_VLAN)
    )
      return this.#refuse(i, 'tx_oversize');
    if ((flags & NET_HDR_F_NEEDS_CSUM) !== 0) {
      const start = dv.getUint16(at + NET_HDR_CSUM_START, true);
      const offset = dv.getUint16(at + NET_HDR_CSUM_OFFSET, true);
      if (start + offset + 2 > len) return this.#refuse(i, 'tx_bad_csum_request');
      card.engine.partialFill(off + start, off + len, offset);
    }
    if ((flags & VENDOR_CSUMS) === 0 || !card.txCsum) return true;
    const e = card.engine;
    if (!e.parse(off, len)) return this.#refuse(i, 'tx_bad_csum_request');
    if ((flags & NET_HDR_F_SCTP_CSUM) !== 0) {
      const sctp = e.sctpAt(true);
      if (sctp < 0 || sctp + 12 > e.end) return this.#refuse(i, 'tx_bad_csum_request');
      if (!card.port.capabilities.sctpCrc) e.addJob(i, sctp, e.end, 0);
      card.counters.tx_csum_sctp++;
    }
    this.#noteHeaders(i, off);
    return true;
  }

  #requestTrain(i: number, hdrlen: number, segsz: number): boolean {
    const card = this.#card;
    const off = this.#off[i]!;
    const len = this.#len[i]!;
    const packets = segsz > 0 ? Math.ceil((len - hdrlen) / segsz) : 0;
    if (!card.txTrain || len > TRAIN_BYTES || hdrlen >= len || packets < 1 || packets > TRAIN_SEGMENTS)
      return this.#refuse(i, 'tx_bad_train');
    if (hdrlen + Math.min(segsz, len - hdrlen) > card.mtu + ETHER_HEADER + 4) return this.#refuse(i, 'tx_oversize');
    const e = card.engine;
    // The headers must be IP and end where the train says that SCTP begins.
    if (!e.parse(off, len, hdrlen) || e.sctpAt(true) !== off + hdrlen) return this.#refuse(i, 'tx_bad_train');
    this.#segsz[i] = segsz;
    this.#hdrlen[i] = hdrlen;
    card.counters.tx_trains++;
    if ((this.#flags[i]! & NET_HDR_F_SCTP_CSUM) !== 0) {
      if (!card.port.capabilities.sctpCrc) e.addJob(i, off + hdrlen, off + len, segsz);
      card.counters.tx_csum_sctp++;
    }
    this.#noteHeaders(i, off);
    return true;
  }

  /** Remembers where the frame parsed last has its headers. */
  #noteHeaders(i: number, off: number): void {
    const e = this.#card.engine;
    this.#ip[i] = e.ip;
    this.#l3[i] = e.l3 - off;
    this.#l4[i] = e.isUdp ? e.l4 - off : 0;
    this.#end[i] = e.end - off;
  }

  /** Moves prepared chains into the batch for the port, until it is full or scratch memory runs out. */
  #stage(): void {
    const caps = this.#card.port.capabilities;
    for (; this.#next < this.#prepared; this.#next++) {
      const i = this.#next;
      if (this.#drop[i] !== 0) continue;
      if (this.#batch.count === BATCH) return;
      const segsz = this.#segsz[i]!;
      if (segsz > 0) {
        const packets = Math.ceil((this.#len[i]! - this.#hdrlen[i]!) / segsz);
        if (this.#len[i]! > caps.train || packets > caps.trainSegments) {
          if (!this.#cut(i, packets)) return;
          continue;
        }
      }
      if (this.#ip[i] !== 0 && !this.#card.isUdp) this.#headerSums(i, segsz > 0);
      this.#entry(this.#off[i]!, this.#len[i]!, segsz, this.#hdrlen[i]!, this.#vq.head[i]!, this.#mark[i]!, NO_MARK);
    }
  }

  /** Fills in UDP and IPv4 checksums in place, as far as they were asked for. */
  #headerSums(i: number, train: boolean): void {
    const e = this.#card.engine;
    const off = this.#off[i]!;
    const l4 = this.#l4[i]!;
    if ((this.#flags[i]! & NET_HDR_F_UDP_CSUM) !== 0 && l4 > 0) {
      // One header for several packets cannot carry their checksums: it says "none", and the receiver of the train knows.
      if (train) this.#card.memory.dv.setUint16(off + l4 + 6, 0);
      else e.udpFill(this.#ip[i]!, off + this.#l3[i]!, off + l4, off + this.#end[i]!);
    }
    if ((this.#flags[i]! & NET_HDR_F_IP_CSUM) !== 0 && this.#ip[i] === 4) e.ipv4Fill(off + this.#l3[i]!);
  }

  /** Cuts the train into packets in scratch memory. False when it has to go on later. */
  #cut(i: number, packets: number): boolean {
    const card = this.#card;
    const segsz = this.#segsz[i]!;
    const hdrlen = this.#hdrlen[i]!;
    const udpCsum = (this.#flags[i]! & NET_HDR_F_UDP_CSUM) !== 0 && !card.isUdp;
    for (; this.#segment < packets; this.#segment++) {
      if (this.#batch.count === BATCH) return false;
      const to = this.#cuts.alloc(hdrlen + segsz);
      if (to < 0) return false;
      const n = card.engine.segment(
        this.#off[i]!,
        this.#len[i]!,
        hdrlen,
        segsz,
        this.#segment,
        to,
        this.#ip[i]!,
        this.#l3[i]!,
        this.#l4[i]!,
        udpCsum,
      );
      const last = this.#segment === packets - 1;
      // A gathered train must stay in its own scratch memory until its last packet was cut.
      this.#entry(to, n, 0, 0, last ? this.#vq.head[i]! : -1, last ? this.#mark[i]! : NO_MARK, this.#cuts.mark);
    }
    this.#segment = 0;
    card.counters.tx_trains_cut++;
    return true;
  }

  #entry(off: number, len: number, segsz: number, hdrlen: number, head: number, gather: number, cut: number): void {
    const strip = this.#card.isIp ? ETHER_HEADER : 0;
    const batch = this.#batch;
    const k = batch.count++;
    batch.off[k] = off + strip;
    batch.len[k] = len - strip;
    batch.segsz[k] = segsz;
    batch.hdrlen[k] = segsz > 0 ? hdrlen - strip : 0;
    batch.flags[k] = 0;
    this.#bytes[k] = len;
    this.#endsHead[k] = head;
    this.#endsGather[k] = gather;
    this.#endsCut[k] = cut;
  }

  /** The port took the first `taken` entries: completes their chains and closes up the rest. */
  #sent(taken: number): void {
    const batch = this.#batch;
    const c = this.#card.counters;
    let frames = 0;
    let packets = taken;
    let bytes = 0;
    for (let k = 0; k < taken; k++) {
      const head = this.#endsHead[k]!;
      if (head >= 0) {
        this.#vq.push(head, 0);
        frames++;
      }
      const segsz = batch.segsz[k]!;
      if (segsz > 0) packets += Math.ceil((batch.len[k]! - batch.hdrlen[k]!) / segsz) - 1;
      bytes += this.#bytes[k]!;
      if (this.#endsGather[k]! !== NO_MARK) this.#gathered.release(this.#endsGather[k]!);
      if (this.#endsCut[k]! !== NO_MARK) this.#cuts.release(this.#endsCut[k]!);
    }
    this.pushed += frames;
    c.tx_frames += frames;
    c.tx_packets += packets;
    c.tx_bytes += bytes;
    if (taken < batch.count) {
      if (taken > 0) {
        for (const column of this.#columns) column.copyWithin(0, taken, batch.count);
      }
      batch.count -= taken;
    } else batch.count = 0;
  }
}
