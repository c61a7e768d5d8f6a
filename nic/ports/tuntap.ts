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
  TUN_CTL,
  TUN_FD,
  TUN_HEADER,
  TUN_OPEN_HEADERS,
  TUN_OPEN_QUEUES,
  TUN_OPEN_TAP,
  TUN_PERSISTENT,
  TUN_STAGE,
  TUN_WORDS,
} from '../native.js';
import { parseAddress } from './address.js';
import { copyBytes, findIp, fold16, sum16 } from './headers.js';
import { BATCH_L3_TRUSTED, type Batch, type Memory, type Port, type PortCapabilities, PortError } from './port.js';
import { FdReadiness } from './readiness.js';
import { LinkMonitor, validInterfaceName } from './rtnetlink.js';

export interface TunTapOptions {
  /** Interface name, at most 15 characters; made by us and gone on close, or a persistent one. */
  readonly interface: string;
  /** MTU to give the kernel side; default: what it has (1500 for a new one). */
  readonly mtu?: number;
  /** Bring the kernel side up; default true. */
  readonly up?: boolean;
  /** Addresses for the kernel side, "192.0.2.1/24" or "2001:db8::1/64". */
  readonly addresses?: readonly string[];
  /** TAP only: the kernel side's hardware address. */
  readonly mac?: Uint8Array;
  /** Path of a network namespace in which the kernel side lives, "/run/netns/NAME". */
  readonly netns?: string;
  /** Queues to attach, at most 8, default 1. The kernel spreads what it sends by flow; we do the same with what we send. */
  readonly queues?: number;
  /** TAP only: let the kernel leave checksums to us (IFF_VNET_HDR), default true. */
  readonly vnetHeader?: boolean;
}

const EAGAIN = 'EAGAIN';
const L2_HEADER = 14;
const VLAN_TAG = 4;
const QUEUES = 8;
const TUN_F_CSUM = 1;
const NEEDS_CSUM = 1; // virtio_net_hdr flag
const UDP = 17;
const ANNOUNCE = 64; // packets between two looks at the link monitor when nobody arms the port

/** Why tunOpen failed, by stage and error, and what to do. */
function openError(name: string, netns: string | undefined, stage: number, code: string): PortError {
  let why = `the system says ${code}`;
  if (stage === 1) {
    why = code === 'EPERM' ? 'entering a network namespace needs root' : `there is no network namespace at ${netns}`;
  } else if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
    why = 'there is no /dev/net/tun; load the driver with `modprobe tun`';
  } else if (code === 'EPERM' || code === 'EACCES') {
    why =
      'it needs root or CAP_NET_ADMIN (or a persistent interface of yours: `ip tuntap add dev NAME mode tap user YOU`)';
  } else if (code === 'EBUSY') {
    why = 'an interface of this name is in use by another program; choose another name';
  } else if (code === 'E2BIG') {
    why = 'it has fewer queues; make it with `ip tuntap add dev NAME mode tap multi_queue`, or ask for fewer';
  } else if (code === 'EINVAL' && stage === 3) {
    why = 'an interface of this name exists and is of another kind; choose another name';
  }
  return new PortError(code, `cannot open ${name}: ${why}`);
}

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
  readonly #fds = new Int32Array(TUN_WORDS).fill(-1);
  readonly #queueCount: number;
  readonly #queues: number[] = []; // descriptors of all queues, the first one TUN_FD's
  #turn = 0; // the queue to be read first
  #headers: Uint8Array | undefined; // a virtio_net_hdr per entry
  #headers16: Uint16Array | undefined;
  #zeros: Uint8Array | undefined; // what we write in front of frames
  #link: LinkMonitor | undefined;
  #removed = false;
  /** What a persistent interface was like, to be restored. */
  #found: { up: boolean; mtu: number; mac: Uint8Array | undefined; addresses: readonly string[] } | undefined;
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
    if (!validInterfaceName(options.interface)) {
      throw new PortError(
        'EINVAL',
        `"${options.interface}" is no interface name; give 1 to 15 characters without space, / or :`,
      );
    }
    if (options.mac !== undefined && options.mac.length !== 6) throw new RangeError('a hardware address has six bytes');
    const queues = options.queues ?? 1;
    if (!(Number.isInteger(queues) && queues >= 1 && queues <= QUEUES)) {
      throw new PortError('EINVAL', `${this.name} cannot have ${queues} queues; give 1 to ${QUEUES}`);
    }
    this.#tap = tap;
    this.#queueCount = queues;
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
    try {
      this.#attach();
      this.#link = LinkMonitor.open(o.interface, o.netns, this.#native, false);
      this.#remember(this.#link);
      this.#configure();
      const [first, ...others] = this.#queues;
      this.#ready = new FdReadiness(this.#native, [first!, this.#link.fd, ...others]);
    } catch (e) {
      this.#release();
      throw e;
    }
    this.#memory = memory;
    this.#refused = false;
    this.#removed = false;
    // The monitor's backlog speaks of our own setting up: the state now is what counts.
    this.#link.refresh();
    this.#carrier = this.#link.carrier;
    this.#link.onChange = m => this.#changed(m);
  }

  /** Attaches all queues. An interface made for several takes no attachment as if it had one, and the other way round. */
  #attach(): void {
    const o = this.#options;
    const n = this.#native;
    const headers = this.#tap && o.vnetHeader !== false ? TUN_OPEN_HEADERS : 0;
    let flags = (this.#tap ? TUN_OPEN_TAP : 0) | headers | (this.#queueCount > 1 ? TUN_OPEN_QUEUES : 0);
    let r = n.tunOpen(o.interface, flags, o.netns, this.#fds);
    if (r !== 0 && getSystemErrorName(r) === 'EINVAL' && this.#fds[TUN_STAGE] === 3) {
      flags ^= TUN_OPEN_QUEUES;
      const again = n.tunOpen(o.interface, flags, o.netns, this.#fds);
      if (again === 0) r = 0;
      else this.#fds[TUN_STAGE] = 3;
    }
    if (r !== 0) {
      const stage = this.#fds[TUN_STAGE]!;
      this.#fds.fill(-1);
      throw openError(this.name, o.netns, stage, getSystemErrorName(r));
    }
    this.#queues.push(this.#fds[TUN_FD]!);
    if (this.#queueCount > 1 && (flags & TUN_OPEN_QUEUES) === 0) throw openError(this.name, o.netns, 3, 'E2BIG');
    while (this.#queues.length < this.#queueCount) {
      const fd = n.tunQueue(o.interface, flags, o.netns);
      if (fd < 0) throw openError(this.name, o.netns, 3, getSystemErrorName(fd));
      this.#queues.push(fd);
    }
    if (headers === 0) return;
    this.#zeros = new Uint8Array(256 * TUN_HEADER);
    this.#headers = new Uint8Array(256 * TUN_HEADER);
    this.#headers16 = new Uint16Array(this.#headers.buffer);
    n.tunOffload(this.#fds[TUN_FD]!, TUN_F_CSUM);
  }

  #remember(link: LinkMonitor): void {
    const mac = this.#tap ? link.mac : undefined;
    this.#found = this.persistent ? { up: link.up, mtu: link.mtu, mac, addresses: link.addresses } : undefined;
  }

  /** Undoes what #configure did to a persistent interface. */
  #restore(): void {
    const found = this.#found;
    const link = this.#link;
    this.#found = undefined;
    if (found === undefined || link === undefined) return;
    link.onChange = undefined;
    link.refresh();
    if (!link.present) return;
    const o = this.#options;
    const n = this.#native;
    const ctl = this.#fds[TUN_CTL]!;
    if (o.mtu !== undefined) n.ifSet(ctl, o.interface, 1, found.mtu);
    if (o.mac !== undefined && found.mac !== undefined) n.ifMac(ctl, o.interface, found.mac, true);
    for (const text of o.addresses ?? []) {
      const ours = link.addresses.find(a => sameAddress(a, text));
      if (ours !== undefined && !found.addresses.includes(ours)) link.removeAddress(ours);
    }
    if (!found.up) n.ifSet(ctl, o.interface, 0, 0);
  }

  /** True when the interface was there before us and stays after close. */
  get persistent(): boolean {
    return this.#fds[TUN_PERSISTENT] === 1;
  }

  #configure(): void {
    const o = this.#options;
    const n = this.#native;
    const ctl = this.#fds[TUN_CTL]!;
    const check = (what: string, r: number) => {
      if (r < 0)
        throw new PortError(getSystemErrorName(r), `cannot open ${this.name}: ${what}: ${getSystemErrorName(r)}`);
      return r;
    };
    if (o.mac !== undefined && this.#tap) {
      check('the hardware address is not taken (unicast?)', n.ifMac(ctl, o.interface, o.mac, true));
    }
    if (o.mtu !== undefined) check(`the MTU ${o.mtu} is not taken (68 to 65521)`, n.ifSet(ctl, o.interface, 1, o.mtu));
    for (const text of o.addresses ?? []) {
      const [address = '', prefix = ''] = text.split('/');
      const family = parseAddress(address)?.family;
      if (family === undefined || !/^\d{1,3}$/.test(prefix)) {
        throw new PortError('EINVAL', `"${text}" is no address with a prefix length, such as 192.0.2.1/24`);
      }
      check(`the address ${text} is not taken`, this.#link!.addAddress(text));
    }
    if (o.up !== false) check('the interface does not come up', n.ifSet(ctl, o.interface, 0, 1));
    const mtu = check('its MTU cannot be read', n.ifGet(ctl, o.interface, 1));
    const mac = this.#tap ? new Uint8Array(6) : undefined;
    if (mac !== undefined) check('its hardware address cannot be read', n.ifMac(ctl, o.interface, mac, false));
    this.capabilities = { ...this.capabilities, mtu, ...(mac === undefined ? {} : { mac }) };
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
    this.#restore();
    this.#link?.close();
    this.#link = undefined;
    for (const fd of this.#queues) this.#native.close(fd);
    this.#queues.length = 0;
    if (this.#fds[TUN_CTL]! >= 0) this.#native.close(this.#fds[TUN_CTL]!);
    this.#fds.fill(-1);
    this.#headers = undefined;
    this.#zeros = undefined;
  }
}

/** "10.0.0.1/24" and another text of the same address and prefix. */
function sameAddress(a: string, b: string): boolean {
  const [x = '', p] = a.split('/');
  const [y = '', q] = b.split('/');
  const u = parseAddress(x);
  const v = parseAddress(y);
  return p === q && u !== undefined && v !== undefined && u.family === v.family && u.w.every((w, i) => w === v.w[i]);
}

/** Counters of packets that can never be sent. */
type Drop = 'tx_errors' | 'tx_unsupported' | 'tx_oversize';
