import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe, test } from 'node:test';
import { Clock, MSEC, SEC, SeededRandom } from '../kern/clock.js';
import { InAddr } from '../netinet/in.js';
import { type CookieFields, CookieJar } from './cookie.js';
import { init } from './packets.fixture.js';
import { defaultTunables } from './tunables.js';

const fields = (over: Partial<CookieFields> = {}): CookieFields => ({
  ecn: true,
  inStreams: 2048,
  outStreams: 10,
  myTag: 0xfffffff1,
  peerTag: 0x80000002,
  tieLocal: 0xdeadbeef,
  tiePeer: 5,
  myTsn: -7,
  lifeMs: 60_000,
  localPort: 65535,
  peerPort: 1,
  encapsPort: 9899,
  created: 5 * SEC,
  src: InAddr.of('10.0.0.2'),
  dst: InAddr.of('10.0.0.1'),
  init: init({ tag: 77 }),
  ...over,
});
function jar(over: Partial<ReturnType<typeof defaultTunables>> = {}, seed = 1): [CookieJar, Clock] {
  const clock = new Clock(5 * SEC);
  return [new CookieJar(clock, new SeededRandom(seed), { ...defaultTunables(), ...over }), clock];
}

for (const [name, over] of [
  ['IPv4', {}],
  ['IPv6', { src: InAddr.of('fd00::2'), dst: InAddr.of('fd00::1'), ecn: false, encapsPort: 0 }],
] as const)
  test(`what goes in comes out: ${name}`, () => {
    const [j] = jar();
    const f = fields(over);
    assert.deepEqual(j.open(j.make(f)), f);
  });

test('one changed bit anywhere, a cut, an addition, or another stack: not ours', () => {
  const [j] = jar();
  const c = j.make(fields());
  for (let i = 0; i < c.length; i++) {
    const bad = c.slice();
    bad[i]! ^= 1 << (i & 7);
    assert.equal(j.open(bad), undefined, `byte ${i}`);
  }
  assert.equal(j.open(c.subarray(0, c.length - 1)), undefined);
  assert.equal(j.open(Uint8Array.of(...c, 0)), undefined);
  for (const n of [0, 1, 31, 32, 111, 131]) assert.equal(j.open(new Uint8Array(n)), undefined);
  assert.equal(jar({}, 2)[0].open(c), undefined);
});

describe('two rotating secrets (§5.1.3)', () => {
  test('a cookie survives one rotation and not two', () => {
    const [j] = jar();
    const c = j.make(fields());
    j.rotate();
    assert.notEqual(j.open(c), undefined);
    const d = j.make(fields());
    j.rotate();
    assert.equal(j.open(c), undefined);
    assert.notEqual(j.open(d), undefined);
  });
  test('rotation comes with the first cookie after secret_lifetime', () => {
    const [j, clock] = jar({ secret_lifetime: 100 });
    const f = fields();
    const first = j.make(f);
    clock.now += 99 * SEC;
    assert.deepEqual(j.make(f), first);
    clock.now += SEC;
    assert.notDeepEqual(j.make(f), first);
    assert.notEqual(j.open(first), undefined);
    clock.now += 100 * SEC;
    j.make(f);
    assert.equal(j.open(first), undefined);
  });
});

test('staleness: none up to the very end of its life, then in microseconds; from the future is no cookie', () => {
  const [j, clock] = jar();
  const f = fields({ lifeMs: 1000 });
  assert.equal(j.staleness(f), 0);
  clock.now = f.created + 1000 * MSEC;
  assert.equal(j.staleness(f), 0);
  clock.now += 1;
  assert.equal(j.staleness(f), 1);
  clock.now += 2500 * 1000 - 1;
  assert.equal(j.staleness(f), 2500);
  clock.now = f.created - 1;
  assert.equal(j.staleness(f), undefined);
});

test('the signature is HMAC-SHA-256 (RFC 2104) of all that follows it, of any length', () => {
  const random = new SeededRandom(3);
  const key = new Uint8Array(32);
  random.fill(key); // as the jar does first
  const [j] = jar({}, 3);
  for (const n of [0, 500, 5000, 20]) {
    const c = j.make(fields({ init: new Uint8Array(20 + n).fill(n) }));
    const real = createHmac('sha256', key).update(c.subarray(32)).digest();
    assert.deepEqual(c.subarray(0, 32), new Uint8Array(real));
  }
});
