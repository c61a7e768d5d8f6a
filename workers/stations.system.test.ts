/**
 * Two workers that are one station on a link, over the rings of a real interface and over a TAP's queues, in a network namespace
 * of their own: associations and their data, neighbours, ICMP, fragments, a worker's successor.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Appliance } from '../appliance.js';
import { crc32c } from '../nic/crc32c.js';
import { native, TUN_OPEN_HEADERS, TUN_OPEN_QUEUES, TUN_OPEN_TAP } from '../nic/native.js';
import { Assembler, extended, RET } from '../nic/ports/cbpf.js';
import { liveInNamespace, noNamespace, run } from '../nic/ports/netns.fixture.js';
import { initQueue } from '../nic/ports/steer.js';
import { EAGAIN, EINPROGRESS } from '../stack/kern/errno.js';
import { AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM } from '../stack/kern/protosw.js';
import { RecvInfo, type SendInfo, Socket } from '../stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP, IPPROTO_UDP } from '../stack/netinet/in.js';
import { SCTP_NODELAY, SCTP_PEER_ADDR_PARAMS, SPP_PMTUD_DISABLE } from '../stack/sctp/api.js';
import { WorkerAppliances, type WorkerExit, type WorkersOptions } from '../workers.js';
import { ECHO_PORT } from './echo.fixture.js';

const skip = noNamespace();
if (!skip) liveInNamespace();
const LIMIT = { skip, timeout: 60_000 };

const program = new URL('./echo.fixture.js', import.meta.url);
const US = { 4: '10.7.0.2', 6: 'fd00::2' } as const;
const PEER = { 4: '10.7.0.1', 6: 'fd00::1' } as const;
const info: SendInfo = { sid: 0, flags: 0, ppid: 0, context: 0, assocId: 0, prPolicy: 0, prValue: 0 };

/** A medium: the workers' port and the peer's, and what both need. */
interface Medium {
  readonly workers: string;
  readonly peer: string;
  /** Made once the workers' port is open, or before. */
  readonly before?: () => void;
}
const MEDIA: readonly Medium[] = [
  { workers: 'packet:va', peer: 'packet:vb', before: veth },
  // The peer sends and receives on the kernel side's interface, as a program of this machine would.
  { workers: 'tap:nke0', peer: 'packet:nke0' },
];

function veth(): void {
  run('ip', 'link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb');
  for (const name of ['va', 'vb']) run('ip', 'link', 'set', name, 'up');
}
if (!skip) after(() => run('ip', 'link', 'del', 'va'));

const until = async (what: string, done: () => boolean | Promise<boolean>): Promise<void> => {
  for (const end = performance.now() + 15_000; !(await done()); ) {
    if (performance.now() > end) assert.fail(`not in 15 seconds: ${what}`);
    await new Promise(r => setTimeout(r, 5));
  }
};

type Groups = Record<string, Record<string, number>>;
const counter = async (w: WorkerAppliances, group: string, name: string): Promise<number[]> =>
  (await w.all('counters')).map(c => (c as Groups)[group]![name]!);
const sum = (all: readonly number[]): number => all.reduce((a, b) => a + b, 0);

function socket(a: Appliance, from = 0): Socket {
  const so = a.socket(AF_INET6, SOCK_STREAM, IPPROTO_SCTP);
  assert.ok(so instanceof Socket);
  so.setsockopt(IPPROTO_SCTP, SCTP_NODELAY, 1);
  if (from !== 0) assert.equal(so.bind({ addr: InAddr.of('::'), port: from }), 0);
  return so;
}

const familyOf = (i: number): 4 | 6 => (i % 2 === 0 ? 4 : 6);
let nextPort = 30_000;
/** The peer's sockets, by turns for IPv4 and IPv6 (familyOf), whose INITs to ECHO_PORT come by turns to both queues. */
function callers(a: Appliance, n: number): Socket[] {
  return Array.from({ length: n }, (_, i) => {
    const { w0, w1, w2, w3 } = InAddr.of(PEER[familyOf(i)]);
    const words = familyOf(i) === 4 ? [w3] : [w0, w1, w2, w3];
    while (initQueue((++nextPort << 16) | ECHO_PORT, words, 2) !== ((i >> 1) & 1));
    return socket(a, nextPort);
  });
}

/** Connects, sends `text`, reads the echo. */
async function echo(so: Socket, family: 4 | 6, port = ECHO_PORT): Promise<void> {
  so.connect({ addr: InAddr.of(US[family]), port });
  await until('connected', () => so.writable || so.error !== 0);
  assert.equal(so.error, 0, so.errorReason);
  await again(so, 'hello');
}
async function again(so: Socket, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  const buf = new Uint8Array(10_000);
  assert.equal(so.send(bytes, 0, bytes.length, info), bytes.length);
  let n = -EAGAIN;
  await until('echo', () => (n = so.recv(buf, 0, buf.length, new RecvInfo())) !== -EAGAIN);
  assert.equal(new TextDecoder().decode(buf.subarray(0, n)), text);
}

for (const medium of MEDIA)
  describe(medium.workers, { skip }, () => {
    let first = true;
    async function servers(options: WorkersOptions = {}): Promise<WorkerAppliances & AsyncDisposable> {
      if (first) medium.before?.();
      first = false;
      const card = { port: medium.workers, addresses: [`${US[4]}/24`, `${US[6]}/64`] };
      const made = await WorkerAppliances.create(
        { name: 'station', cards: [card], kexts: ['SCTP'] },
        { workers: 2, program, ...options },
      );
      return Object.assign(made, { [Symbol.asyncDispose]: () => made.close(0) });
    }
    function client(kexts = ['SCTP']): Appliance & AsyncDisposable {
      const card = { port: medium.peer, addresses: [`${PEER[4]}/24`, `${PEER[6]}/64`] };
      const a = Appliance.create({ name: 'peer', cards: [card], kexts });
      return Object.assign(a, { [Symbol.asyncDispose]: () => a.close(0) });
    }

    test('each association lives in one worker, and every packet of it comes there', LIMIT, async () => {
      await using s = await servers();
      await using c = client();
      const sockets = callers(c, 16);
      await Promise.all(sockets.map((so, i) => echo(so, familyOf(i))));
      for (let i = 0; i < 5; i++) await Promise.all(sockets.map(so => again(so, `again ${i}`)));
      const held = (await s.all('associations')) as number[];
      assert.deepEqual(held, [8, 8], 'both work');
      assert.deepEqual(await counter(s, 'sctp', 'sctps_steeredout'), [0, 0]);
      assert.deepEqual(await counter(s, 'sctp', 'sctps_ootb'), [0, 0]);
      // The peer has asked for one station, and was answered once.
      const { arp, nd6 } = c.counters() as Groups;
      assert.equal(arp!.replies_received, arp!.requests_sent);
      assert.equal(sum(await counter(s, 'arp', 'replies_sent')), arp!.replies_received);
      assert.equal(arp!.conflicts, 0);
      assert.equal(nd6!.conflicts, 0);
      assert.deepEqual(await counter(s, 'nd6', 'duplicates'), [0, 0]);
    });

    test('both find their neighbours, and reach out', LIMIT, async () => {
      await using s = await servers();
      await using c = client();
      socket(c, ECHO_PORT).listen(8);
      for (const queue of [0, 1])
        for (const family of [4, 6] as const)
          assert.equal(
            await s.request(queue, 'connect', {
              from: 20_000 + 10 * queue + family,
              to: PEER[family],
              port: ECHO_PORT,
            }),
            -EINPROGRESS,
          );
      await until('all four', async () => sum(await counter(s, 'sctp', 'sctps_currestab')) === 4);
      assert.deepEqual(await s.all('associations'), [2, 2]);
      const answered = await counter(s, 'arp', 'replies_received');
      assert.ok(answered[0]! > 0 && answered[1]! > 0, `ARP replies: ${answered}`);
      assert.ok((await counter(s, 'nd6', 'adverts_received')).every(n => n > 0));
      const [card] = Object.keys((await s.counters()) as Groups).filter(k => k.startsWith('port.'));
      assert.ok(sum(await counter(s, card!, 'rx_told')) > 0, 'what came to one was told to the other');
      assert.deepEqual(await counter(s, 'steering', 'full'), [0, 0]);
    });

    test('who asks for an echo gets one answer; an ICMP error comes to whom it is about', LIMIT, async () => {
      await using s = await servers();
      await using c = client([]);
      let replies = 0;
      c.stack.icmp.onEchoReply = () => replies++;
      const { icmp6 } = c.stack as unknown as { icmp6: { onEchoReply: (() => void) | undefined } };
      icmp6.onEchoReply = () => replies++;
      // The first packet waits for the neighbour's address.
      for (let i = 0; i < 3; i++) {
        c.stack.icmp.ping(InAddr.of(US[4]), 1, i, 56);
        c.stack.icmp6.ping(InAddr.of(US[6]), 1, i, 56);
        c.kick();
      }
      await until('six replies', () => replies >= 6);
      assert.equal(replies, 6);
      // No SCTP there: protocol unreachable (RFC 9260 §10), or an unrecognized next header.
      for (const queue of [0, 1])
        await s.request(queue, 'connect', { from: 20_001 + queue, to: PEER[4], port: ECHO_PORT });
      await until('both refused', async () => sum((await s.all('associations')) as number[]) === 0);
      assert.deepEqual(await counter(s, 'sctp', 'sctps_icmp'), [1, 1]);
    });

    test('answers to datagrams come to who asked', LIMIT, async () => {
      await using s = await servers();
      await using c = client();
      for (const family of [4, 6] as const) {
        const so = c.socket(family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM, IPPROTO_UDP);
        assert.ok(so instanceof Socket);
        assert.equal(so.bind({ addr: new InAddr(family), port: 53 }), 0);
        const buf = new Uint8Array(16);
        const got = new RecvInfo();
        so.upcall = () => {
          for (let n = so.recv(buf, 0, 16, got); n > 0; n = so.recv(buf, 0, 16, got))
            so.send(buf, 0, n, undefined, got.from);
        };
        for (let i = 0; i < 4; i++)
          for (const queue of [0, 1]) {
            const port = (await s.request(queue, 'ask', { to: PEER[family], port: 53 })) as number;
            assert.equal(port % 2, queue);
          }
      }
      assert.deepEqual(await counter(s, 'udp', 'no_port'), [0, 0]);
    });

    test('a restart whose INIT comes to another worker meets the association', LIMIT, async () => {
      await using s = await servers();
      // A port of ours for which the INIT from ECHO_PORT there comes to queue 1.
      let port = 20_000;
      while (initQueue((ECHO_PORT << 16) | port, [InAddr.of(PEER[4]).w3], 2) !== 1) port++;
      {
        await using c = client();
        socket(c, ECHO_PORT).listen(1);
        await s.request(0, 'connect', { from: port, to: PEER[4], port: ECHO_PORT });
        await until('established', async () => (await counter(s, 'sctp', 'sctps_currestab'))[0] === 1);
        c.link('nke0', false); // it ends without a word
      }
      await using c = client();
      await echo(socket(c, ECHO_PORT), 4, port);
      assert.deepEqual(await counter(s, 'sctp', 'sctps_restartestab'), [1, 0]);
      assert.deepEqual(await s.all('associations'), [1, 0]);
      assert.ok((await counter(s, 'sctp', 'sctps_steeredin'))[0]! > 0);
    });

    test('fragments are put together where they come, and handed on', LIMIT, async () => {
      await using s = await servers();
      await using c = client();
      const sockets = callers(c, 8);
      await Promise.all(sockets.map((so, i) => echo(so, familyOf(i))));
      assert.deepEqual(await s.all('associations'), [4, 4]);
      // No path MTU discovery at the peer: IP cuts what is too long for the link. (Such packets cannot leave their CRC to the card.)
      const { stack } = c;
      const output = stack.output.bind(stack);
      stack.output = (m, src, dst, proto, tos) => {
        const { pool } = stack;
        const at = pool.off[m]!;
        pool.csum[m] = 0;
        pool.dv.setUint32(at + 8, 0);
        pool.dv.setUint32(at + 8, crc32c(pool.u8, at, pool.pktlen[m]!), true);
        return output(m, src, dst, proto, tos, false);
      };
      for (const so of sockets)
        assert.equal(
          so.setsockopt(IPPROTO_SCTP, SCTP_PEER_ADDR_PARAMS, { flags: SPP_PMTUD_DISABLE, pathMtu: 4000 }),
          0,
        );
      for (const so of sockets) await again(so, 'x'.repeat(3000));
      const counters = c.counters() as Groups;
      assert.ok(counters.ip!.fragments_sent! > 0 && counters.ip6!.fragments_sent! > 0);
      assert.ok((await counter(s, 'sctp', 'sctps_steeredin'))[1]! > 0);
    });

    if (medium.workers.startsWith('tap:'))
      test('what comes to the wrong queue is handed on, be it all of it', LIMIT, async () => {
        await using s = await servers();
        // A queue more, for as long as it takes to have the interface send everything to the first one.
        const a = new Assembler();
        a.op(RET, 0);
        const all = native!.bpfProgLoad(1, 0, extended(a.bytes()), 0, new Uint8Array(0));
        const flags = TUN_OPEN_TAP | TUN_OPEN_QUEUES | TUN_OPEN_HEADERS;
        const fd = native!.tunQueue('nke0', flags, undefined);
        assert.ok(all >= 0 && fd >= 0);
        assert.equal(native!.tunSteer(fd, all), 0);
        native!.close(fd);
        native!.close(all);
        await using c = client();
        const listener = socket(c, ECHO_PORT);
        listener.listen(8);
        await Promise.all(callers(c, 4).map((so, i) => echo(so, familyOf(i))));
        for (const family of [4, 6])
          await s.request(1, 'connect', { from: 20_000 + family, to: PEER[family as 4 | 6], port: ECHO_PORT });
        const accepted: Socket[] = [];
        await until('both are accepted', () => {
          const so = listener.accept();
          if (so instanceof Socket) accepted.push(so);
          return accepted.length === 2;
        });
        for (let i = 0; i < 10; i++) for (const so of accepted) await again(so, `${i}`);
        assert.deepEqual(await s.all('associations'), [4, 2]);
        assert.ok((await counter(s, 'sctp', 'sctps_steeredin'))[1]! > 20);
      });

    test('a worker dies: its successor has its queue, the others keep theirs', LIMIT, async () => {
      const exits: WorkerExit[] = [];
      await using s = await servers({ onExit: e => exits.push(e) });
      await using c = client();
      for (const dying of [0, 1]) {
        exits.length = 0;
        const sockets = callers(c, 12);
        await Promise.all(sockets.map((so, i) => echo(so, familyOf(i))));
        assert.deepEqual(await s.all('associations'), [6, 6]);
        const lost = 6;
        await s.request(dying, 'crash');
        await until('the exit', () => exits.length > 0);
        assert.deepEqual([exits[0]!.queue, exits[0]!.restarting], [dying, true]);
        await until('the successor', () => s.workers[dying]!.ready);
        const bytes = new Uint8Array(4);
        for (const so of sockets) so.send(bytes, 0, 4, info);
        await until('the lost ones have ended', () => sockets.filter(so => so.error !== 0).length === lost);
        const left = sockets.filter(so => so.error === 0);
        const buf = new Uint8Array(4);
        for (const so of left) await until('echo', () => so.recv(buf, 0, 4, new RecvInfo()) === 4);
        const fresh = callers(c, 12);
        await Promise.all(fresh.map((so, i) => echo(so, familyOf(i))));
        const now = dying === 0 ? [6, 12] : [12, 6];
        assert.deepEqual(await s.all('associations'), now, 'the successor works');
        for (const so of [...sockets, ...fresh]) so.close();
        await until('all are gone', async () => sum((await s.all('associations')) as number[]) === 0);
      }
      // What was of the dead one's came to its successor; no packet went astray.
      assert.deepEqual(await counter(s, 'sctp', 'sctps_steeredout'), [0, 0]);
    });
  });

test('what cannot be shared is refused with a sentence that says why', LIMIT, async () => {
  const config = (port: string) => ({ cards: [{ port }], kexts: ['SCTP'] });
  const refused = (port: string, why: RegExp) =>
    assert.rejects(WorkerAppliances.create(config(port), { workers: 2 }), why);
  await refused('xdp:va', /cannot share xdp:va \(an XDP program .*give a packet, tap, tun or udp card/);
  await refused('raw:10.7.0.1', /cannot share raw:10.7.0.1 \(.*every raw socket/);
  await refused('packet:nothere', /there is no network interface nothere/);
  await refused('tap:a/b', /is no interface name/);
  await refused('udp:nowhere:9', /is no IP address/);
});
