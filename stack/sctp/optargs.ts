/**
 * Arguments of socket options: their shapes, and whom they are for (RFC 6458 §7.1: an association, the future ones, the
 * current ones, or all; one-to-one sockets ignore the id, §4).
 */

import { EINVAL, ENOENT } from '../kern/errno.js';
import type { SockAddr } from '../kern/socket.js';
import { InAddr } from '../netinet/in.js';
import { byPeer, unmapped } from './addresses.js';
import * as api from './api.js';
import type { Association } from './association.js';
import type { Endpoint } from './endpoint.js';
import type { Path } from './path.js';
import { findPath } from './paths.js';
import type { Sctp } from './sctp.js';

export type Get = (s: Sctp, ep: Endpoint, arg: unknown) => unknown;
/** 0 or -errno; SCTP_CONNECT_X gives an association's id. */
export type Put = (s: Sctp, ep: Endpoint, value: unknown) => number;

export const isObject = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null;
export const int = (v: unknown): number | undefined =>
  typeof v === 'number' && Number.isInteger(v) && v >= 0 && v <= 0xffffffff ? v : undefined;
/** A switch: true or false, or C's idea of it. */
export const flag = (v: unknown): boolean | undefined => {
  if (typeof v === 'boolean') return v;
  const n = int(v);
  return n === undefined ? undefined : n > 0;
};
export const isSockAddr = (v: unknown): v is SockAddr =>
  isObject(v) && v.addr instanceof InAddr && Number.isInteger(v.port) && (v.port as number) >= 0;

/** Unsigned 32-bit fields of an option's value; one that is absent reads 0. Undefined: a shape that cannot be. */
export function fields<K extends string>(v: unknown, ...names: readonly K[]): Record<K, number> | undefined {
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
export function idOf(arg: unknown): number | undefined {
  if (arg === undefined) return api.SCTP_FUTURE_ASSOC;
  return int(isObject(arg) ? (arg.assocId ?? api.SCTP_FUTURE_ASSOC) : arg);
}
/**
 * Whom an argument names: an association, undefined = the endpoint and its future ones, -ENOENT for an id that none has
 * (FreeBSD's errno; Linux says EINVAL), -EINVAL for one that names several where only one will do. One-to-one sockets ignore
 * the id: their only association, or before that the endpoint.
 */
export function target(ep: Endpoint, arg: unknown): Association | undefined | number {
  const id = idOf(arg);
  if (id === undefined) return -EINVAL;
  if (ep.style === 'one-to-one') return ep.only;
  if (id === api.SCTP_FUTURE_ASSOC) return undefined;
  return ep.find(id) ?? (id > api.SCTP_ALL_ASSOC ? -ENOENT : -EINVAL);
}
/** As `target`, but an address of the peer may name the association as well: that is what sctp_getassocid does. */
export function targetByAddress(ep: Endpoint, arg: unknown): Association | undefined | number {
  const a = target(ep, arg);
  if (a !== undefined || !isObject(arg) || !isSockAddr(arg.address)) return a;
  return byPeer(ep, arg.address);
}
/** The association that an argument must name by id or address, else -errno. */
export function assocOf(ep: Endpoint, arg: unknown, missing = -EINVAL): Association | number {
  const t = targetByAddress(ep, arg);
  return t ?? missing;
}
/** Whom to set: as `target`, but SCTP_CURRENT_ASSOC and SCTP_ALL_ASSOC name several. */
export function targets(ep: Endpoint, arg: unknown): { future: boolean; asocs: Association[] } | number {
  const id = idOf(arg);
  if (ep.style === 'one-to-many' && (id === api.SCTP_CURRENT_ASSOC || id === api.SCTP_ALL_ASSOC))
    return { future: id === api.SCTP_ALL_ASSOC, asocs: [...ep.asocs.values()] };
  const t = target(ep, arg);
  if (typeof t === 'number') return t;
  return t === undefined ? { future: true, asocs: [] } : { future: false, asocs: [t] };
}
/**
 * The path that an argument's address names; undefined = it has none (or the wildcard address), or there is no association;
 * -EINVAL = the association does not have it.
 */
export function pathOf(a: Association | undefined, arg: unknown): Path | undefined | number {
  if (!isObject(arg) || arg.address === undefined) return undefined;
  if (!isSockAddr(arg.address)) return -EINVAL;
  if (a === undefined || arg.address.addr.isUnspecified) return undefined;
  return findPath(a, unmapped(arg.address.addr)) ?? -EINVAL;
}
