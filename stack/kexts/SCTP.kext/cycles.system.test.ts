/** SCTP.kext loaded, used and unloaded a thousand times in one process: everything is back where it was. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Socket } from '../../kern/socket.js';
import { check, drain, SctpPair } from '../../sctp/harness.js';
import { SCTP_KEXT } from './index.js';

test('1,000 cycles of load, an association with data both ways, unload', () => {
  // Ports and tags of ended associations are not waited for: each cycle begins with a fresh extension anyway.
  const p = new SctpPair({ noarp: true, tunables: { vtag_time_wait: 0 } });
  const both = [p.a, p.b];
  for (const s of both) assert.ok(s.kexts.unload(SCTP_KEXT).ok);
  p.net.run(10e9);
  const state = () =>
    both.map(s => ({
      mbufs: s.pool.inUse,
      timers: s.callouts.pending,
      protocols: s.protocols.rows.length,
      sysctls: s.sysctl.list().length,
      counters: s.counters.names().length,
      tunnels: s.udp.tunnels.length,
      subscribers: s.events.subscribers,
    }));
  const before = state();
  const handles = process.getActiveResourcesInfo().length;
  const data = new Uint8Array(3000).fill(7);
  for (let i = 0; i < 1000; i++) {
    for (const [k, s] of both.entries()) assert.ok(s.kexts.load(p.kexts[k]!).ok);
    const [c, server, l] = p.connect();
    check(c.send(data));
    check(server.send(data));
    p.net.run(100e6);
    assert.equal(drain(server).messages[0]?.data.length, data.length);
    assert.equal(drain(c).messages[0]?.data.length, data.length);
    if (i % 2 === 0) c.shutdown(1);
    else c.setsockopt(0xffff, 0x80, { onoff: true, linger: 0 }); // every other one ends by ABORT
    for (const so of [c, server, l]) if (so instanceof Socket && !so.closed) so.close();
    p.net.run(1e9);
    for (const s of both) {
      const r = s.kexts.unload(SCTP_KEXT);
      assert.ok(r.ok, `cycle ${i}: ${r.ok ? '' : r.reason}`);
    }
    if (i % 100 === 0) assert.deepEqual(state(), before, `after ${i + 1} cycles`);
  }
  assert.deepEqual(state(), before);
  assert.equal(process.getActiveResourcesInfo().length, handles);
});
