import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Ifnet } from '../net/ifnet.js';
import type { Stack } from '../stack.js';
import { VirtualNet } from '../testing.js';
import { EADDRINUSE, EAGAIN, EBUSY, EEXIST, EINVAL, EIO, ENOENT, ENOMEM, EPROTONOSUPPORT, ETIMEDOUT } from './errno.js';
import { compareVersions, type Kext, type KextResult, KPI_IDENTIFIER } from './kext.js';
import type { Kpi } from './kpi.js';

import { AF_INET, IpInfo, type Protosw, SOCK_RAW, SOCK_STREAM } from './protosw.js';
import type { Socket, Usrreqs } from './socket.js';

const stack = () => new VirtualNet().addHost('a');
const kext = (
  identifier: string,
  more: Partial<Kext> & { version?: string; dependencies?: Record<string, string> } = {},
): Kext => ({
  manifest: { identifier, version: more.version ?? '1.2.0', kind: 'protocol', dependencies: more.dependencies ?? {} },
  start: more.start ?? (() => 0),
  stop: more.stop ?? (() => 0),
  references: 'references' in more ? more.references : () => [],
  drain: more.drain,
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
        calls.push(x.stack === s ? 'start' : 'other');
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
        registered: [],
        held: 0,
        allocated: 0,
        freed: 0,
        faults: 0,
        lastFault: '',
        params: {},
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
          registerAll(x.stack);
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
          registerAll(x.stack);
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

/** Everything that an extension may leave in a stack. */
const everything = (s: Stack) => ({
  protocols: s.protocols.rows.length,
  domains: s.protocols.domains.length,
  filters: s.interfaces.filters.length,
  interfaces: s.interfaces.list().map(i => i.name),
  types: [0x88b5, 0x88b6].filter(t => s.interfaces.hasProtocol(t)),
  socketFilters: s.sflt.list.length,
  sysctls: s.sysctl.list().length,
  counters: s.counters.names().length,
  tunnels: s.udp.tunnels,
  timers: s.callouts.pending,
  subscribers: s.events.subscribers,
  controls: s.ctl.list(),
  mbufs: s.pool.inUse,
});
const row = (protocol: number): Protosw => ({ domain: AF_INET, type: SOCK_RAW, protocol, name: `p${protocol}` });
/** Every way of registering, each step with its name. */
const STEPS: readonly [string, (kpi: Kpi) => number][] = [
  ['counters', kpi => kpi.counters('k', { x: 0 })],
  ['sysctl', kpi => kpi.sysctl('net.k', [{ name: 'x', default: 0, min: 0, max: 1, meaning: 'x' }], {})],
  ['sysctl_proc', kpi => kpi.sysctl_proc('net.k', 'text', { meaning: 'x', get: () => 'x' })],
  ['domain', kpi => kpi.net_add_domain({ family: 99, name: 'junk' })],
  ['protocol', kpi => kpi.proto_add({ ...row(200), domain: 99 })],
  ['protocol of IP', kpi => kpi.proto_add({ ...row(201), input: m => kpi.pool.freem(m) })],
  ['ethertype', kpi => kpi.proto_plumb(0x88b5, (_i, m) => kpi.pool.freem(m))],
  ['interface', kpi => kpi.ifnet_attach(new Ifnet('own0', new Uint8Array(6), 1500, 0))],
  ['filter', kpi => kpi.iflt_attach({ name: 'k', input: (_i, m) => m })],
  ['filter on its interface', kpi => kpi.iflt_attach({ name: 'k2' }, 'own0')],
  ['socket filter', kpi => kpi.sflt_register({ name: 'k' })],
  ['UDP tunnel', kpi => kpi.udp_tunnel(9999, m => kpi.pool.freem(m))],
  ['control', kpi => kpi.ctl_register({ commands: {} })],
  [
    'timer',
    kpi => {
      kpi.callout(() => {}).reset(1e12);
      return 0;
    },
  ],
  [
    'subscription',
    kpi => {
      kpi.events.subscribe(() => {});
      return 0;
    },
  ],
  ['mbuf', kpi => (kpi.pool.getCluster() > 0 ? 0 : -ENOMEM)],
];

describe('Kpi', () => {
  it('everything that is registered is taken back at unload, with an empty stop', () => {
    const s = stack();
    const before = everything(s);
    const k = kext('org.nke.A', {
      start: kpi => {
        for (const [name, step] of STEPS) assert.ok(step(kpi) >= 0, name);
      },
    });
    assert.deepEqual(s.kexts.load(k), { ok: true });
    const during = everything(s);
    for (const key of Object.keys(before) as (keyof typeof before)[])
      assert.notDeepEqual(during[key], before[key], key);
    assert.equal(s.kexts.list()[0]!.held, 1);
    const r = s.kexts.unload('org.nke.A');
    assert.deepEqual(r, { ok: true, notes: ['taken back: 1 mbuf that it kept'] });
    assert.deepEqual(everything(s), before);
  });
  it('a start that fails after any step is rolled back whole', () => {
    const s = stack();
    const before = everything(s);
    for (let n = 0; n <= STEPS.length; n++)
      for (const end of [
        () => -ENOMEM,
        () => {
          throw new Error('boom');
        },
      ]) {
        const r = s.kexts.load(
          kext('org.nke.A', {
            start: kpi => {
              for (const [name, step] of STEPS.slice(0, n)) assert.ok(step(kpi) >= 0, name);
              return end();
            },
          }),
        );
        assert.ok(!r.ok);
        assert.deepEqual(everything(s), before, `after ${n} steps`);
      }
    assert.deepEqual(s.kexts.list(), []);
  });
  it('refuses what is registered twice, by itself or by others, and keeps the first', () => {
    const s = stack();
    let codes: number[] = [];
    const twice = kext('org.nke.A', {
      start: kpi => {
        const steps = STEPS.slice(0, 12);
        for (const [, step] of steps) step(kpi);
        codes = steps.map(([, step]) => step(kpi));
      },
    });
    assert.ok(s.kexts.load(twice).ok);
    assert.ok(codes.every(c => c === -EEXIST || c === -EADDRINUSE));
    const during = everything(s);
    refused(
      s.kexts.load(
        kext('org.nke.B', {
          start: kpi => {
            const first = STEPS.slice(0, 12).map(([, step]) => step(kpi));
            assert.ok(first.every(c => c < 0));
            return first[0];
          },
        }),
      ),
      EEXIST,
      /org\.nke\.B did not start: EEXIST/,
    );
    assert.deepEqual(everything(s), during);
  });
  it('is closed after the unload: nothing of it is called, nothing can be registered', () => {
    const s = stack();
    let kpi: Kpi | undefined;
    let called = 0;
    let timer: ReturnType<Kpi['callout']> | undefined;
    s.kexts.load(
      kext('org.nke.A', {
        start: k => {
          kpi = k;
          timer = k.callout(() => called++);
          timer.reset(5);
          k.events.subscribe(e => void (e.kind === 'kext-log' && called++));
        },
      }),
    );
    const subscribed = s.events.subscribers;
    s.kexts.unload('org.nke.A');
    assert.equal(s.events.subscribers, subscribed - 1);
    timer!.reset(5);
    s.clock.now += 100;
    s.run(s.clock.now);
    s.events.emit({ kind: 'kext-log', kext: 'x', text: 'x' });
    assert.equal(called, 0);
    for (const [name, step] of STEPS) assert.throws(() => step(kpi!), /is unloaded/, name);
    assert.throws(() => kpi!.log('x'), /is unloaded/);
  });
  it('a timer, an event handler, a protocol that throws is taken out and reported once', () => {
    const s = stack();
    const faults: string[] = [];
    s.events.subscribe(e => void (e.kind === 'kext-fault' && faults.push(`${e.what}: ${e.reason}`)));
    let kpi: Kpi | undefined;
    const boom = () => {
      throw new Error('boom');
    };
    s.kexts.load(
      kext('org.nke.A', {
        start: k => {
          kpi = k;
          k.callout(boom).reset(0);
          k.events.subscribe(e => (e.kind === 'kext-log' ? boom() : undefined));
          k.proto_add({ ...row(201), input: boom, flush: boom });
          k.sysctl_proc('net.k', 'bad', { meaning: 'x', get: boom as () => number, set: boom as () => number });
        },
      }),
    );
    for (let i = 0; i < 3; i++) {
      s.run((s.clock.now += 10));
      kpi!.log('x');
      const m = s.pool.getSmall();
      s.protocols.inputFor(4, 201)!.input!(m, new IpInfo());
      assert.equal(s.sysctl.get('net.k.bad'), '');
      assert.equal(s.sysctl.set('net.k.bad', 1), -EBUSY);
    }
    assert.deepEqual(faults, [
      'timer 1: boom',
      'protocol p201: boom',
      'event subscription 2: boom',
      'sysctl net.k.bad: boom',
    ]);
    assert.equal(s.kexts.list()[0]!.faults, 10);
    assert.equal(s.pool.inUse.small, 0);
  });
  it('logs lines of bounded length, so many a second, and tells how many were lost', () => {
    const s = stack();
    let kpi: Kpi | undefined;
    s.kexts.load(
      kext('org.nke.A', {
        start: k => {
          kpi = k;
        },
      }),
    );
    const lines = () => s.events.since(0).flatMap(e => (e.kind === 'kext-log' ? [e.text] : []));
    for (let i = 0; i < 100; i++) kpi!.log(`${'x'.repeat(2000)}`);
    assert.equal(lines().length, 64);
    assert.equal(lines()[0]!.length, 1024);
    s.clock.now += 1e9;
    kpi!.log('again');
    assert.equal(lines().at(-1), 'again (36 lines before this one were dropped)');
  });
  it('gives symbols to dependents only', () => {
    const s = stack();
    s.kexts.load(
      kext('org.nke.Lib', {
        start: kpi => kpi.export_symbols({ f: () => 42 }),
      }),
    );
    const use = (dependencies: Record<string, string>) =>
      kext('org.nke.User', {
        dependencies,
        start: kpi => assert.equal((kpi.symbols('org.nke.Lib').f as () => number)(), 42),
      });
    refused(s.kexts.load(use({})), EIO, /does not name org\.nke\.Lib as a dependency/);
    assert.ok(s.kexts.load(use({ 'org.nke.Lib': '1' })).ok);
    refused(s.kexts.unload('org.nke.Lib'), EBUSY, /org\.nke\.User/);
  });
  it('checks parameters and interfaces before start is called', () => {
    const s = stack();
    let seen: unknown;
    const k: Kext = {
      ...kext('org.nke.A'),
      manifest: {
        identifier: 'org.nke.A',
        version: '1',
        kind: 'filter',
        dependencies: {},
        parameters: {
          n: { type: 'integer', default: 3, min: 1, max: 5, meaning: 'x' },
          on: { type: 'boolean', default: true, meaning: 'x' },
          mode: { type: 'string', default: 'a', values: ['a', 'b'], meaning: 'x' },
        },
      },
      start: kpi => {
        seen = [{ ...kpi.params }, kpi.where];
      },
    };
    for (const [params, words] of [
      [{ n: 6 }, /parameter "n" is 6; it must be an integer from 1 to 5/],
      [{ n: 1.5 }, /must be an integer/],
      [{ on: 'yes' }, /allowed: true or false/],
      [{ mode: 'c' }, /allowed: a, b/],
      [{ __proto__: null, nope: 1 }, /no parameter "nope"; it has n, on, mode/],
    ] as const)
      refused(s.kexts.load(k, { params }), EINVAL, words);
    refused(s.kexts.load(k, { where: ['nke9'] }), ENOENT, /no interface "nke9"/);
    assert.equal(seen, undefined);
    assert.ok(s.kexts.load(k, { params: { n: 5 }, where: ['lo0'] }).ok);
    assert.deepEqual(seen, [{ n: 5, on: true, mode: 'a' }, ['lo0']]);
  });
});

describe('loading with dependencies', () => {
  const bring = (identifier: string, brings: Record<string, () => Kext> = {}, start?: Kext['start']): Kext => ({
    ...kext(identifier, { start, dependencies: Object.fromEntries(Object.keys(brings).map(id => [id, '1'])) }),
    brings,
  });
  it('loads what is brought along first, once, and keeps it until its dependents are gone', () => {
    const s = stack();
    const lib = () => bring('org.nke.Lib');
    assert.ok(s.kexts.load(bring('org.nke.A', { 'org.nke.Lib': lib })).ok);
    assert.ok(s.kexts.load(bring('org.nke.B', { 'org.nke.Lib': () => assert.fail('again') })).ok);
    assert.deepEqual(
      s.kexts.list().map(k => k.identifier),
      ['org.nke.Lib', 'org.nke.A', 'org.nke.B'],
    );
    refused(s.kexts.unload('org.nke.Lib'), EBUSY, /in use by org\.nke\.A, org\.nke\.B/);
    for (const id of ['A', 'B', 'Lib']) assert.ok(s.kexts.unload(`org.nke.${id}`).ok);
  });
  it('takes the dependencies back too when the start fails', () => {
    const s = stack();
    const before = everything(s);
    const deep = () => bring('org.nke.C');
    const mid = () => bring('org.nke.B', { 'org.nke.C': deep });
    refused(s.kexts.load(bring('org.nke.A', { 'org.nke.B': mid }, () => -ENOMEM)), ENOMEM, /A did not start/);
    assert.deepEqual(s.kexts.list(), []);
    assert.deepEqual(everything(s), before);
  });
  it('refuses a cycle, and a dependency that cannot be made', () => {
    const s = stack();
    const a = (): Kext => bring('org.nke.A', { 'org.nke.B': b });
    const b = (): Kext => bring('org.nke.B', { 'org.nke.A': a });
    refused(s.kexts.load(a()), EINVAL, /cycle: org\.nke\.A needs org\.nke\.B needs org\.nke\.A/);
    const broken = bring('org.nke.A', {
      'org.nke.B': () => {
        throw new Error('unsigned');
      },
    });
    refused(s.kexts.load(broken), EINVAL, /needs org\.nke\.B: unsigned/);
    assert.deepEqual(s.kexts.list(), []);
  });
});

describe('starts that take time', () => {
  const slow = (end: Promise<number | undefined>, start?: (kpi: Kpi) => void) =>
    kext('org.nke.Slow', {
      start: kpi => {
        start?.(kpi);
        return end;
      },
    });
  it('are refused and rolled back by a loader that does not wait', () => {
    const s = stack();
    const before = everything(s);
    const r = s.kexts.load(slow(Promise.resolve(0), kpi => void kpi.counters('k', {})));
    refused(r, EAGAIN, /asynchronous/);
    assert.deepEqual(everything(s), before);
  });
  it('finish later, or fail, and are then rolled back', async () => {
    const s = stack();
    const before = everything(s);
    for (const [end, ok] of [
      [Promise.resolve(0), true],
      [Promise.resolve(-ENOMEM), false],
      [Promise.reject(new Error('later boom')), false],
    ] as const) {
      let result: unknown;
      const r = s.kexts.load(
        slow(end, kpi => void kpi.counters('k', {})),
        { settled: x => (result = x) },
      );
      assert.deepEqual(r, { ok: true, pending: true });
      assert.equal(s.kexts.list()[0]!.state, 'starting');
      refused(s.kexts.unload('org.nke.Slow'), EBUSY, /is starting/);
      await Promise.resolve().then(() => {});
      assert.equal((result as { ok: boolean }).ok, ok);
      if (ok) assert.ok(s.kexts.unload('org.nke.Slow').ok);
      assert.deepEqual(everything(s), before);
    }
  });
  it('that never finish are ended by the deadline, and what they do later has no effect', async () => {
    const s = stack();
    const before = everything(s);
    let result: KextResult | undefined;
    let finish: (n: number) => void = () => {};
    const never = new Promise<number>(resolve => (finish = resolve));
    s.kexts.load(
      slow(never, kpi => void kpi.iflt_attach({ name: 'slow' })),
      { settled: x => (result = x), timeout: 1000 },
    );
    s.run((s.clock.now += 999));
    assert.equal(result, undefined);
    s.run((s.clock.now += 2));
    refused(result!, ETIMEDOUT, /did not finish in time; taken back: filter slow/);
    assert.deepEqual(everything(s), before);
    finish(0);
    await never;
    assert.deepEqual(s.kexts.list(), []);
  });
});

describe('unloading that waits', () => {
  const held = () => {
    const s = stack();
    const users = ['socket 3'];
    const drained: boolean[] = [];
    s.kexts.load(kext('org.nke.A', { references: () => users, drain: on => void drained.push(on) }));
    return { s, users, drained };
  };
  const pass = (s: Stack, ms: number) => {
    for (let i = 0; i < ms; i++) s.run((s.clock.now += 1e6));
  };
  it('goes when the last holder has gone', () => {
    const { s, users, drained } = held();
    let result: unknown;
    const r = s.kexts.unload('org.nke.A', { wait: 1e9, settled: x => (result = x) });
    assert.deepEqual(r, { ok: true, pending: true });
    pass(s, 100);
    assert.equal(result, undefined);
    refused(s.kexts.unload('org.nke.A'), EBUSY, /is draining/);
    users.length = 0;
    pass(s, 20);
    assert.deepEqual(result, { ok: true });
    assert.deepEqual(drained, []);
    assert.deepEqual(s.kexts.list(), []);
  });
  it('stays, and works on, when the time is over', () => {
    const { s, users, drained } = held();
    let result: KextResult | undefined;
    s.kexts.unload('org.nke.A', { drain: true, wait: 5e7, settled: x => (result = x) });
    pass(s, 100);
    refused(result!, EBUSY, /in use by socket 3/);
    assert.deepEqual(drained, [true, false]);
    assert.equal(s.kexts.list()[0]!.state, 'started');
    users.length = 0;
    assert.ok(s.kexts.unload('org.nke.A').ok);
  });
  it('refuses new sockets while it drains', () => {
    const s = stack();
    const usrreqs = { attach: () => 0, close: () => 0 } as unknown as Usrreqs;
    s.kexts.load(kext('org.nke.A', { references: undefined, start: kpi => kpi.proto_add({ ...row(201), usrreqs }) }));
    const so = s.socket(AF_INET, SOCK_RAW, 201) as Socket;
    refused(s.kexts.unload('org.nke.A'), EBUSY, /1 open socket of p201/);
    let result: unknown;
    s.kexts.unload('org.nke.A', { drain: true, settled: x => (result = x) });
    assert.equal(s.socket(AF_INET, SOCK_RAW, 201), -EBUSY);
    so.close();
    pass(s, 20);
    assert.deepEqual(result, { ok: true });
    assert.equal(s.socket(AF_INET, SOCK_RAW, 201), -EPROTONOSUPPORT);
  });
  it('a stop that throws is finished by the loader, which says so', () => {
    const s = stack();
    const before = everything(s);
    s.kexts.load(
      kext('org.nke.A', {
        start: kpi => kpi.iflt_attach({ name: 'k' }),
        stop: () => {
          throw new Error('half');
        },
      }),
    );
    const r = s.kexts.unload('org.nke.A');
    assert.deepEqual(r, { ok: true, notes: ['its stop failed: half', 'taken back: filter k'] });
    assert.deepEqual(everything(s), before);
  });
  it('unloadAll takes everything, dependents first, by force what must be', () => {
    const s = stack();
    const before = everything(s);
    s.kexts.load(kext('org.nke.A', { start: kpi => kpi.counters('a', {}), references: () => ['somebody'] }));
    s.kexts.load(kext('org.nke.B', { dependencies: { 'org.nke.A': '1' } }));
    const forced = s.kexts.unloadAll();
    assert.deepEqual(forced, ['org.nke.A is in use by somebody']);
    assert.deepEqual(everything(s), before);
  });
});
