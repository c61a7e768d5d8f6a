import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EAGAIN, ERRNO, EWOULDBLOCK, errnoName } from './errno.js';

describe('errno', () => {
  it('has no number twice, and FreeBSD numbers', () => {
    const numbers = Object.values(ERRNO);
    assert.equal(new Set(numbers).size, numbers.length);
    assert.equal(ERRNO.ECONNRESET, 54);
    assert.equal(EWOULDBLOCK, EAGAIN);
  });
  it('names numbers of either sign', () => {
    assert.equal(errnoName(-54), 'ECONNRESET');
    assert.equal(errnoName(40), 'EMSGSIZE');
    assert.equal(errnoName(-999), 'errno 999');
  });
});
