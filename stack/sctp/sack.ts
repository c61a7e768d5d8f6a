/**
 * Writing SACK chunks (RFC 9260 §3.3.4): the cumulative TSN, the window, gap blocks out of the TSN map, duplicates.
 *
 * type 3 | flags | length || cumulative TSN || a_rwnd || gap blocks 2 | duplicates 2 || (start 2 | end 2)... || TSNs...
 */

import type { Association } from './association.js';
import { MAX_DUPS, SACK, SACK_HEADER } from './constants.js';
import type { Sctp } from './sctp.js';

/** Most gap blocks in one SACK; more do not fit into a packet of any common MTU. */
const MAX_GAPS = 512;

export class SackWriter {
  readonly #s: Sctp;
  // Scratch of sackSize for the writeSack that follows.
  #gaps = 0;
  #dups = 0;
  readonly #gapStart = new Int32Array(MAX_GAPS);
  readonly #gapEnd = new Int32Array(MAX_GAPS);

  constructor(s: Sctp) {
    this.#s = s;
  }

  /** Bytes of the SACK chunk if it is to fit into `room`; 0 = not even without gap blocks. */
  sackSize(a: Association, room: number): number {
    this.#dups = Math.min(a.dups.length, MAX_DUPS);
    this.#gaps = a.hasGap ? this.#findGaps(a) : 0;
    if (SACK_HEADER > room) return 0;
    const fit = (room - SACK_HEADER) >> 2;
    if (this.#gaps > fit) this.#gaps = fit;
    if (this.#gaps + this.#dups > fit) this.#dups = fit - this.#gaps;
    return SACK_HEADER + 4 * (this.#gaps + this.#dups);
  }
  #findGaps(a: Association): number {
    const map = a.tsnMap;
    const mask = a.tsnMask;
    const span = (a.highestTsn - a.cumTsn) | 0;
    let n = 0;
    for (let i = 1; i <= span && n < this.#gapStart.length; i++) {
      if (map[(a.cumTsn + i) & mask] !== 1) continue;
      const from = i;
      while (i < span && map[(a.cumTsn + i + 1) & mask] === 1) i++;
      this.#gapStart[n] = from;
      this.#gapEnd[n] = i;
      n++;
    }
    return n;
  }
  /** Writes the SACK that sackSize has just measured. */
  writeSack(a: Association, o: number, size: number): void {
    const dv = this.#s.chunks.pool.dv;
    const w = this.#s.receiver.window(a);
    dv.setUint32(o, (SACK << 24) | size);
    dv.setInt32(o + 4, a.cumTsn);
    dv.setUint32(o + 8, w);
    dv.setUint32(o + 12, (this.#gaps << 16) | this.#dups);
    let at = o + SACK_HEADER;
    for (let i = 0; i < this.#gaps; i++, at += 4) dv.setUint32(at, (this.#gapStart[i]! << 16) | this.#gapEnd[i]!);
    for (let i = 0; i < this.#dups; i++, at += 4) dv.setInt32(at, a.dups[i]!);
    if (a.dups.length > 0) a.dups.length = 0;
    a.toldRwnd = w;
  }
}
