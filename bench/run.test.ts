/** The benchmark's own arithmetic and its runner, with columns that only pretend to measure. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drawnPlots, htmlReport } from './html.js';
import { Lab } from './lab.js';
import { packing } from './packing.js';
import { byLayer, layerOf } from './profile.js';
import { type BenchReport, scenarioTable, verdictTable } from './report.js';
import { chosenPoints, judge, ratiosOf, runScenario, seriesOf } from './run.js';
import type { Column, Metric, Scenario, Series } from './scenario.js';
import { SCENARIOS } from './scenarios.js';
import { median, QUANTILES, quantile, quantileName } from './statistics.js';

test('median and quantiles', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
  assert.equal(quantile([10, 20, 30, 40, 50], 0.25), 20);
  assert.equal(quantile([0, 100], 0.999), 99.9);
  assert.equal(quantile([7], 1), 7);
  assert.deepEqual(QUANTILES.map(quantileName).slice(-4), ['p99.5', 'p99.9', 'p99.99', 'max']);
});

const SPEED: Metric = { name: 'speed', unit: 'Gb/s', better: 'more' };

const series = (column: string, value: number, point = 'p'): Series => ({
  point,
  column,
  metric: 'speed',
  unit: 'Gb/s',
  median: value,
  low: value,
  high: value,
  samples: [value],
});

test('samples become a median with its spread, metric by metric', () => {
  const [s, ...rest] = seriesOf([SPEED], 'p', 'nke', [{ speed: 3 }, { speed: 1 }, { speed: 2.00049 }, {}]);
  assert.deepEqual(rest, []);
  assert.deepEqual(s, { ...series('nke', 2), low: 1, high: 3, samples: [3, 1, 2] });
  assert.deepEqual(seriesOf([SPEED], 'p', 'nke', []), []);
});

test('ratios are ours over theirs, within one point, and never over nothing', () => {
  const all = [series('nke', 10), series('a', 4), series('b', 0), series('a', 5, 'elsewhere')];
  assert.deepEqual(ratiosOf([SPEED], all), [{ point: 'p', metric: 'speed', over: 'a', ratio: 2.5 }]);
});

test('a demand is judged by its value, a ratio or a share, at its border too', () => {
  const all = [series('nke', 10), series('limit', 20)];
  const demand = { what: 'w', point: 'p', metric: 'speed' };
  assert.deepEqual(judge({ ...demand, over: 'limit', atLeast: 50, unit: '%' }, all), {
    what: 'w',
    value: 50,
    unit: '%',
    atLeast: 50,
    verdict: 'pass',
  });
  assert.equal(judge({ ...demand, over: 'limit', atLeast: 0.51, unit: 'x' }, all).verdict, 'short');
  assert.equal(judge({ ...demand, atMost: 9.99, unit: 'Gb/s' }, all).verdict, 'short');
  assert.equal(judge({ ...demand, atMost: 10, unit: 'Gb/s' }, all).verdict, 'pass');
});

test('what was not measured is neither passed nor short, and says why', () => {
  const demand = { what: 'w', point: 'p', metric: 'speed', over: 'usrsctp', atLeast: 20, unit: 'x' };
  const v = judge(demand, [series('nke', 10)], [{ column: 'usrsctp', why: 'libusrsctp-dev is not installed' }]);
  assert.equal(v.verdict, 'not measured');
  assert.equal(v.value, null);
  assert.match(v.why!, /usrsctp: libusrsctp-dev is not installed/);
  assert.match(judge(demand, []).why!, /nke: no measurement at p/);
});

/** A scenario of pretended columns; `order` notes who ran when. */
function pretended(order: string[]): Scenario {
  const column = (name: string, more: Partial<Column> = {}): Column => ({
    name,
    about: `about ${name}`,
    kind: name === 'nke' ? 'ours' : 'peer',
    async run(p, _lab, turn) {
      order.push(`${p.name} ${name} ${turn}`);
      return { speed: p.x * turn };
    },
    ...more,
  });
  return {
    name: 'pretended',
    about: 'nothing is measured <b>',
    metrics: [SPEED],
    points: [
      { name: '64 KiB', x: 2, quick: true },
      { name: '1,400 B', x: 1 },
    ],
    columns: [
      column('nke'),
      column('absent', { missing: () => 'no such package' }),
      column('broken', {
        run: async () => {
          throw new Error('it fell over\nat some place');
        },
      }),
      column('choosy', { skips: p => (p.x === 1 ? 'too small' : undefined) }),
    ],
    demands: [{ what: 'fast', point: '64 KiB', metric: 'speed', over: 'choosy', atLeast: 1, unit: 'x' }],
    plots: [{ title: 'Speed', xLabel: 'x', over: 'points', metric: 'speed', yLog: true }],
  };
}

const lab = (quick = false) => new Lab({ seconds: 0.1, repeat: 3, quick });

test('columns run in turn; one that is missing, fails or has nothing to say is left out with its reason', async () => {
  const order: string[] = [];
  const notes: string[] = [];
  const fractions: number[] = [];
  const r = await runScenario(pretended(order), lab(), {
    note: n => notes.push(n),
    progress: f => fractions.push(f),
  });
  assert.deepEqual(order.slice(0, 4), ['64 KiB nke 1', '64 KiB choosy 1', '1,400 B nke 1', '64 KiB nke 2']);
  assert.equal(order.length, 9);
  assert.equal(fractions.at(-1), 1);
  assert.ok(fractions.every((f, i) => i === 0 || f >= fractions[i - 1]!));
  assert.deepEqual(r.series.find(s => s.point === '64 KiB' && s.column === 'nke')!.samples, [2, 4, 6]);
  assert.deepEqual(
    r.missing.map(m => `${m.column} ${m.point ?? ''}: ${m.why}`),
    [
      'absent : no such package',
      'choosy 1,400 B: too small',
      'broken 64 KiB: run 1: it fell over',
      'broken 1,400 B: run 1: it fell over',
      'broken 64 KiB: run 2: it fell over',
      'broken 1,400 B: run 2: it fell over',
    ],
    'given up after two failures',
  );
  assert.equal(notes.length, 5);
  assert.equal(r.verdicts[0]!.verdict, 'pass');
});

test('columns and points are chosen by name, spaces and commas left out; a quick run has few', async () => {
  const s = pretended([]);
  assert.deepEqual(chosenPoints(s, ['64kib'], false), [s.points[0]]);
  assert.deepEqual(chosenPoints(s, ['1400B'], true), [s.points[1]]);
  assert.deepEqual(chosenPoints(s, undefined, true), [s.points[0]]);
  const r = await runScenario(s, lab(true), { columns: ['nke'] });
  assert.deepEqual(
    r.columns.map(c => c.name),
    ['nke'],
  );
  assert.equal(r.missing.find(m => m.column === 'choosy')!.why, 'not asked for');
});

async function pretendedReport(): Promise<BenchReport> {
  const scenario = await runScenario(pretended([]), lab());
  return {
    tool: 'nke bench',
    machine: {
      processor: 'abacus </script>',
      processors: 2,
      memoryBytes: 2 ** 31,
      kernel: 'Linux 6',
      load: 0,
      virtualized: 'no',
      versions: { node: '20' },
      nativeModule: 'built',
    },
    started: '2026-01-01T00:00:00.000Z',
    seconds: 1,
    options: { seconds: 0.1, repeat: 3, quick: false },
    scenarios: [scenario],
    verdicts: scenario.verdicts,
  };
}

test('the table has medians, spread, ratios and reasons', async () => {
  const report = await pretendedReport();
  const text = scenarioTable(report.scenarios[0]!);
  assert.match(text, /64 KiB {3}nke +4 +Gb\/s +2 \.\. 6 \(3\)\n/);
  assert.match(text, /64 KiB {3}choosy +4 +Gb\/s +2 \.\. 6 \(3\) +1 x\n/);
  assert.match(text, /not measured: absent: no such package/);
  assert.match(verdictTable(report.verdicts), /fast +>= 1 x +1 x +pass/);
});

test('the HTML report is one file with the library, the plots and every sample, and nothing in it ends a script', async () => {
  const report = await pretendedReport();
  const page = htmlReport(report);
  assert.doesNotMatch(page, /<(script|link|img)[^>]+(src|href)=/, 'it loads nothing');
  assert.match(page, /uPlot/);
  const data = /<script type="application\/json" id="report">(.*?)<\/script>/s.exec(page)![1]!;
  assert.deepEqual(JSON.parse(data), JSON.parse(JSON.stringify(report)), 'the whole report can be read back');
  const plots = JSON.parse(/id="plots">(.*?)<\/script>/s.exec(page)![1]!) as unknown[];
  assert.equal(plots.length, 1);
  assert.ok(!page.includes('measured <b>'), 'text is escaped');
});

test('a plot has its points in order, a line for each column that has something, and none without two points', async () => {
  const { scenarios } = await pretendedReport();
  const [plot] = drawnPlots(scenarios[0]!);
  assert.deepEqual(plot!.ticks, ['1,400 B', '64 KiB']);
  assert.deepEqual(
    plot!.lines.map(l => [l.label, l.values]),
    [
      ['nke', [2, 4]],
      ['choosy', [null, 4]],
    ],
  );
  const single = await runScenario(pretended([]), lab(true));
  assert.deepEqual(drawnPlots(single), []);
});

test('packets are filled as the stack fills them', () => {
  assert.deepEqual(packing(1400), { payload: 1428, user: 1400 });
  // 12 messages of 100 bytes, each with 16 of header.
  assert.deepEqual(packing(100), { payload: 12 + 12 * 116, user: 1200 });
  // Padded to 4 bytes.
  assert.deepEqual(packing(1), { payload: 12 + 73 * 20, user: 73 });
  assert.deepEqual(packing(65_536), { payload: 1472, user: 1444 });
});

test('a profile is summed up by layer; every room has one', () => {
  const root = 'file:///x/dist/';
  const rooms: Record<string, string> = {
    'stack/sctp/output.js': 'sctp',
    'stack/kern/socket.js': 'sockets',
    'stack/kern/mbuf.js': 'mbufs and timers',
    'stack/net/dlil.js': 'dlil',
    'stack/net/route.js': 'ip',
    'stack/netinet/udp.js': 'ip',
    'driver/tx.js': 'driver',
    'driver/virtq-driver.js': 'rings',
    'nic/virtq-device.js': 'rings',
    'nic/ports/udp.js': 'port',
    'nic/offload.js': 'firmware',
    'firmware/rx.js': 'firmware',
    'appliance.js': 'loop',
    'bench/nke-peer.js': 'program',
  };
  for (const [path, layer] of Object.entries(rooms)) assert.equal(layerOf('f', root + path, root), layer, path);
  assert.equal(layerOf('(idle)', '', root), 'idle');
  assert.equal(layerOf('(garbage collector)', '', root), 'collector');
  assert.equal(layerOf('write', 'node:net', root), 'node and V8');

  const node = (id: number, functionName: string, path: string) => ({
    id,
    callFrame: { functionName, url: path === '' ? '' : root + path, lineNumber: 1 },
  });
  const { layers, hot } = byLayer(
    {
      nodes: [node(1, '(idle)', ''), node(2, 'send', 'stack/sctp/output.js'), node(3, 'run', 'appliance.js')],
      samples: [2, 1, 3, 2],
      timeDeltas: [5, 100, 200, 50],
    },
    root,
  );
  const time = (layer: string) => layers.find(l => l.layer === layer)!.microseconds;
  assert.equal(time('sctp'), 100);
  assert.equal(time('idle'), 200);
  assert.equal(time('loop'), 50);
  assert.deepEqual(hot[0], { name: 'send stack/sctp/output.ts', layer: 'sctp', microseconds: 100 });
});

test('every scenario is sound: names are unique, demands speak of what is there', () => {
  const unique = (names: readonly string[], what: string) => assert.equal(new Set(names).size, names.length, what);
  unique(
    SCENARIOS.map(s => s.name),
    'scenarios',
  );
  for (const s of SCENARIOS) {
    unique(
      s.points.map(p => p.name),
      `${s.name}: points`,
    );
    unique(
      s.columns.map(c => c.name),
      `${s.name}: columns`,
    );
    assert.ok(
      s.columns.some(c => c.name === 'nke' && c.kind === 'ours'),
      `${s.name}: ours`,
    );
    assert.ok(
      s.points.some(p => p.quick),
      `${s.name}: a quick run measures something`,
    );
    for (const d of s.demands) {
      assert.ok(
        s.points.some(p => p.name === d.point),
        `${s.name}: ${d.what}: point ${d.point}`,
      );
      assert.ok(
        s.metrics.some(m => m.name === d.metric),
        `${s.name}: ${d.what}: metric ${d.metric}`,
      );
      for (const c of [d.column ?? 'nke', d.over ?? 'nke'])
        assert.ok(
          s.columns.some(x => x.name === c),
          `${s.name}: ${d.what}: column ${c}`,
        );
      assert.ok(d.atLeast !== undefined || d.atMost !== undefined, `${s.name}: ${d.what}: a bound`);
    }
    for (const p of s.plots)
      if (p.over === 'points')
        assert.ok(
          s.metrics.some(m => m.name === p.metric),
          `${s.name}: plot ${p.title}`,
        );
  }
});
