// The socket API of RFC 6458 against usrsctp over UDP encapsulation: what both ends see of each other's calls, and the same
// calls on both.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Appliance } from '../appliance.js';
import { buildUsrsctpApi, skipWithoutUsrsctp } from '../bench/usrsctp/build.js';
import { freeUdpPorts } from '../bench/usrsctp/peer.js';
import { native, nativeError } from '../nic/native.js';
import { PeerEnd } from './api-end.js';
import { LineClient } from './api-line.js';
import { runRows, type Setting } from './api-run.js';
import { closeClean } from './ends.js';

const skip = skipWithoutUsrsctp() || (native === undefined && `the C module is not built: ${nativeError}`);
const V4 = ['127.0.0.1'];

describe('socket API: usrsctp', () => {
  let ours: Appliance;
  let lines: LineClient;
  let setting: Setting;
  before(async () => {
    if (skip !== false) return;
    const [near, far] = (await freeUdpPorts(2)) as [number, number];
    ours = Appliance.create({ cards: [{ port: `udp:127.0.0.1:${near}` }], kexts: ['SCTP'] });
    lines = LineClient.program([buildUsrsctpApi(), '--local-udp', String(far), '--remote-udp', String(near)]);
    setting = {
      ours,
      peer: new PeerEnd('usrsctp', lines, V4, []),
      v4: V4,
      v6: [],
      encaps: far,
      net: { second: () => {} },
    };
  });
  after(async () => {
    lines?.[Symbol.dispose]();
    if (ours !== undefined) await closeClean(ours);
  });
  runRows('usrsctp', skip, () => setting);
  for (const line of [
    'nonsense',
    'socket style',
    'send s=99',
    'get s=0 opt=NONE',
    'send s=0 len=-1',
    `bind addr=${'1'.repeat(3000)}`,
  ])
    test(`the peer refuses: ${line.slice(0, 40)}`, { skip }, async () => {
      const [udp] = await freeUdpPorts(1);
      using peer = LineClient.program([buildUsrsctpApi(), '--local-udp', String(udp)]);
      assert.equal(JSON.parse(await peer.ask('socket style=one')).r, 0);
      await assert.rejects(peer.ask(line), /did not understand/);
    });
});
