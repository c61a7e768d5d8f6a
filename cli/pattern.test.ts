import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import {
  CHARGEN_PERIOD,
  Digest,
  EchoChecker,
  fillChargen,
  fillMessage,
  isChargen,
  isMessage,
  MAX_MESSAGE_BYTES,
  messageNumber,
} from './pattern.js';

test('a message is recognised byte for byte, and every change is noticed', () => {
  const buf = Buffer.alloc(2000);
  for (const size of [1, 7, 8, 9, 100, 1400]) {
    fillMessage(buf, 3, size, 12345);
    assert.ok(isMessage(buf, 3, size, 12345), String(size));
    if (size >= 8) assert.equal(messageNumber(buf, 3), 12345);
    for (const at of [0, size >> 1, size - 1]) {
      buf[3 + at]! ^= 1;
      assert.ok(!isMessage(buf, 3, size, 12345), `${size} ${at}`);
      buf[3 + at]! ^= 1;
    }
    assert.ok(size < 8 || !isMessage(buf, 3, size, 12346));
    assert.ok(size < 9 || !isMessage(buf, 3, size - 1, 12345));
  }
  const large = Buffer.alloc(MAX_MESSAGE_BYTES);
  fillMessage(large, 0, large.length, 0xffffffff);
  assert.ok(isMessage(large, 0, large.length, 0xffffffff));
});

test('ordered echoes: in order on each stream, whatever the order between streams', () => {
  const buf = Buffer.alloc(64);
  const give = (c: EchoChecker, seq: number, sid = c.streamOf(seq)) => {
    fillMessage(buf, 0, 32, seq);
    c.received(sid, buf, 0, 32);
  };
  const good = new EchoChecker(2, false);
  for (const seq of [0, 2, 1, 3, 5, 4]) give(good, seq);
  assert.equal(good.error, undefined);
  assert.deepEqual([good.messages, good.bytes], [6, 192]);
  const swapped = new EchoChecker(2, false);
  give(swapped, 2);
  assert.match(swapped.error!, /message 0 of stream 0 .* found number 2/);
  const wrongStream = new EchoChecker(2, false);
  give(wrongStream, 0, 7);
  assert.match(wrongStream.error!, /stream 7/);
});

test('unordered echoes: any order, each once, on its stream, unchanged', () => {
  const buf = Buffer.alloc(64);
  const checker = () => {
    const c = new EchoChecker(2, true);
    for (let seq = 0; seq < 4; seq++) c.sent(seq);
    return c;
  };
  const give = (c: EchoChecker, seq: number, sid = c.streamOf(seq), damage = false) => {
    fillMessage(buf, 0, 32, seq);
    if (damage) buf[20]! ^= 8;
    c.received(sid, buf, 0, 32);
  };
  const good = checker();
  for (const seq of [3, 0, 2, 1]) give(good, seq);
  assert.equal(good.error, undefined);
  give(good, 1);
  assert.match(good.error!, /message 1 came back twice/);
  const other = checker();
  give(other, 1, 0);
  assert.match(other.error!, /sent on stream 1 and came back on 0/);
  const damaged = checker();
  give(damaged, 2, 0, true);
  assert.match(damaged.error!, /message 2 .* changed/);
  give(damaged, 9);
  assert.equal(damaged.errors, 2);
});

test('the character generator is that of RFC 864', () => {
  const buf = Buffer.alloc(CHARGEN_PERIOD + 74);
  fillChargen(buf, 0, buf.length, 0);
  const lines = buf.toString('latin1').split('\r\n');
  assert.equal(lines[0], Array.from({ length: 72 }, (_, i) => String.fromCharCode(32 + i)).join(''));
  assert.equal(lines[1]![0], '!');
  assert.equal(lines[94]![0], '~');
  assert.equal(lines[95], lines[0]);
  const part = Buffer.alloc(1400);
  for (const at of [0, 1400, 7029, 2 ** 40]) {
    fillChargen(part, 0, 1400, at);
    assert.ok(isChargen(part, 0, 1400, at));
    assert.ok(!isChargen(part, 0, 1400, at + 1));
  }
});

test('a digest in pieces is the digest of the whole', () => {
  const data = Buffer.alloc(700_000);
  for (let seq = 0; seq < 500; seq++) fillMessage(data, seq * 1400, 1400, seq);
  const digest = new Digest();
  for (let seq = 0; seq < 500; seq++) digest.update(data, seq * 1400, 1400);
  assert.equal(digest.bytes, 700_000);
  assert.equal(digest.hex(), createHash('sha256').update(data).digest('hex'));
});
