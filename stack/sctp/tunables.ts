/**
 * Tunables of SCTP: the rows of net.inet.sctp.*, read by the code, `nke sysctl`, the documentation and the tests alike.
 * Values apply to endpoints and associations made after the change unless a row says `live`.
 */

export interface TunableRow {
  readonly name: string;
  readonly default: number;
  readonly min: number;
  readonly max: number;
  readonly meaning: string;
  readonly unit?: string;
  readonly live?: boolean;
}

const U = 0xffffffff;
const row = (name: string, value: number, min: number, max: number, unit: string, meaning: string): TunableRow => ({
  name,
  default: value,
  min,
  max,
  meaning,
  ...(unit === '' ? {} : { unit }),
});

export const TUNABLES = [
  row('sendspace', 262144, 0, U, 'bytes', 'send buffer of a new socket'),
  row('recvspace', 262144, 0, U, 'bytes', 'receive buffer of a new socket'),
  row('sendbuf_auto', 1, 0, 1, '', 'send buffers grow with the congestion window'),
  row('recvbuf_auto', 1, 0, 1, '', 'receive buffers grow with what is read per round trip'),
  row('sendbuf_max', 4194304, 4096, U, 'bytes', 'largest send buffer that tuning reaches'),
  row('recvbuf_max', 4194304, 4096, U, 'bytes', 'largest receive buffer that tuning reaches'),
  row('ecn_enable', 1, 0, 1, '', 'offer and accept ECN (RFC 4960 appendix A)'),
  row('enable_sack_immediately', 1, 0, 1, '', 'set the I bit on the last data before a shutdown (RFC 7053)'),
  row('loopback_nocsum', 1, 0, 1, '', "no CRC32c on the stack's own loopback interface"),
  row('abort_at_limit', 0, 0, 1, '', 'ABORT instead of silence when the accept queue is full'),
  row('delayed_sack_time', 200, 0, U, 'ms', 'delay of a SACK for a single packet (RFC 9260 §6.2)'),
  row('sack_freq', 2, 0, U, 'packets', 'a SACK at the latest after so many packets; 1 = each'),
  row('heartbeat_interval', 30000, 0, U, 'ms', 'HB.interval'),
  row('pmtu_raise_time', 600, 0, U, 's', 'time after which a lowered path MTU is tried larger again'),
  row('shutdown_guard_time', 0, 0, U, 's', 'T5: longest time a shutdown may take; 0 = 5 x RTO.Max'),
  row('secret_lifetime', 3600, 0, U, 's', 'time after which the cookie secret is replaced'),
  row('rto_initial', 1000, 0, U, 'ms', 'RTO.Initial'),
  row('rto_min', 1000, 0, U, 'ms', 'RTO.Min'),
  row('rto_max', 60000, 0, U, 'ms', 'RTO.Max'),
  row('init_rto_max', 60000, 0, U, 'ms', 'largest retransmission time-out of INIT and COOKIE ECHO'),
  row('valid_cookie_life', 60000, 1000, 3600000, 'ms', 'Valid.Cookie.Life'),
  row('vtag_time_wait', 60, 0, U, 's', "time for which an ended association's tag is not used again"),
  row('init_rtx_max', 8, 0, U, '', 'Max.Init.Retransmits'),
  row('assoc_rtx_max', 10, 0, U, '', 'Association.Max.Retrans'),
  row('path_rtx_max', 5, 0, U, '', 'Path.Max.Retrans'),
  row('max_retran_chunk', 30, 0, 65535, '', 'an association is aborted when one chunk was retransmitted so often'),
  row('maxburst', 4, 0, U, 'packets', 'Max.Burst: most packets sent for one packet received; 0 = no limit'),
  row('fr_maxburst', 4, 0, U, 'packets', 'most packets of one fast retransmission'),
  row('hb_max_burst', 4, 1, U, '', 'HB.Max.Burst'),
  row('abc_l_var', 2, 0, U, '', 'L of appropriate byte counting: slow start grows by at most L packets a SACK'),
  row('initial_cwnd', 3, 0, U, 'packets', 'initial congestion window; 0 = RFC 9260 §7.2.1'),
  row('default_cc_module', 0, 0, 0, '', 'congestion control: 0 = RFC 9260'),
  row('incoming_streams', 2048, 1, 65535, '', 'inbound streams accepted'),
  row('outgoing_streams', 10, 1, 65535, '', 'outbound streams asked for'),
  row('peer_chkoh', 256, 0, U, 'bytes', "what a chunk costs the peer's buffer beyond its payload"),
  row('udp_tunneling_port', 0, 0, 65535, '', 'UDP port for SCTP in UDP (RFC 6951); 0 = off'),
  row('blackhole', 0, 0, 2, '', '1: no ABORT for INITs nobody waits for; 2: no ABORT for anything out of the blue'),
  row('max_held_addresses', 64, 1, 1080, '', 'most addresses taken from a peer'),
] as const satisfies readonly TunableRow[];

export type TunableName =
  | 'sendspace'
  | 'recvspace'
  | 'sendbuf_auto'
  | 'recvbuf_auto'
  | 'sendbuf_max'
  | 'recvbuf_max'
  | 'ecn_enable'
  | 'enable_sack_immediately'
  | 'loopback_nocsum'
  | 'abort_at_limit'
  | 'delayed_sack_time'
  | 'sack_freq'
  | 'heartbeat_interval'
  | 'pmtu_raise_time'
  | 'shutdown_guard_time'
  | 'secret_lifetime'
  | 'rto_initial'
  | 'rto_min'
  | 'rto_max'
  | 'init_rto_max'
  | 'valid_cookie_life'
  | 'vtag_time_wait'
  | 'init_rtx_max'
  | 'assoc_rtx_max'
  | 'path_rtx_max'
  | 'max_retran_chunk'
  | 'maxburst'
  | 'fr_maxburst'
  | 'hb_max_burst'
  | 'abc_l_var'
  | 'initial_cwnd'
  | 'default_cc_module'
  | 'incoming_streams'
  | 'outgoing_streams'
  | 'peer_chkoh'
  | 'udp_tunneling_port'
  | 'blackhole'
  | 'max_held_addresses';

export type Tunables = Record<TunableName, number>;

/** A fresh set of values. */
export function defaultTunables(): Tunables {
  return Object.fromEntries(TUNABLES.map(r => [r.name, r.default])) as Tunables;
}
