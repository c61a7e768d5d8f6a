/** Two worker appliances over UDP on loopback: affinity, what is passed between them, a worker that dies, close. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Appliance, ApplianceError } from './appliance.js';
import { native } from './nic/native.js';
import { initQueue } from './nic/ports/steer.js';
import { EAGAIN, EINPROGRESS } from './stack/kern/errno.js';
import { AF_INET, SOCK_STREAM } from './stack/kern/protosw.js';
import { RecvInfo, type SendInfo, Socket } from './stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP } from './stack/netinet/in.js';
import { SCTP_NODELAY, SCTP_REMOTE_UDP_ENCAPS_PORT } from './stack/sctp/api.js';
import { ECHO_PORT } from './workers/echo.fixture.js';
import { WorkerAppliances, type WorkerExit, type WorkersOptions } from './workers.js';

const SERVER = '127.0.0.1';
const CLIENT = '127.0.0.2';
const info: SendInfo = { sid: 0, flags: 0, ppid: 0, context: 0, assocId: 0, prPolicy: 0, prValue: 0 };
const skip = native === undefined ? 'needs the C module' : false;
const LIMIT = { skip, timeout: 20_000 };

const program = new URL('./workers/echo.fixture.js', import.meta.url);

async function servers(
  options: WorkersOptions = {},
): Promise<{ made: WorkerAppliances; udp: number } & AsyncDisposable> {
  const made = await WorkerAppliances.create(
    { name: 'workers-test', cards: [{ port: `udp:${SERVER}:0` }], kexts: ['SCTP'] },
    { workers: 2, program, ...options },
  );
  const udp = Number(made.cards[0]!.port.split(':').at(-1));
  return { made, udp, [Symbol.asyncDispose]: () => made.close(0) };
}

function client(udp = 0, delay = 0): Appliance & AsyncDisposable {
  const faults = delay === 0 ? {} : { faults: { delay } };
  const a = Appliance.create({ name: 'c', cards: [{ port: `udp:${CLIENT}:${udp}`, ...faults }], kexts: ['SCTP'] });
  return Object.assign(a, { [Symbol.asyncDispose]: () => a.close(0) });
}
const udpOf = (a: Appliance): number => (a.cards[0]!.port as unknown as { port: number }).port;

function socket(a: Appliance, udp: number, from = 0): Socket {
  const so = a.socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
  assert.ok(so instanceof Socket);
  so.setsockopt(IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, port: udp });
  so.setsockopt(IPPROTO_SCTP, SCTP_NODELAY, 1);
  if (from !== 0) assert.equal(so.bind({ addr: InAddr.of('0.0.0.0'), port: from }), 0);
  return so;
}

const until = async (what: string, done: () => boolean | Promise<boolean>): Promise<void> => {
  for (const end = performance.now() + 8000; !(await done()); ) {
    if (performance.now() > end) assert.fail(`not in eight seconds: ${what}`);
    await new Promise(r => setTimeout(r, 5));
  }
};

/** Connects, sends `text`, reads the echo. */
async function echo(so: Socket, port: number, text = 'hello'): Promise<void> {
  so.connect({ addr: InAddr.of(SERVER), port });
  await until('connected', () => so.writable || so.error !== 0);
  assert.equal(so.error, 0, so.errorReason);
  await again(so, text);
}
async function again(so: Socket, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  const buf = new Uint8Array(100);
  assert.equal(so.send(bytes, 0, bytes.length, info), bytes.length);
  let n = -EAGAIN;
  await until('echo', () => (n = so.recv(buf, 0, buf.length, new RecvInfo())) !== -EAGAIN);
  assert.deepEqual(buf.subarray(0, n), bytes);
}

type Groups = Record<string, Record<string, number>>;
const counter = async (w: WorkerAppliances, name: string): Promise<number[]> =>
  (await w.all('counters')).map(c => (c as Groups).sctp![name]!);

test('each association lives in one worker, and every packet of it arrives there', LIMIT, async () => {
  await using s = await servers();
  await using c = client();
  const sockets = Array.from({ length: 16 }, () => socket(c, s.udp));
  await Promise.all(sockets.map(so => echo(so, ECHO_PORT)));
  for (let i = 0; i < 5; i++) await Promise.all(sockets.map(so => again(so, `again ${i}`)));
  const held = (await s.made.all('associations')) as number[];
  assert.equal(held[0]! + held[1]!, 16);
  assert.ok(held[0]! > 0 && held[1]! > 0, `both work: ${held}`);
  assert.deepEqual(await counter(s.made, 'sctps_steeredout'), [0, 0]);
  assert.deepEqual(await counter(s.made, 'sctps_ootb'), [0, 0]);
  // The sum is of all: what the two have is what the one peer has.
  assert.equal((await s.made.counters()).sctp!.sctps_currestab, 16);
  const processors = s.made.workers.map(w => w.processor);
  if (processors[0] !== undefined) assert.notEqual(processors[0], processors[1]);
});

/** A port of the workers' for which an INIT from CLIENT, ECHO_PORT comes to the other queue than `queue`. */
function strayPort(queue: number): number {
  for (let p = 20_000; ; p++) if (initQueue((ECHO_PORT << 16) | p, [InAddr.of(CLIENT).w3], 2) !== queue) return p;
}

test('a restart whose INIT comes to another worker meets the association', LIMIT, async () => {
  await using s = await servers();
  const port = strayPort(0);
  let udp = 0;
  {
    await using c = client();
    udp = udpOf(c);
    socket(c, s.udp, ECHO_PORT).listen(1);
    assert.equal(await s.made.request(0, 'connect', { from: port, to: CLIENT, port: ECHO_PORT, udp }), -EINPROGRESS);
    await until('established', async () => (await counter(s.made, 'sctps_currestab'))[0] === 1);
    c.link('nke0', false); // it ends without a word
  }
  await using c = client(udp);
  await echo(socket(c, s.udp, ECHO_PORT), port, 'I am back');
  assert.deepEqual(await counter(s.made, 'sctps_restartestab'), [1, 0]);
  assert.deepEqual(await s.made.all('associations'), [1, 0]);
  assert.ok((await counter(s.made, 'sctps_steeredout'))[1]! > 0);
  assert.deepEqual(await counter(s.made, 'sctps_steeredin'), (await counter(s.made, 'sctps_steeredout')).reverse());
});

test('INITs that cross make one association, also when the peer’s comes to another worker', LIMIT, async () => {
  await using s = await servers();
  let udp = 0;
  {
    await using c = client();
    udp = udpOf(c);
  }
  await using c = client(udp, 100_000);
  const port = strayPort(1);
  const so = socket(c, s.udp, ECHO_PORT);
  so.connect({ addr: InAddr.of(SERVER), port });
  await s.made.request(1, 'connect', { from: port, to: CLIENT, port: ECHO_PORT, udp });
  await until('connected', () => so.writable || so.error !== 0);
  await again(so, 'one of us');
  assert.deepEqual(await s.made.all('associations'), [0, 1]);
  assert.equal(c.sctp()!.associations().length, 1);
  assert.ok((await counter(s.made, 'sctps_steeredin'))[1]! > 0);
});

test('a worker dies: its associations are gone, the others go on, and it is replaced', LIMIT, async () => {
  const exits: WorkerExit[] = [];
  await using s = await servers({ onExit: e => exits.push(e) });
  await using c = client();
  const sockets = Array.from({ length: 12 }, () => socket(c, s.udp));
  await Promise.all(sockets.map(so => echo(so, ECHO_PORT)));
  const [lost, kept] = (await s.made.all('associations')) as number[];
  assert.ok(lost! > 0 && kept! > 0);
  const hanging = assert.rejects(s.made.request(0, 'hang'), /worker 0 has ended/);
  await s.made.request(0, 'crash');
  await until('the exit', () => exits.length > 0);
  await hanging;
  assert.deepEqual(exits, [{ queue: 0, reason: 'a test asked for it', paths: lost, restarting: true }]);
  await until('the successor', () => s.made.workers[0]!.ready);
  // Whoever writes to the dead one's associations gets an ABORT from the successor; the others have noticed nothing.
  const bytes = new Uint8Array(4);
  for (const so of sockets) so.send(bytes, 0, 4, info);
  await until('the lost ones have ended', () => sockets.filter(so => so.error !== 0).length === lost);
  assert.deepEqual(await s.made.all('associations'), [0, kept]);
  const buf = new Uint8Array(4);
  for (const so of sockets) if (so.error === 0) await until('echo', () => so.recv(buf, 0, 4, new RecvInfo()) === 4);
  await echo(socket(c, s.udp), ECHO_PORT, 'anew');
});

test('what cannot be is refused with a sentence, and leaves nothing behind', LIMIT, async () => {
  const config = (port: string) => ({ cards: [{ port }], kexts: ['SCTP'] });
  await assert.rejects(WorkerAppliances.create(config('wire:a'), { workers: 2 }), /cannot share wire:a/);
  await assert.rejects(WorkerAppliances.create(config('udp:127.0.0.1:0'), { workers: 17 }), /give 1 to 16/);
  const refuse = WorkerAppliances.create(config('udp:127.0.0.1:0'), { workers: 2, program, data: { refuse: true } });
  await assert.rejects(refuse, (e: Error) => e instanceof ApplianceError && e.message === 'not today');
  await using s = await servers();
  // A second group would be let in by the system, and take packets away from the first.
  await assert.rejects(
    WorkerAppliances.create(config(`udp:${SERVER}:${s.udp}`), { workers: 2 }),
    /another program uses/,
  );
  await assert.rejects(s.made.request(1, 'nonsense'), { message: 'no request nonsense', code: 'EINVAL' });
  await s.made.close();
  await s.made.close();
  await assert.rejects(s.made.request(0, 'counters'), /worker 0 does not run/);
});

test('close ends associations in good order', LIMIT, async () => {
  await using s = await servers();
  await using c = client();
  const so = socket(c, s.udp);
  await echo(so, ECHO_PORT);
  await s.made.close();
  await until('the peer is told', () => so.error !== 0);
});
