/**
 * The host's driver for the card: a state machine over probe, rings and power, and the interface (`ifp`) that it presents.
 * An interrupt only schedules; work is done in `poll`, a bounded batch at a time, with the card's interrupts off for as
 * long as there is more (NAPI). VIRTIO 1.2 §3.1 to §3.3 and §5.1.
 *
 * Between driver and card there is the Bar (registers, doorbell), the interrupt line, and rings in shared memory.
 */

import * as R from '../nic/registers.js';
import * as Q from '../nic/virtqueue.js';
import { CSUM_IP, CSUM_SCTP, CSUM_UDP, type MbufPool } from '../stack/kern/mbuf.js';
import {
  IFF_BROADCAST,
  IFF_MULTICAST,
  IFF_NOARP,
  IFF_PROMISC,
  IFF_RUNNING,
  IFF_UP,
  type IfDriver,
  Ifnet,
} from '../stack/net/ifnet.js';
import { ControlRing, EINVAL } from './control.js';
import { type DriverCounters, driverCounters } from './counters.js';
import { type CardInfo, enableQueue, ProbeError, probe, type Wants } from './probe.js';
import { COMMAND_SLOT, DEFAULT_RINGS, type RingLayout, type RingSizes, ringLayout } from './rings.js';
import { RxRing } from './rx.js';
import { TxRing } from './tx.js';
import { VirtqDriver } from './virtq-driver.js';

const EIO = 5;
const ENXIO = 6;

export type DriverPower = 'D0' | 'D1' | 'D2' | 'D3hot' | 'D3cold';

export interface DriverOptions {
  /** Interface name, "nke0". */
  readonly name: string;
  readonly bar: R.Bar;
  /** The pool lies in the region that the card sees; the rings lie at `ringOffset` of the same region. */
  readonly pool: MbufPool;
  readonly ringOffset: number;
  readonly rings?: RingSizes;
  /** Receive buffers to keep posted; default 64 jumbos or 512 clusters. */
  readonly rxBuffers?: number;
  readonly wants?: Wants;
  /** Called when an interrupt asks for a `poll`. */
  readonly wake?: () => void;
  /** The card asks to be woken. True: somebody else sees to it (the whole host was asleep); else the driver wakes the card. */
  readonly onPme?: (reason: string) => boolean;
}

/** Bytes at an offset of the frame that wake the card; `mask`: which of them count, default all. */
export interface WakePattern {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly mask?: readonly boolean[];
}

/** What the driver has while the card is running. */
interface Rings {
  readonly rx: RxRing;
  readonly tx: TxRing;
  readonly ctrl: ControlRing | undefined;
}

export class Driver implements IfDriver {
  readonly ifp: Ifnet;
  readonly counters: DriverCounters = driverCounters();
  info: CardInfo;
  readonly #o: DriverOptions;
  readonly #bar: R.Bar;
  readonly #pool: MbufPool;
  readonly #sizes: RingSizes;
  readonly #layout: RingLayout;
  #rings: Rings | undefined;
  #irq = false;
  #polling = false;
  #power: DriverPower = 'D0';
  #detached = false;
  readonly #multicast = new Map<string, { readonly mac: Uint8Array; count: number }>();
  #allMulticast = false;
  #coalesce = { usecs: 0, frames: 0 };
  #speed = R.SPEED_UNKNOWN;
  #linkReason = -1;
  #thermal: number = R.THERMAL_NORMAL;
  /** Largest MTU for which the rings at hand were made. */
  #ringMtu = 0;

  /** Probes the card; throws ProbeError when it cannot be used. The interface starts down. */
  constructor(o: DriverOptions) {
    this.#o = o;
    this.#bar = o.bar;
    this.#pool = o.pool;
    this.info = probe(o.bar, o.wants);
    const max = this.info.queueSizeMax;
    const sizes = o.rings ?? DEFAULT_RINGS;
    this.#sizes = {
      rx: Math.min(sizes.rx, max[0]),
      tx: Math.min(sizes.tx, max[1]),
      ctrl: Math.min(sizes.ctrl, max[2]),
    };
    this.#layout = ringLayout(this.#sizes, o.ringOffset);
    if (this.#layout.end > o.pool.u8.buffer.byteLength)
      throw new RangeError(`${o.name}: the rings do not fit the region`);
    const flags = this.info.ipMedium ? IFF_NOARP | IFF_MULTICAST : IFF_BROADCAST | IFF_MULTICAST;
    this.ifp = new Ifnet(o.name, this.info.mac.slice(), this.info.mtu, flags);
    this.#capabilities();
    this.ifp.driver = this;
    // Until it is brought up the card sleeps in reset.
    this.#bar.write(R.REG.status, 4, 0);
    this.#bar.interrupt.handler = () => {
      this.#irq = true;
      this.counters.interrupts++;
      o.wake?.();
    };
  }

  #capabilities(): void {
    const assists = R.hasFeature(this.info.features, R.F_NKE_SCTP_CSUM);
    this.ifp.hwassist = assists ? CSUM_SCTP | CSUM_UDP | CSUM_IP : 0;
    this.ifp.trainBytes = this.info.trainTxBytes;
    this.ifp.trainSegments = this.info.trainTxSegments;
  }

  /** True when `poll` has something to do. */
  pending(): boolean {
    return this.#irq || this.#polling;
  }
  get power(): DriverPower {
    return this.#power;
  }
  /** Mbufs that the driver holds in its rings. */
  get held(): { rx: number; tx: number } {
    return { rx: this.#rings?.rx.posted ?? 0, tx: this.#rings?.tx.inFlight ?? 0 };
  }

  // ---- IfDriver

  output(m: number): boolean {
    const rings = this.#rings;
    if (rings === undefined || !this.ifp.link) {
      this.#pool.freem(m);
      this.counters.tx_down++;
      this.ifp.counters.odrops++;
      return false;
    }
    const taken = rings.tx.output(m);
    if (!taken && rings.tx.vq.free === 0) this.#checkAlive();
    return taken;
  }
  /**
   * Takes the packets list[0, n) as `output` takes each, for a sender that has several: the ring is filled in one go. Returns
   * how many were not dropped.
   */
  outputRun(list: Int32Array, n: number): number {
    const rings = this.#rings;
    if (rings === undefined || !this.ifp.link) {
      this.#pool.freeRun(list, n);
      this.counters.tx_down += n;
      this.ifp.counters.odrops += n;
      return 0;
    }
    const taken = rings.tx.outputRun(list, n);
    if (taken < n && rings.tx.vq.free === 0) this.#checkAlive();
    return taken;
  }
  flush(): void {
    if (this.#rings?.tx.vq.publish()) this.#bar.doorbell(Q.TX_QUEUE);
  }
  ready(): boolean {
    return this.#rings !== undefined && this.ifp.link && this.#rings.tx.ready();
  }

  /** Brings the interface up (rings, DRIVER_OK) or down (reset, every mbuf freed). 0 or -errno. */
  setUp(up: boolean): number {
    if (this.#detached) return -ENXIO;
    const is = (this.ifp.flags & IFF_UP) !== 0;
    if (up === is) return 0;
    if (up) {
      if (this.#power === 'D0') {
        const e = this.#start();
        if (e !== 0) return e;
      }
      this.ifp.flags |= IFF_UP;
      this.ifp.event({ kind: 'if-up', ifname: this.ifp.name });
      this.#readLink();
      return 0;
    }
    this.#setLink(false, 'the interface was taken down');
    this.ifp.flags &= ~IFF_UP;
    this.#stop();
    this.ifp.event({ kind: 'if-down', ifname: this.ifp.name });
    return 0;
  }

  setMac(mac: Uint8Array): number {
    if (mac.length !== 6 || (mac[0]! & 1) !== 0) return -EINVAL;
    const e = this.#command(Q.CTRL_MAC, Q.CTRL_MAC_ADDR_SET, mac);
    if (e === 0) this.ifp.mac.set(mac);
    return e;
  }
  setPromisc(on: boolean): number {
    const e = this.#command(Q.CTRL_RX, Q.CTRL_RX_PROMISC, [on ? 1 : 0]);
    if (e === 0) this.ifp.flags = on ? this.ifp.flags | IFF_PROMISC : this.ifp.flags & ~IFF_PROMISC;
    return e;
  }
  setMulticast(mac: Uint8Array, join: boolean): number {
    if (mac.length !== 6 || (mac[0]! & 1) === 0) return -EINVAL;
    const key = mac.join(':');
    const entry = this.#multicast.get(key);
    if (join) {
      if (entry !== undefined) entry.count++;
      else this.#multicast.set(key, { mac: mac.slice(), count: 1 });
    } else {
      if (entry === undefined) return -EINVAL;
      if (--entry.count === 0) this.#multicast.delete(key);
    }
    return entry !== undefined && (join || entry.count > 0) ? 0 : this.#sendMulticast();
  }
  /** Interrupt moderation of the receive queue: at most `usecs` of delay, at most `frames` gathered (0 = any number). */
  setCoalesce(usecs: number, frames: number): number {
    this.#coalesce = { usecs, frames };
    return this.#sendCoalesce(usecs, frames);
  }
  /** Pulls the card's cable out or plugs it in (link_control). */
  setCable(plugged: boolean): void {
    this.#bar.write(R.REG.link_control, 4, plugged ? 0 : R.LINK_CABLE_OUT);
  }
  /** Has the card negotiate its link anew. */
  restartLink(): void {
    const out = this.#bar.read(R.REG.link_control, 4) & R.LINK_CABLE_OUT;
    this.#bar.write(R.REG.link_control, 4, out | R.LINK_RESTART);
  }
  /** Writes one of the card's settings (it keeps them without power). 0, or -EINVAL outside D0. */
  setSetting(name: R.CardSetting, value: number): number {
    if (this.#power !== 'D0') return -EINVAL;
    this.#bar.write(R.REG[name], 4, value >>> 0);
    return this.#bar.read(R.REG[name], 4) === value >>> 0 ? 0 : -EINVAL;
  }
  /** Loads the card's wake patterns, at most WAKE_PATTERNS of WAKE_PATTERN_BYTES; slots left over are emptied. 0 or -EINVAL. */
  setWakePatterns(patterns: readonly WakePattern[]): number {
    const fits = (p: WakePattern) =>
      p.bytes.length > 0 && p.bytes.length <= R.WAKE_PATTERN_BYTES && p.offset >= 0 && p.offset <= 0xffff;
    if (patterns.length > R.WAKE_PATTERNS || !patterns.every(fits)) return -EINVAL;
    for (let slot = 0; slot < R.WAKE_PATTERNS; slot++) this.#writePattern(slot, patterns[slot]);
    return 0;
  }
  #writePattern(slot: number, p: WakePattern | undefined): void {
    const bytes = new Uint8Array(R.WAKE_PATTERN_BYTES);
    const mask = new Uint32Array(2);
    if (p !== undefined) {
      bytes.set(p.bytes);
      for (let i = 0; i < p.bytes.length; i++) if (p.mask?.[i] !== false) mask[i >>> 5]! |= 1 << (i & 31);
    }
    const dv = new DataView(bytes.buffer);
    this.#bar.write(R.REG.pm_pattern_select, 4, slot);
    this.#bar.write(R.REG.pm_pattern_control, 4, p === undefined ? 0 : p.offset | (p.bytes.length << 16));
    for (let i = 0; i < 2; i++) this.#bar.write(R.REG.pm_pattern_mask + 4 * i, 4, mask[i]!);
    for (let i = 0; i < R.WAKE_PATTERN_BYTES / 4; i++)
      this.#bar.write(R.REG.pm_pattern_data + 4 * i, 4, dv.getUint32(4 * i, true));
  }
  /** UDP ports that the card takes for SCTP (RFC 6951); at most four. */
  setSctpUdpPorts(ports: readonly number[]): void {
    for (let i = 0; i < 4; i++)
      this.#bar.write(R.REG.sctp_udp_port + 2 * i, 2, ports[Math.min(i, ports.length - 1)] ?? 9899);
  }

  /** Removes the driver from the card: interface down, card reset, interrupt line let go, every mbuf freed. */
  detach(): void {
    if (this.#detached) return;
    this.setUp(false);
    this.#detached = true;
    this.#bar.write(R.REG.status, 4, 0);
    this.#bar.interrupt.handler = undefined;
    this.#irq = false;
    this.ifp.driver = undefined;
  }

  // ---- power

  /**
   * Puts the card into a power state. For D3cold the supply is to be taken away after this call, for D0 out of D3cold given
   * before it. `wake`: WAKE_* bits that may wake the card from D3hot. 0 or -errno.
   */
  setPower(to: DriverPower, reason: string, wake = 0): number {
    if (this.#detached) return -ENXIO;
    if (to === this.#power) return 0;
    if (to === 'D0') return this.#wakeUp(reason);
    if (this.#power !== 'D0') return -EINVAL;
    this.#setLink(false, `power state ${to}: ${reason}`);
    const deep = to === 'D3hot' || to === 'D3cold';
    if (deep) this.#stop();
    this.#bar.write(R.REG.pm_wake, 4, wake);
    this.#bar.write(R.REG.pm_state, 4, to === 'D1' ? 1 : to === 'D2' ? 2 : 3);
    this.#power = to;
    this.ifp.event({ kind: 'power', ifname: this.ifp.name, state: to, reason });
    return 0;
  }

  #wakeUp(reason: string): number {
    if (this.#bar.read(R.REG.magic, 4) === 0xffffffff) return -ENXIO;
    const lostContext = this.#power === 'D3hot' || this.#power === 'D3cold';
    if (this.#power === 'D3cold') this.#reportSelfTest();
    this.#bar.write(R.REG.pm_state, 4, 0);
    this.#bar.write(R.REG.pm_status, 4, R.PME_STATUS);
    this.#power = 'D0';
    this.ifp.event({ kind: 'power', ifname: this.ifp.name, state: 'D0', reason });
    if ((this.ifp.flags & IFF_UP) === 0) return 0;
    if (lostContext) {
      const e = this.#start();
      if (e !== 0) return e;
    } else this.#polling = true; // whatever came before the sleep
    this.#readLink();
    return 0;
  }

  /** A card that comes from D3cold has tested itself. */
  #reportSelfTest(): void {
    const code = this.#bar.read(R.REG.self_test, 4);
    const reason = R.SELF_TEST_RESULTS[code] ?? `code ${code}`;
    this.ifp.event({ kind: 'self-test', ifname: this.ifp.name, passed: code === 0, reason });
  }

  // ---- rings

  /** Probes anew, sets up the rings and says DRIVER_OK; 0 or -errno. */
  #start(): number {
    try {
      this.info = probe(this.#bar, this.#o.wants);
    } catch (e) {
      if (e instanceof ProbeError) return e.code === 'ENXIO' ? -ENXIO : -EIO;
      throw e;
    }
    const { info } = this;
    this.#ringMtu = info.mtu;
    if (info.mtu !== this.ifp.mtu) this.ifp.event({ kind: 'mtu', ifname: this.ifp.name, mtu: info.mtu });
    const buffer = this.#pool.u8.buffer;
    const l = this.#layout;
    const eventIdx = R.hasFeature(info.features, R.F_RING_EVENT_IDX);
    const rxq = new VirtqDriver(buffer, l.rx, this.#sizes.rx, eventIdx);
    const txq = new VirtqDriver(buffer, l.tx, this.#sizes.tx, eventIdx);
    const jumbo = info.trainRxBytes > 0 || info.mtu > 1900;
    const want = this.#o.rxBuffers ?? (jumbo ? 64 : 512);
    const rx = new RxRing(rxq, this.#pool, this.ifp, info, this.counters, want);
    const tx = new TxRing(txq, this.#pool, this.ifp, info, this.counters, l.headers);
    let enabled = enableQueue(this.#bar, Q.RX_QUEUE, rxq.size, rxq.desc, rxq.avail, rxq.used);
    enabled = enableQueue(this.#bar, Q.TX_QUEUE, txq.size, txq.desc, txq.avail, txq.used) && enabled;
    let ctrl: ControlRing | undefined;
    if (info.control) {
      const q = new VirtqDriver(buffer, l.ctrl, this.#sizes.ctrl, eventIdx);
      enabled = enableQueue(this.#bar, Q.CTRL_QUEUE, q.size, q.desc, q.avail, q.used) && enabled;
      ctrl = new ControlRing(q, this.#pool.u8, l.commands, this.counters, n => this.#bar.doorbell(n));
    }
    if (!enabled) {
      this.#bar.write(R.REG.status, 4, R.STATUS_FAILED);
      return -EIO;
    }
    this.#rings = { rx, tx, ctrl };
    // §3.1.1 step 8: buffers may be posted before, notifications come after.
    this.#bar.write(R.REG.status, 4, this.#bar.read(R.REG.status, 4) | R.STATUS_DRIVER_OK);
    if (rx.refill()) this.#bar.doorbell(Q.RX_QUEUE);
    rx.vq.enableInterrupts();
    this.#replay();
    return 0;
  }

  /** What was set before a reset is set again. */
  #replay(): void {
    const factory = this.info.mac;
    if (this.ifp.mac.some((b, i) => b !== factory[i])) this.#command(Q.CTRL_MAC, Q.CTRL_MAC_ADDR_SET, this.ifp.mac);
    if ((this.ifp.flags & IFF_PROMISC) !== 0) this.#command(Q.CTRL_RX, Q.CTRL_RX_PROMISC, [1]);
    this.#allMulticast = false;
    if (this.#multicast.size > 0) this.#sendMulticast();
    if (this.#coalesce.usecs > 0) this.#sendCoalesce(this.#coalesce.usecs, this.#coalesce.frames);
    if (this.info.hdrBytes > Q.NET_HDR_BYTES) {
      // le32 hash_types | le16 reserved[4] | u8 key length (0: the card's own key)
      const types = Q.HASH_TYPE_IPV4 | Q.HASH_TYPE_UDPV4 | Q.HASH_TYPE_IPV6 | Q.HASH_TYPE_UDPV6;
      this.#command(Q.CTRL_MQ, Q.CTRL_MQ_HASH_CONFIG, [types, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
  }

  #stop(): void {
    const rings = this.#rings;
    if (rings === undefined) return;
    this.#bar.write(R.REG.status, 4, 0);
    this.#rings = undefined;
    rings.rx.stop();
    rings.tx.stop();
    this.#irq = this.#polling = false;
  }

  /** Resets the card and sets it up again; frames in the rings are lost. 0 or -errno. */
  reset(reason: string): number {
    this.counters.resets++;
    this.ifp.event({ kind: 'card-reset', ifname: this.ifp.name, reason });
    this.#setLink(false, reason);
    this.#stop();
    if ((this.ifp.flags & IFF_UP) === 0 || this.#power !== 'D0') return 0;
    const e = this.#start();
    if (e === 0) this.#readLink();
    return e;
  }

  /** A transmit ring that stays full may belong to a card that lost power or was reset behind our back. */
  #checkAlive(): void {
    const status = this.#bar.read(R.REG.status, 4);
    if (status === 0xffffffff) {
      this.#setLink(false, 'the card lost power');
      this.#stop();
      this.#power = 'D3cold';
    } else if ((status & R.STATUS_DRIVER_OK) === 0 || (status & R.STATUS_NEEDS_RESET) !== 0)
      this.reset('the card was reset');
  }

  // ---- interrupt and poll

  /**
   * Does at most `budget` received frames of work, and whatever completions, answers and changes there are. Returns the
   * number of frames; when it is below the budget interrupts are on again.
   */
  poll(budget: number): number {
    const rings = this.#rings;
    if (rings !== undefined) {
      rings.tx.reclaim();
      // With no buffer out there will be no interrupt to refill upon.
      if (rings.rx.starved && rings.rx.refill()) this.#bar.doorbell(Q.RX_QUEUE);
    }
    if (this.#irq) this.#acknowledge();
    if (!this.#polling || this.#rings === undefined) return 0;
    this.counters.polls++;
    const { rx, ctrl } = this.#rings;
    ctrl?.poll();
    const n = rx.poll(budget);
    if (this.#rings?.rx !== rx) return n;
    if (rx.refill()) this.#bar.doorbell(Q.RX_QUEUE);
    if (n < budget) this.#polling = rx.vq.enableInterrupts();
    return n;
  }

  /** Reads what the interrupt is about, acknowledges it, schedules polling. */
  #acknowledge(): void {
    this.#irq = false;
    const isr = this.#bar.read(R.REG.interrupt_status, 4);
    if (isr === 0xffffffff) return;
    this.#bar.write(R.REG.interrupt_ack, 4, isr);
    if ((isr & R.ISR_PME) !== 0) {
      const reason = `${this.ifp.name}: the card asks to be woken by ${this.#wakeReason()}`;
      if (this.#o.onPme?.(reason) !== true) {
        this.ifp.event({ kind: 'wake', reason });
        this.setPower('D0', 'wake event');
      }
    }
    if ((isr & R.ISR_CONFIG) !== 0 && this.#rings !== undefined) {
      if ((this.#bar.read(R.REG.status, 4) & R.STATUS_NEEDS_RESET) !== 0) this.reset('the card asked to be reset');
      else this.#readConfig();
    }
    if ((isr & R.ISR_QUEUE) !== 0 && this.#rings !== undefined) {
      this.#polling = true;
      this.#rings.rx.vq.disableInterrupts();
    }
  }

  #wakeReason(): string {
    const why = this.#bar.read(R.REG.pm_wake_reason, 4);
    if ((why & R.WAKE_MAGIC) !== 0) return 'a magic packet';
    if ((why & R.WAKE_PATTERN) !== 0) return `a frame that matches pattern ${why >>> 8}`;
    return (why & R.WAKE_LINK) !== 0 ? 'a change of its link' : 'an event';
  }

  // ---- configuration changes (§5.1.4), the link among them

  #readConfig(): void {
    const { ifp } = this;
    const state = this.#bar.read(R.REG.thermal_state, 4);
    if (state !== this.#thermal) {
      this.#thermal = state;
      const celsius = (this.#bar.read(R.REG.thermal_sensor, 4) | 0) / 1000;
      const rate = this.#bar.read(R.REG.thermal_rate, 4);
      const reasons = ['it has cooled down', `it moves ${rate} frames a second at most`, 'its link is taken down'];
      const reason = `${celsius} °C: ${reasons[state] ?? `state ${state}`}`;
      ifp.event({ kind: 'thermal', ifname: ifp.name, state: R.THERMAL_STATES[state] ?? 'critical', celsius, reason });
    }
    const mtu = this.#bar.read(R.REG.mtu, 2);
    if (mtu !== ifp.mtu && R.hasFeature(this.info.features, R.F_NET_MTU)) {
      this.info = { ...this.info, mtu };
      // Buffers of the rings are as long as they had to be when they were made; `reset` reports the MTU as well.
      if (mtu > this.#ringMtu) this.reset(`the MTU has become ${mtu}`);
      else ifp.event({ kind: 'mtu', ifname: ifp.name, mtu });
    }
    this.#readLink();
  }

  #readLink(): void {
    const up =
      (this.#bar.read(R.REG.net_status, 2) & R.NET_S_LINK_UP) !== 0 ||
      !R.hasFeature(this.info.features, R.F_NET_STATUS);
    const code = this.#bar.read(R.REG.link_reason, 4);
    const speed = up ? this.#bar.read(R.REG.speed, 4) : R.SPEED_UNKNOWN;
    const known = speed !== R.SPEED_UNKNOWN;
    const reason = R.LINK_REASONS[code] ?? `code ${code}`;
    const { ifp } = this;
    const { link } = ifp;
    if (code === R.LINK_REMOVED && code !== this.#linkReason)
      ifp.event({ kind: 'port-removed', ifname: ifp.name, reason });
    if (!up && !link && this.#linkReason >= 0 && code !== this.#linkReason && code !== R.LINK_REMOVED)
      ifp.event({ kind: 'link-reason', ifname: ifp.name, reason });
    const before = this.#speed;
    this.#speed = speed;
    this.#linkReason = code;
    const text = known ? `${reason}, ${speed} Mb/s full duplex` : reason;
    this.#setLink(up && this.#rings !== undefined, text, known ? speed : undefined);
    if (link && ifp.link && speed !== before && known)
      ifp.event({ kind: 'link-speed', ifname: ifp.name, speed, reason: this.#was(before) });
  }
  #was(speed: number): string {
    return speed === R.SPEED_UNKNOWN ? 'the speed was not known before' : `it was ${speed} Mb/s before`;
  }
  #setLink(up: boolean, reason: string, speed?: number): void {
    const { ifp } = this;
    if (up === ifp.link) return;
    ifp.link = up;
    ifp.flags = up ? ifp.flags | IFF_RUNNING : ifp.flags & ~IFF_RUNNING;
    ifp.counters.link_changes++;
    const event = { kind: up ? 'link-on' : 'link-off', ifname: ifp.name, reason } as const;
    ifp.event(speed === undefined ? event : { ...event, speed });
  }

  // ---- control

  /** A command, or 0 at once while the card is not running: it is sent when it starts. */
  #command(cls: number, command: number, data: ArrayLike<number>): number {
    return this.#rings?.ctrl?.send(cls, command, data) ?? 0;
  }
  #sendMulticast(): number {
    const groups = [...this.#multicast.values()];
    // More than fit a command slot: take all of them, for as long as that is so.
    const all = groups.length * 6 + 8 + 3 > COMMAND_SLOT;
    if (all !== this.#allMulticast) {
      const e = this.#command(Q.CTRL_RX, Q.CTRL_RX_ALLMULTI, [all ? 1 : 0]);
      if (e !== 0) return e;
      this.#allMulticast = all;
    }
    if (all) return 0;
    const data = new Uint8Array(8 + groups.length * 6);
    new DataView(data.buffer).setUint32(4, groups.length, true);
    for (const [i, g] of groups.entries()) data.set(g.mac, 8 + i * 6);
    return this.#command(Q.CTRL_MAC, Q.CTRL_MAC_TABLE_SET, data);
  }
  #sendCoalesce(usecs: number, frames: number): number {
    const data = new Uint8Array(8);
    const dv = new DataView(data.buffer);
    dv.setUint32(0, frames, true);
    dv.setUint32(4, usecs, true);
    return this.#command(Q.CTRL_NOTF_COAL, Q.CTRL_NOTF_COAL_RX_SET, data);
  }
}
