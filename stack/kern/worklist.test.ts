import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worklist } from './worklist.js';

function batch(w: Worklist<number>): number[] {
  w.begin();
  const out: number[] = [];
  for (let x = w.next(); x !== undefined; x = w.next()) out.push(x);
  return out;
}

test('a batch is what was pushed before it began, in order', () => {
  const w = new Worklist<number>();
  assert.equal(w.empty, true);
  w.push(1);
  w.push(2);
  w.begin();
  assert.equal(w.next(), 1);
  w.push(3);
  assert.equal(w.next(), 2);
  assert.equal(w.next(), undefined);
  assert.equal(w.empty, false);
  assert.deepEqual(batch(w), [3]);
  assert.deepEqual(batch(w), []);
  assert.equal(w.empty, true);
});

test('a batch that was broken off goes on before the next one', () => {
  const w = new Worklist<number>();
  for (const x of [1, 2, 3]) w.push(x);
  w.begin();
  assert.equal(w.next(), 1);
  w.push(4);
  assert.equal(w.empty, false);
  assert.deepEqual(batch(w), [2, 3]);
  assert.deepEqual(batch(w), [4]);
});
