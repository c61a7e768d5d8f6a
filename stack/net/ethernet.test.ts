import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InAddr } from '../netinet/in.js';
import { isBroadcastMac, isMac, macText, multicastMac, parseMac, readMac, writeMac } from './ethernet.js';

describe('ethernet', () => {
  it('writes, reads and compares link addresses', () => {
    const mac = parseMac('02:00:5e:10:0A:ff')!;
    const dv = new DataView(new ArrayBuffer(16));
    writeMac(dv, 3, mac);
    const back = new Uint8Array(6);
    readMac(dv, 3, back);
    assert.deepEqual(back, mac);
    assert.ok(isMac(dv, 3, mac));
    assert.ok(!isMac(dv, 2, mac));
    assert.equal(macText(mac), '02:00:5e:10:0a:ff');
    for (const bad of ['', '02:00:5e:10:0a', '02:00:5e:10:0a:fg', '2:0:5e:10:a:f'])
      assert.equal(parseMac(bad), undefined);
    assert.ok(!isBroadcastMac(dv, 3));
    dv.setInt32(0, -1);
    dv.setUint16(4, 0xffff);
    assert.ok(isBroadcastMac(dv, 0));
  });
  it('maps groups (RFC 1112 section 6.4, RFC 2464 section 7)', () => {
    assert.equal(macText(multicastMac(InAddr.of('224.129.2.3'))), '01:00:5e:01:02:03');
    assert.equal(macText(multicastMac(InAddr.of('ff02::1:ff12:3456'))), '33:33:ff:12:34:56');
  });
});
