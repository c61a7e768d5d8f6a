import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MbufPool } from '../kern/mbuf.js';
import { Loopback } from './loopback.js';

describe('Loopback', () => {
  it('gives back in order, what comes meanwhile later, and refuses when full', () => {
    const pool = new MbufPool({ small: 5000, cluster: 0, jumbo: 0 });
    const lo = new Loopback(pool);
    const seen: number[] = [];
    lo.ifp.input = m => {
      seen.push(m);
      if (seen.length === 1) lo.output(m);
      else pool.free(m);
    };
    const first = pool.getSmall();
    const second = pool.getSmall();
    lo.output(first);
    lo.output(second);
    assert.equal(lo.deliver(), 2);
    assert.deepEqual(seen, [first, second]);
    assert.equal(lo.queued, 1);
    assert.equal(lo.deliver(), 1);
    let n = 0;
    while (lo.output(pool.getSmall())) n++;
    assert.equal(n, 4096);
    assert.equal(lo.ready(), false);
    assert.equal(lo.ifp.counters.odrops, 1);
    lo.detach();
    assert.deepEqual(pool.inUse, { small: 0, cluster: 0, jumbo: 0 });
  });
});
