/**
 * The commands about network kernel extensions: of a running appliance (kextload, kextunload, kextreplace, kextstat,
 * kextctl), and for their authors (kext new, test, keygen, sign, verify).
 */

import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { Bundle, readFiles } from '../bundles/bundle.js';
import { BundleError } from '../bundles/error.js';
import { KINDS } from '../bundles/manifest.js';
import { generateKey, parseKey, SIGNATURE_FILE, signFiles } from '../bundles/sign.js';
import { writeSkeleton } from '../bundles/skeleton.js';
import { runTests } from '../bundles/testing.js';
import { ask, type Common, out, print } from './commands-control.js';
import { chooseControl, controlRequest } from './control.js';
import { CliError, oneLine } from './errors.js';
import { integer } from './flags.js';
import { counterLines, printable, table } from './format.js';
import { type KextRow, MAX_WAIT_SECONDS } from './handlers-kext.js';

/** A bundle's path is this process's; a name is the appliance's. */
const wholePath = (name: string): string => (name.includes('/') || /\.kext$/.test(name) ? resolve(name) : name);

type Params = Record<string, string>;
const collect = (text: string, before: Params): Params => {
  const m = /^([a-z][a-z0-9_]*)=(.*)$/s.exec(text);
  if (m === null) throw new InvalidArgumentError('NAME=VALUE is wanted, for example limit=1500.');
  return { ...before, [m[1]!]: m[2]! };
};

export function registerKexts(program: Command): void {
  registerLoading(program);
  registerStat(program);
  registerCtl(program);
  registerLldp(program);
  registerAuthors(program);
}

function registerLoading(program: Command): void {
  ask(program, 'kextload', 'load a network kernel extension, its dependencies first', [
    'nke kextload SCTP',
    'nke kextload ./Foo.kext --on nke0 --param limit=1500',
  ])
    .argument('<name>', 'a name, an identifier, or the path of a bundle')
    .option('--param <name=value>', 'a parameter (repeat for more)', collect, {})
    .option('--on <interface>', 'an interface to work on (repeat for more)', (v, l: string[]) => [...l, v], [])
    .action((name: string, o: Common & { param: Params; on: string[] }) =>
      print<KextRow[]>(
        o,
        'kextload',
        { name: wholePath(name), params: o.param, on: o.on },
        () => `${printable(name)} loaded\n`,
      ),
    );
  ask(program, 'kextreplace', 'put another version of a loaded extension in its place, without losing a frame', [
    'nke kextreplace ./Foo.kext',
  ])
    .argument('<bundle>', 'the path of a bundle with the same identifier')
    .option('--param <name=value>', 'a parameter (repeat for more); others keep their values', collect, {})
    .action((name: string, o: Common & { param: Params }) =>
      print<{ notes: string[] }>(o, 'kextreplace', { name: wholePath(name), params: o.param }, r =>
        [`${name} replaced`, ...r.notes].map(l => `${printable(l)}\n`).join(''),
      ),
    );
  ask(program, 'kextunload', 'unload an extension; refused while something holds it, with the names of what does', [
    'nke kextunload SCTP',
    'nke kextunload SCTP --wait 10',
    'nke kextunload SCTP --drain',
  ])
    .argument('<name>', 'a name, an identifier, or the path of its bundle')
    .option('--wait <seconds>', 'wait for what holds it to go', integer(0, MAX_WAIT_SECONDS))
    .option(
      '--drain',
      'refuse new users, ask those that are there to end, and wait (30 s unless --wait says otherwise)',
    )
    .action(async (name: string, o: Common & { wait?: number; drain?: boolean }) => {
      const args = { name: name.includes('/') ? resolve(name) : name, wait: o.wait, drain: o.drain === true };
      if ((o.wait ?? 0) === 0 && o.drain !== true)
        return print<KextRow[]>(o, 'kextunload', args, () => `${printable(name)} unloaded\n`);
      const abort = new AbortController();
      let end: { error?: string; notes?: string[] } | undefined;
      const onEvent = (e: unknown) => {
        end = e as typeof end;
        abort.abort();
      };
      process.once('SIGINT', () => abort.abort());
      await controlRequest(chooseControl(o.appliance), 'kextunload', args, onEvent, abort.signal);
      if (end === undefined) throw new CliError('the appliance ended, or the wait was broken off');
      if (end.error !== undefined) throw new CliError(end.error);
      out(
        o.json
          ? `${JSON.stringify(end)}\n`
          : [`${name} unloaded`, ...(end.notes ?? [])].map(l => `${printable(l)}\n`).join(''),
      );
    });
}

function registerStat(program: Command): void {
  const show = (rows: KextRow[]) =>
    table(rows, [
      { head: 'Name', cell: k => k.name },
      { head: 'Version', cell: k => k.version },
      { head: 'State', cell: k => k.state },
      { head: 'Refs', cell: k => k.references, right: true },
      { head: 'Mbufs', cell: k => k.held, right: true },
      { head: 'Faults', cell: k => k.faults, right: true },
      { head: 'Signed', cell: k => k.signed },
      { head: 'Description', cell: k => k.description },
    ]);
  const verbose = (k: KextRow): string => {
    const list = (title: string, items: readonly string[]) =>
      items.length === 0 ? [] : [`  ${title}: ${items.join(', ')}`];
    return [
      `${k.name} ${k.version} (${k.identifier}): ${k.state}, ${k.description}`,
      ...list('held by', k.holders),
      ...list('depends on', k.dependencies),
      ...list('registered', k.registered),
      ...list(
        'parameters',
        Object.entries(k.params).map(([n, v]) => `${n}=${v}`),
      ),
      `  mbufs held: ${k.held}`,
      ...(k.faults > 0 ? [`  faults: ${k.faults}, last: ${k.lastFault}`] : []),
      `  signed: ${k.signed}`,
    ]
      .map(l => `${printable(l)}\n`)
      .join('');
  };
  ask(program, 'kextstat', 'list extensions: state, what holds them, mbufs they hold, callbacks that failed', [
    'nke kextstat',
    'nke kextstat -v',
  ])
    .option('-v, --verbose', 'holders, dependencies, everything registered, parameters')
    .action((o: Common & { verbose?: boolean }) =>
      print<KextRow[]>(o, 'kextstat', {}, rows => (o.verbose ? rows.map(verbose).join('') : show(rows))),
    );
}

function showValue(value: unknown): string {
  if (value === null || value === undefined) return '';
  const lines =
    typeof value === 'object' && !Array.isArray(value)
      ? Object.entries(value).map(([k, v]) => `${k}: ${typeof v === 'object' ? JSON.stringify(v) : String(v)}`)
      : [typeof value === 'object' ? JSON.stringify(value) : String(value)];
  return lines.map(l => `${printable(l)}\n`).join('');
}

interface Stats {
  readonly counters: Record<string, Record<string, number>>;
  readonly statistics?: Record<string, number | string>;
}
const showStats = (s: Stats): string =>
  Object.entries(s.counters)
    .map(([name, record]) => `${printable(name)}:\n${counterLines(record, true)}`)
    .join('') + showValue(s.statistics ?? {});

function registerCtl(program: Command): void {
  ask(program, 'kextctl', 'talk to a loaded extension (PF_NKE): its parameters, statistics, commands and events', [
    'nke kextctl org.example.Foo list',
    'nke kextctl org.example.Foo get limit',
    'nke kextctl org.example.Foo set limit 1500',
    'nke kextctl org.example.Foo stats',
    `nke kextctl org.example.Foo call reset '{"all":true}'`,
    'nke kextctl org.example.Foo events',
  ])
    .argument('<name>', 'identifier, or name of a shipped extension')
    .argument('<what>', 'list, get [PARAMETER], set PARAMETER VALUE, stats, call COMMAND [JSON], events')
    .argument('[parameter]')
    .argument('[value]')
    .action(async (name: string, what: string, param: string | undefined, value: string | undefined, o: Common) => {
      if (what === 'events') return follow(o, name);
      let args: unknown;
      if (what === 'call' && value !== undefined) {
        try {
          args = JSON.parse(value);
        } catch {
          throw new CliError('the arguments of a command are a JSON object');
        }
      }
      if (what === 'set' && (param === undefined || value === undefined))
        throw new CliError('set needs a parameter and a value: nke kextctl NAME set PARAMETER VALUE');
      await print<unknown>(
        o,
        'kextctl',
        { name, op: what, param, value: what === 'set' ? value : undefined, args },
        v => (what === 'stats' ? showStats(v as Stats) : showValue(v)),
      );
    });
}

/** A neighbour as LLDP.kext tells it. */
interface NeighbourRow {
  readonly ifname: string;
  readonly chassis: string;
  readonly port: string;
  readonly systemName: string;
  readonly enabled: readonly string[];
  readonly addresses: readonly string[];
  readonly expires: number;
}

function registerLldp(program: Command): void {
  ask(program, 'lldp', 'list the neighbours on the links (LLDP.kext must be loaded: nke kextload LLDP)', [
    'nke lldp',
    'nke lldp --json',
  ]).action((o: Common) =>
    print<NeighbourRow[]>(o, 'kextctl', { name: 'org.nke.LLDP', op: 'call', param: 'neighbours' }, rows =>
      table(rows, [
        { head: 'INTERFACE', cell: r => r.ifname },
        { head: 'SYSTEM', cell: r => r.systemName },
        { head: 'CHASSIS', cell: r => r.chassis },
        { head: 'PORT', cell: r => r.port },
        { head: 'CAPABILITIES', cell: r => r.enabled.join(',') },
        { head: 'ADDRESS', cell: r => r.addresses.join(',') },
        { head: 'EXPIRES', cell: r => `${r.expires} s`, right: true },
      ]),
    ),
  );
}

async function follow(o: Common, name: string): Promise<void> {
  const abort = new AbortController();
  process.once('SIGINT', () => abort.abort());
  process.once('SIGTERM', () => abort.abort());
  await controlRequest(
    chooseControl(o.appliance),
    'kextevents',
    { name },
    e => out(o.json ? `${JSON.stringify(e)}\n` : showValue((e as { event: unknown }).event)),
    abort.signal,
  );
}

/** What is wrong with a bundle or a file is the request's fault. */
async function mine<T>(body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (e) {
    if (e instanceof BundleError || (e as NodeJS.ErrnoException).code !== undefined) throw new CliError(oneLine(e));
    throw e;
  }
}

/** A bundle with whatever signature it has. */
const unsigned = (path: string) => new Bundle(path, { allowUnsigned: true });

function registerAuthors(program: Command): void {
  const kext = program
    .command('kext')
    .description('write, test and sign network kernel extensions')
    .addHelpText(
      'after',
      '\nExamples:\n  $ nke kext new Foo --kind filter\n  $ nke kext test ./Foo.kext\n  $ nke kext keygen me.key\n  $ nke kext sign ./Foo.kext --key me.key',
    );
  kext
    .command('new')
    .description('write the skeleton of an extension in TypeScript, with a test; it loads as it is')
    .argument('<name>')
    .requiredOption('--kind <kind>', KINDS.join(', '))
    .option('--in <folder>', 'where to', '.')
    .action((name: string, o: { kind: string; in: string }) =>
      mine(() => {
        const path = writeSkeleton(name, o.kind, o.in);
        out(`${path}: manifest.json, index.ts, index.test.ts\n`);
      }),
    );
  kext
    .command('test')
    .description("run a bundle's *.test.ts, without a build")
    .argument('<bundle>')
    .action((path: string) => mine(() => void runTests(path)));
  kext
    .command('keygen')
    .description('make a pair of Ed25519 keys: FILE (private, mode 0600) and FILE.pub (a line to trust)')
    .argument('<file>')
    .option('--comment <text>', 'whose key it is', '')
    .action((file: string, o: { comment: string }) =>
      mine(() => {
        const { privatePem, publicLine, id } = generateKey(o.comment);
        writeFileSync(file, privatePem, { mode: 0o600, flag: 'wx' });
        writeFileSync(`${file}.pub`, publicLine, { flag: 'wx' });
        out(`key ${id}: ${file} (keep it secret), ${file}.pub (nke up --kext-trust ${file}.pub)\n`);
      }),
    );
  kext
    .command('sign')
    .description(`sign a bundle: writes its ${SIGNATURE_FILE} over the digests of all its files`)
    .argument('<bundle>')
    .requiredOption('--key <file>', 'the private key')
    .action((path: string, o: { key: string }) =>
      mine(() => {
        const bundle = unsigned(path);
        bundle.compile();
        const { text, id } = signFiles(readFiles(bundle.path, bundle.name), readFileSync(o.key, 'utf8'));
        writeFileSync(`${bundle.path}/${SIGNATURE_FILE}`, text);
        chmodSync(`${bundle.path}/${SIGNATURE_FILE}`, 0o644);
        out(`${bundle.name} ${bundle.manifest.version} (${bundle.manifest.identifier}) signed with key ${id}\n`);
      }),
    );
  kext
    .command('verify')
    .description('check a bundle: files, manifest, signature, code; runs nothing of it')
    .argument('<bundle>')
    .option('--kext-trust <file>', 'a public key to believe (repeat for more)', (v, l: string[]) => [...l, v], [])
    .action((path: string, o: { kextTrust: string[] }) =>
      mine(() => {
        const trust = o.kextTrust.map(f => parseKey(readFileSync(f, 'utf8').slice(0, 4096)));
        const bundle = new Bundle(path, { trust });
        bundle.compile();
        const { identifier, version } = bundle.manifest;
        out(`${bundle.name}: ${identifier} ${version}, ${bundle.files.size} files, signature good\n`);
      }),
    );
}
