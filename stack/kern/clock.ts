/**
 * The stack's only sources of time and chance. Both are handed in by constructor; nothing below the socket layer may ask
 * the system. A whole network of hosts runs on one VirtualClock and gives the same bytes for the same seed.
 */

/** Nanoseconds since an arbitrary zero; exact as a number for 104 days. */
export type Nanos = number;

export const USEC = 1_000;
export const MSEC = 1_000_000;
export const SEC = 1_000_000_000;

/** `now` is read once a batch by who runs the loop, and is then the same for everything that the batch causes. */
export class Clock {
  now: Nanos;
  constructor(now: Nanos = 0) {
    this.now = now;
  }
}

export interface Random {
  /** A uniform unsigned 32-bit number. */
  u32(): number;
  /** Fills bytes. Secrets and tags of a live appliance come from the system's random source through this. */
  fill(out: Uint8Array): void;
}

/** Seeded generator (xoshiro128**) for simulation and tests; never for a live appliance. */
export class SeededRandom implements Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;
  constructor(seed: number) {
    // splitmix32 spreads the seed over the state.
    let z = seed >>> 0;
    const next = () => {
      z = (z + 0x9e3779b9) >>> 0;
      let t = z ^ (z >>> 16);
      t = Math.imul(t, 0x21f0aaad);
      t ^= t >>> 15;
      t = Math.imul(t, 0x735a2d97);
      return (t ^ (t >>> 15)) >>> 0;
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    this.#d = next();
  }
  u32(): number {
    const x = Math.imul(this.#b, 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= t;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }
  fill(out: Uint8Array): void {
    for (let i = 0; i < out.length; i++) out[i] = this.u32() >>> 24;
  }
}
