/**
 * Events of sockets, and which of them stands for which notification (RFC 6458 §6.1); and the kernel's own events (links,
 * power, addresses, extensions) as an async iterable.
 */

import { type EventFilter, eventPasses, type StampedEvent } from '../stack/kern/event.js';
import type { Notification } from '../stack/sctp/api.js';
import type { Message } from './message.js';

type Of<T extends Notification['type']> = Extract<Notification, { type: T }>;
export type AssocChange = Of<'assoc-change'>;
export type PeerAddrChange = Of<'peer-addr-change'>;
export type SendFailed = Of<'send-failed'>;

/** Events about an association, from notifications (RFC 6458 §6.1). */
export interface AssocEvents {
  assocChange: [change: AssocChange];
  /** The peer has restarted: what was under way is lost (RFC 9260 §5.2.4.1). */
  restart: [change: AssocChange];
  /** A path of the association came, went, or became primary. */
  path: [change: PeerAddrChange];
  /** A message that the peer did not get. */
  sendFailed: [failure: SendFailed];
  /** All that was sent has been acknowledged. Subscribed to while there is a listener. */
  senderDry: [notification: Of<'sender-dry'>];
  /** The peer has begun to shut down. */
  peerShutdown: [notification: Of<'shutdown'>];
  remoteError: [notification: Of<'remote-error'>];
  partialDelivery: [notification: Of<'partial-delivery'>];
}

export interface SctpSocketEvents<Chunk> extends AssocEvents {
  connect: [];
  /** Follows 'connect', as in node:net. */
  ready: [];
  data: [chunk: Chunk];
  /** Object mode only: the same as 'data'. */
  message: [message: Message];
  end: [];
  finish: [];
  drain: [];
  timeout: [];
  error: [error: Error];
  close: [];
  readable: [];
  pause: [];
  resume: [];
  pipe: [source: NodeJS.ReadableStream];
  unpipe: [source: NodeJS.ReadableStream];
}

const EVENTS: Readonly<Record<Notification['type'], keyof AssocEvents>> = {
  'assoc-change': 'assocChange',
  'peer-addr-change': 'path',
  'remote-error': 'remoteError',
  'send-failed': 'sendFailed',
  shutdown: 'peerShutdown',
  'partial-delivery': 'partialDelivery',
  'sender-dry': 'senderDry',
};

/** Calls the listeners of a notification; one of a type that is not in the table has none. */
export function emitNotification(to: { emit(event: keyof AssocEvents, n: never): boolean }, n: Notification): void {
  const event: keyof AssocEvents | undefined = EVENTS[n.type];
  if (event !== undefined) to.emit(event, n as never);
  if (n.type === 'assoc-change' && n.state === 'restart') to.emit('restart', n as never);
}

/** What has kernel events: an appliance. */
export interface EventHost {
  readonly stack: {
    readonly events: {
      subscribe(fn: (e: StampedEvent) => void): () => void;
      since(after: number): readonly StampedEvent[];
    };
  };
}

export interface KernelEventOptions extends EventFilter {
  /** Begin with the kept events of a greater serial number (0: all that are kept). Default: from now on. */
  readonly after?: number;
  /** Events that may wait to be read, default 256; later ones are dropped and counted. */
  readonly queue?: number;
  /** Ends the iteration. */
  readonly signal?: AbortSignal;
}

/**
 * Kernel events as they happen. Subscribed from construction on; ended by `close`, by the signal, or by leaving a for-await loop.
 */
export class KernelEvents implements AsyncIterableIterator<StampedEvent> {
  /** Events that did not fit the queue. */
  dropped = 0;
  readonly #queue: StampedEvent[] = [];
  readonly #limit: number;
  readonly #unsubscribe: () => void;
  readonly #signal: AbortSignal | undefined;
  readonly #abort = (): void => this.close();
  #readers: ((r: IteratorResult<StampedEvent>) => void)[] = [];
  #closed = false;

  constructor(host: EventHost, options: KernelEventOptions = {}) {
    const { events } = host.stack;
    this.#limit = options.queue ?? 256;
    if (!(this.#limit >= 1)) throw new RangeError('a queue of events needs room for one at least');
    const take = (e: StampedEvent) => {
      if (eventPasses(options, e)) this.#take(e);
    };
    if (options.after !== undefined) for (const e of events.since(options.after)) take(e);
    this.#unsubscribe = events.subscribe(take);
    this.#signal = options.signal;
    this.#signal?.addEventListener('abort', this.#abort, { once: true });
    if (this.#signal?.aborted) this.close();
  }

  #take(e: StampedEvent): void {
    const reader = this.#readers.shift();
    if (reader !== undefined) reader({ done: false, value: e });
    else if (this.#queue.length < this.#limit) this.#queue.push(e);
    else this.dropped++;
  }

  next(): Promise<IteratorResult<StampedEvent>> {
    const e = this.#queue.shift();
    if (e !== undefined) return Promise.resolve({ done: false, value: e });
    if (this.#closed) return Promise.resolve({ done: true, value: undefined });
    return new Promise(resolve => this.#readers.push(resolve));
  }
  return(): Promise<IteratorResult<StampedEvent>> {
    this.close();
    this.#queue.length = 0;
    return Promise.resolve({ done: true, value: undefined });
  }
  /** No more events are taken; those that wait can still be read. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unsubscribe();
    this.#signal?.removeEventListener('abort', this.#abort);
    for (const reader of this.#readers.splice(0)) reader({ done: true, value: undefined });
  }
  [Symbol.asyncIterator](): this {
    return this;
  }
}
