import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Memory } from '../nic/ports/port.js';
import { LINK_REASONS, LINK_SPEEDS_ALL, RegisterFile, SPEED_UNKNOWN } from '../nic/registers.js';
import { DROP_ADDRESS, MAC_TABLE_MAX, PASS, PASS_BROADCAST, PASS_MULTICAST, ReceiveFilter } from './filters.js';
import { commonSpeed, Link, type LinkInputs, linkReason, obstacle } from './link.js';
import { type CoalescingTimer, Moderation } from './moderation.js';
import { NanoCoalescingTimer } from './nano-timer.js';
import { isMagicPacket, POWER_STATES, powerTransition } from './power.js';
import { Throttle, thermalState } from './thermal.js';
import { WakePatterns } from './wake.js';

test('link: up needs all of boot, D0, cable and carrier; the first that lacks is the reason', () => {
  const all = { booted: true, d0: true, cableOut: false, carrier: true };
  assert.equal(obstacle(all), undefined);
  const reason = (i: Partial<typeof all>) => obstacle({ ...all, ...i });
  assert.equal(reason({ carrier: false }), 'no-carrier');
  assert.equal(reason({ carrier: false, cableOut: true }), 'pulled');
  assert.equal(reason({ cableOut: true, d0: false }), 'power');
  assert.equal(reason({ d0: false, booted: false }), 'reset');
  const at = (i: Partial<typeof all>): Link['state'] => {
    const link = new Link(() => {});
    link.update({ ...all, ...i });
    return link.state;
  };
  for (const i of [{}, { carrier: false }, { cableOut: true }, { d0: false }, { booted: false }])
    assert.ok(LINK_REASONS[linkReason(at(i))]);
  let changes = 0;
  const link = new Link(() => changes++);
  link.update(all);
  link.update(all);
  link.update({ ...all, carrier: false });
  link.update({ ...all, cableOut: true });
  assert.equal(changes, 3);
});

test('power: the table of transitions (PCI PM 1.2 §5.4)', () => {
  const table = POWER_STATES.map(from => POWER_STATES.map(to => powerTransition(from, to) ?? '-').join(' '));
  assert.deepEqual(table, [
    'none suspend suspend suspend off',
    'resume none suspend suspend off',
    'resume - none suspend off',
    'reset - - none off',
    'boot - - - none',
  ]);
});

test('a magic packet is found anywhere in a frame, and only when whole', () => {
  const mac = [2, 1, 2, 3, 4, 5];
  for (const at of [0, 14, 60]) {
    const f = new Uint8Array(200).fill(255, 0, at + 6);
    for (let i = 0; i < 16; i++) f.set(mac, at + 6 + 6 * i);
    assert.ok(isMagicPacket(f, 0, 200, mac));
    assert.ok(!isMagicPacket(f, 0, at + 101, mac));
    f[at + 50]! ^= 1;
    assert.ok(!isMagicPacket(f, 0, 200, mac));
  }
});

test('filter: modes of §5.1.6.5.1, and a table too long lets all of its kind pass', () => {
  const memory = new Memory(new ArrayBuffer(64));
  const f = new ReceiveFilter();
  f.reset([2, 0, 0, 0, 0, 1]);
  const judge = (...dst: number[]) => {
    memory.u8.set(dst, 2);
    return f.judge(memory, 2, 60);
  };
  const mine = [2, 0, 0, 0, 0, 1];
  const other = [2, 0, 0, 0, 0, 2];
  const group = [1, 0, 94, 0, 0, 1];
  const all = [255, 255, 255, 255, 255, 255];
  assert.deepEqual(
    [judge(...mine), judge(...other), judge(...group), judge(...all)],
    [PASS, DROP_ADDRESS, DROP_ADDRESS, PASS_BROADCAST],
  );
  f.allMulticast = true;
  assert.equal(judge(...group), PASS_MULTICAST);
  f.allMulticast = false;
  f.allUnicast = true;
  assert.equal(judge(...other), PASS);
  f.allUnicast = false;
  f.noUnicast = f.noBroadcast = true;
  assert.deepEqual([judge(...mine), judge(...all)], [DROP_ADDRESS, DROP_ADDRESS]);
  f.promisc = true;
  assert.deepEqual([judge(...other), judge(...group), judge(...all)], [PASS, PASS_MULTICAST, PASS_BROADCAST]);
  f.reset(mine);
  for (let i = 0; i <= MAC_TABLE_MAX; i++) {
    assert.equal(judge(...other), DROP_ADDRESS);
    f.unicast.add(0x0200, 100 + i);
  }
  assert.equal(judge(...other), PASS);
});

test('filter: the own address is shown to those who pass its frames by themselves, as long as all of them pass', () => {
  const f = new ReceiveFilter();
  f.reset([2, 3, 4, 5, 6, 255]);
  assert.deepEqual([f.ownHi, f.ownLo >>> 0], [0x0203, 0x040506ff]);
  f.noUnicast = true;
  assert.equal(f.ownHi, -1);
  f.noUnicast = false;
  f.vlanFiltering = true;
  assert.equal(f.ownHi, -1);
  f.promisc = true;
  assert.equal(f.ownHi, 0x0203);
  f.setMac([3, 0, 0, 0, 0, 1]);
  assert.equal(f.ownHi, -1, 'a group address is judged');
});

test('moderation starts its timer only while it holds an interrupt, and stops it when that is raised', () => {
  const log: string[] = [];
  let fire = () => {};
  const timer: CoalescingTimer = {
    start: (delay, f) => {
      log.push(`start ${delay}`);
      fire = f;
    },
    cancel: () => void log.push('cancel'),
  };
  let woken = 0;
  const m = new Moderation(timer, () => woken++);
  assert.equal(m.add(1, 0), true, 'off: at once');
  m.set(50, 3);
  assert.equal(m.add(1, 100), false);
  assert.equal(m.add(1, 200), false);
  assert.equal(m.deadline, 50_100);
  assert.equal(m.add(1, 300), true, 'enough frames');
  assert.equal(m.add(1, 1000), false);
  fire();
  assert.equal(m.due(50_999), false);
  assert.equal(m.due(51_000), true);
  assert.equal(m.due(99_000), false);
  assert.equal(woken, 1);
  assert.deepEqual(log, ['start 50000', 'cancel', 'start 50000', 'cancel']);
});

test('the live timer fires once, not early; starting it anew replaces what ran; cancelled it stays silent', async () => {
  const timer = new NanoCoalescingTimer();
  const began = process.hrtime.bigint();
  let fired = 0;
  await new Promise<void>(done => {
    timer.start(100_000_000_000, () => fired++);
    timer.start(200_000, () => {
      fired++;
      done();
    });
  });
  assert.ok(process.hrtime.bigint() - began >= 200_000n);
  timer.start(100_000, () => fired++);
  timer.cancel();
  timer.cancel();
  await new Promise(done => setTimeout(done, 3));
  assert.equal(fired, 1);
});

const WELL: LinkInputs = { booted: true, d0: true, cableOut: false, carrier: true };
const SECOND = 1e9;

/** A link machine with its history, and a clock that only goes where it has to. */
function machine() {
  const told: string[] = [];
  const link = new Link(s => told.push(s.kind === 'up' ? `up ${s.speed}` : s.reason));
  const run = (from: number, to: number) => {
    let now = from;
    for (let rounds = 0; rounds < 100 && link.deadline() <= to; rounds++) {
      now = Math.max(now, link.deadline());
      link.advance(now);
    }
    link.advance(to);
  };
  return { link, told, run };
}

test('link: the best speed that both offer; none in common is a reason; an unknown medium takes any', () => {
  assert.equal(commonSpeed(LINK_SPEEDS_ALL, 10_000), 10_000);
  assert.equal(commonSpeed(0b101, 10_000), 1000);
  assert.equal(commonSpeed(LINK_SPEEDS_ALL, 3000), 2500);
  assert.equal(commonSpeed(1 << 9, 10_000), 0);
  assert.equal(commonSpeed(1, undefined), SPEED_UNKNOWN);
  const { link, told } = machine();
  link.update({ ...WELL, mediumSpeed: 1000 });
  link.update({ ...WELL, mediumSpeed: 25_000 }); // another cable while up
  link.settings.advertise = 0b11;
  link.update({ ...WELL, mediumSpeed: 25_000 });
  link.restart();
  link.settings.advertise = 0;
  link.restart();
  assert.deepEqual(told, ['up 1000', 'up 25000', 'up 100', 'no-speed']);
});

test('link: autonegotiation takes its time, begins anew with each carrier, and restarts when asked', () => {
  const { link, told, run } = machine();
  link.settings.autonegUsecs = 500_000;
  link.update({ ...WELL, mediumSpeed: 1000 });
  assert.equal(link.deadline(), 0);
  run(SECOND, 1.4 * SECOND);
  assert.deepEqual(told, ['negotiating']);
  assert.equal(link.deadline(), 1.5 * SECOND);
  link.update({ ...WELL, carrier: false });
  assert.equal(link.deadline(), Number.POSITIVE_INFINITY);
  link.update({ ...WELL, mediumSpeed: 1000 });
  run(2 * SECOND, 2.4 * SECOND);
  run(2.4 * SECOND, 2.5 * SECOND);
  assert.deepEqual(told, ['negotiating', 'no-carrier', 'negotiating', 'up 1000']);
  link.restart();
  run(3 * SECOND, 4 * SECOND);
  assert.deepEqual(told.slice(4), ['negotiating', 'up 1000']);
});

test('link: flap damping holds a flapping link down until the penalty has decayed, not for ever', () => {
  const { link, told, run } = machine();
  Object.assign(link.settings, { flapPenalty: 1000, flapSuppress: 2500, flapReuse: 750, flapHalfLifeMs: 1000 });
  link.update(WELL);
  run(0, 0);
  for (let i = 1; i <= 3; i++) {
    link.update({ ...WELL, carrier: false });
    run(i * 1000, i * 1000);
    link.update(WELL);
    run(i * 1000, i * 1000);
  }
  assert.equal(told.at(-1), 'flapping');
  assert.ok(!link.up);
  assert.ok(Math.abs(link.figure(3000) - 3000) < 5);
  // 3000 halves twice to 750: two seconds.
  const at = link.deadline();
  assert.ok(Math.abs(at - 2 * SECOND) < 0.01 * SECOND, `${at}`);
  run(3000, at - SECOND);
  assert.ok(!link.up);
  run(at - SECOND, at);
  assert.ok(link.up);
  assert.equal(link.deadline(), Number.POSITIVE_INFINITY);
  // The longest time, however high the penalty.
  link.settings.flapMaxMs = 1500;
  for (let i = 0; i < 50; i++) {
    link.update({ ...WELL, carrier: false });
    run(10 * SECOND + i, 10 * SECOND + i);
    link.update(WELL);
    run(10 * SECOND + i, 10 * SECOND + i);
  }
  assert.ok(!link.up);
  assert.ok(link.deadline() <= 11.5 * SECOND + 50);
  run(10 * SECOND + 50, 11.6 * SECOND);
  assert.ok(link.up);
  // What the operator or the host does is no flap.
  const before = told.length;
  for (let i = 0; i < 10; i++) {
    link.update({ ...WELL, d0: false });
    link.update(WELL);
    run(20 * SECOND, 20 * SECOND);
  }
  assert.ok(link.up && told.slice(before).every(t => t !== 'flapping'));
});

test('link: down while held, and the carrier gone and back: still held; damping switched off lets go', () => {
  const { link, run } = machine();
  Object.assign(link.settings, { flapPenalty: 5000 });
  link.update(WELL);
  run(0, 0);
  link.update({ ...WELL, carrier: false });
  link.update(WELL);
  run(1, 1);
  assert.deepEqual(link.state, { kind: 'down', reason: 'flapping' });
  link.update({ ...WELL, carrier: false });
  assert.deepEqual(link.state, { kind: 'down', reason: 'no-carrier' });
  run(2, 2);
  assert.ok(link.deadline() > 2);
  link.update(WELL);
  run(3, 3);
  assert.deepEqual(link.state, { kind: 'down', reason: 'flapping' });
  link.settings.flapPenalty = 0;
  link.update({ ...WELL, carrier: false });
  link.update(WELL);
  run(4, 4);
  assert.ok(link.up);
});

test('temperature: limits up, hysteresis down', () => {
  const limits = { throttle: 85_000, critical: 100_000, hysteresis: 5000 };
  let state = 0;
  const at = (celsius: number) => (state = thermalState(state, celsius * 1000, limits));
  assert.deepEqual([84, 85, 81, 80, 99, 100, 96, 95, 80, -40, 120, 20].map(at), [0, 1, 1, 0, 1, 2, 2, 1, 0, 0, 2, 0]);
});

test('throttle: so many frames a second in portions, none saved up', () => {
  const t = new Throttle();
  assert.equal(t.allow(0, 512), 512);
  t.set(1000);
  let sent = 0;
  for (let now = 0; now < SECOND; now += 1e6) {
    const n = t.allow(now, 512);
    t.used(n);
    sent += n;
  }
  assert.ok(sent >= 990 && sent <= 1010, `${sent}`);
  assert.ok(t.allow(100 * SECOND, 512) <= 10);
  t.set(1);
  assert.equal(t.allow(0, 512), 1);
  t.used(1);
  assert.ok(t.spent && t.deadline === SECOND);
});

test('wake patterns: bytes at an offset under a mask, bounded by the frame and by the slot', () => {
  const regs = new RegisterFile();
  const w = new WakePatterns();
  const load = (slot: number, offset: number, bytes: number[], mask: number) => {
    regs.set('pm_pattern_select', slot);
    regs.set('pm_pattern_control', offset | (bytes.length << 16));
    regs.set('pm_pattern_mask', mask, 0);
    regs.set('pm_pattern_mask', 0, 1);
    for (let i = 0; i < 16; i++) {
      const b = (k: number) => bytes[4 * i + k] ?? 0;
      regs.set('pm_pattern_data', (b(0) | (b(1) << 8) | (b(2) << 16) | (b(3) << 24)) >>> 0, i);
    }
    w.store(regs);
  };
  load(2, 12, [0x88, 0xb5, 1, 2, 3], 0b11011);
  load(5, 0, [9, 9], 0); // compares nothing: matches nothing
  const frame = new Uint8Array(80);
  frame.set([0x88, 0xb5, 1, 77, 3], 20 + 12);
  assert.equal(w.match(frame, 20, 60), -1); // byte 3 counts
  frame[35] = 2;
  frame[34] = 99; // byte 2 does not
  assert.equal(w.match(frame, 20, 60), 2);
  assert.equal(w.match(frame, 20, 16), -1);
  assert.equal(w.match(frame, 34, 60, 14), -1); // 12 lies in a header that this frame lacks
  load(2, 0xffff, [1], 1);
  assert.equal(w.match(frame, 20, 60), -1);
  regs.set('pm_pattern_control', 255 << 16);
  w.store(regs);
  assert.equal(regs.get('pm_pattern_control') >>> 16, 64);
  w.clear();
  w.show(regs);
  assert.equal(regs.get('pm_pattern_control'), 0);
});
