import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Memory } from '../nic/ports/port.js';
import { READABLE, VirtqDevice, WRITABLE } from '../nic/virtq-device.js';
import { DESC_F_WRITE } from '../nic/virtqueue.js';
import { VirtqDriver } from './virtq-driver.js';

const SIZE = 8;

/** Both sides of one queue, and a way to write into its used ring what no device would. */
function queue() {
  const memory = new Memory(new ArrayBuffer(1 << 16));
  const driver = new VirtqDriver(memory.buffer, 0, SIZE, false);
  const device = new VirtqDevice(memory, 64);
  assert.equal(device.configure(SIZE, driver.desc, driver.avail, driver.used), '');
  let idx = 0;
  const use = (id: number, len: number) => {
    memory.dv.setUint32(driver.used + 4 + (idx % SIZE) * 8, id, true);
    memory.dv.setUint32(driver.used + 8 + (idx % SIZE) * 8, len, true);
    memory.dv.setUint16(driver.used + 2, ++idx & 0xffff, true);
  };
  return { memory, driver, device, use };
}
const out = new Int32Array(2 * SIZE);
const owners = out.subarray(0, SIZE);
const lens = out.subarray(SIZE);

test('buffers made available in a run come with their owners columns, and go back to their owners', () => {
  const { driver, device } = queue();
  // Owners 3, 5, 4: column 0 is where each begins, column 16 how long it is.
  const words = new Int32Array(32);
  words.set([1000, 2000, 3000], 3);
  words.set([100, 200, 300], 16 + 3);
  driver.addRun(Int32Array.of(9, 3, 5, 4), 1, 3, words, 0, 10, 16, -20, DESC_F_WRITE);
  assert.equal(driver.free, SIZE - 3);
  assert.equal(device.pop(8, WRITABLE), 0, 'not seen before publish');
  assert.equal(driver.publish(), true);
  assert.equal(device.pop(8, WRITABLE), 3);
  assert.deepEqual([...device.segAddr.subarray(0, 3)], [1010, 3010, 2010]);
  assert.deepEqual([...device.segLen.subarray(0, 3)], [80, 280, 180]);
  for (const i of [2, 0, 1]) device.push(device.head[i]!, 40 + i);
  device.publish();
  assert.equal(driver.news, true);
  assert.equal(driver.takeRun(driver.pending(), out), 3);
  assert.deepEqual([...owners.subarray(0, 3)], [4, 3, 5]);
  assert.deepEqual([...lens.subarray(0, 3)], [42, 40, 41]);
  assert.equal(driver.free, SIZE);
  assert.equal(driver.news, false);
});

test('a run of used elements: chains free all their descriptors, nonsense is counted and left out', () => {
  const { driver, device, use } = queue();
  const words = Int32Array.of(0, 4096, 8192, 0, 64, 64);
  driver.addRun(Int32Array.of(1), 0, 1, words, 0, 0, 3, 0, 0);
  const head = driver.take1(500, 12, 0);
  const middle = driver.take1(600, 20, 0);
  const tail = driver.take1(700, 30, 0);
  driver.link(head, middle);
  driver.link(middle, tail);
  driver.offer(head);
  driver.own(head, 7);
  driver.addRun(Int32Array.of(2), 0, 1, words, 0, 0, 3, 0, 0);
  driver.publish();
  assert.equal(device.pop(8, READABLE), 3);
  assert.deepEqual([...device.nseg.subarray(0, 3)], [1, 3, 1]);
  assert.equal(driver.free, SIZE - 5);
  const [first, , last] = [...device.head.subarray(0, 3)];
  use(SIZE, 1); // no descriptor
  use(first!, 60);
  use(first!, 61); // used twice
  use(middle, 62); // not the head of a chain
  use(head, 63);
  use(0xffffffff, 64);
  use(last!, 0xfffffff0);
  assert.equal(driver.takeRun(driver.pending(), out), 3);
  assert.deepEqual([...owners.subarray(0, 3)], [1, 7, 2]);
  assert.deepEqual([...lens.subarray(0, 3)], [60, 63, -16]);
  assert.equal(driver.badUsed, 4);
  assert.equal(driver.free, SIZE);
  // All descriptors are there once, and linked to nothing.
  const ids = new Set<number>();
  for (let i = 0; i < SIZE; i++) ids.add(driver.add(i, 1, 0));
  assert.equal(ids.size, SIZE);
  driver.publish();
  assert.equal(device.pop(SIZE, READABLE), SIZE);
  assert.ok(device.nseg.subarray(0, SIZE).every(n => n === 1));
});

test('a run goes on over the end of the rings and over 65536', () => {
  const { driver, device } = queue();
  const words = Int32Array.of(0, 100, 200, 300, 400, 500, 0, 10, 10, 10, 10, 10);
  const list = Int32Array.of(1, 2, 3, 4, 5);
  const heads = new Int32Array(SIZE);
  const addr = new Int32Array(SIZE);
  const len = new Int32Array(SIZE);
  for (let i = 0; i < 14_000; i++) {
    driver.addRun(list, 0, 5, words, 0, 0, 6, 0, 0);
    driver.publish();
    assert.equal(device.popPlain(8, READABLE, 0, 0, heads, addr, len), 5);
    assert.deepEqual([...addr.subarray(0, 5)], [100, 200, 300, 400, 500]);
    device.pushFilled(heads, len, i & 7, 5);
    device.publish();
    assert.equal(driver.takeRun(driver.pending(), out), 5);
    assert.deepEqual([...owners.subarray(0, 5)], [1, 2, 3, 4, 5]);
    assert.equal(lens[4], 10 + (i & 7));
  }
});

test('what is in flight when the card is reset is disowned once', () => {
  const { driver } = queue();
  driver.addRun(Int32Array.of(2, 1), 0, 2, Int32Array.of(0, 100, 200, 0, 10, 10), 0, 0, 3, 0, 0);
  const held = () => Array.from({ length: SIZE }, (_, id) => driver.owner(id)).filter(m => m !== 0);
  assert.deepEqual(held().sort(), [1, 2]);
  const gone = Array.from({ length: SIZE }, (_, id) => driver.disown(id)).filter(m => m !== 0);
  assert.deepEqual(gone.sort(), [1, 2]);
  assert.deepEqual(held(), []);
});
