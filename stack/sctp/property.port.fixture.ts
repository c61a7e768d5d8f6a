/**
 * Property runs: a socket and what its user sees. One end of an association, the association, and the socket it is on now: a
 * one-to-one listener, a one-to-many socket with several (hub), or a one-to-one socket of its own.
 */

import assert from 'node:assert/strict';
import { EAGAIN, ENOENT, errnoName } from '../kern/errno.js';
import { SOCK_SEQPACKET, SOCK_STREAM } from '../kern/protosw.js';
import { MSG_EOR, MSG_NOTIFICATION, MSG_PEEK, type NextInfo, RecvInfo, type Socket } from '../kern/socket.js';
import { IPPROTO_SCTP } from '../netinet/in.js';
import * as api from './api.js';
import { at, check } from './harness.js';
import * as lib from './library.js';
import type { App } from './property.app.fixture.js';
import { BROADCAST, connOf, Flow, MESSAGE_LIMIT, type Message } from './property.flow.fixture.js';
import { HOSTS, type Side, type World } from './property.world.fixture.js';

const EXTRA_EVENTS: readonly api.NotificationType[] = [
  'peer-addr-change',
  'remote-error',
  'send-failed',
  'shutdown',
  'partial-delivery',
  'sender-dry',
];

/** One end of an association, as its user knows it. */
export class End {
  readonly conn: Conn;
  readonly host: Side;
  readonly localPort: number;
  readonly peerPort: number;
  /** What this end sends. */
  readonly out: Flow;
  /** The socket it is on now. */
  port: Port | undefined;
  id = 0;
  up = false;
  ended = false;
  /** Set up a second time: what the peer had not heard of as delivered comes again. */
  again = false;
  constructor(conn: Conn, host: Side, localPort: number, peerPort: number, messages: number) {
    this.conn = conn;
    this.host = host;
    this.localPort = localPort;
    this.peerPort = peerPort;
    this.out = new Flow(messages);
  }
  get peer(): End {
    return this.conn.ends[this.host === 0 ? 1 : 0];
  }
}

/** One association, from the first call to the last sign of it. */
export class Conn {
  readonly number: number;
  readonly ends: readonly [End, End];
  readonly by: Side;
  readonly sizeMax: number;
  /** Steps of its user's life; only then does it end. */
  age = 0;
  ending = false;
  spoilt = false;
  /** An end of it closes by itself when idle (SCTP_AUTOCLOSE). */
  autoclose = false;
  /** The one that takes its place under the same ports, after a crash. */
  next: Conn | undefined;
  constructor(world: World, number: number, by: Side, ports: readonly [number, number]) {
    const d = world.dice;
    this.number = number;
    this.by = by;
    this.sizeMax = world.heavy
      ? d.pick([1, 100, 1400, 3000, MESSAGE_LIMIT])
      : d.pick([1, 60, 60, 200, 200, 1400, 3000]);
    const most = world.heavy ? d.pick([1, 10, 40]) : d.pick([0, 1, 1, 2, 3, 6]);
    this.ends = [
      new End(this, 0, ports[0], ports[1], most === 0 ? 0 : d.below(most + 1)),
      new End(this, 1, ports[1], ports[0], most === 0 ? 0 : d.below(most + 1)),
    ];
  }
  /** It is being broken off: nothing has to arrive any more. */
  spoil(): void {
    this.spoilt = true;
    for (const e of this.ends) e.out.spoil();
  }
  get missing(): number {
    return this.ends[0].out.missing + this.ends[1].out.missing;
  }
  get left(): number {
    return this.ends[0].out.left + this.ends[1].out.left;
  }
}

type Kind = 'listener' | 'hub' | 'one';
const SCRATCH = new Uint8Array(65536);
const PEEKED = new Uint8Array(256);

/** A socket and its user: a one-to-one listener, a one-to-many socket (hub), or a one-to-one socket of one end. */
export class Port {
  readonly app: App;
  readonly host: Side;
  readonly kind: Kind;
  readonly so: Socket;
  readonly level: number;
  readonly eor: boolean;
  readonly autoclose: number;
  number = 0;
  /** Of a hub, by association. */
  readonly ends = new Map<number, End>();
  /** Of a one-to-one socket. */
  end: End | undefined;
  #learnt = 2;
  #info = new RecvInfo();
  #next: NextInfo | undefined;
  /** Messages that have come in part: at level 0 and 1 what may not be interrupted. */
  readonly #partial = new Map<End, Message>();
  ready = true;
  readonly eager: boolean;

  constructor(app: App, host: Side, kind: Kind, so: Socket, like?: Port) {
    const d = app.world.dice;
    this.app = app;
    this.host = host;
    this.kind = kind;
    this.eager = d.chance(0.3);
    this.so = so;
    this.level = like?.level ?? d.below(3);
    this.eor = like?.eor ?? d.chance(0.2);
    this.autoclose = like?.autoclose ?? (kind === 'hub' && d.chance(0.15) ? 1 + d.below(3) : 0);
  }
  /** A new socket with options by chance. */
  static make(app: App, host: Side, kind: Kind, port = 0): Port {
    const { world } = app;
    const d = world.dice;
    const events = EXTRA_EVENTS.filter(() => d.chance(0.15));
    const type = kind === 'hub' ? SOCK_SEQPACKET : SOCK_STREAM;
    const so = world.pair.socket(HOSTS[host], type, ['assoc-change', ...events]);
    const p = new Port(app, host, kind, so);
    p.number = port;
    const set = (name: number, value: unknown) => check(so.setsockopt(IPPROTO_SCTP, name, value));
    set(api.SCTP_FRAGMENT_INTERLEAVE, p.level);
    set(api.SCTP_EXPLICIT_EOR, Number(p.eor));
    if (p.autoclose > 0) set(api.SCTP_AUTOCLOSE, p.autoclose);
    if (d.chance(0.2)) set(api.SCTP_PARTIAL_DELIVERY_POINT, 1 + d.below(3000));
    if (d.chance(0.2)) set(api.SCTP_RECVNXTINFO, 1);
    if (d.chance(0.2)) set(api.SCTP_RECVRCVINFO, 1);
    if (d.chance(0.2)) set(api.SCTP_NODELAY, 1);
    if (d.chance(0.1)) set(api.SCTP_MAXSEG, { assocId: 0, value: d.pick([40, 500, 1200]) });
    if (d.chance(0.1)) set(api.SCTP_DELAYED_SACK, { assocId: 0, delay: d.pick([0, 50, 500]), freq: 1 + d.below(3) });
    if (d.chance(0.1)) set(api.SCTP_MAX_BURST, { assocId: 0, value: d.pick([0, 1, 20]) });
    if (port !== 0) {
      const any = world.pair.family === 4 ? '0.0.0.0' : '::';
      if (d.chance(0.3)) {
        const all = world.pair.links.map((_, i) => at(world.pair.addr(HOSTS[host], i), port));
        check(lib.sctp_bindx(so, all, api.SCTP_BINDX_ADD_ADDR));
      } else check(so.bind(at(any, port)));
      check(so.listen(1 + d.below(5)));
    }
    return p.watch();
  }
  /** One that came out of accept or sctp_peeloff: its options are those of the socket it came from. */
  static heir(from: Port, so: Socket): Port {
    const p = new Port(from.app, from.host, 'one', so, from);
    p.number = from.number; // an accepted socket has its listener's port, one that was peeled off its hub's
    return p.watch();
  }
  /** From now on its upcalls are heard. */
  watch(): this {
    this.app.ports.add(this);
    this.so.upcall = () => {
      this.ready = true;
      if (this.kind === 'hub') this.#learn();
      if (this.eager && this.kind !== 'listener') this.receive();
    };
    return this;
  }
  close(): void {
    this.app.ports.delete(this);
    this.ready = false;
    if (!this.so.closed) this.so.close();
  }

  /** A hub's associations, while the protocol can still tell whose they are. */
  #learn(): void {
    const ids = this.so.getsockopt(IPPROTO_SCTP, api.SCTP_GET_ASSOC_ID_LIST) as number[];
    for (const id of ids) {
      if (id <= this.#learnt) continue;
      const addrs = lib.sctp_getpaddrs(this.so, id);
      assert.ok(typeof addrs !== 'number' && addrs.length > 0, `getpaddrs of ${id} gave ${addrs}`);
      const e = this.app.find(this.host, this.number, addrs[0]!.port);
      if (e !== undefined) this.adopt(e, id);
    }
    for (const id of ids) if (id > this.#learnt) this.#learnt = id;
  }
  /** An end is on this socket from now on. */
  adopt(e: End, id: number): void {
    if (
      e.ended ||
      (e.port !== undefined && (this.kind === 'hub' ? e.id !== id : e.port.kind === 'one' && e.port !== this))
    ) {
      // It was broken off here and the peer has not heard: its cookie, or the next INIT, has set it up again (§5.1.6).
      assert.ok(e.conn.spoilt, `association ${e.conn.number} came up again`);
      e.again = true;
    }
    if (this.autoclose > 0) e.conn.autoclose = true;
    if (this.kind === 'hub') this.ends.set(id, e);
    else this.end = e;
    e.port = this;
    e.id = id;
  }

  /** Reads what is there, some of it at times. */
  receive(limit = 100): void {
    const d = this.app.world.dice;
    this.ready = false;
    if (this.kind === 'listener') {
      this.#accept();
      return;
    }
    const info = this.#info;
    for (let i = 0; i < limit; i++) {
      if (this.so.closed) return;
      const size = d.chance(0.9) ? 8192 : 1 + d.below(300);
      if (d.chance(0.02)) this.#peek();
      const n = this.so.recv(SCRATCH, 0, size, info);
      if (n === -EAGAIN) return;
      if ((info.msgFlags & MSG_NOTIFICATION) !== 0) {
        this.#next = info.next;
        if ((info.msgFlags & MSG_EOR) !== 0) this.#note(info.notification as api.Notification);
      } else if (n <= 0) {
        this.#finished(n);
        return;
      } else this.#data(n, info);
    }
    this.ready = true;
  }
  #peek(): void {
    const info = new RecvInfo();
    const n = this.so.recv(PEEKED, 0, PEEKED.length, info, MSG_PEEK);
    if (n <= 0 || (info.msgFlags & MSG_NOTIFICATION) !== 0) return;
    const bytes = Flow.bytes(info.ppid, 0, MESSAGE_LIMIT);
    assert.ok(n > 0 && bytes.indexOf(PEEKED.subarray(0, Math.min(n, 200))) >= 0, 'what was peeked at was never sent');
  }
  #accept(): void {
    for (;;) {
      const so = this.so.accept();
      if (typeof so === 'number') {
        assert.equal(so, -EAGAIN);
        return;
      }
      const p = Port.heir(this, so);
      const peer = so.peeraddr();
      // Ended before it was accepted: the first message will tell whose it is.
      if (typeof peer === 'number') {
        p.receive();
        continue;
      }
      const e = this.app.find(this.host, this.number, peer.port);
      if (e === undefined) {
        // A late cookie of one that was broken off (§5.1.5): the peer will tell.
        const was = this.app.brokenOff(this.host, this.number, peer.port);
        assert.ok(was, `accepted an association with port ${peer.port} that nobody set up`);
        continue;
      }
      p.adopt(e, 0);
      e.up = true;
    }
  }

  #data(n: number, info: RecvInfo): void {
    const broadcast = connOf(info.ppid) >= BROADCAST;
    let e = this.kind === 'hub' ? this.ends.get(info.assocId) : this.end;
    if (!broadcast && (e === undefined || e.conn.number !== connOf(info.ppid))) {
      const c = this.app.byNumber(connOf(info.ppid));
      const real = c?.ends[this.host];
      assert.ok(real !== undefined, `message ${info.ppid} is of no association`);
      // It is the one we know, or one that was broken off and whose ports another has now.
      const same =
        e === undefined || (real.localPort === e.localPort && real.peerPort === e.peerPort && real.conn.spoilt);
      assert.ok(same, `message of ${real.conn.number} came to ${e?.conn.number}`);
      if (e === undefined) this.adopt(real, info.assocId);
      e = real;
    }
    if (e === undefined && info.from !== undefined) {
      // The socket was accepted for one that was broken off, and the next between these ports has restarted it.
      const next = this.app.find(this.host, this.number, info.from.port);
      if (next?.port === undefined && next?.peer.out.waiting.has(info.ppid)) {
        this.adopt(next, info.assocId);
        e = next;
      }
    }
    // To all of a socket's associations, and this one had ended before it was accepted.
    e ??= this.app.unclaimed(this.host, info.ppid);
    if (e === undefined) {
      this.app.world.trace?.(`${this.name} got ${n} of ${info.ppid} on ${info.sid}, of no association that we know`);
      return;
    }
    // To one that was broken off and whose ports this one has now.
    if (broadcast && !e.peer.out.waiting.has(info.ppid) && this.app.brokenOff(e.host, e.localPort, e.peerPort)) return;
    e.up = true;
    if (e.again) return;
    if (info.from !== undefined && e.conn.next === undefined)
      assert.equal(info.from.port, e.peerPort, 'port of the sender');
    const unordered = (info.flags & api.SCTP_UNORDERED) !== 0;
    const eor = (info.msgFlags & MSG_EOR) !== 0;
    if (e.conn.autoclose) this.app.mayBreak(e.conn);
    const m = e.peer.out.arrived(info.ppid, info.sid, unordered, info.ssn, SCRATCH, n, eor);
    this.#uninterrupted(e, m, eor);
    const next = this.#next;
    if (next !== undefined && (next.flags & api.SCTP_NOTIFICATION) === 0) {
      assert.equal(next.ppid, info.ppid, 'the message that SCTP_NXTINFO told of');
      if ((next.flags & api.SCTP_COMPLETE) !== 0) assert.ok(n <= next.length, 'its length');
    }
    this.#next = eor ? info.next : undefined;
    this.app.world.trace?.(`${this.name} got ${n} of ${info.ppid} on ${info.sid}${eor ? '' : ', more to come'}`);
  }
  /** Fragment interleave (RFC 6458 §8.1.20): nothing at level 0, other associations at 1, other streams at 2. */
  #uninterrupted(e: End, m: Message, eor: boolean): void {
    // What waited for another's message when its association ended can wait no longer.
    const gone = this.kind === 'hub' && lib.sctp_getpaddrs(this.so, e.id) === -ENOENT;
    for (const [other, begun] of this.#partial) {
      if (begun === m || begun.maybe || gone) continue;
      if (this.level === 2) assert.ok(other !== e || begun.sid !== m.sid, 'level 2: into a message of the same stream');
      else assert.ok(this.level === 1 && other !== e, `level ${this.level}: message ${m.ppid} came into ${begun.ppid}`);
    }
    if (eor) {
      if (this.#partial.get(e) === m) this.#partial.delete(e);
    } else if (this.#partial.get(e) === undefined || this.level < 2) this.#partial.set(e, m);
  }
  /** The parts of messages under way go on on another socket. */
  moveParts(e: End, to: Port): void {
    this.#next = undefined;
    const m = this.#partial.get(e);
    if (m !== undefined) to.#partial.set(e, m);
    this.#partial.delete(e);
  }

  #note(n: api.Notification): void {
    this.app.notes++;
    this.app.world.trace?.(`${this.name} ${n.type} ${'state' in n ? n.state : ''} ${n.assocId}`);
    if (n.type !== 'assoc-change') return;
    const e = this.kind === 'hub' ? this.ends.get(n.assocId) : this.end;
    if (n.state === 'comm-up') {
      if (e !== undefined) e.up = true;
      return;
    }
    if (n.state === 'restart') {
      this.#restarted(e, n.assocId);
      return;
    }
    if (e === undefined) return;
    if (this.kind === 'hub') this.#over(e, n.state === 'shutdown-comp', `${n.state}: ${n.reason.text}`);
    else if (n.state !== 'shutdown-comp')
      assert.ok(this.app.mayBreak(e.conn), `association ${e.conn.number} ${n.state}: ${n.reason.text}`);
    if (this.kind === 'hub') this.ends.delete(n.assocId);
  }
  #restarted(e: End | undefined, id: number): void {
    if (e === undefined) {
      // What it takes the place of came out of a late cookie: nobody here knew it.
      const addrs = lib.sctp_getpaddrs(this.so, id);
      const now = typeof addrs === 'number' ? undefined : this.app.find(this.host, this.number, addrs[0]!.port);
      if (now !== undefined && this.kind === 'hub') this.adopt(now, id);
      return;
    }
    const successor = e.conn.next?.ends[this.host] ?? this.app.find(this.host, e.localPort, e.peerPort);
    assert.ok(successor !== undefined, 'a restart that nobody caused');
    this.#partial.delete(e);
    if (successor === e) {
      // What we took for it was the one before it, whose cookie came late: what was sent on that is lost.
      assert.ok(this.app.brokenOff(this.host, e.localPort, e.peerPort), 'a restart that nobody caused');
      e.out.forget();
      return;
    }
    e.ended = true;
    e.port = undefined;
    this.adopt(successor, id);
    successor.up = true;
  }
  /** One-to-one: reading has come to the end, or failed. */
  #finished(n: number): void {
    const e = this.end;
    this.app.world.trace?.(`${this.name} end ${n === 0 ? '' : errnoName(-n)}`);
    if (e !== undefined) {
      e.port = undefined;
      this.#over(e, n === 0, `${errnoName(-n)} ${this.so.errorReason}`);
    }
    this.close();
  }
  #over(e: End, graceful: boolean, why: string): void {
    e.ended = true;
    e.out.left = 0;
    const c = e.conn;
    if (c.spoilt || (!graceful && this.app.mayBreak(c))) {
      c.ending = true;
      return;
    }
    assert.ok(graceful, `association ${c.number} was lost: ${why}`);
    assert.ok(
      c.ending || this.autoclose > 0 || e.peer.port?.autoclose !== 0,
      `association ${c.number} ended by itself`,
    );
    assert.equal(
      e.peer.out.missing,
      0,
      `the end of association ${c.number} came before ${e.peer.out.missing} messages`,
    );
    c.ending = true;
  }
  get name(): string {
    const e = this.end;
    return `${HOSTS[this.host]} ${this.kind}${this.number === 0 ? '' : ` ${this.number}`}${e === undefined ? '' : ` of ${e.conn.number}`}`;
  }
}
