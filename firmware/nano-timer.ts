/**
 * The coalescing timer of a live card: npm's nanotimer, which compares the clock in every turn of the event loop. It spins
 * while it waits, therefore it is started only while an interrupt is being held back and never otherwise. What that
 * costs is written at the head of firmware/moderation.ts.
 */

import NanoTimer from 'nanotimer';
import type { CoalescingTimer } from './moderation.js';

export class NanoCoalescingTimer implements CoalescingTimer {
  readonly #timer = new NanoTimer();
  #running = false;

  start(delay: number, fire: () => void): void {
    this.cancel();
    this.#running = true;
    this.#timer.setTimeout(
      () => {
        this.#running = false;
        fire();
      },
      '',
      `${Math.max(1, Math.round(delay))}n`,
    );
  }
  cancel(): void {
    if (!this.#running) return;
    this.#running = false;
    this.#timer.clearTimeout();
  }
}
