/**
 * Names of net.inet.sctp.* that FreeBSD has and the stack may lack (facts part 3): extensions that are not loaded, and
 * settings of FreeBSD's insides. A script may set them; `have` is how the stack behaves without them, other values are noted.
 */

export interface KnownSysctl {
  readonly min: number;
  readonly max: number;
  readonly have: number;
}

const U = 0xffffffff;
const rows: readonly (readonly [name: string, min: number, max: number, have: number])[] = [
  ['auto_asconf', 0, 1, 0],
  ['pr_enable', 0, 1, 0],
  ['auth_enable', 0, 1, 0],
  ['asconf_enable', 0, 1, 0],
  ['reconfig_enable', 0, 1, 0],
  ['nrsack_enable', 0, 1, 0],
  ['pktdrop_enable', 0, 1, 0],
  ['nat_friendly', 0, 1, 0],
  ['nat_friendly_init', 0, 1, 0],
  ['mobility_base', 0, 1, 0],
  ['mobility_fasthandoff', 0, 1, 0],
  ['ootb_with_zero_cksum', 0, 1, 0],
  ['do_sctp_drain', 0, 1, 0],
  ['abort_at_limit', 0, 1, 0],
  ['cmt_use_dac', 0, 1, 0],
  ['cwnd_maxburst', 0, 1, 1],
  ['use_dcccecn', 0, 1, 1],
  ['rttvar_eqret', 0, 1, 0],
  ['path_pf_threshold', 0, 65535, 65535],
  ['rttvar_bw', 0, 32, 4],
  ['rttvar_rtt', 0, 32, 5],
  ['rttvar_steady_step', 0, 65535, 20],
  ['default_ss_module', 0, 5, 0],
  ['default_frag_interleave', 0, 2, 1],
  ['sendall_limit', 0, U, 1432],
  ['min_residual', 20, 65535, 1452],
  ['max_chained_mbufs', 0, U, 5],
  ['add_more_on_output', 0, U, 1452],
  ['min_split_point', 0, U, 2904],
  ['cmt_on_off', 0, 4, 0],
  ['buffer_splitting', 0, 3, 0],
  ['maxchunks', 0, U, 512],
  ['tcbhashsize', 1, U, 1024],
  ['pcbhashsize', 1, U, 256],
  ['chunkscale', 1, U, 10],
  ['sys_resource', 0, U, 1000],
  ['asoc_resource', 0, U, 10],
  ['diag_info_code', 0, 65535, 0],
  ['log_level', 0, U, 0],
  ['debug', 0, U, 0],
  ['output_unlocked', 0, 1, 0],
  ['default_cc_module', 0, 2, 0],
];

export const KNOWN_SYSCTLS: ReadonlyMap<string, KnownSysctl> = new Map(
  rows.map(([name, min, max, have]) => [`net.inet.sctp.${name}`, { min, max, have }]),
);
