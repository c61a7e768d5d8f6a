/**
 * XskQueue: an AF_XDP socket on one queue of an interface, with its four rings in user memory (the kernel's
 * Documentation/networking/af_xdp.rst and include/uapi/linux/if_xdp.h).
 *
 * Each ring has one producer and one consumer, who count in u32 without bound; entry i lies at i mod size. The producer writes
 * entries first and its counter after them; the consumer reads the counter first, then entries, and writes its counter when it is
 * done with them. Atomics give that order here: a store is not seen before what was written ahead of it, and nothing is read
 * ahead of a load. On the kernel's side the same counters go through smp_store_release and smp_load_acquire.
 */
import type { Native } from '../native.js';

// xdpRing's `which`.
const RX = 0;
const TX = 1;
const FILL = 2;
const COMPLETION = 3;

/** Bind flags. */
export const XDP_SHARED_UMEM = 1;
export const XDP_COPY = 2;
export const XDP_ZEROCOPY = 4;
export const XDP_USE_NEED_WAKEUP = 8;
export const XDP_USE_SG = 16;
/** UMEM flag: chunks may begin anywhere. */
export const XDP_UMEM_UNALIGNED_CHUNK_FLAG = 1;
/** Descriptor option: the packet goes on in the next descriptor. */
export const XDP_PKT_CONTD = 1;
/** Bytes that the kernel keeps free in front of a received packet, for the XDP program (XDP_PACKET_HEADROOM). */
export const XDP_HEADROOM = 256;

const RING_NEED_WAKEUP = 1;
/** Words of a descriptor: u64 address, u32 length, u32 options; the entries of the other two rings are addresses alone. */
const DESC = 4;
const ADDR = 2;

const BIND_TRIES = 50;
const BIND_NAP_MS = 4;
const SEND_BUFFER = 16 << 20;
const KERNEL_BATCH = 32; // TX_BATCH_SIZE
const EAGAIN = -11;
const ENOBUFS = -105;
const EBUSY = -16;

/** One ring as it is mapped: word indices of its counters, flags and first entry. */
export class XskRing {
  readonly buffer: ArrayBuffer;
  readonly w: Int32Array;
  readonly mask: number;
  readonly producer: number;
  readonly consumer: number;
  readonly flags: number;
  readonly first: number;

  constructor(buffer: ArrayBuffer, size: number, offsets: Int32Array) {
    this.buffer = buffer;
    this.w = new Int32Array(buffer);
    this.mask = size - 1;
    this.producer = offsets[0]! >> 2;
    this.consumer = offsets[1]! >> 2;
    this.flags = offsets[2]! >> 2;
    this.first = offsets[3]! >> 2;
  }

  get produced(): number {
    return Atomics.load(this.w, this.producer);
  }
  get consumed(): number {
    return Atomics.load(this.w, this.consumer);
  }
  publish(produced: number): void {
    Atomics.store(this.w, this.producer, produced);
  }
  release(consumed: number): void {
    Atomics.store(this.w, this.consumer, consumed);
  }
  get needWakeup(): boolean {
    return (Atomics.load(this.w, this.flags) & RING_NEED_WAKEUP) !== 0;
  }
  /** Word index of descriptor i. */
  desc(i: number): number {
    return this.first + (i & this.mask) * DESC;
  }
  /** Word index of address i. */
  addr(i: number): number {
    return this.first + (i & this.mask) * ADDR;
  }
}

/** Sizes of a queue's rings, powers of two. */
export interface XskSizes {
  readonly rx: number;
  readonly tx: number;
}

/** The system refused; `errno` is negative. */
export class XskError extends Error {
  readonly errno: number;
  readonly what: 'socket' | 'umem' | 'ring';
  constructor(errno: number, what: 'socket' | 'umem' | 'ring') {
    super(`${what}: errno ${-errno}`);
    this.errno = errno;
    this.what = what;
  }
}

export class XskQueue {
  readonly fd: number;
  readonly rx: XskRing;
  readonly tx: XskRing;
  readonly fill: XskRing;
  readonly completion: XskRing;
  /** Our own counters: what was written to the rings, published or not, and what was read. */
  txNext = 0;
  fillNext = 0;
  rxNext = 0;
  completionNext = 0;
  readonly #native: Native;
  readonly #rings: ArrayBuffer[] = [];

  /** A socket with its rings; with `umem` it brings the packet memory, else it is to share another's. Throws XskError. */
  constructor(
    native: Native,
    sizes: XskSizes,
    netns: string | undefined,
    umem: { readonly region: Uint8Array; readonly chunk: number; readonly headroom: number } | undefined,
  ) {
    this.#native = native;
    this.fd = native.xdpOpen(netns);
    if (this.fd < 0) throw new XskError(this.fd, 'socket');
    try {
      if (umem !== undefined) {
        const flags = XDP_UMEM_UNALIGNED_CHUNK_FLAG;
        const r = native.xdpUmem(this.fd, umem.region, umem.chunk, umem.headroom, flags);
        if (r < 0) throw new XskError(r, 'umem');
      }
      this.fill = this.#ring(FILL, sizes.rx);
      this.completion = this.#ring(COMPLETION, 2 * sizes.tx);
      this.rx = this.#ring(RX, sizes.rx);
      this.tx = this.#ring(TX, sizes.tx);
      // Without this a call sends 32 packets (kernels before 6.17 know no other number): it is then called more often.
      native.xdpSendRoom(this.fd, SEND_BUFFER, sizes.tx);
    } catch (e) {
      this.close();
      throw e;
    }
  }

  #ring(which: number, size: number): XskRing {
    const offsets = new Int32Array(4);
    const r = this.#native.xdpRing(this.fd, which, size, offsets);
    if (typeof r === 'number') throw new XskError(r, 'ring');
    this.#rings.push(r);
    return new XskRing(r, size, offsets);
  }

  /**
   * Binds it to a queue of an interface; with XDP_SHARED_UMEM the packet memory is that of `shared`. 0 or -errno. A queue that
   * another socket has just left is free a little later (the kernel clears it in a work queue): it is waited for.
   */
  bind(index: number, queue: number, flags: number, shared: number): number {
    const nap = new Int32Array(new SharedArrayBuffer(4));
    for (let i = 0; ; i++) {
      const r = this.#native.xdpBind(this.fd, index, queue, flags, shared);
      if (r !== EBUSY || i === BIND_TRIES) return r;
      Atomics.wait(nap, 0, 0, BIND_NAP_MS);
    }
  }

  /** Descriptors that the transmit ring takes now. */
  get txRoom(): number {
    return this.tx.mask + 1 - ((this.txNext - this.tx.consumed) | 0);
  }
  /** Descriptors that the kernel has not looked at yet. */
  get txWaiting(): number {
    return (this.txNext - this.tx.consumed) | 0;
  }

  /** Writes a transmit descriptor; `publishTx` shows it to the kernel. */
  pushTx(addr: number, len: number, options: number): void {
    const { w } = this.tx;
    const at = this.tx.desc(this.txNext);
    w[at] = addr;
    w[at + 1] = 0;
    w[at + 2] = len;
    w[at + 3] = options;
    this.txNext = (this.txNext + 1) | 0;
  }
  publishTx(): void {
    this.tx.publish(this.txNext);
  }

  /** Gives the kernel a frame to receive into; `publishFill` shows it. */
  pushFill(addr: number): void {
    const at = this.fill.addr(this.fillNext);
    this.fill.w[at] = addr;
    this.fill.w[at + 1] = 0;
    this.fillNext = (this.fillNext + 1) | 0;
  }
  /** What was read up to here has been dealt with: the descriptors go back, and the frames that are to be filled again. */
  giveBack(): void {
    this.rx.release(this.rxNext);
    this.publishFill();
  }
  publishFill(): void {
    this.fill.publish(this.fillNext);
    if (this.fill.needWakeup) this.#native.xdpKick(this.fd, false);
  }

  /**
   * Has the kernel send what is in the transmit ring, if it asks to be told. 0, or the -errno that stopped it: what is left is
   * sent later.
   */
  kick(): number {
    for (let calls = 0; calls <= (this.tx.mask + 1) / KERNEL_BATCH + 1; calls++) {
      if (!this.tx.needWakeup) return 0;
      const before = this.tx.consumed;
      const r = this.#native.xdpKick(this.fd, true);
      if (r === 0) return 0;
      // EAGAIN: there is more than one call sends, or the send buffer or the completion ring is full.
      if (r !== EAGAIN && r !== ENOBUFS && r !== EBUSY) return r;
      if (this.tx.consumed === before) return r;
    }
    return EAGAIN;
  }

  /** Adds struct xdp_statistics to `sum`. */
  statistics(into: Int32Array, sum: Float64Array): void {
    if (this.#native.xdpStatistics(this.fd, into) < 0) return;
    for (let i = 0; i < sum.length; i++) sum[i]! += into[i]! >>> 0;
  }

  /** Closes the socket for good: its rings are let go first, for a mapping holds it open. */
  close(): void {
    for (const ring of this.#rings) this.#native.xdpUnring(ring);
    this.#rings.length = 0;
    this.#native.close(this.fd);
  }
}
