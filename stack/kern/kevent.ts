/**
 * Kernel event sockets, after Darwin's (PF_SYSTEM, SOCK_RAW, SYSPROTO_EVENT: kern_event.h): a socket of PF_NKE that receives
 * every kernel event from when it was opened, or those that its filter lets pass. Each datagram is one JSON object in UTF-8:
 *
 *   {"event":{"kind":"link-off","ifname":"nke0",...,"at":123,"serial":7},"dropped":0}
 *
 * dropped: events lost before this one because nobody read. A datagram that does not fit the reader's buffer is cut.
 */

import { InAddr } from '../netinet/in.js';
import { PF_NKE } from './ctl.js';
import { EAGAIN, EINVAL, EISCONN, ENOBUFS, ENOPROTOOPT, ENOTCONN, EOPNOTSUPP } from './errno.js';
import { type EventBus, type EventFilter, eventPasses, type KernelEvent, type StampedEvent } from './event.js';
import { type ProtocolSwitch, type Protosw, SOCK_RAW } from './protosw.js';
import { MSG_EOR, MSG_PEEK, MSG_TRUNC, type Socket, type Usrreqs } from './socket.js';

/** Darwin's number of SYSPROTO_EVENT. */
export const NKEPROTO_EVENT = 1;
/** setsockopt(NKEPROTO_EVENT, KEV_FILTER, EventFilter), Darwin's SIOCSKEVFILT; getsockopt gives it back. */
export const KEV_FILTER = 1;
export const MAX_EVENT_SOCKETS = 256;
/** Events that wait for a reader. */
export const MAX_EVENT_QUEUE = 256;
const MAX_KINDS = 64;

interface Pcb {
  filter: EventFilter;
  readonly queue: Uint8Array[];
  dropped: number;
}

const encoder = new TextEncoder();
const isText = (v: unknown): v is string => typeof v === 'string' && v.length > 0 && v.length <= 64;

export class EventSockets {
  readonly counters = { delivered: 0, dropped: 0 };
  readonly #sockets = new Map<Socket, Pcb>();

  /** The domain PF_NKE must be there. */
  constructor(protocols: ProtocolSwitch, events: EventBus) {
    const row: Protosw = {
      domain: PF_NKE,
      type: SOCK_RAW,
      protocol: NKEPROTO_EVENT,
      name: 'nke/event',
      usrreqs: this.#usrreqs(),
    };
    protocols.add(row);
    events.subscribe(e => this.#event(e));
  }

  #event(e: StampedEvent): void {
    if (this.#sockets.size === 0) return;
    for (const [so, pcb] of this.#sockets) {
      if (!eventPasses(pcb.filter, e)) continue;
      if (pcb.queue.length >= MAX_EVENT_QUEUE) {
        pcb.dropped++;
        this.counters.dropped++;
        continue;
      }
      this.counters.delivered++;
      pcb.queue.push(encoder.encode(JSON.stringify({ event: e, dropped: pcb.dropped })));
      pcb.dropped = 0;
      so.upcall?.(so);
    }
  }

  #filter(pcb: Pcb, value: unknown): number {
    if (typeof value !== 'object' || value === null) return -EINVAL;
    const { kinds, ifname } = value as { kinds?: unknown; ifname?: unknown };
    if (kinds !== undefined && !(Array.isArray(kinds) && kinds.length <= MAX_KINDS && kinds.every(isText)))
      return -EINVAL;
    if (ifname !== undefined && !isText(ifname)) return -EINVAL;
    pcb.filter = {
      ...(kinds === undefined ? {} : { kinds: [...kinds] as KernelEvent['kind'][] }),
      ...(ifname === undefined ? {} : { ifname }),
    };
    return 0;
  }

  #usrreqs(): Usrreqs {
    const pcbOf = (so: Socket): Pcb => so.pcb as Pcb;
    const no = () => -EOPNOTSUPP;
    return {
      attach: so => {
        if (this.#sockets.size >= MAX_EVENT_SOCKETS) return -ENOBUFS;
        const pcb: Pcb = { filter: {}, queue: [], dropped: 0 };
        so.pcb = pcb;
        this.#sockets.set(so, pcb);
        return 0;
      },
      close: so => {
        this.#sockets.delete(so);
        return 0;
      },
      bind: no,
      listen: no,
      accept: no,
      connect: () => -EISCONN,
      send: no,
      recv: (so, buf, off, len, info, flags) => {
        const { queue } = pcbOf(so);
        const first = queue[0];
        if (first === undefined) return -EAGAIN;
        const n = Math.min(len, first.length);
        buf.set(n === first.length ? first : first.subarray(0, n), off);
        info.msgFlags = n < first.length ? MSG_TRUNC : MSG_EOR;
        info.from = undefined;
        info.notification = undefined;
        info.next = undefined;
        if ((flags & MSG_PEEK) === 0) queue.shift();
        return n;
      },
      shutdown: no,
      sockaddr: () => ({ addr: new InAddr(4), port: 0 }),
      peeraddr: () => -ENOTCONN,
      getopt: (so, level, name) =>
        level === NKEPROTO_EVENT && name === KEV_FILTER ? { ...pcbOf(so).filter } : -ENOPROTOOPT,
      setopt: (so, level, name, value) =>
        level === NKEPROTO_EVENT && name === KEV_FILTER ? this.#filter(pcbOf(so), value) : -ENOPROTOOPT,
      readable: so => pcbOf(so).queue.length > 0,
      writable: () => false,
      space: () => 0,
    };
  }
}
