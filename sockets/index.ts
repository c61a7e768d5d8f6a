/** The socket's edge: promises (AsyncSocket), streams and servers like node:net's, and the one-to-many endpoint. */

export { SctpError } from './errors.js';
export {
  type AssocChange,
  type AssocEvents,
  type EventHost,
  type KernelEventOptions,
  KernelEvents,
  type PeerAddrChange,
  type SctpSocketEvents,
  type SendFailed,
} from './events.js';
export { type AddressLike, type Host, type Message, type SendOptions, sockaddr, sockaddrs } from './message.js';
export * from './net.js';
export type { AssocOptions } from './options.js';
export {
  AsyncSocket,
  type AsyncSocketOptions,
  type CreateOptions,
  type WaitOptions,
} from './promises.js';
