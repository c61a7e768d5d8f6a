/** Subscribing to notifications (RFC 6458 §6.2): SCTP_EVENT one by one, per association, and SCTP_EVENTS, its old form. */

import { EINVAL, EOPNOTSUPP } from '../kern/errno.js';
import * as api from './api.js';
import type { Association } from './association.js';
import type { Endpoint } from './endpoint.js';
import { notificationRow } from './notifications.js';
import { flag, type Get, idOf, isObject, type Put, target, targets } from './optargs.js';
import type { Sctp } from './sctp.js';

/** Fields of sctp_event_subscribe and what they stand for; data_io is no notification. */
const FIELDS: readonly (readonly [Exclude<keyof api.EventSubscribe, 'dataIo'>, api.EventName])[] = [
  ['association', 'assoc-change'],
  ['address', 'peer-addr-change'],
  ['sendFailure', 'send-failed-deprecated'],
  ['peerError', 'remote-error'],
  ['shutdown', 'shutdown'],
  ['partialDelivery', 'partial-delivery'],
  ['adaptationLayer', 'adaptation-indication'],
  ['authentication', 'authentication'],
  ['senderDry', 'sender-dry'],
  ['streamReset', 'stream-reset'],
];

/** Sets are shared by an endpoint and its associations: one that changes is replaced. */
function put(of: Endpoint | Association, event: api.EventName, on: boolean): void {
  if (of.subscribed.has(event) === on) return;
  const set = new Set(of.subscribed);
  if (on) set.add(event);
  else set.delete(event);
  of.subscribed = set;
}

/** Who subscribes while nothing is under way is told at once (RFC 6458 §6.1.9). */
function tellIfDry(s: Sctp, a: Association): void {
  if (a.dead || a.outstanding > 0 || a.out.pending > 0) return;
  s.notify(a.endpoint, { type: 'sender-dry', assocId: a.id });
}

const eventOf = (v: unknown): api.EventName | undefined =>
  isObject(v) && typeof v.type === 'string' ? notificationRow(v.type)?.event : undefined;

export const EVENT_GETTERS: Record<number, Get> = {
  [api.SCTP_EVENT]: (_s, ep, arg) => {
    const type = eventOf(arg);
    const a = target(ep, arg);
    if (type === undefined) return -EINVAL;
    if (typeof a === 'number') return a;
    return { assocId: a?.id ?? 0, type, on: (a ?? ep).subscribed.has(type) };
  },
  [api.SCTP_EVENTS]: (_s, ep) => {
    const out: Record<string, boolean> = { dataIo: ep.options.dataIo };
    const set = (ep.style === 'one-to-one' ? (ep.only ?? ep) : ep).subscribed;
    for (const [field, event] of FIELDS) out[field] = set.has(event);
    return out;
  },
};

export const EVENT_SETTERS: Record<number, Put> = {
  [api.SCTP_EVENT]: (s, ep, v) => {
    const type = eventOf(v);
    const on = isObject(v) ? flag(v.on) : undefined;
    const to = targets(ep, v);
    if (type === undefined || on === undefined) return -EINVAL;
    if (typeof to === 'number') return to;
    // FreeBSD: never sent; and who is dry cannot be told for several associations at once.
    if (type === 'notifications-stopped') return -EOPNOTSUPP;
    if (type === 'sender-dry' && several(ep, v)) return -EOPNOTSUPP;
    if (to.future) put(ep, type, on);
    for (const a of to.asocs) {
      put(a, type, on);
      if (type === 'sender-dry' && on) tellIfDry(s, a);
    }
    return 0;
  },
  /** For the socket and all its associations; what is absent is turned off. */
  [api.SCTP_EVENTS]: (s, ep, v) => {
    if (!isObject(v)) return -EINVAL;
    const on = new Map<api.EventName, boolean>();
    for (const [field, event] of FIELDS) {
      const x = v[field] === undefined ? false : flag(v[field]);
      if (x === undefined) return -EINVAL;
      on.set(event, x);
    }
    const io = v.dataIo === undefined ? false : flag(v.dataIo);
    if (io === undefined) return -EINVAL;
    ep.options.dataIo = io;
    for (const of of [ep, ...ep.asocs.values()]) for (const [event, x] of on) put(of, event, x);
    const a = ep.style === 'one-to-one' ? ep.only : undefined;
    if (a !== undefined && on.get('sender-dry') === true) tellIfDry(s, a);
    return 0;
  },
};

/** SCTP_CURRENT_ASSOC and SCTP_ALL_ASSOC of a one-to-many socket. */
function several(ep: Endpoint, v: unknown): boolean {
  const id = idOf(v);
  return ep.style === 'one-to-many' && (id === api.SCTP_CURRENT_ASSOC || id === api.SCTP_ALL_ASSOC);
}
