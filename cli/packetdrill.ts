/** `nke packetdrill`: runs scripts of the nplab dialect against a fresh stack each, in virtual time and in memory. */

import { availableParallelism } from 'node:os';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { CliError, EXIT_FAILED, EXIT_OK, oneLine } from './errors.js';
import { integer } from './flags.js';

interface Flags {
  readonly json?: boolean;
  readonly define: ReadonlyMap<string, string | undefined>;
  readonly tight?: boolean;
  readonly jobs?: number;
  readonly pcap?: string;
  readonly abi: 'compact' | 'freebsd-amd64';
  readonly seed?: number;
  readonly verbose?: boolean;
}

/** Up to this many scripts threads take longer to start than the scripts to run. */
const FEW = 100;

function define(text: string, before: ReadonlyMap<string, string | undefined>): Map<string, string | undefined> {
  const m = /^([A-Za-z_][A-Za-z0-9_]*)(?:=([\s\S]*))?$/.exec(text);
  if (m === null) throw new InvalidArgumentError('NAME or NAME=VALUE is wanted.');
  return new Map([...before, [m[1]!, m[2]]]);
}

export function registerPacketdrill(program: Command): void {
  program
    .command('packetdrill')
    .description('run packetdrill scripts (nplab dialect) against a fresh stack each, in virtual time and in memory')
    .argument('<files...>', 'scripts, or directories of *.pkt')
    .addOption(new Option('--json', 'one JSON object per script instead of text'))
    .addOption(
      new Option('--define <name>', 'make #ifdef NAME true, NAME=VALUE replaces the word too (repeat for more)')
        .argParser(define)
        .default(new Map(), 'FreeBSD'),
    )
    .option('--tight', 'hold times to virtual time instead of the tolerance that scripts give for noisy machines')
    .option('--jobs <n>', 'threads (default: one for few scripts, else one per processor)', integer(1, 64))
    .option('--pcap <dir>', 'keep each exchange as pcapng in this directory')
    .addOption(
      new Option(
        '--abi <abi>',
        'control messages: 12-byte headers aligned to 4, as scripts are written, or as on FreeBSD/amd64',
      )
        .choices(['compact', 'freebsd-amd64'])
        .default('compact'),
    )
    .option('--seed <n>', 'seed of the random source', integer(0, 0x7fffffff))
    .option('--verbose', 'name the scripts that passed, and remarks')
    .addHelpText(
      'after',
      `
Examples:
  $ nke packetdrill handshake.pkt
  $ nke packetdrill scripts/ --jobs 2 --json
  $ nke packetdrill failing.pkt --pcap /tmp/exchange --verbose

FreeBSD is always defined. Exit status: 0 all passed, 1 one or more failed, 2 the request was wrong.`,
    )
    .action(async (names: string[], o: Flags) => {
      process.exitCode = await run(names, o);
    });
}

async function run(names: readonly string[], o: Flags): Promise<number> {
  const { findScripts, runFiles } = await import('../packetdrill/run-files.js');
  const { jsonOf, summarize, summaryText, textOf } = await import('../packetdrill/report.js');
  let files: string[];
  try {
    files = findScripts(names);
  } catch (e) {
    throw new CliError(oneLine(e));
  }
  const options = {
    tight: o.tight === true,
    abi: o.abi,
    pcap: o.pcap,
    seed: o.seed,
    defines: o.define,
  };
  const start = performance.now();
  const jobs = o.jobs ?? (files.length <= FEW ? 1 : availableParallelism());
  const results = await runFiles(files, options, jobs, r => {
    if (o.json === true) process.stdout.write(`${JSON.stringify(jsonOf(r))}\n`);
    else if (!r.ok || o.verbose === true) process.stdout.write(`${textOf(r, o.verbose === true)}\n`);
  });
  const summary = summarize(results);
  const line = `${summaryText(summary, (performance.now() - start) / 1000)}\n`;
  // With --json standard output is for programs.
  if (o.json === true) process.stderr.write(line);
  else process.stdout.write(line);
  return summary.failed === 0 ? EXIT_OK : EXIT_FAILED;
}
