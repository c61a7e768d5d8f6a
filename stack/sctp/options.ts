/**
 * Socket options of SCTP (RFC 6458 §8): values as objects, see api.ts. Returns -errno for misuse. Here: the dispatch, plain
 * numbers, and what is about associations; paths, events and addresses have files of their own. Options that belong to an
 * extension are not here until it is: ENOPROTOOPT (optionrows.ts says which).
 */

import { MSEC } from '../kern/clock.js';
import { EINVAL, ENOENT, ENOPROTOOPT, EOPNOTSUPP, EPERM } from '../kern/errno.js';
import { IPPROTO_SCTP } from '../netinet/in.js';
import { userAbort } from './abort.js';
import * as api from './api.js';
import type { Association } from './association.js';
import { CC_MODULES } from './congestion.js';
import { COMMON_HEADER } from './constants.js';
import type { Endpoint, EndpointOptions } from './endpoint.js';
import { assocOf, fields, flag, type Get, int, isObject, type Put, target, targets } from './optargs.js';
import { ADDRESS_GETTERS, ADDRESS_SETTERS } from './optionaddrs.js';
import { EVENT_GETTERS, EVENT_SETTERS } from './optionevents.js';
import { PATH_GETTERS, PATH_SETTERS, pathInfo } from './optionpaths.js';
import type { Sctp } from './sctp.js';
import { fragmentationPoint } from './sosend.js';
import { textBytes } from './wire.js';

export { pathInfo };

/** Seconds: longer ones are as good as never. */
const MAX_AUTOCLOSE = 1_000_000;
/** Smallest fragment that may be asked for; 0 = the path MTU alone decides. */
const MIN_MAXSEG = 4;
/** Longest delay of a SACK, ms (RFC 9260 §6.2). */
const MAX_SACK_DELAY = 500;
/** errno of sys/errno.h: a linger time out of its range. */
const EDOM = 33;
const MAX_LINGER = 0xffff;

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
  /** SCTP_CURRENT_ASSOC and SCTP_ALL_ASSOC may be given. */
  readonly several?: boolean;
  get(ep: Endpoint, a: Association | undefined): number;
  set(ep: Endpoint, a: Association | undefined, v: number): number;
}
const assocValues: Record<number, Both> = {
  [api.SCTP_MAXSEG]: {
    get: (ep, a) => (a ?? ep.options).maxseg,
    set: (ep, a, v) => {
      if (v !== 0 && v < MIN_MAXSEG) return -EINVAL;
      (a ?? ep.options).maxseg = v;
      return 0;
    },
  },
  [api.SCTP_MAX_BURST]: {
    several: true,
    get: (ep, a) => (a ?? ep.options).maxBurst,
    set: (ep, a, v) => {
      (a ?? ep.options).maxBurst = v;
      return 0;
    },
  },
  [api.SCTP_CONTEXT]: {
    several: true,
    get: (ep, a) => (a ?? ep.options).context,
    set: (ep, a, v) => {
      (a ?? ep.options).context = v;
      return 0;
    },
  },
  [api.SCTP_MAX_CWND]: {
    get: (ep, a) => (a ?? ep.options).maxCwnd,
    set: (ep, a, v) => {
      (a ?? ep.options).maxCwnd = v;
      // A window never falls below one packet.
      for (const p of v === 0 ? [] : (a?.paths ?? [])) if (p.cwnd > v) p.cwnd = Math.max(v, p.mtu - COMMON_HEADER);
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
    several: true,
    get: (ep, a) => (a === undefined ? ep.options.ccModule : CC_MODULES.indexOf(a.cc)),
    set: (ep, a, v) => {
      const cc = CC_MODULES[v];
      if (cc === undefined) return -EINVAL; // (other modules attach in congestion.ts)
      if (a !== undefined) a.cc = cc;
      else ep.options.ccModule = v;
      return 0;
    },
  },
  [api.SCTP_STREAM_SCHEDULER]: {
    several: true,
    get: ep => ep.options.scheduler,
    set: (_ep, _a, v) => (v === 0 ? 0 : -EINVAL), // SCTP_SS_DEFAULT; RFC 8260's come with their extension
  },
};

/** A switch of the socket, kept in its options. */
type Switch = {
  [K in keyof EndpointOptions]: EndpointOptions[K] extends boolean ? K : never;
}[keyof EndpointOptions];
const switches: Record<number, Switch> = {
  [api.SCTP_DISABLE_FRAGMENTS]: 'disableFragments',
  [api.SCTP_EXPLICIT_EOR]: 'explicitEor',
  [api.SCTP_USE_EXT_RCVINFO]: 'extRcvInfo',
  [api.SCTP_RECVRCVINFO]: 'recvRcvInfo',
  [api.SCTP_RECVNXTINFO]: 'recvNxtInfo',
};

const getters: Record<number, Get> = {
  ...PATH_GETTERS,
  ...EVENT_GETTERS,
  ...ADDRESS_GETTERS,
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
  [api.SCTP_FRAGMENT_INTERLEAVE]: (_s, ep) => ep.options.fragmentInterleave,
  [api.SCTP_PARTIAL_DELIVERY_POINT]: (_s, ep) => ep.options.partialDeliveryPoint ?? ep.rcvLimit >> 1,
  [api.SCTP_I_WANT_MAPPED_V4_ADDR]: (_s, ep) => (ep.family === 6 ? Number(ep.options.mappedV4) : -EINVAL),
  [api.SCTP_REUSE_PORT]: (_s, ep) => (ep.style === 'one-to-one' ? Number(ep.options.reusePort) : -EINVAL),
  [api.SCTP_SET_INITIAL_DBG_SEQ]: (_s, ep) => ep.options.debugTsn,
  [api.SCTP_DEFAULT_SEND_PARAM]: (_s, ep, arg) => {
    const a = target(ep, arg);
    return typeof a === 'number' ? a : { ...(a ?? ep).defaultSend, assocId: a?.id ?? 0 };
  },
  [api.SCTP_DEFAULT_SNDINFO]: (_s, ep, arg) => {
    const a = target(ep, arg);
    if (typeof a === 'number') return a;
    const { sid, flags, ppid, context } = (a ?? ep).defaultSend;
    return { sid, flags, ppid, context, assocId: a?.id ?? 0 };
  },
  [api.SCTP_DELAYED_SACK]: (_s, ep, arg) => {
    const a = target(ep, arg);
    if (typeof a === 'number') return a;
    const o = a ?? ep.options;
    return { assocId: a?.id ?? 0, delay: o.sackDelay, freq: o.sackFreq };
  },
  [api.SCTP_STATUS]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    return typeof a === 'number' ? a : assocStatus(a);
  },
  [api.SCTP_GET_ASSOC_NUMBER]: (_s, ep) => ep.asocs.size,
  [api.SCTP_GET_ASSOC_ID_LIST]: (_s, ep) => [...ep.asocs.keys()],
  [api.SCTP_TIMEOUTS]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    return typeof a === 'number' ? a : ({ assocId: a.id, ...a.timeouts } satisfies api.Timeouts);
  },
  [api.SCTP_GET_SNDBUF_USE]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    return typeof a === 'number' ? a : { assocId: a.id, sndbuf: a.queuedBytes, rcvbuf: a.deliveredBytes + a.heldBytes };
  },
  [api.SCTP_GET_STAT_LOG]: () => -EOPNOTSUPP,
  [api.SCTP_PCB_STATUS]: s => pcbStatus(s),
  [api.SCTP_GET_NONCE_VALUES]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    return typeof a === 'number' ? a : { assocId: a.id, peerTag: a.peerTag, localTag: a.myTag };
  },
};

function pcbStatus(s: Sctp): api.PcbStatus {
  const n: api.PcbStatus = {
    endpoints: s.endpoints.size,
    associations: s.associationCount,
    localAddresses: 0,
    remoteAddresses: 0,
    chunks: 0,
    readQueue: 0,
    freeChunks: s.stack.pool.freeClusters,
    streamQueue: 0,
  };
  for (const ep of s.endpoints) {
    n.localAddresses += ep.addresses.length;
    n.readQueue += ep.rcv.count;
  }
  for (const a of s.associations()) {
    n.remoteAddresses += a.paths.length;
    n.chunks += a.outstanding + a.heldChunks;
    n.streamQueue += a.out.pending;
  }
  return n;
}

/** What a default for sending may say; `names` are those that the option has, of which absent ones stay as they are. */
function setDefaultSend(
  ep: Endpoint,
  v: unknown,
  names: readonly ('sid' | 'flags' | 'ppid' | 'context' | 'prPolicy' | 'prValue')[],
) {
  const f = fields(v, ...names);
  const to = targets(ep, v);
  if (f === undefined || f.sid > 65535 || f.prPolicy > api.SCTP_PR_SCTP_RTX) return -EINVAL;
  if (typeof to === 'number') return to;
  if (to.asocs.some(a => f.sid >= a.outStreamCount)) return -EINVAL;
  for (const t of [...(to.future ? [ep] : []), ...to.asocs])
    for (const k of names)
      if ((v as Record<string, unknown>)[k] !== undefined) t.defaultSend = { ...t.defaultSend, [k]: f[k] };
  return 0;
}

const setters: Record<number, Put> = {
  ...PATH_SETTERS,
  ...EVENT_SETTERS,
  ...ADDRESS_SETTERS,
  [api.SCTP_RTOINFO]: (_s, ep, v) => {
    const f = fields(v, 'initial', 'min', 'max');
    const a = target(ep, v);
    if (f === undefined) return -EINVAL;
    if (typeof a === 'number') return a;
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
    if (f === undefined) return -EINVAL;
    if (typeof a === 'number') return a;
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
  [api.SCTP_FRAGMENT_INTERLEAVE]: (_s, ep, v) => {
    const n = int(v);
    if (n === undefined || n > 2) return -EINVAL;
    ep.options.fragmentInterleave = n;
    return 0;
  },
  [api.SCTP_PARTIAL_DELIVERY_POINT]: (_s, ep, v) => {
    const n = int(v);
    if (n === undefined || n > ep.rcvLimit) return -EINVAL;
    ep.options.partialDeliveryPoint = n;
    return 0;
  },
  [api.SCTP_I_WANT_MAPPED_V4_ADDR]: (_s, ep, v) => {
    const on = flag(v);
    if (on === undefined || ep.family !== 6) return -EINVAL;
    ep.options.mappedV4 = on;
    return 0;
  },
  /** Cannot be taken back, as in FreeBSD: another socket may have relied on it. */
  [api.SCTP_REUSE_PORT]: (_s, ep, v) => {
    const on = flag(v);
    if (on === undefined || ep.style !== 'one-to-one' || ep.port !== 0) return -EINVAL;
    ep.options.reusePort ||= on;
    return 0;
  },
  [api.SCTP_SET_INITIAL_DBG_SEQ]: (_s, ep, v) => {
    const n = int(v);
    if (n === undefined) return -EINVAL;
    ep.options.debugTsn = n;
    return 0;
  },
  [api.SCTP_DEFAULT_SEND_PARAM]: (_s, ep, v) =>
    setDefaultSend(ep, v, ['sid', 'flags', 'ppid', 'context', 'prPolicy', 'prValue']),
  [api.SCTP_DEFAULT_SNDINFO]: (_s, ep, v) => setDefaultSend(ep, v, ['sid', 'flags', 'ppid', 'context']),
  [api.SCTP_DELAYED_SACK]: (_s, ep, v) => {
    const f = fields(v, 'delay', 'freq');
    const to = targets(ep, v);
    if (f === undefined || f.delay > MAX_SACK_DELAY) return -EINVAL;
    if (typeof to === 'number') return to;
    // 0 leaves as it is; a frequency of 1 acknowledges each packet at once, whatever the delay (RFC 6458 §8.1.19).
    for (const t of [...(to.future ? [ep.options] : []), ...to.asocs]) {
      if (f.delay > 0) t.sackDelay = f.delay;
      if (f.freq > 0) t.sackFreq = f.freq;
    }
    return 0;
  },
  [api.SCTP_CLR_STAT_LOG]: () => -EOPNOTSUPP,
  [api.SCTP_SET_DYNAMIC_PRIMARY]: () => -EPERM, // for the system's administrator, and there is none
  [api.SCTP_ABORT_ASSOC]: (s, ep, v) => {
    const a = assocOf(ep, v, -ENOENT);
    if (typeof a === 'number') return a;
    userAbort(s, a, textBytes(isObject(v) && typeof v.reason === 'string' ? v.reason : ''));
    return 0;
  },
};

/** getsockopt: the value, or -errno. */
export function getOption(s: Sctp, ep: Endpoint, level: number, name: number, arg: unknown): unknown {
  if (level === api.SOL_SOCKET) return getSocketOption(ep, name);
  if (level !== IPPROTO_SCTP) return getIpOption(ep, level, name);
  const v = assocValues[name];
  if (v !== undefined) {
    const a = target(ep, arg);
    return typeof a === 'number' ? a : ({ assocId: a?.id ?? 0, value: v.get(ep, a) } satisfies api.AssocValue);
  }
  const sw = switches[name];
  if (sw !== undefined) return Number(ep.options[sw]);
  const g = getters[name];
  return g === undefined ? -ENOPROTOOPT : g(s, ep, arg);
}

/** setsockopt: 0 or -errno; SCTP_CONNECT_X: the association's id or -errno. */
export function setOption(s: Sctp, ep: Endpoint, level: number, name: number, value: unknown): number {
  if (level === api.SOL_SOCKET) return setSocketOption(ep, name, value);
  if (level !== IPPROTO_SCTP) return setIpOption(ep, level, name, value);
  const v = assocValues[name];
  if (v !== undefined) {
    const n = typeof value === 'number' ? int(value) : isObject(value) ? int(value.value) : undefined;
    const whom = isObject(value) ? value : undefined;
    const one = v.several === true ? undefined : target(ep, whom);
    const to = targets(ep, whom);
    if (n === undefined) return -EINVAL;
    if (typeof to === 'number') return to;
    if (typeof one === 'number') return one;
    let e = to.future ? v.set(ep, undefined, n) : 0;
    for (const a of to.asocs) e ||= v.set(ep, a, n);
    return e;
  }
  const sw = switches[name];
  if (sw !== undefined) {
    const on = flag(value);
    if (on === undefined) return -EINVAL;
    ep.options[sw] = on;
    return 0;
  }
  const f = setters[name];
  return f === undefined ? -ENOPROTOOPT : f(s, ep, value);
}

function getSocketOption(ep: Endpoint, name: number): unknown {
  switch (name) {
    case api.SO_SNDBUF:
      return ep.sndLimit;
    case api.SO_RCVBUF:
      return ep.rcvLimit;
    case api.SO_LINGER:
      return { ...ep.linger };
    case api.SO_ERROR:
      return ep.so?.takeError() ?? 0;
    case api.SO_REUSEADDR:
      return ep.options.reuseAddr ? api.SO_REUSEADDR : 0; // BSD reads the option's own bit back
    case api.SO_ACCEPTCONN:
      return ep.listening ? api.SO_ACCEPTCONN : 0;
    case api.SO_TYPE:
      return ep.so?.proto.type ?? 0;
    case api.SO_PROTOCOL:
      return IPPROTO_SCTP;
    default:
      return -ENOPROTOOPT;
  }
}

function setSocketOption(ep: Endpoint, name: number, value: unknown): number {
  if (name === api.SO_LINGER) {
    const onoff = isObject(value) ? flag(value.onoff) : undefined;
    const linger = isObject(value) ? (value.linger ?? 0) : undefined;
    if (onoff === undefined || typeof linger !== 'number' || !Number.isInteger(linger)) return -EINVAL;
    if (linger < 0 || linger > MAX_LINGER) return -EDOM;
    ep.linger = { onoff, linger };
    return 0;
  }
  if (name === api.SO_REUSEADDR) {
    const on = flag(value);
    if (on === undefined) return -EINVAL;
    ep.options.reuseAddr = on;
    return 0;
  }
  if (name !== api.SO_SNDBUF && name !== api.SO_RCVBUF) return -ENOPROTOOPT;
  const n = int(value);
  if (n === undefined || n < 1) return -EINVAL; // as BSD: every size that makes sense at all
  // A size the user chose is no longer tuned.
  if (name === api.SO_SNDBUF) {
    ep.sndLimit = n;
    ep.sndAuto = false;
  } else {
    ep.rcvLimit = n;
    ep.rcvAuto = false;
  }
  return 0;
}

const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const isTos = (ep: Endpoint, level: number, name: number): boolean =>
  level === IPPROTO_IP ? name === api.IP_TOS : level === IPPROTO_IPV6 && name === api.IPV6_TCLASS && ep.family === 6;
const isV6only = (ep: Endpoint, level: number, name: number): boolean =>
  level === IPPROTO_IPV6 && name === api.IPV6_V6ONLY && ep.family === 6;

/** Options of the levels below. */
function getIpOption(ep: Endpoint, level: number, name: number): number {
  if (isTos(ep, level, name)) return ep.options.tos;
  return isV6only(ep, level, name) ? Number(ep.v6only) : -ENOPROTOOPT;
}
function setIpOption(ep: Endpoint, level: number, name: number, value: unknown): number {
  if (isTos(ep, level, name)) {
    const n = int(value);
    if (n === undefined || n > 255) return -EINVAL;
    // The low two bits are ECN's (RFC 3168).
    ep.options.tos = n & 0xfc;
    for (const a of ep.asocs.values()) {
      a.tos = ep.options.tos;
      for (const p of a.paths) p.tos = ep.options.tos;
    }
    return 0;
  }
  if (!isV6only(ep, level, name)) return -ENOPROTOOPT;
  const on = flag(value);
  if (on === undefined || ep.port !== 0) return -EINVAL; // the addresses that it takes are settled by bind
  ep.v6only = on;
  return 0;
}
