/** Events of the card and of the host, from the port to data-link filters, protocols, sockets and programs, in virtual time. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Appliance, ApplianceConfig, CardConfig } from './appliance.js';
import type { WirePort } from './nic/ports/wire.js';
import { WAKE_LINK, WAKE_MAGIC, WAKE_PATTERN } from './nic/registers.js';
import { Simulation } from './simulation.js';
import { AsyncSocket, KernelEvents, sockaddr, sockaddrs } from './sockets/index.js';
import { PF_NKE } from './stack/kern/ctl.js';
import { EINVAL } from './stack/kern/errno.js';
import type { StampedEvent } from './stack/kern/event.js';
import { KEV_FILTER, MAX_EVENT_QUEUE, NKEPROTO_EVENT } from './stack/kern/kevent.js';
import { SOCK_DGRAM, SOCK_RAW } from './stack/kern/protosw.js';
import { RecvInfo, Socket } from './stack/kern/socket.js';
import { AF_INET, IPPROTO_SCTP, IPPROTO_UDP } from './stack/netinet/in.js';
import { type PathInfo, SCTP_GET_PATHS } from './stack/sctp/api.js';

const idle = { small: 0, cluster: 0, jumbo: 0 };
const HOUR = 3600e9;

function pair(change: Partial<CardConfig> = {}, config: Partial<ApplianceConfig> = {}, wires = ['x']) {
  const sim = new Simulation(7);
  const make = (n: number) =>
    sim.create({
      cards: wires.map((w, i) => ({ port: `wire:${w}`, addresses: [`10.0.${i}.${n}/24`], ...change })),
      ...config,
    });
  const a = make(1);
  const b = make(2);
  assert.ok(sim.run(() => [...a.cards, ...b.cards].every(c => c.ifp.running), { virtual: 10e9 }));
  return { sim, a, b };
}
async function end(sim: Simulation): Promise<void> {
  await sim.close();
  for (const a of sim.appliances) assert.deepEqual(a.stack.pool.inUse, idle, a.name);
}
/** The events of an appliance since the last call, in short. */
function diary(a: Appliance): () => string[] {
  let last = a.stack.events.since(0).at(-1)?.serial ?? 0;
  return () => {
    const events = a.stack.events.since(last);
    last = events.at(-1)?.serial ?? last;
    return events
      .filter(e => e.kind !== 'protocol' && e.kind !== 'address-added')
      .map(e => `${e.kind}${'reason' in e && e.reason !== '' ? `: ${e.reason}` : ''}`);
  };
}
const wireOf = (a: Appliance, i = 0): WirePort => a.cards[i]!.port as WirePort;

test('autonegotiation: the link takes its time, knows its speed, and tells of another one', async () => {
  const sim = new Simulation(1);
  const settings = { link_autoneg_usecs: 1_500_000, link_advertise: 0b11111 };
  const a = sim.create(
    { cards: [{ port: 'wire:x', addresses: ['10.0.0.1/24'], settings }] },
    { wire: { speed: 2500 } },
  );
  sim.create({ cards: [{ port: 'wire:x', addresses: ['10.0.0.2/24'] }] });
  const told = diary(a);
  sim.round();
  const start = sim.clock.now;
  assert.ok(sim.run(() => a.cards[0]!.ifp.running, { virtual: 10e9 }));
  assert.ok(sim.clock.now - start >= 1.49e9, `${sim.clock.now - start}`);
  assert.deepEqual(told(), [
    'link-reason: autonegotiation is going on',
    'link-on: carrier present, 2500 Mb/s full duplex',
  ]);
  wireOf(a).setSpeed(100);
  sim.round();
  sim.round();
  assert.deepEqual(told(), ['link-speed: it was 2500 Mb/s before']);
  a.setting('nke0', 'link_advertise', 1 << 9);
  sim.pass(2e9);
  assert.deepEqual(told(), [
    'link-off: autonegotiation is going on',
    'link-reason: card and medium have no speed in common',
  ]);
  // Settings outlive the supply.
  a.power('nke0', 'D3cold');
  a.power('nke0', 'D0');
  assert.equal(a.cards[0]!.firmware.setting('link_advertise'), 1 << 9);
  assert.throws(() => a.setting('nke0', 'flap_penalty', 1.5), /whole number/);
  await end(sim);
});

test('a flapping cable is held down, and the reason is told', async () => {
  const { sim, a, b } = pair({ settings: { flap_penalty: 1500, flap_half_life_ms: 1000 } });
  const told = diary(a);
  for (let i = 0; i < 2; i++) {
    wireOf(b).pull();
    sim.pass(1e6);
    wireOf(b).plug();
    sim.pass(1e6);
  }
  assert.equal(told().at(-1), 'link-reason: held down: flapping');
  assert.ok(!a.cards[0]!.ifp.running);
  const from = sim.clock.now;
  assert.ok(sim.run(() => a.cards[0]!.ifp.running, { virtual: 10e9 }));
  assert.ok(sim.clock.now - from > 0.9e9 && sim.clock.now - from < 1.7e9, `${sim.clock.now - from}`);
  await end(sim);
});

test('an overheated card is throttled, then without link, and recovers', async () => {
  const { sim, a, b } = pair({ settings: { thermal_rate: 1000 } });
  const told = diary(a);
  const x = a.socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP) as Socket;
  const y = b.socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP) as Socket;
  assert.equal(y.bind(sockaddr('10.0.0.2', 6000)), 0);
  const buf = new Uint8Array(100);
  let got = 0;
  y.upcall = so => {
    while (so.recv(buf, 0, 100, new RecvInfo()) >= 0) got++;
  };
  const burst = () => {
    for (let i = 0; i < 150; i++) x.send(buf, 0, 100, undefined, sockaddr('10.0.0.2', 6000));
    sim.pass(1e6);
  };
  burst(); // (the first waits for ARP, and few may)
  got = 0;
  burst();
  const cool = got;
  assert.ok(cool > 100, `${cool}`);
  got = 0;
  a.temperature('nke0', 90);
  sim.round();
  assert.deepEqual(told(), ['thermal: 90 °C: it moves 1000 frames a second at most']);
  burst();
  assert.ok(got > 0 && got <= 20, `${got} in 1 ms`);
  sim.pass(60e6);
  assert.ok(got > 40 && got <= 80, `${got} in 61 ms`);
  sim.pass(1e9);
  assert.ok(got >= 150 && a.cards[0]!.firmware.counters.throttled > 0, `${got}: throttled is not lost`);
  a.temperature('nke0', 101.5);
  sim.pass(1e6);
  assert.deepEqual(told(), ['thermal: 101.5 °C: its link is taken down', 'link-off: overheated']);
  a.temperature('nke0', 97);
  sim.pass(1e6);
  assert.deepEqual(told(), []);
  a.temperature('nke0', 40);
  sim.pass(1e6);
  assert.deepEqual(told(), ['thermal: 40 °C: it has cooled down', 'link-on: carrier present']);
  assert.throws(() => a.temperature('nke0', Number.NaN), /is no temperature/);
  await end(sim);
});

test('data-link filters, event sockets and programs get the events, each those it asked for', async () => {
  const { sim, a } = pair();
  const seen: string[] = [];
  a.stack.interfaces.attachFilter({ name: 'watch', event: (ifp, e) => void seen.push(`${ifp.name} ${e.kind}`) });
  const abort = new AbortController();
  const program = new KernelEvents(a, { kinds: ['link-off', 'sleep'], signal: abort.signal });
  const all = new KernelEvents(a, { after: 0, queue: 2 });
  assert.ok(all.dropped > 0);
  all.close();
  const so = a.socket(PF_NKE, SOCK_RAW, NKEPROTO_EVENT) as Socket;
  assert.ok(so instanceof Socket);
  for (const bad of [null, 5, { kinds: [1] }, { kinds: 'x' }, { ifname: '' }, { kinds: Array(100).fill('x') }])
    assert.equal(so.setsockopt(NKEPROTO_EVENT, KEV_FILTER, bad as never), -EINVAL);
  assert.equal(so.setsockopt(NKEPROTO_EVENT, KEV_FILTER, { kinds: ['link-off'], ifname: 'nke0' }), 0);
  let calls = 0;
  so.upcall = () => calls++;
  a.link('nke0', false);
  sim.round();
  a.sleep('test');
  a.wake('test');
  abort.abort();
  const told: StampedEvent[] = [];
  for await (const e of program) told.push(e);
  assert.deepEqual(
    told.map(e => e.kind),
    ['link-off', 'sleep'],
  );
  assert.equal(calls, 1);
  const buf = new Uint8Array(1000);
  const n = so.recv(buf, 0, 1000, new RecvInfo());
  const { event, dropped } = JSON.parse(Buffer.from(buf.subarray(0, n)).toString()) as {
    event: StampedEvent & { reason: string };
    dropped: number;
  };
  assert.equal(event.reason, 'the cable was pulled (link_control)');
  assert.equal(dropped, 0);
  for (const what of ['nke0 link-off', 'lo0 sleep', 'nke0 sleep', 'nke0 power', 'nke0 wake'])
    assert.ok(seen.includes(what), `${what}: ${seen}`);
  // A reader who does not read loses the later ones, and learns how many.
  so.setsockopt(NKEPROTO_EVENT, KEV_FILTER, {});
  for (let i = 0; i < MAX_EVENT_QUEUE + 5; i++) a.stack.events.emit({ kind: 'sleep', reason: `${i}` });
  for (let i = 0; i < MAX_EVENT_QUEUE; i++) assert.ok(so.recv(buf, 0, 1000, new RecvInfo()) > 0);
  assert.equal(so.readable, false);
  a.stack.events.emit({ kind: 'wake', reason: '' });
  assert.match(Buffer.from(buf.subarray(0, so.recv(buf, 0, 1000, new RecvInfo()))).toString(), /"dropped":5}$/);
  so.close();
  await end(sim);
});

/** An association with every path confirmed; b is the server. */
async function connected(sim: Simulation, a: Appliance, b: Appliance, port = 7) {
  const listener = AsyncSocket.create(b);
  const socket = AsyncSocket.create(a);
  const addresses = b.cards.map(c => c.ifp.addresses[0]!.addr.toString());
  listener.bind(...sockaddrs(addresses, port));
  listener.listen();
  let up = false;
  void socket.connect(sockaddrs(addresses, port)).then(() => {
    up = true;
  });
  assert.ok(await sim.runAsync(() => up, { virtual: 10e9 }));
  const paths = () => socket.getsockopt(IPPROTO_SCTP, SCTP_GET_PATHS, 0) as PathInfo[];
  assert.ok(await sim.runAsync(() => paths().every(p => p.state === 'active'), { virtual: 10e9 }));
  const accepted = await listener.accept();
  return { listener, socket, accepted, paths };
}
const sent = (a: Appliance) => a.cards.reduce((n, c) => n + c.ifp.counters.opackets, 0);
const sctp = (a: Appliance) => a.counters().sctp as Record<string, number>;

test('an hour of sleep: no timer runs, nothing dies, no burst on waking; a probe, then on it goes', async () => {
  const { sim, a, b } = pair({ faults: { seed: 1, delay: 5000 } }, { kexts: ['SCTP'] }, ['x', 'y']);
  const { listener, socket, accepted, paths } = await connected(sim, a, b);
  const buf = Buffer.alloc(1000);
  // A delayed SACK at a; data of a in flight with T3 running, and much more queued; a cookie of b's under way.
  assert.ok(accepted.trySend(buf));
  sim.pass(7e6);
  for (let i = 0; i < 200; i++) assert.ok(socket.trySend(buf));
  const second = AsyncSocket.create(a);
  let secondUp = false;
  void second.connect(sockaddr('10.0.0.2', 7)).then(() => {
    secondUp = true;
  });
  sim.pass(11e6);
  const before = { a: { ...sctp(a) }, b: { ...sctp(b) }, host: a.stack.clock.now };
  a.sleep('lid closed');
  b.sleep('lid closed');
  assert.ok(a.asleep);
  const still = { a: sent(a), b: sent(b) };
  const asked = (a.counters().arp as Record<string, number>).requests_sent;
  sim.pass(HOUR);
  assert.equal(a.stack.clock.now, before.host, 'time stood still');
  assert.deepEqual({ a: sent(a), b: sent(b) }, still, 'nothing was sent');
  a.wake();
  b.wake();
  const woken = a.stack.events.since(0).findLast(e => e.kind === 'wake') as { slept?: number };
  assert.ok(Math.abs(woken.slept! - HOUR) < 1e6);
  sim.pass(9e6); // less than a round trip
  const first = { a: sent(a) - still.a, b: sent(b) - still.b };
  // Each card announces its IPv4 and its IPv6 address; each path has its probe, its answer to the peer's and no ARP in front;
  // each association a SACK, a packet of data and, when the peer's SACK has come, one more; a cookie was under way.
  assert.ok(first.a >= 2 && first.a <= 4 + 2 * 3 + 1, `a sent ${first.a} packets in the first round trip`);
  assert.ok(first.b >= 2 && first.b <= 4 + 2 * 3 + 1, `b sent ${first.b} packets in the first round trip`);
  const arp = a.counters().arp as Record<string, number>;
  assert.equal(arp.requests_sent, asked, 'the neighbours are known still');
  const early = sctp(a).sctps_senddata! - before.a.sctps_senddata!;
  assert.ok(early > 0 && early <= 2, `${early} chunks of data`);
  assert.ok(sctp(b).sctps_recvdata! > before.b.sctps_recvdata!, 'data has come within one round trip');
  const received = { bytes: 0 };
  const take = () => {
    for (let n = accepted.tryRecvInto(buf); n > 0; n = accepted.tryRecvInto(buf)) received.bytes += n;
    return received.bytes === 200_000 && secondUp;
  };
  assert.ok(await sim.runAsync(take, { virtual: 5e9 }), `${received.bytes} bytes, second ${secondUp}`);
  for (const [x, was] of [
    [a, before.a],
    [b, before.b],
  ] as const) {
    const now = sctp(x);
    for (const name of ['sctps_aborted', 'sctps_timeoutheartbeat', 'sctps_timeoutassoc', 'sctps_pathdown'] as const)
      assert.equal(now[name] ?? 0, was[name] ?? 0, name);
    assert.ok(now.sctps_timeoutdata! - was.sctps_timeoutdata! <= 2, 'T3');
  }
  assert.ok(paths().every(p => p.state === 'active' && p.errors === 0));
  for (const s of [socket, second, accepted, listener]) s.close();
  await end(sim);
});

test('data moves within one round trip of waking: what is sent then, and what was under way', async () => {
  for (const flying of [false, true]) {
    const { sim, a, b } = pair({ faults: { seed: 1, delay: 5000 } }, { kexts: ['SCTP'] }, ['x', 'y']);
    const { listener, socket, accepted } = await connected(sim, a, b);
    const buf = Buffer.alloc(1000);
    let got = 0;
    const take = () => {
      while (accepted.tryRecvInto(buf) > 0) got++;
      return got;
    };
    for (let i = 0; i < 100; i++) assert.ok(socket.trySend(buf));
    assert.ok(await sim.runAsync(() => take() >= (flying ? 20 : 100), { virtual: 10e9 }));
    if (!flying) sim.pass(1e9);
    a.sleep('test');
    b.sleep('test');
    sim.pass(HOUR / 6);
    const before = take();
    a.wake();
    b.wake();
    const woken = sim.clock.now;
    if (!flying) assert.ok(socket.trySend(buf));
    assert.ok(await sim.runAsync(() => take() > before, { virtual: 1e9 }));
    assert.ok(sim.clock.now - woken <= 10.1e6, `${(sim.clock.now - woken) / 1e6} ms`);
    assert.ok(await sim.runAsync(() => take() === (flying ? 100 : 101), { virtual: 1e9 }), `${got}`);
    for (const s of [socket, accepted, listener]) s.close();
    await end(sim);
  }
});

test('an hour asleep while the peer is awake: its silence kills nothing here, and data goes on', async () => {
  const { sim, a, b } = pair({ faults: { seed: 1, delay: 5000 } }, { kexts: ['SCTP'] });
  const { listener, socket, accepted, paths } = await connected(sim, a, b);
  const buf = Buffer.alloc(1000);
  for (let i = 0; i < 3; i++) assert.ok(socket.trySend(buf));
  a.sleep();
  sim.pass(20e9); // the peer's SACK comes to a card that sleeps
  a.wake();
  let bytes = 0;
  const take = () => {
    for (let n = accepted.tryRecvInto(buf); n > 0; n = accepted.tryRecvInto(buf)) bytes += n;
    return bytes === 3000 && paths()[0]!.flight === 0;
  };
  assert.ok(await sim.runAsync(take, { virtual: 5e9 }));
  assert.equal(paths()[0]!.errors, 0);
  for (const s of [socket, accepted, listener]) s.close();
  await end(sim);
});

test('the card wakes the sleeping appliance: by a magic packet, a pattern, its link; and by nothing else', async () => {
  const { sim, a, b } = pair();
  const frame = (payload: Uint8Array) => {
    const so = b.socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP) as Socket;
    so.send(payload, 0, payload.length, undefined, sockaddr('10.0.0.1', 9));
    sim.pass(1e6);
    so.close();
  };
  const reason = () => (a.stack.events.since(0).findLast(e => e.kind === 'wake') as { reason: string }).reason;
  frame(Uint8Array.of(1)); // so that b knows a's hardware address
  const magic = new Uint8Array(102).fill(255, 0, 6);
  for (let i = 0; i < 16; i++) magic.set(a.cards[0]!.ifp.mac, 6 + 6 * i);
  const hello = Buffer.from('wake up');
  const patterns = [
    { offset: 42, bytes: Uint8Array.of(1, 2) },
    { offset: 42, bytes: Uint8Array.from(hello) },
  ];
  a.sleep('test', WAKE_MAGIC);
  frame(hello);
  assert.ok(a.asleep);
  frame(magic);
  assert.ok(!a.asleep);
  assert.match(reason(), /nke0: the card asks to be woken by a magic packet/);
  a.sleep('test', WAKE_PATTERN, patterns);
  frame(magic);
  assert.ok(a.asleep);
  frame(hello);
  assert.ok(!a.asleep);
  assert.match(reason(), /pattern 1$/);
  assert.ok(sim.run(() => a.cards[0]!.ifp.running, { virtual: 1e9 }));
  a.sleep('test', WAKE_LINK);
  frame(hello);
  assert.ok(a.asleep);
  wireOf(b).pull();
  sim.pass(1e6);
  assert.ok(!a.asleep);
  assert.match(reason(), /a change of its link/);
  assert.throws(() => a.sleep('test', WAKE_PATTERN, [{ offset: 0, bytes: new Uint8Array(65) }]), /1 to 64 bytes/);
  await end(sim);
});

test('own addresses come and go: sources follow, the hook for ASCONF is told', async () => {
  const { sim, a, b } = pair({}, { kexts: ['SCTP'] });
  const { listener, socket, accepted, paths } = await connected(sim, a, b);
  const { ifp } = a.cards[0]!;
  const own = ifp.addresses[0]!.addr;
  const told: string[] = [];
  a.stack.events.subscribe(e => e.kind === 'protocol' && /address|source/.test(e.what) && told.push(e.reason));
  a.stack.interfaces.removeAddress(ifp, own);
  assert.match(told.join(), /10\.0\.0\.1 is ours no more.*there is no other/);
  told.length = 0;
  assert.equal(a.stack.interfaces.addAddress(ifp, own, 24), 0);
  assert.match(told.join(), /10\.0\.0\.1 is ours now/);
  const buf = Buffer.alloc(10);
  assert.ok(socket.trySend(buf));
  assert.ok(await sim.runAsync(() => accepted.so.readable, { virtual: 5e9 }));
  assert.equal(paths()[0]!.source, '10.0.0.1');
  for (const s of [socket, accepted, listener]) s.close();
  await end(sim);
});
