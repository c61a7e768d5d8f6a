/**
 * A TUN or TAP interface (the kernel's Documentation/networking/tuntap.rst) as whoever attaches to it sees it: its queues, and its
 * kernel side, which is set up here and, when it is persistent, left as it was found.
 *
 * Several ports may be the queues of one interface (openTunTapGroup, IFF_MULTI_QUEUE). Which queue the kernel side's packets go to
 * is said by an eBPF program (TUNSETSTEERINGEBPF), or, where that cannot be, by the kernel's own hash of a flow. The queues belong
 * to whoever opened the group, so that a port that ends does not renumber the others.
 */
import { getSystemErrorName } from 'node:util';
import {
  type Native,
  nativeError,
  native as nativeModule,
  TUN_CTL,
  TUN_FD,
  TUN_OPEN_HEADERS,
  TUN_OPEN_QUEUES,
  TUN_OPEN_TAP,
  TUN_PERSISTENT,
  TUN_STAGE,
  TUN_WORDS,
} from '../native.js';
import { parseAddress } from './address.js';
import { extended } from './cbpf.js';
import { PortError } from './port.js';
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
  /** Queues to attach, at most 16, default 1. The kernel spreads what it sends by flow; we do the same with what we send. */
  readonly queues?: number;
  /** TAP only: let the kernel leave checksums to us (IFF_VNET_HDR), default true. */
  readonly vnetHeader?: boolean;
  /** Use this queue of an interface that is open (openTunTapGroup), which is its opener's as all of the above but the namespace. */
  readonly queue?: number;
}

const QUEUES = 16;
const TUN_F_CSUM = 1;
const BPF_PROG_TYPE_SOCKET_FILTER = 1;
const NO_LOG = new Uint8Array(0);

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

/** Throws PortError for options that no interface can have. */
export function checkTunTap(name: string, options: TunTapOptions): void {
  if (!validInterfaceName(options.interface)) {
    throw new PortError(
      'EINVAL',
      `"${options.interface}" is no interface name; give 1 to 15 characters without space, / or :`,
    );
  }
  if (options.mac !== undefined && options.mac.length !== 6) throw new RangeError('a hardware address has six bytes');
  const queues = options.queues ?? 1;
  if (!(Number.isInteger(queues) && queues >= 1 && queues <= QUEUES)) {
    throw new PortError('EINVAL', `${name} cannot have ${queues} queues; give 1 to ${QUEUES}`);
  }
}

export class TunTapDevice {
  /** Descriptors of all queues. */
  readonly queues: number[] = [];
  readonly link!: LinkMonitor;

  readonly #name: string;
  readonly #tap: boolean;
  readonly #native: Native;
  readonly #options: TunTapOptions;
  readonly #fds = new Int32Array(TUN_WORDS).fill(-1);
  /** What a persistent interface was like, to be restored. */
  readonly #found: { up: boolean; mtu: number; mac: Uint8Array | undefined; addresses: readonly string[] } | undefined;

  /** Opens it and sets it up; the options have been checked. Throws PortError; nothing half-opened is left behind. */
  constructor(name: string, tap: boolean, options: TunTapOptions, native: Native) {
    this.#name = name;
    this.#tap = tap;
    this.#native = native;
    this.#options = options;
    try {
      this.#attach(options.queues ?? 1);
      const link = LinkMonitor.open(options.interface, options.netns, native, false);
      this.link = link;
      const mac = tap ? link.mac : undefined;
      if (this.persistent) this.#found = { up: link.up, mtu: link.mtu, mac, addresses: link.addresses };
      this.#configure();
    } catch (e) {
      this.close();
      throw e;
    }
  }

  /** True when the interface was there before us and stays after close. */
  get persistent(): boolean {
    return this.#fds[TUN_PERSISTENT] === 1;
  }

  /** Attaches all queues. An interface made for several takes no attachment as if it had one, and the other way round. */
  #attach(count: number): void {
    const o = this.#options;
    const n = this.#native;
    const headers = this.#tap && o.vnetHeader !== false ? TUN_OPEN_HEADERS : 0;
    let flags = (this.#tap ? TUN_OPEN_TAP : 0) | headers | (count > 1 ? TUN_OPEN_QUEUES : 0);
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
      throw openError(this.#name, o.netns, stage, getSystemErrorName(r));
    }
    this.queues.push(this.#fds[TUN_FD]!);
    if (count > 1 && (flags & TUN_OPEN_QUEUES) === 0) throw openError(this.#name, o.netns, 3, 'E2BIG');
    while (this.queues.length < count) {
      const fd = n.tunQueue(o.interface, flags, o.netns);
      if (fd < 0) throw openError(this.#name, o.netns, 3, getSystemErrorName(fd));
      this.queues.push(fd);
    }
    if (headers !== 0) n.tunOffload(this.#fds[TUN_FD]!, TUN_F_CSUM);
  }

  /** Gives the kernel side what was asked for. */
  #configure(): void {
    const o = this.#options;
    const n = this.#native;
    const ctl = this.#fds[TUN_CTL]!;
    const check = (what: string, r: number) => {
      if (r < 0)
        throw new PortError(getSystemErrorName(r), `cannot open ${this.#name}: ${what}: ${getSystemErrorName(r)}`);
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
      check(`the address ${text} is not taken`, this.link.addAddress(text));
    }
    if (o.up !== false) check('the interface does not come up', n.ifSet(ctl, o.interface, 0, 1));
  }

  /** Undoes what #configure did to a persistent interface. */
  #restore(): void {
    const found = this.#found;
    const { link } = this;
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

  close(): void {
    this.#restore();
    this.link?.close();
    for (const fd of this.queues.splice(0)) this.#native.close(fd);
    if (this.#fds[TUN_CTL]! >= 0) this.#native.close(this.#fds[TUN_CTL]!);
    this.#fds.fill(-1);
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

/** An interface whose queues are for as many ports. */
export interface TunTapGroup {
  /** Descriptors (`queue` of TunTapOptions). */
  readonly queues: readonly number[];
  /** False: the system takes no program, so that the kernel's own hash says which queue. */
  readonly steered: boolean;
  close(): void;
}

/**
 * Opens an interface with `options.queues` queues. `program` (packetSteeringProgram) picks one for what the kernel side sends. Throws
 * PortError; nothing is left open then.
 */
export function openTunTapGroup(
  tap: boolean,
  options: TunTapOptions,
  program: Uint8Array,
  native: Native | undefined = nativeModule,
): TunTapGroup {
  const name = `${tap ? 'tap' : 'tun'}:${options.interface}`;
  if (native === undefined) throw new PortError('ENATIVE', `cannot open ${name}: ${nativeError}`);
  checkTunTap(name, options);
  const device = new TunTapDevice(name, tap, options, native);
  const loaded = native.bpfProgLoad(BPF_PROG_TYPE_SOCKET_FILTER, 0, extended(program), 0, NO_LOG);
  const steered = loaded >= 0 && native.tunSteer(device.queues[0]!, loaded) === 0;
  if (loaded >= 0) native.close(loaded); // the interface holds it
  const close = (): void => {
    if (steered && device.persistent) native.tunSteer(device.queues[0]!, -1);
    device.close();
  };
  return { queues: device.queues, steered, close };
}
