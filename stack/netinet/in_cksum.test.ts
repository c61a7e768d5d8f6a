import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SeededRandom } from '../kern/clock.js';
import { MbufPool } from '../kern/mbuf.js';
import { InAddr } from './in.js';
import { finish, sumChain, sumPseudo, sumRange } from './in_cksum.js';
import { checksum, checksumOver, hex } from './packets.fixture.js';

describe('Internet checksum', () => {
  it('sums the example of RFC 1071 section 3', () => {
    const b = hex('0001 f203 f4f5 f6f7');
    assert.equal(sumRange(new DataView(b.buffer), 0, 8), 0xddf2);
  });
  it('is what the slow way says, for every length and alignment', () => {
    const bytes = new Uint8Array(300);
    new SeededRandom(1).fill(bytes);
    const dv = new DataView(bytes.buffer);
    for (let off = 0; off < 5; off++)
      for (let n = 0; n < 290; n++)
        assert.equal(finish(sumRange(dv, off, n)), checksum(bytes.subarray(off, off + n)), `${off}+${n}`);
  });
  it('does not overflow on a whole jumbo of ones', () => {
    const bytes = new Uint8Array(65535).fill(0xff);
    assert.equal(finish(sumRange(new DataView(bytes.buffer), 0, 65535)), checksum(bytes));
  });
  it('goes over chains cut at any place', () => {
    const pool = new MbufPool({ small: 16, cluster: 4, jumbo: 0 });
    const random = new SeededRandom(2);
    const bytes = new Uint8Array(200);
    random.fill(bytes);
    for (let round = 0; round < 200; round++) {
      let head = 0;
      let tail = 0;
      for (let at = 0; at < bytes.length; ) {
        const n = Math.min(bytes.length - at, 20 + (random.u32() % 50));
        const m = pool.fromBytes(bytes, at, n);
        if (head === 0) head = m;
        else pool.next[tail] = m;
        tail = m;
        at += n;
      }
      const skip = random.u32() % 100;
      const n = random.u32() % 101;
      assert.equal(finish(sumChain(pool, head, skip, n)), checksum(bytes.subarray(skip, skip + n)));
      pool.freem(head);
    }
  });
  it('knows both pseudo-headers', () => {
    const none = new Uint8Array(0);
    for (const [src, dst, len] of [
      ['192.0.2.1', '255.255.255.254', 0],
      ['fe80::ffff', 'ff02::1', 0],
    ] as const)
      assert.equal(finish(sumPseudo(InAddr.of(src), InAddr.of(dst), 17, len)), checksumOver(src, dst, 17, none));
    const a = InAddr.of('ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff');
    assert.equal(
      finish(sumPseudo(a, a, 17, 70000)),
      checksum(new Uint8Array([...new Uint8Array(32).fill(255), 0, 1, 0x11, 0x70, 0, 0, 0, 17])),
    );
  });
});
