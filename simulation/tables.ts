/**
 * The golden tables: throughput over loss, round trip and buffer, and failover times, as rows of text that a test compares
 * to the byte with the files in simulation/golden. A row is its cell, "|", and what was measured.
 */

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BulkCell, bulk, MESSAGE, RATE } from './bulk.js';
import { DEFAULT_TIMERS, FAST_TIMERS, type FailoverCell, failover } from './failover.js';

/** Where the tables lie: beside the sources, also when this runs from dist. */
export const GOLDEN = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'simulation', 'golden');

/** A table: its file, what stands above it, and its rows, each to be measured anew. */
export interface Table {
  readonly name: string;
  readonly about: readonly string[];
  readonly header: string;
  readonly rows: readonly TableRow[];
}
export interface TableRow {
  /** The cell as it stands in the file. */
  readonly key: string;
  /** Cheap enough for the unit tests. */
  readonly quick: boolean;
  measure(): Promise<string>;
}

const columns = (widths: readonly number[], cells: readonly string[]): string =>
  cells.map((c, i) => c.padStart(widths[i]!)).join('  ');
const percent = (p: number): string => `${Number((p * 100).toFixed(4))}`;
const ms = (t: number | undefined): string => (t === undefined ? '-' : t.toFixed(3));

const LOSSES = [0, 0.001, 0.01, 0.03];
const ROUND_TRIPS = [2, 10, 50, 200];
const BUFFERS = [64 << 10, 1 << 20, 4 << 20];
const BULK_KEY = [6, 6, 10];
const BULK_VALUE = [10, 7, 4, 8, 10];

function bulkRow(loss: number, rtt: number, buffer: number): TableRow {
  const cell: BulkCell = { loss, rtt: rtt * 1e6, buffer, skip: 5, seconds: 10 };
  return {
    key: columns(BULK_KEY, [percent(loss), `${rtt}`, `${buffer >> 10}`]),
    quick: rtt === 200 && (loss >= 0.01 ? buffer === 1 << 20 : buffer === 64 << 10),
    async measure() {
      const r = await bulk(cell);
      const { bytes, mbps, timeouts, fastRetransmissions: fast, queueFull } = r;
      return columns(BULK_VALUE, [`${bytes}`, mbps.toFixed(2), `${timeouts}`, `${fast}`, `${queueFull}`]);
    },
  };
}

export const THROUGHPUT: Table = {
  name: 'throughput',
  about: [
    `One association over one path of ${RATE / 1e6} Mb/s: bytes of user data that the reader got in 10 s of virtual time, after`,
    `5 s of slow start. Messages of ${MESSAGE} bytes, one to a packet; packets are lost at random with the same probability each`,
    'way; half of the round trip each way; the queue holds one bandwidth-delay product and at least 150,000 bytes. Sender',
    'and receiver have a buffer of that size each. T3 time-outs, fast retransmissions and packets that found the queue full',
    'are of all the 15 s. The most that the line can carry is 95.76 Mb/s: 1,400 bytes of each frame of 1,462.',
  ],
  header: `${columns(BULK_KEY, ['loss %', 'rtt ms', 'buffer KiB'])} |${columns(BULK_VALUE, ['bytes', 'Mb/s', 'T3', 'fast rtx', 'queue full'])}`,
  rows: LOSSES.flatMap(loss => ROUND_TRIPS.flatMap(rtt => BUFFERS.map(buffer => bulkRow(loss, rtt, buffer)))),
};

const HOWS = ['cable', 'silent', 'idle'] as const;
const FAILOVER_KEY = [6, 8, 11, 3];
const FAILOVER_VALUE = [12, 12, 12, 12];

function failoverRow(cell: FailoverCell): TableRow {
  const pf = cell.pfThreshold === 65535 ? 'off' : `${cell.pfThreshold}`;
  return {
    key: columns(FAILOVER_KEY, [cell.how, cell.timers.name, `${cell.pathMaxRetrans}`, pf]),
    quick: cell.pathMaxRetrans === 1 && cell.pfThreshold === 65535,
    async measure() {
      const r = await failover(cell);
      return columns(FAILOVER_VALUE, [ms(r.resumed), ms(r.switched), ms(r.worst), ms(r.back)]);
    },
  };
}

export const FAILOVER: Table = {
  name: 'failover',
  about: [
    'One association of two paths (5 ms one way each) whose primary path fails; a message of 1,000 bytes each 20 ms.',
    'cable: the cable is pulled, the cards report it. silent: everything is lost on the way. idle: the same, and no messages',
    'are sent. Timers "RFC 9260": RTO.Initial and RTO.Min 1 s, RTO.Max 60 s, HB.interval 30 s; "fast": 200 ms, 100 ms, 1 s, 1 s.',
    'PF: threshold of RFC 7829. Milliseconds of virtual time: from the failure until the reader gets a message that was to be',
    'sent after it; until new data takes the other path; the longest wait of a message from when it was to be sent until it was',
    'read; and from the repair, 10 s after all had settled, until new data takes the primary path again.',
  ],
  header: `${columns(FAILOVER_KEY, ['how', 'timers', 'max retrans', 'PF'])} |${columns(FAILOVER_VALUE, ['resumed', 'switched', 'worst', 'back'])}`,
  rows: HOWS.flatMap(how =>
    [DEFAULT_TIMERS, FAST_TIMERS].flatMap(timers =>
      [0, 1, 2, 5].flatMap(pathMaxRetrans =>
        [65535, 0].map(pfThreshold => failoverRow({ how, timers, pathMaxRetrans, pfThreshold })),
      ),
    ),
  ),
};

/** Our stack and others at 50 ms, with buffers that do not limit: the medians over seeds. */
const PEER_BUFFER = 4 << 20;
/** Seeds over which figures with chance in them are medians: those of the runs in real time. */
const SEEDS = 5;
const PEER_KEY = [6];
const PEER_VALUE = [14, 24, 24];

/** What bench/lossy.ts measured in real time, by loss: Mb/s of each run, on a day. */
export interface PeerFigures {
  readonly date: string;
  readonly about: string;
  readonly rows: readonly {
    readonly loss: number;
    readonly usrsctp?: readonly number[];
    readonly nke?: readonly number[];
  }[];
}

const peerFigures = JSON.parse(readFileSync(join(GOLDEN, 'peers.json'), 'utf8')) as PeerFigures;
const median = (v: readonly number[]): number => {
  const s = [...v].sort((a, b) => a - b);
  return (s[(s.length - 1) >> 1]! + s[s.length >> 1]!) / 2;
};
const live = (v: readonly number[] | undefined): string =>
  v === undefined
    ? '-'
    : `${median(v).toFixed(2)} (${Math.min(...v).toFixed(2)}-${Math.max(...v).toFixed(2)}, ${v.length})`;

function peerRow(loss: number): TableRow {
  return {
    key: columns(PEER_KEY, [percent(loss)]),
    quick: false,
    async measure() {
      const ours: number[] = [];
      // Without loss there is no chance, and one seed says it all.
      for (let seed = 1; seed <= (loss > 0 ? SEEDS : 1); seed++)
        ours.push((await bulk({ loss, rtt: 50e6, buffer: PEER_BUFFER, seed, skip: 5, seconds: 20 })).mbps);
      const theirs = peerFigures.rows.find(r => r.loss === loss);
      return columns(PEER_VALUE, [median(ours).toFixed(4), live(theirs?.nke), live(theirs?.usrsctp)]);
    },
  };
}

export const PEERS: Table = {
  name: 'peers',
  about: [
    `One association, ${RATE / 1e6} Mb/s, 50 ms, buffers of ${PEER_BUFFER >> 20} MiB, as in throughput.txt: Mb/s of user data in 20 s after 5 s of slow`,
    `start. nke in virtual time: median of seeds 1 to ${SEEDS}. nke and usrsctp in real time: UDP through the relay`,
    `(bench/relay.ts) with the same rate, queue, delay and loss, on ${peerFigures.date}: median (least-most, runs).`,
  ],
  header: `${columns(PEER_KEY, ['loss %'])} |${columns(PEER_VALUE, ['nke', 'nke, real time', 'usrsctp'])}`,
  rows: [0, 0.001, 0.01].map(peerRow),
};

export const TABLES: readonly Table[] = [THROUGHPUT, FAILOVER, PEERS];

/** A row as it stands in the file. */
export const rowText = (key: string, value: string): string => `${key} |${value}`;

/** The rows of a table's file by key. Throws when there is none yet. */
export function goldenRows(table: Table): Map<string, string> {
  const rows = new Map<string, string>();
  for (const line of readFileSync(join(GOLDEN, `${table.name}.txt`), 'utf8').split('\n')) {
    const bar = line.indexOf(' |');
    if (bar >= 0 && !line.startsWith('#') && line !== table.header) rows.set(line.slice(0, bar), line.slice(bar + 2));
  }
  return rows;
}
