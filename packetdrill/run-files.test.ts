import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { FileResult } from './report.js';
import type { RunOptions, ScriptResult } from './result.js';
import { findScripts, runFiles } from './run-files.js';
import { runFile, type SuiteOptions } from './run-one.js';

const options: SuiteOptions = { tight: false, abi: 'compact', defines: new Map() };
const GOOD = '0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3\n+0 close(3) = 0\n';

/** A directory that is gone afterwards. */
function withDirectory(body: (dir: string) => void | Promise<void>): () => Promise<void> {
  return async () => {
    const dir = mkdtempSync(join(tmpdir(), 'nke-pkt-'));
    try {
      await body(dir);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  };
}

test(
  'directories stand for their scripts, sorted, each file once',
  withDirectory(dir => {
    mkdirSync(join(dir, 'b', 'c'), { recursive: true });
    mkdirSync(join(dir, 'empty'));
    for (const f of ['z.pkt', 'a.pkt', 'b/2.pkt', 'b/c/1.pkt', 'b/readme.txt']) writeFileSync(join(dir, f), GOOD);
    symlinkSync(dir, join(dir, 'b', 'loop'));
    symlinkSync(join(dir, 'a.pkt'), join(dir, 'b', '3.pkt'));
    const names = (...of: string[]) => findScripts(of.map(n => join(dir, n))).map(f => f.slice(dir.length + 1));
    assert.deepEqual(names('.'), ['a.pkt', 'b/2.pkt', 'b/3.pkt', 'b/c/1.pkt', 'z.pkt']);
    assert.deepEqual(names('z.pkt', 'b', 'z.pkt'), ['z.pkt', 'b/2.pkt', 'b/3.pkt', 'b/c/1.pkt']);
    assert.deepEqual(names('b/readme.txt'), ['b/readme.txt']);
    assert.throws(() => names('missing'), /there is no file or directory .*missing/);
    assert.throws(() => names('empty'), /there is no script \(\*\.pkt\) in/);
  }),
);

test(
  'one file: whatever happens is a result',
  withDirectory(dir => {
    const file = join(dir, 'x.pkt');
    const run = (text: string, end: (o: RunOptions) => ScriptResult, o: Partial<SuiteOptions> = {}): FileResult => {
      writeFileSync(file, text);
      return runFile(file, { ...options, ...o }, (_script, given) => end(given));
    };
    const fine: ScriptResult = { ok: true, virtualSeconds: 2, notes: ['left over'] };
    const good = run(`--odd\n${GOOD}`, () => fine);
    assert.deepEqual([good.ok, good.virtualSeconds, good.error], [true, 2, undefined]);
    assert.deepEqual(good.notes, ['line 1: unknown option --odd', 'left over']);

    const unparsed = run('0 socket(\n  §', () => assert.fail('must not run'));
    assert.deepEqual([unparsed.ok, unparsed.error?.line, unparsed.error?.column], [false, 2, 3]);
    assert.equal(unparsed.error?.source, '  §\n  ^');

    const at = { file, line: 2, column: 1 };
    const bad = run(GOOD, () => ({ ...fine, ok: false, failure: { at, what: 'x', expected: '0', got: '-1 EBADF' } }));
    assert.deepEqual(
      { ...bad.error, differences: undefined },
      {
        line: 2,
        column: 1,
        what: 'x',
        expected: '0',
        got: '-1 EBADF',
        differences: undefined,
        source: '+0 close(3) = 0',
      },
    );
    const broken = run(GOOD, () => {
      throw new TypeError('oops');
    });
    assert.match(broken.error!.what, /^internal error: .*oops/);

    let seen: RunOptions | undefined;
    const look = (o: RunOptions) => {
      seen = o;
      return fine;
    };
    run(GOOD, look, { pcap: join(dir, 'out'), tight: true, seed: 7 });
    assert.ok(seen?.pcap?.startsWith(join(dir, 'out')) && seen.pcap.endsWith('x.pcapng'), seen?.pcap);
    assert.deepEqual([seen?.tight, seen?.seed, seen?.abi], [true, 7, 'compact']);

    truncateSync(file, 5 << 20);
    assert.match(runFile(file, options).error!.what, /5242880 bytes: the most is/);
    assert.match(runFile(join(dir, 'none.pkt'), options).error!.what, /^cannot be read: ENOENT/);
    assert.match(runFile(dir, options).error!.what, /^cannot be read: EISDIR/);
  }),
);

test(
  'threads give the same results in the same order',
  withDirectory(async dir => {
    const files = Array.from({ length: 8 }, (_, i) => join(dir, `${i}.pkt`));
    for (const [i, f] of files.entries()) writeFileSync(f, i % 3 === 0 ? `${GOOD}+0 [` : GOOD);
    const strip = (results: readonly FileResult[]) => results.map(r => ({ ...r, ms: 0 }));
    const alone = await runFiles(files, options, 1, () => {});
    const heard: FileResult[] = [];
    const threads = await runFiles(files, options, 2, r => heard.push(r));
    assert.deepEqual(strip(threads), strip(alone));
    assert.deepEqual(heard, threads);
    assert.deepEqual(
      threads.map(r => r.ok),
      [false, true, true, false, true, true, false, true],
    );
  }),
);
