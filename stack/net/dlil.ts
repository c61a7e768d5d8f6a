/**
 * dlil: the data link interface layer, after Darwin's dlil(9): the list of interfaces and their addresses, the chain of
 * data-link filters, and the protocols attached by EtherType. Drivers are below it, ARP, IP and IPv6 above.
 *
 * Input:  ifp.input → checks → filters (from the wire up) → EtherType → protocol, Ethernet header stripped.
 * Output: next hop → link address → filters (down to the wire) → ifp.driver.output.
 *
 * Packets, bytes and multicasts of an interface are counted by its driver; idrops and inoproto here as well.
 * Filters stand in the order of their `order`, the least nearest to the wire; equal ones as they were attached, the first
 * nearest to the wire. VLAN tags (0x8100) are counted and dropped unless VLAN.kext has plumbed that EtherType.
 */

import type { CounterRegistry } from '../kern/counters.js';
import { EADDRNOTAVAIL, EEXIST, EHOSTUNREACH, EINVAL, ENETDOWN, ENOBUFS, ENOENT, ENOMEM } from '../kern/errno.js';
import type { EventBus, KernelEvent } from '../kern/event.js';
import type { Mbuf, MbufPool } from '../kern/mbuf.js';
import { M_BCAST, M_MCAST, M_NULL, MB_LEN, MB_NEXT, MB_OFF, MB_SIZE } from '../kern/mbuf.js';
import { EJUSTRETURN } from '../kern/sflt.js';
import type { InAddr } from '../netinet/in.js';
import { ETHER_HDR_LEN, ETHERTYPE_VLAN, isBroadcastMac, isMac, writeMac, writeMulticastMac } from './ethernet.js';
import { IFF_LOOPBACK, IFF_NOARP, IFF_PROMISC, IFF_UP, type Ifnet } from './ifnet.js';
import type { LlEntry, LlTable } from './lltable.js';
import type { RouteTable } from './route.js';

/** What may be asked of an interface (Dlil.ioctl): first its filters, then its driver. */
export type IfIoctl =
  | { readonly kind: 'set-up'; readonly up: boolean }
  | { readonly kind: 'set-mtu'; readonly mtu: number }
  | { readonly kind: 'set-mac'; readonly mac: Uint8Array }
  | { readonly kind: 'set-promisc'; readonly on: boolean }
  | { readonly kind: 'set-multicast'; readonly mac: Uint8Array; readonly join: boolean };

/** Places in the chain: a tap nearest to the wire sees what the wire sees; a guard nearest to the stack, what the stack does. */
export const IFF_ORDER_WIRE = -100;
export const IFF_ORDER_STACK = 100;

/**
 * A data-link filter (Darwin's iff_filter). It owns what it is given and returns it, another mbuf, or M_NULL. It may be
 * called for any frame at any time between attachFilter and `detached`; it must not block. Frames of its own it sends with
 * ifnet_transmit and ifnet_input (through the whole chain, itself too) or iflt_inject (from its own place on).
 */
export interface IfFilter {
  readonly name: string;
  /** Where in the chain, -1000 to 1000, the least nearest to the wire; default 0. */
  readonly order?: number;
  /** A received frame, Ethernet header in place. M_NULL: swallowed (the filter has freed or kept it). */
  input?(ifp: Ifnet, m: Mbuf): Mbuf;
  /** A frame about to go to the driver, Ethernet header in place, perhaps a train. */
  output?(ifp: Ifnet, m: Mbuf): Mbuf;
  /** What happened to the interface. Called before the event's other subscribers; may send, must not detach interfaces. */
  event?(ifp: Ifnet, e: KernelEvent): void;
  /**
   * Somebody asks something of the interface. Returns 0 (go on to the next filter and the driver), -EJUSTRETURN (dealt
   * with: the asker gets 0 and nobody else is asked), or -errno (refused).
   */
  ioctl?(ifp: Ifnet, request: IfIoctl): number;
  /** The filter will not be called again. */
  detached?(): void;
}

/** Whose filters are: what the chain needs to know of an extension (kmod.ts). */
export interface FilterOwner {
  /** Its mbufs' tag: a frame is the extension's while its filter has it. Not 0. */
  readonly tag: number;
  /** Mbufs that it may keep. */
  readonly limit: number;
  /** Told when a filter of it has been taken out of the chain because it broke the rules. */
  fault(what: string, why: unknown): void;
}

interface Filtering {
  readonly filter: IfFilter;
  readonly order: number;
  readonly ifp: Ifnet | undefined;
  readonly owner: FilterOwner | undefined;
  readonly tag: number;
  /** Taken out while a chain was being walked. */
  gone: boolean;
  /** Calls of it that have not returned. */
  busy: number;
}

/** A protocol on an EtherType: takes ownership of a packet whose Ethernet header is stripped. */
export type DlilProtocol = (ifp: Ifnet, m: Mbuf) => void;

export const DLIL_COUNTERS = {
  input_down: 0,
  input_runt: 0,
  input_not_mine: 0,
  input_vlan: 0,
  input_no_protocol: 0,
  input_filtered: 0,
  filter_faults: 0,
  filter_lost: 0,
  inject_gone: 0,
  input_nobufs: 0,
  output_down: 0,
  output_filtered: 0,
  output_nobufs: 0,
  output_full: 0,
  output_no_neighbour_protocol: 0,
  held_for_neighbour: 0,
};

export const IF_MAX_ADDRESSES = 64;

export interface DlilOwner {
  readonly pool: MbufPool;
  readonly events: EventBus;
  readonly counters: CounterRegistry;
  readonly routes: RouteTable;
}

// For the path of every frame: what a module imports is looked up each time that it is used.
const NEXT = MB_NEXT;
const SIZE = MB_SIZE;
const OFF = MB_OFF;
const LEN = MB_LEN;
const NONE = M_NULL;
const HEADER = ETHER_HDR_LEN;

/** True when the data of an mbuf lie in its buffer. */
function inside(base: number, size: number, off: number, len: number): boolean {
  return off >= base && len >= 0 && off - base + len <= size;
}

export class Dlil {
  readonly counters: Record<keyof typeof DLIL_COUNTERS, number> = { ...DLIL_COUNTERS };
  readonly #pool: MbufPool;
  readonly #owner: DlilOwner;
  #interfaces: readonly Ifnet[] = [];
  #nextIndex = 1;
  /** Copied on change, so that a chain may change while it is walked. */
  #filters: readonly Filtering[] = [];
  /** Who stands where a replaced filter stood: its queued frames go on behind that one. */
  readonly #successors = new WeakMap<IfFilter, IfFilter>();
  readonly #types: number[] = [];
  readonly #protocols: DlilProtocol[] = [];
  #resolver4: LlTable | undefined;
  #resolver6: LlTable | undefined;
  readonly #usable = new Set<Ifnet>();
  #reported = false; // the driver has said if-up or if-down by itself
  #dirty: Ifnet[] = [];
  #flushing: Ifnet[] = [];
  readonly #addressHooks: ((ifp: Ifnet, addr: InAddr, added: boolean) => void)[] = [];
  readonly #attachHooks: ((ifp: Ifnet) => void)[] = [];
  readonly #linkHooks: ((ifp: Ifnet, usable: boolean) => void)[] = [];

  constructor(owner: DlilOwner) {
    this.#owner = owner;
    this.#pool = owner.pool;
    owner.counters.add('dlil', this.counters);
  }

  // Interfaces

  /** Attaches a driver's interface; it is down until setUp. Returns its index (1 and up), or -EEXIST for a name in use. */
  attach(ifp: Ifnet): number {
    if (this.byName(ifp.name) !== undefined) return -EEXIST;
    ifp.index = this.#nextIndex++;
    ifp.input = m => this.input(ifp, m);
    ifp.event = e => this.#event(ifp, e);
    this.#interfaces = [...this.#interfaces, ifp];
    this.#owner.counters.add(`if.${ifp.name}`, ifp.counters as unknown as Record<string, number>);
    for (const fn of this.#attachHooks) fn(ifp);
    this.#tell(ifp, { kind: 'if-attached', ifname: ifp.name });
    this.#checkUsable(ifp);
    return ifp.index;
  }
  /** Takes an interface away: down, addresses and routes gone, driver detached. Returns 0 or -ENOENT. */
  detach(ifp: Ifnet): number {
    if (!this.#interfaces.includes(ifp)) return -ENOENT;
    if ((ifp.flags & IFF_UP) !== 0) this.setUp(ifp, false);
    for (const a of [...ifp.addresses]) this.removeAddress(ifp, a.addr);
    this.#owner.routes.removeInterface(ifp);
    this.#resolver4?.flush(ifp);
    this.#resolver6?.flush(ifp);
    ifp.driver?.detach();
    this.#interfaces = this.#interfaces.filter(i => i !== ifp);
    this.#usable.delete(ifp);
    this.#dirty = this.#dirty.filter(i => i !== ifp);
    for (const f of this.#filters) if (f.ifp === ifp) this.detachFilter(f.filter);
    this.#tell(ifp, { kind: 'if-detached', ifname: ifp.name });
    this.#owner.counters.remove(`if.${ifp.name}`);
    ifp.input = m => this.#pool.freem(m); // a driver's last words
    ifp.event = () => {};
    ifp.index = 0;
    return 0;
  }
  list(): readonly Ifnet[] {
    return this.#interfaces;
  }
  byName(name: string): Ifnet | undefined {
    return this.#interfaces.find(i => i.name === name);
  }
  byIndex(index: number): Ifnet | undefined {
    for (let i = 0; i < this.#interfaces.length; i++)
      if (this.#interfaces[i]!.index === index) return this.#interfaces[i];
    return undefined;
  }
  /**
   * The interface that has an address. A card comes before lo0, which gives up 127.0.0.1 and ::1 to a card that was
   * given them (a medium that is the machine's own loopback).
   */
  ownerOf(addr: InAddr): Ifnet | undefined {
    let lo: Ifnet | undefined;
    for (let i = 0; i < this.#interfaces.length; i++) {
      const ifp = this.#interfaces[i]!;
      if (!ifp.has(addr)) continue;
      if ((ifp.flags & IFF_LOOPBACK) === 0) return ifp;
      lo = ifp;
    }
    return lo;
  }

  /**
   * Brings an interface up or down through its driver, which may set IFF_UP and report if-up itself, before its link.
   * Returns 0 or the driver's -errno.
   */
  setUp(ifp: Ifnet, up: boolean): number {
    if (((ifp.flags & IFF_UP) !== 0) === up) return 0;
    if (this.#filters.length > 0) {
      const refused = this.#filterIoctl(ifp, { kind: 'set-up', up });
      if (refused < 0) return refused === -EJUSTRETURN ? 0 : refused;
    }
    this.#reported = false;
    const e = ifp.driver?.setUp(up) ?? 0;
    if (e < 0) return e;
    ifp.flags = up ? ifp.flags | IFF_UP : ifp.flags & ~IFF_UP;
    this.#owner.routes.invalidate();
    if (!this.#reported) this.#tell(ifp, { kind: up ? 'if-up' : 'if-down', ifname: ifp.name });
    this.#checkUsable(ifp);
    return 0;
  }

  /**
   * Asks something of an interface: its filters, from the stack down, then its driver (the MTU is the stack's own). Returns
   * 0, -EINVAL (not an MTU or a station's address), or the -errno of the filter or driver that refused.
   */
  ioctl(ifp: Ifnet, request: IfIoctl): number {
    if (request.kind === 'set-up') return this.setUp(ifp, request.up);
    if (request.kind === 'set-mac' && (request.mac.length !== 6 || (request.mac[0]! & 1) !== 0)) return -EINVAL;
    if (request.kind === 'set-mtu' && !(Number.isInteger(request.mtu) && request.mtu >= 68 && request.mtu <= 65535))
      return -EINVAL;
    const refused = this.#filterIoctl(ifp, request);
    if (refused < 0) return refused === -EJUSTRETURN ? 0 : refused;
    switch (request.kind) {
      case 'set-mtu':
        this.#event(ifp, { kind: 'mtu', ifname: ifp.name, mtu: request.mtu });
        return 0;
      case 'set-mac':
        return ifp.driver?.setMac(request.mac) ?? 0;
      case 'set-promisc': {
        const e = ifp.driver?.setPromisc(request.on) ?? 0;
        if (e >= 0) ifp.flags = request.on ? ifp.flags | IFF_PROMISC : ifp.flags & ~IFF_PROMISC;
        return e;
      }
      case 'set-multicast':
        return ifp.driver?.setMulticast(request.mac, request.join) ?? 0;
    }
  }
  #filterIoctl(ifp: Ifnet, request: IfIoctl): number {
    const chain = this.#filters;
    for (let i = chain.length - 1; i >= 0; i--) {
      const f = chain[i]!;
      if (f.filter.ioctl === undefined || (f.ifp !== undefined && f.ifp !== ifp) || f.gone) continue;
      try {
        const e = f.filter.ioctl(ifp, request);
        if (e < 0) return e;
      } catch (error) {
        this.#broke(f, M_NULL, error);
      }
    }
    return 0;
  }

  // Addresses

  /**
   * Gives an interface an address and its connected route. Returns 0, -EINVAL (not a host's address, or a wrong prefix
   * length), -EEXIST (here or on another card), -ENOMEM (64 addresses), -ENOENT (not attached).
   */
  addAddress(ifp: Ifnet, addr: InAddr, prefix: number): number {
    if (!this.#interfaces.includes(ifp)) return -ENOENT;
    const bits = addr.family === 4 ? 32 : 128;
    if (!Number.isInteger(prefix) || prefix < 0 || prefix > bits) return -EINVAL;
    if (addr.isMulticast || addr.isUnspecified || addr.isBroadcast) return -EINVAL;
    const owner = this.ownerOf(addr);
    if (owner === ifp || (owner !== undefined && (owner.flags & IFF_LOOPBACK) === 0)) return -EEXIST;
    if (ifp.addresses.length >= IF_MAX_ADDRESSES) return -ENOMEM;
    const a = addr.clone();
    ifp.addresses.push({ addr: a, prefix });
    this.#owner.routes.addressAdded(ifp, a, prefix);
    for (const fn of this.#addressHooks) fn(ifp, a, true);
    this.#tell(ifp, { kind: 'address-added', ifname: ifp.name, address: a.toString(), prefix });
    return 0;
  }
  /** Takes an address away. Returns 0 or -EADDRNOTAVAIL. */
  removeAddress(ifp: Ifnet, addr: InAddr): number {
    const i = ifp.addresses.findIndex(a => a.addr.equals(addr));
    if (i < 0) return -EADDRNOTAVAIL;
    const { addr: a, prefix } = ifp.addresses[i]!;
    ifp.addresses.splice(i, 1);
    this.#owner.routes.addressRemoved(ifp, a, prefix);
    for (const fn of this.#addressHooks) fn(ifp, a, false);
    this.#tell(ifp, { kind: 'address-removed', ifname: ifp.name, address: a.toString(), prefix });
    return 0;
  }

  // What the layers above attach

  /** dlil_attach_protocol. One protocol per EtherType; a second is a programmer's error. */
  attachProtocol(type: number, input: DlilProtocol): void {
    if (this.#types.includes(type)) throw new Error(`EtherType 0x${type.toString(16)} has a protocol already`);
    this.#types.push(type);
    this.#protocols.push(input);
  }
  /** dlil_detach_protocol. Returns 0 or -ENOENT. */
  detachProtocol(type: number): number {
    const i = this.#types.indexOf(type);
    if (i < 0) return -ENOENT;
    this.#types.splice(i, 1);
    this.#protocols.splice(i, 1);
    return 0;
  }
  /** True when an EtherType has a protocol. */
  hasProtocol(type: number): boolean {
    return this.#types.includes(type);
  }
  /** ARP's and neighbour discovery's tables. */
  setResolver(family: 4 | 6, table: LlTable): void {
    if (family === 4) this.#resolver4 = table;
    else this.#resolver6 = table;
  }
  /** Called when an interface has been attached, before the event. */
  onAttach(fn: (ifp: Ifnet) => void): void {
    this.#attachHooks.push(fn);
  }
  /** Called when an address has been added or is gone, before the event. */
  onAddress(fn: (ifp: Ifnet, addr: InAddr, added: boolean) => void): void {
    this.#addressHooks.push(fn);
  }
  /** Called when an interface becomes usable or stops being so (up and link). */
  onUsable(fn: (ifp: Ifnet, usable: boolean) => void): void {
    this.#linkHooks.push(fn);
  }

  /**
   * Adds a filter at its place in the chain, for one interface or all; `owner` when it is an extension's. Returns 0,
   * -EEXIST (same name) or -EINVAL (no such order).
   */
  attachFilter(filter: IfFilter, ifp?: Ifnet, owner?: FilterOwner): number {
    if (this.#filters.some(f => f.filter.name === filter.name)) return -EEXIST;
    const { order = 0 } = filter;
    if (!Number.isInteger(order) || Math.abs(order) > 1000) return -EINVAL;
    const made: Filtering = { filter, order, ifp, owner, tag: owner?.tag ?? 0, gone: false, busy: 0 };
    const at = this.#filters.findIndex(f => f.order > order);
    this.#filters = this.#filters.toSpliced(at < 0 ? this.#filters.length : at, 0, made);
    return 0;
  }
  /**
   * Puts a filter in the place of another, for the same interface, between two frames: each frame is seen by exactly one
   * of them. The place stays, whatever the new one's `order`. Returns 0, -ENOENT, or -EEXIST (another filter has the new one's name).
   */
  replaceFilter(old: IfFilter, filter: IfFilter, owner?: FilterOwner): number {
    const i = this.#filters.findIndex(f => f.filter === old);
    if (i < 0) return -ENOENT;
    if (this.#filters.some((f, k) => k !== i && f.filter.name === filter.name)) return -EEXIST;
    const was = this.#filters[i]!;
    was.gone = true;
    const { ifp, order } = was;
    const made: Filtering = { filter, order, ifp, owner, tag: owner?.tag ?? 0, gone: false, busy: 0 };
    this.#filters = this.#filters.with(i, made);
    this.#successors.set(old, filter);
    this.#leave(was);
    return 0;
  }
  /** Returns 0 or -ENOENT. */
  detachFilter(filter: IfFilter): number {
    const found = this.#filters.find(f => f.filter === filter);
    if (found === undefined) return -ENOENT;
    found.gone = true;
    this.#filters = this.#filters.filter(f => f !== found);
    this.#leave(found);
    return 0;
  }
  #leave(f: Filtering): void {
    try {
      f.filter.detached?.();
    } catch (e) {
      this.#report(f, e);
    }
  }
  /** Names of an owner's filters that are being called at this moment. */
  running(owner: FilterOwner): readonly string[] {
    return this.#filters.filter(f => f.owner === owner && f.busy > 0).map(f => f.filter.name);
  }
  get filters(): readonly IfFilter[] {
    return this.#filters.map(f => f.filter);
  }

  // Data path

  /** A received frame, Ethernet header in place. Takes ownership. */
  input(ifp: Ifnet, m: Mbuf) {
    const pool = this.#pool;
    if ((ifp.flags & IFF_UP) === 0) return this.#drop(m, ifp, 'input_down');
    if (pool.pktlen[m]! < ETHER_HDR_LEN) return this.#drop(m, ifp, 'input_runt');
    if (pool.len[m]! < ETHER_HDR_LEN && (m = pool.pullup(m)) === M_NULL) {
      this.counters.input_nobufs++;
      ifp.counters.idrops++;
      return;
    }
    if (pool.len[m]! < ETHER_HDR_LEN) return this.#drop(m, ifp, 'input_runt'); // pktlen lied
    pool.rcvif[m] = ifp.index;
    if (this.#filters.length > 0 && (m = this.#filterInput(ifp, m, 0)) === M_NULL) return;
    this.#demux(ifp, m);
  }
  /** A frame that has passed the filters, to its protocol. */
  #demux(ifp: Ifnet, m: Mbuf) {
    const pool = this.#pool;
    const dv = pool.dv;
    const at = pool.off[m]!;
    if ((ifp.flags & (IFF_LOOPBACK | IFF_NOARP)) !== 0) {
      pool.csum[m]! &= ~(M_BCAST | M_MCAST); // the link address of a medium without any says nothing
    } else {
      if ((dv.getUint8(at) & 1) !== 0) {
        pool.csum[m]! |= isBroadcastMac(dv, at) ? M_BCAST : M_MCAST;
      } else if (!isMac(dv, at, ifp.mac)) {
        // Also in promiscuous mode: what is for others is for the filters, not for our protocols.
        if ((ifp.flags & IFF_PROMISC) !== 0) {
          pool.freem(m);
          this.counters.input_not_mine++;
          return;
        }
        return this.#drop(m, ifp, 'input_not_mine');
      }
    }
    const type = dv.getUint16(at + 12);
    for (let i = 0; i < this.#types.length; i++) {
      if (this.#types[i] !== type) continue;
      pool.adj(m, ETHER_HDR_LEN);
      this.#protocols[i]!(ifp, m);
      return;
    }
    ifp.counters.inoproto++;
    if (type === ETHERTYPE_VLAN) this.counters.input_vlan++;
    else this.counters.input_no_protocol++;
    pool.freem(m);
  }

  /**
   * Sends an IP packet to a next hop on an interface, finding its link address. Takes ownership.
   * Returns 0 (sent, or held until the neighbour answers), -ENETDOWN, -ENOBUFS or -EHOSTUNREACH.
   */
  output(ifp: Ifnet, m: Mbuf, type: number, nexthop: InAddr): number {
    const pool = this.#pool;
    if (!ifp.running) {
      pool.freem(m);
      this.counters.output_down++;
      return -ENETDOWN;
    }
    m = pool.prepend(m, ETHER_HDR_LEN);
    if (m === M_NULL) {
      this.counters.output_nobufs++;
      return -ENOBUFS;
    }
    const dv = pool.dv;
    const at = pool.off[m]!;
    writeMac(dv, at + 6, ifp.mac);
    dv.setUint16(at + 12, type);
    if ((ifp.flags & (IFF_LOOPBACK | IFF_NOARP)) !== 0) {
      dv.setInt32(at, 0);
      dv.setUint16(at + 4, 0);
      return this.transmit(ifp, m);
    }
    if (nexthop.isMulticast) {
      writeMulticastMac(dv, at, nexthop);
      return this.transmit(ifp, m);
    }
    if (nexthop.family === 4 && this.#owner.routes.isBroadcast(ifp, nexthop)) {
      dv.setInt32(at, -1);
      dv.setUint16(at + 4, 0xffff);
      return this.transmit(ifp, m);
    }
    const table = nexthop.family === 4 ? this.#resolver4 : this.#resolver6;
    if (table === undefined) {
      pool.freem(m);
      this.counters.output_no_neighbour_protocol++;
      return -EHOSTUNREACH;
    }
    const e = table.resolve(ifp, nexthop, m);
    if (e === undefined) {
      this.counters.held_for_neighbour++;
      return 0;
    }
    writeMac(dv, at, e.mac);
    return this.transmit(ifp, m);
  }

  /** Sends a frame that was held for its destination's link address. */
  release(e: LlEntry, m: Mbuf): void {
    writeMac(this.#pool.dv, this.#pool.off[m]!, e.mac);
    this.transmit(e.ifp, m);
  }

  /** Sends a complete frame. Takes ownership. Returns 0, -ENETDOWN or -ENOBUFS. */
  transmit(ifp: Ifnet, m: Mbuf): number {
    const last = this.#filters.length - 1;
    if (last >= 0 && (m = this.#filterOutput(ifp, m, last)) === M_NULL) return 0;
    return this.#drive(ifp, m);
  }
  #drive(ifp: Ifnet, m: Mbuf): number {
    const pool = this.#pool;
    if (!ifp.running || ifp.driver === undefined) {
      pool.freem(m);
      this.counters.output_down++;
      return -ENETDOWN;
    }
    if (!ifp.driver.output(m)) {
      this.counters.output_full++; // the driver has freed it and counted odrops
      return -ENOBUFS;
    }
    if (!this.#dirty.includes(ifp)) this.#dirty.push(ifp);
    return 0;
  }

  /**
   * A filter's own frame, or one that it had kept: goes on from its place in the chain, so that it does not see it again.
   * Takes ownership. Returns 0, -ENETDOWN or -ENOBUFS (output), or -ENOENT: the filter is in no chain, the frame is freed.
   */
  inject(filter: IfFilter, ifp: Ifnet, m: Mbuf, input: boolean): number {
    const pool = this.#pool;
    let place = -1;
    for (let f: IfFilter | undefined = filter; f !== undefined && place < 0; f = this.#successors.get(f))
      place = this.#filters.findIndex(x => x.filter === f);
    if (place < 0 || ifp.index === 0) {
      this.counters.inject_gone++;
      pool.freem(m);
      return -ENOENT;
    }
    if (!input) {
      m = this.#filterOutput(ifp, m, place - 1);
      return m === M_NULL ? 0 : this.#drive(ifp, m);
    }
    if ((ifp.flags & IFF_UP) === 0) this.#drop(m, ifp, 'input_down');
    else if (pool.len[m]! < ETHER_HDR_LEN) this.#drop(m, ifp, 'input_runt');
    else {
      pool.rcvif[m] = ifp.index;
      m = this.#filterInput(ifp, m, place + 1);
      if (m !== M_NULL) this.#demux(ifp, m);
    }
    return 0;
  }

  /** Rings the doorbell of every interface that was given frames since the last flush. */
  flush(): void {
    if (this.#dirty.length === 0) return;
    const list = this.#dirty;
    this.#dirty = this.#flushing;
    for (let i = 0; i < list.length; i++) list[i]!.driver?.flush();
    while (list.length > 0) list.pop(); // (a length of zero would give the storage back)
    this.#flushing = list;
  }
  /** True while frames wait for a doorbell. */
  get dirty(): boolean {
    return this.#dirty.length > 0;
  }

  // Private parts

  #drop(m: Mbuf, ifp: Ifnet, why: keyof typeof DLIL_COUNTERS): void {
    this.counters[why]++;
    ifp.counters.idrops++;
    this.#pool.freem(m);
  }

  #filterInput(ifp: Ifnet, m: Mbuf, from: number): Mbuf {
    const chain = this.#filters;
    for (let i = from; i < chain.length; i++) {
      const f = chain[i]!;
      if (f.filter.input === undefined || (f.ifp !== undefined && f.ifp !== ifp) || f.gone) continue;
      m = this.#run(f, ifp, m, true);
      if (m !== NONE && this.#pool.len[m]! < HEADER) {
        this.#pool.freem(m);
        m = NONE;
      }
      if (m === NONE) {
        this.counters.input_filtered++;
        return NONE;
      }
    }
    return m;
  }
  #filterOutput(ifp: Ifnet, m: Mbuf, from: number): Mbuf {
    const chain = this.#filters;
    for (let i = from; i >= 0; i--) {
      const f = chain[i]!;
      if (f.filter.output === undefined || (f.ifp !== undefined && f.ifp !== ifp) || f.gone) continue;
      m = this.#run(f, ifp, m, false);
      if (m === M_NULL) {
        this.counters.output_filtered++;
        return M_NULL;
      }
    }
    return m;
  }

  /**
   * Runs one filter over one frame. The frame is lent: while the filter has it, it is the extension's, and what comes back
   * must be too. A filter that throws or breaks that rule is taken out of the chain; the frame goes on if it is still there.
   */
  #run(f: Filtering, ifp: Ifnet, m: Mbuf, input: boolean): Mbuf {
    const pool = this.#pool;
    const { tag } = f;
    const { owner, words, stride } = pool;
    // A frame of one mbuf, which is what nearly all are: MbufPool.assign written out, and counted only if it does not come back.
    let lent = false;
    if (tag !== 0) {
      lent = owner[m] === 0 && words[m + NEXT * stride] === NONE;
      if (lent) owner[m] = tag;
      else pool.assign(m, tag);
    }
    let r: Mbuf;
    f.busy++;
    try {
      r = input ? f.filter.input!(ifp, m) : f.filter.output!(ifp, m);
    } catch (e) {
      f.busy--;
      if (lent) pool.held[tag]!++;
      return this.#broke(f, m, e);
    }
    f.busy--;
    if (
      lent &&
      r === m &&
      owner[r] === tag &&
      words[r + NEXT * stride] === NONE &&
      inside(words[r]!, words[r + SIZE * stride]!, words[r + OFF * stride]!, words[r + LEN * stride]!)
    ) {
      owner[r] = 0;
      return r;
    }
    if (lent) pool.held[tag]!++;
    if (tag === 0) {
      if (r === NONE || pool.isLive(r)) return r;
      return this.#broke(f, m, 'it returned an mbuf that is free');
    }
    if (r === NONE) {
      const kept = pool.held[tag]!;
      if (kept > f.owner!.limit)
        this.#broke(f, NONE, `it keeps ${kept} mbufs, more than the ${f.owner!.limit} that it may`);
      return NONE;
    }
    if (owner[r] !== tag)
      return this.#broke(
        f,
        m,
        pool.isLive(r) ? `it returned mbuf ${r}, which is not its own` : `it returned mbuf ${r}, which is free`,
      );
    if (!inside(pool.base[r]!, pool.size[r]!, pool.off[r]!, pool.len[r]!))
      return this.#broke(f, r, `it returned mbuf ${r} with its data outside the buffer`, true);
    pool.assign(r, 0);
    return r;
  }
  /** Takes a filter out that broke the rules. Returns the frame if it can still go on, else M_NULL. */
  #broke(f: Filtering, m: Mbuf, why: unknown, spoilt = false): Mbuf {
    const pool = this.#pool;
    this.counters.filter_faults++;
    if (!f.gone) this.detachFilter(f.filter);
    let on = M_NULL;
    if (m !== M_NULL && pool.isLive(m) && pool.owner[m] === f.tag) {
      pool.assign(m, 0);
      if (spoilt) pool.freem(m);
      else on = m;
    }
    if (m !== M_NULL && on === M_NULL) this.counters.filter_lost++;
    this.#report(f, why);
    return on;
  }
  #report(f: Filtering, why: unknown): void {
    const what = `filter ${f.filter.name}`;
    if (f.owner !== undefined) f.owner.fault(what, why);
    else
      this.#owner.events.emit({
        kind: 'kext-fault',
        kext: '',
        what,
        reason: why instanceof Error ? why.message : String(why),
      });
  }

  #tell(ifp: Ifnet, e: KernelEvent): void {
    for (const f of this.#filters) {
      if (f.filter.event === undefined || f.gone || (f.ifp !== undefined && f.ifp !== ifp)) continue;
      try {
        f.filter.event(ifp, e);
      } catch (error) {
        this.#broke(f, M_NULL, error);
      }
    }
    this.#owner.events.emit(e);
  }

  /** What happens to the whole host (sleep, wake): each filter hears it for every interface it sits on, the bus once. */
  announce(e: KernelEvent): void {
    for (const f of this.#filters)
      for (const ifp of this.#interfaces) {
        if (f.filter.event === undefined || f.gone || (f.ifp !== undefined && f.ifp !== ifp)) continue;
        try {
          f.filter.event(ifp, e);
        } catch (error) {
          this.#broke(f, M_NULL, error);
        }
      }
    this.#owner.events.emit(e);
  }

  /** A driver's report; the driver has set ifp.link and the flags before. */
  #event(ifp: Ifnet, e: KernelEvent): void {
    this.#owner.routes.invalidate();
    if (e.kind === 'mtu') ifp.mtu = e.mtu;
    else if (e.kind === 'if-up' || e.kind === 'if-down') this.#reported = true;
    this.#tell(ifp, e);
    this.#checkUsable(ifp);
  }

  /** Tells the hooks when frames can pass from now on, or no more. */
  #checkUsable(ifp: Ifnet): void {
    const usable = ifp.running;
    if (this.#usable.has(ifp) === usable) return;
    if (usable) this.#usable.add(ifp);
    else {
      this.#usable.delete(ifp);
      // What was learnt of the neighbours belongs to the link that is gone.
      this.#resolver4?.flush(ifp);
      this.#resolver6?.flush(ifp);
    }
    for (const fn of this.#linkHooks) fn(ifp, usable);
  }
}
