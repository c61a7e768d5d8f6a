/** PacketLog in virtual time, its sink in memory: what is written, what the filter lets pass, what happens when a disk is full. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ControlClient } from '../../kern/ctlclient.js';
import type { BpfProgram, SinkOptions } from '../../kpi.js';
import { IFF_ORDER_STACK, InAddr } from '../../kpi.js';
import { MSEC, SEC, VirtualNet } from '../../testing.js';
import { Bpf } from './bpf.js';
import { PACKETLOG_KEXT, packetLogKext } from './index.js';

/** tcpdump -ddd for "udp port 53" on Ethernet. */
const UDP53: BpfProgram = [
  [40, 0, 0, 12],
  [21, 0, 6, 34525],
  [48, 0, 0, 20],
  [21, 0, 15, 17],
  [40, 0, 0, 54],
  [21, 12, 0, 53],
  [40, 0, 0, 56],
  [21, 10, 11, 53],
  [21, 0, 10, 2048],
  [48, 0, 0, 23],
  [21, 0, 8, 17],
  [40, 0, 0, 20],
  [69, 6, 0, 8191],
  [177, 0, 0, 14],
  [72, 0, 0, 14],
  [21, 2, 0, 53],
  [72, 0, 0, 16],
  [21, 0, 1, 53],
  [6, 0, 0, 262144],
  [6, 0, 0, 0],
];

function pair(params = {}) {
  const net = new VirtualNet();
  const a = net.addHost('a');
  const b = net.addHost('b');
  const link = net.link(a, b, { delay: MSEC, noarp: true, addresses: [['10.0.0.1/24'], ['10.0.0.2/24']] });
  const files = new Map<string, { options: SinkOptions; blocks: Uint8Array[]; open: boolean }>();
  const state = { error: 0 };
  a.host.sink = (name, options) => {
    const file = { options, blocks: [options.header.slice()], open: true };
    files.set(name, file);
    return {
      write: bytes => {
        if (state.error < 0) return state.error;
        file.blocks.push(bytes.slice());
        return bytes.length;
      },
      close: () => {
        file.open = false;
      },
    };
  };
  a.host.compileBpf = text => (text === 'udp port 53' ? UDP53 : `no: ${text}`);
  const r = a.kexts.load(packetLogKext(), { params, where: ['nke0'] });
  const send = (port: number, n = 10) => {
    b.udp.output(
      b.pool.fromBytes(new Uint8Array(n)),
      InAddr.of('10.0.0.2'),
      InAddr.of('10.0.0.1'),
      1000,
      port,
      0,
      false,
    );
    net.run(2 * MSEC);
  };
  /** Lengths of the packets in the log, from its blocks. */
  const logged = () => {
    const out: { length: number; wire: number; seconds: number; out: boolean }[] = [];
    for (const block of files.get('org.nke.PacketLog.nke0')!.blocks) {
      const dv = new DataView(block.buffer, block.byteOffset, block.length);
      for (let at = 0; at < block.length; at += dv.getUint32(at + 4, true)) {
        const total = dv.getUint32(at + 4, true);
        assert.equal(dv.getUint32(at + total - 4, true), total);
        if (dv.getUint32(at, true) !== 6) continue;
        const ns = dv.getUint32(at + 12, true) * 2 ** 32 + dv.getUint32(at + 16, true);
        const length = dv.getUint32(at + 20, true);
        const flags = dv.getUint32(at + 28 + ((length + 3) & ~3) + 4, true);
        out.push({ length, wire: dv.getUint32(at + 24, true), seconds: Math.round(ns / 1e9), out: flags === 2 });
      }
    }
    return out;
  };
  return { net, a, b, link, files, state, r, send, logged };
}

describe('PacketLog.kext', () => {
  it('logs what the wire sees, both ways, with the time since 1970; nothing is lost by it', () => {
    const p = pair();
    assert.deepEqual(p.r, { ok: true });
    p.a.host.epoch = { seconds: 1_700_000_000, nanos: 0 };
    p.a.interfaces.attachFilter({ name: 'x', order: IFF_ORDER_STACK, input: (_i, m) => m });
    for (let i = 0; i < 100; i++) p.send(9, i);
    p.net.run(SEC);
    const log = p.logged();
    const inward = log.filter(l => !l.out);
    assert.equal(inward.length, 100);
    assert.deepEqual(
      inward.map(l => l.wire),
      Array.from({ length: 100 }, (_, i) => 14 + 20 + 8 + i),
    );
    assert.ok(
      log.some(l => l.out),
      'ICMP port unreachable',
    );
    assert.ok(log.every(l => l.length === l.wire && Math.abs(l.seconds - 1_700_000_001) <= 1));
    assert.deepEqual(p.a.kexts.unload(PACKETLOG_KEXT), { ok: true });
    assert.ok(!p.files.get('org.nke.PacketLog.nke0')!.open);
    assert.equal(p.net.leaked(), 0);
  });

  it('keeps what the expression matches, which changes live; a wrong one is refused and the old one stays', () => {
    const p = pair({ filter: 'udp port 53', snaplen: 64 });
    assert.deepEqual(p.r, { ok: true });
    for (const port of [53, 54, 53]) p.send(port, 500);
    const ctl = ControlClient.open(p.a, PACKETLOG_KEXT);
    assert.ok(ctl instanceof ControlClient);
    assert.ok(!ctl.request('set', { name: 'filter', value: 'nonsense' }).ok);
    p.send(54);
    assert.ok(ctl.request('set', { name: 'filter', value: '' }).ok);
    p.send(54);
    p.net.run(SEC);
    const inward = p.logged().filter(l => !l.out);
    assert.deepEqual(
      inward.map(l => [l.length, l.wire]),
      [
        [64, 542],
        [64, 542],
        [52, 52],
      ],
    );
    assert.ok(p.a.counters.group('packetlog')!.filtered! >= 2);
    const bad = pair({ filter: 'nonsense' });
    assert.ok(!bad.r.ok);
    assert.equal(bad.a.kexts.list().length, 0);
  });

  it('counts what a full disk loses, says so once, and lets all frames pass', () => {
    const p = pair();
    p.state.error = -55;
    let seen = 0;
    p.a.interfaces.attachFilter({
      name: 'count',
      input: (_i, m) => {
        seen++;
        return m;
      },
    });
    for (let i = 0; i < 200; i++) p.send(9, 1000);
    assert.equal(seen, 200);
    assert.ok(p.a.counters.group('packetlog')!.write_errors! > 1);
    assert.equal(p.a.events.since(0).filter(e => e.kind === 'kext').length, 1);
  });

  it('is refused where there is no folder for logs', () => {
    const net = new VirtualNet();
    const s = net.addHost('x');
    const r = s.kexts.load(packetLogKext());
    assert.ok(!r.ok && /kextLogs/.test(r.reason));
  });
});

describe('classic BPF', () => {
  it('refuses programs that could run away or reach out', () => {
    const bad: [BpfProgram, RegExp][] = [
      [[], /0 instructions/],
      [[[0x05, 0, 0, 5]], /jumps out/],
      [
        [
          [0x05, 0, 0, 0xffffffff],
          [6, 0, 0, 0],
        ],
        /jumps out/,
      ],
      [
        [
          [0x15, 9, 0, 1],
          [6, 0, 0, 0],
        ],
        /jumps out/,
      ],
      [
        [
          [0x60, 0, 0, 16],
          [6, 0, 0, 0],
        ],
        /memory word 16/,
      ],
      [
        [
          [0x02, 0, 0, 99],
          [6, 0, 0, 0],
        ],
        /memory word 99/,
      ],
      [
        [
          [0x34, 0, 0, 0],
          [6, 0, 0, 0],
        ],
        /divides by zero/,
      ],
      [
        [
          [0x64, 0, 0, 32],
          [6, 0, 0, 0],
        ],
        /shifts by 32/,
      ],
      [
        [
          [0xff, 0, 0, 0],
          [6, 0, 0, 0],
        ],
        /no known kind/,
      ],
      [[[0x00, 0, 0, 0]], /does not end/],
      [
        [
          [0x00, 0, 0, -1],
          [6, 0, 0, 0],
        ],
        /out of range/,
      ],
      [Array(4097).fill([6, 0, 0, 0]), /4097 instructions/],
    ];
    for (const [program, words] of bad) assert.match(String(Bpf.check(program)), words);
  });
  it('computes as the specification says, and stays inside the frame for any program and bytes', () => {
    const ret = (...p: [number, number, number, number][]) => {
      const b = Bpf.check([...p, [0x16, 0, 0, 0]]);
      assert.ok(b instanceof Bpf, String(b));
      return b.run(Uint8Array.of(9, 0x45, 0xff, 0xff, 0xff, 0xff, 7), 1, 6, 6);
    };
    assert.equal(ret([0x20, 0, 0, 1]), 0xffffffff);
    assert.equal(ret([0x28, 0, 0, 0]), 0x45ff);
    assert.equal(ret([0x30, 0, 0, 5]), 7);
    assert.equal(ret([0x30, 0, 0, 6]), 0);
    assert.equal(ret([0x20, 0, 0, 3]), 0, 'a load across the end matches nothing');
    assert.equal(ret([0xb1, 0, 0, 0], [0x87, 0, 0, 0]), 20);
    assert.equal(ret([0x80, 0, 0, 0], [0x07, 0, 0, 0], [0x0c, 0, 0, 0]), 12);
    assert.equal(ret([0x00, 0, 0, 1], [0x14, 0, 0, 2]), 0xffffffff);
    assert.equal(ret([0x00, 0, 0, 5], [0x84, 0, 0, 0]), 0xfffffffb);
    assert.equal(ret([0x00, 0, 0, 5], [0x3c, 0, 0, 0]), 0, 'division by an X of zero');
    const { random } = new VirtualNet();
    let ran = 0;
    for (let i = 0; i < 20_000; i++) {
      const n = 1 + (random.u32() % 6);
      const program = Array.from({ length: n }, (_, k) => [
        k === n - 1 ? 0x16 : random.u32() % 0xb8,
        random.u32() % 4,
        random.u32() % 4,
        random.u32() % 3 === 0 ? random.u32() : random.u32() % 8,
      ]) as unknown as BpfProgram;
      const b = Bpf.check(program);
      if (!(b instanceof Bpf)) continue;
      ran++;
      const r = b.run(new Uint8Array(20).fill(0x77), 4, 12, 12);
      assert.ok(Number.isInteger(r) && r >= 0 && r <= 0xffffffff, `${JSON.stringify(program)} gave ${r}`);
    }
    assert.ok(ran > 100);
  });
});
