/**
 * Socket options about paths (RFC 6458 §8.1.12, §8.1.9, §8.2.2; RFC 7829 §7; RFC 6951 §6): heartbeats, path MTU, failure
 * thresholds, the primary path, encapsulation; each for one address, one association, or the future ones.
 */

import { MSEC } from '../kern/clock.js';
import { EINVAL, ENOENT } from '../kern/errno.js';
import { told, unmapped } from './addresses.js';
import * as api from './api.js';
import type { Association } from './association.js';
import { COMMON_HEADER } from './constants.js';
import { scheduleHeartbeat, sendHeartbeat } from './heartbeat.js';
import { assocOf, fields, type Get, int, isObject, isSockAddr, type Put, pathOf, targetByAddress } from './optargs.js';
import type { Path } from './path.js';
import { choosePath, confirmPath, enterPf, findPath, leavePf, pathFailed, setMtu } from './paths.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';

/** spt_pathpfthld and spt_pathcpthld: never. */
const NEVER = 0xffff;

/** What `nke paths` and SCTP_GET_PATHS tell of a path. */
export function pathInfo(p: Path): api.PathInfo {
  return {
    assocId: p.asoc.id,
    address: told(p.asoc.endpoint, p.addr, p.asoc.peerPort),
    state: p.state,
    primary: p === p.asoc.primary,
    cwnd: p.cwnd,
    ssthresh: p.ssthresh,
    flight: p.flight,
    srtt: p.srtt / MSEC,
    rto: p.rto / MSEC,
    mtu: p.mtu,
    chunkRoom: p.chunkRoom,
    errors: p.errors,
    source: p.source.toString(),
    why: p.linkDown ? `${p.sourceWhy}; its link is down` : p.sourceWhy,
    lastHeartbeatAck: p.lastHeartbeatAck,
    encapsPort: p.encapsPort,
  };
}

export const PATH_GETTERS: Record<number, Get> = {
  [api.SCTP_PRIMARY_ADDR]: (_s, ep, arg) => {
    const a = assocOf(ep, arg);
    return typeof a === 'number' ? a : { assocId: a.id, address: told(ep, a.primary.addr, a.peerPort) };
  },
  [api.SCTP_PEER_ADDR_PARAMS]: (_s, ep, arg) => {
    const a = targetByAddress(ep, arg);
    if (typeof a === 'number') return a;
    const p = pathOf(a, arg);
    if (typeof p === 'number') return p;
    const enabled = p?.hbEnabled ?? ep.options.hbEnabled;
    const tos = p?.tos ?? a?.tos ?? ep.options.tos;
    const flowLabel = a?.flowLabel ?? ep.options.flowLabel;
    return {
      assocId: a?.id ?? 0,
      address: p === undefined ? undefined : told(ep, p.addr, p.asoc.peerPort),
      hbInterval: p === undefined ? (a?.hbInterval ?? ep.options.hbInterval) : p.hbInterval / MSEC,
      pathMaxRxt: p?.maxErrors ?? a?.pathMaxRxt ?? ep.options.pathMaxRxt,
      pathMtu: p?.chunkRoom ?? 0,
      flags:
        (enabled ? api.SPP_HB_ENABLE : api.SPP_HB_DISABLE) |
        (p?.mtuFixed ? api.SPP_PMTUD_DISABLE : api.SPP_PMTUD_ENABLE) |
        (tos !== 0 ? api.SPP_DSCP : 0) |
        (flowLabel !== 0 ? api.SPP_IPV6_FLOWLABEL : 0),
      dscp: tos,
      flowLabel,
    } satisfies api.PeerAddrParams;
  },
  [api.SCTP_PEER_ADDR_THLDS]: (_s, ep, arg) => {
    const a = targetByAddress(ep, arg);
    if (typeof a === 'number') return a;
    const p = pathOf(a, arg);
    if (typeof p === 'number') return p;
    return {
      assocId: a?.id ?? 0,
      ...(p === undefined ? {} : { address: told(ep, p.addr, p.asoc.peerPort) }),
      pathMaxRxt: p?.maxErrors ?? a?.pathMaxRxt ?? ep.options.pathMaxRxt,
      pathPfThld: p?.pfThreshold ?? a?.pfThreshold ?? ep.options.pfThreshold,
      pathCpThld: NEVER,
    } satisfies api.PeerAddrThresholds;
  },
  [api.SCTP_REMOTE_UDP_ENCAPS_PORT]: (_s, ep, arg) => {
    const a = targetByAddress(ep, arg);
    if (typeof a === 'number') return a;
    const p = pathOf(a, arg);
    if (typeof p === 'number') return p;
    return { assocId: a?.id ?? 0, port: (p ?? a?.primary)?.encapsPort ?? ep.options.encapsPort };
  },
  [api.SCTP_GET_PEER_ADDR_INFO]: (_s, ep, arg) => {
    if (!isObject(arg)) return -EINVAL;
    const a = assocOf(ep, arg, -ENOENT);
    if (typeof a === 'number') return a;
    if (!isSockAddr(arg.address)) return -EINVAL;
    const p = findPath(a, unmapped(arg.address.addr));
    return p === undefined ? -ENOENT : pathInfo(p);
  },
  [api.SCTP_GET_PATHS]: (_s, ep, arg) => {
    const a = assocOf(ep, arg, -ENOENT);
    return typeof a === 'number' ? a : a.paths.map(pathInfo);
  },
};

type PathParams = Record<'flags' | 'hbInterval' | 'pathMaxRxt' | 'pathMtu' | 'dscp' | 'flowLabel', number>;

function setPathParams(s: Sctp, p: Path, v: PathParams): void {
  const flags = v.flags;
  if ((flags & api.SPP_HB_TIME_IS_ZERO) !== 0) p.hbInterval = 0;
  else if (v.hbInterval > 0) p.hbInterval = v.hbInterval * MSEC;
  if (v.pathMaxRxt > 0) p.maxErrors = v.pathMaxRxt;
  if ((flags & api.SPP_HB_DISABLE) !== 0) p.hbEnabled = false;
  if ((flags & api.SPP_HB_ENABLE) !== 0) p.hbEnabled = true;
  if ((flags & api.SPP_PMTUD_DISABLE) !== 0) {
    p.mtuFixed = false;
    if (v.pathMtu > 0) setMtu(s, p, v.pathMtu + p.overhead + COMMON_HEADER, 'the user has fixed the path MTU');
    s.stack.callouts.stop(p.pmtuRaise);
    p.mtuFixed = true;
  }
  if ((flags & api.SPP_PMTUD_ENABLE) !== 0) p.mtuFixed = false;
  if ((flags & api.SPP_DSCP) !== 0) p.tos = v.dscp & 0xfc;
  if ((flags & api.SPP_HB_DEMAND) !== 0 && p.asoc.established) sendHeartbeat(s, p);
  scheduleHeartbeat(s, p, false);
}

function paramsFit(f: PathParams): boolean {
  const both = (x: number, y: number) => (f.flags & x) !== 0 && (f.flags & y) !== 0;
  if (both(api.SPP_HB_ENABLE, api.SPP_HB_DISABLE) || both(api.SPP_PMTUD_ENABLE, api.SPP_PMTUD_DISABLE)) return false;
  if (f.hbInterval > 14_400_000) return false;
  return (f.flags & api.SPP_PMTUD_DISABLE) === 0 || f.pathMtu === 0 || (f.pathMtu >= 512 && f.pathMtu <= 65536);
}

/** New limits on the errors of a path: where it stands follows at once. */
function setThresholds(s: Sctp, p: Path, maxErrors: number, pf: number): void {
  p.maxErrors = maxErrors;
  p.pfThreshold = pf;
  if (p.state === 'inactive' && p.errors <= maxErrors) confirmPath(s, p, true);
  else if (p.errors > maxErrors) pathFailed(s, p, reason(`${p.errors} errors, and the limit was lowered`, '§8.2'));
  if (p.pf && p.errors <= pf) leavePf(s, p);
  else if (p.errors > pf) enterPf(s, p);
  choosePath(s, p.asoc);
}

export const PATH_SETTERS: Record<number, Put> = {
  [api.SCTP_PRIMARY_ADDR]: (s, ep, v) => {
    if (!isObject(v)) return -EINVAL;
    const a = assocOf(ep, v);
    if (typeof a === 'number') return a;
    if (!isSockAddr(v.address)) return -EINVAL;
    const p = findPath(a, unmapped(v.address.addr));
    // §5.4: data must not go to an address that may not be the peer's
    if (p === undefined || p.state === 'unconfirmed') return -EINVAL;
    a.primary = p;
    choosePath(s, a);
    s.markDirty(a);
    return 0;
  },
  [api.SCTP_PEER_ADDR_PARAMS]: (s, ep, v) => {
    const f = fields(v, 'flags', 'hbInterval', 'pathMaxRxt', 'pathMtu', 'dscp', 'flowLabel');
    const a = targetByAddress(ep, v);
    if (f === undefined || !paramsFit(f)) return -EINVAL;
    if (typeof a === 'number') return a;
    const flags = f.flags;
    const p = pathOf(a, v);
    if (typeof p === 'number') return p;
    const t = a ?? ep.options;
    if ((flags & api.SPP_IPV6_FLOWLABEL) !== 0) t.flowLabel = f.flowLabel & 0xfffff;
    if (p !== undefined) {
      setPathParams(s, p, f);
      return 0;
    }
    if ((flags & api.SPP_HB_TIME_IS_ZERO) !== 0) t.hbInterval = 0;
    else if (f.hbInterval > 0) t.hbInterval = f.hbInterval;
    if (f.pathMaxRxt > 0) t.pathMaxRxt = f.pathMaxRxt;
    if ((flags & api.SPP_DSCP) !== 0) t.tos = f.dscp & 0xfc;
    if (a !== undefined) for (const q of a.paths) setPathParams(s, q, f);
    else {
      if ((flags & api.SPP_HB_DISABLE) !== 0) ep.options.hbEnabled = false;
      if ((flags & api.SPP_HB_ENABLE) !== 0) ep.options.hbEnabled = true;
    }
    return 0;
  },
  [api.SCTP_PEER_ADDR_THLDS]: (s, ep, v) => {
    const f = fields(v, 'pathMaxRxt', 'pathPfThld', 'pathCpThld');
    const a = targetByAddress(ep, v);
    if (f === undefined || !isObject(v)) return -EINVAL;
    if (typeof a === 'number') return a;
    if (f.pathMaxRxt > 0xffff || f.pathPfThld > 0xffff) return -EINVAL;
    if (v.pathCpThld !== undefined && f.pathCpThld !== NEVER) return -EINVAL; // no primary path switchover
    const p = pathOf(a, v);
    if (typeof p === 'number') return p;
    const max = (old: number) => (v.pathMaxRxt === undefined ? old : f.pathMaxRxt);
    const pf = (old: number) => (v.pathPfThld === undefined ? old : f.pathPfThld);
    if (p === undefined) {
      const t: Association | typeof ep.options = a ?? ep.options;
      t.pathMaxRxt = max(t.pathMaxRxt);
      t.pfThreshold = pf(t.pfThreshold);
    }
    for (const q of p !== undefined ? [p] : (a?.paths ?? [])) setThresholds(s, q, max(q.maxErrors), pf(q.pfThreshold));
    return 0;
  },
  [api.SCTP_REMOTE_UDP_ENCAPS_PORT]: (_s, ep, v) => {
    if (!isObject(v)) return -EINVAL;
    const port = int(v.port);
    if (port === undefined || port > 65535) return -EINVAL;
    const a = targetByAddress(ep, v);
    if (typeof a === 'number') return a;
    const p = pathOf(a, v);
    if (typeof p === 'number') return p;
    if (p !== undefined) p.encapsPort = port;
    else if (a !== undefined) for (const q of a.paths) q.encapsPort = port;
    else ep.options.encapsPort = port;
    return 0;
  },
};
