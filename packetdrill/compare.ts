/** The comparison of a packet that came with the one that the script wants: trees of the same shape (facts part 4.5). */

import { InAddr } from '../stack/netinet/in.js';
import { ANY, type Chunk } from './ast.js';
import type { Difference } from './result.js';

/** Every difference between the chunks, from the outside in. Empty: they match. */
export function compareChunks(expected: readonly Chunk[], got: readonly Chunk[]): Difference[] {
  const out: Difference[] = [];
  const names = (list: readonly Chunk[]) => (list.length === 0 ? 'no chunk' : list.map(c => c.name).join('; '));
  if (expected.length !== got.length || expected.some((c, i) => c.name !== got[i]!.name)) {
    out.push({ field: 'chunks', expected: names(expected), got: names(got) });
    // What can be set against each other says more than the names alone.
    if (expected.length !== got.length) return out;
  }
  for (const [i, c] of expected.entries()) {
    if (c.name === got[i]!.name) element(`chunk ${i + 1} ${c.name}`, c, got[i]!, out);
  }
  return out;
}

type Named = { readonly name: string };
const isNamed = (v: unknown): v is Named => typeof v === 'object' && v !== null && 'name' in v && 'at' in v;

function element(field: string, expected: Named, got: Named, out: Difference[]): void {
  if (expected.name !== got.name) {
    out.push({ field, expected: show(expected), got: show(got) });
    return;
  }
  for (const key of new Set([...Object.keys(expected), ...Object.keys(got)])) {
    if (key === 'at' || key === 'name') continue;
    const e = (expected as unknown as Record<string, unknown>)[key];
    const g = (got as unknown as Record<string, unknown>)[key];
    // Flags that the dialect has no field for are not compared.
    if (e === undefined && key === 'flgs') continue;
    value(`${field}, ${key}`, e, g, out);
  }
}

function value(field: string, e: unknown, g: unknown, out: Difference[]): void {
  if (e === ANY) return;
  if (Array.isArray(e) && Array.isArray(g)) {
    list(field, e, g, out);
    return;
  }
  if (isNamed(e) && isNamed(g)) {
    element(`${field} ${e.name}`, e, g, out);
    return;
  }
  if (isRecord(e) && isRecord(g)) {
    for (const k of Object.keys(e)) value(`${field}, ${k}`, e[k], g[k], out);
    return;
  }
  if (!same(e, g)) out.push({ field, expected: show(e), got: show(g) });
}

function list(field: string, e: readonly unknown[], g: readonly unknown[], out: Difference[]): void {
  const plain = !e.some(x => typeof x === 'object') && !g.some(x => typeof x === 'object');
  if (plain || e.length !== g.length) {
    if (e.length !== g.length || e.some((x, i) => x !== ANY && x !== g[i]))
      out.push({ field, expected: show(e), got: show(g) });
    return;
  }
  for (let i = 0; i < e.length; i++) value(`${field} ${i + 1}`, e[i], g[i], out);
}

const isRecord = (v: unknown): v is Record<string, unknown> =>
  typeof v === 'object' && v !== null && !Array.isArray(v) && !(v instanceof Uint8Array);

function same(e: unknown, g: unknown): boolean {
  if (e instanceof Uint8Array && g instanceof Uint8Array) return e.length === g.length && e.every((b, i) => b === g[i]);
  if (typeof e === 'string' && typeof g === 'string' && e !== g) {
    // Two spellings of one address.
    const [a, b] = [InAddr.parse(e), InAddr.parse(g)];
    return a !== undefined && b !== undefined && a.equals(b);
  }
  return e === g;
}

const SHOWN = 48;

/** A value for people; long byte strings are cut. */
export function show(v: unknown): string {
  if (v === ANY) return '...';
  if (v === undefined) return 'nothing';
  if (typeof v === 'string') return JSON.stringify(v);
  if (v instanceof Uint8Array) {
    const hex = [...v.subarray(0, SHOWN)].map(b => `0x${b.toString(16).padStart(2, '0')}`).join(', ');
    return `[${hex}${v.length > SHOWN ? `, and ${v.length - SHOWN} bytes more` : ''}]`;
  }
  if (Array.isArray(v)) return `[${v.map(show).join(', ')}]`;
  if (isNamed(v)) {
    const rest = Object.entries(v).filter(([k, x]) => k !== 'at' && k !== 'name' && x !== undefined);
    return `${v.name}[${rest.map(([k, x]) => `${k}=${show(x)}`).join(', ')}]`;
  }
  if (isRecord(v)) {
    if ('start' in v && 'end' in v) return `${show(v.start)}:${show(v.end)}`;
    return `{${Object.entries(v)
      .map(([k, x]) => `${k}=${show(x)}`)
      .join(', ')}}`;
  }
  return String(v);
}
