/**
 * The program that runs on the card, one step at a time. It sees the port on one side; on the other it sees registers,
 * rings in shared memory and a doorbell, and it has an interrupt line. VIRTIO 1.2 §2.1 (status), §3.1 (initialisation),
 * §4.2.2 (registers), §5.1 (network device).
 *
 * Register writes take effect at once, as in hardware: what the bus interface does by itself is in `#onWrite`. Everything
 * that touches rings or the port happens in `step`.
 */

import type { Memory, Port } from '../nic/ports/port.js';
import * as R from '../nic/registers.js';
import { VirtqDevice } from '../nic/virtq-device.js';
import {
  CTRL_QUEUE,
  HASH_TYPE_IPV4,
  HASH_TYPE_IPV6,
  HASH_TYPE_UDPV4,
  HASH_TYPE_UDPV6,
  RX_QUEUE,
  TX_QUEUE,
} from '../nic/virtqueue.js';
import { SELF_TEST, type SelfTestUnits, selfTest } from './boot.js';
import { BATCH, Card, TRAIN_BYTES, TRAIN_SEGMENTS } from './card.js';
import { ControlQueue } from './control.js';
import { Drain } from './drain.js';
import { acceptable, offeredFeatures } from './features.js';
import { Link, type LinkState, linkReason } from './link.js';
import { type CoalescingTimer, Moderation } from './moderation.js';
import { POWER_STATES, type PowerState, powerTransition } from './power.js';
import { RxPipeline } from './rx.js';
import type { CardCounters } from './statistics.js';
import { Throttle, thermalState } from './thermal.js';
import { TxPipeline } from './tx.js';
import { WakePatterns } from './wake.js';

export const QUEUE_SIZE = 1024;
export const CTRL_QUEUE_SIZE = 64;

// For `step`, which may have to cost next to nothing (what a module imports is looked up each time that it is used): the
// status in which the card serves its queues, and the state in which it does so slowly.
const RUNS_MASK = R.STATUS_DRIVER_OK | R.STATUS_NEEDS_RESET;
const RUNS = R.STATUS_DRIVER_OK;
const THROTTLED = R.THERMAL_THROTTLED;

export interface FirmwareOptions {
  /** The region in which rings, packet memory and the card's own scratch memory lie. */
  readonly memory: Memory;
  /** Where the card's scratch memory starts (8-byte aligned); `scratchBytes(port)` long. */
  readonly scratchOffset: number;
  readonly port: Port;
  /** Factory address; else the port's own, else a locally administered one drawn from `random`. */
  readonly mac?: Uint8Array;
  readonly random?: { u32(): number };
  /** Makes a timer for interrupt moderation; without it whoever runs the loop watches `deadline()`. */
  readonly newTimer?: () => CoalescingTimer;
  /** Called when the card wants a `step` soon: doorbell, timer, carrier change, register that needs work. */
  readonly wake?: () => void;
  /** Address that the driver gives to the region's first byte. */
  readonly addressBase?: number;
  /** Told when the host's addresses on the port's own interface have changed. */
  readonly onHostAddresses?: (added: readonly string[], removed: readonly string[]) => void;
  /** Units of the self test, for a test of the test. */
  readonly selfTestUnits?: SelfTestUnits;
}

export class Firmware {
  /** What the driver gets to see of the card. */
  readonly bar: R.Bar;
  readonly card: Card;
  readonly port: Port;
  readonly #regs: R.RegisterFile;
  readonly #rxq: VirtqDevice;
  readonly #txq: VirtqDevice;
  readonly #ctrlq: VirtqDevice;
  readonly #queues: readonly VirtqDevice[];
  readonly #rx: RxPipeline;
  readonly #tx: TxPipeline;
  readonly #ctrl: ControlQueue;
  readonly #drain: Drain;
  readonly #link: Link;
  readonly #patterns = new WakePatterns();
  /** The settings as they were last accepted: kept without power. */
  readonly #nvram = new Map<R.CardSetting, number>();
  readonly #txThrottle = new Throttle();
  readonly #rxThrottle = new Throttle();
  readonly #onHostAddresses: FirmwareOptions['onHostAddresses'];
  readonly #rxModeration: Moderation;
  readonly #txModeration: Moderation;
  readonly #wake: () => void;
  readonly #units: SelfTestUnits | undefined;
  readonly #offered: R.FeatureWords;
  readonly #accepted: R.FeatureWords = new Uint32Array(4);
  #driverSelect = 0;
  #queueSelect = 0;
  #status = 0;
  #isr = 0;
  #power: PowerState = 'D3cold';
  #opened = false;
  #booted = false;
  #carrier = false;
  #carrierSeen = false; // when the card fell asleep, or since
  #cableOut = false;
  #sensor = 40_000; // m°C
  #thermal: number = R.THERMAL_NORMAL;
  #portNews = false; // capabilities, addresses or presence of the port's interface have changed
  #hostAddresses: readonly string[] = [];
  #more = false;

  /** A card without power: call `powerOn`. */
  constructor(o: FirmwareOptions) {
    this.port = o.port;
    this.card = new Card(o.memory, o.port, o.scratchOffset, o.mac ?? o.port.capabilities.mac ?? randomMac(o.random));
    this.#regs = this.card.registers;
    this.#wake = o.wake ?? (() => {});
    this.#units = o.selfTestUnits;
    const base = o.addressBase ?? 0;
    this.#rxq = new VirtqDevice(o.memory, QUEUE_SIZE, BATCH, base);
    this.#txq = new VirtqDevice(o.memory, QUEUE_SIZE, BATCH, base);
    this.#ctrlq = new VirtqDevice(o.memory, CTRL_QUEUE_SIZE, 16, base);
    this.#queues = [this.#rxq, this.#txq, this.#ctrlq];
    this.#rx = new RxPipeline(this.card, this.#rxq);
    this.#tx = new TxPipeline(this.card, this.#txq);
    this.#ctrl = new ControlQueue(this.card, this.#ctrlq, {
      coalesce: (q, usecs, frames) => this.#coalesce(q, usecs, frames),
    });
    this.#drain = new Drain(this.card, this.#patterns);
    this.#link = new Link(state => this.#linkChanged(state));
    this.#onHostAddresses = o.onHostAddresses;
    for (const name of R.CARD_SETTINGS) this.#nvram.set(name, this.#regs.get(name));
    this.#rxModeration = new Moderation(o.newTimer?.(), this.#wake);
    this.#txModeration = new Moderation(o.newTimer?.(), this.#wake);
    this.#offered = offeredFeatures(this.card);
    const line = new R.InterruptLine();
    const regs = this.#regs;
    this.bar = {
      interrupt: line,
      read: (offset, width) => regs.read(offset, width),
      write: (offset, width, value) => regs.write(offset, width, value),
      doorbell: queue => void regs.write(R.REG.queue_notify, 4, queue),
    };
    regs.powered = false;
    regs.onWrite = (name, value, index) => this.#onWrite(name, value, index);
    this.port.onCarrier = () => this.#wake();
    this.port.onChange = () => {
      this.#portNews = true;
      this.#wake();
    };
  }

  get counters(): CardCounters {
    return this.card.counters;
  }
  get power(): PowerState {
    return this.#power;
  }
  get linkUp(): boolean {
    return this.card.linkUp;
  }
  /** Why the link is as it is, in words. */
  get linkReason(): string {
    return R.LINK_REASONS[linkReason(this.#link.state)]!;
  }
  /** Result of the power-on self test in words. */
  get selfTest(): string {
    return SELF_TEST[this.#regs.get('self_test')] ?? 'unknown';
  }
  /** Frames or chains that the card holds: what a test of leaks looks at. */
  get holding(): boolean {
    return this.#tx.holding;
  }

  /** Supplies the card: opens the port (throws PortError), tests itself, and shows its registers. */
  powerOn(): void {
    if (this.#power !== 'D3cold') return;
    if (!this.#opened) {
      const { scratch } = this.card;
      this.port.open(this.card.memory, scratch.port < 0 ? undefined : scratch.port);
      this.#opened = true;
      this.#hostAddresses = this.port.hostAddresses ?? [];
    }
    this.card.mtu = this.#portMtu();
    this.#boot();
    this.#setPower('D0');
    this.#wake();
  }

  /** Takes the supply away (D3cold): everything is lost, the bus reads all ones. The port stays open, unread. */
  powerOff(): void {
    if (this.#power === 'D3cold') return;
    this.#reset();
    this.#booted = false;
    this.#setPower('D3cold');
    this.#regs.powered = false;
  }

  /** Pulls the cable out or plugs it in, as the register link_control does. */
  setCable(plugged: boolean): void {
    this.#cableOut = !plugged;
    this.#regs.set('link_control', plugged ? 0 : R.LINK_CABLE_OUT);
    this.#updateLink();
  }

  /** What the temperature sensor measures, °C. */
  get temperature(): number {
    return this.#sensor / 1000;
  }
  /** Heats or cools the card, as the register thermal_sensor does. */
  setTemperature(celsius: number): void {
    this.#heat(Math.round(celsius * 1000));
  }
  /** A setting by name, as it is kept. */
  setting(name: R.CardSetting): number {
    return this.#nvram.get(name)!;
  }

  /** Closes the port. The card is of no use after it. */
  close(): void {
    this.powerOff();
    this.port.onCarrier = undefined;
    this.port.onChange = undefined;
    this.port.close();
  }

  /**
   * Works off what there is, at most about `budget` frames each way, on the caller's clock. Returns the work done; 0 means
   * that nothing happens before `deadline()`, a doorbell, or the port's wake.
   */
  step(now: number, budget = 1024): number {
    if (this.#portNews) this.#portChanged();
    if (this.port.carrier !== this.#carrier) this.#updateLink();
    if (this.#link.deadline() <= now) this.#advanceLink(now);
    if (this.#power !== 'D0' || (this.#status & RUNS_MASK) !== RUNS) {
      this.#more = false;
      return this.#idle(now, budget);
    }
    const work = this.#ctrlq.available ? this.#ctrl.step() : 0;
    if (this.#thermal === THROTTLED) return work + this.#throttledStep(now, budget);
    const sent = this.#tx.holding || this.#txq.available ? this.#tx.step(now, budget) : 0;
    const got =
      this.card.linkUp && this.#rxq.ready ? this.#rx.step(now, budget) : this.#drain.step(now, budget, 'rx_link_down');
    this.#signal(now);
    this.#checkQueues();
    const rest = this.#txq.armDoorbell() && !this.#tx.blocked;
    this.#ctrlq.armDoorbell();
    // Receive buffers need no doorbell as long as some are left; a frame waiting for one is polled for.
    this.#rxq.armDoorbell();
    this.#more = rest || got >= budget || this.#rx.capped || (sent >= budget && this.#tx.holding);
    return work + sent + got;
  }

  /** The same while it is throttled: so many frames a second each way, the rest waits in the rings and in the port. */
  #throttledStep(now: number, budget: number): number {
    const mayTx = this.#txThrottle.allow(now, budget);
    const mayRx = this.#rxThrottle.allow(now, budget);
    const waiting = this.#tx.holding || this.#txq.available;
    if ((mayTx === 0 && waiting) || mayRx === 0) this.card.counters.throttled++;
    const sent = mayTx > 0 && waiting ? this.#tx.step(now, mayTx) : 0;
    let got = 0;
    if (!this.card.linkUp || !this.#rxq.ready) got = this.#drain.step(now, budget, 'rx_link_down');
    else if (mayRx > 0) this.#rxThrottle.used((got = this.#rx.step(now, mayRx)));
    this.#txThrottle.used(sent);
    this.#signal(now);
    this.#checkQueues();
    const rest = this.#txq.armDoorbell() && !this.#tx.blocked;
    this.#ctrlq.armDoorbell();
    this.#rxq.armDoorbell();
    this.#txWaits = (rest || this.#tx.holding) && this.#txThrottle.spent;
    this.#more = (rest && !this.#txThrottle.spent) || (got > 0 && got >= mayRx && !this.#rxThrottle.spent);
    return sent + got;
  }
  #txWaits = false;

  /** Time at which `step` has work although nothing arrives; 0 = now, Infinity = never. */
  deadline(): number {
    if (this.#more || this.#portNews) return 0;
    const at = Math.min(this.port.deadline(), this.#rxModeration.deadline, this.#txModeration.deadline);
    const link = Math.min(at, this.#link.deadline());
    if (this.#thermal !== R.THERMAL_THROTTLED) return link;
    const tx = this.#txWaits ? this.#txThrottle.deadline : Number.POSITIVE_INFINITY;
    return Math.min(link, tx, this.#rxThrottle.spent ? this.#rxThrottle.deadline : Number.POSITIVE_INFINITY);
  }

  /** True while an overheated card does not listen to its port: `deadline` alone says when the next step is. */
  get holdsBack(): boolean {
    return this.#thermal === R.THERMAL_THROTTLED && this.#rxThrottle.spent;
  }

  /** Arms the port: `wake` is called once when `step` may have work. */
  arm(wake: () => void): void {
    if (this.#opened && !this.holdsBack) this.port.arm(wake);
  }
  disarm(): void {
    if (this.#opened) this.port.disarm();
  }

  // ---- interrupts

  /** Raises interrupts for what the pipelines pushed, through moderation. */
  #signal(now: number): void {
    const pushed = this.#rx.pushed + this.#tx.pushed + this.#ctrl.pushed;
    if (pushed === 0 && !this.#rxModeration.holding && !this.#txModeration.holding) return;
    let raise = false;
    if (this.#rx.pushed > 0) {
      if (this.#moderate(this.#rxModeration, this.#rx.pushed, now)) raise = this.#rxq.shouldInterrupt();
      this.#rx.pushed = 0;
    } else if (this.#rxModeration.due(now)) raise = this.#rxq.shouldInterrupt();
    if (this.#tx.pushed > 0) {
      if (this.#moderate(this.#txModeration, this.#tx.pushed, now)) raise = this.#txq.shouldInterrupt() || raise;
      this.#tx.pushed = 0;
    } else if (this.#txModeration.due(now)) raise = this.#txq.shouldInterrupt() || raise;
    if (this.#ctrl.pushed > 0) {
      raise = this.#ctrlq.shouldInterrupt() || raise;
      this.#ctrl.pushed = 0;
    }
    if (raise) this.#raise(R.ISR_QUEUE);
  }
  #moderate(m: Moderation, frames: number, now: number): boolean {
    const now_ = m.add(frames, now);
    if (!now_) this.card.counters.interrupts_held++;
    return now_;
  }

  /** The line is level-triggered: it is raised when a bit comes that was not there. */
  #raise(bits: number): void {
    if (this.#power !== 'D0' && bits !== R.ISR_PME) return;
    if ((this.#isr & bits) === bits) return;
    this.#isr |= bits;
    this.#regs.set('interrupt_status', this.#isr);
    this.card.counters.interrupts++;
    this.bar.interrupt.raise();
  }

  #configChanged(): void {
    this.#regs.set('config_generation', (this.#regs.get('config_generation') + 1) >>> 0);
    if ((this.#status & R.STATUS_DRIVER_OK) !== 0) this.#raise(R.ISR_CONFIG);
  }

  // ---- link

  #updateLink(): void {
    this.#carrier = this.port.carrier;
    this.#link.update({
      carrier: this.#opened && this.#carrier,
      cableOut: this.#cableOut,
      d0: this.#power === 'D0',
      booted: this.#booted,
      selfTestFailed: this.#power !== 'D3cold' && this.#regs.get('self_test') !== 0,
      removed: this.port.removed === true,
      overheated: this.#thermal === R.THERMAL_CRITICAL,
      mediumSpeed: this.port.capabilities.speed,
    });
    if (this.#link.deadline() <= 0) this.#wake();
  }
  #advanceLink(now: number): void {
    this.#link.advance(now);
    this.#regs.set('flap_figure', this.#link.figure(now));
  }
  #linkChanged(state: LinkState): void {
    const up = state.kind === 'up';
    this.#regs.set('link_reason', linkReason(state));
    this.#regs.set('speed', up ? state.speed : R.SPEED_UNKNOWN);
    this.#regs.set('net_status', up ? R.NET_S_LINK_UP : 0);
    if (up !== this.card.linkUp) this.card.counters.link_changes++;
    this.card.linkUp = up;
    this.#configChanged();
    this.#wake();
  }

  // ---- what happens to the port's interface

  #portMtu(): number {
    return Math.min(this.card.mtuMax, this.port.capabilities.mtu);
  }
  #portChanged(): void {
    this.#portNews = false;
    const mtu = this.#portMtu();
    this.#regs.set('link_medium_speed', this.port.capabilities.speed ?? R.SPEED_UNKNOWN);
    if (mtu !== this.card.mtu) {
      this.card.mtu = mtu;
      this.#regs.set('mtu', mtu);
      this.#configChanged();
    }
    this.#updateLink();
    const was = this.#hostAddresses;
    const is = this.port.hostAddresses ?? [];
    if (was === is) return;
    this.#hostAddresses = is;
    const added = is.filter(a => !was.includes(a));
    const gone = was.filter(a => !is.includes(a));
    if (added.length + gone.length > 0) this.#onHostAddresses?.(added, gone);
  }

  // ---- temperature

  #heat(milli: number): void {
    this.#sensor = milli;
    this.#regs.set('thermal_sensor', milli);
    this.#judgeHeat();
  }
  #judgeHeat(): void {
    const signed = (name: R.CardSetting) => this.setting(name) | 0;
    const next = thermalState(this.#thermal, this.#sensor, {
      throttle: signed('thermal_throttle'),
      critical: signed('thermal_critical'),
      hysteresis: signed('thermal_hysteresis'),
    });
    const rate = next === R.THERMAL_THROTTLED ? Math.max(1, this.setting('thermal_rate')) : 0;
    if (next === this.#thermal) return;
    this.#thermal = next;
    this.#txThrottle.set(rate);
    this.#rxThrottle.set(rate);
    this.#txWaits = false;
    this.#regs.set('thermal_state', next);
    this.#configChanged();
    this.#updateLink();
    this.#wake();
  }

  // ---- settings

  /** Takes the settings into the machines that follow them. */
  #applySettings(): void {
    const link = this.#link.settings;
    link.advertise = this.setting('link_advertise');
    link.autonegUsecs = this.setting('link_autoneg_usecs');
    link.flapPenalty = this.setting('flap_penalty');
    link.flapSuppress = this.setting('flap_suppress');
    link.flapReuse = this.setting('flap_reuse');
    link.flapHalfLifeMs = this.setting('flap_half_life_ms');
    link.flapMaxMs = this.setting('flap_max_ms');
    if (this.#thermal === R.THERMAL_THROTTLED) {
      this.#txThrottle.set(Math.max(1, this.setting('thermal_rate')));
      this.#rxThrottle.set(Math.max(1, this.setting('thermal_rate')));
    }
    this.#judgeHeat();
  }
  #showSettings(): void {
    for (const [name, value] of this.#nvram) this.#regs.set(name, value);
    this.#regs.set('thermal_sensor', this.#sensor);
    this.#regs.set('thermal_state', this.#thermal);
    this.#regs.set('link_medium_speed', this.port.capabilities.speed ?? R.SPEED_UNKNOWN);
  }

  // ---- power

  #setPower(to: PowerState): void {
    if (to === this.#power) return;
    this.#power = to;
    this.#carrierSeen = this.port.carrier;
    this.card.counters.power_changes++;
    this.#regs.set('pm_state', Math.min(3, POWER_STATES.indexOf(to)));
    this.#updateLink();
  }
  #writePower(value: number): void {
    const to = POWER_STATES[value & 3]!;
    const action = powerTransition(this.#power, to);
    // A transition that PCI PM does not know leaves the state as it is; the register shows it.
    if (action === undefined || action === 'none') this.#regs.set('pm_state', POWER_STATES.indexOf(this.#power));
    else {
      if (action === 'reset') this.#reset();
      this.#setPower(to);
      this.#wake();
    }
  }

  /** Not running: empties the medium, and looks for what wakes the card. */
  #idle(now: number, budget: number): number {
    if (!this.#opened) return 0;
    if (this.#power === 'D3cold' || this.#power === 'D0') return this.#drain.step(now, budget, 'rx_disabled');
    const wakes = this.#regs.get('pm_wake');
    const drain = this.#drain;
    const n = drain.step(now, budget, 'rx_asleep', wakes);
    const carrierBack = this.#carrierSeen !== this.port.carrier && (wakes & R.WAKE_LINK) !== 0;
    this.#carrierSeen = this.port.carrier;
    if (drain.woke === R.WAKE_PATTERN) this.#signalWake(R.WAKE_PATTERN | (drain.slot << 8));
    else if (drain.woke !== 0) this.#signalWake(drain.woke);
    else if (carrierBack) this.#signalWake(R.WAKE_LINK);
    drain.woke = 0;
    return n;
  }
  /** PME_Status is set and the line raised, once until the driver has cleared it. */
  #signalWake(why: number): void {
    if ((this.#regs.get('pm_status') & R.PME_STATUS) !== 0) return;
    this.#regs.set('pm_wake_reason', why);
    this.#regs.set('pm_status', R.PME_STATUS);
    this.card.counters.wakes++;
    this.#raise(R.ISR_PME);
  }

  // ---- boot and reset

  #boot(): void {
    const regs = this.#regs;
    regs.powered = true;
    regs.reset();
    this.#patterns.clear();
    this.#showSettings();
    this.#applySettings();
    const code = selfTest(this.card, this.#units);
    this.#reset();
    regs.set('self_test', code);
    regs.set('mtu', this.card.mtu);
    regs.set('medium', this.card.isIp ? R.MEDIUM_IP : R.MEDIUM_ETHERNET);
    const caps = this.port.capabilities;
    regs.set('train_tx_bytes', TRAIN_BYTES);
    regs.set('train_tx_segments', TRAIN_SEGMENTS);
    regs.set('train_rx_bytes', caps.train > 0 ? caps.train + (this.card.isIp ? 14 : 0) : 0);
    regs.set('train_rx_segments', caps.trainSegments);
    const all = R.SCTP_OFFLOAD_TX_CSUM | R.SCTP_OFFLOAD_RX_CSUM | R.SCTP_OFFLOAD_TX_TRAIN;
    regs.set(
      'sctp_offload',
      all | (caps.train > 0 ? R.SCTP_OFFLOAD_RX_TRAIN : 0) | (caps.sctpCrc ? R.SCTP_OFFLOAD_PORT_CSUM : 0),
    );
    regs.set('supported_hash_types', HASH_TYPE_IPV4 | HASH_TYPE_IPV6 | HASH_TYPE_UDPV4 | HASH_TYPE_UDPV6);
    regs.set('link_control', this.#cableOut ? R.LINK_CABLE_OUT : 0);
    regs.set('link_reason', linkReason(this.#link.state));
    this.card.udpPorts.fill(9899);
    // A card that fails its self test says so in its registers and has no link.
    this.#booted = code === 0;
    if (!this.#booted) this.#status = R.STATUS_FAILED;
    regs.set('status', this.#status);
  }

  /** Device reset, §2.4: queues, negotiation, filters, interrupts. Power, cable and link stay. */
  #reset(): void {
    this.card.counters.resets++;
    for (const q of this.#queues) q.disable();
    this.#rx.reset();
    this.#tx.reset();
    this.#rx.pushed = this.#tx.pushed = this.#ctrl.pushed = 0;
    this.#rxModeration.clear();
    this.#txModeration.clear();
    this.#coalesce('rx', 0, 0);
    this.#coalesce('tx', 0, 0);
    this.card.reset();
    this.#accepted.fill(0);
    this.#driverSelect = this.#queueSelect = 0;
    this.#status = 0;
    this.#isr = 0;
    this.#more = false;
    this.#regs.set('status', 0);
    this.#regs.set('interrupt_status', 0);
    for (let i = 0; i < 6; i++) this.#regs.set('mac', this.card.mac[i]!, i);
    this.#selectQueue(0);
  }

  /** A ring that makes no sense stops the card until it is reset (§2.1.2). */
  #checkQueues(): void {
    if (this.#rxq.broken === '' && this.#txq.broken === '' && this.#ctrlq.broken === '') return;
    for (const q of this.#queues) {
      if (q.broken === '' || (this.#status & R.STATUS_NEEDS_RESET) !== 0) continue;
      this.card.counters.queue_broken++;
      this.#status |= R.STATUS_NEEDS_RESET;
      this.#regs.set('status', this.#status);
      this.#configChanged();
    }
  }

  // ---- the bus interface

  #onWrite(name: R.RegisterName, value: number, index: number): void {
    // In D1 to D3hot only power management answers (PCI PM 1.2 §5.4.1.4); what was stored is put back.
    if (this.#power !== 'D0' && !name.startsWith('pm_')) {
      this.#regs.set('status', this.#status);
      this.#regs.set('link_control', this.#cableOut ? R.LINK_CABLE_OUT : 0);
      this.#showSettings();
      return;
    }
    switch (name) {
      case 'device_feature_select':
        this.#regs.set('device_feature', value < 4 ? this.#offered[value]! : 0);
        break;
      case 'driver_feature_select':
        this.#driverSelect = value;
        break;
      case 'driver_feature':
        if (this.#driverSelect < 4 && (this.#status & R.STATUS_FEATURES_OK) === 0)
          this.#accepted[this.#driverSelect] = value;
        break;
      case 'queue_select':
        this.#selectQueue(value);
        break;
      case 'queue_ready':
        this.#readyQueue(value === 1);
        break;
      case 'queue_reset':
        this.#resetQueue(value === 1);
        break;
      case 'queue_notify':
        this.card.counters.doorbells++;
        this.#wake();
        break;
      case 'interrupt_ack':
        this.#isr &= ~value;
        this.#regs.set('interrupt_status', this.#isr);
        break;
      case 'status':
        this.#writeStatus(value);
        break;
      case 'pm_state':
        this.#writePower(value);
        break;
      case 'link_control':
        this.setCable((value & R.LINK_CABLE_OUT) === 0);
        if ((value & R.LINK_RESTART) !== 0) this.#link.restart();
        if (this.#link.deadline() <= 0) this.#wake();
        break;
      case 'thermal_sensor':
        this.#heat(value | 0);
        break;
      case 'pm_pattern_select':
        this.#patterns.show(this.#regs);
        break;
      case 'pm_pattern_control':
      case 'pm_pattern_mask':
      case 'pm_pattern_data':
        this.#patterns.store(this.#regs);
        break;
      case 'sctp_udp_port':
        this.card.udpPorts[index] = value & 0xffff;
        break;
      default:
        if (!this.#nvram.has(name as R.CardSetting)) break;
        this.#nvram.set(name as R.CardSetting, value);
        this.#applySettings();
        break;
    }
  }

  #writeStatus(value: number): void {
    if (value === 0) {
      this.#reset();
      return;
    }
    if (!this.#booted) {
      this.#regs.set('status', this.#status);
      return;
    }
    let next = this.#status | (value & 0xbf);
    if ((next & R.STATUS_FEATURES_OK) !== 0 && (this.#status & R.STATUS_FEATURES_OK) === 0) {
      if (acceptable(this.#offered, this.#accepted)) this.card.negotiate(this.#accepted);
      else next &= ~R.STATUS_FEATURES_OK;
    }
    // §3.1.1: no DRIVER_OK without FEATURES_OK.
    if ((next & R.STATUS_FEATURES_OK) === 0) next &= ~R.STATUS_DRIVER_OK;
    this.#status = next;
    this.#regs.set('status', next);
    if ((next & R.STATUS_DRIVER_OK) !== 0) this.#wake();
  }

  #selectQueue(q: number): void {
    this.#queueSelect = q;
    const vq = this.#queues[q];
    this.#regs.set('queue_size_max', vq?.sizeMax ?? 0);
    this.#regs.set('queue_ready', vq?.ready ? 1 : 0);
    this.#regs.set('queue_reset', 0);
    for (const name of [
      'queue_size',
      'queue_desc_low',
      'queue_desc_high',
      'queue_driver_low',
      'queue_driver_high',
      'queue_device_low',
      'queue_device_high',
    ] as const)
      this.#regs.set(name, 0);
  }

  #readyQueue(on: boolean): void {
    const vq = this.#queues[this.#queueSelect];
    if (vq === undefined || (this.#status & R.STATUS_FEATURES_OK) === 0) {
      this.#regs.set('queue_ready', 0);
      return;
    }
    if (on && !vq.ready) {
      const address = (low: R.RegisterName, high: R.RegisterName) =>
        this.#regs.get(high) * 4294967296 + this.#regs.get(low);
      vq.eventIdx = R.hasFeature(this.#accepted, R.F_RING_EVENT_IDX);
      vq.indirect = R.hasFeature(this.#accepted, R.F_RING_INDIRECT_DESC);
      const wrong = vq.configure(
        this.#regs.get('queue_size'),
        address('queue_desc_low', 'queue_desc_high'),
        address('queue_driver_low', 'queue_driver_high'),
        address('queue_device_low', 'queue_device_high'),
      );
      if (wrong !== '') this.card.counters.queue_refused++;
    } else if (!on) this.#stopQueue(this.#queueSelect);
    this.#regs.set('queue_ready', vq.ready ? 1 : 0);
  }

  /** Reset of one queue, §2.6.1: done at once, as no step is running while a register is written. */
  #resetQueue(on: boolean): void {
    const vq = this.#queues[this.#queueSelect];
    this.#regs.set('queue_reset', 0);
    if (!on || vq === undefined || !R.hasFeature(this.#accepted, R.F_RING_RESET)) return;
    this.card.counters.queue_resets++;
    this.#stopQueue(this.#queueSelect);
    this.#regs.set('queue_ready', 0);
  }
  #stopQueue(q: number): void {
    this.#queues[q]!.disable();
    if (q === RX_QUEUE) this.#rx.reset();
    else if (q === TX_QUEUE) this.#tx.reset();
    else if (q === CTRL_QUEUE) this.#ctrl.pushed = 0;
  }

  #coalesce(queue: 'rx' | 'tx', usecs: number, frames: number): void {
    const m = queue === 'rx' ? this.#rxModeration : this.#txModeration;
    m.set(usecs, frames);
    this.#regs.set(queue === 'rx' ? 'coalesce_rx_usecs' : 'coalesce_tx_usecs', usecs);
    this.#regs.set(queue === 'rx' ? 'coalesce_rx_frames' : 'coalesce_tx_frames', frames);
  }
}

function randomMac(random: { u32(): number } | undefined): Uint8Array {
  if (random === undefined)
    throw new TypeError('a card needs a mac, a port that has one, or a random source to draw one');
  const hi = random.u32();
  const lo = random.u32();
  // Locally administered, unicast.
  return Uint8Array.of(((hi >>> 8) & 0xfc) | 2, hi & 255, lo >>> 24, (lo >>> 16) & 255, (lo >>> 8) & 255, lo & 255);
}
