/** Our own scripts, all in one process: each must pass, with the script's tolerance and with that of virtual time. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { textOf } from './report.js';
import { findScripts } from './run-files.js';
import { runFile } from './run-one.js';

/** The scripts stand beside the sources, not beside what is compiled of them. */
const root = join(fileURLToPath(new URL('.', import.meta.url)), '..', '..');
const files = findScripts([join(root, 'packetdrill', 'scripts')]);
const options = { abi: 'compact', defines: new Map([['FreeBSD', '1']]) } as const;

describe('scripts', () => {
  for (const file of files)
    test(file.slice(root.length + 1), () => {
      for (const tight of [false, true]) {
        const r = runFile(file, { ...options, tight });
        assert.ok(r.ok, textOf(r));
      }
    });
  test('there are many, and one takes no longer than 20 ms on average', () => {
    assert.ok(files.length >= 100, `${files.length} scripts`);
    let ms = 0;
    for (const file of files) ms += runFile(file, { ...options, tight: false }).ms;
    assert.ok(ms / files.length < 20, `${(ms / files.length).toFixed(1)} ms a script`);
  });
});
