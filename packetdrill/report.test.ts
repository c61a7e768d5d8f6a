import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PacketEvent, SctpPacket } from './ast.js';
import { parse } from './parser.js';
import { explain, type FileResult, jsonOf, summarize, summaryText, textOf } from './report.js';

const sctp = (text: string) =>
  (parse('t.pkt', `0 socket(..., 1, 2) = 3\n+0 > sctp: ${text}`).events[1] as PacketEvent).packet as SctpPacket;

const failed: FileResult = {
  file: 'a/b.pkt',
  ok: false,
  ms: 1.23456,
  virtualSeconds: 0.5,
  error: explain(
    {
      at: { file: 'a/b.pkt', line: 12, column: 3 },
      what: 'another packet came than was expected',
      packets: {
        expected: sctp('SACK[flgs=0, cum_tsn=70, a_rwnd=..., gaps=[], dups=[]]'),
        got: sctp('SACK[flgs=0, cum_tsn=71, a_rwnd=1500, gaps=[2:2], dups=[]]'),
      },
      differences: [
        { field: 'chunk 1 SACK, cum_tsn', expected: '70', got: '71' },
        { field: 'chunk 1 SACK, gaps', expected: '[]', got: '[2:2]' },
      ],
    },
    '+0 > sctp:\n  SACK[…]',
  ),
  notes: ['2 packets were left over'],
};
const passed: FileResult = { file: 'c.pkt', ok: true, ms: 2, virtualSeconds: 3.25, notes: ['a remark'] };

test('a failure as text: place, event, both packets, field by field', () => {
  assert.equal(
    textOf(failed),
    [
      'FAIL a/b.pkt:12:3: another packet came than was expected',
      '  |         +0 > sctp:',
      '  |           SACK[…]',
      '  expected  > sctp: SACK[flgs=0, cum_tsn=70, a_rwnd=..., gaps=[], dups=[]]',
      '  came      > sctp: SACK[flgs=0, cum_tsn=71, a_rwnd=1500, gaps=[2:2], dups=[]]',
      '  differs   chunk 1 SACK, cum_tsn  expected 70  came 71',
      '            chunk 1 SACK, gaps     expected []  came [2:2]',
      '  note      2 packets were left over',
    ].join('\n'),
  );
  assert.equal(textOf(passed), 'ok   c.pkt  (2.0 ms, 3.250 s virtual)');
  assert.match(textOf(passed, true), /\n {2}note {6}a remark$/);
});

test('long packets are folded and cut, many differences counted', () => {
  const long = {
    ...failed,
    error: {
      ...failed.error!,
      expected: `> sctp: ${Array.from({ length: 6 }, () => 'DATA[flgs=BE, len=16, tsn=1, sid=0, ssn=0, ppid=0]').join('; ')}`,
      got: 'x'.repeat(10_000),
      source: Array.from({ length: 50 }, (_, i) => `line ${i}`).join('\n'),
      differences: Array.from({ length: 30 }, (_, i) => ({ field: `f${i}`, expected: '1', got: '2' })),
    },
  };
  const lines = textOf(long).split('\n');
  assert.equal(lines.filter(l => l.includes('DATA[')).length, 6);
  assert.ok(lines.every(l => l.length < 2100));
  assert.ok(lines.some(l => l.includes('38 more lines')));
  assert.ok(lines.some(l => l.includes('and 10 more')));
});

test('one JSON object per script', () => {
  assert.deepEqual(jsonOf(passed), { file: 'c.pkt', ok: true, ms: 2, virtualSeconds: 3.25, notes: ['a remark'] });
  const json = JSON.parse(JSON.stringify(jsonOf(failed))) as { ms: number; error: Record<string, unknown> };
  assert.equal(json.ms, 1.235);
  assert.deepEqual([json.error.line, json.error.column], [12, 3]);
  assert.match(json.error.expected as string, /cum_tsn=70/);
  assert.match(json.error.got as string, /cum_tsn=71/);
});

test('the summary counts', () => {
  assert.deepEqual(summarize([passed, failed, passed]), { total: 3, passed: 2, failed: 1, virtualSeconds: 7 });
  assert.equal(
    summaryText(summarize([passed, passed]), 0.5),
    '2 scripts: 2 passed, 0 failed; 0.50 s (6.5 s of virtual time)',
  );
});
