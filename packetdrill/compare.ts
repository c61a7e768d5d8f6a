/** The comparison of a packet that came with the one that the script wants: trees of the same shape (facts part 4.5). */

import { InAddr } from '../stack/netinet/in.js';
import { ANY, type Chunk } from './ast.js';
import type { Difference } from './result.js';

/** Every difference between the chunks, from the outside in. Empty: they match. */
export function compareChunks(expected: readonly Chunk[], got: readonly Chunk[]): Difference[] {
  const out: Difference[] = [];
  const names = (list: readonly Chunk[]) => (list.length === 0 ? 'no chunk' : list.map(c => c.name).join('; '));
  if (expected.length !== got.length || expected.some((c, i) => c.name !== got[i]!.name))
    out.push({ field: 'chunks', expected: names(expected), got: names(got) });
  // What can be set against each other says more than the names alone.
  for (const [e, g] of align(expected, got)) {
    if (e === undefined || g === undefined) continue;
    element(`chunk ${expected.indexOf(e) + 1} ${e.name}`, e, g, out);
  }
  return out;
}

/**
 * Two lists side by side: the longest run of equal names in order stands opposite each other, what is in one list only
 * opposite undefined. Lists are as long as a packet has room for.
 */
function align<T extends Named>(expected: readonly T[], got: readonly T[]): [T | undefined, T | undefined][] {
  const [n, m] = [expected.length, got.length];
  // longest[i][j]: of what is left from i and j on. Equal lists, the common case, need no table.
  if (n === m && expected.every((e, i) => e.name === got[i]!.name)) return expected.map((e, i) => [e, got[i]]);
  const longest = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
  for (let i = n - 1; i >= 0; i--)
    for (let j = m - 1; j >= 0; j--)
      longest[i]![j] =
        expected[i]!.name === got[j]!.name
          ? longest[i + 1]![j + 1]! + 1
          : Math.max(longest[i + 1]![j]!, longest[i]![j + 1]!);
  const out: [T | undefined, T | undefined][] = [];
  let [i, j] = [0, 0];
  while (i < n || j < m) {
    if (i < n && j < m && expected[i]!.name === got[j]!.name) out.push([expected[i++], got[j++]]);
    else if (j >= m || (i < n && longest[i + 1]![j]! >= longest[i]![j + 1]!)) out.push([expected[i++], undefined]);
    else out.push([undefined, got[j++]]);
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
  if (same(e, g)) return;
  if (e instanceof Uint8Array && g instanceof Uint8Array && e.length === g.length && e.length > WINDOW) {
    const at = e.findIndex((b, i) => b !== g[i]);
    const window = (b: Uint8Array) => show(b.subarray(at, at + WINDOW));
    out.push({ field: `${field} from byte ${at + 1} of ${e.length}`, expected: window(e), got: window(g) });
  } else out.push({ field, expected: show(e), got: show(g) });
}
/** Bytes that are shown from where two long strings begin to differ. */
const WINDOW = 16;

function list(field: string, e: readonly unknown[], g: readonly unknown[], out: Difference[]): void {
  const plain = !e.some(x => typeof x === 'object') && !g.some(x => typeof x === 'object');
  if (e.every(isNamed) && g.every(isNamed) && e.length + g.length > 0) {
    elements(field, e, g, out);
    return;
  }
  if (plain || e.length !== g.length) {
    if (e.length !== g.length || e.some((x, i) => x !== ANY && x !== g[i]))
      out.push({ field, expected: show(e), got: show(g) });
    return;
  }
  for (let i = 0; i < e.length; i++) value(`${field} ${i + 1}`, e[i], g[i], out);
}

/** Parameters or causes: their order counts, and each that lacks or is too many is named. */
function elements(field: string, e: readonly Named[], g: readonly Named[], out: Difference[]): void {
  const text = (x: Named | undefined) => (x === undefined ? 'nothing' : show(x));
  for (const [a, b] of align(e, g)) {
    const place = a === undefined ? '' : ` ${e.indexOf(a) + 1}`;
    const where = `${field}${place} ${(a ?? b)!.name}`;
    if (a !== undefined && b !== undefined) element(where, a, b, out);
    else out.push({ field: where, expected: text(a), got: text(b) });
  }
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

const SHOWN = 16;

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
