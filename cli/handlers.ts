/** What a running appliance answers over its control socket: one function per request, each checks its arguments. */

import { type Appliance, ApplianceError, sysctlProblem } from '../appliance.js';
import type { PowerState } from '../firmware/power.js';
import { CARD_SETTINGS, type CardSetting, REGISTERS, WAKE_MAGIC } from '../nic/registers.js';
import { errnoName } from '../stack/kern/errno.js';
import { type EventFilter, eventPasses, type KernelEvent, type StampedEvent } from '../stack/kern/event.js';
import { CLUSTER_BYTES, JUMBO_BYTES, SMALL_BYTES } from '../stack/kern/mbuf.js';
import type { SysctlEntry } from '../stack/kern/sysctl.js';
import type { AssocListing } from '../stack/kexts/SCTP.kext/index.js';
import {
  IFF_BROADCAST,
  IFF_LOOPBACK,
  IFF_MULTICAST,
  IFF_NOARP,
  IFF_POINTOPOINT,
  IFF_PROMISC,
  IFF_RUNNING,
  IFF_UP,
  type Ifnet,
} from '../stack/net/ifnet.js';
import { parsePrefix } from './config.js';
import { type Args, Follow, type Handlers } from './control.js';
import { CliError } from './errors.js';
import { kextHandlers } from './handlers-kext.js';

export interface InterfaceRow {
  readonly name: string;
  readonly index: number;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly mac: string;
  readonly addresses: readonly string[];
  readonly link: boolean;
  readonly linkReason: string;
  /** Cards only. */
  readonly port?: string;
  /** What the port got, for ports that have a choice. */
  readonly medium?: string;
  readonly power?: string;
  readonly counters: Readonly<Record<string, number>>;
}

export type SysctlRow = SysctlEntry;

export interface RouteRow {
  readonly destination: string;
  readonly gateway: string;
  readonly source: string;
  readonly interface: string;
  readonly mtu: number;
  readonly kind: string;
}

export interface MbufRow {
  readonly class: string;
  readonly bytes: number;
  readonly inUse: number;
  readonly total: number;
  readonly failed: number;
}

export interface AssociationRow {
  /** Of several workers, the one that it lives in. */
  readonly worker?: number;
  readonly assocId: number;
  readonly state: string;
  readonly local: readonly string[];
  readonly localPort: number;
  readonly peer: readonly string[];
  readonly peerPort: number;
  readonly outStreams: number;
  readonly inStreams: number;
  /** The window that the peer offers, bytes. */
  readonly peerRwnd: number;
  /** Bytes in flight, all paths together. */
  readonly flight: number;
  /** Chunks not yet acknowledged. */
  readonly unacknowledged: number;
  /** Bytes that wait to be read. */
  readonly unread: number;
}

export interface ListenerRow {
  readonly protocol: string;
  readonly style: string;
  readonly addresses: readonly string[];
  readonly port: number;
}

/** A card's settings and sensors. */
export interface CardRow {
  readonly name: string;
  readonly value: number | string;
  readonly meaning: string;
}

export interface PathRow {
  readonly worker?: number;
  readonly assocId: number;
  readonly address: string;
  readonly port: number;
  readonly state: string;
  readonly primary: boolean;
  readonly cwnd: number;
  readonly ssthresh: number;
  readonly flight: number;
  readonly srtt: number; // ms, 0 = not measured
  readonly rto: number; // ms
  readonly mtu: number;
  readonly errors: number;
  readonly source: string;
  readonly why: string;
  /** ns since the last heartbeat was answered, null = never. */
  readonly heartbeatAgo: number | null;
  readonly encapsPort: number;
}

const FLAGS: readonly (readonly [number, string])[] = [
  [IFF_UP, 'UP'],
  [IFF_BROADCAST, 'BROADCAST'],
  [IFF_LOOPBACK, 'LOOPBACK'],
  [IFF_POINTOPOINT, 'POINTOPOINT'],
  [IFF_RUNNING, 'RUNNING'],
  [IFF_NOARP, 'NOARP'],
  [IFF_PROMISC, 'PROMISC'],
  [IFF_MULTICAST, 'MULTICAST'],
];

const hex = (mac: Uint8Array) => Array.from(mac, b => b.toString(16).padStart(2, '0')).join(':');

/** An argument that must be a text. */
function text(args: Args, name: string): string {
  const value = args[name];
  if (typeof value !== 'string' || value === '' || value.length > 256)
    throw new CliError(`the argument "${name}" is missing or is no text`);
  return value;
}
function optional(args: Args, name: string): string | undefined {
  return args[name] === undefined || args[name] === null ? undefined : text(args, name);
}

/** Turns what the appliance refuses into the request's fault: its words and status 2. */
function asked<T>(body: () => T): T {
  try {
    return body();
  } catch (e) {
    if (e instanceof ApplianceError) throw new CliError(e.message);
    throw e;
  }
}

export function interfaceRow(appliance: Appliance, ifp: Ifnet): InterfaceRow {
  const card = appliance.cards.find(c => c.ifp === ifp);
  return {
    name: ifp.name,
    index: ifp.index,
    flags: FLAGS.filter(([bit]) => (ifp.flags & bit) !== 0).map(([, name]) => name),
    mtu: ifp.mtu,
    mac: (ifp.flags & IFF_LOOPBACK) !== 0 ? '' : hex(ifp.mac),
    addresses: ifp.addresses.map(a => `${a.addr}/${a.prefix}`),
    link: ifp.link,
    linkReason:
      card === undefined
        ? ''
        : ifp.link
          ? 'link up'
          : (ifp.flags & IFF_UP) === 0
            ? 'the interface is down'
            : card.firmware.linkReason,
    ...(card === undefined ? {} : { port: card.spec, power: appliance.powerState(card.name) }),
    ...(card?.port.describe === undefined ? {} : { medium: card.port.describe() }),
    counters: { ...ifp.counters },
  };
}

function associationRow(a: AssocListing): AssociationRow {
  return {
    assocId: a.assocId,
    state: a.state,
    local: a.localAddresses,
    localPort: a.localPort,
    peer: a.paths.map(p => p.address.addr.toString()),
    peerPort: a.peerPort,
    outStreams: a.outstrms,
    inStreams: a.instrms,
    peerRwnd: a.rwnd,
    flight: a.paths.reduce((sum, p) => sum + p.flight, 0),
    unacknowledged: a.unackdata,
    unread: a.penddata,
  };
}

function pathRows(a: AssocListing, now: number): PathRow[] {
  return a.paths.map(({ address, lastHeartbeatAck, ...p }) => ({
    ...p,
    address: address.addr.toString(),
    port: address.port,
    heartbeatAgo: lastHeartbeatAck === 0 ? null : now - lastHeartbeatAck,
  }));
}

/** The requests of one appliance. */
export function handlers(appliance: Appliance): Handlers {
  const { stack } = appliance;
  const ifnet = (name: string): Ifnet => {
    const ifp = stack.interfaces.byName(name);
    if (ifp !== undefined) return ifp;
    throw new CliError(
      `there is no interface "${name}"; there are ${stack.interfaces
        .list()
        .map(i => i.name)
        .join(', ')}`,
    );
  };
  const associations = () => (appliance.sctp()?.associations() ?? []).map(associationRow);
  const interfaces = () => stack.interfaces.list().map(i => interfaceRow(appliance, i));
  return {
    status: () => ({
      name: appliance.name,
      pid: process.pid,
      cards: appliance.cards.map(c => c.name),
      kexts: stack.kexts.list().map(k => k.identifier),
    }),
    ifconfig: args => {
      const name = optional(args, 'interface');
      if (name === undefined) return interfaces();
      const ifp = ifnet(name);
      const what = optional(args, 'what');
      if (what !== undefined) configure(appliance, ifp, what, args.remove === true);
      return [interfaceRow(appliance, ifp)];
    },
    ...kextHandlers(appliance),
    sysctl: args => sysctl(appliance, args),
    routes: (): RouteRow[] =>
      stack.routes.list().map(r => ({
        destination: r.prefix === 0 ? `default (${r.net.family === 4 ? 'inet' : 'inet6'})` : `${r.net}/${r.prefix}`,
        gateway: r.gateway?.toString() ?? 'link',
        source: r.source?.toString() ?? '-',
        interface: r.ifp.name,
        mtu: r.mtu,
        kind: r.kind,
      })),
    mbufs: (): MbufRow[] => {
      const { inUse, totals, failed } = stack.pool;
      return (['small', 'cluster', 'jumbo'] as const).map((c, i) => ({
        class: c,
        bytes: [SMALL_BYTES, CLUSTER_BYTES, JUMBO_BYTES][i]!,
        inUse: inUse[c],
        total: totals[c],
        failed: failed[c],
      }));
    },
    counters: () => appliance.counters(),
    protocol: args => {
      const name = text(args, 'name');
      const all = appliance.counters();
      const counters = Object.fromEntries(
        Object.entries(all).filter(([group]) => group === name || group.startsWith(`${name}.`)),
      );
      if (Object.keys(counters).length === 0)
        throw new CliError(`there are no counters of "${name}"; there are ${Object.keys(all).join(', ')}`);
      return { associations: name === 'sctp' ? associations() : [], counters };
    },
    netstat: () => ({
      associations: associations(),
      listeners: (appliance.sctp()?.listeners() ?? []).map((l): ListenerRow => ({ protocol: 'sctp', ...l })),
    }),
    link: args => {
      const name = text(args, 'card');
      asked(() => appliance.link(name, args.up === true));
      // The card tells its driver by an interrupt, which the next turn takes.
      return settle(() => [interfaceRow(appliance, appliance.card(name).ifp)]);
    },
    power: args => power(appliance, text(args, 'card'), text(args, 'state')),
    paths: args => {
      const id = args.assoc;
      const rows = (appliance.sctp()?.associations() ?? []).flatMap(a => pathRows(a, stack.clock.now));
      return typeof id === 'number' ? rows.filter(p => p.assocId === id) : rows;
    },
    card: args => cardSettings(appliance, args),
    events: args => {
      const filter = eventFilter(args);
      return stack.events.since(0).filter(e => eventPasses(filter, e));
    },
    follow: args => {
      const filter = eventFilter(args);
      return new Follow(emit =>
        stack.events.subscribe((e: StampedEvent) => {
          if (eventPasses(filter, e)) emit(e);
        }),
      );
    },
  };
}

/** Waits until the loop has had two turns, then looks. */
function settle<T>(look: () => T): Promise<T> {
  return new Promise(resolve => setTimeout(() => resolve(look()), 5));
}

/** ifconfig IF up|down|ADDRESS/PREFIX [delete]. */
function configure(appliance: Appliance, ifp: Ifnet, what: string, remove: boolean): void {
  const { interfaces } = appliance.stack;
  if (what === 'up' || what === 'down') {
    if (remove) throw new CliError('delete belongs behind an address');
    if (appliance.cards.some(c => c.ifp === ifp)) {
      asked(() => appliance.up(ifp.name, what === 'up'));
      return;
    }
    const e = interfaces.setUp(ifp, what === 'up');
    if (e < 0) throw new CliError(`${ifp.name} cannot be brought ${what} (${errnoName(e)})`);
    return;
  }
  const parsed = parsePrefix(what);
  if (parsed === undefined) throw new CliError(`"${what}" is not known here; allowed: up, down or ADDRESS/PREFIX`);
  const e = remove
    ? interfaces.removeAddress(ifp, parsed.addr)
    : interfaces.addAddress(ifp, parsed.addr, parsed.prefix);
  if (e < 0)
    throw new CliError(
      remove
        ? `${ifp.name} does not have ${parsed.addr}`
        : `${ifp.name} cannot have ${what} (${errnoName(e)}): give a host's own address that no other interface has`,
    );
  appliance.kick();
}

/** sysctl [NAME | PREFIX | NAME=VALUE]... All are checked before the first is set. */
function sysctl(appliance: Appliance, args: Args): SysctlRow[] {
  const { sysctl: tree } = appliance.stack;
  const names = args.names ?? [];
  if (!Array.isArray(names) || names.length > 64 || !names.every(n => typeof n === 'string' && n.length <= 256))
    throw new CliError('the argument "names" must be a list of texts');
  if (names.length === 0) return [...tree.list()];
  const wanted = (names as string[]).map(n => {
    const [name = '', ...value] = n.split('=');
    const entries = tree.list(name);
    if (entries.length === 0 || (value.length > 0 && entries[0]!.name !== name))
      throw new CliError(sysctlProblem(appliance.stack, name, '', -2));
    return { name, value: value.length === 0 ? undefined : value.join('=') };
  });
  for (const { name, value } of wanted) {
    if (value === undefined) continue;
    const e = tree.set(name, value);
    if (e < 0) throw new CliError(sysctlProblem(appliance.stack, name, value, e));
  }
  appliance.kick();
  return wanted.flatMap(w => [...tree.list(w.name)]);
}

/** Which events are asked for: the arguments "kinds" and "interface". */
function eventFilter(args: Args): EventFilter {
  const { kinds } = args;
  const ifname = optional(args, 'interface');
  if (kinds !== undefined && !(Array.isArray(kinds) && kinds.length <= 64 && kinds.every(k => typeof k === 'string')))
    throw new CliError('the argument "kinds" must be a list of texts');
  return {
    ...(kinds === undefined || kinds.length === 0 ? {} : { kinds: kinds as KernelEvent['kind'][] }),
    ...(ifname === undefined ? {} : { ifname }),
  };
}

/** card NAME [SETTING=VALUE | temperature=CELSIUS]... All are checked before the first is set. */
function cardSettings(appliance: Appliance, args: Args): Promise<CardRow[]> {
  const name = text(args, 'card');
  const card = asked(() => appliance.card(name));
  const set = args.set ?? [];
  if (!Array.isArray(set) || set.length > 32 || !set.every(n => typeof n === 'string' && n.length <= 64))
    throw new CliError('the argument "set" must be a list of texts');
  const wanted = (set as string[]).map(t => {
    const m = /^([a-z_]+)=(-?\d+(?:\.\d+)?)$/.exec(t);
    if (m === null || (m[1] !== 'temperature' && !CARD_SETTINGS.includes(m[1] as CardSetting)))
      throw new CliError(`"${t}" is not SETTING=NUMBER; the settings are temperature, ${CARD_SETTINGS.join(', ')}`);
    return { setting: m[1]!, value: Number(m[2]) };
  });
  asked(() => {
    for (const { setting, value } of wanted) {
      if (setting === 'temperature') appliance.temperature(name, value);
      else appliance.setting(name, setting as CardSetting, value);
    }
  });
  const { firmware } = card;
  return settle(() => [
    { name: 'self_test', value: firmware.selfTest, meaning: 'result of the power-on self test' },
    { name: 'link', value: firmware.linkReason, meaning: 'why the link is as it is' },
    { name: 'temperature', value: firmware.temperature, meaning: '°C that the sensor measures; may be set' },
    ...CARD_SETTINGS.map(s => ({
      name: s,
      value: firmware.setting(s),
      meaning: REGISTERS.find(r => r.name === s)!.meaning,
    })),
  ]);
}

const STATES: readonly string[] = ['D0', 'D1', 'D2', 'D3hot', 'D3cold', 'sleep', 'wake'];

function power(appliance: Appliance, name: string, state: string): Promise<InterfaceRow[]> {
  if (!STATES.includes(state)) throw new CliError(`"${state}" is no power state; allowed: ${STATES.join(', ')}`);
  asked(() => {
    if (name === 'all') {
      if (state === 'sleep') return appliance.sleep('nke power', WAKE_MAGIC);
      if (state === 'wake') return appliance.wake('nke power');
      for (const c of appliance.cards) appliance.power(c.name, state as PowerState, 'nke power');
      return;
    }
    appliance.power(name, state === 'sleep' ? 'D3hot' : state === 'wake' ? 'D0' : (state as PowerState), 'nke power');
  });
  const cards = appliance.cards.filter(c => name === 'all' || c.name === name);
  return settle(() => cards.map(c => interfaceRow(appliance, c.ifp)));
}
