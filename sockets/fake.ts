/**
 * A protocol in memory for the tests of this folder: SCTP as a socket sees it (RFC 6458, RFC 9260 §5, §8 and §9) with no
 * packets. Associations join two sockets of hosts in one FakeNetwork; buffers are bounded, sockets say EAGAIN and
 * EINPROGRESS, failures come with reasons, notifications stand in the receive queue. It is stricter than it need be: an
 * upcall comes only for what a socket has waited for, and at most once per step.
 *
 * Work is done by `step()`, which a kick schedules with setImmediate; time passes only in `advance()`.
 */

import { EADDRINUSE, EADDRNOTAVAIL, ECONNREFUSED, EINVAL, ETIMEDOUT } from '../stack/kern/errno.js';
import { ProtocolSwitch, SOCK_SEQPACKET, SOCK_STREAM } from '../stack/kern/protosw.js';
import { type SockAddr, type Socket, socreate } from '../stack/kern/socket.js';
import { AF_INET, AF_INET6, InAddr, IPPROTO_SCTP } from '../stack/netinet/in.js';
import { changed, End, ended, fail, notify, Pcb, remove } from './fake.state.js';
import { row } from './fake.usrreqs.js';

export interface FakeOptions {
  sndbuf?: number;
  rcvbuf?: number;
}

export class FakeNetwork {
  readonly sndbuf: number;
  readonly rcvbuf: number;
  readonly hosts: FakeHost[] = [];
  /** Addresses that swallow everything. */
  readonly silent = new Set<string>();
  /** Ends whose socket is gone may still be here: they send what they have and shut down. */
  readonly ends = new Set<End>();
  now = 0; // ms
  steps = 0;
  upcalls = 0;
  #immediate: NodeJS.Immediate | undefined;
  #ids = 2; // 0 to 2 mean something (SCTP_ALL_ASSOC)

  constructor(options: FakeOptions = {}) {
    this.sndbuf = options.sndbuf ?? 65536;
    this.rcvbuf = options.rcvbuf ?? 65536;
  }
  host(...addresses: string[]): FakeHost {
    const h = new FakeHost(this, addresses);
    this.hosts.push(h);
    return h;
  }
  readonly kick = (): void => {
    this.#immediate ??= setImmediate(() => {
      this.#immediate = undefined;
      this.step();
    });
  };
  newId(): number {
    return ++this.#ids;
  }
  /** Lets time pass and does what is due. */
  advance(ms: number): void {
    this.now += ms;
    this.kick();
  }
  get pcbs(): number {
    return this.hosts.reduce((n, h) => n + h.pcbs.size, 0);
  }
  close(): void {
    clearImmediate(this.#immediate);
  }

  /** Marks a path to an address as failed, or as good again, for every association that has it. */
  setPath(address: string, up: boolean): void {
    for (const end of this.ends) {
      const a = end.remote.find(r => r.addr.toString() === address);
      if (a === undefined || end.down.has(address) !== up) continue;
      if (up) end.down.delete(address);
      else end.down.add(address);
      notify(end, {
        type: 'peer-addr-change',
        state: up ? 'available' : 'unreachable',
        assocId: end.id,
        address: a,
        reason: { text: up ? 'a HEARTBEAT ACK came' : 'Path.Max.Retrans was exceeded', section: 'RFC 9260 §8.2' },
      });
    }
    this.kick();
  }

  step(): void {
    this.steps++;
    for (const end of this.ends) {
      if (end.state === 'COOKIE_WAIT') this.#handshake(end);
      else if (end.peer !== undefined) this.#transfer(end);
    }
    for (const h of this.hosts) {
      for (const pcb of h.pcbs) {
        if (!pcb.dirty) continue;
        pcb.dirty = false;
        this.upcalls++;
        pcb.so.upcall?.(pcb.so);
      }
    }
  }

  #handshake(end: End): void {
    const pcb = end.pcb;
    if (pcb === undefined) return void this.ends.delete(end);
    const heard = end.remote.some(r => !this.silent.has(r.addr.toString()) && this.#hostOf(r.addr) !== undefined);
    if (!heard) {
      if (this.now < end.deadline) return;
      fail(end, ETIMEDOUT, {
        text: `INIT was sent ${pcb.init.maxAttempts} times without an answer`,
        section: 'RFC 9260 §5.1.6',
      });
      return;
    }
    const listener = this.#listener(end.remote);
    if (listener === undefined || (!listener.many && listener.acceptq.length >= listener.backlog)) {
      const text =
        listener === undefined
          ? 'the peer answered INIT with ABORT: nothing listens on that port'
          : 'the peer answered INIT with ABORT: its listen queue is full';
      fail(end, ECONNREFUSED, { text, section: 'RFC 9260 §8.4' });
      return;
    }
    const other = this.#accept(listener, end);
    if (other === undefined) return;
    end.peer = other;
    other.peer = end;
    const theirs = listener.init;
    end.outStreams = Math.min(pcb.init.numOstreams, theirs.maxInstreams);
    other.outStreams = Math.min(theirs.numOstreams, pcb.init.maxInstreams);
    end.inStreams = other.outStreams;
    other.inStreams = end.outStreams;
    for (const e of [end, other]) {
      e.state = 'ESTABLISHED';
      changed(e, 'comm-up', 0, { text: 'the four-way handshake is done', section: 'RFC 9260 §5.1' });
      e.pcb!.dirty = true;
    }
    this.kick(); // a one-to-many socket has sent before
  }

  #hostOf(addr: InAddr): FakeHost | undefined {
    return this.hosts.find(h => h.addresses.some(a => a.equals(addr)));
  }
  #listener(remote: readonly SockAddr[]): Pcb | undefined {
    for (const { addr, port } of remote) {
      const h = this.#hostOf(addr);
      for (const pcb of h?.pcbs ?? []) {
        if (pcb.listening && pcb.port === port && h!.has(pcb, addr)) return pcb;
      }
    }
    return undefined;
  }
  #accept(listener: Pcb, from: End): End | undefined {
    let pcb = listener;
    if (!listener.many) {
      const so = listener.host.socket(listener.so.proto.domain, SOCK_STREAM, IPPROTO_SCTP);
      if (typeof so === 'number') return undefined;
      pcb = so.pcb as Pcb;
      pcb.accepted = true;
      pcb.local = listener.local;
      pcb.port = listener.port;
      pcb.init = listener.init;
      pcb.sndbuf = listener.sndbuf;
      pcb.rcvbuf = listener.rcvbuf;
      for (const e of listener.events) pcb.events.add(e);
      listener.acceptq.push(so);
      listener.dirty = true;
    }
    const end = new End(this.newId(), pcb);
    end.remote = from.pcb!.host.names(from.pcb!);
    from.remote = listener.host.names(listener);
    pcb.ends.set(end.id, end);
    this.ends.add(end);
    return end;
  }

  /** Moves what fits from one send queue to the other side's receive queue, then the shutdown sequence. */
  #transfer(end: End): void {
    const peer = end.peer!;
    const to = peer.pcb;
    let moved = 0;
    while (end.sndq.length > 0) {
      const item = end.sndq[0]!;
      const left = item.data.length - item.off;
      const n = to === undefined ? left : Math.min(left, to.rcvbuf - to.rcvBytes);
      if (n <= 0) break;
      const last = n === left;
      if (to !== undefined) {
        const data = item.data.subarray(item.off, item.off + n);
        to.rcvq.push({ ...item, data, off: 0, assoc: peer, eor: last });
        to.rcvBytes += n;
        to.dirty = true;
      }
      item.off += n;
      moved += n;
      if (last) end.sndq.shift();
    }
    end.sndBytes -= moved;
    const pcb = end.pcb;
    if (moved > 0 && pcb?.blocked) {
      pcb.blocked = false;
      pcb.dirty = true;
    }
    if (end.sndq.length === 0) this.#drained(end, peer);
  }

  #drained(end: End, peer: End): void {
    if (!end.dryTold) {
      end.dryTold = true;
      notify(end, { type: 'sender-dry', assocId: end.id });
    }
    if (end.state === 'SHUTDOWN_PENDING') {
      end.state = 'SHUTDOWN_SENT';
      if (peer.state === 'ESTABLISHED' || peer.state === 'SHUTDOWN_PENDING') {
        peer.state = 'SHUTDOWN_RECEIVED';
        notify(peer, { type: 'shutdown', assocId: peer.id });
        ended(peer);
        this.kick();
        return;
      }
    }
    if (end.state === 'SHUTDOWN_RECEIVED' && peer.state === 'SHUTDOWN_SENT') {
      for (const e of [end, peer]) {
        changed(e, 'shutdown-comp', 0, { text: 'both sides have shut down', section: 'RFC 9260 §9.2' });
        ended(e);
        remove(e);
      }
    }
  }
}

export class FakeHost {
  readonly net: FakeNetwork;
  readonly addresses: readonly InAddr[];
  readonly protocols = new ProtocolSwitch();
  readonly pcbs = new Set<Pcb>();
  #port = 49152;

  constructor(net: FakeNetwork, addresses: readonly string[]) {
    this.net = net;
    this.addresses = addresses.map(a => InAddr.of(a));
    for (const domain of [AF_INET, AF_INET6] as const) {
      for (const type of [SOCK_STREAM, SOCK_SEQPACKET]) this.protocols.add(row(this, domain, type));
    }
  }
  socket(domain: number, type: number, protocol: number): Socket | number {
    return socreate(this.protocols, domain, type, protocol, this.net.kick);
  }
  /** Makes every association of this host restart, as the peers see it (RFC 9260 §5.2.4.1). */
  restart(): void {
    for (const end of this.net.ends) {
      if (end.pcb?.host !== this || end.peer === undefined) continue;
      changed(end.peer, 'restart', 0, { text: 'the peer came back with new tags', section: 'RFC 9260 §5.2.4.1' });
    }
    this.net.kick();
  }
  /** The addresses and the port that a socket is known by. */
  names(pcb: Pcb): SockAddr[] {
    const all = pcb.local.length === 0 || pcb.local.some(a => a.addr.isUnspecified);
    const list = all ? this.addresses : pcb.local.map(a => a.addr);
    return list.map(addr => ({ addr, port: pcb.port }));
  }
  has(pcb: Pcb, addr: InAddr): boolean {
    return this.names(pcb).some(n => n.addr.equals(addr));
  }
  bind(pcb: Pcb, addrs: readonly SockAddr[]): number {
    if (pcb.port !== 0) return -EINVAL;
    for (const { addr } of addrs) {
      if (!addr.isUnspecified && !this.addresses.some(a => a.equals(addr))) return -EADDRNOTAVAIL;
    }
    let port = addrs[0]?.port ?? 0;
    if (port === 0) port = this.#port++;
    const probe: SockAddr[] = addrs.map(a => ({ addr: a.addr, port }));
    for (const other of this.pcbs) {
      if (other.port !== port || other.accepted) continue;
      const mine = new Pcb(this, pcb.so, pcb.many);
      mine.local = probe;
      mine.port = port;
      if (this.names(mine).some(n => this.has(other, n.addr))) return -EADDRINUSE;
    }
    pcb.port = port;
    pcb.local = probe;
    return 0;
  }
  /** Starts an association, or returns -errno. */
  associate(pcb: Pcb, to: readonly SockAddr[]): End | number {
    if (pcb.port === 0) {
      const n = this.bind(pcb, []);
      if (n < 0) return n;
    }
    const end = new End(this.net.newId(), pcb);
    end.remote = to.map(a => ({ addr: a.addr.clone(), port: a.port }));
    end.deadline = this.net.now + pcb.init.maxAttempts * pcb.init.maxInitTimeo;
    pcb.ends.set(end.id, end);
    this.net.ends.add(end);
    return end;
  }
}
