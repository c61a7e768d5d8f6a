/**
 * Receive pipeline: buffers from the receive queue, frames from the port straight into them, filter and checksum checks,
 * back through the used ring. VIRTIO 1.2 §5.1.6.4. A frame that is dropped leaves its buffer on the card for the next.
 *
 * A buffer is one chain: virtio_net_hdr, then the frame. With a port that carries IP the card leaves 14 bytes and writes an
 * Ethernet header: to our own address, from a fixed locally administered one, EtherType by the IP version.
 */

import { ETHER_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN } from '../nic/offload.js';
import { BATCH_L3_TRUSTED, BATCH_SCTP_CSUM_OK, Batch } from '../nic/ports/port.js';
import { type VirtqDevice, WRITABLE } from '../nic/virtq-device.js';
import {
  HASH_REPORT_IPV4,
  HASH_REPORT_IPV6,
  HASH_REPORT_NONE,
  HASH_REPORT_UDPV4,
  HASH_REPORT_UDPV6,
  HASH_TYPE_IPV4,
  HASH_TYPE_IPV6,
  HASH_TYPE_UDPV4,
  HASH_TYPE_UDPV6,
  NET_HDR_F_DATA_VALID,
  NET_HDR_F_IP_CSUM,
  NET_HDR_F_SCTP_BAD,
  NET_HDR_F_SCTP_CSUM,
  NET_HDR_GSO_SCTP,
} from '../nic/virtqueue.js';
import { BATCH, type Card, RX_BOUNCE_SLOTS } from './card.js';
import { DROP_VLAN, PASS } from './filters.js';

/** Source address of the link headers that the card writes: 02:6e:6b:65:00:00. */
export const IP_MEDIUM_SOURCE_HI = 0x026e;
export const IP_MEDIUM_SOURCE_LO = 0x6b650000;

/**
 * Entries of one step when the port brings trains: up to half a mebibyte, so that acknowledgements leave before the sender's window
 * is used up, and not only when all of it has been received.
 */
const TRAINS_PER_STEP = 8;
const DROPPED = -1;
// For the loop over frames (what a module imports is looked up each time that it is used): big-endian words as a Uint16Array
// shows them.
const swap16 = (n: number): number => ((n & 0xff) << 8) | ((n >>> 8) & 0xff);
const IPV4_LE = swap16(ETHERTYPE_IPV4);
const IPV6_LE = swap16(ETHERTYPE_IPV6);
const VLAN_LE = swap16(ETHERTYPE_VLAN);
const LINK_HEADER = ETHER_HEADER;
/** Descriptors of a receive chain that the card remembers; a buffer in more pieces is handed back. */
const BOUNCE_SEGS = 64;

export class RxPipeline {
  readonly #card: Card;
  readonly #vq: VirtqDevice;
  readonly #batch = new Batch(BATCH);
  // Buffers held by the card: [0, staged), in step with batch.off and batch.cap.
  #staged = 0;
  #rooms = 0; // what each of them has room for at least
  #careful = true;
  readonly #head = new Int32Array(BATCH);
  readonly #slot = new Int32Array(BATCH).fill(-1); // bounce slot, or -1; of a buffer that is not held: -1
  readonly #flags = new Int32Array(BATCH); // virtio_net_hdr flags, or DROPPED; 0 between batches
  readonly #odd = new Int32Array(BATCH); // frames of a batch that are not the usual ones
  readonly #u16: Uint16Array;
  readonly #hash = new Int32Array(BATCH);
  readonly #hashType = new Int32Array(BATCH);
  #bounced = 0; // buffers held that have a bounce slot
  // Bounce slots: where the pieces of a scattered buffer lie.
  readonly #slotFree: number[] = [];
  readonly #slotSegs = new Int32Array(RX_BOUNCE_SLOTS);
  readonly #slotAddr = new Int32Array(RX_BOUNCE_SLOTS * BOUNCE_SEGS);
  readonly #slotLen = new Int32Array(RX_BOUNCE_SLOTS * BOUNCE_SEGS);
  /** Frames pushed since the caller last looked. */
  pushed = 0;
  /** The last step ended before its budget although there may be more: the next one is due at once. */
  capped = false;

  constructor(card: Card, vq: VirtqDevice) {
    this.#card = card;
    this.#vq = vq;
    const { buffer } = card.memory;
    this.#u16 = new Uint16Array(buffer, 0, buffer.byteLength >>> 1);
    this.reset();
  }

  /** Forgets every buffer held. */
  reset(): void {
    this.#staged = 0;
    this.#careful = true;
    this.#bounced = 0;
    this.#slot.fill(-1);
    this.#slotFree.length = 0;
    for (let i = 0; i < RX_BOUNCE_SLOTS; i++) this.#slotFree.push(i);
  }

  /** Receives at most `budget` frames; returns how many the port gave. */
  step(now: number, budget: number): number {
    let done = 0;
    this.capped = false;
    const trains = this.#card.port.capabilities.train > 0 ? TRAINS_PER_STEP : budget;
    while (done < budget) {
      if (this.#staged < BATCH && this.#vq.available) this.#stage();
      if (this.#staged === 0) {
        this.#card.counters.rx_no_buffer++;
        break;
      }
      const posted = Math.min(this.#staged, budget - done, trains);
      const got = this.#card.port.receive(this.#batch, posted, now);
      if (got === 0) break;
      this.#process(got);
      done += got;
      if (got < posted) break;
      if (done >= trains) {
        this.capped = trains < budget;
        break;
      }
    }
    this.#vq.publish();
    return done;
  }

  /** Takes buffers from the queue until a batch is held. */
  #stage(): void {
    const vq = this.#vq;
    const card = this.#card;
    // A driver that scatters its buffers is found out with the first few; from then on no more than there are bounce slots.
    const room = this.#careful ? Math.min(BATCH - this.#staged, this.#slotFree.length) : BATCH - this.#staged;
    if (room === 0) return;
    const lead = card.hdrBytes + (card.isIp ? ETHER_HEADER : 0);
    const need = card.hdrBytes + ETHER_HEADER + card.mtu;
    const { off, cap } = this.#batch;
    this.#rooms = this.#staged === 0 ? need - lead : Math.min(this.#rooms, need - lead);
    const plain = vq.popPlain(room, WRITABLE, lead, this.#staged, this.#head, off, cap, need - lead);
    this.#staged += plain;
    if (plain === room) {
      this.#careful = false;
      return;
    }
    if (!vq.available) return;
    // What ended the run may be a scattered buffer: no more of those than there are bounce slots.
    const n = vq.pop(Math.min(room - plain, this.#slotFree.length), WRITABLE);
    let scattered = false;
    for (let i = 0; i < n; i++) {
      const segs = vq.nseg[i]!;
      const first = vq.first[i]!;
      const s = this.#staged;
      if (segs > 1) scattered = true;
      if (segs === 1 && vq.segLen[first]! >= need) {
        this.#head[s] = vq.head[i]!;
        this.#batch.off[s] = vq.segAddr[first]! + lead;
        this.#batch.cap[s] = vq.segLen[first]! - lead;
        this.#staged++;
      } else if (segs > 1 && this.#bounce(i, first, segs, need)) {
        this.#batch.off[s] = card.scratch.bounce + this.#slot[s]! * card.scratch.bounceBytes + lead;
        this.#batch.cap[s] = Math.min(card.scratch.bounceBytes, this.#total(this.#slot[s]!)) - lead;
        this.#staged++;
      } else {
        if (segs > 0) card.counters.rx_short_buffer++;
        else card.counters.desc_bad++;
        vq.push(vq.head[i]!, 0);
        this.pushed++;
      }
    }
    if (n > 0) this.#careful = scattered;
  }

  /** Notes the pieces of a scattered buffer in a bounce slot. False when it is too small, or no slot is free. */
  #bounce(i: number, first: number, segs: number, need: number): boolean {
    const vq = this.#vq;
    let total = 0;
    for (let k = 0; k < segs; k++) total += vq.segLen[first + k]!;
    if (total < need || segs > BOUNCE_SEGS) return false;
    const slot = this.#slotFree.pop();
    if (slot === undefined) return false;
    for (let k = 0; k < segs; k++) {
      this.#slotAddr[slot * BOUNCE_SEGS + k] = vq.segAddr[first + k]!;
      this.#slotLen[slot * BOUNCE_SEGS + k] = vq.segLen[first + k]!;
    }
    this.#slotSegs[slot] = segs;
    this.#head[this.#staged] = vq.head[i]!;
    this.#slot[this.#staged] = slot;
    this.#bounced++;
    return true;
  }
  #total(slot: number): number {
    let total = 0;
    for (let k = 0; k < this.#slotSegs[slot]!; k++) total += this.#slotLen[slot * BOUNCE_SEGS + k]!;
    return total;
  }
  /** Copies a bounced frame with its header out to the pieces, and frees the slot. */
  #scatter(slot: number, from: number, bytes: number): void {
    const { u8 } = this.#card.memory;
    let done = 0;
    for (let k = 0; k < this.#slotSegs[slot]! && done < bytes; k++) {
      const n = Math.min(this.#slotLen[slot * BOUNCE_SEGS + k]!, bytes - done);
      u8.copyWithin(this.#slotAddr[slot * BOUNCE_SEGS + k]!, from + done, from + done + n);
      done += n;
    }
    this.#slotFree.push(slot);
    this.#bounced--;
  }

  /** Judges, checks and pushes the frames [0, got) of the batch; keeps the buffers that were not used up. */
  #process(got: number): void {
    const card = this.#card;
    const { hdrBytes, engine } = card;
    const { len } = this.#batch;
    const flags = this.#flags;
    const odd = this.#odd;
    if (card.isIp) for (let i = 0; i < got; i++) this.#linkHeader(i);
    let odds = 0;
    let dropped = 0;
    for (let i = this.#usual(0, got); i < got; i = this.#usual(i + 1, got)) {
      flags[i] = this.#look(i);
      if (flags[i] === DROPPED) dropped++;
      odd[odds++] = i;
    }
    if (engine.jobs > 0) this.#checkSums();
    for (let k = 0; k < odds; k++) if (flags[odd[k]!] !== DROPPED) this.#header(odd[k]!);
    if (dropped === 0) {
      this.#vq.pushFilled(this.#head, len, hdrBytes, got);
      this.#close(got);
    } else {
      for (let i = 0; i < got; i++) if (flags[i] !== DROPPED) this.#vq.push(this.#head[i]!, hdrBytes + len[i]!);
      this.#closeAround(got);
    }
    for (let k = 0; k < odds; k++) flags[odd[k]!] = 0;
    this.pushed += got - dropped;
    card.counters.rx_frames += got - dropped;
  }

  /** Carries out the CRC32c jobs that `#inspect` noted, and notes their results in `#flags`. */
  #checkSums(): void {
    const { engine, counters } = this.#card;
    engine.check();
    for (let j = 0; j < engine.jobs; j++) {
      const i = engine.jobIndex[j]!;
      if (engine.bad[j] === 0) {
        this.#flags[i]! |= NET_HDR_F_SCTP_CSUM;
        counters.rx_csum_sctp_ok++;
      } else {
        this.#flags[i]! |= NET_HDR_F_SCTP_BAD;
        counters.rx_csum_sctp_bad++;
      }
    }
    engine.jobs = 0;
  }

  /**
   * Passes the frames [i, got) for as long as each is the usual: one packet to the own address, in one piece at an even place,
   * with nothing in it that is to be checked. Writes virtio_net_hdr. Returns the first that is not. (A loop without calls, over
   * 16-bit words.)
   */
  #usual(i: number, got: number): number {
    const card = this.#card;
    const { off, len, segsz } = this.#batch;
    const { filter, counters } = card;
    const u16 = this.#u16;
    const checks = card.rxCsum || card.guestCsum;
    const longest = Math.min(card.mtu + ETHER_HEADER, this.#rooms);
    const hi = swap16(filter.ownHi);
    const mid = swap16(filter.ownLo >>> 16);
    const lo = swap16(filter.ownLo);
    const first = i;
    let bytes = 0;
    if (filter.ownHi < 0 || card.isIp || card.hashReport || this.#bounced > 0) return i;
    const lead = card.hdrBytes >>> 1;
    for (; i < got; i++) {
      const at = off[i]!;
      const n = len[i]!;
      if (segsz[i] !== 0 || n < LINK_HEADER || n > longest || (at & 1) !== 0) break;
      const f = at >> 1;
      if (u16[f] !== hi || u16[f + 1] !== mid || u16[f + 2] !== lo) break;
      const type = u16[f + 6]!;
      if (checks && (type === IPV4_LE || type === IPV6_LE || type === VLAN_LE)) break;
      const h = f - lead;
      u16[h] = 0;
      u16[h + 1] = 0;
      u16[h + 2] = 0;
      u16[h + 3] = 0;
      u16[h + 4] = 0;
      u16[h + 5] = 1; // num_buffers, §5.1.6.4.1
      bytes += n;
    }
    counters.rx_packets += i - first;
    counters.rx_bytes += bytes;
    return i;
  }

  /** Judges frame i and inspects what passes: its header flags, or DROPPED. */
  #look(i: number): number {
    const card = this.#card;
    const f = this.#judge(i);
    if (f !== PASS || !(card.rxCsum || card.guestCsum || card.hashReport)) return f;
    return this.#inspect(i, this.#batch.off[i]!, this.#batch.len[i]!);
  }

  /** Buffers [0, got) are used up: as many of those behind them take their places. */
  #close(got: number): void {
    const rest = this.#staged - got;
    const from = Math.max(got, rest);
    for (let i = from; i < this.#staged; i++) this.#keep(i - from, i);
    this.#staged = rest;
  }
  /** The same when frames were dropped, whose buffers stay. */
  #closeAround(got: number): void {
    const { isIp } = this.#card;
    let keep = 0;
    for (let i = 0; i < got; i++) {
      if (this.#flags[i]! !== DROPPED) continue;
      // The link header moved the frame's start; the buffer goes back to how it was staged.
      if (isIp) this.#batch.off[i]! += ETHER_HEADER;
      this.#keep(keep++, i);
    }
    for (let i = got; i < this.#staged; i++) this.#keep(keep++, i);
    this.#staged = keep;
  }
  #keep(to: number, from: number): void {
    if (to === from) return;
    this.#head[to] = this.#head[from]!;
    this.#slot[to] = this.#slot[from]!;
    this.#slot[from] = -1;
    this.#batch.off[to] = this.#batch.off[from]!;
    this.#batch.cap[to] = this.#batch.cap[from]!;
  }

  /** Writes the Ethernet header in front of an IP packet; the entry is a frame from then on. */
  #linkHeader(i: number): void {
    const { dv, u8 } = this.#card.memory;
    const { mac } = this.#card;
    const batch = this.#batch;
    const ip = batch.off[i]!;
    const at = ip - ETHER_HEADER;
    dv.setUint16(at, (mac[0]! << 8) | mac[1]!);
    dv.setInt32(at + 2, (mac[2]! << 24) | (mac[3]! << 16) | (mac[4]! << 8) | mac[5]!);
    dv.setUint16(at + 6, IP_MEDIUM_SOURCE_HI);
    dv.setUint32(at + 8, IP_MEDIUM_SOURCE_LO);
    const version = batch.len[i]! > 0 ? u8[ip]! >>> 4 : 0;
    dv.setUint16(at + 12, version === 4 ? ETHERTYPE_IPV4 : version === 6 ? ETHERTYPE_IPV6 : 0);
    batch.off[i] = at;
    batch.len[i]! += ETHER_HEADER;
    if (batch.segsz[i]! > 0) batch.hdrlen[i]! += ETHER_HEADER;
  }

  /** Size rules and address filter: PASS, or DROPPED and counted. */
  #judge(i: number): number {
    const card = this.#card;
    const c = card.counters;
    const batch = this.#batch;
    const off = batch.off[i]!;
    const len = batch.len[i]!;
    const segsz = batch.segsz[i]!;
    if (len < ETHER_HEADER + (card.isIp ? 20 : 0)) c.rx_runt++;
    else if (len > batch.cap[i]! + (card.isIp ? ETHER_HEADER : 0)) c.rx_truncated++;
    else if (segsz === 0 && len > card.mtu + ETHER_HEADER && !this.#taggedFits(off, len)) c.rx_oversize++;
    else if (
      segsz !== 0 &&
      (!card.rxTrain || segsz < 0 || batch.hdrlen[i]! < ETHER_HEADER + 20 || batch.hdrlen[i]! >= len)
    )
      c.rx_train_refused++;
    else if (card.isIp) {
      if (card.memory.dv.getUint16(off + 12) !== 0) return PASS;
      c.rx_not_ip++;
    } else {
      const verdict = card.filter.judge(card.memory, off, len);
      if (verdict > PASS) c.rx_multicast++;
      if (verdict >= PASS) return PASS;
      if (verdict === DROP_VLAN) c.rx_vlan_filtered++;
      else c.rx_filtered++;
    }
    return DROPPED;
  }
  #taggedFits(off: number, len: number): boolean {
    return len <= this.#card.mtu + ETHER_HEADER + 4 && this.#card.memory.dv.getUint16(off + 12) === ETHERTYPE_VLAN;
  }

  /** Checks the headers of a frame, notes its SCTP for the CRC32c unit, hashes it. Returns header flags. */
  #inspect(i: number, off: number, len: number): number {
    const card = this.#card;
    const e = card.engine;
    const batch = this.#batch;
    const segsz = batch.segsz[i]!;
    this.#hashType[i] = HASH_REPORT_NONE;
    if (!e.parse(off, len, segsz > 0 ? batch.hdrlen[i]! : 0)) return 0;
    const trusted = (batch.flags[i]! & BATCH_L3_TRUSTED) !== 0;
    let flags = 0;
    if (card.hashReport) this.#hashFrame(i);
    if (card.rxCsum) {
      if (trusted || e.ip === 6 || e.ipv4Good(e.l3)) flags |= NET_HDR_F_IP_CSUM;
      else card.counters.rx_csum_ip_bad++;
    }
    if (e.isUdp && card.guestCsum) {
      // The packets of a train have no UDP checksum of their own: the port that made the train vouches for it.
      if (trusted || segsz > 0 || e.udpGood()) flags |= NET_HDR_F_DATA_VALID;
      else card.counters.rx_csum_udp_bad++;
    }
    if (!card.rxCsum) return flags;
    const { dv } = card.memory;
    const inUdp =
      e.isUdp && (card.isUdp || card.sctpUdpPort(dv.getUint16(e.l4)) || card.sctpUdpPort(dv.getUint16(e.l4 + 2)));
    const at = e.sctpAt(inUdp);
    if (at < 0) return flags;
    if ((batch.flags[i]! & BATCH_SCTP_CSUM_OK) !== 0) {
      card.counters.rx_csum_sctp_ok++;
      return flags | NET_HDR_F_SCTP_CSUM;
    }
    if (segsz > 0 && at !== off + batch.hdrlen[i]!) {
      card.counters.rx_csum_sctp_bad++;
      return flags | NET_HDR_F_SCTP_BAD;
    }
    e.addJob(i, at, e.end, segsz);
    return flags;
  }

  #hashFrame(i: number): void {
    const e = this.#card.engine;
    const types = this.#card.hashTypes;
    const four = e.ip === 4;
    if (e.isUdp && (types & (four ? HASH_TYPE_UDPV4 : HASH_TYPE_UDPV6)) !== 0) {
      this.#hash[i] = e.rssHash(true);
      this.#hashType[i] = four ? HASH_REPORT_UDPV4 : HASH_REPORT_UDPV6;
    } else if ((types & (four ? HASH_TYPE_IPV4 : HASH_TYPE_IPV6)) !== 0) {
      this.#hash[i] = e.rssHash(false);
      this.#hashType[i] = four ? HASH_REPORT_IPV4 : HASH_REPORT_IPV6;
    }
  }

  /** Writes virtio_net_hdr in front of frame i, which was not dropped, and counts what it holds. */
  #header(i: number): void {
    const card = this.#card;
    const { dv } = card.memory;
    const { hdrBytes, counters } = card;
    const at = this.#batch.off[i]! - hdrBytes;
    if (this.#batch.segsz[i] === 0) {
      dv.setUint32(at, this.#flags[i]!, true);
      dv.setUint32(at + 4, 0, true);
      counters.rx_packets++;
    } else counters.rx_packets += this.#trainHeader(i, at);
    counters.rx_bytes += this.#batch.len[i]!;
    dv.setUint32(at + 8, 0x10000, true); // num_buffers 1, §5.1.6.4.1
    if (card.hashReport) {
      dv.setInt32(at + 12, this.#hash[i]!, true);
      dv.setUint32(at + 16, this.#hashType[i]!, true);
    }
    const slot = this.#slot[i]!;
    if (slot < 0) return;
    this.#slot[i] = -1;
    this.#scatter(slot, at, hdrBytes + this.#batch.len[i]!);
  }
  /** The first words of virtio_net_hdr for train i, at `at`. Returns how many packets it stands for. */
  #trainHeader(i: number, at: number): number {
    const card = this.#card;
    const batch = this.#batch;
    const hdrlen = batch.hdrlen[i]!;
    const segsz = batch.segsz[i]!;
    card.memory.dv.setUint32(at, this.#flags[i]! | (NET_HDR_GSO_SCTP << 8) | (hdrlen << 16), true);
    card.memory.dv.setUint32(at + 4, segsz, true);
    card.counters.rx_trains++;
    return Math.ceil((batch.len[i]! - hdrlen) / segsz);
  }
}
