/**
 * Counts the garbage of the data path: two appliances on a cable in one process, one association, N messages of 1,400
 * bytes from socket to socket. Run with a young generation so large that no collection falls into the measurement
 * (garbage.ts does): what the heap has grown by is what was allocated. Prints {"packets","garbage","collections"}.
 */

import { PerformanceObserver } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import { Simulation } from '../simulation.js';
import { AF_INET, SOCK_STREAM } from '../stack/kern/protosw.js';
import { RecvInfo, type SendInfo, Socket } from '../stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP } from '../stack/netinet/in.js';

const total = Number(process.argv[2] ?? 1_000_000);
const size = 1400;

const net = new Simulation(1);
const [a, b] = ['1', '2'].map(n =>
  net.create({ name: n, cards: [{ port: 'wire:cable', addresses: [`10.0.0.${n}/24`] }], kexts: ['SCTP'] }),
);

function socket(host: typeof a): Socket {
  const so = host!.socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
  if (!(so instanceof Socket)) throw new Error(`no socket: ${so}`);
  return so;
}
const listener = socket(b);
listener.bind({ addr: InAddr.of('10.0.0.2'), port: 7 });
listener.listen(1);
const client = socket(a);
client.connect({ addr: InAddr.of('10.0.0.2'), port: 7 });
let server: Socket | undefined;
net.run(() => {
  const s = listener.accept();
  if (s instanceof Socket) server = s;
  return server !== undefined && client.writable;
});

const msg = new Uint8Array(size);
const buf = new Uint8Array(size);
const info: SendInfo = { sid: 0, flags: 0, ppid: 0, context: 0, assocId: 0, prPolicy: 0, prValue: 0 };
const got = new RecvInfo();

/** Moves n messages and returns when all have been read. */
function move(n: number): void {
  let sent = 0;
  let read = 0;
  client.upcall = () => {
    while (sent < n && client.send(msg, 0, size, info) > 0) sent++;
  };
  server!.upcall = () => {
    while (server!.recv(buf, 0, size, got) > 0) read++;
  };
  client.upcall(client);
  const done = () => read >= n;
  if (!net.run(done)) throw new Error(`stuck after ${read} of ${n} messages`);
}

let collections = 0;
new PerformanceObserver(list => {
  collections += list.getEntries().length;
}).observe({ entryTypes: ['gc'] });

move(200_000); // until the code is compiled and the buffers have grown
globalThis.gc?.();
await new Promise(r => setTimeout(r, 20));
collections = 0;
const before = getHeapStatistics().used_heap_size;
const start = performance.now();
move(total);
const seconds = (performance.now() - start) / 1000;
const garbage = getHeapStatistics().used_heap_size - before;
await new Promise(r => setTimeout(r, 20));
const packets = a!.stack.counters.group('sctp')!.sctps_outpackets! + b!.stack.counters.group('sctp')!.sctps_outpackets!;
process.stdout.write(`${JSON.stringify({ messages: total, packets, garbage, collections, seconds })}\n`);
client.close();
server!.close();
listener.close();
