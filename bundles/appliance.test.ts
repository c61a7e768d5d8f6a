/** Bundles in an appliance: by name and path, at boot and while it runs, with promises. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { Appliance } from '../appliance.js';
import { MSEC } from '../stack/kern/clock.js';
import { ControlClient } from '../stack/kern/ctlclient.js';
import { BundleFolder } from './bundles.fixture.js';

const CODE = (value: number, start = '') => `import { type Kpi } from 'nke/kpi';
export async function start(kpi: Kpi): Promise<number> {
  ${start}
  return kpi.counters('mine', { value: ${value} });
}
export function stop(): void {}
`;

test('bundles at boot, by path, with promises, replaced and unloaded', async t => {
  const f = new BundleFolder(t);
  const parameters = { n: { type: 'integer', default: 1, min: 0, max: 9, meaning: 'x', live: true } };
  const early = f.sign(f.write('Early', {}, { parameters }));
  const config = {
    cards: [{ port: 'wire:kext', addresses: ['10.0.0.1/24'] }],
    kextTrust: [f.key.publicLine],
    kextPath: [f.dir],
  };
  assert.throws(
    () => Appliance.create({ ...config, kexts: ['SCTP', { bundle: early, params: { n: 10 } }] }),
    /kexts\/1\/params\/n: parameter "n" is 10/,
  );
  assert.throws(() => Appliance.create({ ...config, kextTrust: [], kexts: [early] }), /Early\.kext is refused/);
  const a = Appliance.create({ ...config, kexts: [{ bundle: early, on: ['nke0'], params: { n: 5 } }] });
  try {
    const slow = f.sign(f.write('Slow', { 'index.ts': CODE(1, 'await undefined;') }));
    assert.throws(() => a.kextload(slow), { code: 'EAGAIN' });
    await a.kextloadAsync('Slow');
    assert.equal(a.counters().mine!.value, 1);
    assert.equal(a.kextorigin('org.example.Slow')!.signed, f.key.id);
    await assert.rejects(a.kextloadAsync('Slow'), { code: 'EEXIST' });
    f.sign(f.write('Slow', { 'index.ts': CODE(2, 'await undefined;') }, { version: '2.0' }));
    assert.deepEqual(await a.kextreplace(slow), []);
    assert.equal(a.counters().mine!.value, 2);
    f.sign(f.write('Slow', { 'index.ts': CODE(3, 'throw new Error("no");') }, { version: '3.0' }));
    await assert.rejects(a.kextreplace(slow), /did not start: no/);
    assert.equal(a.counters().mine!.value, 2);
    f.write('Slow', {}, { version: '4.0' });
    await assert.rejects(a.kextreplace(slow), { code: 'EPERM' });

    const control = ControlClient.open(a.stack, 'org.example.Early') as ControlClient;
    assert.deepEqual(control.request('set', { name: 'n', value: 3 }), { id: 1, ok: true, value: 3 });
    control.close();

    const so = a.socket(32, 2, 2);
    assert.ok(typeof so !== 'number');
    assert.deepEqual(await a.kextunloadAsync('Slow', { wait: 100 * MSEC }), []);
    a.kextunload(join(f.dir, 'Early.kext'));
    assert.deepEqual(a.stack.kexts.list(), []);
    assert.throws(() => a.kextunload('Early'), { code: 'ENOENT' });
    await assert.rejects(a.kextloadAsync('Nobody'), { code: 'ENOENT' });
  } finally {
    await a.close();
  }
});
