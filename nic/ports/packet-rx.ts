/**
 * The receive ring of a packet socket, TPACKET_V3 (the kernel's Documentation/networking/packet_mmap.rst): blocks of frames of
 * any length. The kernel fills a block and hands it over as a whole, when it is full or a timeout has passed, a millisecond at
 * least: much for a round trip. So frames are also read out of the block that the kernel still fills (`peek`). A frame is
 * whole when all fields of its header that we use are there, which tpacket_rcv writes after the frame: blocks are given back
 * cleared, and only a processor that keeps stores in order (x64) shows it so.
 *
 * Consecutive SCTP packets of one flow come out as a train. A frame longer than the interface's MTU has not been cut yet: it is
 * what the kernel SCTP of this machine leaves to a segmenting card (GSO); it is cut here, between chunks.
 */
import type { Native } from '../native.js';
import { repairHeaders } from './headers.js';
import { BATCH_L3_TRUSTED, BATCH_SCTP_CSUM_OK, type Batch, type Memory } from './port.js';

// Block descriptor, byte offsets.
const BLOCK_STATUS = 8;
const BLOCK_PACKETS = 12;
const BLOCK_FIRST = 16;
const BLOCK_LENGTH = 20;
const BLOCK_HEADER = 48; // where the first frame is
// struct tpacket3_hdr, byte offsets.
const NEXT = 0;
const SNAPLEN = 12;
const LENGTH = 16;
const STATUS = 20;
const MAC = 24;
const VLAN_TCI = 32;
const VLAN_TPID = 36;
const IFINDEX = 48 + 4; // in the struct sockaddr_ll behind it

const USER = 1;
const LOSING = 4;
const CSUM_NOT_READY = 8; // sent on this machine: the checksum of its payload is left to hardware
const VLAN_VALID = 0x10;
const TPID_VALID = 0x40;

const ETHER = 14;
const TAG = 4;
const IP4 = 20;
const IP6 = 40;
const SCTP = 132;
const COMMON = 12; // SCTP common header
const ROWS = 1024;

export const RX_TRAIN = 65535; // an IPv4 header counts no more
export const RX_TRAIN_SEGMENTS = 64;

export interface RxCounters {
  rx_packets: number;
  rx_bytes: number;
  rx_truncated: number;
  rx_oversize: number;
  rx_errors: number;
  rx_cut: number;
}

export class PacketRx {
  /** Set when the kernel says that it had to drop frames. */
  losing = false;

  readonly #native: Native;
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #i32: Int32Array;
  readonly #blocks: number;
  readonly #bytes: number;
  readonly #counters: RxCounters;
  readonly #trains: boolean;
  readonly #peek: boolean;
  readonly #from = new Int32Array(ROWS);
  readonly #to = new Int32Array(ROWS);
  readonly #len = new Int32Array(ROWS);
  #rows = 0;
  #block = 0; // the block being read, or the next one
  #open = false; // it has been handed over
  #used = 0; // frames of it that have been read
  #done = 0; // blocks before it that have been read and not yet given back
  #left = 0; // frames that can be read now
  #at = 0; // byte offset of the next one
  #cut = 0; // where to go on in a frame that is being cut, from its beginning; 0: none is
  #mend: Uint8Array = new Uint8Array(64); // entries of the batch whose IP header is to be made true

  /** `ring`: a mapping that begins with `blocks` blocks of `bytes` bytes. */
  constructor(
    ring: ArrayBuffer,
    blocks: number,
    bytes: number,
    counters: RxCounters,
    trains: boolean,
    peek: boolean,
    native: Native,
  ) {
    this.#native = native;
    this.#u8 = new Uint8Array(ring, 0, blocks * bytes);
    this.#u16 = new Uint16Array(ring, 0, (blocks * bytes) >> 1);
    this.#i32 = new Int32Array(ring, 0, (blocks * bytes) >> 2);
    this.#blocks = blocks;
    this.#bytes = bytes;
    this.#counters = counters;
    this.#trains = trains;
    this.#peek = peek;
    this.#at = BLOCK_HEADER; // a ring begins cleared
  }

  /** True when `receive` has something. */
  get ready(): boolean {
    return this.#left > 0 || this.#next();
  }

  /** Port.receive: fills entries [0, room) of the batch; `mtu` is the interface's. */
  receive(memory: Memory, batch: Batch, room: number, mtu: number): number {
    const { off, len, cap, segsz, hdrlen, flags } = batch;
    const c = this.#counters;
    const i32 = this.#i32;
    if (this.#mend.length < room) this.#mend = new Uint8Array(batch.capacity);
    let k = 0;
    let train = 0; // header bytes of the entry k - 1 when it may grow, else 0
    let first = 0; // where its first frame is
    let size = 0; // payload bytes of its packets
    let count = 0; // how many it has
    while (this.#left > 0 || this.#next()) {
      const at = this.#at;
      const n = i32[(at + LENGTH) >> 2]!;
      const mac = at + this.#u16[(at + MAC) >> 1]!;
      const status = i32[(at + STATUS) >> 2]!;
      if (n < ETHER || mac + i32[(at + SNAPLEN) >> 2]! > (this.#block + 1) * this.#bytes) {
        c.rx_errors++;
        this.#advance();
        continue;
      }
      if (i32[(at + SNAPLEN) >> 2]! < n) {
        c.rx_truncated++;
        this.#advance();
        continue;
      }
      if (n > mtu + ETHER && !(n <= mtu + ETHER + TAG && this.#u8[mac + 12] === 0x81 && this.#u8[mac + 13] === 0)) {
        if (k === room) break;
        k = this.#split(memory, batch, k, room, mac, n, status, mtu);
        train = 0;
        if (this.#cut !== 0) break;
        this.#advance();
        continue;
      }
      const hdr = this.#trains ? this.#flow(mac, n, status) : 0;
      if (train > 0) {
        // A train ends with its first shorter packet.
        const last = k - 1;
        const more = n - train;
        if (
          hdr === train &&
          more <= size &&
          count < RX_TRAIN_SEGMENTS &&
          len[last]! + more <= cap[last]! &&
          len[last]! + more <= RX_TRAIN &&
          this.#same(first, mac, hdr)
        ) {
          this.#row(memory, mac + hdr, off[last]! + len[last]!, more);
          len[last]! += more;
          if (count++ === 1) {
            segsz[last] = size;
            hdrlen[last] = hdr;
            flags[last] = BATCH_L3_TRUSTED;
            this.#mend[last] = 1;
          }
          if (more < size) train = 0;
          c.rx_packets++;
          c.rx_bytes += n;
          this.#advance();
          continue;
        }
      }
      if (k === room) break;
      const tag = (status & VLAN_VALID) !== 0 ? TAG : 0;
      if (n + tag > cap[k]!) {
        c.rx_truncated++;
        this.#advance();
        continue;
      }
      if (tag > 0) this.#tagged(memory, at, mac, off[k]!, n, status);
      else this.#row(memory, mac, off[k]!, n);
      len[k] = n + tag;
      segsz[k] = 0;
      hdrlen[k] = 0;
      flags[k] = (status & CSUM_NOT_READY) !== 0 ? this.#partial(mac) : 0;
      this.#mend[k] = 0;
      train = hdr;
      first = mac;
      size = n - hdr;
      count = 1;
      k++;
      c.rx_packets++;
      c.rx_bytes += n + tag;
      this.#advance();
    }
    this.#flush(memory);
    this.#release();
    for (let i = 0; i < k; i++)
      if (this.#mend[i] !== 0) repairHeaders(memory.u8, off[i]! + ETHER, off[i]! + len[i]!, false, false);
    batch.count = k;
    return k;
  }

  /** Finds frames to be read, in the next block when this one is at its end. False when there are none. */
  #next(): boolean {
    const i32 = this.#i32;
    for (;;) {
      if (this.#open) this.#finish();
      if (this.#done === this.#blocks) return false;
      const base = this.#block * this.#bytes;
      // The load is the acquire of the whole block.
      const status = Atomics.load(i32, (base + BLOCK_STATUS) >> 2);
      const packets = i32[(base + BLOCK_PACKETS) >> 2]!;
      if ((status & USER) === 0) {
        if (!this.#peek || packets <= this.#used || !this.#whole(this.#at)) return false;
        this.#left = 1;
        return true;
      }
      if ((status & LOSING) !== 0) this.losing = true;
      this.#open = true;
      this.#left = packets - this.#used;
      if (this.#used === 0) this.#at = base + i32[(base + BLOCK_FIRST) >> 2]!;
      if (this.#left > 0) return true;
    }
  }

  /** True when the kernel is done with the frame at `at` of the block that it fills. */
  #whole(at: number): boolean {
    const i32 = this.#i32;
    return (
      Atomics.load(i32, (at + IFINDEX) >> 2) !== 0 &&
      (Atomics.load(i32, (at + STATUS) >> 2) & USER) !== 0 &&
      i32[(at + SNAPLEN) >> 2] !== 0 &&
      i32[(at + LENGTH) >> 2] !== 0 &&
      this.#u16[(at + MAC) >> 1] !== 0
    );
  }

  #advance(): void {
    this.#at += this.#i32[(this.#at + NEXT) >> 2]!;
    this.#left--;
    this.#used++;
  }

  /** The block has been handed over and read. */
  #finish(): void {
    this.#open = false;
    this.#done++;
    this.#used = 0;
    this.#block = this.#block + 1 === this.#blocks ? 0 : this.#block + 1;
    this.#at = this.#block * this.#bytes + BLOCK_HEADER;
  }

  /** Gives back the blocks that have been read. What was copied out of them must have been copied. */
  #release(): void {
    if (this.#open && this.#left === 0) this.#finish();
    for (; this.#done > 0; this.#done--) {
      const base = ((this.#block - this.#done + this.#blocks) % this.#blocks) * this.#bytes;
      if (this.#peek) {
        this.#u8.fill(0, base + BLOCK_HEADER, base + this.#i32[(base + BLOCK_LENGTH) >> 2]!);
        this.#i32[(base + BLOCK_PACKETS) >> 2] = 0;
      }
      Atomics.store(this.#i32, (base + BLOCK_STATUS) >> 2, 0);
    }
  }

  #row(memory: Memory, from: number, to: number, n: number): void {
    if (this.#rows === ROWS) this.#flush(memory);
    const i = this.#rows++;
    this.#from[i] = from;
    this.#to[i] = to;
    this.#len[i] = n;
  }

  #flush(memory: Memory): void {
    if (this.#rows > 0) this.#native.copyBatch(this.#u8, this.#from, memory.u8, this.#to, this.#len, this.#rows);
    this.#rows = 0;
  }

  /** The kernel takes a VLAN tag out of the frame and tells it beside; it goes back to where it was (IEEE 802.1Q). */
  #tagged(memory: Memory, at: number, mac: number, to: number, n: number, status: number): void {
    const tpid = (status & TPID_VALID) !== 0 ? this.#u16[(at + VLAN_TPID) >> 1]! : 0x8100;
    const tci = this.#i32[(at + VLAN_TCI) >> 2]!;
    this.#row(memory, mac, to, 12);
    this.#row(memory, mac + 12, to + 16, n - 12);
    memory.u8[to + 12] = tpid >>> 8;
    memory.u8[to + 13] = tpid;
    memory.u8[to + 14] = tci >>> 8;
    memory.u8[to + 15] = tci;
  }

  /**
   * Batch flags of a frame whose checksum was left out: it comes from a program of this machine through memory. UDP's covers
   * the payload; an SCTP packet inside has its own, which is looked at as ever.
   */
  #partial(mac: number): number {
    const u8 = this.#u8;
    const six = u8[mac + 12] === 0x86;
    return (six ? u8[mac + ETHER + 6] : u8[mac + ETHER + 9]) === SCTP ? BATCH_SCTP_CSUM_OK : BATCH_L3_TRUSTED;
  }

  /** Header bytes of a frame that is a whole SCTP packet and nothing else, fit for a train; else 0. */
  #flow(mac: number, n: number, status: number): number {
    const u8 = this.#u8;
    const ip = mac + ETHER;
    if ((status & (VLAN_VALID | CSUM_NOT_READY)) !== 0 || (ip & 3) !== 0 || n < ETHER + IP4 + COMMON + 4) return 0;
    const type = (u8[mac + 12]! << 8) | u8[mac + 13]!;
    if (type === 0x0800) {
      if (u8[ip] !== 0x45 || u8[ip + 9] !== SCTP || (u8[ip + 6]! & 0x3f) !== 0 || u8[ip + 7] !== 0) return 0;
      if (((u8[ip + 2]! << 8) | u8[ip + 3]!) !== n - ETHER) return 0;
      // RFC 1071 §1.B: the sum does not mind the byte order.
      let sum = 0;
      for (let w = ip >> 1, end = w + IP4 / 2; w < end; w++) sum += this.#u16[w]!;
      sum = (sum & 0xffff) + (sum >>> 16);
      return (sum & 0xffff) + (sum >>> 16) === 0xffff ? ETHER + IP4 : 0;
    }
    if (type !== 0x86dd || n < ETHER + IP6 + COMMON + 4 || u8[ip]! >>> 4 !== 6 || u8[ip + 6] !== SCTP) return 0;
    return ((u8[ip + 4]! << 8) | u8[ip + 5]!) === n - ETHER - IP6 ? ETHER + IP6 : 0;
  }

  /** True when the headers of two packets differ in nothing that a train does not make anew, and both are of one association. */
  #same(a: number, b: number, hdr: number): boolean {
    const u16 = this.#u16;
    const i32 = this.#i32;
    for (let i = 0; i < 6; i++) if (u16[(a >> 1) + i] !== u16[(b >> 1) + i]) return false;
    const p = (a + ETHER) >> 2;
    const q = (b + ETHER) >> 2;
    if (hdr === ETHER + IP4) {
      return (
        u16[p << 1] === u16[q << 1] && // type of service: ECN must stay what it was
        u16[(p << 1) + 3] === u16[(q << 1) + 3] &&
        u16[(p << 1) + 4] === u16[(q << 1) + 4] &&
        i32[p + 3] === i32[q + 3] &&
        i32[p + 4] === i32[q + 4] &&
        i32[p + 5] === i32[q + 5] &&
        i32[p + 6] === i32[q + 6]
      );
    }
    if (i32[p] !== i32[q] || u16[(p << 1) + 3] !== u16[(q << 1) + 3]) return false;
    for (let i = 2; i < 12; i++) if (i32[p + i] !== i32[q + i]) return false;
    return true;
  }

  /**
   * Cuts a frame that is longer than the interface takes into packets of whole chunks, from #cut on; leaves #cut at 0 when it is
   * done. Only for SCTP whose checksum is not ready: nobody but this machine can have made it.
   */
  #split(
    memory: Memory,
    batch: Batch,
    from: number,
    room: number,
    mac: number,
    n: number,
    status: number,
    mtu: number,
  ): number {
    const u8 = this.#u8;
    const ip = mac + ETHER;
    const four = u8[mac + 12] === 8 && u8[mac + 13] === 0 && u8[ip] === 0x45 && u8[ip + 9] === SCTP;
    const six = u8[mac + 12] === 0x86 && u8[mac + 13] === 0xdd && u8[ip + 6] === SCTP;
    const tag = (status & VLAN_VALID) !== 0;
    const head = ETHER + (four ? IP4 : IP6) + COMMON;
    if ((status & CSUM_NOT_READY) === 0 || !(four || six) || tag || n <= head) {
      this.#counters.rx_oversize++;
      return from;
    }
    let k = from;
    let at = this.#cut === 0 ? head : this.#cut;
    while (k < room && at < n) {
      let end = at;
      while (end + 4 <= n) {
        const chunk = (u8[mac + end + 2]! << 8) | u8[mac + end + 3]!;
        const next = Math.min(n, end + ((chunk + 3) & ~3));
        if (chunk < 4 || head + next - at > mtu + ETHER) break;
        end = next;
      }
      const len = head + end - at;
      if (end === at || len > batch.cap[k]!) {
        // No chunk, or one that no packet of this MTU holds: the rest is worth nothing.
        this.#counters.rx_oversize++;
        at = n;
        break;
      }
      this.#row(memory, mac, batch.off[k]!, head);
      this.#row(memory, mac + at, batch.off[k]! + head, end - at);
      batch.len[k] = len;
      batch.segsz[k] = 0;
      batch.hdrlen[k] = 0;
      batch.flags[k] = BATCH_SCTP_CSUM_OK;
      this.#mend[k++] = 1;
      this.#counters.rx_packets++;
      this.#counters.rx_bytes += len;
      this.#counters.rx_cut++;
      at = end;
    }
    this.#cut = at < n ? at : 0;
    return k;
  }
}
