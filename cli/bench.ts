/** `nke bench`: the command's options, checked here; bench/ does the rest. */

import { accessSync, constants, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { BenchOptions } from '../bench/bench.js';
import { CliError, EXIT_FAILED, EXIT_OK } from './errors.js';
import { integer } from './flags.js';
import { nearest } from './format.js';
import { progress } from './progress.js';

interface BenchFlags {
  seconds?: number;
  repeat?: number;
  quick?: boolean;
  peer?: string[];
  point?: string[];
  json?: boolean;
  html?: string;
  profile?: boolean;
}

const MAX_SECONDS = 60;

function seconds(text: string): number {
  const n = Number(text);
  if (!(n > 0 && n <= MAX_SECONDS)) throw new InvalidArgumentError(`A number up to ${MAX_SECONDS} is wanted.`);
  return n;
}

/** Fails before the measurements, not after them, when the report cannot be written. */
function checkWritable(file: string): void {
  const path = resolve(file);
  try {
    const there = statSync(path, { throwIfNoEntry: false });
    if (there?.isDirectory()) throw new Error('it is a folder');
    accessSync(there === undefined ? dirname(path) : path, constants.W_OK);
  } catch (e) {
    throw new CliError(`the report cannot be written to ${file}: ${(e as Error).message}; name another file`);
  }
}

/** Every name must be one of `known`. */
function checkNames(what: string, names: readonly string[], known: readonly string[]): void {
  for (const name of names) {
    if (known.includes(name)) continue;
    const like = nearest(name, known);
    throw new CliError(
      `there is no ${what} "${name}"${like === undefined ? '' : `; did you mean "${like}"?`}; there are: ${known.join(', ')}`,
    );
  }
}

/** A run in which nothing of ours could be measured has failed. */
const held = (report: Awaited<ReturnType<typeof import('../bench/bench.js').bench>>, o: BenchOptions): boolean =>
  report.scenarios.every(
    s =>
      s.series.length > 0 &&
      (s.series.some(x => x.column === 'nke') || (o.peers.length > 0 && !o.peers.includes('nke'))),
  );

export function registerBench(program: Command): void {
  const command = program
    .command('bench')
    .description('measure against peers and against what this machine can do at most')
    .argument(
      '<scenario...>',
      'bulk, links, messages, latency, associations, frames, lossy, garbage, queues, kext; or all',
    )
    .option('--seconds <n>', 'seconds measured in each run (default 2; 0.5 with --quick)', seconds)
    .option('--repeat <n>', 'runs of everything, in turn (default 5; 1 with --quick)', integer(1, 100))
    .option('--quick', 'fewer points, one short run of each: to see that it works, not to quote')
    .option('--peer <name...>', 'only these columns, such as nke usrsctp limit')
    .option('--point <name...>', 'only these points, such as 1400 or 64KiB')
    .option('--html <file>', 'write a report with plots and all samples, one file for a browser')
    .option('--profile', "with bulk: where a packet's time goes, layer by layer, in both processes")
    .addOption(new Option('--json', 'one JSON object instead of tables'))
    .addHelpText(
      'after',
      `
Examples:
  $ nke bench bulk
  $ nke bench bulk --profile --peer nke --point 1400
  $ nke bench latency frames --repeat 3 --seconds 1
  $ nke bench all --json --html report.html
  $ nke bench all --quick

Exit status: 0 it was measured (whether or not a target was reached), 1 nothing of ours could be, 2 wrong usage.`,
    );
  command.action(async (scenarios: string[], o: BenchFlags) => {
    const { bench, columnNames, SCENARIOS } = await import('../bench/bench.js');
    checkNames('scenario', scenarios, ['all', ...SCENARIOS.map(s => s.name)]);
    checkNames('column', o.peer ?? [], columnNames());
    if (o.profile && !scenarios.includes('bulk') && !scenarios.includes('all'))
      throw new CliError('--profile looks at a bulk transfer: add the scenario bulk');
    if (o.html !== undefined) checkWritable(o.html);
    const options: BenchOptions = {
      scenarios,
      seconds: o.seconds ?? (o.quick ? 0.5 : 2),
      repeat: o.repeat ?? (o.quick ? 1 : 5),
      quick: o.quick === true,
      peers: o.peer ?? [],
      points: o.point ?? [],
      json: o.json === true,
      profile: o.profile === true,
      ...(o.html === undefined ? {} : { html: o.html }),
    };
    // Progress goes to standard error, so that a run with --json shows it too: a full one takes minutes.
    const report = await bench(options, title => progress(title, process.stderr));
    process.exitCode = held(report, options) ? EXIT_OK : EXIT_FAILED;
  });
}
