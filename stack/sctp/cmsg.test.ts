/** Control messages as bytes: what a sendmsg asks for, what a recvmsg brings, and any bytes whatever. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EINVAL, ERRNO } from '../kern/errno.js';
import { SOCK_SEQPACKET } from '../kern/protosw.js';
import { RecvInfo } from '../kern/socket.js';
import * as api from './api.js';
import { recvmsg, sendmsg } from './binary.js';
import * as cmsg from './cmsg.js';
import { type CRecord, encodeStruct, layoutOf, swap32 } from './layout.js';
import * as f from './packets.fixture.js';

const L = 132;
const over = (w: f.WirePeer) => assert.equal(w.end(), 0);

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

test('INIT alone leaves the rest to the defaults of the socket', () => {
  const w = new f.WirePeer();
  const so = w.socket(SOCK_SEQPACKET);
  assert.equal(so.setsockopt(L, api.SCTP_DEFAULT_SNDINFO, { sid: 2, ppid: 9, context: 0, flags: 0 }), 0);
  const init = { type: cmsg.SCTP_INIT, data: encodeStruct(layoutOf('sctp_initmsg'), { sinit_num_ostreams: 2 }) };
  const control = cmsg.controlBytes([init]);
  // Stream 2 of 2 that are asked for is one too many: the default stream counts.
  assert.equal(sendmsg(so, Uint8Array.of(1), control, w.at(w.peer, f.PEER_PORT)), -EINVAL);
  over(w);
});

describe('any bytes', () => {
  let x = 999;
  const random = () => (x = (Math.imul(x, 1103515245) + 12345) >>> 0) >>> 16;
  const known = new Set<number>(Object.values(ERRNO));
  /** Well-formed control messages with random contents and lengths, then some bytes of it changed. */
  const control = (align: number): Uint8Array => {
    const parts = Array.from({ length: random() % 4 }, () => {
      const row = cmsg.CMSGS[random() % cmsg.CMSGS.length]!;
      const data = new Uint8Array(random() % 3 === 0 ? random() % 160 : row.size);
      for (let k = random() % 8; k > 0 && data.length > 0; k--) data[random() % data.length] = random();
      return { type: random() % 8 === 0 ? random() : row.type, data };
    });
    const b = cmsg.controlBytes(parts, align);
    for (let k = random() % 4; k > 0 && b.length > 0; k--)
      b[random() % b.length] = [0, 1, 11, 12, 13, 16, 132, 255, random()][random() % 9]!;
    return random() % 4 === 0 ? b.subarray(0, random() % (b.length + 1)) : b;
  };
  test('every type is reached, and gives a request or EINVAL', () => {
    const counts = { requests: 0, refused: 0, truncated: 0 };
    for (let i = 0; i < 4000; i++) {
      const align = i % 2 === 0 ? 8 : 4;
      const r = cmsg.sendRequest(control(align), 7, align);
      if (typeof r === 'number') {
        assert.equal(r, -EINVAL);
        counts.refused++;
      } else if (r.truncated) counts.truncated++;
      else counts.requests++;
    }
    assert.ok(
      Object.values(counts).every(n => n > 80),
      JSON.stringify(counts),
    );
  });
  test('sendmsg: bytes taken, or an errno of the list', () => {
    const w = new f.WirePeer();
    const [one] = w.connected();
    const many = w.socket(SOCK_SEQPACKET);
    for (let i = 0; i < 400; i++) {
      const so = i % 2 === 0 ? one : many;
      const to = random() % 3 === 0 ? undefined : w.at(`10.0.0.${20 + (random() % 8)}`, f.PEER_PORT);
      const n = sendmsg(so, Uint8Array.of(1, 2, 3), control(8), to);
      assert.ok(n === 3 || known.has(-n), `${n}`);
      w.take();
    }
    over(w);
  });
});
