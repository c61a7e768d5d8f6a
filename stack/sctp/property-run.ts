/**
 * Any number of random associations (property.fixture.ts), for one core or several:
 *
 *   node dist/stack/sctp/property-run.js --associations 1000000 [--seed 1] [--jobs 2] [--keep-going]
 *   node dist/stack/sctp/property-run.js --episode 4711 [--trace]
 *
 * Episodes are seeds, counted up from --seed: the same for any number of jobs. Progress goes to standard error. The first
 * seed whose properties do not hold ends the run with status 1 and is printed with the command that replays it;
 * --keep-going goes on and prints all of them (at most 20).
 */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runEpisode } from './property.fixture.js';

const SELF = fileURLToPath(import.meta.url);
const FAILURES = 20;
const MAX_JOBS = 64;
const MAX_ASSOCIATIONS = 1e9;

/** What a job says of an episode: a line of JSON. */
type Line =
  | { readonly seed: number; readonly associations: number; readonly messages: number }
  | { readonly seed: number; readonly failed: string };

function integer(name: string, text: string, min: number, max: number): number {
  const n = Number(text);
  if (!Number.isInteger(n) || n < min || n > max)
    throw new Error(`--${name} takes an integer from ${min} to ${max}, not ${text}`);
  return n;
}

/** A job: every step-th episode from `first` on, until nobody reads any more. */
function job(first: number, step: number): void {
  let seed = first;
  const next = (e?: Error | null) => {
    if (e) return;
    let line: Line;
    try {
      const r = runEpisode(seed);
      line = { seed, associations: r.associations, messages: r.messages };
    } catch (error) {
      line = { seed, failed: (error as Error).message };
    }
    seed += step;
    process.stdout.write(`${JSON.stringify(line)}\n`, next);
  };
  process.stdout.on('error', () => process.exit(1));
  next();
}

class Run {
  associations = 0;
  messages = 0;
  episodes = 0;
  readonly failed: string[] = [];
  readonly #goal: number;
  readonly #keepGoing: boolean;
  readonly #began = process.uptime();
  #told = 0;
  constructor(goal: number, keepGoing: boolean) {
    this.#goal = goal;
    this.#keepGoing = keepGoing;
  }
  get over(): boolean {
    if (this.failed.length > 0 && (!this.#keepGoing || this.failed.length >= FAILURES)) return true;
    return this.associations >= this.#goal;
  }
  take(line: Line): void {
    this.episodes++;
    if ('failed' in line) {
      const replay = `node dist/stack/sctp/property-run.js --episode ${line.seed} --trace`;
      this.failed.push(`seed ${line.seed} fails: ${line.failed}\n  replay: ${replay}`);
      process.stderr.write(`${this.failed.at(-1)}\n`);
    } else {
      this.associations += line.associations;
      this.messages += line.messages;
    }
    const now = process.uptime();
    if (now - this.#told < 5 && !this.over) return;
    this.#told = now;
    process.stderr.write(`${this.summary()}\n`);
  }
  summary(): string {
    const took = process.uptime() - this.#began;
    const rate = this.associations / Math.max(took, 0.001);
    const left = this.over ? '' : `, ${Math.ceil((this.#goal - this.associations) / Math.max(rate, 1))} s to go`;
    return (
      `${this.associations} of ${this.#goal} associations, ${this.messages} messages in ${this.episodes} episodes, ` +
      `${this.failed.length} failed, ${took.toFixed(0)} s, ${rate.toFixed(0)}/s${left}`
    );
  }
}

/** All jobs, until the goal is reached or one fails. Resolves with the exit status. */
async function runAll(goal: number, first: number, jobs: number, keepGoing: boolean): Promise<number> {
  const run = new Run(goal, keepGoing);
  const children = Array.from({ length: jobs }, (_, i) =>
    spawn(process.execPath, ['--enable-source-maps', SELF, '--job', `${first + i},${jobs}`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    }),
  );
  const ends = children.map(async child => {
    child.stdin.on('error', () => {}); // it has ended already
    for await (const text of createInterface({ input: child.stdout })) {
      if (run.over) break;
      run.take(JSON.parse(text) as Line);
      if (run.over) break;
    }
    if (!run.over) run.failed.push('a job has ended before the goal was reached');
    for (const c of children) c.kill();
  });
  await Promise.all(ends);
  process.stdout.write(`${run.summary()}\n`);
  for (const f of run.failed) process.stdout.write(`${f}\n`);
  return run.failed.length === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  const { values: v } = parseArgs({
    options: {
      associations: { type: 'string', default: '10000' },
      seed: { type: 'string', default: '1' },
      jobs: { type: 'string', default: '1' },
      'keep-going': { type: 'boolean', default: false },
      episode: { type: 'string' },
      trace: { type: 'boolean', default: false },
      job: { type: 'string' },
    },
  });
  if (v.job !== undefined) {
    const [first, step] = v.job.split(',');
    job(integer('job', first ?? '', 0, 2 ** 32), integer('job', step ?? '', 1, MAX_JOBS));
    return 0;
  }
  if (v.episode !== undefined) {
    const r = runEpisode(
      integer('episode', v.episode, 0, 2 ** 32),
      v.trace ? l => process.stdout.write(`${l}\n`) : undefined,
    );
    process.stdout.write(`${r.associations} associations, ${r.messages} messages\n`);
    return 0;
  }
  return runAll(
    integer('associations', v.associations, 1, MAX_ASSOCIATIONS),
    integer('seed', v.seed, 0, 2 ** 31),
    integer('jobs', v.jobs, 1, MAX_JOBS),
    v['keep-going'],
  );
}

main().then(
  status => {
    if (status !== 0) process.exitCode = status;
  },
  (e: Error) => {
    process.stderr.write(`${e.stack ?? e.message}\n`);
    process.exitCode = 1;
  },
);
