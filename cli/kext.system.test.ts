/** The commands about extensions against a running appliance, as a user gives them: author, sign, load, control, replace, unload. */

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('../nke.js', import.meta.url));

test('an extension from its skeleton to its unloading', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'nke-kext-cli-'));
  const env = { ...process.env, XDG_RUNTIME_DIR: dir, NODE_TEST_CONTEXT: undefined };
  const nke = (...args: string[]) =>
    new Promise<{ status: number; out: string; err: string }>(resolve =>
      execFile(process.execPath, [program, ...args], { cwd: dir, env, timeout: 30_000 }, (e, out, err) =>
        resolve({ status: e === null ? 0 : Number(e.code ?? 1), out, err }),
      ),
    );
  const ok = async (...args: string[]): Promise<string> => {
    const r = await nke(...args);
    assert.equal(r.status, 0, `nke ${args.join(' ')}: ${r.err}`);
    return r.out;
  };
  const no = async (words: RegExp, ...args: string[]): Promise<void> => {
    const r = await nke(...args);
    assert.equal(r.status, 2, `nke ${args.join(' ')}: ${r.out}${r.err}`);
    assert.match(r.err, words);
    assert.equal(r.err.trim().split('\n').length, 1);
  };
  /** Runs an appliance while `body` does. */
  const running = async (flags: string[], body: () => Promise<void>) => {
    const up = spawn(process.execPath, [program, 'up', '--port', 'wire:x', '--address', '10.0.0.1/24', ...flags], {
      cwd: dir,
      env,
    });
    let said = '';
    up.stdout.on('data', d => (said += String(d)));
    up.stderr.on('data', d => (said += String(d)));
    const gone = new Promise<void>(resolve => up.on('exit', () => resolve()));
    try {
      for (let i = 0; i < 100 && (await nke('ifconfig')).status !== 0; i++) assert.equal(up.exitCode, null, said);
      await body();
    } finally {
      up.kill('SIGTERM');
      await gone;
    }
  };
  t.after(() => rmSync(dir, { recursive: true, force: true }));

  assert.match(
    await ok('kext', 'new', 'Mine', '--kind', 'filter'),
    /Mine\.kext: manifest\.json, index\.ts, index\.test\.ts/,
  );
  await no(/is there already/, 'kext', 'new', 'Mine', '--kind', 'filter');
  assert.match(await ok('kext', 'test', './Mine.kext'), /pass 1/);
  assert.match(await ok('kext', 'keygen', 'me.key', '--comment', 'me'), /key [0-9a-f]{16}/);
  await no(/EEXIST|exists/, 'kext', 'keygen', 'me.key');

  await running(['--kext-trust', 'me.key.pub'], async () => {
    await no(/Mine\.kext is refused: it is not signed/, 'kextload', './Mine.kext');
    await ok('kext', 'sign', './Mine.kext', '--key', 'me.key');
    await ok('kext', 'verify', './Mine.kext', '--kext-trust', 'me.key.pub');
    await no(/parameter "limit" is 1; it must be an integer from 14/, 'kextload', './Mine.kext', '--param', 'limit=1');
    await no(/no interface "eth9"/, 'kextload', './Mine.kext', '--on', 'eth9');
    await ok('kextload', './Mine.kext', '--param', 'limit=1500', '--on', 'nke0');
    const id = 'org.example.Mine';
    const rows = JSON.parse(await ok('kextstat', '--json')) as { identifier: string; state: string; signed: string }[];
    const row = rows.find(r => r.identifier === id)!;
    assert.equal(row.state, 'started');
    assert.match(row.signed, /^[0-9a-f]{16}$/);
    assert.match(await ok('kextstat', '-v'), /registered: counters org\.example\.Mine, filter org\.example\.Mine/);
    assert.equal(await ok('kextctl', id, 'get', 'limit'), '1500\n');
    assert.equal(await ok('kextctl', id, 'set', 'limit', '900'), '900\n');
    await no(/parameter "limit" is 3/, 'kextctl', id, 'set', 'limit', '3');
    await no(/must be a integer|must be an integer/, 'kextctl', id, 'set', 'limit', 'many');
    await no(/no extension org\.example\.None is loaded/, 'kextctl', 'org.example.None', 'get');
    assert.match(await ok('kextctl', id, 'stats'), /org\.example\.Mine:\n[\s\S]*dropped/);
    assert.match(await ok('kextctl', id, 'list'), /version: 0\.1\.0/);

    // An altered bundle does not replace the running one; a signed new version does.
    const manifest = join(dir, 'Mine.kext/manifest.json');
    writeFileSync(manifest, readFileSync(manifest, 'utf8').replace('0.1.0', '0.2.0'));
    await no(/manifest\.json has been altered/, 'kextreplace', './Mine.kext');
    await ok('kext', 'sign', './Mine.kext', '--key', 'me.key');
    await ok('kextreplace', './Mine.kext');
    assert.match(await ok('kextctl', id, 'list'), /version: 0\.2\.0/);
    assert.equal(await ok('kextctl', id, 'get', 'limit'), '900\n');
    await ok('kextunload', id, '--wait', '5');
    await no(/no extension org\.example\.Mine is loaded/, 'kextctl', id, 'get');
  });

  // The preference file: the line that is wrong, before anything is loaded; then in order, with parameters.
  const prefs = join(dir, 'prefs.json');
  const text = (limit: string, on: string) =>
    `{\n  "kexts": [\n    "SCTP",\n    { "bundle": "./Mine.kext",\n      "on": ["${on}"],\n      "params": { "limit": ${limit} } }\n  ]\n}\n`;
  writeFileSync(prefs, text('10', 'nke0'));
  const flags = ['--port', 'wire:x', '--kexts', 'prefs.json', '--kext-trust', 'me.key.pub'];
  await no(/^nke: prefs\.json:6:28: parameter "limit" is 10; it must be an integer from 14 to 65535/, 'up', ...flags);
  writeFileSync(prefs, text('100', 'nke7'));
  await no(/^nke: prefs\.json:5:14: there is no interface "nke7"; there are lo0, nke0/, 'up', ...flags);
  writeFileSync(prefs, text('100', 'nke0'));
  await no(/^nke: prefs\.json:4:17: Mine\.kext is refused: .* does not trust/, 'up', ...flags.slice(0, 4));
  cpSync(join(dir, 'Mine.kext'), join(dir, 'Copy.kext'), { recursive: true });
  writeFileSync(join(dir, 'Copy.kext/index.ts'), 'export const x: = 1;');
  await no(/Copy\.kext\/index\.ts:1:/, 'up', '--port', 'wire:x', '--kext', './Copy.kext', '--allow-unsigned-kexts');
  await running(['--kexts', 'prefs.json', '--kext-trust', 'me.key.pub'], async () => {
    const rows = JSON.parse(await ok('kextstat', '--json')) as { name: string; state: string; params: object }[];
    assert.deepEqual(
      rows.filter(r => r.state !== 'not loaded').map(r => r.name),
      ['SCTPSupport', 'SCTP', 'org.example.Mine'],
    );
    assert.deepEqual(rows[2]!.params, { limit: 100 });
    await no(/in use by org\.nke\.SCTP/, 'kextunload', 'SCTPSupport');
  });
});
