import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  addImm,
  assemble,
  exit,
  jump,
  jumpEqual,
  type Line,
  load,
  loadMap,
  movImm,
  R0,
  R1,
  R2,
  type StationRule,
  stationProgram,
} from './bpf.js';
import { writeIp } from './packets.fixture.js';

const DATA = 0x1000;

/** Runs a program on a frame, bounds-checked as the verifier would demand: 'take' when it redirects, else 'pass'. */
function run(code: Uint8Array, frame: Uint8Array, queue = 0): 'take' | 'pass' {
  const dv = new DataView(code.buffer, code.byteOffset, code.length);
  const context = new DataView(new ArrayBuffer(24));
  context.setUint32(0, DATA, true);
  context.setUint32(4, DATA + frame.length, true);
  context.setUint32(16, queue, true);
  const r = new Array<number>(11).fill(0);
  r[1] = -1; // the context
  let checked = 0; // bytes of the frame that a comparison with its end has shown to be there
  const read = (size: number, at: number, base: number) => {
    if (base < 0) return context.getUint32(at + 1, true);
    assert.ok(at >= DATA && at + size <= DATA + checked, `an unchecked read at ${at - DATA}`);
    let v = 0;
    for (let i = size - 1; i >= 0; i--) v = v * 256 + frame[at - DATA + i]!;
    return v;
  };
  for (let pc = 0, steps = 0; steps < 2000; steps++, pc++) {
    const op = dv.getUint8(8 * pc);
    const d = dv.getUint8(8 * pc + 1) & 15;
    const s = dv.getUint8(8 * pc + 1) >>> 4;
    const off = dv.getInt16(8 * pc + 2, true);
    const imm = dv.getInt32(8 * pc + 4, true);
    if (op === 0x95) return r[0] === 4 ? 'take' : 'pass';
    else if (op === 0x18) {
      assert.deepEqual([s, imm], [1, 77], 'the map by its descriptor');
      r[d] = -77;
      pc++;
    } else if (op === 0x61 || op === 0x69 || op === 0x71)
      r[d] = read(op === 0x61 ? 4 : op === 0x69 ? 2 : 1, r[s]! + off, r[s]!);
    else if (op === 0xbf) r[d] = r[s]!;
    else if (op === 0xb7) r[d] = imm;
    else if (op === 0x07) r[d]! += imm;
    else if (op === 0x57) r[d]! &= imm;
    else if (op === 0x05) pc += off;
    else if (op === 0x2d) {
      if (r[d]! > r[s]!) pc += off;
      else checked = Math.max(checked, r[d]! - DATA);
    } else if (op === 0x16) pc += (r[d]! | 0) === imm ? off : 0;
    else if (op === 0x56) pc += (r[d]! | 0) === imm ? 0 : off;
    else if (op === 0x85) {
      assert.deepEqual([imm, r[1], r[2], r[3]], [51, -77, queue, 2]);
      r[0] = 4;
    } else assert.fail(`no such instruction: ${op.toString(16)}`);
  }
  return assert.fail('the program does not end');
}

const OURS = Uint8Array.of(2, 0, 0, 0, 0, 0xa1);
const HOST = Uint8Array.of(2, 0, 0, 0, 0, 0xb1);
const ALL = new Uint8Array(6).fill(0xff);
const GROUP6 = Uint8Array.of(0x33, 0x33, 0xff, 0, 0, 9);

function frame(to: Uint8Array, type: number, body: Uint8Array, tag = 0): Uint8Array {
  const head = tag === 0 ? 14 : 18;
  const f = new Uint8Array(head + body.length);
  f.set(to);
  f.set([2, 9, 9, 9, 9, 9], 6);
  if (tag !== 0) f.set([tag >>> 8, tag & 255, 0, 7], 12);
  f.set([type >>> 8, type & 255], head - 2);
  f.set(body, head);
  return f;
}
function arp(target: string): Uint8Array {
  const b = new Uint8Array(28);
  b.set([0, 1, 8, 0, 6, 4, 0, 1]);
  b.set(target.split('.').map(Number), 24);
  return b;
}
function ip(to: string, proto: number, bytes = 64): Uint8Array {
  const b = new Uint8Array(bytes);
  writeIp(b, 0, bytes, to.includes(':') ? 'fd00::99' : '10.0.0.99', to, proto);
  return b;
}
function solicitation(target: number): Uint8Array {
  const b = ip('ff02::1:ff00:9', 58, 72);
  b[40] = 135;
  b.set([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, target], 48);
  return b;
}

/** Every row can be come to: the kernel's verifier refuses a program with others. */
function checkReachable(code: Uint8Array): void {
  const dv = new DataView(code.buffer);
  const seen = new Set<number>();
  const open = [0];
  for (let pc = open.pop(); pc !== undefined; pc = open.pop()) {
    if (seen.has(pc)) continue;
    seen.add(pc);
    const op = dv.getUint8(8 * pc);
    const jumps = (op & 7) === 5 || (op & 7) === 6;
    if (op === 0x95) continue;
    if (op === 0x18) seen.add(pc + 1);
    if (jumps && op !== 0x85) open.push(pc + 1 + dv.getInt16(8 * pc + 2, true));
    if (op !== 0x05) open.push(pc + (op === 0x18 ? 2 : 1));
  }
  assert.equal(seen.size, code.length / 8);
}

const program = (rule: Partial<StationRule>) =>
  assemble(stationProgram({ macs: [OURS], hostMac: HOST, addresses: [], hostAddresses: [], ...rule }, 77));

test('no row is out of reach, whatever the rule', () => {
  for (const macs of [[], [OURS], [OURS, HOST]])
    for (const addresses of [[], ['10.0.0.2'], ['fd00::2'], ['10.0.0.2', 'fd00::2']])
      for (const hostAddresses of [[], ['10.0.0.1/24', 'fd00::1/64']])
        checkReachable(program({ macs, addresses, hostAddresses }));
});

function expectAll(code: Uint8Array, rows: readonly [string, Uint8Array, 'take' | 'pass'][]): void {
  for (const [what, f, verdict] of rows) assert.equal(run(code, f), verdict, what);
}

test('rows become bytes; labels become offsets', () => {
  const lines: Line[] = [
    movImm(R0, -2),
    'again',
    jumpEqual(R0, 7, 'end'),
    addImm(R0, 1),
    load(2, R2, R1, -4),
    jump('again'),
    'end',
    ...loadMap(R1, 5),
    exit,
  ];
  const hex = Buffer.from(assemble(lines)).toString('hex').match(/.{16}/g);
  assert.deepEqual(hex, [
    'b7000000feffffff',
    '1600030007000000',
    '0700000001000000',
    '6912fcff00000000',
    '0500fcff00000000',
    '1811000005000000',
    '0000000000000000',
    '9500000000000000',
  ]);
  assert.throws(() => assemble([jump('nowhere')]), /no label nowhere/);
  assert.throws(() => assemble(['a', exit, 'a']), /twice/);
  assert.throws(() => assemble([jump('far'), ...new Array<Line>(40000).fill(exit), 'far', exit]), /16 bits/);
});

test('own hardware address: everything is the card’s; the host’s and others’ pass', () => {
  expectAll(program({}), [
    ['SCTP to us', frame(OURS, 0x0800, ip('10.0.0.2', 132)), 'take'],
    ['another EtherType to us', frame(OURS, 0x88b5, new Uint8Array(46)), 'take'],
    ['tagged to us', frame(OURS, 0x0800, ip('10.0.0.2', 132), 0x8100), 'take'],
    ['to the host', frame(HOST, 0x0800, ip('10.0.0.1', 132)), 'pass'],
    ['to somebody', frame(Uint8Array.of(2, 0, 0, 0, 0, 0xa2), 0x0800, ip('10.0.0.2', 132)), 'pass'],
    ['same end', frame(Uint8Array.of(4, 0, 0, 0, 0, 0xa1), 0x0800, ip('10.0.0.2', 132)), 'pass'],
    ['a runt', OURS.slice(), 'pass'],
    ['a header alone', frame(OURS, 0x0800, new Uint8Array(0)), 'take'],
    ['a tag that is cut off', frame(OURS, 0x8100, new Uint8Array(3)), 'pass'],
  ]);
});

test('own hardware address not known yet: all unicast but the host’s', () => {
  const rows: [string, Uint8Array, 'take' | 'pass'][] = [
    ['to somebody', frame(OURS, 0x0800, ip('10.0.0.2', 132)), 'take'],
    ['same beginning', frame(Uint8Array.of(2, 0, 0, 0, 0, 0xb2), 0x0800, ip('10.0.0.2', 132)), 'take'],
    ['to the host', frame(HOST, 0x0800, ip('10.0.0.2', 132)), 'pass'],
  ];
  expectAll(program({ macs: [] }), rows);
});

test('addresses not known: all broadcast and multicast but the host’s own', () => {
  expectAll(program({ hostAddresses: ['10.0.0.1/24', 'fd00::1/64'] }), [
    ['ARP for somebody', frame(ALL, 0x0806, arp('10.0.0.2')), 'take'],
    ['ARP for the host', frame(ALL, 0x0806, arp('10.0.0.1')), 'pass'],
    ['the same with a tag', frame(ALL, 0x0806, arp('10.0.0.1'), 0x88a8), 'pass'],
    ['ARP cut off', frame(ALL, 0x0806, arp('10.0.0.2').subarray(0, 27)), 'pass'],
    ['solicitation for somebody', frame(GROUP6, 0x86dd, solicitation(2)), 'take'],
    ['solicitation for the host', frame(GROUP6, 0x86dd, solicitation(1)), 'pass'],
    ['other IPv6 multicast', frame(GROUP6, 0x86dd, ip('ff02::1', 17, 80)), 'take'],
    ['short IPv6 multicast', frame(GROUP6, 0x86dd, ip('ff02::1', 17, 48)), 'take'],
    ['a broadcast of another kind', frame(ALL, 0x88b5, new Uint8Array(46)), 'take'],
    ['LLDP', frame(Uint8Array.of(1, 0x80, 0xc2, 0, 0, 0x0e), 0x88cc, new Uint8Array(46)), 'pass'],
    ['not a bridge’s group', frame(Uint8Array.of(1, 0x80, 0xc2, 0, 0, 0x10), 0x88b5, new Uint8Array(46)), 'take'],
  ]);
});

test('addresses known: what asks for them, and nothing else of broadcast and multicast', () => {
  expectAll(program({ addresses: ['10.0.0.2/24', '10.0.0.3', 'fd00::2/64'], hostAddresses: ['10.0.0.1/24'] }), [
    ['ARP for us', frame(ALL, 0x0806, arp('10.0.0.2')), 'take'],
    ['ARP for our other address, tagged', frame(ALL, 0x0806, arp('10.0.0.3'), 0x8100), 'take'],
    ['ARP for the host', frame(ALL, 0x0806, arp('10.0.0.1')), 'pass'],
    ['ARP for somebody', frame(ALL, 0x0806, arp('10.0.0.4')), 'pass'],
    ['solicitation for us', frame(GROUP6, 0x86dd, solicitation(2)), 'take'],
    ['solicitation for somebody', frame(GROUP6, 0x86dd, solicitation(3)), 'pass'],
    ['a router advertisement’s group', frame(GROUP6, 0x86dd, ip('ff02::1', 58, 80)), 'pass'],
    ['IPv4 broadcast', frame(ALL, 0x0800, ip('255.255.255.255', 17)), 'pass'],
    ['unicast to us', frame(OURS, 0x0800, ip('10.9.9.9', 6)), 'take'],
  ]);
});

test('one hardware address for both: IP addresses decide', () => {
  const rows = (unknown: 'take' | 'pass'): [string, Uint8Array, 'take' | 'pass'][] => [
    ['IPv4 to the card', frame(HOST, 0x0800, ip('10.0.0.2', 132)), 'take'],
    ['IPv4 to the host', frame(HOST, 0x0800, ip('10.0.0.1', 132)), 'pass'],
    ['IPv4 to neither', frame(HOST, 0x0800, ip('10.0.0.7', 132)), unknown],
    ['IPv6 to the card', frame(HOST, 0x86dd, ip('fd00::2', 132)), 'take'],
    ['IPv6 to the host', frame(HOST, 0x86dd, ip('fd00::1', 132)), 'pass'],
    ['ARP reply to the card', frame(HOST, 0x0806, arp('10.0.0.2')), 'take'],
    ['ARP reply to the host', frame(HOST, 0x0806, arp('10.0.0.1')), 'pass'],
    ['another EtherType', frame(HOST, 0x88b5, new Uint8Array(46)), 'pass'],
    ['IPv4 cut off', frame(HOST, 0x0800, new Uint8Array(19)), 'pass'],
  ];
  const hostAddresses = ['10.0.0.1/24', 'fd00::1/64'];
  expectAll(program({ macs: [HOST], addresses: ['10.0.0.2', 'fd00::2'], hostAddresses }), rows('pass'));
  expectAll(program({ macs: [HOST], hostAddresses }), rows('take'));
});
