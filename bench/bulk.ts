/**
 * `bulk`: one association, two processes, UDP on loopback: our appliance, usrsctp, and the limit (bench/limit/udp-train.c),
 * in turn, several times. Throughput of user data in Gb/s, measured by the receiver after a warm-up.
 */

import { spawn, spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileC } from '../vm/compile.js';
import { skipWithout } from '../vm/peers.js';
import { type BenchResult, result } from './result.js';
import { skipWithoutUsrsctp } from './usrsctp/build.js';
import { freeUdpPorts, startUsrsctp } from './usrsctp/peer.js';

export interface BulkOptions {
  /** Bytes of a message. */
  readonly message: number;
  /** Seconds measured in each run. */
  readonly seconds: number;
  readonly runs: number;
  /** Which sides to run; all by default. */
  readonly only?: readonly string[];
  readonly progress?: (text: string) => void;
}

const WARMUP = 0.5;
const nkePeer = join(dirname(fileURLToPath(import.meta.url)), 'nke-peer.js');

/** One run of two appliances; Gb/s. */
export async function bulkOurs(o: BulkOptions): Promise<number> {
  const [a, b] = await freeUdpPorts(2);
  const common = ['--message', String(o.message), '--seconds', String(o.seconds), '--warmup', String(WARMUP)];
  const limit = (o.seconds + WARMUP + 15) * 1000;
  const sink = spawn(process.execPath, [nkePeer, 'sink', '--udp', String(a), ...common], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: limit,
    killSignal: 'SIGKILL',
  });
  try {
    let out = '';
    sink.stdout.setEncoding('utf8').on('data', (s: string) => {
      out += s;
    });
    const ended = new Promise<void>(resolve => sink.once('close', () => resolve()));
    await until(() => out.includes('listening'), 5000, 'the sink did not listen');
    const source = spawn(
      process.execPath,
      [nkePeer, 'source', '--udp', String(b), '--remote-udp', String(a), ...common],
      { stdio: ['ignore', 'ignore', 'inherit'], timeout: limit, killSignal: 'SIGKILL' },
    );
    await new Promise<void>((resolve, reject) => {
      source.once('error', reject);
      source.once('close', code => (code === 0 ? resolve() : reject(new Error(`the source ended with ${code}`))));
    });
    await ended;
    const line = out.trim().split('\n').at(-1)!;
    const r = JSON.parse(line) as { bytes: number; seconds: number };
    return (r.bytes * 8) / r.seconds / 1e9;
  } finally {
    if (sink.exitCode === null) sink.kill('SIGKILL');
  }
}

async function until(done: () => boolean, ms: number, what: string): Promise<void> {
  const end = performance.now() + ms;
  while (!done()) {
    if (performance.now() > end) throw new Error(what);
    await new Promise(r => setTimeout(r, 10));
  }
}

/** One run of two usrsctp processes; Gb/s. */
export async function bulkUsrsctp(o: BulkOptions): Promise<number> {
  const [a, b] = await freeUdpPorts(2);
  const limits = { hash: false, message: o.message, timeout: Math.ceil(o.seconds) + 15 };
  await using sink = await startUsrsctp('sink', { ...limits, localUdp: a! });
  await using source = await startUsrsctp('source', { ...limits, localUdp: b!, remoteUdp: a!, seconds: o.seconds });
  await source.result();
  const r = await sink.result();
  return (r.bytes * 8) / r.seconds / 1e9;
}

/** One run of the limit; Gb/s of SCTP user data that its packets would carry. */
export function bulkLimit(o: BulkOptions): number {
  const packet = Math.min(1400, o.message) + 28;
  const program = compileC('bench/limit/udp-train.c');
  const done = spawnSync(
    program,
    [String(o.seconds), String(packet), String(Math.min(44, Math.floor(65000 / packet)))],
    { encoding: 'utf8', timeout: (o.seconds + 10) * 1000 },
  );
  if (done.status !== 0) throw new Error(`udp-train: ${done.stderr}`);
  const r = JSON.parse(done.stdout) as { gbps: number; bad: number };
  if (r.bad !== 0) throw new Error(`udp-train: ${r.bad} bad checksums`);
  return (r.gbps * (packet - 28)) / packet;
}

/** The whole scenario, sides in turn. */
export async function bulk(o: BulkOptions): Promise<BenchResult> {
  const missing: Record<string, string> = {};
  const wanted = (name: string) => o.only === undefined || o.only.includes(name);
  const noUsrsctp = wanted('usrsctp') ? skipWithoutUsrsctp() : 'not asked for';
  if (noUsrsctp) missing.usrsctp = noUsrsctp;
  const noLimit = wanted('limit') ? skipWithout('gcc', 'libc6-dev') : 'not asked for';
  if (noLimit) missing.limit = noLimit;
  const ours: number[] = [];
  const usrsctp: number[] = [];
  const limit: number[] = [];
  for (let run = 1; run <= o.runs; run++) {
    const say = (who: string, gbps: number) => o.progress?.(`bulk ${run}/${o.runs}: ${who} ${gbps.toFixed(3)} Gb/s`);
    if (wanted('nke')) {
      ours.push(await bulkOurs(o));
      say('nke', ours.at(-1)!);
    }
    if (!noUsrsctp) {
      usrsctp.push(await bulkUsrsctp(o));
      say('usrsctp', usrsctp.at(-1)!);
    }
    if (!noLimit) {
      limit.push(bulkLimit(o));
      say('limit', limit.at(-1)!);
    }
  }
  const params = {
    message: o.message,
    seconds: o.seconds,
    runs: o.runs,
    associations: 1,
    medium: 'UDP on loopback, MTU 1500',
  };
  return result('bulk', params, 'Gb/s', { ours, peers: { usrsctp }, limit }, missing);
}
