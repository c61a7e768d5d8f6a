import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Memory } from '../nic/ports/port.js';
import { LINK_REASONS } from '../nic/registers.js';
import { DROP_ADDRESS, MAC_TABLE_MAX, PASS, PASS_BROADCAST, PASS_MULTICAST, ReceiveFilter } from './filters.js';
import { Link, linkReason, linkState } from './link.js';
import { type CoalescingTimer, Moderation } from './moderation.js';
import { NanoCoalescingTimer } from './nano-timer.js';
import { isMagicPacket, POWER_STATES, powerTransition } from './power.js';

test('link: up needs all of boot, D0, cable and carrier; the first that lacks is the reason', () => {
  const all = { booted: true, d0: true, cableOut: false, carrier: true };
  assert.equal(linkState(all).kind, 'up');
  const reason = (i: Partial<typeof all>) => {
    const s = linkState({ ...all, ...i });
    return s.kind === 'down' ? s.reason : s.kind;
  };
  assert.equal(reason({ carrier: false }), 'no-carrier');
  assert.equal(reason({ carrier: false, cableOut: true }), 'pulled');
  assert.equal(reason({ cableOut: true, d0: false }), 'power');
  assert.equal(reason({ d0: false, booted: false }), 'reset');
  for (const i of [{}, { carrier: false }, { cableOut: true }, { d0: false }, { booted: false }])
    assert.ok(LINK_REASONS[linkReason(linkState({ ...all, ...i }))]);
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
