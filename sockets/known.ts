/** Options objects say what they may hold: a name that nobody reads is a mistake, and is told, not passed over. */

import type { ConnectOptions, EndpointOptions, ListenOptions, ServerOptions, StreamOptions } from './net.js';
import type { AssocOptions } from './options.js';
import type { CreateOptions } from './promises.js';

/** Every name of T: a table that lacks one, or has one too many, does not compile. */
type Names<T> = Readonly<Record<keyof Required<T>, true>>;

const ASSOC: Names<AssocOptions> = {
  outStreams: true,
  maxInStreams: true,
  initAttempts: true,
  initTimeout: true,
  noDelay: true,
  heartbeat: true,
  pathMaxRetrans: true,
  encapsPort: true,
  sndbuf: true,
  rcvbuf: true,
};
const STREAM: Names<StreamOptions> = {
  objectMode: true,
  highWaterMark: true,
  readableHighWaterMark: true,
  writableHighWaterMark: true,
  ppid: true,
  stream: true,
  maxMessageSize: true,
  signal: true,
};
const CONNECT: Names<ConnectOptions> = {
  address: true,
  port: true,
  localAddress: true,
  localPort: true,
  ...STREAM,
  ...ASSOC,
};
const SERVER: Names<ServerOptions> = { maxConnections: true, ...STREAM, ...ASSOC };
const LISTEN: Names<ListenOptions> = { address: true, port: true, backlog: true, signal: true };
const ENDPOINT: Names<EndpointOptions> = {
  address: true,
  port: true,
  backlog: true,
  maxMessageSize: true,
  signal: true,
  ...ASSOC,
};
const CREATE: Names<CreateOptions> = {
  domain: true,
  type: true,
  protocol: true,
  maxMessageSize: true,
  maxWaiting: true,
};

const TABLES: Readonly<Record<string, Readonly<Record<string, true>>>> = {
  connect: CONNECT,
  createServer: SERVER,
  listen: LISTEN,
  createEndpoint: ENDPOINT,
  peelOff: STREAM,
  'AsyncSocket.create': CREATE,
};

/**
 * Throws TypeError when `options` of a call has a name that the call does not know: which one, and those it knows. A name
 * whose value is undefined counts as not given, as everywhere.
 */
export function knownOptions(
  call: 'connect' | 'createServer' | 'listen' | 'createEndpoint' | 'peelOff' | 'AsyncSocket.create',
  options: object,
): void {
  const known = TABLES[call]!;
  for (const [name, value] of Object.entries(options)) {
    if (Object.hasOwn(known, name) || value === undefined) continue;
    throw new TypeError(`${call} knows no option '${name}'; it knows ${Object.keys(known).join(', ')}`);
  }
}
