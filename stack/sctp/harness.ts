/** For tests: two hosts with SCTP loaded, joined by links in virtual time, and sockets on both. */

import { MSEC } from '../kern/clock.js';
import type { MbufPoolSizes } from '../kern/mbuf.js';
import { AF_INET, AF_INET6, SOCK_STREAM } from '../kern/protosw.js';
import { MSG_EOR, MSG_NOTIFICATION, RecvInfo, type SendInfo, type SockAddr, Socket } from '../kern/socket.js';
import { SCTP_KEXT, type SctpKext, sctpKext } from '../kexts/SCTP.kext/index.js';
import { InAddr, IPPROTO_SCTP } from '../netinet/in.js';
import type { Stack } from '../stack.js';
import { type LinkOptions, type VirtualLink, VirtualNet } from '../testing.js';
import { type Notification, type NotificationType, SCTP_EVENT } from './api.js';
import type { Tunables } from './tunables.js';

export const at = (addr: string, port: number): SockAddr => ({ addr: InAddr.of(addr), port });
export const sendInfo = (over: Partial<SendInfo> = {}): SendInfo => ({
  sid: 0,
  flags: 0,
  ppid: 0,
  context: 0,
  assocId: 0,
  prPolicy: 0,
  prValue: 0,
  ...over,
});

export const ALL_EVENTS: readonly NotificationType[] = [
  'assoc-change',
  'peer-addr-change',
  'remote-error',
  'send-failed',
  'shutdown',
  'partial-delivery',
  'sender-dry',
];

export interface Received {
  readonly data: Uint8Array;
  readonly sid: number;
  readonly ssn: number;
  readonly ppid: number;
  readonly flags: number;
  readonly assocId: number;
  readonly eor: boolean;
}

export interface PairOptions extends LinkOptions {
  readonly seed?: number;
  /** Where the clock begins, ns. */
  readonly start?: number;
  /** Number of parallel links (paths); link i has 10.0.i.1 and 10.0.i.2 (fd00:i::1, ::2). */
  readonly links?: number;
  readonly tunables?: Partial<Tunables>;
  readonly family?: 4 | 6;
  /** UDP port for SCTP in UDP on both sides; 0 = plain. */
  readonly encaps?: number;
  /** Mbufs of each host. */
  readonly pool?: MbufPoolSizes;
}

/** Two hosts, a and b. Close with `end`, which also checks that nothing leaked. */
export class SctpPair {
  readonly net: VirtualNet;
  readonly a: Stack;
  readonly b: Stack;
  readonly links: VirtualLink[] = [];
  readonly kexts: readonly [SctpKext, SctpKext];
  readonly family: 4 | 6;
  readonly encaps: number;

  constructor(options: PairOptions = {}) {
    this.family = options.family ?? 4;
    this.encaps = options.encaps ?? 0;
    this.net = new VirtualNet({
      seed: options.seed ?? 1,
      ...(options.start === undefined ? {} : { start: options.start }),
    });
    const pool = options.pool ?? { small: 8192, cluster: 8192, jumbo: 64 };
    this.a = this.net.addHost('a', { pool });
    this.b = this.net.addHost('b', { pool });
    for (let i = 0; i < (options.links ?? 1); i++) {
      const addresses =
        this.family === 4
          ? ([[`10.0.${i}.1/24`], [`10.0.${i}.2/24`]] as const)
          : ([[`fd00:${i}::1/64`], [`fd00:${i}::2/64`]] as const);
      this.links.push(this.net.link(this.a, this.b, { delay: 5 * MSEC, noarp: true, addresses, ...options }));
    }
    const make = () =>
      sctpKext({
        tunables: { ...options.tunables, ...(this.encaps === 0 ? {} : { udp_tunneling_port: this.encaps }) },
      });
    this.kexts = [make(), make()];
    for (const [i, s] of [this.a, this.b].entries()) {
      const r = s.kexts.load(this.kexts[i]!);
      if (!r.ok) throw new Error(r.reason);
    }
  }
  addr(host: 'a' | 'b', link = 0): string {
    const n = host === 'a' ? 1 : 2;
    return this.family === 4 ? `10.0.${link}.${n}` : `fd00:${link}::${n}`;
  }
  socket(host: 'a' | 'b', type = SOCK_STREAM, events: readonly NotificationType[] = []): Socket {
    const s = this[host].socket(this.family === 4 ? AF_INET : AF_INET6, type, IPPROTO_SCTP);
    if (!(s instanceof Socket)) throw new Error(`socket: ${s}`);
    for (const e of events) s.setsockopt(IPPROTO_SCTP, SCTP_EVENT, { assocId: 0, type: e, on: true });
    if (this.encaps !== 0) s.setsockopt(IPPROTO_SCTP, 0x24, { assocId: 0, port: this.encaps });
    return s;
  }
  /** A connected pair of one-to-one sockets: [client on a, server on b, listener on b]. */
  connect(events: readonly NotificationType[] = [], tune?: (so: Socket) => void): [Socket, Socket, Socket] {
    const l = this.socket('b', SOCK_STREAM, events);
    const c = this.socket('a', SOCK_STREAM, events);
    tune?.(l);
    tune?.(c);
    check(l.bind(at(this.family === 4 ? '0.0.0.0' : '::', 5000)));
    check(l.listen(5));
    const e = c.connect(at(this.addr('b'), 5000));
    if (e !== -36) throw new Error(`connect: ${e}`);
    let server: Socket | number = -1;
    const ok = this.net.runUntil(() => {
      if (typeof server === 'number') server = l.accept();
      return server instanceof Socket && c.writable;
    }, 30e9);
    if (!ok || typeof server === 'number') throw new Error(`no connection: ${c.error} ${c.errorReason}`);
    return [c, server as Socket, l];
  }
  /** Unloads both sides after all has calmed down; returns the mbufs that leaked. */
  end(): number {
    this.net.run(400e9);
    for (const s of [this.a, this.b]) {
      const r = s.kexts.unload(SCTP_KEXT);
      if (!r.ok) throw new Error(r.reason);
    }
    return this.net.leaked();
  }
}

export function check(n: number): number {
  if (n < 0) throw new Error(`call failed: ${n}`);
  return n;
}

/** Everything that a socket has to read now. */
export function drain(
  so: Socket,
  size = 65536,
): { messages: Received[]; notes: Notification[]; end: number | undefined } {
  const buf = new Uint8Array(size);
  const info = new RecvInfo();
  const messages: Received[] = [];
  const notes: Notification[] = [];
  for (;;) {
    const n = so.recv(buf, 0, buf.length, info);
    if (n < 0) return { messages, notes, end: n === -35 ? undefined : n };
    if ((info.msgFlags & MSG_NOTIFICATION) !== 0) {
      notes.push(info.notification as Notification);
      continue;
    }
    if (n === 0) return { messages, notes, end: 0 };
    messages.push({
      data: buf.slice(0, n),
      sid: info.sid,
      ssn: info.ssn,
      ppid: info.ppid,
      flags: info.flags,
      assocId: info.assocId,
      eor: (info.msgFlags & MSG_EOR) !== 0,
    });
  }
}
