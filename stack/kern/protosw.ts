/**
 * domain and protosw: how a protocol registers and how packets and sockets find it, after BSD's domain(9). A protocol is
 * a row here, or several; adding and removing rows is all that loading and unloading an extension does to the data path.
 */

import type { Ifnet } from '../net/ifnet.js';
import { AF_INET, AF_INET6, InAddr } from '../netinet/in.js';
import { EAFNOSUPPORT, EBUSY, EEXIST, ENOENT } from './errno.js';
import type { Mbuf } from './mbuf.js';
import type { Usrreqs } from './socket.js';

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_SEQPACKET = 5;

/**
 * What IP knows of a packet that it hands up. One instance per IP layer, overwritten by the next packet: who keeps an
 * address clones it.
 */
export class IpInfo {
  readonly src = new InAddr();
  readonly dst = new InAddr();
  family: 4 | 6 = 4;
  ttl = 0;
  /** The whole TOS / traffic class byte; its low two bits are ECN (RFC 3168). */
  tos = 0;
  ifp: Ifnet | undefined;
  /** UDP source port when the packet came through a tunnel (RFC 6951), else 0; and the port it arrived at. */
  udpSrc = 0;
  udpDst = 0;
}

/** What ICMP tells a protocol about a packet that the protocol had sent. */
export interface CtlInput {
  readonly kind:
    | 'too-big'
    | 'net-unreachable'
    | 'host-unreachable'
    | 'protocol-unreachable'
    | 'port-unreachable'
    | 'admin-prohibited'
    | 'time-exceeded';
  /** Addresses and protocol of the quoted packet: src is ours. */
  readonly src: InAddr;
  readonly dst: InAddr;
  /** MTU for 'too-big' (0 if the router gave none), in bytes of the IP packet. */
  readonly mtu: number;
  /** The quoted bytes behind the IP header (at least 8 unless the sender cut it), a view valid during the call. */
  readonly payload: Uint8Array;
  /** UDP ports of the quoted packet if it was UDP-encapsulated and has been unwrapped, else 0. */
  readonly udpSrc: number;
  readonly udpDst: number;
}

/** A protocol family: what rows may name as their domain. */
export interface Domain {
  readonly family: number; // AF_*, PF_*
  readonly name: string;
}

export interface Protosw {
  readonly domain: number; // AF_*, of a domain that is there
  readonly type: number; // SOCK_*
  readonly protocol: number; // IPPROTO_*
  readonly name: string;
  /**
   * A packet for this protocol, IP header stripped (pkthdr: pktlen of what is left; a train has segsz set and hdrlen 0).
   * Takes ownership. IP calls the row that was added first for a protocol number.
   */
  readonly input?: (m: Mbuf, info: IpInfo) => void;
  readonly ctlinput?: (c: CtlInput) => void;
  /** End of a batch of input and of expired callouts: send what piled up. */
  readonly flush?: () => void;
  readonly usrreqs?: Usrreqs;
}

/** The protocol switch of one stack. */
export class ProtocolSwitch {
  readonly #domains: Domain[] = [
    { family: AF_INET, name: 'inet' },
    { family: AF_INET6, name: 'inet6' },
  ];
  /** Rows that give no new sockets: their extension is being drained. */
  readonly #closed = new Set<Protosw>();
  readonly #rows: Protosw[] = [];
  readonly #flush: (() => void)[] = [];
  readonly #input4: (Protosw | undefined)[] = new Array(256).fill(undefined);
  readonly #input6: (Protosw | undefined)[] = new Array(256).fill(undefined);

  /** net_add_domain. Returns 0, or -EEXIST when the family is there. */
  addDomain(domain: Domain): number {
    if (this.#domains.some(d => d.family === domain.family)) return -EEXIST;
    this.#domains.push(domain);
    return 0;
  }
  /** net_del_domain. Its rows must be gone: returns 0, -ENOENT or -EBUSY. */
  removeDomain(domain: Domain): number {
    const i = this.#domains.indexOf(domain);
    if (i < 0) return -ENOENT;
    if (this.#rows.some(r => r.domain === domain.family)) return -EBUSY;
    this.#domains.splice(i, 1);
    return 0;
  }
  get domains(): readonly Domain[] {
    return this.#domains;
  }
  /** Stops giving sockets of a row, or gives them again; the sockets that are there, and packets, go on. */
  quiesce(p: Protosw, on: boolean): void {
    if (on) this.#closed.add(p);
    else this.#closed.delete(p);
  }
  /** False while a row gives no new sockets. */
  givesSockets(p: Protosw): boolean {
    return !this.#closed.has(p);
  }

  /** net_add_proto. Returns 0, -EAFNOSUPPORT (no such domain), or -EEXIST when (domain, type, protocol) is taken. */
  add(p: Protosw): number {
    if (!this.#domains.some(d => d.family === p.domain)) return -EAFNOSUPPORT;
    if (this.find(p.domain, p.type, p.protocol) !== undefined) return -EEXIST;
    this.#rows.push(p);
    this.#index();
    return 0;
  }
  /** net_del_proto. Removing what is not there does nothing. */
  remove(p: Protosw): void {
    const i = this.#rows.indexOf(p);
    if (i >= 0) this.#rows.splice(i, 1);
    this.#closed.delete(p);
    this.#index();
  }
  /** The row for socket(domain, type, protocol); protocol 0 takes the first of that type. */
  find(domain: number, type: number, protocol: number): Protosw | undefined {
    return this.#rows.find(r => r.domain === domain && r.type === type && (protocol === 0 || r.protocol === protocol));
  }
  /** The row that IP hands packets of a protocol number to (ip_protox). */
  inputFor(family: 4 | 6, protocol: number): Protosw | undefined {
    return (family === 4 ? this.#input4 : this.#input6)[protocol];
  }
  get rows(): readonly Protosw[] {
    return this.#rows;
  }
  /** Calls each distinct flush function once. */
  flush(): void {
    for (let i = 0; i < this.#flush.length; i++) this.#flush[i]!();
  }

  #index(): void {
    this.#input4.fill(undefined);
    this.#input6.fill(undefined);
    this.#flush.length = 0;
    for (const r of this.#rows) {
      const table = r.domain === AF_INET ? this.#input4 : r.domain === AF_INET6 ? this.#input6 : undefined;
      if (r.input !== undefined && table !== undefined) table[r.protocol] ??= r;
      if (r.flush !== undefined && !this.#flush.includes(r.flush)) this.#flush.push(r.flush);
    }
  }
}
export { AF_INET, AF_INET6 };
