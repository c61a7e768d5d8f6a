/**
 * The receive ring of a packet socket, TPACKET_V3 (the kernel's Documentation/networking/packet_mmap.rst): blocks of frames of
 * any length. The kernel fills a block and hands it over as a whole, when it is full or a timeout has passed, a millisecond at
 * least: much for a round trip. So frames are also read out of the block that the kernel still fills (`peek`). A frame is
 * whole when all fields of its header that we use are there, which tpacket_rcv writes after the frame: blocks are given back
 * cleared, and only a processor that keeps stores in order (x64) shows it so.
 *
 * Consecutive SCTP packets of one flow come out as a train (coalesce.ts). A frame longer than the interface's MTU has not been
 * cut yet: it is what the kernel SCTP of this machine leaves to a segmenting card (GSO); it is cut here, between chunks.
 */
import type { Native } from '../native.js';
import { Coalescer } from './coalesce.js';
import { BATCH_L3_TRUSTED, BATCH_SCTP_CSUM_OK, type Batch, type Memory } from './port.js';

// Block descriptor, byte offsets.
const BLOCK_STATUS = 8;
const BLOCK_PACKETS = 12;
const BLOCK_FIRST = 16;
const BLOCK_LENGTH = 20;
const BLOCK_SEQUENCE = 24; // 64 bits, of which the low ones will do
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

export { RX_TRAIN, RX_TRAIN_SEGMENTS } from './coalesce.js';

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

  readonly #coalescer: Coalescer;
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #i32: Int32Array;
  readonly #blocks: number;
  readonly #bytes: number;
  readonly #counters: RxCounters;
  readonly #trains: boolean;
  readonly #peek: boolean;
  #block = 0; // the block being read, or the next one
  #open = false; // it has been handed over
  #used = 0; // frames of it that have been read
  #done = 0; // blocks before it that have been read and not yet given back
  #left = 0; // frames that can be read now
  #at = 0; // byte offset of the next one
  #cut = 0; // where to go on in a frame that is being cut, from its beginning; 0: none is

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
    this.#coalescer = new Coalescer(ring, blocks * bytes, native);
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

  /**
   * Goes on in a ring that somebody else has read from (a port that has ended): at the oldest block that has not been given back,
   * else at the one that the kernel fills. That one has the highest number: blocks are numbered as the kernel takes them up.
   */
  resume(): void {
    const i32 = this.#i32;
    const word = (block: number, at: number) => Atomics.load(i32, (block * this.#bytes + at) >> 2);
    let last = 0;
    for (let b = 1; b < this.#blocks; b++)
      if (((word(b, BLOCK_SEQUENCE) - word(last, BLOCK_SEQUENCE)) | 0) > 0) last = b;
    let at = last;
    for (let i = 1; i <= this.#blocks; i++) {
      const b = (last + i) % this.#blocks;
      if ((word(b, BLOCK_STATUS) & USER) === 0) continue;
      at = b;
      break;
    }
    this.#block = at;
    this.#at = at * this.#bytes + BLOCK_HEADER;
  }

  /** True when `receive` has something. */
  get ready(): boolean {
    return this.#left > 0 || this.#next();
  }

  /** Port.receive: fills entries [0, room) of the batch; `mtu` is the interface's. */
  receive(memory: Memory, batch: Batch, room: number, mtu: number): number {
    const c = this.#counters;
    const i32 = this.#i32;
    const out = this.#coalescer;
    out.begin(memory, batch, room);
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
        if (out.full) break;
        this.#split(batch, mac, n, status, mtu);
        if (this.#cut !== 0) break;
        this.#advance();
        continue;
      }
      // A tag lies beside the frame, and a checksum that is not there cannot be a train's.
      const alone = (status & (VLAN_VALID | CSUM_NOT_READY)) === 0;
      const hdr = this.#trains && alone ? out.flow(mac, n) : 0;
      const tag = (status & VLAN_VALID) !== 0 ? TAG : 0;
      if (!out.extend(mac, n, hdr)) {
        if (out.full) break;
        if (n + tag > batch.cap[out.entries]!) {
          c.rx_truncated++;
          this.#advance();
          continue;
        }
        const to = out.entry(mac, n + tag, hdr, (status & CSUM_NOT_READY) !== 0 ? this.#partial(mac) : 0);
        if (tag > 0) this.#tagged(memory, at, mac, to, n, status);
        else out.row(mac, to, n);
      }
      c.rx_packets++;
      c.rx_bytes += n + tag;
      this.#advance();
    }
    const k = out.end();
    this.#release();
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

  /** The kernel takes a VLAN tag out of the frame and tells it beside; it goes back to where it was (IEEE 802.1Q). */
  #tagged(memory: Memory, at: number, mac: number, to: number, n: number, status: number): void {
    const tpid = (status & TPID_VALID) !== 0 ? this.#u16[(at + VLAN_TPID) >> 1]! : 0x8100;
    const tci = this.#i32[(at + VLAN_TCI) >> 2]!;
    this.#coalescer.row(mac, to, 12);
    this.#coalescer.row(mac + 12, to + 16, n - 12);
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

  /**
   * Cuts a frame that is longer than the interface takes into packets of whole chunks, from #cut on; leaves #cut at 0 when it is
   * done. Only for SCTP whose checksum is not ready: nobody but this machine can have made it.
   */
  #split(batch: Batch, mac: number, n: number, status: number, mtu: number): void {
    const out = this.#coalescer;
    const u8 = this.#u8;
    const ip = mac + ETHER;
    const four = u8[mac + 12] === 8 && u8[mac + 13] === 0 && u8[ip] === 0x45 && u8[ip + 9] === SCTP;
    const six = u8[mac + 12] === 0x86 && u8[mac + 13] === 0xdd && u8[ip + 6] === SCTP;
    const tag = (status & VLAN_VALID) !== 0;
    const head = ETHER + (four ? IP4 : IP6) + COMMON;
    if ((status & CSUM_NOT_READY) === 0 || !(four || six) || tag || n <= head) {
      this.#counters.rx_oversize++;
      return;
    }
    let at = this.#cut === 0 ? head : this.#cut;
    while (!out.full && at < n) {
      let end = at;
      while (end + 4 <= n) {
        const chunk = (u8[mac + end + 2]! << 8) | u8[mac + end + 3]!;
        const next = Math.min(n, end + ((chunk + 3) & ~3));
        if (chunk < 4 || head + next - at > mtu + ETHER) break;
        end = next;
      }
      const len = head + end - at;
      if (end === at || len > batch.cap[out.entries]!) {
        // No chunk, or one that no packet of this MTU holds: the rest is worth nothing.
        this.#counters.rx_oversize++;
        at = n;
        break;
      }
      const to = out.entry(mac, len, 0, BATCH_SCTP_CSUM_OK, true);
      out.row(mac, to, head);
      out.row(mac + at, to + head, end - at);
      this.#counters.rx_packets++;
      this.#counters.rx_bytes += len;
      this.#counters.rx_cut++;
      at = end;
    }
    this.#cut = at < n ? at : 0;
  }
}
