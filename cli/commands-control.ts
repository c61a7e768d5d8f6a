/** The commands that ask a running appliance over its control socket (control.ts), and print the answer. */

import { type Command, InvalidArgumentError, Option } from 'commander';
import type { StampedEvent } from '../stack/kern/event.js';
import { type Args, chooseControl, controlRequest } from './control.js';
import { CliError, EXIT_OK } from './errors.js';
import { integer } from './flags.js';
import { counterLines, duration, grouped, printable, table } from './format.js';
import type {
  AssociationRow,
  CardRow,
  InterfaceRow,
  ListenerRow,
  MbufRow,
  PathRow,
  RouteRow,
  SysctlRow,
} from './handlers.js';

export interface Common {
  appliance?: string;
  json?: boolean;
}

/** A command with the two flags that every one of these has. */
export function ask(program: Command, usage: string, description: string, examples: readonly string[]): Command {
  return program
    .command(usage)
    .description(description)
    .option(
      '-a, --appliance <name>',
      'which appliance: a name or the path of its control socket (default: $NKE_APPLIANCE, or the only one)',
    )
    .addOption(new Option('--json', 'one JSON value instead of text'))
    .addHelpText('after', `\nExamples:\n${examples.map(e => `  $ ${e}`).join('\n')}`);
}

export const out = (text: string) => process.stdout.write(text);

/** Sends a request and prints the answer: as JSON, or by `show`. */
export async function print<T>(o: Common, cmd: string, args: Args, show: (result: T) => string): Promise<void> {
  const result = (await controlRequest(chooseControl(o.appliance), cmd, args)) as T;
  out(o.json ? `${JSON.stringify(result)}\n` : show(result));
}

export function registerControl(program: Command): void {
  registerIfconfig(program);
  registerSysctl(program);
  registerNetstat(program);
  registerCards(program);
  registerPaths(program);
  registerEvents(program);
}

function showInterface(i: InterfaceRow): string {
  const lines = [`${i.name}: flags=<${i.flags.join(',')}> mtu ${i.mtu} index ${i.index}`];
  if (i.mac !== '') lines.push(`        ether ${i.mac}`);
  for (const a of i.addresses) lines.push(`        ${a.includes(':') ? 'inet6' : 'inet'} ${a}`);
  if (i.port !== undefined) lines.push(`        port ${i.port}, power ${i.power}`);
  if (i.medium) lines.push(`        medium: ${i.medium}`);
  lines.push(`        status: ${i.link ? 'active' : `no link (${i.linkReason})`}`);
  return `${lines.map(printable).join('\n')}\n`;
}

function registerIfconfig(program: Command): void {
  ask(program, 'ifconfig', 'show interfaces; bring one up or down; add or remove an address; set the MTU', [
    'nke ifconfig',
    'nke ifconfig nke0 down',
    'nke ifconfig nke0 192.0.2.7/24',
    'nke ifconfig nke0 192.0.2.7/24 delete',
  ])
    .argument('[interface]')
    .argument('[what]', 'up, down or ADDRESS/PREFIX')
    .argument('[verb]', 'delete')
    .action(async (name: string | undefined, what: string | undefined, verb: string | undefined, o: Common) => {
      if (verb !== undefined && verb !== 'delete')
        throw new CliError(`"${verb}" is not known here; after an address only "delete" may follow`);
      await print<InterfaceRow[]>(o, 'ifconfig', { interface: name, what, remove: verb === 'delete' }, rows =>
        rows.map(showInterface).join(''),
      );
    });
}

function registerSysctl(program: Command): void {
  ask(program, 'sysctl', 'read or set tunables', [
    'nke sysctl',
    'nke sysctl net.inet.sctp',
    'nke sysctl net.inet.sctp.rto_min=200',
    'nke sysctl -d net.inet.sctp.rto_min',
  ])
    .argument('[name...]', 'a name, the beginning of names, or NAME=VALUE')
    .option('-d, --describe', 'with unit, range, default and meaning')
    .action(async (names: string[], o: Common & { describe?: boolean }) => {
      const show = (rows: SysctlRow[]) =>
        rows
          .map(r => {
            const head = `${r.name}: ${r.value}`;
            if (!o.describe) return `${head}\n`;
            const range = r.min === undefined ? '' : `; ${r.min} to ${r.max}, default ${r.default}`;
            return `${head}${r.unit === undefined ? '' : ` ${r.unit}`}  # ${r.meaning}${range}${r.writable ? '' : '; read only'}\n`;
          })
          .join('');
      await print<SysctlRow[]>(o, 'sysctl', { names }, show);
    });
}

interface NetstatFlags extends Common {
  protocol?: string;
  interfaces?: boolean;
  routes?: boolean;
  mbufs?: boolean;
  statistics?: boolean;
  zero?: boolean;
}

type Groups = Record<string, Record<string, number>>;

/** Which worker, when there are several: their association numbers are their own. */
const workerColumn = (rows: readonly { readonly worker?: number }[]) =>
  rows.some(r => r.worker !== undefined)
    ? [{ head: 'Worker', cell: (r: { readonly worker?: number }) => r.worker ?? '', right: true }]
    : [];

function showAssociations(rows: AssociationRow[]): string {
  return table(rows, [
    ...workerColumn(rows),
    { head: 'Assoc', cell: a => a.assocId, right: true },
    { head: 'State', cell: a => a.state },
    { head: 'Local', cell: a => `${a.local.join(',')}:${a.localPort}` },
    { head: 'Peer', cell: a => `${a.peer.join(',')}:${a.peerPort}` },
    { head: 'Out', cell: a => a.outStreams, right: true },
    { head: 'In', cell: a => a.inStreams, right: true },
    { head: 'Rwnd', cell: a => grouped(a.peerRwnd), right: true },
    { head: 'Flight', cell: a => grouped(a.flight), right: true },
    { head: 'Unacked', cell: a => grouped(a.unacknowledged), right: true },
    { head: 'Unread', cell: a => grouped(a.unread), right: true },
  ]);
}

function registerNetstat(program: Command): void {
  ask(program, 'netstat', 'associations and sockets; interfaces, routes, mbufs or counters', [
    'nke netstat',
    'nke netstat -p sctp',
    'nke netstat -i',
    'nke netstat -r',
    'nke netstat -m',
    'nke netstat -s --json',
  ])
    .option('-p, --protocol <name>', 'associations and counters of one protocol, for example sctp')
    .option('-i, --interfaces', 'interfaces with their counters')
    .option('-r, --routes', 'the routing table')
    .option('-m, --mbufs', 'the mbuf pool')
    .option('-s, --statistics', 'counters of every layer')
    .option('-z, --zero', 'counters that are zero too')
    .action(async (o: NetstatFlags) => {
      const asked = (['protocol', 'interfaces', 'routes', 'mbufs', 'statistics'] as const).filter(
        k => o[k] !== undefined,
      );
      if (asked.length > 1) throw new CliError(`--${asked.join(' and --')} exclude each other; give one`);
      const groups = (g: Groups) =>
        Object.entries(g)
          .map(([name, counters]) => `${name}:\n${counterLines(counters, o.zero)}`)
          .join('');
      if (o.interfaces) {
        const columns = [
          'ipackets',
          'ibytes',
          'ierrors',
          'idrops',
          'opackets',
          'obytes',
          'oerrors',
          'odrops',
          'link_changes',
        ] as const;
        return print<InterfaceRow[]>(o, 'ifconfig', {}, rows =>
          table(rows, [
            { head: 'Name', cell: i => `${i.name}${i.link ? '' : '*'}` },
            { head: 'Mtu', cell: i => i.mtu, right: true },
            { head: 'Address', cell: i => i.addresses[0] ?? '-' },
            ...columns.map(c => ({ head: c, cell: (i: InterfaceRow) => i.counters[c] ?? 0, right: true })),
          ]),
        );
      }
      if (o.routes)
        return print<RouteRow[]>(o, 'routes', {}, rows =>
          table(rows, [
            { head: 'Destination', cell: r => r.destination },
            { head: 'Gateway', cell: r => r.gateway },
            { head: 'Source', cell: r => r.source },
            { head: 'Interface', cell: r => r.interface },
            { head: 'Mtu', cell: r => r.mtu, right: true },
            { head: 'Kind', cell: r => r.kind },
          ]),
        );
      if (o.mbufs)
        return print<MbufRow[]>(o, 'mbufs', {}, rows =>
          table(rows, [
            { head: 'Class', cell: m => m.class },
            { head: 'Bytes', cell: m => m.bytes, right: true },
            { head: 'In use', cell: m => m.inUse, right: true },
            { head: 'Total', cell: m => m.total, right: true },
            { head: 'Failed', cell: m => m.failed, right: true },
          ]),
        );
      if (o.statistics) return print<Groups>(o, 'counters', {}, groups);
      if (o.protocol !== undefined)
        return print<{ associations: AssociationRow[]; counters: Groups }>(
          o,
          'protocol',
          { name: o.protocol },
          r => `${r.associations.length > 0 ? `${showAssociations(r.associations)}\n` : ''}${groups(r.counters)}`,
        );
      return print<{ associations: AssociationRow[]; listeners: ListenerRow[] }>(o, 'netstat', {}, r => {
        const listeners = table(r.listeners, [
          { head: 'Proto', cell: l => l.protocol },
          { head: 'Style', cell: l => l.style },
          { head: 'Listening on', cell: l => `${l.addresses.join(',') || '*'}:${l.port}` },
        ]);
        return `${showAssociations(r.associations)}\n${listeners}`;
      });
    });
}

const POWER = ['D0', 'D1', 'D2', 'D3hot', 'D3cold', 'sleep', 'wake'] as const;

function oneOf<T extends string>(values: readonly T[]): (text: string) => T {
  return text => {
    const found = values.find(v => v.toLowerCase() === text.toLowerCase());
    if (found === undefined) throw new InvalidArgumentError(`allowed: ${values.join(', ')}.`);
    return found;
  };
}

function registerCards(program: Command): void {
  ask(program, 'link', "plug a card's cable in or pull it", ['nke link nke0 down', 'nke link nke0 up'])
    .argument('<card>')
    .argument('<up|down>', 'up: plugged in, down: pulled', oneOf(['up', 'down']))
    .action((card: string, state: string, o: Common) =>
      print<InterfaceRow[]>(o, 'link', { card, up: state === 'up' }, rows => rows.map(showInterface).join('')),
    );
  ask(program, 'card', "a card's settings and temperature: shows them, or sets some", [
    'nke card nke0',
    'nke card nke0 temperature=90',
    'nke card nke0 flap_penalty=1000 link_autoneg_usecs=500000',
  ])
    .argument('<card>')
    .argument('[setting=value...]', 'temperature (°C), or a setting that the card keeps')
    .action((card: string, set: string[], o: Common) =>
      print<CardRow[]>(o, 'card', { card, set }, rows =>
        table(rows, [
          { head: 'Setting', cell: r => r.name },
          { head: 'Value', cell: r => r.value, right: true },
          { head: 'Meaning', cell: r => r.meaning },
        ]),
      ),
    );
  ask(program, 'power', "set a card's power state, or put the whole appliance to sleep and wake it", [
    'nke power nke0 D3hot',
    'nke power nke0 D0',
    'nke power all sleep',
    'nke power all wake',
  ])
    .argument('<card>', 'a card, or all')
    .argument('<state>', POWER.join(', '), oneOf(POWER))
    .action((card: string, state: string, o: Common) =>
      print<InterfaceRow[]>(o, 'power', { card, state }, rows => rows.map(showInterface).join('')),
    );
}

function registerPaths(program: Command): void {
  ask(
    program,
    'paths',
    'the paths of every association: state, RTT, RTO, window, MTU, last heartbeat, source address and why',
    ['nke paths', 'nke paths --assoc 3', 'nke paths --json'],
  )
    .option('--assoc <id>', 'of one association only', integer(0, 2 ** 32 - 1))
    .action((o: Common & { assoc?: number }) =>
      print<PathRow[]>(o, 'paths', { assoc: o.assoc }, rows => {
        const text = table(rows, [
          ...workerColumn(rows),
          { head: 'Assoc', cell: p => p.assocId, right: true },
          { head: 'Peer', cell: p => p.address },
          { head: 'State', cell: p => `${p.state}${p.primary ? ' primary' : ''}` },
          { head: 'SRTT', cell: p => (p.srtt === 0 ? '-' : duration(p.srtt * 1e6)), right: true },
          { head: 'RTO', cell: p => duration(p.rto * 1e6), right: true },
          { head: 'Cwnd', cell: p => grouped(p.cwnd), right: true },
          { head: 'Flight', cell: p => grouped(p.flight), right: true },
          { head: 'MTU', cell: p => p.mtu, right: true },
          { head: 'Errors', cell: p => p.errors, right: true },
          {
            head: 'Heartbeat',
            cell: p => (p.heartbeatAgo === null ? 'never' : `${duration(p.heartbeatAgo)} ago`),
            right: true,
          },
          { head: 'Source', cell: p => p.source },
        ]);
        return (
          text + rows.map(p => `\n${printable(`${p.address}: ${p.why}`)}`).join('') + (rows.length > 0 ? '\n' : '')
        );
      }),
    );
}

function showEvent(e: StampedEvent): string {
  const { kind, at, serial: _, ...rest } = e as StampedEvent & Record<string, unknown>;
  const parts = Object.entries(rest).map(([k, v]) => `${k}=${typeof v === 'object' ? JSON.stringify(v) : String(v)}`);
  return `${printable(`${(at / 1e9).toFixed(6)} ${kind} ${parts.join(' ')}`)}\n`;
}

function registerEvents(program: Command): void {
  ask(
    program,
    'event',
    'kernel events: links, power, temperature, addresses, extensions, associations and paths, each with its reason',
    ['nke event', 'nke event --follow --json', 'nke event --follow --kind link-off,link-on --interface nke0'],
  )
    .option('-f, --follow', 'go on with what happens from now on')
    .option('--kind <kinds>', 'of these kinds only, separated by commas: link-off,link-on')
    .option('--interface <name>', 'of one interface, and those that speak of none')
    .action(async (o: Common & { follow?: boolean; kind?: string; interface?: string }) => {
      const which = { kinds: o.kind?.split(',') ?? [], interface: o.interface };
      const path = chooseControl(o.appliance);
      const show = (e: unknown) => out(o.json ? `${JSON.stringify(e)}\n` : showEvent(e as StampedEvent));
      if (!o.follow) {
        for (const e of (await controlRequest(path, 'events', which)) as StampedEvent[]) show(e);
        return;
      }
      const abort = new AbortController();
      process.once('SIGINT', () => abort.abort());
      process.once('SIGTERM', () => abort.abort());
      await controlRequest(path, 'follow', which, show, abort.signal);
      process.exitCode = EXIT_OK;
    });
}
