/**
 * PF_NKE: the control domain by which a program outside talks to a loaded extension, after Darwin's kernel control
 * (PF_SYSTEM, SYSPROTO_CONTROL: kern_control.h). Every extension has a control under its identifier; a program finds its
 * number (`address`), connects a datagram socket and exchanges messages, each one JSON object in UTF-8:
 *
 *   {"id":1,"op":"get"}                            all parameters; with "name", one
 *   {"id":2,"op":"set","name":"x","value":5}       a live parameter
 *   {"id":3,"op":"stats"}                          counters, and what the extension computes
 *   {"id":4,"op":"list"}                           identifier, version, parameter rows, commands
 *   {"id":5,"op":"call","name":"c","args":{...}}   a command of the extension
 *   {"id":6,"op":"subscribe"} / "unsubscribe"      its kernel events from now on
 *
 *   {"id":1,"ok":true,"value":...} or {"id":1,"ok":false,"errno":"EINVAL","reason":"..."}
 *   {"event":{...},"dropped":0}                    dropped: events lost before this one because nobody read
 *
 * A message of any bytes gets an answer or an error number; nothing it says reaches the extension unchecked.
 */

import { InAddr } from '../netinet/in.js';
import {
  EAGAIN,
  ECONNREFUSED,
  ECONNRESET,
  EDESTADDRREQ,
  EEXIST,
  EINVAL,
  EISCONN,
  EMSGSIZE,
  ENOBUFS,
  ENOENT,
  ENOPROTOOPT,
  ENOTCONN,
  EOPNOTSUPP,
  errnoName,
} from './errno.js';
import type { EventBus, StampedEvent } from './event.js';
import { refusesParam } from './kextparam.js';
import type { ParamRow, ParamValue } from './kpi.js';
import { type ProtocolSwitch, type Protosw, SOCK_DGRAM } from './protosw.js';
import { MSG_EOR, MSG_PEEK, MSG_TRUNC, type RecvInfo, type SockAddr, type Socket, type Usrreqs } from './socket.js';

/** Domain and protocol, Darwin's numbers of PF_SYSTEM and SYSPROTO_CONTROL. */
export const PF_NKE = 32;
export const NKEPROTO_CONTROL = 2;
/** getsockopt(NKEPROTO_CONTROL, CTLIOCGINFO, identifier): the number to connect to. */
export const CTLIOCGINFO = 3;

/** Bytes of a message to an extension, and of an answer. */
export const MAX_CTL_REQUEST = 16 * 1024;
export const MAX_CTL_REPLY = 256 * 1024;
/** Messages that wait for a reader; events beyond are dropped and counted, requests are refused. */
export const MAX_CTL_QUEUE = 256;
/** Controls and sockets of a stack at once. */
export const MAX_CONTROLS = 1024;
export const MAX_CTL_SOCKETS = 256;

export type CtlArgs = Readonly<Record<string, unknown>>;

/** A command of an extension's own. */
export interface ControlCommand {
  readonly meaning: string;
  /** `args` is a JSON object of at most 16 KiB, unchecked otherwise. Returns a JSON value; a throw is an answer EINVAL. */
  run(args: CtlArgs): unknown;
}

/** What an extension adds to its control. */
export interface ControlHandlers {
  /** A live parameter is about to change (its type and range are right). Returns 0, or -errno to keep the old value. */
  changed?(name: string, value: ParamValue): number | undefined;
  /** Statistics besides the counters. */
  statistics?(): Readonly<Record<string, number | string>>;
  readonly commands?: Readonly<Record<string, ControlCommand>>;
}

/** The control of one loaded extension. */
export interface Control {
  readonly identifier: string;
  readonly version: string;
  readonly rows: Readonly<Record<string, ParamRow>>;
  /** The live record. */
  readonly values: Record<string, ParamValue>;
  readonly handlers: ControlHandlers;
  /** Live counter records by name. */
  counters(): Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** A handler of the extension threw. */
  fault(what: string, why: unknown): void;
}

export const CTL_COUNTERS = {
  requests: 0,
  bad_requests: 0,
  too_long: 0,
  refused: 0,
  replies_dropped: 0,
  events: 0,
  events_dropped: 0,
};

interface Pcb {
  control: Control | undefined;
  readonly queue: Uint8Array[];
  subscribed: boolean;
  dropped: number;
}

type Reply = { readonly value: unknown } | { readonly errno: number; readonly reason: string };
const refuse = (errno: number, reason: string): Reply => ({ errno, reason });

const NAME = /^[A-Za-z0-9_.-]{1,128}$/;
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

const own = <T>(record: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(record, name) ? record[name] : undefined;

export class ControlDomain {
  readonly counters: Record<keyof typeof CTL_COUNTERS, number> = { ...CTL_COUNTERS };
  readonly row: Protosw;
  readonly #controls = new Map<number, Control>();
  readonly #sockets = new Map<Socket, Pcb>();
  #next = 1;

  constructor(protocols: ProtocolSwitch, events: EventBus) {
    this.row = {
      domain: PF_NKE,
      type: SOCK_DGRAM,
      protocol: NKEPROTO_CONTROL,
      name: 'nke/control',
      usrreqs: this.#usrreqs(),
    };
    protocols.addDomain({ family: PF_NKE, name: 'nke' });
    protocols.add(this.row);
    events.subscribe(e => this.#event(e));
  }

  /** ctl_register: makes an extension reachable. Returns its number (1 and up), -EEXIST or -ENOBUFS. */
  register(control: Control): number {
    for (const c of this.#controls.values()) if (c.identifier === control.identifier) return -EEXIST;
    if (this.#controls.size >= MAX_CONTROLS) return -ENOBUFS;
    while (this.#controls.has(this.#next)) this.#next = (this.#next % 65535) + 1;
    this.#controls.set(this.#next, control);
    const number = this.#next;
    this.#next = (this.#next % 65535) + 1;
    return number;
  }
  /** ctl_deregister: its sockets get ECONNRESET, or are joined to the control that takes its place. */
  deregister(control: Control, successor?: Control): void {
    for (const [number, c] of this.#controls) {
      if (c !== control) continue;
      if (successor === undefined) this.#controls.delete(number);
      else this.#controls.set(number, successor);
    }
    for (const [so, pcb] of this.#sockets) {
      if (pcb.control !== control) continue;
      pcb.control = successor;
      if (successor !== undefined) continue;
      so.error = ECONNRESET;
      so.errorReason = `${control.identifier} was unloaded`;
      so.upcall?.(so);
    }
  }
  /** The address of an extension's control, to be handed to connect; or -ENOENT. */
  address(identifier: string): SockAddr | number {
    for (const [port, c] of this.#controls) if (c.identifier === identifier) return { addr: new InAddr(4), port };
    return -ENOENT;
  }
  /** Identifiers of all controls. */
  list(): readonly string[] {
    return [...this.#controls.values()].map(c => c.identifier);
  }

  #event(e: StampedEvent): void {
    if (!('kext' in e)) return;
    for (const [so, pcb] of this.#sockets) {
      if (!pcb.subscribed || pcb.control?.identifier !== e.kext) continue;
      if (pcb.queue.length >= MAX_CTL_QUEUE) {
        pcb.dropped++;
        this.counters.events_dropped++;
        continue;
      }
      this.counters.events++;
      this.#push(so, pcb, { event: e, dropped: pcb.dropped });
      pcb.dropped = 0;
    }
  }
  #push(so: Socket, pcb: Pcb, message: object): void {
    pcb.queue.push(encoder.encode(JSON.stringify(message)));
    so.upcall?.(so);
  }

  /** Answers one message. Returns its length, or -errno when it cannot even be answered. */
  #message(so: Socket, pcb: Pcb, data: Uint8Array): number {
    const { control } = pcb;
    if (control === undefined) return so.error !== 0 ? -so.takeError() : -ENOTCONN;
    if (data.length > MAX_CTL_REQUEST) {
      this.counters.too_long++;
      return -EMSGSIZE;
    }
    if (pcb.queue.length >= MAX_CTL_QUEUE) {
      this.counters.replies_dropped++;
      return -ENOBUFS;
    }
    this.counters.requests++;
    let request: { id?: unknown; op?: unknown; name?: unknown; value?: unknown; args?: unknown } | undefined;
    try {
      const value: unknown = JSON.parse(decoder.decode(data));
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) request = value;
    } catch {
      // Bytes that are no JSON: answered below.
    }
    const id = typeof request?.id === 'number' ? request.id : null;
    let reply: Reply;
    if (request === undefined || typeof request.op !== 'string') {
      this.counters.bad_requests++;
      reply = refuse(EINVAL, 'not a request; send one JSON object: {"id":1,"op":"get"}');
    } else reply = this.#serve(control, pcb, request.op, request);
    if ('errno' in reply) {
      this.counters.refused++;
      this.#push(so, pcb, { id, ok: false, errno: errnoName(reply.errno), reason: reply.reason });
      return data.length;
    }
    let bytes: Uint8Array;
    try {
      bytes = encoder.encode(JSON.stringify({ id, ok: true, value: reply.value ?? null }));
    } catch (e) {
      control.fault('control answer', e);
      bytes = encoder.encode(JSON.stringify({ id, ok: false, errno: 'EIO', reason: 'the answer is no JSON' }));
    }
    if (bytes.length > MAX_CTL_REPLY)
      bytes = encoder.encode(
        JSON.stringify({
          id,
          ok: false,
          errno: 'EMSGSIZE',
          reason: `the answer is longer than ${MAX_CTL_REPLY} bytes`,
        }),
      );
    pcb.queue.push(bytes);
    so.upcall?.(so);
    return data.length;
  }

  #serve(
    control: Control,
    pcb: Pcb,
    op: string,
    { name, value, args }: { name?: unknown; value?: unknown; args?: unknown },
  ): Reply {
    if (name !== undefined && (typeof name !== 'string' || !NAME.test(name)))
      return refuse(EINVAL, '"name" must be a text of 1 to 128 letters, digits, "_", "." or "-"');
    switch (op) {
      case 'get':
        return this.#get(control, name);
      case 'set':
        return this.#set(control, name, value);
      case 'stats':
        return this.#stats(control);
      case 'list':
        return {
          value: {
            identifier: control.identifier,
            version: control.version,
            parameters: control.rows,
            commands: Object.fromEntries(
              Object.entries(control.handlers.commands ?? {}).map(([n, c]) => [n, String(c.meaning)]),
            ),
          },
        };
      case 'call':
        return this.#call(control, name, args);
      case 'subscribe':
      case 'unsubscribe':
        pcb.subscribed = op === 'subscribe';
        return { value: null };
      default:
        return refuse(EOPNOTSUPP, 'unknown op; known: get, set, stats, list, call, subscribe, unsubscribe');
    }
  }
  #get(control: Control, name: string | undefined): Reply {
    if (name === undefined) return { value: { ...control.values } };
    const value = own(control.values, name);
    return value === undefined ? this.#unknown(control, name) : { value };
  }
  #unknown(control: Control, name: string): Reply {
    const known = Object.keys(control.rows).join(', ');
    return refuse(
      ENOENT,
      `${control.identifier} has no parameter "${name}"${known === '' ? '; it has none' : `; it has ${known}`}`,
    );
  }
  #set(control: Control, name: string | undefined, value: unknown): Reply {
    if (name === undefined) return refuse(EINVAL, '"set" needs "name" and "value"');
    const row = own(control.rows, name);
    if (row === undefined) return this.#unknown(control, name);
    if (row.live !== true)
      return refuse(EOPNOTSUPP, `parameter "${name}" can only be given when ${control.identifier} is loaded`);
    const why = refusesParam(row, value);
    if (why !== undefined) return refuse(EINVAL, `parameter "${name}" ${why}`);
    try {
      const e = control.handlers.changed?.(name, value as ParamValue) ?? 0;
      if (e < 0) return refuse(-e, `${control.identifier} does not take ${name} = ${JSON.stringify(value)}`);
    } catch (e) {
      control.fault(`control, parameter ${name}`, e);
      return refuse(EINVAL, `${control.identifier} failed at ${name}; the old value is kept`);
    }
    control.values[name] = value as ParamValue;
    return { value: value as ParamValue };
  }
  #stats(control: Control): Reply {
    const counters: Record<string, Record<string, number>> = {};
    for (const [group, record] of Object.entries(control.counters())) counters[group] = { ...record };
    if (control.handlers.statistics === undefined) return { value: { counters } };
    try {
      return { value: { counters, statistics: { ...control.handlers.statistics() } } };
    } catch (e) {
      control.fault('control, statistics', e);
      return { value: { counters } };
    }
  }
  #call(control: Control, name: string | undefined, args: unknown): Reply {
    const commands = control.handlers.commands ?? {};
    const command = name === undefined ? undefined : own(commands, name);
    if (command === undefined) {
      const known = Object.keys(commands).join(', ');
      return refuse(
        ENOENT,
        `${control.identifier} has no command "${name ?? ''}"${known === '' ? '; it has none' : `; it has ${known}`}`,
      );
    }
    if (args !== undefined && (typeof args !== 'object' || args === null || Array.isArray(args)))
      return refuse(EINVAL, '"args" must be an object');
    try {
      return { value: command.run((args ?? {}) as CtlArgs) };
    } catch (e) {
      control.fault(`control, command ${name}`, e);
      return refuse(EINVAL, `${name} failed: ${(e instanceof Error ? e.message : String(e)).slice(0, 200)}`);
    }
  }

  #usrreqs(): Usrreqs {
    const pcbOf = (so: Socket): Pcb => so.pcb as Pcb;
    const no = () => -EOPNOTSUPP;
    return {
      attach: so => {
        if (this.#sockets.size >= MAX_CTL_SOCKETS) return -ENOBUFS;
        const pcb: Pcb = { control: undefined, queue: [], subscribed: false, dropped: 0 };
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
      connect: (so, addrs) => {
        const pcb = pcbOf(so);
        if (pcb.control !== undefined) return -EISCONN;
        if (addrs.length !== 1) return -EINVAL;
        const control = this.#controls.get(addrs[0]!.port);
        if (control === undefined) return -ECONNREFUSED;
        pcb.control = control;
        so.error = 0;
        return 0;
      },
      send: (so, data, off, len, to) => {
        if (to !== undefined) return pcbOf(so).control === undefined ? -EDESTADDRREQ : -EISCONN;
        return this.#message(so, pcbOf(so), data.subarray(off, off + len));
      },
      recv: (so, buf, off, len, info: RecvInfo, flags) => {
        const { queue } = pcbOf(so);
        const first = queue[0];
        if (first === undefined) return so.error !== 0 ? -so.takeError() : -EAGAIN;
        // One message a call: what does not fit is lost, as with any datagram.
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
      peeraddr: so => {
        const { control } = pcbOf(so);
        return control === undefined ? -ENOTCONN : this.address(control.identifier);
      },
      getopt: (_so, level, name, arg) => {
        if (level !== NKEPROTO_CONTROL || name !== CTLIOCGINFO) return -ENOPROTOOPT;
        if (typeof arg !== 'string') return -EINVAL;
        const a = this.address(arg);
        return typeof a === 'number' ? a : a.port;
      },
      setopt: () => -ENOPROTOOPT,
      readable: so => pcbOf(so).queue.length > 0 || so.error !== 0,
      writable: so => pcbOf(so).control !== undefined && pcbOf(so).queue.length < MAX_CTL_QUEUE,
      space: so => (pcbOf(so).queue.length < MAX_CTL_QUEUE ? MAX_CTL_REQUEST : 0),
    };
  }
}
