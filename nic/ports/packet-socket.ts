/**
 * The socket of a packet port (packet(7)): what is set up before the first frame and changed now and then. Two sockets in
 * fact, their filter, their rings, and the hardware addresses that the interface receives for them.
 *
 * Several ports may be the receive queues of one interface (openPacketGroup): a fanout group of the kernel (PACKET_FANOUT) gives
 * each frame to one of its sockets. These belong to whoever opened the group, so that a port that ends does not renumber the
 * others, and its successor goes on in its ring; a port sends through a socket of its own then.
 */
import { getSystemErrorName } from 'node:util';
import { type Native, nativeError, native as nativeModule } from '../native.js';
import { type PortAddress, parseAddress } from './address.js';
import { closedFilter, socketFilter } from './packet-filter.js';
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
  /** Receive through this queue of a group that is open (openPacketGroup); receiveBlocks and receiveTimeout are the group's. */
  readonly queue?: PacketQueue;
}

/** A receive queue of an interface, which stays its opener's. */
export interface PacketQueue {
  /** The socket with the receive ring. */
  readonly fd: number;
  /** Its bell (PacketSocket.bell), or -1. */
  readonly bell: number;
  /** Blocks of its ring. */
  readonly blocks: number;
  /** Index of the interface that they are bound to. */
  readonly index: number;
}

// packet(7) options, linux/if_packet.h.
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_RX_RING = 5;
const PACKET_STATISTICS = 6;
const PACKET_VERSION = 10;
const PACKET_TX_RING = 13;
const PACKET_LOSS = 14;
const PACKET_FANOUT = 18;
const FANOUT_CBPF = 6;
const FANOUT_FLAG_UNIQUEID = 0x2000;
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
const GROUP_FRAME = 2048; // a receive ring's frames are as long as they come: the kernel wants a number
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

const peeks = (o: PacketPortOptions) => o.peek ?? process.arch === 'x64';

function socketError(name: string, netns: string | undefined, code: string): PortError {
  let why = `the system says ${code}`;
  if (code === 'EPERM' || code === 'EACCES') why = 'a packet socket needs root or CAP_NET_RAW';
  else if (code === 'EAFNOSUPPORT') why = 'this kernel has no packet sockets (CONFIG_PACKET)';
  else if (code === 'ENOENT' && netns !== undefined) why = `there is no network namespace at ${netns}`;
  else if (code === 'ENOMEM') why = 'the system has no memory for its rings; give fewer blocks and frames';
  return new PortError(code, `cannot open ${name}: ${why}`);
}

/** Throws PortError unless a system call returned 0 or more. */
function check(name: string, what: string, r: number): void {
  if (r >= 0) return;
  const code = getSystemErrorName(r);
  throw code === 'ENOMEM'
    ? socketError(name, undefined, code)
    : new PortError(code, `cannot open ${name}: ${what} (${code})`);
}

function openSocket(name: string, netns: string | undefined, native: Native): number {
  const fd = native.packetOpen(netns);
  if (fd < 0) throw socketError(name, netns, getSystemErrorName(fd));
  return fd;
}

/** What is told to a socket that receives: that it wants nothing of what this machine sends, and, being a bell, next to no room. */
function prepareReceive(native: Native, fd: number, bell: boolean): void {
  native.packetSet(fd, PACKET_IGNORE_OUTGOING, ints(1)); // since 4.20; the filter does the same
  if (bell) native.packetBuffer(fd, false, 1); // the least that the kernel gives
}

/** Makes a receive ring. */
function makeRing(name: string, native: Native, fd: number, o: PacketPortOptions, frame: number): void {
  const blocks = o.receiveBlocks ?? RECEIVE_BLOCKS;
  // struct tpacket_req3: block size, blocks, frame size, frames, timeout, private bytes, features.
  const rx = ints(BLOCK, blocks, frame, blocks * Math.floor(BLOCK / frame), o.receiveTimeout ?? RECEIVE_TIMEOUT, 0, 0);
  check(name, 'its receive ring cannot be made', native.packetSet(fd, PACKET_RX_RING, rx));
}

export class PacketSocket {
  /** Receives; sends too, unless it is a queue of a group. */
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
  /** Sends. */
  readonly #out: number;
  #addresses: readonly PortAddress[];
  #stations: Uint8Array[];
  #promiscuous = false;
  #rings: ArrayBuffer[] = [];
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
    const { queue } = options;
    this.#name = name;
    this.#options = options;
    this.#addresses = addresses;
    this.#stations = options.mac === undefined ? [] : [Uint8Array.from(options.mac)];
    this.#native = native;
    this.#out = openSocket(name, options.netns, native);
    this.fd = queue?.fd ?? this.#out;
    let link: LinkMonitor | undefined;
    try {
      link = LinkMonitor.open(options.interface, options.netns, native);
      this.link = link;
      this.#judge(link);
      this.mtu = Math.min(65535, options.mtu ?? link.mtu);
      if (queue !== undefined) this.bell = queue.bell;
      else if (peeks(options)) this.bell = openSocket(name, options.netns, native);
      this.#prepare();
      const { rx, tx } = this.#map(counters);
      this.rx = rx;
      this.tx = tx;
      this.#bind(link);
    } catch (e) {
      link?.close();
      this.#closeSockets();
      throw e;
    }
  }

  /** To be polled: the first one for room to send as well. */
  get watched(): readonly number[] {
    const { fd, bell, link } = this;
    return [this.#out, link.fd, ...(bell < 0 ? [] : [bell]), ...(fd === this.#out ? [] : [fd])];
  }

  /** Throws when the interface is of no use, or when the host's stack would answer for us. */
  #judge(link: LinkMonitor): void {
    const { interface: name, mtu, mac } = this.#options;
    const refuse = (code: string, why: string) => new PortError(code, `cannot open ${this.#name}: ${why}`);
    const bound = this.#options.queue?.index ?? link.index;
    if (bound !== link.index) {
      throw refuse('ENODEV', 'the interface was made anew since its queues were opened; start the appliances again');
    }
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
    const out = this.#out;
    check(this.#name, 'this kernel has no TPACKET_V3', n.packetSet(out, PACKET_VERSION, ints(TPACKET_V3)));
    n.packetSet(out, PACKET_LOSS, ints(1)); // a frame that is malformed is passed over
    n.packetSet(out, PACKET_QDISC_BYPASS, ints(1)); // since Linux 3.14; without it frames queue once more
    if (this.#options.queue === undefined) for (const fd of this.#fds()) prepareReceive(n, fd, fd === this.bell);
    this.#filter(); // before bind, so that nothing else ever comes up
  }

  /** Those that receive. */
  #fds(): number[] {
    return this.bell < 0 ? [this.fd] : [this.fd, this.bell];
  }

  #map(counters: RxCounters): { rx: PacketRx; tx: PacketTx } {
    const o = this.#options;
    const n = this.#native;
    const blocks = o.queue?.blocks ?? o.receiveBlocks ?? RECEIVE_BLOCKS;
    const frame = (TX_HEADER + this.mtu + ETHER + TAG + 63) & ~63;
    const each = Math.floor(BLOCK / frame);
    const txBlocks = Math.ceil(Math.max(o.transmitFrames ?? TRANSMIT_FRAMES, LEAST_FRAMES) / each);
    if (o.queue === undefined) makeRing(this.#name, n, this.fd, o, frame);
    const tx = ints(BLOCK, txBlocks, frame, txBlocks * each, 0, 0, 0);
    check(this.#name, 'its transmit ring cannot be made', n.packetSet(this.#out, PACKET_TX_RING, tx));
    // Every frame of the ring may be on its way at once; the kernel counts more than their bytes.
    n.packetBuffer(this.#out, true, 2 * txBlocks * BLOCK);
    // Of one socket they lie one behind the other.
    const apart = o.queue !== undefined;
    const received = this.#mapped(this.fd, (apart ? blocks : blocks + txBlocks) * BLOCK);
    const sent = apart ? this.#mapped(this.#out, txBlocks * BLOCK) : received;
    const rx = new PacketRx(received, blocks, BLOCK, counters, o.trains !== false, this.bell >= 0, n);
    if (apart) rx.resume();
    return { rx, tx: new PacketTx(sent, apart ? 0 : blocks * BLOCK, txBlocks, BLOCK, frame, this.#out, n) };
  }

  #mapped(fd: number, bytes: number): ArrayBuffer {
    const ring = this.#native.packetMap(fd, bytes);
    if (typeof ring === 'number') throw socketError(this.#name, undefined, getSystemErrorName(ring));
    this.#rings.push(ring);
    return ring;
  }

  #bind(link: LinkMonitor): void {
    const n = this.#native;
    check(this.#name, 'all-multicast is not to be had', this.#member(MR_ALLMULTI));
    if (this.#options.promiscuous === true) this.#promote();
    else for (const mac of this.#stations) this.#receiveAlso(mac);
    const bind = (fd: number, type: number) =>
      check(this.#name, 'the socket cannot be bound', n.packetBind(fd, link.index, type));
    // The socket bound last gets a frame first: when the bell rings the frame is in the ring. One that only sends is bound to no
    // EtherType.
    if (this.#options.queue === undefined) for (const fd of this.#fds().reverse()) bind(fd, ETH_P_ALL);
    else bind(this.#out, 0);
    this.clearErrors(); // binding to an interface that is down leaves ENETDOWN
  }

  /** Takes pending errors, which would keep the descriptors ready. */
  clearErrors(): void {
    for (const fd of new Set([this.#out, ...this.#fds()])) this.#native.packetError(fd);
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
    for (const fd of this.#fds()) check(this.#name, 'its filter is not taken', this.#native.packetFilter(fd, program));
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
    return this.#native.packetSet(this.#out, PACKET_ADD_MEMBERSHIP, b);
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
    // A queue goes on being filled for whoever comes next, unless it is told not to be.
    if (this.#options.queue !== undefined) for (const fd of this.#fds()) this.#native.packetFilter(fd, closedFilter());
    this.link.close();
    this.#closeSockets();
  }

  #closeSockets(): void {
    for (const ring of this.#rings.splice(0)) this.#native.packetUnmap(ring);
    const own = this.#options.queue === undefined ? this.#fds() : [this.#out];
    for (const fd of own) this.#native.close(fd);
  }
}

/**
 * Receive queues of one interface for as many ports (`queue` of PacketPortOptions), closed to everything until these open.
 * `program` (packetSteeringProgram) picks one for each frame by its place in the array. Whoever opened them closes them; one that
 * is closed before the others would let the last one take its place. Throws PortError; nothing is left open then.
 */
export function openPacketGroup(
  options: Omit<PacketPortOptions, 'queue'>,
  count: number,
  program: Uint8Array,
  native: Native | undefined = nativeModule,
): readonly PacketQueue[] {
  const name = `packet:${options.interface}`;
  if (native === undefined) throw new PortError('ENATIVE', `cannot open ${name}: ${nativeError}`);
  const opened: number[] = [];
  const open = () => {
    const fd = openSocket(name, options.netns, native);
    opened.push(fd);
    check(name, 'its filter is not taken', native.packetFilter(fd, closedFilter()));
    return fd;
  };
  const link = LinkMonitor.open(options.interface, options.netns, native, false);
  const { index } = link;
  link.close();
  try {
    // The bells are opened and bound first, for the same reason as with one port. When the interface was down, the kernel binds
    // sockets again in the order in which they were opened.
    const bells = Array.from({ length: peeks(options) ? count : 0 }, open);
    const fds = Array.from({ length: count }, open);
    for (const fd of opened) prepareReceive(native, fd, bells.includes(fd));
    for (const fd of fds) {
      check(name, 'this kernel has no TPACKET_V3', native.packetSet(fd, PACKET_VERSION, ints(TPACKET_V3)));
      makeRing(name, native, fd, options, GROUP_FRAME);
    }
    for (const members of [bells, fds]) joinGroup(name, native, members, index, program);
    const blocks = options.receiveBlocks ?? RECEIVE_BLOCKS;
    return fds.map((fd, i) => ({ fd, bell: bells[i] ?? -1, blocks, index }));
  } catch (e) {
    for (const fd of opened) native.close(fd);
    throw e;
  }
}

/** Binds sockets and makes them one fanout group, in their order. */
function joinGroup(name: string, native: Native, fds: readonly number[], index: number, program: Uint8Array): void {
  const group = new Uint8Array(4);
  for (const [i, fd] of fds.entries()) {
    check(name, 'the socket cannot be bound', native.packetBind(fd, index, ETH_P_ALL));
    native.packetError(fd);
    const first = i === 0;
    // int: identifier, then type and flags.
    const arg = first ? ints((FANOUT_CBPF | FANOUT_FLAG_UNIQUEID) << 16) : group.slice();
    check(name, 'its frames cannot be spread over several queues', native.packetSet(fd, PACKET_FANOUT, arg));
    if (!first) continue;
    check(name, 'its frames cannot be steered', native.packetSteer(fd, program));
    check(name, 'its group has no number', native.packetGet(fd, PACKET_FANOUT, group));
    new Uint16Array(group.buffer)[1] = FANOUT_CBPF; // flags are told too, and are no longer to be given
  }
}
