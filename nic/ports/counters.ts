/** Counters of a decorator: its own numbers, and a live view of those of the port below, in one list. */
import type { PortCounters } from './port.js';

/** `own` itself, with an enumerable accessor for every counter of `inner`. */
export function linkCounters<T extends PortCounters>(own: T, inner: PortCounters): T & PortCounters {
  for (const key of Object.keys(inner)) {
    Object.defineProperty(own, key, { enumerable: true, get: () => inner[key] });
  }
  return own;
}
