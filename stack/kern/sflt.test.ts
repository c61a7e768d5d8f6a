/** Socket filters: verdicts, order, deferred and changed data, what is told, and filters that come and go under traffic. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InAddr } from '../netinet/in.js';
import type { Stack } from '../stack.js';
import { MSEC, VirtualNet } from '../testing.js';
import { NKEPROTO_CONTROL, PF_NKE } from './ctl.js';
import { EACCES, EAGAIN, EEXIST, ENOENT } from './errno.js';
import type { Kpi } from './kpi.js';
import { AF_INET, SOCK_DGRAM } from './protosw.js';
import { EJUSTRETURN, MAX_INJECTED, type SocketFilter } from './sflt.js';
import { MSG_PEEK, RecvInfo, SO_BROADCAST, SOL_SOCKET, Socket } from './socket.js';

const UDP = 17;
const bytes = (text: string) => new TextEncoder().encode(text);

class Pair {
  readonly net = new VirtualNet();
  readonly a: Stack;
  readonly b: Stack;
  constructor() {
    this.a = this.net.addHost('a');
    this.b = this.net.addHost('b');
    this.net.link(this.a, this.b, { delay: MSEC, noarp: true, addresses: [['10.0.0.1/24'], ['10.0.0.2/24']] });
  }
  udp(s: Stack, port = 0): Socket {
    const so = s.socket(AF_INET, SOCK_DGRAM, UDP);
    assert.ok(so instanceof Socket);
    if (port !== 0) assert.equal(so.bind({ addr: new InAddr(4), port }), 0);
    return so;
  }
  /** An extension on a with one filter; also its Kpi. */
  load(filter: SocketFilter): Kpi {
    let out: Kpi | undefined;
    const r = this.a.kexts.load({
      manifest: { identifier: 'org.nke.T', version: '1', kind: 'socket-filter', dependencies: {} },
      start: kpi => {
        out = kpi;
        return kpi.sflt_register(filter);
      },
      stop: () => 0,
    });
    assert.ok(r.ok, JSON.stringify(r));
    return out!;
  }
  read(so: Socket, flags = 0, room = 100): string | number {
    const buf = new Uint8Array(room);
    const n = so.recv(buf, 0, room, new RecvInfo(), flags);
    return n < 0 ? n : new TextDecoder().decode(buf.subarray(0, n));
  }
}
const B = { addr: InAddr.of('10.0.0.2'), port: 7 };

describe('socket filters', () => {
  it('see every call with their cookie, those of open sockets and of new ones, and leave no trace', () => {
    const p = new Pair();
    const early = p.udp(p.a, 5);
    const log: string[] = [];
    let n = 0;
    const note =
      (what: string) =>
      (_so: Socket, cookie: unknown): number => {
        log.push(`${cookie} ${what}`);
        return 0;
      };
    const before = p.a.counters.names().length;
    p.load({
      name: 't',
      protocol: UDP,
      attach: () => `c${++n}`,
      bind: note('bind'),
      connect_out: note('connect'),
      data_out: note('out'),
      data_in: note('in'),
      setoption: note('set'),
      getoption: note('get'),
      notify: (_so, cookie, what) => void log.push(`${cookie} ${what}`),
      detach: (_so, cookie) => void log.push(`${cookie} detach`),
      unregistered: () => void log.push('gone'),
    });
    const so = p.udp(p.a, 6);
    const peer = p.udp(p.b, 7);
    so.connect(B);
    so.setsockopt(SOL_SOCKET, SO_BROADCAST, 1);
    so.getsockopt(SOL_SOCKET, SO_BROADCAST);
    assert.equal(so.send(bytes('x')), 1);
    p.net.run(10 * MSEC);
    peer.send(bytes('y'), 0, 1, undefined, { addr: InAddr.of('10.0.0.1'), port: 6 });
    p.net.run(10 * MSEC);
    assert.equal(p.read(so), 'y');
    so.close();
    early.send(bytes('z'), 0, 1, undefined, B);
    assert.deepEqual(p.a.kexts.unload('org.nke.T'), { ok: true });
    assert.deepEqual(log, [
      'c2 bind',
      'c2 connect',
      'c2 connected',
      'c2 set',
      'c2 get',
      'c2 out',
      'c2 in',
      'c2 closing',
      'c2 detach',
      'c1 out',
      'c1 detach',
      'gone',
    ]);
    assert.equal(early.filters, null);
    assert.equal(p.a.counters.names().length, before);
    assert.equal(early.send(bytes('z'), 0, 1, undefined, B), 1);
    assert.equal(log.length, 12);
    early.close();
    peer.close();
    assert.equal(p.net.leaked(), 0);
  });

  it('deny, swallow, change and hold back what is sent; outward the last attached is asked first', () => {
    const p = new Pair();
    const order: string[] = [];
    let verdict = 0;
    p.a.sflt.register({
      name: 'first',
      data_out: (_so, _c, d) => {
        order.push('first');
        d.data = bytes(new TextDecoder().decode(d.data.subarray(d.off, d.off + d.len)).toUpperCase());
        d.off = 0;
        return 0;
      },
    });
    p.a.sflt.register({
      name: 'second',
      data_out: () => {
        order.push('second');
        return verdict;
      },
    });
    assert.equal(p.a.sflt.register({ name: 'second' }), -EEXIST);
    assert.equal(p.a.sflt.unregister({ name: 'second' }), -ENOENT);
    const so = p.udp(p.a);
    const peer = p.udp(p.b, 7);
    const data = bytes('hello');
    assert.equal(so.send(data, 0, 5, undefined, B), 5);
    assert.deepEqual(order, ['second', 'first']);
    assert.equal(new TextDecoder().decode(data), 'hello', 'the program’s bytes are its own');
    p.net.run(5 * MSEC);
    assert.equal(p.read(peer), 'HELLO');
    for (const [v, result] of [
      [-EACCES, -EACCES],
      [-EJUSTRETURN, 5],
      [-EAGAIN, -EAGAIN],
    ] as const) {
      verdict = v;
      assert.equal(so.send(data, 0, 5, undefined, B), result);
      p.net.run(5 * MSEC);
      assert.equal(p.read(peer), -EAGAIN);
    }
  });

  it('deny, swallow, change and inject what comes in; a peek keeps nothing', () => {
    const p = new Pair();
    const seen: string[] = [];
    const kept: Uint8Array[] = [];
    let upcalls = 0;
    const so = p.udp(p.a, 5);
    so.upcall = () => upcalls++;
    const kpi = p.load({
      name: 'in',
      data_in: (_so, _c, d) => {
        const text = new TextDecoder().decode(d.data.subarray(d.off, d.off + d.len));
        seen.push(`${text}${(d.flags & MSG_PEEK) !== 0 ? '?' : ''}`);
        if (text === 'bad') return -EACCES;
        if (text === 'later') kept.push(d.data.slice(d.off, d.off + d.len));
        if (text === 'later' || text === 'gone') return -EJUSTRETURN;
        if (text === 'shorter') d.len = 5;
        return 0;
      },
    });
    const peer = p.udp(p.b, 7);
    for (const t of ['ok', 'gone', 'later', 'shorter', 'bad', 'end'])
      peer.send(bytes(t), 0, t.length, undefined, { addr: InAddr.of('10.0.0.1'), port: 5 });
    p.net.run(5 * MSEC);
    assert.equal(p.read(so, MSG_PEEK), 'ok');
    assert.equal(p.read(so), 'ok');
    assert.equal(p.read(so), 'short');
    assert.equal(p.read(so, MSG_PEEK), -EACCES);
    assert.equal(p.read(so), 'end');
    assert.equal(p.read(so), -EAGAIN);
    assert.deepEqual(seen, ['ok?', 'ok', 'gone', 'later', 'shorter', 'bad?', 'end']);
    const was = upcalls;
    assert.equal(kpi.sock_inject_data_in(so, kept[0]!, { from: B }), 0);
    assert.equal(upcalls, was + 1);
    assert.ok(so.readable);
    assert.equal(p.read(so, 0, 3), 'lat');
    assert.equal(p.read(so), -EAGAIN);
    for (let i = 0; i < MAX_INJECTED; i++) kpi.sock_inject_data_in(so, kept[0]!);
    assert.ok(kpi.sock_inject_data_in(so, kept[0]!) < 0, 'bounded');
    assert.equal(kpi.sock_inject_data_out(so, bytes('raw'), B), 3);
    p.net.run(5 * MSEC);
    assert.equal(p.read(peer), 'raw');
    // What was injected is read even after the filter has gone.
    p.a.kexts.unload('org.nke.T');
    for (let i = 0; i < MAX_INJECTED; i++) assert.equal(p.read(so), 'later');
    assert.equal(p.read(so), -EAGAIN);
    assert.equal(so.filters, null);
  });

  it('on one socket only, by name; never on control sockets', () => {
    const p = new Pair();
    let calls = 0;
    const filter: SocketFilter = {
      name: 'one',
      programmatic: true,
      data_out: () => {
        calls++;
        return 0;
      },
    };
    const kpi = p.load(filter);
    const [x, y] = [p.udp(p.a), p.udp(p.a)];
    assert.equal(kpi.sflt_attach(x, filter), 0);
    assert.equal(kpi.sflt_attach(x, filter), -EEXIST);
    assert.equal(kpi.sflt_attach(x, { name: 'other' }), -ENOENT);
    for (const so of [x, y]) so.send(bytes('x'), 0, 1, undefined, B);
    assert.equal(calls, 1);
    assert.equal(kpi.sflt_detach(x, filter), 0);
    assert.equal(kpi.sflt_detach(x, filter), -ENOENT);
    assert.equal(x.filters, null);
    const control = p.a.socket(PF_NKE, SOCK_DGRAM, NKEPROTO_CONTROL);
    assert.ok(control instanceof Socket);
    assert.ok(kpi.sflt_attach(control, filter) < 0);
  });

  for (const [what, bad] of [
    ['throws', () => assert.fail('boom')],
    ['returns nonsense', () => 17],
  ] as const)
    it(`one that ${what} under traffic is taken off all sockets, counted and reported; nothing is lost`, () => {
      const p = new Pair();
      let n = 0;
      p.load({ name: 'bad', data_out: () => (n++ === 5 ? bad() : 0) });
      const so = p.udp(p.a);
      const other = p.udp(p.a);
      const peer = p.udp(p.b, 7);
      for (let i = 0; i < 20; i++) assert.equal(so.send(bytes(`${i}`), 0, `${i}`.length, undefined, B), `${i}`.length);
      other.send(bytes('20'), 0, 2, undefined, B);
      p.net.run(5 * MSEC);
      for (let i = 0; i <= 20; i++) assert.equal(p.read(peer), `${i}`);
      assert.equal(n, 6);
      assert.equal(p.a.sflt.counters.faults, 1);
      assert.equal(so.filters, null);
      assert.equal(p.a.kexts.list()[0]!.faults, 1);
      assert.match(p.a.kexts.list()[0]!.lastFault, /^socket filter bad: /);
      assert.ok(p.a.kexts.unload('org.nke.T').ok);
    });

  it('200 loads and unloads while datagrams pass: none lost', () => {
    const p = new Pair();
    const so = p.udp(p.a);
    const peer = p.udp(p.b, 7);
    let counted = 0;
    for (let i = 0; i < 200; i++) {
      p.load({
        name: 'count',
        data_out: () => {
          counted++;
          return 0;
        },
      });
      so.send(bytes(`${i}`), 0, `${i}`.length, undefined, B);
      assert.ok(p.a.kexts.unload('org.nke.T').ok);
      so.send(bytes('-'), 0, 1, undefined, B);
      p.net.run(2 * MSEC);
      assert.equal(p.read(peer), `${i}`);
      assert.equal(p.read(peer), '-');
    }
    assert.equal(counted, 200);
    so.close();
    peer.close();
    assert.equal(p.net.leaked(), 0);
  });
});
