/**
 * An SCTP endpoint: the protocol control block behind a socket (RFC 9260 §1.3, RFC 6458 §3 and §4). It owns a port, bound
 * addresses, associations, the receive queue, and the defaults that new associations start from.
 */

import type { RecvInfo, SendInfo, Socket } from '../kern/socket.js';
import type { InAddr } from '../netinet/in.js';
import type { EventName, Notification } from './api.js';
import type { Association } from './association.js';
import { ChunkQueue, type ChunkTable } from './chunks.js';
import { encodeNotification } from './notifications.js';
import type { Tunables } from './tunables.js';
import type { AssocId } from './types.js';

/** Defaults for new associations; ms where a time. */
export interface EndpointOptions {
  rtoInitial: number;
  rtoMin: number;
  rtoMax: number;
  cookieLife: number;
  maxInitTries: number;
  maxInitTimeo: number;
  maxRxt: number;
  pathMaxRxt: number;
  hbInterval: number;
  hbEnabled: boolean;
  sackDelay: number;
  sackFreq: number;
  maxBurst: number;
  maxCwnd: number;
  nodelay: boolean;
  autoclose: number;
  ecn: boolean;
  maxseg: number;
  tos: number;
  outStreams: number;
  inStreams: number;
  encapsPort: number;
  ccModule: number;
  scheduler: number;
  disableFragments: boolean;
  /** Errors that make a path potentially failed (RFC 7829); 0xffff = never. */
  pfThreshold: number;
  /** Given with what is received (SCTP_CONTEXT). */
  context: number;
  /** The next initial TSN, for tests; 0 = random. */
  debugTsn: number;
  /** Flow label asked for (SPP_IPV6_FLOWLABEL): kept and given back. */
  flowLabel: number;

  // The socket's own: not copied into associations.
  /** Messages end where the user says (SCTP_EXPLICIT_EOR). */
  explicitEor: boolean;
  /** What may come between the parts of a message: 0 nothing, 1 other associations, 2 other streams (RFC 6458 §8.1.20). */
  fragmentInterleave: number;
  /** Bytes of a message that begin its delivery in parts; undefined = half of the receive buffer. */
  partialDeliveryPoint: number | undefined;
  recvRcvInfo: boolean;
  recvNxtInfo: boolean;
  extRcvInfo: boolean;
  dataIo: boolean;
  /** IPv6 sockets: IPv4 addresses are told as v4-mapped ones. */
  mappedV4: boolean;
  reusePort: boolean;
  /** SO_REUSEADDR, kept and given back: binding never asks for it (facts part 2.2). */
  reuseAddr: boolean;
}

export function defaultOptions(t: Tunables): EndpointOptions {
  return {
    rtoInitial: t.rto_initial,
    rtoMin: t.rto_min,
    rtoMax: t.rto_max,
    cookieLife: t.valid_cookie_life,
    maxInitTries: t.init_rtx_max,
    maxInitTimeo: t.init_rto_max,
    maxRxt: t.assoc_rtx_max,
    pathMaxRxt: t.path_rtx_max,
    hbInterval: t.heartbeat_interval,
    hbEnabled: true,
    sackDelay: t.delayed_sack_time,
    sackFreq: t.sack_freq,
    maxBurst: t.maxburst,
    maxCwnd: 0,
    nodelay: false,
    autoclose: 0,
    ecn: t.ecn_enable === 1,
    maxseg: 0,
    tos: 0,
    outStreams: t.outgoing_streams,
    inStreams: t.incoming_streams,
    encapsPort: 0,
    ccModule: t.default_cc_module,
    scheduler: 0,
    disableFragments: false,
    pfThreshold: t.path_pf_threshold,
    context: 0,
    debugTsn: 0,
    flowLabel: 0,
    explicitEor: false,
    fragmentInterleave: t.default_frag_interleave,
    partialDeliveryPoint: undefined,
    recvRcvInfo: false,
    recvNxtInfo: false,
    extRcvInfo: false,
    dataIo: false,
    mappedV4: false,
    reusePort: false,
    reuseAddr: false,
  };
}

const DEFAULT_SEND: Readonly<SendInfo> = Object.freeze({
  sid: 0,
  flags: 0,
  ppid: 0,
  context: 0,
  assocId: 0,
  prPolicy: 0,
  prValue: 0,
});
const NO_EVENTS: ReadonlySet<EventName> = new Set();
const NO_LINGER = Object.freeze({ onoff: false, linger: 0 });

/** Most notifications that wait in one socket; further ones are dropped and counted (`droppedNotifications`). */
const NOTIFICATION_LIMIT = 1024;

/** A notification in the receive queue; its bytes are made when it is read. */
interface QueuedNote {
  readonly note: Notification;
  bytes: Uint8Array | undefined;
  /** Bytes read so far. */
  at: number;
}

export class Endpoint {
  so: Socket | undefined;
  readonly style: 'one-to-one' | 'one-to-many';
  readonly family: 4 | 6;
  v6only = false;
  port = 0;
  /** Bound addresses; empty = all. */
  readonly addresses: InAddr[] = [];
  listening = false;
  backlog = 0;
  /** One-to-one: endpoints whose set-up is complete, waiting for accept. */
  readonly acceptQueue: Endpoint[] = [];
  /** The listener whose accept queue this waits in. */
  listener: Endpoint | undefined;
  readonly #asocs = new Map<AssocId, Association>();
  /** The one association of a one-to-one endpoint; a one-to-many endpoint has none that is. */
  only: Association | undefined = undefined;
  #nextId = 3;
  readonly options: EndpointOptions;
  /** These two are shared with associations and heirs until they are changed: never written, but replaced. */
  defaultSend: Readonly<SendInfo> = DEFAULT_SEND;
  /** What new associations tell; each has a set of its own (SCTP_EVENT). */
  subscribed: ReadonlySet<EventName> = NO_EVENTS;
  linger: { readonly onoff: boolean; readonly linger: number } = NO_LINGER;

  // Receive queue: messages and notifications in order, linked by nextpkt.
  readonly rcv = new ChunkQueue();
  /** Notifications in it by mbuf; undefined until there is one. */
  #notes: Map<number, QueuedNote> | undefined = undefined;
  /** Interleave level 0: the association whose message is being delivered in parts; nothing else may come between. */
  partial: Association | undefined;
  droppedNotifications = 0;
  rcvBytes = 0;
  rcvLimit: number;
  rcvAuto: boolean;
  sndLimit: number;
  sndAuto: boolean;
  /** One-to-one: the association has ended; reading gives what is queued, then 0. */
  ended = false;
  /** One-to-one: the peer has sent SHUTDOWN: no more data will come. */
  peerDone = false;
  /** One-to-one: connect was called, or the socket was accepted. */
  connected = false;
  /** Made by a listener or by peeling off (see heir): has that one's port, but no INIT is for it. */
  isHeir = false;
  /** Came out of accept. */
  accepted = false;
  /** The user has shut down sending. */
  cantSend = false;
  /** The user does not want to read any more: what arrives is thrown away (SHUT_RD). */
  cantReceive = false;
  /** The socket is closed; the endpoint lives until its associations have ended. */
  gone = false;
  /** In the list of sockets to be called at the end of the batch. */
  woken = false;
  /** Last call to send found no room: tell when there is. */
  sendBlocked = false;

  constructor(
    so: Socket | undefined,
    style: 'one-to-one' | 'one-to-many',
    family: 4 | 6,
    t: Tunables,
    options?: EndpointOptions,
  ) {
    this.so = so;
    this.style = style;
    this.family = family;
    this.options = options ?? defaultOptions(t);
    this.rcvLimit = t.recvspace;
    this.sndLimit = t.sendspace;
    this.rcvAuto = t.recvbuf_auto === 1;
    this.sndAuto = t.sendbuf_auto === 1;
  }

  newId(): AssocId {
    return this.#nextId++ as AssocId;
  }
  /** An association moves here from another endpoint with its id: later ones get higher ids. */
  adoptId(id: AssocId): void {
    this.#nextId = Math.max(this.#nextId, id + 1);
  }
  /** A one-to-one endpoint with this one's port, addresses, options and buffers: accepted, or peeled off. */
  heir(so: Socket | undefined, t: Tunables): Endpoint {
    const ep = new Endpoint(so, 'one-to-one', this.family, t, { ...this.options });
    ep.isHeir = true;
    ep.port = this.port;
    ep.addresses.push(...this.addresses);
    ep.v6only = this.v6only;
    ep.connected = true;
    ep.rcvLimit = this.rcvLimit;
    ep.rcvAuto = this.rcvAuto;
    ep.sndLimit = this.sndLimit;
    ep.sndAuto = this.sndAuto;
    ep.linger = this.linger;
    ep.subscribed = this.subscribed;
    ep.defaultSend = this.defaultSend;
    return ep;
  }
  /** Its associations by id. */
  get asocs(): ReadonlyMap<AssocId, Association> {
    return this.#asocs;
  }
  addAssociation(a: Association): void {
    this.#asocs.set(a.id, a);
    if (this.style === 'one-to-one') this.only = a;
  }
  removeAssociation(a: Association): void {
    this.#asocs.delete(a.id);
    if (this.only === a) this.only = undefined;
  }
  /** By id; one-to-one sockets ignore the id (RFC 6458 §4). */
  find(id: number): Association | undefined {
    return this.style === 'one-to-one' ? this.only : this.asocs.get(id as AssocId);
  }
  /** True when an arriving packet's destination may belong to this endpoint. */
  accepts(dst: InAddr): boolean {
    if (dst.family === 6 ? this.family === 4 : this.family === 6 && this.v6only) return false;
    if (this.addresses.length === 0) return true;
    for (const a of this.addresses) if (a.equals(dst)) return true;
    return false;
  }

  /** True when the user of an association (of the endpoint, when there is none) has asked for an event. */
  wants(assocId: number, event: EventName): boolean {
    return (this.asocs.get(assocId as AssocId)?.subscribed ?? this.subscribed).has(event);
  }
  /** Queues a notification behind what is there, if the user subscribed to its type. */
  notify(n: Notification, chunks: ChunkTable): boolean {
    if (this.gone || this.cantReceive) return false;
    if (!this.wants(n.assocId, n.type === 'send-failed' && n.deprecated ? 'send-failed-deprecated' : n.type))
      return false;
    this.#notes ??= new Map();
    const m = this.#notes.size < NOTIFICATION_LIMIT ? chunks.pool.getSmall(0) : 0;
    if (m === 0) {
      this.droppedNotifications++;
      return false;
    }
    chunks.eor[m] = 1;
    chunks.msglen[m] = 0;
    chunks.tail[m] = m;
    chunks.assoc[m] = n.assocId;
    this.#notes.set(m, { note: n, bytes: undefined, at: 0 });
    this.rcv.push(chunks.pool, m);
    return true;
  }
  isNote(m: number): boolean {
    return this.#notes !== undefined && this.#notes.size > 0 && this.#notes.has(m);
  }
  /** What is left to read of a notification, in bytes. */
  noteLength(m: number): number {
    const q = this.#notes!.get(m)!;
    q.bytes ??= encodeNotification(q.note);
    return q.bytes.length - q.at;
  }
  /** Copies up to `len` bytes of the notification m, and gives it as an object; unless `peek`, they have been read then. */
  readNote(m: number, buf: Uint8Array, off: number, len: number, info: RecvInfo, peek: boolean): number {
    const n = Math.min(len, this.noteLength(m));
    const q = this.#notes!.get(m)!;
    buf.set(q.bytes!.subarray(q.at, q.at + n), off);
    if (!peek) q.at += n;
    info.notification = q.note;
    return n;
  }
  dropNote(m: number): void {
    this.#notes?.delete(m);
  }
  /** Moves what waits here of one association to another endpoint, in order (sctp_peeloff). */
  moveReceived(id: AssocId, to: Endpoint, chunks: ChunkTable): void {
    const pool = chunks.pool;
    const all = this.rcv.count;
    for (let i = 0; i < all; i++) {
      const m = this.rcv.shift(pool);
      const q = this.#notes?.get(m);
      if (chunks.assoc[m] !== id) {
        this.rcv.push(pool, m);
        continue;
      }
      to.rcv.push(pool, m);
      if (q !== undefined) {
        this.#notes?.delete(m);
        to.#notes ??= new Map();
        to.#notes.set(m, q);
      } else {
        this.rcvBytes -= chunks.msglen[m]!;
        to.rcvBytes += chunks.msglen[m]!;
      }
    }
  }
  /** Throws away what waits to be read. */
  clearReceive(chunks: ChunkTable): void {
    for (const a of this.asocs.values()) {
      a.deliveredBytes = 0;
      a.pdHead = 0; // a delivery in parts has lost its head with the queue
    }
    this.#notes = undefined;
    this.rcv.clear(chunks.pool);
    this.rcvBytes = 0;
  }
}
