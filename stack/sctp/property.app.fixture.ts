/**
 * Property runs: the users. What they do by chance with the sockets of both hosts: every way to set up, to send, to peel off
 * and to end that RFC 6458 has (§3, §4, §9). What they see is checked by property.port.fixture.ts as it comes.
 */

import assert from 'node:assert/strict';
import { EAGAIN, EINVAL, ENOBUFS, ENOENT, errnoName } from '../kern/errno.js';
import { SHUT_WR, SO_LINGER, SO_SNDBUF, SOL_SOCKET, type SockAddr, Socket } from '../kern/socket.js';
import { IPPROTO_SCTP } from '../netinet/in.js';
import * as api from './api.js';
import { at, check, sendInfo } from './harness.js';
import * as lib from './library.js';
import { BROADCAST, Flow, type Message, ppidOf } from './property.flow.fixture.js';
import { Conn, type End, Port } from './property.port.fixture.js';
import { HOSTS, type Side, type World } from './property.world.fixture.js';

const STREAMS = 5;
/** Messages to all of a socket's associations have a stream of their own: nothing open is ever on it. */
const BROADCAST_SID = 7;
const JUNK = new Uint8Array(16);

/** All users of both hosts. */
export class App {
  readonly world: World;
  readonly ports = new Set<Port>();
  readonly conns: Conn[] = [];
  readonly live = new Set<Conn>();
  readonly fixed: [Port[], Port[]] = [[], []];
  notes = 0;
  #broadcasts = 0;

  constructor(world: World) {
    this.world = world;
    this.listen(0);
    this.listen(1);
  }
  /** A host's own sockets: two listeners and two hubs. */
  listen(host: Side): void {
    this.fixed[host] = [
      Port.make(this, host, 'listener', 5000),
      Port.make(this, host, 'listener', 5001),
      Port.make(this, host, 'hub', 6000),
      Port.make(this, host, 'hub', 6001),
    ];
  }
  /**
   * ABORT is no surprise: after an abortive call, in the middle of a message that autoclose has cut off (explicit EOR), or
   * when both ends are about to go: a packet that SHUTDOWN COMPLETE has overtaken is out of the blue then (RFC 9260 §8.4).
   * What was due must have come all the same.
   */
  mayBreak(c: Conn): boolean {
    if (c.autoclose && c.ends.some(e => e.out.open !== undefined)) c.spoil();
    return c.spoilt || c.ending || c.autoclose;
  }
  /** True when an association of these ports was broken off at some time. */
  brokenOff(host: Side, localPort: number, peerPort: number): boolean {
    return this.conns.some(c => {
      const x = c.ends[host];
      return c.spoilt && x.localPort === localPort && x.peerPort === peerPort;
    });
  }
  /** The end of an association that was never accepted, for which a message of SCTP_SENDALL is under way. */
  unclaimed(host: Side, ppid: number): End | undefined {
    for (const c of this.live) {
      const e = c.ends[host];
      if (c.ending && e.port === undefined && !e.up && e.peer.out.waiting.has(ppid)) return e;
    }
    return undefined;
  }
  byNumber(n: number): Conn | undefined {
    return this.conns[n];
  }
  /** The end of the newest association of these ports. */
  find(host: Side, localPort: number, peerPort: number): End | undefined {
    let found: End | undefined;
    for (const c of this.live) {
      const e = c.ends[host];
      if (e.localPort === localPort && e.peerPort === peerPort) found = e;
    }
    return found;
  }

  /** Begins an association by chance. False: there is no free pair of ports just now. */
  open(): boolean {
    const d = this.world.dice;
    const by = d.below(2) as Side;
    const other = (1 - by) as Side;
    const target = d.pick(this.fixed[other]);
    const hub = d.chance(0.5) ? d.pick(this.fixed[by].slice(2)) : undefined;
    if (hub !== undefined) {
      if (this.find(by, hub.number, target.number) !== undefined) return false;
      // One out of a late cookie may still be there.
      if (this.addresses(other, target.number).some(x => lib.sctp_getassocid(hub.so, x) !== 0)) return false;
    }
    this.connect(by, hub, target.number);
    return true;
  }
  /** `from`: a hub, or none for a new one-to-one socket, on a port of its own or the given one. */
  connect(by: Side, from: Port | undefined, targetPort: number, ownPort = 0): Conn {
    const { world } = this;
    const d = world.dice;
    const number = this.conns.length;
    const to = this.addresses((1 - by) as Side, targetPort);
    const p = from ?? Port.make(this, by, 'one');
    if (from === undefined) {
      check(p.so.bind(at(world.pair.family === 4 ? '0.0.0.0' : '::', ownPort)));
      const name = p.so.sockaddr();
      assert.ok(typeof name === 'object');
      p.number = name.port;
    }
    const ports = by === 0 ? ([p.number, targetPort] as const) : ([targetPort, p.number] as const);
    const c = new Conn(world, number, by, ports);
    this.conns.push(c);
    this.live.add(c);
    const e = c.ends[by];
    world.trace?.(`open ${number}: ${HOSTS[by]} ${p.kind} ${p.number} to ${targetPort}`);
    if (p.kind === 'one') {
      p.adopt(e, 0);
      const n = d.chance(0.5) ? p.so.connect(to[0]!) : lib.sctp_connectx(p.so, to);
      assert.ok(n === -36 || n > 0, `connect: ${n}`);
    } else if (e.out.left === 0 || d.chance(0.4))
      p.adopt(e, check(lib.sctp_connectx(p.so, d.chance(0.5) ? to : [to[0]!])));
    else this.#implicit(p, e, to);
    // Both ends may begin at once (§5.2.1).
    const t = this.fixed[1 - by]!.find(x => x.number === targetPort);
    if (p.kind === 'hub' && t?.kind === 'hub' && d.chance(0.3)) {
      const id = lib.sctp_connectx(t.so, this.addresses(by, p.number));
      if (id > 0) t.adopt(c.ends[1 - by]!, id);
    }
    return c;
  }
  /** The first message sets the association up (RFC 6458 §3.2). */
  #implicit(p: Port, e: End, to: SockAddr[]): void {
    const d = this.world.dice;
    const m = this.#compose(e, p);
    const data = Flow.bytes(m.ppid, 0, m.size);
    const info = this.#info(m, 0);
    if (p.eor) info.flags |= api.SCTP_EOR;
    const way = d.below(3);
    const n =
      way === 0
        ? p.so.send(data, 0, m.size, info, to[0])
        : way === 1
          ? lib.sctp_sendv(p.so, [data.subarray(0, 1), data.subarray(1)], to, { type: lib.SCTP_SENDV_SNDINFO, info })
          : lib.sctp_sendx(p.so, data, to, info);
    const id = lib.sctp_getassocid(p.so, to[0]!);
    assert.ok(id > 0, `no association after a message to a new peer, which gave ${n}`);
    p.adopt(e, id);
    this.#took(e, m, n);
  }
  addresses(host: Side, port: number): SockAddr[] {
    return this.world.pair.links.map((_, i) => at(this.world.pair.addr(HOSTS[host], i), port));
  }

  #compose(e: End, p: Port): Message {
    const d = this.world.dice;
    const size = Math.min(1 + d.below(e.conn.sizeMax), (p.so.getsockopt(SOL_SOCKET, SO_SNDBUF) as number) >> 1);
    return {
      ppid: ppidOf(e.conn.number, e.out.number),
      sid: d.below(STREAMS),
      unordered: d.chance(0.3),
      size,
      taken: 0,
      got: 0,
      maybe: false,
    };
  }
  #info(m: Message, id: number) {
    const d = this.world.dice;
    const flags = (m.unordered ? api.SCTP_UNORDERED : 0) | (d.chance(0.05) ? api.SCTP_SACK_IMMEDIATELY : 0);
    return sendInfo({ sid: m.sid, ppid: m.ppid, flags, assocId: id });
  }
  /** What a call that sends has given; false when it is no use to try again now. */
  #took(e: End, m: Message, n: number): boolean {
    this.world.trace?.(`${HOSTS[e.host]} sends ${m.ppid} (${m.size}) on ${m.sid}${m.unordered ? ' u' : ''}: ${n}`);
    if (n >= 0) {
      m.taken += n;
      if (e.out.open !== m && n > 0) {
        e.out.number++;
        e.out.left--;
        e.out.sent(m);
      }
      return true;
    }
    if (n === -EAGAIN || n === -ENOBUFS) return false;
    // Over: here, or at the peer.
    const c = e.conn;
    const over =
      c.spoilt || c.ending || c.next !== undefined || e.port?.autoclose !== 0 || e.peer.port?.autoclose !== 0;
    assert.ok(over, `send gave ${errnoName(-n)}: ${e.port?.so.errorReason}`);
    e.out.left = 0;
    return false;
  }

  /** Some messages of an end, as many as go and chance has it. */
  send(e: End): void {
    const d = this.world.dice;
    const p = e.port;
    if (p === undefined || e.ended || (p.kind === 'hub' && e.id === 0)) return;
    if (e.out.open !== undefined && !this.#goOn(e, p, e.out.open)) return;
    while (e.out.left > 0 && !d.chance(0.1)) {
      const m = this.#compose(e, p);
      if (p.eor && d.chance(0.5)) {
        if (!this.#goOn(e, p, m)) return;
        continue;
      }
      const n = this.#sendWhole(e, p, m);
      if (!this.#took(e, m, n)) return;
      assert.ok(n === m.size || p.eor, `${n} of ${m.size} bytes were taken`);
      if (n < m.size) {
        e.out.open = m; // explicit EOR: what there was room for
        return;
      }
    }
  }
  #sendWhole(e: End, p: Port, m: Message): number {
    const d = this.world.dice;
    const data = Flow.bytes(m.ppid, 0, m.size);
    const info = this.#info(m, e.id);
    let to: SockAddr | undefined;
    if (e.up && d.chance(0.1)) {
      const peers = lib.sctp_getpaddrs(p.so, e.id);
      if (typeof peers !== 'number') to = d.pick(peers);
      if (to !== undefined && d.chance(0.5)) info.flags |= api.SCTP_ADDR_OVER;
    }
    if (p.eor) info.flags |= api.SCTP_EOR;
    const way = d.below(8);
    if (way === 1 || way === 3) info.flags &= ~api.SCTP_ADDR_OVER; // these take no address
    switch (way) {
      case 0:
        return lib.sctp_sendv(
          p.so,
          [data.subarray(0, m.size >> 1), data.subarray(m.size >> 1)],
          to === undefined ? [] : [to],
          {
            type: lib.SCTP_SENDV_SPA,
            flags: lib.SCTP_SEND_SNDINFO_VALID,
            sndinfo: info,
          },
        );
      case 1:
        return lib.sctp_send(p.so, data, info);
      case 2:
        if (p.kind === 'one') return lib.sctp_sendmsg(p.so, data, to, m.ppid, info.flags, m.sid, 0, 0);
        break;
      case 3: {
        // By the default of the association.
        const e2 = p.so.setsockopt(IPPROTO_SCTP, api.SCTP_DEFAULT_SNDINFO, info);
        if (e2 === 0 && p.kind === 'one') return lib.sctp_sendv(p.so, [data], []);
        break;
      }
      default:
        break;
    }
    return p.so.send(data, 0, m.size, info, to);
  }
  /** Explicit EOR: the next parts of a message. True when it is all sent. */
  #goOn(e: End, p: Port, m: Message): boolean {
    const d = this.world.dice;
    for (;;) {
      const part = Math.min(m.size - m.taken, 1 + d.below(m.size));
      const last = m.taken + part === m.size;
      const info = this.#info(m, e.id);
      if (last) info.flags |= api.SCTP_EOR;
      const was = m.taken;
      const fresh = e.out.open !== m;
      const n = p.so.send(Flow.bytes(m.ppid, was, was + part), 0, part, info);
      if (!this.#took(e, m, n)) return false;
      if (fresh || e.out.open === m) e.out.open = m;
      if (last && n === part) {
        e.out.open = undefined;
        return true;
      }
      if (d.chance(0.2)) return false;
    }
  }

  /** SCTP_SENDALL on a hub: to each association as far as it can (RFC 6458 §5.3.4). */
  sendAll(hub: Port): void {
    const d = this.world.dice;
    const size = 1 + d.below(300);
    const ppid = ppidOf(BROADCAST | (this.#broadcasts >> 11), this.#broadcasts++);
    const before = new Map<number, number>();
    const sctp = this.world.sctp(hub.host);
    for (const a of sctp.associations()) if (a.endpoint.so === hub.so) before.set(a.id, a.queuedChunks);
    const info = sendInfo({ sid: BROADCAST_SID, ppid, flags: api.SCTP_SENDALL | (hub.eor ? api.SCTP_EOR : 0) });
    const n = hub.so.send(Flow.bytes(ppid, 0, size), 0, size, info);
    assert.equal(n, size, 'SCTP_SENDALL');
    for (const a of sctp.associations()) {
      if (a.endpoint.so !== hub.so || a.queuedChunks === before.get(a.id)) continue;
      const e = hub.ends.get(a.id);
      if (e === undefined) continue; // out of a late cookie, after a crash: the peer will not know it
      this.world.trace?.(`${hub.name} sends ${ppid} to all: ${e.conn.number}`);
      if (e.conn.ending) e.conn.spoil(); // its peer may have closed: what comes then breaks the association off
      e.out.sent({ ppid, sid: BROADCAST_SID, unordered: false, size, taken: size, got: 0, maybe: false });
    }
  }

  /** sctp_peeloff: the association goes on on a socket of its own. */
  peelOff(e: End): void {
    const hub = e.port;
    if (hub === undefined || hub.kind !== 'hub' || e.ended || lib.sctp_getpaddrs(hub.so, e.id) === -ENOENT) return;
    const before = lib.sctp_getpaddrs(hub.so, e.id) as SockAddr[];
    const so = lib.sctp_peeloff(hub.so, e.id);
    assert.ok(so instanceof Socket, `peeloff gave ${so}`);
    this.world.trace?.(`${hub.name} peels off ${e.conn.number}`);
    assert.equal(lib.sctp_getpaddrs(hub.so, e.id), -ENOENT);
    assert.equal(lib.sctp_peeloff(hub.so, e.id), -ENOENT);
    const after = lib.sctp_getpaddrs(so, 0) as SockAddr[];
    assert.deepEqual(
      after.map(a => `${a.addr}:${a.port}`),
      before.map(a => `${a.addr}:${a.port}`),
    );
    hub.ends.delete(e.id);
    const p = Port.heir(hub, so);
    p.adopt(e, e.id);
    hub.moveParts(e, p);
  }

  /** Calls that must change nothing, and those that only ask. */
  probe(e: End): void {
    const d = this.world.dice;
    const p = e.port;
    if (p === undefined || e.ended) return;
    const gone = p.kind === 'hub' && lib.sctp_getpaddrs(p.so, e.id) === -ENOENT;
    switch (d.below(6)) {
      case 0: {
        const s = p.so.getsockopt(IPPROTO_SCTP, api.SCTP_STATUS, e.id) as api.AssocStatus | number;
        if (typeof s === 'object' && s.state === 'ESTABLISHED')
          assert.ok(s.outstrms === 10 && s.instrms === 10, 'streams of both sides');
        break;
      }
      case 1: {
        if (gone || !e.up) break;
        const n = p.so.send(JUNK, 0, 1, sendInfo({ sid: 10, assocId: e.id }));
        assert.ok(n < 0 && (n === -EINVAL || e.conn.ending || e.conn.spoilt || n !== -EAGAIN), `stream 10 gave ${n}`);
        break;
      }
      case 2: {
        const list = lib.sctp_getladdrs(p.so, e.id);
        if (typeof list === 'object') for (const a of list) assert.equal(a.port, e.localPort);
        break;
      }
      case 3:
        if (!gone && p.kind === 'hub') assert.equal(p.so.shutdown(SHUT_WR), -45);
        break;
      case 4: {
        const to = d.pick(this.addresses(e.peer.host, e.peerPort));
        const r = p.so.setsockopt(IPPROTO_SCTP, api.SCTP_PRIMARY_ADDR, { assocId: e.id, address: to });
        assert.ok(r <= 0);
        break;
      }
      default:
        p.so.setsockopt(IPPROTO_SCTP, api.SCTP_MAXSEG, { assocId: e.id, value: d.pick([0, 60, 900]) });
    }
  }

  /** Begins the end of an association, one way or the other. */
  end(c: Conn): void {
    const d = this.world.dice;
    const e = c.ends[d.below(2)]!;
    const p = e.port;
    if (p === undefined || e.ended || !e.up) return;
    const way = d.below(10);
    this.world.trace?.(`end ${c.number} by ${HOSTS[e.host]}, way ${way}`);
    const open = c.ends.some(x => x.out.open !== undefined);
    if (way === 0) {
      this.#abort(e, p);
      return;
    }
    // A message without its end breaks the association off.
    if (open && d.chance(0.8)) return;
    c.ending = true;
    for (const x of c.ends) x.out.left = 0;
    if (open || c.ends.some(x => x.out.open !== undefined)) c.spoil();
    if (p.kind === 'hub') {
      const n = p.so.send(JUNK, 0, 0, sendInfo({ flags: api.SCTP_EOF, assocId: e.id }));
      assert.ok(n === 0 || n === -ENOENT || n === -54, `SCTP_EOF gave ${n}`);
    } else if (way < 5 || c.missing > 0) {
      const n = p.so.shutdown(SHUT_WR);
      assert.ok(n === 0 || e.peer.ended || c.spoilt || n === -57, `shutdown gave ${n}`);
      if (n === 0 && way === 1) p.so.shutdown(SHUT_WR);
    } else {
      e.ended = true;
      e.port = undefined;
      p.close();
    }
  }
  #abort(e: End, p: Port): void {
    const c = e.conn;
    c.spoil();
    c.ending = true;
    for (const x of c.ends) x.out.left = 0;
    if (p.kind === 'one' && this.world.dice.chance(0.5)) {
      p.so.setsockopt(SOL_SOCKET, SO_LINGER, { onoff: true, linger: 0 });
      e.ended = true;
      e.port = undefined;
      p.close();
      return;
    }
    p.so.send(Flow.bytes(1, 0, 20), 0, 20, sendInfo({ flags: api.SCTP_ABORT, assocId: e.id }));
    p.ready = true;
  }

  /** Ends an association that may not be up yet. */
  giveUp(e: End, p: Port): void {
    const n = p.so.setsockopt(IPPROTO_SCTP, api.SCTP_ABORT_ASSOC, { assocId: e.id, reason: 'given up' });
    assert.ok(n === 0 || n === -ENOENT, `SCTP_ABORT_ASSOC gave ${n}`);
  }
  /** One host loses its memory. Some of its associations are set up anew under the same ports; the others find out. */
  crash(host: Side): void {
    const d = this.world.dice;
    this.world.trace?.(`host ${HOSTS[host]} crashes`);
    const again: Conn[] = [];
    this.world.dark = true;
    for (const c of this.live) {
      const e = c.ends[host];
      c.spoil();
      for (const x of c.ends) x.out.left = 0;
      const alive = e.peer.up && !e.peer.ended && !c.autoclose && !c.ending && c.by === host;
      if (alive && e.port !== undefined && !e.ended && d.chance(0.7)) again.push(c);
      c.ending = true;
      e.ended = true;
      e.port = undefined;
    }
    for (const p of [...this.ports]) if (p.host === host) p.close();
    this.world.crash(host);
    this.listen(host);
    for (const c of again) {
      const e = c.ends[host];
      const fixed = this.fixed[host].find(x => x.number === e.localPort && x.kind === 'hub');
      const next = this.connect(host, fixed, e.peerPort, fixed === undefined ? e.localPort : 0);
      c.next = next;
      for (const x of next.ends) x.out.renumbered = true;
    }
  }

  /** True when nothing of it is left on either host, and everything has been read. */
  over(c: Conn): boolean {
    if (!c.ending) return false;
    for (const host of [0, 1] as const) {
      const e = c.ends[host];
      const s = this.world.pair.kexts[host].sctp!;
      for (const a of s.associations()) if (a.localPort === e.localPort && a.peerPort === e.peerPort) return false;
      for (const p of this.fixed[host]) if (p.number === e.localPort && p.so.readable) return false;
      if (e.port?.kind === 'one') return false;
    }
    return true;
  }
}
