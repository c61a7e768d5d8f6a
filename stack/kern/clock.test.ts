import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Clock, SeededRandom } from './clock.js';

describe('Clock', () => {
  it('stands where it is put', () => {
    const c = new Clock(5);
    assert.equal(c.now, 5);
    c.now = 9;
    assert.equal(c.now, 9);
  });
});

describe('SeededRandom', () => {
  it('gives the same numbers for the same seed, others for another', () => {
    const take = (seed: number) => {
      const r = new SeededRandom(seed);
      return Array.from({ length: 8 }, () => r.u32());
    };
    assert.deepEqual(take(1), take(1));
    assert.notDeepEqual(take(1), take(2));
    for (const x of take(3)) assert.ok(Number.isInteger(x) && x >= 0 && x <= 0xffffffff);
  });
  it('is about uniform, in words and in bytes', () => {
    const r = new SeededRandom(42);
    const buckets = new Array(16).fill(0) as number[];
    for (let i = 0; i < 16000; i++) buckets[r.u32() >>> 28]!++;
    for (const n of buckets) assert.ok(n > 850 && n < 1150, `bucket of ${n}`);
    const bytes = new Uint8Array(4096);
    r.fill(bytes);
    assert.equal(new Set(bytes).size, 256);
  });
});
