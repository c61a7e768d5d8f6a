/**
 * For tests: the fuzzer of SCTP. Packets of every type, taken from a real exchange, are fitted to an association of the
 * stack under test (tag, ports, TSNs), mutated (bytes, lengths, order, repetition, cuts), given a right CRC32c again, and
 * injected, in every state an association can be in, while its user reads, writes and misuses the socket. The stack must
 * not throw, not run in circles, keep its invariants, keep its tables and queues bounded, send well-formed packets only,
 * and give every mbuf back. Everything follows from the seed.
 */

import { SeededRandom } from '../kern/clock.js';
import { SOCK_SEQPACKET, SOCK_STREAM } from '../kern/protosw.js';
import { MSG_PEEK, RecvInfo, type SendInfo, SHUT_RD, SHUT_WR, Socket } from '../kern/socket.js';
import { InAddr } from '../netinet/in.js';
import * as api from './api.js';
import type { Association } from './association.js';
import * as c from './constants.js';
import { ALL_EVENTS, drain, SctpPair, sendInfo } from './harness.js';
import { checkInvariants } from './invariants.js';
import * as f from './packets.fixture.js';
import type { Sctp } from './sctp.js';

/** States that packets are thrown at; NONE is a listener without an association. */
export const STATES = [
  'NONE',
  'COOKIE_WAIT',
  'COOKIE_ECHOED',
  'ESTABLISHED',
  'SHUTDOWN_PENDING',
  'SHUTDOWN_SENT',
  'SHUTDOWN_RECEIVED',
  'SHUTDOWN_ACK_SENT',
] as const;
export type FuzzState = (typeof STATES)[number];

class Dice {
  readonly #random: SeededRandom;
  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
  }
  u32(): number {
    return this.#random.u32();
  }
  /** 0 .. n-1. */
  below(n: number): number {
    return this.#random.u32() % n;
  }
  /** True once in n times. */
  once(n: number): boolean {
    return this.below(n) === 0;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

/** Chunk lists of packets: what two stacks have said to each other over lossy links, and types that they did not use. */
export function corpus(): Uint8Array[][] {
  const out: Uint8Array[][] = [];
  const seen = new Map<string, number>();
  const p = new SctpPair({ links: 2, seed: 7, loss: (_frame, n) => n > 20 && n % 9 === 0 });
  for (const link of p.links)
    link.onFrame = (_from, frame) => {
      const packet = f.decodePacket(frame.slice(34));
      const n = seen.get(packet.names) ?? 0;
      seen.set(packet.names, n + 1);
      if (n < 4) out.push(split(packet.bytes));
    };
  const [a, b, l] = p.connect();
  for (let i = 0; i < 30; i++) {
    a.send(new Uint8Array(10 + i * 97), 0, 10 + i * 97, sendInfo({ sid: i % 3 }));
    b.send(new Uint8Array(200));
    p.net.run(30e6);
    drain(a);
    drain(b);
  }
  p.net.run(40e9);
  a.shutdown(SHUT_WR);
  p.net.run(2e9);
  for (const so of [a, b, l]) so.close();
  if (p.end() !== 0) throw new Error('the exchange that the corpus is taken from leaks');
  const cause = (type: number, ...body: number[]) => f.param(type, body);
  out.push(
    [f.ecne(1), f.cwr(1), f.sack(1)],
    [f.abort()],
    [f.abort(c.T_BIT, cause(12, 65, 66, 67))],
    [f.error(cause(c.CAUSE_STALE_COOKIE, 0, 0, 1, 0)), f.cookieAck()],
    [f.error(cause(c.CAUSE_INVALID_STREAM, 0, 9, 0, 0), cause(c.CAUSE_UNRECOGNIZED_CHUNK, 0xc1, 0, 0, 4))],
    [f.shutdownComplete()],
    [f.shutdownComplete(c.T_BIT)],
    [f.shutdown(1)],
    [f.shutdownAck()],
    [f.chunk(0x3f, 0, f.u32(1))],
    [f.chunk(0x7f, 0, f.u32(1)), f.heartbeat()],
    [f.chunk(0xbf), f.chunk(0xff, 0, new Uint8Array(40))],
    [f.data({ tsn: 1, flags: 2 }), f.data({ tsn: 2, flags: 0 }), f.data({ tsn: 3, flags: 1 })],
    [f.data({ tsn: 1, flags: 7 }), f.data({ tsn: 3, sid: 3, ssn: 1 })],
    [f.data({ tsn: 1, payload: new Uint8Array(1400), flags: 2 })],
    [f.sack(1, 0, [[2, 3]], [1, 1])],
    [
      f.sack(1, 500_000, [
        [1, 1],
        [3, 9],
      ]),
    ],
    [f.init({ params: ['10.0.0.2', '10.0.7.7', 'fd00::7'].map(f.addressParam) })],
    [f.init({ params: [f.param(0xc123, [1, 2, 3]), f.param(c.PARAM_HOST_NAME, [65, 0])] })],
    [
      f.initAck({
        params: [f.param(c.PARAM_STATE_COOKIE, f.COOKIE), f.addressParam('10.0.0.3'), f.param(0x4001, [1])],
      }),
    ],
    [f.init({ tag: 0x77 })],
  );
  return out;
}

/** The chunks of a packet, each with its padding; what cannot be split stays in the last one. */
function split(packet: Uint8Array): Uint8Array[] {
  const dv = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const out: Uint8Array[] = [];
  for (let o = c.COMMON_HEADER; o + 4 <= packet.length; ) {
    const n = Math.max(4, c.pad4(dv.getUint16(o + 2)));
    out.push(packet.slice(o, o + n));
    o += n;
  }
  return out;
}

export interface FuzzResult {
  /** Packets injected, packets that came out, times that the state had to be brought about again. */
  readonly packets: number;
  readonly answers: number;
  readonly setups: number;
}

export class Fuzzer {
  readonly #dice: Dice;
  readonly #corpus: readonly (readonly Uint8Array[])[];
  readonly #state: FuzzState;
  readonly #w: f.WirePeer;
  readonly #s: Sctp;
  #sockets: Socket[] = [];
  #cookie: { tag: number; bytes: Uint8Array } | undefined;
  #answers = 0;
  #setups = 0;
  #last: Uint8Array<ArrayBufferLike> = new Uint8Array(0);
  /** Packets since the state was brought about: after so many it is done anew, whatever has become of it. */
  #age = 0;

  constructor(state: FuzzState, seed: number, packets: readonly (readonly Uint8Array[])[]) {
    this.#state = state;
    this.#dice = new Dice(seed);
    this.#corpus = packets;
    this.#w = new f.WirePeer({
      seed,
      more: ['10.0.1.1/24'],
      tunables: { udp_tunneling_port: 9899, abort_at_limit: seed & 1, secret_lifetime: 20 },
      pool: { small: 4096, cluster: 3072, jumbo: 16 },
    });
    this.#s = this.#w.kext.sctp!;
  }

  /** Injects so many packets; throws an Error that says how to get there again. */
  run(packets: number): FuzzResult {
    let n = 0;
    try {
      for (; n < packets; n++) this.#step(n);
      const left = this.#w.end();
      if (left !== 0) throw new Error(`${left} mbufs leaked`);
    } catch (e) {
      const hex = Buffer.from(this.#last).toString('hex');
      throw new Error(`state ${this.#state}, packet ${n}: ${(e as Error).message}\nlast packet: ${hex}`, { cause: e });
    }
    return { packets, answers: this.#answers, setups: this.#setups };
  }

  #step(n: number): void {
    const d = this.#dice;
    if (this.#left()) this.#setUp();
    this.#age++;
    this.#last = this.#make();
    const where: f.InjectFields = {
      ...(d.once(20) ? { from: d.pick(['10.0.0.3', '10.0.7.7', '127.0.0.1', '10.0.0.1', '255.255.255.255']) } : {}),
      ...(d.once(20) ? { to: '10.0.1.1' } : {}),
      ...(d.once(30) ? { udpSrc: 1 + d.below(3), udpDst: 9899 } : {}),
      ...(d.once(10) ? { tos: d.below(4) } : {}),
    };
    this.#w.injectPacket(this.#last, where);
    if (d.once(4)) return; // more of the same batch
    this.#w.settle();
    if (d.once(16)) this.#use();
    if (d.once(100)) this.#w.run(d.pick([1e6, 250e6, 3e9, 40e9]));
    for (const p of this.#w.take()) this.#look(p);
    if (n % 32 === 0) this.#check();
  }

  /** The association is no longer in the state, or has been there for long enough. */
  #left(): boolean {
    if (this.#sockets.length === 0 || this.#age > 400) return true;
    if (this.#state === 'NONE') return this.#s.associationCount > 20;
    for (const a of this.#s.associations()) if (a.state === this.#state) return false;
    return true;
  }

  #look(p: f.WirePacket): void {
    this.#answers++;
    const first = p.chunks[0];
    if (first?.type === c.INIT_ACK) this.#cookie = { tag: first.init!.tag, bytes: f.cookieOf(p) };
  }

  /** Brings an association into the state, with sockets of either style. */
  #setUp(): void {
    const w = this.#w;
    const d = this.#dice;
    this.#setups++;
    this.#age = 0;
    w.closeAll();
    // What a socket closed gracefully has left behind ends by an ABORT of the peer.
    for (const a of [...this.#s.associations()])
      w.inject(f.abort(), { tag: a.myTag, dst: a.localPort, src: a.peerPort, from: a.paths[0]!.addr.toString() });
    if (this.#s.associationCount + this.#s.endpoints.size > 0)
      throw new Error(
        `${this.#s.associationCount} associations, ${this.#s.endpoints.size} endpoints are left of the last round`,
      );
    w.take();
    const style = d.once(2) ? SOCK_STREAM : SOCK_SEQPACKET;
    const events = d.once(2) ? ALL_EVENTS : [];
    const state = this.#state;
    if (state === 'COOKIE_WAIT' || state === 'COOKIE_ECHOED') {
      const [so, i] = w.connecting(events, style);
      w.tag = i.chunks[0]!.init!.tag;
      if (d.once(2)) so.send(new Uint8Array(100), 0, 100, sendInfo(), w.at(w.peer, f.PEER_PORT));
      if (state === 'COOKIE_ECHOED') w.inject(f.initAck());
      this.#sockets = [so];
    } else {
      const l = w.listen(style, events);
      this.#sockets = [l];
      if (d.once(4)) l.setsockopt(api.SOL_SOCKET, api.SO_RCVBUF, 8192);
      if (state === 'NONE') return;
      const { initAck } = w.dial({ params: d.once(3) ? [f.addressParam('10.0.0.3')] : [] });
      w.tag = initAck.chunks[0]!.init!.tag;
      const so = style === SOCK_STREAM ? w.accept(l) : l;
      if (so !== l) this.#sockets.push(so);
      this.#advance(so, initAck.chunks[0]!.init!.tsn - 1);
    }
    w.take();
    for (const a of this.#s.associations()) if (a.state === state) return;
    throw new Error(`the state was not reached: ${w.state}`);
  }
  #advance(so: Socket, acked: number): void {
    const w = this.#w;
    const assocId = w.associations[0]!.assocId;
    const send = (n: number, flags = 0) => so.send(new Uint8Array(n), 0, n, sendInfo({ assocId, flags }));
    switch (this.#state) {
      case 'SHUTDOWN_PENDING':
        send(3000);
        send(0, api.SCTP_EOF);
        break;
      case 'SHUTDOWN_SENT':
        send(0, api.SCTP_EOF);
        break;
      case 'SHUTDOWN_RECEIVED':
        send(3000);
        w.settle();
        w.inject(f.shutdown(acked));
        break;
      case 'SHUTDOWN_ACK_SENT':
        w.inject(f.shutdown(acked));
        break;
      default:
        if (this.#dice.once(2)) send(5000);
    }
    w.settle();
  }

  /** A packet: from the corpus, fitted, mutated, with a good CRC32c nearly always. */
  #make(): Uint8Array {
    const d = this.#dice;
    const asocs = [...this.#s.associations()];
    const a = asocs.length > 0 ? d.pick(asocs) : undefined;
    let chunks: Uint8Array[] = d.pick(this.#corpus).map(x => x.slice());
    let tag = a?.myTag ?? d.u32();
    if (this.#cookie !== undefined && d.once(8)) {
      chunks = [f.cookieEcho(this.#cookie.bytes), ...(d.once(2) ? chunks : [])];
      tag = this.#cookie.tag as typeof tag;
    }
    if (a !== undefined) for (const x of chunks) fit(d, a, x);
    if (chunks[0]?.[0] === c.INIT && !d.once(10)) tag = 0 as typeof tag;
    if (!d.once(3)) this.#shuffle(chunks);
    const peerTag = a?.peerTag ?? 0;
    const head = {
      src: d.once(50) ? d.below(3) : f.PEER_PORT,
      dst: d.once(50) ? d.below(65536) : (a?.localPort ?? f.LOCAL_PORT),
      tag: d.once(20) ? d.pick([0, d.u32(), peerTag]) : tag,
    };
    const packet = f.packet(head, chunks);
    const bytes = d.once(4) ? packet : this.#bytes(packet);
    if (bytes.length >= 12 && !d.once(50)) f.repairCrc(bytes);
    return bytes;
  }

  /** Changes of whole chunks: order, repetition, others in between, wrong lengths and types. */
  #shuffle(chunks: Uint8Array[]): void {
    const d = this.#dice;
    for (let i = d.below(3); i > 0 && chunks.length > 0; i--) {
      const at = d.below(chunks.length);
      switch (d.below(7)) {
        case 0:
          chunks.splice(at, 1, ...chunks.splice(d.below(chunks.length), 1, chunks[at]!));
          break;
        case 1:
          for (let k = 1 + d.below(d.once(10) ? 60 : 3); k > 0 && chunks.length < 80; k--)
            chunks.splice(at, 0, chunks[at]!);
          break;
        case 2:
          chunks.splice(at, 0, ...d.pick(this.#corpus).map(x => x.slice()));
          break;
        case 3:
          chunks.splice(at, 1);
          break;
        case 4:
          chunks[at]![0] = d.once(2) ? d.below(16) : d.below(256);
          break;
        case 5:
          chunks[at]![1] = d.below(256);
          break;
        default: {
          const dv = new DataView(chunks[at]!.buffer, chunks[at]!.byteOffset);
          const n = dv.getUint16(2);
          dv.setUint16(2, d.pick([0, 1, 3, 4, 8, 16, 20, n - 1, n + 1, n + 4, n - 4, d.below(65536)]) & 0xffff);
        }
      }
    }
  }
  /** Changes of bytes behind the common header; cuts and additions. */
  #bytes(packet: Uint8Array): Uint8Array {
    const d = this.#dice;
    const n = packet.length - c.COMMON_HEADER;
    if (n <= 0) return packet;
    for (let i = 1 + d.below(4); i > 0; i--) {
      const at = c.COMMON_HEADER + (d.once(2) ? d.below(n) : d.below(Math.min(n, 32)));
      packet[at] = d.pick([0, 0xff, 0x80, packet[at]! ^ (1 << d.below(8)), d.below(256)]);
    }
    if (d.once(12)) return packet.slice(0, d.below(packet.length + 1));
    if (d.once(12)) return f.join([packet, new Uint8Array(d.below(40)).fill(d.below(256))]);
    return packet;
  }

  /** What a user does, and what one should not do. */
  #use(): void {
    const d = this.#dice;
    const so = d.pick(this.#sockets);
    switch (d.below(8)) {
      case 0:
      case 1: {
        if (so.closed) break;
        drain(so);
        break;
      }
      case 2: {
        const n = d.pick([0, 1, 100, 1452, 5000, 100_000, -1, 0.5]);
        const info: SendInfo = sendInfo({
          sid: d.pick([0, 1, 9, 10, -1]),
          flags: d.once(20) ? d.u32() : d.pick([0, 0x400, 0x4000]),
          assocId: d.below(6),
          ppid: d.u32(),
        });
        so.send(new Uint8Array(100_000), 0, n, info, d.once(3) ? this.#w.at(this.#w.peer, d.below(65536)) : undefined);
        break;
      }
      case 3:
        this.#option(so);
        break;
      case 4:
        so.recv(new Uint8Array(64), d.below(70), d.below(70), new RecvInfo(), d.once(2) ? MSG_PEEK : 0);
        break;
      case 5:
        if (d.once(6)) so.shutdown(d.pick([SHUT_RD, SHUT_WR, 2, 7]));
        break;
      case 6: {
        const child = so.accept();
        if (child instanceof Socket) this.#sockets.push(this.#w.adopt(child));
        break;
      }
      default:
        if (d.once(6)) so.close();
        else if (d.once(4)) so.connect(this.#w.at(d.pick([this.#w.peer, '10.0.0.3']), d.pick([0, 7000, 7001])));
        else so.listen(d.below(3));
    }
    this.#sockets = this.#sockets.filter(x => !x.closed);
    this.#w.settle();
  }
  #option(so: Socket): void {
    const d = this.#dice;
    const name = d.pick(OPTIONS);
    const junk = (): unknown =>
      d.pick([
        undefined,
        null,
        0,
        1,
        -1,
        1.5,
        Number.NaN,
        2 ** 40,
        'x',
        [],
        {},
        true,
        d.u32(),
        { addr: InAddr.of('10.0.0.2'), port: 7000 },
      ]);
    const value = d.once(3)
      ? junk()
      : {
          assocId: d.below(6),
          value: junk(),
          delay: d.below(600),
          freq: d.below(4),
          port: d.below(70_000),
          flags: d.below(0x400),
          hbInterval: d.below(5000),
          pathMtu: d.pick([0, 511, 512, 1400, 9000]),
          address: junk(),
          initial: junk(),
          type: junk(),
          on: junk(),
          reason: junk(),
        };
    so.setsockopt(d.once(8) ? api.SOL_SOCKET : 132, name, value);
    const got = so.getsockopt(d.once(8) ? api.SOL_SOCKET : 132, d.pick(OPTIONS), d.once(2) ? value : junk());
    if (got instanceof Socket) got.close(); // SCTP_PEELOFF makes one
  }

  #check(): void {
    const s = this.#s;
    checkInvariants(s);
    const { small, cluster, jumbo } = this.#w.stack.pool.inUse;
    if (s.associationCount > 200) throw new Error(`${s.associationCount} associations`);
    if (s.endpoints.size > 200) throw new Error(`${s.endpoints.size} endpoints`);
    if (small > 4000 || cluster > 3000 || jumbo > 15) throw new Error(`${small}, ${cluster}, ${jumbo} mbufs in use`);
    for (const a of s.associations()) {
      if (a.control.length > 64 || a.paths.length > 200 || a.dups.length > 64)
        throw new Error(`queues: ${a.control.length} control chunks, ${a.paths.length} paths, ${a.dups.length} dups`);
      for (const p of a.paths)
        if (!Number.isFinite(p.rto) || !(p.cwnd > 0) || !Number.isFinite(p.srtt))
          throw new Error(`path: rto ${p.rto}, cwnd ${p.cwnd}, srtt ${p.srtt}`);
    }
  }
}

const OPTIONS = [
  ...Object.entries(api)
    .filter(([k, v]) => /^SCTP_/.test(k) && typeof v === 'number')
    .map(([, v]) => v as number),
  api.SO_LINGER,
  api.SO_RCVBUF,
  api.SO_SNDBUF,
];

/** Puts numbers into a chunk that mean something to the association: TSNs near the next one, acknowledgements likewise. */
function fit(d: Dice, a: Association, x: Uint8Array): void {
  if (x.length < 8) return;
  const dv = new DataView(x.buffer, x.byteOffset, x.length);
  const near = () => d.pick([0, 0, 0, 1, 2, -1, 5, 100, 4095, 4096, 0x7fffffff]);
  switch (x[0]) {
    case c.DATA:
      dv.setInt32(4, (a.cumTsn + 1 + near()) | 0);
      if (x.length >= 12) {
        const sid = d.once(8) ? d.below(65536) : d.below(3);
        dv.setUint16(8, sid);
        dv.setUint16(10, ((a.inStreams[sid]?.nextSsn ?? 0) + (d.once(3) ? d.below(3) : 0)) & 0xffff);
      }
      break;
    case c.SACK:
    case c.SHUTDOWN:
      dv.setInt32(4, (d.once(2) ? a.cumAcked : (a.nextTsn - 1) | 0) + (d.once(6) ? near() : 0));
      break;
    case c.ECNE:
    case c.CWR:
      dv.setInt32(4, (a.nextTsn - 1 - near()) | 0);
      break;
    case c.HEARTBEAT_ACK: {
      if (x.length >= 16 && d.once(4)) dv.setFloat64(8, d.pick([Number.NaN, Number.POSITIVE_INFINITY, -1, 1e300]));
      const p = a.paths.find(q => q.hbNonce1 !== 0);
      if (p !== undefined && x.length >= 24 && d.once(2)) {
        dv.setUint32(16, p.hbNonce0);
        dv.setUint32(20, p.hbNonce1);
        if (x.length >= 40) dv.setInt32(36, p.addr.w3);
      }
      break;
    }
  }
}
