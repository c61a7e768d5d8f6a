/**
 * What wakes a sleeping card: magic packets, and frames that match a pattern: bytes at an offset, of which a mask says which
 * are compared (as the wake-up frames of the Network Device Class Power Management specification 2.0 §4.2). Slots are set
 * through the registers pm_pattern_*.
 */

import { type RegisterFile, WAKE_PATTERN_BYTES, WAKE_PATTERNS } from '../nic/registers.js';

const WORDS = WAKE_PATTERN_BYTES / 4;

export class WakePatterns {
  readonly #offset = new Uint16Array(WAKE_PATTERNS);
  readonly #length = new Uint8Array(WAKE_PATTERNS);
  readonly #mask = new Uint32Array(WAKE_PATTERNS * 2);
  readonly #data = new Uint8Array(WAKE_PATTERNS * WAKE_PATTERN_BYTES);

  clear(): void {
    for (const array of [this.#offset, this.#length, this.#mask, this.#data]) array.fill(0);
  }

  /** Takes the registers' present words into the slot that is selected. A length that is too long is cut, and shows. */
  store(regs: RegisterFile): void {
    const slot = this.#slot(regs);
    const control = regs.get('pm_pattern_control');
    this.#offset[slot] = control & 0xffff;
    this.#length[slot] = Math.min(WAKE_PATTERN_BYTES, (control >>> 16) & 0xff);
    regs.set('pm_pattern_control', this.#offset[slot]! | (this.#length[slot]! << 16));
    for (let i = 0; i < 2; i++) this.#mask[slot * 2 + i] = regs.get('pm_pattern_mask', i);
    for (let i = 0; i < WORDS; i++) {
      const word = regs.get('pm_pattern_data', i);
      for (let b = 0; b < 4; b++) this.#data[slot * WAKE_PATTERN_BYTES + 4 * i + b] = word >>> (8 * b);
    }
  }

  /** Shows the selected slot in the registers. */
  show(regs: RegisterFile): void {
    const slot = this.#slot(regs);
    regs.set('pm_pattern_select', slot);
    regs.set('pm_pattern_control', this.#offset[slot]! | (this.#length[slot]! << 16));
    for (let i = 0; i < 2; i++) regs.set('pm_pattern_mask', this.#mask[slot * 2 + i]!, i);
    for (let i = 0; i < WORDS; i++) {
      const at = slot * WAKE_PATTERN_BYTES + 4 * i;
      const d = this.#data;
      regs.set('pm_pattern_data', (d[at]! | (d[at + 1]! << 8) | (d[at + 2]! << 16) | (d[at + 3]! << 24)) >>> 0, i);
    }
  }
  #slot(regs: RegisterFile): number {
    return Math.min(regs.get('pm_pattern_select'), WAKE_PATTERNS - 1);
  }

  /** The first slot that the frame [off, off + len) matches, or -1. `lead`: link header bytes that the frame lacks. */
  match(u8: Uint8Array, off: number, len: number, lead = 0): number {
    for (let slot = 0; slot < WAKE_PATTERNS; slot++) {
      const n = this.#length[slot]!;
      const from = this.#offset[slot]! - lead;
      if (n === 0 || from < 0 || from + n > len) continue;
      if (this.#matches(slot, n, u8, off + from)) return slot;
    }
    return -1;
  }
  #matches(slot: number, n: number, u8: Uint8Array, at: number): boolean {
    const data = slot * WAKE_PATTERN_BYTES;
    let compared = 0;
    for (let i = 0; i < n; i++) {
      if ((this.#mask[slot * 2 + (i >>> 5)]! & (1 << (i & 31))) === 0) continue;
      if (u8[at + i] !== this.#data[data + i]) return false;
      compared++;
    }
    // A pattern that compares nothing would be matched by everything.
    return compared > 0;
  }
}
