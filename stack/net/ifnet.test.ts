import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InAddr } from '../netinet/in.js';
import { IFF_RUNNING, IFF_UP, Ifnet } from './ifnet.js';

describe('Ifnet', () => {
  it('is running with flags and link only', () => {
    const i = new Ifnet('x0', new Uint8Array(6), 1500, 0);
    for (const [flags, link, running] of [
      [IFF_UP | IFF_RUNNING, true, true],
      [IFF_UP, true, false],
      [IFF_RUNNING, true, false],
      [IFF_UP | IFF_RUNNING, false, false],
    ] as const) {
      i.flags = flags;
      i.link = link;
      assert.equal(i.running, running);
    }
  });
  it('knows its addresses, and throws before it is attached', () => {
    const i = new Ifnet('x0', new Uint8Array(6), 1500, 0);
    i.addresses.push({ addr: InAddr.of('10.0.0.1'), prefix: 24 });
    assert.ok(i.has(InAddr.of('10.0.0.1')));
    assert.ok(!i.has(InAddr.of('::ffff:10.0.0.1')));
    assert.throws(() => i.input(1), /not attached/);
  });
});
