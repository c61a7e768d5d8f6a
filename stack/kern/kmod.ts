/**
 * Kmod: what one loaded extension is to the stack, after Darwin's kmod_info: the kernel programming interface that its
 * `start` is handed (kpi.ts), and the book of everything it registered through it, from which the loader takes all of it
 * back. While an extension is to replace another (kextreplace) its registrations are checked and held, and made in one
 * step by `commit`.
 */

import type { IfFilter, IfIoctl } from '../net/dlil.js';
import type { Ifnet } from '../net/ifnet.js';
import { ICMP_UNREACH, ICMP_UNREACH_PORT } from '../netinet/icmp.js';
import { ICMP6_DST_UNREACH, ICMP6_UNREACH_PORT } from '../netinet/icmp6.js';
import type { InAddr } from '../netinet/in.js';
import type { Stack } from '../stack.js';
import { Callout } from './callout.js';
import { type Nanos, type Random, SEC } from './clock.js';
import type { Counters } from './counters.js';
import type { Control, ControlHandlers } from './ctl.js';
import { EADDRINUSE, EAFNOSUPPORT, EBUSY, EEXIST, EINVAL, ENOENT, ENOMEM, EOPNOTSUPP, errnoName } from './errno.js';
import type { StampedEvent } from './event.js';
import type { BpfProgram, KextCallout, KextEventDetail, Kpi, ParamRow, ParamValue, Sink, SinkOptions } from './kpi.js';
import { KextFault, KextPool } from './kpipool.js';
import type { Mbuf } from './mbuf.js';
import type { Domain, IpInfo, Protosw } from './protosw.js';
import type { InjectInfo, SocketFilter } from './sflt.js';
import { openSockets, type SendInfo, type SockAddr, type Socket } from './socket.js';
import type { SysctlProcedure, SysctlRow } from './sysctl.js';

/** Things that one extension may have registered at once. */
export const MAX_REGISTRATIONS = 4096;
/** Characters of a line that it logs or an event's text, and lines a second; more are dropped, and their number told. */
export const MAX_LOG = 1024;
export const MAX_LOG_LINES = 64;
const MAX_REPORTED = 64;

export type RegistrationKind =
  | 'filter'
  | 'domain'
  | 'protocol'
  | 'ethertype'
  | 'interface'
  | 'UDP tunnel'
  | 'socket filter'
  | 'sysctl'
  | 'counters'
  | 'subscription'
  | 'timer'
  | 'undo';

interface Registration {
  readonly kind: RegistrationKind;
  /** Unique within its kind: a name, a number. */
  readonly key: string;
  /** What is registered, for finding it again. */
  readonly object: unknown;
  /** Makes it: 0 or more, or -errno. Called at once, or by commit. */
  readonly make: () => number;
  readonly undo: () => void;
  made: boolean;
}

export interface KmodOptions {
  readonly identifier: string;
  readonly version: string;
  readonly rows: Readonly<Record<string, ParamRow>>;
  readonly values: Record<string, ParamValue>;
  readonly where: readonly string[];
  readonly tag: number;
  readonly limit?: number;
  /** True for what ships with the stack and keeps its own books of mbufs: its rows are put in as they are. */
  readonly builtin: boolean;
  readonly inherited?: unknown;
  /** The one that this replaces. */
  readonly predecessor?: Kmod;
  readonly dependencies: (identifier: string) => Kmod | undefined;
}

export class Kmod implements Kpi {
  readonly identifier: string;
  readonly version: string;
  readonly params: Record<string, ParamValue>;
  readonly where: readonly string[];
  readonly inherited: unknown;
  readonly clock: { readonly now: Nanos };
  readonly random: Random;
  readonly pool: KextPool;
  readonly stack: Stack;
  readonly events: Kpi['events'];
  readonly tag: number;
  readonly limit: number;
  /** Callbacks that broke the rules, and the last reason. */
  faults = 0;
  lastFault = '';
  exported: Readonly<Record<string, unknown>> = {};
  readonly control: Control;
  readonly #options: KmodOptions;
  readonly #book: Registration[] = [];
  readonly #reported = new Set<string>();
  readonly #counters = new Map<string, Counters>();
  /** What the switch holds for each row: the row itself, or one around it. */
  readonly #rows = new Map<Protosw, Protosw>();
  #handlers: ControlHandlers = {};
  #staged: boolean;
  #alive = true;
  #serial = 0;
  #logSecond: Nanos = Number.NEGATIVE_INFINITY;
  #logged = 0;

  constructor(stack: Stack, options: KmodOptions) {
    this.#options = options;
    this.stack = stack;
    this.identifier = options.identifier;
    this.version = options.version;
    this.params = options.values;
    this.where = options.where;
    this.inherited = options.inherited;
    this.clock = stack.clock;
    this.random = stack.random;
    this.tag = options.tag;
    this.pool = new KextPool(stack.pool, options.tag, options.limit);
    this.limit = this.pool.limit;
    this.#staged = options.predecessor !== undefined;
    this.events = {
      subscribe: fn => this.#subscribe(fn),
      emit: (what, reason, detail = {}) => this.#emit(what, reason, detail),
    };
    this.control = {
      identifier: options.identifier,
      version: options.version,
      rows: options.rows,
      values: options.values,
      handlers: {
        changed: (name, value) => this.#handlers.changed?.(name, value),
        statistics: () => ({ ...this.#handlers.statistics?.(), mbufs_held: this.pool.held, faults: this.faults }),
        commands: {},
      },
      counters: () => Object.fromEntries(this.#counters),
      fault: (what, why) => this.fault(what, why),
    };
  }

  // The book

  #check(): void {
    if (!this.#alive) throw new KextFault(`${this.identifier} is unloaded: its programming interface is closed`);
  }
  #find(kind: RegistrationKind, key: string): Registration | undefined {
    return this.#book.find(r => r.kind === kind && r.key === key);
  }
  /** True when this extension has such a thing, so that a successor may take its place. */
  has(kind: RegistrationKind, key: string): boolean {
    return this.#find(kind, key) !== undefined;
  }
  /**
   * Registers one thing. `taken`: the -errno if somebody has that place already, else 0; a place that the predecessor has
   * counts as free. Returns what `make` does, or 0 while staged.
   */
  #register(
    kind: RegistrationKind,
    key: string,
    object: unknown,
    taken: () => number,
    make: () => number,
    undo: () => void,
  ): number {
    this.#check();
    if (this.#book.length >= MAX_REGISTRATIONS) return -ENOMEM;
    if (this.has(kind, key)) return -EEXIST;
    const e = taken();
    if (e < 0 && !(this.#staged && this.#options.predecessor!.has(kind, key))) return e;
    const entry: Registration = { kind, key, object, make, undo, made: false };
    if (!this.#staged) {
      const made = make();
      if (made < 0) return made;
      entry.made = true;
      this.#book.push(entry);
      return made;
    }
    this.#book.push(entry);
    return 0;
  }
  #withdraw(kind: RegistrationKind, key: string): number {
    this.#check();
    const entry = this.#find(kind, key);
    if (entry === undefined) return -ENOENT;
    this.#book.splice(this.#book.indexOf(entry), 1);
    if (entry.made) entry.undo();
    return 0;
  }
  #keyOf(kind: RegistrationKind, object: unknown): string {
    return this.#book.find(r => r.kind === kind && r.object === object)?.key ?? '';
  }

  /** Names of all it has registered, for kextstat. */
  registered(): readonly string[] {
    return this.#book.filter(r => r.kind !== 'undo').map(r => `${r.kind} ${r.key}`);
  }
  /** Rows of the protocol switch, as they stand in it. */
  rows(): readonly Protosw[] {
    return [...this.#rows.values()];
  }
  /** Sockets of its protocols that are open, as holders. */
  sockets(): readonly string[] {
    const out: string[] = [];
    for (const [row, put] of this.#rows) {
      const n = openSockets(row) + (put === row ? 0 : openSockets(put));
      if (n > 0) out.push(`${n} open socket${n === 1 ? '' : 's'} of ${row.name}`);
    }
    return out;
  }
  /** Own interfaces, by name. */
  interfaces(): readonly string[] {
    return this.#book.filter(r => r.kind === 'interface').map(r => r.key);
  }

  /**
   * Takes back everything, last first, and closes the interface. Returns the names of what was still registered, `quiet`
   * kinds (timers, subscriptions) left out unless something of them went wrong.
   */
  sweep(): string[] {
    const swept: string[] = [];
    for (let r = this.#book.pop(); r !== undefined; r = this.#book.pop()) {
      if (!r.made) continue;
      try {
        r.undo();
        if (r.kind !== 'timer' && r.kind !== 'subscription' && r.kind !== 'undo') swept.push(`${r.kind} ${r.key}`);
        else if (r.kind === 'undo') swept.push(r.key);
      } catch (e) {
        this.fault(`taking back ${r.kind} ${r.key}`, e);
        swept.push(`${r.kind} ${r.key} (${message(e)})`);
      }
    }
    this.#rows.clear();
    this.#counters.clear();
    this.#handlers = {};
    this.exported = {};
    const kept = this.pool.close();
    if (kept > 0) swept.push(`${kept} mbuf${kept === 1 ? '' : 's'} that it kept`);
    this.#alive = false;
    return swept.reverse();
  }

  /**
   * Makes what was staged, in the place of the predecessor. `retire` stops the predecessor and takes the rest of it back;
   * it runs when the filters have changed hands and before anything else that both have. Returns complaints.
   */
  commit(retire: () => void): string[] {
    const old = this.#options.predecessor!;
    const failed: string[] = [];
    this.#staged = false;
    for (const r of this.#book) {
      if (r.kind !== 'filter') continue;
      const was = old.#find('filter', r.key);
      if (was === undefined || !was.made) continue;
      const e = this.stack.interfaces.replaceFilter(was.object as IfFilter, r.object as IfFilter, this);
      if (e < 0) failed.push(`filter ${r.key} (${errnoName(e)})`);
      else r.made = true;
      was.made = false;
    }
    retire();
    for (const r of this.#book) {
      if (r.made) continue;
      const e = r.make();
      if (e < 0) failed.push(`${r.kind} ${r.key} (${errnoName(e)})`);
      else r.made = true;
    }
    return failed;
  }

  /** A callback of the extension broke the rules: counted, reported the first time each. */
  fault(what: string, why: unknown): void {
    this.faults++;
    this.lastFault = `${what}: ${message(why)}`;
    if (this.#reported.has(what) || this.#reported.size >= MAX_REPORTED) return;
    this.#reported.add(what);
    this.stack.events.emit({ kind: 'kext-fault', kext: this.identifier, what, reason: message(why) });
  }

  // Kpi

  log(text: string): void {
    this.#check();
    let lost = 0;
    if (this.clock.now - this.#logSecond >= SEC) {
      lost = Math.max(0, this.#logged - MAX_LOG_LINES);
      this.#logSecond = this.clock.now;
      this.#logged = 0;
    }
    if (this.#logged++ >= MAX_LOG_LINES) return;
    const line = String(text).slice(0, MAX_LOG);
    this.stack.events.emit({
      kind: 'kext-log',
      kext: this.identifier,
      text: lost > 0 ? `${line} (${lost} lines before this one were dropped)` : line,
    });
  }

  callout(fn: () => void): KextCallout {
    const key = `timer ${++this.#serial}`;
    const wheel = this.stack.callouts;
    let dead = false;
    const c = new Callout(() => {
      if (dead || !this.#alive) return;
      try {
        fn();
      } catch (e) {
        dead = true;
        this.fault(key, e);
      }
    });
    const stop = () => {
      dead = true;
      wheel.stop(c);
    };
    const e = this.#register(
      'timer',
      key,
      c,
      () => 0,
      () => 0,
      stop,
    );
    if (e < 0) throw new KextFault(`${this.identifier} has too many timers and registrations (${errnoName(e)})`);
    // Timers of one that is staged run too: they are its own.
    this.#book.at(-1)!.made = true;
    return {
      get pending() {
        return c.pending;
      },
      reset: delay => {
        if (!dead) wheel.reset(c, delay);
      },
      stop: () => wheel.stop(c),
    };
  }

  sysctl(prefix: string, rows: readonly SysctlRow[], values: Record<string, number>): number {
    const { sysctl } = this.stack;
    const names = rows.map(r => `${prefix}.${r.name}`);
    return this.#register(
      'sysctl',
      prefix,
      rows,
      () => (names.some(n => sysctl.has(n)) ? -EEXIST : 0),
      () => sysctl.add(prefix, rows, values),
      () => sysctl.removeNames(names),
    );
  }
  sysctl_proc(prefix: string, name: string, procedure: SysctlProcedure): number {
    const { sysctl } = this.stack;
    const full = `${prefix}.${name}`;
    const guarded: SysctlProcedure = {
      meaning: procedure.meaning,
      unit: procedure.unit,
      get: () => this.#call(`sysctl ${full}`, () => procedure.get(), ''),
      ...(procedure.set === undefined
        ? {}
        : { set: (v: string | number) => this.#call(`sysctl ${full}`, () => procedure.set!(v), -EBUSY) }),
    };
    return this.#register(
      'sysctl',
      full,
      procedure,
      () => (sysctl.has(full) ? -EEXIST : 0),
      () => sysctl.addProcedure(prefix, name, guarded),
      () => sysctl.removeNames([full]),
    );
  }
  counters(name: string, record: Counters): number {
    const { counters } = this.stack;
    return this.#register(
      'counters',
      name,
      record,
      () => (counters.has(name) ? -EEXIST : 0),
      () => {
        if (counters.has(name)) return -EEXIST;
        counters.add(name, record);
        this.#counters.set(name, record);
        return 0;
      },
      () => counters.remove(name),
    );
  }

  #subscribe(fn: (e: StampedEvent) => void): () => void {
    const key = String(++this.#serial);
    let off: (() => void) | undefined;
    const stop = () => {
      off?.();
      off = undefined;
    };
    const e = this.#register(
      'subscription',
      key,
      fn,
      () => 0,
      () => {
        off = this.stack.events.subscribe(event => {
          if (off === undefined) return;
          try {
            fn(event);
          } catch (error) {
            stop();
            this.fault(`event subscription ${key}`, error);
          }
        });
        return 0;
      },
      stop,
    );
    if (e < 0) throw new KextFault(`${this.identifier} has too many registrations (${errnoName(e)})`);
    return () => {
      if (this.#alive) this.#withdraw('subscription', key);
    };
  }
  #emit(what: string, reason: string, detail: KextEventDetail): void {
    this.#check();
    this.stack.events.emit({
      kind: 'kext',
      kext: this.identifier,
      what: String(what).slice(0, MAX_LOG),
      reason: String(reason).slice(0, MAX_LOG),
      detail: { ...detail },
    });
  }

  iflt_attach(filter: IfFilter, ifname?: string): number {
    this.#check();
    const dlil = this.stack.interfaces;
    const ifp = ifname === undefined ? undefined : dlil.byName(ifname);
    if (ifname !== undefined && ifp === undefined) return -ENOENT;
    return this.#register(
      'filter',
      filter.name,
      filter,
      () => (dlil.filters.some(f => f.name === filter.name) ? -EEXIST : 0),
      () => dlil.attachFilter(filter, ifp, this),
      () => dlil.detachFilter(filter),
    );
  }
  iflt_detach(filter: IfFilter): number {
    return this.#withdraw('filter', this.#keyOf('filter', filter));
  }

  net_add_domain(domain: Domain): number {
    const { protocols } = this.stack;
    return this.#register(
      'domain',
      domain.name,
      domain,
      () => (protocols.domains.some(d => d.family === domain.family) ? -EEXIST : 0),
      () => protocols.addDomain(domain),
      () => protocols.removeDomain(domain),
    );
  }
  proto_add(row: Protosw): number {
    const { protocols } = this.stack;
    const put = this.#options.builtin ? row : this.#guardRow(row);
    const e = this.#register(
      'protocol',
      `${row.domain}/${row.type}/${row.protocol}`,
      row,
      () => {
        if (protocols.rows.some(r => r.domain === row.domain && r.type === row.type && r.protocol === row.protocol))
          return -EEXIST;
        return protocols.domains.some(d => d.family === row.domain) || this.#staged ? 0 : -EAFNOSUPPORT;
      },
      () => protocols.add(put),
      () => protocols.remove(put),
    );
    if (e >= 0) this.#rows.set(row, put);
    return e;
  }
  proto_del(row: Protosw): number {
    const e = this.#withdraw('protocol', this.#keyOf('protocol', row));
    if (e >= 0) this.#rows.delete(row);
    return e;
  }
  /** The row with its callbacks watched: packets are lent, a throw takes the row's input out and is reported. */
  #guardRow(row: Protosw): Protosw {
    const what = `protocol ${row.name}`;
    const { input, ctlinput, flush } = row;
    return {
      ...row,
      ...(input === undefined ? {} : { input: this.#guardInput(what, (m, info: IpInfo) => input(m, info)) }),
      ...(ctlinput === undefined ? {} : { ctlinput: c => this.#call(what, () => ctlinput(c), undefined) }),
      ...(flush === undefined ? {} : { flush: this.#guardOnce(what, flush) }),
    };
  }
  /** A function that is called no more once it has thrown. */
  #guardOnce(what: string, fn: () => void): () => void {
    let dead = false;
    return () => {
      if (dead || !this.#alive) return;
      try {
        fn();
      } catch (e) {
        dead = true;
        this.fault(what, e);
      }
    };
  }
  /** A packet handler: lends the packet; after a throw it is given no more, and packets for it are freed. */
  #guardInput<T>(what: string, fn: (m: Mbuf, x: T) => void): (m: Mbuf, x: T) => void {
    const pool = this.stack.pool;
    const { tag } = this;
    let dead = false;
    return (m, x) => {
      if (dead || !this.#alive || pool.held[tag]! > this.limit) {
        pool.freem(m);
        return;
      }
      pool.assign(m, tag);
      try {
        fn(m, x);
      } catch (e) {
        dead = true;
        if (pool.isLive(m) && pool.owner[m] === tag) pool.freem(m);
        this.fault(what, e);
      }
      if (pool.held[tag]! > this.limit) {
        dead = true;
        this.fault(what, `it keeps ${pool.held[tag]} mbufs, more than the ${this.limit} that it may`);
      }
    };
  }
  #call<T>(what: string, fn: () => T, otherwise: T): T {
    if (!this.#alive) return otherwise;
    try {
      return fn();
    } catch (e) {
      this.fault(what, e);
      return otherwise;
    }
  }

  proto_plumb(etherType: number, input: (ifp: Ifnet, m: Mbuf) => void): number {
    const dlil = this.stack.interfaces;
    const guarded = this.#guardInput(`EtherType 0x${etherType.toString(16)}`, (m, ifp: Ifnet) => input(ifp, m));
    return this.#register(
      'ethertype',
      `0x${etherType.toString(16)}`,
      input,
      () => (dlil.hasProtocol(etherType) ? -EEXIST : 0),
      () => {
        if (dlil.hasProtocol(etherType)) return -EEXIST;
        dlil.attachProtocol(etherType, (ifp, m) => guarded(m, ifp));
        return 0;
      },
      () => dlil.detachProtocol(etherType),
    );
  }
  proto_unplumb(etherType: number): number {
    return this.#withdraw('ethertype', `0x${etherType.toString(16)}`);
  }
  ifnet_attach(ifp: Ifnet): number {
    const dlil = this.stack.interfaces;
    return this.#register(
      'interface',
      ifp.name,
      ifp,
      () => (dlil.byName(ifp.name) === undefined ? 0 : -EEXIST),
      () => dlil.attach(ifp),
      () => dlil.detach(ifp),
    );
  }
  ifnet_detach(ifp: Ifnet): number {
    return this.#withdraw('interface', this.#keyOf('interface', ifp));
  }
  ifnet_find(name: string): Ifnet | undefined {
    return this.stack.interfaces.byName(name);
  }
  udp_tunnel(port: number, input: (m: Mbuf, info: IpInfo) => void): number {
    const { udp } = this.stack;
    const guarded = this.#options.builtin ? input : this.#guardInput(`UDP tunnel ${port}`, input);
    return this.#register(
      'UDP tunnel',
      String(port),
      input,
      () => (udp.isTunnel(port) ? -EADDRINUSE : 0),
      () => udp.tunnel(port, guarded),
      () => udp.untunnel(port),
    );
  }
  udp_untunnel(port: number): number {
    return this.#withdraw('UDP tunnel', String(port));
  }

  ifnet_transmit(ifp: Ifnet, m: Mbuf): number {
    this.#check();
    this.pool.giveUp(m);
    return this.stack.interfaces.transmit(ifp, m);
  }
  ifnet_input(ifp: Ifnet, m: Mbuf): void {
    this.#check();
    this.pool.giveUp(m);
    ifp.input(m);
  }
  iflt_inject(filter: IfFilter, ifp: Ifnet, m: Mbuf, direction: 'input' | 'output'): number {
    this.#check();
    this.pool.giveUp(m);
    return this.stack.interfaces.inject(filter, ifp, m, direction === 'input');
  }
  ifnet_ioctl(ifp: Ifnet, request: IfIoctl): number {
    this.#check();
    return this.stack.interfaces.ioctl(ifp, request);
  }
  ifnet_list(): readonly Ifnet[] {
    this.#check();
    return this.stack.interfaces.list();
  }
  ifnet_add_address(ifp: Ifnet, addr: InAddr, prefix: number): number {
    this.#check();
    if (this.#keyOf('interface', ifp) === '') return -ENOENT;
    return this.stack.interfaces.addAddress(ifp, addr, prefix);
  }
  icmp_port_unreach(m: Mbuf, info: IpInfo): void {
    this.#check();
    this.pool.giveUp(m);
    const { ip, ip6, icmp, icmp6 } = this.stack;
    // A train is no packet to quote; what was for everybody is not answered (RFC 1122 §3.2.2).
    if (this.stack.pool.segsz[m] !== 0 || info.dst.isMulticast) this.stack.pool.freem(m);
    else if (info.family === 4) icmp.error(ip.unstrip(m, 0), ICMP_UNREACH, ICMP_UNREACH_PORT, 0);
    else icmp6.error(ip6.unstrip(m, 0), ICMP6_DST_UNREACH, ICMP6_UNREACH_PORT, 0);
  }
  ip_source(dst: InAddr, into: InAddr): boolean {
    this.#check();
    return this.stack.routes.source(dst, into);
  }
  ip_is_local(addr: InAddr): boolean {
    this.#check();
    return this.stack.interfaces.ownerOf(addr) !== undefined || (addr.family === 4 && addr.isLoopback);
  }
  ip_output(m: Mbuf, src: InAddr, dst: InAddr, proto: number, tos: number, df: boolean): number {
    this.#check();
    this.pool.giveUp(m);
    return this.stack.output(m, src, dst, proto, tos, df);
  }

  sflt_register(filter: SocketFilter): number {
    const { sflt } = this.stack;
    return this.#register(
      'socket filter',
      filter.name,
      filter,
      () => (sflt.list.some(f => f.name === filter.name) ? -EEXIST : 0),
      () => sflt.register(filter, this),
      () => sflt.unregister(filter),
    );
  }
  sflt_unregister(filter: SocketFilter): number {
    return this.#withdraw('socket filter', this.#keyOf('socket filter', filter));
  }
  /** True when the filter is one that this extension has registered. */
  #isOwn(filter: SocketFilter): boolean {
    this.#check();
    return this.#keyOf('socket filter', filter) !== '';
  }
  sflt_attach(so: Socket, filter: SocketFilter): number {
    return this.#isOwn(filter) ? this.stack.sflt.attach(so, filter) : -ENOENT;
  }
  sflt_detach(so: Socket, filter: SocketFilter): number {
    return this.#isOwn(filter) ? this.stack.sflt.detach(so, filter) : -ENOENT;
  }
  sock_inject_data_in(so: Socket, data: Uint8Array, info?: InjectInfo): number {
    this.#check();
    return this.stack.sflt.injectIn(so, data, info);
  }
  sock_inject_data_out(so: Socket, data: Uint8Array, to?: SockAddr, info?: SendInfo): number {
    this.#check();
    return this.stack.sflt.injectOut(so, data, to, info);
  }
  sock_wakeup(so: Socket): number {
    this.#check();
    return this.stack.sflt.wakeup(so);
  }

  sink(name: string, options: SinkOptions): Sink | number {
    this.#check();
    const open = this.stack.host.sink;
    if (open === undefined) return -EOPNOTSUPP;
    const s = open(`${this.identifier}.${name}`, options);
    if (typeof s === 'number') return s;
    let closed = false;
    const close = () => {
      if (!closed) s.close();
      closed = true;
    };
    this.at_stop(`sink ${name}`, close);
    return { write: bytes => (closed ? -EINVAL : s.write(bytes)), close };
  }
  bpf_compile(expression: string): BpfProgram | string {
    this.#check();
    const compile = this.stack.host.compileBpf;
    return compile === undefined ? 'nothing here compiles filter expressions' : compile(expression);
  }

  ctl_register(handlers: ControlHandlers): number {
    this.#check();
    if (this.#handlers.changed ?? this.#handlers.statistics ?? this.#handlers.commands) return -EEXIST;
    this.#handlers = handlers;
    Object.assign(this.control.handlers, { commands: handlers.commands ?? {} });
    return 0;
  }

  export_symbols(symbols: Readonly<Record<string, unknown>>): void {
    this.#check();
    this.exported = { ...this.exported, ...symbols };
  }
  symbols(identifier: string): Readonly<Record<string, unknown>> {
    this.#check();
    const other = this.#options.dependencies(identifier);
    if (other === undefined)
      throw new KextFault(`${this.identifier} does not name ${identifier} as a dependency in its manifest`);
    return other.exported;
  }
  at_stop(name: string, undo: () => void): void {
    const e = this.#register(
      'undo',
      `${name}#${++this.#serial}`,
      undo,
      () => 0,
      () => 0,
      undo,
    );
    if (e < 0) throw new KextFault(`${this.identifier} has too many registrations (${errnoName(e)})`);
    this.#book.at(-1)!.made = true;
  }
}

export function message(why: unknown): string {
  return (why instanceof Error ? why.message : String(why)).slice(0, 512);
}
