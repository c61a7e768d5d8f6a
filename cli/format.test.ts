import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, counterLines, duration, grouped, nearest, printable, rate, table } from './format.js';

test('tables align text to the left and numbers to the right', () => {
  const text = table(
    [
      { a: 'x', n: 5 },
      { a: 'long', n: 12345 },
    ],
    [
      { head: 'Name', cell: r => r.a },
      { head: 'N', cell: r => r.n, right: true },
    ],
  );
  assert.equal(text, 'Name      N\nx         5\nlong  12345\n');
});

test('control characters from outside cannot reach the terminal', () => {
  assert.equal(printable('a\u001b[2Jb\n\u009b'), 'a\\x1b[2Jb\\x0a\\x9b');
  assert.ok(!table([{ a: 'x\ny' }], [{ head: 'A', cell: r => r.a }]).includes('x\ny'));
});

test('sizes, rates and times', () => {
  assert.equal(bytes(0), '0 B');
  assert.equal(bytes(1536), '1.50 KiB');
  assert.equal(bytes(2 ** 40 * 5000), '5000 TiB');
  assert.equal(rate(125_000_000, 1), '1.00 Gb/s');
  assert.equal(rate(1, 0), '0 b/s');
  assert.equal(duration(12_500), '12.5 us');
  assert.equal(duration(Number.POSITIVE_INFINITY), 'never');
  assert.equal(grouped(-1234567), '-1,234,567');
  assert.equal(grouped(999), '999');
});

test('counters: zeros are left out unless asked for', () => {
  assert.equal(counterLines({ a: 0, b: 3 }), '                   3 b\n');
  assert.match(counterLines({ a: 0 }), /all zero/);
  assert.match(counterLines({ a: 0 }, true), /0 a/);
});

test('a slip of the pen finds its word, nonsense does not', () => {
  assert.equal(nearest('mut', ['mtu', 'mac']), 'mtu');
  assert.equal(nearest('zzzzzz', ['mtu', 'mac']), undefined);
});
