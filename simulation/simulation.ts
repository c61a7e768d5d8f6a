/**
 * Several appliances in virtual time: joined by cables, driven by one clock that jumps to the next deadline. The same
 * seed gives the same bytes, and a minute of waiting costs nothing.
 */

import { Appliance, type ApplianceConfig, type ApplianceOptions } from '../appliance.js';
import { Wires } from '../nic/ports/open.js';
import { Clock, type Nanos, SeededRandom } from '../stack/kern/clock.js';

/** Turns at one and the same time before it counts as a hang: nothing real needs a fraction of this. */
const STUCK = 1_000_000;

export interface RunLimits {
  /** Stop after so much virtual time; default an hour. */
  readonly virtual?: Nanos;
  /** Stop after so many rounds over all appliances; default no limit. */
  readonly rounds?: number;
}

/** What lives in a simulation besides appliances: a switch, a traffic source. */
export interface Device {
  /** Does what is due now. Returns true when something was done, so that another turn may find more. */
  turn(now: Nanos): boolean;
  /** When the next turn is needed even if nothing arrives; Infinity for never. */
  deadline(): Nanos;
  close(): void;
}

/** Something to be done at a time. Equal times in order of their making. */
interface Appointment {
  readonly at: Nanos;
  readonly act: () => void;
}

export class Simulation {
  readonly clock: Clock;
  readonly wires: Wires;
  readonly appliances: Appliance[] = [];
  readonly devices: Device[] = [];
  /** Rounds over all appliances so far. */
  rounds = 0;
  readonly #seed: number;
  readonly #diary: Appointment[] = [];
  #released = 0;

  /** `wires`: who hands out the cables; default: a plain set of them. */
  constructor(seed = 1, start: Nanos = 1e9, wires = new Wires()) {
    this.#seed = seed;
    this.clock = new Clock(start);
    this.wires = wires;
  }

  /** An appliance in this simulation. Its "wire:NAME" ports meet those of the others. */
  create(config: ApplianceConfig, options: Pick<ApplianceOptions, 'wire'> = {}): Appliance {
    const random = new SeededRandom((this.#seed * 0x9e3779b1 + this.appliances.length) >>> 0);
    const appliance = Appliance.create(config, { ...options, wires: this.wires, clock: this.clock, random });
    this.appliances.push(appliance);
    return appliance;
  }

  /** Has `act` called when the clock stands at `at` (at once, if it is past that), before the appliances' turns. */
  at(at: Nanos, act: () => void): void {
    const diary = this.#diary;
    let i = diary.length;
    while (i > 0 && diary[i - 1]!.at > at) i--;
    diary.splice(i, 0, { at, act });
  }

  /** One turn of every appliance and device at the present time. Returns true when one of them did something. */
  round(): boolean {
    this.rounds++;
    const { now } = this.clock;
    let worked = false;
    while (this.#diary.length > 0 && this.#diary[0]!.at <= now) {
      this.#diary.shift()!.act();
      worked = true;
    }
    for (let i = 0; i < this.devices.length; i++) if (this.devices[i]!.turn(now)) worked = true;
    for (let i = 0; i < this.appliances.length; i++) if (this.appliances[i]!.turn()) worked = true;
    return this.#delivered() || worked;
  }

  /**
   * True when frames that faulty ports held back have gone out since the last call: no work to the card that sent them long
   * ago, but whoever gets them may have had its turn already, and must have another at this very time.
   */
  #delivered(): boolean {
    let released = 0;
    for (let i = 0; i < this.appliances.length; i++) {
      const { cards } = this.appliances[i]!;
      for (let k = 0; k < cards.length; k++) released += cards[k]!.port.counters.fault_out ?? 0;
    }
    if (released === this.#released) return false;
    this.#released = released;
    return true;
  }

  /** The earliest deadline, Infinity when nothing will ever happen by itself. */
  deadline(): Nanos {
    let at = this.#diary.length > 0 ? this.#diary[0]!.at : Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.devices.length; i++) at = Math.min(at, this.devices[i]!.deadline());
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
    for (const d of this.devices) d.close();
  }
}
