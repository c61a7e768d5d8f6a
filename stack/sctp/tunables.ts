/**
 * Tunables of SCTP: the rows of net.inet.sctp.*, FreeBSD's names, defaults and ranges (facts part 3), read by the code,
 * `nke sysctl`, the documentation and the tests alike. Values apply to endpoints and associations made after the change
 * unless a row says `live`. Out of range is EINVAL and keeps the value.
 */

import type { Extension } from './optionrows.js';

export interface TunableRow {
  readonly name: string;
  readonly default: number;
  readonly min: number;
  readonly max: number;
  readonly meaning: string;
  readonly unit?: string;
  /** Read each time it matters: a change is felt by associations that exist. */
  readonly live?: boolean;
  /** Can be set and read; obeyed once this extension is there. */
  readonly extension?: Extension;
  /** Can be set and read, so that scripts and settings files of FreeBSD go through; nothing here obeys it. */
  readonly inert?: boolean;
}

const U = 0xffffffff;
interface Named<N extends string> extends TunableRow {
  readonly name: N;
}
function row<N extends string>(
  name: N,
  value: number,
  min: number,
  max: number,
  unit: string,
  meaning: string,
  more: Pick<TunableRow, 'live' | 'extension' | 'inert'> = {},
): Named<N> {
  return { name, default: value, min, max, meaning, ...(unit === '' ? {} : { unit }), ...more };
}
const live = { live: true };
/** Obeyed once the extension is there: the meaning says so. */
const later = <N extends string>(
  extension: Extension,
  name: N,
  value: number,
  min: number,
  max: number,
  unit: string,
  meaning: string,
): Named<N> =>
  row(name, value, min, max, unit, `${meaning} (of no effect: extension ${extension} is not there)`, { extension });
const inert = <N extends string>(
  name: N,
  value: number,
  min: number,
  max: number,
  unit: string,
  meaning: string,
  why: string,
): Named<N> => row(name, value, min, max, unit, `${meaning} (of no effect: ${why})`, { inert: true });

export const TUNABLES = [
  // Buffers.
  row('sendspace', 262144, 0, U, 'bytes', 'send buffer of a new socket'),
  row('recvspace', 262144, 0, U, 'bytes', 'receive buffer of a new socket'),
  row('sendbuf_auto', 1, 0, 1, '', 'send buffers grow with the congestion window'),
  row('recvbuf_auto', 1, 0, 1, '', 'receive buffers grow with what is read per round trip'),
  row('sendbuf_max', 4194304, 4096, U, 'bytes', 'largest send buffer that tuning reaches', live),
  row('recvbuf_max', 4194304, 4096, U, 'bytes', 'largest receive buffer that tuning reaches', live),
  // Feature switches.
  later('asconf', 'auto_asconf', 1, 0, 1, '', 'tell peers of addresses that come and go'),
  row('ecn_enable', 1, 0, 1, '', 'offer and accept ECN (RFC 4960 appendix A)'),
  later('pr', 'pr_enable', 1, 0, 1, '', 'offer and accept partial reliability (RFC 3758)'),
  later('auth', 'auth_enable', 1, 0, 1, '', 'offer and accept AUTH (RFC 4895); needed by asconf_enable'),
  later('asconf', 'asconf_enable', 1, 0, 1, '', 'offer and accept ASCONF (RFC 5061); needs auth_enable'),
  later('reconfig', 'reconfig_enable', 1, 0, 1, '', 'offer and accept RE-CONFIG (RFC 6525)'),
  later('nrsack', 'nrsack_enable', 0, 0, 1, '', 'offer and accept NR-SACK'),
  later('pktdrop', 'pktdrop_enable', 0, 0, 1, '', 'offer and accept PKTDROP'),
  row('enable_sack_immediately', 1, 0, 1, '', 'set the I bit on the last data before a shutdown (RFC 7053)', live),
  later('nat', 'nat_friendly', 1, 0, 1, '', 'cope with network address translation'),
  later('nat', 'nat_friendly_init', 0, 0, 1, '', 'offer NAT support in INITs'),
  row('loopback_nocsum', 1, 0, 1, '', "no CRC32c on the stack's own loopback interface", live),
  later('asconf', 'mobility_base', 0, 0, 1, '', 'base mobility'),
  later('asconf', 'mobility_fasthandoff', 0, 0, 1, '', 'mobility with fast handoff'),
  later('zero-checksum', 'ootb_with_zero_cksum', 0, 0, 1, '', 'answer packets out of the blue that have no checksum'),
  inert('do_sctp_drain', 1, 0, 1, '', 'take back acknowledged data when mbufs are short', 'none is ever taken back'),
  row('abort_at_limit', 0, 0, 1, '', 'ABORT instead of silence when the accept queue is full', live),
  later('cmt', 'cmt_use_dac', 0, 0, 1, '', 'delayed acknowledgements for multipath transfer'),
  inert('cwnd_maxburst', 1, 0, 1, '', 'limit bursts by the window', 'Max.Burst counts packets'),
  later('cc', 'use_dcccecn', 1, 0, 1, '', 'ECN for the RTT-based congestion control'),
  later('cc', 'rttvar_eqret', 0, 0, 1, '', 'RTT-based congestion control: what an unchanged RTT returns'),
  // Timers.
  row('delayed_sack_time', 200, 0, U, 'ms', 'delay of a SACK for a single packet (RFC 9260 §6.2)'),
  row('sack_freq', 2, 0, U, 'packets', 'a SACK at the latest after so many packets; 1 = each'),
  row('heartbeat_interval', 30000, 0, U, 'ms', 'HB.interval'),
  row('pmtu_raise_time', 600, 0, U, 's', 'time after which a lowered path MTU is tried larger again', live),
  row('shutdown_guard_time', 0, 0, U, 's', 'T5: longest time a shutdown may take; 0 = 5 x RTO.Max', live),
  row('secret_lifetime', 3600, 0, U, 's', 'time after which the cookie secret is replaced', live),
  row('rto_max', 60000, 0, U, 'ms', 'RTO.Max'),
  row('rto_min', 1000, 0, U, 'ms', 'RTO.Min'),
  row('rto_initial', 1000, 0, U, 'ms', 'RTO.Initial'),
  row('init_rto_max', 60000, 0, U, 'ms', 'largest retransmission time-out of INIT and COOKIE ECHO'),
  row('valid_cookie_life', 60000, 1000, 3600000, 'ms', 'Valid.Cookie.Life'),
  row('vtag_time_wait', 60, 0, U, 's', "time for which an ended association's tag is not used again", live),
  // Retransmission.
  row('init_rtx_max', 8, 0, U, '', 'Max.Init.Retransmits'),
  row('assoc_rtx_max', 10, 0, U, '', 'Association.Max.Retrans'),
  row('path_rtx_max', 5, 0, U, '', 'Path.Max.Retrans'),
  row(
    'path_pf_threshold',
    65535,
    0,
    65535,
    '',
    'errors beyond which a path is potentially failed (RFC 7829); 65535 = never',
  ),
  row(
    'max_retran_chunk',
    30,
    0,
    65535,
    '',
    'an association is aborted when one chunk was retransmitted so often',
    live,
  ),
  // Congestion and bursts.
  row('maxburst', 4, 0, U, 'packets', 'Max.Burst: most packets sent for one packet received; 0 = no limit'),
  row('fr_maxburst', 4, 0, U, 'packets', 'most packets of one fast retransmission', live),
  row('hb_max_burst', 4, 1, U, '', 'HB.Max.Burst', live),
  row('abc_l_var', 2, 0, U, '', 'L of appropriate byte counting: slow start grows by at most L packets a SACK', live),
  row('initial_cwnd', 3, 0, U, 'packets', 'initial congestion window; 0 = RFC 9260 §7.2.1', live),
  later('cc', 'default_cc_module', 0, 0, 2, '', 'congestion control: 0 = RFC 9260, 1 = HSTCP, 2 = HTCP; other than 0'),
  later('cc', 'rttvar_bw', 4, 0, 32, '', 'RTT-based congestion control: shift of the bandwidth'),
  later('cc', 'rttvar_rtt', 5, 0, 32, '', 'RTT-based congestion control: shift of the round trip'),
  later('cc', 'rttvar_steady_step', 20, 0, 65535, '', 'RTT-based congestion control: steps in steady state'),
  // Streams and scheduling.
  row('incoming_streams', 2048, 1, 65535, '', 'inbound streams accepted'),
  row('outgoing_streams', 10, 1, 65535, '', 'outbound streams asked for'),
  later('schedulers', 'default_ss_module', 0, 0, 5, '', 'stream scheduler: 0 = round robin by message; other than 0'),
  row('default_frag_interleave', 1, 0, 2, '', 'what may come between the parts of a message (RFC 6458 §8.1.20)'),
  row('sendall_limit', 1432, 0, U, 'bytes', 'longest message that SCTP_SENDALL takes', live),
  inert(
    'min_residual',
    1452,
    20,
    65535,
    'bytes',
    'least rest of a split message',
    'messages are split at the path MTU',
  ),
  inert('max_chained_mbufs', 5, 0, U, '', 'mbufs of a packet', 'a packet is one mbuf'),
  inert('add_more_on_output', 1452, 0, U, 'bytes', 'room worth waking a sender for', 'any room wakes it'),
  inert('min_split_point', 2904, 0, U, 'bytes', 'least message worth splitting', 'messages are split at the path MTU'),
  // Multipath.
  later(
    'cmt',
    'cmt_on_off',
    0,
    0,
    4,
    '',
    'concurrent multipath transfer: 0 off, 1 base, 2 and 3 resource pooling, 4 MPTCP',
  ),
  later('cmt', 'buffer_splitting', 0, 0, 3, '', 'buffers are split among the paths: 1 sending, 2 receiving'),
  // Memory and tables.
  inert('maxchunks', 512, 0, U, '', 'chunks queued per association', 'buffers and mbufs bound the queues'),
  inert('tcbhashsize', 1024, 1, U, '', 'size of the table of associations', 'it grows by itself'),
  inert('pcbhashsize', 256, 1, U, '', 'size of the table of endpoints', 'it grows by itself'),
  inert('chunkscale', 10, 1, U, '', 'chunk structures to keep', 'a chunk is its mbuf'),
  inert('sys_resource', 1000, 0, U, '', 'structures cached for the system', 'nothing is cached'),
  inert('asoc_resource', 10, 0, U, '', 'structures cached per association', 'nothing is cached'),
  row('peer_chkoh', 256, 0, U, 'bytes', "what a chunk costs the peer's buffer beyond its payload", live),
  // Network and diagnosis.
  row('udp_tunneling_port', 0, 0, 65535, '', 'UDP port for SCTP in UDP (RFC 6951); 0 = off', live),
  row(
    'blackhole',
    0,
    0,
    2,
    '',
    '1: no ABORT for INITs nobody waits for; 2: no ABORT for anything out of the blue',
    live,
  ),
  row(
    'diag_info_code',
    0,
    0,
    65535,
    '',
    'cause code under which ABORTs without a cause say why in words; 0 = they do not',
    live,
  ),
  inert('log_level', 0, 0, U, '', 'trace flags', 'see the event stream'),
  inert('debug', 0, 0, U, '', 'debug output', 'see the event stream'),
  inert('output_unlocked', 0, 0, 1, '', 'Mac OS X: output without the lock', 'there is none'),
  inert('main_timer', 10, 1, U, 'ms', 'Mac OS X: tick of the timers', 'timers have no tick'),
  inert('ignore_vmware_interfaces', 1, 0, 1, '', 'Mac OS X: vmnet interfaces are left out', 'there are none'),
  inert('addr_watchdog_limit', 0, 0, U, '', 'Mac OS X: address list watchdog', 'nothing to watch'),
  inert('vtag_watchdog_limit', 0, 0, U, '', 'Mac OS X: time-wait watchdog', 'nothing to watch'),
  row(
    'fast_retransmit_again',
    1,
    0,
    1,
    '',
    'fast retransmission of a TSN whose fast retransmission was lost too, as FreeBSD; 0 = it waits for T3 (RFC 9260 section 7.2.4)',
    live,
  ),
  row('max_held_addresses', 64, 1, 1080, '', 'most addresses taken from a peer', live),
] as const;

export type TunableName = (typeof TUNABLES)[number]['name'];
export type Tunables = Record<TunableName, number>;

/** Nodes of net.inet.sctp that are no integers: what gives the same here. */
export const OTHER_NODES = {
  stats: 'the counters: nke netstat -s, stack.counters',
  assoclist: 'the list of associations: nke netstat -p sctp, SctpKext.associations()',
  log: 'a trace buffer of debug builds: the event stream',
  clear_trace: 'empties the trace buffer of debug builds',
  getcred: 'the credentials of a socket: there are no users',
} as const;

/** A fresh set of values. */
export function defaultTunables(): Tunables {
  return Object.fromEntries(TUNABLES.map(r => [r.name, r.default])) as Tunables;
}

/**
 * What a change must not do to the others: authentication and ASCONF go together (facts part 1.1, RFC 4895 row). 0, or
 * -errno for a value that its row allows.
 */
export function refuses(t: Tunables, name: TunableName, value: number): boolean {
  if (name === 'auth_enable') return value === 0 && t.asconf_enable === 1;
  return name === 'asconf_enable' && value === 1 && t.auth_enable === 0;
}
