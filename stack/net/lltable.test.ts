import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CalloutWheel } from '../kern/callout.js';
import { Clock, SEC } from '../kern/clock.js';
import { M_NULL, MbufPool } from '../kern/mbuf.js';
import { InAddr } from '../netinet/in.js';
import { Ifnet } from './ifnet.js';
import { type LlParameters, LlTable } from './lltable.js';

function setUp(parameters: Partial<LlParameters> = {}) {
  const clock = new Clock();
  const callouts = new CalloutWheel(clock);
  const pool = new MbufPool({ small: 64, cluster: 0, jumbo: 0 });
  const asked: string[] = [];
  const released: number[] = [];
  const table = new LlTable(
    clock,
    callouts,
    pool,
    {
      solicit: (e, unicast) => asked.push(`${e.addr}${unicast ? '!' : ''}@${clock.now / SEC}`),
      release: (_, m) => {
        released.push(m);
        pool.freem(m);
      },
    },
    parameters,
  );
  const ifp = new Ifnet('x0', new Uint8Array(6), 1500, 0);
  const run = (seconds: number) => {
    const end = clock.now + seconds * SEC;
    while (callouts.deadline() <= end) {
      clock.now = callouts.deadline();
      callouts.run();
    }
    clock.now = end;
  };
  const small = () => pool.inUse.small;
  return { clock, pool, table, ifp, asked, released, run, small };
}
const A = InAddr.of('10.0.0.2');
const B = InAddr.of('10.0.0.3');
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 2);
const MAC2 = Uint8Array.of(2, 0, 0, 0, 0, 3);

describe('LlTable', () => {
  it('asks once a second, holds frames, gives up after three, asks again later', () => {
    const t = setUp();
    assert.equal(t.table.resolve(t.ifp, A, t.pool.getSmall()), undefined);
    assert.equal(t.table.resolve(t.ifp, A, t.pool.getSmall()), undefined);
    assert.equal(t.small(), 2);
    t.run(3);
    assert.deepEqual(t.asked, ['10.0.0.2@0', '10.0.0.2@1', '10.0.0.2@2']);
    assert.equal(t.small(), 0);
    assert.equal(t.table.counters.unresolved, 2);
    assert.equal(t.table.lookup(t.ifp, A)!.state, 'failed');
    t.table.resolve(t.ifp, A, t.pool.getSmall());
    assert.equal(t.small(), 0); // dropped at once
    t.run(5);
    assert.equal(t.table.lookup(t.ifp, A), undefined);
    t.table.resolve(t.ifp, A, t.pool.getSmall());
    assert.equal(t.asked.length, 4);
    t.table.flush();
    assert.equal(t.small(), 0);
  });
  it('sends what it held in order when the answer comes', () => {
    const t = setUp();
    const m = [t.pool.getSmall(), t.pool.getSmall()];
    for (const x of m) t.table.resolve(t.ifp, A, x);
    t.table.learn(t.ifp, A, MAC, false, true);
    assert.deepEqual(t.released, m);
    const e = t.table.resolve(t.ifp, A, M_NULL);
    assert.deepEqual(e!.mac, MAC);
    assert.equal(e!.state, 'reachable');
    assert.equal(t.small(), 0);
  });
  it('bounds what it holds, dropping the oldest', () => {
    const t = setUp({ hold: 2 });
    const m = [1, 2, 3].map(() => t.pool.getSmall());
    for (const x of m) t.table.resolve(t.ifp, A, x);
    assert.equal(t.table.counters.hold_overflow, 1);
    t.table.learn(t.ifp, A, MAC, false, true);
    assert.deepEqual(t.released, m.slice(1));
    assert.equal(t.small(), 0);
  });
  it('goes reachable, stale, delay, probe, gone', () => {
    const t = setUp();
    t.table.learn(t.ifp, A, MAC, true, true);
    const e = t.table.lookup(t.ifp, A)!;
    t.run(30);
    assert.equal(e.state, 'stale');
    assert.equal(t.table.resolve(t.ifp, A, M_NULL), e);
    assert.equal(e.state, 'delay');
    t.run(5);
    assert.equal(e.state, 'probe');
    assert.equal(t.table.resolve(t.ifp, A, M_NULL), e);
    t.run(3);
    assert.deepEqual(t.asked, ['10.0.0.2!@35', '10.0.0.2!@36', '10.0.0.2!@37']);
    assert.equal(t.table.lookup(t.ifp, A), undefined);
  });
  it('is spared the probe by a confirmation', () => {
    const t = setUp();
    t.table.learn(t.ifp, A, MAC, true, false);
    t.table.resolve(t.ifp, A, M_NULL);
    t.table.confirm(t.ifp, A);
    t.run(10);
    assert.deepEqual(t.asked, []);
    assert.equal(t.table.lookup(t.ifp, A)!.state, 'reachable');
    t.table.confirm(t.ifp, B); // not there: nothing happens
  });
  it('follows override and solicited as RFC 4861 section 7.2.5 has it', () => {
    const t = setUp();
    t.table.learn(t.ifp, A, MAC, false, true);
    assert.equal(t.table.lookup(t.ifp, A), undefined); // not created
    t.table.learn(t.ifp, A, MAC, true, true);
    const e = t.table.lookup(t.ifp, A)!;
    t.table.learn(t.ifp, A, MAC2, false, true, false);
    assert.deepEqual([e.state, e.mac], ['stale', MAC]);
    t.table.learn(t.ifp, A, MAC2, false, false, true);
    assert.deepEqual([e.state, e.mac], ['stale', MAC2]);
    t.table.learn(t.ifp, A, MAC2, false, true, false);
    assert.equal(e.state, 'reachable');
    t.table.learn(t.ifp, A, MAC2, false, false);
    assert.equal(e.state, 'reachable'); // overheard and the same: no change
  });
  it('bounds its entries, giving up the least recently used', () => {
    const t = setUp({ entries: 3 });
    for (let i = 1; i <= 3; i++) {
      t.clock.now++;
      t.table.learn(t.ifp, new InAddr(4, 0, 0, 0xffff, i), MAC, true, true);
    }
    t.clock.now++;
    t.table.resolve(t.ifp, new InAddr(4, 0, 0, 0xffff, 1), M_NULL);
    t.table.learn(t.ifp, B, MAC, true, true);
    assert.deepEqual(
      t.table
        .list()
        .map(e => e.addr.w3)
        .sort((a, b) => a - b),
      [1, 3, B.w3],
    );
    assert.equal(t.table.counters.evicted, 1);
    assert.equal(t.table.counters.entries, 3);
  });
  it('tells interfaces apart, in one chain of a bucket too', () => {
    const t = setUp();
    const other = new Ifnet('x1', new Uint8Array(6), 1500, 0);
    t.table.learn(t.ifp, A, MAC, true, true);
    t.table.learn(other, A, MAC2, true, true);
    t.table.resolve(other, B, t.pool.getSmall());
    t.table.flush(t.ifp);
    assert.equal(t.table.lookup(t.ifp, A), undefined);
    assert.deepEqual(t.table.lookup(other, A)!.mac, MAC2);
    t.table.flush();
    assert.deepEqual([t.table.counters.entries, t.small(), t.table.list().length], [0, 0, 0]);
  });
  it('forgets entries that nobody uses', () => {
    const t = setUp({ idle: 100 * SEC });
    t.table.learn(t.ifp, A, MAC, true, true);
    t.run(131);
    assert.equal(t.table.lookup(t.ifp, A), undefined);
  });
});
