/** The byte layouts against FreeBSD's sizes and offsets (amd64), and records there and back. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { InAddr } from '../stack/netinet/in.js';
import {
  type CRecord,
  decodeStruct,
  EVENT_NUMBERS,
  encodeNotification,
  encodeStruct,
  LAYOUTS,
  layoutOf,
  NOTIFICATIONS,
  notificationLayout,
  OPTIONS,
  optionRow,
} from './structs.js';

/** sizeof as facts part 5.2 of packetdrill and sctp_uio.h have it. */
const SIZES: Readonly<Record<string, number>> = {
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
  sctp_add_streams: 8,
  sctp_reset_streams: 8,
  sctp_assoc_t: 4,
  linger: 8,
  sctp_setadaptation: 4,
  sctp_sendv_spa: 32,
  sctp_authinfo: 2,
  sctp_prinfo: 8,
  sctp_rcvinfo: 28,
  sctp_nxtinfo: 16,
  sctp_recvv_rn: 44,
  sctp_udpencaps: 136,
  sctp_assoc_change: 20,
  sctp_paddr_change: 152,
  sctp_remote_error: 16,
  sctp_send_failed: 144,
  sctp_send_failed_event: 32,
  sctp_shutdown_event: 12,
  sctp_adaptation_event: 16,
  sctp_pdapi_event: 20,
  sctp_sender_dry_event: 12,
  sctp_stream_reset_event: 12,
  sctp_assoc_reset_event: 20,
  sctp_stream_change_event: 16,
};

test('sizes', () => {
  for (const [name, size] of Object.entries(SIZES)) assert.equal(layoutOf(name).size, size, name);
});
test('offsets', () => {
  const at = (s: string, f: string) => layoutOf(s).fields.find(x => x.name === f)?.offset;
  assert.equal(at('sctp_paddrparams', 'spp_assoc_id'), 128);
  assert.equal(at('sctp_paddrparams', 'spp_dscp'), 150);
  assert.equal(at('sctp_status', 'sstat_primary'), 24);
  assert.equal(at('sctp_sndrcvinfo', 'sinfo_ppid'), 8);
  assert.equal(at('sctp_sndrcvinfo', 'sinfo_assoc_id'), 28);
  assert.equal(at('sctp_rcvinfo', 'rcv_ppid'), 8);
  assert.equal(at('sctp_remote_error', 'sre_data'), 16);
  assert.equal(at('sctp_assoc_change', 'sac_info'), 20);
});
test('every layout: a record comes back as it went', () => {
  for (const l of LAYOUTS.values()) {
    const r: CRecord = {};
    let n = 1;
    for (const { name, type } of l.fields) {
      if (type.kind === 'scalar') r[name] = n++;
      else if (type.kind === 'sockaddr') r[name] = { addr: InAddr.of('192.0.2.7'), port: 4000 + n++ };
      else if (type.kind === 'tail') r[name] = [n++, n++, n++];
    }
    const back = decodeStruct(l, encodeStruct(l, r));
    for (const k of Object.keys(r)) {
      // What follows an open array is its padding.
      const b = back[k];
      if (Array.isArray(r[k])) assert.deepEqual((b as number[]).slice(0, 3), r[k], `${l.name}.${k}`);
      else assert.deepEqual(b, r[k], `${l.name}.${k}`);
    }
  }
});
test('sockaddrs as FreeBSD lays them out', () => {
  const l = layoutOf('sctp_setprim');
  const four = encodeStruct(l, { ssp_addr: { addr: InAddr.of('192.0.2.1'), port: 0x1234 }, ssp_assoc_id: 3 });
  assert.equal(Buffer.from(four.subarray(0, 8)).toString('hex'), '10021234c0000201');
  const six = encodeStruct(l, { ssp_addr: { addr: InAddr.of('2001:db8::1'), port: 80 }, ssp_assoc_id: 3 });
  assert.equal(Buffer.from(six.subarray(0, 12)).toString('hex'), '1c1c00500000000020010db8');
  assert.equal(six[128], 3);
});

describe('rows', () => {
  test('numbers and names are given once', () => {
    assert.equal(new Set(OPTIONS.map(r => `${r.level} ${r.number}`)).size, OPTIONS.length);
    assert.equal(new Set(OPTIONS.map(r => r.name)).size, OPTIONS.length);
    assert.deepEqual(
      [...new Set(NOTIFICATIONS.map(n => n.number))].sort((a, b) => a - b),
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    );
    for (const n of NOTIFICATIONS) assert.ok(n.number === 4 || EVENT_NUMBERS[n.event] === n.number, n.event);
  });
  test('status to C: state and times', () => {
    const c = optionRow('sctp', 0x100)!.codec.toC({
      assocId: 3,
      state: 'ESTABLISHED',
      primary: { state: 'unconfirmed', srtt: 10.6, address: { addr: InAddr.of('192.0.2.1'), port: 7 } },
    });
    const p = c.sstat_primary as CRecord;
    assert.deepEqual([c.sstat_state, p.spinfo_state, p.spinfo_srtt], [8, 0x200, 11]);
  });
  test('events: the send failures of both generations have their own names', () => {
    const codec = optionRow('sctp', 0x1e)!.codec;
    assert.deepEqual(codec.toApi({ se_assoc_id: 0, se_type: 4, se_on: 1 }), {
      assocId: 0,
      type: 'send-failed-deprecated',
      on: true,
    });
    assert.deepEqual(codec.toApi({ se_assoc_id: 0, se_type: 5, se_on: 0 }), {
      assocId: 0,
      type: 'shutdown',
      on: false,
    });
  });
});

test('notifications as bytes', () => {
  const up = encodeNotification({
    type: 'assoc-change',
    state: 'comm-up',
    assocId: 3,
    outStreams: 5,
    inStreams: 6,
    error: 0,
  } as never)!;
  assert.equal(Buffer.from(up).toString('hex'), '010000001500000001000000050006000300000004');
  assert.equal(notificationLayout(up)?.name, 'sctp_assoc_change');
  const failed = {
    type: 'send-failed',
    sent: true,
    sid: 1,
    ppid: 2,
    context: 3,
    flags: 0,
    assocId: 3,
    error: 9,
    data: Uint8Array.of(1, 2),
  };
  const l = layoutOf('sctp_send_failed_event');
  const r = decodeStruct(l, encodeNotification(failed)!);
  assert.deepEqual([r.ssfe_type, r.ssfe_flags, r.ssfe_length, r.ssfe_error, r.ssfe_data], [14, 2, 34, 9, [1, 2]]);
  assert.equal((r.ssfe_info as CRecord).snd_ppid, 0x02000000);
  assert.equal(decodeStruct(layoutOf('sctp_send_failed'), encodeNotification(failed, true)!).ssf_type, 4);
  assert.equal(encodeNotification({ type: 'unheard-of' }), undefined);
});
