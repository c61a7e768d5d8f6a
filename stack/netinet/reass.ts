/**
 * Reassembly of IP fragments, for both families: RFC 791 §3.2 and RFC 815 for IPv4, RFC 8200 §4.5 for IPv6. A datagram
 * with overlapping fragments is dropped whole (RFC 5722; IPv4 senders have no use for overlaps either), an exact
 * duplicate is ignored.
 *
 * Bounds: datagrams at a time, fragments of each, fragments of all together, and time. A newcomer puts out the oldest.
 */

import { Callout, type CalloutWheel } from '../kern/callout.js';
import { SEC } from '../kern/clock.js';
import type { Mbuf, MbufPool } from '../kern/mbuf.js';
import { CSUM_L4_OK, CSUM_SCTP_BAD, CSUM_SCTP_OK, M_BCAST, M_MCAST, M_NULL } from '../kern/mbuf.js';
import { InAddr } from './in.js';

/** Fragments held by one family's reassembly, of all datagrams together. */
const MAX_FRAGMENTS = 1024;

/** Live settings: the sysctls of the family. */
export interface ReassemblySettings {
  readonly maxfragpackets: number;
  readonly maxfragsperpacket: number;
  readonly fragttl: number; // s
}

class Datagram {
  readonly src = new InAddr();
  readonly dst = new InAddr();
  id = 0;
  proto = 0;
  // Fragments in order of offset: mbuf, header bytes in front of its data, first byte, byte behind the last.
  readonly mbufs: Mbuf[] = [];
  readonly headers: number[] = [];
  readonly from: number[] = [];
  readonly to: number[] = [];
  /** Length of the whole, -1 while the last fragment is missing. */
  total = -1;
  got = 0;
  ce = false;
  ect = false;
  notEct = false;
  readonly timer: Callout;
  constructor(expired: (d: Datagram) => void) {
    this.timer = new Callout(() => expired(this));
  }
}

export class Reassembly {
  readonly counters = {
    started: 0,
    completed: 0,
    timeouts: 0,
    overlaps: 0,
    duplicates: 0,
    too_many: 0,
    inconsistent: 0,
    bad_ecn: 0,
  };
  /** TOS of the datagram that `add` completed: ECN is congestion-experienced if any fragment's was (RFC 3168 §5.3). */
  tos = 0;
  readonly #family: 4 | 6;
  readonly #pool: MbufPool;
  readonly #callouts: CalloutWheel;
  readonly #settings: ReassemblySettings;
  readonly #expired: (m: Mbuf, first: boolean) => void;
  /** Oldest first. */
  readonly #datagrams: Datagram[] = [];
  #fragments = 0;
  readonly #timeout = (d: Datagram): void => {
    this.counters.timeouts++;
    this.#discard(d, true);
  };

  /** `expired` is given the first fragment (header in front) of what timed out, and owns it. */
  constructor(
    family: 4 | 6,
    pool: MbufPool,
    callouts: CalloutWheel,
    settings: ReassemblySettings,
    expired: (m: Mbuf, first: boolean) => void,
  ) {
    this.#family = family;
    this.#pool = pool;
    this.#callouts = callouts;
    this.#settings = settings;
    this.#expired = expired;
  }

  /** Datagrams and fragments held now. */
  get held(): { datagrams: number; fragments: number } {
    return { datagrams: this.#datagrams.length, fragments: this.#fragments };
  }

  /**
   * Adds a fragment: `hlen` bytes of headers (contiguous in the first mbuf), then bytes [from, from + n) of the datagram.
   * Takes ownership. Returns the whole datagram behind the first fragment's headers, or M_NULL.
   * The caller has checked that n > 0, that n is a multiple of 8 if `more`, and that the whole fits 65,535.
   */
  add(
    m: Mbuf,
    src: InAddr,
    dst: InAddr,
    id: number,
    proto: number,
    hlen: number,
    from: number,
    n: number,
    more: boolean,
    tos: number,
  ): Mbuf {
    let d = this.#find(src, dst, id, proto);
    const to = from + n;
    if (d === undefined) {
      if (this.#settings.maxfragpackets === 0) return this.#refuse(m);
      d = this.#start(src, dst, id, proto);
    }
    // Place among the fragments that are there.
    let i = d.from.length;
    while (i > 0 && d.from[i - 1]! > from) i--;
    if (i > 0 && d.from[i - 1] === from && d.to[i - 1] === to) {
      this.counters.duplicates++;
      this.#pool.freem(m);
      return M_NULL;
    }
    if ((i > 0 && d.to[i - 1]! > from) || (i < d.from.length && d.from[i]! < to)) {
      this.counters.overlaps++;
      return this.#kill(d, m);
    }
    const end = more ? -1 : to;
    const last = d.to.length > 0 ? Math.max(to, d.to[d.to.length - 1]!) : to;
    if ((end >= 0 && d.total >= 0 && d.total !== end) || (end >= 0 && last > end) || (d.total >= 0 && last > d.total)) {
      this.counters.inconsistent++;
      return this.#kill(d, m);
    }
    if (d.mbufs.length >= this.#settings.maxfragsperpacket) {
      this.counters.too_many++;
      return this.#kill(d, m);
    }
    while (this.#fragments >= MAX_FRAGMENTS && this.#datagrams.length > 0) {
      const oldest = this.#datagrams[0]!;
      this.counters.too_many++;
      if (oldest === d) return this.#kill(d, m);
      this.#discard(oldest, false);
    }
    d.mbufs.splice(i, 0, m);
    d.headers.splice(i, 0, hlen);
    d.from.splice(i, 0, from);
    d.to.splice(i, 0, to);
    this.#fragments++;
    if (end >= 0) d.total = end;
    d.got += n;
    const ecn = tos & 3;
    if (ecn === 3) d.ce = true;
    else if (ecn === 0) d.notEct = true;
    else d.ect = true;
    if (d.total < 0 || d.got < d.total) return M_NULL;
    if (d.ce && d.notEct) {
      // RFC 3168 §5.3: congestion marked on one fragment while another cannot have been marked.
      this.counters.bad_ecn++;
      this.#discard(d, false);
      return M_NULL;
    }
    return this.#join(d, tos);
  }

  /** Frees everything. */
  flush(): void {
    while (this.#datagrams.length > 0) this.#discard(this.#datagrams[0]!, false);
  }

  #find(src: InAddr, dst: InAddr, id: number, proto: number): Datagram | undefined {
    // IPv6 identifies by addresses and identification alone (RFC 8200 §4.5).
    for (const d of this.#datagrams)
      if (d.id === id && (this.#family === 6 || d.proto === proto) && d.src.equals(src) && d.dst.equals(dst)) return d;
    return undefined;
  }

  #start(src: InAddr, dst: InAddr, id: number, proto: number): Datagram {
    while (this.#datagrams.length >= this.#settings.maxfragpackets) {
      this.counters.too_many++;
      this.#discard(this.#datagrams[0]!, false);
    }
    const d = new Datagram(this.#timeout);
    d.src.copy(src);
    d.dst.copy(dst);
    d.id = id;
    d.proto = proto;
    this.#datagrams.push(d);
    this.#callouts.reset(d.timer, this.#settings.fragttl * SEC);
    this.counters.started++;
    return d;
  }

  #join(d: Datagram, tos: number): Mbuf {
    const pool = this.#pool;
    const head = d.mbufs[0]!;
    this.tos = d.ce ? (tos & 0xfc) | 3 : tos;
    // A checksum can be trusted only if the card has seen the whole: it has not.
    pool.csum[head]! &= ~(CSUM_SCTP_OK | CSUM_SCTP_BAD | CSUM_L4_OK);
    let tail = head;
    for (let i = 0; i < d.mbufs.length; i++) {
      const m = d.mbufs[i]!;
      if (i > 0) {
        pool.adj(m, d.headers[i]!);
        pool.pktlen[head]! += d.to[i]! - d.from[i]!;
        pool.csum[head]! |= pool.csum[m]! & (M_BCAST | M_MCAST);
        pool.next[tail] = m;
      }
      tail = m;
      while (pool.next[tail] !== M_NULL) tail = pool.next[tail]!;
    }
    this.#fragments -= d.mbufs.length;
    d.mbufs.length = 0;
    this.#forget(d);
    this.counters.completed++;
    return head;
  }

  #refuse(m: Mbuf): Mbuf {
    this.counters.too_many++;
    this.#pool.freem(m);
    return M_NULL;
  }
  #kill(d: Datagram, m: Mbuf): Mbuf {
    this.#pool.freem(m);
    this.#discard(d, false);
    return M_NULL;
  }

  #discard(d: Datagram, late: boolean): void {
    this.#fragments -= d.mbufs.length;
    this.#forget(d);
    for (let i = 0; i < d.mbufs.length; i++) {
      if (i === 0 && late && d.from[0] === 0) this.#expired(d.mbufs[0]!, true);
      else this.#pool.freem(d.mbufs[i]!);
    }
    d.mbufs.length = 0;
  }
  #forget(d: Datagram): void {
    this.#callouts.stop(d.timer);
    const i = this.#datagrams.indexOf(d);
    if (i >= 0) this.#datagrams.splice(i, 1);
  }
}
