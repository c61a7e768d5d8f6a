/** Every script of the repository, changed ten times over: parsed, printed, and what parses is run. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../stack/kern/clock.js';
import { mutate, mutated, parsed, scriptTexts } from './mutation.fixture.js';
import { runScript } from './runner.js';

const texts = scriptTexts();

test('parsed and printed', () => {
  const counts = mutate(texts, texts.length * 10, 2, 7);
  assert.ok(counts.parsed > texts.length / 4 && counts.refused > texts.length, JSON.stringify(counts));
});

test('run: passed, or failed with a reason, never by an internal error', () => {
  const random = new SeededRandom(11);
  let ran = 0;
  for (const [i, text] of texts.entries())
    for (const abi of ['compact', 'freebsd-amd64'] as const) {
      const changed = mutated(text, random, 2);
      const script = parsed(changed, `script ${i}`);
      if (script === undefined) continue;
      ran++;
      const r = runScript(script, { tight: false, abi });
      assert.ok(r.ok || !/internal error|work after/.test(r.failure!.what), `${r.failure?.what}\n${changed}`);
    }
  assert.ok(ran > texts.length / 4, `${ran}`);
});
