/**
 * Kernel events, after Darwin's kern_event: what happened to interfaces, addresses, power, extensions and protocols, told
 * to whoever subscribed. Never on the data path. Each event that reports trouble carries a reason a person can act on.
 */

import type { Nanos } from './clock.js';

export type KernelEvent =
  | {
      readonly kind: 'link-on' | 'link-off';
      readonly ifname: string;
      readonly reason: string;
      /** Mb/s, when the card knows it. */
      readonly speed?: number;
    }
  /** The link is up and has another speed now; or it stays down, but for another reason. */
  | { readonly kind: 'link-speed'; readonly ifname: string; readonly speed: number; readonly reason: string }
  | { readonly kind: 'link-reason'; readonly ifname: string; readonly reason: string }
  | { readonly kind: 'card-reset'; readonly ifname: string; readonly reason: string }
  | { readonly kind: 'self-test'; readonly ifname: string; readonly passed: boolean; readonly reason: string }
  | {
      readonly kind: 'thermal';
      readonly ifname: string;
      readonly state: 'normal' | 'throttled' | 'critical';
      readonly celsius: number;
      readonly reason: string;
    }
  /** What the card's port stands on is gone for good: an interface was deleted, renamed or moved. */
  | { readonly kind: 'port-removed'; readonly ifname: string; readonly reason: string }
  /** Addresses that the host has on the interface that a card's port stands on, "192.0.2.1/24". They are not the stack's. */
  | {
      readonly kind: 'host-address-added' | 'host-address-removed';
      readonly ifname: string;
      readonly address: string;
    }
  | { readonly kind: 'if-up' | 'if-down' | 'if-attached' | 'if-detached'; readonly ifname: string }
  | { readonly kind: 'mtu'; readonly ifname: string; readonly mtu: number }
  | {
      readonly kind: 'address-added' | 'address-removed';
      readonly ifname: string;
      readonly address: string;
      readonly prefix: number;
    }
  /** `slept`: ns that the host was asleep, during which the stack's time stood still. */
  | { readonly kind: 'sleep' | 'wake'; readonly reason: string; readonly slept?: Nanos }
  | {
      readonly kind: 'power';
      readonly ifname: string;
      readonly state: 'D0' | 'D1' | 'D2' | 'D3hot' | 'D3cold';
      readonly reason: string;
    }
  | { readonly kind: 'kext-loaded' | 'kext-unloaded'; readonly kext: string; readonly version: string }
  /** A start that failed and was rolled back whole. */
  | { readonly kind: 'kext-failed'; readonly kext: string; readonly version: string; readonly reason: string }
  | { readonly kind: 'kext-replaced'; readonly kext: string; readonly version: string; readonly was: string }
  /** A callback of an extension broke the rules (it threw, freed an mbuf twice, kept too many): it has been taken out. */
  | { readonly kind: 'kext-fault'; readonly kext: string; readonly what: string; readonly reason: string }
  /** What an extension reports itself (kpi.events.emit), and its log lines. */
  | {
      readonly kind: 'kext';
      readonly kext: string;
      readonly what: string;
      readonly reason: string;
      readonly detail: Readonly<Record<string, string | number | boolean>>;
    }
  | { readonly kind: 'kext-log'; readonly kext: string; readonly text: string }
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

/** Which events a subscriber gets; what is left out lets all pass. */
export interface EventFilter {
  readonly kinds?: readonly KernelEvent['kind'][];
  /** Events of one interface, and those that speak of none. */
  readonly ifname?: string;
}

export function eventPasses(f: EventFilter, e: KernelEvent): boolean {
  if (f.kinds !== undefined && !f.kinds.includes(e.kind)) return false;
  return f.ifname === undefined || !('ifname' in e) || e.ifname === f.ifname;
}

/** Delivers events to subscribers in order of subscription and keeps the last `keep` of them for late readers. */
export class EventBus {
  readonly #keep: number;
  /** The event of serial n lies at (n - 1) mod keep. */
  readonly #ring: StampedEvent[] = [];
  /** Copied on change: a subscriber may come or go while an event is told. */
  #subscribers: readonly ((e: StampedEvent) => void)[] = [];
  #serial = 0;
  readonly #clock: { readonly now: Nanos };
  constructor(clock: { readonly now: Nanos }, keep = 1024) {
    this.#clock = clock;
    this.#keep = keep;
  }
  /** Calls fn for every event from now on; returns the function that takes it back. Subscribing twice counts once. */
  subscribe(fn: (e: StampedEvent) => void): () => void {
    if (!this.#subscribers.includes(fn)) this.#subscribers = [...this.#subscribers, fn];
    return () => {
      this.#subscribers = this.#subscribers.filter(f => f !== fn);
    };
  }
  emit(event: KernelEvent): void {
    const stamped: StampedEvent = { ...event, at: this.#clock.now, serial: ++this.#serial };
    this.#ring[(stamped.serial - 1) % this.#keep] = stamped;
    const subscribers = this.#subscribers;
    for (let i = 0; i < subscribers.length; i++) subscribers[i]!(stamped);
  }
  /** The kept events with a serial greater than `after`, oldest first. */
  since(after: number): readonly StampedEvent[] {
    const from = Math.max(after, this.#serial - this.#ring.length);
    return Array.from({ length: Math.max(0, this.#serial - from) }, (_, i) => this.#ring[(from + i) % this.#keep]!);
  }
  get subscribers(): number {
    return this.#subscribers.length;
  }
}
