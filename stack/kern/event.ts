/**
 * Kernel events, after Darwin's kern_event: what happened to interfaces, addresses, power, extensions and protocols, told
 * to whoever subscribed. Never on the data path. Each event that reports trouble carries a reason a person can act on.
 */

import type { Nanos } from './clock.js';

export type KernelEvent =
  | { readonly kind: 'link-on' | 'link-off'; readonly ifname: string; readonly reason: string }
  | { readonly kind: 'if-up' | 'if-down' | 'if-attached' | 'if-detached'; readonly ifname: string }
  | { readonly kind: 'mtu'; readonly ifname: string; readonly mtu: number }
  | {
      readonly kind: 'address-added' | 'address-removed';
      readonly ifname: string;
      readonly address: string;
      readonly prefix: number;
    }
  | { readonly kind: 'sleep' | 'wake'; readonly reason: string }
  | {
      readonly kind: 'power';
      readonly ifname: string;
      readonly state: 'D0' | 'D1' | 'D2' | 'D3hot' | 'D3cold';
      readonly reason: string;
    }
  | { readonly kind: 'kext-loaded' | 'kext-unloaded'; readonly kext: string; readonly version: string }
  /** A protocol's own report: association up, lost, path change, ABORT sent or received, with the reason and its section. */
  | {
      readonly kind: 'protocol';
      readonly protocol: string;
      readonly what: string;
      readonly reason: string;
      readonly section?: string;
      readonly detail: Readonly<Record<string, string | number | boolean>>;
    };

export type StampedEvent = KernelEvent & { readonly at: Nanos; readonly serial: number };

/** Delivers events to subscribers in order of subscription and keeps the last `keep` of them for late readers. */
export class EventBus {
  readonly #keep: number;
  readonly #ring: StampedEvent[] = [];
  readonly #subscribers = new Set<(e: StampedEvent) => void>();
  #serial = 0;
  readonly #clock: { readonly now: Nanos };
  constructor(clock: { readonly now: Nanos }, keep = 1024) {
    this.#clock = clock;
    this.#keep = keep;
  }
  /** Calls fn for every event from now on; returns the function that takes it back. */
  subscribe(fn: (e: StampedEvent) => void): () => void {
    this.#subscribers.add(fn);
    return () => this.#subscribers.delete(fn);
  }
  emit(event: KernelEvent): void {
    const stamped: StampedEvent = { ...event, at: this.#clock.now, serial: ++this.#serial };
    this.#ring.push(stamped);
    if (this.#ring.length > this.#keep) this.#ring.shift();
    for (const fn of [...this.#subscribers]) fn(stamped);
  }
  /** The kept events with a serial greater than `after`. */
  since(after: number): readonly StampedEvent[] {
    return this.#ring.filter(e => e.serial > after);
  }
  get subscribers(): number {
    return this.#subscribers.size;
  }
}
