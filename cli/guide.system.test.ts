/** docs/write-an-extension.md, step by step as a newcomer does it: its commands are run, its files written, its output compared. */

import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('../nke.js', import.meta.url));
const guide = fileURLToPath(new URL('../../docs/write-an-extension.md', import.meta.url));

interface Command {
  readonly words: readonly string[];
  readonly background: boolean;
  readonly prints: string;
}

/** The commands of a block: "$ nke ..." and what it prints until the next one. */
function commands(block: string): Command[] {
  const out: { words: string[]; background: boolean; prints: string }[] = [];
  for (const line of block.split('\n')) {
    if (line.startsWith('$ ')) {
      const words = line.slice(2).split(' ');
      const background = words.at(-1) === '&';
      if (background) words.pop();
      out.push({ words, background, prints: '' });
    } else if (line !== '') out.at(-1)!.prints += `${line}\n`;
  }
  return out;
}
/** "…" is anything; everything else is there as it stands. */
const like = (text: string): RegExp =>
  new RegExp(
    text
      .trim()
      .split('…')
      .map(part => part.trim().replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('[\\s\\S]*'),
  );

test('the guide works as written', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'nke-guide-'));
  const env = { ...process.env, XDG_RUNTIME_DIR: dir, NODE_TEST_CONTEXT: undefined };
  const background: ChildProcess[] = [];
  t.after(async () => {
    for (const child of background) {
      const gone = new Promise(resolve => child.once('exit', resolve));
      child.kill('SIGTERM');
      await gone;
    }
    rmSync(dir, { recursive: true, force: true });
  });
  const nke = (args: readonly string[]) =>
    new Promise<{ status: number; out: string; err: string }>(resolve =>
      execFile(process.execPath, [program, ...args], { cwd: dir, env, timeout: 30_000 }, (e, out, err) =>
        resolve({ status: e === null ? 0 : Number(e.code ?? 1), out, err }),
      ),
    );
  let ran = 0;
  for (const m of readFileSync(guide, 'utf8').matchAll(/^```(\w+)(?: file=(\S+))?\n([\s\S]*?)^```$/gm)) {
    const [, language, file, text = ''] = m;
    if (language === 'ts') writeFileSync(join(dir, file!), text);
    if (language !== 'sh') continue;
    for (const c of commands(text)) {
      ran++;
      assert.equal(c.words[0], 'nke', c.words.join(' '));
      if (c.background) {
        background.push(spawn(process.execPath, [program, ...c.words.slice(1)], { cwd: dir, env, stdio: 'ignore' }));
        for (let i = 0; i < 100 && (await nke(['ifconfig'])).status !== 0; i++);
        continue;
      }
      const r = await nke(c.words.slice(1));
      const refused = c.prints.startsWith('! ');
      const said = `$ ${c.words.join(' ')}\n${r.out}${r.err}`;
      assert.equal(r.status, refused ? 2 : 0, said);
      assert.match(refused ? r.err : r.out, like(refused ? c.prints.slice(2) : c.prints), said);
    }
  }
  assert.ok(ran >= 14, `${ran} commands`);
});
