import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteWriter, cause, errorChunk } from './wire.js';

/** Length field, then bytes in all. */
const lengths = (b: Uint8Array) => [(b[2]! << 8) | b[3]!, b.length];

test("a chunk's length counts the padding between its parameters, not that of the last one (§3.2)", () => {
  const param = (n: number) => (w: ByteWriter) => w.tlv(0xc001, p => p.bytes(new Uint8Array(n)));
  for (const [sizes, length] of [
    [[], 4],
    [[4], 12],
    [[1], 9],
    [[2, 3], 4 + 8 + 7],
    [[3, 4], 4 + 8 + 8],
  ] as const) {
    const chunk = new ByteWriter()
      .chunk(1, 0, w => {
        for (const n of sizes) param(n)(w);
      })
      .take();
    assert.deepEqual(lengths(chunk), [length, (length + 3) & ~3], `${sizes}`);
  }
  // What follows the parameter is counted, and its padding with it.
  const chunk = new ByteWriter().chunk(1, 0, w => param(1)(w).u32(7)).take();
  assert.deepEqual(lengths(chunk), [16, 16]);
});

test('the same of the causes in an ABORT or ERROR, which come padded', () => {
  const causes = [1, 2, 5].map(n => cause(6, new Uint8Array(n)));
  assert.deepEqual(lengths(errorChunk(9, 0, causes.slice(0, 1))), [9, 12]);
  assert.deepEqual(lengths(errorChunk(9, 0, causes)), [4 + 8 + 8 + 9, 32]);
  assert.deepEqual(lengths(errorChunk(6, 0, [])), [4, 4]);
  assert.deepEqual(lengths(errorChunk(6, 0, [cause(13)])), [8, 8]);
});

test('writers that share buffers do not share bytes: one inside another, one after another, a large one', () => {
  const one = new ByteWriter().u32(1);
  const two = new ByteWriter().u32(2);
  const taken = one.take();
  const three = new ByteWriter().u32(3).bytes(new Uint8Array(5000).fill(9));
  assert.deepEqual([...two.take()], [0, 0, 0, 2]);
  assert.deepEqual([...new ByteWriter().u8(7).take()], [7]);
  const long = three.take();
  assert.deepEqual([long.length, long[3], long[4], long[5003]], [5004, 3, 9, 9]);
  assert.deepEqual([...taken], [0, 0, 0, 1]);
});
