/** Empties the medium while the card is not receiving, so that nothing old is waiting when it does; counts the reason. */

import { Batch } from '../nic/ports/port.js';
import type { Card } from './card.js';
import { isMagicPacket } from './power.js';
import type { CounterName } from './statistics.js';

const DRAIN_BATCH = 32;

export class Drain {
  readonly #card: Card;
  readonly #batch = new Batch(DRAIN_BATCH);
  /** A magic packet for our address was among them. */
  magic = false;

  constructor(card: Card) {
    this.#card = card;
    // All entries share one place: nobody reads what is drained, but for magic packets, which are taken one at a time.
    this.#batch.off.fill(card.scratch.drain);
    this.#batch.cap.fill(card.scratch.drainBytes);
  }

  /** Receives and discards at most `budget` frames; returns how many. */
  step(now: number, budget: number, why: CounterName, lookForMagic = false): number {
    const { port, memory, counters, factoryMac } = this.#card;
    const batch = this.#batch;
    const at = lookForMagic ? 1 : DRAIN_BATCH;
    let done = 0;
    while (done < budget) {
      const n = port.receive(batch, Math.min(at, budget - done), now);
      if (n === 0) break;
      if (lookForMagic && isMagicPacket(memory.u8, batch.off[0]!, Math.min(batch.len[0]!, batch.cap[0]!), factoryMac))
        this.magic = true;
      done += n;
    }
    counters[why] += done;
    return done;
  }
}
