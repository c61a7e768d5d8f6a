/** The composition, in virtual time: card -> driver -> stack -> driver -> card, over cables in memory. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Appliance, type ApplianceConfig, type ApplianceError, type CardConfig, SystemRandom } from './appliance.js';
import { Simulation } from './simulation.js';
import { AsyncSocket, sockaddr, sockaddrs } from './sockets/index.js';
import { EAGAIN, EPROTONOSUPPORT } from './stack/kern/errno.js';
import { SOCK_DGRAM, SOCK_STREAM } from './stack/kern/protosw.js';
import { RecvInfo, Socket } from './stack/kern/socket.js';
import { AF_INET, InAddr, IPPROTO_SCTP, IPPROTO_UDP } from './stack/netinet/in.js';
import { type PathInfo, SCTP_GET_PATHS, SCTP_PEER_ADDR_PARAMS, SCTP_RTOINFO, SPP_HB_ENABLE } from './stack/sctp/api.js';

const card = (port: string, address: string, more: Partial<CardConfig> = {}): CardConfig => ({
  port,
  addresses: [address],
  ...more,
});
const idle = { small: 0, cluster: 0, jumbo: 0 };

/** Two appliances on one cable, their links up. */
function pair(change: Partial<CardConfig> = {}, config: Partial<ApplianceConfig> = {}) {
  const sim = new Simulation(7);
  const a = sim.create({ name: 'a', cards: [card('wire:x', '10.0.0.1/24', change)], ...config });
  const b = sim.create({ name: 'b', cards: [card('wire:x', '10.0.0.2/24')], ...config });
  assert.ok(sim.run(() => a.cards[0]!.ifp.running && b.cards[0]!.ifp.running, { rounds: 100 }));
  return { sim, a, b };
}

/** Everything closed, and every mbuf home. */
async function end(sim: Simulation): Promise<void> {
  await sim.close();
  for (const a of sim.appliances) assert.deepEqual(a.stack.pool.inUse, idle, a.name);
}

function udp(a: Appliance, address: string, port: number): Socket {
  const so = a.socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP);
  assert.ok(typeof so !== 'number');
  assert.equal(so.bind(sockaddr(address, port)), 0);
  return so;
}

const text = (so: Socket): string => {
  const buf = new Uint8Array(2048);
  const n = so.recv(buf, 0, buf.length, new RecvInfo());
  return n < 0 ? `${n}` : Buffer.from(buf.subarray(0, n)).toString();
};

test('a datagram goes through card, driver, stack, driver and card, and an answer comes back', async () => {
  const { sim, a, b } = pair();
  const x = udp(a, '10.0.0.1', 5000);
  const y = udp(b, '10.0.0.2', 6000);
  assert.equal(x.send(Buffer.from('hello'), 0, 5, undefined, sockaddr('10.0.0.2', 6000)), 5);
  assert.ok(sim.run(() => y.readable, { virtual: 1e9 }));
  assert.equal(text(y), 'hello');
  assert.equal(y.send(Buffer.from('back'), 0, 4, undefined, sockaddr('10.0.0.1', 5000)), 4);
  assert.ok(sim.run(() => x.readable, { virtual: 1e9 }));
  assert.equal(text(x), 'back');
  assert.equal(text(x), `${-EAGAIN}`);
  const c = a.counters();
  assert.ok(c['if.nke0']!.opackets! >= 2); // ARP and the datagram
  assert.equal(c['card.nke0']!.tx_packets, c['if.nke0']!.opackets);
  assert.equal(c['port.nke0']!.tx_packets, c['if.nke0']!.opackets);
  await end(sim);
});

test('the same seed gives the same run', async () => {
  const run = async () => {
    const { sim, a, b } = pair({ faults: { seed: 3, loss: 0.05, delay: 200, jitter: 300 } }, { kexts: ['SCTP'] });
    const result = await transfer(sim, a, b, 300);
    const { now } = sim.clock;
    const counters = JSON.stringify([a.counters(), b.counters()]);
    await end(sim);
    return { result, now, counters };
  };
  assert.deepEqual(await run(), await run());
});

/** Sends `count` messages from a to b and shuts down. Gives the bytes received. */
async function transfer(sim: Simulation, a: Appliance, b: Appliance, count: number): Promise<number> {
  const listener = AsyncSocket.create(b);
  listener.bind(sockaddr('10.0.0.2', 7));
  listener.listen();
  const socket = AsyncSocket.create(a);
  let received = 0;
  let done = false;
  const receiving = (async () => {
    const s = await listener.accept();
    const buf = Buffer.alloc(65536);
    for (;;) {
      const n = s.tryRecvInto(buf);
      if (n === 0) break;
      if (n < 0) await s.readable();
      else received += n;
    }
    s.close();
  })();
  const sending = (async () => {
    await socket.connect(sockaddr('10.0.0.2', 7));
    const buf = Buffer.alloc(1400, 0x5a);
    for (let i = 0; i < count; i++) while (!socket.trySend(buf)) await socket.drained();
    socket.shutdown();
    assert.equal(await socket.recvInto(buf), 0);
    socket.close();
  })();
  const all = Promise.all([receiving, sending]).finally(() => {
    done = true;
  });
  all.catch(() => {});
  assert.ok(await sim.runAsync(() => done, { virtual: 600e9 }), 'the transfer did not end');
  await all;
  listener.close();
  assert.ok(
    await sim.runAsync(() => a.sctp()!.references().length + b.sctp()!.references().length === 0, { virtual: 60e9 }),
  );
  return received;
}

test('SCTP over a cable, single packets and trains, ends with nothing left behind', async () => {
  for (const train of [0, 65535]) {
    const sim = new Simulation(1);
    const a = sim.create({ cards: [card('wire:x', '10.0.0.1/24')], kexts: ['SCTP'] }, { wire: { train } });
    const b = sim.create({ cards: [card('wire:x', '10.0.0.2/24')], kexts: ['SCTP'] }, { wire: { train } });
    sim.run(() => a.cards[0]!.ifp.running && b.cards[0]!.ifp.running, { rounds: 100 });
    assert.equal(await transfer(sim, a, b, 1000), 1_400_000);
    assert.equal(a.counters()['card.nke0']!.tx_trains! > 0, true);
    assert.equal(b.counters()['card.nke0']!.rx_trains! > 0, train > 0);
    a.kextunload('SCTP');
    assert.equal(a.socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP), -EPROTONOSUPPORT);
    await end(sim);
  }
});

test('a bad cable: lost, doubled, reordered and damaged packets, and everything arrives once', async () => {
  const faults = { seed: 11, loss: 0.02, duplicate: 0.02, reorder: 0.05, corrupt: 0.01, delay: 500 };
  const { sim, a, b } = pair({ faults }, { kexts: ['SCTP'] });
  assert.equal(await transfer(sim, a, b, 2000), 2_800_000);
  const bad = b.counters();
  assert.ok(bad.sctp!.sctps_checksumerrors! + bad['card.nke0']!.rx_csum_sctp_bad! > 0, 'damage was counted');
  assert.ok(a.counters().sctp!.sctps_sendretransdata! > 0);
  await end(sim);
});

test('interrupt moderation holds interrupts back, in virtual time too', async () => {
  const { sim, a, b } = pair({ moderation: { usecs: 200, frames: 8 } }, { kexts: ['SCTP'] });
  assert.equal(await transfer(sim, a, b, 500), 700_000);
  assert.ok(a.counters()['card.nke0']!.interrupts_held! > 0);
  assert.equal(b.counters()['card.nke0']!.interrupts_held, 0);
  await end(sim);
});

test('pulling the cable of the first path moves the traffic to the second, and back', async () => {
  const sim = new Simulation(5);
  const make = (n: number) =>
    sim.create({ cards: [card('wire:x', `10.0.0.${n}/24`), card('wire:y', `10.0.1.${n}/24`)], kexts: ['SCTP'] });
  const a = make(1);
  const b = make(2);
  sim.run(() => [...a.cards, ...b.cards].every(c => c.ifp.running), { rounds: 100 });
  const listener = AsyncSocket.create(b);
  const socket = AsyncSocket.create(a);
  for (const s of [listener, socket]) {
    s.setsockopt(IPPROTO_SCTP, SCTP_RTOINFO, { assocId: 0, initial: 200, min: 100, max: 400 });
    s.setsockopt(IPPROTO_SCTP, SCTP_PEER_ADDR_PARAMS, {
      assocId: 0,
      hbInterval: 200,
      pathMaxRxt: 1,
      pathMtu: 0,
      flags: SPP_HB_ENABLE,
      dscp: 0,
    });
  }
  listener.bind(...sockaddrs(['10.0.0.2', '10.0.1.2'], 7));
  listener.listen();
  let up = false;
  void socket.connect(sockaddrs(['10.0.0.2', '10.0.1.2'], 7)).then(() => {
    up = true;
  });
  assert.ok(await sim.runAsync(() => up, { virtual: 10e9 }));
  const paths = () => socket.getsockopt(IPPROTO_SCTP, SCTP_GET_PATHS, 0) as PathInfo[];
  assert.ok(
    await sim.runAsync(() => paths().length === 2 && paths().every(p => p.state === 'active'), { virtual: 10e9 }),
  );
  const accepted = await listener.accept();
  const buf = Buffer.alloc(1000);
  const send = async () => {
    assert.equal(socket.trySend(buf), true);
    assert.ok(await sim.runAsync(() => accepted.so.readable, { virtual: 10e9 }), 'it never arrived');
    assert.equal(accepted.tryRecvInto(buf), 1000);
  };
  await send();
  const [first, second] = a.cards.map(c => c.ifp.counters);
  a.link('nke0', false);
  const before = { first: first!.opackets, second: second!.opackets };
  await send();
  await send();
  assert.equal(first!.opackets, before.first);
  assert.ok(second!.opackets > before.second);
  assert.ok(a.stack.events.since(0).some(e => e.kind === 'link-off' && e.ifname === 'nke0'));
  assert.ok(await sim.runAsync(() => paths().some(p => p.state === 'inactive'), { virtual: 30e9 }));
  a.link('nke0', true);
  assert.ok(await sim.runAsync(() => paths().every(p => p.state === 'active'), { virtual: 30e9 }));
  const back = first!.opackets;
  await send();
  assert.ok(first!.opackets > back);
  await end(sim);
});

test('close ends open sockets and leaves no mbuf, however much was queued', async () => {
  const { sim, a, b } = pair({}, { kexts: ['SCTP'] });
  const listener = AsyncSocket.create(b);
  listener.bind(sockaddr('10.0.0.2', 7));
  listener.listen();
  const socket = AsyncSocket.create(a);
  let up = false;
  void socket.connect(sockaddr('10.0.0.2', 7)).then(() => {
    up = true;
  });
  assert.ok(await sim.runAsync(() => up, { virtual: 10e9 }));
  while (socket.trySend(Buffer.alloc(5000)));
  sim.round();
  await end(sim);
  assert.equal(a.stack.callouts.pending + b.stack.callouts.pending, 0);
});

test('power: off and on again, sleep and wake; the interface comes back', async () => {
  const { sim, a, b } = pair();
  const { ifp } = a.cards[0]!;
  const ping = () => {
    const x = udp(a, '10.0.0.1', 0);
    const y = udp(b, '10.0.0.2', 6000);
    x.send(Buffer.from('x'), 0, 1, undefined, sockaddr('10.0.0.2', 6000));
    const ok = sim.run(() => y.readable, { virtual: 5e9 });
    x.close();
    y.close();
    return ok;
  };
  assert.ok(ping());
  for (const state of ['D1', 'D3hot', 'D3cold'] as const) {
    a.power('nke0', state);
    assert.equal(a.powerState('nke0'), state);
    sim.pass(1e6);
    assert.equal(ifp.running, false);
    assert.ok(!ping());
    assert.throws(() => a.link('nke0', false), /power it up first/);
    a.power('nke0', 'D0');
    assert.ok(
      sim.run(() => ifp.running, { virtual: 1e9 }),
      state,
    );
    assert.ok(ping(), state);
  }
  a.power('nke0', 'D3hot');
  assert.throws(() => a.power('nke0', 'D1'), /PCI PM 1\.2/);
  a.wake();
  a.sleep();
  assert.equal(a.powerState('nke0'), 'D3hot');
  a.wake();
  assert.ok(sim.run(() => ifp.running, { virtual: 1e9 }));
  const kinds = a.stack.events.since(0).map(e => e.kind);
  for (const kind of ['power', 'sleep', 'wake', 'link-off', 'link-on'] as const) assert.ok(kinds.includes(kind), kind);
  await end(sim);
});

test('up and down, as often as one likes', async () => {
  const { sim, a } = pair();
  sim.pass(1e9);
  const before = { ...a.stack.pool.inUse };
  for (let i = 0; i < 100; i++) {
    a.up('nke0', false);
    sim.round();
    a.up('nke0', true);
    assert.ok(sim.run(() => a.cards[0]!.ifp.running, { virtual: 1e9 }));
  }
  sim.pass(1e9);
  assert.deepEqual(a.stack.pool.inUse, before);
  await end(sim);
});

test('what cannot be is refused with a sentence, and nothing stays behind', async () => {
  const refused = (config: ApplianceConfig, why: RegExp) =>
    assert.throws(() => Appliance.create(config), { message: why });
  refused({ cards: [{ port: 'carrier-pigeon' }] }, /is no port; write wire:NAME/);
  refused({ cards: [card('wire:x', '300.1.1.1/8')] }, /is not ADDRESS\/PREFIX/);
  refused({ cards: [card('wire:x', '224.0.0.1/8')] }, /cannot have the address/);
  refused(
    { cards: [card('wire:x', '10.0.0.1/8'), card('wire:y', '10.0.0.1/8')] },
    /nke1 cannot have the address 10\.0\.0\.1\/8 \(EEXIST\)/,
  );
  refused({ cards: [card('wire:x', '10.0.0.1/8')], kexts: ['DCCP'] }, /there is no extension "DCCP"; there is SCTP/);
  refused(
    { cards: [card('wire:x', '10.0.0.1/8')], sysctl: { 'net.inet.nonsense': 1 } },
    /there is no sysctl net\.inet\.nonsense/,
  );
  refused(
    {
      cards: [card('wire:x', '10.0.0.1/8')],
      routes: [{ destination: '0.0.0.0/0', card: 'nke0', gateway: '192.0.2.1' }],
    },
    /gateway must be on a link/,
  );
  refused(
    { cards: [card('wire:x', '10.0.0.1/8'), card('wire:x', '10.0.0.2/8'), card('wire:x', '10.0.0.3/8')] },
    /has two ends and both are taken/,
  );
  // A port that was opened before the failure is free again.
  const udpCard = { port: 'udp:127.0.0.1:39917' };
  refused({ cards: [udpCard], kexts: ['DCCP'] }, /DCCP/);
  refused({ cards: [udpCard, { port: 'udp:127.0.0.2:39918' }] }, /share one UDP port/);
  const a = Appliance.create({ cards: [udpCard], kexts: ['SCTP'] });
  assert.equal(a.stack.sysctl.get('net.inet.sctp.udp_tunneling_port'), 39917);
  assert.ok(a.cards[0]!.ifp.has(InAddr.of('127.0.0.1')));
  assert.ok(
    !a.stack.loopback.ifp.has(InAddr.of('127.0.0.1')),
    "the machine's loopback is the medium: lo0 must not be in its way",
  );
  refused({ cards: [udpCard] }, /another program uses this port/);
  assert.throws(() => a.kextload('SCTP'), { code: 'EEXIST' });
  const so = a.socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
  assert.ok(so instanceof Socket);
  assert.throws(
    () => a.kextunload('SCTP'),
    (e: ApplianceError) => e.code === 'EBUSY' && /in use by one-to-one endpoint/.test(e.message),
  );
  so.close();
  a.kextunload('SCTP');
  assert.throws(() => a.kextunload('SCTP'), { code: 'ENOENT' });
  await a.close();
  await a.close();
  assert.deepEqual(a.stack.pool.inUse, idle);
});

test("a live appliance's clock is true when a program calls out of the blue", async () => {
  const a = Appliance.create({ cards: [card('wire:x', '10.0.0.1/24')] });
  try {
    await new Promise(resolve => setTimeout(resolve, 30));
    const before = performance.now() * 1e6;
    assert.ok(a.clock.now >= before, 'asleep, yet the clock stood still');
  } finally {
    await a.close();
  }
});

test('random numbers of the system do not repeat and are spread', () => {
  const random = new SystemRandom();
  const seen = new Set<number>();
  let ones = 0;
  for (let i = 0; i < 5000; i++) {
    const x = random.u32();
    seen.add(x);
    for (let b = 0; b < 32; b++) ones += (x >>> b) & 1;
  }
  assert.ok(seen.size > 4990);
  assert.ok(Math.abs(ones / 5000 - 16) < 0.5);
  for (const n of [1, 5, 64, 65, 5000]) {
    const out = new Uint8Array(n + 2);
    random.fill(out.subarray(1, n + 1));
    assert.equal(out[0]! + out[n + 1]!, 0);
    assert.ok(n < 5 || out.some(x => x !== 0));
  }
});
