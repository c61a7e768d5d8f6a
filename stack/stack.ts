/**
 * Stack: one host. It owns the protocol switch, the interfaces, the routes and the timers, and is driven from outside:
 * drivers hand frames to their interface's `input`, then somebody calls `run(now)`, which fires what is due and sends
 * what piled up. Between calls nothing happens; `deadline()` says when the next call is needed.
 */

import { CalloutWheel } from './kern/callout.js';
import type { Clock, Nanos, Random } from './kern/clock.js';
import { CounterRegistry } from './kern/counters.js';
import { ControlDomain } from './kern/ctl.js';
import { EAFNOSUPPORT } from './kern/errno.js';
import { EventBus } from './kern/event.js';
import { EventSockets } from './kern/kevent.js';
import { KextLoader } from './kern/kext.js';
import type { HostServices } from './kern/kpi.js';
import type { Mbuf, MbufPool } from './kern/mbuf.js';
import { ProtocolSwitch } from './kern/protosw.js';
import { SocketFilters } from './kern/sflt.js';
import { type Socket, socketsOf, socreate } from './kern/socket.js';
import type { Steering } from './kern/steering.js';
import { SysctlTree } from './kern/sysctl.js';
import { Dlil } from './net/dlil.js';
import { Loopback } from './net/loopback.js';
import { type Route, RouteTable } from './net/route.js';
import { Arp } from './netinet/arp.js';
import { Icmp } from './netinet/icmp.js';
import { Icmp6 } from './netinet/icmp6.js';
import { InAddr } from './netinet/in.js';
import { Ip } from './netinet/ip.js';
import { Ip6 } from './netinet/ip6.js';
import { Nd6 } from './netinet/nd6.js';
import { Udp } from './netinet/udp.js';

export interface StackOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly pool: MbufPool;
  /** Called when a socket call has made work: whoever runs the loop should call `run` soon. */
  readonly kick?: () => void;
  /** When this stack is one of several that are one host: its queue. */
  readonly steering?: Steering;
  /** Kernel events kept for late readers. */
  readonly keepEvents?: number;
}

/** Rounds of loopback delivery in one run: what has not settled by then goes on in the next (deadline() is then now). */
const LOOPBACK_ROUNDS = 64;

export class Stack {
  readonly clock: Clock;
  readonly random: Random;
  readonly pool: MbufPool;
  readonly steering: Steering | undefined;
  readonly callouts: CalloutWheel;
  readonly events: EventBus;
  readonly counters = new CounterRegistry();
  readonly sysctl = new SysctlTree();
  readonly protocols = new ProtocolSwitch();
  readonly sflt = new SocketFilters(this.protocols, socketsOf);
  /** PF_NKE: how programs reach loaded extensions. */
  readonly ctl: ControlDomain;
  readonly routes: RouteTable;
  readonly interfaces: Dlil;
  readonly arp: Arp;
  readonly nd6: Nd6;
  readonly ip: Ip;
  readonly ip6: Ip6;
  readonly icmp: Icmp;
  readonly icmp6: Icmp6;
  readonly udp: Udp;
  readonly kexts: KextLoader;
  readonly loopback: Loopback;
  /** What the machine around it lends to extensions: files, the time since 1970. */
  readonly host: HostServices = {};
  kick: () => void;
  /**
   * Fills in the CRC32c of the SCTP packet that begins `skip` bytes into m. Set by the SCTP extension, and asked only when
   * a packet marked CSUM_SCTP meets an interface that cannot do it, or has to be fragmented.
   */
  sctpDelayedChecksum: ((m: Mbuf, skip: number) => void) | undefined;

  constructor(options: StackOptions) {
    this.clock = options.clock;
    this.random = options.random;
    this.pool = options.pool;
    this.steering = options.steering;
    this.kick = options.kick ?? (() => {});
    this.callouts = new CalloutWheel(this.clock);
    this.events = new EventBus(this.clock, options.keepEvents);
    this.routes = new RouteTable(
      this.clock,
      a => this.interfaces.ownerOf(a),
      () => this.interfaces.list(),
    );
    this.ctl = new ControlDomain(this.protocols, this.events);
    this.counters.add('ctl', this.ctl.counters);
    this.counters.add('kevent', new EventSockets(this.protocols, this.events).counters);
    this.counters.add('sflt', this.sflt.counters);
    this.counters.add('route', this.routes.counters);
    this.counters.add('mbuf.failed', this.pool.failed);
    this.interfaces = new Dlil(this);
    this.arp = new Arp(this);
    this.ip = new Ip(this);
    this.ip6 = new Ip6(this);
    this.icmp = new Icmp(this);
    this.icmp6 = new Icmp6(this);
    this.nd6 = new Nd6(this);
    this.udp = new Udp(this);
    this.kexts = new KextLoader(this);
    this.loopback = new Loopback(this.pool);
    this.routes.setLoopback(this.loopback.ifp);
    this.interfaces.attach(this.loopback.ifp);
    this.interfaces.addAddress(this.loopback.ifp, InAddr.of('127.0.0.1'), 8);
    this.interfaces.addAddress(this.loopback.ifp, InAddr.of('::1'), 128);
    this.interfaces.setUp(this.loopback.ifp, true);
  }

  /** One step of the host: due callouts, then what the protocols have piled up, then the interfaces' doorbells. */
  run(now: Nanos): void {
    this.clock.now = now;
    this.callouts.run();
    this.protocols.flush();
    for (let round = 0; round < LOOPBACK_ROUNDS && this.loopback.deliver() > 0; round++) this.protocols.flush();
    this.interfaces.flush();
  }

  /** When `run` is needed next even if nothing arrives; Infinity if never. */
  deadline(): Nanos {
    return this.loopback.queued > 0 || this.interfaces.dirty ? this.clock.now : this.callouts.deadline();
  }

  /** socket(2): a socket, or -EPROTONOSUPPORT (its extension is not loaded), or another -errno. */
  socket(domain: number, type: number, protocol: number): Socket | number {
    return socreate(this.protocols, domain, type, protocol, () => this.kick(), this.sflt);
  }

  /** Sends a transport packet or train by the IP of its destination's family. Takes ownership. Returns 0 or -errno. */
  output(m: Mbuf, src: InAddr, dst: InAddr, proto: number, tos: number, df: boolean): number {
    if (src.family !== dst.family && !src.isUnspecified) {
      this.pool.freem(m);
      return -EAFNOSUPPORT;
    }
    return dst.family === 4
      ? this.ip.output(m, src, dst, proto, tos, df)
      : this.ip6.output(m, src, dst, proto, tos, df);
  }

  /** The route that output would take, or undefined: its mtu, trainBytes, trainSegments and ifp. Allocates nothing. */
  routeFor(src: InAddr, dst: InAddr): Route | undefined {
    return this.routes.lookupFrom(src, dst);
  }
  /** CSUM_* that the card on the way fills in; 0 without a route. */
  hwassistFor(src: InAddr, dst: InAddr): number {
    return this.routes.lookupFrom(src, dst)?.ifp.hwassist ?? 0;
  }
  /** The route, if its interface takes trains (trainBytes with the Ethernet header, trainSegments); else undefined. */
  trainFor(src: InAddr, dst: InAddr): Route | undefined {
    const r = this.routes.lookupFrom(src, dst);
    return r !== undefined && r.ifp.trainBytes > 0 ? r : undefined;
  }

  /** Lets go of every mbuf that the stack's own layers hold: neighbours' queues, fragments, loopback. For shutdown. */
  drain(): void {
    this.arp.table.flush();
    this.nd6.table.flush();
    this.ip.reassembly.flush();
    this.ip6.reassembly.flush();
    this.loopback.detach();
  }
}
