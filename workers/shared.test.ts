import assert from 'node:assert/strict';
import { test } from 'node:test';
import { STEER_WORDS } from '../stack/kern/steering.js';
import { pathsHeld, SharedSteering, sharedMemory, wipe } from './shared.js';

function two() {
  const shared = sharedMemory(2);
  const bells: number[] = [];
  const at = [0, 1].map(q => new SharedSteering(shared, q, 2, to => bells.push(to)));
  return { shared, bells, a: at[0]!, b: at[1]! };
}
const words = new Int32Array(STEER_WORDS).map((_, i) => 100 + i);

test('packets of every length arrive whole and in order, round and round the ring', () => {
  const { a, b } = two();
  const bytes = new Uint8Array(70_000).map((_, i) => (i * 7) & 255);
  let want = 0;
  let seen = 0;
  b.receive = (u8, off, len, w) => {
    assert.equal(len, want);
    assert.deepEqual(u8.slice(off, off + len), bytes.slice(5, 5 + len));
    assert.deepEqual(w, words);
    seen++;
  };
  // 131,072 bytes are passed several times over.
  for (const len of [0, 1, 3, 4, 1452, 65_535, 9000, 65_535, 65_534, 40_000, 60_000, 17]) {
    want = len;
    assert.ok(a.pass(1, bytes, 5, len, words));
    assert.equal(b.take(), 1);
  }
  assert.equal(seen, 12);
  assert.equal(b.take(), 0);
});

test('a full ring refuses, and takes again when it was read; one bell for what is there', () => {
  const { a, b, bells } = two();
  const bytes = new Uint8Array(1000);
  let n = 0;
  while (a.pass(1, bytes, 0, 1000, words)) n++;
  assert.ok(n > 100 && n * 1000 < 1 << 17, `${n}`);
  assert.deepEqual([a.counters.passed, a.counters.full], [n, 1]);
  assert.deepEqual(bells, [1]);
  b.receive = () => {};
  assert.equal(b.take(), n);
  assert.ok(a.pass(1, bytes, 0, 1000, words));
  assert.deepEqual(bells, [1, 1]);
});

test('a claim is seen by the others until it is released as often as it was made', () => {
  const { shared, a, b } = two();
  const key = 0x12345678 | 0;
  assert.equal(b.holder(key, 0), -1);
  a.claim(key);
  a.claim(key);
  assert.equal(b.holder(key, 0), 0);
  assert.equal(b.holder(key, 1), -1, 'asked already');
  assert.equal(a.holder(key, 0), -1, 'nobody else');
  a.release(key);
  assert.equal(b.holder(key, 0), 0);
  assert.equal(pathsHeld(shared, 0), 1);
  a.release(key);
  assert.equal(b.holder(key, 0), -1);
});

test('nothing is passed to a worker that has ended, and nothing of it is left for the next', () => {
  const { shared, a, b } = two();
  b.claim(9);
  assert.ok(a.pass(1, new Uint8Array(4), 0, 4, words));
  wipe(shared, 2, 1);
  assert.equal(a.pass(1, new Uint8Array(4), 0, 4, words), false);
  assert.equal(a.holder(9, 0), -1);
  const next = new SharedSteering(shared, 1, 2, () => {});
  next.receive = () => assert.fail('what waited for the dead one');
  assert.equal(next.take(), 0);
  assert.ok(a.pass(1, new Uint8Array(4), 0, 4, words));
  next.close();
  assert.equal(a.pass(1, new Uint8Array(4), 0, 4, words), false);
});

test('a frame is told to all others that run, to the same card’s port; it is no SCTP packet', () => {
  const shared = sharedMemory(3);
  const bells: number[] = [];
  const [a, b] = [0, 1, 2].map(q => new SharedSteering(shared, q, 3, to => bells.push(to)));
  wipe(shared, 3, 2);
  const heard: string[] = [];
  const [, second] = [b!.exchange(0), b!.exchange(1)];
  second!.hear = (u8, off, len) => heard.push(new TextDecoder().decode(u8.slice(off, off + len)));
  b!.receive = () => assert.fail('it is none');
  const bytes = new TextEncoder().encode('...who has it');
  a!.exchange(1).tell(bytes, 3, 10);
  assert.deepEqual(bells, [1], 'not to itself, and not to one that has ended');
  assert.equal(b!.take(), 1);
  assert.deepEqual(heard, ['who has it']);
  assert.deepEqual([a!.counters.told, a!.counters.passed], [1, 0]);
  a!.exchange(0).tell(bytes, 0, 5);
  assert.equal(b!.take(), 1, 'a card that is not open yet hears nothing');
  assert.deepEqual(heard.length, 1);
  for (let i = 0; i < 10_000; i++) a!.exchange(1).tell(bytes, 0, 10);
  assert.ok(a!.counters.full > 0, 'the way is bounded');
});
