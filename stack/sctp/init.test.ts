import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { InAddr } from '../netinet/in.js';
import {
  CAUSE_INVALID_PARAM,
  CAUSE_PROTOCOL_VIOLATION,
  CAUSE_UNRESOLVABLE_ADDR,
  INIT,
  INIT_ACK,
  PARAM_COOKIE_PRESERVATIVE,
  PARAM_ECN,
  PARAM_HOST_NAME,
  PARAM_IPV4,
  PARAM_IPV6,
  PARAM_STATE_COOKIE,
  PARAM_SUPPORTED_ADDR_TYPES,
  PARAM_UNRECOGNIZED,
} from './constants.js';
import { buildInit, type InitError, type InitInfo, parseInit } from './init.js';
import { addressParam, decodePacket, type InitFieldsOfTest, init, packet, param, u32 } from './packets.fixture.js';

function parse(f: InitFieldsOfTest, limit = 64): InitInfo | InitError {
  const b = init(f);
  return parseInit(new DataView(b.buffer), 0, new DataView(b.buffer).getUint16(2), limit);
}
function good(f: InitFieldsOfTest, limit = 64): InitInfo {
  const r = parse(f, limit);
  assert.ok(!('error' in r), 'error' in r ? r.text : '');
  return r;
}
function refused(f: InitFieldsOfTest): [cause: number, text: string, section: string] {
  const r = parse(f);
  assert.ok('error' in r, 'not refused');
  return [new DataView(r.error.buffer, r.error.byteOffset).getUint16(0), r.text, r.section];
}

test('what is built is parsed back, parameters in FreeBSD order, each length without its padding', () => {
  const bytes = buildInit({
    type: INIT_ACK,
    tag: 0xfffffffe,
    rwnd: 65536,
    outStreams: 3,
    inStreams: 65535,
    tsn: 0x80000001 | 0,
    ecn: true,
    preservative: 0,
    families: { v4: true, v6: true },
    addresses: [InAddr.of('10.0.0.1'), InAddr.of('fd00::1')],
    cookie: Uint8Array.of(1, 2, 3, 4, 5),
    unrecognized: [param(0xc123, [9])],
  });
  const chunk = decodePacket(packet({ src: 1, dst: 2, tag: 3 }, [bytes])).chunks[0]!;
  assert.deepEqual(chunk.init, { tag: 0xfffffffe, rwnd: 65536, os: 3, is: 65535, tsn: 0x80000001 });
  assert.deepEqual(
    chunk.tlvs.map(t => t.type),
    [PARAM_ECN, PARAM_SUPPORTED_ADDR_TYPES, PARAM_IPV4, PARAM_IPV6, PARAM_UNRECOGNIZED, PARAM_STATE_COOKIE],
  );
  assert.deepEqual(chunk.tlvs[5]!.body, Uint8Array.of(1, 2, 3, 4, 5));
  const info = parseInit(new DataView(bytes.buffer), 0, chunk.length, 64);
  assert.ok(!('error' in info));
  assert.deepEqual([info.tag, info.rwnd, info.outStreams, info.inStreams], [0xfffffffe, 65536, 3, 65535]);
  assert.equal(info.tsn >>> 0, 0x80000001);
  assert.deepEqual(info.addresses.map(String), ['10.0.0.1', 'fd00::1']);
  assert.deepEqual(info.cookie, Uint8Array.of(1, 2, 3, 4, 5));
  assert.deepEqual(info.families, { v4: true, v6: true });
  assert.equal(info.ecn, true);
});

test('an INIT without parameters; the cookie preservative', () => {
  const info = good({});
  assert.deepEqual([info.addresses.length, info.ecn, info.families, info.cookie], [0, false, undefined, undefined]);
  assert.equal(good({ params: [param(PARAM_COOKIE_PRESERVATIVE, u32(5000))] }).preservative, 5000);
  const bytes = buildInit({
    type: INIT,
    tag: 1,
    rwnd: 2000,
    outStreams: 1,
    inStreams: 1,
    tsn: 1,
    ecn: false,
    preservative: 70000,
    families: undefined,
    addresses: [],
  });
  const back = parseInit(new DataView(bytes.buffer), 0, bytes.length, 64);
  assert.equal('error' in back ? back.text : back.preservative, 70000);
});

describe('refused with a cause (§3.3.2)', () => {
  for (const [name, fields, code, section] of [
    ['a_rwnd below 1500', { rwnd: 1499 }, CAUSE_INVALID_PARAM, '§3.3.2'],
    ['no outbound streams', { os: 0 }, CAUSE_INVALID_PARAM, '§3.3.2'],
    ['no inbound streams', { is: 0 }, CAUSE_INVALID_PARAM, '§3.3.2'],
    ['a host name', { params: [param(PARAM_HOST_NAME, [65, 0])] }, CAUSE_UNRESOLVABLE_ADDR, '§3.3.2.1.4'],
    ['a short IPv4 address', { params: [param(PARAM_IPV4, [1, 2])] }, CAUSE_PROTOCOL_VIOLATION, '§3.2.1'],
    ['a short IPv6 address', { params: [param(PARAM_IPV6, u32(1, 2))] }, CAUSE_PROTOCOL_VIOLATION, '§3.2.1'],
    ['a short preservative', { params: [param(PARAM_COOKIE_PRESERVATIVE)] }, CAUSE_PROTOCOL_VIOLATION, '§3.2.1'],
    ['a parameter of length 3', { params: [param(PARAM_ECN, [], 3)] }, CAUSE_PROTOCOL_VIOLATION, '§3.2.1'],
    ['a parameter beyond the chunk', { params: [param(PARAM_ECN, [], 9)] }, CAUSE_PROTOCOL_VIOLATION, '§3.2.1'],
  ] as const)
    test(name, () => {
      const [cause, text, where] = refused(fields);
      assert.deepEqual([cause, where], [code, section]);
      assert.notEqual(text, '');
    });
  test('1500 is enough', () => assert.equal(good({ rwnd: 1500 }).rwnd, 1500));
});

describe('unknown parameters (§3.2.1)', () => {
  for (const [bits, type, reported, on] of [
    ['00 stop', 0x0123, 0, false],
    ['01 stop and report', 0x4123, 1, false],
    ['10 skip', 0x8123, 0, true],
    ['11 skip and report', 0xc123, 1, true],
  ] as const)
    test(bits, () => {
      const unknown = param(type, [1, 2, 3]);
      const info = good({ params: [unknown, param(PARAM_ECN)] });
      assert.equal(info.ecn, on);
      assert.equal(info.unrecognized.length, reported);
      if (reported === 1) assert.deepEqual(info.unrecognized[0], unknown.subarray(0, 7)); // without padding
    });
  test('reports are bounded, the rest is counted', () => {
    const info = good({ params: Array.from({ length: 100 }, () => param(0xc001, new Uint8Array(60))) });
    assert.equal(info.unrecognized.length + info.unreported, 100);
    const bytes = info.unrecognized.reduce((n, u) => n + u.length, 0);
    assert.ok(bytes > 0 && bytes <= 1024, `${bytes}`);
  });
});

test('addresses: what nobody can have, doubles, and those above the limit are not taken', () => {
  const bad = ['0.0.0.0', '255.255.255.255', '224.0.0.1', 'ff02::1', '::', '::ffff:10.0.0.9'];
  const info = good({ params: [...bad, '10.1.1.1', '10.1.1.1', 'fd00::9'].map(addressParam) });
  assert.deepEqual(info.addresses.map(String), ['10.1.1.1', 'fd00::9']);
  assert.equal(info.droppedAddresses, bad.length);
  const many = good({ params: Array.from({ length: 9 }, (_, i) => addressParam(`10.1.1.${i + 1}`)) }, 4);
  assert.deepEqual([many.addresses.length, many.droppedAddresses], [4, 5]);
});
