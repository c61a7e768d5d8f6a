/**
 * The kernel programming interface: the one object that `start(kpi)` of an extension is handed. The loader makes one per
 * extension; whatever is registered through it is written down and taken back when the extension leaves, whether its
 * `stop` does so or not. Names are Darwin's where Darwin has one (iflt_attach, sflt_register, ctl_register,
 * net_add_domain, ifnet_attach); every function returns 0 (or what it says) or -errno, and throws only for programmer errors.
 *
 * Rules for code behind this interface:
 *   - packets are got and freed through `kpi.pool`, which knows whose they are: an extension owns a frame from the moment a
 *     callback is given it until it returns it, frees it, or hands it on with one of the functions that say so;
 *   - a callback that throws is taken out, counted and reported by name (event "kext-fault"); traffic goes on without it;
 *   - after the extension is unloaded every function here throws, and no callback of it is called any more.
 */

import type { IfFilter, IfIoctl } from '../net/dlil.js';
import type { Ifnet } from '../net/ifnet.js';
import type { InAddr } from '../netinet/in.js';
import type { Stack } from '../stack.js';
import type { Nanos, Random } from './clock.js';
import type { Counters } from './counters.js';
import type { ControlHandlers } from './ctl.js';
import type { StampedEvent } from './event.js';
import type { KextPool } from './kpipool.js';
import type { Mbuf } from './mbuf.js';
import type { Domain, IpInfo, Protosw } from './protosw.js';
import type { InjectInfo, SocketFilter } from './sflt.js';
import type { SendInfo, SockAddr, Socket } from './socket.js';
import type { SysctlProcedure, SysctlRow } from './sysctl.js';

/** A parameter's value. */
export type ParamValue = number | string | boolean;

/** A parameter of an extension, as its manifest declares it: a row of data, like a sysctl. */
export interface ParamRow {
  readonly type: 'integer' | 'number' | 'boolean' | 'string';
  readonly default: ParamValue;
  /** For numbers: the range, both ends allowed. */
  readonly min?: number;
  readonly max?: number;
  /** For strings: what is allowed, if only a few are; else any of at most `maxLength` (256) characters. */
  readonly values?: readonly string[];
  readonly maxLength?: number;
  readonly meaning: string;
  /** True: can be set while the extension runs (PF_NKE); default: only when it is loaded. */
  readonly live?: boolean;
}

/** A timer of an extension: a callout(9) that is stopped when the extension leaves. */
export interface KextCallout {
  readonly pending: boolean;
  /** (Re)arms for now + delay nanoseconds; Infinity stops it. */
  reset(delay: Nanos): void;
  stop(): void;
}

/** Detail of an extension's own kernel event: small, flat, JSON. */
export type KextEventDetail = Readonly<Record<string, string | number | boolean>>;

/** Bounds of what a sink writes. */
export interface SinkOptions {
  /** Ending of its files' names: "pcapng". Small letters and digits, at most 8. */
  readonly suffix: string;
  /** Bytes of a file before the next one begins, and files that are kept: the oldest is removed (a ring). */
  readonly fileBytes: number;
  readonly files: number;
  /** What every file begins with. Read when the sink is opened and at each new file. */
  readonly header: Uint8Array;
}

/** Where an extension may write bytes: files in one folder that the operator has named, and nowhere else. */
export interface Sink {
  /** Writes whole records; a file never ends within one call's bytes. Returns their number or -errno (disk full, closed). */
  write(bytes: Uint8Array): number;
  close(): void;
}

/** A classic BPF program, four numbers an instruction: code, jt, jf, k (tcpdump -ddd). Checked by whoever runs it. */
export type BpfProgram = readonly (readonly [number, number, number, number])[];

/** What the machine around the stack lends to extensions; the stack itself does no I/O. Set by the appliance. */
export interface HostServices {
  sink?: (name: string, options: SinkOptions) => Sink | number;
  /** Compiles a capture filter expression for Ethernet frames; or says in a sentence why not. */
  compileBpf?: (expression: string) => BpfProgram | string;
  /** Nanoseconds to add to the clock to get the time since 1970: seconds and the rest. */
  epoch?: { readonly seconds: number; readonly nanos: number };
  hostname?: string;
}

export interface Kpi {
  /** Identifier and version of the manifest. */
  readonly identifier: string;
  readonly version: string;
  /** Every parameter of the manifest, checked, defaults filled in. Live ones change in place (see ctl_register's `changed`). */
  readonly params: Readonly<Record<string, ParamValue>>;
  /** Interfaces that the operator wants it on (preference file, kextload --on); empty: all, or the extension's own choice. */
  readonly where: readonly string[];
  /** What the version that this one replaces (kextreplace) gave from its `handover()`; undefined at a plain load. */
  readonly inherited: unknown;

  /** Writes a line (at most 1,024 characters, 64 lines a second) to the event stream: event "kext-log". */
  log(text: string): void;
  /** The stack's clock: `now` in nanoseconds, the same for all that one batch causes. */
  readonly clock: { readonly now: Nanos };
  readonly random: Random;
  /** A timer. `fn` is fixed for life; make it once, not per packet. */
  callout(fn: () => void): KextCallout;

  /** The mbuf pool, with ownership: what this extension got and has not passed on counts as held by it (kextstat). */
  readonly pool: KextPool;

  /** Registers sysctl rows under a prefix; `values` is the live record, keyed by row. Returns 0 or -EEXIST. */
  sysctl(prefix: string, rows: readonly SysctlRow[], values: Record<string, number>): number;
  /** Registers one computed or text value, prefix.name. Returns 0 or -EEXIST. */
  sysctl_proc(prefix: string, name: string, procedure: SysctlProcedure): number;
  /** Registers a live record of counters, present from the start with zero. Returns 0 or -EEXIST. Read by PF_NKE `stats` too. */
  counters(name: string, record: Counters): number;

  readonly events: {
    /** Kernel events from now on. Returns the function that takes the subscription back. */
    subscribe(fn: (e: StampedEvent) => void): () => void;
    /** Emits an event of this extension (kind "kext"): also told to PF_NKE clients that subscribed. Never on the data path. */
    emit(what: string, reason: string, detail?: KextEventDetail): void;
  };

  // Position 1: data-link filters (stack/net/dlil.ts)

  /**
   * Attaches a data-link filter to one interface, or to all (ifname undefined). Frames come with their Ethernet header; a
   * filter returns the frame, another mbuf of its own, or M_NULL when it has freed or kept it. Returns 0, -ENOENT (no such
   * interface) or -EEXIST (a filter of this name). During kextreplace a filter takes the place of the one of the same name.
   */
  iflt_attach(filter: IfFilter, ifname?: string): number;
  /** Takes a filter off; its `detached` is called. Returns 0 or -ENOENT. */
  iflt_detach(filter: IfFilter): number;

  /**
   * Lets a frame go on from the filter's own place in the chain: the filters behind it see it, it does not. Takes ownership
   * of m, which must be this extension's. Also from stop(), for what the filter has queued. Returns 0, -ENETDOWN, -ENOBUFS,
   * or -ENOENT (not attached: the frame is freed).
   */
  iflt_inject(filter: IfFilter, ifp: Ifnet, m: Mbuf, direction: 'input' | 'output'): number;
  /** Asks something of an interface (MTU, address filter, multicast group): its filters first, then its driver. 0 or -errno. */
  ifnet_ioctl(ifp: Ifnet, request: IfIoctl): number;
  /** All interfaces. */
  ifnet_list(): readonly Ifnet[];

  // Position 2: families

  /** Adds a protocol family, so that rows of it can be added. Returns 0 or -EEXIST. */
  net_add_domain(domain: Domain): number;
  /**
   * Adds a row to the protocol switch: IP hands packets of its number to `input`, sockets find it by (domain, type,
   * protocol). Returns 0, -EAFNOSUPPORT (no such domain) or -EEXIST. Sockets of it are references: they hold the extension.
   */
  proto_add(row: Protosw): number;
  /** Takes a row out. Returns 0 or -ENOENT. */
  proto_del(row: Protosw): number;

  // Position 3: protocols of an EtherType, and interfaces of its own

  /** Attaches a protocol by EtherType (dlil_attach_protocol): owns packets, Ethernet header stripped. Returns 0 or -EEXIST. */
  proto_plumb(etherType: number, input: (ifp: Ifnet, m: Mbuf) => void): number;
  proto_unplumb(etherType: number): number;
  /** Attaches an interface whose driver is this extension (VLAN, tunnel). Returns its index or -EEXIST. */
  ifnet_attach(ifp: Ifnet): number;
  /** Detaches an own interface: addresses, routes and filters on it go. Returns 0 or -ENOENT. */
  ifnet_detach(ifp: Ifnet): number;
  /** Gives an own interface an address; it goes with the interface. Returns 0 or -errno (Dlil.addAddress). */
  ifnet_add_address(ifp: Ifnet, addr: InAddr, prefix: number): number;
  /** An interface by name, also of others. */
  ifnet_find(name: string): Ifnet | undefined;
  /** Takes the packets of a UDP port (RFC 6951 tunnels). Returns 0 or -EADDRINUSE. */
  udp_tunnel(port: number, input: (m: Mbuf, info: IpInfo) => void): number;
  udp_untunnel(port: number): number;

  // Handing packets to the stack: each takes ownership of m, which must be this extension's

  /** Sends a complete frame through the filters above the driver (dlil_output). Returns 0, -ENETDOWN or -ENOBUFS. */
  ifnet_transmit(ifp: Ifnet, m: Mbuf): number;
  /** Hands a frame in as if `ifp` had received it (ifnet_input). */
  ifnet_input(ifp: Ifnet, m: Mbuf): void;
  /** Sends a transport packet by IP (ip_output, ip6_output). Returns 0 or -errno. */
  ip_output(m: Mbuf, src: InAddr, dst: InAddr, proto: number, tos: number, df: boolean): number;
  /**
   * Answers a packet that came through a row's `input` and that nobody wants with ICMP port unreachable (RFC 792, RFC 4443
   * §3.1), rate-limited. The packet must be whole, as input was given it; during that call only.
   */
  icmp_port_unreach(m: Mbuf, info: IpInfo): void;
  /** The address that a packet to `dst` would leave from, into `into`; false: no route. */
  ip_source(dst: InAddr, into: InAddr): boolean;
  /** True for an address of this host. */
  ip_is_local(addr: InAddr): boolean;

  // Position 4: socket filters (stack/kern/sflt.ts)

  /** Registers a socket filter. Returns 0 or -EEXIST. */
  sflt_register(filter: SocketFilter): number;
  /** Returns 0 or -ENOENT. */
  sflt_unregister(filter: SocketFilter): number;
  /** Puts a registered filter on one socket (those with `programmatic` come on no other way). Returns 0 or -errno. */
  sflt_attach(so: Socket, filter: SocketFilter): number;
  /** Takes it off one socket. Returns 0 or -ENOENT. */
  sflt_detach(so: Socket, filter: SocketFilter): number;
  /** Gives a program a message as if received, past the filters; copies. Returns 0, -EINVAL (closed), -ENOBUFS. */
  sock_inject_data_in(so: Socket, data: Uint8Array, info?: InjectInfo): number;
  /** Sends past the filters what was swallowed before. Returns the length or -errno (-EAGAIN: no room). */
  sock_inject_data_out(so: Socket, data: Uint8Array, to?: SockAddr, info?: SendInfo): number;
  /** Tells a program that was given -EAGAIN to try again. */
  sock_wakeup(so: Socket): number;

  // What the machine lends: absent in virtual time unless the test provides it

  /** Opens a bounded ring of files in the operator's folder (kextLogs of the configuration), or -EOPNOTSUPP (none given), -EINVAL, -errno. */
  sink(name: string, options: SinkOptions): Sink | number;
  /** Compiles a capture filter expression (tcpdump's language) for Ethernet frames, or says why not. Never on the data path. */
  bpf_compile(expression: string): BpfProgram | string;

  /**
   * Control by PF_NKE (stack/kern/ctl.ts): every extension has a control under its identifier that reads and sets its
   * parameters and reads its counters; this adds what it does when one changes, and commands of its own. Once per extension.
   */
  ctl_register(handlers: ControlHandlers): number;

  /** Gives symbols to extensions that depend on this one (kmod linkage); they go when it leaves. */
  export_symbols(symbols: Readonly<Record<string, unknown>>): void;
  /** The symbols of an extension that the manifest names as a dependency; throws for any other. */
  symbols(identifier: string): Readonly<Record<string, unknown>>;

  /**
   * For what has no function above: registers an undo of the extension's own, run (last first) when it leaves. `name` says
   * in reports what was taken back.
   */
  at_stop(name: string, undo: () => void): void;

  /** The stack itself. For the built-in SCTP: nothing done through it is written down, except by snapshots of the tables. */
  readonly stack: Stack;
}
