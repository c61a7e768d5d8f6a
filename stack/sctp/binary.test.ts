/** Socket options as bytes: sizes, errors, values there and back, and any bytes whatever for every option. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EINVAL, ENOBUFS, ENOENT, ENOPROTOOPT, EOPNOTSUPP, ERRNO } from '../kern/errno.js';
import { SOCK_SEQPACKET } from '../kern/protosw.js';
import { Socket } from '../kern/socket.js';
import * as api from './api.js';
import { getsockopt, setsockopt } from './binary.js';
import { encodeStruct, layoutOf, swap16, swap32 } from './layout.js';
import { OPTIONS, type OptionRow, optionRow } from './optionrows.js';
import * as f from './packets.fixture.js';

const L = 132;
const over = (w: f.WirePeer) => assert.equal(w.end(), 0);
const levelOf = (r: OptionRow) => (r.level === 'sctp' ? L : api.SOL_SOCKET);

describe('options as bytes', () => {
  test('wrong sizes, no value, too much, wrong way', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    for (const r of OPTIONS) {
      const level = levelOf(r);
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
      const level = levelOf(r);
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
});

describe('wrong ids and wrong states', () => {
  /** Options that read an association id; -ENOENT when none has it, as FreeBSD says, but for one that looks at something else first. */
  const takesId = (r: OptionRow) => r.layout.fields.some(x => /assoc_id$|_aid$/.test(x.name));
  const others: Readonly<Record<string, number>> = {
    SCTP_SET_DYNAMIC_PRIMARY: 1, // EPERM before it looks
  };
  /** These have an id in their struct and do not look at it. */
  const ignores = new Set([
    'SCTP_GET_ASSOC_ID_LIST',
    'SCTP_GET_ADDR_LEN',
    'SCTP_BINDX_ADD_ADDR',
    'SCTP_BINDX_REM_ADDR',
  ]);
  const withId = (r: OptionRow, id: number): Uint8Array => {
    const b = new Uint8Array(r.layout.size + 28);
    const field = r.layout.fields.find(x => /assoc_id$|_aid$/.test(x.name));
    if (field !== undefined) new DataView(b.buffer).setUint32(field.offset, id, true);
    if (r.name === 'SCTP_EVENT') b[4] = 1;
    return b;
  };
  test('every option: an id that no association of a one-to-many socket has', () => {
    const w = new f.WirePeer();
    const so = w.listen(SOCK_SEQPACKET);
    w.dial();
    let checked = 0;
    for (const r of OPTIONS) {
      if (r.extension !== undefined || !takesId(r) || ignores.has(r.name)) continue;
      const want = -(others[r.name] ?? ENOENT);
      if (r.access.includes('g')) assert.equal(getsockopt(so, L, r.number, withId(r, 77)), want, `get ${r.name}`);
      if (r.access.includes('s')) assert.equal(setsockopt(so, L, r.number, withId(r, 77)), want, `set ${r.name}`);
      checked++;
    }
    assert.ok(checked > 20, `${checked}`);
    over(w);
  });
  test('options of an extension that is not there are not there, whatever the bytes', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    for (const r of OPTIONS) {
      if (r.extension === undefined || r.extension === 'none') continue;
      if (r.access.includes('s'))
        assert.equal(setsockopt(so, levelOf(r), r.number, withId(r, 0)), -ENOPROTOOPT, r.name);
      if (r.access.includes('g'))
        assert.equal(getsockopt(so, levelOf(r), r.number, withId(r, 0)), -ENOPROTOOPT, r.name);
    }
    over(w);
  });
  test('what needs an association on a socket that has none; one-to-many only; other levels', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    for (const name of [api.SCTP_STATUS, api.SCTP_TIMEOUTS, api.SCTP_GET_SNDBUF_USE, api.SCTP_GET_NONCE_VALUES])
      assert.equal(getsockopt(so, L, name, new Uint8Array(256)), -EINVAL, `${name}`);
    assert.equal(setsockopt(so, L, api.SCTP_AUTOCLOSE, new Uint8Array(4)), -EINVAL);
    assert.equal(getsockopt(so, L, api.SCTP_PEELOFF, new Uint8Array(12)), -EOPNOTSUPP);
    const four = new Uint8Array(4);
    assert.equal(setsockopt(so, 6, 1, four), -EINVAL, 'IPPROTO_TCP');
    assert.equal(setsockopt(so, 0, 0x777, four), -ENOPROTOOPT, 'IPPROTO_IP');
    assert.equal(setsockopt(so, 0, api.IP_TOS, Uint8Array.of(0x10, 0, 0, 0)), 0);
    assert.deepEqual(getsockopt(so, 0, api.IP_TOS, four), Uint8Array.of(0x10, 0, 0, 0));
    assert.equal(getsockopt(so, 0, api.IP_TOS, new Uint8Array(3)), -EINVAL);
    over(w);
  });
});

describe('any bytes', () => {
  let x = 12345;
  const random = () => (x = (Math.imul(x, 1103515245) + 12345) >>> 0) >>> 16;
  const known = new Set<number>([...Object.values(ERRNO), 33]); // EDOM: SO_LINGER
  const isErrno = (n: number): boolean => n >= 0 || known.has(-n);
  /** Bytes that pass for ids, families, lengths and flags more often than chance has it. */
  const garbage = (n: number): Uint8Array => {
    const b = new Uint8Array(n);
    for (let k = random() % 14; k > 0 && n > 0; k--)
      b[random() % n] = [0, 1, 2, 3, 4, 16, 28, 255, random()][random() % 9]!;
    return b;
  };
  /** Sizes about the struct's, with room behind it, and none. */
  const sizes = (r: OptionRow): number[] => {
    const s = r.layout.size;
    return [0, 1, s - 1, s, s, s, s, s, s + 1, s + 4, s + 16, s + 28, s + 44, 512].filter(n => n >= 0);
  };
  test('every option, both ways, both kinds of socket: a value or an errno of the list', () => {
    const w = new f.WirePeer();
    const [one] = w.connected();
    const many = w.socket(SOCK_SEQPACKET);
    for (const r of OPTIONS) {
      for (const size of sizes(r)) {
        const b = garbage(size);
        for (const so of [one, many]) {
          const level = levelOf(r);
          const set = setsockopt(so, level, r.number, b);
          assert.ok(Number.isInteger(set) && isErrno(set), `${r.name} [${b}]: ${set}`);
          const got = getsockopt(so, level, r.number, b);
          if (got instanceof Socket) w.adopt(got);
          else assert.ok(got instanceof Uint8Array || isErrno(got), `${r.name} [${b}]: ${got}`);
          if (got instanceof Uint8Array) assert.ok(got.length <= Math.max(b.length, r.layout.size), r.name);
        }
      }
    }
    over(w);
  });
  test('numbers that no option has', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    for (let i = 0; i < 300; i++) {
      const name = random() & 0xffff;
      const level = [L, api.SOL_SOCKET][random() % 2]!;
      if (optionRow(level === L ? 'sctp' : 'socket', name) !== undefined) continue;
      assert.equal(setsockopt(so, level, name, garbage(random() % 200)), -ENOPROTOOPT);
      assert.equal(getsockopt(so, level, name, garbage(random() % 200)), -ENOPROTOOPT);
    }
    over(w);
  });
});
