#!/usr/bin/env node
/** The command line. Each group of commands lives in cli/; this file registers them and turns their ends into exit statuses. */

import { Command, CommanderError } from 'commander';
import { registerControl } from './cli/commands-control.js';
import { registerKexts } from './cli/commands-kext.js';
import { registerRun } from './cli/commands-run.js';
import { CliError, EXIT_FAILED, EXIT_OK, EXIT_USAGE, oneLine } from './cli/errors.js';
import { registerPacketdrill } from './cli/packetdrill.js';
import { version } from './cli/version.js';

const program = new Command('nke')
  .description(
    'A network appliance in software: a virtual network card, its driver, and SCTP as a loadable network kernel extension.',
  )
  .version(version())
  .showSuggestionAfterError()
  .exitOverride()
  .configureOutput({
    outputError: (text, write) =>
      write(
        `${text
          .replace(/^error: /, 'nke: ')
          .trim()
          .replace(/\s*\n\s*/g, ' ')}\n`,
      ),
  })
  .addHelpText(
    'after',
    `
Examples:
  $ nke demo                                   two appliances, two paths, one pulled cable
  $ nke doctor                                 what this machine can do, and what mends the rest
  $ nke up --name a --port udp:127.0.0.1:9899 --kext SCTP
  $ nke paths                                  the paths of every association of the running appliance
  $ nke traffic echo --port udp:127.0.0.1:9899

Exit status: 0 it held, 1 the run failed, 2 the request was wrong (usage, configuration, privilege, address).`,
  );

registerRun(program);
registerControl(program);
registerKexts(program);
registerPacketdrill(program);

/** A reader that goes away (nke sysctl | head) is no failure. */
process.stdout.on('error', e => process.exit((e as NodeJS.ErrnoException).code === 'EPIPE' ? EXIT_OK : EXIT_FAILED));

try {
  await program.parseAsync();
} catch (e) {
  if (e instanceof CommanderError) {
    // commander has said it; help and version end with 0.
    process.exitCode = e.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
  } else {
    process.stderr.write(`nke: ${oneLine(e)}\n`);
    if (process.env.NKE_DEBUG && e instanceof Error) process.stderr.write(`${e.stack}\n`);
    process.exitCode = e instanceof CliError ? e.status : EXIT_FAILED;
  }
}
