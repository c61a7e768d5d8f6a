/** State of the fake protocol (sockets/fake.ts): control blocks, associations, and how an association tells and ends. */

import { ECONNRESET } from '../stack/kern/errno.js';
import type { SockAddr, Socket } from '../stack/kern/socket.js';
import type * as api from '../stack/sctp/api.js';
import type { FakeHost, FakeNetwork } from './fake.js';

export interface Item {
  data: Uint8Array;
  off: number;
  sid: number;
  ssn: number;
  tsn: number;
  ppid: number;
  flags: number;
  context: number;
  assoc: End;
  /** The last part of its message. */
  eor: boolean;
  notification: api.Notification | undefined;
}

/** One side of an association. */
export class End {
  readonly id: number;
  readonly net: FakeNetwork;
  pcb: Pcb | undefined;
  peer: End | undefined;
  state: api.StateName = 'COOKIE_WAIT';
  readonly sndq: Item[] = [];
  sndBytes = 0;
  remote: SockAddr[] = [];
  readonly down = new Set<string>();
  primary = 0;
  outStreams = 10;
  inStreams = 10;
  deadline = Number.POSITIVE_INFINITY;
  tsn = 1;
  dryTold = true;
  readonly ssn: number[] = [];
  constructor(id: number, pcb: Pcb) {
    this.id = id;
    this.net = pcb.host.net;
    this.pcb = pcb;
  }
}

export class Pcb {
  readonly host: FakeHost;
  readonly so: Socket;
  readonly many: boolean;
  local: SockAddr[] = [];
  port = 0;
  backlog = 0;
  listening = false;
  /** Came out of a listening socket, whose port it shares. */
  accepted = false;
  readonly acceptq: Socket[] = [];
  readonly ends = new Map<number, End>();
  readonly rcvq: Item[] = [];
  rcvBytes = 0;
  sndbuf: number;
  rcvbuf: number;
  /** recv gives 0 when the queue is empty. */
  eof = false;
  shut = false;
  events = new Set<string>();
  blocked = false;
  dirty = false;
  linger0 = false;
  init: api.InitMsg = { numOstreams: 10, maxInstreams: 2048, maxAttempts: 8, maxInitTimeo: 60_000 };
  readonly opts = new Map<number, unknown>();
  constructor(host: FakeHost, so: Socket, many: boolean) {
    this.host = host;
    this.so = so;
    this.many = many;
    this.sndbuf = host.net.sndbuf;
    this.rcvbuf = host.net.rcvbuf;
  }
  /** The association of a one-to-one socket, or the one with an id. */
  end(assocId: number): End | undefined {
    return this.many ? this.ends.get(assocId) : this.ends.values().next().value;
  }
}

const reset = (text: string): api.Reason => ({ text, section: 'RFC 9260 §9.1' });
const text = (r: api.Reason) => `${r.text} (${r.section})`;

/** Puts a notification into the receive queue if the socket has asked for its kind. */
export function notify(end: End, notification: api.Notification): void {
  const pcb = end.pcb;
  if (pcb === undefined || !pcb.events.has(notification.type)) return;
  const data = new Uint8Array(20);
  pcb.rcvq.push({
    data,
    off: 0,
    sid: 0,
    ssn: 0,
    tsn: 0,
    ppid: 0,
    flags: 0,
    context: 0,
    assoc: end,
    eor: true,
    notification,
  });
  pcb.dirty = true;
}

type ChangeState = Extract<api.Notification, { type: 'assoc-change' }>['state'];

export function changed(end: End, state: ChangeState, error: number, reason: api.Reason): void {
  const { id: assocId, outStreams, inStreams } = end;
  notify(end, { type: 'assoc-change', state, assocId, outStreams, inStreams, error, cause: '', reason });
}

/** Nothing more will come from the peer. */
export function ended(end: End): void {
  if (end.pcb === undefined || end.pcb.many) return;
  end.pcb.eof = true;
  end.pcb.dirty = true;
}

export function remove(end: End): void {
  end.state = 'CLOSED';
  end.net.ends.delete(end);
  end.pcb?.ends.delete(end.id);
  if (end.pcb?.blocked) end.pcb.dirty = true;
}

/** The association is lost: so_error of a one-to-one socket, a notification, and send-failed for what was not sent. */
export function fail(end: End, errno: number, reason: api.Reason): void {
  const pcb = end.pcb;
  const started = end.state === 'COOKIE_WAIT';
  for (const item of end.sndq) {
    const { sid, ppid, context, flags, data } = item;
    notify(end, { type: 'send-failed', assocId: end.id, sent: false, sid, ppid, context, flags, data, error: errno });
  }
  changed(end, started ? 'cant-start' : 'comm-lost', errno, reason);
  ended(end);
  if (pcb !== undefined && !pcb.many) {
    pcb.so.error = errno;
    pcb.so.errorReason = text(reason);
    pcb.dirty = true;
  }
  remove(end);
}

export function abort(end: End, why: string): void {
  const peer = end.peer;
  if (peer !== undefined && peer.state !== 'CLOSED') fail(peer, ECONNRESET, reset(why));
  remove(end);
  end.net.kick();
}
