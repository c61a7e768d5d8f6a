/**
 * The load and unload steps of the historical SCTP extension, one by one: what went wrong there (protocols left behind, a
 * tunnel's failure ignored, an unload that failed although all was gone) and what happens here.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EADDRINUSE, EBUSY, EEXIST } from '../../kern/errno.js';
import type { KextResult } from '../../kern/kext.js';
import { AF_INET, AF_INET6, SOCK_SEQPACKET, SOCK_STREAM } from '../../kern/protosw.js';
import type { Socket } from '../../kern/socket.js';
import { IPPROTO_SCTP } from '../../netinet/in.js';
import { at, SctpPair } from '../../sctp/harness.js';
import type { Stack } from '../../stack.js';
import { MSEC, SEC, VirtualNet } from '../../testing.js';
import { SCTP_SUPPORT_KEXT } from '../SCTPSupport.kext/index.js';
import { SCTP_KEXT, sctpKext } from './index.js';

const everything = (s: Stack) => ({
  kexts: s.kexts.list().map(k => k.identifier),
  rows: s.protocols.rows.map(r => r.name),
  sysctls: s.sysctl.list().length,
  counters: s.counters.names(),
  tunnels: s.udp.tunnels,
  timers: s.callouts.pending,
  subscribers: s.events.subscribers,
  controls: s.ctl.list(),
  hook: s.sctpDelayedChecksum,
  mbufs: s.pool.inUse,
});

describe('SCTP.kext', () => {
  it('brings SCTPSupport.kext, which stays while it is there', () => {
    const s = new VirtualNet().addHost('a');
    const before = everything(s);
    assert.deepEqual(s.kexts.load(sctpKext()), { ok: true });
    assert.deepEqual(
      s.kexts.list().map(k => k.identifier),
      [SCTP_SUPPORT_KEXT, SCTP_KEXT],
    );
    assert.equal(s.sysctl.get('kern.sctpsupport.crc32c'), 'table');
    const r = s.kexts.unload(SCTP_SUPPORT_KEXT);
    assert.ok(!r.ok && r.errno === EBUSY && r.holders.includes(SCTP_KEXT));
    assert.deepEqual(s.kexts.unload(SCTP_KEXT), { ok: true });
    assert.deepEqual(s.kexts.unload(SCTP_SUPPORT_KEXT), { ok: true });
    assert.deepEqual(everything(s), before);
  });

  const occupy: [string, (s: Stack) => void, number][] = [
    ...[AF_INET, AF_INET6].flatMap(domain =>
      [SOCK_SEQPACKET, SOCK_STREAM].map((type): [string, (s: Stack) => void, number] => [
        `protocol ${domain}/${type} (step 4)`,
        s => void s.protocols.add({ domain, type, protocol: IPPROTO_SCTP, name: 'squatter' }),
        EEXIST,
      ]),
    ),
    [
      'a sysctl (step 6)',
      s => void s.sysctl.add('net.inet.sctp', [{ name: 'rto_min', default: 1, min: 1, max: 1, meaning: 'x' }], {}),
      EEXIST,
    ],
    [
      'a computed sysctl (step 6)',
      s => void s.sysctl.addProcedure('net.inet.sctp', 'udp_tunneling_port', { meaning: 'x', get: () => 0 }),
      EEXIST,
    ],
    ['the counters', s => s.counters.add('sctp', {}), EEXIST],
    ['the UDP port of the tunnel (delayed start)', s => void s.udp.tunnel(9899, m => s.pool.freem(m)), EADDRINUSE],
    ['the counters of the support (loaded first)', s => s.counters.add('sctpsupport', {}), EEXIST],
  ];
  for (const [what, take, errno] of occupy)
    it(`is rolled back whole when somebody has ${what}`, () => {
      const s = new VirtualNet().addHost('a');
      take(s);
      const before = everything(s);
      const r = s.kexts.load(sctpKext({ tunables: { udp_tunneling_port: 9899 } }));
      assert.ok(!r.ok);
      assert.equal(r.errno, errno);
      assert.deepEqual(everything(s), before);
    });

  it('names the endpoints and associations that hold it; drains them; goes when they have gone', () => {
    const pair = new SctpPair();
    const [ca] = pair.connect();
    const { a, net } = pair;
    const r = a.kexts.unload(SCTP_KEXT);
    assert.ok(!r.ok);
    assert.match(r.reason, /is in use by one-to-one endpoint on port \d+ \(1 association\)/);
    let result: KextResult | undefined;
    a.kexts.unload(SCTP_KEXT, { drain: true, wait: 20 * SEC, settled: x => (result = x) });
    assert.equal(a.socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP), -EBUSY);
    net.run(1 * SEC);
    // The association has been shut down; the program still has its socket.
    assert.equal(pair.kexts[0].associations().length, 0);
    assert.equal(result, undefined);
    (ca as Socket).close();
    net.run(100 * MSEC);
    assert.deepEqual(result, { ok: true });
    assert.equal(a.kexts.get(SCTP_KEXT), undefined);
  });
  it('a drain that does not end leaves it working', () => {
    const pair = new SctpPair();
    const so = pair.socket('a', SOCK_STREAM);
    let result: KextResult | undefined;
    pair.a.kexts.unload(SCTP_KEXT, { drain: true, wait: 50 * MSEC, settled: x => (result = x) });
    pair.net.run(200 * MSEC);
    assert.ok(result !== undefined && !result.ok && /in use by one-to-one endpoint/.test(result.reason));
    const again = pair.socket('a', SOCK_STREAM);
    assert.equal(again.bind(at('10.0.0.1', 7)), 0);
    again.close();
    so.close();
    pair.net.run(10 * MSEC);
    assert.ok(pair.a.kexts.unload(SCTP_KEXT).ok);
  });
});
