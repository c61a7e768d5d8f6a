/**
 * What TAP and TUN ports share (the kernel's Documentation/networking/tuntap.rst): a kernel interface made (or, when it is
 * persistent, attached) by the C module, whose kernel side is an ordinary interface of this machine or of a network namespace.
 * What we write the kernel receives, what it sends we read. Carrier, MTU and removal are the kernel side's, followed by
 * rtnetlink. A persistent interface is left on close as it was found.
 *
 * A TAP carries a virtio_net_hdr in front of each frame (IFF_VNET_HDR) with which the kernel leaves checksums of what it sends
 * to us: nobody can flip a bit in between. It knows no segmentation of SCTP, so that trains are cut by the card.
 */
import { getSystemErrorName } from 'node:util';
import {
  type Native,
  nativeError,
  native as nativeModule,
  POLL_READABLE,
  POLL_WRITABLE,
  TUN_HEADER,
} from '../native.js';
import { copyBytes, findIp, fold16, sum16 } from './headers.js';
import { BATCH_L3_TRUSTED, type Batch, type Memory, type Port, type PortCapabilities, PortError } from './port.js';
import { FdReadiness } from './readiness.js';
import { LinkMonitor } from './rtnetlink.js';
import { checkTunTap, TunTapDevice, type TunTapOptions } from './tuntap-device.js';

export { openTunTapGroup, type TunTapGroup, type TunTapOptions } from './tuntap-device.js';

const EAGAIN = 'EAGAIN';
const L2_HEADER = 14;
const VLAN_TAG = 4;
const NEEDS_CSUM = 1; // virtio_net_hdr flag
const UDP = 17;
const ANNOUNCE = 64; // packets between two looks at the link monitor when nobody arms the port

export class TunTapPort implements Port {
  readonly name: string;
  capabilities: PortCapabilities;
  readonly counters = {
    tx_packets: 0,
    tx_bytes: 0,
    tx_oversize: 0,
    tx_unsupported: 0,
    tx_no_carrier: 0,
    tx_errors: 0,
    tx_full: 0,
    rx_packets: 0,
    rx_bytes: 0,
    rx_truncated: 0,
    rx_errors: 0,
    rx_partial: 0, // frames whose checksum the kernel left to us
    link_changes: 0,
    mtu_changes: 0,
    removed: 0,
  };
  onCarrier: ((up: boolean) => void) | undefined;
  onChange: (() => void) | undefined;

  readonly #tap: boolean;
  readonly #native: Native;
  readonly #options: TunTapOptions;
  #device: TunTapDevice | undefined; // ours, unless we are one queue of somebody else's
  #queues: readonly number[] = []; // descriptors
  #turn = 0; // the queue to be read first
  #headers: Uint8Array | undefined; // a virtio_net_hdr per entry
  #headers16: Uint16Array | undefined;
  #zeros: Uint8Array | undefined; // what we write in front of frames
  #link: LinkMonitor | undefined;
  #removed = false;
  #len = new Int32Array(256);
  #memory: Memory | undefined;
  #ready: FdReadiness | undefined;
  #refused = false;
  #carrier = false;
  #news = false;
  #looked = 0;

  /** Use TapPort or TunPort. Throws PortError when the C module is missing or an option is wrong. */
  constructor(tap: boolean, options: TunTapOptions, native: Native | undefined = nativeModule) {
    this.name = `${tap ? 'tap' : 'tun'}:${options.interface}`;
    if (native === undefined) throw new PortError('ENATIVE', `cannot open ${this.name}: ${nativeError}`);
    checkTunTap(this.name, options);
    this.#tap = tap;
    this.#native = native;
    this.#options = options;
    this.capabilities = {
      carries: tap ? 'ethernet' : 'ip',
      mtu: options.mtu ?? 1500,
      train: 0,
      trainSegments: 0,
      sctpCrc: false,
      carrier: true,
    };
  }

  get carrier(): boolean {
    return this.#carrier;
  }
  get hostAddresses(): readonly string[] {
    return this.#link?.addresses ?? [];
  }

  /** True once the interface is gone: deleted, renamed or moved. */
  get removed(): boolean {
    return this.#removed;
  }

  /** Opens the interface; `capabilities.mtu` (and a TAP's `mac`: the kernel side's address) are true from here on. */
  open(memory: Memory): void {
    if (this.#memory !== undefined) throw new Error(`${this.name} is open already`);
    const o = this.#options;
    const native = this.#native;
    try {
      if (o.queue === undefined) {
        const device = new TunTapDevice(this.name, this.#tap, o, native);
        this.#device = device;
        this.#queues = device.queues;
        this.#link = device.link;
      } else {
        this.#queues = [o.queue];
        this.#link = LinkMonitor.open(o.interface, o.netns, native, false);
      }
      const [first, ...others] = this.#queues;
      this.#ready = new FdReadiness(native, [first!, this.#link.fd, ...others]);
    } catch (e) {
      this.#release();
      throw e;
    }
    if (this.#tap && o.vnetHeader !== false) {
      this.#zeros = new Uint8Array(256 * TUN_HEADER);
      this.#headers = new Uint8Array(256 * TUN_HEADER);
      this.#headers16 = new Uint16Array(this.#headers.buffer);
    }
    this.#memory = memory;
    this.#refused = false;
    this.#removed = false;
    // The monitor's backlog speaks of our own setting up: the state now is what counts.
    this.#link.refresh();
    this.#carrier = this.#link.carrier;
    const { mtu, mac } = this.#link;
    this.capabilities = { ...this.capabilities, mtu, ...(this.#tap ? { mac } : {}) };
    this.#link.onChange = m => this.#changed(m);
  }

  /** True when the interface was there before us and stays after close. */
  get persistent(): boolean {
    return this.#device?.persistent === true;
  }

  transmit(batch: Batch, _now: number): number {
    const memory = this.#memory;
    if (memory === undefined) return 0;
    this.#refused = false;
    this.#look(false);
    const n = batch.count;
    if (this.#len.length < n) this.#len = new Int32Array(batch.capacity);
    let i = 0;
    while (i < n) {
      // Entries that cannot be sent end the run, so that each is counted when its turn comes.
      let end = i;
      let drop: Drop | undefined;
      for (; end < n; end++) {
        drop = this.#verdict(memory.u8, batch, end);
        if (drop !== undefined) break;
        this.#len[end] = batch.len[end]!;
      }
      while (i < end) {
        const r = this.#write(memory, batch, i, end);
        if (r >= 0) {
          for (const last = i + r; i < last; i++) {
            this.counters.tx_packets++;
            this.counters.tx_bytes += batch.len[i]!;
          }
          continue;
        }
        const code = getSystemErrorName(r);
        if (code === EAGAIN) {
          this.#refused = true;
          this.counters.tx_full++;
          return i;
        }
        this.#failed(code);
        i++;
      }
      if (drop !== undefined) {
        this.counters[drop]++;
        i++;
      }
    }
    return n;
  }

  /** Writes entries [i, end), or as many as go to the same queue. Returns as Native.writeBatch does. */
  #write(memory: Memory, batch: Batch, i: number, end: number): number {
    const queues = this.#queues;
    let last = end;
    let queue = 0;
    if (queues.length > 1) {
      queue = this.#queueOf(memory.u8, batch, i);
      for (last = i + 1; last < end && this.#queueOf(memory.u8, batch, last) === queue; last++);
    }
    if (this.#zeros !== undefined && this.#zeros.length < end * TUN_HEADER) {
      this.#zeros = new Uint8Array(batch.capacity * TUN_HEADER);
    }
    return this.#native.writeBatch(queues[queue]!, memory.u8, batch.off, this.#len, i, last, this.#zeros);
  }

  /** A flow keeps to one queue, and its packets in order: by addresses and the first bytes behind the IP header. */
  #queueOf(u8: Uint8Array, batch: Batch, i: number): number {
    const off = batch.off[i]!;
    const end = off + batch.len[i]!;
    const ip = findIp(u8, off, end, this.capabilities.carries);
    if (ip < 0) return 0;
    const four = u8[ip]! >>> 4 === 4;
    const from = ip + (four ? 12 : 8);
    const to = Math.min(end, ip + (four ? (u8[ip]! & 15) * 4 : 40) + 4);
    let h = 0;
    for (let k = from; k < to; k++) h = (h * 31 + u8[k]!) | 0;
    return (h >>> 1) % this.#queues.length;
  }

  #failed(code: string): void {
    // EIO: the kernel side is down; EBADFD: it was deleted.
    if (code !== 'EIO' && code !== 'EBADFD') {
      this.counters.tx_errors++;
      return;
    }
    this.counters.tx_no_carrier++;
    this.#look(true);
  }

  #verdict(u8: Uint8Array, batch: Batch, i: number): Drop | undefined {
    const off = batch.off[i]!;
    const len = batch.len[i]!;
    if (off < 0 || len <= 0 || off + len > u8.length) return 'tx_errors';
    if (batch.segsz[i]! > 0) return 'tx_oversize';
    const mtu = this.capabilities.mtu;
    if (!this.#tap) {
      const version = u8[off]! >>> 4;
      if (version !== 4 && version !== 6) return 'tx_unsupported';
      return len > mtu ? 'tx_oversize' : undefined;
    }
    if (len < L2_HEADER) return 'tx_errors';
    const tagged = len > L2_HEADER && u8[off + 12] === 0x81 && u8[off + 13] === 0;
    return len > mtu + L2_HEADER + (tagged ? VLAN_TAG : 0) ? 'tx_oversize' : undefined;
  }

  receive(batch: Batch, posted: number, _now: number): number {
    batch.count = 0;
    const memory = this.#memory;
    if (memory === undefined) return 0;
    this.#look(false);
    this.#news = false;
    const room = Math.min(posted, batch.capacity);
    if (this.#headers !== undefined && this.#headers.length < room * TUN_HEADER) {
      this.#headers = new Uint8Array(batch.capacity * TUN_HEADER);
      this.#headers16 = new Uint16Array(this.#headers.buffer);
    }
    let got = 0;
    const queues = this.#queues;
    for (let q = 0; q < queues.length && got < room; q++) {
      const fd = queues[(this.#turn + q) % queues.length]!;
      const r = this.#native.readBatch(fd, memory.u8, batch.off, batch.cap, got, room, batch.len, this.#headers);
      if (r >= 0) got += r;
      else if (got === 0 && q + 1 === queues.length) {
        this.counters.rx_errors++;
        this.#look(true);
        return 0;
      }
    }
    this.#turn = (this.#turn + 1) % queues.length;
    let k = 0;
    for (let i = 0; i < got; i++) {
      const len = batch.len[i]!;
      if (len < 0 || len > batch.cap[k]!) {
        this.counters.rx_truncated++;
        continue;
      }
      if (k !== i) copyBytes(memory.u8, batch.off[i]!, memory.u8, batch.off[k]!, len);
      batch.len[k] = len;
      batch.segsz[k] = 0;
      batch.hdrlen[k] = 0;
      batch.flags[k] = this.#headers === undefined ? 0 : this.#partial(memory.u8, batch.off[k]!, len, i);
      this.counters.rx_packets++;
      this.counters.rx_bytes += len;
      k++;
    }
    batch.count = k;
    return k;
  }

  /** Batch flags of a frame with the header i. A checksum that the kernel left out is vouched for, or filled in. */
  #partial(u8: Uint8Array, off: number, len: number, i: number): number {
    if ((this.#headers![i * TUN_HEADER]! & NEEDS_CSUM) === 0) return 0;
    const at = (i * TUN_HEADER) >> 1;
    const start = this.#headers16![at + 3]!; // csum_start, csum_offset: in host byte order
    const field = start + this.#headers16![at + 4]!;
    if (field + 2 > len) return 0;
    this.counters.rx_partial++;
    const ip = findIp(u8, off, off + len, 'ethernet');
    const four = ip >= 0 && u8[ip]! >>> 4 === 4;
    if (ip >= 0 && (four ? u8[ip + 9] : u8[ip + 6]) === UDP) return BATCH_L3_TRUSTED;
    const sum = fold16(sum16(u8, off + start, off + len, 0));
    u8[off + field] = sum >>> 8;
    u8[off + field + 1] = sum;
    return 0;
  }

  /** Reads the link monitor: always when told so or after a wake, else once in a while (it costs a system call). */
  #look(now: boolean): void {
    if (!now && !this.#news && ++this.#looked < ANNOUNCE) return;
    this.#looked = 0;
    this.#link?.poll();
  }

  #changed(m: LinkMonitor): void {
    if (m.present && m.mtu !== this.capabilities.mtu) {
      this.counters.mtu_changes++;
      this.capabilities = { ...this.capabilities, mtu: m.mtu };
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
    this.onChange?.();
    this.#ready?.signal();
  }

  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  arm(wake: () => void): void {
    // What woke us may have been the monitor: look at it in the next call.
    this.#news = true;
    this.#ready?.arm(wake, this.#refused ? POLL_READABLE | POLL_WRITABLE : POLL_READABLE, false);
    this.#refused = false;
  }

  disarm(): void {
    this.#ready?.disarm();
  }

  close(): void {
    if (this.#memory === undefined) return;
    this.#memory = undefined;
    this.#carrier = false;
    this.#release();
  }

  #release(): void {
    this.#ready?.close();
    this.#ready = undefined;
    this.#device?.close();
    this.#device = undefined;
    this.#link?.close();
    this.#link = undefined;
    this.#queues = [];
    this.#headers = undefined;
    this.#zeros = undefined;
  }
}

/** Counters of packets that can never be sent. */
type Drop = 'tx_errors' | 'tx_unsupported' | 'tx_oversize';
