/** `nke up --workers`: the commands speak to all workers, and their answers are one. No privilege; everything on loopback. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { native } from '../nic/native.js';

const program = fileURLToPath(new URL('../nke.js', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'nke-workers-'));
const running = new Set<ChildProcess>();
after(() => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

function start(...args: string[]) {
  const env = { ...process.env, XDG_RUNTIME_DIR: dir, NKE_APPLIANCE: '' };
  const child = spawn(process.execPath, [program, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  const said = { out: '', err: '' };
  let look = (): void => {};
  child.stdout.on('data', d => {
    said.out += String(d);
    look();
  });
  child.stderr.on('data', d => {
    said.err += String(d);
  });
  const ended = new Promise<{ status: number | null; out: string; err: string }>(resolve =>
    child.on('close', status => {
      running.delete(child);
      look();
      resolve({ status, ...said });
    }),
  );
  /** Resolves with the first match of what it prints; fails when it ends without. */
  const printed = (pattern: RegExp): Promise<string> =>
    new Promise((resolve, reject) => {
      look = () => {
        const m = pattern.exec(said.out);
        if (m !== null) resolve(m[0]);
        else if (child.exitCode !== null) reject(new Error(`it ended: ${said.err}`));
      };
      look();
    });
  return { child, ended, printed };
}
const ask = async (...args: string[]): Promise<unknown> => {
  const { status, out, err } = await start(...args, '-a', 'w', '--json').ended;
  assert.equal(status, 0, err);
  return JSON.parse(out);
};

test('two workers behind one control socket', {
  timeout: 60_000,
  skip: native === undefined ? 'needs the C module' : false,
}, async () => {
  const refused = await start('up', '--port', 'wire:a', '--workers', '2', '--no-control').ended;
  assert.deepEqual([refused.status, /several workers cannot share/.test(refused.err)], [2, true]);

  const up = start('up', '--name', 'w', '--port', 'udp:127.0.0.1:0', '--kext', 'SCTP', '--workers', '2', '--json');
  const ready = JSON.parse(await up.printed(/\{.*\}\n/)) as { workers: number; cards: { port: string }[] };
  assert.equal(ready.workers, 2);
  const port = ready.cards[0]!.port.split(':').at(-1)!;
  assert.notEqual(port, '0', 'the number that the system chose');

  const following = start('event', '--follow', '--json', '-a', 'w');
  const events = (await ask('sysctl', 'net.inet.sctp.rto_min=200')) as { value: number }[];
  assert.deepEqual([events.length, events[0]!.value], [1, 200]);
  const mbufs = (await ask('netstat', '-m')) as { class: string; total: number }[];
  assert.deepEqual(
    mbufs.map(m => m.class),
    ['small', 'cluster', 'jumbo'],
  );
  const counters = (await ask('netstat', '-s')) as Record<string, Record<string, number>>;
  assert.equal(counters.sctp!.sctps_currestab, 0);
  assert.deepEqual(await ask('netstat'), { associations: [], listeners: [] });

  // What one command does happens in both, and is told of both.
  const link = (await ask('link', 'nke0', 'down')) as { link: boolean }[];
  assert.deepEqual(
    link.map(i => i.link),
    [false],
  );
  await following.printed(
    /"worker":0,"kind":"link-off".*\n(.*\n)*.*"worker":1,"kind":"link-off"|"worker":1,"kind":"link-off".*\n(.*\n)*.*"worker":0,"kind":"link-off"/,
  );
  const wrong = await start('sysctl', 'net.inet.sctp.nonsense', '-a', 'w').ended;
  assert.deepEqual([wrong.status, /there is no sysctl/.test(wrong.err)], [2, true]);

  up.child.kill('SIGINT');
  assert.equal((await up.ended).status, 0);
  await following.ended;
});
