/** The shape of an appliance's configuration: what config.schema.json describes, as types. */

import type { KextPreference } from './bundles/plan.js';
import type { BurstLoss } from './nic/ports/faults.js';
import type { CardSetting } from './nic/registers.js';
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
  /** What the card keeps: autonegotiation, flap damping, temperature limits (nic/registers.ts, CARD_SETTINGS). */
  readonly settings?: Partial<Readonly<Record<CardSetting, number>>>;
}

export interface RouteConfig {
  readonly destination: string;
  readonly card: string;
  readonly gateway?: string;
}

/** The preference list of network kernel extensions: what to load at start, in which order, where, with which parameters. */
export interface KextConfig {
  /** Names of shipped extensions, or entries with a bundle, interfaces and parameters. All are checked before the first is loaded. */
  readonly kexts?: readonly KextPreference[];
  /** Public keys whose signatures of bundles are believed: lines "nke-ed25519 BASE64 comment". */
  readonly kextTrust?: readonly string[];
  /** Folders with bundles, for names and for dependencies. */
  readonly kextPath?: readonly string[];
  /** Folder that extensions write their logs into (PacketLog); without it they write none. */
  readonly kextLogs?: string;
  /** Also load bundles that are unsigned, altered or signed by strangers. */
  readonly allowUnsignedKexts?: boolean;
}

/** What config.schema.json describes. */
export interface ApplianceConfig extends KextConfig {
  readonly name?: string;
  readonly cards: readonly CardConfig[];
  readonly routes?: readonly RouteConfig[];
  readonly sysctl?: Readonly<Record<string, number>>;
  readonly busyPoll?: boolean;
  readonly pool?: Partial<MbufPoolSizes>;
  /** For the command line: the control socket's path, true for the default one, false for none. */
  readonly control?: string | boolean;
}
