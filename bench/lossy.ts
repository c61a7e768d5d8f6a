/**
 * `lossy`: one association over a path of 100 Mb/s with delay and random loss: our stack in virtual time (exact, seed by
 * seed), and usrsctp, or our appliance, in real time through the relay (relay.ts) that has the same queue, delay and loss.
 * Mb/s of user data after slow start.
 *
 * As a program it writes what was measured in real time to simulation/golden/peers.json, for the golden table "peers":
 *
 *   node dist/bench/lossy.js --write [RUNS]
 */

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { bulk, MESSAGE, queueOf, RATE } from '../simulation/bulk.js';
import { GOLDEN, type PeerFigures } from '../simulation/tables.js';
import { ManagedProcess } from '../vm/process.js';
import type { RelayOptions, RelayReport } from './relay.js';
import { median } from './statistics.js';
import { skipWithoutUsrsctp } from './usrsctp/build.js';
import { freeUdpPorts, startUsrsctp } from './usrsctp/peer.js';

export interface LossyCell {
  /** Share of packets lost, each way. */
  readonly loss: number;
  /** Round trip of an empty line, ms. */
  readonly rtt: number;
  /** Bytes of the send and of the receive buffer. */
  readonly buffer: number;
}

export interface LossyOptions {
  readonly cells?: readonly LossyCell[];
  /** Seconds before it is counted, and for which it is (default 5 and 20). */
  readonly skip?: number;
  readonly seconds?: number;
  /** Seeds 1 to `runs` in real time (default 3), to `seeds` in virtual time (default `runs`: the same chances). */
  readonly runs?: number;
  readonly seeds?: number;
  /** Real-time columns: default usrsctp alone; 'nke' shows that virtual and real time agree. */
  readonly peers?: readonly ('usrsctp' | 'nke')[];
  readonly progress?: (text: string) => void;
}

export interface LossyRow extends LossyCell {
  /** Mb/s by seed: in virtual time, and in real time through the relay. */
  readonly virtual: readonly number[];
  readonly usrsctp?: readonly number[];
  readonly nke?: readonly number[];
  /** Medians: ours in virtual time over usrsctp's. */
  readonly ratio?: number;
}

export interface LossyResult {
  readonly scenario: 'lossy';
  readonly params: Readonly<Record<string, string | number>>;
  readonly rows: readonly LossyRow[];
  /** Columns left out, and why. */
  readonly missing: Readonly<Record<string, string>>;
}

/** What the issue asks for: 50 ms, buffers that do not limit. */
export const LOSSY_CELLS: readonly LossyCell[] = [0, 0.001, 0.01].map(loss => ({ loss, rtt: 50, buffer: 4 << 20 }));

const here = dirname(fileURLToPath(import.meta.url));
/**
 * What a packet costs the line beyond what the relay sees: the simulated cards' frames have an Ethernet header (14 bytes)
 * and no UDP header (8).
 */
const OVERHEAD = 14 - 8;
/** What the relay itself adds to the delay, ns: half a tick until it sees a packet, and half until one that is due leaves. */
const TICKS = 0.2e6;

/**
 * One run of two peers in real time through the relay. They and the relay are scheduled before everything else (SCHED_RR)
 * where that is allowed: what waits for a processor has a longer round trip, and it is not the machine that is measured.
 */
export async function relayed(
  who: 'usrsctp' | 'nke',
  cell: LossyCell,
  seed: number,
  skip: number,
  seconds: number,
): Promise<{ mbps: number; report: RelayReport }> {
  // What this thread starts inherits its class.
  const schedule = (...how: string[]) =>
    spawnSync('chrt', [...how, '--pid', how[0] === '--rr' ? '1' : '0', `${process.pid}`]);
  schedule('--rr');
  try {
    return await measure(who, cell, seed, skip, seconds);
  } finally {
    schedule('--other');
  }
}

async function measure(
  who: 'usrsctp' | 'nke',
  cell: LossyCell,
  seed: number,
  skip: number,
  seconds: number,
): Promise<{ mbps: number; report: RelayReport }> {
  const [near, far] = (await freeUdpPorts(2)) as [number, number];
  const life = (skip + seconds + 30) * 1000;
  const queueBytes = queueOf(RATE, cell.rtt * 1e6);
  const path: RelayOptions = {
    far,
    seed,
    rate: RATE,
    delay: cell.rtt * 5e5 - TICKS,
    queueBytes,
    loss: cell.loss,
    overhead: OVERHEAD,
  };
  const argv = [join(here, 'relay.js'), JSON.stringify({ ...path, seconds: skip + seconds })];
  await using relay = new ManagedProcess([process.execPath, ...argv], { timeoutMs: life });
  const remoteUdp = await relay.until('it said where it listens', () =>
    relay.stdout.includes('\n') ? (JSON.parse(relay.stdout.split('\n')[0]!) as { near: number }).near : undefined,
  );
  const buffers = { sndbuf: cell.buffer, rcvbuf: cell.buffer };
  if (who === 'usrsctp') {
    const common = { ...buffers, hash: false, message: MESSAGE, timeout: Math.ceil(life / 1000) };
    await using sink = await startUsrsctp('sink', { ...common, localUdp: far });
    await using source = await startUsrsctp('source', {
      ...common,
      localUdp: near,
      remoteUdp,
      nodelay: true,
      seconds: skip + seconds + 20,
    });
    await Promise.race([relay.ended, sink.process.ended, source.process.ended]);
  } else {
    const peer = (mode: string, ...more: string[]) =>
      new ManagedProcess([process.execPath, join(here, 'nke-peer.js'), mode, '--message', String(MESSAGE), ...more], {
        timeoutMs: life,
      });
    await using sink = peer('sink', '--udp', String(far), '--rcvbuf', String(cell.buffer));
    await sink.until('it listened', () => sink.stdout.includes('listening') || undefined);
    const to = ['--udp', String(near), '--remote-udp', String(remoteUdp), '--sndbuf', String(cell.buffer)];
    await using source = peer('source', ...to, '--seconds', String(skip + seconds + 20));
    await Promise.race([relay.ended, sink.ended, source.ended]);
  }
  // A peer that ends early leaves the relay without a SACK; it then ends by its own deadline, or says what it has.
  await relay.ended;
  const line = relay.stdout.trim().split('\n').at(-1)!;
  if (relay.result?.status !== 0) throw new Error(`the relay failed: ${relay.tail()}`);
  const report = JSON.parse(line) as RelayReport;
  const chunks = report.acked[skip + seconds]! - report.acked[skip]!;
  return { mbps: (chunks * MESSAGE * 8) / seconds / 1e6, report };
}

/** Measures the cells. `missing` says why a column is not there. */
export async function lossy(o: LossyOptions = {}): Promise<LossyResult> {
  const { cells = LOSSY_CELLS, skip = 5, seconds = 20, runs = 3, peers = ['usrsctp'] } = o;
  const { seeds = runs } = o;
  const missing: Record<string, string> = {};
  const noUsrsctp = peers.includes('usrsctp') ? skipWithoutUsrsctp() : 'not asked for';
  if (noUsrsctp) missing.usrsctp = noUsrsctp;
  const live = peers.filter(p => p !== 'usrsctp' || !noUsrsctp);
  const rows: LossyRow[] = [];
  for (const cell of cells) {
    const name = `loss ${cell.loss * 100} %, ${cell.rtt} ms, ${cell.buffer >> 10} KiB`;
    const virtual: number[] = [];
    // Without loss there is no chance in it, and once is enough.
    const [tries, turns] = cell.loss > 0 ? [seeds, runs] : [1, 1];
    for (let seed = 1; seed <= tries; seed++)
      virtual.push((await bulk({ ...cell, rtt: cell.rtt * 1e6, seed, skip, seconds })).mbps);
    o.progress?.(`lossy: ${name}: nke ${median(virtual).toFixed(3)} Mb/s in virtual time, median of ${tries}`);
    const columns: { usrsctp?: number[]; nke?: number[] } = {};
    for (let seed = 1; seed <= turns; seed++) {
      for (const who of live) {
        const { mbps, report } = await relayed(who, cell, seed, skip, seconds);
        (columns[who] ??= []).push(mbps);
        o.progress?.(
          `lossy: ${name}: ${who} ${mbps.toFixed(3)} Mb/s in real time, ${seed}/${turns} (relay: ${(report.cpu * 100).toFixed(0)} % of a processor)`,
        );
      }
    }
    const ratio = columns.usrsctp === undefined ? {} : { ratio: median(virtual) / median(columns.usrsctp) };
    rows.push({ ...cell, virtual, ...columns, ...ratio });
  }
  const params = { rate: RATE, message: MESSAGE, skip, seconds, runs, seeds, queue: 'one bandwidth-delay product' };
  return { scenario: 'lossy', params, rows, missing };
}

async function main(runs: number): Promise<void> {
  const progress = (text: string) => process.stderr.write(`${text}\n`);
  const r = await lossy({ runs, seeds: 1, peers: ['usrsctp', 'nke'], progress });
  if (r.missing.usrsctp !== undefined) throw new Error(`there is no usrsctp to measure: ${r.missing.usrsctp}`);
  const round = (v: readonly number[] | undefined) => v?.map(x => Number(x.toFixed(3)));
  const figures: PeerFigures = {
    date: new Date().toISOString().slice(0, 10),
    about:
      'Mb/s by seed in real time (node dist/bench/lossy.js --write): libusrsctp with its defaults, buffers of 4 MiB, Nagle off',
    rows: r.rows.map(row => ({ loss: row.loss, nke: round(row.nke), usrsctp: round(row.usrsctp) })),
  };
  writeFileSync(join(GOLDEN, 'peers.json'), `${JSON.stringify(figures, undefined, 1)}\n`);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  if (process.argv[2] !== '--write') {
    process.stderr.write('usage: node dist/bench/lossy.js --write [RUNS]\n');
    process.exit(2);
  }
  await main(Number(process.argv[3] ?? 3));
}
