/** How a script is run and how it ended: the contract between run-files.ts and `runScript` of runner.ts. */

import type { Packet, Position } from './ast.js';

/** Struct layouts and cmsg lengths: FreeBSD/amd64's own, or the 12-byte, 4-aligned cmsghdr that scripts were written for. */
export type Abi = 'freebsd-amd64' | 'compact';

export interface RunOptions {
  /** Apply the tolerance of virtual time instead of the script's, which was widened for noisy machines. */
  readonly tight: boolean;
  readonly abi: Abi;
  /** Where to write the exchange as pcapng; nothing is written when absent. */
  readonly pcap?: string;
  /** Seed of the stack's random source: the same seed gives the same bytes. */
  readonly seed?: number;
  /** Options of the command line, which win over the script's (`ip_version`, `mtu`, …). */
  readonly overrides?: ReadonlyMap<string, string>;
}

/** One thing that differs between the packet that was expected and the one that came. */
export interface Difference {
  /** What it is, from the outside in: `chunk 2 SACK, gaps`, `tag`, `time`. */
  readonly field: string;
  readonly expected: string;
  readonly got: string;
}

export interface Failure {
  /** The event at fault. */
  readonly at: Position;
  /** One sentence, without a full stop: `expected a packet, none came within 0.4 s`. */
  readonly what: string;
  /** In the dialect's own words where it can be said in them. */
  readonly expected?: string;
  readonly got?: string;
  /**
   * Both packets in AST form (the one that came decoded and mapped to script numbers): report.ts makes `expected`, `got` and
   * `differences` from them where those are left out.
   */
  readonly packets?: { readonly expected: Packet; readonly got: Packet };
  readonly differences?: readonly Difference[];
}

export interface ScriptResult {
  readonly ok: boolean;
  /** There exactly when `ok` is false. */
  readonly failure?: Failure;
  /** Virtual time at the end. */
  readonly virtualSeconds: number;
  /** Remarks for the verbose report: packets left over, commands without meaning here, warnings. */
  readonly notes: readonly string[];
}
