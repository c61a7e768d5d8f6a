/**
 * For tests: SCTP packets written and decoded byte by byte (RFC 9260 §3), right or wrong on purpose, and the WirePeer: one
 * stack under test in virtual time whose cable ends in the test itself. What the stack sends is taken apart, what the test
 * injects arrives as if a peer had sent it.
 *
 *   const w = new WirePeer();
 *   w.inject(init({ tag: 7 }));                         // tag 0 is implied by INIT
 *   const [answer] = w.take();                          // decoded: answer.tag === 7, answer.chunks[0].name === 'INIT ACK'
 */

import { Clock, MSEC, type Nanos, SEC, SeededRandom } from '../kern/clock.js';
import type { StampedEvent } from '../kern/event.js';
import { type Mbuf, MbufPool, type MbufPoolSizes } from '../kern/mbuf.js';
import { AF_INET, AF_INET6, SOCK_STREAM } from '../kern/protosw.js';
import { type SockAddr, Socket } from '../kern/socket.js';
import type { Steering } from '../kern/steering.js';
import { SCTP_KEXT, type SctpKext, sctpKext } from '../kexts/SCTP.kext/index.js';
import { IFF_MULTICAST, IFF_NOARP, IFF_POINTOPOINT, IFF_RUNNING, type IfDriver, Ifnet } from '../net/ifnet.js';
import { InAddr, IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_UDP } from '../netinet/in.js';
import { finish, sumRange } from '../netinet/in_cksum.js';
import { Stack } from '../stack.js';
import { type NotificationType, SCTP_EVENT, SCTP_REMOTE_UDP_ENCAPS_PORT, SO_LINGER, SOL_SOCKET } from './api.js';
import * as c from './constants.js';
import { crc32c } from './crc32c.js';
import type { CounterName, SctpStats } from './stats.js';
import type { Tunables } from './tunables.js';
import { ByteWriter } from './wire.js';

// Chunks: whole, padded, as bytes.

/** Any chunk. `length` lies about its length; the bytes stay as they are. */
export function chunk(type: number, flags = 0, body: Uint8Array = new Uint8Array(0), length?: number): Uint8Array {
  const out = new ByteWriter().chunk(type, flags, w => w.bytes(body)).take();
  if (length !== undefined) new DataView(out.buffer).setUint16(2, length);
  return out;
}
/** A parameter or error cause, padded. `length` lies about its length. */
export function param(type: number, body: Uint8Array | readonly number[] = [], length?: number): Uint8Array {
  const out = new ByteWriter().tlv(type, w => w.bytes(Uint8Array.from(body))).take();
  if (length !== undefined) new DataView(out.buffer).setUint16(2, length);
  return out;
}
export const addressParam = (text: string): Uint8Array => new ByteWriter().addressParam(InAddr.of(text)).take();
export const u32 = (...n: readonly number[]): Uint8Array => {
  const w = new ByteWriter();
  for (const x of n) w.u32(x);
  return w.take();
};
export function join(parts: readonly Uint8Array[]): Uint8Array {
  let n = 0;
  for (const p of parts) n += p.length;
  const out = new Uint8Array(n);
  n = 0;
  for (const p of parts) {
    out.set(p, n);
    n += p.length;
  }
  return out;
}

export interface InitFieldsOfTest {
  readonly tag?: number;
  readonly rwnd?: number;
  readonly os?: number;
  readonly is?: number;
  readonly tsn?: number;
  readonly params?: readonly Uint8Array[];
  readonly length?: number;
}
function initBody(f: InitFieldsOfTest): Uint8Array {
  const w = new ByteWriter().u32(f.tag ?? PEER_TAG).u32(f.rwnd ?? 100_000);
  w.u16(f.os ?? 10)
    .u16(f.is ?? 10)
    .u32(f.tsn ?? PEER_TSN);
  for (const p of f.params ?? []) w.bytes(p);
  return w.take();
}
export const init = (f: InitFieldsOfTest = {}): Uint8Array => chunk(c.INIT, 0, initBody(f), f.length);
/** INIT ACK; a state cookie of 8 bytes unless `params` are given. */
export const initAck = (f: InitFieldsOfTest = {}): Uint8Array =>
  chunk(c.INIT_ACK, 0, initBody({ ...f, params: f.params ?? [param(c.PARAM_STATE_COOKIE, COOKIE)] }), f.length);
export const COOKIE = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

export interface DataFieldsOfTest {
  readonly tsn: number;
  readonly sid?: number;
  readonly ssn?: number;
  readonly ppid?: number;
  /** E 1, B 2, U 4, I 8; a whole message when not given. */
  readonly flags?: number;
  readonly payload?: Uint8Array;
  readonly length?: number;
}
export const data = (f: DataFieldsOfTest): Uint8Array => {
  const w = new ByteWriter().u32(f.tsn);
  w.u16(f.sid ?? 0)
    .u16(f.ssn ?? 0)
    .u32(f.ppid ?? 0);
  w.bytes(f.payload ?? Uint8Array.of(1, 2, 3, 4));
  return chunk(c.DATA, f.flags ?? 3, w.take(), f.length);
};
export const sack = (
  cum: number,
  rwnd = 100_000,
  gaps: readonly (readonly [number, number])[] = [],
  dups: readonly number[] = [],
): Uint8Array => {
  const w = new ByteWriter().u32(cum).u32(rwnd).u16(gaps.length).u16(dups.length);
  for (const [from, to] of gaps) w.u16(from).u16(to);
  for (const d of dups) w.u32(d);
  return chunk(c.SACK, 0, w.take());
};
export const heartbeat = (info: Uint8Array = u32(1, 2)): Uint8Array =>
  chunk(c.HEARTBEAT, 0, param(c.PARAM_HEARTBEAT_INFO, info));
export const heartbeatAck = (info: Uint8Array): Uint8Array =>
  chunk(c.HEARTBEAT_ACK, 0, param(c.PARAM_HEARTBEAT_INFO, info));
export const abort = (flags = 0, ...causes: readonly Uint8Array[]): Uint8Array => chunk(c.ABORT, flags, join(causes));
export const error = (...causes: readonly Uint8Array[]): Uint8Array => chunk(c.ERROR, 0, join(causes));
export const shutdown = (cum: number): Uint8Array => chunk(c.SHUTDOWN, 0, u32(cum));
export const shutdownAck = (): Uint8Array => chunk(c.SHUTDOWN_ACK);
export const shutdownComplete = (flags = 0): Uint8Array => chunk(c.SHUTDOWN_COMPLETE, flags);
export const cookieEcho = (cookie: Uint8Array = COOKIE): Uint8Array => chunk(c.COOKIE_ECHO, 0, cookie);
export const cookieAck = (): Uint8Array => chunk(c.COOKIE_ACK);
export const ecne = (tsn: number): Uint8Array => chunk(c.ECNE, 0, u32(tsn));
export const cwr = (tsn: number): Uint8Array => chunk(c.CWR, 0, u32(tsn));

// Packets.

export interface PacketFields {
  readonly src: number;
  readonly dst: number;
  readonly tag: number;
  /** Left out: right. 'bad': one bit wrong. */
  readonly crc?: 'bad' | number;
}
/** Common header (§3.1) and chunks. */
export function packet(f: PacketFields, chunks: readonly Uint8Array[]): Uint8Array {
  const out = join([new Uint8Array(c.COMMON_HEADER), ...chunks]);
  const dv = new DataView(out.buffer);
  dv.setUint16(0, f.src);
  dv.setUint16(2, f.dst);
  dv.setUint32(4, f.tag);
  const crc = typeof f.crc === 'number' ? f.crc : crc32c(out, 0, out.length) ^ (f.crc === 'bad' ? 1 : 0);
  dv.setUint32(8, crc, true);
  return out;
}
/** Writes the right CRC32c into a packet that was changed. */
export function repairCrc(p: Uint8Array): void {
  const dv = new DataView(p.buffer, p.byteOffset, p.length);
  dv.setUint32(8, 0);
  dv.setUint32(8, crc32c(p, 0, p.length), true);
}

/** A parameter or error cause as decoded. */
export interface DecodedTlv {
  readonly type: number;
  readonly body: Uint8Array;
}
export interface DecodedChunk {
  readonly type: number;
  readonly name: string;
  readonly flags: number;
  /** As told in the header, and what stands behind the header. */
  readonly length: number;
  readonly body: Uint8Array;
  /** Parameters of INIT and INIT ACK, causes of ABORT and ERROR. Heartbeat information is opaque: it stays in body. */
  readonly tlvs: readonly DecodedTlv[];
  /** INIT, INIT ACK: initiate tag, a_rwnd, outbound, inbound streams, initial TSN. */
  readonly init?: { tag: number; rwnd: number; os: number; is: number; tsn: number };
  readonly data?: { tsn: number; sid: number; ssn: number; ppid: number; payload: Uint8Array };
  readonly sack?: { cum: number; rwnd: number; gaps: [number, number][]; dups: number[] };
  /** SHUTDOWN, ECNE, CWR: the TSN they carry. */
  readonly tsn?: number;
}
export interface DecodedPacket {
  readonly src: number;
  readonly dst: number;
  readonly tag: number;
  readonly crcGood: boolean;
  readonly chunks: readonly DecodedChunk[];
  /** 'INIT ACK', 'COOKIE ACK+SACK': what a test compares first. */
  readonly names: string;
  readonly bytes: Uint8Array;
}

const tlvsFrom = (b: Uint8Array, off: number): DecodedTlv[] => {
  const dv = new DataView(b.buffer, b.byteOffset, b.length);
  const out: DecodedTlv[] = [];
  while (off + 4 <= b.length) {
    const len = dv.getUint16(off + 2);
    if (len < 4 || off + len > b.length) throw new Error(`a parameter of ${len} bytes does not fit its chunk`);
    out.push({ type: dv.getUint16(off), body: b.slice(off + 4, off + len) });
    off += c.pad4(len);
  }
  return out;
};

function decodeChunk(b: Uint8Array): DecodedChunk {
  const type = b[0]!;
  const body = b.slice(4);
  const dv = new DataView(body.buffer);
  const base = {
    type,
    name: c.CHUNK_NAMES[type] ?? `chunk ${type}`,
    flags: b[1]!,
    length: b.length,
    body,
    tlvs: [] as DecodedTlv[],
  };
  switch (type) {
    case c.DATA:
      return {
        ...base,
        data: {
          tsn: dv.getUint32(0),
          sid: dv.getUint16(4),
          ssn: dv.getUint16(6),
          ppid: dv.getUint32(8),
          payload: body.slice(12),
        },
      };
    case c.INIT:
    case c.INIT_ACK:
      return {
        ...base,
        tlvs: tlvsFrom(body, 16),
        init: {
          tag: dv.getUint32(0),
          rwnd: dv.getUint32(4),
          os: dv.getUint16(8),
          is: dv.getUint16(10),
          tsn: dv.getUint32(12),
        },
      };
    case c.SACK: {
      const n = dv.getUint16(8);
      const gaps = Array.from({ length: n }, (_, i): [number, number] => [
        dv.getUint16(12 + 4 * i),
        dv.getUint16(14 + 4 * i),
      ]);
      const dups = Array.from({ length: dv.getUint16(10) }, (_, i) => dv.getUint32(12 + 4 * (n + i)));
      return { ...base, sack: { cum: dv.getUint32(0), rwnd: dv.getUint32(4), gaps, dups } };
    }
    case c.ABORT:
    case c.ERROR:
      return { ...base, tlvs: tlvsFrom(body, 0) };
    case c.SHUTDOWN:
    case c.ECNE:
    case c.CWR:
      return { ...base, tsn: dv.getUint32(0) };
    default:
      return base;
  }
}

/** Takes a packet apart; throws when its own lengths do not add up: what a stack sends must be well-formed. */
export function decodePacket(bytes: Uint8Array): DecodedPacket {
  const dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const told = dv.getUint32(8, true);
  dv.setUint32(8, 0);
  const real = crc32c(bytes, 0, bytes.length);
  dv.setUint32(8, told, true);
  const chunks: DecodedChunk[] = [];
  let o = c.COMMON_HEADER;
  while (o < bytes.length) {
    const len = dv.getUint16(o + 2);
    if (len < 4 || o + c.pad4(len) > bytes.length) throw new Error(`a chunk of ${len} bytes at ${o} does not fit`);
    chunks.push(decodeChunk(bytes.subarray(o, o + len)));
    o += c.pad4(len);
  }
  return {
    src: dv.getUint16(0),
    dst: dv.getUint16(2),
    tag: dv.getUint32(4),
    crcGood: real === told,
    chunks,
    names: chunks.length === 1 ? chunks[0]!.name : chunks.map(x => x.name).join('+'),
    bytes,
  };
}
/** The cookie of an INIT ACK. */
export function cookieOf(p: DecodedPacket): Uint8Array {
  const t = p.chunks[0]?.tlvs.find(x => x.type === c.PARAM_STATE_COOKIE);
  if (t === undefined) throw new Error(`${p.names} has no state cookie`);
  return t.body;
}

// The peer on the wire.

export const PEER_TAG = 0x11111111;
export const PEER_TSN = 1000;
export const PEER_PORT = 7000;
export const LOCAL_PORT = 5000;

/** A packet as the wire peer has seen it: with its addresses and UDP ports (0 = plain). */
export interface WirePacket extends DecodedPacket {
  readonly from: string;
  readonly to: string;
  readonly udpSrc: number;
  readonly udpDst: number;
  readonly at: Nanos;
}
/** Where an injected packet comes from; defaults: the peer's first address, its port, the stack's tag as last seen. */
export interface InjectFields {
  readonly from?: string;
  readonly to?: string;
  readonly src?: number;
  readonly dst?: number;
  readonly tag?: number;
  readonly crc?: 'bad' | number;
  readonly udpSrc?: number;
  readonly udpDst?: number;
  readonly tos?: number;
}

export interface WirePeerOptions {
  readonly seed?: number;
  readonly family?: 4 | 6;
  readonly tunables?: Partial<Tunables>;
  readonly pool?: MbufPoolSizes;
  /** Addresses of the stack's interface beside the first, as "10.0.1.1/24". */
  readonly more?: readonly string[];
  readonly mtu?: number;
  /** One queue of several. */
  readonly steering?: Steering;
}

const ETHER_IP = Uint8Array.of(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00);
const ETHER_IP6 = Uint8Array.of(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd);
/** Most virtual time that one `run` may need to settle, in rounds. */
const MAX_ROUNDS = 10_000;

export class WirePeer implements IfDriver {
  readonly clock = new Clock(SEC);
  readonly stack: Stack;
  readonly ifp: Ifnet;
  readonly kext: SctpKext;
  readonly stats: SctpStats;
  /** The stack's address and the peer's. */
  readonly local: string;
  readonly peer: string;
  /** Port that the stack's end uses; the tag that goes into injected packets; both learnt from what the stack sends. */
  localPort = LOCAL_PORT;
  tag = 0;
  /** UDP ports of injected packets (source, destination); 0 = plain SCTP. */
  udpSrc = 0;
  udpDst = 0;
  readonly #out: WirePacket[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #family: 4 | 6;
  readonly #parsed = new Map<string, InAddr>();
  readonly #texts = new Map<number, string>();
  #pieces: Uint8Array = new Uint8Array(0);

  constructor(options: WirePeerOptions = {}) {
    this.#family = options.family ?? 4;
    [this.local, this.peer] = this.#family === 4 ? ['10.0.0.1', '10.0.0.2'] : ['fd00::1', 'fd00::2'];
    const pool = new MbufPool(options.pool ?? { small: 2048, cluster: 1024, jumbo: 8 });
    const random = new SeededRandom(options.seed ?? 1);
    this.stack = new Stack({ clock: this.clock, random, pool, steering: options.steering });
    const flags = IFF_NOARP | IFF_POINTOPOINT | IFF_MULTICAST;
    this.ifp = new Ifnet('nke0', Uint8Array.of(2, 0, 0, 0, 0, 1), options.mtu ?? 1500, flags);
    this.ifp.driver = this;
    this.stack.interfaces.attach(this.ifp);
    for (const text of [`${this.local}/${this.#family === 4 ? 24 : 64}`, ...(options.more ?? [])]) {
      const [addr, prefix] = text.split('/');
      this.stack.interfaces.addAddress(this.ifp, InAddr.of(addr!), Number(prefix));
    }
    this.stack.interfaces.setUp(this.ifp, true);
    for (const any of ['0.0.0.0', '::']) this.stack.routes.add(InAddr.of(any), 0, undefined, this.ifp);
    this.kext = sctpKext({ tunables: options.tunables ?? {} });
    const r = this.stack.kexts.load(this.kext);
    if (!r.ok) throw new Error(r.reason);
    this.stats = this.stack.counters.group('sctp') as SctpStats;
  }

  // IfDriver.

  output(m: Mbuf): boolean {
    const bytes = this.stack.pool.toBytes(m);
    this.stack.pool.freem(m);
    const p = this.#unwrap(bytes.subarray(14));
    if (p !== undefined) {
      this.#out.push(p);
      this.localPort = p.src;
      for (const x of p.chunks) if (x.init !== undefined) this.tag = x.init.tag;
    }
    return true;
  }
  flush(): void {}
  ready(): boolean {
    return true;
  }
  setUp(up: boolean): number {
    const { ifp } = this;
    ifp.link = up;
    ifp.flags = up ? ifp.flags | IFF_RUNNING : ifp.flags & ~IFF_RUNNING;
    ifp.event({ kind: up ? 'link-on' : 'link-off', ifname: ifp.name, reason: 'test' });
    return 0;
  }
  setMac(): number {
    return 0;
  }
  setPromisc(): number {
    return 0;
  }
  setMulticast(): number {
    return 0;
  }
  detach(): void {}

  #unwrap(ip: Uint8Array): WirePacket | undefined {
    const dv = new DataView(ip.buffer, ip.byteOffset, ip.length);
    const v4 = ip[0]! >> 4 === 4;
    const proto = v4 ? ip[9]! : ip[6]!;
    const from = v4 ? new InAddr().read4(dv, 12) : new InAddr(6).read6(dv, 8);
    const to = v4 ? new InAddr().read4(dv, 16) : new InAddr(6).read6(dv, 24);
    let body: Uint8Array | undefined = ip.slice(v4 ? 20 : 40);
    if (v4 && (dv.getUint16(6) & 0x3fff) !== 0) body = this.#reassemble(dv, body);
    if (body === undefined) return undefined;
    let udpSrc = 0;
    let udpDst = 0;
    if (proto === IPPROTO_UDP) {
      const u = new DataView(body.buffer);
      udpSrc = u.getUint16(0);
      udpDst = u.getUint16(2);
      body = body.slice(8);
    } else if (proto !== IPPROTO_SCTP) return undefined;
    const p = decodePacket(body);
    return {
      src: p.src,
      dst: p.dst,
      tag: p.tag,
      crcGood: p.crcGood,
      chunks: p.chunks,
      names: p.names,
      bytes: body,
      from: this.#text(from),
      to: this.#text(to),
      udpSrc,
      udpDst,
      at: this.clock.now,
    };
  }

  /** IPv4 fragments, in order of offset as the stack sends them: the whole once the last is there. */
  #reassemble(dv: DataView, piece: Uint8Array): Uint8Array | undefined {
    const offset = (dv.getUint16(6) & 0x1fff) * 8;
    this.#pieces = offset === 0 ? piece : join([this.#pieces, piece]);
    if (this.#pieces.length !== offset + piece.length) throw new Error('fragments came out of order');
    return (dv.getUint16(6) & 0x2000) !== 0 ? undefined : this.#pieces;
  }

  // What the test does.

  /** What the stack has sent since the last call. */
  take(): WirePacket[] {
    return this.#out.splice(0);
  }
  /** Names of the packets sent since the last call: ['INIT ACK'], ['COOKIE ACK+SACK', 'DATA']. */
  names(): string[] {
    return this.take().map(p => p.names);
  }
  /** The only packet sent since the last call; throws when it is none or several. */
  one(names?: string): WirePacket {
    const all = this.take();
    if (all.length !== 1 || (names !== undefined && all[0]!.names !== names))
      throw new Error(
        `expected one packet${names === undefined ? '' : ` ${names}`}, got [${all.map(p => p.names).join(', ')}]`,
      );
    return all[0]!;
  }

  /** A packet of chunks arrives, then the stack runs. INIT goes with tag 0. */
  inject(chunks: Uint8Array | readonly Uint8Array[], f: InjectFields = {}): void {
    const list = chunks instanceof Uint8Array ? [chunks] : chunks;
    const tag = f.tag ?? (list[0]?.[0] === c.INIT ? 0 : this.tag);
    const head = { src: f.src ?? PEER_PORT, dst: f.dst ?? this.localPort, tag };
    this.injectPacket(packet(f.crc === undefined ? head : { ...head, crc: f.crc }, list), f);
    this.settle();
  }
  /** A whole SCTP packet arrives; the stack does not run yet. */
  injectPacket(sctp: Uint8Array, f: InjectFields = {}): void {
    const udpDst = f.udpDst ?? this.udpDst;
    const udp =
      udpDst === 0
        ? []
        : [
            new ByteWriter()
              .u16(f.udpSrc ?? this.udpSrc)
              .u16(udpDst)
              .u16(8 + sctp.length)
              .u16(0)
              .take(),
          ];
    const body = udpDst === 0 ? sctp : join([...udp, sctp]);
    this.#deliver(f, udpDst === 0 ? IPPROTO_SCTP : IPPROTO_UDP, body);
  }
  /** ICMP about a packet that the stack has sent: its IP header and `quote` bytes behind come back. */
  injectIcmp(type: number, code: number, about: WirePacket, mtu = 0, quote = 576): void {
    const quoted = join([
      ipHeader(InAddr.of(about.from), InAddr.of(about.to), IPPROTO_SCTP, about.bytes.length, 0),
      about.bytes.subarray(0, quote),
    ]);
    const body = join([Uint8Array.of(type, code, 0, 0), new ByteWriter().u16(0).u16(mtu).take(), quoted]);
    const dv = new DataView(body.buffer);
    dv.setUint16(2, finish(sumRange(dv, 0, body.length)));
    this.#deliver({ from: about.to }, IPPROTO_ICMP, body);
    this.settle();
  }
  #deliver(f: InjectFields, proto: number, body: Uint8Array): void {
    const from = this.#address(f.from ?? this.peer);
    const to = this.#address(f.to ?? this.local);
    if (proto === IPPROTO_UDP && from.family === 6) udpChecksum(from, to, body);
    const frame = join([
      from.family === 4 ? ETHER_IP : ETHER_IP6,
      ipHeader(from, to, proto, body.length, f.tos ?? 0),
      body,
    ]);
    const m = this.stack.pool.fromBytes(frame, 0, frame.length, 64);
    if (m === 0) throw new Error('the pool has run out of mbufs');
    this.ifp.input(m);
  }

  #text(a: InAddr): string {
    if (a.family === 6) return a.toString();
    let t = this.#texts.get(a.w3);
    if (t === undefined) this.#texts.set(a.w3, (t = a.toString()));
    return t;
  }
  #address(text: string): InAddr {
    let a = this.#parsed.get(text);
    if (a === undefined) this.#parsed.set(text, (a = InAddr.of(text)));
    return a;
  }

  /** Lets the stack do what is due now. */
  settle(): void {
    for (let i = 0; i < MAX_ROUNDS; i++) {
      this.stack.run(this.clock.now);
      if (this.stack.deadline() > this.clock.now) return;
    }
    throw new Error(`the stack still has work at ${this.clock.now} ns: it runs in circles`);
  }
  /** Time goes on by so much; timers fire on the way. */
  run(duration: Nanos): void {
    const end = this.clock.now + duration;
    this.settle();
    for (let i = 0; i < MAX_ROUNDS; i++) {
      const next = this.stack.deadline();
      if (next > end) break;
      this.clock.now = Math.max(next, this.clock.now);
      this.settle();
    }
    this.clock.now = end;
    this.settle();
  }
  /** Until the stack sends something, at most so long; returns it. */
  wait(limit: Nanos = 120 * SEC): WirePacket[] {
    const end = this.clock.now + limit;
    this.settle();
    while (this.#out.length === 0) {
      const next = this.stack.deadline();
      if (next > end) {
        this.clock.now = end;
        break;
      }
      this.clock.now = Math.max(next, this.clock.now);
      this.settle();
    }
    return this.take();
  }

  socket(type = SOCK_STREAM, events: readonly NotificationType[] = []): Socket {
    const so = this.stack.socket(this.#family === 4 ? AF_INET : AF_INET6, type, IPPROTO_SCTP);
    if (!(so instanceof Socket)) throw new Error(`socket: ${so}`);
    for (const e of events) so.setsockopt(IPPROTO_SCTP, SCTP_EVENT, { assocId: 0, type: e, on: true });
    if (this.udpSrc !== 0) so.setsockopt(IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, port: this.udpSrc });
    this.#sockets.add(so);
    return so;
  }
  /** A socket bound to LOCAL_PORT that listens. */
  listen(type = SOCK_STREAM, events: readonly NotificationType[] = [], backlog = 5): Socket {
    const so = this.socket(type, events);
    const e = so.bind(this.at('any', LOCAL_PORT));
    if (e < 0) throw new Error(`bind: ${e}`);
    so.listen(backlog);
    return so;
  }
  /** A socket whose INIT to the peer has gone out; the INIT is returned. */
  connecting(events: readonly NotificationType[] = [], type = SOCK_STREAM): [Socket, WirePacket] {
    const so = this.socket(type, events);
    so.connect(this.at(this.peer, PEER_PORT));
    this.settle();
    return [so, this.one('INIT')];
  }
  /** A socket that has connected to the wire peer (COOKIE-ECHOED when `echoed`), and its INIT. */
  connected(events: readonly NotificationType[] = [], f: InitFieldsOfTest = {}, echoed = false): [Socket, WirePacket] {
    const [so, p] = this.connecting(events);
    this.inject(initAck(f));
    if (echoed) return [so, p];
    this.one('COOKIE ECHO');
    this.inject(cookieAck());
    return [so, p];
  }
  /** Sets up an association from the peer's side to a listener; returns the cookie used and the INIT ACK. */
  dial(f: InitFieldsOfTest = {}, where: InjectFields = {}): { cookie: Uint8Array; initAck: WirePacket } {
    this.inject(init(f), { ...where, dst: LOCAL_PORT });
    const answer = this.one('INIT ACK');
    const cookie = cookieOf(answer);
    this.inject(cookieEcho(cookie), { ...where, dst: LOCAL_PORT });
    return { cookie, initAck: answer };
  }
  /** A listener with one association, accepted: [server, listener]. */
  accepted(events: readonly NotificationType[] = [], f: InitFieldsOfTest = {}): [Socket, Socket] {
    const l = this.listen(SOCK_STREAM, events);
    this.dial(f);
    this.one('COOKIE ACK');
    return [this.accept(l), l];
  }
  /** Takes the next association off a listener's queue. */
  accept(l: Socket): Socket {
    const so = l.accept();
    if (!(so instanceof Socket)) throw new Error(`accept: ${so}`);
    return this.adopt(so);
  }
  /** A socket made elsewhere that `closeAll` and `end` are to close too. */
  adopt(so: Socket): Socket {
    this.#sockets.add(so);
    return so;
  }

  at(addr: string, port: number): SockAddr {
    return { addr: InAddr.of(addr === 'any' ? (this.#family === 4 ? '0.0.0.0' : '::') : addr), port };
  }
  /** Values of counters that are not 0, of those named. */
  counted(...names: readonly CounterName[]): number[] {
    return names.map(n => this.stats[n]);
  }
  /** The last thousand or so kernel events. */
  get events(): readonly StampedEvent[] {
    return this.stack.events.since(0);
  }
  /** The event stream's last report of a kind: "reason (section)". */
  told(what: string): string {
    const e = this.events.findLast(x => x.kind === 'protocol' && x.what === what);
    return e?.kind === 'protocol' ? `${e.reason} (${e.section ?? ''})` : '';
  }
  get associations(): ReturnType<SctpKext['associations']> {
    return this.kext.associations();
  }
  get state(): string {
    return this.associations.map(a => a.state).join(',');
  }
  /** Closes all sockets at once, with ABORTs. */
  closeAll(): void {
    for (const so of this.#sockets) {
      if (so.closed) continue;
      so.setsockopt(SOL_SOCKET, SO_LINGER, { onoff: true, linger: 0 });
      so.close();
    }
    this.#sockets.clear();
    this.settle();
  }
  /** Closes all sockets, aborts what is left, unloads SCTP. Returns the mbufs that leaked. */
  end(): number {
    this.closeAll();
    this.run(400 * SEC);
    const r = this.stack.kexts.unload(SCTP_KEXT);
    if (!r.ok) throw new Error(r.reason);
    this.stack.drain();
    const { small, cluster, jumbo } = this.stack.pool.inUse;
    return small + cluster + jumbo;
  }
}

function ipHeader(from: InAddr, to: InAddr, proto: number, n: number, tos: number): Uint8Array {
  const b = new Uint8Array(from.family === 6 ? 40 : 20);
  const dv = new DataView(b.buffer);
  if (from.family === 6) {
    dv.setUint32(0, 0x60000000 | (tos << 20));
    dv.setUint32(4, (n << 16) | (proto << 8) | 64);
    from.write(dv, 8);
    to.write(dv, 24);
    return b;
  }
  dv.setUint32(0, 0x45000000 | (tos << 16) | (20 + n));
  dv.setUint32(4, 0x4000); // do not fragment
  dv.setUint32(8, (64 << 24) | (proto << 16));
  from.write(dv, 12);
  to.write(dv, 16);
  dv.setUint16(10, finish(sumRange(dv, 0, 20)));
  return b;
}
function udpChecksum(from: InAddr, to: InAddr, udp: Uint8Array): void {
  const pseudo = join([new ByteWriter().address(from).address(to).u32(udp.length).u32(IPPROTO_UDP).take(), udp]);
  new DataView(udp.buffer, udp.byteOffset).setUint16(
    6,
    finish(sumRange(new DataView(pseudo.buffer), 0, pseudo.length)) || 0xffff,
  );
}

export { MSEC, SEC };
