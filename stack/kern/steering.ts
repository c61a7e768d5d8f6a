/**
 * Steering: what one stack knows of its siblings when several of them are one host, each with a receive queue of the same
 * cards. What is received is steered by its verification tag before it comes here; what still arrives at the wrong queue, or
 * belongs to an association that its tag does not name (an INIT, a reflected tag), is passed on through shared memory.
 */

/** Queues of one host at most. */
export const QUEUES_MAX = 16;

export interface Steering {
  /** Which queue this stack is, 0 <= queue < queues. */
  readonly queue: number;
  readonly queues: number;
  /** This queue has a path with the key (a 32-bit hash of the peer's address and both ports); may be said several times. */
  claim(key: number): void;
  /** Takes back one claim. */
  release(key: number): void;
  /**
   * Another queue that has, or by chance seems to have, a path with the key, but none of those whose bit is set in `asked`; -1
   * when there is none.
   */
  holder(key: number, asked: number): number;
  /**
   * Copies a packet of `len` bytes at region offset `off` to another queue, with `words` about where it came from. False when
   * the way there is full or that queue has ended.
   */
  pass(queue: number, u8: Uint8Array, off: number, len: number, words: Int32Array): boolean;
  /** Called for each packet that another queue passed here: bytes [off, off + len) of u8, valid during the call. */
  receive: ((u8: Uint8Array, off: number, len: number, words: Int32Array) => void) | undefined;
}

/** Words that go with a packet: family, source, destination, TOS, UDP ports. */
export const STEER_WORDS = 12;
