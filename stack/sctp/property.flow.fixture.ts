/**
 * Property runs: chance, and one direction of an association as its users see it: every message exactly once, whole, and in
 * the order of its stream (RFC 9260 §6.5, §6.6, §6.9).
 */

import assert from 'node:assert/strict';
import { SeededRandom } from '../kern/clock.js';

export class Dice {
  readonly #r: SeededRandom;
  constructor(seed: number) {
    this.#r = new SeededRandom(seed);
  }
  /** 0..n-1 */
  below(n: number): number {
    return this.#r.u32() % n;
  }
  chance(p: number): boolean {
    return this.#r.u32() / 2 ** 32 < p;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

/** Longest message. */
export const MESSAGE_LIMIT = 20_000;
/** Every message is a window into this: 7 is odd, so that 256 windows begin with different bytes. */
const PATTERN = Buffer.alloc(MESSAGE_LIMIT + 256, 0);
for (let i = 0; i < PATTERN.length; i++) PATTERN[i] = (i * 7) & 255;

/** Payload protocol identifiers say whose message it is: association, and number. */
const NUMBER_BITS = 11;
export const BROADCAST = 0x100000;
export const ppidOf = (conn: number, number: number): number =>
  ((conn << NUMBER_BITS) | (number & ((1 << NUMBER_BITS) - 1))) >>> 0;
export const connOf = (ppid: number): number => ppid >>> NUMBER_BITS;

export interface Message {
  readonly ppid: number;
  readonly sid: number;
  readonly unordered: boolean;
  readonly size: number;
  /** Bytes that the protocol has taken (explicit EOR: parts), and that have arrived. */
  taken: number;
  got: number;
  /** The association was broken off when this was under way: it may arrive or not. */
  maybe: boolean;
}

export class Flow {
  /** Messages that the user still wants to send. */
  left: number;
  number = 0;
  readonly waiting = new Map<number, Message>();
  /** In the order of sending, by stream: the ordered messages whose first byte has not arrived. */
  readonly #ordered: Message[][] = [];
  /** Ordered messages that have come in part, by stream. */
  readonly #begun: (Message | undefined)[] = [];
  readonly #ssn: number[] = [];
  /** Explicit EOR: the message whose end has not been sent. */
  open: Message | undefined;
  /** Messages that must arrive and have not. */
  missing = 0;
  delivered = 0;
  spoilt = false;
  /** Sequence numbers are not what they would be: the association has begun anew under its users. */
  renumbered = false;

  constructor(messages: number) {
    this.left = messages;
  }
  static bytes(ppid: number, from: number, to: number): Buffer {
    const at = Math.imul(ppid, 31) & 255;
    return PATTERN.subarray(at + from, at + to);
  }
  /** The protocol has taken (a part of) a message. */
  sent(m: Message): void {
    if (this.waiting.has(m.ppid)) return;
    m.maybe = this.spoilt;
    this.waiting.set(m.ppid, m);
    if (!m.maybe) this.missing++;
    if (!m.unordered) (this.#ordered[m.sid] ??= []).push(m);
  }
  /** From now on, and of all that is under way, nothing has to arrive any more. */
  spoil(): void {
    this.spoilt = true;
    for (const m of this.waiting.values()) m.maybe = true;
    this.missing = 0;
  }

  /** What is under way is lost, and sequence numbers begin anew. */
  forget(): void {
    for (const m of this.waiting.values()) m.maybe = true;
    this.missing = 0;
    this.renumbered = true;
  }

  /** (A part of) a message has arrived. Returns it. */
  arrived(
    ppid: number,
    sid: number,
    unordered: boolean,
    ssn: number,
    data: Uint8Array,
    n: number,
    eor: boolean,
  ): Message {
    const m = this.waiting.get(ppid);
    if (m === undefined) throw new Error(`message ${ppid} came twice or was never sent`);
    if (m.sid !== sid || m.unordered !== unordered)
      throw new Error(`message ${ppid} came on stream ${sid}, not ${m.sid}`);
    if (m.got + n > m.taken) throw new Error(`message ${ppid} has grown from ${m.taken} to ${m.got + n} bytes`);
    const at = Math.imul(ppid, 31) & 255;
    if (PATTERN.compare(data, 0, n, at + m.got, at + m.got + n) !== 0)
      throw new Error(`bytes of message ${ppid} differ`);
    if (!unordered) this.#inOrder(m, ssn);
    m.got += n;
    if (!eor) return m;
    if (m.got !== m.size && !m.maybe) throw new Error(`message ${ppid} has ${m.got} bytes, not ${m.size}`);
    this.waiting.delete(ppid);
    this.#begun[sid] = unordered ? this.#begun[sid] : undefined;
    if (!m.maybe) this.missing--;
    this.delivered++;
    return m;
  }
  #inOrder(m: Message, ssn: number): void {
    const begun = this.#begun[m.sid];
    if (begun === m) return;
    // A message delivered in part whose end was lost with its association is followed by others.
    if (begun !== undefined && !begun.maybe) throw new Error(`message ${m.ppid} came into message ${begun.ppid}`);
    const list = this.#ordered[m.sid]!;
    for (;;) {
      const first = list.shift();
      if (first === m) break;
      assert.ok(first?.maybe, `order on stream ${m.sid}: ${m.ppid} came, ${first?.ppid} was next`);
    }
    this.#begun[m.sid] = m;
    const expected = this.#ssn[m.sid] ?? 0;
    if (!this.renumbered && !m.maybe && ssn !== expected)
      throw new Error(`SSN ${ssn} on stream ${m.sid}, not ${expected}`);
    this.#ssn[m.sid] = (ssn + 1) & 0xffff;
  }
}
