/** What runs in every worker of `nke up --workers`: the requests of the control socket, answered for this worker. */

import type { Appliance } from '../appliance.js';
import type { WorkerContext } from '../workers.js';
import { type Args, Follow } from './control.js';
import { handlers } from './handlers.js';

/** A request for a worker: a command, or the end of a stream that one began. */
export type WorkerRequest =
  | { readonly cmd: string; readonly args: Args; readonly stream: number }
  | { readonly stop: number };

/** Its answer: a value, or a stream of events that comes as StreamEvent. */
export type WorkerAnswer = { readonly value: unknown } | { readonly stream: number };

/** Given to the program: when the main thread's clock began, performance.timeOrigin. */
export interface WorkerData {
  readonly origin: number;
}

export interface StreamEvent {
  readonly stream: number;
  readonly event: unknown;
}

export default function program(appliance: Appliance, context: WorkerContext): void {
  const table = handlers(appliance);
  const streams = new Map<number, () => void>();
  // Each thread's clock begins with it: events are told by the main thread's.
  const ahead = (performance.timeOrigin - (context.data as WorkerData).origin) * 1e6;
  const dated = (event: unknown): unknown => {
    const { at } = event as { at?: unknown };
    return typeof at === 'number' ? { ...(event as object), at: at + ahead } : event;
  };
  context.onRequest = async (name, body): Promise<WorkerAnswer | readonly string[]> => {
    if (name === 'commands') return Object.keys(table);
    const request = body as WorkerRequest;
    if ('stop' in request) {
      streams.get(request.stop)?.();
      streams.delete(request.stop);
      return { value: null };
    }
    const { cmd, args, stream } = request;
    const value = await table[cmd]!(args);
    if (!(value instanceof Follow)) return { value: cmd === 'events' ? (value as unknown[]).map(dated) : value };
    const stop = value.start(event => {
      context.emit({ stream, event: dated(event) } satisfies StreamEvent);
      return true;
    });
    streams.set(stream, stop);
    return { stream };
  };
}
