import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EINVAL, ENOBUFS, ENOPROTOOPT } from '../kern/errno.js';
import { SOCK_SEQPACKET } from '../kern/protosw.js';
import { RecvInfo, Socket } from '../kern/socket.js';
import { InAddr } from '../netinet/in.js';
import * as api from './api.js';
import { getsockopt, recvmsg, sendmsg, setsockopt } from './binary.js';
import * as cmsg from './cmsg.js';
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
import { OPTIONS, optionRow } from './optionrows.js';
import * as f from './packets.fixture.js';

const L = 132;
const over = (w: f.WirePeer) => assert.equal(w.end(), 0);

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

describe('options as bytes', () => {
  test('wrong sizes, no value, too much, wrong way', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    for (const r of OPTIONS) {
      const level = r.level === 'sctp' ? L : api.SOL_SOCKET;
      const there = r.extension === undefined;
      assert.equal(setsockopt(so, level, r.number, undefined), -EINVAL, r.name);
      assert.equal(getsockopt(so, level, r.number, undefined), -EINVAL, r.name);
      assert.equal(setsockopt(so, level, r.number, new Uint8Array(65537)), -ENOBUFS, r.name);
      const short = new Uint8Array(Math.max(0, r.layout.size - 1));
      if (there && r.access.includes('s')) assert.equal(setsockopt(so, level, r.number, short), -EINVAL, r.name);
      if (there && r.access.includes('g') && r.level === 'sctp')
        assert.equal(getsockopt(so, level, r.number, short), -EINVAL, r.name);
      if (!r.access.includes('s')) assert.equal(setsockopt(so, level, r.number, new Uint8Array(512)), -ENOPROTOOPT);
      if (!r.access.includes('g')) assert.equal(getsockopt(so, level, r.number, new Uint8Array(512)), -ENOPROTOOPT);
    }
    over(w);
  });
  test('every readable option that an association has gives its struct, and may be set to it', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    const peer = encodeStruct(layoutOf('sockaddr'), { addr: [w.at(w.peer, f.PEER_PORT)] });
    const refused = new Set(['SCTP_AUTOCLOSE', 'SCTP_I_WANT_MAPPED_V4_ADDR', 'SCTP_REUSE_PORT', 'SCTP_ECN_SUPPORTED']);
    const unreadable = new Set(['SCTP_GET_STAT_LOG', 'SCTP_I_WANT_MAPPED_V4_ADDR', 'SCTP_PEELOFF']);
    for (const r of OPTIONS) {
      if (r.extension !== undefined || !r.access.includes('g') || unreadable.has(r.name)) continue;
      const level = r.level === 'sctp' ? L : api.SOL_SOCKET;
      const input = new Uint8Array(r.layout.name === 'sctp_getaddresses' ? 100 : r.layout.size + 64);
      if (r.layout.fields[0]!.type.kind === 'sockaddr') input.set(peer);
      if (r.name === 'SCTP_GET_ADDR_LEN') input[4] = 2;
      if (r.name === 'SCTP_EVENT') input[4] = 1;
      const got = getsockopt(so, level, r.number, input);
      assert.ok(got instanceof Uint8Array, `${r.name}: ${got}`);
      assert.ok(got.length >= r.layout.size, r.name);
      if (!r.access.includes('s') || refused.has(r.name)) continue;
      assert.equal(setsockopt(so, level, r.number, got), 0, `${r.name} set back`);
      assert.deepEqual(getsockopt(so, level, r.number, input), got, `${r.name} again`);
    }
    over(w);
  });
  test("RTOINFO's bytes, with FreeBSD's number and with Linux's", () => {
    const w = new f.WirePeer();
    const so = w.socket();
    const b = encodeStruct(layoutOf('sctp_rtoinfo'), { srto_initial: 300, srto_max: 4000, srto_min: 200 });
    assert.equal(setsockopt(so, L, 1, b), 0);
    const got = getsockopt(so, L, 0, new Uint8Array(16), 'linux') as Uint8Array;
    assert.deepEqual(new Uint32Array(got.buffer), Uint32Array.of(0, 300, 4000, 200));
    assert.equal(getsockopt(so, L, 0x777, new Uint8Array(16)), -ENOPROTOOPT);
    assert.equal(optionRow('sctp', 14, 'linux')?.name, 'SCTP_STATUS');
    assert.equal(optionRow('sctp', 14)?.name, 'SCTP_MAXSEG');
    over(w);
  });
  test('payload protocol identifiers and ports are in network order', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    const snd = encodeStruct(layoutOf('sctp_sndinfo'), { snd_sid: 3, snd_ppid: swap32(46), snd_context: 9 });
    assert.equal(setsockopt(so, L, api.SCTP_DEFAULT_SNDINFO, snd), 0);
    const v = so.getsockopt(L, api.SCTP_DEFAULT_SNDINFO) as Record<string, number>;
    assert.deepEqual([v.sid, v.ppid, v.context], [3, 46, 9]);
    const encaps = encodeStruct(layoutOf('sctp_udpencaps'), { sue_port: swap16(9899) });
    assert.equal(setsockopt(so, L, api.SCTP_REMOTE_UDP_ENCAPS_PORT, encaps), 0);
    assert.equal((so.getsockopt(L, api.SCTP_REMOTE_UDP_ENCAPS_PORT) as { port: number }).port, 9899);
    over(w);
  });
  test('lists: ids must fit, addresses are cut to whole ones; connectx gives the id back; peeloff a socket', () => {
    const w = new f.WirePeer();
    const so = w.listen(SOCK_SEQPACKET);
    w.dial({ params: [f.addressParam('10.0.0.9')] });
    const id = w.associations[0]!.assocId;
    assert.equal(getsockopt(so, L, api.SCTP_GET_ASSOC_ID_LIST, new Uint8Array(4)), -EINVAL);
    const ids = getsockopt(so, L, api.SCTP_GET_ASSOC_ID_LIST, new Uint8Array(8)) as Uint8Array;
    assert.deepEqual([...new Uint32Array(ids.buffer)], [1, id]);
    const room = (n: number) => {
      const b = new Uint8Array(n);
      b[0] = id;
      return b;
    };
    const list = (n: number) => (getsockopt(so, L, api.SCTP_GET_PEER_ADDRESSES, room(n)) as Uint8Array).length;
    assert.deepEqual([list(4), list(19), list(20), list(35), list(36)], [4, 4, 20, 20, 36]);
    const two = getsockopt(so, L, api.SCTP_GET_REMOTE_ADDR_SIZE, room(4)) as Uint8Array;
    assert.equal(two[0], 32);
    const peeled = getsockopt(so, L, api.SCTP_PEELOFF, encodeStruct(layoutOf('sctp_peeloff_opt'), { assoc_id: id }));
    assert.ok(peeled instanceof Socket);
    w.adopt(peeled);
    const to = encodeStruct(layoutOf('sctp_connectx'), { count: 1, addr: [w.at('10.0.0.77', 9)] });
    const got = setsockopt(so, L, api.SCTP_CONNECT_X, to);
    assert.ok(got > id);
    assert.equal(to[0], got);
    to[0] = 2;
    assert.equal(setsockopt(so, L, api.SCTP_CONNECT_X, to), -EINVAL, 'a count that is not that of the addresses');
    over(w);
  });
  test('any bytes: a result or an errno, never an exception', () => {
    const w = new f.WirePeer();
    const [one] = w.connected();
    const many = w.socket(SOCK_SEQPACKET);
    let x = 12345;
    const random = () => (x = (Math.imul(x, 1103515245) + 12345) >>> 0) >>> 16;
    for (let i = 0; i < 4000; i++) {
      const r = OPTIONS[random() % OPTIONS.length]!;
      if (r.name === 'SO_RCVBUF' || r.name === 'SO_SNDBUF') continue;
      const b = new Uint8Array(Math.max(1, r.layout.size + (random() % 5) * 8 - (random() % 2)));
      for (let k = random() % 12; k > 0; k--)
        b[random() % b.length] = [0, 1, 2, 3, 16, 28, 255, random()][random() % 8]!;
      for (const so of [one, many]) {
        const level = r.level === 'sctp' ? L : api.SOL_SOCKET;
        assert.ok(Number.isInteger(setsockopt(so, level, r.number, b)), r.name);
        const got = getsockopt(so, level, r.number, b);
        assert.ok(typeof got === 'number' || got instanceof Uint8Array || got instanceof Socket, r.name);
      }
    }
    over(w);
  });
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

describe('control messages', () => {
  const one = (type: number, layout: string, r: CRecord) => ({ type, data: encodeStruct(layoutOf(layout), r) });
  const sndinfo = one(cmsg.SCTP_SNDINFO, 'sctp_sndinfo', { snd_sid: 4, snd_ppid: swap32(7), snd_flags: 0x400 });
  test('SNDINFO and PRINFO are one request; SNDRCV wins over them; both alignments', () => {
    for (const align of [4, 8]) {
      const pr = one(cmsg.SCTP_PRINFO, 'sctp_prinfo', { pr_policy: 1, pr_value: 500 });
      const both = cmsg.sendRequest(cmsg.controlBytes([sndinfo, pr], align), 0, align) as cmsg.SendRequest;
      assert.deepEqual(both.info, {
        sid: 4,
        flags: 0x400,
        ppid: 7,
        context: 0,
        assocId: 0,
        prPolicy: 1,
        prValue: 500,
      });
      const old = one(cmsg.SCTP_SNDRCV, 'sctp_sndrcvinfo', { sinfo_stream: 9, sinfo_timetolive: 100 });
      const r = cmsg.sendRequest(cmsg.controlBytes([old, sndinfo], align), 0, align) as cmsg.SendRequest;
      assert.deepEqual([r.info!.sid, r.info!.flags, r.info!.prPolicy, r.info!.prValue], [9, 0, 1, 100]);
    }
  });
  test('INIT and addresses', () => {
    const init = one(cmsg.SCTP_INIT, 'sctp_initmsg', { sinit_num_ostreams: 3 });
    const v4 = { type: cmsg.SCTP_DSTADDRV4, data: Uint8Array.of(10, 0, 0, 9) };
    const r = cmsg.sendRequest(cmsg.controlBytes([init, v4]), 77) as cmsg.SendRequest;
    assert.equal(r.info!.init!.numOstreams, 3);
    assert.deepEqual(
      r.info!.addresses!.map(a => `${a.addr}:${a.port}`),
      ['10.0.0.9:77'],
    );
  });
  test('one cut short counts as absent; lengths that lie are EINVAL', () => {
    const cut = { type: cmsg.SCTP_SNDINFO, data: sndinfo.data.subarray(0, 15) };
    assert.deepEqual(cmsg.sendRequest(cmsg.controlBytes([cut]), 0), { info: undefined, truncated: true });
    for (const len of [0, 15, 33, 0xffffffff]) {
      const b = cmsg.controlBytes([sndinfo]);
      new DataView(b.buffer).setUint32(0, len, true);
      assert.equal(cmsg.sendRequest(b, 0), -EINVAL, `${len}`);
    }
    assert.equal(cmsg.sendRequest(new Uint8Array(11), 0), -EINVAL);
  });
  test('sendmsg: a short one is EINVAL when the message would set an association up', () => {
    const w = new f.WirePeer();
    const so = w.socket(SOCK_SEQPACKET);
    const to = w.at(w.peer, f.PEER_PORT);
    const cut = cmsg.controlBytes([{ type: cmsg.SCTP_SNDINFO, data: new Uint8Array(3) }]);
    assert.equal(sendmsg(so, Uint8Array.of(1), cut, to), -EINVAL);
    assert.equal(sendmsg(so, Uint8Array.of(1), cmsg.controlBytes([sndinfo]), to), 1);
    assert.equal(sendmsg(so, Uint8Array.of(1), cut, to), 1);
    over(w);
  });
  test('recvmsg: RCVINFO, NXTINFO, then SNDRCV or EXTRCV, as asked for', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted();
    const types = (...options: readonly [number, unknown][]) => {
      for (const [name, v] of options) assert.equal(so.setsockopt(L, name, v), 0);
      for (let i = 0; i < 2; i++) w.inject(f.data({ tsn: tsn + i, ssn: ssn + i, sid: 1, ppid: 46 }));
      tsn += 2;
      ssn += 2;
      const out: number[][] = [];
      for (let i = 0; i < 2; i++) {
        const { control } = recvmsg(so, new Uint8Array(64), new RecvInfo());
        const dv = new DataView(control.buffer);
        const list: number[] = [];
        for (let o = 0; o < control.length; o += (dv.getUint32(o, true) + 7) & ~7) list.push(dv.getInt32(o + 8, true));
        out.push(list);
      }
      return out;
    };
    let tsn = f.PEER_TSN;
    let ssn = 0;
    assert.deepEqual(types(), [[], []]);
    assert.deepEqual(types([api.SCTP_RECVRCVINFO, 1]), [[5], [5]]);
    assert.deepEqual(types([api.SCTP_RECVNXTINFO, 1]), [[5, 6], [5]]);
    assert.deepEqual(types([api.SCTP_EVENTS, { dataIo: true }]), [
      [5, 6, 2],
      [5, 2],
    ]);
    assert.deepEqual(types([api.SCTP_USE_EXT_RCVINFO, 1]), [
      [5, 6, 3],
      [5, 3],
    ]);
    assert.deepEqual(types([api.SCTP_RECVRCVINFO, 0], [api.SCTP_RECVNXTINFO, 0], [api.SCTP_USE_EXT_RCVINFO, 0]), [
      [2],
      [2],
    ]);
    over(w);
  });
});
