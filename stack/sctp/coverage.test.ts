/**
 * What the socket API and the sysctls are to have (facts parts 2.2, 2.3, 2.4 and 3, by name and number), each with a row
 * that says implemented or names its extension, and the stack does what the row says.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EINVAL, ENOPROTOOPT, EOPNOTSUPP } from '../kern/errno.js';
import { SOCK_SEQPACKET } from '../kern/protosw.js';
import type { Socket } from '../kern/socket.js';
import * as api from './api.js';
import { getsockopt, setsockopt } from './binary.js';
import { CMSGS } from './cmsg.js';
import * as library from './library.js';
import { NOTIFICATIONS } from './notifications.js';
import { OPTIONS } from './optionrows.js';
import * as f from './packets.fixture.js';
import { OTHER_NODES, TUNABLES } from './tunables.js';

const L = 132;
/** "number NAME access", '' = implemented, else the extension; 'none' = FreeBSD has no handler either. */
const FACTS = `
01 RTOINFO gs            |02 ASSOCINFO gs           |03 INITMSG gs            |04 NODELAY gs
05 AUTOCLOSE gs          |06 SET_PEER_PRIMARY_ADDR s asconf                   |07 PRIMARY_ADDR gs
08 ADAPTATION_LAYER gs asconf                       |09 DISABLE_FRAGMENTS gs  |0a PEER_ADDR_PARAMS gs
0b DEFAULT_SEND_PARAM gs |0c EVENTS gs              |0d I_WANT_MAPPED_V4_ADDR gs
0e MAXSEG gs             |0f DELAYED_SACK gs        |10 FRAGMENT_INTERLEAVE gs|11 PARTIAL_DELIVERY_POINT gs
12 AUTH_CHUNK s auth     |13 AUTH_KEY s auth        |14 HMAC_IDENT gs auth    |15 AUTH_ACTIVE_KEY gs auth
16 AUTH_DELETE_KEY s auth|17 USE_EXT_RCVINFO gs     |18 AUTO_ASCONF gs asconf |19 MAX_BURST gs
1a CONTEXT gs            |1b EXPLICIT_EOR gs        |1c REUSE_PORT gs         |1d AUTH_DEACTIVATE_KEY s auth
1e EVENT gs              |1f RECVRCVINFO gs         |20 RECVNXTINFO gs        |21 DEFAULT_SNDINFO gs
22 DEFAULT_PRINFO gs pr  |23 PEER_ADDR_THLDS gs     |24 REMOTE_UDP_ENCAPS_PORT gs
25 ECN_SUPPORTED gs      |26 PR_SUPPORTED gs pr     |27 AUTH_SUPPORTED gs auth|28 ASCONF_SUPPORTED gs asconf
29 RECONFIG_SUPPORTED gs reconfig                   |30 NRSACK_SUPPORTED gs nrsack
31 PKTDROP_SUPPORTED gs pktdrop                     |32 MAX_CWND gs           |33 ACCEPT_ZERO_CHECKSUM s zero-checksum
100 STATUS g             |101 GET_PEER_ADDR_INFO g  |102 PEER_AUTH_CHUNKS g auth
103 LOCAL_AUTH_CHUNKS g auth                        |104 GET_ASSOC_NUMBER g   |105 GET_ASSOC_ID_LIST g
106 TIMEOUTS g           |107 PR_STREAM_STATUS g pr |108 PR_ASSOC_STATUS g pr
900 ENABLE_STREAM_RESET gs reconfig                 |901 RESET_STREAMS s reconfig
902 RESET_ASSOC s reconfig                          |903 ADD_STREAMS s reconfig
1005 SET_DEBUG_LEVEL gs none                        |1007 CLR_STAT_LOG s      |1101 GET_SNDBUF_USE g
1103 GET_STAT_LOG g      |1104 PCB_STATUS g         |1105 GET_NONCE_VALUES g
1200 CMT_ON_OFF gs cmt   |1201 CMT_USE_DAC gs none  |1202 PLUGGABLE_CC gs     |1203 STREAM_SCHEDULER gs
1204 STREAM_SCHEDULER_VALUE gs schedulers           |1205 CC_OPTION gs cc     |1206 INTERLEAVING_SUPPORTED gs interleaving
2001 SET_DYNAMIC_PRIMARY s                          |3001 VRF_ID gs vrf       |3002 ADD_VRF_ID s vrf
3003 GET_VRF_IDS g vrf   |3004 GET_ASOC_VRF g vrf   |3005 DEL_VRF_ID s vrf    |4001 GET_PACKET_LOG g none
8001 BINDX_ADD_ADDR s    |8002 BINDX_REM_ADDR s     |8003 GET_PEER_ADDRESSES g|8004 GET_LOCAL_ADDRESSES g
8005 GET_LOCAL_ADDR_SIZE g                          |8006 GET_REMOTE_ADDR_SIZE g
8007 CONNECT_X s         |8008 CONNECT_X_DELAYED s  |8009 CONNECT_X_COMPLETE s|800a PEELOFF g
800b GET_ADDR_LEN g      |800c LISTEN_FIX s none    |9f00 SET_INITIAL_DBG_SEQ gs`
  .split(/[|\n]/)
  .map(x => x.trim())
  .filter(x => x !== '')
  .map(x => x.split(/\s+/) as [string, string, string, string?]);

describe('options', () => {
  const rows = new Map(OPTIONS.filter(r => r.level === 'sctp').map(r => [r.number, r]));
  test('each of the facts has its row, and no row is unknown to them', () => {
    assert.equal(FACTS.length, 91);
    assert.deepEqual(
      [...rows.keys()].sort((a, b) => a - b),
      FACTS.map(x => Number.parseInt(x[0], 16)),
    );
  });
  for (const [number, name, access, extension = ''] of FACTS)
    test(`${number} ${name}: ${extension === '' ? 'implemented' : extension}`, () => {
      const row = rows.get(Number.parseInt(number, 16))!;
      assert.deepEqual([row.name, row.access, row.extension ?? ''], [`SCTP_${name}`, access, extension]);
      const w = new f.WirePeer();
      const many = w.socket(SOCK_SEQPACKET);
      const known = (so: Socket) => [
        so.getsockopt(L, row.number, row.number === api.SCTP_PEELOFF ? 77 : undefined) !== -ENOPROTOOPT,
        so.setsockopt(L, row.number, undefined) !== -ENOPROTOOPT,
      ];
      const there = extension === '';
      assert.deepEqual(known(many), [there && access.includes('g'), there && access.includes('s')]);
      const bytes = new Uint8Array(Math.max(row.layout.size, 256));
      if (!there) {
        assert.equal(getsockopt(many, L, row.number, bytes), -ENOPROTOOPT);
        assert.equal(setsockopt(many, L, row.number, bytes), -ENOPROTOOPT);
      }
      assert.equal(w.end(), 0);
    });
  test('SOL_SOCKET', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    for (const r of OPTIONS.filter(x => x.level === 'socket'))
      assert.notEqual(so.getsockopt(api.SOL_SOCKET, r.number), -ENOPROTOOPT, r.name);
    assert.equal(w.end(), 0);
  });
});

test('notifications', () => {
  assert.deepEqual(
    NOTIFICATIONS.map(r => [r.number, r.event, r.extension ?? '']).sort((a, b) => Number(a[0]) - Number(b[0])),
    [
      [1, 'assoc-change', ''],
      [2, 'peer-addr-change', ''],
      [3, 'remote-error', ''],
      [4, 'send-failed-deprecated', ''],
      [5, 'shutdown', ''],
      [6, 'adaptation-indication', 'asconf'],
      [7, 'partial-delivery', ''],
      [8, 'authentication', 'auth'],
      [9, 'stream-reset', 'reconfig'],
      [10, 'sender-dry', ''],
      [11, 'notifications-stopped', 'never'],
      [12, 'assoc-reset', 'reconfig'],
      [13, 'stream-change', 'reconfig'],
      [14, 'send-failed', ''],
    ],
  );
  const w = new f.WirePeer();
  const so = w.socket();
  for (const r of NOTIFICATIONS) {
    const e = so.setsockopt(L, api.SCTP_EVENT, { assocId: 0, type: r.event, on: true });
    assert.equal(e, r.extension === 'never' ? -EOPNOTSUPP : 0, r.event);
  }
  assert.equal(w.end(), 0);
});

test('control messages', () => {
  assert.deepEqual(
    CMSGS.map(r => [r.type, r.name, r.way, r.size, r.extension ?? '']),
    [
      [1, 'SCTP_INIT', 's', 8, ''],
      [2, 'SCTP_SNDRCV', 'gs', 128, ''],
      [3, 'SCTP_EXTRCV', 'g', 128, ''],
      [4, 'SCTP_SNDINFO', 's', 16, ''],
      [5, 'SCTP_RCVINFO', 'g', 28, ''],
      [6, 'SCTP_NXTINFO', 'g', 16, ''],
      [7, 'SCTP_PRINFO', 's', 8, ''],
      [8, 'SCTP_AUTHINFO', 's', 2, 'auth'],
      [9, 'SCTP_DSTADDRV4', 's', 4, ''],
      [10, 'SCTP_DSTADDRV6', 's', 16, ''],
    ],
  );
});

test('library functions', () => {
  const names = `bindx connectx peeloff getpaddrs getladdrs getaddrlen opt_info getassocid sendmsg send sendx sendmsgx
    recvmsg sendv recvv`;
  const there = new Map<string, unknown>(Object.entries(library));
  for (const n of names.split(/\s+/)) assert.equal(typeof there.get(`sctp_${n}`), 'function', n);
});

describe('sysctl', () => {
  const U = 0xffffffff;
  /** name default min max; * = of no effect here; (x) = extension x. FreeBSD's udp_tunneling_port. */
  const facts =
    `sendspace 262144 0 U|recvspace 262144 0 U|auto_asconf 1 0 1 (asconf)|ecn_enable 1 0 1|pr_enable 1 0 1 (pr)
    |auth_enable 1 0 1 (auth)|asconf_enable 1 0 1 (asconf)|reconfig_enable 1 0 1 (reconfig)|nrsack_enable 0 0 1 (nrsack)
    |pktdrop_enable 0 0 1 (pktdrop)|enable_sack_immediately 1 0 1|nat_friendly 1 0 1 (nat)|nat_friendly_init 0 0 1 (nat)
    |loopback_nocsum 1 0 1|mobility_base 0 0 1 (asconf)|mobility_fasthandoff 0 0 1 (asconf)
    |ootb_with_zero_cksum 0 0 1 (zero-checksum)|do_sctp_drain 1 0 1 *|abort_at_limit 0 0 1|cmt_use_dac 0 0 1 (cmt)
    |cwnd_maxburst 1 0 1 *|use_dcccecn 1 0 1 (cc)|rttvar_eqret 0 0 1 (cc)|delayed_sack_time 200 0 U
    |heartbeat_interval 30000 0 U|pmtu_raise_time 600 0 U|shutdown_guard_time 0 0 U|secret_lifetime 3600 0 U
    |rto_max 60000 0 U|rto_min 1000 0 U|rto_initial 1000 0 U|init_rto_max 60000 0 U|valid_cookie_life 60000 1000 3600000
    |vtag_time_wait 60 0 U|init_rtx_max 8 0 U|assoc_rtx_max 10 0 U|path_rtx_max 5 0 U|path_pf_threshold 65535 0 65535
    |max_retran_chunk 30 0 65535|maxburst 4 0 U|fr_maxburst 4 0 U|hb_max_burst 4 1 U|abc_l_var 2 0 U|initial_cwnd 3 0 U
    |sack_freq 2 0 U|default_cc_module 0 0 2 (cc)|rttvar_bw 4 0 32 (cc)|rttvar_rtt 5 0 32 (cc)
    |rttvar_steady_step 20 0 65535 (cc)|incoming_streams 2048 1 65535|outgoing_streams 10 1 65535
    |default_ss_module 0 0 5 (schedulers)|default_frag_interleave 1 0 2|sendall_limit 1432 0 U|min_residual 1452 20 65535 *
    |max_chained_mbufs 5 0 U *|add_more_on_output 1452 0 U *|min_split_point 2904 0 U *|cmt_on_off 0 0 4 (cmt)
    |buffer_splitting 0 0 3 (cmt)|maxchunks 512 0 U *|tcbhashsize 1024 1 U *|pcbhashsize 256 1 U *|chunkscale 10 1 U *
    |sys_resource 1000 0 U *|asoc_resource 10 0 U *|peer_chkoh 256 0 U|udp_tunneling_port 0 0 65535|blackhole 0 0 2
    |diag_info_code 0 0 65535|log_level 0 0 U *|debug 0 0 U *|output_unlocked 0 0 1 *|main_timer 10 1 U *
    |ignore_vmware_interfaces 1 0 1 *|addr_watchdog_limit 0 0 U *|vtag_watchdog_limit 0 0 U *`
      .split('|')
      .map(x => x.trim().split(/\s+/));
  /** Rows of our own. */
  const ours = [
    'sendbuf_auto',
    'recvbuf_auto',
    'sendbuf_max',
    'recvbuf_max',
    'max_held_addresses',
    'fast_retransmit_again',
  ];
  test('each of the facts has its row, and the others are ours', () => {
    const rows = new Map(TUNABLES.map(r => [r.name as string, r]));
    for (const [name, value, min, max, mark = ''] of facts) {
      const r = rows.get(name!);
      assert.ok(r !== undefined, name);
      const told = [r.default, r.min, r.max, r.extension === undefined ? (r.inert ? '*' : '') : `(${r.extension})`];
      assert.deepEqual(told, [Number(value), Number(min), max === 'U' ? U : Number(max), mark], name);
      assert.equal(mark !== '', /of no effect/.test(r.meaning), `${name}: the meaning says so`);
      rows.delete(name!);
    }
    assert.deepEqual([...rows.keys()].sort(), [...ours].sort());
    assert.equal(facts.length, 77);
    assert.deepEqual(Object.keys(OTHER_NODES).sort(), ['assoclist', 'clear_trace', 'getcred', 'log', 'stats']);
  });
  test('out of range is EINVAL and keeps the value; in range takes it', () => {
    const w = new f.WirePeer();
    const s = w.stack.sysctl;
    const linked = ['auth_enable', 'asconf_enable'];
    for (const r of TUNABLES) {
      const name = `net.inet.sctp.${r.name}`;
      for (const v of [r.min - 1, r.max + 1, 1.5, 'x', Number.NaN])
        assert.equal(s.set(name, v), -EINVAL, `${name} ${v}`);
      assert.equal(s.get(name), r.default, name);
      if (linked.includes(r.name)) continue;
      for (const v of [r.max, r.min, r.default]) {
        assert.equal(s.set(name, v), 0, `${name} ${v}`);
        assert.equal(s.get(name), v);
      }
    }
    assert.equal(w.end(), 0);
  });
  test('authentication and ASCONF: neither without the other', () => {
    const w = new f.WirePeer();
    const set = (name: string, v: number) => w.stack.sysctl.set(`net.inet.sctp.${name}`, v);
    assert.equal(set('auth_enable', 0), -EINVAL);
    assert.equal(set('asconf_enable', 0), 0);
    assert.equal(set('auth_enable', 0), 0);
    assert.equal(set('asconf_enable', 1), -EINVAL);
    assert.equal(set('auth_enable', 1), 0);
    assert.equal(set('asconf_enable', 1), 0);
    assert.equal(w.end(), 0);
  });
});
