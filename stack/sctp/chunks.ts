/**
 * What SCTP remembers of a DATA chunk: columns beside the mbuf pool, indexed by the chunk's first mbuf. The mbuf holds the
 * user data alone; headers are written anew each time the chunk is sent. So a chunk costs no object, and whoever frees the
 * mbuf has freed the chunk.
 */

import { CLUSTER_BYTES, type Mbuf, type MbufPool } from '../kern/mbuf.js';

// States of a chunk that has a TSN (`ChunkTable.state`).
export const CHUNK_UNSENT = 0;
/** In flight: counts against the flight size. */
export const CHUNK_SENT = 1;
/** Acknowledged by a gap block, not yet by the cumulative TSN. */
export const CHUNK_ACKED = 2;
/** To be retransmitted. */
export const CHUNK_RESEND = 3;

export class ChunkTable {
  readonly pool: MbufPool;
  readonly tsn: Int32Array;
  readonly sid: Int32Array;
  readonly ssn: Int32Array;
  readonly ppid: Int32Array;
  /** DATA flags: B, E, U, I. */
  readonly flags: Int32Array;
  readonly context: Int32Array;
  /** Payload bytes. */
  readonly len: Int32Array;
  readonly state: Int32Array;
  /** Transmissions so far. */
  readonly sends: Int32Array;
  /** Missing reports since the last transmission (RFC 9260 §7.2.4). */
  readonly missing: Int32Array;
  /** 1: retransmitted by fast retransmit already. */
  readonly fast: Int32Array;
  /** Id of the path it was last sent on, index into Association.paths. */
  readonly path: Int32Array;
  /** 1 + id of the path that the user wants it to take (SCTP_ADDR_OVER), 0 = any. */
  readonly dest: Int32Array;
  /** Highest TSN sent when it was (re)transmitted: fast retransmitting again needs a later one acked. */
  readonly mark: Int32Array;
  /** 1: its acknowledgement is to measure the round trip (Karn: never on a retransmission). */
  readonly timed: Int32Array;
  readonly sentAt: Float64Array;
  /** Receive: bytes of the whole message, and the mbuf at its end, kept in its first chunk. */
  readonly msglen: Int32Array;
  readonly tail: Int32Array;
  readonly assoc: Int32Array;
  readonly cumtsn: Int32Array;
  /** Receive: 1 = message complete (MSG_EOR at its end). */
  readonly eor: Int32Array;

  constructor(pool: MbufPool) {
    this.pool = pool;
    const column = () => new Int32Array(pool.count + 1);
    this.tsn = column();
    this.sid = column();
    this.ssn = column();
    this.ppid = column();
    this.flags = column();
    this.context = column();
    this.len = column();
    this.state = column();
    this.sends = column();
    this.missing = column();
    this.fast = column();
    this.path = column();
    this.dest = column();
    this.mark = column();
    this.timed = column();
    this.sentAt = new Float64Array(pool.count + 1);
    this.msglen = column();
    this.tail = column();
    this.assoc = column();
    this.cumtsn = column();
    this.eor = column();
  }

  /** A chunk holding a copy of bytes of the region itself (a received packet), or M_NULL. */
  fromRegion(off: number, n: number): Mbuf {
    const pool = this.pool;
    if (n > CLUSTER_BYTES) {
      const chain = this.#chain(n);
      for (let c = chain, at = off; c !== 0; at += pool.len[c]!, c = pool.next[c]!)
        pool.u8.copyWithin(pool.off[c]!, at, at + pool.len[c]!);
      return chain;
    }
    const m = pool.get(n, 0);
    if (m === 0) return 0;
    const to = pool.off[m]!;
    pool.u8.copyWithin(to, off, off + n);
    pool.len[m] = n;
    pool.pktlen[m] = n;
    this.len[m] = n;
    return m;
  }

  /** A chunk holding a copy of user data, or M_NULL. */
  fromUser(data: Uint8Array, off: number, n: number): Mbuf {
    const pool = this.pool;
    if (n > CLUSTER_BYTES) {
      const chain = this.#chain(n);
      for (let c = chain, at = off; c !== 0; at += pool.len[c]!, c = pool.next[c]!)
        pool.u8.set(data.subarray(at, at + pool.len[c]!), pool.off[c]!);
      return chain;
    }
    const m = pool.get(n, 0);
    if (m === 0) return 0;
    const to = pool.off[m]!;
    if (n <= 64) for (let i = 0; i < n; i++) pool.u8[to + i] = data[off + i]!;
    else if (off === 0 && n === data.length) pool.u8.set(data, to);
    else pool.u8.set(data.subarray(off, off + n), to);
    pool.len[m] = n;
    pool.pktlen[m] = n;
    this.len[m] = n;
    return m;
  }

  /**
   * An empty chain of clusters for n bytes, lengths set, or M_NULL. Never a jumbo: those few are for packets, and a queue of
   * chunks that holds them all could not be sent any more.
   */
  #chain(n: number): Mbuf {
    const pool = this.pool;
    let head = 0;
    let tail = 0;
    for (let left = n; left > 0; left -= CLUSTER_BYTES) {
      const c = pool.getCluster(0);
      if (c === 0) {
        pool.freem(head);
        return 0;
      }
      pool.len[c] = Math.min(left, CLUSTER_BYTES);
      if (head === 0) head = c;
      else pool.next[tail] = c;
      tail = c;
    }
    pool.pktlen[head] = n;
    this.len[head] = n;
    return head;
  }
}

/** A queue of chunks linked by nextpkt. */
export class ChunkQueue {
  head: Mbuf = 0;
  tail: Mbuf = 0;
  count = 0;
  push(pool: MbufPool, m: Mbuf): void {
    pool.nextpkt[m] = 0;
    if (this.tail === 0) this.head = m;
    else pool.nextpkt[this.tail] = m;
    this.tail = m;
    this.count++;
  }
  shift(pool: MbufPool): Mbuf {
    const m = this.head;
    if (m === 0) return 0;
    this.head = pool.nextpkt[m]!;
    if (this.head === 0) this.tail = 0;
    pool.nextpkt[m] = 0;
    this.count--;
    return m;
  }
  /** Frees everything queued. */
  clear(pool: MbufPool): void {
    for (let m = this.shift(pool); m !== 0; m = this.shift(pool)) pool.freem(m);
  }
}
