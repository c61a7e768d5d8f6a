import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Associations, Mapping } from './mapping.js';

/** Associations by tag, set by the test. */
function world(): { readonly up: Map<number, { opening?: boolean; peer?: number }>; readonly m: Mapping } {
  const up = new Map<number, { opening?: boolean; peer?: number }>();
  const stack: Associations = {
    alive: t => up.has(t),
    opening: t => up.get(t)?.opening === true,
    peerTag: t => up.get(t)?.peer,
  };
  return { up, m: new Mapping(stack) };
}
const COOKIE = Uint8Array.of(1, 2, 3);

describe('numbers', () => {
  test('labels move by the difference, modulo 2^32', () => {
    const { m } = world();
    const b = m.sentInit(0xfffffff0, 0xffffffff, true);
    m.label(b, 1, 1);
    m.matchedInit(b, true, undefined);
    assert.deepEqual(
      [b.tsnToScript(0xffffffff), b.tsnToScript(0), b.tsnToLive(2), b.tsnToLive(0)],
      [1, 2, 0, 0xfffffffe],
    );
    assert.deepEqual([b.tagToScript(0xfffffff0), b.tagToLive(1)], [1, 0xfffffff0]);
    // "Base - 1" goes below zero and back.
    assert.equal(b.tsnToScript(b.tsnToLive(0xffffffff)), 0xffffffff);
  });
  test('the same INIT again keeps its labels', () => {
    const { m } = world();
    const b = m.sentInit(77, 88, true);
    m.label(b, 1, 2);
    assert.equal(m.sentInit(77, 88, true), b);
    m.label(b, 9, 9);
    assert.deepEqual([b.tag, b.tsn], [1, 2]);
  });
});

describe('verification tags', () => {
  const { m } = world();
  test('before any handshake a written tag is literal', () => {
    assert.deepEqual(
      [m.verificationTag(undefined, 4242, false, false), m.verificationTag(undefined, undefined, false, true)],
      [4242, 0],
    );
  });
  const b = m.sentInit(1000, 5, false);
  m.label(b, 22, 1);
  m.matchedInit(b, false, COOKIE);
  test('right, wrong by as much as written, 0, and never 0 by accident', () => {
    const tag = (n: number | undefined, reflected = false) => m.verificationTag(b, n, reflected, false);
    assert.deepEqual([tag(undefined), tag(22), tag(23), tag(21), tag(0)], [1000, 1000, 1001, 999, 0]);
    assert.equal(tag((22 - 1000) >>> 0), 1);
    m.peerInit(600, false);
    assert.deepEqual([tag(undefined, true), tag(601, true)], [600, 601]);
  });
});

describe('a base per cookie', () => {
  test('an INIT ACK for an association that is up waits for its cookie', () => {
    const { m, up } = world();
    m.peerInit(11, false);
    const first = m.sentInit(1000, 5, false);
    m.label(first, 22, 500);
    m.matchedInit(first, false, COOKIE);
    assert.equal(m.current, first);
    up.set(1000, { peer: 11 });
    m.cookieGiven();

    m.peerInit(33, false);
    const second = m.sentInit(2000, 6, false);
    m.label(second, 44, 900);
    m.matchedInit(second, false, Uint8Array.of(9));
    assert.equal(m.current, first);
    assert.deepEqual([m.forPacket(false), m.forPacket(true)], [first, second]);
    assert.equal(m.peerTagNow(), 11);
    m.cookieGiven(); // refused: no association has the tag
    assert.equal(m.current, first);
    up.delete(1000);
    up.set(2000, { peer: 33 });
    m.cookieGiven();
    assert.equal(m.current, second);
    assert.equal(m.peerTagNow(), 33);
  });
  test('in a collision the INIT ACK must repeat the numbers of the INIT', () => {
    const { m, up } = world();
    const own = m.sentInit(1000, 5, true);
    m.label(own, 1, 1);
    m.matchedInit(own, true, undefined);
    up.set(1000, { opening: true });
    assert.equal(m.sentInit(1000, 5, false), own);
    const other = m.sentInit(2000, 5, false);
    m.label(other, 1, 1);
    assert.notEqual(other.tagToScript(2000), 1);
  });
});
