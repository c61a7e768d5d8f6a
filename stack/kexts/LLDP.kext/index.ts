/**
 * LLDP.kext: the Link Layer Discovery Protocol (IEEE 802.1AB) as a protocol family of its own. It tells the neighbour on
 * every link who we are, and keeps what the neighbours say until it is too old. A program reads the neighbours and hears
 * of changes through sockets of PF_LLDP, or by PF_NKE (`nke lldp`).
 *
 * Transmission (clause 9.2.5): every msgTxInterval; at once when the link comes up or an address changes, and four times
 * a second apart for a new neighbour; never more than txCreditMax frames at once and one a second after that. Leaving says
 * so: a data unit with time to live 0.
 */

import {
  EAGAIN,
  EINVAL,
  ENOBUFS,
  ENOPROTOOPT,
  ENOTCONN,
  EOPNOTSUPP,
  ETHER_HDR_LEN,
  IFF_BROADCAST,
  type Ifnet,
  type Kext,
  type KextCallout,
  type KextManifest,
  KPI_IDENTIFIER,
  type Kpi,
  M_NULL,
  type Mbuf,
  MSG_EOR,
  MSG_PEEK,
  MSG_TRUNC,
  type Nanos,
  type RecvInfo,
  SEC,
  SOCK_DGRAM,
  type Socket,
  type StampedEvent,
  type Usrreqs,
} from '../../kpi.js';
import { decode, ETHERTYPE_LLDP, encode, LLDP_GROUP, type Lldpdu } from './tlv.js';

export const LLDP_KEXT = 'org.nke.LLDP';
/** The family, and its one protocol. */
export const PF_LLDP = 41;
export const LLDPPROTO_NEIGHBOURS = 1;
/** getsockopt(LLDPPROTO_NEIGHBOURS, LLDP_TABLE): all neighbours. */
export const LLDP_TABLE = 1;

/** Clause 9.2.5.4 and 9.2.5.7, recommended values. */
const TX_CREDIT_MAX = 5;
const TX_FAST = 4;
/** Neighbours on one interface; sockets; changes that wait for a reader. */
const MAX_NEIGHBOURS = 64;
const MAX_SOCKETS = 64;
const MAX_QUEUE = 256;

const manifest: KextManifest = {
  identifier: LLDP_KEXT,
  version: '1.0.0',
  kind: 'family',
  about: 'Link Layer Discovery Protocol, IEEE 802.1AB',
  dependencies: { [KPI_IDENTIFIER]: '1.1.0' },
  parameters: {
    interval: { type: 'integer', default: 30, min: 1, max: 3600, meaning: 'seconds between data units', live: true },
    hold: { type: 'integer', default: 4, min: 1, max: 100, meaning: 'intervals that they are valid for', live: true },
    system_name: { type: 'string', default: '', maxLength: 255, meaning: "our name; empty: the host's", live: true },
  },
};

export interface Neighbour extends Lldpdu {
  readonly ifname: string;
  /** Seconds left. */
  readonly expires: number;
}

interface Known {
  readonly key: string;
  readonly ifname: string;
  pdu: Lldpdu;
  text: string;
  until: Nanos;
}

/** What is kept of an interface that LLDP runs on. */
interface LldpPort {
  readonly ifp: Ifnet;
  credit: number;
  credited: Nanos;
  /** Data units to be sent a second apart. */
  fast: number;
  next: Nanos;
}

const COUNTERS = {
  sent: 0,
  received: 0,
  discarded: 0,
  too_many: 0,
  added: 0,
  changed: 0,
  aged_out: 0,
  withdrawn: 0,
  nobufs: 0,
  held_back: 0,
  events_dropped: 0,
};

class Lldp {
  readonly #kpi: Kpi;
  readonly #counters: Record<keyof typeof COUNTERS, number> = { ...COUNTERS };
  readonly #ports = new Map<Ifnet, LldpPort>();
  readonly #known = new Map<string, Known>();
  readonly #sockets = new Map<Socket, Uint8Array[]>();
  readonly #timer: KextCallout;

  constructor(kpi: Kpi) {
    this.#kpi = kpi;
    this.#timer = kpi.callout(() => this.#tick());
  }

  start(): number {
    const kpi = this.#kpi;
    let e = kpi.counters('lldp', this.#counters);
    if (e >= 0) e = kpi.net_add_domain({ family: PF_LLDP, name: 'lldp' });
    if (e >= 0)
      e = kpi.proto_add({
        domain: PF_LLDP,
        type: SOCK_DGRAM,
        protocol: LLDPPROTO_NEIGHBOURS,
        name: 'lldp/neighbours',
        usrreqs: this.#calls(),
      });
    if (e >= 0) e = kpi.proto_plumb(ETHERTYPE_LLDP, (ifp, m) => this.#input(ifp, m));
    if (e < 0) return e;
    kpi.events.subscribe(event => this.#event(event));
    for (const ifp of kpi.ifnet_list()) this.#join(ifp);
    this.#tick();
    return kpi.ctl_register({
      changed: name => {
        // In force for the next data unit, which leaves soon.
        if (name !== 'hold') for (const p of this.#ports.values()) p.next = Math.min(p.next, kpi.clock.now + SEC);
        this.#arm();
        return 0;
      },
      commands: {
        neighbours: { meaning: 'all neighbours, and how long what they said is valid', run: () => this.neighbours() },
      },
    });
  }
  /** Takes leave of all neighbours. */
  stop(): void {
    for (const p of this.#ports.values()) {
      if (p.ifp.running) this.#transmit(p.ifp, 0);
      this.#kpi.ifnet_ioctl(p.ifp, { kind: 'set-multicast', mac: LLDP_GROUP, join: false });
    }
    this.#ports.clear();
  }

  neighbours(): Neighbour[] {
    const { now } = this.#kpi.clock;
    return [...this.#known.values()].map(k => ({
      ifname: k.ifname,
      ...k.pdu,
      expires: Math.max(0, Math.ceil((k.until - now) / SEC)),
    }));
  }

  // Interfaces

  #join(ifp: Ifnet): void {
    const { where } = this.#kpi;
    // Only what is an Ethernet; a VLAN's neighbour is its parent's.
    if ((ifp.flags & IFF_BROADCAST) === 0 || ifp.name.includes('.') || this.#ports.has(ifp)) return;
    if (where.length > 0 && !where.includes(ifp.name)) return;
    const { now } = this.#kpi.clock;
    this.#ports.set(ifp, { ifp, credit: TX_CREDIT_MAX, credited: now, fast: 0, next: now });
    this.#kpi.ifnet_ioctl(ifp, { kind: 'set-multicast', mac: LLDP_GROUP, join: true });
  }
  #event(e: StampedEvent): void {
    if (!('ifname' in e)) return;
    const { now } = this.#kpi.clock;
    if (e.kind === 'if-attached') {
      const ifp = this.#kpi.ifnet_find(e.ifname);
      if (ifp !== undefined) this.#join(ifp);
    } else
      for (const p of this.#ports.values()) {
        if (p.ifp.name !== e.ifname) continue;
        if (e.kind === 'if-detached') this.#ports.delete(p.ifp);
        if (e.kind === 'link-on' || e.kind === 'address-added' || e.kind === 'address-removed') p.next = now;
        if (e.kind === 'link-off' || e.kind === 'if-detached')
          for (const k of [...this.#known.values()]) if (k.ifname === e.ifname) this.#forget(k, 'aged_out');
      }
    this.#arm();
  }

  // Timers

  /** One callout for all: the earliest data unit to send, the earliest neighbour to forget. */
  #arm(): void {
    let at = Number.POSITIVE_INFINITY;
    for (const p of this.#ports.values()) if (p.ifp.running) at = Math.min(at, p.next);
    for (const k of this.#known.values()) at = Math.min(at, k.until);
    this.#timer.reset(Math.max(0, at - this.#kpi.clock.now));
  }
  #tick(): void {
    const { now } = this.#kpi.clock;
    for (const k of [...this.#known.values()]) if (k.until <= now) this.#forget(k, 'aged_out');
    for (const p of this.#ports.values()) if (p.ifp.running && p.next <= now) this.#send(p);
    this.#arm();
  }
  #send(p: LldpPort): void {
    const { clock, params } = this.#kpi;
    const { now } = clock;
    p.credit = Math.min(TX_CREDIT_MAX, p.credit + Math.floor((now - p.credited) / SEC));
    p.credited += Math.floor((now - p.credited) / SEC) * SEC;
    if (p.credit === 0) {
      this.#counters.held_back++;
      p.next = p.credited + SEC;
      return;
    }
    p.credit--;
    const interval = params.interval as number;
    this.#transmit(p.ifp, Math.min(65535, interval * (params.hold as number) + 1));
    if (p.fast > 0) p.fast--;
    p.next = now + (p.fast > 0 ? SEC : interval * SEC);
  }

  #transmit(ifp: Ifnet, ttl: number): void {
    const { pool, params, stack } = this.#kpi;
    const name = String(params.system_name) || (stack.host.hostname ?? 'nke');
    const pdu = encode({
      mac: ifp.mac,
      ifname: ifp.name,
      ifindex: ifp.index,
      ttl,
      systemName: name,
      systemDescription: 'nke: a network appliance in software',
      addresses: ifp.addresses.map(a => a.addr),
    });
    let m = pool.fromBytes(pdu);
    if (m !== M_NULL) m = pool.prepend(m, ETHER_HDR_LEN);
    if (m === M_NULL) {
      this.#counters.nobufs++;
      return;
    }
    const at = pool.off[m]!;
    pool.u8.set(LLDP_GROUP, at);
    pool.u8.set(ifp.mac, at + 6);
    pool.dv.setUint16(at + 12, ETHERTYPE_LLDP);
    if (this.#kpi.ifnet_transmit(ifp, m) >= 0) this.#counters.sent++;
  }

  // Reception

  #input(ifp: Ifnet, m: Mbuf): void {
    const { pool } = this.#kpi;
    // A data unit is one frame of at most 1,500 bytes.
    const bytes = pool.pktlen[m]! <= 1500 ? pool.toBytes(m) : undefined;
    pool.freem(m);
    const p = this.#ports.get(ifp);
    if (p === undefined) return;
    this.#counters.received++;
    const pdu = bytes === undefined ? 'too long' : decode(bytes);
    if (typeof pdu === 'string') {
      this.#counters.discarded++;
      return;
    }
    const key = `${ifp.name}|${pdu.chassisSubtype}|${pdu.chassis}|${pdu.portSubtype}|${pdu.port}`;
    const known = this.#known.get(key);
    if (pdu.ttl === 0) {
      if (known !== undefined) this.#forget(known, 'withdrawn');
      this.#arm();
      return;
    }
    const text = JSON.stringify(pdu);
    const until = this.#kpi.clock.now + pdu.ttl * SEC;
    if (known !== undefined) {
      known.until = until;
      if (known.text !== text) {
        known.pdu = pdu;
        known.text = text;
        this.#tell('changed', known);
      }
    } else {
      let there = 0;
      for (const k of this.#known.values()) if (k.ifname === ifp.name) there++;
      if (there >= MAX_NEIGHBOURS) {
        this.#counters.too_many++;
        return;
      }
      const made: Known = { key, ifname: ifp.name, pdu, text, until };
      this.#known.set(key, made);
      this.#tell('added', made);
      // Clause 9.2.5.7: a new neighbour is told quickly who we are.
      p.fast = TX_FAST;
      p.next = this.#kpi.clock.now;
    }
    this.#arm();
  }
  #forget(k: Known, how: 'aged_out' | 'withdrawn'): void {
    this.#known.delete(k.key);
    this.#tell(how, k);
  }
  #tell(what: 'added' | 'changed' | 'aged_out' | 'withdrawn', k: Known): void {
    this.#counters[what]++;
    const { chassis, port, systemName } = k.pdu;
    this.#kpi.events.emit(`neighbour ${what.replace('_', ' ')}`, `${systemName || chassis} on ${k.ifname}`, {
      ifname: k.ifname,
      chassis,
      port,
      system: systemName,
    });
    const message = new TextEncoder().encode(JSON.stringify({ what, ifname: k.ifname, neighbour: k.pdu }));
    for (const [so, queue] of this.#sockets) {
      if (queue.length >= MAX_QUEUE) {
        this.#counters.events_dropped++;
        continue;
      }
      queue.push(message);
      so.upcall?.(so);
    }
  }

  /** Sockets of PF_LLDP: a message a change, {"what","ifname","neighbour"} in JSON; the table by getsockopt. */
  #calls(): Usrreqs {
    const no = () => -EOPNOTSUPP;
    const of = (so: Socket) => this.#sockets.get(so) ?? [];
    return {
      attach: so => {
        if (this.#sockets.size >= MAX_SOCKETS) return -ENOBUFS;
        this.#sockets.set(so, []);
        return 0;
      },
      close: so => {
        this.#sockets.delete(so);
        return 0;
      },
      bind: no,
      listen: no,
      connect: no,
      accept: no,
      send: no,
      recv: (so, buf, off, len, info: RecvInfo, flags) => {
        const queue = of(so);
        const first = queue[0];
        if (first === undefined) return -EAGAIN;
        const n = Math.min(len, first.length);
        buf.set(first.subarray(0, n), off);
        info.msgFlags = MSG_EOR | (n < first.length ? MSG_TRUNC : 0);
        info.from = undefined;
        info.notification = undefined;
        if ((flags & MSG_PEEK) === 0) queue.shift();
        return n;
      },
      shutdown: no,
      sockaddr: () => -EINVAL,
      peeraddr: () => -ENOTCONN,
      getopt: (_so, level, name) =>
        level === LLDPPROTO_NEIGHBOURS && name === LLDP_TABLE ? this.neighbours() : -ENOPROTOOPT,
      setopt: () => -ENOPROTOOPT,
      readable: so => of(so).length > 0,
      writable: () => false,
      space: () => 0,
    };
  }
}

/** The extension, to be handed to `stack.kexts.load`. */
export function lldpKext(): Kext {
  let lldp: Lldp | undefined;
  return {
    manifest,
    start: kpi => {
      lldp = new Lldp(kpi);
      return lldp.start();
    },
    stop: () => {
      lldp?.stop();
      lldp = undefined;
    },
  };
}
