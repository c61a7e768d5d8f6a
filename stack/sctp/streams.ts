/**
 * Outbound streams and the scheduler that picks the next chunk (RFC 9260 §6.5, §6.6; schedulers RFC 8260 §3). A chunk
 * in a stream queue has no TSN yet. A scheduler is a small table of functions; others than round robin attach here.
 */

import type { Mbuf } from '../kern/mbuf.js';
import type { Association } from './association.js';
import { ChunkQueue, type ChunkTable } from './chunks.js';
import { DATA_E } from './constants.js';

export class OutStream {
  readonly sid: number;
  nextSsn = 0;
  readonly queue = new ChunkQueue();
  /** Link of the active list; undefined = not in it or last. */
  nextActive: OutStream | undefined;
  active = false;
  /** Explicit EOR: a message was begun and its last fragment has not come from the user yet; what it began with. */
  openMessage = false;
  openFlags = 0;
  openPpid = 0;
  constructor(sid: number) {
    this.sid = sid;
  }
}

/** The streams of an association: made when first used, so 65,535 of them cost nothing. */
export class OutStreams {
  readonly #streams: (OutStream | undefined)[] = [];
  /** Active streams in the order in which they became active. */
  first: OutStream | undefined;
  last: OutStream | undefined;
  /** Not undefined: the stream whose message is half sent; without I-DATA nothing else may come between. */
  locked: OutStream | undefined;
  /** Streams with an open message (explicit EOR). */
  open = 0;
  pending = 0; // chunks
  pendingBytes = 0;

  get(sid: number): OutStream {
    return (this.#streams[sid] ??= new OutStream(sid));
  }
  /** All that exist. */
  *each(): IterableIterator<OutStream> {
    for (const s of this.#streams) if (s !== undefined) yield s;
  }
  activate(s: OutStream): void {
    if (s.active) return;
    s.active = true;
    s.nextActive = undefined;
    if (this.last === undefined) this.first = s;
    else this.last.nextActive = s;
    this.last = s;
  }
  deactivateFirst(): void {
    const s = this.first;
    if (s === undefined) return;
    this.first = s.nextActive;
    if (this.first === undefined) this.last = undefined;
    s.nextActive = undefined;
    s.active = false;
  }
  /** Takes streams out of the active list whose queue has become empty (messages were failed). */
  dropEmpty(): void {
    const keep: OutStream[] = [];
    for (let s = this.first; s !== undefined; s = s.nextActive) {
      if (s.queue.head !== 0) keep.push(s);
      else s.active = false;
    }
    this.first = this.last = undefined;
    for (const s of keep) {
      s.active = false;
      this.activate(s);
    }
    if (this.locked !== undefined && this.locked.queue.head === 0) this.locked = undefined;
  }
  /** Opens or ends the message that the user sends in parts. */
  setOpen(s: OutStream, open: boolean): void {
    if (s.openMessage !== open) this.open += open ? 1 : -1;
    s.openMessage = open;
  }
  /** Restart of an association: all numbers begin anew (queues must be empty). */
  reset(): void {
    for (const s of this.each()) {
      s.nextSsn = 0;
      this.setOpen(s, false);
    }
    this.locked = undefined;
  }
}

export interface StreamScheduler {
  readonly name: string;
  /** A chunk was appended to a stream. */
  added(a: Association, s: OutStream): void;
  /** The chunk that would go next, or 0. */
  peek(a: Association): Mbuf;
  /** Takes the chunk that peek returned. */
  take(a: Association, chunks: ChunkTable): Mbuf;
}

/** Module 0: round robin in the order in which streams became active; a message is never interrupted. */
export const roundRobin: StreamScheduler = {
  name: 'default',
  added(a, s) {
    a.out.activate(s);
  },
  peek(a) {
    const s = a.out.locked ?? a.out.first;
    return s === undefined ? 0 : s.queue.head;
  },
  take(a, chunks) {
    const out = a.out;
    const s = out.locked ?? out.first;
    if (s === undefined) return 0;
    const m = s.queue.shift(chunks.pool);
    if (m === 0) return 0;
    out.pending--;
    out.pendingBytes -= chunks.len[m]!;
    if ((chunks.flags[m]! & DATA_E) === 0) {
      out.locked = s; // s stays first while locked: nothing else is taken meanwhile
      return m;
    }
    out.locked = undefined;
    // The turn is over: to the end of the list if it has more. A stream that is alone there stays.
    const more = s.queue.head !== 0;
    if (s === out.first && !(more && s === out.last)) out.deactivateFirst();
    if (more) out.activate(s);
    return m;
  },
};
