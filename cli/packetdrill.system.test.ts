/** `nke packetdrill` as a user calls it: exit statuses, output, captures; and all scripts of the repository pass. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const dist = join(dirname(fileURLToPath(import.meta.url)), '..');
const root = join(dist, '..');
const GOOD = '0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3\n+0 bind(3, ..., ...) = 0\n+0 close(3) = 0\n';
const BAD = '0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3\n+0 listen(3, 1) = -1 EBADF\n';

const nke = (cwd: string, ...args: string[]) =>
  spawnSync(process.execPath, [join(dist, 'nke.js'), 'packetdrill', ...args], {
    cwd,
    encoding: 'utf8',
    timeout: 120_000,
  });

test('exit status, text and JSON', () => {
  const dir = mkdtempSync(join(tmpdir(), 'nke-pkt-'));
  try {
    writeFileSync(join(dir, 'good.pkt'), GOOD);
    writeFileSync(join(dir, 'bad.pkt'), BAD);
    writeFileSync(join(dir, 'worse.pkt'), '0 socket(\n§');
    writeFileSync(join(dir, 'define.txt'), `${GOOD}#ifdef LATER\n+0 nonsense\n#endif\n`);

    const good = nke(dir, 'good.pkt');
    assert.deepEqual([good.status, good.stderr], [0, '']);
    assert.match(good.stdout, /^1 script: 1 passed, 0 failed; /);

    const all = nke(dir, '.', '--jobs', '2');
    assert.equal(all.status, 1);
    assert.match(all.stdout, /^FAIL bad\.pkt:2:1: .*\n {2}\| {9}\+0 listen\(3, 1\) = -1 EBADF\n/m);
    assert.match(all.stdout, /^FAIL worse\.pkt:2:1: unexpected character "§"$/m);
    assert.match(all.stdout, /^3 scripts: 1 passed, 2 failed; /m);

    const json = nke(dir, '.', '--json');
    assert.equal(json.status, 1);
    const rows = json.stdout
      .trim()
      .split('\n')
      .map(l => JSON.parse(l) as { file: string; ok: boolean; ms: number; error?: { line: number; what: string } });
    assert.deepEqual(
      rows.map(r => [r.file, r.ok, r.error?.line]),
      [
        ['bad.pkt', false, 2],
        ['good.pkt', true, undefined],
        ['worse.pkt', false, 2],
      ],
    );

    assert.equal(nke(dir, 'define.txt').status, 0);
    assert.equal(nke(dir, 'define.txt', '--define', 'LATER').status, 1);

    const missing = nke(dir, 'missing.pkt');
    assert.deepEqual([missing.status, missing.stdout], [2, '']);
    assert.match(missing.stderr, /^nke: there is no file or directory missing\.pkt\n$/);
    assert.equal(nke(dir).status, 2);
    assert.equal(nke(dir, 'good.pkt', '--abi', 'x').status, 2);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test('--pcap keeps an exchange', () => {
  const dir = mkdtempSync(join(tmpdir(), 'nke-pkt-'));
  try {
    const script = join(root, 'packetdrill', 'scripts', 'setup', 'passive.pkt');
    writeFileSync(join(dir, 'passive.pkt'), readFileSync(script));
    assert.equal(nke(dir, 'passive.pkt', '--pcap', 'out').status, 0);
    const file = join(dir, 'out', 'passive.pcapng');
    assert.equal(readFileSync(file).readUInt32LE(0), 0x0a0d0d0a, 'a section header block');
    assert.ok(statSync(file).size > 300);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test('every script of the repository passes', () => {
  /** Top-level folders that may hold scripts. */
  const rooms = readdirSync(root, { withFileTypes: true }).filter(
    e => e.isDirectory() && !e.name.startsWith('.') && !['node_modules', 'dist', 'build'].includes(e.name),
  );
  const has = (dir: string): boolean =>
    readdirSync(dir, { withFileTypes: true }).some(e =>
      e.isDirectory() ? has(join(dir, e.name)) : e.name.endsWith('.pkt'),
    );
  const dirs = rooms.map(r => r.name).filter(name => has(join(root, name)));
  assert.ok(dirs.includes('packetdrill'));
  const result = nke(root, ...dirs);
  assert.equal(result.status, 0, result.stdout + result.stderr);
});
