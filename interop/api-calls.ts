// The same call, with the same use or misuse, on our stack and on a peer: rows of what it gives. FreeBSD's behaviour is ours
// (facts part 2); where usrsctp (an older FreeBSD) or Linux differ, the row says how and why.

import { newPort, Sock } from './api-cases.js';
import type { ApiEnd, Args, Reply } from './api-end.js';

type Value = string | number | Readonly<Record<string, unknown>> | readonly unknown[];
export interface Call {
  readonly name: string;
  run(end: ApiEnd): Promise<Value>;
  /** What ours gives. */
  readonly gives: Value;
  /** What a peer gives instead, and why it may. */
  readonly differs?: Readonly<Partial<Record<'usrsctp' | 'linux', readonly [Value, string]>>>;
}
export const outcome = (row: Call, end: ApiEnd): Promise<Value> => row.run(end);

/** errno's name, or what came. */
const told = (r: Reply): Value => r.errno ?? r.r;
type Differs = Call['differs'];

/** A new socket of a style, a call, and what it gave. */
function misuse(
  name: string,
  style: 'one' | 'many',
  run: (s: Sock) => Promise<Value>,
  gives: Value,
  differs?: Differs,
): Call {
  return {
    name: `${style === 'one' ? 'one-to-one' : 'one-to-many'}: ${name}`,
    gives,
    ...(differs === undefined ? {} : { differs }),
    run: async end => {
      const s = await Sock.open(end, style);
      try {
        return await run(s);
      } finally {
        await s.close();
      }
    },
  };
}
const call =
  (name: string, args: Args = {}) =>
  async (s: Sock): Promise<Value> =>
    told(await s.call(name, args));
/** The default of an option: these of its members. */
function byDefault(
  opt: string,
  members: readonly string[],
  gives: Value,
  differs?: Differs,
  style: 'one' | 'many' = 'many',
): Call {
  return misuse(
    `default of ${opt}`,
    style,
    async s => {
      const r = await s.call('get', { opt });
      return r.r < 0 ? told(r) : Object.fromEntries(members.map(m => [m, r[m]]));
    },
    gives,
    differs,
  );
}

const OTHER = 'Linux has another errno for it';

export const CALLS: readonly Call[] = [
  byDefault(
    'RTOINFO',
    ['initial', 'max', 'min'],
    { initial: 1000, max: 60000, min: 1000 },
    {
      usrsctp: [{ initial: 3000, max: 60000, min: 1000 }, 'RTO.Initial was 3 s before RFC 9260'],
      linux: [{ initial: 3000, max: 60000, min: 1000 }, 'RTO.Initial was 3 s before RFC 9260'],
    },
  ),
  byDefault('ASSOCINFO', ['maxrxt', 'cookielife', 'destinations'], { maxrxt: 10, cookielife: 60000, destinations: 0 }),
  byDefault(
    'INITMSG',
    ['ostreams', 'instreams', 'attempts', 'timeo'],
    { ostreams: 10, instreams: 2048, attempts: 8, timeo: 60000 },
    {
      linux: [
        { ostreams: 10, instreams: 65535, attempts: 8, timeo: 60000 },
        'Linux takes as many streams as there can be',
      ],
    },
  ),
  ...['NODELAY', 'AUTOCLOSE', 'DISABLE_FRAGMENTS', 'RECVRCVINFO', 'RECVNXTINFO'].map(opt =>
    byDefault(opt, ['value'], { value: 0 }),
  ),
  byDefault(
    'FRAGMENT_INTERLEAVE',
    ['value'],
    { value: 1 },
    { linux: [{ value: 0 }, 'Linux knows 0 and 1 only, and begins with 0'] },
  ),
  byDefault(
    'AUTOCLOSE',
    ['value'],
    { value: 0 },
    { linux: ['EOPNOTSUPP', 'Linux does not tell it of a one-to-one socket'] },
    'one',
  ),
  byDefault('REUSE_PORT', ['value'], { value: 0 }, undefined, 'one'),
  byDefault('CONTEXT', ['value'], { value: 0 }),
  byDefault('MAX_BURST', ['value'], { value: 4 }),
  byDefault('MAXSEG', ['value'], { value: 0 }),
  byDefault('DELAYED_SACK', ['delay', 'freq'], { delay: 200, freq: 2 }),
  byDefault('DEFAULT_SNDINFO', ['sid', 'flags', 'ppid', 'context', 'assoc'], {
    sid: 0,
    flags: 0,
    ppid: 0,
    context: 0,
    assoc: 0,
  }),
  byDefault(
    'PEER_ADDR_PARAMS',
    ['hbinterval', 'pathmaxrxt', 'flags'],
    { hbinterval: 30000, pathmaxrxt: 5, flags: 9 },
    { linux: [{ hbinterval: 30000, pathmaxrxt: 5, flags: 41 }, 'and SPP_SACKDELAY_ENABLE, which RFC 6458 has not'] },
  ),
  byDefault('LINGER', ['onoff', 'linger'], { onoff: 0, linger: 0 }),
  byDefault('ASSOC_NUMBER', ['value'], { value: 0 }),

  // Options misused.
  misuse(
    'RTOINFO with min > max',
    'many',
    call('set', { opt: 'RTOINFO', initial: 1000, min: 2000, max: 1500 }),
    'EINVAL',
  ),
  misuse('RTOINFO of an id that is not there', 'many', call('get', { opt: 'RTOINFO', assoc: 999 }), 'ENOENT', {
    linux: ['EINVAL', OTHER],
  }),
  misuse(
    'RTOINFO of ALL',
    'many',
    call('set', { opt: 'RTOINFO', assoc: 2, initial: 1000, min: 500, max: 2000 }),
    'EINVAL',
  ),
  misuse(
    'RTOINFO set and got',
    'many',
    async s => {
      await s.ok('set', { opt: 'RTOINFO', initial: 300, min: 100, max: 900 });
      const { initial, min, max } = await s.ok('get', { opt: 'RTOINFO' });
      return { initial, min, max };
    },
    { initial: 300, min: 100, max: 900 },
  ),
  misuse(
    'INITMSG: 0 keeps what there is',
    'many',
    async s => {
      await s.ok('set', { opt: 'INITMSG', ostreams: 77 });
      const { ostreams, instreams, attempts, timeo } = await s.ok('get', { opt: 'INITMSG' });
      return { ostreams, instreams, attempts, timeo };
    },
    { ostreams: 77, instreams: 2048, attempts: 8, timeo: 60000 },
    { linux: [{ ostreams: 77, instreams: 65535, attempts: 8, timeo: 60000 }, 'its default'] },
  ),
  misuse('FRAGMENT_INTERLEAVE 3', 'many', call('set', { opt: 'FRAGMENT_INTERLEAVE', value: 3 }), 'EINVAL', {
    linux: [0, 'Linux makes 1 of all that is not 0'],
  }),
  misuse(
    'FRAGMENT_INTERLEAVE 2 set and got',
    'many',
    async s => {
      await s.ok('set', { opt: 'FRAGMENT_INTERLEAVE', value: 2 });
      return (await s.ok('get', { opt: 'FRAGMENT_INTERLEAVE' })).value as number;
    },
    2,
    { linux: [1, 'Linux makes 1 of all that is not 0'] },
  ),
  misuse('DELAYED_SACK of 501 ms', 'many', call('set', { opt: 'DELAYED_SACK', delay: 501, freq: 2 }), 'EINVAL'),
  misuse('AUTOCLOSE', 'one', call('set', { opt: 'AUTOCLOSE', value: 5 }), 'EINVAL', {
    linux: ['EOPNOTSUPP', OTHER],
  }),
  misuse(
    'PARTIAL_DELIVERY_POINT beyond the receive buffer',
    'many',
    call('set', { opt: 'PARTIAL_DELIVERY_POINT', value: 1 << 30 }),
    'EINVAL',
  ),
  misuse(
    'heartbeats enabled and disabled at once',
    'many',
    call('set', { opt: 'PEER_ADDR_PARAMS', flags: 3 }),
    'EINVAL',
  ),
  misuse(
    'heartbeats disabled, got',
    'many',
    async s => {
      await s.ok('set', { opt: 'PEER_ADDR_PARAMS', flags: 2 });
      return (Number((await s.ok('get', { opt: 'PEER_ADDR_PARAMS' })).flags) & 3) as number;
    },
    2,
  ),
  misuse('STATUS without an association', 'one', call('get', { opt: 'STATUS' }), 'EINVAL'),
  misuse('STATUS of an id that is not there', 'many', call('get', { opt: 'STATUS', assoc: 999 }), 'ENOENT', {
    linux: ['EINVAL', OTHER],
  }),
  misuse(
    'PEER_ADDR_INFO without an association',
    'many',
    call('get', { opt: 'PEER_ADDR_INFO', addr: '192.0.2.1/7' }),
    'ENOENT',
    { linux: ['EINVAL', OTHER] },
  ),
  misuse(
    'PRIMARY_ADDR without an association',
    'many',
    call('set', { opt: 'PRIMARY_ADDR', addr: '192.0.2.1/7' }),
    'EINVAL',
  ),
  misuse(
    'CONTEXT of an id that is not there',
    'many',
    call('set', { opt: 'CONTEXT', assoc: 999, value: 1 }),
    'ENOENT',
    { linux: ['EINVAL', OTHER] },
  ),
  misuse('event sender-dry of ALL', 'many', call('event', { assoc: 2, type: 'sender-dry', on: 1 }), 'EOPNOTSUPP', {
    linux: [0, 'Linux tells each association that is dry'],
  }),
  misuse('REUSE_PORT', 'many', call('set', { opt: 'REUSE_PORT', value: 1 }), 'EINVAL', {
    linux: ['EOPNOTSUPP', OTHER],
  }),
  misuse('MAPPED_V4 of an IPv4 socket', 'many', call('set', { opt: 'MAPPED_V4', value: 1 }), 'EINVAL', {
    linux: [0, 'Linux keeps it, to no effect'],
  }),

  // Names and addresses.
  misuse(
    'bind twice',
    'one',
    async s => {
      await s.ok('bind', { addr: '0.0.0.0', port: newPort() });
      return told(await s.call('bind', { addr: '0.0.0.0', port: newPort() }));
    },
    'EINVAL',
  ),
  misuse('bind to a foreign address', 'one', call('bind', { addr: '192.0.2.77', port: 0 }), 'EADDRNOTAVAIL'),
  misuse(
    'bind to a port that is taken',
    'one',
    async s => {
      const port = newPort();
      const other = await Sock.open(s.end, 'one');
      await other.ok('bind', { addr: '0.0.0.0', port });
      const r = told(await s.call('bind', { addr: '0.0.0.0', port }));
      await other.close();
      return r;
    },
    'EADDRINUSE',
  ),
  misuse(
    'bindx of two ports',
    'many',
    async s => {
      const a = s.end.v4[0]!;
      return told(await s.call('bindx', { how: 'add', addrs: [`${a}/7001`, `${a}/7002`] }));
    },
    'EINVAL',
  ),
  misuse('bindx of no address', 'many', call('bindx', { how: 'add', port: 7 }), 'EINVAL'),
  misuse(
    'bindx: the last address taken away',
    'many',
    async s => {
      const port = newPort();
      await s.ok('bindx', { how: 'add', addrs: [s.end.v4[0]!], port });
      return told(await s.call('bindx', { how: 'rem', addrs: [s.end.v4[0]!], port }));
    },
    'EINVAL',
    { linux: ['EBUSY', OTHER] },
  ),
  misuse(
    'bindx: an address taken away that is not bound',
    'many',
    async s => {
      await s.ok('bindx', { how: 'add', addrs: [s.end.v4[0]!], port: newPort() });
      return told(await s.call('bindx', { how: 'rem', addrs: ['192.0.2.5'], port: 0 }));
    },
    'EINVAL',
    {
      usrsctp: ['EADDRNOTAVAIL', 'usrsctp looks for the address before it counts what is left'],
      linux: ['EBUSY', 'Linux counts first what would be left'],
    },
  ),
  misuse('an IPv6 address on an IPv4 socket', 'one', call('bind', { addr: '::1', port: 0 }), 'EAFNOSUPPORT', {
    usrsctp: [0, 'usrsctp binds its IPv4 socket to IPv6'],
    linux: ['EINVAL', OTHER],
  }),
  misuse(
    'getladdrs of a socket that is not bound',
    'many',
    async s => {
      const r = await s.call('getladdrs', { assoc: 0 });
      return r.r < 0 ? told(r) : r.r;
    },
    0,
    { usrsctp: ['ENOTCONN', 'its library takes a list of no bytes for an error'] },
  ),
  misuse('getpaddrs of an id that is not there', 'many', call('getpaddrs', { assoc: 999 }), 'ENOENT', {
    linux: ['EINVAL', OTHER],
  }),
  misuse('peeloff of an id that is not there', 'many', call('peeloff', { assoc: 999 }), 'ENOENT', {
    linux: ['EINVAL', OTHER],
  }),
  misuse('peeloff of a one-to-one socket', 'one', call('peeloff', { assoc: 0 }), 'EOPNOTSUPP', {
    linux: ['EINVAL', OTHER],
  }),

  // Connections.
  misuse(
    'connect to port 0',
    'one',
    async s => told(await s.call('connect', { addr: s.end.v4[0], port: 0 })),
    'EINVAL',
    { linux: ['EINPROGRESS', 'Linux sends an INIT to port 0'] },
  ),
  misuse(
    'connectx to two ports',
    'one',
    async s => {
      const a = s.end.v4[0]!;
      return told(await s.call('connectx', { addrs: [`${a}/7001`, `${a}/7002`] }));
    },
    'EINVAL',
    { usrsctp: [0, 'usrsctp takes the port of the first'] },
  ),
  misuse(
    'connect of a listener',
    'one',
    async s => {
      await s.ok('bind', { addr: '0.0.0.0', port: newPort() });
      await s.ok('listen');
      return told(await s.call('connect', { addr: s.end.v4[0], port: newPort() }));
    },
    'EOPNOTSUPP',
    { linux: ['EISCONN', OTHER] },
  ),
  misuse('accept of a socket that does not listen', 'one', call('accept'), 'EINVAL'),
  misuse(
    'accept',
    'many',
    async s => {
      await s.ok('bind', { addr: '0.0.0.0', port: newPort() });
      await s.ok('listen');
      return told(await s.call('accept'));
    },
    'EOPNOTSUPP',
    { usrsctp: ['EINVAL', 'usrsctp asks first whether the socket takes connections one by one'] },
  ),
  misuse(
    'accept with nobody there',
    'one',
    async s => {
      await s.ok('bind', { addr: '0.0.0.0', port: newPort() });
      await s.ok('listen');
      return told(await s.call('accept'));
    },
    'EAGAIN',
  ),
  misuse('listen without bind', 'one', call('listen'), 0),
  misuse('shutdown without an association', 'one', call('shutdown'), 'ENOTCONN'),
  misuse('shutdown', 'many', call('shutdown'), 'EOPNOTSUPP', { linux: ['ENOTCONN', OTHER] }),

  // Sending and receiving.
  misuse('recv without an association', 'one', call('recv'), 'ENOTCONN', { linux: ['EAGAIN', 'Linux waits'] }),
  misuse(
    'recv with nothing there',
    'many',
    async s => {
      await s.ok('bind', { addr: '0.0.0.0', port: newPort() });
      return told(await s.call('recv'));
    },
    'EAGAIN',
  ),
  misuse('send without an association', 'one', call('send', { len: 10 }), 'ENOTCONN', {
    usrsctp: ['ENOENT', 'usrsctp 0.9.5 looks the association up first; FreeBSD since has ENOTCONN'],
    linux: ['EPIPE', OTHER],
  }),
  misuse(
    'send of a listener',
    'one',
    async s => {
      await s.ok('bind', { addr: '0.0.0.0', port: newPort() });
      await s.ok('listen');
      return told(await s.call('send', { len: 10 }));
    },
    'EINVAL',
    { usrsctp: ['ENOTCONN', 'usrsctp asks first whether it is connected'], linux: ['EPIPE', OTHER] },
  ),
  misuse('send to nobody', 'many', call('send', { len: 10 }), 'ENOTCONN', {
    usrsctp: ['ENOENT', 'usrsctp 0.9.5 looks the association up first; FreeBSD since has ENOTCONN'],
    linux: ['EPIPE', OTHER],
  }),
  misuse('send to an id that is not there', 'many', call('send', { len: 10, assoc: 999 }), 'ENOENT', {
    linux: ['EPIPE', OTHER],
  }),
  misuse('send of nothing', 'many', async s => told(await s.call('send', { addr: s.end.v4[0], port: 9 })), 'EINVAL'),
  misuse(
    'send on a stream that there will not be',
    'many',
    async s => told(await s.call('send', { len: 1, sid: 10, addr: s.end.v4[0], port: 9 })),
    'EINVAL',
  ),
  misuse(
    'EOF to a peer without an association',
    'many',
    async s => told(await s.call('send', { flags: 'eof', addr: s.end.v4[0], port: 9 })),
    'ENOENT',
    { linux: ['EINVAL', OTHER] },
  ),
  misuse(
    'ABORT to a peer without an association',
    'many',
    async s => told(await s.call('send', { flags: 'abort', addr: s.end.v4[0], port: 9 })),
    'ENOENT',
    { linux: ['EINVAL', OTHER] },
  ),
  misuse(
    'send to port 0',
    'many',
    async s => told(await s.call('send', { len: 1, addr: s.end.v4[0], port: 0 })),
    'EINVAL',
    { linux: [1, 'Linux sends an INIT to port 0'] },
  ),
  misuse('EOF to all of none', 'many', call('send', { flags: 'sendall,eof' }), 0),
];
