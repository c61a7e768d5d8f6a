/**
 * The composition root: the only file that sees all rooms. Wires ports, cards, drivers and one stack together from a
 * configuration, and runs the one loop:
 *
 *   ports -> firmware.step(now) -> driver.poll(budget) -> stack.run(now) -> firmware.step(now), to send what was queued
 *
 * then again while there is work, then sleep until the earliest deadline or until a port or a socket wakes it. The clock
 * is read once a turn. User code gets the event loop between two turns. In virtual time (simulation.ts) the same turns
 * run on a clock that jumps.
 */

import type { ApplianceConfig, CardConfig, RouteConfig } from './appliance-config.js';
import { Catalog, type Found } from './bundles/catalog.js';
import { BundleError } from './bundles/error.js';
import { timeGuard } from './bundles/guard.js';
import { compileBpf, fileSinks } from './bundles/host.js';
import { type PlanStep, planKexts } from './bundles/plan.js';
import { shippedManifests } from './bundles/shipped.js';
import { Driver, type WakePattern } from './driver/driver.js';
import { ringBytes } from './driver/rings.js';
import { scratchBytes } from './firmware/card.js';
import { Firmware } from './firmware/firmware.js';
import { NanoCoalescingTimer } from './firmware/nano-timer.js';
import type { PowerState } from './firmware/power.js';
import { crc32c } from './nic/crc32c.js';
import { native } from './nic/native.js';
import { CapturePort } from './nic/ports/capture.js';
import { FaultPort } from './nic/ports/faults.js';
import { createPort, Wires } from './nic/ports/open.js';
import { Memory, type Port } from './nic/ports/port.js';
import type { PortQueue } from './nic/ports/share.js';
import { CARD_SETTINGS, type CardSetting, REGISTERS } from './nic/registers.js';
import { type Clock, type Nanos, type Random, SeededRandom } from './stack/kern/clock.js';
import { EBUSY, EIO, errnoName } from './stack/kern/errno.js';
import type { KextResult, LoadOptions, UnloadOptions } from './stack/kern/kext.js';
import type { HostServices } from './stack/kern/kpi.js';
import { DEFAULT_POOL, MbufPool, type MbufPoolSizes } from './stack/kern/mbuf.js';
import type { Socket } from './stack/kern/socket.js';
import type { Steering } from './stack/kern/steering.js';
import { SCTP_KEXT, type SctpKext } from './stack/kexts/SCTP.kext/index.js';
import { IFF_UP, type Ifnet } from './stack/net/ifnet.js';
import { InAddr } from './stack/netinet/in.js';
import { SO_LINGER, SOL_SOCKET } from './stack/sctp/api.js';
import { Stack } from './stack/stack.js';
import { HostClock, LiveClock, SystemRandom, systemNow } from './system.js';

export type { ApplianceConfig, CardConfig, FaultConfig, KextConfig, RouteConfig } from './appliance-config.js';
export { SystemRandom, systemNow };

export interface ApplianceOptions {
  /** Cables shared with other appliances of this process; own ones by default. */
  readonly wires?: Wires;
  /** What cables are like (train size, queue), for ports "wire:NAME". */
  readonly wire?: {
    readonly train?: number;
    readonly slots?: number;
    readonly bytes?: number;
    readonly speed?: number;
  };
  /** A clock that somebody else sets, who then calls `turn`: no loop runs. By default the machine's clock and a loop. */
  readonly clock?: Clock;
  readonly random?: Random;
  /** One of several appliances that are one host, each with a receive queue of its cards (workers.ts): which one. */
  readonly steering?: Steering;
  /** The queues that this one's ports use in place of opening their media, in the order of the cards. */
  readonly queues?: readonly (PortQueue | undefined)[];
}

/** The processor's instruction where the C module is there, else tables. */
const fastCrc32c =
  native === undefined
    ? crc32c
    : (u8: Uint8Array, off: number, len: number): number => native!.crc32c(u8, off, len) >>> 0;

/** Could not be done as asked; the message says what to do. `code` is an errno name. */
export class ApplianceError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = 'ApplianceError';
    this.code = code;
  }
}

// Cards

/** A card in its slot: the port it is plugged into, its firmware, its driver. */
export interface Card {
  readonly name: string;
  /** The port as it was asked for. */
  readonly spec: string;
  readonly port: Port;
  readonly firmware: Firmware;
  readonly driver: Driver;
  readonly ifp: Ifnet;
}

/** Frames of one step of a card, and rounds of a turn: what a turn may cost before user code gets its chance. */
const BUDGET = 512;
const ROUNDS = 8;
/** After the last work the loop looks on for so long before it sleeps: going to sleep and waking cost more than that. */
const LINGER = 50_000;
/** How long busy polling stays in one turn of the event loop while nothing comes, ns. */
const SPIN = 50_000;
/** No timer of the event loop is finer than this. */
const MILLISECOND = 1e6;

const align = (n: number) => (n + 63) & ~63;

/** The port of a card with its decorators, not yet open. Throws PortError. */
function makePort(
  card: CardConfig,
  index: number,
  options: ApplianceOptions,
  wires: Wires,
  now: Nanos,
  mac?: Uint8Array,
): Port {
  // Flipped bits must meet the card's own checksum, not be covered by one that the port computes below them.
  const udp = (card.faults?.corrupt ?? 0) > 0 ? { sctpCrc: false } : {};
  // A port on a real interface lets in what is the card's and leaves the rest to the host.
  const own = { mac, addresses: card.addresses };
  const queue = options.queues?.[index];
  let port = createPort(card.port, { mtu: card.mtu, wires, wire: options.wire, udp, packet: own, xdp: own, queue });
  if (card.faults !== undefined) {
    const { seed = 1, delay = 0, jitter = 0, reorderDelay = 1000, ...rest } = card.faults;
    port = new FaultPort(port, new SeededRandom(seed), {
      ...rest,
      delay: delay * 1000,
      jitter: jitter * 1000,
      reorderDelay: reorderDelay * 1000,
    });
  }
  if (card.capture !== undefined) {
    const epoch = BigInt(Date.now()) * 1_000_000n - BigInt(Math.round(now));
    port = new CapturePort(port, {
      to: card.capture,
      epochSeconds: Number(epoch / 1_000_000_000n),
      epochNanos: Number(epoch % 1_000_000_000n),
    });
  }
  return port;
}

/** "ADDRESS/PREFIX". Throws ApplianceError. */
function parsePrefix(text: string): { addr: InAddr; prefix: number } {
  const [address = '', bits] = text.split('/');
  const addr = InAddr.parse(address);
  const whole = addr?.family === 4 ? 32 : 128;
  const prefix = bits === undefined ? whole : /^\d{1,3}$/.test(bits) ? Number(bits) : -1;
  if (addr === undefined || prefix < 0 || prefix > whole)
    throw new ApplianceError('EINVAL', `"${text}" is not ADDRESS/PREFIX, such as 192.0.2.1/24 or fd00::1/64`);
  return { addr, prefix };
}

/** The address of a udp or raw card: the port's, with the prefix of a usual network. */
function ownAddress(address: string): string {
  if (address.includes(':')) return `${address}/64`;
  return address.startsWith('127.') ? `${address}/8` : `${address}/24`;
}

const parseMac = (text: string): Uint8Array => Uint8Array.from(text.split(':'), x => Number.parseInt(x, 16));

/** The card's own address: as configured; else one is drawn here, locally administered, if its port must know it. */
function cardMac(config: CardConfig, random: Random): Uint8Array | undefined {
  if (config.mac !== undefined) return parseMac(config.mac);
  if (!/^(packet|xdp):/.test(config.port)) return undefined;
  const mac = new Uint8Array(6);
  random.fill(mac);
  mac[0] = (mac[0]! & 0xfc) | 2;
  return mac;
}

/** The address that a udp or raw port is bound to, and a udp port's number. */
function portAddress(spec: string): { address: string; udpPort: number } | undefined {
  const m = /^udp:(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(spec);
  if (m !== null) return { address: m[1] ?? m[2]!, udpPort: Number(m[3]) };
  return spec.startsWith('raw:') ? { address: spec.slice(4), udpPort: 0 } : undefined;
}

export class Appliance {
  readonly name: string;
  readonly stack: Stack;
  readonly cards: readonly Card[] = [];
  readonly clock: Clock;
  readonly busyPoll: boolean;
  /** Set when this appliance runs its own loop. */
  readonly #live: LiveClock | undefined;
  /** The UDP port that SCTP's packets travel in (RFC 6951), 0 = none of the cards is a udp one. */
  #udpPort = 0;
  #closed = false;
  #turning = false;
  #lastWork: Nanos = 0;
  #again = false;
  #armed = false;
  #immediate: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #sockets = new Set<Socket>();
  readonly #catalog: Catalog;
  /** The stack's time, which stands still while the appliance sleeps. */
  readonly #hostClock: HostClock;
  /** Bundles by their loaded extension's identifier. */
  readonly #bundles = new Map<string, Found>();
  #sweepAt = 64;
  readonly #wake = (): void => this.kick();
  readonly #run = (): void => {
    this.#immediate = undefined;
    this.#loop();
  };

  /**
   * Makes an appliance and brings it up. Throws PortError, ProbeError or ApplianceError with a sentence that says what to
   * do; nothing half set up is left behind then.
   */
  static create(config: ApplianceConfig, options: ApplianceOptions = {}): Appliance {
    return new Appliance(config, options);
  }

  private constructor(config: ApplianceConfig, options: ApplianceOptions) {
    this.name = config.name ?? 'nke';
    this.busyPoll = config.busyPoll === true;
    this.#live = options.clock === undefined ? new LiveClock() : undefined;
    this.clock = options.clock ?? this.#live!;
    const random = options.random ?? new SystemRandom();
    const wires = options.wires ?? new Wires();
    this.#catalog = kextCatalog(config);
    const steps = planned(config, this.#catalog);
    const macs = config.cards.map(c => cardMac(c, random));
    const ports = config.cards.map((c, i) => makePort(c, i, options, wires, this.clock.now, macs[i]));
    const sizes = poolSizes(config, ports);
    const poolBytes = align(MbufPool.bytes(sizes));
    const cardBytes = ports.map(p => align(ringBytes()) + align(scratchBytes(p)));
    const bytes = cardBytes.reduce((a, b) => a + b, poolBytes);
    // In huge pages for one that runs: small ones cost more walks of the page table than the packets' bytes cost copies.
    const memory = new Memory(native?.allocate(bytes, false, this.#live !== undefined) ?? new ArrayBuffer(bytes));
    this.#hostClock = new HostClock(this.clock);
    const pool = new MbufPool(sizes, memory.buffer);
    this.stack = new Stack({ clock: this.#hostClock, random, pool, kick: this.#wake, steering: options.steering });
    this.stack.kexts.guard = timeGuard();
    Object.assign(this.stack.host, this.#hostServices(config));
    try {
      let at = poolBytes;
      for (const [i, port] of ports.entries()) {
        this.#addCard(config.cards[i]!, i, port, memory, at, macs[i]);
        at += cardBytes[i]!;
      }
      // A start that goes on tells its end by an event: kext-loaded or kext-failed.
      for (const step of steps)
        this.#loaded(
          step.found,
          this.stack.kexts.load(step.make(), { params: step.params, where: step.on, settled: () => {} }),
        );
      for (const [name, value] of Object.entries(config.sysctl ?? {})) this.#sysctl(name, value);
      for (const [i, card] of config.cards.entries()) if (card.up !== false) this.up(this.cards[i]!.name, true);
      for (const route of config.routes ?? []) this.#addRoute(route);
    } catch (e) {
      this.#release();
      throw e;
    }
    this.kick();
  }

  /** What extensions may have of the machine: a folder for logs if one is named, filter expressions, the time since 1970. */
  #hostServices(config: ApplianceConfig): HostServices {
    const epoch = BigInt(Date.now()) * 1_000_000n - BigInt(Math.round(this.clock.now));
    return {
      ...(config.kextLogs === undefined ? {} : { sink: fileSinks(config.kextLogs) }),
      compileBpf,
      epoch: { seconds: Number(epoch / 1_000_000_000n), nanos: Number(epoch % 1_000_000_000n) },
      hostname: this.name,
    };
  }

  #addCard(config: CardConfig, index: number, port: Port, memory: Memory, at: number, mac?: Uint8Array): void {
    const name = config.name ?? `nke${index}`;
    const moderated = (config.moderation?.usecs ?? 0) > 0;
    const firmware = new Firmware({
      memory,
      port,
      scratchOffset: at + align(ringBytes()),
      random: this.stack.random,
      ...(mac === undefined ? {} : { mac }),
      ...(moderated && this.#live !== undefined ? { newTimer: () => new NanoCoalescingTimer() } : {}),
      wake: this.#wake,
      onHostAddresses: (added, removed) => {
        const ifp = this.cards.find(c => c.name === name)?.ifp;
        for (const address of removed) ifp?.event({ kind: 'host-address-removed', ifname: name, address });
        for (const address of added) ifp?.event({ kind: 'host-address-added', ifname: name, address });
      },
    });
    try {
      firmware.powerOn();
      const driver = new Driver({
        name,
        bar: firmware.bar,
        pool: this.stack.pool,
        ringOffset: at,
        wake: this.#wake,
        onPme: reason => this.#woken(reason),
      });
      for (const [setting, value] of Object.entries(config.settings ?? {}))
        this.#set(name, driver, setting as CardSetting, value);
      const { ifp } = driver;
      if (this.stack.interfaces.attach(ifp) < 0)
        throw new ApplianceError('EEXIST', `there is an interface ${name} already; give each card its own name`);
      (this.cards as Card[]).push({ name, spec: config.port, port, firmware, driver, ifp });
      if (moderated) driver.setCoalesce(config.moderation!.usecs!, config.moderation!.frames ?? 0);
      this.stack.counters.add(`port.${name}`, port.counters);
      this.stack.counters.add(`card.${name}`, firmware.counters);
      this.stack.counters.add(`driver.${name}`, driver.counters as unknown as Record<string, number>);
      this.#address(config, ifp, port);
    } catch (e) {
      firmware.close();
      throw e;
    }
  }

  /** Gives a card its addresses. A udp card takes the address that its socket is bound to: it can send from no other. */
  #address(config: CardConfig, ifp: Ifnet, port: Port): void {
    const own = portAddress(config.port);
    if (own !== undefined && port.capabilities.carries === 'udp') {
      const bound = 'port' in port && typeof port.port === 'number' ? port.port : own.udpPort;
      if (this.#udpPort !== 0 && this.#udpPort !== bound)
        throw new ApplianceError(
          'EINVAL',
          `udp cards of one appliance share one UDP port (RFC 6951): ${config.port} does not have port ${this.#udpPort}`,
        );
      this.#udpPort = bound;
    }
    const given = config.addresses ?? (own === undefined ? [] : [ownAddress(own.address)]);
    for (const text of given) {
      const { addr, prefix } = parsePrefix(text);
      // A medium that is the machine's own loopback: its peers may have any loopback address, also those of our lo0.
      if (addr.isLoopback) this.#yieldLoopback(addr.family);
      const e = this.stack.interfaces.addAddress(ifp, addr, prefix);
      if (e < 0)
        throw new ApplianceError(
          errnoName(e),
          `${ifp.name} cannot have the address ${text} (${errnoName(e)}): give a host's own address that no other card has`,
        );
      if (config.addresses === undefined) this.#defaultRoute(ifp, addr);
    }
  }

  /** The machine's own routes lead on from a udp or raw port: everything is reached through it, unless told otherwise. */
  #defaultRoute(ifp: Ifnet, addr: InAddr): void {
    if (!addr.isLoopback) this.stack.routes.add(new InAddr(addr.family), 0, undefined, ifp, addr);
  }

  #yieldLoopback(family: 4 | 6): void {
    const lo = this.stack.loopback.ifp;
    for (const { addr } of [...lo.addresses]) if (addr.family === family) this.stack.interfaces.removeAddress(lo, addr);
  }

  #addRoute(route: RouteConfig): void {
    const { addr, prefix } = parsePrefix(route.destination);
    const gateway = route.gateway === undefined ? undefined : InAddr.parse(route.gateway);
    const e = this.stack.routes.add(addr, prefix, gateway, this.card(route.card).ifp);
    if (e < 0)
      throw new ApplianceError(
        errnoName(e),
        `the route to ${route.destination} cannot be added (${errnoName(e)}): its gateway must be on a link of ${route.card}, and it must not be there already`,
      );
  }

  #sysctl(name: string, value: number | string): void {
    const e = this.stack.sysctl.set(name, value);
    if (e < 0) throw new ApplianceError(errnoName(e), sysctlProblem(this.stack, name, value, e));
  }

  // What programs use

  /** socket(2): a socket, or -EPROTONOSUPPORT (its extension is not loaded), or another -errno. */
  socket(domain: number, type: number, protocol: number): Socket | number {
    const so = this.stack.socket(domain, type, protocol);
    return typeof so === 'number' ? so : this.#track(so);
  }

  /** Remembers an open socket, and those that it will accept, so that `close` can end them. */
  #track(so: Socket): Socket {
    // What has been closed is swept out whenever the set has doubled.
    if (this.#sockets.size >= this.#sweepAt) {
      for (const s of this.#sockets) if (s.closed) this.#sockets.delete(s);
      this.#sweepAt = Math.max(64, 2 * this.#sockets.size);
    }
    this.#sockets.add(so);
    const accept = so.accept;
    so.accept = () => {
      const made = accept.call(so);
      return typeof made === 'number' ? made : this.#track(made);
    };
    return so;
  }

  /** Asks for a turn soon: a socket call has made work, a port is ready, a doorbell rang. Many calls cost one turn. */
  kick(): void {
    if (this.#turning) {
      this.#again = true;
      return;
    }
    const live = this.#live;
    if (live === undefined || this.#closed || this.#immediate !== undefined) return;
    if (live.asleep) {
      live.asleep = false;
      live.now = systemNow();
    }
    this.#immediate = setImmediate(this.#run);
  }

  // The loop

  /**
   * One turn at the clock's present time. Returns true when something was done, so that another turn may find more. Whoever
   * owns the clock sets it before.
   */
  turn(): boolean {
    const { now } = this.clock;
    const { stack } = this;
    this.#turning = true;
    this.#again = false;
    let work = 0;
    let due = false;
    try {
      const { cards } = this;
      for (let i = 0; i < cards.length; i++) {
        const c = cards[i]!;
        work += c.firmware.step(now, BUDGET);
        work += c.driver.poll(BUDGET);
      }
      // (a card may just have woken the host: its time is read here)
      const hostNow = this.#hostClock.now;
      due = stack.deadline() <= hostNow;
      stack.run(hostNow);
      for (let i = 0; i < cards.length; i++) work += cards[i]!.firmware.step(now, BUDGET);
    } finally {
      // An upcall of a program may throw; the loop must not take itself for busy ever after.
      this.#turning = false;
    }
    return work > 0 || due || this.#again;
  }

  /** When the next turn is needed even if nothing arrives: <= now for "at once", Infinity for never. */
  deadline(): Nanos {
    let at = this.#hostClock.below(this.stack.deadline());
    for (let i = 0; i < this.cards.length; i++) {
      const c = this.cards[i]!;
      if (c.driver.pending()) return 0;
      const d = c.firmware.deadline();
      if (d < at) at = d;
    }
    return at;
  }

  #loop(): void {
    const live = this.#live;
    if (this.#closed || live === undefined) return;
    live.asleep = false;
    this.#disarm();
    let worked = false;
    let rounds = ROUNDS;
    // Busy polling, and every loop soon after work, looks again without a round of the event loop, for as long as it has found
    // nothing: promises that the first find has settled must not wait.
    const start = systemNow();
    let until = this.busyPoll || start - this.#lastWork < LINGER ? start + SPIN : 0;
    do {
      live.now = systemNow();
      worked = this.turn();
      if (worked) {
        rounds--;
        until = 0;
      }
    } while (!this.#closed && (worked ? rounds > 0 : live.now < until));
    if (this.#closed || this.#immediate !== undefined) return;
    const now = systemNow();
    if (worked) this.#lastWork = now;
    const wait = worked || this.busyPoll || now - this.#lastWork < LINGER ? 0 : this.deadline() - now;
    // Below a millisecond the event loop's timers are too coarse: look again with its next turn.
    if (wait < MILLISECOND) {
      this.#immediate = setImmediate(this.#run);
      return;
    }
    live.asleep = true;
    this.#arm();
    if (wait < Number.POSITIVE_INFINITY) {
      // Ports keep the process alive, not timers: an appliance that is only waiting may be left by closing its ports.
      this.#timer = setTimeout(this.#run, Math.min(wait / MILLISECOND, 0x7fffffff));
      // (but for a card that does not listen to its port for the moment)
      if (!this.cards.some(c => c.firmware.holdsBack)) this.#timer.unref();
    }
  }

  #arm(): void {
    this.#armed = true;
    for (const c of this.cards) c.firmware.arm(this.#wake);
  }
  #disarm(): void {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    }
    if (!this.#armed) return;
    this.#armed = false;
    for (const c of this.cards) c.firmware.disarm();
  }

  // What an operator does

  /** A card by name. Throws ApplianceError. */
  card(name: string): Card {
    const card = this.cards.find(c => c.name === name);
    if (card === undefined)
      throw new ApplianceError(
        'ENOENT',
        `there is no card "${name}"; the cards are ${this.cards.map(c => c.name).join(', ') || '(none)'}`,
      );
    return card;
  }

  /** Brings a card's interface up or down. Throws ApplianceError. */
  up(name: string, up: boolean): void {
    const { driver, ifp } = this.card(name);
    if (((ifp.flags & IFF_UP) !== 0) === up) return;
    if (up && driver.power === 'D0' && this.#udpPort !== 0) driver.setSctpUdpPorts([this.#udpPort]);
    const e = this.stack.interfaces.setUp(ifp, up);
    if (e < 0)
      throw new ApplianceError(
        errnoName(e),
        `${name} cannot be brought ${up ? 'up' : 'down'} (${errnoName(e)}); its power state is ${this.powerState(name)}`,
      );
    this.kick();
  }

  /** Plugs a card's cable in or pulls it. Throws ApplianceError. */
  link(name: string, plugged: boolean): void {
    const card = this.card(name);
    if (this.powerState(name) !== 'D0')
      throw new ApplianceError(
        'EBUSY',
        `${name} is in ${this.powerState(name)}: power it up first (nke power ${name} D0)`,
      );
    card.driver.setCable(plugged);
    this.kick();
  }

  powerState(name: string): PowerState {
    const { firmware, driver } = this.card(name);
    return firmware.power === 'D3cold' ? 'D3cold' : driver.power;
  }

  /** Puts a card into a power state; from D3cold through a boot. Throws ApplianceError for what PCI PM does not allow. */
  power(name: string, state: PowerState, reason = 'asked for', wake = 0): void {
    const { firmware, driver } = this.card(name);
    const from = this.powerState(name);
    if (from === state) return;
    if (state === 'D0') {
      firmware.powerOn();
      if (this.#udpPort !== 0 && from === 'D3cold') driver.setSctpUdpPorts([this.#udpPort]);
    }
    const e = driver.setPower(state, reason, wake);
    if (e < 0)
      throw new ApplianceError(
        errnoName(e),
        e === -EIO
          ? `${name} does not come up in ${state}: its self test says "${firmware.selfTest}"; power it off and on again`
          : `${name} cannot go from ${from} to ${state} (PCI PM 1.2 §5.4): go to D0 first`,
      );
    if (state === 'D3cold') firmware.powerOff();
    if (state === 'D0' && from !== 'D3cold' && this.#udpPort !== 0) driver.setSctpUdpPorts([this.#udpPort]);
    this.kick();
  }

  get asleep(): boolean {
    return this.#hostClock.asleep;
  }
  /**
   * System sleep: protocols are told ('sleep'), every card goes to D3hot, and the stack's time stands still until `wake`. With
   * `wake` (WAKE_* bits) cards may wake the appliance by themselves; `patterns` are what WAKE_PATTERN looks for. Throws
   * ApplianceError.
   */
  sleep(reason = 'asked for', wake = 0, patterns: readonly WakePattern[] = []): void {
    if (this.asleep) return;
    const cards = this.cards.filter(c => this.powerState(c.name) === 'D0');
    for (const c of cards)
      if (c.driver.setWakePatterns(patterns) < 0)
        throw new ApplianceError('EINVAL', 'a card takes 8 wake patterns of 1 to 64 bytes, at offsets up to 65535');
    // Told while the links are still up: that they go down now is nobody's failure.
    this.stack.interfaces.announce({ kind: 'sleep', reason });
    if (!this.#turning) this.turn();
    this.#hostClock.sleep();
    for (const c of cards) this.power(c.name, 'D3hot', reason, wake);
  }
  /** System wake: time goes on, cards come up, protocols are told ('wake'). Throws ApplianceError for a card that stays away. */
  wake(reason = 'asked for'): void {
    const slept = this.#hostClock.wake();
    let failure: unknown;
    for (const c of this.cards) {
      try {
        this.power(c.name, 'D0', reason);
      } catch (e) {
        failure ??= e; // the others wake all the same
      }
    }
    this.stack.interfaces.announce({ kind: 'wake', reason, slept });
    this.kick();
    if (failure !== undefined) throw failure;
  }
  /** A card asks to be woken. True when that wakes the whole appliance. */
  #woken(reason: string): boolean {
    if (!this.asleep) return false;
    try {
      this.wake(reason);
    } catch (e) {
      // The card's own events have said why; there is nobody here to be told.
      if (!(e instanceof ApplianceError)) throw e;
    }
    return true;
  }

  /** Sets one of a card's settings (CARD_SETTINGS). Throws ApplianceError. */
  setting(name: string, setting: CardSetting, value: number): void {
    this.#set(name, this.card(name).driver, setting, value);
    this.kick();
  }
  #set(name: string, driver: Driver, setting: CardSetting, value: number): void {
    const row = REGISTERS.find(r => r.name === setting);
    if (row === undefined || !CARD_SETTINGS.includes(setting))
      throw new ApplianceError('ENOENT', `${name} has no setting "${setting}"; it has ${CARD_SETTINGS.join(', ')}`);
    if (!Number.isInteger(value) || value < -0x80000000 || value > 0xffffffff)
      throw new ApplianceError('EINVAL', `${setting} cannot be ${value}: give a whole number of 32 bits`);
    if (driver.setSetting(setting, value) < 0)
      throw new ApplianceError('EBUSY', `${name} is in ${driver.power}: power it up first (nke power ${name} D0)`);
    if (setting.startsWith('link_')) driver.restartLink();
  }
  /** Heats or cools a card to so many °C. Throws ApplianceError. */
  temperature(name: string, celsius: number): void {
    if (!(celsius >= -273.15 && celsius <= 1000))
      throw new ApplianceError('EINVAL', `${celsius} °C is no temperature of a card; give -273 to 1000`);
    this.card(name).firmware.setTemperature(celsius);
    this.kick();
  }

  /** Names that kextload takes, with what they are; besides these, paths of bundles. */
  static kextNames(): readonly { readonly name: string; readonly identifier: string; readonly about: string }[] {
    return shippedManifests().map(({ name, manifest }) => ({
      name,
      identifier: manifest.identifier,
      about: manifest.about ?? manifest.kind,
    }));
  }
  /** What a name, an identifier or the path of a bundle means; its manifest. Throws ApplianceError. */
  kextfind(name: string): Found {
    return bundleErrors(() => this.#catalog.find(name));
  }
  /** Where a loaded extension came from: its bundle's folder, and who signed it. Undefined for what ships with nke. */
  kextorigin(identifier: string): { readonly path: string; readonly signed: string } | undefined {
    const found = this.#bundles.get(identifier);
    return found?.path === undefined ? undefined : { path: found.path, signed: found.signed };
  }

  /**
   * Loads an extension by name ("SCTP"), identifier or bundle's path, its dependencies first. Throws ApplianceError; then
   * nothing of it is left. An extension whose start is asynchronous is refused: see kextloadAsync.
   */
  kextload(name: string, options: Omit<LoadOptions, 'settled'> = {}): void {
    const found = this.kextfind(name);
    this.#loaded(
      found,
      this.stack.kexts.load(
        bundleErrors(() => found.make()),
        options,
      ),
    );
  }
  /** The same, and waits for a start that is asynchronous. Rejects with ApplianceError. */
  async kextloadAsync(name: string, options: Omit<LoadOptions, 'settled'> = {}): Promise<void> {
    const found = this.kextfind(name);
    const kext = bundleErrors(() => found.make());
    this.#loaded(found, await this.#settle(settled => this.stack.kexts.load(kext, { ...options, settled })));
  }
  #loaded(found: Found, result: KextResult): void {
    if (!result.ok) throw new ApplianceError(errnoName(result.errno), result.reason);
    const { identifier } = found.manifest;
    this.#bundles.set(identifier, found);
    // The cards' UDP port is the one that SCTP's packets leave from and are taken from (RFC 6951 §5.1).
    if (identifier === SCTP_KEXT && this.#udpPort !== 0)
      this.#sysctl('net.inet.sctp.udp_tunneling_port', this.#udpPort);
    this.kick();
  }
  /** Waits for a loader's call that may go on: gives its last result. */
  #settle(call: (settled: (r: KextResult) => void) => KextResult): Promise<KextResult> {
    return new Promise((resolve, reject) => {
      try {
        const result = call(resolve);
        if (!result.ok || result.pending !== true) resolve(result);
      } catch (e) {
        reject(e);
      }
      this.kick();
    });
  }

  /** Unloads an extension. Throws ApplianceError, code EBUSY with the names of what holds it. */
  kextunload(name: string): void {
    const identifier = this.#identifier(name);
    this.#unloaded(identifier, this.stack.kexts.unload(identifier));
  }
  /**
   * Unloads an extension when nothing holds it any more, within `wait` nanoseconds; with `drain` new users are refused and
   * those that are there asked to end. Rejects with ApplianceError when the time is over; it then stays loaded.
   */
  async kextunloadAsync(name: string, options: Omit<UnloadOptions, 'settled'> = {}): Promise<readonly string[]> {
    const identifier = this.#identifier(name);
    const result = await this.#settle(settled => this.stack.kexts.unload(identifier, { ...options, settled }));
    return this.#unloaded(identifier, result);
  }
  #unloaded(identifier: string, result: KextResult): readonly string[] {
    if (!result.ok) {
      const hint = result.errno === EBUSY && result.holders.length > 0 ? '; close these first' : '';
      throw new ApplianceError(errnoName(result.errno), `${result.reason}${hint}`);
    }
    this.#bundles.delete(identifier);
    return result.notes ?? [];
  }

  /** Puts another version of a loaded extension in its place, between two frames. Rejects with ApplianceError. */
  async kextreplace(name: string, options: Omit<LoadOptions, 'settled'> = {}): Promise<readonly string[]> {
    const found = this.kextfind(name);
    const kext = bundleErrors(() => found.make());
    const result = await this.#settle(settled => this.stack.kexts.replace(kext, { ...options, settled }));
    if (!result.ok) throw new ApplianceError(errnoName(result.errno), result.reason);
    this.#bundles.set(found.manifest.identifier, found);
    return result.notes ?? [];
  }

  /** The identifier of a loaded extension, by identifier, name, or its bundle's name or path. Throws ApplianceError. */
  #identifier(name: string): string {
    if (this.stack.kexts.get(name) !== undefined) return name;
    const plain = name.replace(/\/+$/, '');
    for (const [identifier, found] of this.#bundles)
      if ([found.name, found.name.replace(/\.kext$/, ''), found.path].includes(plain)) return identifier;
    const shipped = shippedManifests().find(s => s.name === plain.replace(/\.kext$/, ''));
    return shipped?.manifest.identifier ?? this.kextfind(name).manifest.identifier;
  }

  /** SCTP's extension, if it is loaded: its associations, paths and listeners. */
  sctp(): SctpKext | undefined {
    return this.stack.kexts.get(SCTP_KEXT) as SctpKext | undefined;
  }

  /** A copy of every counter of every layer, by group. */
  counters(): Record<string, Record<string, number>> {
    const out: Record<string, Record<string, number>> = {};
    for (const group of this.stack.counters.names()) {
      const record = this.stack.counters.group(group)!;
      const copy: Record<string, number> = (out[group] = {});
      // for-in, not Object.entries: a decorated port's counters stand on those of the port below it.
      for (const name in record) copy[name] = record[name]!;
    }
    return out;
  }

  /**
   * Ends everything: open sockets are aborted, associations that are shutting down get `graceMs` to finish, extensions are
   * unloaded, cards and ports closed, timers cleared. Every mbuf is then back in the pool. May be called twice.
   */
  async close(graceMs = 500): Promise<void> {
    if (!this.#closed) {
      this.#abortSockets();
      const end = systemNow() + graceMs * 1e6;
      while (this.#live !== undefined && this.#held() && systemNow() < end)
        await new Promise<void>(resolve => setTimeout(resolve, 5));
    }
    if (!this.#closed) this.#release();
    // Handles of the event loop (polls, sockets) are gone one turn after they have been closed.
    await new Promise<void>(resolve => setImmediate(resolve));
  }

  #held(): boolean {
    return this.stack.kexts.list().some(k => k.holders.length > 0);
  }

  /** Ends every open socket at once: an association by ABORT (SO_LINGER of zero, RFC 6458 §8.1.4). */
  #abortSockets(): void {
    for (const so of this.#sockets) {
      if (so.closed) continue;
      so.setsockopt(SOL_SOCKET, SO_LINGER, { onoff: true, linger: 0 });
      so.close();
    }
    this.#sockets.clear();
    if (!this.#turning) this.turn();
  }

  #release(): void {
    if (this.#live !== undefined) {
      this.#live.asleep = false;
      this.#live.now = systemNow();
    }
    // What is still shutting down with a peer that does not answer gets its ABORT now.
    this.sctp()?.abortAll('the appliance was closed');
    this.stack.protocols.flush();
    this.stack.kexts.unloadAll();
    this.#bundles.clear();
    this.#closed = true;
    if (this.#immediate !== undefined) clearImmediate(this.#immediate);
    this.#immediate = undefined;
    this.#disarm();
    for (const c of [...this.cards].reverse()) {
      this.stack.interfaces.detach(c.ifp);
      c.firmware.close();
    }
    this.stack.drain();
  }
}

/** The catalog of a configuration. Throws ApplianceError for a key that is none. */
function kextCatalog(config: ApplianceConfig): Catalog {
  return bundleErrors(
    () =>
      new Catalog({
        machine: { crc32c: fastCrc32c },
        path: config.kextPath,
        trust: config.kextTrust,
        allowUnsigned: config.allowUnsignedKexts,
      }),
  );
}

/** What is to be loaded at start, all of it checked. Throws ApplianceError that names the entry. */
function planned(config: ApplianceConfig, catalog: Catalog): readonly PlanStep[] {
  const interfaces = ['lo0', ...config.cards.map((c, i) => c.name ?? `nke${i}`)];
  const plan = planKexts(config.kexts ?? [], catalog, interfaces);
  if ('steps' in plan) return plan.steps;
  const first = plan.complaints[0]!;
  throw new ApplianceError('EINVAL', `kexts${first.pointer}: ${first.text}`);
}

/** Turns what is wrong with a bundle into the appliance's error. */
function bundleErrors<T>(body: () => T): T {
  try {
    return body();
  } catch (e) {
    if (e instanceof BundleError) throw new ApplianceError(e.code, e.message);
    throw e;
  }
}

/** Why a sysctl could not be set. */
export function sysctlProblem(stack: Stack, name: string, value: number | string, e: number): string {
  const entry = stack.sysctl.list(name)[0];
  if (entry === undefined || entry.name !== name)
    return `there is no sysctl ${name}; list them with: nke sysctl${name.startsWith('net.inet.sctp') ? ' (SCTP.kext brings net.inet.sctp.*: load it first)' : ''}`;
  if (!entry.writable) return `${name} is read only`;
  const range =
    entry.min === undefined
      ? ''
      : `; allowed: ${entry.min} to ${entry.max}${entry.unit === undefined ? '' : ` ${entry.unit}`}`;
  return `${name} cannot be ${value} (${errnoName(e)})${range}`;
}

/** Pool sizes: as configured, with enough jumbos for every card that receives trains. */
function poolSizes(config: ApplianceConfig, ports: readonly Port[]): MbufPoolSizes {
  const trains = ports.filter(p => p.capabilities.train > 0 || p.capabilities.mtu > 1900).length;
  return {
    ...DEFAULT_POOL,
    jumbo: Math.max(DEFAULT_POOL.jumbo, 128 + 96 * trains),
    cluster: DEFAULT_POOL.cluster + 512 * ports.length,
    ...config.pool,
  };
}
