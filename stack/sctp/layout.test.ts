/** Structs and notifications as bytes: FreeBSD's sizes and offsets on amd64, and there and back. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { InAddr } from '../netinet/in.js';
import {
  type CRecord,
  type CType,
  decodeStruct,
  encodeStruct,
  LAYOUTS,
  type Layout,
  layoutOf,
  readSockaddr,
  swap16,
  swap32,
} from './layout.js';
import { encodeNotification, NOTIFICATIONS } from './notifications.js';

test('sizes are those of FreeBSD/amd64 (facts packetdrill part 5.2)', () => {
  const sizes = {
    sctp_rtoinfo: 16,
    sctp_initmsg: 8,
    sctp_assocparams: 20,
    sctp_paddrparams: 152,
    sctp_status: 176,
    sctp_paddrinfo: 152,
    sctp_setprim: 136,
    sctp_setpeerprim: 136,
    sctp_event_subscribe: 11,
    sctp_event: 8,
    sctp_sack_info: 12,
    sctp_assoc_value: 8,
    sctp_sndinfo: 16,
    sctp_sndrcvinfo: 128,
    sctp_extrcvinfo: 128,
    sctp_default_prinfo: 12,
    sctp_prinfo: 8,
    sctp_authinfo: 2,
    sctp_add_streams: 8,
    sctp_reset_streams: 8,
    sctp_assoc_t: 4,
    linger: 8,
    sctp_setadaptation: 4,
    sctp_rcvinfo: 28,
    sctp_nxtinfo: 16,
    sctp_recvv_rn: 44,
    sctp_sendv_spa: 32,
    sctp_paddrthlds: 144,
    sctp_udpencaps: 136,
    sctp_timeouts: 32,
    sctp_prstatus: 24,
    sctp_assoc_change: 20,
    sctp_paddr_change: 152,
    sctp_remote_error: 16,
    sctp_send_failed: 144,
    sctp_send_failed_event: 32,
    sctp_shutdown_event: 12,
    sctp_adaptation_event: 16,
    sctp_pdapi_event: 20,
    sctp_authkey_event: 20,
    sctp_sender_dry_event: 12,
    sctp_stream_reset_event: 12,
    sctp_assoc_reset_event: 20,
    sctp_stream_change_event: 16,
    sctp_pcbinfo: 32,
    sctp_cc_option: 12,
    int: 4,
  };
  for (const [name, size] of Object.entries(sizes)) assert.equal(layoutOf(name).size, size, name);
  const at = (l: string, field: string) => layoutOf(l).fields.find(x => x.name === field)!.offset;
  assert.deepEqual(
    [at('sctp_status', 'sstat_primary'), at('sctp_sndrcvinfo', 'sinfo_ppid'), at('sctp_paddrparams', 'spp_dscp')],
    [24, 8, 150],
  );
  assert.deepEqual([at('sctp_remote_error', 'sre_data'), at('sctp_send_failed_event', 'ssfe_info')], [16, 12]);
  assert.throws(() => layoutOf('sctp_nothing'), TypeError);
});

/** A record with a different number in every field. */
function filled(l: Layout, n = { at: 1 }): CRecord {
  const value = (t: CType) => {
    if (t.kind === 'scalar') return n.at++;
    if (t.kind === 'sockaddr') return { addr: InAddr.of('10.1.2.3'), port: 5000 + n.at++ };
    if (t.kind === 'struct') return filled(t.layout, n);
    if (t.kind === 'tail') return [n.at++, n.at++];
    if (t.kind === 'sockaddrs')
      return [
        { addr: InAddr.of('10.1.2.3'), port: 1 },
        { addr: InAddr.of('fd00::1'), port: 2 },
      ];
    return undefined;
  };
  const r: CRecord = {};
  for (const x of l.fields) if (x.type.kind !== 'reserved') r[x.name] = value(x.type);
  return r;
}

test('every struct: what goes in comes out', () => {
  for (const l of LAYOUTS.values()) {
    const r = filled(l);
    assert.deepEqual(decodeStruct(l, encodeStruct(l, r)), r, l.name);
  }
});

test('sockaddr: length, family, port in network order', () => {
  const b = encodeStruct(layoutOf('sockaddr'), { addr: [{ addr: InAddr.of('1.2.3.4'), port: 0x1234 }] });
  assert.deepEqual([...b.subarray(0, 8)], [16, 2, 0x12, 0x34, 1, 2, 3, 4]);
  assert.equal(b.length, 16);
  const six = encodeStruct(layoutOf('sockaddr'), { addr: [{ addr: InAddr.of('fd00::1'), port: 7 }] });
  assert.deepEqual([six.length, six[0], six[1], six[8], six[23]], [28, 28, 28, 0xfd, 1]);
  const dv = new DataView(six.buffer);
  assert.equal(readSockaddr(dv, 0, 27), undefined);
  assert.equal(readSockaddr(dv, 0, 15), undefined);
  assert.deepEqual([swap16(0x1234), swap32(0x12345678)], [0x3412, 0x78563412]);
});

describe('notifications as bytes', () => {
  const u32 = (b: Uint8Array, o: number) => new DataView(b.buffer, b.byteOffset).getUint32(o, true);
  test('type, flags, length, and what each has', () => {
    for (const r of NOTIFICATIONS) {
      const n = {
        type: r.event.replace('-deprecated', ''),
        deprecated: r.number === 4,
        assocId: 5,
        data: Uint8Array.of(9, 8, 7),
      };
      const b = encodeNotification(n);
      assert.equal(b[0]! | (b[1]! << 8), r.number, r.event);
      assert.equal(u32(b, 4), b.length, r.event);
    }
    const up = encodeNotification({
      type: 'assoc-change',
      state: 'comm-up',
      assocId: 3,
      outStreams: 10,
      inStreams: 7,
      causeCode: 0,
      features: [4],
    } as never);
    assert.deepEqual([...up], [1, 0, 0, 0, 21, 0, 0, 0, 1, 0, 0, 0, 10, 0, 7, 0, 3, 0, 0, 0, 4]);
    const failed = encodeNotification({
      type: 'send-failed',
      assocId: 3,
      sent: true,
      sid: 2,
      ppid: 46,
      context: 77,
      flags: 3,
      error: 12,
      data: Uint8Array.of(1, 2, 3),
    } as never);
    assert.deepEqual(
      [...failed],
      [14, 0, 2, 0, 35, 0, 0, 0, 12, 0, 0, 0, 2, 0, 3, 0, 0, 0, 0, 46, 77, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3],
    );
    assert.throws(() => encodeNotification({ type: 'nothing' }), TypeError);
  });
});
