/**
 * Temperature: normal, throttled (the card moves so many frames a second and no more), critical (no link), each left again
 * only when it has cooled below its limit by the hysteresis. The sensor and the limits are registers; nothing else heats a
 * card of software.
 */

import { THERMAL_CRITICAL, THERMAL_NORMAL, THERMAL_THROTTLED } from '../nic/registers.js';

export interface ThermalLimits {
  /** All in m°C. */
  throttle: number;
  critical: number;
  hysteresis: number;
}

/** The state that follows from `state` at a temperature: up by the limits themselves, down by the hysteresis. */
export function thermalState(state: number, milli: number, l: ThermalLimits): number {
  if (milli >= l.critical || (state === THERMAL_CRITICAL && milli > l.critical - l.hysteresis)) return THERMAL_CRITICAL;
  if (milli >= l.throttle || (state !== THERMAL_NORMAL && milli > l.throttle - l.hysteresis)) return THERMAL_THROTTLED;
  return THERMAL_NORMAL;
}

/** How often a throttled card works: what it may move comes in portions, so that it is not woken for every frame. */
const PORTION_NS = 10e6;

/** A bound of frames a second: what has come due is given out in portions of 10 ms. */
export class Throttle {
  #rate = 0;
  #tokens = 0;
  #next = 0;

  /** Starts with nothing to give; 0 = no bound. */
  set(rate: number): void {
    this.#rate = rate;
    this.#tokens = 0;
    this.#next = 0;
  }
  get on(): boolean {
    return this.#rate > 0;
  }
  /** Frames that may move now, at most `budget`. */
  allow(now: number, budget: number): number {
    if (this.#rate === 0) return budget;
    if (now >= this.#next) {
      // A portion that was not used is not kept: an idle card gets no burst for it.
      this.#tokens = Math.max(1, Math.floor((this.#rate * PORTION_NS) / 1e9));
      this.#next = now + (this.#tokens * 1e9) / this.#rate;
    }
    return Math.min(budget, this.#tokens);
  }
  used(frames: number): void {
    if (this.#rate > 0) this.#tokens = Math.max(0, this.#tokens - frames);
  }
  /** True when nothing may move before `deadline`. */
  get spent(): boolean {
    return this.#rate > 0 && this.#tokens === 0;
  }
  /** When there is a new portion. */
  get deadline(): number {
    return this.#next;
  }
}
