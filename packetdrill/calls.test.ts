/** System calls of RFC 6458 in scripts: control messages both ways with both ABIs, the functions of libsctp, options. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ERRNO } from '../stack/kern/errno.js';
import type { Abi } from './result.js';
import { ANSWER, fails, LONELY, MANY, NEXT, OPEN, passes, UP } from './runner.fixture.js';
import { ERRNOS } from './values.js';

const address = (host: string, port = 'htons(8080)') =>
  `{sa_family=AF_INET, sin_port=${port}, sin_addr=inet_addr("${host}")}`;
const PEER = address('192.0.2.1');
const SECOND = address('192.0.2.2');
const ESTABLISHED = `${OPEN}${ANSWER}+0 > sctp: COOKIE_ECHO[flgs=0, len=4, val=...]; `;
const data = (flags: string, len: number, sid: number, ppid: number) =>
  `DATA[flgs=${flags}, len=${len}, tsn=500, sid=${sid}, ssn=0, ppid=${ppid}]\n`;
/** Calls on descriptor 3 or 4, each of them to end with this result. */
const each = (text: string, calls: readonly (readonly [call: string, result: string])[]) =>
  passes(text + calls.map(([call, result]) => `+0 ${call} = ${result}\n`).join(''));

/** Lengths of control messages: compact as scripts write them (a 12-byte header), and amd64's. */
const ABIS = { compact: { header: 12, align: 4 }, 'freebsd-amd64': { header: 16, align: 8 } } as const;
function lengths(abi: Abi) {
  const { header, align } = ABIS[abi];
  const space = (size: number) => Math.ceil((header + size) / align) * align;
  const cmsg = (type: string, size: number, value: string) =>
    `{cmsg_len=${header + size}, cmsg_level=IPPROTO_SCTP, cmsg_type=${type}, cmsg_data=${value}}`;
  return { header, space, cmsg };
}

for (const abi of ['compact', 'freebsd-amd64'] as const)
  describe(`control messages, ${abi}`, () => {
    const { header, space, cmsg } = lengths(abi);
    const send = (control: string, length: number, result: string, to = '...') =>
      `+0 sendmsg(3, {msg_name(16)=${to}, msg_iov(1)=[{iov_base=..., iov_len=10}], msg_control(${length})=[${control}], msg_flags=0}, 0) = ${result}\n`;
    const sndinfo = (value: string) => cmsg('SCTP_SNDINFO', 16, value);

    test('SNDINFO and PRINFO are one request, SNDRCV wins over them', () => {
      const info = sndinfo('{snd_sid=2, snd_flags=SCTP_UNORDERED, snd_ppid=htonl(7), snd_context=1}');
      const pr = cmsg('SCTP_PRINFO', 8, '{pr_policy=SCTP_PR_SCTP_NONE, pr_value=0}');
      const both = send(`${info}, ${pr}`, space(16) + header + 8, '10');
      passes(`${LONELY}${both}${ESTABLISHED}${data('UBE', 26, 2, 7)}`, { abi });
      const old = cmsg('SCTP_SNDRCV', 128, '{sinfo_stream=1, sinfo_ppid=htonl(3)}');
      const three = send(`${info}, ${old}`, space(16) + header + 128, '10');
      passes(`${LONELY}${three}${ESTABLISHED}${data('BE', 26, 1, 3)}`, { abi });
    });
    test('INIT: streams and attempts of the association; the rest is the default of the socket', () => {
      const init = cmsg('SCTP_INIT', 8, '{sinit_num_ostreams=3, sinit_max_instreams=7, sinit_max_attempts=1}');
      const first = '+0 > sctp: INIT[flgs=0, tag=1, a_rwnd=..., os=3, is=7, tsn=500, ...]\n';
      const once = '+1 > sctp: INIT[flgs=0, tag=1, a_rwnd=..., os=3, is=7, tsn=500, ...]\n';
      const r = passes(`${LONELY}${send(init, header + 8, '10')}${first}${once}+100 fcntl(3, F_GETFL) = 6`, { abi });
      assert.deepEqual(r.notes, []);
      const defaults = '+0 setsockopt(3, IPPROTO_SCTP, SCTP_DEFAULT_SNDINFO, {snd_sid=2, snd_ppid=htonl(9)}, 16) = 0\n';
      const streams = send(cmsg('SCTP_INIT', 8, '{sinit_num_ostreams=3}'), header + 8, '10');
      passes(`${LONELY}${defaults}${streams}${ESTABLISHED}${data('BE', 26, 2, 9)}`, { abi });
      const many = send(
        `${cmsg('SCTP_INIT', 8, '{sinit_num_ostreams=3}')}, ${sndinfo('{snd_sid=3}')}`,
        space(8) + header + 16,
        '-1 EINVAL',
      );
      passes(LONELY + many, { abi });
    });
    test('DSTADDRV4: further addresses of the peer', () => {
      const more = send(cmsg('SCTP_DSTADDRV4', 4, 'inet_addr("192.0.2.2")'), header + 4, '10', PEER);
      const paths = `+0 < sctp: COOKIE_ACK[flgs=0]\n+0 sctp_getpaddrs(3, 3, [${SECOND}, ${PEER}]) = 2\n`;
      const both = ANSWER.replace(']]', '], IPV4_ADDRESS[addr=192.0.2.2]]');
      const up = `${OPEN}${both}+0 > sctp: COOKIE_ECHO[flgs=0, len=4, val=...]; `;
      passes(`${LONELY}${more}${up}${data('BE', 26, 0, 0)}${paths}`, { abi });
      const as = send(cmsg('SCTP_DSTADDRV4', 4, '{s_addr=inet_addr("192.0.2.2")}'), header + 4, '10');
      passes(`${LONELY}${as}${OPEN}`, { abi });
    });
    test('cut short: no new association; lengths that lie', () => {
      passes(LONELY + send(cmsg('SCTP_SNDINFO', 15, '{snd_sid=3}'), header + 15, '-1 EINVAL'), { abi });
      passes(LONELY + send(sndinfo('{snd_sid=3}'), header + 12, '-1 EINVAL'), { abi });
      const lie = '{cmsg_len=1000, cmsg_level=IPPROTO_SCTP, cmsg_type=SCTP_SNDINFO, cmsg_data={snd_sid=1}}';
      passes(LONELY + send(lie, header + 16, '-1 EINVAL'), { abi });
      passes(LONELY + send(lie.replace('1000', '3'), header + 16, '-1 EINVAL'), { abi });
    });
    test('AUTHINFO is taken: the null key; without control, without anybody', () => {
      passes(`${LONELY}${send(cmsg('SCTP_AUTHINFO', 2, '{auth_keynumber=0}'), header + 2, '10')}${OPEN}`, { abi });
      each(LONELY, [['sendmsg(3, {msg_name(0)=NULL, msg_iov(1)=[{..., 10}]}, 0)', '-1 ENOTCONN']]);
      passes(`${LONELY}+0 sendmsg(3, {msg_name(16)=..., msg_iov(2)=[{..., 10}, {..., 4}]}, 0) = 14\n${OPEN}`, { abi });
    });

    const on = (...options: readonly string[]) =>
      options.map(o => `+0 setsockopt(4, IPPROTO_SCTP, ${o}) = 0\n`).join('');
    const TWO =
      '+0 < sctp: DATA[flgs=BE, len=20, tsn=100, sid=1, ssn=0, ppid=7]; DATA[flgs=UBE, len=24, tsn=101, sid=2, ssn=0, ppid=8]\n' +
      '+0 > sctp: SACK[flgs=0, cum_tsn=101, a_rwnd=..., gaps=[], dups=[]]\n';
    const recv = (control: string, length: number, flags = 'MSG_EOR') =>
      `+0 recvmsg(4, {msg_name(16)=..., msg_iov(1)=[{iov_base=..., iov_len=100}], msg_control(${length})=[${control}], msg_flags=${flags}}, 0) = `;
    const RCVINFO = cmsg(
      'SCTP_RCVINFO',
      28,
      '{rcv_sid=1, rcv_ssn=0, rcv_flags=0, rcv_ppid=htonl(7), rcv_tsn=100, rcv_cumtsn=101, rcv_context=0, rcv_assoc_id=3}',
    );
    const NXTINFO = cmsg(
      'SCTP_NXTINFO',
      16,
      '{nxt_sid=2, nxt_flags=SCTP_UNORDERED|SCTP_COMPLETE, nxt_ppid=htonl(8), nxt_length=8, nxt_assoc_id=3}',
    );
    const SNDRCV = cmsg(
      'SCTP_SNDRCV',
      128,
      '{sinfo_stream=1, sinfo_ssn=0, sinfo_flags=0, sinfo_ppid=htonl(7), sinfo_context=0, sinfo_timetolive=0, sinfo_tsn=100, sinfo_cumtsn=101, sinfo_assoc_id=3}',
    );
    const EXTRCV = cmsg(
      'SCTP_EXTRCV',
      128,
      '{sinfo_stream=1, serinfo_next_flags=SCTP_NEXT_MSG_AVAIL|SCTP_NEXT_MSG_ISCOMPLETE|SCTP_NEXT_MSG_IS_UNORDERED, sreinfo_next_stream=2, sreinfo_next_aid=3, sreinfo_next_length=8, sreinfo_next_ppid=htonl(8)}',
    );
    const RCV = 'SCTP_RECVRCVINFO, [1], 4';
    const NXT = 'SCTP_RECVNXTINFO, [1], 4';
    const IO = 'SCTP_EVENTS, {sctp_data_io_event=1}, 11';
    test('received: RCVINFO, NXTINFO, then SNDRCV or EXTRCV, as switched on', () => {
      const [r, n, s] = [space(28), space(16), space(128)];
      for (const [options, control, length] of [
        [[], '', 0],
        [[RCV], RCVINFO, r],
        [[NXT], NXTINFO, n],
        [[RCV, NXT], `${RCVINFO}, ${NXTINFO}`, r + n],
        [[RCV, NXT, IO], `${RCVINFO}, ${NXTINFO}, ${SNDRCV}`, r + n + s],
        [['SCTP_USE_EXT_RCVINFO, [1], 4', IO], EXTRCV, s],
        [[RCV], '...', 500],
      ] as const)
        passes(`${UP}${on(...options)}${TWO}${recv(control, length)}4\n`, { abi });
      // No next message: no NXTINFO. A notification: nothing.
      passes(`${UP}${on(NXT)}${TWO}${recv('...', 500)}4\n${recv('', 500)}8\n`, { abi });
      const shutdown = '+0 < sctp: SHUTDOWN[flgs=0, cum_tsn=499]\n+0 > sctp: SHUTDOWN_ACK[flgs=0]\n';
      const event = 'SCTP_EVENT, {se_type=SCTP_SHUTDOWN_EVENT, se_on=1}, 8';
      passes(`${UP}${on(RCV, event)}${shutdown}${recv('', 500, 'MSG_NOTIFICATION|MSG_EOR')}12\n`, { abi });
    });
    test('received: too little room, other lengths, types and values', () => {
      passes(`${UP}${on(RCV)}${TWO}${recv('', header, 'MSG_EOR|MSG_CTRUNC')}4\n`, { abi });
      const wrong = (control: string) => fails(`${UP}${on(RCV)}${TWO}${recv(control, 500)}4\n`, NEXT + 3, { abi }).all;
      const len = header + 28;
      assert.equal(
        wrong(RCVINFO.replace(`cmsg_len=${len}`, 'cmsg_len=99')),
        `msg_control SCTP_RCVINFO, cmsg_len: 99 / ${len}`,
      );
      assert.equal(wrong(NXTINFO), 'msg_control: [SCTP_NXTINFO] / [SCTP_RCVINFO]');
      assert.equal(wrong(RCVINFO.replace('rcv_sid=1', 'rcv_sid=4')), 'msg_control SCTP_RCVINFO, rcv_sid: 4 / 1');
    });
  });

test('PRINFO and AUTHINFO with the packed lengths that scripts give them', () => {
  for (const [type, len, value] of [
    ['SCTP_PRINFO', 18, '{pr_policy=0, pr_value=0}'],
    ['SCTP_AUTHINFO', 14, '{auth_keynumber=0}'],
    ['SCTP_AUTHINFO', 16, '{auth_keynumber=0}'],
  ] as const) {
    const c = `{cmsg_len=${len}, cmsg_level=IPPROTO_SCTP, cmsg_type=${type}, cmsg_data=${value}}`;
    const call = `+0 sendmsg(3, {msg_name(16)=..., msg_iov(1)=[{..., 10}], msg_control(${len})=[${c}]}, 0) = 10\n`;
    passes(LONELY + call + OPEN);
  }
});

describe('libsctp', () => {
  test('sctp_sendv: all kinds of information, several addresses', () => {
    const sendv = (to: string, n: number, info: string, result = '10') =>
      `+0 sctp_sendv(3, [{..., 4}, {iov_base=..., iov_len=6}], 2, ${to}, ${n}, ${info}, 0) = ${result}\n`;
    const snd = '{snd_sid=2, snd_ppid=htonl(4)}, 16, SCTP_SENDV_SNDINFO';
    const two = `[${PEER}, ${SECOND}]`;
    passes(`${LONELY}${sendv(two, 2, snd)}${ESTABLISHED}${data('BE', 26, 2, 4)}`);
    for (const info of [
      'NULL, 0, SCTP_SENDV_NOINFO',
      '{pr_policy=SCTP_PR_SCTP_TTL, pr_value=100}, 8, SCTP_SENDV_PRINFO',
      '{auth_keynumber=0}, 2, SCTP_SENDV_AUTHINFO',
      '{sendv_flags=SCTP_SEND_SNDINFO_VALID|SCTP_SEND_PRINFO_VALID, sendv_sndinfo={snd_sid=1}, sendv_prinfo={pr_policy=0, pr_value=0}, sendv_authinfo={auth_keynumber=0}}, 32, SCTP_SENDV_SPA',
    ]) {
      passes(LONELY + sendv(`[${PEER}]`, 1, info) + OPEN);
      passes(LONELY + sendv('...', 1, info) + OPEN);
    }
    for (const info of [
      '{snd_sid=2}, 15, SCTP_SENDV_SNDINFO',
      '{snd_sid=2}, 16, 9',
      '{snd_sid=2}, 16, SCTP_SENDV_NOINFO',
      'NULL, 16, SCTP_SENDV_SNDINFO',
    ])
      passes(LONELY + sendv(`[${PEER}]`, 1, info, '-1 EINVAL'));
    passes(LONELY + sendv(`[${PEER}]`, 0, snd, '-1 EINVAL'));
    passes(LONELY + sendv(`[${PEER}, ${address('192.0.2.2', 'htons(1)')}]`, 2, snd, '-1 EINVAL'));
  });
  test('sctp_sendmsg, sctp_send, sctp_sendx', () => {
    const msg = `+0 sctp_sendmsg(3, ..., 10, ${PEER}, 16, htonl(51), SCTP_UNORDERED, 2, 0, 0) = 10\n`;
    passes(`${LONELY}${msg}${ESTABLISHED}${data('UBE', 26, 2, 51)}`);
    const x = (second: string, result: string) =>
      `+0 sctp_sendx(3, ..., 10, [${PEER}, ${second}], 2, {sinfo_stream=1, sinfo_ppid=htonl(3)}, 0) = ${result}\n`;
    passes(`${LONELY}${x(SECOND, '10')}${ESTABLISHED}${data('BE', 26, 1, 3)}`);
    passes(LONELY + x(address('192.0.2.2', 'htons(1)'), '-1 EINVAL'));
    passes(`${LONELY}+0 sctp_sendx(3, ..., 10, [${PEER}], 1, NULL, 0) = 10\n${OPEN}`);
    passes(
      `${MANY}+0 sctp_send(3, ..., 4, {sinfo_stream=1, sinfo_assoc_id=3}, 0) = 4\n+0 > sctp: ${data('BE', 20, 1, 0)}`,
    );
  });
  test('sctp_recvv and sctp_recvmsg tell what was asked for', () => {
    const two =
      '+0 < sctp: DATA[flgs=BE, len=20, tsn=100, sid=1, ssn=0, ppid=7]; DATA[flgs=UBE, len=24, tsn=101, sid=2, ssn=0, ppid=8]\n';
    const recvv = (info: string, len: number, type: string) =>
      `+0 sctp_recvv(4, [{..., 100}], 1, ${address('192.0.2.1', '...')}, [16], ${info}, [${len}], [${type}], [MSG_EOR]) = 4\n`;
    const on = (...names: readonly string[]) =>
      names.map(n => `+0 setsockopt(4, IPPROTO_SCTP, ${n}, [1], 4) = 0\n`).join('');
    passes(UP + two + recvv('...', 0, 'SCTP_RECVV_NOINFO'));
    passes(UP + on('SCTP_RECVRCVINFO') + two + recvv('{rcv_sid=1, rcv_ppid=htonl(7)}', 28, 'SCTP_RECVV_RCVINFO'));
    passes(UP + on('SCTP_RECVNXTINFO') + two + recvv('{nxt_sid=2, nxt_length=8}', 16, 'SCTP_RECVV_NXTINFO'));
    passes(
      UP +
        on('SCTP_RECVRCVINFO', 'SCTP_RECVNXTINFO') +
        two +
        recvv('{recvv_rcvinfo={rcv_sid=1}, recvv_nxtinfo={nxt_sid=2}}', 44, 'SCTP_RECVV_RN'),
    );
    const wrong = fails(UP + two + recvv('{rcv_sid=1}', 28, 'SCTP_RECVV_RCVINFO'), NEXT + 1).all;
    assert.equal(wrong, 'infotype: 1 / 0; infolen: 28 / 0; info: information / none');
    each(UP + two, [
      ['recv(4, ..., 100, MSG_PEEK)', '4'],
      ['recv(4, ..., 2, 0)', '2'],
      [`recvfrom(4, ..., 100, 0, ${address('192.0.2.1', '...')}, [16])`, '2'],
      ['readv(4, [{..., 4}, {..., 4}], 2)', '8'],
      ['sctp_recvmsg(4, ..., 100, ..., ..., ..., ...)', '-1 EAGAIN'],
    ]);
  });
  test('sctp_connectx: 0 as on FreeBSD, or in progress; its id; whom it refuses', () => {
    for (const args of [
      `[${PEER}], 1, [0]`,
      `[${PEER}], 1, [3]`,
      `${PEER}, 1, ...`,
      '..., 1, NULL',
      `[${PEER}, ${SECOND}], 2, [...]`,
    ])
      passes(`${LONELY}+0 sctp_connectx(3, ${args}) = 0\n${OPEN}`);
    passes(`${LONELY}+0 sctp_connectx(3, [${PEER}], 1, ...) = -1 EINPROGRESS\n${OPEN}`);
    assert.match(fails(`${LONELY}+0 sctp_connectx(3, [${PEER}], 1, [4]) = 0\n`, 3).all, /association id: 4 \/ 3/);
    passes(`${LONELY}+0 sctp_connectx(3, [${PEER}], 0, ...) = -1 EINVAL\n`);
    each(LONELY, [
      [`sctp_connectx(3, [${PEER}], 1, ...)`, '0'],
      [`sctp_connectx(3, [${PEER}], 1, ...)`, '-1 EALREADY'],
    ]);
  });
  test('sctp_bindx and the lists of addresses', () => {
    const own = address('192.168.0.1', 'htons(5000)');
    each(LONELY, [
      [`sctp_bindx(3, [${own}], 1, SCTP_BINDX_ADD_ADDR)`, '0'],
      [`sctp_getladdrs(3, 0, [${own}])`, '1'],
      ['sctp_bindx(3, ..., 1, 7)', '-1 EFAULT'],
      ['sctp_bindx(3, [], 0, SCTP_BINDX_ADD_ADDR)', '-1 EINVAL'],
      ['sctp_getpaddrs(3, 77, [...])', '-1 ENOENT'],
      ['sctp_freepaddrs([...])', '0'],
      ['sctp_freeladdrs(...)', '0'],
      ['sctp_getaddrlen(3, AF_INET6)', '28'],
    ]);
    const ports = `[${own}, ${address('192.168.0.1', 'htons(5001)')}]`;
    each(LONELY, [[`sctp_bindx(3, ${ports}, 2, SCTP_BINDX_ADD_ADDR)`, '-1 EINVAL']]);
    const other = fails(`${MANY}+0 sctp_getpaddrs(3, 3, [${SECOND}]) = 1\n`, NEXT - 1).all;
    assert.match(other, /^addresses: 192.0.2.2 port 8080 \/ 192.0.2.1 port \d+$/);
  });
  test('sctp_peeloff: a descriptor of its own; also as the option that macOS has', () => {
    const use = `+0 write(5, ..., 4) = 4\n+0 > sctp: ${data('BE', 20, 0, 0)}+0 close(5) = 0\n`;
    passes(`${MANY}+0 sctp_peeloff(3, 3) = 5\n${use}`);
    passes(`${MANY}+0 getsockopt(3, IPPROTO_SCTP, SCTP_PEELOFF, {s=3, assoc_id=3, new_sd=5}, [12]) = 0\n${use}`);
    each(MANY, [
      ['sctp_peeloff(3, 4)', '-1 ENOENT'],
      ['sctp_peeloff(3, 3)', '5'],
      ['sctp_peeloff(5, 3)', '-1 EOPNOTSUPP'],
      ['accept(3, ..., ...)', '-1 EOPNOTSUPP'],
    ]);
    assert.match(fails(`${MANY}+0 sctp_peeloff(3, 3) = -1\n`, NEXT - 1).what, /sctp_peeloff returned 0/);
  });
  test('sctp_opt_info and sctp_getassocid', () => {
    each(MANY, [
      ['sctp_opt_info(3, 3, SCTP_STATUS, {sstat_state=SCTP_ESTABLISHED, sstat_assoc_id=3}, [176])', '0'],
      ['sctp_opt_info(3, 9, SCTP_STATUS, {...}, [176])', '-1 ENOENT'],
      ['sctp_opt_info(3, SCTP_ALL_ASSOC, SCTP_STATUS, {...}, [176])', '-1 EINVAL'],
      ['sctp_opt_info(3, 3, SCTP_STATUS, NULL, [176])', '-1 EFAULT'],
      ['sctp_opt_info(3, 3, SCTP_STATUS, {...}, [175])', '-1 EINVAL'],
      ['sctp_opt_info(3, 3, SCTP_NODELAY, [0], [4])', '0'],
      [`sctp_getassocid(3, ${address('192.0.2.1', '...')})`, '3'],
      [`sctp_getassocid(3, ${address('192.0.2.9', '...')})`, '0'],
    ]);
  });
});

describe('options and descriptors', () => {
  test('of the socket, IP, IPv6 and TCP', () => {
    const set = (level: string, name: string, value: string, len: number | string, result = '0') =>
      [`setsockopt(4, ${level}, ${name}, ${value}, ${len})`, result] as const;
    const get = (level: string, name: string, value: string, len: number, result = '0') =>
      [`getsockopt(4, ${level}, ${name}, ${value}, [${len}])`, result] as const;
    each(UP, [
      set('SOL_SOCKET', 'SO_LINGER', '{onoff=1, linger=30}', 8),
      get('SOL_SOCKET', 'SO_LINGER', '{onoff=128, linger=30}', 8),
      set('SOL_SOCKET', 'SO_KEEPALIVE', '[1]', 4),
      get('SOL_SOCKET', 'SO_KEEPALIVE', '[8]', 4),
      set('SOL_SOCKET', 'SO_REUSEPORT', '1', 'sizeof(int)'),
      set('SOL_SOCKET', 'SO_RCVTIMEO', '{tv_sec=1, tv_usec=5}', 16),
      get('SOL_SOCKET', 'SO_RCVTIMEO', '{tv_sec=1, tv_usec=5}', 16),
      set('SOL_SOCKET', 'SO_RCVTIMEO', '{tv_sec=1, tv_usec=5}', 15, '-1 EINVAL'),
      get('SOL_SOCKET', 'SO_RCVLOWAT', '[1]', 4),
      get('SOL_SOCKET', 'SO_TYPE', '[SOCK_STREAM]', 4),
      get('SOL_SOCKET', 'SO_PROTOCOL', '[IPPROTO_SCTP]', 4),
      get('SOL_SOCKET', 'SO_DOMAIN', '[AF_INET]', 4),
      get('SOL_SOCKET', 'SO_ACCEPTCONN', '[0]', 4),
      get('SOL_SOCKET', 'SO_ERROR', '[0]', 4),
      set('SOL_SOCKET', 'SO_ERROR', '[1]', 4, '-1 ENOPROTOOPT'),
      set('SOL_SOCKET', 'SO_DOMAIN', '[1]', 4, '-1 ENOPROTOOPT'),
      // One script of the suites has the wrong level.
      set('SOL_SOCKET', 'SCTP_INITMSG', '{sinit_num_ostreams=1}', 8, '-1 ENOPROTOOPT'),
      get('IPPROTO_IP', 'IP_TTL', '[64]', 4),
      set('IPPROTO_IP', 'IP_DONTFRAG', '[1]', 4),
      get('IPPROTO_IP', '0x7777', '...', 4, '-1 ENOPROTOOPT'),
      set('IPPROTO_IPV6', 'IPV6_TCLASS', '[1]', 4, '-1 ENOPROTOOPT'),
      set('IPPROTO_TCP', 'TCP_NODELAY', '[1]', 4, '-1 EINVAL'),
      set('IPPROTO_SCTP', 'SCTP_NODELAY', 'NULL', 0, '-1 EINVAL'),
      set('IPPROTO_SCTP', 'SCTP_NODELAY', '[1]', 3, '-1 EINVAL'),
      set('IPPROTO_SCTP', 'SCTP_NODELAY', '[1]', -1, '-1 EINVAL'),
      set('IPPROTO_SCTP', 'SCTP_NODELAY', '[1]', 70000, '-1 ENOBUFS'),
      set('IPPROTO_SCTP', 'SCTP_NODELAY', '[1]', 64),
      set('IPPROTO_SCTP', '0x7777', '{srto_initial=1}', 16, '-1 ENOPROTOOPT'),
      get('IPPROTO_SCTP', 'SCTP_NODELAY', 'NULL', 4, '-1 EINVAL'),
      ['getsockopt(4, IPPROTO_SCTP, SCTP_NODELAY, ..., NULL)', '-1 EFAULT'],
      set('IPPROTO_IP', 'IP_TOS', '[0x10]', 4),
      ['write(4, ..., 4)', '4'],
    ]);
    passes(
      `${UP}+0 setsockopt(4, IPPROTO_IP, IP_TOS, [0x10], 4) = 0\n+0 write(4, ..., 4) = 4\n+0 > (tos 0x10) sctp: ${data('BE', 20, 0, 0)}`,
    );
  });
  test('SO_RCVTIMEO ends a blocking read', () => {
    const text = `${UP}+0 setsockopt(4, SOL_SOCKET, SO_RCVTIMEO, {tv_sec=0, tv_usec=200000}, 16) = 0
+0 fcntl(4, F_SETFL, O_RDWR) = 0
`;
    passes(`${text}+0...0.2 read(4, ..., 10) = -1 EAGAIN\n`);
    assert.match(fails(`${text}+0...0.5 read(4, ..., 10) = -1 EAGAIN\n`, NEXT + 2).all, /^time/);
  });
  test('fcntl, ioctl, poll, names, shutdown', () => {
    each(UP, [
      ['fcntl(4, F_GETFD)', '0'],
      ['fcntl(4, F_SETFD, FD_CLOEXEC)', '0'],
      ['fcntl(4, 77)', '-1 EINVAL'],
      ['ioctl(4, FIONREAD, [0])', '0'],
      ['ioctl(4, FIONSPACE, ...)', '0'],
      ['ioctl(4, 0x1234, ...)', '-1 ENOTTY'],
      ['poll([{fd=4, events=POLLIN|POLLOUT, revents=POLLOUT}], 1, 0)', '1'],
      ['poll([{fd=4, events=POLLRDNORM, revents=0}, {fd=-1, events=POLLIN, revents=0}], 2, 100)', '0'],
      ['poll([{fd=9, events=POLLIN, revents=POLLNVAL}], 1, -1)', '1'],
      [`getsockname(4, ${address('192.168.0.1')}, [16])`, '0'],
      [`getpeername(4, ${address('192.0.2.1', '...')}, [16])`, '0'],
      ['getpeername(3, ..., ...)', '-1 ENOTCONN'],
      ['ioctl(4, FIONBIO, [0])', '0'],
      ['fcntl(4, F_GETFL)', '0x2 (flags O_RDWR)'],
      ['shutdown(3, SHUT_WR)', '-1 ENOTCONN'],
      ['shutdown(4, 3)', '-1 EINVAL'],
      ['shutdown(4, SHUT_RDWR)', '0'],
      ['shutdown(9, SHUT_WR)', '-1 EBADF'],
      ['close(9)', '-1 EBADF'],
    ]);
    const six = `${UP}+0 getpeername(4, {sa_family=AF_INET6, sin6_port=..., sin6_addr=...}, [28]) = 0\n`;
    assert.equal(fails(six, NEXT).all, 'address, sa_family: AF_INET6 / AF_INET');
    const unread = '+0 < sctp: DATA[flgs=BE, len=20, tsn=100, sid=0, ssn=0, ppid=0]\n';
    passes(`${UP}${unread}+0 ioctl(4, FIONREAD, [4]) = 0\n`);
  });
});

test("the stack's errno numbers are those of scripts", () => {
  for (const [name, n] of Object.entries(ERRNO)) assert.equal(ERRNOS[name], n, name);
});
