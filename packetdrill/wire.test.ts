/** Chunks there and back: encode, decode, compare; lengths as written; what has no form is generic. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Chunk, SctpPacket } from './ast.js';
import { capture } from './capture.js';
import { compareChunks } from './compare.js';
import { decodeChunks, VERBATIM_FROM } from './decode.js';
import { encodeChunks, ScriptError, VERBATIM } from './encode.js';
import { parse } from './parser.js';

function chunks(text: string, direction: '<' | '>' = '<'): readonly Chunk[] {
  const event = parse('x.pkt', `0 ${direction} sctp: ${text}\n`).events[0]!;
  assert.ok(event.kind === 'packet' && event.packet.transport === 'sctp');
  return (event.packet as SctpPacket).chunks!;
}
const hex = (b: Uint8Array) => Buffer.from(b).toString('hex');

describe('there and back', () => {
  for (const text of [
    'DATA[flgs=IUBE, len=21, tsn=1, sid=2, ssn=3, ppid=4]; COOKIE_ACK[flgs=0]',
    'I_DATA[flgs=B, len=24, tsn=1, sid=2, mid=3, ppid=4]; I_DATA[flgs=E, len=24, tsn=2, sid=2, mid=3, fsn=1]',
    'INIT[flgs=0, tag=1, a_rwnd=1500, os=1, is=2, tsn=3, IPV4_ADDRESS[addr=192.0.2.1], IPV6_ADDRESS[addr=2001:db8::1], ECN_CAPABLE[], FORWARD_TSN_SUPPORTED[], COOKIE_PRESERVATIVE[incr=5], HOSTNAME_ADDRESS[addr="abc"], SUPPORTED_EXTENSIONS[types=[FORWARD_TSN, 0x82, I_DATA]], ZERO_CHECKSUM_ACCEPTABLE[edmid=1], ADAPTATION_INDICATION[adaptation_code_point=7], SUPPORTED_ADDRESS_TYPES[types=[IPv4, IPv6, HOSTNAME]]]',
    'INIT_ACK[flgs=0, tag=1, a_rwnd=1500, os=1, is=2, tsn=3, STATE_COOKIE[len=7, val=[1, 2, 3]], UNRECOGNIZED_PARAMETER[params=[PARAMETER[type=0xc999, len=6, val=[9, 9]]]], PAD[len=5, val=[0]]]',
    'SACK[flgs=0, cum_tsn=1, a_rwnd=2, gaps=[2:3, 5:5], dups=[7, 8]]',
    'NR_SACK[flgs=0, cum_tsn=1, a_rwnd=2, gaps=[2:3], nr_gaps=[5:5, 7:9], dups=[7]]',
    'HEARTBEAT[flgs=0, HEARTBEAT_INFORMATION[len=7, val=[1, 2, 3]]]; HEARTBEAT_ACK[flgs=0, HEARTBEAT_INFORMATION[len=4, val=[]]]',
    'ABORT[flgs=T, USER_INITIATED_ABORT[info="go"], PROTOCOL_VIOLATION[info="x"], CAUSE[code=0x105, len=6, info=[1, 2]]]',
    'ERROR[flgs=0, INVALID_STREAM_IDENTIFIER[sid=5], MISSING_MANDATORY_PARAMETER[types=[STATE_COOKIE, 5, 6]], STALE_COOKIE_ERROR[staleness=9], OUT_OF_RESOURCE[], UNRESOLVABLE_ADDRESS[param=HOSTNAME_ADDRESS[addr="abc"]], INVALID_MANDATORY_PARAMETER[], NO_USER_DATA[tsn=5], COOKIE_RECEIVED_WHILE_SHUTDOWN[]]',
    'ERROR[flgs=0, UNRECOGNIZED_CHUNK_TYPE[chk=CHUNK[type=0xee, flgs=0, len=5, val=[1]]], UNRECOGNIZED_PARAMETERS[params=[PARAMETER[type=0xc999, len=5, val=[9]], PARAMETER[type=0xc998, len=5, val=[9]]]], RESTART_WITH_NEW_ADDRESSES[params=[IPV4_ADDRESS[addr=192.0.2.9]]]]',
    'SHUTDOWN[flgs=0, cum_tsn=5]; SHUTDOWN_ACK[flgs=0]; SHUTDOWN_COMPLETE[flgs=T]; ECNE[flgs=0, tsn=1]; CWR[flgs=0, tsn=2]',
    'COOKIE_ECHO[flgs=0, len=7, val=[1, 2, 3]]; PAD[flgs=0, len=6, val=[0, 0]]; CHUNK[type=0x81, flgs=3, len=6, val=[1, 2]]',
    'RECONFIG[flgs=0, OUTGOING_SSN_RESET[req_sn=1, resp_sn=2, last_tsn=3, sids=[1, 2, 3]], RECONFIG_RESPONSE[resp_sn=2, result=1]]; RECONFIG[flgs=0, INCOMING_SSN_RESET[req_sn=1, sids=[4]], SSN_TSN_RESET[req_sn=2]]',
    'RECONFIG[flgs=0, RECONFIG_RESPONSE[resp_sn=2, result=1, sender_next_tsn=5, receiver_next_tsn=6]]; RECONFIG[flgs=0, ADD_OUTGOING_STREAMS[req_sn=1, number_of_new_streams=2], ADD_INCOMING_STREAMS[req_sn=2, number_of_new_streams=3]]',
    'FORWARD_TSN[cum_tsn=5, ids=[{1, 2}, {3, 4}]]; I_FORWARD_TSN[cum_tsn=5, ids=[{1, 1, 9}]]; FORWARD_TSN[cum_tsn=5, ids=[]]',
  ])
    test(text.slice(0, 60), () => {
      const want = chunks(text);
      const bytes = encodeChunks(want, VERBATIM);
      assert.equal(bytes.length % 4, 0);
      const got = decodeChunks(bytes, want, VERBATIM_FROM);
      assert.deepEqual(compareChunks(want, got), []);
      // The forms are found without help, too.
      assert.deepEqual(compareChunks(decodeChunks(bytes, undefined, VERBATIM_FROM), got), []);
      assert.equal(hex(encodeChunks(got, VERBATIM)), hex(bytes));
    });
});

describe('lengths', () => {
  test('as written, even when wrong; padding follows what is there', () => {
    assert.equal(hex(encodeChunks(chunks('CHUNK[type=0x11, flgs=1, len=200, val=[1]]'), VERBATIM)), '110100c801000000');
    const init = 'INIT[flgs=0, tag=1, a_rwnd=2, os=1, is=1, tsn=1, PARAMETER[type=0x9999, len=100, val=[1, 2]]]';
    assert.equal(hex(encodeChunks(chunks(init), VERBATIM)).slice(40), '999900640102' + '0000');
  });
  test('the padding of the last parameter does not count', () => {
    const init = 'INIT[flgs=0, tag=1, a_rwnd=2, os=1, is=1, tsn=1, SUPPORTED_ADDRESS_TYPES[types=[IPv4]]]';
    const bytes = encodeChunks(chunks(init), VERBATIM);
    assert.deepEqual([bytes.length, bytes[3]], [28, 26]);
    bytes[3] = 28; // counted after all: no INIT as it should be
    assert.equal(decodeChunks(bytes, undefined, VERBATIM_FROM)[0]!.name, 'CHUNK');
  });
  test('what does not fit its form is generic, what is no chunk ends the packet', () => {
    const name = (s: string) => decodeChunks(Buffer.from(s, 'hex'), undefined, VERBATIM_FROM).map(c => c.name);
    assert.deepEqual(name('0700000c0000000100000002'), ['CHUNK']);
    assert.deepEqual(name('0b00000403000010000000010000000200010000'), ['COOKIE_ACK', 'CHUNK']);
    assert.deepEqual(name('0b0000040b000003'), ['COOKIE_ACK', 'CHUNK']);
    assert.deepEqual(name('0b000004ff'), ['COOKIE_ACK', 'CHUNK']);
    assert.deepEqual(name('06000008000100ff'), ['CHUNK']);
  });
  test('never beyond the packet, whatever the bytes', () => {
    let seed = 7;
    const random = () => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 16;
    for (let i = 0; i < 3000; i++) {
      const b = Uint8Array.from({ length: random() % 60 }, () => (random() % 3 === 0 ? random() % 20 : random()));
      if (b.length > 3) b[0] = [0, 1, 2, 3, 4, 6, 9, 0x10, 0x40, 0x82, 0xc0, 0xc2][random() % 12]!;
      decodeChunks(b, undefined, VERBATIM_FROM);
    }
  });
});

test('an injected packet must be whole', () => {
  const bare = chunks('SACK[flgs=0, cum_tsn=..., a_rwnd=1, gaps=[], dups=[]]', '>');
  assert.throws(
    () => encodeChunks(bare, VERBATIM),
    (e: unknown) => e instanceof ScriptError && /cum_tsn/.test(e.message),
  );
  const cookie = chunks('COOKIE_ECHO[flgs=0, len=..., val=...]');
  assert.throws(() => encodeChunks(cookie, VERBATIM), /no state cookie/);
  const given = encodeChunks(cookie, { ...VERBATIM, cookie: Uint8Array.of(1, 2, 3) });
  assert.equal(hex(given), '0a00000701020300');
});

test('capture: any frame, a packet or nothing', () => {
  let seed = 3;
  const random = () => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 16;
  let seen = 0;
  for (let i = 0; i < 4000; i++) {
    const b = Uint8Array.from({ length: random() % 130 }, () => (random() % 4 === 0 ? random() : 0));
    const six = i % 2 === 0;
    if (b.length > 16) [b[12], b[13], b[14]] = six ? [0x86, 0xdd, 0x60] : [8, 0, 0x45];
    if (b.length > 24) b[six ? 20 : 23] = [1, 17, 58, 132, random()][random() % 5]!;
    if (b.length > 20) [b[six ? 18 : 16], b[six ? 19 : 17]] = [0, random() % 140];
    if (!six && b.length > 21) [b[20], b[21]] = [0, 0];
    if (capture(0, b, random() % 2 === 0, random() % 2 === 0) !== undefined) seen++;
  }
  assert.ok(seen > 300, `${seen}`);
});
