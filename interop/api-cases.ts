// What both ends of an association see of each other's calls (RFC 6458): rows, each run with our stack as the client and a
// peer as the server, and the other way round. A feature that one peer has not got is named in the row.
import assert from 'node:assert/strict';
import { type ApiEnd, type Args, fill, type Reply, sum } from './api-end.js';

/** A socket of one end. */
export class Sock {
  readonly end: ApiEnd;
  readonly s: number;
  constructor(end: ApiEnd, s: number) {
    this.end = end;
    this.s = s;
  }
  static async open(end: ApiEnd, style: 'one' | 'many', family: 4 | 6 = 4): Promise<Sock> {
    const { r, errno } = await end.call('socket', { style, family });
    assert.ok(r >= 0, `${end.name} socket: ${errno}`);
    return new Sock(end, r);
  }
  call(name: string, args: Args = {}): Promise<Reply> {
    return this.end.call(name, { s: this.s, ...args });
  }
  /** A call that must not fail. */
  async ok(name: string, args: Args = {}): Promise<Reply> {
    const reply = await this.call(name, args);
    assert.ok(reply.r >= 0, `${this.end.name} ${name} ${JSON.stringify(args)}: ${reply.errno}`);
    return reply;
  }
  /** A call that must fail with one of these errors. */
  async fails(name: string, args: Args, ...errnos: readonly string[]): Promise<void> {
    const reply = await this.call(name, args);
    assert.ok(
      reply.errno !== undefined && errnos.includes(reply.errno),
      `${this.end.name} ${name} ${JSON.stringify(args)}: ${reply.errno ?? reply.r}, not ${errnos.join(' or ')}`,
    );
  }
  async sockets(name: string, args: Args = {}): Promise<Sock> {
    return new Sock(this.end, (await this.ok(name, args)).r);
  }
  async events(...types: readonly string[]): Promise<this> {
    for (const type of types) await this.ok('event', { assoc: 0, type, on: 1 });
    return this;
  }
  /** The next notification of a type (and state); data and other notifications before it are passed over. */
  async note(type: string, state?: string): Promise<NonNullable<Reply['note']>> {
    const seen: string[] = [];
    for (let i = 0; i < 100; i++) {
      const { r, errno, note } = await this.call('recv', { wait: 6000 });
      if (note?.type === type && (state === undefined || note.state === state)) return note;
      seen.push(note === undefined ? `${errno ?? r}` : `${note.type} ${note.state ?? ''}`);
      if (errno !== undefined && errno !== 'ECONNRESET') break;
    }
    throw new Error(`${this.end.name}: no ${type} ${state ?? ''}: ${seen.join(', ')}`);
  }
  /**
   * The next message; notifications before it are passed over. A socket may be readable and yet give EAGAIN: what is there
   * waits for the end of another's message (fragment interleave 0).
   */
  async message(args: Args = {}): Promise<Reply> {
    const end = performance.now() + 5000;
    for (;;) {
      const reply = await this.call('recv', { wait: 5000, ...args });
      if (reply.note !== undefined) continue;
      if (reply.errno === 'EAGAIN' && performance.now() < end) {
        await this.call('sleep', { wait: 5 });
        continue;
      }
      assert.ok(reply.r >= 0, `${this.end.name} recv: ${reply.errno}`);
      return reply;
    }
  }
  async close(): Promise<void> {
    await this.call('close');
  }
}

let lastPort = 6000;
export const newPort = (): number => ++lastPort;

/** A listening socket of an end, after `set`. */
export async function listening(
  end: ApiEnd,
  style: 'one' | 'many',
  port: number,
  set: (s: Sock) => Promise<unknown> = async () => {},
  addrs: readonly string[] = [end.v4[0]!],
): Promise<Sock> {
  const s = await Sock.open(end, style, addrs.some(a => a.includes(':')) ? 6 : 4);
  await set(s);
  await s.ok('bindx', { how: 'add', addrs, port });
  await s.ok('listen', { backlog: 8 });
  return s;
}
/** A one-to-one association: [client, server]. */
export async function connected(
  a: ApiEnd,
  b: ApiEnd,
  set: { a?: (s: Sock) => Promise<unknown>; b?: (s: Sock) => Promise<unknown>; addrs?: readonly string[] } = {},
): Promise<[Sock, Sock, Sock]> {
  const port = newPort();
  const l = await listening(b, 'one', port, set.b, set.addrs ?? [b.v4[0]!]);
  const c = await Sock.open(a, 'one', set.addrs?.some(x => x.includes(':')) ? 6 : 4);
  await set.a?.(c);
  const r = await c.call('connectx', { addrs: set.addrs ?? [b.v4[0]!], port });
  assert.ok(r.r >= 0 || r.errno === 'EINPROGRESS', `${a.name} connectx: ${r.errno}`);
  const s = await l.sockets('accept', { wait: 5000 });
  await c.call('wait', { for: 'write', wait: 5000 });
  return [c, s, l];
}
async function done(...socks: readonly Sock[]): Promise<void> {
  for (const s of socks) await s.close();
}
/** Who sends and who receives sees the same bytes. */
function same(reply: Reply, length: number, seed: number, what = 'message'): void {
  assert.deepEqual([reply.r, reply.sum, reply.eor], [length, sum(fill(length, seed)), true], what);
}

/** Where a one-to-many socket of `a` has an association with one of `b`, set up by the first message. */
async function hubs(
  a: ApiEnd,
  b: ApiEnd,
  setB: (s: Sock) => Promise<unknown> = async () => {},
  setA: (s: Sock) => Promise<unknown> = async () => {},
): Promise<{ c: Sock; s: Sock; ca: number; sa: number; port: number }> {
  const port = newPort();
  const s = await listening(b, 'many', port, async x => {
    await x.events('assoc-change', 'shutdown');
    await x.ok('set', { opt: 'RECVRCVINFO', value: 1 });
    await setB(x);
  });
  const c = await Sock.open(a, 'many');
  await c.events('assoc-change', 'shutdown');
  await c.ok('set', { opt: 'RECVRCVINFO', value: 1 });
  await setA(c);
  await c.ok('send', { addr: b.v4[0], port, len: 100, seed: 1, sid: 1, ppid: 46 });
  const up = await s.note('assoc-change', 'comm-up');
  same(await s.message(), 100, 1, 'the message that set it up');
  const mine = await c.note('assoc-change', 'comm-up');
  return { c, s, ca: Number(mine.assoc), sa: Number(up.assoc), port };
}

export interface Case {
  readonly name: string;
  /** Peers that have not got it, and why; they are skipped by name. */
  readonly without?: Readonly<Partial<Record<'usrsctp' | 'linux', string>>>;
  /** The same, for a peer in one role. */
  readonly withoutAs?: Readonly<
    Partial<Record<'usrsctp client' | 'linux client' | 'usrsctp server' | 'linux server', string>>
  >;
  /** `a` is the client. */
  run(a: ApiEnd, b: ApiEnd, net: Net): Promise<void>;
}
/** What lies between the two. */
export interface Net {
  /** Cuts the second network, or mends it. */
  second(up: boolean): void;
}
const LOOPBACK = 'our card and usrsctp meet on one UDP address of loopback';

export const CASES: readonly Case[] = [
  {
    name: 'streams: each side gets the smaller of what it asked for and what the other takes (INITMSG, STATUS, COMM_UP)',
    async run(a, b) {
      const [c, s, l] = await connected(a, b, {
        a: async x => {
          await x.ok('set', { opt: 'INITMSG', ostreams: 7, instreams: 5, attempts: 3, timeo: 1000 });
          await x.events('assoc-change');
        },
        b: async x => {
          await x.ok('set', { opt: 'INITMSG', ostreams: 9, instreams: 6 });
          await x.events('assoc-change');
        },
      });
      const [mine, its] = [await c.note('assoc-change', 'comm-up'), await s.note('assoc-change', 'comm-up')];
      assert.deepEqual([mine.out, mine.in, its.out, its.in], [6, 5, 5, 6]);
      for (const [x, out, inn] of [
        [c, 6, 5],
        [s, 5, 6],
      ] as const) {
        const st = await x.ok('get', { opt: 'STATUS', assoc: 0 });
        assert.deepEqual([st.state, st.outstreams, st.instreams], ['ESTABLISHED', out, inn], x.end.name);
        await x.fails('send', { len: 10, sid: out }, 'EINVAL');
        await x.ok('send', { len: 10, sid: out - 1 });
      }
      await done(c, s, l);
    },
  },
  {
    name: 'rcvinfo: stream, SSN, PPID, order, TSN, context, sender (RECVRCVINFO, CONTEXT)',
    async run(a, b) {
      const [c, s, l] = await connected(a, b, {
        b: async x => {
          await x.ok('set', { opt: 'RECVRCVINFO', value: 1 });
          await x.ok('set', { opt: 'CONTEXT', assoc: 0, value: 77 });
        },
      });
      for (let i = 0; i < 3; i++) await c.ok('send', { len: 50 + i, seed: i, sid: 2, ppid: 1000 + i });
      await c.ok('send', { len: 9, seed: 9, sid: 3, ppid: 4294967295, flags: 'unordered' });
      // The unordered one may come before the others.
      const tsns = new Set<number>();
      let ordered = 0;
      for (let i = 0; i < 4; i++) {
        const m = await s.message();
        const { sid, ssn, ppid, tsn, flags, context } = m.rcv!;
        tsns.add(tsn);
        assert.equal(context, 77);
        if (sid === 3) {
          same(m, 9, 9);
          assert.deepEqual([ppid, flags], [4294967295, ['unordered']]);
          continue;
        }
        same(m, 50 + ordered, ordered);
        assert.deepEqual([sid, ssn, ppid, flags], [2, ordered, 1000 + ordered, []]);
        ordered++;
      }
      assert.equal((Math.max(...tsns) - Math.min(...tsns)) >>> 0, 3, `${[...tsns]}`);
      await done(c, s, l);
    },
  },
  {
    name: 'nxtinfo: what stands behind a message, and nothing behind the last one (RECVNXTINFO)',
    async run(a, b) {
      const [c, s, l] = await connected(a, b, {
        b: async x => {
          await x.ok('set', { opt: 'RECVRCVINFO', value: 1 });
          await x.ok('set', { opt: 'RECVNXTINFO', value: 1 });
        },
      });
      await c.ok('send', { len: 10, sid: 1, ppid: 5 });
      await c.ok('send', { len: 20, sid: 4, ppid: 6, flags: 'unordered' });
      await s.call('sleep', { wait: 300 });
      await b.call('sleep', { wait: 300 });
      const first = await s.message();
      const { sid, ppid, length, flags } = first.next!;
      // COMPLETE is a flag of the others too, under names of their own: only order is compared.
      assert.deepEqual([sid, ppid, length, flags.includes('unordered')], [4, 6, 20, true]);
      assert.equal((await s.message()).next, undefined);
      await done(c, s, l);
    },
  },
  {
    name: 'one-to-many: set up by a message, answered by id, ended by EOF (SHUTDOWN_EVENT, SHUTDOWN_COMP)',
    async run(a, b) {
      const { c, s, ca, sa } = await hubs(a, b);
      await s.ok('send', { assoc: sa, len: 30, seed: 2, ppid: 47 });
      const m = await c.message();
      same(m, 30, 2);
      assert.deepEqual([m.rcv!.ppid, m.rcv!.assoc], [47, ca]);
      // Linux takes EOF alone.
      if (a.name === 'linux') {
        await c.ok('send', { assoc: ca, len: 7, seed: 3 });
        await c.ok('send', { assoc: ca, flags: 'eof' });
      } else await c.ok('send', { assoc: ca, len: 7, seed: 3, flags: 'eof' });
      same(await s.message(), 7, 3, 'the last message');
      await s.note('shutdown');
      assert.equal((await s.note('assoc-change', 'shutdown-comp')).assoc, sa);
      assert.equal((await c.note('assoc-change', 'shutdown-comp')).assoc, ca);
      const gone = await c.call('send', { assoc: ca, len: 1 });
      assert.ok(gone.r < 0, 'the association is gone');
      await done(c, s);
    },
  },
  {
    name: 'peel-off: the association goes on on a one-to-one socket of its own (sctp_peeloff)',
    async run(a, b) {
      const { c, s, ca, sa, port } = await hubs(a, b);
      const other = await Sock.open(a, 'many');
      await other.ok('send', { addr: b.v4[0], port, len: 5, seed: 5 });
      same(await s.message(), 5, 5);
      await c.ok('send', { assoc: ca, len: 11, seed: 4 });
      await s.call('wait', { for: 'read', wait: 3000 });
      const own = await s.sockets('peeloff', { assoc: sa });
      same(await own.message(), 11, 4, 'what waited went with it');
      await own.ok('send', { len: 12, seed: 6 });
      same(await c.message(), 12, 6, 'the peer has noticed nothing');
      const paddrs = await own.ok('getpaddrs', { assoc: 0 });
      assert.ok(
        paddrs.list!.some(x => x.startsWith(`${a.v4[0]}/`)),
        `${paddrs.list}`,
      );
      assert.ok((await s.call('getpaddrs', { assoc: sa })).r < 1, 'the socket does not know it any more');
      await other.ok('send', { addr: b.v4[0], port, len: 6, seed: 7 });
      same(await s.message(), 6, 7, 'the other association stays');
      // Of a socket peeled off Linux's shutdown(2) does nothing: EOF ends the association everywhere.
      await own.ok('send', { flags: 'eof' });
      await c.note('assoc-change', 'shutdown-comp');
      await done(c, own, other, s);
    },
  },
  {
    name: 'peel-off by the side that set it up',
    async run(a, b) {
      const { c, s, ca, sa } = await hubs(a, b);
      const own = await c.sockets('peeloff', { assoc: ca });
      await s.ok('send', { assoc: sa, len: 44, seed: 8 });
      same(await own.message(), 44, 8);
      await s.ok('send', { assoc: sa, flags: 'eof' });
      await own.note('shutdown');
      await s.note('assoc-change', 'shutdown-comp');
      await done(own, c, s);
    },
  },
  {
    name: 'ABORT by a flag of a one-to-many socket: COMM_LOST at the peer, nothing but that association ends',
    async run(a, b) {
      const { c, s, ca, sa, port } = await hubs(a, b);
      const other = await Sock.open(a, 'many');
      await other.ok('send', { addr: b.v4[0], port, len: 5, seed: 5 });
      same(await s.message(), 5, 5);
      await c.ok('send', { assoc: ca, len: 6, flags: 'abort' });
      assert.equal((await s.note('assoc-change', 'comm-lost')).assoc, sa);
      await other.ok('send', { addr: b.v4[0], port, len: 9, seed: 6 });
      same(await s.message(), 9, 6);
      await done(c, other, s);
    },
  },
  {
    name: 'SO_LINGER of zero: close is an ABORT, ECONNRESET at the peer (RFC 6458 §8.1.4)',
    async run(a, b) {
      for (const who of ['client', 'server'] as const) {
        const [c, s, l] = await connected(a, b);
        const [closer, other] = who === 'client' ? [c, s] : [s, c];
        await closer.ok('set', { opt: 'LINGER', onoff: 1, linger: 0 });
        await closer.ok('close');
        await other.fails('recv', { wait: 5000 }, 'ECONNRESET');
        await done(other, l);
      }
    },
  },
  {
    name: 'shutdown(SHUT_WR): what is queued still arrives, then the end',
    async run(a, b) {
      const [c, s, l] = await connected(a, b);
      await c.ok('send', { len: 3000, seed: 1 });
      await c.ok('shutdown');
      await c.fails(
        'send',
        { len: 1 },
        'EPIPE',
        'ESHUTDOWN',
        ...(a.name === 'usrsctp' ? ['ECONNRESET', 'ENOENT'] : []),
      );
      same(await s.message(), 3000, 1);
      assert.equal((await s.call('recv', { wait: 5000 })).r, 0, 'the end');
      await done(c, s, l);
    },
  },
  {
    name: 'autoclose: an idle association of a one-to-many socket is shut down (AUTOCLOSE)',
    async run(a, b) {
      const { c, s } = await hubs(a, b, undefined, x => x.ok('set', { opt: 'AUTOCLOSE', value: 1 }));
      await s.note('shutdown');
      await s.note('assoc-change', 'shutdown-comp');
      await c.note('assoc-change', 'shutdown-comp');
      await done(c, s);
    },
  },
  {
    name: 'SENDALL: one message to all associations of a socket, then EOF to all',
    async run(a, b) {
      const ports = [newPort(), newPort(), newPort()];
      const servers: Sock[] = [];
      for (const port of ports) servers.push(await listening(b, 'many', port));
      const c = await Sock.open(a, 'many');
      await c.events('assoc-change');
      for (const port of ports) {
        await c.ok('send', { addr: b.v4[0], port, len: 8, seed: 1 });
        await c.note('assoc-change', 'comm-up');
      }
      await c.ok('send', { len: 200, seed: 3, sid: 1, flags: 'sendall' });
      for (const s of servers) {
        same(await s.message(), 8, 1);
        same(await s.message(), 200, 3, 'SENDALL');
      }
      await c.ok('send', { flags: 'sendall,eof' });
      for (const _ of ports) await c.note('assoc-change', 'shutdown-comp');
      await done(c, ...servers);
    },
  },
  {
    name: 'explicit EOR: three calls, one message (EXPLICIT_EOR)',
    withoutAs: { 'linux client': 'Linux has no SCTP_EXPLICIT_EOR' },
    async run(a, b) {
      const [c, s, l] = await connected(a, b, { a: x => x.ok('set', { opt: 'EXPLICIT_EOR', value: 1 }) });
      await c.ok('send', { len: 1000, seed: 0, sid: 3, ppid: 9 });
      await c.ok('send', { len: 1000, seed: 0, sid: 3, ppid: 9 });
      await s.ok('set', { opt: 'RECVRCVINFO', value: 1 });
      const early = await s.call('recv', { wait: 200 });
      assert.ok(early.r < 0 || early.eor === false, 'no end yet');
      await c.ok('send', { len: 500, seed: 0, sid: 3, ppid: 9, flags: 'eor' });
      let total = Math.max(0, early.r);
      for (let i = 0; total < 2500 && i < 10; i++) {
        const m = await s.message();
        total += m.r;
        assert.equal(m.eor, total === 2500);
        assert.deepEqual([m.rcv!.sid, m.rcv!.ppid, m.rcv!.ssn], [3, 9, 0]);
      }
      assert.equal(total, 2500);
      await done(c, s, l);
    },
  },
  {
    name: 'a reader with a small buffer gets a message in pieces, the last with MSG_EOR; MSG_PEEK takes nothing away',
    async run(a, b) {
      const [c, s, l] = await connected(a, b, { b: x => x.ok('set', { opt: 'RECVRCVINFO', value: 1 }) });
      await c.ok('send', { len: 250, seed: 2, ppid: 5 });
      const peeked = await s.message({ len: 100, peek: 1 });
      assert.deepEqual([peeked.r, peeked.sum], [100, sum(fill(250, 2).subarray(0, 100))]);
      for (const [at, n] of [
        [0, 100],
        [100, 100],
        [200, 50],
      ] as const) {
        const m = await s.message({ len: 100 });
        assert.deepEqual([m.r, m.sum, m.eor], [n, sum(fill(250, 2).subarray(at, at + n)), at === 200]);
        assert.equal(m.rcv!.ppid, 5);
      }
      await done(c, s, l);
    },
  },
  ...([0, 1] as const).map(
    (level): Case => ({
      name: `fragment interleave ${level}: ${level === 0 ? 'nothing' : "another association's message"} comes between the parts of a message (PARTIAL_DELIVERY_POINT)`,
      withoutAs: {
        'linux client': 'Linux has no SCTP_EXPLICIT_EOR to hold a message open with',
      },
      async run(a, b) {
        const { c, s, ca, port } = await hubs(a, b, async x => {
          await x.ok('set', { opt: 'FRAGMENT_INTERLEAVE', value: level });
          await x.ok('set', { opt: 'PARTIAL_DELIVERY_POINT', value: 2000 });
        });
        await c.ok('set', { opt: 'EXPLICIT_EOR', value: 1 });
        const other = await Sock.open(a, 'many');
        await c.ok('send', { assoc: ca, len: 5000, seed: 0, sid: 1, ppid: 1 });
        let total = 0;
        for (let i = 0; total < 2000 && i < 10; i++) {
          const m = await s.message();
          assert.deepEqual([m.eor, m.rcv!.ppid], [false, 1], 'a part');
          total += m.r;
        }
        await other.ok('send', { addr: b.v4[0], port, len: 20, seed: 4, ppid: 2 });
        await b.call('sleep', { wait: 300 });
        await a.call('sleep', { wait: 1 });
        // What is left of the parts, then what came of the other.
        let between = false;
        for (let i = 0; i < 10; i++) {
          const m = await s.call('recv', { wait: 300 });
          if (m.note !== undefined) continue;
          if (m.r < 0) break;
          if (m.rcv!.ppid === 2) between = true;
          else total += m.r;
        }
        assert.equal(between, level === 1);
        await c.ok('send', { assoc: ca, len: 100, seed: 0, sid: 1, ppid: 1, flags: 'eor' });
        let ended = false;
        for (let i = 0; !(ended && between) && i < 10; i++) {
          const m = await s.message();
          if (m.rcv!.ppid === 2) between = true;
          else {
            total += m.r;
            ended = m.eor!;
          }
        }
        assert.deepEqual([total, ended, between], [5100, true, true]);
        await done(c, other, s);
      },
    }),
  ),
  {
    name: 'MAXSEG: a message of 2,500 bytes takes five TSNs at 500',
    async run(a, b) {
      const [c, s, l] = await connected(a, b, {
        a: x => x.ok('set', { opt: 'MAXSEG', assoc: 0, value: 500 }),
        b: x => x.ok('set', { opt: 'RECVRCVINFO', value: 1 }),
      });
      const tsns: number[] = [];
      for (let i = 0; i < 3; i++) {
        await c.ok('send', { len: 2500, seed: i });
        const m = await s.message();
        same(m, 2500, i);
        tsns.push(m.rcv!.tsn);
      }
      assert.equal((tsns[1]! - tsns[0]!) >>> 0, 5);
      assert.equal((tsns[2]! - tsns[1]!) >>> 0, 5);
      await done(c, s, l);
    },
  },
  {
    name: 'DISABLE_FRAGMENTS: a message larger than a packet is refused with EMSGSIZE, a smaller one goes',
    async run(a, b) {
      const [c, s, l] = await connected(a, b, { a: x => x.ok('set', { opt: 'DISABLE_FRAGMENTS', value: 1 }) });
      await c.fails('send', { len: 70_000 }, 'EMSGSIZE');
      await c.ok('send', { len: 1000, seed: 1 });
      same(await s.message(), 1000, 1);
      await done(c, s, l);
    },
  },
  {
    name: 'DEFAULT_SNDINFO: stream, PPID and order of what is sent without information',
    async run(a, b) {
      const [c, s, l] = await connected(a, b, { b: x => x.ok('set', { opt: 'RECVRCVINFO', value: 1 }) });
      await c.ok('set', { opt: 'DEFAULT_SNDINFO', sid: 4, ppid: 1234, context: 5 });
      const got = await c.ok('get', { opt: 'DEFAULT_SNDINFO' });
      assert.deepEqual([got.sid, got.ppid, got.context], [4, 1234, 5]);
      await c.ok('send', { len: 10, plain: 1 });
      const m = await s.message();
      assert.deepEqual([m.rcv!.sid, m.rcv!.ppid], [4, 1234]);
      await done(c, s, l);
    },
  },
  {
    name: 'SENDER_DRY: told once all that was sent has been acknowledged',
    async run(a, b) {
      const [c, s, l] = await connected(a, b);
      await c.ok('send', { len: 2000, seed: 1 });
      await c.events('sender-dry');
      await c.note('sender-dry');
      same(await s.message(), 2000, 1);
      await done(c, s, l);
    },
  },
  {
    name: 'nobody listens: CANT_STR_ASSOC, and SEND_FAILED with what the message went with',
    async run(a, b) {
      const c = await Sock.open(a, 'many');
      await c.events('assoc-change', 'send-failed');
      await c.ok('send', { addr: b.v4[0], port: 7, len: 33, sid: 2, ppid: 99, context: 1234 });
      const seen: Record<string, Reply['note']> = {};
      for (let i = 0; i < 4 && Object.keys(seen).length < 2; i++) {
        const { note } = await c.call('recv', { wait: 3000 });
        if (note !== undefined) seen[note.type] = note;
      }
      assert.equal(seen['assoc-change']!.state, 'cant-start');
      const f = seen['send-failed']!;
      assert.deepEqual([f.sid, f.ppid, f.context], [2, 99, 1234]);
      await done(c);
      const one = await Sock.open(a, 'one');
      const r = await one.call('connect', { addr: b.v4[0], port: 7 });
      if (r.errno === 'EINPROGRESS') {
        await one.call('wait', { for: 'write', wait: 3000 });
        const n = await one.call('recv', { wait: 3000 });
        assert.ok(['ECONNREFUSED', 'ENOTCONN'].includes(n.errno ?? ''), `${a.name} recv: ${n.errno}`);
      } else assert.equal(r.errno, 'ECONNREFUSED');
      await done(one);
    },
  },
  {
    name: 'IPv4 mapped: a sender over IPv4 is told to an IPv6 socket as ::ffff:A or as A (I_WANT_MAPPED_V4_ADDR)',
    async run(a, b) {
      for (const on of [1, 0]) {
        const port = newPort();
        const s = await Sock.open(b, 'many', 6);
        await s.ok('set', { opt: 'MAPPED_V4', value: on });
        await s.ok('bind', { addr: '::', port });
        await s.ok('listen');
        const c = await Sock.open(a, 'many');
        await c.ok('send', { addr: b.v4[0], port, len: 5, seed: 1 });
        const m = await s.message();
        const expected = on === 1 ? `::ffff:${a.v4[0]}/` : `${a.v4[0]}/`;
        assert.ok(m.from!.startsWith(expected), `mapped ${on}: ${m.from}`);
        await done(c, s);
      }
    },
  },
  {
    name: 'ids: FUTURE for associations to come, an id for one, CURRENT and ALL (MAX_BURST, CONTEXT)',
    async run(a, b) {
      const { c, s, ca, port } = await hubs(a, b);
      const value = async (opt: string, assoc: number) => (await c.ok('get', { opt, assoc })).value;
      await c.ok('set', { opt: 'CONTEXT', assoc: 0, value: 10 });
      assert.deepEqual([await value('CONTEXT', 0), await value('CONTEXT', ca)], [10, 0], 'future only');
      await c.ok('set', { opt: 'CONTEXT', assoc: ca, value: 11 });
      assert.deepEqual([await value('CONTEXT', 0), await value('CONTEXT', ca)], [10, 11], 'one only');
      await c.ok('set', { opt: 'CONTEXT', assoc: 1, value: 12 });
      assert.deepEqual([await value('CONTEXT', 0), await value('CONTEXT', ca)], [10, 12], 'current');
      await c.ok('set', { opt: 'CONTEXT', assoc: 2, value: 13 });
      assert.deepEqual([await value('CONTEXT', 0), await value('CONTEXT', ca)], [13, 13], 'all');
      await c.ok('set', { opt: 'MAX_BURST', assoc: 2, value: 9 });
      assert.deepEqual([await value('MAX_BURST', 0), await value('MAX_BURST', ca)], [9, 9]);
      const port2 = newPort();
      const s2 = await listening(b, 'many', port2);
      await c.ok('send', { addr: b.v4[0], port: port2, len: 4 });
      const second = await c.note('assoc-change', 'comm-up');
      assert.equal(await value('CONTEXT', Number(second.assoc)), 13, 'what was future');
      assert.notEqual(port, port2);
      await done(c, s, s2);
    },
  },
  {
    name: 'several addresses: bindx, connectx and the lists of both ends; confirmed by heartbeats; another primary',
    without: { usrsctp: LOOPBACK },
    async run(a, b) {
      const port = newPort();
      const l = await listening(b, 'one', port, x => x.events('peer-addr-change'), b.v4.slice(0, 2));
      const c = await Sock.open(a, 'one');
      await c.ok('bindx', { how: 'add', addrs: a.v4.slice(0, 2), port: 0 });
      const r = await c.call('connectx', { addrs: b.v4.slice(0, 2), port });
      assert.ok(r.r >= 0 || r.errno === 'EINPROGRESS');
      const s = await l.sockets('accept', { wait: 5000 });
      await c.call('wait', { for: 'write', wait: 5000 });
      const sorted = (x: Reply) => x.list!.map(t => t.split('/')[0]).sort();
      assert.deepEqual(sorted(await c.ok('getpaddrs', { assoc: 0 })), b.v4.slice(0, 2));
      assert.deepEqual(sorted(await s.ok('getpaddrs', { assoc: 0 })), a.v4.slice(0, 2));
      assert.deepEqual(sorted(await c.ok('getladdrs', { assoc: 0 })), a.v4.slice(0, 2));
      assert.deepEqual(sorted(await l.ok('getladdrs', { assoc: 0 })), b.v4.slice(0, 2));
      // RFC 9260 §5.4: what the user of the INIT's sender gave counts as confirmed; its receiver has to ask.
      const note = await s.note('peer-addr-change', 'confirmed');
      assert.ok(String(note.addr).startsWith(`${a.v4[1]}/`), `${note.addr}`);
      const second = `${b.v4[1]}/${port}`;
      await c.ok('set', { opt: 'PRIMARY_ADDR', assoc: 0, addr: second });
      assert.equal((await c.ok('get', { opt: 'PRIMARY_ADDR', assoc: 0 })).addr, second);
      assert.equal((await c.ok('get', { opt: 'STATUS', assoc: 0 })).primary, second);
      await c.ok('send', { len: 10, seed: 1 });
      const m = await s.message();
      same(m, 10, 1);
      const info = await c.ok('get', { opt: 'PEER_ADDR_INFO', assoc: 0, addr: second });
      assert.equal(info.addr, second);
      await done(c, s, l);
    },
  },
  {
    name: 'a path is lost and comes back: PEER_ADDR_CHANGE on both sides (RTOINFO, PEER_ADDR_PARAMS)',
    without: { usrsctp: LOOPBACK },
    async run(a, b, net) {
      const quick = async (x: Sock) => {
        await x.ok('set', { opt: 'RTOINFO', assoc: 0, initial: 200, min: 100, max: 300 });
        await x.ok('set', { opt: 'PEER_ADDR_PARAMS', assoc: 0, hbinterval: 100, pathmaxrxt: 1, flags: 1 });
        await x.events('peer-addr-change');
      };
      const port = newPort();
      const l = await listening(b, 'one', port, quick, b.v4.slice(0, 2));
      const c = await Sock.open(a, 'one');
      await quick(c);
      await c.ok('bindx', { how: 'add', addrs: a.v4.slice(0, 2), port: 0 });
      await c.call('connectx', { addrs: b.v4.slice(0, 2), port });
      const s = await l.sockets('accept', { wait: 5000 });
      await s.note('peer-addr-change', 'confirmed');
      try {
        net.second(false);
        const [one, two] = [
          await c.note('peer-addr-change', 'unreachable'),
          await s.note('peer-addr-change', 'unreachable'),
        ];
        assert.ok(String(one.addr).startsWith(`${b.v4[1]}/`), `${one.addr}`);
        assert.ok(String(two.addr).startsWith(`${a.v4[1]}/`), `${two.addr}`);
        await c.ok('send', { len: 100, seed: 1 });
        same(await s.message(), 100, 1, 'by the other path');
      } finally {
        net.second(true);
      }
      await c.note('peer-addr-change', 'available');
      await s.note('peer-addr-change', 'available');
      await done(c, s, l);
    },
  },
  {
    name: 'bindx: addresses added and taken away before listening',
    without: { usrsctp: LOOPBACK },
    async run(a, b) {
      const port = newPort();
      const l = await Sock.open(b, 'many');
      const list = async () => (await l.ok('getladdrs', { assoc: 0 })).list!.map(t => t.split('/')[0]).sort();
      await l.ok('bindx', { how: 'add', addrs: [b.v4[0]!], port });
      await l.ok('bindx', { how: 'add', addrs: [b.v4[1]!], port });
      assert.deepEqual(await list(), b.v4.slice(0, 2));
      await l.ok('bindx', { how: 'rem', addrs: [b.v4[0]!], port });
      assert.deepEqual(await list(), [b.v4[1]]);
      await l.fails('bindx', { how: 'rem', addrs: [b.v4[1]!], port }, 'EINVAL', 'EBUSY');
      await l.ok('listen');
      const c = await Sock.open(a, 'many');
      await c.ok('send', { addr: b.v4[1], port, len: 5, seed: 1 });
      const m = await l.message();
      same(m, 5, 1);
      await done(c, l);
    },
  },
  {
    name: 'IPv6: the same by IPv6 addresses',
    without: { usrsctp: LOOPBACK },
    async run(a, b) {
      const [c, s, l] = await connected(a, b, { addrs: [b.v6[0]!] });
      await c.ok('send', { len: 900, seed: 1 });
      const m = await s.message();
      same(m, 900, 1);
      assert.ok(m.from!.startsWith(a.v6[0]!), m.from);
      await done(c, s, l);
    },
  },
];
