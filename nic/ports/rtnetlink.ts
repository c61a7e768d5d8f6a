/**
 * LinkMonitor: what the kernel says about one network interface (rtnetlink(7), netlink(7)): MTU, hardware address, up and
 * carrier, addresses, removal. It asks once and then follows the kernel's announcements; when some were lost (ENOBUFS) it asks
 * again. An interface that was renamed or moved to another namespace is gone.
 *
 * Messages are in host byte order and aligned to four bytes, so that they are read through typed arrays over one buffer. Every
 * length in them is checked against the bytes received.
 */
import { getSystemErrorName } from 'node:util';
import { type Native, nativeError, native as nativeModule } from '../native.js';
import { parseAddress } from './address.js';
import { PortError } from './port.js';

// Message types and flags.
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
const NLM_F_DUMP_INTR = 0x10; // in an answer: things changed while it was being made
const NLM_F_DUMP = 0x300; // NLM_F_ROOT | NLM_F_MATCH
const GROUPS = 0x1 | 0x10 | 0x100; // RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

// Headers and attributes.
const NLMSGHDR = 16; // len u32, type u16, flags u16, seq u32, pid u32
const IFINFOMSG = 16; // family u8, pad u8, type u16, index i32, flags u32, change u32
const IFADDRMSG = 8; // family u8, prefix length u8, flags u8, scope u8, index u32
const RTATTR = 4; // len u16, type u16
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_EXT_MASK = 29;
const IFLA_CARRIER = 33;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const RTEXT_FILTER_SKIP_STATS = 8;

export const ARPHRD_ETHER = 1;
export const ARPHRD_LOOPBACK = 772;
const AF_INET = 2;
const AF_INET6 = 10;
const IFF_UP = 1;
const IFF_RUNNING = 0x40;
const IFF_LOWER_UP = 0x10000;

const BUFFER = 32768; // the kernel's largest dump datagram (NLMSG_GOODSIZE rounded up)
const DATAGRAMS = 256; // most read in one go; the rest keeps the descriptor readable
const LATE_MS = 4; // between two looks at a carrier that is announced late
const RETRIES = 8; // a dump that changes while it is made is asked for again, but not forever

/** Interface names as the kernel takes them (dev_valid_name). */
export function validInterfaceName(name: string): boolean {
  return /^[^\s/:]{1,15}$/.test(name) && name !== '.' && name !== '..';
}

const align = (n: number) => (n + 3) & ~3;
const code = (r: number) => getSystemErrorName(r);

function ipText(u8: Uint8Array, at: number, n: number): string {
  if (n === 4) return `${u8[at]}.${u8[at + 1]}.${u8[at + 2]}.${u8[at + 3]}`;
  const words: string[] = [];
  for (let i = 0; i < 16; i += 2) words.push(((u8[at + i]! << 8) | u8[at + i + 1]!).toString(16));
  // RFC 5952: the longest run of zero words, the first of equals, becomes "::".
  let best = 0;
  let from = -1;
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && words[i + n] === '0') n++;
    if (n > best && n > 1) {
      best = n;
      from = i;
    }
  }
  if (from < 0) return words.join(':');
  return `${words.slice(0, from).join(':')}::${words.slice(from + best).join(':')}`;
}

export class LinkMonitor {
  readonly name: string;
  /** The netlink socket: readable when there is news. */
  readonly fd: number;
  /** Interface index. */
  readonly index: number;
  /** Hardware type, ARPHRD_*. */
  type = 0;
  /** Hardware address; a new array when it changes. Empty for an interface without one. */
  mac: Uint8Array = new Uint8Array(0);
  mtu = 0;
  /** IFF_UP: somebody has set it up. */
  up = false;
  /** Up, and it has a carrier (IFF_RUNNING, or IFF_LOWER_UP, which the kernel announces without delay). */
  carrier = false;
  /** False once it was deleted, renamed or moved to another namespace. */
  present = true;
  /**
   * The kernel announces carrier changes of this interface at most once a second (linkwatch_urgent_event): it stands on no
   * other, as far as the kernel can tell from IFLA_LINK. Such an interface is looked at every LATE_MS as well.
   */
  late = true;
  /** Called by poll, refresh, or a timer of its own. */
  onChange: ((m: LinkMonitor) => void) | undefined;

  readonly #native: Native;
  readonly #look: boolean;
  readonly #u8 = new Uint8Array(BUFFER);
  readonly #u16 = new Uint16Array(this.#u8.buffer);
  readonly #i32 = new Int32Array(this.#u8.buffer);
  readonly #out = new Uint8Array(128);
  readonly #out16 = new Uint16Array(this.#out.buffer);
  readonly #out32 = new Int32Array(this.#out.buffer);
  #addresses: string[] = [];
  #seq = 0;
  #state = '';
  #open = true;
  // What the answer to a request says: 0 not yet, 1 done, 2 to be asked again, negative: -errno.
  #answer = 0;
  #lost = false;
  #checking = false;
  #timer: NodeJS.Timeout | undefined;

  /**
   * Follows the interface `name` of this network namespace, or of the one at the path `netns`. Throws PortError with a
   * sentence that says what to do when there is no such interface (ENODEV), namespace, or C module. `look`: also look at a carrier
   * that is announced late; needless for interfaces that have a carrier whenever they are up (TAP).
   */
  static open(
    name: string,
    netns?: string,
    native: Native | undefined = nativeModule,
    look: boolean = true,
  ): LinkMonitor {
    if (native === undefined) throw new PortError('ENATIVE', `cannot watch ${name}: ${nativeError}`);
    if (!validInterfaceName(name)) {
      throw new PortError('EINVAL', `"${name}" is no interface name; give 1 to 15 characters without space, / or :`);
    }
    const fd = native.netlinkOpen(GROUPS, netns);
    if (fd < 0) {
      const why =
        netns === undefined
          ? `the system gives no netlink socket (${code(fd)})`
          : `the network namespace at ${netns} cannot be entered (${code(fd)}): it must exist, and entering it needs root`;
      throw new PortError(code(fd), `cannot watch ${name}: ${why}`);
    }
    try {
      return new LinkMonitor(name, fd, native, look);
    } catch (e) {
      native.close(fd);
      throw e;
    }
  }

  private constructor(name: string, fd: number, native: Native, look: boolean) {
    this.#look = look;
    this.name = name;
    this.fd = fd;
    this.#native = native;
    this.index = this.#lookup();
    this.#resync();
    this.#state = this.#summary();
    this.#pace();
  }

  /** "192.0.2.1/24", "2001:db8::1/64": the interface's addresses; a new array when they change. */
  get addresses(): readonly string[] {
    return this.#addresses;
  }

  /**
   * Reads what has been announced, without blocking, and calls `onChange` when something above has changed, once. True when
   * it has.
   */
  poll(): boolean {
    if (!this.#open) return false;
    this.#drain();
    if (this.#lost) this.#resync();
    return this.#report();
  }

  /** Asks the kernel how things are now (some tens of microseconds, if it is not busy), and reports as `poll` does. */
  refresh(): void {
    if (!this.#open) return;
    this.#drain();
    this.#resync();
    this.#report();
  }

  /**
   * Has the carrier looked at, without waiting: the kernel answers only while nobody changes any interface, which can take
   * long. A change is reported by `onChange` from a turn of its own.
   */
  check(): void {
    if (!this.#open || this.#checking) return;
    this.#checking = this.#native.linkCarrier(this.fd, this.name, this.#checked) === 0;
  }
  readonly #checked = (now: number): void => {
    this.#checking = false;
    if (!this.#open || (now >= 0 && (now === 1) === this.carrier)) return;
    this.#drain();
    if (this.#lost) this.#resync();
    else this.#ask(RTM_GETLINK);
    this.#report();
  };

  /** Gives the interface an address, "192.0.2.1/24". 0, also when it has it already, or -errno (it needs CAP_NET_ADMIN). */
  addAddress(text: string): number {
    const r = this.#changeAddress(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, text);
    return r < 0 && code(r) === 'EEXIST' ? 0 : r;
  }

  /** Takes an address off it. 0 or -errno. */
  removeAddress(text: string): number {
    return this.#changeAddress(RTM_DELADDR, 0, text);
  }

  #changeAddress(type: number, flags: number, text: string): number {
    const [address = '', prefix = ''] = text.split('/');
    const a = parseAddress(address);
    if (a === undefined || !this.#open) return 0;
    const size = a.family === 4 ? 4 : 16;
    this.#begin(type, NLM_F_REQUEST | NLM_F_ACK | flags, IFADDRMSG);
    this.#out[NLMSGHDR] = a.family === 4 ? AF_INET : AF_INET6;
    this.#out[NLMSGHDR + 1] = Math.min(255, Number(prefix));
    this.#out32[(NLMSGHDR + 4) >> 2] = this.index;
    let at = NLMSGHDR + IFADDRMSG;
    for (const kind of [IFA_LOCAL, IFA_ADDRESS]) {
      this.#out16[at >> 1] = RTATTR + size;
      this.#out16[(at >> 1) + 1] = kind;
      for (let i = 0; i < size; i++) this.#out[at + RTATTR + i] = a.w[4 - size / 4 + (i >> 2)]! >>> (24 - 8 * (i & 3));
      at += RTATTR + size;
    }
    const r = this.#exchange(at);
    return r === 1 ? 0 : r;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    clearInterval(this.#timer);
    this.onChange = undefined;
    this.#native.close(this.fd);
  }

  #summary(): string {
    const { up, carrier, present, mtu, mac } = this;
    return `${up} ${carrier} ${present} ${mtu} ${mac.join()} ${this.#addresses.join()}`;
  }

  /** Starts or stops looking: a carrier can change only while the interface is up. */
  #pace(): void {
    if (this.#look && this.late && this.up && this.present) {
      this.#timer ??= setInterval(() => this.check(), LATE_MS).unref();
    } else if (this.#timer !== undefined) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }

  #report(): boolean {
    const state = this.#summary();
    if (state === this.#state) return false;
    this.#state = state;
    this.#pace();
    this.onChange?.(this);
    return true;
  }

  /** The index that belongs to the name. */
  #lookup(): number {
    const name = new TextEncoder().encode(this.name);
    this.#begin(RTM_GETLINK, NLM_F_REQUEST, IFINFOMSG);
    let at = NLMSGHDR + IFINFOMSG;
    this.#out16[at >> 1] = RTATTR + name.length + 1;
    this.#out16[(at >> 1) + 1] = IFLA_IFNAME;
    this.#out.set(name, at + RTATTR);
    at += align(RTATTR + name.length + 1);
    const r = this.#exchange(this.#skipStats(at), (type, from, end) => {
      if (type === RTM_NEWLINK && from + IFINFOMSG <= end) this.#answer = this.#i32[(from + 4) >> 2]!;
    });
    if (r > 0) return r;
    if (r === 0 || code(r) === 'ENODEV') {
      throw new PortError(
        'ENODEV',
        `there is no network interface ${this.name} here; "ip link" lists those of this network namespace`,
      );
    }
    throw new PortError(code(r), `cannot watch ${this.name}: the kernel answers ${code(r)}`);
  }

  /** Adds the attribute that leaves statistics out of the answer; returns the request's length. */
  #skipStats(at: number): number {
    this.#out16[at >> 1] = RTATTR + 4;
    this.#out16[(at >> 1) + 1] = IFLA_EXT_MASK;
    this.#out32[(at + RTATTR) >> 2] = RTEXT_FILTER_SKIP_STATS;
    return at + RTATTR + 4;
  }

  #begin(type: number, flags: number, body: number): void {
    this.#out.fill(0, 0, NLMSGHDR + body);
    this.#out16[2] = type;
    this.#out16[3] = flags;
    this.#seq = (this.#seq + 1) & 0x7fffffff || 1;
    this.#out32[2] = this.#seq;
  }

  /** Sends the request of `length` bytes and reads to the end of its answer. Returns #answer. */
  #exchange(length: number, other?: (type: number, at: number, end: number) => void): number {
    this.#out32[0] = length;
    this.#answer = 0;
    const sent = this.#native.netlinkSend(this.fd, this.#out, length);
    if (sent < 0) return sent;
    // The kernel answers inside the system call, so that whatever is not there now never comes.
    for (let i = 0; i < DATAGRAMS && this.#answer === 0 && this.#datagram(other); i++);
    return this.#answer;
  }

  /** The interface, or all of its addresses. */
  #ask(what: number): number {
    if (what === RTM_GETLINK) {
      this.#begin(RTM_GETLINK, NLM_F_REQUEST, IFINFOMSG);
      this.#out32[(NLMSGHDR + 4) >> 2] = this.index;
      const r = this.#exchange(this.#skipStats(NLMSGHDR + IFINFOMSG));
      if (r < 0 && code(r) === 'ENODEV') this.#gone();
      return r;
    }
    this.#begin(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, IFADDRMSG);
    this.#out32[(NLMSGHDR + 4) >> 2] = this.index;
    return this.#exchange(NLMSGHDR + IFADDRMSG);
  }

  #resync(): void {
    for (let i = 0; i < RETRIES; i++) {
      this.#lost = false;
      this.#ask(RTM_GETLINK);
      if (!this.present) return;
      this.#addresses = [];
      if (this.#ask(RTM_GETADDR) !== 2 && !this.#lost) return;
    }
    this.#lost = true; // the next poll tries again
  }

  #drain(): void {
    for (let i = 0; i < DATAGRAMS && this.#datagram(); i++);
  }

  /** Reads one datagram; false when there is none. */
  #datagram(other?: (type: number, at: number, end: number) => void): boolean {
    const n = this.#native.netlinkReceive(this.fd, this.#u8);
    if (n < 0) {
      if (code(n) !== 'ENOBUFS') return false;
      this.#lost = true;
      return true;
    }
    if (n > BUFFER) this.#lost = true;
    let at = 0;
    const end = Math.min(n, BUFFER);
    while (at + NLMSGHDR <= end) {
      const len = this.#i32[at >> 2]!;
      if (len < NLMSGHDR || at + len > end) break;
      this.#message(at, at + len, other);
      at += align(len);
    }
    return true;
  }

  #message(at: number, end: number, other?: (type: number, at: number, end: number) => void): void {
    const type = this.#u16[(at + 4) >> 1]!;
    const flags = this.#u16[(at + 6) >> 1]!;
    const mine = this.#i32[(at + 8) >> 2] === this.#seq && this.#answer <= 0;
    const body = at + NLMSGHDR;
    if (type === NLMSG_ERROR) {
      if (mine && body + 4 <= end) this.#answer = this.#i32[body >> 2]! || 1; // 0: an acknowledgement
    } else if (type === NLMSG_DONE) {
      if (mine) this.#answer = (flags & NLM_F_DUMP_INTR) !== 0 ? 2 : 1;
    } else if (other !== undefined) {
      if (mine) other(type, body, end);
    } else if (type === RTM_NEWLINK || type === RTM_DELLINK) {
      this.#link(type, body, end);
      if (mine) this.#answer = 1;
    } else if (type === RTM_NEWADDR || type === RTM_DELADDR) {
      this.#address(type, body, end);
    }
  }

  #gone(): void {
    this.present = false;
    this.up = false;
    this.carrier = false;
    this.#addresses = [];
  }

  /** RTM_NEWLINK and RTM_DELLINK: an ifinfomsg and attributes in [at, end). */
  #link(type: number, at: number, end: number): void {
    // Bridges and IPv6 announce with a family of their own and attributes that mean other things.
    if (at + IFINFOMSG > end || this.#u8[at] !== 0 || this.#i32[(at + 4) >> 2] !== this.index) return;
    if (type === RTM_DELLINK) {
      this.#gone();
      return;
    }
    const flags = this.#i32[(at + 8) >> 2]!;
    let carrier = (flags & (IFF_RUNNING | IFF_LOWER_UP)) !== 0;
    let name = this.name;
    let late = true;
    this.type = this.#u16[(at + 2) >> 1]!;
    for (let a = at + IFINFOMSG; a + RTATTR <= end; ) {
      const len = this.#u16[a >> 1]!;
      if (len < RTATTR || a + len > end) break;
      const v = a + RTATTR;
      const n = len - RTATTR;
      switch (this.#u16[(a >> 1) + 1]! & 0x3fff) {
        case IFLA_ADDRESS:
          if (n !== this.mac.length || this.mac.some((b, i) => b !== this.#u8[v + i]))
            this.mac = this.#u8.slice(v, v + n);
          break;
        case IFLA_IFNAME:
          name = this.#text(v, n);
          break;
        case IFLA_MTU:
          if (n === 4) this.mtu = this.#i32[v >> 2]!;
          break;
        case IFLA_LINK:
          if (n === 4) late = this.#i32[v >> 2] === this.index;
          break;
        case IFLA_CARRIER:
          // The carrier itself; the flags may lag behind it (linkwatch).
          if (n === 1 && this.#u8[v] === 0) carrier = false;
          break;
      }
      a += align(len);
    }
    if (name !== this.name) {
      this.#gone();
      return;
    }
    this.present = true;
    this.late = late;
    this.up = (flags & IFF_UP) !== 0;
    this.carrier = this.up && carrier;
  }

  #text(at: number, n: number): string {
    let end = at;
    while (end < at + n && this.#u8[end] !== 0) end++;
    return new TextDecoder().decode(this.#u8.subarray(at, end));
  }

  /** RTM_NEWADDR and RTM_DELADDR: an ifaddrmsg and attributes in [at, end). */
  #address(type: number, at: number, end: number): void {
    if (at + IFADDRMSG > end || this.#i32[(at + 4) >> 2] !== this.index) return;
    const family = this.#u8[at]!;
    const size = family === AF_INET ? 4 : family === AF_INET6 ? 16 : 0;
    let found = -1;
    for (let a = at + IFADDRMSG; a + RTATTR <= end && size > 0; ) {
      const len = this.#u16[a >> 1]!;
      if (len < RTATTR || a + len > end) break;
      const kind = this.#u16[(a >> 1) + 1]! & 0x3fff;
      // IFA_LOCAL is the interface's own where IFA_ADDRESS is the far end of a point-to-point link.
      if (len === RTATTR + size && (kind === IFA_LOCAL || (kind === IFA_ADDRESS && found < 0))) found = a + RTATTR;
      a += align(len);
    }
    if (found < 0) return;
    const text = `${ipText(this.#u8, found, size)}/${this.#u8[at + 1]}`;
    const there = this.#addresses.includes(text);
    if (type === RTM_NEWADDR && !there) this.#addresses = [...this.#addresses, text];
    else if (type === RTM_DELADDR && there) this.#addresses = this.#addresses.filter(x => x !== text);
  }
}
