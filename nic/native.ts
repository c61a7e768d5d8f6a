/**
 * The C module nic/native: loads it when it has been built, and types it. Everything here moves a batch in one call,
 * decides nothing and returns -errno when the system refuses; a wrong argument throws TypeError.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

// Words of one row of `udpSend` and `udpReceive` (nic/native/udp.c).
export const UDP_OFF = 0; // byte offset of the UDP payload in the region
export const UDP_LEN = 1;
export const UDP_SEGSZ = 2; // bytes per datagram of a train, 0 = one datagram
export const UDP_PORT = 3; // the other side's port
export const UDP_TOS = 4; // traffic class: DSCP and ECN
export const UDP_W0 = 5; // the other side's address, four words in host order; IPv4 is ::ffff:a.b.c.d
export const UDP_W1 = 6;
export const UDP_W2 = 7;
export const UDP_W3 = 8;
export const UDP_RESULT = 9; // errno of an entry that failed, else 0
export const UDP_CAP = 10; // receive: room in; out: packets whose CRC32c was wrong
export const UDP_PENDING = 11; // first row only: 1 when an ICMP error was pending, see udpErrors
export const UDP_ROW = 12;

/** Most entries that one udpSend or udpReceive call takes. */
export const NATIVE_BATCH = 64;
/**
 * UDP_SEGMENT's limits: datagrams in one train, and payload bytes in all. 65,507 would be taken, but a device segments in
 * hardware only what is shorter than gso_max_size (65,536) with its link-layer and IPv6 headers.
 */
export const UDP_SEGMENTS = 64;
export const UDP_PAYLOAD = 65536 - 1 - 14 - 48;

export const UDP_OPEN_GRO = 1;
export const UDP_OPEN_REUSE = 2;
export const UDP_IO_CRC = 1;
export const UDP_IO_V6 = 2;
export const UDP_IO_SPLIT = 4; // send: cut trains into datagrams before the kernel

export const POLL_READABLE = 1;
export const POLL_WRITABLE = 2;
export const POLL_ERROR = 4;

// Words of tunOpen's `out`.
export const TUN_FD = 0;
export const TUN_CTL4 = 1;
export const TUN_CTL6 = 2;
export const TUN_LINK = 3;
export const TUN_INDEX = 4;
export const TUN_PERSISTENT = 5;
export const TUN_STAGE = 6; // where it failed: 1 namespace, 2 /dev/net/tun, 3 attach, 4 control sockets
export const TUN_WORDS = 7;

export const IFF_UP = 1;

export interface Native {
  /** Page-aligned, zeroed memory outside the heap; unmapped when collected. `populate` touches every page now. */
  allocate(bytes: number, populate?: boolean): ArrayBuffer;
  /** CLOCK_MONOTONIC, nanoseconds. */
  now(): number;
  /** Copies n bytes from src[from..] to dst[at..]; no view is made, so nothing is allocated. Throws when out of range. */
  copy(src: Uint8Array, from: number, dst: Uint8Array, at: number, n: number): void;
  close(fd: number): number;

  /** Registers an fd with Node's loop. `callback(POLL_*)` fires at most once per pollArm. Returns an id or -errno. */
  pollOpen(fd: number, callback: (events: number) => void): number;
  pollArm(id: number, events: number): number;
  pollDisarm(id: number): number;
  /** Must come before the fd is closed. */
  pollClose(id: number): number;

  /** Moves the calling thread, and with it the whole program, into a network namespace for good. 0 or -errno. */
  enterNamespace(path: string): number;

  /** A bound, non-blocking UDP socket with DF set and ICMP errors queued. Returns the fd or -errno. */
  udpOpen(address: string, port: number, flags: number, rcvbuf: number, sndbuf: number, netns?: string): number;
  udpPort(fd: number): number;
  /** Sends rows [0, count), at most NATIVE_BATCH. Returns how many were taken (fewer: the socket is full) or -errno. */
  udpSend(fd: number, region: Uint8Array, rows: Int32Array, count: number, flags: number): number;
  /** Receives into rows [0, count). Returns how many or -errno. */
  udpReceive(fd: number, region: Uint8Array, rows: Int32Array, count: number, flags: number): number;
  /** Reads the error queue: adds to out[0] unreachable, out[1] too big, out[2] other; out[3] = MTU last reported. */
  udpErrors(fd: number, out: Int32Array): number;

  /** Opens a TUN or TAP interface with what belongs to it; fills TUN_* words. 0 or -errno. */
  tunOpen(name: string, tap: boolean, netns: string | undefined, out: Int32Array): number;
  /** what: 0 flags, 1 MTU. */
  ifGet(ctl: number, name: string, what: 0 | 1): number;
  /** what: 0 up (value 0 or 1), 1 MTU. */
  ifSet(ctl: number, name: string, what: 0 | 1, value: number): number;
  ifMac(ctl: number, name: string, mac: Uint8Array, set: boolean): number;
  ifAddress(ctl4: number, ctl6: number, index: number, name: string, address: string, prefix: number): number;
  /** Interface flags as last announced, 0 when it is gone, -1 when there was no news. */
  linkPoll(fd: number, index: number): number;
  /** Returns packets read, or -errno when the first read failed. len[i] < 0: packet did not fit its room. */
  readBatch(fd: number, region: Uint8Array, off: Int32Array, cap: Int32Array, count: number, len: Int32Array): number;
  /** Writes entries [from, count) until one fails; returns how many, or -errno when `from` failed. len < 0 is skipped. */
  writeBatch(fd: number, region: Uint8Array, off: Int32Array, len: Int32Array, from: number, count: number): number;

  /** CRC32c of plain bytes, as a signed 32-bit number. */
  crc32c(u8: Uint8Array, off: number, len: number): number;
  /** Fills in the checksum of the SCTP packets at off+hdrlen (several of segsz bytes each when segsz > 0). */
  crc32cFill(
    u8: Uint8Array,
    off: Int32Array,
    len: Int32Array,
    segsz: Int32Array,
    hdrlen: Int32Array,
    count: number,
  ): number;
  /** bad[i] = how many SCTP packets of entry i carry a wrong checksum. */
  crc32cCheck(
    u8: Uint8Array,
    off: Int32Array,
    len: Int32Array,
    segsz: Int32Array,
    hdrlen: Int32Array,
    count: number,
    bad: Int32Array,
  ): number;
  /** 1 when the processor's CRC instruction is used; `false` forces the tables. */
  crc32cHardware(use?: boolean): number;
}

/** Compiled, this file is dist/nic/native.js; the module stays in the source tree, where node-gyp built it. */
function locate(): string | undefined {
  const here = dirname(fileURLToPath(import.meta.url));
  const file = join('nic', 'native', 'build', 'Release', 'nke_native.node');
  return [join(here, '..', '..', file), join(here, '..', file)].find(path => existsSync(path));
}

function load(): { module?: Native; error?: string } {
  if (process.env.NKE_NATIVE === '0') return { error: 'the C module was switched off with NKE_NATIVE=0' };
  const path = locate();
  if (path === undefined) return { error: 'the C module is not built: run "npm run build" (needs a C compiler)' };
  try {
    return { module: createRequire(import.meta.url)(path) as Native };
  } catch (e) {
    return { error: `the C module does not load here: ${(e as Error).message}; run "npm run build" again` };
  }
}

const loaded = load();

/** The module, or undefined when it cannot be had; `nativeError` then says why and what to do. */
export const native: Native | undefined = loaded.module;
export const nativeError: string | undefined = loaded.error;
