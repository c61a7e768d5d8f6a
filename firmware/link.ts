/**
 * Link state machine: the link is up while the medium has carrier, the cable is in (link_control) and the card is in D0.
 * Reports through net_status (VIRTIO 1.2 §5.1.4) and a configuration-change interrupt.
 */

import { LINK_NO_CARRIER, LINK_POWER, LINK_PULLED, LINK_RESET, LINK_UP } from '../nic/registers.js';

export type LinkState =
  | { readonly kind: 'up' }
  | { readonly kind: 'down'; readonly reason: 'no-carrier' | 'pulled' | 'power' | 'reset' };

const UP: LinkState = { kind: 'up' };
const DOWN = {
  'no-carrier': { kind: 'down', reason: 'no-carrier' },
  pulled: { kind: 'down', reason: 'pulled' },
  power: { kind: 'down', reason: 'power' },
  reset: { kind: 'down', reason: 'reset' },
} as const satisfies Record<string, LinkState>;

export interface LinkInputs {
  readonly carrier: boolean;
  readonly cableOut: boolean;
  readonly d0: boolean;
  readonly booted: boolean;
}

/** The state that a set of inputs means; the first reason that applies is the one reported. */
export function linkState(i: LinkInputs): LinkState {
  if (!i.booted) return DOWN.reset;
  if (!i.d0) return DOWN.power;
  if (i.cableOut) return DOWN.pulled;
  return i.carrier ? UP : DOWN['no-carrier'];
}

/** Value of the register link_reason. */
export function linkReason(s: LinkState): number {
  if (s.kind === 'up') return LINK_UP;
  const codes = { 'no-carrier': LINK_NO_CARRIER, pulled: LINK_PULLED, power: LINK_POWER, reset: LINK_RESET };
  return codes[s.reason];
}

/** Holds the state and tells of changes. */
export class Link {
  state: LinkState = DOWN.reset;
  readonly #changed: (s: LinkState) => void;
  constructor(changed: (s: LinkState) => void) {
    this.#changed = changed;
  }
  get up(): boolean {
    return this.state === UP;
  }
  /** Takes new inputs; calls `changed` when the state (or the reason for being down) is another one. */
  update(inputs: LinkInputs): void {
    const next = linkState(inputs);
    if (next === this.state) return;
    this.state = next;
    this.#changed(next);
  }
}
