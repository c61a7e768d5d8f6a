/** Socket options of SCTP (RFC 6458 §8): values as objects, see api.ts. Returns -errno for misuse. */

import { MSEC } from '../kern/clock.js';
import { EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL, ENOENT, ENOPROTOOPT, EOPNOTSUPP } from '../kern/errno.js';
import type { SockAddr } from '../kern/socket.js';
import { InAddr, IPPROTO_SCTP } from '../netinet/in.js';
import { userAbort } from './abort.js';
import * as api from './api.js';
import type { Association } from './association.js';
import { CC_MODULES } from './congestion.js';
import type { Endpoint } from './endpoint.js';
import { scheduleHeartbeat, sendHeartbeat } from './heartbeat.js';
import type { Path } from './path.js';
import { choosePath, findPath, listAddresses, setMtu } from './paths.js';
import type { Sctp } from './sctp.js';
import { bind, fragmentationPoint } from './usrreq.js';
import { textBytes } from './wire.js';

const NOTIFICATIONS: readonly api.NotificationType[] = [
  'assoc-change',
  'peer-addr-change',
  'remote-error',
  'send-failed',
  'shutdown',
  'partial-delivery',
  'sender-dry',
];
/** Seconds: longer ones are as good as never. */
const MAX_AUTOCLOSE = 1_000_000;

type Get = (s: Sctp, ep: Endpoint, arg: unknown) => unknown;
type Set_ = (s: Sctp, ep: Endpoint, value: unknown) => number;

const isObject = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null;
const int = (v: unknown): number | undefined =>
  typeof v === 'number' && Number.isInteger(v) && v >= 0 && v <= 0xffffffff ? v : undefined;
/** A switch: true or false, or C's idea of it. */
const flag = (v: unknown): boolean | undefined => {
  if (typeof v === 'boolean') return v;
  const n = int(v);
  return n === undefined ? undefined : n > 0;
};
const isSockAddr = (v: unknown): v is SockAddr =>
  isObject(v) && v.addr instanceof InAddr && Number.isInteger(v.port) && (v.port as number) >= 0;

/** Unsigned 32-bit fields of an option's value; one that is absent reads 0. Undefined: a shape that cannot be. */
function fields<K extends string>(v: unknown, ...names: readonly K[]): Record<K, number> | undefined {
  if (!isObject(v)) return undefined;
  const out = {} as Record<K, number>;
  for (const k of names) {
    const n = v[k] === undefined ? 0 : int(v[k]);
    if (n === undefined) return undefined;
    out[k] = n;
  }
  return out;
}

/** The association id in an argument: the argument itself, or its assocId; 0 (future associations) without one. */
function idOf(arg: unknown): number | undefined {
  if (arg === undefined) return api.SCTP_FUTURE_ASSOC;
  return int(isObject(arg) ? (arg.assocId ?? api.SCTP_FUTURE_ASSOC) : arg);
}
/**
 * Whom an argument names: an association, undefined = the endpoint and its future ones, or -EINVAL for an id that none
 * has. One-to-one sockets ignore the id: their only association, or before that the endpoint (RFC 6458 §4).
 */
function target(ep: Endpoint, arg: unknown): Association | undefined | number {
  const id = idOf(arg);
  if (id === undefined) return -EINVAL;
  if (ep.style === 'one-to-one') return ep.only;
  return id === api.SCTP_FUTURE_ASSOC ? undefined : (ep.find(id) ?? -EINVAL);
}
/** The association that an argument must name, else -errno. */
function assocOf(ep: Endpoint, arg: unknown, missing = -EINVAL): Association | number {
  const t = target(ep, arg);
  return typeof t === 'number' || t === undefined ? missing : t;
}
/** Whom to set: as `target`, but SCTP_CURRENT_ASSOC and SCTP_ALL_ASSOC name several (RFC 6458 §7.1). */
function targets(ep: Endpoint, arg: unknown): { future: boolean; asocs: Association[] } | number {
  const id = idOf(arg);
  if (ep.style === 'one-to-many' && (id === api.SCTP_CURRENT_ASSOC || id === api.SCTP_ALL_ASSOC))
    return { future: id === api.SCTP_ALL_ASSOC, asocs: [...ep.asocs.values()] };
  const t = target(ep, arg);
  if (typeof t === 'number') return t;
  return t === undefined ? { future: true, asocs: [] } : { future: false, asocs: [t] };
}

/** What `nke paths` and SCTP_GET_PATHS tell of a path. */
export function pathInfo(p: Path): api.PathInfo {
  return {
    assocId: p.asoc.id,
    address: { addr: p.addr.clone(), port: p.asoc.peerPort },
    state: p.state,
    primary: p === p.asoc.primary,
    cwnd: p.cwnd,
    ssthresh: p.ssthresh,
    flight: p.flight,
    srtt: p.srtt / MSEC,
    rto: p.rto / MSEC,
    mtu: p.mtu,
    errors: p.errors,
    source: p.source.toString(),
    why: p.linkDown ? `${p.sourceWhy}; its link is down` : p.sourceWhy,
    lastHeartbeatAck: p.lastHeartbeatAck,
    encapsPort: p.encapsPort,
  };
}

export function assocStatus(a: Association): api.AssocStatus {
  return {
    assocId: a.id,
    state: a.state,
    rwnd: a.peerRwnd,
    unackdata: a.outstanding,
    penddata: a.deliveredBytes,
    instrms: a.inStreamCount,
    outstrms: a.outStreamCount,
    fragmentationPoint: fragmentationPoint(a),
    primary: a.primary === undefined ? undefined : pathInfo(a.primary),
  };
}

/** Smallest fragment that may be asked for; 0 = the path MTU alone decides. */
const MIN_MAXSEG = 4;

/** A numeric setting that lives in the endpoint's options and in each association. */
interface Both {
  get(ep: Endpoint, a: Association | undefined): number;
  set(ep: Endpoint, a: Association | undefined, v: number): number;
}
const assocValues: Record<number, Both> = {
  [api.SCTP_MAXSEG]: {
    get: (ep, a) => a?.maxseg ?? ep.options.maxseg,
    set: (ep, a, v) => {
      if (v !== 0 && v < MIN_MAXSEG) return -EINVAL;
      if (a !== undefined) a.maxseg = v;
      else ep.options.maxseg = v;
      return 0;
    },
  },
  [api.SCTP_MAX_BURST]: {
    get: (ep, a) => a?.maxBurst ?? ep.options.maxBurst,
    set: (ep, a, v) => {
      if (a !== undefined) a.maxBurst = v;
      else ep.options.maxBurst = v;
      return 0;
    },
  },
  [api.SCTP_MAX_CWND]: {
    get: ep => ep.options.maxCwnd,
    set: (ep, _a, v) => {
      ep.options.maxCwnd = v;
      return 0;
    },
  },
  [api.SCTP_ECN_SUPPORTED]: {
    get: (ep, a) => (a === undefined ? Number(ep.options.ecn) : Number(a.ecn)),
    set: (ep, a, v) => {
      if (a !== undefined || v > 1) return -EINVAL;
      ep.options.ecn = v === 1;
      return 0;
    },
  },
  [api.SCTP_PLUGGABLE_CC]: {
    get: (ep, a) => (a === undefined ? ep.options.ccModule : CC_MODULES.indexOf(a.cc)),
    set: (ep, a, v) => {
      const cc = CC_MODULES[v];
      if (cc === undefined) return -EINVAL;
      if (a !== undefined) a.cc = cc;
      else ep.options.ccModule = v;
      return 0;
    },
  },
};

const getters: Record<number, Get> = {
  [api.SCTP_RTOINFO]: (_s, ep, arg) => {
    const a = target(ep, arg);
    if (typeof a === 'number') return a;
    const o = a ?? ep.options;
    return { assocId: a?.id ?? 0, initial: o.rtoInitial, max: o.rtoMax, min: o.rtoMin } satisfies api.RtoInfo;
  },
  [api.SCTP_ASSOCINFO]: (_s, ep, arg) => {
    const a = target(ep, arg);
    if (typeof a === 'number') return a;
    return {
      assocId: a?.id ?? 0,
      peerRwnd: a?.peerRwnd ?? 0,
      localRwnd: ep.rcvLimit,
      cookieLife: a?.cookieLife ?? ep.options.cookieLife,
      asocMaxRxt: a?.maxRxt ?? ep.options.maxRxt,
      numberPeerDestinations: a?.paths.length ?? 0,
    } satisfies api.AssocParams;
  },
  [api.SCTP_INITMSG]: (_s, ep) => ({
    numOstreams: ep.options.outStreams,
    maxInstreams: ep.options.inStreams,
    maxAttempts: ep.options.maxInitTries,
    maxInitTimeo: ep.options.maxInitTimeo,
  }),
  [api.SCTP_NODELAY]: (_s, ep) => Number(ep.options.nodelay),
  [api.SCTP_AUTOCLOSE]: (_s, ep) => ep.options.autoclose,
  [api.SCTP_DISABLE_FRAGMENTS]: (_s, ep) => Number(ep.options.disableFragments),
  [api.SCTP_PRIMARY_ADDR]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    return typeof a === 'number' ? a : { assocId: a.id, address: { addr: a.primary.addr.clone(), port: a.peerPort } };
  },
  [api.SCTP_PEER_ADDR_PARAMS]: (_s, ep, arg) => {
    const a = target(ep, arg);
    if (typeof a === 'number') return a;
    const p = pathOf(a, arg);
    if (typeof p === 'number') return p;
    const enabled = p?.hbEnabled ?? ep.options.hbEnabled;
    return {
      assocId: a?.id ?? 0,
      address: p === undefined ? undefined : { addr: p.addr.clone(), port: p.asoc.peerPort },
      hbInterval: p === undefined ? (a?.hbInterval ?? ep.options.hbInterval) : p.hbInterval / MSEC,
      pathMaxRxt: p?.maxErrors ?? a?.pathMaxRxt ?? ep.options.pathMaxRxt,
      pathMtu: p === undefined ? 0 : p.mtu - p.overhead,
      flags:
        (enabled ? api.SPP_HB_ENABLE : api.SPP_HB_DISABLE) |
        (p?.mtuFixed ? api.SPP_PMTUD_DISABLE : api.SPP_PMTUD_ENABLE),
      dscp: p?.tos ?? ep.options.tos,
    } satisfies api.PeerAddrParams;
  },
  [api.SCTP_DEFAULT_SEND_PARAM]: (_s, ep) => ({ ...ep.defaultSend }),
  [api.SCTP_DELAYED_SACK]: (_s, ep, arg) => {
    const a = target(ep, arg);
    if (typeof a === 'number') return a;
    return {
      assocId: a?.id ?? 0,
      delay: a?.sackDelay ?? ep.options.sackDelay,
      freq: a?.sackFreq ?? ep.options.sackFreq,
    };
  },
  [api.SCTP_REMOTE_UDP_ENCAPS_PORT]: (_s, ep, arg) => {
    const a = target(ep, arg);
    if (typeof a === 'number') return a;
    const p = pathOf(a, arg);
    if (typeof p === 'number') return p;
    return { assocId: a?.id ?? 0, port: (p ?? a?.primary)?.encapsPort ?? ep.options.encapsPort };
  },
  [api.SCTP_STATUS]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    return typeof a === 'number' ? a : assocStatus(a);
  },
  [api.SCTP_GET_PEER_ADDR_INFO]: (_s, ep, arg) => {
    if (!isObject(arg) || !isSockAddr(arg.address)) return -EINVAL;
    const a = assocOf(ep, arg);
    if (typeof a === 'number') return a;
    const p = findPath(a, arg.address.addr);
    return p === undefined ? -ENOENT : pathInfo(p);
  },
  [api.SCTP_GET_ASSOC_NUMBER]: (_s, ep) => ep.asocs.size,
  [api.SCTP_GET_ASSOC_ID_LIST]: (_s, ep) => [...ep.asocs.keys()],
  [api.SCTP_GET_PEER_ADDRESSES]: (_s, ep, arg) => {
    const a = assocOf(ep, arg, -ENOENT);
    return typeof a === 'number' ? a : a.paths.map(p => ({ addr: p.addr.clone(), port: a.peerPort }));
  },
  [api.SCTP_GET_LOCAL_ADDRESSES]: (s, ep, arg) => {
    const a = target(ep, arg);
    if (typeof a === 'number') return a;
    const list =
      a !== undefined && a.localAddresses.length > 0
        ? a.localAddresses
        : a !== undefined
          ? listAddresses(s, ep, a.primary.addr)
          : ep.addresses;
    return list.map(addr => ({ addr: addr.clone(), port: ep.port }));
  },
  [api.SCTP_GET_PATHS]: (_s, ep, arg) => {
    const a = assocOf(ep, arg, -ENOENT);
    return typeof a === 'number' ? a : a.paths.map(pathInfo);
  },
};

/** The path that an argument's address names; undefined = it has none, or there is no association; -EINVAL = unknown. */
function pathOf(a: Association | undefined, arg: unknown): Path | undefined | number {
  if (!isObject(arg) || arg.address === undefined) return undefined;
  if (!isSockAddr(arg.address)) return -EINVAL;
  return a === undefined ? undefined : (findPath(a, arg.address.addr) ?? -EINVAL);
}

type PathParams = Record<'flags' | 'hbInterval' | 'pathMaxRxt' | 'pathMtu' | 'dscp', number>;

function setPathParams(s: Sctp, p: Path, v: PathParams): void {
  const flags = v.flags;
  if ((flags & api.SPP_HB_TIME_IS_ZERO) !== 0) p.hbInterval = 0;
  else if (v.hbInterval > 0) p.hbInterval = v.hbInterval * MSEC;
  if (v.pathMaxRxt > 0) p.maxErrors = v.pathMaxRxt;
  if ((flags & api.SPP_HB_DISABLE) !== 0) p.hbEnabled = false;
  if ((flags & api.SPP_HB_ENABLE) !== 0) p.hbEnabled = true;
  if ((flags & api.SPP_PMTUD_DISABLE) !== 0) {
    p.mtuFixed = false;
    if (v.pathMtu > 0) setMtu(s, p, v.pathMtu + p.overhead, 'the user has fixed the path MTU');
    s.stack.callouts.stop(p.pmtuRaise);
    p.mtuFixed = true;
  }
  if ((flags & api.SPP_PMTUD_ENABLE) !== 0) p.mtuFixed = false;
  if ((flags & api.SPP_DSCP) !== 0) p.tos = v.dscp & 0xfc;
  if ((flags & api.SPP_HB_DEMAND) !== 0 && p.asoc.established) sendHeartbeat(s, p);
  scheduleHeartbeat(s, p, false);
}

const setters: Record<number, Set_> = {
  [api.SCTP_RTOINFO]: (_s, ep, v) => {
    const f = fields(v, 'initial', 'min', 'max');
    const a = target(ep, v);
    if (f === undefined || typeof a === 'number') return -EINVAL;
    const o = a ?? ep.options;
    const initial = f.initial || o.rtoInitial;
    const min = f.min || o.rtoMin;
    const max = f.max || o.rtoMax;
    if (min > initial || initial > max) return -EINVAL;
    for (const t of a === undefined ? [ep.options] : [a, ep.style === 'one-to-one' ? ep.options : a]) {
      t.rtoInitial = initial;
      t.rtoMin = min;
      t.rtoMax = max;
    }
    for (const p of a?.paths ?? [])
      p.rto = p.srtt === 0 ? initial * MSEC : Math.min(Math.max(p.rto, min * MSEC), max * MSEC);
    return 0;
  },
  [api.SCTP_ASSOCINFO]: (_s, ep, v) => {
    const f = fields(v, 'asocMaxRxt', 'cookieLife');
    const a = target(ep, v);
    if (f === undefined || typeof a === 'number') return -EINVAL;
    const t = a ?? ep.options;
    if (f.asocMaxRxt > 0) t.maxRxt = f.asocMaxRxt;
    if (f.cookieLife > 0) t.cookieLife = Math.min(Math.max(f.cookieLife, 1000), 3_600_000);
    return 0;
  },
  [api.SCTP_INITMSG]: (_s, ep, v) => {
    const f = fields(v, 'numOstreams', 'maxInstreams', 'maxAttempts', 'maxInitTimeo');
    if (f === undefined || f.numOstreams > 65535 || f.maxInstreams > 65535) return -EINVAL;
    const o = ep.options;
    if (f.numOstreams > 0) o.outStreams = f.numOstreams;
    if (f.maxInstreams > 0) o.inStreams = f.maxInstreams;
    if (f.maxAttempts > 0) o.maxInitTries = f.maxAttempts;
    if (f.maxInitTimeo > 0) o.maxInitTimeo = f.maxInitTimeo;
    return 0;
  },
  [api.SCTP_NODELAY]: (s, ep, v) => {
    const on = flag(v);
    if (on === undefined) return -EINVAL;
    ep.options.nodelay = on;
    for (const a of ep.asocs.values()) {
      a.nodelay = ep.options.nodelay;
      s.markDirty(a);
    }
    return 0;
  },
  [api.SCTP_AUTOCLOSE]: (_s, ep, v) => {
    const n = int(v);
    if (n === undefined || ep.style === 'one-to-one') return -EINVAL;
    ep.options.autoclose = Math.min(n, MAX_AUTOCLOSE);
    return 0;
  },
  [api.SCTP_DISABLE_FRAGMENTS]: (_s, ep, v) => {
    const on = flag(v);
    if (on === undefined) return -EINVAL;
    ep.options.disableFragments = on;
    return 0;
  },
  [api.SCTP_PRIMARY_ADDR]: (s, ep, v) => {
    if (!isObject(v) || !isSockAddr(v.address)) return -EINVAL;
    const a = assocOf(ep, v);
    if (typeof a === 'number') return a;
    const p = findPath(a, v.address.addr);
    if (p === undefined) return -EINVAL;
    if (p.state === 'unconfirmed') return -EINVAL; // §5.4: data must not go to an address that may not be the peer's
    a.primary = p;
    choosePath(s, a);
    s.markDirty(a);
    return 0;
  },
  [api.SCTP_PEER_ADDR_PARAMS]: (s, ep, v) => {
    const f = fields(v, 'flags', 'hbInterval', 'pathMaxRxt', 'pathMtu', 'dscp');
    const a = target(ep, v);
    if (f === undefined || typeof a === 'number') return -EINVAL;
    const flags = f.flags;
    const both = (x: number, y: number) => (flags & x) !== 0 && (flags & y) !== 0;
    if (both(api.SPP_HB_ENABLE, api.SPP_HB_DISABLE) || both(api.SPP_PMTUD_ENABLE, api.SPP_PMTUD_DISABLE))
      return -EINVAL;
    if (f.hbInterval > 14_400_000) return -EINVAL;
    if ((flags & api.SPP_PMTUD_DISABLE) !== 0 && f.pathMtu !== 0 && (f.pathMtu < 512 || f.pathMtu > 65536))
      return -EINVAL;
    const p = pathOf(a, v);
    if (typeof p === 'number') return p;
    if (p !== undefined) {
      setPathParams(s, p, f);
      return 0;
    }
    const t = a ?? ep.options;
    if ((flags & api.SPP_HB_TIME_IS_ZERO) !== 0) t.hbInterval = 0;
    else if (f.hbInterval > 0) t.hbInterval = f.hbInterval;
    if (f.pathMaxRxt > 0) t.pathMaxRxt = f.pathMaxRxt;
    if (a !== undefined) for (const q of a.paths) setPathParams(s, q, f);
    else {
      if ((flags & api.SPP_HB_DISABLE) !== 0) ep.options.hbEnabled = false;
      if ((flags & api.SPP_HB_ENABLE) !== 0) ep.options.hbEnabled = true;
      if ((flags & api.SPP_DSCP) !== 0) ep.options.tos = f.dscp & 0xfc;
    }
    return 0;
  },
  [api.SCTP_DEFAULT_SEND_PARAM]: (_s, ep, v) => {
    const names = ['sid', 'flags', 'ppid', 'context', 'prPolicy', 'prValue'] as const;
    const f = fields(v, ...names);
    if (f === undefined || f.sid > 65535) return -EINVAL;
    for (const k of names) if ((v as Record<string, unknown>)[k] !== undefined) ep.defaultSend[k] = f[k];
    return 0;
  },
  [api.SCTP_DELAYED_SACK]: (_s, ep, v) => {
    const f = fields(v, 'delay', 'freq');
    const to = targets(ep, v);
    if (f === undefined || typeof to === 'number' || f.delay > 500) return -EINVAL;
    for (const t of [...(to.future ? [ep.options] : []), ...to.asocs]) {
      if (f.delay > 0) t.sackDelay = f.delay;
      if (f.freq > 0) {
        t.sackFreq = f.freq;
        if (f.freq === 1) t.sackDelay = 0;
      }
    }
    return 0;
  },
  [api.SCTP_EVENT]: (_s, ep, v) => {
    const type = isObject(v) ? NOTIFICATIONS.find(t => t === v.type) : undefined;
    const on = isObject(v) ? flag(v.on) : undefined;
    if (type === undefined || on === undefined) return -EINVAL;
    if (on) ep.subscribed.add(type);
    else ep.subscribed.delete(type);
    return 0;
  },
  [api.SCTP_REMOTE_UDP_ENCAPS_PORT]: (_s, ep, v) => {
    if (!isObject(v)) return -EINVAL;
    const port = int(v.port);
    if (port === undefined || port > 65535) return -EINVAL;
    const a = target(ep, v);
    if (typeof a === 'number') return a;
    const p = pathOf(a, v);
    if (typeof p === 'number') return p;
    if (p !== undefined) p.encapsPort = port;
    else if (a !== undefined) for (const q of a.paths) q.encapsPort = port;
    else ep.options.encapsPort = port;
    return 0;
  },
  [api.SCTP_BINDX_ADD_ADDR]: (s, ep, v) => {
    if (!Array.isArray(v) || v.length === 0 || !v.every(isSockAddr)) return -EINVAL;
    if (ep.port === 0) return bind(s, ep, v);
    // Adding to a live association is RFC 5061; adding to "all addresses" means nothing.
    if (ep.asocs.size > 0) return -EOPNOTSUPP;
    if (ep.addresses.length === 0 || v.some(x => x.port !== 0 && x.port !== ep.port)) return -EINVAL;
    for (const x of v) {
      if (ep.family === 4 && x.addr.family === 6) return -EAFNOSUPPORT;
      if (s.stack.interfaces.ownerOf(x.addr) === undefined) return -EADDRNOTAVAIL;
      if (s.onPort(ep.port).some(o => o !== ep && !o.gone && o.listening && o.accepts(x.addr))) return -EADDRINUSE;
    }
    for (const x of v) if (!ep.addresses.some(b => b.equals(x.addr))) ep.addresses.push(x.addr.clone());
    return 0;
  },
  [api.SCTP_BINDX_REM_ADDR]: (_s, ep, v) => {
    if (!Array.isArray(v) || v.length === 0 || !v.every(isSockAddr)) return -EINVAL;
    if (ep.asocs.size > 0) return -EOPNOTSUPP;
    const left = ep.addresses.filter(b => !v.some(x => x.addr.equals(b)));
    // All of them must be there, and one must stay: all or nothing.
    if (left.length === 0 || v.some(x => !ep.addresses.some(b => b.equals(x.addr)))) return -EINVAL;
    ep.addresses.splice(0, ep.addresses.length, ...left);
    return 0;
  },
  [api.SCTP_ABORT_ASSOC]: (s, ep, v) => {
    const a = assocOf(ep, v, -ENOENT);
    if (typeof a === 'number') return a;
    userAbort(s, a, textBytes(isObject(v) && typeof v.reason === 'string' ? v.reason : ''));
    return 0;
  },
};

/** getsockopt: the value, or -errno. */
export function getOption(s: Sctp, ep: Endpoint, level: number, name: number, arg: unknown): unknown {
  if (level === api.SOL_SOCKET) {
    if (name === api.SO_SNDBUF) return ep.sndLimit;
    if (name === api.SO_RCVBUF) return ep.rcvLimit;
    if (name === api.SO_LINGER) return { ...ep.linger };
    return -ENOPROTOOPT;
  }
  if (level !== IPPROTO_SCTP) return -ENOPROTOOPT;
  const v = assocValues[name];
  if (v !== undefined) {
    const a = target(ep, arg);
    return typeof a === 'number' ? a : ({ assocId: a?.id ?? 0, value: v.get(ep, a) } satisfies api.AssocValue);
  }
  const g = getters[name];
  return g === undefined ? -ENOPROTOOPT : g(s, ep, arg);
}

/** setsockopt: 0 or -errno. */
export function setOption(s: Sctp, ep: Endpoint, level: number, name: number, value: unknown): number {
  if (level === api.SOL_SOCKET) return setSocketOption(ep, name, value);
  if (level !== IPPROTO_SCTP) return -ENOPROTOOPT;
  const v = assocValues[name];
  if (v !== undefined) {
    const n = typeof value === 'number' ? int(value) : isObject(value) ? int(value.value) : undefined;
    const to = targets(ep, isObject(value) ? value : undefined);
    if (n === undefined || typeof to === 'number') return -EINVAL;
    let e = to.future ? v.set(ep, undefined, n) : 0;
    for (const a of to.asocs) e ||= v.set(ep, a, n);
    return e;
  }
  const f = setters[name];
  return f === undefined ? -ENOPROTOOPT : f(s, ep, value);
}

function setSocketOption(ep: Endpoint, name: number, value: unknown): number {
  if (name === api.SO_LINGER) {
    const onoff = isObject(value) ? flag(value.onoff) : undefined;
    const f = fields(value, 'linger');
    if (onoff === undefined || f === undefined) return -EINVAL;
    ep.linger = { onoff, linger: f.linger };
    return 0;
  }
  const n = int(value);
  if (n === undefined || n < 2048) return -EINVAL;
  // A size the user chose is no longer tuned.
  if (name === api.SO_SNDBUF) {
    ep.sndLimit = n;
    ep.sndAuto = false;
  } else if (name === api.SO_RCVBUF) {
    ep.rcvLimit = n;
    ep.rcvAuto = false;
  } else return -ENOPROTOOPT;
  return 0;
}
