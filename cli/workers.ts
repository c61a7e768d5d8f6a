/**
 * The control socket of worker appliances: a request goes to all workers, and their answers become one. Counters add up, lists
 * of associations and paths say which worker, and what is the same in all of them (routes, tunables) is told once.
 */

import type { ApplianceConfig } from '../appliance.js';
import { type Counters, sumCounters, WorkerAppliances, type WorkerExit } from '../workers.js';
import { type Args, type Emit, Follow, type Handlers } from './control.js';
import { CliError, EXIT_FAILED, oneLine } from './errors.js';
import type { InterfaceRow, MbufRow } from './handlers.js';
import type { StreamEvent, WorkerAnswer, WorkerData, WorkerRequest } from './worker-program.js';

type Row = Readonly<Record<string, unknown>>;
type Merge = (answers: readonly never[]) => unknown;

/** Rows of all workers, each with its number. */
const numbered = (all: readonly (readonly Row[])[]): Row[] =>
  all.flatMap((rows, worker) => rows.map(r => ({ worker, ...r })));

/** Rows by `key`, the numbers of all workers added up. */
function added<T>(all: readonly (readonly T[])[], key: (row: T) => string, add: (a: T, b: T) => T): T[] {
  const rows = new Map<string, T>();
  for (const row of all.flat()) {
    const before = rows.get(key(row));
    rows.set(key(row), before === undefined ? row : add(before, row));
  }
  return [...rows.values()];
}

const interfaces = (all: readonly InterfaceRow[][]): InterfaceRow[] =>
  added(
    all,
    i => i.name,
    (a, b) => ({ ...a, counters: sumCounters([{ c: { ...a.counters } }, { c: { ...b.counters } }]).c! }),
  );

/** How answers become one, by command; what is not here is told by the first worker. */
const MERGE: Readonly<Record<string, Merge>> = {
  status: (all: readonly Row[]) => ({ ...all[0], workers: all.length }),
  ifconfig: interfaces,
  link: interfaces,
  power: interfaces,
  mbufs: (all: readonly MbufRow[][]) =>
    added(
      all,
      m => m.class,
      (a, b) => ({ ...a, inUse: a.inUse + b.inUse, total: a.total + b.total, failed: a.failed + b.failed }),
    ),
  counters: (all: readonly Counters[]) => sumCounters(all),
  protocol: (all: readonly { associations: Row[]; counters: Counters }[]) => ({
    associations: numbered(all.map(a => a.associations)),
    counters: sumCounters(all.map(a => a.counters)),
  }),
  netstat: (all: readonly { associations: Row[]; listeners: Row[] }[]) => ({
    associations: numbered(all.map(a => a.associations)),
    listeners: added(
      all.map(a => a.listeners),
      l => JSON.stringify(l),
      a => a,
    ),
  }),
  paths: numbered,
  events: (all: readonly Row[][]) => numbered(all).sort((a, b) => (a.at as number) - (b.at as number)),
};

/** Worker appliances and the requests of their control socket; `onExit` is told of workers that died. */
export async function startWorkers(
  config: ApplianceConfig,
  workers: number,
  onExit: (exit: WorkerExit) => void,
): Promise<{ readonly workers: WorkerAppliances; readonly handlers: Handlers }> {
  const streams = new Map<number, (queue: number, event: unknown) => void>();
  let serial = 0;
  const all = await WorkerAppliances.create(config, {
    workers,
    program: new URL('./worker-program.js', import.meta.url),
    data: { origin: performance.timeOrigin } satisfies WorkerData,
    onExit,
    onEvent: (queue, e) => streams.get((e as StreamEvent).stream)?.(queue, (e as StreamEvent).event),
  });

  async function run(cmd: string, args: Args): Promise<unknown> {
    const stream = ++serial;
    // What comes before the client's stream begins waits for it.
    const early: unknown[] = [];
    let emit: Emit | undefined;
    const stop = () => {
      streams.delete(stream);
      all.all('control', { stop: stream } satisfies WorkerRequest).catch(() => {});
    };
    streams.set(stream, (worker, event) => {
      const told = { worker, ...(event as object) };
      if (emit === undefined) early.push(told);
      else if (!emit(told)) stop();
    });
    let answers: WorkerAnswer[];
    try {
      answers = (await all.all('control', { cmd, args, stream } satisfies WorkerRequest)) as WorkerAnswer[];
    } catch (e) {
      streams.delete(stream);
      const { code } = e as { code?: unknown };
      throw new CliError(oneLine(e), typeof code === 'number' ? code : EXIT_FAILED);
    }
    const first = answers[0];
    if (first === undefined) throw new CliError('no worker runs', EXIT_FAILED);
    if ('stream' in first)
      return new Follow(to => {
        emit = to;
        for (const e of early.splice(0)) to(e);
        return stop;
      });
    streams.delete(stream);
    const values = answers.map(a => ('value' in a ? a.value : undefined));
    const merge = Object.hasOwn(MERGE, cmd) ? MERGE[cmd] : undefined;
    return merge === undefined ? values[0] : merge(values as never[]);
  }

  const names = (await all.request(0, 'commands')) as readonly string[];
  return { workers: all, handlers: Object.fromEntries(names.map(name => [name, (args: Args) => run(name, args)])) };
}
