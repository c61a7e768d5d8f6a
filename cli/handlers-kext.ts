/** What a running appliance answers about its network kernel extensions: kextload, kextunload, kextreplace, kextstat, kextctl. */

import { Appliance, ApplianceError } from '../appliance.js';
import { SEC } from '../stack/kern/clock.js';
import { ControlClient } from '../stack/kern/ctlclient.js';
import type { KextManifest } from '../stack/kern/kext.js';
import { paramFromText } from '../stack/kern/kextparam.js';
import type { ParamRow, ParamValue } from '../stack/kern/kpi.js';
import { type Args, Follow, type Handlers } from './control.js';
import { CliError, oneLine } from './errors.js';

export interface KextRow {
  readonly name: string;
  readonly identifier: string;
  readonly version: string;
  readonly state: string;
  readonly references: number;
  readonly holders: readonly string[];
  readonly description: string;
  /** Everything it has registered. */
  readonly registered: readonly string[];
  /** Mbufs that it holds, and callbacks of it that were taken out. */
  readonly held: number;
  readonly faults: number;
  readonly lastFault: string;
  readonly params: Readonly<Record<string, ParamValue>>;
  readonly dependencies: readonly string[];
  /** "shipped", the key that signed it, or what is wrong with its signature. */
  readonly signed: string;
}

/** The longest that kextunload --wait may wait, in seconds. */
export const MAX_WAIT_SECONDS = 3600;

function text(args: Args, name: string, most = 1024): string {
  const value = args[name];
  if (typeof value !== 'string' || value === '' || value.length > most)
    throw new CliError(`the argument "${name}" is missing or is no text`);
  return value;
}

/** Waits for what the appliance does; what it refuses is the request's fault: its words and status 2. */
async function asked<T>(body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (e) {
    if (e instanceof ApplianceError) throw new CliError(e.message);
    throw e;
  }
}

/** "params" of a request, texts by name, as values of the manifest's types. */
function params(manifest: KextManifest, given: unknown): Record<string, ParamValue> {
  const out: Record<string, ParamValue> = {};
  if (given === undefined || given === null) return out;
  if (typeof given !== 'object' || Array.isArray(given) || Object.keys(given).length > 64)
    throw new CliError('the argument "params" must be an object');
  const rows = manifest.parameters ?? {};
  for (const [name, value] of Object.entries(given)) {
    if (typeof value !== 'string') throw new CliError(`parameter "${name.slice(0, 40)}" must be given as a text`);
    const row = Object.hasOwn(rows, name) ? rows[name]! : undefined;
    out[name] = row === undefined ? value : fromText(name, row, value);
  }
  return out;
}
function fromText(name: string, row: ParamRow, value: string): ParamValue {
  const v = paramFromText(row, value);
  if (v !== undefined) return v;
  throw new CliError(
    `parameter "${name}" is ${JSON.stringify(value.slice(0, 60))}; it must be ${row.type === 'boolean' ? 'true or false' : `${row.type === 'integer' ? 'an' : 'a'} ${row.type}`}`,
  );
}

function names(args: Args, name: string): string[] {
  const value = args[name] ?? [];
  if (!Array.isArray(value) || value.length > 16 || !value.every(n => typeof n === 'string' && n.length <= 64))
    throw new CliError(`the argument "${name}" must be a list of names`);
  return value as string[];
}

function rows(appliance: Appliance): KextRow[] {
  const known = Appliance.kextNames();
  const loaded = appliance.stack.kexts.list();
  const list = loaded.map((k): KextRow => {
    const shipped = known.find(n => n.identifier === k.identifier);
    const origin = appliance.kextorigin(k.identifier);
    return {
      name: shipped?.name ?? k.identifier,
      identifier: k.identifier,
      version: k.version,
      state: k.faults > 0 && k.state === 'started' ? 'faulted' : k.state,
      references: k.refs,
      holders: k.holders,
      description: appliance.stack.kexts.get(k.identifier)?.manifest.about ?? shipped?.about ?? k.kind,
      registered: k.registered,
      held: k.held,
      faults: k.faults,
      lastFault: k.lastFault,
      params: k.params,
      dependencies: k.dependencies,
      signed: origin?.signed ?? (shipped === undefined ? 'by its loader' : 'shipped'),
    };
  });
  const rest = known
    .filter(n => !loaded.some(k => k.identifier === n.identifier))
    .map(
      (n): KextRow => ({
        name: n.name,
        identifier: n.identifier,
        version: '-',
        state: 'not loaded',
        references: 0,
        holders: [],
        description: n.about,
        registered: [],
        held: 0,
        faults: 0,
        lastFault: '',
        params: {},
        dependencies: [],
        signed: 'shipped',
      }),
    );
  return [...list, ...rest];
}

/** kextunload: at once, or following until it is out or the time is over. */
async function unload(appliance: Appliance, args: Args): Promise<unknown> {
  const name = text(args, 'name');
  const drain = args.drain === true;
  const wait = args.wait ?? (drain ? 30 : 0);
  if (typeof wait !== 'number' || !(wait >= 0 && wait <= MAX_WAIT_SECONDS))
    throw new CliError(`the argument "wait" must be seconds from 0 to ${MAX_WAIT_SECONDS}`);
  if (wait === 0) {
    await asked(() => appliance.kextunload(name));
    return rows(appliance);
  }
  return new Follow(emit => {
    asked(() => appliance.kextunloadAsync(name, { wait: wait * SEC, drain })).then(
      notes => emit({ done: true, notes }),
      e => emit({ done: true, error: oneLine(e) }),
    );
    return () => {};
  });
}

/** A client of an extension's control. Throws CliError. */
function client(appliance: Appliance, name: string): ControlClient {
  const known = Appliance.kextNames().find(n => n.name === name);
  const c = ControlClient.open(appliance.stack, known?.identifier ?? name);
  if (c instanceof ControlClient) return c;
  throw new CliError(`${c.reason}; loaded are ${appliance.stack.ctl.list().join(', ') || '(none)'}`);
}

const OPS = ['get', 'set', 'stats', 'list', 'call'] as const;

/** kextctl: one request over PF_NKE. Values come as texts and are made what the parameter's row says. */
function control(appliance: Appliance, args: Args): unknown {
  const op = text(args, 'op', 16);
  if (!(OPS as readonly string[]).includes(op))
    throw new CliError(`"${op}" is not known; allowed: ${OPS.join(', ')}, events`);
  const c = client(appliance, text(args, 'name', 256));
  try {
    const name = args.param === undefined || args.param === null ? undefined : text(args, 'param', 128);
    let value: unknown;
    if (op === 'set') {
      const given = text(args, 'value', 4096);
      const list = c.request('list');
      const parameters = list.ok ? (list.value as { parameters: Record<string, ParamRow> }).parameters : {};
      const row = name !== undefined && Object.hasOwn(parameters, name) ? parameters[name] : undefined;
      value = row === undefined ? given : fromText(name!, row, given);
    }
    const more = args.args === undefined ? {} : { args: args.args as Record<string, unknown> };
    const answer = c.request(op, { name, value, ...more });
    if (!answer.ok) throw new CliError(answer.reason);
    appliance.kick();
    return answer.value;
  } finally {
    c.close();
  }
}

/** The requests about extensions of one appliance. */
export function kextHandlers(appliance: Appliance): Handlers {
  return {
    kextload: async args => {
      const name = text(args, 'name');
      await asked(() => {
        const { manifest } = appliance.kextfind(name);
        return appliance.kextloadAsync(name, { params: params(manifest, args.params), where: names(args, 'on') });
      });
      return rows(appliance);
    },
    kextunload: args => unload(appliance, args),
    kextreplace: async args => {
      const name = text(args, 'name');
      const notes = await asked(() => {
        const { manifest } = appliance.kextfind(name);
        return appliance.kextreplace(name, { params: params(manifest, args.params) });
      });
      return { notes, kexts: rows(appliance) };
    },
    kextstat: () => rows(appliance),
    kextctl: args => control(appliance, args),
    kextevents: args => {
      const c = client(appliance, text(args, 'name', 256));
      return new Follow(emit => {
        c.subscribe((event, dropped) => void emit({ event, dropped }));
        return () => c.close();
      });
    },
  };
}
