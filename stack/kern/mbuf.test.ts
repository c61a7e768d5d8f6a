import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SeededRandom } from './clock.js';
import * as mbuf from './mbuf.js';
import { CLUSTER_BYTES, HEADROOM, JUMBO_BYTES, M_NULL, MbufPool, SMALL_BYTES } from './mbuf.js';

const SIZES = { small: 8, cluster: 8, jumbo: 2 };
const NONE = { small: 0, cluster: 0, jumbo: 0 };
const bytes = (n: number, seed = 1) => {
  const out = new Uint8Array(n);
  new SeededRandom(seed).fill(out);
  return out;
};

/** A chain out of pieces. */
function chain(pool: MbufPool, ...pieces: Uint8Array[]): number {
  let head = 0;
  let tail = 0;
  let total = 0;
  for (const p of pieces) {
    const m = pool.fromBytes(p);
    total += p.length;
    if (head === 0) head = m;
    else pool.next[tail] = m;
    tail = m;
  }
  pool.pktlen[head] = total;
  return head;
}

describe('MbufPool', () => {
  it('hands out and takes back runs as it does single mbufs', () => {
    const pool = new MbufPool(SIZES);
    const list = new Int32Array(16);
    // Small ones first, clusters when those are gone; the last failure is counted once.
    assert.equal(pool.getRun(list, 10, 60), 10);
    assert.deepEqual(pool.inUse, { small: 8, cluster: 2, jumbo: 0 });
    assert.equal(new Set(list.subarray(0, 10)).size, 10);
    for (const m of list.subarray(0, 10)) {
      assert.ok(pool.isLive(m));
      assert.equal(pool.off[m], pool.base[m]! + HEADROOM);
    }
    pool.freeRun(list, 10);
    assert.deepEqual(pool.inUse, NONE);
    assert.equal(pool.getRun(list, 16, 1000, 10), 10, 'eight clusters and two jumbos');
    assert.equal(pool.failed.cluster, 1);
    pool.freeRun(list, 10);
    // A mbuf of a run is as empty as any other.
    const m = pool.getSmall();
    for (const column of [pool.len, pool.next, pool.nextpkt, pool.pktlen, pool.rcvif, pool.csum]) column[m] = 5;
    for (const column of [pool.segsz, pool.hdrlen, pool.flow]) column[m] = 5;
    pool.next[m] = M_NULL;
    pool.free(m);
    assert.equal(pool.getRun(list, 1, 60), 1);
    assert.equal(list[0], m);
    for (const column of [pool.len, pool.next, pool.nextpkt, pool.pktlen, pool.rcvif, pool.csum])
      assert.equal(column[m], 0);
    for (const column of [pool.segsz, pool.hdrlen, pool.flow]) assert.equal(column[m], 0);
    pool.free(m);
  });

  it('frees chains, mbufs of accounts and of several classes in one run, and none twice', () => {
    const pool = new MbufPool(SIZES);
    const owned = pool.getSmall();
    pool.assign(owned, 3);
    const packets = [pool.getSmall(), chain(pool, bytes(10), bytes(20)), pool.getCluster(), owned, pool.getJumbo()];
    pool.freeRun(Int32Array.from(packets), packets.length);
    assert.deepEqual(pool.inUse, NONE);
    assert.equal(pool.held[3], 0);
    assert.throws(() => pool.freeRun(Int32Array.of(owned), 1), /freed twice/);
    assert.throws(() => pool.freeRun(Int32Array.of(pool.getSmall(), owned), 2), /freed twice/);
  });

  it('gives a receive ring what it has of clusters or jumbos', () => {
    const pool = new MbufPool(SIZES);
    const list = new Int32Array(16);
    assert.equal(pool.takeRun(list, 3, true), 2);
    assert.equal(pool.failed.jumbo, 1);
    assert.equal(pool.size[list[0]!], JUMBO_BYTES);
    assert.equal(pool.takeRun(list.subarray(2), 8, false), 8);
    assert.equal(pool.failed.cluster, 0);
    assert.ok(list.subarray(0, 10).every(m => pool.isLive(m) && pool.next[m] === M_NULL));
    pool.freeRun(list, 10);
    assert.deepEqual(pool.inUse, NONE);
  });

  it('shows each column by its name and in `words`', () => {
    const pool = new MbufPool(SIZES);
    const { base, size, off, len, next, nextpkt, pktlen, rcvif, csum, segsz, hdrlen, flow } = pool;
    const columns = [base, size, off, len, next, nextpkt, pktlen, rcvif, csum, segsz, hdrlen, flow];
    const numbers = [
      mbuf.MB_BASE,
      mbuf.MB_SIZE,
      mbuf.MB_OFF,
      mbuf.MB_LEN,
      mbuf.MB_NEXT,
      mbuf.MB_NEXTPKT,
      mbuf.MB_PKTLEN,
      mbuf.MB_RCVIF,
      mbuf.MB_CSUM,
      mbuf.MB_SEGSZ,
      mbuf.MB_HDRLEN,
      mbuf.MB_FLOW,
    ];
    for (const [i, column] of columns.entries()) {
      assert.equal(column.length, pool.count + 1);
      for (const m of [1, pool.count]) {
        column[m] = 1000 + i + m;
        assert.equal(pool.words[numbers[i]! * pool.stride + m], 1000 + i + m);
      }
    }
    for (const [i, column] of columns.entries()) assert.equal(column[1], 1001 + i, 'no column lies in another');
  });

  it('lays the three classes out in one region without overlap', () => {
    const pool = new MbufPool(SIZES);
    assert.equal(pool.count, 18);
    assert.equal(pool.u8.length, MbufPool.bytes(SIZES));
    let at = 0;
    for (let m = 1; m <= pool.count; m++) {
      assert.equal(pool.base[m], at);
      at += pool.size[m]!;
    }
    assert.equal(at, pool.u8.length);
    assert.throws(() => new MbufPool(SIZES, new ArrayBuffer(10)), RangeError);
    assert.throws(() => new MbufPool(SIZES, new ArrayBuffer(1 << 20), 4), RangeError);
    const inside = new MbufPool(SIZES, new ArrayBuffer(MbufPool.bytes(SIZES) + 64), 64);
    assert.equal(inside.base[1], 64);
  });

  it('hands out each mbuf once, clean, and counts failures', () => {
    const pool = new MbufPool(SIZES);
    const got = new Set<number>();
    for (let i = 0; i < 8; i++) got.add(pool.getSmall());
    assert.equal(got.size, 8);
    assert.equal(pool.getSmall(), M_NULL);
    assert.equal(pool.failed.small, 1);
    assert.deepEqual(pool.inUse, { small: 8, cluster: 0, jumbo: 0 });
    const [m] = got;
    pool.segsz[m!] = 5;
    pool.next[m!] = 0;
    pool.free(m!);
    assert.equal(pool.isLive(m!), false);
    const again = pool.getSmall();
    assert.equal(again, m);
    assert.equal(pool.segsz[again], 0);
    assert.equal(pool.leading(again), HEADROOM);
    assert.equal(pool.trailing(again), SMALL_BYTES - HEADROOM);
    assert.throws(() => {
      pool.free(again);
      pool.free(again);
    }, /freed twice/);
    assert.throws(() => pool.free(0));
  });

  it('get takes the smallest class that fits and falls back to larger ones', () => {
    const pool = new MbufPool({ small: 1, cluster: 1, jumbo: 1 });
    const size = (m: number) => pool.size[m];
    assert.equal(size(pool.get(100)), SMALL_BYTES);
    assert.equal(size(pool.get(100)), CLUSTER_BYTES);
    assert.equal(size(pool.get(100)), JUMBO_BYTES);
    assert.equal(pool.get(100), M_NULL);
    assert.equal(pool.get(1000), M_NULL);
    assert.equal(pool.get(JUMBO_BYTES), M_NULL);
    assert.deepEqual(pool.failed, { small: 1, cluster: 1, jumbo: 1 });
  });

  it('getData: no packet header, a cluster when no small one is free, never a jumbo', () => {
    const pool = new MbufPool(SIZES);
    for (let i = 0; i < SIZES.small + SIZES.cluster; i++) {
      const m = pool.getData(100);
      assert.deepEqual([pool.off[m], pool.len[m], pool.next[m], pool.nextpkt[m]], [pool.base[m], 100, 0, 0]);
      assert.equal(pool.size[m], i < SIZES.small ? SMALL_BYTES : CLUSTER_BYTES);
    }
    assert.equal(pool.getData(100), M_NULL);
    assert.deepEqual([pool.failed.small, pool.failed.cluster], [1, 0]);
    assert.equal(pool.getData(CLUSTER_BYTES), M_NULL);
    assert.deepEqual([pool.failed.small, pool.failed.cluster], [1, 1]);
    assert.deepEqual(pool.inUse, { small: SIZES.small, cluster: SIZES.cluster, jumbo: 0 });
  });

  it('prepends in place, or with a new mbuf when there is no room', () => {
    const pool = new MbufPool(SIZES);
    const m = pool.fromBytes(bytes(10), 0, 10, 8);
    pool.segsz[m] = 4;
    pool.hdrlen[m] = 2;
    pool.flow[m] = 77;
    const same = pool.prepend(m, 8);
    assert.equal(same, m);
    assert.deepEqual([pool.pktlen[m], pool.len[m], pool.hdrlen[m]], [18, 18, 10]);
    const other = pool.prepend(m, 8);
    assert.notEqual(other, m);
    assert.deepEqual(
      [pool.pktlen[other], pool.len[other], pool.next[other], pool.hdrlen[other], pool.segsz[other], pool.flow[other]],
      [26, 8, m, 18, 4, 77],
    );
    pool.freem(other);
    assert.deepEqual(pool.inUse, NONE);
  });

  it('frees the packet when prepend finds the pool empty', () => {
    const pool = new MbufPool({ small: 1, cluster: 0, jumbo: 0 });
    const m = pool.getSmall(0);
    assert.equal(pool.prepend(m, 8), M_NULL);
    assert.deepEqual(pool.inUse, NONE);
  });

  it('cuts at the front and at the back', () => {
    const pool = new MbufPool(SIZES);
    const a = bytes(50);
    const m = chain(pool, a.subarray(0, 20), a.subarray(20, 30), a.subarray(30));
    pool.adj(m, 5);
    assert.deepEqual(pool.toBytes(m), a.slice(5));
    pool.trim(m, 100);
    assert.equal(pool.pktlen[m], 45);
    pool.trim(m, 20);
    assert.deepEqual(pool.toBytes(m), a.slice(5, 25));
    assert.deepEqual(pool.inUse, { small: 2, cluster: 0, jumbo: 0 });
    pool.trim(m, 0);
    assert.equal(pool.pktlen[m], 0);
    pool.freem(m);
    assert.deepEqual(pool.inUse, NONE);
  });

  it('shortens hdrlen of a train with its front, not below zero', () => {
    const pool = new MbufPool(SIZES);
    const m = pool.fromBytes(bytes(100));
    pool.segsz[m] = 30;
    pool.hdrlen[m] = 10;
    assert.equal(pool.segments(m), 3);
    pool.adj(m, 4);
    assert.equal(pool.hdrlen[m], 6);
    pool.adj(m, 20);
    assert.equal(pool.hdrlen[m], 0);
    assert.equal(pool.segments(m), 3);
    pool.segsz[m] = 0;
    assert.equal(pool.segments(m), 1);
    pool.freem(m);
  });

  it('pulls up a chain, keeping bytes and header', () => {
    const pool = new MbufPool(SIZES);
    const a = bytes(600);
    const m = chain(pool, a.subarray(0, 100), a.subarray(100, 101), a.subarray(101));
    pool.csum[m] = 5;
    const p = pool.pullup(m);
    assert.equal(pool.next[p], M_NULL);
    assert.equal(pool.csum[p], 5);
    assert.deepEqual(pool.toBytes(p), a);
    assert.equal(pool.pullup(p), p);
    pool.freem(p);
    assert.deepEqual(pool.inUse, NONE);
  });

  it('pullupTo: as it is, pulled up, or freed when too short', () => {
    const pool = new MbufPool(SIZES);
    const a = bytes(40);
    const m = chain(pool, a.subarray(0, 10), a.subarray(10));
    assert.equal(pool.pullupTo(m, 10), m);
    const p = pool.pullupTo(m, 11);
    assert.equal(pool.len[p], 40);
    assert.equal(pool.pullupTo(p, 41), M_NULL);
    assert.deepEqual(pool.inUse, NONE);
    const liar = pool.fromBytes(a);
    pool.pktlen[liar] = 100; // says more than it has
    assert.equal(pool.pullupTo(liar, 50), M_NULL);
    assert.deepEqual(pool.inUse, NONE);
  });

  it('copies any range of any chain', () => {
    const pool = new MbufPool(SIZES);
    const a = bytes(300);
    const m = chain(pool, a.subarray(0, 33), a.subarray(33, 34), a.subarray(34, 200), a.subarray(200));
    const to = pool.getCluster();
    for (const [skip, n] of [
      [0, 300],
      [33, 1],
      [32, 3],
      [150, 100],
      [299, 1],
      [10, 0],
    ] as const) {
      const out = new Uint8Array(n + 2);
      assert.equal(pool.copyout(m, skip, n, out, 1), n);
      assert.deepEqual(out.slice(1, n + 1), a.slice(skip, skip + n));
      assert.equal(pool.copydata(m, skip, n, pool.off[to]!), n);
      assert.deepEqual(pool.u8.slice(pool.off[to]!, pool.off[to]! + n), a.slice(skip, skip + n));
    }
    assert.equal(pool.copyout(m, 290, 50, new Uint8Array(50), 0), 10);
    pool.freem(m);
    pool.freem(to);
  });

  it('fromBytes: one mbuf while one is large enough, else a chain; nothing kept when it fails', () => {
    const pool = new MbufPool(SIZES);
    const a = bytes(9000);
    const m = pool.fromBytes(a);
    assert.equal(pool.next[m], M_NULL);
    assert.deepEqual(pool.toBytes(m), a);
    const second = pool.fromBytes(a);
    const chained = pool.fromBytes(a); // no jumbo left
    assert.notEqual(pool.next[chained], M_NULL);
    assert.deepEqual(pool.toBytes(chained), a);
    const used = pool.inUse;
    assert.equal(pool.fromBytes(a), M_NULL);
    assert.deepEqual(pool.inUse, used);
    for (const x of [m, second, chained]) pool.freem(x);
    assert.deepEqual(pool.inUse, NONE);
    const empty = pool.fromBytes(new Uint8Array());
    assert.equal(pool.pktlen[empty], 0);
    pool.freem(empty);
  });
});
