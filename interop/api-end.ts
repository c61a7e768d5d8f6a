// One end of an interoperation test of the socket API: calls of RFC 6458 with plain arguments and plain results, the same for
// our stack (OurEnd) and for the C peers of vm/api-peer.h (PeerEnd), so that a case is written once and run in both roles.
import { connect, type Socket as TcpSocket } from 'node:net';
import type { Appliance } from '../appliance.js';
import { errnoName } from '../stack/kern/errno.js';
import { SOCK_SEQPACKET, SOCK_STREAM } from '../stack/kern/protosw.js';
import { MSG_EOR, MSG_NOTIFICATION, MSG_PEEK, RecvInfo, type SockAddr, type Socket } from '../stack/kern/socket.js';
import { AF_INET, AF_INET6, InAddr, IPPROTO_SCTP } from '../stack/netinet/in.js';
import * as api from '../stack/sctp/api.js';
import * as lib from '../stack/sctp/library.js';
import type { LineClient } from './api-line.js';

export type Args = Readonly<Record<string, string | number | readonly string[] | undefined>>;
export interface Info {
  readonly sid: number;
  readonly ssn: number;
  readonly ppid: number;
  readonly tsn: number;
  readonly context: number;
  readonly assoc: number;
  readonly flags: readonly string[];
}
/** What a call gave: r as C has it (-1: errno is its name), and what else came of it. */
export interface Reply {
  readonly r: number;
  readonly errno?: string;
  readonly assoc?: number;
  readonly eor?: boolean;
  readonly sum?: number;
  readonly from?: string;
  readonly list?: readonly string[];
  readonly rcv?: Info;
  readonly next?: Pick<Info, 'sid' | 'ppid' | 'assoc' | 'flags'> & { readonly length: number };
  readonly note?: Readonly<Record<string, string | number>> & { readonly type: string };
  readonly [field: string]: unknown;
}
export interface ApiEnd {
  readonly name: 'nke' | 'usrsctp' | 'linux';
  /** Its addresses, IPv4 first. */
  readonly v4: readonly string[];
  readonly v6: readonly string[];
  call(name: string, args?: Args): Promise<Reply>;
}

/** The payload of vm/api-peer.h. */
export function fill(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (seed * 31 + i * 7 + (i >> 8)) & 255);
}
/** FNV-1a. */
export function sum(bytes: Uint8Array): number {
  let h = 2166136261;
  for (const b of bytes) h = Math.imul(h ^ b, 16777619);
  return h >>> 0;
}

const FLAGS: Readonly<Record<string, number>> = {
  unordered: api.SCTP_UNORDERED,
  abort: api.SCTP_ABORT,
  eof: api.SCTP_EOF,
  sendall: api.SCTP_SENDALL,
  addrover: api.SCTP_ADDR_OVER,
  sackimm: api.SCTP_SACK_IMMEDIATELY,
  eor: api.SCTP_EOR,
};
/** Of sctp_status.sstat_state. */
const LINUX_STATES = [
  'EMPTY',
  'CLOSED',
  'COOKIE_WAIT',
  'COOKIE_ECHOED',
  'ESTABLISHED',
  'SHUTDOWN_PENDING',
  'SHUTDOWN_SENT',
  'SHUTDOWN_RECEIVED',
  'SHUTDOWN_ACK_SENT',
];
const stateName = (name: string, n: number): string =>
  name === 'linux'
    ? (LINUX_STATES[n] ?? String(n))
    : (Object.entries(api.SSTAT).find(([, value]) => value === n)?.[0] ?? String(n));

/** A C peer: lines to it, lines of JSON from it. */
export class PeerEnd implements ApiEnd {
  readonly name: 'usrsctp' | 'linux';
  readonly v4: readonly string[];
  readonly v6: readonly string[];
  readonly #lines: LineClient;
  constructor(name: 'usrsctp' | 'linux', lines: LineClient, v4: readonly string[], v6: readonly string[]) {
    this.name = name;
    this.#lines = lines;
    this.v4 = v4;
    this.v6 = v6;
  }
  async call(name: string, args: Args = {}): Promise<Reply> {
    const words = Object.entries(args)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => `${key}=${Array.isArray(value) ? value.join(',') : value}`);
    const reply = JSON.parse(await this.#lines.ask([name, ...words].join(' '))) as Reply;
    if (args.opt === 'STATUS' && typeof reply.state === 'number')
      return { ...reply, state: stateName(this.name, reply.state) };
    return reply;
  }
}

/** A connection to a C peer in a guest, which listens for it (vm/api-peer.h, --control). */
export function controlOf(address: string, port: number): Promise<TcpSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port, noDelay: true }, () => resolve(socket));
    socket.once('error', reject);
  });
}

const text = (a: SockAddr | undefined): string => (a === undefined ? '/0' : `${a.addr}/${a.port}`);
const address = (v: unknown, port = 0): SockAddr => {
  const [a, p] = String(v).split('/');
  return { addr: InAddr.of(a!), port: p === undefined ? port : Number(p) };
};

/** An option: its number, and our names of the members that vm/api-peer.h names. */
interface Row {
  readonly id: number;
  readonly level?: number;
  readonly fields?: Readonly<Record<string, string>>;
}
const ASSOC = { assoc: 'assocId' };
const VALUE = { ...ASSOC, value: 'value' };
const OPTIONS: Readonly<Record<string, Row>> = {
  LINGER: { id: api.SO_LINGER, level: api.SOL_SOCKET, fields: { onoff: 'onoff', linger: 'linger' } },
  SNDBUF: { id: api.SO_SNDBUF, level: api.SOL_SOCKET },
  RCVBUF: { id: api.SO_RCVBUF, level: api.SOL_SOCKET },
  RTOINFO: { id: api.SCTP_RTOINFO, fields: { ...ASSOC, initial: 'initial', max: 'max', min: 'min' } },
  ASSOCINFO: {
    id: api.SCTP_ASSOCINFO,
    fields: {
      ...ASSOC,
      maxrxt: 'asocMaxRxt',
      destinations: 'numberPeerDestinations',
      peerrwnd: 'peerRwnd',
      localrwnd: 'localRwnd',
      cookielife: 'cookieLife',
    },
  },
  INITMSG: {
    id: api.SCTP_INITMSG,
    fields: { ostreams: 'numOstreams', instreams: 'maxInstreams', attempts: 'maxAttempts', timeo: 'maxInitTimeo' },
  },
  NODELAY: { id: api.SCTP_NODELAY },
  AUTOCLOSE: { id: api.SCTP_AUTOCLOSE },
  DISABLE_FRAGMENTS: { id: api.SCTP_DISABLE_FRAGMENTS },
  FRAGMENT_INTERLEAVE: { id: api.SCTP_FRAGMENT_INTERLEAVE },
  PARTIAL_DELIVERY_POINT: { id: api.SCTP_PARTIAL_DELIVERY_POINT },
  MAPPED_V4: { id: api.SCTP_I_WANT_MAPPED_V4_ADDR },
  EXPLICIT_EOR: { id: api.SCTP_EXPLICIT_EOR },
  RECVRCVINFO: { id: api.SCTP_RECVRCVINFO },
  RECVNXTINFO: { id: api.SCTP_RECVNXTINFO },
  REUSE_PORT: { id: api.SCTP_REUSE_PORT },
  ASSOC_NUMBER: { id: api.SCTP_GET_ASSOC_NUMBER },
  MAXSEG: { id: api.SCTP_MAXSEG, fields: VALUE },
  MAX_BURST: { id: api.SCTP_MAX_BURST, fields: VALUE },
  CONTEXT: { id: api.SCTP_CONTEXT, fields: VALUE },
  DELAYED_SACK: { id: api.SCTP_DELAYED_SACK, fields: { ...ASSOC, delay: 'delay', freq: 'freq' } },
  PRIMARY_ADDR: { id: api.SCTP_PRIMARY_ADDR, fields: { ...ASSOC, addr: 'address' } },
  PEER_ADDR_PARAMS: {
    id: api.SCTP_PEER_ADDR_PARAMS,
    fields: {
      ...ASSOC,
      addr: 'address',
      hbinterval: 'hbInterval',
      pathmaxrxt: 'pathMaxRxt',
      pathmtu: 'pathMtu',
      flags: 'flags',
    },
  },
  DEFAULT_SNDINFO: {
    id: api.SCTP_DEFAULT_SNDINFO,
    fields: { ...ASSOC, sid: 'sid', flags: 'flags', ppid: 'ppid', context: 'context' },
  },
  STATUS: {
    id: api.SCTP_STATUS,
    fields: {
      ...ASSOC,
      state: 'state',
      rwnd: 'rwnd',
      unack: 'unackdata',
      pend: 'penddata',
      instreams: 'instrms',
      outstreams: 'outstrms',
      fragpoint: 'fragmentationPoint',
      primary: 'primary',
    },
  },
  PEER_ADDR_INFO: {
    id: api.SCTP_GET_PEER_ADDR_INFO,
    fields: { ...ASSOC, addr: 'address', cwnd: 'cwnd', srtt: 'srtt', rto: 'rto', mtu: 'chunkRoom' },
  },
};

/** Our stack. */
export class OurEnd implements ApiEnd {
  readonly name = 'nke';
  readonly v4: readonly string[];
  readonly v6: readonly string[];
  readonly #host: Appliance;
  readonly #encaps: number;
  readonly #sockets: Socket[] = [];
  readonly #buffer = new Uint8Array(1 << 20);
  /** `encaps`: the peer's UDP port. */
  constructor(host: Appliance, v4: readonly string[], v6: readonly string[], encaps = 0) {
    this.#host = host;
    this.v4 = v4;
    this.v6 = v6;
    this.#encaps = encaps;
  }
  /** Closes what a case has left open, by ABORT. */
  end(): void {
    for (const so of this.#sockets) {
      if (so.closed) continue;
      so.setsockopt(api.SOL_SOCKET, api.SO_LINGER, { onoff: true, linger: 0 });
      so.close();
    }
  }

  async call(name: string, args: Args = {}): Promise<Reply> {
    const wait = Number(args.wait ?? 0);
    if (name === 'socket') return this.#open(args);
    if (name === 'sleep') {
      await new Promise(resolve => setTimeout(resolve, wait));
      return { r: 0 };
    }
    const so = this.#sockets[Number(args.s)]!;
    const write = name === 'send' || (name === 'wait' && args.for === 'write');
    const ready = await until(() => (write ? so.writable : so.readable), wait);
    if (name === 'wait') return { r: Number(ready) };
    return this.#call(so, name, args);
  }
  #open(args: Args): Reply {
    const type = args.style === 'many' ? SOCK_SEQPACKET : SOCK_STREAM;
    const so = this.#host.socket(args.family === 6 ? AF_INET6 : AF_INET, type, IPPROTO_SCTP);
    if (typeof so === 'object' && this.#encaps !== 0)
      so.setsockopt(IPPROTO_SCTP, api.SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, port: this.#encaps });
    return this.#added(so);
  }
  #added(so: Socket | number): Reply {
    if (typeof so === 'number') return result(so);
    this.#sockets.push(so);
    return { r: this.#sockets.length - 1 };
  }
  #call(so: Socket, name: string, args: Args): Reply {
    const list = addresses(args);
    const assoc = Number(args.assoc ?? 0);
    switch (name) {
      case 'bind':
        return result(so.bind(...list));
      case 'bindx':
        return result(lib.sctp_bindx(so, list, args.how === 'add' ? api.SCTP_BINDX_ADD_ADDR : api.SCTP_BINDX_REM_ADDR));
      case 'listen':
        return result(so.listen(Number(args.backlog ?? 1)));
      case 'accept': {
        const child = so.accept();
        const reply = this.#added(child);
        if (typeof child === 'number') return reply;
        const peer = child.peeraddr();
        return { ...reply, from: typeof peer === 'number' ? '' : text(peer) };
      }
      case 'connect':
        return result(so.connect(...list));
      case 'connectx': {
        // Ours returns the id where C's, on a socket that does not block, fails with EINPROGRESS and gives the id beside.
        const n = lib.sctp_connectx(so, list);
        return n < 0 ? { ...result(n), assoc: 0 } : { r: -1, errno: 'EINPROGRESS', assoc: n };
      }
      case 'send':
        return this.#send(so, list[0], args);
      case 'recv':
        return this.#recv(so, args);
      case 'event':
        return result(
          so.setsockopt(IPPROTO_SCTP, api.SCTP_EVENT, { assocId: assoc, type: args.type, on: args.on === 1 }),
        );
      case 'set':
      case 'get':
        return this.#option(so, name, args);
      case 'peeloff':
        return this.#added(lib.sctp_peeloff(so, assoc));
      case 'getpaddrs':
        return listed(lib.sctp_getpaddrs(so, assoc));
      case 'getladdrs':
        return listed(lib.sctp_getladdrs(so, assoc));
      case 'shutdown':
        return result(so.shutdown(Number(args.how ?? 1)));
      case 'close':
        return result(so.close());
      default:
        throw new Error(`no call ${name}`);
    }
  }
  #send(so: Socket, to: SockAddr | undefined, args: Args): Reply {
    const length = Number(args.len ?? 0);
    let flags = 0;
    for (const f of [args.flags ?? []].flat()) for (const one of String(f).split(',')) flags |= FLAGS[one] ?? 0;
    const info = {
      sid: Number(args.sid ?? 0),
      flags,
      ppid: Number(args.ppid ?? 0),
      context: Number(args.context ?? 0),
      assocId: Number(args.assoc ?? 0),
    };
    const data = [fill(length, Number(args.seed ?? 0))];
    const how: lib.SendvInfo =
      args.plain === undefined ? { type: lib.SCTP_SENDV_SNDINFO, info } : { type: lib.SCTP_SENDV_NOINFO };
    return result(lib.sctp_sendv(so, data, to === undefined ? [] : [to], how));
  }
  #recv(so: Socket, args: Args): Reply {
    const info = new RecvInfo();
    const room = this.#buffer.subarray(0, Number(args.len ?? this.#buffer.length));
    const { n, infotype } = lib.sctp_recvv(so, room, info, args.peek === undefined ? 0 : MSG_PEEK);
    if (n < 0) return result(n);
    const eor = (info.msgFlags & MSG_EOR) !== 0;
    if ((info.msgFlags & MSG_NOTIFICATION) !== 0)
      return { r: n, eor, note: noteOf(info.notification as api.Notification) };
    const common = { r: n, eor, sum: sum(room.subarray(0, n)), from: info.from === undefined ? '' : text(info.from) };
    const rcv = { ...pick(info), ssn: info.ssn, tsn: info.tsn, context: info.context };
    return {
      ...common,
      ...((infotype & lib.SCTP_RECVV_RCVINFO) !== 0 ? { rcv } : {}),
      ...((infotype & lib.SCTP_RECVV_NXTINFO) !== 0
        ? { next: { ...pick(info.next!), length: info.next!.length } }
        : {}),
    };
  }
  #option(so: Socket, name: 'set' | 'get', args: Args): Reply {
    const row = OPTIONS[String(args.opt)];
    if (row === undefined) throw new Error(`no option ${args.opt}`);
    const level = row.level ?? IPPROTO_SCTP;
    const value: Record<string, unknown> = {};
    for (const [theirs, ours] of Object.entries(row.fields ?? {})) {
      const given = args[theirs];
      if (ours === 'address') {
        if (given !== undefined) value[ours] = address(given);
      } else if (args.opt === 'LINGER' && ours === 'onoff') value[ours] = given === 1;
      else value[ours] = Number(given ?? 0);
    }
    if (name === 'set')
      return result(so.setsockopt(level, row.id, row.fields === undefined ? Number(args.value) : value));
    const got = so.getsockopt(level, row.id, row.fields === undefined ? 0 : value);
    if (typeof got === 'number' && got < 0) return result(got);
    if (row.fields === undefined) return { r: 0, value: got };
    const reply: Record<string, unknown> = { r: 0 };
    for (const [theirs, ours] of Object.entries(row.fields)) {
      const v = (got as Record<string, unknown>)[ours];
      reply[theirs] =
        ours === 'address'
          ? text(v as SockAddr | undefined)
          : ours === 'primary'
            ? text((v as api.PathInfo | undefined)?.address)
            : typeof v === 'boolean'
              ? Number(v)
              : v;
    }
    return reply as Reply;
  }
}

async function until(probe: () => boolean, wait: number): Promise<boolean> {
  const end = performance.now() + wait;
  while (!probe()) {
    if (performance.now() >= end) return false;
    await new Promise(resolve => setTimeout(resolve, 1));
  }
  return true;
}
const result = (n: number): Reply => (n < 0 ? { r: -1, errno: errnoName(-n) } : { r: n });
const listed = (list: SockAddr[] | number): Reply =>
  typeof list === 'number' ? result(list) : { r: list.length, list: list.map(text) };
function addresses(args: Args): SockAddr[] {
  const given = args.addrs ?? args.addr;
  if (given === undefined) return [];
  return [given].flat().map(a => address(a, Number(args.port ?? 0)));
}
const flagNames = (flags: number): string[] => Object.keys(FLAGS).filter(f => (flags & FLAGS[f]!) !== 0);
const pick = (i: { sid: number; ppid: number; assocId: number; flags: number }) => ({
  sid: i.sid,
  ppid: i.ppid,
  assoc: i.assocId,
  flags: flagNames(i.flags),
});
function noteOf(n: api.Notification): NonNullable<Reply['note']> {
  switch (n.type) {
    case 'assoc-change':
      return {
        type: n.type,
        state: n.state,
        out: n.outStreams,
        in: n.inStreams,
        assoc: n.assocId,
        error: n.causeCode ?? 0,
      };
    case 'peer-addr-change':
      return { type: n.type, state: n.state, assoc: n.assocId, addr: text(n.address) };
    case 'send-failed':
      return { type: n.type, sid: n.sid, ppid: n.ppid, context: n.context, length: n.data.length };
    case 'partial-delivery':
      return { type: n.type, indication: n.indication ?? 0, assoc: n.assocId };
    default:
      return { type: n.type, assoc: n.assocId };
  }
}
