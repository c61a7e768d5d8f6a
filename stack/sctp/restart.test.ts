import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type AssocView, type CookieAction, resolveCookie } from './restart.js';

const assoc: AssocView = { myTag: 10, peerTag: 20, initialTsn: 100, tieLocal: 31, tiePeer: 32 };
type Tie = 'match' | 'zero' | 'differ' | 'half';
const ties: Record<Tie, { tieLocal: number; tiePeer: number }> = {
  match: { tieLocal: 31, tiePeer: 32 },
  zero: { tieLocal: 0, tiePeer: 0 },
  differ: { tieLocal: 98, tiePeer: 99 },
  half: { tieLocal: 31, tiePeer: 99 },
};

describe('table 12 (§5.2.4), every combination', () => {
  const expected = (mine: boolean, peers: boolean, tie: Tie): CookieAction => {
    if (mine) return peers ? 'duplicate' : 'collision'; // D, B: any tie-tags
    return !peers && tie === 'match' ? 'restart' : 'discard'; // A; C and everything else
  };
  for (const mine of [true, false])
    for (const peers of [true, false])
      for (const tie of Object.keys(ties) as Tie[])
        test(`local tag ${mine ? 'M' : 'X'}, peer's ${peers ? 'M' : 'X'}, tie-tags ${tie}`, () => {
          const cookie = { myTag: mine ? 10 : 11, peerTag: peers ? 20 : 21, ...ties[tie], myTsn: 100 };
          assert.equal(resolveCookie(cookie, assoc), expected(mine, peers, tie));
        });
});

test("B with the peer's tag not known yet: 0", () => {
  const c = { myTag: 10, peerTag: 20, ...ties.zero, myTsn: 100 };
  assert.equal(resolveCookie(c, { ...assoc, peerTag: 0 }), 'collision');
});
test('B and D want our initial TSN too: tag and TSN act as 64 bits', () => {
  for (const peerTag of [20, 21])
    assert.equal(resolveCookie({ myTag: 10, peerTag, ...ties.match, myTsn: 101 }, assoc), 'discard');
  // Signed or not does not matter.
  const high = { ...assoc, initialTsn: 0xfffffff0 | 0 };
  assert.equal(resolveCookie({ myTag: 10, peerTag: 20, ...ties.zero, myTsn: 0xfffffff0 }, high), 'duplicate');
});
test('A: tie-tags of 0 never match, though the association has given out none', () => {
  const c = { myTag: 11, peerTag: 21, ...ties.zero, myTsn: 1 };
  assert.equal(resolveCookie(c, { ...assoc, ...ties.zero }), 'discard');
});
