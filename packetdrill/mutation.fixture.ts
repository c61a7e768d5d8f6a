/** For tests: scripts with things changed, moved, cut out and put in; what the parser makes of them is checked here. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SeededRandom } from '../stack/kern/clock.js';
import type { Script } from './ast.js';
import { ParseError } from './error.js';
import { parse } from './parser.js';
import { printScript } from './print.js';
import { findScripts } from './run-files.js';

/** The tree without what depends on where it was written. */
export function bare(x: unknown): unknown {
  if (Array.isArray(x)) return x.map(bare);
  if (x instanceof Uint8Array || typeof x !== 'object' || x === null) return x;
  const out: Record<string, unknown> = {};
  for (const [k, v] of Object.entries(x))
    if (!['at', 'sctpAt', 'icmpAt', 'source', 'file', 'warnings'].includes(k) && v !== undefined) out[k] = bare(v);
  return out;
}

/** The texts of all scripts of the repository, which stand beside the sources. */
export function scriptTexts(): string[] {
  const root = join(fileURLToPath(new URL('.', import.meta.url)), '..', '..', 'packetdrill', 'scripts');
  return findScripts([root]).map(f => readFileSync(f, 'utf8'));
}

/** What means something somewhere in the dialect. */
const PIECES = (
  '... [ ] { } ( ) " ` // /* */ %{ }% = ~ + * < > ; , : | -1 0x 99999999999 :: 1.2.3.4 \\ \0 \u00ff --x= ' +
  '#ifdef #ifndef #else #endif #ifdef_X sizeof( tag= len= flgs= INIT DATA sctp icmp udp ipv4 gre mpls'
).split(' ');

/** One text changed in `changes` places at most. */
export function mutated(text: string, random: SeededRandom, changes: number): string {
  const pick = (n: number): number => random.u32() % n;
  let out = text;
  for (let k = pick(changes) + 1; k > 0; k--) {
    const at = pick(out.length + 1);
    const way = pick(4);
    if (way === 0) out = out.slice(0, at) + out.slice(at + 1 + pick(6));
    else if (way === 1) out = `${out.slice(0, at)}${PIECES[pick(PIECES.length)]!.replace('_', ' ')}${out.slice(at)}`;
    else if (way === 2) out = out.slice(0, at) + String.fromCharCode(pick(256)) + out.slice(at + 1);
    else {
      const from = pick(out.length + 1);
      out = out.slice(0, at) + out.slice(from, from + pick(60)) + out.slice(at);
    }
  }
  return out;
}

/** Parses: a tree, or undefined with an error that names a line and a column of the text; anything else fails the test. */
export function parsed(text: string, name: string): Script | undefined {
  try {
    return parse('f.pkt', text);
  } catch (e) {
    assert.ok(e instanceof ParseError, `${name}: ${e instanceof Error ? e.stack : e}\n${text}`);
    const lines = text.split('\n');
    assert.ok(e.at.line >= 1 && e.at.line <= lines.length, `${name}: line ${e.at.line}`);
    assert.ok(e.at.column >= 1 && e.at.column <= lines[e.at.line - 1]!.length + 1, `${name}: column ${e.at.column}`);
    return undefined;
  }
}

/** So many mutations of texts taken in turn; each that parses prints, and what is printed is the same script. */
export function mutate(texts: readonly string[], rounds: number, changes: number, seed = 0x2545f491) {
  const random = new SeededRandom(seed);
  const counts = { parsed: 0, refused: 0 };
  for (let round = 0; round < rounds; round++) {
    const text = mutated(texts[random.u32() % texts.length]!, random, changes);
    const script = parsed(text, `mutation ${round}`);
    if (script === undefined) {
      counts.refused++;
      continue;
    }
    counts.parsed++;
    const printed = printScript(script);
    assert.deepEqual(bare(parse('f.pkt', printed)), bare(script), `mutation ${round}:\n${text}\n---\n${printed}`);
  }
  return counts;
}
