/**
 * The socket of a packet port (packet(7)): what is set up before the first frame and changed now and then. Two sockets in
 * fact, their filter, their rings, and the hardware addresses that the interface receives for them.
 */
import { getSystemErrorName } from 'node:util';
import type { Native } from '../native.js';
import { type PortAddress, parseAddress } from './address.js';
import { socketFilter } from './packet-filter.js';
import { PacketRx, type RxCounters } from './packet-rx.js';
import { PacketTx, TX_HEADER } from './packet-tx.js';
import { PortError } from './port.js';
import { ARPHRD_ETHER, LinkMonitor } from './rtnetlink.js';

export interface PacketPortOptions {
  /** An Ethernet interface (also veth, bridge, macvlan, VLAN). */
  readonly interface: string;
  /** Largest IP packet, at most the interface's MTU; default: that. */
  readonly mtu?: number;
  /** Path of a network namespace in which the interface is, "/run/netns/NAME". */
  readonly netns?: string;
  /** The card's hardware address. Default: learned from the frames it sends. */
  readonly mac?: Uint8Array;
  /** The card's IP addresses, to let in no others; default: whatever comes to its hardware address. */
  readonly addresses?: readonly string[];
  /** EtherTypes to let in beside IPv4, IPv6, ARP and magic packets. */
  readonly etherTypes?: readonly number[];
  /** Receive frames for every destination. */
  readonly promiscuous?: boolean;
  /** Give consecutive SCTP packets of one flow as trains; default true. */
  readonly trains?: boolean;
  /** Receive blocks of 128 KiB, default 32. */
  readonly receiveBlocks?: number;
  /** Milliseconds after which a receive block is handed over that is not full, default 1. */
  readonly receiveTimeout?: number;
  /** Read frames out of blocks that are not handed over yet; default true where it works (x64). */
  readonly peek?: boolean;
  /** Transmit frames, default 1024. */
  readonly transmitFrames?: number;
}

// packet(7) options, linux/if_packet.h.
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_RX_RING = 5;
const PACKET_STATISTICS = 6;
const PACKET_VERSION = 10;
const PACKET_TX_RING = 13;
const PACKET_LOSS = 14;
const PACKET_QDISC_BYPASS = 20;
const PACKET_IGNORE_OUTGOING = 23;
const TPACKET_V3 = 2;
const MR_PROMISC = 1;
const MR_ALLMULTI = 2;
const MR_UNICAST = 3;
const ETH_P_ALL = 3;

const BLOCK = 128 << 10; // holds the longest frame that a host's stack makes, 64 KiB
const RECEIVE_BLOCKS = 32;
const RECEIVE_TIMEOUT = 1;
const TRANSMIT_FRAMES = 1024;
const LEAST_FRAMES = 128; // two trains
export const ETHER = 14;
export const TAG = 4;
const SNAP = 65535 + ETHER + TAG;
const STATIONS = 8; // addresses that are learned before the port gives up and becomes promiscuous

/** Integers in host byte order, as system calls take them. */
const ints = (...v: number[]) => new Uint8Array(Int32Array.from(v).buffer);

const sameMac = (a: Uint8Array, b: Uint8Array) => a.length === b.length && a.every((x, i) => x === b[i]);

/** Throws PortError for a text that is no address; a prefix length behind it is passed over. */
export function parseAddresses(texts: readonly string[]): PortAddress[] {
  return texts.map(text => {
    const address = parseAddress(text.split('/')[0]!);
    if (address === undefined) throw new PortError('EINVAL', `"${text}" is no IP address`);
    return address;
  });
}

export class PacketSocket {
  readonly fd: number;
  /**
   * The ring makes its socket ready only with a whole block. This one has no ring and room for one frame, so that it is ready
   * with the first; what it gets is thrown away. -1: there is none.
   */
  readonly bell: number = -1;
  readonly link: LinkMonitor;
  readonly rx!: PacketRx;
  readonly tx!: PacketTx;
  /** Largest IP packet. */
  readonly mtu: number;

  readonly #native: Native;
  readonly #name: string;
  readonly #options: PacketPortOptions;
  #addresses: readonly PortAddress[];
  #stations: Uint8Array[];
  #promiscuous = false;
  #rings: ArrayBuffer | undefined;
  readonly #stats = new Uint8Array(12); // struct tpacket_stats_v3: packets, drops, freezes
  readonly #stats32 = new Uint32Array(this.#stats.buffer);

  /** Opens and binds. Throws PortError with a sentence that says what to do; nothing half-opened is left behind. */
  constructor(
    name: string,
    options: PacketPortOptions,
    addresses: readonly PortAddress[],
    counters: RxCounters,
    native: Native,
  ) {
    this.#name = name;
    this.#options = options;
    this.#addresses = addresses;
    this.#stations = options.mac === undefined ? [] : [Uint8Array.from(options.mac)];
    this.#native = native;
    this.fd = this.#socket();
    let link: LinkMonitor | undefined;
    try {
      link = LinkMonitor.open(options.interface, options.netns, native);
      this.link = link;
      this.#judge(link);
      this.mtu = Math.min(65535, options.mtu ?? link.mtu);
      const peek = options.peek ?? process.arch === 'x64';
      if (peek) this.bell = this.#socket();
      this.#prepare();
      const { rx, tx } = this.#map(peek, counters);
      this.rx = rx;
      this.tx = tx;
      this.#bind(link);
    } catch (e) {
      link?.close();
      this.#closeSockets();
      throw e;
    }
  }

  #socket(): number {
    const fd = this.#native.packetOpen(this.#options.netns);
    if (fd < 0) throw this.#error(getSystemErrorName(fd));
    return fd;
  }

  #error(code: string): PortError {
    const { netns } = this.#options;
    let why = `the system says ${code}`;
    if (code === 'EPERM' || code === 'EACCES') why = 'a packet socket needs root or CAP_NET_RAW';
    else if (code === 'EAFNOSUPPORT') why = 'this kernel has no packet sockets (CONFIG_PACKET)';
    else if (code === 'ENOENT' && netns !== undefined) why = `there is no network namespace at ${netns}`;
    else if (code === 'ENOMEM') why = 'the system has no memory for its rings; give fewer blocks and frames';
    return new PortError(code, `cannot open ${this.#name}: ${why}`);
  }

  #check(what: string, r: number): void {
    if (r >= 0) return;
    const code = getSystemErrorName(r);
    throw code === 'ENOMEM' ? this.#error(code) : new PortError(code, `cannot open ${this.#name}: ${what} (${code})`);
  }

  /** Throws when the interface is of no use, or when the host's stack would answer for us. */
  #judge(link: LinkMonitor): void {
    const { interface: name, mtu, mac } = this.#options;
    const refuse = (code: string, why: string) => new PortError(code, `cannot open ${this.#name}: ${why}`);
    if (link.type !== ARPHRD_ETHER) {
      throw refuse('EINVAL', 'it carries no Ethernet; use tun: for IP packets, or another interface');
    }
    if (mtu !== undefined && mtu > link.mtu) {
      const raise = `raise it with "ip link set ${name} mtu ${mtu}"`;
      throw refuse(
        'EINVAL',
        `an MTU of ${mtu} is asked for, the interface has ${link.mtu}; give at most that, or ${raise}`,
      );
    }
    if (mac !== undefined && sameMac(mac, link.mac)) {
      const then = "so that the host's stack would answer too; give the card another one";
      throw refuse('EADDRINUSE', `the hardware address is the interface's own, ${then}`);
    }
    for (const text of link.addresses) {
      const [theirs] = parseAddresses([text]);
      const same = (a: PortAddress) => a.family === theirs!.family && a.w.every((w, i) => w === theirs!.w[i]);
      if (!this.#addresses.some(same)) continue;
      const what = `give the card another one, or take it off with "ip address del ${text} dev ${name}"`;
      throw refuse('EADDRINUSE', `the host has the address ${text} itself and would answer too; ${what}`);
    }
  }

  #prepare(): void {
    const n = this.#native;
    this.#check('this kernel has no TPACKET_V3', n.packetSet(this.fd, PACKET_VERSION, ints(TPACKET_V3)));
    n.packetSet(this.fd, PACKET_LOSS, ints(1)); // a frame that is malformed is passed over
    n.packetSet(this.fd, PACKET_QDISC_BYPASS, ints(1)); // since Linux 3.14; without it frames queue once more
    for (const fd of this.#fds()) n.packetSet(fd, PACKET_IGNORE_OUTGOING, ints(1)); // since 4.20; the filter does the same
    if (this.bell >= 0) n.packetBuffer(this.bell, false, 1); // the least that the kernel gives
    this.#filter(); // before bind, so that nothing else ever comes up
  }

  #fds(): number[] {
    return this.bell < 0 ? [this.fd] : [this.fd, this.bell];
  }

  #map(peek: boolean, counters: RxCounters): { rx: PacketRx; tx: PacketTx } {
    const o = this.#options;
    const n = this.#native;
    const blocks = o.receiveBlocks ?? RECEIVE_BLOCKS;
    const frame = (TX_HEADER + this.mtu + ETHER + TAG + 63) & ~63;
    const each = Math.floor(BLOCK / frame);
    const txBlocks = Math.ceil(Math.max(o.transmitFrames ?? TRANSMIT_FRAMES, LEAST_FRAMES) / each);
    // struct tpacket_req3: block size, blocks, frame size, frames, timeout, private bytes, features.
    const rx = ints(BLOCK, blocks, frame, blocks * each, o.receiveTimeout ?? RECEIVE_TIMEOUT, 0, 0);
    const tx = ints(BLOCK, txBlocks, frame, txBlocks * each, 0, 0, 0);
    this.#check('its receive ring cannot be made', n.packetSet(this.fd, PACKET_RX_RING, rx));
    this.#check('its transmit ring cannot be made', n.packetSet(this.fd, PACKET_TX_RING, tx));
    // Every frame of the ring may be on its way at once; the kernel counts more than their bytes.
    n.packetBuffer(this.fd, true, 2 * txBlocks * BLOCK);
    const rings = n.packetMap(this.fd, (blocks + txBlocks) * BLOCK);
    if (typeof rings === 'number') throw this.#error(getSystemErrorName(rings));
    this.#rings = rings;
    return {
      rx: new PacketRx(rings, blocks, BLOCK, counters, o.trains !== false, peek, n),
      tx: new PacketTx(rings, blocks * BLOCK, txBlocks, BLOCK, frame, this.fd, n),
    };
  }

  #bind(link: LinkMonitor): void {
    const n = this.#native;
    this.#check('all-multicast is not to be had', this.#member(MR_ALLMULTI));
    if (this.#options.promiscuous === true) this.#promote();
    else for (const mac of this.#stations) this.#receiveAlso(mac);
    // The socket bound last gets a frame first: when the bell rings the frame is in the ring.
    for (const fd of this.#fds().reverse()) {
      this.#check('the socket cannot be bound', n.packetBind(fd, link.index, ETH_P_ALL));
    }
    this.clearErrors(); // binding to an interface that is down leaves ENETDOWN
  }

  /** Takes pending errors, which would keep the descriptors ready. */
  clearErrors(): void {
    for (const fd of this.#fds()) this.#native.packetError(fd);
  }

  #filter(): void {
    const { etherTypes } = this.#options;
    const program = socketFilter({
      stations: this.#stations,
      host: this.link.mac,
      promiscuous: this.#promiscuous,
      addresses: this.#addresses,
      snap: SNAP,
      ...(etherTypes === undefined ? {} : { etherTypes }),
    });
    for (const fd of this.#fds()) this.#check('its filter is not taken', this.#native.packetFilter(fd, program));
  }

  setAddresses(addresses: readonly PortAddress[]): void {
    this.#addresses = addresses;
    this.#filter();
  }

  /** struct packet_mreq: ifindex, type, address length, address. The kernel takes it back with the socket. */
  #member(type: number, mac?: Uint8Array): number {
    const b = new Uint8Array(16);
    const u16 = new Uint16Array(b.buffer);
    new Int32Array(b.buffer)[0] = this.link.index;
    u16[2] = type;
    if (mac !== undefined) {
      u16[3] = mac.length;
      b.set(mac, 8);
    }
    return this.#native.packetSet(this.fd, PACKET_ADD_MEMBERSHIP, b);
  }

  #promote(): void {
    if (this.#promiscuous) return;
    this.#promiscuous = true;
    this.#member(MR_PROMISC);
    this.#filter();
  }

  /** An interface that filters in hardware gets one more address; one that cannot becomes promiscuous by itself. */
  #receiveAlso(mac: Uint8Array): void {
    if (this.#member(MR_UNICAST, mac) < 0) this.#promote();
  }

  /** The card sends with the hardware address at `at`, which may be new to us. */
  learn(u8: Uint8Array, at: number): void {
    if (this.#options.mac !== undefined || this.#promiscuous || (u8[at]! & 1) !== 0) return;
    const mac = u8.slice(at, at + 6);
    if (this.#stations.some(s => sameMac(s, mac))) return;
    if (this.#stations.length === STATIONS) {
      this.#promote(); // a bridge: who is behind it is not ours to say
    } else {
      this.#stations.push(mac);
      this.#filter();
      this.#receiveAlso(mac);
    }
  }

  /** Adds what the kernel had to drop since the last call. */
  statistics(counters: { rx_dropped: number; rx_freezes: number }): void {
    if (this.#native.packetGet(this.fd, PACKET_STATISTICS, this.#stats) < 12) return;
    counters.rx_dropped += this.#stats32[1]!;
    counters.rx_freezes += this.#stats32[2]!;
  }

  close(): void {
    this.link.close();
    this.#closeSockets();
  }

  #closeSockets(): void {
    if (this.#rings !== undefined) this.#native.packetUnmap(this.#rings);
    this.#rings = undefined;
    for (const fd of this.#fds()) this.#native.close(fd);
  }
}
