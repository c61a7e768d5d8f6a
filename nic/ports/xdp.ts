/**
 * XDP port: Ethernet frames to and from an interface through AF_XDP (the kernel's Documentation/networking/af_xdp.rst). A small
 * XDP program (bpf.ts), attached by a BPF link, hands the card's frames to a socket before the host's stack sees them; all others
 * go on as if we were not there. The link ends with its descriptor, so that a crash of ours leaves the interface as it was.
 *
 * Modes, tried in this order and reported by `status`: zero-copy (the driver works on our memory), native (the program runs in
 * the driver, the kernel copies), generic (the program runs on the kernel's socket buffer; works with every driver).
 *
 * Packet memory. The UMEM is the region in which all batches lie, mbufs and all, with chunks that may begin anywhere; the card
 * gives the port `XDP_REGION_BYTES` of it for its own frames (`open`'s second argument). Without a part of the region, or when
 * the kernel does not take it (it has to be locked), the UMEM is memory of the port's own, and every packet is copied. With it:
 *  - Transmit: a descriptor points at the packet where it lies when the kernel copies while it is called, which is known of the
 *    drivers in COPYING_DRIVERS. Otherwise there is one copy: `transmit` promises that what it took may be written over, and a
 *    driver that works on our memory, or a socket buffer made of its pages, would still be reading it.
 *  - Trains are cut into frames of the port's own: one copy, for AF_XDP segments nothing, and two packets that lie end to end
 *    leave no place for the second one's headers. (A header and a payload in a descriptor each, XDP_USE_SG, are a page more to
 *    allocate for the kernel, and a copy on the far side.)
 *  - Receive: one copy, out of the port's frames into the caller's rooms, where packets of one flow become a train
 *    (coalesce.ts). The kernel wants to know where a frame is to go before it arrives, and a room belongs to the port during the
 *    call of `receive` only.
 *
 * AF_XDP knows no checksum state: what a kernel on the other side of a veth pair sends with its checksum left to hardware (UDP,
 * TCP and SCTP: veth says that it does them all) arrives without it. Such a peer needs `ethtool -K IF tx off` on its interface.
 *
 * The program is made for the card's hardware addresses, which the port learns from the frames that the card sends, or is told.
 */
import { getSystemErrorName } from 'node:util';
import { type Native, nativeError, native as nativeModule, POLL_READABLE, POLL_WRITABLE } from '../native.js';
import { parseAddress } from './address.js';
import { RX_TRAIN, RX_TRAIN_SEGMENTS } from './coalesce.js';
import { segments } from './headers.js';
import { type Batch, type Memory, type Port, type PortCapabilities, PortError } from './port.js';
import { FdReadiness } from './readiness.js';
import { ARPHRD_ETHER, LinkMonitor, validInterfaceName } from './rtnetlink.js';
import { linkSpeed } from './speed.js';
import { bindFirst, bindFurther, type XdpMode } from './xdp-modes.js';
import { stepError, XdpProgram } from './xdp-program.js';
import { XdpRx } from './xdp-rx.js';
import { XdpTx } from './xdp-tx.js';
import { XDP_HEADROOM, XskError, XskQueue } from './xsk.js';

export type { XdpMode };

export interface XdpPortOptions {
  /** Name of an Ethernet interface. */
  readonly interface: string;
  /** Largest IP packet, at most the interface's MTU; default: that. */
  readonly mtu?: number;
  /** Path of the network namespace in which the interface lives, "/run/netns/NAME". */
  readonly netns?: string;
  /** The card's hardware address; it is learned anyway, but not before the card sends. */
  readonly mac?: Uint8Array;
  /** The card's IP addresses, "192.0.2.2" or "192.0.2.2/24": then the host keeps all broadcast and multicast but what asks for them. */
  readonly addresses?: readonly string[];
  /** This mode and no other. */
  readonly mode?: XdpMode;
  /** Give consecutive SCTP packets of one flow as trains; default true. */
  readonly trains?: boolean;
}

/** What the port got. */
export interface XdpStatus {
  readonly mode: XdpMode;
  readonly driver: string;
  readonly queues: number;
  readonly needWakeup: boolean;
  /** The packet memory is the caller's region; else why not. */
  readonly region: boolean;
  readonly regionRefused?: string;
  /** Packets are sent from where they lie, without a copy of ours. */
  readonly direct: boolean;
  /** Why the modes before it were not had. */
  readonly refused: readonly string[];
}

/** Page-aligned bytes of the region that `open` may be given for the port's frames. */
export const XDP_REGION_BYTES = 6 << 20;
const TX_BYTES = XDP_REGION_BYTES / 3;
const RX_RING = 2048;
const TX_RING = 1024;

/** Drivers whose packets the kernel copies while it is called to send (no IFF_TX_SKB_NO_LINEAR, copy mode). */
const COPYING_DRIVERS: readonly string[] = ['veth'];

const L2_HEADER = 14;
const VLAN_TAG = 4;
const CHUNK_SMALL = 2048;
const CHUNK_LARGE = 4096; // the largest that AF_XDP takes: a page
const RINGS = { rx: RX_RING, tx: TX_RING };
const PIECES = 16; // descriptors of one packet; the kernel's socket buffer takes 17
const LOOK = 1e6; // ns between two looks at the link monitor when nobody arms the port
const PAGE = 4096;
/** Frames begin so that their IP header lies at a four-byte boundary (see Coalescer). */
const ALIGN = 2;

const nameOf = (r: number) => getSystemErrorName(r);
/** Bytes of a packet that a chunk holds. */
const holds = (chunk: number) => chunk - XDP_HEADROOM - ALIGN;
/** Longest packet without link header in `pieces` chunks. */
const fits = (chunk: number, pieces: number) => pieces * holds(chunk) - L2_HEADER - VLAN_TAG;

export class XdpPort implements Port {
  readonly name: string;
  /** What `open` takes as its part of the region. */
  readonly regionBytes = XDP_REGION_BYTES;
  capabilities: PortCapabilities;
  readonly counters = {
    tx_packets: 0,
    tx_bytes: 0,
    tx_oversize: 0,
    tx_no_carrier: 0,
    tx_errors: 0,
    tx_full: 0,
    tx_copied: 0, // frames that we copied before the kernel saw them
    rx_packets: 0,
    rx_bytes: 0,
    rx_truncated: 0,
    rx_errors: 0,
    link_changes: 0,
    mtu_changes: 0,
    removed: 0,
    stations: 0, // hardware addresses that the program takes frames for
    stations_refused: 0,
    // struct xdp_statistics, of all queues
    xdp_rx_dropped: 0,
    xdp_rx_invalid_descs: 0,
    xdp_tx_invalid_descs: 0,
    xdp_rx_ring_full: 0,
    xdp_rx_fill_ring_empty: 0,
    xdp_tx_ring_empty: 0,
  };
  onCarrier: ((up: boolean) => void) | undefined;
  onChange: (() => void) | undefined;

  readonly #native: Native;
  readonly #options: XdpPortOptions;
  #memory: Memory | undefined;
  #monitor: LinkMonitor | undefined;
  #ready: FdReadiness | undefined;
  #queues: XskQueue[] = [];
  #program: XdpProgram | undefined;
  #status: XdpStatus | undefined;

  // Packet memory: all of it, and where our frames lie in it.
  #umem: Uint8Array = new Uint8Array(0);
  #base = 0;
  #chunk = CHUNK_SMALL;
  #pieces = 1;
  #tx: XdpTx | undefined;
  #rx: XdpRx | undefined;

  #carrier = false;
  #refused = false;
  #news = false;
  #looked = 0; // when, on the caller's clock
  #addresses: readonly string[] = [];
  #removed = false;
  #sourceHi = -1; // of the frame sent last
  #sourceLo = 0;
  readonly #words = new Int32Array(6);
  readonly #sums = new Float64Array(6);

  /**
   * `native` may be another module, for tests. Throws PortError when the C module is missing or an option is wrong. The
   * interface's MTU is read here already if it can be: what is made for this port needs to know it.
   */
  constructor(options: XdpPortOptions, native: Native | undefined = nativeModule) {
    this.name = `xdp:${options.interface}`;
    if (native === undefined) throw new PortError('ENATIVE', `cannot open ${this.name}: ${nativeError}`);
    if (!validInterfaceName(options.interface)) {
      throw new PortError(
        'EINVAL',
        `"${options.interface}" is no interface name; give 1 to 15 characters without space, / or :`,
      );
    }
    if (options.mac !== undefined && (options.mac.length !== 6 || (options.mac[0]! & 1) !== 0))
      throw new RangeError('a hardware address of a card has six bytes, and is no group address');
    this.#native = native;
    this.#options = options;
    this.setAddresses(options.addresses ?? []);
    this.capabilities = {
      carries: 'ethernet',
      mtu: options.mtu ?? 1500,
      train: 0,
      trainSegments: 0,
      sctpCrc: false,
      carrier: true,
    };
    try {
      const monitor = LinkMonitor.open(options.interface, options.netns, native);
      this.#setMtu(monitor.mtu);
      monitor.close();
    } catch {
      // `open` says what is wrong.
    }
  }

  get carrier(): boolean {
    return this.#carrier;
  }
  get hostAddresses(): readonly string[] {
    return this.#monitor?.addresses ?? [];
  }

  /** True once the interface is gone: deleted, renamed or moved. The port has no carrier then until it is opened anew. */
  get removed(): boolean {
    return this.#removed;
  }

  /** The card's IP addresses have changed; none: not known. Throws PortError for a text that is no address. */
  setAddresses(addresses: readonly string[]): void {
    for (const text of addresses) {
      if (parseAddress(text.split('/')[0]!) === undefined)
        throw new PortError('EINVAL', `"${text}" is no IP address, such as 192.0.2.2 or 2001:db8::2`);
    }
    this.#addresses = [...addresses];
    this.#program?.setAddresses(this.#addresses);
  }

  /** What `open` got; undefined while closed. */
  get status(): XdpStatus | undefined {
    return this.#status;
  }

  /** The same in words; why the modes before this one were not had is behind them. */
  describe(): string {
    const s = this.#status;
    if (s === undefined) return 'closed';
    const queues = s.queues === 1 ? '1 queue' : `${s.queues} queues`;
    const own = s.regionRefused === undefined ? '' : ` (not the card's region: ${s.regionRefused})`;
    const memory = s.region
      ? `packet memory is the card's region${s.direct ? ', packets are sent from where they lie' : ''}`
      : `packet memory of its own${own}`;
    const parts = [
      `${s.mode} mode (driver ${s.driver})`,
      queues,
      memory,
      s.needWakeup ? 'need-wakeup' : 'no need-wakeup',
    ];
    return [...parts, ...s.refused].join('; ');
  }

  /**
   * Opens the interface. `own`: byte offset of XDP_REGION_BYTES of `memory`, at a page, that are the port's while it is open; the
   * packet memory is then the region itself if the kernel takes it. Throws PortError.
   */
  open(memory: Memory, own = -1): void {
    if (this.#memory !== undefined) throw new Error(`${this.name} is open already`);
    if (own >= 0 && (own % PAGE !== 0 || own + XDP_REGION_BYTES > memory.u8.length))
      throw new RangeError(`${this.name}: its part of the region does not lie in it, at a page`);
    const o = this.#options;
    try {
      const monitor = LinkMonitor.open(o.interface, o.netns, this.#native);
      this.#monitor = monitor;
      if (monitor.type !== ARPHRD_ETHER)
        throw new PortError(
          'ENOTSUP',
          `cannot open ${this.name}: it is no Ethernet interface; xdp: carries Ethernet frames`,
        );
      this.#setMtu(monitor.mtu);
      this.#checkOptions(monitor);
      const regionRefused = this.#socket(memory, own);
      const region = own >= 0 && regionRefused === undefined;
      const { mac, netns } = o;
      const rule = { frags: this.#pieces > 1, ...(mac && { mac }), ...(netns && { netns }) };
      this.#program = new XdpProgram(this.#native, this.name, monitor, rule, this.#addresses);
      this.#sourceHi = -1;
      const target = { native: this.#native, name: this.name, index: monitor.index, netns };
      const got = bindFirst(target, this.#program, this.#queues[0]!, this.#pieces > 1, o.mode);
      bindFurther(target, this.#queues[0]!, RINGS, this.#queues);
      this.#fillRings();
      const driver = this.#driver();
      this.#status = {
        ...got,
        driver,
        queues: this.#queues.length,
        needWakeup: this.#queues[0]!.tx.needWakeup,
        region,
        ...(regionRefused && { regionRefused }),
        direct: region && got.mode !== 'zero-copy' && COPYING_DRIVERS.includes(driver),
      };
      this.#tx!.direct = this.#status.direct;
      this.#program.open();
      this.counters.stations = this.#program.macs.length;
      this.#ready = new FdReadiness(this.#native, [...this.#queues.map(q => q.fd), monitor.fd]);
      monitor.refresh(); // what has been said up to here speaks of our own doing
      this.#carrier = monitor.carrier;
      this.capabilities = { ...this.capabilities, speed: linkSpeed(monitor) };
      monitor.onChange = m => this.#changed(m);
    } catch (e) {
      this.#release();
      throw e;
    }
    this.#memory = memory;
    this.#removed = false;
    this.#refused = false;
    this.#news = false;
  }

  #checkOptions(monitor: LinkMonitor): void {
    const { mtu } = this.#options;
    const say = (code: string, why: string) => new PortError(code, `cannot open ${this.name}${why}`);
    if (mtu !== undefined && mtu > monitor.mtu)
      throw say(
        'EINVAL',
        ` with an MTU of ${mtu}: the interface has ${monitor.mtu}; give at most that, or raise it with "ip link set ${monitor.name} mtu ${mtu}"`,
      );
    const own = (text: string) => parseAddress(text.split('/')[0]!)!.w.join();
    const taken = monitor.addresses.find(text => this.#addresses.some(a => own(a) === own(text)));
    if (taken !== undefined)
      throw say(
        'EADDRINUSE',
        `: the host has the address ${taken} itself and would answer too; give the card another one, or take it off with "ip address del ${taken} dev ${monitor.name}"`,
      );
  }

  #driver(): string {
    const name = this.#native.xdpDriver(this.#monitor!.fd, this.#options.interface);
    return typeof name === 'string' ? name : 'unknown';
  }

  #setMtu(mtu: number): void {
    // One frame while it suffices: packets in pieces need Linux 6.6.
    const one = mtu <= fits(CHUNK_LARGE, 1);
    const most = this.#memory === undefined ? fits(CHUNK_LARGE, one ? 1 : PIECES) : fits(this.#chunk, this.#pieces);
    const own = this.#options.mtu ?? 65535;
    // Packets in pieces are moved one by one.
    const whole = this.#memory === undefined ? one : this.#pieces === 1;
    const train = whole ? RX_TRAIN : 0;
    const trainSegments = whole ? RX_TRAIN_SEGMENTS : 0;
    this.capabilities = { ...this.capabilities, mtu: Math.min(mtu, own, most), train, trainSegments };
  }

  /**
   * The first socket with its packet memory: the region, when a part of it is ours, else memory of our own. Returns why it is
   * not the region although there is a part of it.
   */
  #socket(memory: Memory, own: number): string | undefined {
    const { mtu } = this.capabilities;
    this.#chunk = mtu <= fits(CHUNK_SMALL, 1) ? CHUNK_SMALL : CHUNK_LARGE;
    this.#pieces = mtu <= fits(this.#chunk, 1) ? 1 : PIECES;
    let refused: string | undefined;
    try {
      if (own >= 0) refused = this.#pack(memory.u8.subarray(0, memory.u8.length - (memory.u8.length % PAGE)), own);
      if (own < 0 || refused !== undefined) {
        const r = this.#pack(new Uint8Array(this.#native.allocate(XDP_REGION_BYTES, true)), 0);
        if (r !== undefined) throw stepError(this.name, 'umem', r);
      }
    } catch (e) {
      if (e instanceof XskError) throw stepError(this.name, e.what, nameOf(e.errno));
      throw e;
    }
    const frames = {
      umem: this.#umem,
      base: this.#base,
      bytes: TX_BYTES,
      chunk: this.#chunk,
      holds: holds(this.#chunk),
    };
    const trains = this.#options.trains !== false;
    this.#tx = new XdpTx(this.#native, this.#queues[0]!, frames, this.counters);
    this.#rx = new XdpRx(this.#native, this.#queues, this.#umem, this.#pieces > 1, trains, this.counters);
    return refused;
  }

  /** Makes a socket with this packet memory, in which our frames lie at `own`; returns the error's name when it is refused. */
  #pack(region: Uint8Array, own: number): string | undefined {
    const umem = { region, chunk: this.#chunk, headroom: ALIGN };
    try {
      this.#queues.push(new XskQueue(this.#native, RINGS, this.#options.netns, umem));
    } catch (e) {
      if (e instanceof XskError && e.what === 'umem') return nameOf(e.errno);
      throw e;
    }
    this.#umem = region;
    this.#base = own;
    return undefined;
  }

  /** Hands all receive frames to the kernel, and the sockets to the program. */
  #fillRings(): void {
    const per = Math.min(RX_RING, Math.floor((XDP_REGION_BYTES - TX_BYTES) / this.#chunk / this.#queues.length));
    let at = this.#base + TX_BYTES;
    for (const [i, q] of this.#queues.entries()) {
      for (let k = 0; k < per; k++, at += this.#chunk) q.pushFill(at);
      q.publishFill();
      const r = this.#program!.deliver(i, q.fd);
      if (r < 0) throw stepError(this.name, 'map', nameOf(r));
    }
  }

  /** The card sends from an address that it did not send from last. */
  #learn(memory: Memory, off: number): void {
    this.#sourceHi = memory.dv.getUint16(off + 6);
    this.#sourceLo = memory.dv.getInt32(off + 8);
    const program = this.#program!;
    if (!program.learn(memory.u8.slice(off + 6, off + 12))) this.counters.stations_refused++;
    this.counters.stations = program.macs.length;
  }

  transmit(batch: Batch, now: number): number {
    const memory = this.#memory;
    if (memory === undefined) return 0;
    this.#refused = false;
    this.#look(now);
    const tx = this.#tx!;
    const c = this.counters;
    const { u8, dv } = memory;
    tx.reclaim();
    let { room } = tx;
    let i = 0;
    for (; i < batch.count; i++) {
      const off = batch.off[i]!;
      const len = batch.len[i]!;
      const train = batch.segsz[i] !== 0;
      const drop = train ? this.#trainVerdict(u8, batch, i) : this.#verdict(u8, off, len);
      if (drop !== undefined) {
        c[drop]++;
        continue;
      }
      const n = train ? segments(batch, i) : tx.pieces(len);
      if (n > room) {
        this.#refused = true;
        c.tx_full++;
        break;
      }
      room -= n;
      if (dv.getInt32(off + 8) !== this.#sourceLo || dv.getUint16(off + 6) !== this.#sourceHi) this.#learn(memory, off);
      if (train) {
        tx.cut(u8, batch, i, n);
        c.tx_packets += n;
        c.tx_bytes += len + (n - 1) * batch.hdrlen[i]!;
      } else {
        tx.put(off, len);
        c.tx_packets++;
        c.tx_bytes += len;
      }
    }
    this.#sent(tx.send(u8));
    return i;
  }

  /** What the kernel said to sending. */
  #sent(r: number): void {
    if (r === 0) return;
    const code = nameOf(r);
    if (code === 'ENETDOWN' || code === 'ENXIO') this.#look(Number.POSITIVE_INFINITY);
    else if (code !== 'EAGAIN' && code !== 'ENOBUFS' && code !== 'EBUSY') this.counters.tx_errors++;
  }

  #verdict(u8: Uint8Array, off: number, len: number): Drop | undefined {
    if (off < 0 || len < L2_HEADER || off + len > u8.length) return 'tx_errors';
    const longest = this.capabilities.mtu + L2_HEADER;
    if (len > longest && (len > longest + VLAN_TAG || u8[off + 12] !== 0x81 || u8[off + 13] !== 0))
      return 'tx_oversize';
    return this.#carrier ? undefined : 'tx_no_carrier';
  }

  /** The same for a train: its packets must not be too long, and no more than agreed. */
  #trainVerdict(u8: Uint8Array, batch: Batch, i: number): Drop | undefined {
    const off = batch.off[i]!;
    const len = batch.len[i]!;
    const size = batch.segsz[i]!;
    const hdr = batch.hdrlen[i]!;
    if (size < 0 || hdr < L2_HEADER || hdr >= len || off < 0 || off + len > u8.length) return 'tx_errors';
    if (segments(batch, i) > this.capabilities.trainSegments) return 'tx_oversize';
    return this.#verdict(u8, off, hdr + Math.min(size, len - hdr));
  }

  receive(batch: Batch, posted: number, now: number): number {
    batch.count = 0;
    const memory = this.#memory;
    if (memory === undefined) return 0;
    this.#look(now);
    const tx = this.#tx!;
    if (tx.waiting) this.#sent(tx.kick());
    return this.#rx!.receive(memory, batch, Math.min(posted, batch.capacity));
  }

  /**
   * Reads the link monitor: after a wake, and once in a while (it costs system calls); Infinity: now. A clock that jumps back
   * does no more than have it read once too often.
   */
  #look(now: number): void {
    if (!this.#news && Math.abs(now - this.#looked) < LOOK) return;
    if (now < Number.POSITIVE_INFINITY) this.#looked = now;
    this.#news = false;
    this.#statistics();
    this.#monitor!.poll();
  }

  /** The monitor has news; it may tell them on its own, in no call of ours. */
  #changed(monitor: LinkMonitor): void {
    if (!monitor.present && !this.#removed) {
      this.#removed = true;
      this.counters.removed++;
    }
    const before = this.capabilities.mtu;
    if (monitor.present) this.#setMtu(monitor.mtu);
    if (this.capabilities.mtu !== before) this.counters.mtu_changes++;
    if (monitor.carrier !== this.#carrier) {
      this.#carrier = monitor.carrier;
      this.counters.link_changes++;
      this.onCarrier?.(this.#carrier);
    }
    if (monitor.carrier) this.capabilities = { ...this.capabilities, speed: linkSpeed(monitor) };
    this.onChange?.();
    this.#ready?.signal();
    if (this.#program?.stale && !this.#program.renew()) this.counters.rx_errors++;
  }

  /** Brings the counters of the kernel up to date; also done by the way now and then. */
  #statistics(): void {
    const sums = this.#sums.fill(0);
    for (const q of this.#queues) q.statistics(this.#words, sums);
    const c = this.counters;
    c.xdp_rx_dropped = sums[0]!;
    c.xdp_rx_invalid_descs = sums[1]!;
    c.xdp_tx_invalid_descs = sums[2]!;
    c.xdp_rx_ring_full = sums[3]!;
    c.xdp_rx_fill_ring_empty = sums[4]!;
    c.xdp_tx_ring_empty = sums[5]!;
  }

  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  arm(wake: () => void): void {
    if (this.#memory === undefined) return;
    // What woke us may have been the monitor: look at it in the next call.
    this.#news = true;
    const waits = this.#refused || this.#tx!.waiting;
    this.#ready?.arm(wake, waits ? POLL_READABLE | POLL_WRITABLE : POLL_READABLE, false);
    this.#refused = false;
  }

  disarm(): void {
    this.#ready?.disarm();
  }

  close(): void {
    if (this.#memory === undefined) return;
    this.#statistics();
    this.#memory = undefined;
    this.#carrier = false;
    this.#release();
  }

  #release(): void {
    this.#status = undefined;
    this.#ready?.close();
    this.#ready = undefined;
    this.#program?.close();
    this.#program = undefined;
    for (const q of [...this.#queues].reverse()) q.close();
    this.#queues = [];
    this.#umem = new Uint8Array(0);
    this.#tx = undefined;
    this.#rx = undefined;
    this.#monitor?.close();
    this.#monitor = undefined;
  }
}

/** Counters of packets that are not sent. */
type Drop = 'tx_errors' | 'tx_oversize' | 'tx_no_carrier';
