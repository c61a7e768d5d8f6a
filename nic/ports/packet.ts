/**
 * Packet port: Ethernet frames to and from an interface of this machine through a packet socket with mapped rings (packet(7), the
 * kernel's Documentation/networking/packet_mmap.rst). The card has a hardware address of its own beside the interface's, as one
 * more station on the link: the host's stack takes frames for it as for somebody else and stays silent.
 *
 * Nothing of the interface is changed but what belongs to the socket and ends with it, also when the program crashes: the
 * addresses that the interface receives besides its own (PACKET_MR_UNICAST), all-multicast, promiscuous mode.
 *
 * PACKET_VNET_HDR is not used: virtio_net_hdr knows no segmentation and no checksum of SCTP, and with it the kernel drops what
 * the host's own SCTP leaves to a segmenting card, which packet-rx.ts can cut. Trains are cut into the transmit ring.
 */
import { getSystemErrorName } from 'node:util';
import { type Native, nativeError, native as nativeModule, POLL_READABLE, POLL_WRITABLE } from '../native.js';
import type { PortAddress } from './address.js';
import { segments } from './headers.js';
import { type PacketRx, RX_TRAIN, RX_TRAIN_SEGMENTS } from './packet-rx.js';
import { ETHER, type PacketPortOptions, PacketSocket, parseAddresses, TAG } from './packet-socket.js';
import type { PacketTx } from './packet-tx.js';
import { type Batch, type Memory, type Port, type PortCapabilities, PortError } from './port.js';
import { FdReadiness } from './readiness.js';
import { LinkMonitor, validInterfaceName } from './rtnetlink.js';
import { linkSpeed } from './speed.js';

export { openPacketGroup, type PacketPortOptions, type PacketQueue } from './packet-socket.js';

const ANNOUNCE = 64; // calls between two looks at the link monitor when nobody arms the port
const REFUSALS = 1000; // times that the kernel may put off one frame

export class PacketPort implements Port {
  readonly name: string;
  capabilities: PortCapabilities;
  readonly counters = {
    tx_packets: 0,
    tx_bytes: 0,
    tx_oversize: 0,
    tx_no_carrier: 0,
    tx_errors: 0,
    tx_full: 0,
    rx_packets: 0,
    rx_bytes: 0,
    rx_truncated: 0,
    rx_oversize: 0, // longer than the MTU, and nothing that could be cut
    rx_cut: 0, // packets cut from frames that the host left to a segmenting card
    rx_errors: 0,
    rx_dropped: 0, // by the kernel: no block was free
    rx_freezes: 0, // times that no block was free
    link_changes: 0,
    mtu_changes: 0,
    removed: 0,
  };
  onCarrier: ((up: boolean) => void) | undefined;
  onChange: (() => void) | undefined;

  readonly #native: Native;
  readonly #options: PacketPortOptions;
  #addresses: readonly PortAddress[];
  #memory: Memory | undefined;
  #socket: PacketSocket | undefined;
  #rx!: PacketRx;
  #tx!: PacketTx;
  #bell = -1;
  #ready: FdReadiness | undefined;
  #mtu = 0; // the interface's
  #carrier = false;
  #removed = false;
  #refused = false;
  #refusals = 0;
  #news = false;
  #rang = false;
  #looked = 0;
  #high = -1; // of the station that sent last
  #low = 0;
  // Per frame that is filled and not handed over, in order: the entry of the batch that it belongs to.
  #owner = new Int32Array(1024);
  #frames = 0;
  #resume = 0; // packets of the entry refused last that went out
  #resumed = 0; // the same, of entry 0 of this call
  #resumeOff = 0;
  #resumeLen = 0;

  /** Throws PortError when the C module is missing or an option is wrong. */
  constructor(options: PacketPortOptions, native: Native | undefined = nativeModule) {
    this.name = `packet:${options.interface}`;
    if (native === undefined) throw new PortError('ENATIVE', `cannot open ${this.name}: ${nativeError}`);
    if (!validInterfaceName(options.interface)) {
      throw new PortError(
        'EINVAL',
        `"${options.interface}" is no interface name; give 1 to 15 characters without space, / or :`,
      );
    }
    if (options.mac !== undefined && (options.mac.length !== 6 || (options.mac[0]! & 1) !== 0)) {
      throw new RangeError('a hardware address has six bytes and is no group address');
    }
    this.#native = native;
    this.#options = options;
    this.#addresses = parseAddresses(options.addresses ?? []);
    this.capabilities = {
      carries: 'ethernet',
      mtu: options.mtu ?? this.#peekMtu() ?? 1500,
      train: RX_TRAIN,
      trainSegments: RX_TRAIN_SEGMENTS,
      sctpCrc: false,
      carrier: true,
    };
  }

  /** Who makes room for packets wants to know the MTU before `open`. */
  #peekMtu(): number | undefined {
    try {
      const link = LinkMonitor.open(this.#options.interface, this.#options.netns, this.#native);
      link.close();
      return Math.min(65535, Math.max(576, link.mtu));
    } catch {
      return undefined; // open says why
    }
  }

  get carrier(): boolean {
    return this.#carrier;
  }
  get hostAddresses(): readonly string[] {
    return this.#socket?.link.addresses ?? [];
  }

  /** True once the interface is gone: deleted, renamed or moved. The port has no carrier then until it is opened anew. */
  get removed(): boolean {
    return this.#removed;
  }

  /** Opens the socket; `capabilities.mtu` is the interface's from here on, unless a smaller one was asked for. */
  open(memory: Memory): void {
    if (this.#memory !== undefined) throw new Error(`${this.name} is open already`);
    const socket = new PacketSocket(this.name, this.#options, this.#addresses, this.counters, this.#native);
    const { link } = socket;
    try {
      this.#ready = new FdReadiness(this.#native, socket.watched);
    } catch (e) {
      socket.close();
      throw e;
    }
    this.#socket = socket;
    this.#rx = socket.rx;
    this.#tx = socket.tx;
    this.#bell = socket.bell;
    this.#owner = new Int32Array(socket.tx.frames);
    this.#mtu = link.mtu;
    this.capabilities = { ...this.capabilities, mtu: socket.mtu, speed: linkSpeed(link) };
    this.#memory = memory;
    this.#carrier = link.carrier;
    this.#removed = false;
    this.#refused = false;
    this.#refusals = 0;
    this.#high = -1;
    link.onChange = m => this.#changed(m);
  }

  /** The card's IP addresses have changed; none: all are let in. Throws PortError for a text that is no address. */
  setAddresses(addresses: readonly string[]): void {
    this.#addresses = parseAddresses(addresses);
    this.#socket?.setAddresses(this.#addresses);
  }

  // Link

  /** Reads the link monitor: always when told so or after a wake, else once in a while (it costs a system call). */
  #look(now: boolean): void {
    if (!now && !this.#news && ++this.#looked < ANNOUNCE) return;
    this.#looked = 0;
    this.#news = false;
    if (this.#ready?.error) {
      this.#ready.error = false;
      this.#socket?.clearErrors();
    }
    this.#socket?.link.poll();
  }

  #changed(m: LinkMonitor): void {
    if (m.mtu !== this.#mtu && m.present) {
      this.#mtu = m.mtu;
      this.counters.mtu_changes++;
      this.capabilities = {
        ...this.capabilities,
        mtu: Math.min(this.#tx.longest - ETHER - TAG, this.#options.mtu ?? m.mtu, m.mtu),
      };
    }
    if (!m.present && !this.#removed) {
      this.#removed = true;
      this.counters.removed++;
    }
    if (m.carrier !== this.#carrier) {
      this.#carrier = m.carrier;
      this.counters.link_changes++;
      this.onCarrier?.(m.carrier);
    }
    if (m.carrier) this.capabilities = { ...this.capabilities, speed: linkSpeed(m) };
    this.onChange?.();
    this.#ready?.signal();
  }

  // Data

  transmit(batch: Batch, _now: number): number {
    const memory = this.#memory;
    if (memory === undefined) return 0;
    this.#refused = false;
    this.#look(!this.#carrier);
    const n = batch.count;
    if (!this.#carrier) {
      this.counters.tx_no_carrier += n;
      return n;
    }
    this.#frames = 0;
    for (let i = 0; i < n; i++) {
      const need = this.#verdict(memory.u8, batch, i);
      if (need < 0 || !this.#tx.room(need)) {
        // What is in the ring goes out first: an entry is counted, or refused, when its turn comes.
        const stop = this.#kick(memory, batch, i);
        if (stop < i) return this.#full(stop);
        if (need < 0) {
          this.counters[DROPS[-need]!]++;
          continue;
        }
        if (!this.#tx.room(need)) return this.#full(i);
      }
      const from = this.#resumes(batch, i);
      if (i === 0) this.#resumed = from; // only the first entry can be one that was refused
      const put = this.#tx.put(memory, batch, i, from);
      this.#owner.fill(i, this.#frames, this.#frames + put);
      this.#frames += put;
    }
    const stop = this.#kick(memory, batch, n);
    return stop < n ? this.#full(stop) : n;
  }

  #full(taken: number): number {
    this.#refused = true;
    this.counters.tx_full++;
    return taken;
  }

  /** Frames that entry i needs, or minus the reason why it can never be sent, an index of DROPS. */
  #verdict(u8: Uint8Array, batch: Batch, i: number): number {
    const off = batch.off[i]!;
    const len = batch.len[i]!;
    const size = batch.segsz[i]!;
    const hdr = size > 0 ? batch.hdrlen[i]! : 0;
    if (off < 0 || len < ETHER || off + len > u8.length || (size !== 0 && (size < 0 || hdr < ETHER || hdr >= len)))
      return -1;
    const tag = len > ETHER && u8[off + 12] === 0x81 && u8[off + 13] === 0 ? TAG : 0;
    const count = size > 0 ? segments(batch, i) : 1;
    if ((size > 0 ? hdr + Math.min(size, len - hdr) : len) > this.capabilities.mtu + ETHER + tag) return -2;
    if (count > RX_TRAIN_SEGMENTS) return -2;
    const high = (u8[off + 6]! << 8) | u8[off + 7]!;
    const low = (u8[off + 8]! << 24) | (u8[off + 9]! << 16) | (u8[off + 10]! << 8) | u8[off + 11]!;
    if (low !== this.#low || high !== this.#high) {
      this.#low = low;
      this.#high = high;
      this.#socket!.learn(u8, off + 6);
    }
    return count;
  }

  /** Packets of entry i that went out when the train was refused in the middle: the caller gives it again. */
  #resumes(batch: Batch, i: number): number {
    const from = i === 0 ? this.#resume : 0;
    if (i === 0) this.#resume = 0;
    return from > 0 && batch.off[i] === this.#resumeOff && batch.len[i] === this.#resumeLen ? from : 0;
  }

  /** Hands over what is in the ring, which belongs to entries before `end`. Returns how many of these are dealt with. */
  #kick(memory: Memory, batch: Batch, end: number): number {
    const filled = this.#frames;
    this.#frames = 0;
    const rest = this.#tx.kick(memory);
    const c = this.counters;
    c.tx_packets += filled - rest;
    c.tx_bytes += this.#tx.bytes;
    if (rest === 0) {
      if (filled > 0) this.#refusals = 0;
      return end;
    }
    const code = this.#tx.error === 0 ? 'EAGAIN' : getSystemErrorName(this.#tx.error);
    if (code === 'ENETDOWN' || code === 'ENXIO') {
      c.tx_no_carrier += rest;
      this.#look(true);
      return end;
    }
    // ENOBUFS: the interface's own queue is full, or it has lost its carrier just now.
    if (code === 'ENOBUFS' && rest === filled) this.#socket!.link.check();
    if (!this.#carrier) {
      c.tx_no_carrier += rest;
      return end;
    }
    if ((code !== 'EAGAIN' && code !== 'ENOBUFS') || (rest === filled && ++this.#refusals > REFUSALS)) {
      this.#refusals = 0;
      c.tx_errors += rest;
      return end;
    }
    if (rest < filled) this.#refusals = 0;
    const first = filled - rest;
    const stop = this.#owner[first]!;
    let sent = 0;
    while (sent < first && this.#owner[first - 1 - sent] === stop) sent++;
    this.#resume = sent + (stop === 0 ? this.#resumed : 0);
    this.#resumeOff = batch.off[stop]!;
    this.#resumeLen = batch.len[stop]!;
    return stop;
  }

  receive(batch: Batch, posted: number, _now: number): number {
    batch.count = 0;
    const memory = this.#memory;
    if (memory === undefined) return 0;
    // Before the ring is read, so that a frame that comes in between rings again.
    if (this.#rang && this.#bell >= 0) this.#native.packetDrain(this.#bell);
    this.#rang = false;
    this.#look(false);
    const n = this.#rx.receive(memory, batch, Math.min(posted, batch.capacity), this.#mtu);
    if (this.#rx.losing) {
      this.#rx.losing = false;
      this.#socket?.statistics(this.counters);
    }
    return n;
  }

  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  arm(wake: () => void): void {
    // What woke us may have been the monitor: look at it in the next call.
    this.#news = true;
    this.#rang = true;
    const left = this.#memory !== undefined && this.#rx.ready;
    this.#ready?.arm(wake, this.#refused ? POLL_READABLE | POLL_WRITABLE : POLL_READABLE, left);
    this.#refused = false;
  }

  disarm(): void {
    this.#ready?.disarm();
  }

  close(): void {
    if (this.#memory === undefined) return;
    this.#memory = undefined;
    this.#carrier = false;
    this.#ready?.close();
    this.#ready = undefined;
    this.#socket?.statistics(this.counters);
    this.#socket?.close();
    this.#socket = undefined;
  }
}

/** Counters of entries that can never be sent, by what #verdict says. */
const DROPS = ['tx_errors', 'tx_errors', 'tx_oversize'] as const;
