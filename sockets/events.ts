/** Events of sockets, and which of them stands for which notification (RFC 6458 §6.1). */

import type { Notification } from '../stack/sctp/api.js';
import type { Message } from './message.js';

type Of<T extends Notification['type']> = Extract<Notification, { type: T }>;
export type AssocChange = Of<'assoc-change'>;
export type PeerAddrChange = Of<'peer-addr-change'>;
export type SendFailed = Of<'send-failed'>;

/** Events about an association, from notifications (RFC 6458 §6.1). */
export interface AssocEvents {
  assocChange: [change: AssocChange];
  /** The peer has restarted: what was under way is lost (RFC 9260 §5.2.4.1). */
  restart: [change: AssocChange];
  /** A path of the association came, went, or became primary. */
  path: [change: PeerAddrChange];
  /** A message that the peer did not get. */
  sendFailed: [failure: SendFailed];
  /** All that was sent has been acknowledged. Subscribed to while there is a listener. */
  senderDry: [notification: Of<'sender-dry'>];
  /** The peer has begun to shut down. */
  peerShutdown: [notification: Of<'shutdown'>];
  remoteError: [notification: Of<'remote-error'>];
  partialDelivery: [notification: Of<'partial-delivery'>];
}

export interface SctpSocketEvents<Chunk> extends AssocEvents {
  connect: [];
  /** Follows 'connect', as in node:net. */
  ready: [];
  data: [chunk: Chunk];
  /** Object mode only: the same as 'data'. */
  message: [message: Message];
  end: [];
  finish: [];
  drain: [];
  timeout: [];
  error: [error: Error];
  close: [];
  readable: [];
  pause: [];
  resume: [];
  pipe: [source: NodeJS.ReadableStream];
  unpipe: [source: NodeJS.ReadableStream];
}

const EVENTS: Readonly<Record<Notification['type'], keyof AssocEvents>> = {
  'assoc-change': 'assocChange',
  'peer-addr-change': 'path',
  'remote-error': 'remoteError',
  'send-failed': 'sendFailed',
  shutdown: 'peerShutdown',
  'partial-delivery': 'partialDelivery',
  'sender-dry': 'senderDry',
};

/** Calls the listeners of a notification; one of a type that is not in the table has none. */
export function emitNotification(to: { emit(event: keyof AssocEvents, n: never): boolean }, n: Notification): void {
  const event: keyof AssocEvents | undefined = EVENTS[n.type];
  if (event !== undefined) to.emit(event, n as never);
  if (n.type === 'assoc-change' && n.state === 'restart') to.emit('restart', n as never);
}
