/** Extensions under traffic: filters that break the rules, that are replaced, that leave, while frames go on. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { IfFilter } from '../net/dlil.js';
import type { Stack } from '../stack.js';
import { MSEC, VirtualNet } from '../testing.js';
import type { Kext } from './kext.js';
import type { Kpi } from './kpi.js';
import { M_NULL, type Mbuf } from './mbuf.js';

const FRAME = 64;

/** Two hosts; frames of an experimental EtherType from a are counted, by number, on b. */
class Traffic {
  readonly net = new VirtualNet();
  readonly a: Stack;
  readonly b: Stack;
  readonly seen: number[] = [];
  sent = 0;
  readonly #link;
  constructor() {
    this.a = this.net.addHost('a');
    this.b = this.net.addHost('b');
    this.#link = this.net.link(this.a, this.b, { delay: MSEC, noarp: true });
    this.b.interfaces.attachProtocol(0x88b5, (_ifp, m) => {
      this.seen.push(this.b.pool.dv.getUint32(this.b.pool.off[m]!));
      this.b.pool.freem(m);
    });
  }
  send(n = 1): void {
    const { pool } = this.a;
    for (let i = 0; i < n; i++) {
      const m = pool.get(FRAME);
      pool.len[m] = pool.pktlen[m] = FRAME;
      const at = pool.off[m]!;
      pool.u8.fill(0, at, at + FRAME);
      pool.dv.setUint16(at + 12, 0x88b5);
      pool.dv.setUint32(at + 14, this.sent++);
      this.a.interfaces.transmit(this.#link.a.ifp, m);
    }
    this.net.run(2 * MSEC);
  }
  faults(host = this.b): string[] {
    return host.events.since(0).flatMap(e => (e.kind === 'kext-fault' ? [`${e.kext} ${e.what}: ${e.reason}`] : []));
  }
  /** Every number once and in order, and no mbuf left. */
  whole(): void {
    assert.deepEqual(
      this.seen,
      Array.from({ length: this.sent }, (_, i) => i),
    );
    assert.equal(this.net.leaked(), 0);
  }
}

/** An extension with one filter for input, made of what it does with a frame. */
function filterKext(
  input: (kpi: Kpi, m: Mbuf, n: number) => Mbuf,
  more: { identifier?: string; version?: string; name?: string; stop?: () => number; also?: (kpi: Kpi) => void } = {},
): Kext & { frames: number[]; detached: number } {
  const self = {
    frames: [] as number[],
    detached: 0,
    manifest: {
      identifier: more.identifier ?? 'org.nke.Bad',
      version: more.version ?? '1.0.0',
      kind: 'filter',
      dependencies: {},
    },
    start: (kpi: Kpi) => {
      let n = 0;
      const filter: IfFilter = {
        name: more.name ?? 'bad',
        input: (_ifp, m) => {
          self.frames.push(kpi.pool.dv.getUint32(kpi.pool.off[m]! + 14));
          return input(kpi, m, n++);
        },
        detached: () => void self.detached++,
      };
      more.also?.(kpi);
      return kpi.iflt_attach(filter);
    },
    stop: more.stop ?? (() => 0),
  };
  return self;
}

describe('a filter that breaks the rules', () => {
  const cases: [string, (kpi: Kpi, m: Mbuf) => Mbuf, RegExp, boolean][] = [
    [
      'throws',
      () => {
        throw new Error('boom');
      },
      /^org\.nke\.Bad filter bad: boom$/,
      true,
    ],
    [
      'throws what is no Error',
      () => {
        throw null;
      },
      /^org\.nke\.Bad filter bad: null$/,
      true,
    ],
    [
      'frees an mbuf twice',
      (kpi, m) => {
        kpi.pool.freem(m);
        kpi.pool.freem(m);
        return M_NULL;
      },
      /^org\.nke\.Bad filter bad: frees mbuf \d+, which is free \(freed twice\?\)$/,
      false,
    ],
    [
      'returns what it has freed',
      (kpi, m) => {
        kpi.pool.freem(m);
        return m;
      },
      /returned mbuf \d+, which is free$/,
      false,
    ],
    ['returns nonsense', () => undefined as unknown as Mbuf, /returned mbuf undefined/, true],
    ['returns a number that is no mbuf', () => 2 ** 40, /returned mbuf 1099511627776/, true],
    [
      'returns a stranger',
      kpi => {
        const m = kpi.stack.pool.getSmall();
        strangers.push([kpi.stack, m]);
        return m;
      },
      /returned mbuf \d+, which is not its own$/,
      true,
    ],
    [
      'moves the data out of the buffer',
      (kpi, m) => {
        kpi.pool.len[m] = 100_000;
        return m;
      },
      /data outside the buffer$/,
      false,
    ],
  ];
  const strangers: [Stack, Mbuf][] = [];
  for (const [what, input, fault, goesOn] of cases)
    it(`${what}: detached, counted, reported; traffic goes on`, () => {
      const t = new Traffic();
      const k = filterKext((kpi, m, n) => (n === 3 ? input(kpi, m) : m));
      assert.deepEqual(t.b.kexts.load(k), { ok: true });
      t.send(10);
      assert.equal(t.faults().length, 1);
      assert.match(t.faults()[0]!, fault);
      assert.equal(k.detached, 1);
      assert.equal(k.frames.length, 4);
      assert.deepEqual(t.b.interfaces.filters, []);
      assert.equal(t.b.interfaces.counters.filter_faults, 1);
      assert.equal(t.b.interfaces.counters.filter_lost, goesOn ? 0 : 1);
      assert.deepEqual(t.seen, goesOn ? [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] : [0, 1, 2, 4, 5, 6, 7, 8, 9]);
      const s = t.b.kexts.list()[0]!;
      assert.equal(s.faults, 1);
      assert.equal(s.held, 0);
      assert.ok(t.b.kexts.unload('org.nke.Bad').ok);
      for (const [stack, m] of strangers.splice(0)) stack.pool.freem(m);
      assert.equal(t.net.leaked(), 0);
    });

  it('keeps mbufs: seen in kextstat, taken back at unload, with its name', () => {
    const t = new Traffic();
    t.b.kexts.load(filterKext((_kpi, m, n) => (n % 2 === 0 ? m : M_NULL)));
    t.send(10);
    assert.deepEqual(t.seen, [0, 2, 4, 6, 8]);
    assert.equal(t.b.kexts.list()[0]!.held, 5);
    const r = t.b.kexts.unload('org.nke.Bad');
    assert.deepEqual(r, { ok: true, notes: ['taken back: 5 mbufs that it kept'] });
    assert.deepEqual(t.faults(), ['org.nke.Bad unload: taken back: 5 mbufs that it kept']);
    assert.equal(t.net.leaked(), 0);
  });
  it('keeps more than it may: taken out before the pool runs dry', () => {
    const t = new Traffic();
    t.b.kexts.load(
      filterKext(() => M_NULL),
      { mbufs: 8 },
    );
    t.send(20);
    assert.deepEqual(t.faults(), ['org.nke.Bad filter bad: it keeps 9 mbufs, more than the 8 that it may']);
    assert.deepEqual(
      t.seen,
      Array.from({ length: 11 }, (_, i) => i + 9),
    );
    t.b.kexts.unload('org.nke.Bad');
    assert.equal(t.net.leaked(), 0);
  });
  it('frees later what it has passed on: refused, the frame is safe', () => {
    const t = new Traffic();
    let passed = M_NULL;
    let error: unknown;
    t.a.kexts.load({
      ...filterKext((_k, m) => m),
      start: kpi => {
        const late = kpi.callout(() => {
          try {
            kpi.pool.freem(passed);
          } catch (e) {
            error = e;
            throw e;
          }
        });
        late.reset(0);
        return kpi.iflt_attach({ name: 'late', output: (_ifp, m) => (passed = m) });
      },
    });
    t.send(1);
    assert.match(String(error), /frees mbuf \d+, which is (free|not its own)/);
    assert.match(t.faults(t.a)[0]!, /^org\.nke\.Bad timer 1: frees mbuf/);
    t.whole();
  });
  it('keeps frames and sends them on later: nothing lost, nothing held', () => {
    const t = new Traffic();
    const queue: Mbuf[] = [];
    t.b.kexts.load({
      ...filterKext((_k, m) => m),
      start: kpi => {
        const ifp = kpi.ifnet_find('nke0')!;
        let own = false;
        const flush = kpi.callout(() => {
          own = true;
          for (const m of queue.splice(0)) kpi.ifnet_input(ifp, m);
          own = false;
        });
        return kpi.iflt_attach({
          name: 'delay',
          input: (_ifp, m) => {
            if (own) return m;
            queue.push(m);
            flush.reset(MSEC / 2);
            return M_NULL;
          },
        });
      },
    });
    t.send(5);
    t.send(5);
    assert.equal(t.b.kexts.list()[0]!.held, 0);
    t.b.kexts.unload('org.nke.Bad');
    t.whole();
  });
  it('puts mbufs of its own in front: they are the stack’s when returned', () => {
    const t = new Traffic();
    t.a.kexts.load({
      ...filterKext((_k, m) => m),
      start: kpi =>
        kpi.iflt_attach({
          name: 'wrap',
          output: (_ifp, m) => {
            const { pool } = kpi;
            // Split the header into an mbuf of its own.
            const h = pool.getSmall();
            pool.u8.copyWithin(pool.off[h]!, pool.off[m]!, pool.off[m]! + 14);
            pool.len[h] = 14;
            pool.next[h] = m;
            pool.copyHeader(h, m);
            pool.off[m]! += 14;
            pool.len[m]! -= 14;
            return h;
          },
        }),
    });
    t.send(10);
    assert.deepEqual(t.faults(t.a), []);
    assert.equal(t.a.kexts.list()[0]!.held, 0);
    assert.equal(t.a.kexts.list()[0]!.allocated, 10);
    assert.deepEqual(t.a.kexts.unload('org.nke.Bad'), { ok: true });
    t.whole();
  });
  it('a filter of no extension that throws is taken out too', () => {
    const t = new Traffic();
    t.b.interfaces.attachFilter({
      name: 'plain',
      input: () => {
        throw new Error('plain boom');
      },
    });
    t.send(3);
    assert.deepEqual(t.faults(), [' filter plain: plain boom']);
    t.whole();
  });
});

describe('kextreplace under traffic', () => {
  it('shows every frame to exactly one of the two, and loses none; the place in the chain stays', () => {
    const t = new Traffic();
    const old = filterKext((_k, m) => m, { version: '1.0.0' });
    const next = filterKext((_k, m) => m, { version: '1.1.0' });
    const order: string[] = [];
    t.b.kexts.load(old);
    t.b.interfaces.attachFilter({
      name: 'above',
      input: (_ifp, m) => {
        order.push(t.b.interfaces.filters.map(f => f.name).join());
        // In the midst of a frame's way through the chain.
        if (order.length === 37) assert.deepEqual(t.b.kexts.replace(next), { ok: true });
        return m;
      },
    });
    for (let i = 0; i < 10; i++) t.send(10);
    assert.deepEqual([...old.frames, ...next.frames], t.seen);
    assert.equal(old.frames.length, 37);
    assert.ok(order.every(o => o === 'bad,above'));
    assert.equal(t.b.kexts.list()[0]!.version, '1.1.0');
    assert.equal(old.detached, 1);
    t.whole();
  });
  it('an old version that holds frames gives them on when it is stopped', () => {
    const t = new Traffic();
    const held: Mbuf[] = [];
    let old: Kpi | undefined;
    const next = filterKext((_k, m) => m, { version: '2.0' });
    t.b.kexts.load({
      ...filterKext(
        (kpi, m) => {
          old = kpi;
          held.push(m);
          return M_NULL;
        },
        {
          stop: () => {
            // Past the chain: its successor does not see them again.
            for (const m of held.splice(0)) {
              old!.pool.giveUp(m);
              t.b.pool.adj(m, 14);
              t.seen.push(t.b.pool.dv.getUint32(t.b.pool.off[m]!));
              t.b.pool.freem(m);
            }
            return 0;
          },
        },
      ),
    });
    t.send(5);
    assert.deepEqual(t.seen, []);
    assert.deepEqual(t.b.kexts.replace(next), { ok: true });
    t.send(5);
    assert.deepEqual(next.frames, [5, 6, 7, 8, 9]);
    t.whole();
  });
  it('a new version that fails, throws or hangs leaves the old one as it was', () => {
    const t = new Traffic();
    const old = filterKext((_k, m) => m, { also: kpi => void kpi.counters('bad', { x: 1 }) });
    t.b.kexts.load(old);
    for (const end of [() => -12, () => assert.fail('no')]) {
      const next = filterKext((_k, m) => m, { version: '2.0' });
      const r = t.b.kexts.replace({
        ...next,
        start: kpi => {
          kpi.counters('bad', { x: 2 });
          next.start(kpi);
          return end();
        },
      });
      assert.ok(!r.ok);
      t.send(3);
      assert.deepEqual(next.frames, []);
    }
    assert.equal(old.frames.length, 6);
    assert.equal(t.b.kexts.list()[0]!.version, '1.0.0');
    assert.equal(t.b.counters.group('bad')!.x, 1);
    t.whole();
  });
  it('hands sysctls, counters and the control over, keeps what was set', () => {
    const t = new Traffic();
    const make = (version: string, extra: string): Kext => ({
      manifest: {
        identifier: 'org.nke.P',
        version,
        kind: 'filter',
        dependencies: {},
        parameters: {
          limit: { type: 'integer', default: 5, min: 0, max: 9, meaning: 'x', live: true },
          [extra]: { type: 'string', default: version, meaning: 'x' },
        },
      },
      start: kpi => {
        kpi.counters('p', { v: Number(version) });
        kpi.sysctl('net.p', [{ name: extra, default: 1, min: 0, max: 1, meaning: 'x' }], {});
        return kpi.iflt_attach({ name: 'p', input: (_i, m) => m });
      },
      stop: () => 0,
    });
    t.b.kexts.load(make('1', 'old'), { params: { limit: 7 } });
    assert.deepEqual(t.b.kexts.replace(make('2', 'new')), { ok: true });
    assert.deepEqual(t.b.kexts.list()[0]!.params, { limit: 7, new: '2' });
    assert.equal(t.b.counters.group('p')!.v, 2);
    assert.deepEqual(
      t.b.sysctl.list('net.p').map(r => r.name),
      ['net.p.new'],
    );
    assert.ok(t.b.kexts.unload('org.nke.P').ok);
    assert.equal(t.b.sysctl.list('net.p').length, 0);
  });
  it('refuses while somebody uses the old one', () => {
    const t = new Traffic();
    t.b.kexts.load(filterKext((_k, m) => m));
    t.b.kexts.load({
      ...filterKext((_k, m) => m, { identifier: 'org.nke.Top', name: 'top' }),
      manifest: { identifier: 'org.nke.Top', version: '1', kind: 'filter', dependencies: { 'org.nke.Bad': '1' } },
    });
    const r = t.b.kexts.replace(filterKext((_k, m) => m, { version: '2' }));
    assert.ok(!r.ok && /in use by org\.nke\.Top/.test(r.reason));
    const gone = t.b.kexts.replace(filterKext((_k, m) => m, { identifier: 'org.nke.None' }));
    assert.ok(!gone.ok && /not loaded/.test(gone.reason));
  });
});

describe('unloading under traffic', () => {
  it('from inside its own filter: refused by name; goes as soon as the filter has returned', () => {
    const t = new Traffic();
    let reason = '';
    let end: unknown;
    const k = filterKext((kpi, m, n) => {
      if (n !== 4) return m;
      const r = kpi.stack.kexts.unload('org.nke.Bad');
      if (!r.ok) reason = r.reason;
      kpi.stack.kexts.unload('org.nke.Bad', { wait: 1000 * MSEC, settled: x => (end = x) });
      return m;
    });
    t.b.kexts.load(k);
    t.send(10);
    assert.match(reason, /in use by filter bad, which is being called/);
    t.net.run(20 * MSEC);
    assert.deepEqual(end, { ok: true });
    t.send(5);
    assert.equal(k.frames.length, 10);
    t.whole();
  });
  it('200 loads and unloads while frames pass: none lost, all as before', () => {
    const t = new Traffic();
    const before = JSON.stringify([
      t.b.counters.names(),
      t.b.sysctl.list().length,
      t.b.callouts.pending,
      t.b.events.subscribers,
    ]);
    let frames = 0;
    for (let i = 0; i < 200; i++) {
      const k = filterKext((_k, m) => m, {
        also: kpi => {
          kpi.callout(() => {}).reset(1000 * MSEC);
          kpi.events.subscribe(() => {});
          kpi.counters('bad', { x: 0 });
        },
      });
      assert.ok(t.b.kexts.load(k).ok);
      t.send(2);
      assert.ok(t.b.kexts.unload('org.nke.Bad').ok);
      frames += k.frames.length;
    }
    assert.equal(frames, 400);
    assert.equal(
      JSON.stringify([t.b.counters.names(), t.b.sysctl.list().length, t.b.callouts.pending, t.b.events.subscribers]),
      before,
    );
    t.whole();
  });
});
