/** Sinks and compiled expressions of the machine. */

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { EMSGSIZE } from '../stack/kern/errno.js';
import { compileBpf, fileSinks } from './host.js';

test('a ring of files: whole records, a header each, the oldest goes; nothing outside, nothing overwritten', t => {
  const dir = mkdtempSync(join(tmpdir(), 'nke-sink-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const open = fileSinks(join(dir, 'logs'));
  const options = { suffix: 'bin', fileBytes: 4096, files: 3, header: Uint8Array.of(1, 2) };
  for (const name of ['../x', 'a/b', '', '.x', 'x..y', 'x'.repeat(200)])
    assert.ok(typeof open(name, options) === 'number');
  for (const bad of [{ suffix: '../x' }, { fileBytes: 1 }, { files: 0 }, { files: 1e9 }])
    assert.ok(typeof open('x', { ...options, ...bad }) === 'number');
  const s = open('log', options);
  assert.ok(typeof s !== 'number');
  assert.equal(s.write(new Uint8Array(5000)), -EMSGSIZE);
  for (let i = 0; i < 10; i++) assert.equal(s.write(new Uint8Array(3000).fill(i)), 3000);
  s.close();
  const files = readdirSync(join(dir, 'logs')).sort();
  assert.deepEqual(files, ['log.0008.bin', 'log.0009.bin', 'log.0010.bin']);
  const last = readFileSync(join(dir, 'logs', 'log.0010.bin'));
  assert.equal(last.length, 3002);
  assert.deepEqual([...last.subarray(0, 3)], [1, 2, 9]);
  // A link that waits where the next file would be is not followed.
  writeFileSync(join(dir, 'victim'), 'safe');
  symlinkSync(join(dir, 'victim'), join(dir, 'logs', 'log.0011.bin'));
  assert.ok(typeof open('log', options) !== 'number');
  assert.equal(readFileSync(join(dir, 'victim'), 'utf8'), 'safe');
});

test('an expression becomes a program or a sentence', () => {
  const p = compileBpf('udp port 53');
  if (typeof p === 'string') assert.match(p, /tcpdump is not installed/);
  else {
    assert.ok(p.length > 5 && p.every(i => i.length === 4));
    assert.match(compileBpf('udp prot 53') as string, /syntax error/);
    for (const trick of ['-w /dev/null', '$(id)', '; id', '-r x'])
      assert.equal(typeof compileBpf(trick), 'string', trick);
  }
  assert.match(compileBpf('x\ny') as string, /not plain text/);
});
