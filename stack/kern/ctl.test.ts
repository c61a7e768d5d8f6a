import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { VirtualNet } from '../testing.js';
import { CTLIOCGINFO, MAX_CTL_QUEUE, MAX_CTL_REQUEST, NKEPROTO_CONTROL, PF_NKE } from './ctl.js';
import { ControlClient } from './ctlclient.js';
import { EAGAIN, ECONNREFUSED, ECONNRESET, EINVAL, EISCONN, EMSGSIZE, ENOBUFS, ENOENT, ENOTCONN } from './errno.js';
import type { Kpi } from './kpi.js';
import { SOCK_DGRAM } from './protosw.js';
import { RecvInfo, type SockAddr, type Socket } from './socket.js';

const ID = 'org.nke.Test';

function host() {
  const stack = new VirtualNet().addHost('a');
  let kpi: Kpi | undefined;
  const changed: unknown[] = [];
  const r = stack.kexts.load({
    manifest: {
      identifier: ID,
      version: '1.2',
      kind: 'filter',
      dependencies: {},
      parameters: {
        limit: { type: 'integer', default: 5, min: 0, max: 9, meaning: 'x', live: true },
        fixed: { type: 'string', default: 'a', meaning: 'x' },
        picky: { type: 'boolean', default: true, meaning: 'x', live: true },
      },
    },
    start: k => {
      kpi = k;
      k.counters('test', { frames: 7 });
      return k.ctl_register({
        changed: (name, value) => {
          if (name === 'picky') return -EINVAL;
          changed.push([name, value]);
          return 0;
        },
        statistics: () => ({ mood: 'good' }),
        commands: {
          double: { meaning: 'twice x', run: args => Number(args.x) * 2 },
          fail: {
            meaning: 'fails',
            run: () => {
              throw new Error('no luck');
            },
          },
          ring: {
            meaning: 'no JSON',
            run: () => {
              const a: unknown[] = [];
              a.push(a);
              return a;
            },
          },
          huge: { meaning: 'too long', run: () => 'x'.repeat(300_000) },
        },
      });
    },
    stop: () => 0,
  });
  assert.ok(r.ok);
  return { stack, kpi: kpi!, changed };
}
function open(stack: ReturnType<typeof host>['stack']): ControlClient {
  const c = ControlClient.open(stack, ID);
  assert.ok(c instanceof ControlClient);
  return c;
}
/** A raw socket, and what it reads. */
function raw(stack: ReturnType<typeof host>['stack']) {
  const so = stack.socket(PF_NKE, SOCK_DGRAM, NKEPROTO_CONTROL) as Socket;
  const buffer = new Uint8Array(400_000);
  const read = () => {
    const n = so.recv(buffer, 0, buffer.length, new RecvInfo());
    return n < 0 ? n : (JSON.parse(new TextDecoder().decode(buffer.subarray(0, n))) as Record<string, unknown>);
  };
  return { so, read };
}

describe('PF_NKE', () => {
  it('reads and sets parameters, within their rows', () => {
    const { stack, kpi, changed } = host();
    const c = open(stack);
    assert.deepEqual(c.request('get'), { id: 1, ok: true, value: { limit: 5, fixed: 'a', picky: true } });
    assert.deepEqual(c.request('set', { name: 'limit', value: 7 }), { id: 2, ok: true, value: 7 });
    assert.equal(kpi.params.limit, 7);
    assert.deepEqual(changed, [['limit', 7]]);
    const no = (name: string | undefined, value: unknown, words: RegExp) => {
      const r = c.request('set', { name, value });
      assert.ok(!r.ok);
      assert.match(r.reason, words);
    };
    no('limit', 10, /parameter "limit" is 10; it must be an integer from 0 to 9/);
    no('limit', '7', /must be an integer/);
    no('fixed', 'b', /only be given when org\.nke\.Test is loaded/);
    no('picky', false, /does not take picky = false/);
    no('none', 1, /has no parameter "none"; it has limit, fixed, picky/);
    no('__proto__', 1, /has no parameter/);
    no(undefined, 1, /needs "name"/);
    assert.deepEqual({ ...kpi.params }, { limit: 7, fixed: 'a', picky: true });
    c.close();
  });
  it('reads statistics, lists, and calls commands', () => {
    const { stack } = host();
    const c = open(stack);
    const stats = c.request('stats');
    assert.ok(stats.ok);
    assert.deepEqual(stats.value, {
      counters: { test: { frames: 7 } },
      statistics: { mood: 'good', mbufs_held: 0, faults: 0 },
    });
    const list = c.request('list');
    assert.ok(list.ok);
    assert.deepEqual((list.value as { commands: unknown }).commands, {
      double: 'twice x',
      fail: 'fails',
      ring: 'no JSON',
      huge: 'too long',
    });
    const call = (name: string, args = {}) => c.request('call', { name, args });
    assert.deepEqual(call('double', { x: 21 }), { id: 3, ok: true, value: 42 });
    for (const [name, words] of [
      ['fail', /no luck/],
      ['ring', /no JSON/],
      ['huge', /longer than/],
      ['none', /no command "none"/],
      ['toString', /no command/],
    ] as const) {
      const r = call(name);
      assert.ok(!r.ok);
      assert.match(r.reason, words);
    }
    assert.equal(stack.kexts.list()[0]!.faults, 2);
    c.close();
  });
  it('tells events to those who subscribed, bounded, with the number of those lost', () => {
    const { stack, kpi } = host();
    const { so, read } = raw(stack);
    so.connect(stack.ctl.address(ID) as SockAddr);
    const send = (o: object) => so.send(new TextEncoder().encode(JSON.stringify(o)));
    kpi.events.emit('early', 'not subscribed');
    send({ id: 1, op: 'subscribe' });
    read();
    kpi.events.emit('one', 'because', { n: 1 });
    stack.events.emit({ kind: 'kext', kext: 'org.nke.Other', what: 'x', reason: 'x', detail: {} });
    const e = read() as { event: { what: string; detail: unknown }; dropped: number };
    assert.equal(e.event.what, 'one');
    assert.deepEqual(e.event.detail, { n: 1 });
    assert.equal(read(), -EAGAIN);
    for (let i = 0; i < MAX_CTL_QUEUE + 10; i++) kpi.events.emit('many', String(i));
    assert.equal(send({ id: 2, op: 'get' }), -ENOBUFS);
    for (let i = 0; i < MAX_CTL_QUEUE; i++) assert.equal((read() as { dropped: number }).dropped, 0);
    assert.equal(read(), -EAGAIN);
    kpi.events.emit('after', 'x');
    assert.equal((read() as { dropped: number }).dropped, 10);
    so.close();
  });
  it('ends with its extension, and goes over to the next version', () => {
    const { stack } = host();
    const a = raw(stack);
    assert.equal(stack.ctl.address('org.nke.None'), -ENOENT);
    assert.equal(a.so.getsockopt(NKEPROTO_CONTROL, CTLIOCGINFO, ID), 1);
    assert.equal(a.so.send(new Uint8Array(2)), -ENOTCONN);
    const at = stack.ctl.address(ID) as SockAddr;
    assert.equal(a.so.connect({ ...at, port: 999 }), -ECONNREFUSED);
    assert.equal(a.so.connect(at), 0);
    assert.equal(a.so.connect(at), -EISCONN);
    const c = open(stack);
    const next = stack.kexts.replace({
      manifest: { identifier: ID, version: '2.0', kind: 'filter', dependencies: {} },
      start: () => 0,
      stop: () => 0,
    });
    assert.deepEqual(next, { ok: true });
    const list = c.request('list');
    assert.ok(list.ok);
    assert.equal((list.value as { version: string }).version, '2.0');
    assert.ok(stack.kexts.unload(ID).ok);
    assert.equal(c.request('get').ok, false);
    assert.match(c.ended, /unloaded/);
    assert.equal(a.read(), -ECONNRESET);
    assert.equal(a.read(), -EAGAIN);
    assert.deepEqual(stack.ctl.list(), []);
    a.so.close();
    c.close();
  });
  it('answers bytes of any kind, and stays whole', () => {
    const { stack, kpi } = host();
    const { so, read } = raw(stack);
    so.connect(stack.ctl.address(ID) as SockAddr);
    assert.equal(so.send(new Uint8Array(MAX_CTL_REQUEST + 1)), -EMSGSIZE);
    const json = fc.json().map(s => new TextEncoder().encode(s));
    const request = fc
      .record(
        {
          id: fc.anything(),
          op: fc.oneof(fc.constantFrom('get', 'set', 'stats', 'list', 'call', 'subscribe'), fc.string()),
          name: fc.oneof(fc.constantFrom('limit', 'double', '__proto__', 'constructor'), fc.anything()),
          value: fc.anything(),
          args: fc.anything(),
        },
        { requiredKeys: ['op'] },
      )
      .map(r => {
        try {
          return new TextEncoder().encode(JSON.stringify(r) ?? '');
        } catch {
          return new Uint8Array(0); // a bigint
        }
      });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), json, request), bytes => {
        assert.equal(so.send(bytes), bytes.length);
        const answer = read() as { ok?: unknown };
        assert.ok(typeof answer.ok === 'boolean');
        const limit = kpi.params.limit as number;
        assert.ok(Number.isInteger(limit) && limit >= 0 && limit <= 9);
        for (let r = read(); typeof r !== 'number'; r = read());
      }),
      { numRuns: 300, seed: 5 },
    );
    const deep = new TextEncoder().encode('['.repeat(MAX_CTL_REQUEST));
    so.send(deep);
    assert.equal((read() as { errno: string }).errno, 'EINVAL');
    assert.deepEqual(Object.keys(kpi.params), ['limit', 'fixed', 'picky']);
    so.close();
    assert.ok(stack.kexts.unload(ID).ok);
  });
});
