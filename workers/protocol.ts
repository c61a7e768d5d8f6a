/** What the main thread and its worker threads say to each other, by postMessage. Packets go through shared memory instead. */

import type { ApplianceConfig } from '../appliance-config.js';
import type { PortQueue } from '../nic/ports/share.js';

/** workerData of a worker thread. */
export interface WorkerStart {
  readonly config: ApplianceConfig;
  readonly queue: number;
  readonly queues: number;
  readonly shared: SharedArrayBuffer;
  /** This worker's queue of each card. */
  readonly cards: readonly WorkerQueue[];
  /** Keep to the n-th processor, or to none. */
  readonly processor: number | undefined;
  /** URL of the module with the program, and what it is given. */
  readonly program: string | undefined;
  readonly data: unknown;
}

/** PortQueue as it is sent to a thread. */
export interface WorkerQueue extends Omit<PortQueue, 'exchange'> {
  /** The medium carries more than SCTP: what all workers want to see is told to them. */
  readonly shared: boolean;
}

export type ToWorker =
  | { readonly kind: 'take' }
  | { readonly kind: 'request'; readonly id: number; readonly name: string; readonly args: unknown }
  | { readonly kind: 'close'; readonly graceMs: number };

export type FromWorker =
  | { readonly kind: 'ready'; readonly cards: readonly WorkerCard[]; readonly processor: number | undefined }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string }
  | { readonly kind: 'bell'; readonly queue: number }
  | { readonly kind: 'answer'; readonly id: number; readonly result: unknown }
  | { readonly kind: 'refusal'; readonly id: number; readonly message: string; readonly code: string | number }
  | { readonly kind: 'event'; readonly event: unknown };

export interface WorkerCard {
  readonly name: string;
  readonly port: string;
  readonly addresses: readonly string[];
  readonly mtu: number;
}

/** What a worker's program is given besides its appliance. */
export interface WorkerContext {
  readonly queue: number;
  readonly queues: number;
  /** As given to WorkerAppliances.create. */
  readonly data: unknown;
  /** Answers `request`; what it throws is the request's refusal. `counters` and `associations` are answered without it. */
  onRequest: ((name: string, args: unknown) => unknown) | undefined;
  /** Sends something to the main thread's onEvent. */
  emit(event: unknown): void;
}
