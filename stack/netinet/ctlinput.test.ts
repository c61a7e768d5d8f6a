import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Clock, SEC } from '../kern/clock.js';
import { RateLimit } from './ctlinput.js';

describe('RateLimit', () => {
  it('saves up a second’s worth and no more', () => {
    const clock = new Clock();
    let rate = 3;
    const limit = new RateLimit(clock, () => rate);
    const burst = () => {
      let n = 0;
      while (n < 100 && limit.take()) n++;
      return n;
    };
    assert.equal(burst(), 3);
    clock.now += SEC / 3;
    assert.equal(burst(), 1);
    clock.now += 100 * SEC;
    assert.equal(burst(), 3);
    rate = 0;
    clock.now += SEC;
    assert.equal(burst(), 0);
  });
});
