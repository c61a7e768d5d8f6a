/**
 * What TAP and TUN ports share: a kernel interface made (or, when it is persistent, attached) by the C module, whose
 * kernel side is an ordinary interface of this machine or of a network namespace. What we write the kernel receives, what it
 * sends we read. Carrier is the kernel side's IFF_UP, followed by rtnetlink.
 */
import { getSystemErrorName } from 'node:util';
import {
  IFF_UP,
  type Native,
  nativeError,
  native as nativeModule,
  POLL_READABLE,
  POLL_WRITABLE,
  TUN_CTL4,
  TUN_CTL6,
  TUN_FD,
  TUN_INDEX,
  TUN_LINK,
  TUN_PERSISTENT,
  TUN_STAGE,
  TUN_WORDS,
} from '../native.js';
import { parseAddress } from './address.js';
import { copyBytes } from './headers.js';
import { type Batch, type Memory, type Port, type PortCapabilities, PortError } from './port.js';
import { FdReadiness } from './readiness.js';

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
}

const EAGAIN = 'EAGAIN';
const L2_HEADER = 14;
const VLAN_TAG = 4;
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
    link_changes: 0,
  };
  onCarrier: ((up: boolean) => void) | undefined;

  readonly #tap: boolean;
  readonly #native: Native;
  readonly #options: TunTapOptions;
  readonly #fds = new Int32Array(TUN_WORDS).fill(-1);
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
    if (!/^[^\s/:]{1,15}$/.test(options.interface) || options.interface === '.' || options.interface === '..') {
      throw new PortError(
        'EINVAL',
        `"${options.interface}" is no interface name; give 1 to 15 characters without space, / or :`,
      );
    }
    if (options.mac !== undefined && options.mac.length !== 6) throw new RangeError('a hardware address has six bytes');
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

  /** Opens the interface; `capabilities.mtu` (and a TAP's `mac`: the kernel side's address) are true from here on. */
  open(memory: Memory): void {
    if (this.#memory !== undefined) throw new Error(`${this.name} is open already`);
    const o = this.#options;
    const r = this.#native.tunOpen(o.interface, this.#tap, o.netns, this.#fds);
    if (r !== 0) {
      const stage = this.#fds[TUN_STAGE]!;
      this.#fds.fill(-1);
      throw openError(this.name, o.netns, stage, getSystemErrorName(r));
    }
    try {
      this.#configure();
      this.#ready = new FdReadiness(this.#native, [this.#fds[TUN_FD]!, this.#fds[TUN_LINK]!]);
    } catch (e) {
      this.#release();
      throw e;
    }
    this.#memory = memory;
    this.#refused = false;
    // The monitor's backlog speaks of our own setting up: the state now is what counts.
    this.#native.linkPoll(this.#fds[TUN_LINK]!, this.#fds[TUN_INDEX]!);
    this.#carrier = (this.#native.ifGet(this.#fds[TUN_CTL4]!, o.interface, 0) & IFF_UP) !== 0;
  }

  /** True when the interface was there before us and stays after close. */
  get persistent(): boolean {
    return this.#fds[TUN_PERSISTENT] === 1;
  }

  #configure(): void {
    const o = this.#options;
    const n = this.#native;
    const ctl = this.#fds[TUN_CTL4]!;
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
      const r = n.ifAddress(ctl, this.#fds[TUN_CTL6]!, this.#fds[TUN_INDEX]!, o.interface, address, Number(prefix));
      check(`the address ${text} is not taken`, r);
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
        const r = this.#native.writeBatch(this.#fds[TUN_FD]!, memory.u8, batch.off, this.#len, i, end);
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
    const got = this.#native.readBatch(this.#fds[TUN_FD]!, memory.u8, batch.off, batch.cap, room, batch.len);
    if (got < 0) {
      this.counters.rx_errors++;
      this.#look(true);
      return 0;
    }
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
      batch.flags[k] = 0;
      this.counters.rx_packets++;
      this.counters.rx_bytes += len;
      k++;
    }
    batch.count = k;
    return k;
  }

  /** Reads the link monitor: always when told so or after a wake, else once in a while (it costs a system call). */
  #look(now: boolean): void {
    if (!now && !this.#news && ++this.#looked < ANNOUNCE) return;
    this.#looked = 0;
    const flags = this.#native.linkPoll(this.#fds[TUN_LINK]!, this.#fds[TUN_INDEX]!);
    if (flags < 0) return;
    const up = (flags & IFF_UP) !== 0;
    if (up === this.#carrier) return;
    this.#carrier = up;
    this.counters.link_changes++;
    this.onCarrier?.(up);
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
    for (let i = TUN_FD; i <= TUN_LINK; i++) if (this.#fds[i]! >= 0) this.#native.close(this.#fds[i]!);
    this.#fds.fill(-1);
  }
}

/** Counters of packets that can never be sent. */
type Drop = 'tx_errors' | 'tx_unsupported' | 'tx_oversize';
