/**
 * Counters: every layer keeps a plain record of numbers, present from the start with zero, and increments its fields
 * directly; the registry only knows the records by name, for `nke stats` and for tests.
 */

export type Counters = Record<string, number>;

export class CounterRegistry {
  readonly #groups = new Map<string, Readonly<Counters>>();

  /** Registers a live record under a name such as "ip", "if.nke0", "sctp". A name in use is a programmer's error. */
  add(name: string, record: Readonly<Counters>): void {
    if (this.#groups.has(name)) throw new Error(`counter group ${name} exists already`);
    this.#groups.set(name, record);
  }
  remove(name: string): void {
    this.#groups.delete(name);
  }
  has(name: string): boolean {
    return this.#groups.has(name);
  }
  /** Names in order of registration. */
  names(): readonly string[] {
    return [...this.#groups.keys()];
  }
  /** The live record of a group. */
  group(name: string): Readonly<Counters> | undefined {
    return this.#groups.get(name);
  }
  /** A copy of every group. */
  snapshot(): Record<string, Counters> {
    const out: Record<string, Counters> = {};
    for (const [name, record] of this.#groups) {
      const copy: Counters = {};
      // Inherited ones too: a decorator's counters continue those of what it decorates.
      for (const key in record) copy[key] = record[key]!;
      out[name] = copy;
    }
    return out;
  }
  /** What has changed since a snapshot, zero differences left out; a group that is new counts from zero. */
  since(before: Readonly<Record<string, Readonly<Counters>>>): Record<string, Counters> {
    const out: Record<string, Counters> = {};
    for (const [name, record] of this.#groups) {
      for (const [key, value] of Object.entries(record)) {
        const change = value - (before[name]?.[key] ?? 0);
        if (change !== 0) (out[name] ??= {})[key] = change;
      }
    }
    return out;
  }
}
