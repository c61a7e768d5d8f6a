import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EEXIST, EINVAL, ENOENT, EPERM } from './errno.js';
import { defaultsOf, type SysctlRow, SysctlTree } from './sysctl.js';

const ROWS: readonly SysctlRow[] = [
  { name: 'ttl', default: 64, min: 1, max: 255, meaning: 'time to live' },
  { name: 'wait', default: 30, min: 0, max: 60, meaning: 'waiting', unit: 's' },
];

describe('SysctlTree', () => {
  it('reads and writes the live record within the range', () => {
    const t = new SysctlTree();
    const values: Record<string, number> = { wait: 5 };
    assert.equal(t.add('net.ip', ROWS, values), 0);
    assert.deepEqual(values, { wait: 5, ttl: 64 });
    assert.equal(t.set('net.ip.ttl', 10), 0);
    assert.equal(values.ttl, 10);
    assert.equal(t.set('net.ip.ttl', '0x20'), 0);
    assert.equal(t.get('net.ip.ttl'), 32);
    for (const bad of [0, 256, 1.5, Number.NaN, '', 'x', '1e2', '12 13'])
      assert.equal(t.set('net.ip.ttl', bad), -EINVAL);
    assert.equal(values.ttl, 32);
    assert.equal(t.set('net.ip.nix', 1), -ENOENT);
    assert.equal(t.get('net.ip.nix'), undefined);
  });
  it('takes procedures, text and read-only values', () => {
    const t = new SysctlTree();
    let name = 'newreno';
    assert.equal(
      t.addProcedure('net', 'cc', {
        meaning: 'm',
        get: () => name,
        set: v => {
          if (v === 'bad') return -EINVAL;
          name = String(v);
          return 0;
        },
      }),
      0,
    );
    t.addProcedure('net', 'count', { meaning: 'm', get: () => 7 });
    assert.equal(t.set('net.cc', 'cubic'), 0);
    assert.equal(t.get('net.cc'), 'cubic');
    assert.equal(t.set('net.cc', 'bad'), -EINVAL);
    assert.equal(t.set('net.count', 1), -EPERM);
    assert.equal(t.addProcedure('net', 'cc', { meaning: '', get: () => 0 }), -EEXIST);
  });
  it('lists with range and unit, and removes by prefix', () => {
    const t = new SysctlTree();
    t.add('net.ip', ROWS, {});
    t.add('net.ip6', ROWS, {});
    assert.equal(t.add('net.ip', [ROWS[0]!], {}), -EEXIST);
    assert.deepEqual(
      t.list('net.ip').map(e => e.name),
      ['net.ip.ttl', 'net.ip.wait'],
    );
    assert.deepEqual(t.list('net.ip.wait'), [
      { name: 'net.ip.wait', value: 30, meaning: 'waiting', unit: 's', writable: true, default: 30, min: 0, max: 60 },
    ]);
    assert.deepEqual(t.prefixes(), ['net.ip', 'net.ip6']);
    t.remove('net.ip');
    assert.deepEqual(
      t.list().map(e => e.name),
      ['net.ip6.ttl', 'net.ip6.wait'],
    );
  });
  it('refuses rows that contradict themselves', () => {
    assert.throws(
      () => new SysctlTree().add('x', [{ name: 'a', default: 9, min: 0, max: 1, meaning: '' }], {}),
      RangeError,
    );
    assert.deepEqual(defaultsOf(ROWS), { ttl: 64, wait: 30 });
  });
});
