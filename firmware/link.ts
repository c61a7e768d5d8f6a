/**
 * Link state machine: down (with a reason), negotiating, up (with a speed). The link is up while the medium has carrier, the
 * cable is in (link_control), the card is in D0, well, cool, and card and medium have agreed on a speed: autonegotiation as
 * IEEE 802.3 clause 28.2.3 has it (the highest common speed wins), as long as link_autoneg_usecs says. Reports through
 * net_status, speed and duplex (VIRTIO 1.2 §5.1.4) and a configuration-change interrupt.
 *
 * Flap damping after RFC 2439 §4.4: every loss of link costs a penalty that decays exponentially; above the suppress
 * threshold the link is held down until the penalty has fallen below the reuse threshold, or the longest time is over.
 * What happens between two steps carries no time of its own: it is judged by the next `advance`.
 */

import * as R from '../nic/registers.js';

export type DownReason =
  | 'no-carrier'
  | 'pulled'
  | 'power'
  | 'reset'
  | 'negotiating'
  | 'flapping'
  | 'overheated'
  | 'removed'
  | 'self-test'
  | 'no-speed';

export type LinkState =
  /** speed in Mb/s, SPEED_UNKNOWN when the medium does not tell. */
  | { readonly kind: 'up'; readonly speed: number; readonly duplex: 'full' }
  | { readonly kind: 'down'; readonly reason: DownReason };

const CODES: Readonly<Record<DownReason, number>> = {
  'no-carrier': R.LINK_NO_CARRIER,
  pulled: R.LINK_PULLED,
  power: R.LINK_POWER,
  reset: R.LINK_RESET,
  negotiating: R.LINK_NEGOTIATING,
  flapping: R.LINK_FLAPPING,
  overheated: R.LINK_OVERHEATED,
  removed: R.LINK_REMOVED,
  'self-test': R.LINK_SELF_TEST,
  'no-speed': R.LINK_NO_SPEED,
};

export interface LinkInputs {
  readonly carrier: boolean;
  readonly cableOut: boolean;
  readonly d0: boolean;
  readonly booted: boolean;
  /** Default: all is well. */
  readonly selfTestFailed?: boolean;
  readonly removed?: boolean;
  readonly overheated?: boolean;
  /** Mb/s that the medium offers; undefined = it does not tell, and whatever is advertised will do. */
  readonly mediumSpeed?: number | undefined;
}

/** What keeps the link down whatever time it is; the first that applies is the one reported. Undefined = nothing. */
export function obstacle(i: LinkInputs): DownReason | undefined {
  if (i.selfTestFailed === true) return 'self-test';
  if (!i.booted) return 'reset';
  if (!i.d0) return 'power';
  if (i.overheated === true) return 'overheated';
  if (i.removed === true) return 'removed';
  if (i.cableOut) return 'pulled';
  return i.carrier ? undefined : 'no-carrier';
}

/** The best speed that is advertised (bits by LINK_SPEEDS) and that the medium offers; SPEED_UNKNOWN, or 0 for none. */
export function commonSpeed(advertise: number, medium: number | undefined): number {
  if (medium === undefined) return R.SPEED_UNKNOWN;
  let best = 0;
  for (let i = 0; i < R.LINK_SPEEDS.length; i++) {
    const speed = R.LINK_SPEEDS[i]!;
    if ((advertise & (1 << i)) !== 0 && speed <= medium && speed > best) best = speed;
  }
  return best;
}

/** Value of the register link_reason. */
export function linkReason(s: LinkState): number {
  return s.kind === 'up' ? R.LINK_UP : CODES[s.reason];
}

/** The registers that set the machine up. */
export interface LinkSettings {
  advertise: number;
  autonegUsecs: number;
  flapPenalty: number;
  flapSuppress: number;
  flapReuse: number;
  flapHalfLifeMs: number;
  flapMaxMs: number;
}
export const linkSettings = (): LinkSettings => ({
  advertise: R.LINK_SPEEDS_ALL,
  autonegUsecs: 0,
  flapPenalty: 0,
  flapSuppress: 2000,
  flapReuse: 1000,
  flapHalfLifeMs: 5000,
  flapMaxMs: 20_000,
});

const NEVER = Number.POSITIVE_INFINITY;

/** Holds the state and tells of changes. */
export class Link {
  readonly settings: LinkSettings = linkSettings();
  state: LinkState = { kind: 'down', reason: 'reset' };
  readonly #changed: (s: LinkState) => void;
  #inputs: LinkInputs = { carrier: false, cableOut: false, d0: false, booted: false };
  /** Something was told that `advance` has to judge. */
  #news = false;
  /** When autonegotiation ends; NaN: it begins with the next `advance`; undefined: none goes on. */
  #until: number | undefined;
  // Flap damping: the penalty at #penaltyAt, losses of link not yet added, since when the link is held down.
  #penalty = 0;
  #penaltyAt = 0;
  #losses = 0;
  #held: number | undefined;

  constructor(changed: (s: LinkState) => void) {
    this.#changed = changed;
  }
  get up(): boolean {
    return this.state.kind === 'up';
  }
  /** What kept the penalty from falling: for the register flap_figure. */
  figure(now: number): number {
    return Math.round(this.#decayed(now));
  }

  /** Takes new inputs. Calls `changed` when the state, its reason or the speed is another one. */
  update(inputs: LinkInputs): void {
    const was = this.#inputs;
    this.#inputs = inputs;
    const why = obstacle(inputs);
    if (why !== undefined) {
      // A loss of carrier is a flap; what the host or the operator asked for is none.
      if (this.up && (why === 'no-carrier' || why === 'pulled')) this.#losses++;
      this.#until = undefined;
      this.#down(why);
      return;
    }
    if (this.up) {
      if (was.mediumSpeed !== inputs.mediumSpeed) this.#settle();
      return;
    }
    if (this.#held !== undefined) this.#news = true;
    else if (this.#until === undefined) this.#begin();
  }

  /** Negotiates anew, as when a station asks for it (clause 28.2.3.3): with a time the link goes down for as long. */
  restart(): void {
    if (obstacle(this.#inputs) !== undefined || this.#held !== undefined) return;
    this.#begin();
  }

  /** Lets time pass: ends autonegotiation, lets a link that was held down go up. */
  advance(now: number): void {
    if (this.#losses > 0) this.#count(now);
    if (this.#held !== undefined && this.#mayReuse(now)) {
      this.#held = undefined;
      this.#news = true;
    }
    const news = this.#news;
    this.#news = false;
    if (obstacle(this.#inputs) !== undefined) return;
    if (this.#held !== undefined) {
      this.#until = undefined;
      this.#down('flapping');
      return;
    }
    if (news && this.#until === undefined && !this.up) this.#begin();
    if (this.#until === undefined) return;
    if (Number.isNaN(this.#until)) this.#until = now + this.settings.autonegUsecs * 1000;
    if (now >= this.#until) this.#settle();
  }

  /** When `advance` has something to do: 0 = now, Infinity = never. */
  deadline(): number {
    if (this.#losses > 0 || this.#news || (this.#until !== undefined && Number.isNaN(this.#until))) return 0;
    if (this.#held !== undefined) return this.#reuseAt();
    return this.#until ?? NEVER;
  }

  #begin(): void {
    const { autonegUsecs, flapPenalty } = this.settings;
    // Without a time nor damping there is nothing to wait for; with damping the penalty is looked at first.
    if (autonegUsecs === 0 && flapPenalty === 0) {
      this.#settle();
      return;
    }
    this.#until = Number.NaN;
    if (autonegUsecs > 0 || !this.up) this.#down('negotiating');
  }
  #settle(): void {
    this.#until = undefined;
    const speed = commonSpeed(this.settings.advertise, this.#inputs.mediumSpeed);
    if (speed === 0) this.#down('no-speed');
    else if (this.state.kind !== 'up' || this.state.speed !== speed) this.#to({ kind: 'up', speed, duplex: 'full' });
  }
  #down(reason: DownReason): void {
    if (this.state.kind === 'down' && this.state.reason === reason) return;
    this.#to({ kind: 'down', reason });
  }
  #to(state: LinkState): void {
    this.state = state;
    this.#changed(state);
  }

  #decayed(now: number): number {
    const age = Math.max(0, now - this.#penaltyAt) / (this.settings.flapHalfLifeMs * 1e6 || 1);
    return this.#penalty * 2 ** -age;
  }
  #count(now: number): void {
    const { flapPenalty, flapSuppress, flapReuse, flapHalfLifeMs, flapMaxMs } = this.settings;
    // RFC 2439 §4.2: more than this would hold the link down for longer than the longest time.
    const ceiling = flapReuse * 2 ** Math.min(40, flapMaxMs / (flapHalfLifeMs || 1));
    this.#penalty = Math.min(this.#decayed(now) + this.#losses * flapPenalty, Math.max(ceiling, flapSuppress));
    this.#penaltyAt = now;
    this.#losses = 0;
    if (flapPenalty > 0 && this.#penalty >= flapSuppress) this.#held ??= now;
  }
  #mayReuse(now: number): boolean {
    // (a nanosecond's error of the logarithm must not keep it for another round)
    return this.settings.flapPenalty === 0 || now >= this.#reuseAt();
  }
  #reuseAt(): number {
    const { flapReuse, flapHalfLifeMs, flapMaxMs } = this.settings;
    const decay =
      this.#penalty <= flapReuse || flapReuse === 0 ? 0 : Math.log2(this.#penalty / flapReuse) * flapHalfLifeMs * 1e6;
    return Math.min(this.#penaltyAt + Math.ceil(decay), (this.#held ?? 0) + flapMaxMs * 1e6);
  }
}
