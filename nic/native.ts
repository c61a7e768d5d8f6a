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
export const UDP_OPEN_GROUP = 4; // SO_REUSEPORT: sockets of one address share what arrives, see udpSteer
export const UDP_IO_CRC = 1;
export const UDP_IO_V6 = 2;
export const UDP_IO_SPLIT = 4; // send: cut trains into datagrams before the kernel

export const POLL_READABLE = 1;
export const POLL_WRITABLE = 2;
export const POLL_ERROR = 4;

// Words of tunOpen's `out`.
export const TUN_FD = 0;
export const TUN_CTL = 1; // a socket for ifGet, ifSet and ifMac
export const TUN_PERSISTENT = 2;
export const TUN_STAGE = 3; // where it failed: 1 namespace, 2 /dev/net/tun, 3 attach, 4 control sockets
export const TUN_WORDS = 4;

// Flags of tunOpen and tunQueue.
export const TUN_OPEN_TAP = 1;
export const TUN_OPEN_QUEUES = 2; // IFF_MULTI_QUEUE
export const TUN_OPEN_HEADERS = 4; // IFF_VNET_HDR
/** Bytes of the struct virtio_net_hdr in front of each packet then. */
export const TUN_HEADER = 10;

export interface Native {
  /**
   * Page-aligned, zeroed memory outside the heap; unmapped when collected. `populate` touches every page now; `huge` asks for
   * huge pages, 2 MiB each, of which those that are touched are there whole; `populate` means nothing then.
   */
  allocate(bytes: number, populate?: boolean, huge?: boolean): ArrayBuffer;
  /** CLOCK_MONOTONIC, nanoseconds. */
  now(): number;
  /** Copies n bytes from src[from..] to dst[at..]; no view is made, so nothing is allocated. Throws when out of range. */
  copy(src: Uint8Array, from: number, dst: Uint8Array, at: number, n: number): void;
  /**
   * Copies len[i] bytes from src[from[i]..] to dst[at[i]..] for each i below count; at[i] < 0 skips the entry. Throws
   * TypeError when a range lies outside its array.
   */
  copyBatch(src: Uint8Array, from: Int32Array, dst: Uint8Array, at: Int32Array, len: Int32Array, count: number): void;
  close(fd: number): number;

  /** Registers an fd with Node's loop. `callback(POLL_*)` fires at most once per pollArm. Returns an id or -errno. */
  pollOpen(fd: number, callback: (events: number) => void): number;
  pollArm(id: number, events: number): number;
  pollDisarm(id: number): number;
  /** Must come before the fd is closed. */
  pollClose(id: number): number;

  /** Keeps the calling thread to the n-th processor of those it may use. Returns the processor's number or -errno. */
  threadPin(n: number): number;
  /** Moves the calling thread, and with it the whole program, into a network namespace for good. 0 or -errno. */
  enterNamespace(path: string): number;

  /** A bound, non-blocking UDP socket with DF set and ICMP errors queued. Returns the fd or -errno. */
  udpOpen(address: string, port: number, flags: number, rcvbuf: number, sndbuf: number, netns?: string): number;
  udpPort(fd: number): number;
  /**
   * A classic BPF program of 8-byte instructions that picks for each datagram (its UDP payload at 0) a socket of the group by
   * number, in the order of binding. 0 or -errno.
   */
  udpSteer(fd: number, program: Uint8Array): number;
  /** Sends rows [0, count), at most NATIVE_BATCH. Returns how many were taken (fewer: the socket is full) or -errno. */
  udpSend(fd: number, region: Uint8Array, rows: Int32Array, count: number, flags: number): number;
  /** Receives into rows [0, count). Returns how many or -errno. */
  udpReceive(fd: number, region: Uint8Array, rows: Int32Array, count: number, flags: number): number;
  /** Reads the error queue: adds to out[0] unreachable, out[1] too big, out[2] other; out[3] = MTU last reported. */
  udpErrors(fd: number, out: Int32Array): number;

  /** Opens a TUN or TAP interface with what belongs to it; fills TUN_* words. 0 or -errno. */
  tunOpen(name: string, flags: number, netns: string | undefined, out: Int32Array): number;
  /** One more queue of an interface that was opened with several. Returns the fd or -errno. */
  tunQueue(name: string, flags: number, netns: string | undefined): number;
  /** What the kernel side may leave to us, TUN_F_*. 0 or -errno. */
  tunOffload(fd: number, bits: number): number;
  /** A loaded socket filter picks the queue of what the kernel side sends (Linux 4.16); -1 takes it back. 0 or -errno. */
  tunSteer(fd: number, program: number): number;
  /** what: 0 flags, 1 MTU. */
  ifGet(ctl: number, name: string, what: 0 | 1): number;
  /** what: 0 up (value 0 or 1), 1 MTU. */
  ifSet(ctl: number, name: string, what: 0 | 1, value: number): number;
  ifMac(ctl: number, name: string, mac: Uint8Array, set: boolean): number;
  /**
   * Reads packets into entries [from, count), with headers of TUN_HEADER bytes an entry. Returns how many, or -errno when the
   * first read failed. len[i] < 0: the packet did not fit its room.
   */
  readBatch(
    fd: number,
    region: Uint8Array,
    off: Int32Array,
    cap: Int32Array,
    from: number,
    count: number,
    len: Int32Array,
    headers?: Uint8Array,
  ): number;
  /** Writes entries [from, count) until one fails; returns how many, or -errno when `from` failed. len < 0 is skipped. */
  writeBatch(
    fd: number,
    region: Uint8Array,
    off: Int32Array,
    len: Int32Array,
    from: number,
    count: number,
    headers?: Uint8Array,
  ): number;

  /** A routing netlink socket with the RTMGRP_* groups, non-blocking. Returns the fd or -errno. */
  netlinkOpen(groups: number, netns?: string): number;
  /** One datagram to the kernel. 0 or -errno. */
  netlinkSend(fd: number, bytes: Uint8Array, length: number): number;
  /** Length of the next datagram (more than bytes.length: it was cut), 0 when not the kernel's, or -errno. */
  netlinkReceive(fd: number, bytes: Uint8Array): number;
  /** Asks in another thread: 1 when the interface is up and has a carrier at this moment, else 0, or -errno. 0 or -errno. */
  linkCarrier(fd: number, name: string, told: (carrier: number) => void): number;

  /** A packet socket, which receives nothing until it is bound. Returns the fd or -errno. */
  packetOpen(netns?: string): number;
  /** setsockopt at SOL_PACKET. 0 or -errno. */
  packetSet(fd: number, option: number, value: Uint8Array): number;
  /** getsockopt at SOL_PACKET. Bytes filled in, or -errno. */
  packetGet(fd: number, option: number, value: Uint8Array): number;
  /** Attaches a classic BPF program of 8-byte instructions in place of any other. 0 or -errno. */
  packetFilter(fd: number, program: Uint8Array): number;
  /** A classic BPF program picks the socket of a fanout group (PACKET_FANOUT_CBPF) by its place. 0 or -errno. */
  packetSteer(fd: number, program: Uint8Array): number;
  /** The socket's send or receive buffer. 0 or -errno. */
  packetBuffer(fd: number, send: boolean, bytes: number): number;
  /** Throws away what a socket without a ring has queued, at most 16 packets. */
  packetDrain(fd: number): void;
  /** Maps the socket's rings, receive first. Or -errno. */
  packetMap(fd: number, bytes: number): ArrayBuffer | number;
  /** Lets go of the rings, which hold the socket open; their bytes are zero from then on. */
  packetUnmap(rings: ArrayBuffer): number;
  /** type: 3 for every EtherType. 0 or -errno. */
  packetBind(fd: number, index: number, type: number): number;
  /** Sends what the transmit ring holds. Bytes, or -errno. */
  packetKick(fd: number): number;
  /** The pending error as -errno, which is then cleared; 0 = none. */
  packetError(fd: number): number;

  /** A BPF map. Returns the fd or -errno. */
  bpfMapCreate(type: number, keyBytes: number, valueBytes: number, entries: number): number;
  /** 0 or -errno; throws TypeError when key or value has not the map's length. */
  bpfMapUpdate(fd: number, key: Uint8Array, value: Uint8Array): number;
  /** Loads a program of 8-byte instructions; the verifier writes to `log` unless it has no bytes. Returns the fd or -errno. */
  bpfProgLoad(type: number, attachType: number, instructions: Uint8Array, flags: number, log: Uint8Array): number;
  /** Attaches a program to an interface while the fd returned is open. Or -errno. */
  bpfLinkCreate(program: number, index: number, attachType: number, flags: number, netns?: string): number;
  bpfLinkUpdate(link: number, program: number): number;

  /** An AF_XDP socket. Returns the fd or -errno. */
  xdpOpen(netns?: string): number;
  /**
   * Makes the whole pages of `region`, which begins at a page, the socket's packet memory; the kernel leaves `headroom` bytes of
   * a chunk free beside its own. 0 or -errno.
   */
  xdpUmem(fd: number, region: Uint8Array, chunkBytes: number, headroom: number, flags: number): number;
  /**
   * Maps ring 0 receive, 1 transmit, 2 fill or 3 completion; out = byte offsets of producer, consumer, flags, first entry. Or
   * -errno.
   */
  xdpRing(fd: number, which: number, entries: number, out: Int32Array): ArrayBuffer | number;
  /** Lets go of a ring, which holds the socket open; its bytes are zero from then on. */
  xdpUnring(ring: ArrayBuffer): number;
  xdpBind(fd: number, index: number, queue: number, flags: number, sharedFd: number): number;
  /** Bytes and packets that one kick may send. -errno when the kernel keeps its own number of packets. */
  xdpSendRoom(fd: number, bytes: number, packets: number): number;
  /** Makes the kernel look at the transmit ring, or at the fill ring. 0 or -errno. */
  xdpKick(fd: number, transmit: boolean): number;
  /** out[6]: struct xdp_statistics. */
  xdpStatistics(fd: number, out: Int32Array): number;
  xdpZeroCopy(fd: number): number;
  /** The driver of an interface, or -errno; `fd` is a netlink socket. */
  xdpDriver(fd: number, name: string): string | number;
  /** A packet socket that receives nothing: what it asks an interface to receive ends with it. */
  xdpStation(netns?: string): number;
  /** Asks an interface to receive frames for `mac`, or all multicast. */
  xdpReceiveAlso(fd: number, index: number, mac: Uint8Array | undefined): number;

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
  /** How CRC32c is done: 0 tables, 1 the processor's instruction, 2 folding. `most` has the best way up to it chosen. */
  crc32cLevel(most?: number): number;
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
