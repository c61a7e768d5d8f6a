/**
 * The XDP program of a port on its interface: loaded and attached through bpf(2), loaded again when the addresses change that it
 * is made for, detached with its link. The link's descriptor is the only thing that keeps it there (BPF_LINK_CREATE, Linux 5.9).
 */
import { getSystemErrorName } from 'node:util';
import type { Native } from '../native.js';
import { assemble, stationProgram } from './bpf.js';
import { PortError } from './port.js';
import type { LinkMonitor } from './rtnetlink.js';

const BPF_MAP_TYPE_XSKMAP = 17;
const BPF_PROG_TYPE_XDP = 6;
const BPF_XDP = 37;
const BPF_F_XDP_HAS_FRAGS = 32;
/** Flags of `attach`. */
export const XDP_FLAGS_SKB_MODE = 2;
export const XDP_FLAGS_DRV_MODE = 4;

/** Receive queues that the map has room for. */
export const XDP_QUEUES = 64;
/** Hardware addresses that are learned. */
const STATIONS = 16;
const LOG = 65536;
const NO_LOG = new Uint8Array(0);

const PRIVILEGE = 'AF_XDP needs root, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF';

/** What to do when the system refused a step of opening the port `name`; `code` is the error's name. */
export function stepError(name: string, step: string, code: string): PortError {
  let why = `${step}: the system says ${code}`;
  if (code === 'EPERM' || code === 'EACCES') why = PRIVILEGE;
  else if (step === 'socket' && (code === 'EAFNOSUPPORT' || code === 'ESOCKTNOSUPPORT' || code === 'EPROTONOSUPPORT'))
    why = 'this kernel has no AF_XDP (CONFIG_XDP_SOCKETS); use packet:IF instead';
  else if (code === 'ENOSYS') why = 'this kernel has no BPF (CONFIG_BPF_SYSCALL); use packet:IF instead';
  else if (step === 'umem' && (code === 'ENOBUFS' || code === 'ENOMEM'))
    why = 'its memory cannot be locked; raise the limit (`ulimit -l`) or run as root';
  else if (step === 'attach' && (code === 'EBUSY' || code === 'EEXIST'))
    why = 'another XDP program is attached to it (`ip link` shows it); detach that one, or use packet:IF';
  return new PortError(code, `cannot open ${name}: ${why}`);
}

export class XdpProgram {
  /** The card's hardware addresses, told or learned. */
  readonly macs: Uint8Array[];
  readonly #native: Native;
  readonly #name: string;
  readonly #monitor: LinkMonitor;
  readonly #netns: string | undefined;
  readonly #frags: boolean;
  #addresses: readonly string[];
  /** The host's on this interface, as the program knows them: the monitor's own arrays. */
  #hostMac: Uint8Array;
  #hostAddresses: readonly string[];
  #map = -1;
  #program = -1;
  #link = -1;
  #station = -1;

  /**
   * Loads the program, attached to nothing. `frags`: it may see packets in pieces. Throws PortError, with what the verifier says.
   */
  constructor(
    native: Native,
    name: string,
    monitor: LinkMonitor,
    options: { readonly netns?: string; readonly mac?: Uint8Array; readonly frags: boolean },
    addresses: readonly string[],
  ) {
    this.#native = native;
    this.#name = name;
    this.#monitor = monitor;
    this.#netns = options.netns;
    this.#frags = options.frags;
    this.#addresses = addresses;
    this.macs = options.mac === undefined ? [] : [options.mac.slice()];
    this.#hostMac = monitor.mac;
    this.#hostAddresses = monitor.addresses;
    this.#map = native.bpfMapCreate(BPF_MAP_TYPE_XSKMAP, 4, 4, XDP_QUEUES);
    if (this.#map < 0) throw stepError(name, 'map', getSystemErrorName(this.#map));
    try {
      this.#program = this.#load();
    } catch (e) {
      this.close();
      throw e;
    }
  }

  #load(): number {
    this.#hostMac = this.#monitor.mac;
    this.#hostAddresses = this.#monitor.addresses;
    const rule = {
      macs: this.macs,
      hostMac: this.#hostMac,
      addresses: this.#addresses,
      hostAddresses: this.#hostAddresses,
    };
    const code = assemble(stationProgram(rule, this.#map));
    const flags = this.#frags ? BPF_F_XDP_HAS_FRAGS : 0;
    const r = this.#native.bpfProgLoad(BPF_PROG_TYPE_XDP, BPF_XDP, code, flags, NO_LOG);
    if (r >= 0) return r;
    const log = new Uint8Array(LOG);
    const again = this.#native.bpfProgLoad(BPF_PROG_TYPE_XDP, BPF_XDP, code, flags, log);
    if (again >= 0) return again;
    const said = new TextDecoder().decode(log.subarray(0, Math.max(0, log.indexOf(0)))).trim();
    const error = stepError(this.#name, 'program', getSystemErrorName(r));
    throw said === '' ? error : new PortError(error.code, `${error.message}\n${said}`);
  }

  /** Attaches it, in the driver or as generic XDP, in the place of what it was attached as. 0 or -errno. */
  attach(flags: number): number {
    this.detach();
    const link = this.#native.bpfLinkCreate(this.#program, this.#monitor.index, BPF_XDP, flags, this.#netns);
    if (link < 0) return link;
    this.#link = link;
    return 0;
  }

  detach(): void {
    if (this.#link >= 0) this.#native.close(this.#link);
    this.#link = -1;
  }

  /** Frames of this queue go to this socket from now on. 0 or -errno. */
  deliver(queue: number, socket: number): number {
    const bytes = (v: number) => new Uint8Array(Uint32Array.of(v).buffer);
    return this.#native.bpfMapUpdate(this.#map, bytes(queue), bytes(socket));
  }

  /**
   * Has the interface's own filter let the card's addresses in, and multicast, as long as the program is there. An interface that
   * filters and does not do so loses frames, and nothing else depends on it.
   */
  open(): void {
    this.#station = this.#native.xdpStation(this.#netns);
    if (this.#station < 0) return;
    this.#native.xdpReceiveAlso(this.#station, this.#monitor.index, undefined);
    for (const mac of this.macs) this.#native.xdpReceiveAlso(this.#station, this.#monitor.index, mac);
  }

  /** The card has sent from `mac`. False when there are too many to learn one more. */
  learn(mac: Uint8Array): boolean {
    if ((mac[0]! & 1) !== 0 || this.macs.some(m => m.every((x, i) => x === mac[i]))) return true;
    if (this.macs.length === STATIONS) return false;
    this.macs.push(mac);
    this.renew();
    if (this.#station >= 0) this.#native.xdpReceiveAlso(this.#station, this.#monitor.index, mac);
    return true;
  }

  setAddresses(addresses: readonly string[]): void {
    this.#addresses = addresses;
    this.renew();
  }

  /** True when the host's addresses are not those any more that the program was made for. */
  get stale(): boolean {
    return this.#monitor.mac !== this.#hostMac || this.#monitor.addresses !== this.#hostAddresses;
  }

  /** Puts a program for the present addresses in the place of the old one, at once. False when the old one stays. */
  renew(): boolean {
    if (this.#link < 0 || !this.#monitor.present) return true;
    let program: number;
    try {
      program = this.#load();
    } catch {
      return false;
    }
    const old = this.#program;
    const done = this.#native.bpfLinkUpdate(this.#link, program) === 0;
    if (done) this.#program = program;
    this.#native.close(done ? old : program);
    return done;
  }

  close(): void {
    this.detach();
    for (const fd of [this.#station, this.#program, this.#map]) if (fd >= 0) this.#native.close(fd);
    this.#station = this.#program = this.#map = -1;
  }
}
