import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Stack } from '../stack.js';
import { VirtualNet } from '../testing.js';
import { EBUSY, EEXIST, EINVAL, EIO, ENOENT, ENOMEM } from './errno.js';
import { compareVersions, type Kext, KPI_IDENTIFIER } from './kext.js';
import { AF_INET, SOCK_STREAM } from './protosw.js';

const stack = () => new VirtualNet().addHost('a');
const kext = (
  identifier: string,
  more: Partial<Kext> & { version?: string; dependencies?: Record<string, string> } = {},
): Kext => ({
  manifest: { identifier, version: more.version ?? '1.2.0', kind: 'protocol', dependencies: more.dependencies ?? {} },
  start: more.start ?? (() => 0),
  stop: more.stop ?? (() => 0),
  references: more.references ?? (() => []),
});
/** Registers one of everything. */
const registerAll = (s: Stack) => {
  s.protocols.add({ domain: AF_INET, type: SOCK_STREAM, protocol: 250, name: 'junk' });
  s.interfaces.attachFilter({ name: 'junk' });
  s.sysctl.add('net.junk', [{ name: 'x', default: 0, min: 0, max: 1, meaning: 'x' }], {});
  s.counters.add('junk', { x: 0 });
  s.udp.tunnel(9899, m => s.pool.freem(m));
};
const inventory = (s: Stack) => [
  s.protocols.rows.length,
  s.interfaces.filters.length,
  s.sysctl.list().length,
  s.counters.names().length,
  s.udp.tunnels.length,
];
function refused(r: ReturnType<Stack['kexts']['load']>, errno: number, words: RegExp): readonly string[] {
  assert.ok(!r.ok);
  assert.equal(r.errno, errno);
  assert.match(r.reason, words);
  return r.holders;
}

describe('KextLoader', () => {
  it('loads, lists and unloads, with events', () => {
    const s = stack();
    const calls: string[] = [];
    const k = kext('org.nke.A', {
      start: x => {
        calls.push(x === s ? 'start' : 'other');
        return 0;
      },
      stop: () => {
        calls.push('stop');
        return 0;
      },
    });
    assert.deepEqual(s.kexts.load(k), { ok: true });
    assert.deepEqual(s.kexts.list(), [
      {
        index: 1,
        identifier: 'org.nke.A',
        version: '1.2.0',
        kind: 'protocol',
        state: 'started',
        refs: 0,
        holders: [],
        dependencies: [],
      },
    ]);
    assert.equal(s.kexts.get('org.nke.A'), k);
    refused(s.kexts.load(k), EEXIST, /loaded already/);
    assert.deepEqual(s.kexts.unload('org.nke.A'), { ok: true });
    refused(s.kexts.unload('org.nke.A'), ENOENT, /not loaded/);
    assert.deepEqual(calls, ['start', 'stop']);
    assert.deepEqual(
      s.events
        .since(0)
        .map(e => e.kind)
        .filter(x => x.startsWith('kext')),
      ['kext-loaded', 'kext-unloaded'],
    );
  });
  it('refuses to unload while it is held, and says by whom', () => {
    const s = stack();
    const users = ['socket 3'];
    s.kexts.load(kext('org.nke.A', { references: () => users }));
    s.kexts.load(kext('org.nke.B', { dependencies: { 'org.nke.A': '1.1', [KPI_IDENTIFIER]: '1' } }));
    assert.deepEqual(refused(s.kexts.unload('org.nke.A'), EBUSY, /in use by socket 3, org.nke.B/), [
      'socket 3',
      'org.nke.B',
    ]);
    assert.equal(s.kexts.list()[0]!.refs, 2);
    s.kexts.unload('org.nke.B');
    refused(s.kexts.unload('org.nke.A'), EBUSY, /socket 3/);
    users.length = 0;
    assert.deepEqual(s.kexts.unload('org.nke.A'), { ok: true });
  });
  it('checks manifests and dependencies', () => {
    const s = stack();
    refused(s.kexts.load(kext('nodots')), EINVAL, /identifier/);
    refused(s.kexts.load(kext('org.nke.A', { version: '1.x' })), EINVAL, /version/);
    refused(
      s.kexts.load(kext('org.nke.A', { dependencies: { 'org.nke.B': '1' } })),
      ENOENT,
      /needs org.nke.B 1 or later, which is not loaded/,
    );
    s.kexts.load(kext('org.nke.B', { version: '1.9' }));
    refused(s.kexts.load(kext('org.nke.A', { dependencies: { 'org.nke.B': '1.10' } })), EINVAL, /1.9 is loaded/);
    refused(s.kexts.load(kext('org.nke.A', { dependencies: { [KPI_IDENTIFIER]: '99' } })), EINVAL, /99/);
    assert.equal(s.kexts.list().length, 1);
  });
  it('takes back what a failed start had registered', () => {
    const s = stack();
    const before = inventory(s);
    const failing = (end: () => number) =>
      kext('org.nke.A', {
        start: x => {
          registerAll(x);
          return end();
        },
      });
    refused(
      s.kexts.load(failing(() => -ENOMEM)),
      ENOMEM,
      /ENOMEM; taken back: protocol junk, filter junk, sysctl net.junk, counters junk, UDP tunnel 9899/,
    );
    assert.deepEqual(inventory(s), before);
    refused(
      s.kexts.load(
        failing(() => {
          throw new Error('boom');
        }),
      ),
      EIO,
      /boom/,
    );
    assert.deepEqual(inventory(s), before);
    assert.deepEqual(s.kexts.list(), []);
  });
  it('takes back what stop left behind', () => {
    const s = stack();
    const before = inventory(s);
    s.kexts.load(
      kext('org.nke.A', {
        start: x => {
          registerAll(x);
          return 0;
        },
      }),
    );
    assert.notDeepEqual(inventory(s), before);
    assert.deepEqual(s.kexts.unload('org.nke.A'), { ok: true });
    assert.deepEqual(inventory(s), before);
  });
  it('keeps an extension that will not stop', () => {
    const s = stack();
    let e = -EBUSY;
    s.kexts.load(kext('org.nke.A', { stop: () => e }));
    refused(s.kexts.unload('org.nke.A'), EBUSY, /would not stop/);
    assert.equal(s.kexts.list()[0]!.state, 'started');
    e = 0;
    assert.ok(s.kexts.unload('org.nke.A').ok);
  });
  it('compares versions by number', () => {
    assert.ok(compareVersions('1.10', '1.9.9') > 0);
    assert.equal(compareVersions('1', '1.0.0'), 0);
    assert.ok(compareVersions('0.9', '1') < 0);
  });
});
