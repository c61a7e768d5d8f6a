/**
 * Builds packets to one path at a time, straight into mbufs, and hands them to IP as trains: several packets of one size
 * behind each other in one jumbo mbuf (RFC 9260 §6.10 bundling happens in here; the train is the card's affair).
 *
 * Common header (§3.1): source port 2 | destination port 2 | verification tag 4 | CRC32c 4.
 */

import { Callout } from '../kern/callout.js';
import { MSEC } from '../kern/clock.js';
import { CLUSTER_BYTES, CSUM_SCTP, HEADROOM, type Mbuf } from '../kern/mbuf.js';
import { IFF_LOOPBACK } from '../net/ifnet.js';
import type { InAddr } from '../netinet/in.js';
import { IPPROTO_SCTP } from '../netinet/in.js';
import type { Association } from './association.js';
import { COMMON_HEADER } from './constants.js';
import type { Path } from './path.js';
import type { Sctp } from './sctp.js';

/** ECT(0), RFC 3168 §5. */
const ECT0 = 0x02;
/** Time after which an empty mbuf pool is asked again. */
const RETRY = 10 * MSEC;

export class PacketBuilder {
  readonly #s: Sctp;
  /** No mbuf was free: looks again soon, since there may be nothing else to wake the associations. */
  readonly #retry: Callout;
  #path: Path | undefined;
  #m: Mbuf = 0;
  #start = 0; // first byte of the first packet in the mbuf
  #pkt = 0; // first byte of the packet being built
  #at = 0; // next byte to write
  #end = 0; // end of the packet's room
  #limit = 0; // end of the mbuf's room, a multiple of 4 bytes from #start
  #isOpen = false;
  #segsz = 0;
  #count = 0; // closed packets in the mbuf
  #trainBytes = 0; // most bytes of packets in one train; 0 = none
  #trainSegments = 0;
  #df = true;
  #ect = false;
  #ectBefore = false; // as it was before the open packet
  /** Packets closed since construction: the burst limit counts these. */
  packets = 0;

  constructor(s: Sctp) {
    this.#s = s;
    this.#retry = new Callout(() => {
      for (const a of s.associations()) s.markDirty(a);
    });
  }

  /** Lets go of the timer: SCTP is being unloaded. */
  finish(): void {
    this.#s.stack.callouts.stop(this.#retry);
  }

  /** The path of the open packet, or undefined. */
  get openPath(): Path | undefined {
    return this.#isOpen ? this.#path : undefined;
  }
  /** Bytes left for chunks in the open packet. */
  get room(): number {
    return this.#end - this.#at;
  }
  /** True while the open packet has no chunk yet. */
  get empty(): boolean {
    return this.#at === this.#pkt + COMMON_HEADER;
  }

  /**
   * Makes sure that a packet to p is open; `many`: more than this one is likely to follow, so a train is worth a jumbo.
   * False when there is no mbuf (counted): try again with the next batch.
   */
  open(p: Path, many: boolean): boolean {
    if (this.#isOpen) {
      if (this.#path === p) return true;
      this.close();
    }
    if (this.#path !== p || this.#count === 0 || !this.#roomForAnother(p)) {
      this.flush();
      if (!this.#begin(p, many, p.packetRoom)) return false;
    }
    this.#header(p, p.packetRoom);
    return true;
  }

  /**
   * Opens a packet to carry one chunk larger than the path MTU, in an mbuf of its own; IP will fragment it (§7.3). False
   * when there is no mbuf.
   */
  openLarge(p: Path, chunkBytes: number): boolean {
    const need = COMMON_HEADER + chunkBytes;
    this.flush();
    if (!this.#begin(p, false, need)) return false;
    this.#df = false;
    this.#header(p, need);
    if (chunkBytes <= this.room) return true;
    this.close();
    return false;
  }

  /** Writes the common header of a packet that may become `room` bytes long. */
  #header(p: Path, room: number): void {
    const a = p.asoc;
    const dv = this.#s.stack.pool.dv;
    this.#pkt = this.#at;
    this.#end = Math.min(this.#pkt + room, this.#limit);
    this.#ectBefore = this.#ect;
    dv.setUint32(this.#pkt, (a.localPort << 16) | a.peerPort);
    dv.setUint32(this.#pkt + 4, a.peerTag);
    dv.setUint32(this.#pkt + 8, 0);
    this.#at = this.#pkt + COMMON_HEADER;
    this.#isOpen = true;
  }

  /** Takes n bytes (a multiple of 4, at most `room`) and returns where they start in the region. */
  reserve(n: number): number {
    const at = this.#at;
    this.#at = at + n;
    return at;
  }
  /** Writes a whole chunk of bytes, padded by its maker. */
  write(bytes: Uint8Array): void {
    this.#s.stack.pool.u8.set(bytes, this.reserve(bytes.length));
    this.#s.stats.sctps_outcontrolchunks++;
  }
  /** Data is in the packet: it may be marked by routers (RFC 3168 §5). */
  carriesData(): void {
    this.#ect = true;
  }

  /** Ends the open packet. An empty one is taken back. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (this.empty) {
      this.#at = this.#pkt;
      return;
    }
    this.packets++;
    const size = this.#at - this.#pkt;
    if (this.#count === 0) this.#segsz = size;
    else if (size > this.#segsz) {
      this.#split(size);
      return;
    }
    this.#count++;
    if (size < this.#segsz) this.flush(); // the short one ends a train
  }

  /** Hands everything closed to IP. */
  flush(): void {
    if (this.#isOpen) this.close();
    const m = this.#m;
    if (m === 0) return;
    const p = this.#path!;
    this.#m = 0;
    this.#path = undefined;
    const pool = this.#s.stack.pool;
    if (this.#count === 0) {
      pool.free(m);
      return;
    }
    const total = this.#at - this.#start;
    pool.off[m] = this.#start;
    pool.len[m] = total;
    pool.pktlen[m] = total;
    if (this.#count > 1) {
      pool.segsz[m] = this.#segsz;
      pool.hdrlen[m] = 0;
      this.#s.stats.sctps_outtrains++;
    }
    this.#s.stats.sctps_outpackets += this.#count;
    this.#count = 0;
    sendMbuf(this.#s, m, p.source, p.addr, p.tos | (this.#ect && p.asoc.ecn ? ECT0 : 0), this.#df, p.encapsPort);
  }

  /** True when the mbuf in hand may take one more packet to the same path. */
  #roomForAnother(p: Path): boolean {
    if (this.#m === 0 || this.#trainBytes === 0 || this.#count >= this.#trainSegments) return false;
    return this.#at - this.#start + p.packetRoom <= this.#trainBytes;
  }

  #begin(p: Path, many: boolean, need: number): boolean {
    const s = this.#s;
    const pool = s.stack.pool;
    this.#trainBytes = 0;
    if (many) {
      const route = s.stack.routes.lookupFrom(p.source, p.addr);
      p.trains = route !== undefined && route.ifp.trainBytes > 0;
      if (route !== undefined && route.ifp.trainBytes > 0) {
        const headers = 14 + p.overhead;
        this.#trainBytes = Math.min(route.ifp.trainBytes, 65535 + 14) - headers;
        this.#trainSegments = route.ifp.trainSegments;
      }
    }
    let m = this.#trainBytes > 0 ? pool.getJumbo() : 0;
    if (m === 0) {
      this.#trainBytes = 0;
      m = pool.get(need);
      // No jumbo for a packet of a large path MTU: a smaller packet is better than none.
      if (m === 0 && need > CLUSTER_BYTES - HEADROOM) m = pool.getCluster();
    }
    if (m === 0 || pool.size[m]! - HEADROOM < need) {
      s.stats.sctps_nomem++;
      if (!this.#retry.pending) s.stack.callouts.reset(this.#retry, RETRY);
      if (m === 0) return false;
    }
    this.#limit = pool.base[m]! + HEADROOM + ((pool.size[m]! - HEADROOM) & ~3);
    this.#m = m;
    this.#path = p;
    this.#start = this.#at = pool.base[m]! + HEADROOM;
    this.#count = 0;
    this.#df = true;
    this.#ect = false;
    return true;
  }

  /** The packet just closed is longer than those before it: those go now, it begins an mbuf of its own. */
  #split(size: number): void {
    const pool = this.#s.stack.pool;
    const p = this.#path!;
    const from = this.#pkt;
    const old = this.#m;
    const ect = this.#ect;
    this.#ect = this.#ectBefore; // a SACK in front of data is not marked for the data's sake
    const m = pool.getJumbo() || pool.get(size);
    if (m === 0) {
      this.#s.stats.sctps_nomem++;
      this.#at = this.#pkt; // this packet is lost, as if by the network
      this.flush();
      return;
    }
    pool.u8.copyWithin(pool.base[m]! + HEADROOM, from, from + size);
    this.#at = this.#pkt;
    const trainBytes = this.#trainBytes;
    this.#m = old;
    this.flush();
    this.#m = m;
    this.#path = p;
    this.#start = pool.base[m]! + HEADROOM;
    this.#at = this.#start + size;
    this.#count = 1;
    this.#segsz = size;
    this.#df = true;
    this.#ect = ect;
    this.#trainBytes = pool.size[m]! > 60000 ? trainBytes : 0;
    this.#limit = pool.base[m]! + pool.size[m]!;
  }
}

/** Sends an mbuf of finished packets (checksums aside) from src to dst, in UDP if encapsPort is not 0. Takes ownership. */
export function sendMbuf(
  s: Sctp,
  m: Mbuf,
  src: InAddr,
  dst: InAddr,
  tos: number,
  df: boolean,
  encapsPort: number,
): void {
  const stack = s.stack;
  const pool = stack.pool;
  const route = stack.routes.lookupFrom(src, dst);
  if (route === undefined) {
    pool.freem(m);
    s.stats.sctps_outfailed++;
    return;
  }
  if (encapsPort !== 0 && s.tunnelPort === 0) {
    // The tunnel was closed under an association that lives in it.
    pool.freem(m);
    s.stats.sctps_outfailed++;
    return;
  }
  const ifp = route.ifp;
  const noCrc = (ifp.flags & IFF_LOOPBACK) !== 0 && s.tunables.loopback_nocsum === 1 && encapsPort === 0;
  if (!noCrc) {
    // A packet that IP will fragment cannot have its CRC filled in by the card.
    if ((ifp.hwassist & CSUM_SCTP) !== 0 && df) pool.csum[m]! |= CSUM_SCTP;
    else fillCrc(s, m);
  }
  const e =
    encapsPort === 0
      ? stack.output(m, src, dst, IPPROTO_SCTP, tos, df)
      : stack.udp.output(m, src, dst, s.tunnelPort, encapsPort, tos, df);
  if (e < 0) s.stats.sctps_outfailed++;
}

/** Fills in the CRC32c of every packet of an mbuf (RFC 9260 §6.8): stored with its least significant byte first. */
function fillCrc(s: Sctp, m: Mbuf): void {
  const pool = s.stack.pool;
  const off = pool.off[m]!;
  const total = pool.pktlen[m]!;
  const seg = pool.segsz[m]! || total;
  for (let at = 0; at < total; at += seg) {
    const n = Math.min(seg, total - at);
    pool.dv.setUint32(off + at + 8, 0);
    pool.dv.setUint32(off + at + 8, s.crc32c(pool.u8, off + at, n), true);
  }
}

/**
 * Sends one packet outside any association's output: INIT, INIT ACK, answers to packets out of the blue. `chunks` are
 * whole padded chunks.
 */
export function sendPacket(
  s: Sctp,
  src: InAddr,
  dst: InAddr,
  localPort: number,
  peerPort: number,
  tag: number,
  encapsPort: number,
  tos: number,
  chunks: readonly Uint8Array[],
): void {
  const pool = s.stack.pool;
  let n = COMMON_HEADER;
  for (const c of chunks) n += c.length;
  const m = pool.get(n);
  if (m === 0) {
    s.stats.sctps_nomem++;
    return;
  }
  let at = pool.off[m]!;
  pool.dv.setUint16(at, localPort);
  pool.dv.setUint16(at + 2, peerPort);
  pool.dv.setUint32(at + 4, tag);
  pool.dv.setUint32(at + 8, 0);
  at += COMMON_HEADER;
  for (const c of chunks) {
    pool.u8.set(c, at);
    at += c.length;
    s.stats.sctps_outcontrolchunks++;
  }
  pool.len[m] = n;
  pool.pktlen[m] = n;
  s.stats.sctps_outpackets++;
  const route = s.stack.routes.lookupFrom(src, dst);
  sendMbuf(s, m, src, dst, tos, route === undefined || n + 48 <= route.mtu, encapsPort);
}

/** Sends one packet of control chunks on an association's path with a tag of the caller's choice. */
export function sendOnPath(s: Sctp, p: Path, tag: number, chunks: readonly Uint8Array[]): void {
  const a: Association = p.asoc;
  p.lastUsed = s.now;
  sendPacket(s, p.source, p.addr, a.localPort, a.peerPort, tag, p.encapsPort, p.tos, chunks);
}
