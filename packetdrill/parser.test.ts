import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ANY, type Chunk, type Packet, type PacketEvent, type Script, type SctpPacket, type Syscall } from './ast.js';
import { planCommand } from './commands.js';
import { MAX_DEPTH } from './cursor.js';
import { ParseError } from './error.js';
import {
  CALL_FORMS,
  CAUSE_FORMS,
  CHUNK_FORMS,
  DATA,
  EVERYTHING,
  HANDSHAKE,
  PACKET_FORMS,
  PARAMETER_FORMS,
} from './examples.fixture.js';
import { CAUSE_NAMES, CAUSES, CHUNK_NAMES, CHUNKS, icmpNumbers, PARAMETER_NAMES, PARAMETERS } from './forms.js';
import { bare, mutate, scriptTexts } from './mutation.fixture.js';
import { parse } from './parser.js';
import { printScript } from './print.js';

const START = '0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3\n';

/** The one event behind a first line. */
function second(text: string) {
  return parse('t.pkt', `${START}${text}`).events[1]!;
}
const packet = (text: string): Packet => (second(`+0 ${text}`) as PacketEvent).packet;
const chunk = (text: string, direction = '>'): Chunk =>
  (packet(`${direction} sctp: ${text}`) as SctpPacket).chunks![0]!;
function call(text: string): Syscall {
  const e = second(`+0 ${text}`);
  assert.equal(e.kind, 'syscall');
  return (e as { call: Syscall }).call;
}

/** Line, column and message of what a text fails with; lines count from the text, which stands behind START. */
function failure(text: string, start = START): [number, number, string] {
  try {
    parse('t.pkt', `${start}${text}`);
  } catch (e) {
    assert.ok(e instanceof ParseError, `${e}`);
    assert.equal(e.message, `t.pkt:${e.at.line}:${e.at.column}: ${e.what}`);
    return [e.at.line - (start === '' ? 0 : 1), e.at.column, e.what];
  }
  return assert.fail(`parsed: ${text}`);
}

/** Prints and parses again: the same tree, and printing has come to rest. */
function roundTrip(text: string): Script {
  const first = parse('t.pkt', text);
  const printed = printScript(first);
  const again = parse('t.pkt', printed);
  assert.deepEqual(bare(again), bare(first), printed);
  assert.equal(printScript(again), printed);
  return first;
}

test('a whole exchange: options, times, directions, notes', () => {
  const s = roundTrip(HANDSHAKE);
  assert.deepEqual(
    s.options.map(o => [o.name, o.value]),
    [['tolerance_usecs', '15000']],
  );
  assert.equal(s.events.length, 13);
  assert.deepEqual(s.events[0]!.time, { kind: 'absolute', seconds: 0 });
  assert.deepEqual(s.events[6]!.time, { kind: 'relative', seconds: 0.02 });
  const fcntl = s.events[3] as { call: Syscall };
  assert.deepEqual(bare(fcntl.call.result), { kind: 'int', value: 2, hex: true });
  assert.equal(fcntl.call.note, 'flags O_RDWR');
  assert.equal(fcntl.call.errno, undefined);
  const accept = s.events[5] as { call: Syscall };
  assert.deepEqual([accept.call.errno, accept.call.note], ['EWOULDBLOCK', "it's empty - still, isn't it?"]);
  assert.match(s.events[6]!.source, /^\+0\.020 {2}< sctp: INIT[\s\S]*\[types=\[IPv4\]\]\]$/);
  assert.equal(s.events[3]!.source, '+0      fcntl(5, F_GETFL) = 0x2 (flags O_RDWR)');
  assert.deepEqual(s.events[6]!.at, { file: 't.pkt', line: 11, column: 1 });
  const init = s.events[6] as PacketEvent;
  assert.deepEqual((init.packet as SctpPacket).chunks![0]!.at, { file: 't.pkt', line: 11, column: 17 });
  roundTrip(DATA);
});

test('every form survives printing and parsing', () => {
  const s = roundTrip(EVERYTHING);
  const forms = [CHUNK_FORMS, PARAMETER_FORMS, CAUSE_FORMS, PACKET_FORMS, CALL_FORMS];
  assert.equal(s.events.length, 5 + forms.reduce((n, f) => n + f.length, 0));
  assert.equal(s.init!.text.split('\n').length, 2);
  assert.equal(s.cleanup!.text, 'sysctl -w net.inet.sctp.ecn_enable=1');
  assert.deepEqual(s.warnings, []);
  // SIZE was defined by an option of the script.
  const read = s.events.at(-2) as { call: Syscall };
  assert.deepEqual(bare(read.call.result), { kind: 'int', value: 10, hex: false });
});

test('the examples have every row of the tables', () => {
  for (const [rows, forms] of [
    [CHUNKS, CHUNK_FORMS],
    [PARAMETERS, PARAMETER_FORMS],
    [CAUSES, CAUSE_FORMS],
  ] as const)
    for (const name of rows.keys())
      assert.ok(
        forms.some(f => f.startsWith(`${name}[`)),
        name,
      );
  assert.equal(CHUNK_NAMES.get(0xc2), 'I_FORWARD_TSN');
  assert.equal(PARAMETER_NAMES.get(0x8001), 'ZERO_CHECKSUM_ACCEPTABLE');
  assert.equal(CAUSE_NAMES.get(13), 'PROTOCOL_VIOLATION');
  assert.equal(CHUNK_NAMES.size, CHUNKS.size - 1);
});

test('chunks as trees', () => {
  assert.deepEqual(bare(chunk('DATA[flgs=BUE, len=20, tsn=1, sid=2, ssn=..., ppid=0x10]')), {
    name: 'DATA',
    flgs: 7,
    len: 20,
    tsn: 1,
    sid: 2,
    ssn: ANY,
    ppid: 16,
  });
  assert.deepEqual(bare(chunk('SACK[flgs=0, cum_tsn=1, a_rwnd=2, gaps=[2:3], dups=[...]]')), {
    name: 'SACK',
    flgs: 0,
    cum_tsn: 1,
    a_rwnd: 2,
    gaps: [{ start: 2, end: 3 }],
    dups: ANY,
  });
  assert.deepEqual(bare(chunk('ABORT[flgs=T]')), { name: 'ABORT', flgs: 1, causes: [] });
  assert.deepEqual(bare(chunk('ABORT[flgs=..., ...]')), { name: 'ABORT', flgs: ANY, causes: ANY });
  assert.deepEqual(bare(chunk('ABORT[flgs=0, USER_INITIATED_ABORT[info="a\\n\\x41\\101\\"..."]]')), {
    name: 'ABORT',
    flgs: 0,
    causes: [{ name: 'USER_INITIATED_ABORT', info: 'a\nAA"...' }],
  });
  assert.deepEqual(bare(chunk('HEARTBEAT[flgs=0, HEARTBEAT_INFORMATION[...]]')), {
    name: 'HEARTBEAT',
    flgs: 0,
    info: { name: 'HEARTBEAT_INFORMATION', len: ANY, val: ANY },
  });
  assert.deepEqual(bare(chunk('FORWARD_TSN[cum_tsn=1, ids=[{sid=1, ssn=2}, {3,...}]]')), {
    name: 'FORWARD_TSN',
    cum_tsn: 1,
    ids: [
      { sid: 1, ssn: 2 },
      { sid: 3, ssn: ANY },
    ],
  });
  assert.deepEqual(bare(chunk('RECONFIG[flgs=0, INCOMING_SSN_RESET[req_sn=1], SSN_TSN_RESET[req_sn=...]]')), {
    name: 'RECONFIG',
    flgs: 0,
    params: [
      { name: 'INCOMING_SSN_RESET', req_sn: 1, sids: [] },
      { name: 'SSN_TSN_RESET', req_sn: ANY },
    ],
  });
  // Fields in another order are the same chunk.
  assert.deepEqual(bare(chunk('SHUTDOWN[cum_tsn=1, flgs=0]')), bare(chunk('SHUTDOWN[flgs=0, cum_tsn=1]')));
  // Names in lists are numbers.
  const init = 'INIT[flgs=0, tag=1, a_rwnd=1, os=1, is=1, tsn=1';
  const params = (text: string) => (bare(chunk(`${init}, ${text}]`)) as { params: unknown }).params;
  assert.deepEqual(params('SUPPORTED_EXTENSIONS[types=[I_DATA, AUTH, 7]]'), [
    { name: 'SUPPORTED_EXTENSIONS', types: [0x40, 0x0f, 7] },
  ]);
  assert.deepEqual(params('SUPPORTED_ADDRESS_TYPES[types=[IPv4, IPv6, HOSTNAME]]'), [
    { name: 'SUPPORTED_ADDRESS_TYPES', types: [5, 6, 11] },
  ]);
  assert.deepEqual(params('UNRECOGNIZED_PARAMETER[params=[PAD[len=4, val=[]]]]'), [
    { name: 'UNRECOGNIZED_PARAMETER', params: [{ name: 'PAD', len: 4, val: new Uint8Array(0) }] },
  ]);
});

test('packet heads and prefixes', () => {
  const p = packet('< (ttl 64, ect0) 1 > 2 sctp(bad_crc32c, tag=0xff)/udp(3 > 4): COOKIE_ACK[flgs=0]') as SctpPacket;
  assert.deepEqual(
    [p.direction, p.ip, p.ports, p.checksum, p.tag, p.udp],
    ['in', { ttl: 64, ecn: 2 }, { src: 1, dst: 2 }, 'bad', 255, { src: 3, dst: 4 }],
  );
  const raw = packet('< sctp: [0x01, 2]') as SctpPacket;
  assert.deepEqual([raw.raw, raw.chunks], [Uint8Array.of(1, 2), undefined]);
  assert.deepEqual((packet('< sctp:') as SctpPacket).chunks, []);
  const bundle = packet('> sctp: COOKIE_ACK[flgs=0] ; SHUTDOWN_ACK[flgs=0];ABORT[flgs=0]') as SctpPacket;
  assert.deepEqual(
    bundle.chunks!.map(c => c.name),
    ['COOKIE_ACK', 'SHUTDOWN_ACK', 'ABORT'],
  );
  const outer = packet('> ipv6 fe80::1 > ::: gre: sctp: COOKIE_ACK[flgs=0]');
  assert.deepEqual(outer.encap, [{ kind: 'ipv6', ip: undefined, src: 'fe80::1', dst: '::' }, { kind: 'gre' }]);
  // An empty packet and the next event do not run together.
  assert.equal(parse('t.pkt', `${START}+0 < sctp:\n5 close(3) = 0`).events.length, 3);
});

test('ICMP in both orders', () => {
  const p = bare(packet('< icmp unreachable frag_needed mtu 1200 [sctp(64)/udp(1 > 2)]'));
  assert.deepEqual(p, bare(packet('< [sctp(tag=64)/udp(1 > 2)] icmp unreachable frag_needed mtu 1200')));
  assert.deepEqual(p, {
    transport: 'icmp',
    direction: 'in',
    encap: [],
    type: 'unreachable',
    code: 'frag_needed',
    mtu: 1200,
    echoed: { kind: 'sctp', tag: 64, udp: { src: 1, dst: 2 } },
  });
  // A number behind the type is the time of the next event.
  assert.equal(parse('t.pkt', `${START}+0 < icmp echo_request\n5 close(3) = 0`).events.length, 3);
  assert.deepEqual(icmpNumbers('ipv4', 'unreachable', 'frag_needed'), { type: 3, code: 4 });
  assert.deepEqual(icmpNumbers('ipv6', 'unreachable', 'port_unreachable'), { type: 1, code: 4 });
  assert.deepEqual(icmpNumbers('ipv6', 'type_2', 'code_9'), { type: 2, code: 9 });
  assert.equal(icmpNumbers('ipv6', 'unreachable', 'frag_needed'), undefined);
  assert.equal(icmpNumbers('ipv4', 'constructor', undefined), undefined);
  assert.equal(icmpNumbers('ipv4', 'unreachable', 'constructor'), undefined);
  assert.equal(icmpNumbers('ipv4', 'type_256', undefined), undefined);
});

test('times', () => {
  const time = (text: string) => second(text).time;
  const x = '> sctp: COOKIE_ACK[flgs=0]';
  assert.deepEqual(time(`1.25 ${x}`), { kind: 'absolute', seconds: 1.25 });
  assert.deepEqual(time(`+.5 ${x}`), { kind: 'relative', seconds: 0.5 });
  assert.deepEqual(time(`* ${x}`), { kind: 'any' });
  assert.deepEqual(time(`1~2.5 ${x}`), { kind: 'window', relative: false, from: 1, to: 2.5 });
  assert.deepEqual(time(`+0.1~+0.2 ${x}`), { kind: 'window', relative: true, from: 0.1, to: 0.2 });
  assert.deepEqual(time('1...2.5 read(3, ..., 1) = 1'), { kind: 'blocking', relative: false, from: 1, to: 2.5 });
  assert.deepEqual(time('+0.0...0.5 read(3, ..., 1) = 1'), { kind: 'blocking', relative: true, from: 0, to: 0.5 });
  assert.deepEqual(time('+0.... 5 read(3, ..., 1) = 1'.replace('.... ', '...')), {
    kind: 'blocking',
    relative: true,
    from: 0,
    to: 5,
  });
});

test('expressions', () => {
  const c = call('f(0x10|A|htonl(2), [..., -1], {msg_iov(2)=[{..., 5}], x={}}, NULL, "s", 10.0.0.1) = -1 E2BIG (a (b)');
  assert.deepEqual(bare(c.args), [
    {
      kind: 'or',
      terms: [
        { kind: 'int', value: 16, hex: true },
        { kind: 'word', word: 'A' },
        { kind: 'call', name: 'htonl', args: [{ kind: 'int', value: 2, hex: false }] },
      ],
    },
    { kind: 'list', items: [{ kind: 'any' }, { kind: 'int', value: -1, hex: false }] },
    {
      kind: 'struct',
      fields: [
        {
          name: 'msg_iov',
          count: { kind: 'int', value: 2, hex: false },
          value: {
            kind: 'list',
            items: [
              {
                kind: 'struct',
                fields: [{ value: { kind: 'any' } }, { value: { kind: 'int', value: 5, hex: false } }],
              },
            ],
          },
        },
        { name: 'x', value: { kind: 'struct', fields: [] } },
      ],
    },
    { kind: 'null' },
    { kind: 'string', value: 's' },
    { kind: 'string', value: '10.0.0.1' },
  ]);
  assert.deepEqual([c.errno, c.note], ['E2BIG', 'a (b']);
  assert.deepEqual(bare(call('read(3, ..., 10) = ...').result), { kind: 'any' });
});

test('#ifdef, defines and comments', () => {
  const events = (text: string, defines: [string, string | undefined][] = []) =>
    parse('t.pkt', `${START}${text}`, { defines: new Map(defines) }).events.length;
  const both = '#ifdef FreeBSD\n+0 close(3) = 0\n#endif\n#ifdef Linux\n \' ` " not lexed\n#endif\n';
  assert.equal(events(both), 2);
  assert.throws(() => events(both, [['Linux', undefined]]), ParseError);
  assert.equal(events('# ifdef X\n+0 close(3) = 0\n# endif', [['X', '1']]), 2);
  assert.equal(events('+0 // one\n close( /* two\n+0 */ 3) = 0 // three'), 2);
  const defined = parse('t.pkt', `${START}+0 write(FD, S, N) = H`, {
    defines: new Map([
      ['FD', 'WORD'],
      ['S', '"text"'],
      ['N', '-7'],
      ['H', '0x1f'],
    ]),
  }).events[1] as { call: Syscall };
  assert.deepEqual(bare(defined.call.args), [
    { kind: 'word', word: 'WORD' },
    { kind: 'string', value: 'text' },
    { kind: 'int', value: -7, hex: false },
  ]);
  assert.deepEqual(bare(defined.call.result), { kind: 'int', value: 31, hex: true });
});

test('options', () => {
  const options = (text: string) =>
    parse('t.pkt', `${text}\n${START}`).options.map(o => (o.value === undefined ? o.name : `${o.name}=${o.value}`));
  assert.deepEqual(options('  --ip_version=ipv4-mapped-ipv6 --mtu=1500// all\n--verbose -v --init_scripts="a b"'), [
    'ip_version=ipv4-mapped-ipv6',
    'mtu=1500',
    'verbose',
    'v',
    'init_scripts=a b',
  ]);
  assert.deepEqual(options('--remote_ip=fe80::1 --define=A=1 --define B=2 -DC=3 -DE\n--tolerance_percent=12.5'), [
    'remote_ip=fe80::1',
    'define=A=1',
    'define=B=2',
    'D=C=3',
    'D=E',
    'tolerance_percent=12.5',
  ]);
  const odd = parse('t.pkt', `--frobnicate=1\n${START}`);
  assert.deepEqual(odd.warnings, [{ at: { file: 't.pkt', line: 1, column: 1 }, text: 'unknown option --frobnicate' }]);
});

test('what does not follow the dialect is named with line and column', () => {
  const cases: [string, number, number, RegExp][] = [
    [
      '+0 > sctp: DATA[flgs=BX, len=16, tsn=1, sid=0, ssn=0, ppid=0]',
      1,
      22,
      /letters of IUBE, each at most once, found `BX`/,
    ],
    ['+0 > sctp: DATA[flgs=BB, len=16, tsn=1, sid=0, ssn=0, ppid=0]', 1, 22, /at most once/],
    ['+0 > sctp: DATA[flgs=0, len=15, tsn=1, sid=0, ssn=0, ppid=0]', 1, 25, /len=15, but the header take 16/],
    ['+0 > sctp: DATA[flgs=0, len=16, tsn=1, sid=65536, ssn=0, ppid=0]', 1, 44, /65536 is not within 0 … 65535/],
    ['+0 > sctp: DATA[flgs=0, len=16, tsn=-1, sid=0, ssn=0, ppid=0]', 1, 37, /-1 is not within/],
    ['+0 > sctp:\n  DATA[flgs=0, len=16, tsn=1, sid=0, ssn=0]', 2, 3, /DATA lacks ppid=/],
    ['+0 > sctp: DATA[flgs=0, flgs=0, len=16]', 1, 25, /flgs= is there twice/],
    ['+0 > sctp: DATA[flgs=0, tag=0]', 1, 25, /expected len= or tsn= or sid= or ssn= or ppid= in DATA, found `tag`/],
    ['+0 > sctp: SHUTDOWN_ACK[flgs=0, x=1]', 1, 33, /expected `\]` at the end of SHUTDOWN_ACK/],
    ['+0 > sctp: DATTA[flgs=0]', 1, 12, /expected a chunk, found `DATTA`/],
    ['+0 > sctp: constructor[flgs=0]', 1, 12, /expected a chunk/],
    ['+0 > sctp: I_DATA[flgs=0, len=20, tsn=1, sid=0, mid=0]', 1, 12, /either ppid= .* or fsn=/],
    ['+0 > sctp: I_DATA[flgs=0, len=20, tsn=1, sid=0, mid=0, ppid=1, fsn=1]', 1, 12, /either ppid= .* or fsn=/],
    ['+0 > sctp: ABORT[flgs=0, ..., OUT_OF_RESOURCE[]]', 1, 29, /behind the `...`/],
    ['+0 > sctp: ABORT[flgs=0, OUT_OF_RESOURCE[], ...]', 1, 45, /an error cause/],
    ['+0 > sctp: ABORT[flgs=0, ECN_CAPABLE[]]', 1, 26, /expected an error cause, found `ECN_CAPABLE`/],
    ['+0 > sctp: ABORT[flgs=0,]', 1, 25, /an error cause in ABORT/],
    ['+0 > sctp: HEARTBEAT[flgs=0]', 1, 12, /lacks HEARTBEAT_INFORMATION/],
    ['+0 > sctp: HEARTBEAT[flgs=0, ECN_CAPABLE[]]', 1, 30, /HEARTBEAT_INFORMATION/],
    ['+0 > sctp: RECONFIG[flgs=0, RECONFIG_RESPONSE[resp_sn=1, result=1, sender_next_tsn=1]]', 1, 29, /together/],
    ['+0 > sctp: INIT[flgs=0, tag=1, a_rwnd=1, os=1, is=1, tsn=1, IPV4_ADDRESS[addr=::1]]', 1, 79, /an IPv4 address/],
    ['+0 > sctp: SACK[flgs=0, cum_tsn=1, a_rwnd=1, gaps=[2], dups=[]]', 1, 53, /`:`/],
    ['+0 > sctp: CHUNK[type=256, flgs=0, len=4, val=[]]', 1, 23, /256 is not within 0 … 255/],
    ['+0 > sctp: CHUNK[type=1, flgs=0, len=4, val=[256]]', 1, 46, /a byte: 256/],
    ['+0 > sctp COOKIE_ACK[flgs=0]', 1, 11, /expected `:` behind the head/],
    ['+0 > sctp(tagg=1): COOKIE_ACK[flgs=0]', 1, 11, /tag=, bad_crc32c or zero_checksum/],
    ['+0 > sctp(bad_crc32c): COOKIE_ACK[flgs=0]', 1, 11, /only be sent/],
    ['+0 > sctp: [0x01]', 1, 12, /only be sent/],
    ['+0 > (ttl 256) sctp: COOKIE_ACK[flgs=0]', 1, 11, /256/],
    ['+0 > (tll 25) sctp: COOKIE_ACK[flgs=0]', 1, 7, /expected ttl, hlim/],
    ['+0 > S 0:0(0) win 1000', 1, 6, /`sctp` or `icmp`/],
    ['+0 < icmp unreachabel port_unreachable', 1, 11, /an ICMP type, found `unreachabel`/],
    ['+0 < icmp unreachable port', 1, 23, /a code of ICMP unreachable/],
    ['* close(3) = 0', 1, 1, /expected packets \(>\) only/],
    ['+0~+1 < sctp: COOKIE_ACK[flgs=0]', 1, 1, /expected packets/],
    ['0...1 > sctp: COOKIE_ACK[flgs=0]', 1, 1, /system calls only/],
    ['2~1 > sctp: COOKIE_ACK[flgs=0]', 1, 3, /ends \(1\) before it starts \(2\)/],
    ['1~+2 > sctp: COOKIE_ACK[flgs=0]', 1, 1, /same origin/],
    ['2 close(3) = 0\n1 close(3) = 0', 2, 1, /backwards: 1 after 2/],
    ['+0 close(3)', 1, 12, /`=` and the result/],
    ['+0 close(3) =', 1, 14, /expected an expression/],
    ['+0 close(3 4) = 0', 1, 12, /`,` or `\)`/],
    ['+0 close("a"|1) = 0', 1, 10, /joined with \|/],
    ['+0 close({1=2}) = 0', 1, 12, /only a field name/],
    ['+0 close(99999999999999999) = 0', 1, 10, /53 bits/],
    ['+0 close(3) = 0 (never', 1, 17, /never closed/],
    ['+0 close("never) = 0', 1, 10, /never closed/],
    ['+0 `never', 1, 4, /never closed/],
    ['+0 %{ never', 1, 4, /never closed/],
    ['+0 /* never', 1, 4, /never closed/],
    ['+0 close(§) = 0', 1, 10, /unexpected character "§"/],
    ['close(3) = 0', 1, 1, /expected the time of an event, found `close`/],
    ['`a` `b` c', 1, 9, /the end of the file/],
    ['`a`\n+0 close(3) = 0', 2, 1, /the end of the file/],
    ['+0 ]', 1, 4, /a packet .* a system call/],
    ['#ifdef Linux\n', 1, 1, /no #endif/],
    ['#ifdef FreeBSD\n+0 close(3) = 0', 1, 1, /no #endif/],
    ['#ifdef FreeBSD\n#ifdef FreeBSD\n#endif\n', 1, 1, /no #endif/],
    ['#ifndef FreeBSD\n#ifdef X\n#endif\n', 1, 1, /no #endif/],
    ['#else\n', 1, 1, /without #ifdef/],
    ['#ifdef FreeBSD\n#else\n#else\n#endif', 3, 1, /an #else already/],
    ['#ifdef X\n#else\n#else\n#endif', 3, 1, /an #else already/],
    ['#endif', 1, 1, /without #ifdef/],
    ['#elif X', 1, 1, /unknown directive #elif/],
    ['#ifdef\n', 1, 1, /wants a name/],
  ];
  for (const [text, line, column, what] of cases) {
    const got = failure(text);
    assert.deepEqual(got.slice(0, 2), [line, column], `${text}: ${got}`);
    assert.match(got[2], what);
  }
  assert.match(failure('', '')[2], /expected an event, .* found the end of the file/);
  assert.match(failure('+1 close(3) = 0', '')[2], /first event has to be at time 0/);
  assert.match(failure('* > sctp: COOKIE_ACK[flgs=0]', '')[2], /first event/);
});

test('inbound packets are fully specified, but for what the runner fills in', () => {
  const cookie = 'STATE_COOKIE[len=4, val=...]';
  for (const fine of [
    'COOKIE_ECHO[flgs=0, len=..., val=...]',
    'COOKIE_ECHO[flgs=0, len=4, val=...]',
    'HEARTBEAT_ACK[flgs=0, ...]',
    'HEARTBEAT_ACK[flgs=0, HEARTBEAT_INFORMATION[...]]',
    'HEARTBEAT_ACK[flgs=0, HEARTBEAT_INFORMATION[len=..., val=...]]',
    'HEARTBEAT[flgs=0, HEARTBEAT_INFORMATION[len=40, val=...]]',
    `INIT_ACK[flgs=0, tag=1, a_rwnd=1, os=1, is=1, tsn=..., ${cookie}]`,
    'PAD[flgs=0, len=8, val=...]',
    'INIT[flgs=0, tag=1, a_rwnd=1, os=1, is=1, tsn=1, PAD[len=8, val=...]]',
    'CHUNK[type=0x42, flgs=0, len=100, val=[1]]',
  ])
    chunk(fine, '<');
  const cases: [string, number, RegExp][] = [
    ['DATA[flgs=..., len=16, tsn=1, sid=0, ssn=0, ppid=0]', 22, /DATA: flgs=\.\.\. cannot be sent/],
    ['SACK[flgs=0, cum_tsn=1, a_rwnd=1, gaps=[...], dups=[]]', 52, /gaps=/],
    ['INIT[flgs=0, tag=1, a_rwnd=1, os=1, is=1, tsn=1, ...]', 61, /params=/],
    ['ABORT[flgs=0, PROTOCOL_VIOLATION[info=...]]', 50, /PROTOCOL_VIOLATION: info=/],
    ['HEARTBEAT[flgs=0, HEARTBEAT_INFORMATION[...]]', 52, /len=/],
    ['INIT[flgs=0, tag=1, a_rwnd=1, os=1, is=1, tsn=1, STATE_COOKIE[...]]', 74, /len=/],
    ['COOKIE_ECHO[flgs=0, len=..., val=[1]]', 36, /len=/],
    ['COOKIE_ECHO[flgs=0, len=9, val=[1]]', 32, /and 1 bytes take 5/],
    ['CHUNK[type=1, flgs=0, len=5, val=[1, 2]]', 34, /and 2 bytes take 6/],
    ['ABORT[flgs=0, CAUSE[code=1, len=5, info=[1, 2]]]', 40, /take 6/],
  ];
  for (const [text, column, what] of cases) {
    const got = failure(`+0 < sctp: ${text}`);
    assert.deepEqual(got.slice(0, 2), [1, column], `${text}: ${got}`);
    assert.match(got[2], what);
  }
});

test('commands: settings of sysctl, the rest by name', () => {
  assert.deepEqual(
    planCommand(
      'sysctl -w net.inet.sctp.a=1 net.inet.sctp.b=-2\n sysctl -i "net.x=0x10"; /sbin/sysctl -ew net.y=3 > /dev/null 2>&1 || true',
    ),
    {
      settings: [
        { name: 'net.inet.sctp.a', value: 1, ignoreUnknown: false },
        { name: 'net.inet.sctp.b', value: -2, ignoreUnknown: false },
        { name: 'net.x', value: 16, ignoreUnknown: true },
        { name: 'net.y', value: 3, ignoreUnknown: true },
      ],
      ignored: [],
    },
  );
  assert.deepEqual(planCommand('kldload sctp && sleep 1 # rest = 1\nsysctl net.inet.sctp.a'), {
    settings: [],
    ignored: ['kldload sctp', 'sleep 1'],
  });
  assert.deepEqual(planCommand(`'unclosed`), { settings: [], ignored: ['unclosed'] });
});

test('nesting has a bound and is no crash', () => {
  const deep = (n: number) => `${START}+0 f(${'['.repeat(n)}${']'.repeat(n)}) = 0`;
  parse('t.pkt', deep(MAX_DEPTH - 2));
  assert.throws(() => parse('t.pkt', deep(100_000)), /nested deeper than 64/);
  const params = `${'UNRECOGNIZED_PARAMETER[params=['.repeat(5000)}`;
  assert.throws(() => parse('t.pkt', `${START}+0 > sctp: RECONFIG[flgs=0, ${params}`), /nested deeper/);
});

describe('mutated scripts: a tree or a ParseError, never anything else, and a printable one', () => {
  test('of every form', () => {
    const seeds = [HANDSHAKE, DATA, ...CHUNK_FORMS.map(f => `${START}+0 < sctp: ${f}`)];
    seeds.push(...PACKET_FORMS.map(f => `${START}+0 ${f}`), ...CALL_FORMS.map(f => `${START}+0 ${f}`));
    const { parsed, refused } = mutate(seeds, 1000, 2);
    assert.ok(parsed > 50 && refused > 500, `${parsed} parsed, ${refused} refused`);
  });
  test("of the repository's scripts", () => {
    const { parsed, refused } = mutate(scriptTexts(), 300, 1);
    assert.ok(parsed > 20 && refused > 100, `${parsed} parsed, ${refused} refused`);
  });
});
