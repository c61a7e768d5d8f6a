/**
 * sysctl: tunables as rows of data, after BSD's sysctl(9). A row says name, default, range and meaning once; the code
 * reads the live value from its own record, the command line and the documentation read the row.
 */

import { EEXIST, EINVAL, ENOENT, EPERM } from './errno.js';

export interface SysctlRow {
  readonly name: string;
  readonly default: number;
  readonly min: number;
  readonly max: number;
  readonly meaning: string;
  readonly unit?: string;
}

/** A value that is computed, or that is text. Without `set` it is read-only. */
export interface SysctlProcedure {
  readonly meaning: string;
  readonly unit?: string;
  get(): string | number;
  /** Returns 0, or -errno with the value kept. */
  set?(value: string | number): number;
}

export interface SysctlEntry {
  readonly name: string;
  readonly value: string | number;
  readonly meaning: string;
  readonly unit?: string;
  readonly writable: boolean;
  readonly default?: number;
  readonly min?: number;
  readonly max?: number;
}

type Leaf =
  | { readonly kind: 'row'; readonly prefix: string; readonly row: SysctlRow; readonly values: Record<string, number> }
  | { readonly kind: 'procedure'; readonly prefix: string; readonly procedure: SysctlProcedure };

/** A record with every row's default, to be handed to `add`. */
export function defaultsOf(rows: readonly SysctlRow[]): Record<string, number> {
  const values: Record<string, number> = {};
  for (const row of rows) values[row.name] = row.default;
  return values;
}

export class SysctlTree {
  readonly #leaves = new Map<string, Leaf>();

  /**
   * Adds rows under a prefix: row "ttl" under "net.inet.ip" is "net.inet.ip.ttl". `values` is the owner's live record,
   * keyed by the row's name; missing values are set to their default. Returns 0, or -EEXIST with nothing added.
   */
  add(prefix: string, rows: readonly SysctlRow[], values: Record<string, number>): number {
    if (rows.some(row => this.#leaves.has(`${prefix}.${row.name}`))) return -EEXIST;
    for (const row of rows) {
      if (!(row.min <= row.default && row.default <= row.max))
        throw new RangeError(`sysctl ${prefix}.${row.name}: default out of range`);
      values[row.name] ??= row.default;
      this.#leaves.set(`${prefix}.${row.name}`, { kind: 'row', prefix, row, values });
    }
    return 0;
  }
  /** Adds one computed or text value under its full name; removed with `remove(prefix)`. */
  addProcedure(prefix: string, name: string, procedure: SysctlProcedure): number {
    const full = `${prefix}.${name}`;
    if (this.#leaves.has(full)) return -EEXIST;
    this.#leaves.set(full, { kind: 'procedure', prefix, procedure });
    return 0;
  }
  /** Removes everything that was added with exactly this prefix. */
  remove(prefix: string): void {
    for (const [name, leaf] of this.#leaves) if (leaf.prefix === prefix) this.#leaves.delete(name);
  }
  /** Removes entries by their full names. */
  removeNames(names: readonly string[]): void {
    for (const name of names) this.#leaves.delete(name);
  }
  has(name: string): boolean {
    return this.#leaves.has(name);
  }
  /** The prefixes in use, in order of registration. */
  prefixes(): readonly string[] {
    return [...new Set([...this.#leaves.values()].map(leaf => leaf.prefix))];
  }

  /** The value, or undefined when there is no such name. */
  get(name: string): number | string | undefined {
    const leaf = this.#leaves.get(name);
    if (leaf === undefined) return undefined;
    return leaf.kind === 'row' ? leaf.values[leaf.row.name] : leaf.procedure.get();
  }
  /**
   * Sets a value. Rows take integers in their range, as a number or as decimal or 0x text.
   * Returns 0, -ENOENT, -EPERM (read-only) or -EINVAL (the old value is kept).
   */
  set(name: string, value: number | string): number {
    const leaf = this.#leaves.get(name);
    if (leaf === undefined) return -ENOENT;
    if (leaf.kind === 'procedure') return leaf.procedure.set === undefined ? -EPERM : leaf.procedure.set(value);
    const n =
      typeof value === 'number' ? value : /^(-?\d+|0x[0-9a-fA-F]+)$/.test(value.trim()) ? Number(value) : Number.NaN;
    if (!Number.isInteger(n) || n < leaf.row.min || n > leaf.row.max) return -EINVAL;
    leaf.values[leaf.row.name] = n;
    return 0;
  }
  /** All entries whose name is `prefix` or lies below it, in order of registration. */
  list(prefix = ''): readonly SysctlEntry[] {
    const out: SysctlEntry[] = [];
    for (const [name, leaf] of this.#leaves) {
      if (prefix !== '' && name !== prefix && !name.startsWith(`${prefix}.`)) continue;
      if (leaf.kind === 'row') {
        const { default: dflt, min, max, meaning, unit } = leaf.row;
        out.push({ name, value: leaf.values[leaf.row.name]!, meaning, unit, writable: true, default: dflt, min, max });
      } else {
        const { meaning, unit, set } = leaf.procedure;
        out.push({ name, value: leaf.procedure.get(), meaning, unit, writable: set !== undefined });
      }
    }
    return out;
  }
}
