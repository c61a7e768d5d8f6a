/**
 * The appliance as a benchmark peer, a process of its own: `sink` listens and counts, `source` connects and sends as fast as
 * it can for some time or bytes. Prints one line of JSON: {"bytes","messages","seconds"} measured between the first and the
 * last byte after the warm-up.
 *
 *   node dist/bench/nke-peer.js sink   --udp 9899
 *   node dist/bench/nke-peer.js source --udp 9900 --remote-udp 9899 --message 1400 --seconds 3
 */

import { parseArgs } from 'node:util';
import { Appliance } from '../appliance.js';
import { AF_INET, SOCK_STREAM } from '../stack/kern/protosw.js';
import { RecvInfo, type SendInfo, Socket } from '../stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP } from '../stack/netinet/in.js';
import {
  SCTP_GET_PATHS,
  SCTP_NODELAY,
  SCTP_REMOTE_UDP_ENCAPS_PORT,
  SCTP_STATUS,
  SO_RCVBUF,
  SO_SNDBUF,
  SOL_SOCKET,
} from '../stack/sctp/api.js';

const SCTP_PORT = 5001;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    udp: { type: 'string', default: '0' },
    'remote-udp': { type: 'string', default: '0' },
    local: { type: 'string', default: '127.0.0.1' },
    remote: { type: 'string', default: '127.0.0.1' },
    message: { type: 'string', default: '1400' },
    seconds: { type: 'string', default: '3' },
    warmup: { type: 'string', default: '0.5' },
    rcvbuf: { type: 'string', default: '0' },
    stats: { type: 'boolean', default: false },
  },
});
const mode = positionals[0];
const size = Number(values.message);

const appliance = Appliance.create({
  name: `bench-${mode}`,
  cards: [{ port: `udp:${values.local}:${values.udp}` }],
  kexts: ['SCTP'],
});

function socket(): Socket {
  const so = appliance.socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
  if (!(so instanceof Socket)) throw new Error(`no SCTP socket: ${so}`);
  return so;
}

function report(bytes: number, messages: number, seconds: number): void {
  process.stdout.write(`${JSON.stringify({ bytes, messages, seconds })}\n`);
  if (values.stats)
    process.stderr.write(
      `${JSON.stringify(appliance.stack.counters.snapshot(), (_k, v) => (v === 0 ? undefined : v), 1)}\n`,
    );
}

async function sink(): Promise<void> {
  const listener = socket();
  listener.bind({ addr: InAddr.of('0.0.0.0'), port: SCTP_PORT });
  if (values.rcvbuf !== '0') listener.setsockopt(SOL_SOCKET, SO_RCVBUF, Number(values.rcvbuf));
  listener.listen(5);
  process.stdout.write('listening\n');
  const so = await new Promise<Socket>(resolve => {
    listener.upcall = () => {
      const s = listener.accept();
      if (s instanceof Socket) resolve(s);
    };
  });
  const buf = new Uint8Array(1 << 20);
  const info = new RecvInfo();
  const warm = Number(values.warmup) * 1000;
  let begun = 0;
  let first = 0;
  let last = 0;
  let bytes = 0;
  let messages = 0;
  await new Promise<void>(resolve => {
    const read = () => {
      const now = performance.now();
      if (begun === 0) begun = now;
      for (;;) {
        const n = so.recv(buf, 0, buf.length, info);
        if (n === 0) return resolve();
        if (n < 0) {
          if (n !== -35) return resolve();
          return;
        }
        if (now - begun < warm) continue;
        if (first === 0) first = now;
        bytes += n;
        messages++;
        last = now;
      }
    };
    so.upcall = read;
    read();
  });
  report(bytes, messages, (last - first) / 1000);
  so.close();
  listener.close();
}

async function source(): Promise<void> {
  const so = socket();
  so.setsockopt(IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, port: Number(values['remote-udp']) });
  so.setsockopt(IPPROTO_SCTP, SCTP_NODELAY, 1);
  const connected = new Promise<void>((resolve, reject) => {
    so.upcall = () => {
      if (so.error !== 0) reject(new Error(so.errorReason));
      else if (so.writable) resolve();
    };
  });
  so.connect({ addr: InAddr.of(values.remote), port: SCTP_PORT });
  await connected;
  const msg = new Uint8Array(size).map((_, i) => i & 255);
  const info: SendInfo = { sid: 0, flags: 0, ppid: 0, context: 0, assocId: 0, prPolicy: 0, prValue: 0 };
  const start = performance.now();
  const end = start + (Number(values.seconds) + Number(values.warmup)) * 1000;
  let bytes = 0;
  let messages = 0;
  await new Promise<void>(resolve => {
    const write = () => {
      if (performance.now() >= end || so.error !== 0) {
        so.upcall = undefined;
        return resolve();
      }
      while (so.send(msg, 0, size, info) > 0) {
        bytes += size;
        messages++;
      }
    };
    so.upcall = write;
    write();
  });
  if (values.stats)
    process.stderr.write(
      `${JSON.stringify(so.getsockopt(IPPROTO_SCTP, SCTP_GET_PATHS))} sndbuf ${so.getsockopt(SOL_SOCKET, SO_SNDBUF)} ${JSON.stringify(so.getsockopt(IPPROTO_SCTP, SCTP_STATUS))}\n`,
    );
  report(bytes, messages, (performance.now() - start) / 1000);
  const closed = new Promise<void>(resolve => {
    so.upcall = () => {
      if (so.readable) resolve();
    };
  });
  so.shutdown(1);
  await Promise.race([closed, new Promise(r => setTimeout(r, 3000).unref())]);
  so.close();
}

await (mode === 'sink' ? sink() : source());
setTimeout(() => appliance.close(), 200);
