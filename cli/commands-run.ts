/** The commands that run something here: up, traffic, demo, bench, doctor. */

import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import { Appliance, type ApplianceConfig } from '../appliance.js';
import { sockaddrs } from '../sockets/message.js';
import { InAddr } from '../stack/netinet/in.js';
import { QUEUES_MAX, type WorkerAppliances, type WorkerCard } from '../workers.js';
import { registerBench } from './bench.js';
import { ControlServer, controlPath } from './control.js';
import { demo } from './demo.js';
import { demoPeer } from './demo-peer.js';
import { examine, thisMachine } from './doctor.js';
import { CliError, EXIT_FAILED, EXIT_OK, EXIT_USAGE, oneLine } from './errors.js';
import { applianceFlags, integer, positive } from './flags.js';
import { bytes, grouped, rate, table } from './format.js';
import { handlers } from './handlers.js';
import { MAX_MESSAGE_BYTES } from './pattern.js';
import { progress } from './progress.js';
import { MODES, type Mode, SERVICE_PORT, TrafficClient, TrafficServer } from './traffic.js';
import { startWorkers } from './workers.js';

const jsonOption = () => new Option('--json', 'one JSON object instead of text');

/** Makes an appliance from a configuration; every way to fail is the request's fault and says what to do. */
function make(config: ApplianceConfig): Appliance {
  try {
    return Appliance.create(config);
  } catch (e) {
    throw new CliError(oneLine(e));
  }
}

/** Aborts at SIGINT or SIGTERM. A second signal ends the process at once. */
function untilSignal(): { signal: AbortSignal; release: () => void } {
  const abort = new AbortController();
  const stop = () => {
    if (abort.signal.aborted) process.exit(EXIT_FAILED);
    abort.abort();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return {
    signal: abort.signal,
    release: () => {
      process.off('SIGINT', stop);
      process.off('SIGTERM', stop);
    },
  };
}

/** Where the control socket is to be; undefined: nowhere. */
function controlOf(config: ApplianceConfig): string | undefined {
  if (config.control === false) return undefined;
  return typeof config.control === 'string' ? config.control : controlPath(config.name ?? 'nke');
}

/** The same as withAppliance for worker appliances. A worker that dies is told on standard error. */
async function withWorkers(
  config: ApplianceConfig,
  count: number,
  body: (workers: WorkerAppliances, signal: AbortSignal, control: string | undefined) => Promise<void>,
): Promise<void> {
  const { signal, release } = untilSignal();
  let workers: WorkerAppliances | undefined;
  let control: ControlServer | undefined;
  try {
    const path = controlOf(config);
    const table = {};
    if (path !== undefined) control = await ControlServer.listen(path, table);
    const started = await startWorkers(config, count, e =>
      process.stderr.write(
        `nke: worker ${e.queue} has died: ${oneLine(e.reason)}; paths lost: ${e.paths}; ${e.restarting ? 'another takes its place' : 'its queue stays without one'}\n`,
      ),
    ).catch((e: unknown) => {
      throw new CliError(oneLine(e));
    });
    workers = started.workers;
    Object.assign(table, started.handlers);
    await body(workers, signal, path);
  } finally {
    await control?.close();
    await workers?.close();
    release();
  }
}

/**
 * Runs `body` with an appliance and its control socket; both are gone afterwards, also when it fails. The control socket is
 * tried first: it is what tells that an appliance of this name is already running.
 */
async function withAppliance(
  config: ApplianceConfig,
  body: (appliance: Appliance, signal: AbortSignal, control: string | undefined) => Promise<void>,
): Promise<void> {
  const { signal, release } = untilSignal();
  let appliance: Appliance | undefined;
  let control: ControlServer | undefined;
  try {
    const path = controlOf(config);
    const table = {};
    if (path !== undefined) control = await ControlServer.listen(path, table);
    appliance = make(config);
    Object.assign(table, handlers(appliance));
    await body(appliance, signal, path);
  } finally {
    await control?.close();
    await appliance?.close();
    release();
  }
}

const forever = (signal: AbortSignal) =>
  new Promise<void>(resolve => {
    if (signal.aborted) return resolve();
    // An appliance whose ports are all in memory has nothing that keeps the process alive.
    const hold = setInterval(() => {}, 0x7fffffff);
    signal.addEventListener('abort', () => {
      clearInterval(hold);
      resolve();
    });
  });

export function registerRun(program: Command): void {
  registerDemo(program);
  registerDoctor(program);
  registerUp(program);
  registerTraffic(program);
  registerBench(program);
}

function registerDemo(program: Command): void {
  const entry = () => fileURLToPath(new URL('../nke.js', import.meta.url));
  program
    .command('demo')
    .description(
      'two appliances in two processes over UDP on loopback: two paths, a pulled cable, every byte accounted for',
    )
    .option('--seconds <n>', 'seconds of transfer (3 to 12)', integer(3, 12), 6)
    .addOption(jsonOption())
    .addHelpText('after', '\nExamples:\n  $ nke demo\n  $ nke demo --json --seconds 3')
    .action(async (o: { seconds: number; json?: boolean }) => {
      process.exitCode = await demo({ json: o.json === true, seconds: o.seconds, program: entry() });
    });
  program.command('demo-peer', { hidden: true }).action(demoPeer);
}

function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description('try what each port needs; name what is missing and the command that mends it')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nExamples:\n  $ nke doctor\n  $ nke doctor --json\n\nExit status 0 when the embedded default (udp on loopback) can run, else 2.',
    )
    .action(async (o: { json?: boolean }) => {
      const report = await examine(thisMachine());
      process.exitCode = report.ready ? EXIT_OK : EXIT_USAGE;
      if (o.json) {
        process.stdout.write(`${JSON.stringify(report)}\n`);
        return;
      }
      process.stdout.write(
        table(report.findings, [
          { head: 'What', cell: f => f.name },
          { head: 'State', cell: f => f.status },
          { head: 'Found', cell: f => f.detail },
        ]),
      );
      for (const f of report.findings)
        if (f.fix !== undefined) process.stdout.write(`\n${f.name} (for ${f.needed ?? 'all'}):\n  ${f.fix}\n`);
      process.stdout.write(
        `\n${table(report.ports, [
          { head: 'Port', cell: p => p.port },
          { head: 'Usable', cell: p => (p.usable ? 'yes' : 'no') },
          { head: 'Note', cell: p => p.note },
        ])}`,
      );
    });
}

function registerUp(program: Command): void {
  const up = program.command('up').description('run an appliance until SIGINT or SIGTERM').addOption(jsonOption());
  const config = applianceFlags(up, { name: 'nke', kexts: [] });
  up.option(
    '--workers <n>',
    'so many appliances that are one host, each with a queue of every card and a processor of its own',
    integer(1, QUEUES_MAX),
    1,
  );
  up.addHelpText(
    'after',
    `
Examples:
  $ nke up --name a --port udp:127.0.0.1:9899 --address 127.0.0.1/8 --kext SCTP
  $ nke up --name b --port udp:127.0.0.1:9900 --port udp:127.0.0.2:9900 --kext SCTP
  $ nke up --name t --port tap:nke0 --address 192.0.2.1/24 --address 2001:db8::1/64 --capture t.pcapng
  $ nke up --port udp:192.0.2.7:9899 --kext SCTP --workers 2
  $ nke up --config appliance.json`,
  ).action(async (o: { json?: boolean; workers: number }) => {
    const say = (name: string, cards: readonly WorkerCard[], control: string | undefined) => {
      if (o.json) {
        const rows = cards.map(({ mtu: _, ...c }) => c);
        const workers = o.workers > 1 ? { workers: o.workers } : {};
        process.stdout.write(
          `${JSON.stringify({ ready: true, name, control: control ?? null, pid: process.pid, ...workers, cards: rows })}\n`,
        );
        return;
      }
      for (const c of cards) process.stdout.write(`${c.name}: ${c.port} ${c.addresses.join(' ')} mtu ${c.mtu}\n`);
      process.stdout.write(
        `${name} is up${o.workers > 1 ? ` with ${o.workers} workers` : ''}${control === undefined ? '' : `; control socket ${control}`}. Ctrl-C ends it.\n`,
      );
    };
    if (o.workers > 1)
      await withWorkers(config(), o.workers, async (workers, signal, control) => {
        say(workers.name, workers.cards, control);
        await forever(signal);
      });
    else
      await withAppliance(config(), async (appliance, signal, control) => {
        const cards = appliance.cards.map(c => ({
          name: c.name,
          port: c.spec,
          addresses: c.ifp.addresses.map(a => `${a.addr}/${a.prefix}`),
          mtu: c.ifp.mtu,
        }));
        say(appliance.name, cards, control);
        await forever(signal);
      });
    if (!o.json) process.stdout.write('closed\n');
  });
}

function registerTraffic(program: Command): void {
  const traffic = program
    .command('traffic')
    .description('discard, echo and chargen servers over SCTP, and a client that checks what comes back');
  for (const mode of MODES) registerServer(traffic, mode);
  registerClient(traffic);
}

function registerServer(traffic: Command, mode: Mode): void {
  const about = {
    discard: 'read and throw away (RFC 863)',
    echo: 'send back what comes (RFC 862)',
    chargen: 'send characters without end (RFC 864)',
  };
  const server = traffic.command(mode).description(`server: ${about[mode]}`).addOption(jsonOption());
  server.option('--listen <port>', `SCTP port`, integer(1, 65535), SERVICE_PORT[mode]);
  if (mode === 'chargen') server.option('--size <bytes>', 'bytes of a message', integer(1, MAX_MESSAGE_BYTES), 1400);
  const config = applianceFlags(server, { name: `traffic-${mode}`, kexts: ['SCTP'] });
  server
    .addHelpText(
      'after',
      `\nExamples:\n  $ nke traffic ${mode} --port udp:127.0.0.1:9899\n  $ nke traffic ${mode} --port tap:nke0 --address 192.0.2.1/24 --listen 5001`,
    )
    .action(async (o: { listen: number; size?: number; json?: boolean }) => {
      await withAppliance(config(), async (appliance, signal) => {
        const family = appliance.cards.some(c => c.ifp.addresses.some(a => a.addr.family === 6)) ? 6 : 4;
        const own = appliance.cards
          .flatMap(c => c.ifp.addresses.map(a => a.addr))
          .filter(a => !(a.family === 6 && a.isLinkLocal));
        const service = new TrafficServer(appliance, {
          mode,
          port: o.listen,
          addresses: sockaddrs(own, o.listen),
          family,
          size: o.size ?? 1400,
        });
        if (o.json)
          process.stdout.write(`${JSON.stringify({ ready: true, mode, port: o.listen, pid: process.pid })}\n`);
        else process.stdout.write(`${mode} on SCTP port ${o.listen} of ${own.join(', ')}. Ctrl-C ends it.\n`);
        let before = 0;
        const timer = setInterval(() => {
          const moved = service.tally.received.bytes + service.tally.sent.bytes;
          if (moved !== before && !o.json)
            process.stderr.write(
              `${service.tally.open} open, received ${bytes(service.tally.received.bytes)}, sent ${bytes(service.tally.sent.bytes)}, ${rate(moved - before, 1)}\n`,
            );
          before = moved;
        }, 1000);
        try {
          await service.run(signal);
        } finally {
          clearInterval(timer);
        }
        const t = service.tally;
        if (o.json) process.stdout.write(`${JSON.stringify({ mode, ...t })}\n`);
        else
          process.stdout.write(
            `${t.associations} associations (${t.failed} failed${t.lastError === '' ? '' : `: ${t.lastError}`}), received ${grouped(t.received.messages)} messages ${grouped(t.received.bytes)} bytes, sent ${grouped(t.sent.messages)} messages ${grouped(t.sent.bytes)} bytes\n`,
          );
      });
    });
}

interface ClientFlags {
  mode: Mode;
  peerPort?: number;
  encapsPort?: number;
  messages?: number;
  seconds?: number;
  size: number[];
  streams: number;
  unordered?: boolean;
  stall: number;
  json?: boolean;
}

function sizes(text: string): number[] {
  return text.split(',').map(integer(1, MAX_MESSAGE_BYTES));
}

function registerClient(traffic: Command): void {
  const client = traffic
    .command('client')
    .description('send to a server, check what comes back, print rates')
    .argument('<address...>', 'addresses of the server, all of one association')
    .addOption(new Option('--mode <mode>', 'what the server does').choices(MODES).default('echo'))
    .option('--peer-port <port>', 'SCTP port of the server (default: that of the mode: 9, 7 or 19)', integer(1, 65535))
    .option(
      '--encaps-port <port>',
      "the server's UDP port, when packets go inside UDP (default: 9899 for udp cards; 0: none)",
      integer(0, 65535),
    )
    .option('--messages <n>', 'stop after so many messages', integer(1, 2 ** 32 - 1))
    .option('--seconds <n>', 'stop after so many seconds (default 5 when --messages is not given)', positive)
    .option('--size <bytes,...>', 'message sizes, used in turn', sizes, [1400])
    .option('--streams <n>', 'streams, used in turn', integer(1, 65535), 1)
    .option('--unordered', 'send unordered; sizes must be at least 8 bytes')
    .option('--stall <seconds>', 'give up when nothing moves for so long', positive, 15)
    .addOption(jsonOption());
  const config = applianceFlags(client, { name: `traffic-client-${process.pid}`, kexts: ['SCTP'] });
  client
    .addHelpText(
      'after',
      `
Examples:
  $ nke traffic client 127.0.0.1 --encaps-port 9899 --port udp:127.0.0.2:9900 --seconds 5
  $ nke traffic client 192.0.2.2 2001:db8::2 --mode discard --port tap:nke0 --address 192.0.2.1/24 --messages 100000
  $ nke traffic client 127.0.0.1 --port udp:127.0.0.2:9900 --size 64,1400,9000 --streams 8 --unordered --json`,
    )
    .action(async (addresses: string[], o: ClientFlags) => {
      if (o.messages !== undefined && o.seconds !== undefined)
        throw new CliError('--messages and --seconds exclude each other; leave one out');
      if (o.unordered && o.size.some(s => s < 8))
        throw new CliError('--unordered needs sizes of at least 8 bytes, which carry a number');
      for (const a of addresses)
        if (InAddr.parse(a) === undefined)
          throw new CliError(
            `"${a}" is not an Internet address; give 192.0.2.1 or 2001:db8::1 (names are not looked up)`,
          );
      await withAppliance(
        { ...config(), ...(client.getOptionValueSource('control') === 'cli' ? {} : { control: false }) },
        async (appliance, signal) => {
          const udp = appliance.cards.some(c => c.port.capabilities.carries === 'udp');
          const run = new TrafficClient(appliance, {
            mode: o.mode,
            to: sockaddrs(addresses, o.peerPort ?? SERVICE_PORT[o.mode]),
            from: [],
            encapsPort: o.encapsPort ?? (udp ? 9899 : 0),
            count: o.messages,
            seconds: o.messages === undefined ? (o.seconds ?? 5) : undefined,
            sizes: o.size,
            streams: o.streams,
            unordered: o.unordered === true,
            stallSeconds: o.stall,
          });
          const bar = progress(o.mode, process.stderr, o.json === true);
          let before = 0;
          let at = performance.now();
          const timer = setInterval(() => {
            const moved = run.sent.bytes + run.received.bytes;
            const now = performance.now();
            bar.update(
              run.fraction,
              `${rate(moved - before, (now - at) / 1000)}, sent ${bytes(run.sent.bytes)}, received ${bytes(run.received.bytes)}`,
            );
            before = moved;
            at = now;
          }, 200);
          let result: Awaited<ReturnType<TrafficClient['run']>>;
          try {
            result = await run.run(signal);
          } finally {
            clearInterval(timer);
            bar.stop();
          }
          process.exitCode = result.ok ? EXIT_OK : EXIT_FAILED;
          if (o.json) {
            process.stdout.write(`${JSON.stringify(result)}\n`);
            return;
          }
          const line = (what: string, t: { messages: number; bytes: number }) =>
            `${what.padEnd(9)} ${grouped(t.messages)} messages, ${grouped(t.bytes)} bytes, ${rate(t.bytes, result.seconds)}, ${grouped(Math.round(t.messages / Math.max(result.seconds, 1e-9)))} messages/s\n`;
          if (o.mode !== 'chargen') process.stdout.write(line('sent', result.sent));
          if (o.mode !== 'discard') process.stdout.write(line('received', result.received));
          if (!result.ok) throw new CliError(result.error!, EXIT_FAILED);
          const checked =
            o.mode === 'echo'
              ? 'every message came back unchanged and in order'
              : o.mode === 'chargen'
                ? 'every character was the expected one'
                : 'everything was acknowledged';
          process.stdout.write(`${checked}, in ${result.seconds.toFixed(2)} s\n`);
        },
      );
    });
}
