/** What the runner makes of scripts: failures on the right line with the right difference, times, numbers, descriptors. */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { SeededRandom } from '../stack/kern/clock.js';
import type { Script, SctpPacket } from './ast.js';
import { parse } from './parser.js';
import { findScripts } from './run-files.js';
import { fails, NEXT, passes, run, UP } from './runner.fixture.js';
import { runScript } from './runner.js';

describe('packets that differ', () => {
  const DATA = '+0 write(4, ..., 4) = 4\n+0 > sctp';
  for (const [name, line, difference] of [
    ['flags', `${DATA}: DATA[flgs=B, len=20, tsn=500, sid=0, ssn=0, ppid=0]`, 'chunk 1 DATA, flgs: 2 / 3'],
    ['length', `${DATA}: DATA[flgs=..., len=21, tsn=500, sid=0, ssn=0, ppid=0]`, 'chunk 1 DATA, len: 21 / 20'],
    ['TSN', `${DATA}: DATA[flgs=BE, len=..., tsn=501, sid=0, ssn=0, ppid=0]`, 'chunk 1 DATA, tsn: 501 / 500'],
    ['tag', `${DATA}(tag=12): DATA[flgs=BE, len=20, tsn=..., sid=0, ssn=0, ppid=0]`, 'tag: 12 / 11'],
    [
      'checksum',
      `${DATA}(zero_checksum): DATA[flgs=BE, len=20, tsn=500, sid=0, ssn=0, ppid=0]`,
      'checksum: zero / good',
    ],
    [
      'layers',
      `${DATA}/udp(1 > 2): DATA[flgs=BE, len=20, tsn=500, sid=0, ssn=0, ppid=0]`,
      'layers: IP/UDP/SCTP / IP/SCTP',
    ],
    ['chunk', `${DATA}: SHUTDOWN[flgs=0, cum_tsn=99]`, 'chunks: SHUTDOWN / DATA'],
    ['number of chunks', `${DATA}: COOKIE_ACK[flgs=0]; COOKIE_ACK[flgs=0]`, 'chunks: COOKIE_ACK; COOKIE_ACK / DATA'],
  ] as const)
    test(name, () => assert.equal(fails(UP + line, NEXT + 1).all, difference));

  test('ttl and ecn when written', () => {
    const line =
      '+0 write(4, ..., 4) = 4\n+0 > (ttl 63, ce) sctp: DATA[flgs=BE, len=20, tsn=500, sid=0, ssn=0, ppid=0]';
    assert.equal(fails(UP + line, NEXT + 1).all, 'ttl: 63 / 64; ecn: 3 / 0');
  });
  test('lists: gaps, parameters, causes; both packets are handed over in script numbers', () => {
    const sack = (gaps: string) =>
      `+0 < sctp: DATA[flgs=BE, len=20, tsn=102, sid=0, ssn=1, ppid=0]
+0 > sctp: SACK[flgs=0, cum_tsn=99, a_rwnd=..., gaps=${gaps}, dups=[]]`;
    passes(UP + sack('[3:3]'));
    passes(UP + sack('...'));
    assert.equal(fails(UP + sack('[2:3]'), NEXT + 1).all, 'chunk 1 SACK, gaps 1, start: 2 / 3');
    assert.equal(fails(UP + sack('[]'), NEXT + 1).all, 'chunk 1 SACK, gaps: [] / [3:3]');
    const abort = (causes: string) => `+0 < sctp: DATA[flgs=BE, len=16, tsn=100, sid=0, ssn=0, ppid=0]
+0 > sctp: ABORT[flgs=0${causes}]`;
    passes(UP + abort(', ...'));
    passes(UP + abort(', NO_USER_DATA[tsn=...]'));
    passes(UP + abort(', CAUSE[code=9, len=8, info=[0, 0, 0, 100]]'));
    assert.match(fails(UP + abort(', NO_USER_DATA[tsn=101]'), NEXT + 1).all, /causes 1 NO_USER_DATA, tsn: 101 \/ 100/);
    assert.match(fails(UP + abort(''), NEXT + 1).all, /causes NO_USER_DATA: nothing \/ NO_USER_DATA\[tsn=100\]/);
    const r = run(UP + sack('[2:3]'));
    const got = (r.failure!.packets!.got as SctpPacket).chunks![0]!;
    assert.deepEqual(got.name === 'SACK' && [got.cum_tsn, got.gaps], [99, [{ start: 3, end: 3 }]]);
  });
});

describe('time', () => {
  const ack = (time: string) => `${UP}+0 write(4, ..., 4) = 4
+0 > sctp: DATA[flgs=BE, len=20, tsn=500, sid=0, ssn=0, ppid=0]
${time} > sctp: DATA[flgs=BE, len=20, tsn=500, sid=0, ssn=0, ppid=0]`;
  const line = NEXT + 2;
  test('late, early, in a window, whenever', () => {
    passes(ack('+1'));
    passes(ack('1.0'));
    passes(ack('*'));
    passes(ack('+0.9~+1.1'));
    passes(ack('0.5~1.5'));
    passes(ack('+1.04')); // 5 % of the distance
    assert.match(fails(ack('+0.5'), line).all, /^time: 0.5 s \(± 0.025 s\) \/ 1 s$/);
    assert.match(fails(ack('+1.2'), line).all, /^time: 1.2 s/);
    assert.match(fails(ack('+1.1~+1.5'), line).all, /^time: 1.1 s to 1.5 s/);
    assert.match(fails(ack('+1.02'), line, { tight: true }).all, /^time/);
  });
  test('a packet that never comes', () => {
    const { what } = fails(`${UP}+0.5 > sctp: SHUTDOWN[flgs=0, cum_tsn=99]`, NEXT);
    assert.match(what, /expected a packet, none came until 0.525 s/);
  });
  test('packets sent earlier wait for their lines with their own stamps', () => {
    const three = [0, 1, 2].map(() => '+0 write(4, ..., 4) = 4').join('\n');
    const line2 = (t: string, i: number) =>
      `${t} > sctp: DATA[flgs=BE, len=20, tsn=${500 + i}, sid=0, ssn=${i}, ppid=0]`;
    const nodelay = '+0 setsockopt(4, IPPROTO_SCTP, SCTP_NODELAY, [1], 4) = 0';
    passes(`${UP}${nodelay}\n${three}\n${[0, 1, 2].map(i => line2('+0', i)).join('\n')}`);
    const waited = `${UP}${nodelay}\n${three}\n+0.5 fcntl(4, F_GETFL) = 6\n${line2('+0', 0)}`;
    assert.match(fails(waited, NEXT + 5).all, /^time: 0.5 s .* \/ 0 s$/);
  });
  test('absolute times that have passed', () =>
    assert.match(
      fails(`${UP}+1 fcntl(4, F_GETFL) = 6\n0.5 fcntl(4, F_GETFL) = 6`, NEXT + 1).what,
      /the time 0.5 s is past/,
    ));
  test('blocking calls: return in time, too late, never', () => {
    const call = (t: string, more: string) =>
      `${UP}+0 fcntl(4, F_SETFL, O_RDWR) = 0\n${t} read(4, ..., 100) = 4\n${more}`;
    const data = '+0.2 < sctp: DATA[flgs=BE, len=20, tsn=100, sid=0, ssn=0, ppid=0]';
    passes(call('+0...0.2', data));
    assert.match(fails(call('+0...0.1', data), NEXT + 1).all, /^time: 0.1 s .* \/ 0.2 s/);
    assert.match(fails(call('+0...0.1', ''), NEXT + 1).what, /read still blocks/);
    assert.match(fails(call('+0', ''), NEXT + 1).what, /read blocks and does not return/);
  });
});

describe('calls', () => {
  test('results and errno', () => {
    assert.match(fails(`${UP}+0 read(4, ..., 10) = 5`, NEXT).what, /^read returned -1 EAGAIN$/);
    assert.match(fails(`${UP}+0 read(4, ..., 10) = -1 EINVAL`, NEXT).what, /EAGAIN/);
    passes(`${UP}+0 read(4, ..., 10) = -1`);
    passes(`${UP}+0 read(4, ..., 10) = -1 EWOULDBLOCK`);
    assert.match(fails(`${UP}+0 write(4, ..., 10) = 9`, NEXT).what, /^write returned 10$/);
    assert.match(fails(`${UP}+0 wirte(4, ..., 10) = 9`, NEXT).what, /system call wirte is not known/);
    assert.match(fails(`${UP}+0 fcntl(4, F_SETFL, O_NOSUCH) = 0`, NEXT).what, /"O_NOSUCH" is no constant/);
    assert.match(fails(`${UP}+0 read(4, ..., 10) = -1 ENOSUCH`, NEXT).what, /no errno/);
  });
  test('option values, field by field, and lengths', () => {
    const get = (v: string, len: number) => `${UP}+0 getsockopt(4, IPPROTO_SCTP, SCTP_RTOINFO, ${v}, [${len}]) = 0`;
    passes(get('{srto_assoc_id=..., srto_initial=1000, srto_max=..., srto_min=1000}', 16));
    const bad = get('{srto_initial=999, srto_max=..., srto_min=1}', 16);
    assert.equal(fails(bad, NEXT).all, 'value, srto_initial: 999 / 1000; value, srto_min: 1 / 1000');
    assert.equal(fails(get('{srto_initial=1000}', 20), NEXT).all, 'length: 20 / 16');
    assert.match(fails(get('{srto_initial=1000}', 8), NEXT).what, /EINVAL/);
    assert.match(fails(get('{sinit_num_ostreams=1}', 16), NEXT).what, /no field sinit_num_ostreams/);
  });
  test('message information and flags', () => {
    const recv = (info: string, flags: string) => `${UP}+0 < sctp: DATA[flgs=UBE, len=20, tsn=100, sid=2, ssn=0, ppid=7]
+0 sctp_recvmsg(4, ..., 100, ..., ..., ${info}, ${flags}) = 4`;
    passes(recv('{sinfo_stream=2, sinfo_flags=SCTP_UNORDERED, sinfo_ppid=htonl(7), sinfo_tsn=100}', 'MSG_EOR'));
    assert.equal(
      fails(recv('{sinfo_stream=1, sinfo_ppid=7}', '...'), NEXT + 1).all,
      'sinfo, sinfo_stream: 1 / 2; sinfo, sinfo_ppid: 7 / 117440512',
    );
    assert.equal(fails(recv('...', 'MSG_NOTIFICATION'), NEXT + 1).all, 'msg_flags: MSG_NOTIFICATION / MSG_EOR');
  });
});

describe('mutated scripts', () => {
  const root = join(fileURLToPath(new URL('.', import.meta.url)), '..', '..', 'packetdrill', 'scripts');
  const texts = findScripts([root]).map(f => readFileSync(f, 'utf8'));
  test('pass or fail, and never by an internal error', () => {
    const random = new SeededRandom(5);
    const pick = <T>(list: readonly T[]): T => list[random.u32() % list.length]!;
    let ran = 0;
    for (let i = 0; i < 250; i++) {
      let text = pick(texts);
      for (let k = random.u32() % 3; k >= 0; k--) {
        const lines = text.split('\n');
        const numbers = [...text.matchAll(/\b(0x[0-9a-f]+|\d+)\b/g)];
        const words = [...text.matchAll(/\b[A-Za-z_]{3,}\b/g)];
        const m = pick(random.u32() % 2 === 0 ? numbers : words);
        const other = numbers.includes(m)
          ? pick(['0', '1', '65535', '4294967295', '-1', '...', '70000'])
          : pick(words)[0];
        const how = random.u32() % 3;
        if (how === 0) text = text.slice(0, m.index) + other + text.slice(m.index + m[0].length);
        else {
          const at = random.u32() % lines.length;
          if (how === 1) lines.splice(at, 1);
          else lines.splice(random.u32() % lines.length, 0, lines[at]!);
          text = lines.join('\n');
        }
      }
      let script: Script;
      try {
        script = parse('x.pkt', text);
      } catch {
        continue; // the parser's own tests look at that
      }
      ran++;
      const r = runScript(script, { tight: false, abi: 'compact' });
      assert.ok(r.ok || !/internal error|work after/.test(r.failure!.what), `${r.failure?.what}\n${text}`);
    }
    assert.ok(ran > 80, `${ran}`);
  });
});

describe('commands and the rest', () => {
  test('sysctl: unknown names, ranges, nothing else', () => {
    assert.match(
      fails('`sysctl -w net.inet.sctp.nosuch=1`\n0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3', 1).what,
      /unknown name/,
    );
    assert.match(
      fails('`sysctl -w net.inet.sctp.ecn_enable=2`\n0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3', 1).what,
      /EINVAL/,
    );
    assert.match(
      fails('`ifconfig tun0 down`\n0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3', 1).what,
      /only sysctl is known/,
    );
    passes('`sysctl -i net.inet.sctp.nosuch=1`\n0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3');
  });
  test('what is left over is told, code sections are refused, bad options too', () => {
    const r = passes(`${UP}+0 write(4, ..., 4) = 4`);
    assert.deepEqual(r.notes, ['left over at 0 s: DATA']);
    assert.match(fails('0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3\n+0 %{ assert True }%', 2).what, /not supported/);
    assert.match(fails('--ip_version=ipv5\n0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3', 1).what, /ipv4, ipv6 or/);
  });
  test('the same seed gives the same capture', () => {
    const dir = mkdtempSync(join(tmpdir(), 'nke-pkt-'));
    try {
      const files = ['a', 'b', 'c'].map(f => join(dir, f));
      for (const [i, file] of files.entries()) passes(UP, { pcap: file, seed: i === 2 ? 9 : 1 });
      const [a, b, c] = files.map(f => readFileSync(f));
      assert.equal(a!.readUInt32LE(0), 0x0a0d0d0a);
      assert.ok(a!.length > 4 * 40 && a!.equals(b!) && !a!.equals(c!));
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});
