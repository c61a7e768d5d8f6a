/** The shape of an appliance's configuration: what config.schema.json describes, as types. */

import type { BurstLoss } from './nic/ports/faults.js';
import type { MbufPoolSizes } from './stack/kern/mbuf.js';

/** Troubles of the medium, on transmit. Shares are 0 to 1, times are microseconds, the rate is in bits a second. */
export interface FaultConfig {
  readonly seed?: number;
  readonly loss?: number;
  readonly burst?: BurstLoss;
  readonly duplicate?: number;
  readonly corrupt?: number;
  readonly corruptBits?: number;
  readonly reorder?: number;
  readonly reorderDelay?: number;
  readonly delay?: number;
  readonly jitter?: number;
  readonly rate?: number;
  readonly queueBytes?: number;
}

export interface CardConfig {
  /** Interface name; default nke0, nke1, ... in order. */
  readonly name?: string;
  /** Port specification (nic/ports/open.ts): "udp:127.0.0.1:9899", "tap:nke0", "wire:a", ... */
  readonly port: string;
  /** "ADDRESS/PREFIX"; default for a udp or raw port: the port's own address. */
  readonly addresses?: readonly string[];
  readonly mtu?: number;
  /** "02:00:00:00:00:01". */
  readonly mac?: string;
  /** Bring it up at start; default true. */
  readonly up?: boolean;
  /** Path of a pcapng file. */
  readonly capture?: string;
  readonly faults?: FaultConfig;
  /** Interrupt moderation. */
  readonly moderation?: { readonly usecs?: number; readonly frames?: number };
}

export interface RouteConfig {
  readonly destination: string;
  readonly card: string;
  readonly gateway?: string;
}

/** What config.schema.json describes. */
export interface ApplianceConfig {
  readonly name?: string;
  readonly cards: readonly CardConfig[];
  readonly kexts?: readonly string[];
  readonly routes?: readonly RouteConfig[];
  readonly sysctl?: Readonly<Record<string, number>>;
  readonly busyPoll?: boolean;
  readonly pool?: Partial<MbufPoolSizes>;
  /** For the command line: the control socket's path, true for the default one, false for none. */
  readonly control?: string | boolean;
}
