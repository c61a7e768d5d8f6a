import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { copySegment, findIp, fold16, repairHeaders, segments, sum16 } from './headers.js';
import { liveInNamespace, makeNamespace, noNamespace, run } from './netns.fixture.js';
import { etherEnd, ipEnd, readPayload, writeIp, writePayload } from './packets.fixture.js';
import { portContract } from './port.contract.js';
import { BATCH_L3_TRUSTED, Batch, Memory, PortError } from './port.js';
import { TapPort } from './tap.js';
import { TunPort } from './tun.js';

const skip = noNamespace();
if (!skip) liveInNamespace();

const MAC_A = Uint8Array.of(2, 0, 0, 0, 0, 0xa1);
const MAC_B = Uint8Array.of(2, 0, 0, 0, 0, 0xb1);

/** Gives what `change` needs to be done once the interface is there: after each open. */
function afterOpen<T extends { open(memory: Memory): void }>(port: T, change: () => void): T {
  const open = port.open.bind(port);
  port.open = memory => {
    open(memory);
    change();
  };
  return port;
}

portContract(
  'tap, two of them on a bridge',
  () => {
    run('ip', 'link', 'add', 'br0', 'type', 'bridge');
    run('ip', 'link', 'set', 'br0', 'up');
    const tap = (name: string) =>
      afterOpen(new TapPort({ interface: name, mtu: 1400 }), () => run('ip', 'link', 'set', name, 'master', 'br0'));
    return {
      a: etherEnd(tap('nkea'), MAC_B, MAC_A),
      b: etherEnd(tap('nkeb'), MAC_A, MAC_B),
      dispose: () => run('ip', 'link', 'del', 'br0'),
    };
  },
  { smallest: 60, longest: p => p.capabilities.mtu + 14, refusesWithin: 0, skip },
);

portContract(
  'tun, two of them and the kernel routing between',
  () => {
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
    const tun = (name: string, address: string) =>
      new TunPort({ interface: name, mtu: 1400, addresses: [`${address}/24`] });
    return {
      a: ipEnd(tun('nkea', '10.1.0.1'), '10.1.0.2', '10.2.0.2', 253),
      b: ipEnd(tun('nkeb', '10.2.0.1'), '10.2.0.2', '10.1.0.2', 253),
    };
  },
  { smallest: 28, longest: p => p.capabilities.mtu, refusesWithin: 0, skip },
);

const interfaces = () => run('ip', '-o', 'link', 'show');
const memory = new Memory(new ArrayBuffer(1 << 18));

/** Receives once a packet matches, waiting by arm; fails after two seconds. */
async function await1(
  port: TapPort | TunPort,
  rx: Batch,
  match: (off: number, len: number) => boolean,
): Promise<number> {
  for (let i = 0; i < 50; i++) {
    rx.off[0] = 100_000;
    rx.cap[0] = 3000;
    if (port.receive(rx, 1, 0) === 1 && match(rx.off[0], rx.len[0]!)) return rx.len[0]!;
    if (rx.count === 0) {
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, 200);
        port.arm(() => {
          clearTimeout(timer);
          resolve();
        });
      });
      port.disarm();
    }
  }
  return assert.fail('no such packet came');
}

test('tun: a datagram to and from a kernel socket', { skip }, async () => {
  const port = new TunPort({ interface: 'nke0', addresses: ['10.9.0.1/24'] });
  port.open(memory);
  const socket = createSocket('udp4');
  try {
    socket.bind(7000, '10.9.0.1');
    await once(socket, 'listening');
    const l4 = writeIp(memory.u8, 0, 128, '10.9.0.2', '10.9.0.1', 17);
    memory.dv.setUint16(l4, 8000);
    memory.dv.setUint16(l4 + 2, 7000);
    memory.dv.setUint16(l4 + 4, 108);
    writePayload(memory.u8, 28, 128, 77);
    repairHeaders(memory.u8, findIp(memory.u8, 0, 128, 'ip'), 128, false, false);
    const tx = new Batch(1);
    tx.count = 1;
    tx.len[0] = 128;
    assert.equal(segments(tx, 0), 1);
    const arrived = once(socket, 'message');
    assert.equal(port.transmit(tx, 0), 1);
    const [bytes, from] = await arrived;
    assert.equal(readPayload(bytes, 0, bytes.length), 77);
    assert.deepEqual([from.address, from.port], ['10.9.0.2', 8000]);
    socket.send(bytes, 8000, '10.9.0.2');
    const rx = new Batch(1);
    const len = await await1(port, rx, off => memory.u8[off + 9] === 17);
    assert.equal(len, 128);
    assert.equal(readPayload(memory.u8, 100_028, 100_128), 77);
    assert.equal(fold16(sum16(memory.u8, 100_000, 100_020, 0)), 0);
    assert.equal(copySegment(memory.u8, rx, 0, 0, memory.u8, 0, 10), 0);
  } finally {
    socket.close();
    port.close();
  }
});

test('tap: made by us, with address, MTU and hardware address; gone on close', { skip }, () => {
  const mac = Uint8Array.of(2, 1, 2, 3, 4, 5);
  const port = new TapPort({ interface: 'nke0', mtu: 9000, mac, addresses: ['10.9.0.1/24'] });
  port.open(memory);
  try {
    assert.match(interfaces(), /nke0:.*mtu 9000.*02:01:02:03:04:05/);
    assert.match(run('ip', '-o', 'address', 'show', 'dev', 'nke0'), /10\.9\.0\.1\/24/);
    assert.deepEqual([...port.capabilities.mac!], [...mac]);
    assert.equal(port.capabilities.mtu, 9000);
    assert.equal(port.persistent, false);
  } finally {
    port.close();
  }
  assert.doesNotMatch(interfaces(), /nke0/);
});

test('tap: a persistent interface is attached with the MTU that it has, and stays', { skip }, () => {
  run('ip', 'tuntap', 'add', 'dev', 'nkep', 'mode', 'tap');
  try {
    run('ip', 'link', 'set', 'nkep', 'mtu', '1234');
    const port = new TapPort({ interface: 'nkep' });
    port.open(memory);
    assert.equal(port.persistent, true);
    assert.equal(port.capabilities.mtu, 1234);
    port.close();
    assert.match(interfaces(), /nkep/);
  } finally {
    run('ip', 'link', 'del', 'nkep');
  }
});

test('tap: carrier follows the kernel side up and down, and a change wakes', { skip }, async () => {
  const port = new TapPort({ interface: 'nke0', up: false });
  const seen: boolean[] = [];
  port.onCarrier = up => seen.push(up);
  port.open(memory);
  try {
    assert.equal(port.carrier, false);
    const rx = new Batch(1);
    for (const state of ['up', 'down', 'up']) {
      const woken = new Promise<void>(resolve => port.arm(resolve));
      run('ip', 'link', 'set', 'nke0', state);
      await woken;
      rx.cap[0] = 2000;
      port.receive(rx, 1, 0);
    }
    assert.deepEqual(seen, [true, false, true]);
    run('ip', 'link', 'set', 'nke0', 'down');
    const tx = new Batch(1);
    tx.count = 1;
    tx.len[0] = 60;
    assert.equal(port.transmit(tx, 0), 1);
    assert.equal(port.counters.tx_no_carrier, 1);
    assert.equal(port.carrier, false, 'the write that failed told of it');
    run('ip', 'link', 'del', 'nke0');
    assert.equal(port.transmit(tx, 0), 1, 'taken though the interface is gone');
    assert.equal(port.receive(rx, 1, 0), 0);
  } finally {
    port.close();
  }
});

test('tap: a persistent interface is left as it was found', { skip }, () => {
  run('ip', 'tuntap', 'add', 'dev', 'nkep', 'mode', 'tap');
  try {
    run('ip', 'link', 'set', 'nkep', 'mtu', '1234', 'address', '02:00:00:00:00:77');
    run('ip', 'address', 'add', '10.9.1.1/24', 'dev', 'nkep');
    const before = () => [
      JSON.parse(run('ip', '-j', 'link', 'show', 'nkep')).map((l: Record<string, unknown>) => [
        l.mtu,
        l.address,
        (l.flags as string[]).includes('UP'),
      ]),
      JSON.parse(run('ip', '-j', '-4', 'address', 'show', 'nkep')).flatMap((l: { addr_info?: { local: string }[] }) =>
        (l.addr_info ?? []).map(a => a.local),
      ),
    ];
    const found = before();
    const port = new TapPort({
      interface: 'nkep',
      mtu: 4000,
      mac: Uint8Array.of(2, 0, 0, 0, 0, 0x78),
      addresses: ['10.9.2.1/24'],
    });
    port.open(memory);
    assert.notDeepEqual(before(), found);
    port.close();
    assert.deepEqual(before(), found);
  } finally {
    run('ip', 'link', 'del', 'nkep');
  }
});

test('tap: MTU and removal come from rtnetlink, and wake', { skip }, async () => {
  const port = new TapPort({ interface: 'nke0' });
  port.open(memory);
  const rx = new Batch(1);
  rx.cap[0] = 2000;
  const news = async (...args: string[]) => {
    while (port.receive(rx, 1, 0) > 0);
    const woken = new Promise<void>(resolve => port.arm(resolve));
    run('ip', ...args);
    await woken;
    port.receive(rx, 1, 0);
  };
  try {
    await news('link', 'set', 'nke0', 'mtu', '1300');
    for (let i = 0; i < 50 && port.counters.mtu_changes === 0; i++) await news('link', 'set', 'nke0', 'alias', `a${i}`);
    assert.equal(port.capabilities.mtu, 1300);
    assert.equal(port.removed, false);
    await news('link', 'del', 'nke0');
    for (let i = 0; i < 200 && !port.removed; i++) port.receive(rx, 1, 0);
    assert.equal(port.removed, true);
    assert.equal(port.carrier, false);
    assert.equal(port.counters.removed, 1);
  } finally {
    port.close();
  }
});

test('tap: several queues, a flow keeps to one', { skip }, async () => {
  const port = new TapPort({ interface: 'nke0', queues: 4, addresses: ['10.9.0.1/24'] });
  port.open(memory);
  const socket = createSocket('udp4');
  const got = new Map<number, number[]>();
  socket.on('message', (bytes, from) =>
    got.set(from.port, [...(got.get(from.port) ?? []), readPayload(bytes, 0, bytes.length)]),
  );
  try {
    socket.bind(7000, '10.9.0.1');
    await once(socket, 'listening');
    const tx = new Batch(256);
    let at = 0;
    for (let seed = 0; seed < 10; seed++) {
      for (let flow = 0; flow < 16; flow++) {
        memory.u8.set([...port.capabilities.mac!, ...MAC_B, 8, 0], at);
        const l4 = writeIp(memory.u8, at + 14, at + 114, '10.9.0.2', '10.9.0.1', 17);
        memory.dv.setUint16(l4, 8000 + flow);
        memory.dv.setUint16(l4 + 2, 7000);
        writePayload(memory.u8, l4 + 8, at + 114, seed);
        repairHeaders(memory.u8, at + 14, at + 114, false, false);
        tx.off[tx.count] = at;
        tx.len[tx.count++] = 114;
        at += 128;
      }
    }
    assert.equal(port.transmit(tx, 0), 160);
    for (let i = 0; i < 200 && [...got.values()].flat().length < 160; i++)
      await new Promise(resolve => setTimeout(resolve, 5));
    assert.equal(got.size, 16);
    for (const seeds of got.values()) assert.deepEqual(seeds, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    // And back: whichever queue the kernel takes, it arrives.
    const back = new Set<number>();
    run('ip', 'neighbour', 'add', '10.9.0.2', 'lladdr', '02:00:00:00:00:b1', 'dev', 'nke0', 'nud', 'permanent');
    for (let flow = 0; flow < 16; flow++) socket.send(Uint8Array.of(1), 8000 + flow, '10.9.0.2');
    const rx = new Batch(1);
    for (let i = 0; i < 16; i++) {
      await await1(
        port,
        rx,
        off => memory.u8[off + 12] === 8 && memory.u8[off + 13] === 0 && memory.u8[off + 23] === 17,
      );
      back.add(memory.dv.getUint16(100_036));
    }
    assert.equal(back.size, 16);
    assert.ok(port.counters.rx_partial >= 16, 'the kernel left the checksums to us');
    assert.equal(rx.flags[0], BATCH_L3_TRUSTED);
  } finally {
    socket.close();
    port.close();
  }
});

test('tap: without a header the kernel fills in checksums itself', { skip }, async () => {
  const port = new TapPort({ interface: 'nke0', vnetHeader: false, addresses: ['10.9.0.1/24'] });
  port.open(memory);
  const socket = createSocket('udp4');
  try {
    run('ip', 'neighbour', 'add', '10.9.0.2', 'lladdr', '02:00:00:00:00:b1', 'dev', 'nke0', 'nud', 'permanent');
    socket.send(Uint8Array.of(1, 2, 3), 8000, '10.9.0.2');
    const rx = new Batch(1);
    const isUdp = (off: number) => memory.u8[off + 12] === 8 && memory.u8[off + 13] === 0 && memory.u8[off + 23] === 17;
    const len = await await1(port, rx, isUdp);
    const before = memory.u8.slice(100_000, 100_000 + len);
    repairHeaders(memory.u8, 100_014, 100_000 + len, false, false);
    assert.deepEqual(memory.u8.slice(100_000, 100_000 + len), before);
    assert.equal(port.counters.rx_partial, 0);
  } finally {
    socket.close();
    port.close();
  }
});

test('tap: queues that a persistent interface has or has not', { skip }, () => {
  run('ip', 'tuntap', 'add', 'dev', 'nkep', 'mode', 'tap');
  run('ip', 'tuntap', 'add', 'dev', 'nkem', 'mode', 'tap', 'multi_queue');
  try {
    assert.throws(
      () => new TapPort({ interface: 'nkep', queues: 2 }).open(memory),
      (e: unknown) => e instanceof PortError && /it has fewer queues.*multi_queue/.test(e.message),
    );
    for (const queues of [1, 3]) {
      const port = new TapPort({ interface: 'nkem', queues });
      port.open(memory);
      port.close();
    }
    assert.throws(() => new TapPort({ interface: 'nkem', queues: 17 }), /give 1 to 16/);
  } finally {
    run('ip', 'link', 'del', 'nkep');
    run('ip', 'link', 'del', 'nkem');
  }
});

test('tap: the kernel side in another namespace; we stay in ours', { skip }, () => {
  const there = makeNamespace('b');
  const port = new TapPort({ interface: 'nke0', netns: there, addresses: ['10.9.0.1/24'] });
  port.open(memory);
  try {
    assert.doesNotMatch(interfaces(), /nke0/);
    assert.match(run('ip', '-n', there.slice('/run/netns/'.length), '-o', 'link', 'show'), /nke0.*UP/);
    assert.equal(port.carrier, true);
  } finally {
    port.close();
  }
});

test('tap and tun: errors say what to do, and leave nothing behind', { skip }, () => {
  const code = (want: string, text: RegExp) => (e: unknown) =>
    e instanceof PortError && e.code === want && text.test(e.message);
  const first = new TapPort({ interface: 'nke0' });
  first.open(memory);
  try {
    assert.throws(() => new TapPort({ interface: 'nke0' }).open(memory), code('EBUSY', /choose another name/));
    assert.throws(() => new TunPort({ interface: 'nke0' }).open(memory), code('EINVAL', /of another kind/));
    assert.throws(() => new TapPort({ interface: 'lo' }).open(memory), code('EINVAL', /of another kind/));
    assert.throws(
      () => new TapPort({ interface: 'nke1', netns: '/run/netns/none' }).open(memory),
      code('ENOENT', /no network namespace/),
    );
    assert.throws(
      () => new TapPort({ interface: 'nke1', mtu: 10 }).open(memory),
      code('EINVAL', /MTU 10 is not taken/),
    );
    assert.throws(
      () => new TapPort({ interface: 'nke1', addresses: ['10.0.0.1'] }).open(memory),
      code('EINVAL', /prefix length/),
    );
    assert.doesNotMatch(interfaces(), /nke1/);
  } finally {
    first.close();
  }
});

test('tap and raw: without privilege the error names it', { skip }, t => {
  const here = (file: string) => fileURLToPath(new URL(file, import.meta.url));
  const script = `
    import { TapPort } from ${JSON.stringify(here('./tap.js'))};
    import { RawPort } from ${JSON.stringify(here('./raw.js'))};
    import { Memory } from ${JSON.stringify(here('./port.js'))};
    for (const port of [new TapPort({ interface: 'nke9' }), new RawPort({ address: '127.0.0.1' })]) {
      try { port.open(new Memory(new ArrayBuffer(8))); } catch (e) { console.log(e.code, e.message); }
    }`;
  const r = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    uid: 65534,
    gid: 65534,
    cwd: '/',
    encoding: 'utf8',
  });
  if (/EACCES|ERR_MODULE_NOT_FOUND/.test(r.stderr)) return t.skip('the checkout cannot be read by another user');
  assert.match(r.stdout, /^(EPERM|EACCES) cannot open tap:nke9: it needs root or CAP_NET_ADMIN/m);
  if (!/ENOPACKAGE/.test(r.stdout)) assert.match(r.stdout, /^EPERM cannot open raw:127.0.0.1: raw sockets need root/m);
});
