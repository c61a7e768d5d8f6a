/**
 * UDP port on Node's own sockets (node:dgram), for machines without the C module: single packets, no CRC32c, no DF, and a
 * packet arrives only when Node's loop turns. Both directions go through bounded queues.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { formatAddress, type PortAddress, parseAddress } from './address.js';
import { copyBytes, FRAME_BROKEN, FRAME_OK, UdpFraming } from './headers.js';
import { BATCH_L3_TRUSTED, type Batch, type Memory, type Port, type PortCapabilities, PortError } from './port.js';
import { SoftReadiness } from './readiness.js';
import { PacketRing } from './ring.js';

/** Sends in Node's hands at most; each holds a copy, for Node may send later than the call returns. */
const SEND_SLOTS = 256;
const RECEIVE_SLOTS = 1024;
/** Remote addresses whose text is remembered. */
const NAMES = 256;

/** The sentence for a socket that could not be opened. */
export function udpOpenError(name: string, code: string): PortError {
  const why: Record<string, string> = {
    EADDRINUSE: 'another program uses this port; choose another port or stop that program',
    EADDRNOTAVAIL: "this address is not one of this machine's; see `ip address`",
    EACCES: 'ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher port',
    EPERM: 'entering a network namespace needs root (CAP_SYS_ADMIN)',
    ENOENT: 'there is no such network namespace; make it with `ip netns add NAME`',
  };
  return new PortError(code, `cannot open ${name}: ${why[code] ?? `the system says ${code}`}`);
}

type Lookup = (host: string, family: number, done: (error: null, address: string, family: number) => void) => void;

export class DgramPort implements Port {
  readonly name: string;
  readonly capabilities: PortCapabilities;
  readonly counters = {
    tx_packets: 0,
    tx_bytes: 0,
    tx_oversize: 0,
    tx_unsupported: 0,
    tx_errors: 0,
    tx_full: 0,
    rx_packets: 0,
    rx_bytes: 0,
    rx_truncated: 0,
    rx_full: 0,
    rx_errors: 0,
  };
  onCarrier: ((up: boolean) => void) | undefined;

  readonly #address: string;
  readonly #framing: UdpFraming;
  readonly #bytes: number;
  readonly #slot: number;
  readonly #free: Int32Array;
  #top = SEND_SLOTS;
  readonly #store: Uint8Array;
  readonly #scratch: Uint8Array;
  readonly #sent: ((error: Error | null) => void)[] = [];
  readonly #names = new Map<string, string>();
  readonly #sources = new Map<string, Int32Array>();
  #lastText = '';
  readonly #lastWords = new Int32Array(4);
  #ring: PacketRing | undefined;
  #socket: Socket | undefined;
  #memory: Memory | undefined;
  #generation = 0;
  #refused = false;
  readonly #ready = new SoftReadiness();

  /** Use createUdpPort. */
  constructor(name: string, address: string, local: PortAddress, port: number, mtu: number, receiveBytes: number) {
    this.name = name;
    this.#address = address;
    this.#framing = new UdpFraming(local, port);
    this.#bytes = receiveBytes;
    this.#slot = mtu;
    this.#store = new Uint8Array(SEND_SLOTS * mtu);
    this.#scratch = new Uint8Array(65535 + this.#framing.header);
    this.#free = new Int32Array(SEND_SLOTS);
    this.capabilities = { carries: 'udp', mtu, train: 0, trainSegments: 0, sctpCrc: false, carrier: false };
  }

  get port(): number {
    return this.#framing.port;
  }

  get carrier(): boolean {
    return this.#memory !== undefined;
  }

  open(memory: Memory): void {
    if (this.#memory !== undefined) throw new Error(`${this.name} is open already`);
    // An address needs no lookup; answering at once makes bind and send synchronous.
    const lookup: Lookup = (host, _family, done) => done(null, host, this.#framing.family);
    const socket = createSocket({
      type: this.#framing.family === 4 ? 'udp4' : 'udp6',
      ipv6Only: this.#framing.family === 6,
      lookup: lookup as never,
      recvBufferSize: this.#bytes,
    });
    let failure: NodeJS.ErrnoException | undefined;
    socket.on('error', error => {
      failure ??= error as NodeJS.ErrnoException;
      this.counters.rx_errors++;
    });
    socket.bind({ port: this.#framing.port, address: this.#address, exclusive: true });
    try {
      if (failure === undefined) this.#framing.port = socket.address().port;
    } catch (e) {
      failure = e as NodeJS.ErrnoException;
    }
    if (failure !== undefined) {
      socket.close();
      throw udpOpenError(this.name, failure.code ?? 'EIO');
    }
    const generation = ++this.#generation;
    this.#top = SEND_SLOTS;
    for (let i = 0; i < SEND_SLOTS; i++) {
      this.#free[i] = i;
      this.#sent[i] = error => this.#done(i, error, generation);
    }
    this.#ring = new PacketRing(RECEIVE_SLOTS, Math.max(this.#bytes, 1 << 17));
    socket.on('message', (bytes, from) => this.#arrived(bytes, from));
    socket.unref();
    this.#socket = socket;
    this.#memory = memory;
  }

  #done(slot: number, error: Error | null, generation: number): void {
    if (generation !== this.#generation) return;
    if (error) this.counters.tx_errors++;
    this.#free[this.#top++] = slot;
    if (this.#refused && this.#top >= SEND_SLOTS / 2) this.#ready.signal();
  }

  transmit(batch: Batch, _now: number): number {
    const memory = this.#memory;
    if (memory === undefined) return 0;
    const c = this.counters;
    const f = this.#framing;
    this.#refused = false;
    for (let i = 0; i < batch.count; i++) {
      const verdict = f.parse(memory.u8, batch, i);
      if (verdict === FRAME_BROKEN) {
        c.tx_errors++;
      } else if (verdict !== FRAME_OK) {
        c.tx_unsupported++;
      } else if (batch.segsz[i]! > 0 || f.payload - batch.off[i]! + f.length > this.capabilities.mtu) {
        c.tx_oversize++;
      } else {
        if (this.#top === 0) {
          this.#refused = true;
          c.tx_full++;
          return i;
        }
        this.#send(memory.u8);
        c.tx_packets++;
        c.tx_bytes += batch.len[i]!;
      }
    }
    return batch.count;
  }

  /** Sends what the framing has just parsed, from a copy. */
  #send(u8: Uint8Array): void {
    const f = this.#framing;
    const slot = this.#free[--this.#top]!;
    const at = slot * this.#slot;
    copyBytes(u8, f.payload, this.#store, at, f.length);
    const key = `${f.w0},${f.w1},${f.w2},${f.w3}`;
    let text = this.#names.get(key);
    if (text === undefined) {
      if (this.#names.size >= NAMES) this.#names.clear();
      text = formatAddress(f.family, f.w0, f.w1, f.w2, f.w3);
      this.#names.set(key, text);
    }
    this.#socket!.send(this.#store, at, f.length, f.remotePort, text, this.#sent[slot]!);
  }

  #arrived(bytes: Uint8Array, from: RemoteInfo): void {
    const f = this.#framing;
    const n = bytes.length + f.header;
    if (from.address !== this.#lastText) {
      const words = this.#source(from.address);
      if (words === undefined) {
        this.counters.rx_errors++;
        return;
      }
      this.#lastText = from.address;
      this.#lastWords.set(words);
    }
    const w = this.#lastWords;
    copyBytes(bytes, 0, this.#scratch, f.header, bytes.length);
    f.write(this.#scratch, 0, bytes.length, 0, from.port, w[0]!, w[1]!, w[2]!, w[3]!);
    if (this.#ring?.push(this.#scratch, 0, n, 0, 0)) this.#ready.signal();
    else this.counters.rx_full++;
  }

  #source(text: string): Int32Array | undefined {
    let words = this.#sources.get(text);
    if (words === undefined) {
      words = parseAddress(text)?.w;
      if (words === undefined) return undefined;
      if (this.#sources.size >= NAMES) this.#sources.clear();
      this.#sources.set(text, words);
    }
    return words;
  }

  receive(batch: Batch, posted: number, _now: number): number {
    batch.count = 0;
    const memory = this.#memory;
    const ring = this.#ring;
    if (memory === undefined || ring === undefined) return 0;
    const c = this.counters;
    const room = Math.min(posted, batch.capacity);
    let n = 0;
    while (n < room && ring.count > 0) {
      if (ring.peek() > batch.cap[n]!) {
        ring.drop();
        c.rx_truncated++;
        continue;
      }
      ring.pop(memory.u8, batch.off[n]!, batch, n);
      batch.flags[n] = BATCH_L3_TRUSTED;
      c.rx_packets++;
      c.rx_bytes += batch.len[n]!;
      n++;
    }
    batch.count = n;
    return n;
  }

  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  arm(wake: () => void): void {
    if (this.#memory === undefined) return;
    const writable = this.#refused && this.#top >= SEND_SLOTS / 2;
    if (writable) this.#refused = false;
    this.#ready.arm(wake, writable || (this.#ring?.count ?? 0) > 0);
  }

  disarm(): void {
    this.#ready.disarm();
  }

  close(): void {
    if (this.#memory === undefined) return;
    this.#memory = undefined;
    this.#generation++;
    this.#ready.close();
    this.#ring = undefined;
    this.#socket?.close();
    this.#socket = undefined;
  }
}
