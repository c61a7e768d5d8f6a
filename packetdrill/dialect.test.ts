/**
 * Ways to write what the dialect allows (facts/packetdrill: sections as marked), each run: white space, numbers, times,
 * prefixes, chunks and parameters that lie about their length, commands, conditional text.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fails, NEXT, passes, run, UP } from './runner.fixture.js';

/** One script each, named by what is special in it. */
const all = (texts: readonly string[], wrap = (text: string) => text) => {
  for (const t of texts) test(t.replace(/\s+/g, ' ').slice(0, 90), () => void passes(wrap(t)));
};
const WRITE = '+0 write(4, ..., 4) = 4\n';
const DATA = 'sctp: DATA[flgs=BE, len=20, tsn=500, sid=0, ssn=0, ppid=0]';

describe('white space, numbers and letters (1.3)', () => {
  all(
    [
      '+0    >    sctp   :   DATA  [  flgs = BE , len = 20,tsn=500,sid=0,ssn=0,ppid=0  ]',
      '+0>sctp:DATA[flgs=BE,len=20,tsn=500,sid=0,ssn=0,ppid=0]',
      '+0.0>sctp(tag=0x0b):DATA[flgs=EB,len=0x14,tsn=0x1f4,sid=0x0,ssn=00,ppid=0]',
      '+0 >\n\n sctp: // a comment\n DATA[ppid=0, /* any order */ flgs=0x03,\n\tlen=20, tsn=500, sid=0, ssn=0]',
      '+0 > \\\n sctp: DATA[flgs=3, len=20, \\\r\n tsn=500, sid=..., ssn=..., ppid=...]',
      '+0 > sctp: CHUNK[type=0x00, flgs=..., len=20, val=[...]]',
      '+0 > sctp: CHUNK[type=..., flgs=3, len=..., val=...]',
    ],
    t => UP + WRITE + t,
  );
  all(['\ufeff', '#!/usr/bin/env packetdrill\n', '// nothing\n/* at all */\n'], t => t + UP);
  test('line ends and tabs', () => {
    passes(UP.replaceAll('\n', '\r\n'));
    passes(UP.replaceAll(' ', '\t'));
    passes(UP.replaceAll(', ', ',\n  '));
  });
});

describe('times (2)', () => {
  all(
    ['0', '0.000', '0.', '+0', '+0.0', '+.0', '+ 0', '*', '+0.~+.1', '+0.0~0.5', '0~1', '0.0000000001'],
    t => `${UP}${WRITE}${t} > ${DATA}`,
  );
  all(['+0...0.1', '+0.0...+0.1', '0.0...0.1', '0...100'], t =>
    t === '0...100'
      ? `${UP}+0 fcntl(4, F_SETFL, O_RDWR) = 0\n+1 < sctp: DATA[flgs=BE, len=20, tsn=100, sid=0, ssn=0, ppid=0]\n1...1 read(4, ..., 9) = 4`
      : `${UP}${t} poll([{fd=4, events=POLLIN, revents=0}], 1, 100) = 0`,
  );
});

describe('packet prefixes (3)', () => {
  all(
    [
      '(ttl 64)',
      '[ttl 64, noecn]',
      '8080 > 1234',
      '(dscp cs0, tos 0x0) 8080>1',
      '(ttl 64) 1 > 2',
      '(hlim 64, ecn noecn)',
    ],
    t => `${UP}${WRITE}+0 > ${t} ${DATA}`,
  );
  const lost = 'sctp: DATA[flgs=BE, len=20, tsn=100, sid=0, ssn=0, ppid=0]';
  // The stack has no tunnels: whatever comes through one is dropped.
  all(
    [
      'ipv4 192.0.2.1 > 192.168.0.1:',
      'ipv4 (ttl 3, ce) 192.0.2.1 > 192.168.0.1: gre:',
      'ipv4 192.0.2.1 > 192.168.0.1: gre: mpls (label 1, tc 0, [S], ttl 3):',
      'ipv4 192.0.2.1 > 192.168.0.1: mpls (label 1, tc 0, ttl 3), (label 2, tc 1, [S], ttl 3):',
      'ipv4 192.0.2.1 > 192.168.0.1: ipv6 2001:db8::1 > 2001:db8::2:',
    ],
    t => `${UP}+0 < ${t} ${lost}\n${WRITE}+0 > ${DATA}`,
  );
  test('an outer header that is expected does not come; one that cannot be outermost', () => {
    const want = `${UP}${WRITE}+0 > ipv4 1.2.3.4 > 5.6.7.8: gre: ${DATA}`;
    assert.equal(fails(want, NEXT + 1).all, 'layers: IPV4/GRE/IP/SCTP / IP/SCTP');
    assert.match(fails(`${UP}+0 < gre: ${lost}`, NEXT).what, /outermost header/);
  });
  all(['BAD_CRC32C', 'bad_crc32c', ' tag = 22 , bad_crc32c ', 'bad_crc32c,tag=22'], t =>
    [`${UP}+0 < sctp(${t}): DATA[flgs=BE, len=20, tsn=100, sid=0, ssn=0, ppid=0]`, `${WRITE}+0 > ${DATA}`].join('\n'),
  );
});

describe('ICMP, both ways (4.10)', () => {
  all(
    [
      'icmp unreachable host_unreachable [sctp(11)]',
      'icmp unreachable frag_needed mtu 1000 [sctp(11)]',
      '[sctp(11)] icmp unreachable frag_needed mtu 1000',
      '(ttl 3) icmp time_exceeded ttl_exceeded_in_transit [sctp(11)]',
      'icmp parameter_problem [sctp(11)]',
      'icmp type_3 code_13 [sctp(11)]',
      'icmp 3 [sctp(tag=11)]',
      'icmp unreachable port_unreachable [ sctp ( 11 ) / udp ( 1 > 2 ) ]',
      'icmp unreachable port_unreachable [udp(100)]',
      'icmp unreachable port_unreachable [1:1001(1000)]',
    ],
    t => `${UP}+0.1 < ${t}`,
  );
  all(
    ['icmp unreachable no_route [sctp(11)]', 'icmp packet_too_big mtu 1280 [sctp(11)]', 'icmp router_advertisement'],
    t => `--ip_version=ipv6\n${UP}+0.1 < ${t}`,
  );
  const stray = '--udp_encapsulation=sctp\n';
  const asked = '+0 < sctp/udp(9899 > 9899): COOKIE_ACK[flgs=0]\n+0 > ';
  // The tag that is quoted is ours: the script's number for it.
  all(
    [
      `${asked}icmp unreachable port_unreachable [sctp(22)/udp(9899 > 9899)]`,
      `${asked}icmp unreachable port_unreachable [udp(16)]`,
      `${asked}(ttl 64) icmp type_3 code_3`,
      '+0 < icmp echo_request id 77\n+0 > icmp echo_reply id 77',
      '+0 < ipv4 192.0.2.1 > 192.168.0.1: gre: sctp: COOKIE_ACK[flgs=0]\n+0 > icmp unreachable protocol_unreachable',
    ],
    t => stray + UP + t,
  );
  test('differences', () => {
    const r = fails(`${stray}${UP}${asked}icmp type_3 code_2 [sctp(23)]`, NEXT + 2).all;
    assert.equal(r, 'code: 2 / 3; quoted tag: 23 / 22');
    const other = `${UP}${WRITE}+0 > icmp echo_reply`;
    assert.equal(fails(other, NEXT + 1).all, 'packet: ICMP / SCTP');
    const echo = run(`${UP}+0 < icmp echo_request id 7\n+0 > ${DATA}\n+0 > icmp echo_reply id 8`);
    assert.deepEqual(echo.failure!.differences, [{ field: 'packet', expected: 'SCTP', got: 'ICMP' }]);
    assert.match(fails(`${UP}+0 < icmp echo_request id 7\n+0 > icmp echo_reply id 8`, NEXT + 1).all, /id: 8 \/ 7/);
  });
});

describe('chunks, parameters and causes inbound (4.1 to 4.4)', () => {
  all(
    [
      'CHUNK[type=0x42, flgs=0xff, len=4, val=[]]',
      'CHUNK[type=0xfe, flgs=0, len=200, val=[1]]',
      'DATA[flgs=BE, len=17, tsn=100, sid=0, ssn=0, ppid=0]; DATA[flgs=UIBE, len=20, tsn=101, sid=1, ssn=0, ppid=0xffffffff]',
      'DATA[flgs=3,len=16,tsn=100,sid=0,ssn=0,ppid=0]',
      'SACK[flgs=0, cum_tsn=499, a_rwnd=1500, gaps=[2:3,5:6], dups=[1,2]]',
      'NR_SACK[flgs=0, cum_tsn=499, a_rwnd=1500, gaps=[2:3], nr_gaps=[4:5], dups=[]]',
      'HEARTBEAT[flgs=0, HEARTBEAT_INFORMATION[len=12, val=...]]',
      'ABORT[flgs=T, USER_INITIATED_ABORT[info="bye \\"x\\" \\x41\\101\\n"]]',
      'ABORT[flgs=1, PROTOCOL_VIOLATION[info=""], CAUSE[code=0x1234, len=6, info=[1,2]], CAUSE[code=1, len=400, info=[]]]',
      'ERROR[flgs=0, UNRECOGNIZED_CHUNK_TYPE[chk=DATA[flgs=BE, len=16, tsn=1, sid=0, ssn=0, ppid=0]]]',
      'ERROR[flgs=0, MISSING_MANDATORY_PARAMETER[types=[STATE_COOKIE, 0x8008, HMAC_ALGORITHM]]]',
      'COOKIE_ECHO[flgs=0, len=8, val=[1,2,3,4]]; COOKIE_ACK[flgs=0]',
      'I_DATA[flgs=E, len=21, tsn=100, sid=0, mid=0, fsn=1]',
      'FORWARD_TSN[cum_tsn=100, ids=[{1,2},{sid=3,ssn=4}]]',
      'FORWARD_TSN[flgs=0, cum_tsn=100, ids=[]]',
      'RECONFIG[flgs=0, RECONFIG_REQUEST_GENERIC[type=13, len=16, req_sn=100, val=[0,0,0,0,0,0,0,0]]]',
      'PAD[flgs=0, len=8, val=...]',
      '',
      '[0x01, 0, 0, 4]',
      '[]',
    ],
    t => `${UP}+0.1 < sctp: ${t}`,
  );
  const HELLO = `+0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 < sctp: INIT[flgs=0, tag=11, a_rwnd=65536, os=5, is=5, tsn=...`;
  all(
    [
      '',
      ', SUPPORTED_ADDRESS_TYPES[types=[IPv4,IPv6,HOSTNAME,0x77]]',
      ', IPV4_ADDRESS[addr=192.0.2.7], IPV6_ADDRESS[addr=2001:db8::7], IPV4_ADDRESS[addr="192.0.2.8"]',
      ', SUPPORTED_EXTENSIONS[types=[0xc0, FORWARD_TSN, AUTH, ASCONF, ASCONF_ACK, I_DATA, NR_SACK, RECONFIG]]',
      ', PARAMETER[type=0xc999,len=6,val=[0x01,0x02]], PARAMETER[type=0x8999, len=4, val=[]]',
      ', PAD[len=16, val=...], ADAPTATION_INDICATION[adaptation_code_point=0x1]',
      ', ZERO_CHECKSUM_ACCEPTABLE[edmid=SCTP_OVER_DTLS], COOKIE_PRESERVATIVE[incr=1000]',
      ', STATE_COOKIE[len=20, val=...], FORWARD_TSN_SUPPORTED[], ECN_CAPABLE[]',
      '  ,\n\n // comment\n PAD[len=8, /* in */ val=[0x1,2,3,4]]\n',
    ],
    t => `${HELLO}${t}]\n+0 > sctp: INIT_ACK[flgs=0, tag=..., a_rwnd=..., os=..., is=..., tsn=..., ...]`,
  );
  all(
    [
      ', PARAMETER[type=0x8999, len=100, val=[]]',
      ', HOSTNAME_ADDRESS[addr="a.b.c"]',
      ', PARAMETER[type=5, len=9, val=[1]]',
    ],
    t => `${HELLO}${t}]\n+0 > sctp: ABORT[flgs=..., ...]`,
  );
});

describe('literals (5, 5.2)', () => {
  const get = (name: string, value: string, len: number | string) =>
    `+0 getsockopt(4, IPPROTO_SCTP, ${name}, ${value}, [${len}]) = 0\n`;
  const set = (name: string, value: string, len: number | string) =>
    `+0 setsockopt(4, IPPROTO_SCTP, ${name}, ${value}, ${len}) = 0\n`;
  all(
    [
      get('SCTP_STATUS', '{...}', 176),
      get('SCTP_STATUS', '...', 176),
      get('SCTP_STATUS', '[...]', 176),
      get('SCTP_STATUS', '{..., sstat_instrms=5}', 'sizeof(struct sctp_status)'),
      get('SCTP_STATUS', '{sstat_primary=..., sstat_state=SCTP_ESTABLISHED}', '...'),
      get(
        'SCTP_STATUS',
        '{sstat_assoc_id=3, sstat_state=SCTP_ESTABLISHED, sstat_rwnd=..., sstat_primary={spinfo_address={sa_family=AF_INET, sin_port=..., sin_addr=inet_addr("192.0.2.1")}, spinfo_state=SCTP_ACTIVE}}',
        176,
      ),
      get('SCTP_GET_PEER_ADDR_INFO', '{spinfo_address=..., spinfo_state=SCTP_ACTIVE}', 152),
      set(
        'SCTP_PEER_ADDR_PARAMS',
        '{spp_address=..., spp_hbinterval=..., spp_pathmaxrxt=..., spp_pathmtu=..., spp_flags=SPP_HB_DISABLE|SPP_PMTUD_ENABLE, spp_ipv6_flowlabel=0, spp_dscp=0}',
        152,
      ),
      set(
        'SCTP_PEER_ADDR_PARAMS',
        '{spp_flags=(SPP_HB_DISABLE | SPP_PMTUD_ENABLE)|0x0, spp_address={sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("0.0.0.0")}}',
        'sizeof(struct sctp_paddrparams)',
      ),
      set('SCTP_RTOINFO', '{srto_assoc_id=..., srto_initial=0, srto_max=0x7fffffff, srto_min=0}', 16),
      set('SCTP_RTOINFO', '{srto_min=100, srto_max=-1, srto_initial=1000}', 16) +
        get('SCTP_RTOINFO', '{srto_max=0xffffffff, srto_min=100}', 16),
      set('SCTP_EVENTS', '{sctp_data_io_event=1, sctp_adaption_layer_event=0, sctp_sender_dry_event=0}', 11),
      set('SCTP_NODELAY', '1', 4) + set('SCTP_NODELAY', '{value=0}', 4) + set('SCTP_NODELAY', '[1]', 4),
      set('SCTP_MAX_BURST', '{assoc_value=4}', 8) + get('SCTP_MAX_BURST', '{assoc_id=0, assoc_value=4}', 8),
      '+0 getsockopt(4, SOL_SOCKET, SO_ERROR, [0], [4]) = 0 (nothing (yet), so far (and so on))\n',
      '+0 write(4, "abcd", 4) = 0x4\n',
    ],
    t => UP + t,
  );
  test('what a literal cannot be', () => {
    assert.match(fails(`${UP}+0 read(4, ..., sizeof(struct nothing)) = 0`, NEXT).what, /sizeof wants/);
    assert.match(fails(UP + get('SCTP_RTOINFO', '{sinit_num_ostreams=1}', 16), NEXT).what, /no field/);
    assert.match(fails(UP + set('SCTP_NODELAY', '[1, 2]', 4), NEXT).what, /a number is expected/);
    assert.equal(
      fails(UP + get('SCTP_STATUS', '{sstat_state=SCTP_SHUTDOWN_SENT}', 176), NEXT).all,
      'value, sstat_state: 16 (SCTP_SHUTDOWN_SENT) / 8',
    );
  });
});

describe('options, commands and conditional text (1, 6)', () => {
  all(
    [
      '--tolerance_usecs=1000000 --ip_version=ipv4\n--mtu=1400 // x\n',
      '  --tolerance_usecs = 100\n',
      '--ip_version=ipv4_mapped_ipv6\n',
      '--bind_port=5001 --connect_port=6001\n',
      '--local_ip=10.0.0.1/24 --remote_ip=10.0.1.1 --gateway_ip=10.0.0.2\n',
      '--local_ip=10.0.0.1 --netmask_ip=255.255.255.0 --remote_ip=10.0.1.1 --gateway_ip=10.0.0.2\n',
      '--code_command="x" --tcp_ts_tick_usecs=1 --wire_server --non_fatal=packet --dry_run --debug -v --tun_dev=tun3\n',
      '`sysctl -w net.inet.sctp.ecn_enable=0`\n',
      '`sysctl -w net.inet.sctp.asconf_enable=0; sysctl -w net.inet.sctp.auth_enable=0 && sysctl -i net.inet.sctp.auth_disable=1`\n',
      '`sysctl -w net.inet.sctp.initial_cwnd=10`\n`sysctl net.inet.sctp.maxburst`\n',
    ],
    t => t + UP,
  );
  test('cleanup commands, one or more', () => void passes(`${UP}\`sysctl -w a.b=0\`\n\`echo c\``));
  test('settings without effect are let pass and told', () => {
    const notes = (text: string) => passes(`\`sysctl ${text}\`\n${UP}`).notes.join('; ');
    assert.equal(notes('-w net.inet.sctp.pr_enable=0 net.inet.sctp.cmt_on_off=0 net.inet.sctp.do_sctp_drain=1'), '');
    assert.match(notes('-w net.inet.sctp.pr_enable=1'), /pr_enable=1 has no effect: the extension pr is not there/);
    assert.match(notes('-w net.inet.sctp.cmt_on_off=1'), /the extension cmt/);
    assert.match(notes('-w net.inet.sctp.do_sctp_drain=0'), /none is ever taken back/);
    assert.match(notes('-w kern.ipc.maxsockbuf=1000000'), /only its own settings/);
    const refused = (text: string) => run(`\`sysctl ${text}\`\n${UP}`).failure!.what;
    assert.match(refused('-w net.inet.sctp.auth_disable=1'), /unknown name/);
    assert.match(refused('-w net.inet.sctp.pr_enable=2'), /EINVAL/);
  });
  const inside = '+0 close(4) = 0\n';
  all(
    [
      `#ifdef Linux\njunk ' " \` \n#else\n${UP}#endif\n`,
      `#ifndef Linux\n${UP}#ifdef FreeBSD\n${inside}#else\nju"nk\n#endif\n#endif`,
      `#ifdef FreeBSD\n${UP}#else\n#ifdef X\nju"nk\n#else\n#endif\n#endif\n`,
      `# ifdef X\n#ifndef Y\n'\n# endif\n#else\n#ifdef FreeBSD\n${UP}#endif\n#endif`,
      `--define PORT=8080\n${UP.replace('(3, ..., ...)', '(3, {sa_family=AF_INET, sin_port=htons(PORT), sin_addr=INADDR_ANY}, 16)')}`,
    ],
    t => t,
  );
});
