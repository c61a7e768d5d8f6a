/** Paths (paths.ts, links.ts): failover and return, source addresses, MTU, against RFC 9260 §6.4, §8.2 and §7.3. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Socket } from '../kern/socket.js';
import { drain, SctpPair, sendInfo } from './harness.js';
import { checkInvariants } from './invariants.js';
import { setMtu } from './paths.js';

const small = { pool: { small: 512, cluster: 1024, jumbo: 8 } };

function pair(options: ConstructorParameters<typeof SctpPair>[0] = {}) {
  const p = new SctpPair({ links: 2, ...small, ...options });
  const [c, s, l] = p.connect(['peer-addr-change']);
  p.net.run(2e9);
  const sctp = p.kexts[0].sctp!;
  const a = [...sctp.associations()][0]!;
  const lose = (link: number, on: boolean) => (p.links[link]!.options = { ...p.links[link]!.options, loss: () => on });
  const end = () => {
    for (const so of [c, s, l]) so.close();
    assert.equal(p.end(), 0);
  };
  return { p, c, s, sctp, a, lose, end };
}
const say = (c: Socket, n = 1) => {
  for (let i = 0; i < n; i++) assert.equal(c.send(new Uint8Array(100), 0, 100, sendInfo()), 100);
};

test('each path has a source in its own subnet, and says why', () => {
  const { p, a, end } = pair({ links: 3 });
  assert.deepEqual(
    a.paths.map(x => `${x.source} > ${x.addr}`),
    ['10.0.0.1 > 10.0.0.2', '10.0.1.1 > 10.0.1.2', '10.0.2.1 > 10.0.2.2'],
  );
  for (const x of a.paths) assert.match(x.sourceWhy, /link up/);
  assert.equal(p.links.length, 3);
  end();
});

describe('silent loss of the primary', () => {
  test('retransmissions go to the other path at once, new data after Path.Max.Retrans errors; both return with it', () => {
    const { p, c, s, sctp, a, lose, end } = pair();
    lose(0, true);
    const begin = p.net.clock.now;
    say(c);
    p.net.run(1.2e9);
    assert.equal(drain(s).messages.length, 1, 'by way of the other path after one RTO');
    assert.equal(a.current, a.paths[0], 'one error is no failure');
    p.net.runUntil(() => {
      checkInvariants(sctp);
      if (a.outstanding === 0) say(c);
      drain(s);
      return a.paths[0]!.state === 'inactive';
    }, 300e9);
    const took = (p.net.clock.now - begin) / 1e9;
    assert.ok(took > 60 && took < 70, `1+2+4+8+16+32 s, took ${took}`);
    assert.equal(a.current, a.paths[1]);
    say(c);
    p.net.run(0.1e9);
    assert.equal(drain(s).messages.length, 1, 'new data goes over the other path without delay');
    lose(0, false);
    p.net.run(200e9);
    assert.equal(a.current, a.primary, 'a heartbeat was answered: back to the primary (§6.4)');
    assert.deepEqual(
      drain(c).notes.map(n => (n as { state?: string }).state),
      ['confirmed', 'unreachable', 'available'],
    );
    end();
  });
});

describe('all paths are down (dormant)', () => {
  test('each is tried in turn, and what comes back first is used', () => {
    const { p, c, s, sctp, a, lose, end } = pair({ tunables: { assoc_rtx_max: 60, path_rtx_max: 2 } });
    lose(0, true);
    lose(1, true);
    say(c);
    p.net.runUntil(() => a.paths.every(x => x.state === 'inactive'), 600e9);
    assert.ok(a.paths.every(x => x.state === 'inactive'));
    const used = new Set<unknown>();
    p.net.runUntil(() => {
      checkInvariants(sctp);
      for (const x of a.paths) if (x.flight > 0) used.add(x);
      return used.size === 2;
    }, 600e9);
    assert.equal(used.size, 2);
    lose(1, false);
    p.net.runUntil(() => drain(s).messages.length > 0, 200e9);
    assert.equal(a.outstanding === 0 || a.paths[1]!.state === 'active', true);
    p.net.run(1e9);
    assert.equal(a.current, a.paths[1]);
    lose(0, false);
    p.net.run(200e9);
    end();
  });
});

describe('link events', () => {
  test('a pulled cable moves data at once, in flight too; plugged in again it returns', () => {
    const { p, c, s, sctp, a, end } = pair();
    say(c, 5);
    p.net.run(1e6); // under way
    p.links[0]!.setCarrier(false);
    p.net.run(100e6);
    checkInvariants(sctp);
    assert.equal(drain(s).messages.length, 5);
    assert.equal(a.current, a.paths[1]);
    p.links[0]!.setCarrier(true);
    p.net.run(1e9);
    assert.equal(a.current, a.paths[0]);
    assert.equal(sctp.stats.sctps_timeoutdata, 0);
    end();
  });

  test('the only path: data waits for the link and goes at once when it is back, not when a backed-off timer fires', () => {
    const { p, c, s, sctp, a, end } = pair({ links: 1 });
    p.links[0]!.setCarrier(false);
    say(c);
    p.net.run(40e9);
    assert.ok(a.paths[0]!.rto >= 16e9);
    p.links[0]!.setCarrier(true);
    p.net.run(50e6);
    checkInvariants(sctp);
    assert.equal(drain(s).messages.length, 1);
    end();
  });
});

describe('path MTU', () => {
  test('lowered, then raised again after pmtu_raise_time; fixed by the user it stays', () => {
    const { p, sctp, a, end } = pair();
    const path = a.paths[0]!;
    setMtu(sctp, path, 1000, 'test');
    assert.equal(path.mtu, 1000);
    p.net.run(599e9);
    assert.equal(path.mtu, 1000);
    p.net.run(2e9);
    assert.equal(path.mtu, 1500);
    path.mtuFixed = true;
    setMtu(sctp, path, 1000, 'test');
    assert.equal(path.mtu, 1500);
    end();
  });
});
