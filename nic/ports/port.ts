/**
 * Port: the medium on the far side of the card. The one contract between firmware and the outside world.
 *
 * A port moves whole batches between a memory region that its caller owns and a medium. It decides nothing about
 * protocols, keeps no packet after a call returns (what `transmit` took has left, or has been copied), and never
 * throws for something the medium did: it counts it.
 *
 * What travels:
 *  - `carries: 'ethernet'`  Ethernet frames without FCS (wire, tap).
 *  - `carries: 'ip'`        IPv4 and IPv6 packets, told apart by their version nibble (tun, raw). A port that can carry
 *                           one protocol only (raw: 132) counts the rest as `tx_unsupported`.
 *  - `carries: 'udp'`       IP packets whose payload is UDP (RFC 6951). The port strips IP and UDP on transmit and takes
 *                           the destination address and port from them; on receive it writes IP and UDP headers in front.
 *                           Header checksums of such synthesised headers are left zero and BATCH_L3_TRUSTED is set.
 *
 * A *train* (tso_segsz > 0) is one entry that stands for several packets of one flow: `hdrlen` bytes of headers that hold
 * for all of them, then payload cut every `segsz` bytes (the last piece may be shorter). Only ports whose capabilities say
 * `train > 0` are given trains, and only those may return them.
 */

/** A mapped or plain memory region, with the views that every room uses. Byte offsets into it are the card's addresses. */
export class Memory {
  readonly buffer: ArrayBufferLike;
  readonly u8: Uint8Array;
  readonly dv: DataView;
  constructor(buffer: ArrayBufferLike) {
    this.buffer = buffer;
    this.u8 = new Uint8Array(buffer);
    this.dv = new DataView(buffer);
  }
}

/** BATCH flags, one word per entry. */
export const BATCH_L3_TRUSTED = 1; // receive: IP/UDP headers were synthesised by the port, their checksums are not to be checked
export const BATCH_SCTP_CSUM_OK = 2; // receive: every SCTP packet of this entry had a good CRC32c, checked by the port

/**
 * A batch of packets: structure of arrays, allocated once and reused.
 * For transmit the caller fills off/len/segsz/hdrlen. For receive the caller fills off/cap (room for one packet or train,
 * with nothing reserved in front: the packet, synthesised headers included, starts at off), the port fills the rest.
 */
export class Batch {
  readonly capacity: number;
  count = 0;
  readonly off: Int32Array; // byte offset of the packet in the region
  readonly len: Int32Array; // its length in bytes, headers included
  readonly cap: Int32Array; // receive: room at off, in bytes
  readonly segsz: Int32Array; // payload bytes per segment of a train, 0 for a plain packet
  readonly hdrlen: Int32Array; // header bytes in front of a train's payload
  readonly flags: Int32Array;
  constructor(capacity: number) {
    this.capacity = capacity;
    this.off = new Int32Array(capacity);
    this.len = new Int32Array(capacity);
    this.cap = new Int32Array(capacity);
    this.segsz = new Int32Array(capacity);
    this.hdrlen = new Int32Array(capacity);
    this.flags = new Int32Array(capacity);
  }
}

export interface PortCapabilities {
  readonly carries: 'ethernet' | 'ip' | 'udp';
  /** Largest IP packet in bytes (what an interface calls its MTU). */
  readonly mtu: number;
  /** Largest train in bytes, headers included; 0 = single packets only. */
  readonly train: number;
  /** Most segments in one train. */
  readonly trainSegments: number;
  /** The port fills in the SCTP CRC32c on transmit and checks it on receive, so that the offload engine need not. */
  readonly sctpCrc: boolean;
  /** True when the medium reports carrier by itself; otherwise carrier is up while the port is open. */
  readonly carrier: boolean;
  /**
   * The hardware address of the medium's own station if it has one (tap: the kernel side's, known once open; wire, udp, tun,
   * raw have none). It is the neighbour's address: the card must not take it for its own.
   */
  readonly mac?: Uint8Array;
  /** Mb/s that the medium offers (link speed of a real interface, a wire's option); missing = it does not tell. */
  readonly speed?: number;
}

/** Named counters of a port. A counter exists from the start (zero), so that it can be listed. */
export type PortCounters = Record<string, number>;

export interface Port {
  /** As given on the command line: "wire:a", "udp:127.0.0.1:9899", "tap:nke0". */
  readonly name: string;
  /** True from `open` on: some media (tap, tun) tell their MTU and address only then. */
  readonly capabilities: PortCapabilities;
  readonly counters: PortCounters;
  /** True while the medium has carrier. */
  readonly carrier: boolean;
  /**
   * True once what the port stands on is gone for good (an interface was deleted, renamed, moved to another namespace): there
   * will be no carrier until the port is opened anew. Ports that stand on nothing of that kind do not have it.
   */
  readonly removed?: boolean;
  /** Addresses that the host has on the medium's own interface, "192.0.2.1/24". For information; missing = it knows none. */
  readonly hostAddresses?: readonly string[];

  /**
   * Bytes of the region, from a page boundary on, that the port wants for itself (xdp: the frames that the kernel receives
   * into). Constant; missing = none.
   */
  readonly regionBytes?: number;

  /**
   * Opens the medium. `memory` is the region in which all batches lie; `own` the offset of `regionBytes` of it that nobody else
   * touches while the port is open. A port that wants them works without them too: decorators with a region of their own give
   * none.
   * Throws PortError with a sentence that says what to do when a privilege, device or address is missing; nothing
   * half-opened is left behind.
   */
  open(memory: Memory, own?: number): void;

  /** What `open` got, in a line, for ports that have a choice (xdp: mode, queues, packet memory). Decorators hand it through. */
  describe?(): string;

  /**
   * Sends entries [0, batch.count). Returns how many were taken, in order; the rest did not fit now (the medium is full:
   * call again later). A packet that can never be sent (too long, wrong protocol) is taken, dropped and counted.
   * `now` is the caller's clock, for ports and decorators that model time (rate, delay).
   */
  transmit(batch: Batch, now: number): number;

  /**
   * Receives at most batch.capacity entries into the rooms given by off/cap for [0, posted); sets batch.count and returns it.
   * A room must hold capabilities.train bytes when that is not 0, else the longest packet: what does not fit is dropped and
   * counted as rx_truncated. Entry k lies in room k.
   */
  receive(batch: Batch, posted: number, now: number): number;

  /**
   * Earliest time (ns, the caller's clock) at which the port has work even though nothing arrives (a delayed packet falls
   * due), or Infinity.
   */
  deadline(): number;

  /**
   * Readiness: `wake` is called, at most once per call of `arm`, when `receive` may have something, when `transmit` may
   * take again after it refused, or when carrier changed. A port must not call it from inside another of its methods.
   */
  arm(wake: () => void): void;
  /** Takes back `arm`; after it no wake comes. An armed port keeps the process alive, a disarmed one does not. */
  disarm(): void;

  /** Called on carrier change; set by the firmware. */
  onCarrier: ((up: boolean) => void) | undefined;
  /**
   * Called when `capabilities` (MTU, speed), `removed` or `hostAddresses` have changed, whichever; who listens reads them
   * anew. Set by the firmware; ports whose medium cannot change do without. As with onCarrier the readiness of `arm` covers
   * it. Decorators hand it through.
   */
  onChange?: (() => void) | undefined;

  /** Closes the medium and releases everything (fd, TAP, timers). May be called twice. */
  close(): void;
}

/** A port that could not be opened, with what the user can do about it. */
export class PortError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = 'PortError';
    this.code = code;
  }
}
