import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { native, nativeError } from './native.js';

const skip = native ? false : 'the C module is not built';

test('the module is there, or it is said why not', () => {
  assert.equal(native === undefined, nativeError !== undefined);
  if (native === undefined) assert.match(nativeError!, /run "npm run build"|NKE_NATIVE/);
});

test('native: memory is zeroed, of the size asked for, and page aligned by use', { skip }, () => {
  for (const populate of [false, true]) {
    const buffer = native!.allocate(100_001, populate);
    assert.equal(buffer.byteLength, 100_001);
    const u8 = new Uint8Array(buffer);
    assert.ok(u8.every(b => b === 0));
    u8.fill(7);
    assert.equal(u8[100_000], 7);
  }
  for (const bytes of [100_001, 5_000_001]) {
    // Large enough for huge pages or not, and whether the system gives any or not.
    const u8 = new Uint8Array(native!.allocate(bytes, false, true));
    assert.equal(u8.length, bytes);
    assert.ok(u8.every(b => b === 0));
    u8.fill(7);
    assert.equal(u8[bytes - 1], 7);
  }
  assert.throws(() => native!.allocate(0), TypeError);
  assert.throws(() => native!.allocate(-5), TypeError);
  assert.throws(() => native!.allocate(Number.NaN), TypeError);
});

test('native: the clock runs forward in nanoseconds', { skip }, () => {
  const a = native!.now();
  const b = Number(process.hrtime.bigint());
  const c = native!.now();
  assert.ok(a <= b && b <= c + 1000 && c - a < 1e9);
});

test('native: refusals are negative errnos, wrong arguments throw', { skip }, () => {
  const n = native!;
  assert.equal(n.close(-1), -9);
  assert.equal(n.udpOpen('nonsense', 0, 0, 0, 0), -22);
  assert.equal(n.udpOpen('127.0.0.1', 0, 0, 0, 0, '/nonexistent'), -2);
  assert.equal(n.pollArm(1000, 1), -9);
  assert.equal(n.pollClose(-1), -9);
  assert.throws(() => n.udpOpen('127.0.0.1', 70_000, 0, 0, 0), TypeError);
  assert.throws(() => n.tunOpen('a-name-that-is-too-long', 1, undefined, new Int32Array(4)), TypeError);
  assert.throws(() => n.tunOpen('x', 1, undefined, new Int32Array(2)), TypeError);
  assert.throws(() => n.udpSend(0, new Uint8Array(8), new Int32Array(12), 2, 0), TypeError);
  assert.throws(() => n.udpSend(0, new Uint8Array(8), new Int32Array(1000), 65, 0), TypeError);
  const fd = n.udpOpen('127.0.0.1', 0, 0, 0, 0);
  const row = Int32Array.of(4, 5, 0, 9, 0, 0, 0, 0xffff, 0x7f000001, 0, 0, 0);
  assert.equal(n.udpSend(fd, new Uint8Array(8), row, 1, 0), -14, 'an entry outside the region is EFAULT');
  assert.equal(n.readBatch(fd, new Uint8Array(8), Int32Array.of(4), Int32Array.of(5), 0, 1, new Int32Array(1)), -14);
  assert.throws(
    () =>
      n.readBatch(
        fd,
        new Uint8Array(8),
        new Int32Array(1),
        new Int32Array(1),
        0,
        1,
        new Int32Array(1),
        new Uint8Array(9),
      ),
    TypeError,
  );
  assert.throws(() => n.packetUnmap(new ArrayBuffer(4096)), TypeError, 'no other memory is ever unmapped');
  assert.throws(() => n.packetFilter(fd, new Uint8Array(9)), TypeError);
  assert.throws(() => n.packetFilter(fd, new Uint8Array(4097 * 8)), TypeError);
  assert.equal(n.packetKick(-1), -9);
  assert.equal(n.packetMap(-1, 4096), -9);
  assert.throws(() => n.netlinkSend(fd, new Uint8Array(4), 5), TypeError);
  assert.equal(n.netlinkReceive(-1, new Uint8Array(8)), -9);
  assert.equal(n.close(fd), 0);
});

test('native: a poll fires once per arm, not after disarm or close', { skip }, async () => {
  const n = native!;
  const fd = n.udpOpen('127.0.0.1', 0, 0, 0, 0);
  const events: number[] = [];
  const id = n.pollOpen(fd, e => events.push(e));
  assert.ok(id >= 0);
  const turns = async () => {
    for (let i = 0; i < 10; i++) await new Promise(resolve => setImmediate(resolve));
  };
  n.pollArm(id, 2);
  await turns();
  assert.deepEqual(events, [2]);
  n.pollArm(id, 3);
  n.pollDisarm(id);
  await turns();
  assert.deepEqual(events, [2]);
  n.pollArm(id, 3);
  n.pollClose(id);
  await turns();
  assert.deepEqual(events, [2]);
  assert.equal(n.pollArm(id, 1), -9);
  n.close(fd);
});

test('native: a worker may use it and end with a poll open', { skip }, async () => {
  const code = `
    const { workerData, parentPort } = require('node:worker_threads');
    import(workerData).then(({ native: n }) => {
      const fd = n.udpOpen('127.0.0.1', 0, 0, 0, 0);
      n.pollArm(n.pollOpen(fd, () => {}), 1);
      parentPort.postMessage(n.crc32c(new Uint8Array(32), 0, 32) >>> 0);
    });`;
  const worker = new Worker(code, { eval: true, workerData: new URL('./native.js', import.meta.url).href });
  const [sum] = await new Promise<[number]>((resolve, reject) => {
    worker.once('message', v => resolve([v]));
    worker.once('error', reject);
  });
  assert.equal(sum, 0x8a9136aa);
  assert.equal(await worker.terminate(), 1);
});
