import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Callout, CalloutWheel } from './callout.js';
import { Clock, MSEC, SEC, SeededRandom } from './clock.js';

function setUp(start = 0, tick?: number) {
  const clock = new Clock(start);
  const wheel = new CalloutWheel(clock, tick);
  const log: string[] = [];
  const make = (name: string) => new Callout(() => log.push(`${name}@${clock.now}`));
  return { clock, wheel, log, make };
}

describe('CalloutWheel', () => {
  it('calls the function with what the callout was made with', () => {
    const { clock, wheel } = setUp();
    const got: object[] = [];
    const owner = {};
    wheel.reset(
      Callout.of((x: object) => got.push(x), owner),
      MSEC,
    );
    clock.now += MSEC;
    wheel.run();
    assert.equal(got.length, 1);
    assert.equal(got[0], owner);
  });

  it('fires at the deadline, not before, and only once', () => {
    const { clock, wheel, log, make } = setUp(7 * SEC);
    const c = make('c');
    wheel.reset(c, 2.5 * MSEC);
    assert.equal(c.pending, true);
    assert.equal(c.deadline, 7 * SEC + 2.5 * MSEC);
    assert.equal(wheel.deadline(), c.deadline);
    clock.now = c.deadline - 1;
    assert.equal(wheel.run(), 0);
    clock.now += 1;
    assert.equal(wheel.run(), 1);
    assert.equal(c.pending, false);
    assert.equal(c.deadline, Number.POSITIVE_INFINITY);
    assert.equal(wheel.deadline(), Number.POSITIVE_INFINITY);
    clock.now += SEC;
    assert.equal(wheel.run(), 0);
    assert.deepEqual(log, [`c@${7 * SEC + 2.5 * MSEC}`]);
  });

  it('fires in order of deadline, then of arming', () => {
    const { clock, wheel, log, make } = setUp();
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(make);
    wheel.reset(a!, 5000);
    wheel.reset(b!, 4000);
    wheel.reset(c!, 5000);
    wheel.reset(d!, 40 * SEC);
    wheel.reset(a!, 5000); // armed again: now after c
    clock.now = 41 * SEC;
    assert.equal(wheel.run(), 4);
    assert.deepEqual(
      log.map(x => x[0]),
      ['b', 'c', 'a', 'd'],
    );
  });

  it('keeps ties in order of arming across cascades', () => {
    const { clock, wheel, log, make } = setUp();
    const at = 77 * SEC;
    const a = make('a');
    const b = make('b');
    wheel.reset(a, at); // far: a high level
    clock.now = at - 10 * MSEC;
    wheel.run();
    wheel.reset(b, 10 * MSEC); // near: level 0
    clock.now = at;
    wheel.run();
    assert.deepEqual(
      log.map(x => x[0]),
      ['a', 'b'],
    );
  });

  it('lets a callout re-arm itself, stop others, and be stopped', () => {
    const clock = new Clock();
    const wheel = new CalloutWheel(clock);
    let ticks = 0;
    const victim = new Callout(() => assert.fail('was stopped'));
    const self = new Callout(() => {
      wheel.stop(victim);
      if (++ticks < 3) wheel.reset(self, 10 * MSEC);
    });
    wheel.reset(self, 10 * MSEC);
    wheel.reset(victim, 10 * MSEC);
    for (let i = 0; i < 10; i++) {
      clock.now += 10 * MSEC;
      wheel.run();
    }
    assert.equal(ticks, 3);
    assert.equal(wheel.pending, 0);
    wheel.stop(victim); // not armed: nothing happens
  });

  it('does not hang on a callout that re-arms itself with 0', () => {
    const clock = new Clock(123);
    const wheel = new CalloutWheel(clock);
    let n = 0;
    const c = new Callout(() => {
      n++;
      wheel.reset(c, 0);
    });
    wheel.reset(c, 0);
    assert.equal(wheel.run(), 1);
    assert.equal(wheel.deadline(), 123);
    assert.equal(wheel.run(), 1);
    assert.equal(n, 2);
  });

  it('takes a negative delay as 0, Infinity as stop, and refuses NaN', () => {
    const { wheel, log, make } = setUp(5);
    const c = make('c');
    wheel.reset(c, -7);
    assert.equal(c.deadline, 5);
    wheel.reset(c, Number.POSITIVE_INFINITY);
    assert.equal(c.pending, false);
    assert.throws(() => wheel.reset(c, Number.NaN), RangeError);
    assert.equal(wheel.run(), 0);
    assert.deepEqual(log, []);
  });

  for (const tick of [1000, MSEC, 7 * MSEC]) {
    it(`does what a sorted list does, over all time scales (tick ${tick})`, () => {
      const clock = new Clock(3 * SEC + 1);
      const wheel = new CalloutWheel(clock, tick);
      const random = new SeededRandom(tick);
      const fired: number[] = [];
      const callouts = Array.from({ length: 300 }, (_, i) => new Callout(() => fired.push(i)));
      const model = new Map<number, { at: number; serial: number }>();
      let serial = 0;
      for (let step = 0; step < 6000; step++) {
        const i = random.u32() % callouts.length;
        const choice = random.u32() % 8;
        if (choice < 5) {
          const delay = Math.floor((random.u32() / 2 ** 32) * 10 ** (random.u32() % 13));
          wheel.reset(callouts[i]!, delay);
          model.set(i, { at: clock.now + delay, serial: ++serial });
        } else if (choice === 5) {
          wheel.stop(callouts[i]!);
          model.delete(i);
        } else {
          clock.now += Math.floor((random.u32() / 2 ** 32) * 10 ** (random.u32() % 12));
          const due = [...model]
            .filter(([, v]) => v.at <= clock.now)
            .sort((x, y) => x[1].at - y[1].at || x[1].serial - y[1].serial);
          fired.length = 0;
          assert.equal(wheel.run(), due.length);
          assert.deepEqual(
            fired,
            due.map(d => d[0]),
          );
          for (const [k] of due) model.delete(k);
        }
        assert.equal(wheel.pending, model.size);
        const least = Math.min(Number.POSITIVE_INFINITY, ...[...model.values()].map(v => v.at));
        const said = wheel.deadline();
        assert.ok(said <= least, `deadline ${said} must not be later than ${least}`);
        if (model.size <= 64) assert.equal(said, least);
      }
    });
  }

  it('gives a lower bound, then the exact deadline, when one far slot is crowded', () => {
    const clock = new Clock();
    const wheel = new CalloutWheel(clock);
    const many = Array.from({ length: 500 }, () => new Callout(() => {}));
    for (const [i, c] of many.entries()) wheel.reset(c, 600 * SEC + i);
    const first = new Callout(() => {});
    wheel.reset(first, 1);
    wheel.stop(first); // makes the wheel search
    let steps = 0;
    while (wheel.pending === 500) {
      assert.ok(wheel.deadline() <= 600 * SEC);
      assert.ok(wheel.deadline() > clock.now);
      clock.now = wheel.deadline();
      wheel.run();
      assert.ok(++steps < 20);
    }
    assert.equal(clock.now, 600 * SEC);
  });

  it('wants a tick', () => {
    assert.throws(() => new CalloutWheel(new Clock(), 0), RangeError);
  });
});
