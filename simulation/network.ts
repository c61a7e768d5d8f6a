/**
 * A network described as data: hosts with their cards, and links with rate, delay, queue, loss, duplication, reordering,
 * corruption and path MTU, each direction on its own and to be changed while it runs. All in virtual time: the same
 * description and seed give the same bytes at the same times.
 *
 * ```ts
 * const net = new Network({
 *   seed: 7,
 *   hosts: {
 *     a: { cards: [{ addresses: ['10.0.0.1/24'] }] },
 *     b: { cards: [{ addresses: ['10.0.0.2/24'] }] },
 *   },
 *   links: {
 *     wan: {
 *       ends: ['a', 'b'],
 *       rate: 100e6, // bits a second
 *       delay: 25e6, // nanoseconds, one way
 *       queueBytes: 625_000,
 *       loss: 0.001,
 *       towards: { a: { loss: 0 } }, // acknowledgements are not lost
 *     },
 *   },
 *   events: [
 *     { at: 10e9, link: 'wan', set: { loss: 0.01 } },
 *     { at: 20e9, link: 'wan', cable: false },
 *     { at: 21e9, link: 'wan', cable: true },
 *   ],
 * });
 * const server = net.host('b').socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP) as Socket;
 * ...
 * net.run(() => done);
 * await net.close();
 * ```
 */

import type { Appliance, CardConfig, FaultConfig, RouteConfig } from '../appliance.js';
import { type FaultOptions, FaultPort } from '../nic/ports/faults.js';
import { Wires } from '../nic/ports/open.js';
import type { Port } from '../nic/ports/port.js';
import type { WireOptions, WirePort } from '../nic/ports/wire.js';
import { type Nanos, SeededRandom } from '../stack/kern/clock.js';
import { type RunLimits, Simulation } from './simulation.js';
import { Switch } from './switch.js';

/** A card of a host: what CardConfig says of it, but the port and its decorators, which are the link's affair. */
export type CardDescription = Pick<CardConfig, 'name' | 'addresses' | 'mtu' | 'mac' | 'up' | 'moderation'>;

export interface HostDescription {
  readonly cards: readonly CardDescription[];
  /** Extensions to load, default SCTP. */
  readonly kexts?: readonly string[];
  readonly routes?: readonly RouteConfig[];
  readonly sysctl?: Readonly<Record<string, number>>;
}

/**
 * A link: a cable between two cards, or a segment with a learning switch between more. Its faults (times in ns, the rate in
 * bits of Ethernet frames a second) hold for each direction by itself. A direction is named by the end it leads to; every
 * frame passes the faults towards the end that gets it, exactly once.
 */
export interface LinkDescription extends FaultOptions {
  /** "HOST/CARD", or "HOST" when that host has one card. */
  readonly ends: readonly string[];
  /** What is different in the direction towards an end. */
  readonly towards?: Readonly<Record<string, FaultOptions>>;
}

/** A change while the network runs, so many ns after its start. */
export type NetworkEvent = { readonly at: Nanos; readonly link: string; readonly towards?: string } & (
  | { readonly set: FaultOptions }
  | { readonly cable: boolean }
);

export interface NetworkDescription {
  /** Everything random follows from it, default 1. */
  readonly seed?: number;
  readonly hosts: Readonly<Record<string, HostDescription>>;
  readonly links: Readonly<Record<string, LinkDescription>>;
  readonly events?: readonly NetworkEvent[];
}

/** Sees every frame that has passed a link's faults, towards which end, as bytes [off, off + len) of u8, and when. */
export type NetworkTap = (link: Link, towards: string, u8: Uint8Array, off: number, len: number, now: Nanos) => void;

/** Packets that a direction can hold: two bandwidth-delay products of 1 Gb/s and 25 ms. */
const HELD = 4096;

/** Cables whose ends can be found again. */
class Cables extends Wires {
  readonly made = new Map<string, WirePort[]>();
  override end(name: string, options: WireOptions): WirePort {
    const port = super.end(name, options);
    this.made.set(name, [...(this.made.get(name) ?? []), port]);
    return port;
  }
}

/** A link of a network while it runs. */
export class Link {
  readonly name: string;
  /** As "HOST/CARD". */
  readonly ends: readonly string[];
  /** The faults towards each end. */
  readonly #ports = new Map<string, FaultPort>();
  readonly #faults = new Map<string, FaultOptions>();
  /** One end of the cable at each end of the link. */
  readonly #cables: ReadonlyMap<string, WirePort>;
  readonly #resolve: (end: string) => string;

  /** Made by Network. `ports`: the faulty port towards each end. */
  constructor(
    name: string,
    d: LinkDescription,
    ports: ReadonlyMap<string, FaultPort>,
    cables: ReadonlyMap<string, WirePort>,
    resolve: (end: string) => string,
  ) {
    this.name = name;
    this.ends = [...ports.keys()];
    this.#cables = cables;
    this.#resolve = resolve;
    const { ends: _, towards = {}, ...all } = d;
    for (const [end, port] of ports) {
      this.#ports.set(end, port);
      this.#faults.set(end, {});
      this.set(all, end);
    }
    for (const [end, faults] of Object.entries(towards)) this.set(faults, end);
  }

  #end(end: string): string {
    const full = this.#resolve(end);
    if (!this.ends.includes(full))
      throw new RangeError(`the link ${this.name} has no end ${end}: ${this.ends.join(', ')}`);
    return full;
  }

  /** Changes some of the faults, towards one end or all: from the next frame on; what is not named stays as it is. */
  set(faults: FaultOptions, towards?: string): void {
    for (const end of towards === undefined ? this.ends : [this.#end(towards)]) {
      const all = { ...this.#faults.get(end)!, ...faults };
      this.#ports.get(end)!.set(all);
      this.#faults.set(end, all);
    }
  }
  /** The faults towards an end as they are now. */
  faults(towards: string): FaultOptions {
    return this.#faults.get(this.#end(towards))!;
  }
  /** What has become of the frames towards an end: fault_in, fault_out, fault_lost, fault_queue_full, ... */
  counters(towards: string): Readonly<Record<string, number>> {
    return this.#ports.get(this.#end(towards))!.counters;
  }
  /** Frames on their way towards an end now. */
  held(towards: string): number {
    return this.#ports.get(this.#end(towards))!.held;
  }

  /** Pulls the cable, or plugs it in again: both its ends see it, what is on its way is lost. A segment: of one end, or all. */
  cable(plugged: boolean, end?: string): void {
    for (const e of end === undefined ? this.ends : [this.#end(end)]) {
      const port = this.#cables.get(e)!;
      if (plugged) port.plug();
      else port.pull();
    }
  }

  /** Has `tap` see the frames. */
  watch(tap: NetworkTap | undefined): void {
    for (const [end, port] of this.#ports)
      port.tap = tap === undefined ? undefined : (u8, off, len, now) => tap(this, end, u8, off, len, now);
  }
}

export class Network {
  readonly simulation: Simulation;
  readonly links: ReadonlyMap<string, Link>;
  readonly hosts: ReadonlyMap<string, Appliance>;
  readonly #start: Nanos;

  /** Builds the network; hosts come up when it runs. Throws RangeError, PortError or ApplianceError for what cannot be. */
  constructor(d: NetworkDescription) {
    const seed = d.seed ?? 1;
    const cables = new Cables();
    this.simulation = new Simulation(seed, 1e9, cables);
    this.#start = this.simulation.clock.now;
    const resolve = (end: string): string => {
      const [name = '', card] = end.split('/');
      const cards = d.hosts[name]?.cards.map((c, i) => c.name ?? `nke${i}`);
      if (cards === undefined) throw new RangeError(`there is no host ${name}: ${Object.keys(d.hosts).join(', ')}`);
      if (card === undefined && cards.length === 1) return `${name}/${cards[0]}`;
      if (card === undefined || !cards.includes(card))
        throw new RangeError(`"${end}" is no card of ${name}: ${cards.map(c => `${name}/${c}`).join(', ')}`);
      return end;
    };
    const wireOf = new Map<string, string>(); // the cable of each card
    for (const [name, link] of Object.entries(d.links)) {
      if (link.ends.length < 2) throw new RangeError(`the link ${name} needs two ends or more`);
      link.ends.map(resolve).forEach((end, i) => {
        if (wireOf.has(end)) throw new RangeError(`${end} has two links, and a card has one socket`);
        wireOf.set(end, link.ends.length === 2 ? name : `${name}.${i}`);
      });
    }
    let streams = 0; // random streams handed out
    const hosts = new Map<string, Appliance>();
    for (const [name, h] of Object.entries(d.hosts)) {
      const cards = h.cards.map((c, i): CardConfig => {
        const end = `${name}/${c.name ?? `nke${i}`}`;
        // (every card has the decorator: the link finds it there, and fills it in)
        const faults: FaultConfig & FaultOptions = { seed: streamSeed(seed, ++streams), held: HELD };
        return { ...c, port: `wire:${wireOf.get(end) ?? `loose.${streams}`}`, faults };
      });
      const { kexts = ['SCTP'], routes, sysctl } = h;
      hosts.set(name, this.simulation.create({ name, cards, kexts, routes, sysctl }));
    }
    this.hosts = hosts;
    const links = new Map<string, Link>();
    for (const [name, link] of Object.entries(d.links)) {
      const ends = link.ends.map(resolve);
      const plugs = new Map(ends.map(e => [e, cables.made.get(wireOf.get(e)!)![0]!]));
      const ports =
        ends.length === 2
          ? this.#crossed(ends)
          : this.#segment(cables, ends, wireOf, () => streamSeed(seed, ++streams));
      links.set(name, new Link(name, link, ports, plugs, resolve));
    }
    this.links = links;
    for (const e of d.events ?? []) {
      const link = this.link(e.link);
      this.at(e.at, () => ('set' in e ? link.set(e.set, e.towards) : link.cable(e.cable, e.towards)));
    }
  }

  /** A cable: what one card sends goes towards the other. */
  #crossed(ends: readonly string[]): Map<string, FaultPort> {
    return new Map(ends.map((end, i) => [end, faultPort(this.#cardPort(ends[1 - i]!))]));
  }
  /** A segment: a switch in the middle, whose ports are faulty towards the cards. */
  #segment(
    cables: Cables,
    ends: readonly string[],
    wireOf: ReadonlyMap<string, string>,
    seed: () => number,
  ): Map<string, FaultPort> {
    const ports = new Map(
      ends.map(e => [e, new FaultPort(cables.end(wireOf.get(e)!, {}), new SeededRandom(seed()), { held: HELD })]),
    );
    this.simulation.devices.push(new Switch([...ports.values()]));
    return ports;
  }
  #cardPort(end: string): Port {
    const [host, card] = end.split('/') as [string, string];
    return this.hosts.get(host)!.card(card).port;
  }

  /** Nanoseconds of virtual time since the start. */
  get now(): Nanos {
    return this.simulation.clock.now - this.#start;
  }
  /** A host by name. Throws RangeError. */
  host(name: string): Appliance {
    const host = this.hosts.get(name);
    if (host === undefined) throw new RangeError(`there is no host ${name}: ${[...this.hosts.keys()].join(', ')}`);
    return host;
  }
  /** A link by name. Throws RangeError. */
  link(name: string): Link {
    const link = this.links.get(name);
    if (link === undefined) throw new RangeError(`there is no link ${name}: ${[...this.links.keys()].join(', ')}`);
    return link;
  }
  /** Has `act` called `at` ns after the start. */
  at(at: Nanos, act: () => void): void {
    this.simulation.at(this.#start + at, act);
  }
  /** Has `tap` see every frame of every link that has not been lost on its way; undefined: nobody. */
  watch(tap: NetworkTap | undefined): void {
    for (const link of this.links.values()) link.watch(tap);
  }
  /** Runs until `done()` (true), or until a limit or until nothing is left to happen (false). */
  run(done: () => boolean, limits?: RunLimits): boolean {
    return this.simulation.run(done, limits);
  }
  /** The same for programs made of promises. */
  runAsync(done: () => boolean, limits?: RunLimits): Promise<boolean> {
    return this.simulation.runAsync(done, limits);
  }
  /** Lets a span of virtual time pass. */
  pass(span: Nanos): void {
    this.simulation.pass(span);
  }
  close(): Promise<void> {
    return this.simulation.close();
  }
}

/** The seed of a random stream of its own, such as that of the n-th card, from 1 on. */
export function streamSeed(seed: number, n: number): number {
  return (Math.imul(seed, 0x85ebca6b) ^ Math.imul(n, 0xc2b2ae35)) >>> 0;
}

/** The faults of a card that this network has made. */
function faultPort(port: Port): FaultPort {
  if (port instanceof FaultPort) return port;
  throw new Error(`${port.name} has no faults of its own: the card was not made by a network`);
}
