import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Clock } from './clock.js';
import { EventBus } from './event.js';

describe('EventBus', () => {
  it('stamps events and tells subscribers in order', () => {
    const clock = new Clock(100);
    const bus = new EventBus(clock);
    const seen: string[] = [];
    bus.subscribe(e => seen.push(`1:${e.kind}:${e.at}:${e.serial}`));
    const off = bus.subscribe(e => seen.push(`2:${e.kind}`));
    bus.emit({ kind: 'if-up', ifname: 'nke0' });
    off();
    clock.now = 200;
    bus.emit({ kind: 'if-down', ifname: 'nke0' });
    assert.deepEqual(seen, ['1:if-up:100:1', '2:if-up', '1:if-down:200:2']);
    assert.equal(bus.subscribers, 1);
  });
  it('keeps the last ones only', () => {
    const bus = new EventBus(new Clock(), 3);
    for (let i = 0; i < 10; i++) bus.emit({ kind: 'mtu', ifname: 'nke0', mtu: i });
    assert.deepEqual(
      bus.since(0).map(e => e.serial),
      [8, 9, 10],
    );
    assert.deepEqual(
      bus.since(9).map(e => e.serial),
      [10],
    );
  });
  it('lets a subscriber unsubscribe from inside', () => {
    const bus = new EventBus(new Clock());
    let n = 0;
    const off = bus.subscribe(() => {
      n++;
      off();
    });
    bus.emit({ kind: 'wake', reason: 'test' });
    bus.emit({ kind: 'wake', reason: 'test' });
    assert.equal(n, 1);
  });
});
