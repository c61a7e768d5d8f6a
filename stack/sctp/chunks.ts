/**
 * What SCTP remembers of a DATA chunk: columns beside the mbuf pool, indexed by the chunk's first mbuf. The mbuf holds the
 * user data alone; headers are written anew each time the chunk is sent. So a chunk costs no object, and whoever frees the
 * mbuf has freed the chunk.
 */

import { bcopy, bcopyin } from '../kern/bytes.js';
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
  readonly flags: Uint8Array;
  readonly context: Int32Array;
  /** Payload bytes. */
  readonly len: Int32Array;
  readonly state: Uint8Array;
  /** Transmissions so far. */
  readonly sends: Int32Array;
  /** Missing reports since the last transmission (RFC 9260 §7.2.4). */
  readonly missing: Uint8Array;
  /** 1: retransmitted by fast retransmit already. */
  readonly fast: Uint8Array;
  /** Id of the path it was last sent on, index into Association.paths. */
  readonly path: Int32Array;
  /** 1 + id of the path that the user wants it to take (SCTP_ADDR_OVER), 0 = any. */
  readonly dest: Int32Array;
  /** Highest TSN sent when it was (re)transmitted: fast retransmitting again needs a later one acked. */
  readonly mark: Int32Array;
  /** 1: its acknowledgement is to measure the round trip (Karn: never on a retransmission). */
  readonly timed: Uint8Array;
  readonly sentAt: Float64Array;
  /** Receive: bytes of the whole message, and the mbuf at its end, kept in its first chunk. */
  readonly msglen: Int32Array;
  readonly tail: Int32Array;
  readonly assoc: Int32Array;
  readonly cumtsn: Int32Array;
  /** Receive: 1 = message complete (MSG_EOR at its end). */
  readonly eor: Uint8Array;

  constructor(pool: MbufPool) {
    this.pool = pool;
    const column = () => new Int32Array(pool.count + 1);
    const narrow = () => new Uint8Array(pool.count + 1);
    this.tsn = column();
    this.sid = column();
    this.ssn = column();
    this.ppid = column();
    this.flags = narrow();
    this.context = column();
    this.len = column();
    this.state = narrow();
    this.sends = column();
    this.missing = narrow();
    this.fast = narrow();
    this.path = column();
    this.dest = column();
    this.mark = column();
    this.timed = narrow();
    this.sentAt = new Float64Array(pool.count + 1);
    this.msglen = column();
    this.tail = column();
    this.assoc = column();
    this.cumtsn = column();
    this.eor = narrow();
  }

  /** A chunk to be sent, with what its user asked for; it has no TSN yet. */
  queued(m: Mbuf, sid: number, ssn: number, ppid: number, flags: number, context: number, dest: number): void {
    this.sid[m] = sid;
    this.ssn[m] = ssn;
    this.ppid[m] = ppid;
    this.flags[m] = flags;
    this.context[m] = context;
    this.state[m] = CHUNK_UNSENT;
    this.dest[m] = dest;
  }

  /** A chunk that goes out for the first time. */
  launched(m: Mbuf, tsn: number, timed: number, path: number, mark: number): void {
    this.state[m] = CHUNK_SENT;
    this.tsn[m] = tsn;
    this.sends[m] = 1;
    this.fast[m] = 0;
    this.timed[m] = timed;
    this.missing[m] = 0;
    this.path[m] = path;
    this.mark[m] = mark;
  }

  /** A chunk that goes out again. */
  launchedAgain(m: Mbuf, path: number, mark: number): void {
    this.state[m] = CHUNK_SENT;
    this.sends[m]!++;
    this.missing[m] = 0;
    this.path[m] = path;
    this.mark[m] = mark;
  }

  /** A chunk that has come. */
  received(
    m: Mbuf,
    sid: number,
    ssn: number,
    ppid: number,
    flags: number,
    context: number,
    tsn: number,
    assoc: number,
  ): void {
    this.sid[m] = sid;
    this.ssn[m] = ssn;
    this.ppid[m] = ppid;
    this.flags[m] = flags;
    this.context[m] = context;
    this.tsn[m] = tsn;
    this.assoc[m] = assoc;
  }

  /** A chunk holding a copy of bytes of the region itself (a received packet), or M_NULL. */
  fromRegion(off: number, n: number): Mbuf {
    const pool = this.pool;
    if (n > CLUSTER_BYTES) {
      const chain = this.#chain(n);
      for (let c = chain, at = off; c !== 0; at += pool.len[c]!, c = pool.next[c]!)
        bcopy(pool.u8, at, pool.off[c]!, pool.len[c]!);
      return chain;
    }
    const m = pool.getData(n);
    if (m === 0) return 0;
    bcopy(pool.u8, off, pool.off[m]!, n);
    this.len[m] = n;
    return m;
  }

  /** A chunk holding a copy of user data, or M_NULL. */
  fromUser(data: Uint8Array, off: number, n: number): Mbuf {
    const pool = this.pool;
    if (n > CLUSTER_BYTES) {
      const chain = this.#chain(n);
      for (let c = chain, at = off; c !== 0; at += pool.len[c]!, c = pool.next[c]!)
        bcopyin(pool.u8, pool.off[c]!, data.subarray(at, at + pool.len[c]!));
      return chain;
    }
    const m = pool.getData(n);
    if (m === 0) return 0;
    const to = pool.off[m]!;
    if (n <= 64) for (let i = 0; i < n; i++) pool.u8[to + i] = data[off + i]!;
    else bcopyin(pool.u8, to, off === 0 && n === data.length ? data : data.subarray(off, off + n));
    this.len[m] = n;
    return m;
  }

  /**
   * A chain for n bytes, lengths set, its bytes to be written, or M_NULL. Never of jumbos: a queue of chunks that holds them
   * all could not be sent any more.
   */
  #chain(n: number): Mbuf {
    const pool = this.pool;
    let head = 0;
    let tail = 0;
    for (let left = n; left > 0; left -= CLUSTER_BYTES) {
      const c = pool.getData(Math.min(left, CLUSTER_BYTES));
      if (c === 0) {
        pool.freem(head);
        return 0;
      }
      if (head === 0) head = c;
      else pool.next[tail] = c;
      tail = c;
    }
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
