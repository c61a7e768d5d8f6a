/**
 * Several appliances in virtual time: joined by cables, driven by one clock that jumps to the next deadline. The same
 * seed gives the same bytes, and a minute of waiting costs nothing.
 */

import { Appliance, type ApplianceConfig, type ApplianceOptions } from './appliance.js';
import { Wires } from './nic/ports/open.js';
import { Clock, type Nanos, SeededRandom } from './stack/kern/clock.js';

/** Turns at one and the same time before it counts as a hang: nothing real needs a fraction of this. */
const STUCK = 1_000_000;

export interface RunLimits {
  /** Stop after so much virtual time; default an hour. */
  readonly virtual?: Nanos;
  /** Stop after so many rounds over all appliances; default no limit. */
  readonly rounds?: number;
}

export class Simulation {
  readonly clock: Clock;
  readonly wires = new Wires();
  readonly appliances: Appliance[] = [];
  /** Rounds over all appliances so far. */
  rounds = 0;
  readonly #seed: number;

  constructor(seed = 1, start: Nanos = 1e9) {
    this.#seed = seed;
    this.clock = new Clock(start);
  }

  /** An appliance in this simulation. Its "wire:NAME" ports meet those of the others. */
  create(config: ApplianceConfig, options: Pick<ApplianceOptions, 'wire'> = {}): Appliance {
    const random = new SeededRandom((this.#seed * 0x9e3779b1 + this.appliances.length) >>> 0);
    const appliance = Appliance.create(config, { ...options, wires: this.wires, clock: this.clock, random });
    this.appliances.push(appliance);
    return appliance;
  }

  /** One turn of every appliance at the present time. Returns true when one of them did something. */
  round(): boolean {
    this.rounds++;
    let worked = false;
    for (let i = 0; i < this.appliances.length; i++) if (this.appliances[i]!.turn()) worked = true;
    return worked;
  }

  /** The earliest deadline, Infinity when nothing will ever happen by itself. */
  deadline(): Nanos {
    let at = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.appliances.length; i++) at = Math.min(at, this.appliances[i]!.deadline());
    return at;
  }

  /**
   * Runs until `done()`, without giving the event loop a chance: for programs made of upcalls. Returns true when done, false
   * at a limit or when nothing is left to happen.
   */
  run(done: () => boolean, limits: RunLimits = {}): boolean {
    const steps = this.#steps(done, limits);
    for (;;) {
      const s = steps.next();
      if (s.done) return s.value;
    }
  }

  /** The same for programs made of promises: they get their turn between two rounds. */
  async runAsync(done: () => boolean, limits: RunLimits = {}): Promise<boolean> {
    const steps = this.#steps(done, limits);
    for (;;) {
      await new Promise<void>(resolve => setImmediate(resolve));
      const s = steps.next();
      if (s.done) return s.value;
    }
  }

  /** Lets a span of time pass. */
  pass(span: Nanos): void {
    const end = this.clock.now + span;
    this.run(() => false, { virtual: span });
    this.clock.now = end;
    this.round();
  }

  *#steps(done: () => boolean, limits: RunLimits): Generator<void, boolean, undefined> {
    const end = this.clock.now + (limits.virtual ?? 3600e9);
    let rounds = limits.rounds ?? Number.POSITIVE_INFINITY;
    let still = 0;
    while (!done()) {
      if (rounds-- <= 0) return false;
      if (this.round()) {
        if (++still > STUCK)
          throw new Error(`the simulation makes no progress in time: ${STUCK} rounds at ${this.clock.now} ns`);
        yield;
        continue;
      }
      // A promise may still be about to use what the last round brought.
      yield;
      if (done()) return true;
      const next = this.deadline();
      if (next > end) return false;
      if (next > this.clock.now) {
        this.clock.now = next;
        still = 0;
      } else if (++still > STUCK)
        throw new Error(`the simulation makes no progress in time: ${STUCK} rounds at ${this.clock.now} ns`);
    }
    return true;
  }

  async close(): Promise<void> {
    for (const a of this.appliances) await a.close();
  }
}
