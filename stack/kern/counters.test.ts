import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CounterRegistry } from './counters.js';

describe('CounterRegistry', () => {
  it('copies live records, and tells what has changed', () => {
    const r = new CounterRegistry();
    const ip = { received: 0, dropped: 0 };
    r.add('ip', ip);
    const before = r.snapshot();
    ip.received += 3;
    assert.deepEqual(before, { ip: { received: 0, dropped: 0 } });
    assert.deepEqual(r.snapshot(), { ip: { received: 3, dropped: 0 } });
    r.add('new', { x: 1, y: 0 });
    assert.deepEqual(r.since(before), { ip: { received: 3 }, new: { x: 1 } });
    assert.deepEqual(r.names(), ['ip', 'new']);
    r.remove('ip');
    assert.equal(r.has('ip'), false);
    assert.equal(r.group('ip'), undefined);
  });
  it('throws when a name is taken', () => {
    const r = new CounterRegistry();
    r.add('ip', {});
    assert.throws(() => r.add('ip', {}), /exists/);
  });
});
