/** `nke bench` from its command line, quick, and its report in a browser. */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { native } from '../nic/native.js';
import { skipWithout } from '../vm/peers.js';
import { ManagedProcess } from '../vm/process.js';
import type { BenchReport } from './report.js';

const nke = fileURLToPath(new URL('../nke.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'nke-bench-test-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const page = join(folder, 'report.html');

async function bench(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const child = new ManagedProcess([process.execPath, nke, 'bench', ...args], { timeoutMs: 110_000 });
  const { status } = await child.ended;
  return { status, stdout: child.stdout, stderr: child.stderr };
}

test('messages, quick: ours against the C limit, with ratios and a report', {
  timeout: 120_000,
  skip: native === undefined ? 'the limit needs the C module on our side' : skipWithout('gcc', 'libc6-dev'),
}, async t => {
  const args = ['messages', 'bulk', '--quick', '--peer', 'nke', 'limit', '--json', '--html', page];
  const { status, stdout, stderr } = await bench(...args);
  assert.equal(status, 0, stderr);
  assert.match(stderr, /messages .*nke/, 'progress is shown');
  const report = JSON.parse(stdout) as BenchReport;
  assert.equal(report.tool, 'nke bench');
  assert.ok(report.machine.versions.node);
  const [bulk, messages] = report.scenarios;
  assert.equal(messages!.scenario, 'messages');
  for (const column of ['nke', 'limit']) {
    const s = messages!.series.find(x => x.column === column && x.metric === 'rate')!;
    assert.ok(s.median > 1000, `${column}: ${s.median} messages a second`);
  }
  const ratio = bulk!.ratios.find(r => r.over === 'limit' && r.point === '1,400 B')!.ratio;
  t.diagnostic(
    `bulk, 1,400-byte messages: ${(ratio * 100).toFixed(0)} % of the C limit, on a machine that does other work too`,
  );
  assert.ok(ratio > 0 && ratio < 2);
  const verdict = report.verdicts.find(v => v.what.includes('usrsctp'))!;
  assert.equal(verdict.verdict, 'not measured');
  assert.ok(statSync(page).size > 50_000);
});

test('the report draws its plots in a browser', { timeout: 120_000, skip: skipWithout('chromium') }, async t => {
  if (statSync(page, { throwIfNoEntry: false }) === undefined) return t.skip('there is no report: see the test before');
  const shot = join(folder, 'report.png');
  // Its sandbox needs privileges that a container lacks; the page is our own file and loads nothing.
  const flags = ['--headless', '--no-sandbox', '--disable-gpu', `--user-data-dir=${join(folder, 'profile')}`];
  const url = pathToFileURL(page).href;
  await using dom = new ManagedProcess(['/usr/bin/chromium', ...flags, '--dump-dom', url], { timeoutMs: 60_000 });
  await dom.ended;
  const drawn = /data-drawn="(\d+)"/.exec(dom.stdout);
  assert.ok(drawn !== null, `the page's script did not run\n${dom.tail()}`);
  assert.equal(Number(drawn[1]), 1, 'the plot of bulk');
  const argv = ['/usr/bin/chromium', ...flags, '--window-size=1000,1400', `--screenshot=${shot}`, url];
  await using browser = new ManagedProcess(argv, { timeoutMs: 60_000 });
  await browser.ended;
  const png = readFileSync(shot);
  assert.equal(png.subarray(1, 4).toString(), 'PNG');
  assert.ok(png.length > 20_000, `a picture of ${png.length} bytes is empty`);
});

test('wrong usage ends with status 2 and says what to do; nothing is measured', async () => {
  for (const [args, expected] of [
    [['bulkk'], /no scenario "bulkk"; did you mean "bulk"/],
    [['bulk', '--peer', 'usrsctpp'], /no column "usrsctpp"; did you mean "usrsctp"/],
    [['bulk', '--seconds', '0'], /A number up to 60/],
    [['latency', '--profile'], /add the scenario bulk/],
    [['bulk', '--html', '/nowhere/report.html'], /cannot be written to \/nowhere\/report.html/],
  ] as const) {
    const { status, stdout, stderr } = await bench(...args);
    assert.equal(status, 2, `${args.join(' ')}: ${stderr}`);
    assert.match(stderr, expected);
    assert.equal(stdout, '');
  }
});
