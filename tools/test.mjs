// Runs the tests with node:test on the compiled JavaScript.
//   node tools/test.mjs unit [--watch] [NAME…]   every *.test.js that needs no peer, no privilege and no long time
//   node tools/test.mjs all  [NAME…]             those, then *.system.test.js: peers, namespaces, guests, long transfers
// NAME filters: a path part ("mbuf") selects files; "--name=TEXT" selects tests by name.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const args = process.argv.slice(2);
const all = args.includes('all');
const watch = args.includes('--watch');
const names = args
  .filter(a => a.startsWith('--name='))
  .map(a => new RegExp(a.slice(7).replace(/[.*+?^${}()|[\]\\]/g, '\\$&')));
const parts = args.filter(a => !a.startsWith('--') && a !== 'unit' && a !== 'all');

/** Every file below dir, depth first, in name order. */
function walk(dir) {
  return readdirSync(dir, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap(e => (e.isDirectory() ? walk(join(dir, e.name)) : [join(dir, e.name)]));
}

// --no-build: what is in dist/ as it is.
if (!args.includes('--no-build')) {
  const built = spawnSync(process.execPath, [join(root, 'tools', 'build.mjs')], { stdio: 'inherit' });
  if (built.status !== 0) process.exit(1);
}

const selected = file => parts.length === 0 || parts.some(p => relative(root, file).includes(p));
const tests = walk(join(root, 'dist')).filter(f => f.endsWith('.test.js') && !f.includes('.unit') && selected(f));
const unit = tests.filter(f => !f.endsWith('.system.test.js'));
const system = all ? tests.filter(f => f.endsWith('.system.test.js')) : [];

if (system.length > 0) {
  // What the system tests need as a peer; installs when root, else says what will be skipped.
  const peers = spawnSync(process.execPath, [join(root, 'dist', 'vm', 'peers.js')], { stdio: 'inherit' });
  if (peers.status !== 0)
    console.warn('nke: some peers are missing; the tests that need them are skipped by name below.');
}

const total = { pass: 0, fail: 0, skipped: 0 };

/** One node:test run over files; adds to the total and resolves when the run has ended. */
function stage(files, concurrency) {
  return new Promise(resolve => {
    if (files.length === 0) return resolve();
    const stream = run({
      files,
      concurrency,
      watch,
      testNamePatterns: names.length ? names : undefined,
      timeout: 600_000,
    });
    // A file is an entry of nesting 0 of its own; count what stands inside it and files that break as a whole.
    stream.on('test:pass', e => {
      if (e.details.type === 'suite') return;
      if (e.skip !== undefined) total.skipped++;
      else total.pass++;
    });
    stream.on('test:fail', e => {
      if (e.details.type !== 'suite') total.fail++;
    });
    const report = stream.compose(spec);
    report.pipe(process.stdout, { end: false });
    report.on('end', resolve);
  });
}

/**
 * Files that import the unit tests, one for each core: a process for each of them would spend most of its time starting.
 * A file's top-level tests run in order; two files of a shard share a process, so unit tests keep nothing in globals.
 */
function shards(files, count) {
  const dir = join(root, 'dist', '.unit');
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  return Array.from({ length: count }, (_, i) => {
    const path = join(dir, `unit-${i + 1}.test.js`);
    const mine = files.filter((_f, k) => k % count === i);
    writeFileSync(path, mine.map(f => `import ${JSON.stringify(relative(dir, f))};\n`).join(''));
    return path;
  });
}

await stage(unit.length > 4 ? shards(unit, 2) : unit, 2);
await stage(system, 1);
console.log(`${total.pass} passed, ${total.fail} failed, ${total.skipped} skipped`);
process.exit(total.fail === 0 && total.pass > 0 ? 0 : 1);
