/** Socket options of SCTP (RFC 6458 §8): values as objects, see api.ts. Returns -errno for misuse. */

import { MSEC } from '../kern/clock.js';
import { EADDRNOTAVAIL, EINVAL, ENOENT, ENOPROTOOPT, EOPNOTSUPP } from '../kern/errno.js';
import type { SockAddr } from '../kern/socket.js';
import { IPPROTO_SCTP } from '../netinet/in.js';
import { userAbort } from './abort.js';
import * as api from './api.js';
import type { Association } from './association.js';
import { CC_MODULES } from './congestion.js';
import type { Endpoint } from './endpoint.js';
import { scheduleHeartbeat, sendHeartbeat } from './heartbeat.js';
import type { Path } from './path.js';
import { choosePath, findPath, listAddresses, setMtu } from './paths.js';
import type { Sctp } from './sctp.js';
import { fragmentationPoint } from './usrreq.js';
import { textBytes } from './wire.js';

type Get = (s: Sctp, ep: Endpoint, arg: unknown) => unknown;
type Set_ = (s: Sctp, ep: Endpoint, value: unknown) => number;

const isObject = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null;
const int = (v: unknown): number | undefined =>
  typeof v === 'number' && Number.isInteger(v) && v >= 0 && v <= 0xffffffff ? v : undefined;
const isSockAddr = (v: unknown): v is SockAddr => isObject(v) && isObject(v.addr) && typeof v.port === 'number';

/** The association an argument names: a number, or an object with assocId; one-to-one sockets have only one. */
function assocOf(ep: Endpoint, arg: unknown): Association | undefined {
  const id = typeof arg === 'number' ? arg : isObject(arg) ? (int(arg.assocId) ?? 0) : 0;
  return ep.find(id);
}
/** True when an argument names an association of its own and not the endpoint's future ones. */
function named(ep: Endpoint, arg: unknown): boolean {
  return ep.style === 'one-to-one' ? ep.only !== undefined : isObject(arg) && (int(arg.assocId) ?? 0) > 2;
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

/** A numeric setting that lives in the endpoint's options and in each association. */
interface Both {
  get(ep: Endpoint, a: Association | undefined): number;
  set(ep: Endpoint, a: Association | undefined, v: number): number;
}
const assocValues: Record<number, Both> = {
  [api.SCTP_MAXSEG]: {
    get: (ep, a) => a?.maxseg ?? ep.options.maxseg,
    set: (ep, a, v) => {
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
    const a = assocOf(ep, arg);
    const o = a ?? ep.options;
    return { assocId: a?.id ?? 0, initial: o.rtoInitial, max: o.rtoMax, min: o.rtoMin } satisfies api.RtoInfo;
  },
  [api.SCTP_ASSOCINFO]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
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
    return a === undefined ? -ENOENT : { assocId: a.id, address: { addr: a.primary.addr.clone(), port: a.peerPort } };
  },
  [api.SCTP_PEER_ADDR_PARAMS]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    const p = a !== undefined && isObject(arg) && isSockAddr(arg.address) ? findPath(a, arg.address.addr) : undefined;
    if (a !== undefined && isObject(arg) && isSockAddr(arg.address) && p === undefined) return -EINVAL;
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
    const a = assocOf(ep, arg);
    return {
      assocId: a?.id ?? 0,
      delay: a?.sackDelay ?? ep.options.sackDelay,
      freq: a?.sackFreq ?? ep.options.sackFreq,
    };
  },
  [api.SCTP_REMOTE_UDP_ENCAPS_PORT]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    const p = a !== undefined && isObject(arg) && isSockAddr(arg.address) ? findPath(a, arg.address.addr) : a?.primary;
    return { assocId: a?.id ?? 0, port: p?.encapsPort ?? ep.options.encapsPort };
  },
  [api.SCTP_STATUS]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    return a === undefined ? -ENOENT : assocStatus(a);
  },
  [api.SCTP_GET_PEER_ADDR_INFO]: (_s, ep, arg) => {
    if (!isObject(arg) || !isSockAddr(arg.address)) return -EINVAL;
    const a = assocOf(ep, arg);
    const p = a === undefined ? undefined : findPath(a, arg.address.addr);
    return p === undefined ? -ENOENT : pathInfo(p);
  },
  [api.SCTP_GET_ASSOC_NUMBER]: (_s, ep) => ep.asocs.size,
  [api.SCTP_GET_ASSOC_ID_LIST]: (_s, ep) => [...ep.asocs.keys()],
  [api.SCTP_GET_PEER_ADDRESSES]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    return a === undefined ? -ENOENT : a.paths.map(p => ({ addr: p.addr.clone(), port: a.peerPort }));
  },
  [api.SCTP_GET_LOCAL_ADDRESSES]: (s, ep, arg) => {
    const a = assocOf(ep, arg);
    const list =
      a !== undefined && a.localAddresses.length > 0
        ? a.localAddresses
        : a !== undefined
          ? listAddresses(s, ep, a.primary.addr)
          : ep.addresses;
    return list.map(addr => ({ addr: addr.clone(), port: ep.port }));
  },
  [api.SCTP_GET_PATHS]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    return a === undefined ? -ENOENT : a.paths.map(pathInfo);
  },
};

function setPathParams(s: Sctp, p: Path, v: Record<string, unknown>, flags: number): void {
  const interval = int(v.hbInterval);
  const rxt = int(v.pathMaxRxt);
  if ((flags & api.SPP_HB_TIME_IS_ZERO) !== 0) p.hbInterval = 0;
  else if (interval !== undefined && interval > 0) p.hbInterval = interval * MSEC;
  if (rxt !== undefined && rxt > 0) p.maxErrors = rxt;
  if ((flags & api.SPP_HB_DISABLE) !== 0) p.hbEnabled = false;
  if ((flags & api.SPP_HB_ENABLE) !== 0) p.hbEnabled = true;
  const mtu = int(v.pathMtu);
  if ((flags & api.SPP_PMTUD_DISABLE) !== 0) {
    if (mtu !== undefined && mtu >= 512) setMtu(s, p, mtu + p.overhead, 'the user has fixed the path MTU');
    p.mtuFixed = true;
  }
  if ((flags & api.SPP_PMTUD_ENABLE) !== 0) p.mtuFixed = false;
  const dscp = int(v.dscp);
  if ((flags & api.SPP_DSCP) !== 0 && dscp !== undefined) p.tos = dscp & 0xfc;
  if ((flags & api.SPP_HB_DEMAND) !== 0 && p.asoc.established) sendHeartbeat(s, p);
  scheduleHeartbeat(s, p, false);
}

const setters: Record<number, Set_> = {
  [api.SCTP_RTOINFO]: (_s, ep, v) => {
    if (!isObject(v)) return -EINVAL;
    const a = assocOf(ep, v);
    const o = a ?? ep.options;
    const initial = int(v.initial) || o.rtoInitial;
    const min = int(v.min) || o.rtoMin;
    const max = int(v.max) || o.rtoMax;
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
    if (!isObject(v)) return -EINVAL;
    const a = assocOf(ep, v);
    const rxt = int(v.asocMaxRxt) ?? 0;
    const life = int(v.cookieLife) ?? 0;
    for (const t of a === undefined ? [ep.options] : [a]) {
      if (rxt > 0) t.maxRxt = rxt;
      if (life > 0) t.cookieLife = Math.min(Math.max(life, 1000), 3_600_000);
    }
    return 0;
  },
  [api.SCTP_INITMSG]: (_s, ep, v) => {
    if (!isObject(v)) return -EINVAL;
    const o = int(v.numOstreams) ?? 0;
    const i = int(v.maxInstreams) ?? 0;
    if (o > 65535 || i > 65535) return -EINVAL;
    if (o > 0) ep.options.outStreams = o;
    if (i > 0) ep.options.inStreams = i;
    const tries = int(v.maxAttempts) ?? 0;
    if (tries > 0) ep.options.maxInitTries = tries;
    const timeo = int(v.maxInitTimeo) ?? 0;
    if (timeo > 0) ep.options.maxInitTimeo = timeo;
    return 0;
  },
  [api.SCTP_NODELAY]: (s, ep, v) => {
    ep.options.nodelay = v === true || (int(v) ?? 0) > 0;
    for (const a of ep.asocs.values()) {
      a.nodelay = ep.options.nodelay;
      s.markDirty(a);
    }
    return 0;
  },
  [api.SCTP_AUTOCLOSE]: (_s, ep, v) => {
    const n = int(v);
    if (n === undefined || ep.style === 'one-to-one') return -EINVAL;
    ep.options.autoclose = n;
    return 0;
  },
  [api.SCTP_DISABLE_FRAGMENTS]: (_s, ep, v) => {
    ep.options.disableFragments = v === true || (int(v) ?? 0) > 0;
    return 0;
  },
  [api.SCTP_PRIMARY_ADDR]: (s, ep, v) => {
    if (!isObject(v) || !isSockAddr(v.address)) return -EINVAL;
    const a = assocOf(ep, v);
    const p = a === undefined ? undefined : findPath(a, v.address.addr);
    if (a === undefined || p === undefined) return -EINVAL;
    if (p.state === 'unconfirmed') return -EINVAL; // §5.4: data must not go to an address that may not be the peer's
    a.primary = p;
    choosePath(s, a);
    s.markDirty(a);
    return 0;
  },
  [api.SCTP_PEER_ADDR_PARAMS]: (s, ep, v) => {
    if (!isObject(v)) return -EINVAL;
    const flags = int(v.flags) ?? 0;
    const both = (x: number, y: number) => (flags & x) !== 0 && (flags & y) !== 0;
    if (both(api.SPP_HB_ENABLE, api.SPP_HB_DISABLE) || both(api.SPP_PMTUD_ENABLE, api.SPP_PMTUD_DISABLE))
      return -EINVAL;
    const interval = int(v.hbInterval) ?? 0;
    if (interval > 14_400_000) return -EINVAL;
    const a = assocOf(ep, v);
    if (a !== undefined && isSockAddr(v.address)) {
      const p = findPath(a, v.address.addr);
      if (p === undefined) return -EINVAL;
      setPathParams(s, p, v, flags);
      return 0;
    }
    const rxt = int(v.pathMaxRxt) ?? 0;
    for (const t of a === undefined ? [ep.options] : [a]) {
      if (interval > 0) t.hbInterval = interval;
      if (rxt > 0) t.pathMaxRxt = rxt;
    }
    if (a !== undefined) for (const p of a.paths) setPathParams(s, p, v, flags);
    else {
      if ((flags & api.SPP_HB_DISABLE) !== 0) ep.options.hbEnabled = false;
      if ((flags & api.SPP_HB_ENABLE) !== 0) ep.options.hbEnabled = true;
      if ((flags & api.SPP_DSCP) !== 0) ep.options.tos = (int(v.dscp) ?? 0) & 0xfc;
    }
    return 0;
  },
  [api.SCTP_DEFAULT_SEND_PARAM]: (_s, ep, v) => {
    if (!isObject(v)) return -EINVAL;
    for (const k of ['sid', 'flags', 'ppid', 'context', 'prPolicy', 'prValue'] as const) {
      const n = int(v[k]);
      if (n !== undefined) ep.defaultSend[k] = n;
    }
    return 0;
  },
  [api.SCTP_DELAYED_SACK]: (_s, ep, v) => {
    if (!isObject(v)) return -EINVAL;
    const delay = int(v.delay) ?? 0;
    const freq = int(v.freq) ?? 0;
    if (delay > 500) return -EINVAL;
    const a = assocOf(ep, v);
    for (const t of a === undefined ? [ep.options] : [a]) {
      if (delay > 0) t.sackDelay = delay;
      if (freq > 0) {
        t.sackFreq = freq;
        if (freq === 1) t.sackDelay = 0;
      }
    }
    return 0;
  },
  [api.SCTP_EVENT]: (_s, ep, v) => {
    if (!isObject(v) || typeof v.type !== 'string') return -EINVAL;
    const type = v.type as api.NotificationType;
    if (v.on === true) ep.subscribed.add(type);
    else ep.subscribed.delete(type);
    return 0;
  },
  [api.SCTP_REMOTE_UDP_ENCAPS_PORT]: (_s, ep, v) => {
    if (!isObject(v)) return -EINVAL;
    const port = int(v.port);
    if (port === undefined || port > 65535) return -EINVAL;
    const a = assocOf(ep, v);
    if (a === undefined) {
      ep.options.encapsPort = port;
      return 0;
    }
    if (isSockAddr(v.address)) {
      const p = findPath(a, v.address.addr);
      if (p === undefined) return -EINVAL;
      p.encapsPort = port;
    } else for (const p of a.paths) p.encapsPort = port;
    return 0;
  },
  [api.SCTP_BINDX_ADD_ADDR]: (s, ep, v) => {
    if (!Array.isArray(v) || ep.asocs.size > 0) return -EOPNOTSUPP;
    for (const x of v) {
      if (!isSockAddr(x)) return -EINVAL;
      if (s.stack.interfaces.ownerOf(x.addr) === undefined) return -EADDRNOTAVAIL;
      if (!ep.addresses.some(b => b.equals(x.addr))) ep.addresses.push(x.addr.clone());
    }
    return 0;
  },
  [api.SCTP_BINDX_REM_ADDR]: (_s, ep, v) => {
    if (!Array.isArray(v) || ep.asocs.size > 0) return -EOPNOTSUPP;
    for (const x of v) {
      if (!isSockAddr(x)) return -EINVAL;
      const i = ep.addresses.findIndex(b => b.equals(x.addr));
      if (i < 0 || ep.addresses.length === 1) return -EINVAL;
      ep.addresses.splice(i, 1);
    }
    return 0;
  },
  [api.SCTP_ABORT_ASSOC]: (s, ep, v) => {
    const a = assocOf(ep, v);
    if (a === undefined) return -ENOENT;
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
    const a = assocOf(ep, arg);
    return { assocId: a?.id ?? 0, value: v.get(ep, a) } satisfies api.AssocValue;
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
    if (n === undefined) return -EINVAL;
    return v.set(ep, named(ep, value) ? assocOf(ep, value) : undefined, n);
  }
  const f = setters[name];
  return f === undefined ? -ENOPROTOOPT : f(s, ep, value);
}

function setSocketOption(ep: Endpoint, name: number, value: unknown): number {
  if (name === api.SO_LINGER) {
    if (!isObject(value)) return -EINVAL;
    ep.linger = { onoff: value.onoff === true, linger: int(value.linger) ?? 0 };
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
