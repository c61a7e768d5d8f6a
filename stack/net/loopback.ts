/**
 * lo0: the loopback interface (BSD's if_loop). What is sent comes back as received in a later step of the same run, so
 * that no protocol is entered from inside its own output. Nothing is checksummed: the bytes never left memory.
 */

import type { Mbuf, MbufPool } from '../kern/mbuf.js';
import { CSUM_IP, CSUM_L3_OK, CSUM_L4_OK, CSUM_SCTP, CSUM_SCTP_OK, CSUM_UDP, M_LOOP, M_NULL } from '../kern/mbuf.js';
import { IFF_LOOPBACK, IFF_MULTICAST, IFF_NOARP, IFF_RUNNING, type IfDriver, Ifnet } from './ifnet.js';

export const LOMTU = 16384; // BSD's
const QUEUE = 4096;

export class Loopback implements IfDriver {
  readonly ifp: Ifnet;
  readonly #pool: MbufPool;
  readonly #ring = new Int32Array(QUEUE);
  #head = 0;
  #count = 0;

  constructor(pool: MbufPool) {
    this.#pool = pool;
    const ifp = new Ifnet('lo0', new Uint8Array(6), LOMTU, IFF_LOOPBACK | IFF_NOARP | IFF_RUNNING | IFF_MULTICAST);
    ifp.hwassist = CSUM_SCTP | CSUM_UDP | CSUM_IP;
    ifp.trainBytes = 65535;
    ifp.trainSegments = 64;
    ifp.link = true;
    ifp.driver = this;
    this.ifp = ifp;
  }

  /** Frames that wait to come back. */
  get queued(): number {
    return this.#count;
  }

  output(m: Mbuf): boolean {
    if (this.#count === QUEUE) {
      this.#pool.freem(m);
      this.ifp.counters.odrops++;
      return false;
    }
    // What had to be filled in by a card was not, but is known to be good.
    this.#pool.csum[m] = CSUM_L3_OK | CSUM_L4_OK | CSUM_SCTP_OK | M_LOOP;
    this.#ring[(this.#head + this.#count) % QUEUE] = m;
    this.#count++;
    this.ifp.counters.opackets += this.#pool.segments(m);
    this.ifp.counters.obytes += this.#pool.pktlen[m]!;
    return true;
  }
  /** Hands back what was queued when this was called; what that causes waits for the next call. Returns how many. */
  deliver(): number {
    const n = this.#count;
    for (let i = 0; i < n && this.#count > 0; i++) {
      const m = this.#ring[this.#head]!;
      this.#head = (this.#head + 1) % QUEUE;
      this.#count--;
      this.ifp.counters.ipackets += this.#pool.segments(m);
      this.ifp.counters.ibytes += this.#pool.pktlen[m]!;
      this.ifp.input(m);
    }
    return n;
  }
  flush(): void {}
  ready(): boolean {
    return this.#count < QUEUE;
  }
  setUp(up: boolean): number {
    if (!up) this.detach();
    return 0;
  }
  setMac(): number {
    return 0;
  }
  setPromisc(): number {
    return 0;
  }
  setMulticast(): number {
    return 0;
  }
  detach(): void {
    for (; this.#count > 0; this.#count--) {
      const m = this.#ring[this.#head]!;
      this.#head = (this.#head + 1) % QUEUE;
      if (m !== M_NULL) this.#pool.freem(m);
    }
  }
}
