/** Empties the medium while the card is not receiving, so that nothing old is waiting when it does; counts the reason. */

import { ETHER_HEADER } from '../nic/offload.js';
import { Batch } from '../nic/ports/port.js';
import { WAKE_MAGIC, WAKE_PATTERN } from '../nic/registers.js';
import type { Card } from './card.js';
import { isMagicPacket } from './power.js';
import type { CounterName } from './statistics.js';
import type { WakePatterns } from './wake.js';

const DRAIN_BATCH = 32;

export class Drain {
  readonly #card: Card;
  readonly #batch = new Batch(DRAIN_BATCH);
  readonly patterns: WakePatterns;
  /** What there was among them that wakes the card: WAKE_* of those looked for, and the slot of a pattern. */
  woke = 0;
  slot = 0;

  constructor(card: Card, patterns: WakePatterns) {
    this.#card = card;
    this.patterns = patterns;
    // All entries share one place: nobody reads what is drained, but for what wakes the card, which are taken one at a time.
    this.#batch.off.fill(card.scratch.drain);
    this.#batch.cap.fill(card.scratch.drainBytes);
  }

  /** Receives and discards at most `budget` frames, looking for WAKE_MAGIC and WAKE_PATTERN; returns how many. */
  step(now: number, budget: number, why: CounterName, lookFor = 0): number {
    const { port, counters } = this.#card;
    const batch = this.#batch;
    const look = lookFor & (WAKE_MAGIC | WAKE_PATTERN);
    const at = look !== 0 ? 1 : DRAIN_BATCH;
    let done = 0;
    while (done < budget) {
      const n = port.receive(batch, Math.min(at, budget - done), now);
      if (n === 0) break;
      if (look !== 0 && this.woke === 0) this.#judge(look, Math.min(batch.len[0]!, batch.cap[0]!));
      done += n;
    }
    counters[why] += done;
    return done;
  }

  #judge(look: number, len: number): void {
    const { memory, factoryMac, isIp } = this.#card;
    const off = this.#batch.off[0]!;
    if ((look & WAKE_MAGIC) !== 0 && isMagicPacket(memory.u8, off, len, factoryMac)) this.woke = WAKE_MAGIC;
    if (this.woke !== 0 || (look & WAKE_PATTERN) === 0) return;
    const slot = this.patterns.match(memory.u8, off, len, isIp ? ETHER_HEADER : 0);
    if (slot < 0) return;
    this.woke = WAKE_PATTERN;
    this.slot = slot;
  }
}
