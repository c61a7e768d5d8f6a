/**
 * ifnet: a network interface as the stack sees it, after BSD's ifnet(9). The contract between a driver (which brings
 * frames and reports link and power) and dlil (which takes them). A driver constructs an Ifnet, fills `driver`, and
 * attaches it through `Dlil.attach`; dlil sets `input` and `event`.
 */

import type { KernelEvent } from '../kern/event.js';
import type { Mbuf } from '../kern/mbuf.js';
import type { InAddr } from '../netinet/in.js';

export const IFF_UP = 0x1;
export const IFF_BROADCAST = 0x2;
export const IFF_LOOPBACK = 0x8;
export const IFF_POINTOPOINT = 0x10;
export const IFF_RUNNING = 0x40; // link is up and the driver has its rings
export const IFF_NOARP = 0x80; // the medium carries IP: no neighbour resolution, any link address will do
export const IFF_PROMISC = 0x100;
export const IFF_MULTICAST = 0x8000;

/** An address with its prefix length. */
export interface IfAddr {
  readonly addr: InAddr;
  readonly prefix: number;
}

/** What a driver does for its interface. */
export interface IfDriver {
  /**
   * Takes a frame (Ethernet header in place, one mbuf or a chain, perhaps a train) and queues it for the card. Always
   * takes ownership: if the ring is full the frame is freed, counted as `odrops`, and false is returned.
   */
  output(m: Mbuf): boolean;
  /** Rings the doorbell for what was queued: called once at the end of a batch. */
  flush(): void;
  /** True when `output` would now accept at least one more frame: a sender with its own queue can wait. */
  ready(): boolean;
  /** Brings the interface up (rings, interrupts) or down. Returns 0 or -errno. */
  setUp(up: boolean): number;
  /** Sets the address filter. */
  setMac(mac: Uint8Array): number;
  setPromisc(on: boolean): number;
  /** Joins or leaves a link-layer multicast group. */
  setMulticast(mac: Uint8Array, join: boolean): number;
  /** Removes the driver from the card; every mbuf it holds is freed. */
  detach(): void;
}

export interface IfCounters {
  ipackets: number;
  ibytes: number;
  imcasts: number;
  ierrors: number;
  idrops: number;
  inoproto: number;
  opackets: number;
  obytes: number;
  omcasts: number;
  oerrors: number;
  odrops: number;
  link_changes: number;
}

export class Ifnet {
  readonly name: string; // "nke0"
  index = 0; // set by dlil at attach, 1 and up
  readonly mac: Uint8Array; // 6 bytes
  mtu: number;
  flags: number;
  /** CSUM_SCTP | CSUM_UDP | CSUM_IP: what the card fills in on transmit. */
  hwassist = 0;
  /** Largest train in bytes that `output` takes (Ethernet header included), and most segments; 0 = no trains. */
  trainBytes = 0;
  trainSegments = 0;
  /** True while the link is up (carrier and power permitting). */
  link = false;
  readonly addresses: IfAddr[] = [];
  readonly counters: IfCounters = {
    ipackets: 0,
    ibytes: 0,
    imcasts: 0,
    ierrors: 0,
    idrops: 0,
    inoproto: 0,
    opackets: 0,
    obytes: 0,
    omcasts: 0,
    oerrors: 0,
    odrops: 0,
    link_changes: 0,
  };
  driver: IfDriver | undefined;

  /** Set by dlil: takes ownership of a received frame (Ethernet header in place, pkthdr filled). */
  input: (m: Mbuf) => void = () => {
    throw new Error(`${this.name} is not attached`);
  };
  /** Set by dlil: reports a link, power or MTU change. */
  event: (e: KernelEvent) => void = () => {};

  constructor(name: string, mac: Uint8Array, mtu: number, flags: number) {
    this.name = name;
    this.mac = mac;
    this.mtu = mtu;
    this.flags = flags;
  }

  /** True when frames can pass now. */
  get running(): boolean {
    return (this.flags & (IFF_UP | IFF_RUNNING)) === (IFF_UP | IFF_RUNNING) && this.link;
  }
  /** True when `a` is one of this interface's addresses. */
  has(a: InAddr): boolean {
    for (let i = 0; i < this.addresses.length; i++) if (this.addresses[i]!.addr.equals(a)) return true;
    return false;
  }
}
