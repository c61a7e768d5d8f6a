/**
 * A configuration file to an ApplianceConfig: JSON with positions (json.ts), the published schema (config.schema.json),
 * then what a schema cannot say (addresses, prefixes, names that must fit together). Every complaint is one line,
 * "file:line:column: what is wrong, what is allowed".
 */

import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import type { ApplianceConfig, KextConfig } from '../appliance.js';
import { Catalog } from '../bundles/catalog.js';
import { planKexts } from '../bundles/plan.js';
import { parseKey } from '../bundles/sign.js';
import { createPort, Wires } from '../nic/ports/open.js';
import { InAddr } from '../stack/netinet/in.js';
import { CliError, oneLine } from './errors.js';
import { nearest } from './format.js';
import { JsonError, lineColumn, type Place, parseJson, pointerToken } from './json.js';

export const MAX_CONFIG_BYTES = 1 << 20;

/** The schema as published: beside package.json, one level above dist/ when compiled. */
function schemaUrl(): URL {
  const here = new URL('../config.schema.json', import.meta.url);
  return here.pathname.endsWith('/dist/config.schema.json')
    ? new URL('../../config.schema.json', import.meta.url)
    : here;
}

let validators: { readonly config: ValidateFunction; readonly preferences: ValidateFunction } | undefined;

function validate(): NonNullable<typeof validators> {
  if (validators === undefined) {
    const schema = JSON.parse(readFileSync(schemaUrl(), 'utf8')) as object;
    // verbose: an error carries the part of the schema it broke, whose description and examples say what is allowed.
    const ajv = new Ajv({ allErrors: true, verbose: true, useDefaults: false, strict: true, allowUnionTypes: true });
    ajv.addSchema(schema, 'config');
    validators = {
      config: ajv.getSchema('config')!,
      preferences: ajv.compile({ $ref: 'config#/definitions/kextPreferences' }),
    };
  }
  return validators;
}

interface Complaint {
  readonly pointer: string;
  /** Point at the property's name, not its value. */
  readonly key?: boolean;
  readonly text: string;
}

const article = (type: string) => (/^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`);
const typeName = (v: unknown) => (v === null ? 'null' : Array.isArray(v) ? 'array' : typeof v);
const what = (pointer: string) =>
  pointer === '' ? 'the configuration' : `"${pointer.slice(pointer.lastIndexOf('/') + 1)}"`;

/** What a part of the schema allows, from its description, examples and range. */
function allowed(schema: Record<string, unknown>): string {
  const parts: string[] = [];
  if (typeof schema.description === 'string') parts.push(schema.description.replace(/\.$/, ''));
  const example = Array.isArray(schema.examples) ? (schema.examples[0] as unknown) : undefined;
  if (example !== undefined) parts.push(`for example ${JSON.stringify(example)}`);
  return parts.join('; ');
}

/** One schema error as a complaint a person can act on. */
function complaint(e: ErrorObject): Complaint {
  const parent = (e.parentSchema ?? {}) as Record<string, unknown>;
  const pointer = e.instancePath;
  const params = e.params as Record<string, unknown>;
  switch (e.keyword) {
    case 'additionalProperties': {
      const name = String(params.additionalProperty);
      const names = Object.keys((parent.properties ?? {}) as object);
      const hint = nearest(name, names);
      return {
        pointer: `${pointer}/${pointerToken(name)}`,
        key: true,
        text: `unknown property "${name}"${hint === undefined ? '' : ` (did you mean "${hint}"?)`}; allowed here: ${names.join(', ')}`,
      };
    }
    case 'required':
      return {
        pointer,
        text: `property "${String(params.missingProperty)}" is missing; required here: ${(parent.required as string[]).join(', ')}`,
      };
    case 'type': {
      const types = [params.type].flat().map(t => article(String(t)));
      const range = parent.minimum === undefined ? '' : ` from ${String(parent.minimum)} to ${String(parent.maximum)}`;
      return {
        pointer,
        text: `${what(pointer)} is ${article(typeName(e.data))}; it must be ${types.join(' or ')}${range}`,
      };
    }
    case 'minimum':
    case 'maximum':
      return {
        pointer,
        text: `${what(pointer)} is ${String(e.data)}; allowed: ${String(parent.minimum)} to ${String(parent.maximum)}`,
      };
    case 'enum':
      return {
        pointer,
        text: `${what(pointer)} is ${JSON.stringify(e.data)}; allowed: ${(params.allowedValues as unknown[]).map(v => JSON.stringify(v)).join(', ')}`,
      };
    case 'uniqueItems':
      return {
        pointer: `${pointer}/${String(Math.max(Number(params.i), Number(params.j)))}`,
        text: `this entry of ${what(pointer)} is there twice`,
      };
    case 'minItems':
    case 'maxItems':
      return {
        pointer,
        text: `${what(pointer)} has ${(e.data as unknown[]).length} entries; allowed: ${String(parent.minItems ?? 0)} to ${String(parent.maxItems ?? 'any number')}`,
      };
    default: {
      const hint = allowed(parent);
      return {
        pointer,
        text: `${what(pointer)} is ${JSON.stringify(e.data)?.slice(0, 60)}, which ${e.message ?? 'is not allowed'}${hint === '' ? '' : `; allowed: ${hint}`}`,
      };
    }
  }
}

/** An address with its prefix length. The prefix of a bare address is the whole address. */
export function parsePrefix(text: string): { addr: InAddr; prefix: number } | undefined {
  const slash = text.indexOf('/');
  const addr = InAddr.parse(slash < 0 ? text : text.slice(0, slash));
  if (addr === undefined) return undefined;
  const bits = addr.family === 4 ? 32 : 128;
  if (slash < 0) return { addr, prefix: bits };
  const tail = text.slice(slash + 1);
  if (!/^(0|[1-9]\d{0,2})$/.test(tail) || Number(tail) > bits) return undefined;
  return { addr, prefix: Number(tail) };
}

/** The preference list of extensions: everything about it is checked here, before anything is loaded. */
function* kextMeaning(config: KextConfig, interfaces: readonly string[], base: string): Generator<Complaint> {
  let bad = false;
  for (const [i, key] of (config.kextTrust ?? []).entries()) {
    try {
      parseKey(key);
    } catch (e) {
      bad = true;
      yield { pointer: `/kextTrust/${i}`, text: oneLine(e) };
    }
  }
  for (const [i, entry] of (config.kexts ?? []).entries())
    if (typeof entry !== 'string' && (entry.name === undefined) === (entry.bundle === undefined)) {
      bad = true;
      yield { pointer: `/kexts/${i}`, text: 'an extension needs one of "name" and "bundle"' };
    }
  if (bad) return;
  const catalog = new Catalog({
    path: (config.kextPath ?? []).map(p => resolve(base, p)),
    trust: config.kextTrust,
    allowUnsigned: config.allowUnsignedKexts,
  });
  const plan = planKexts(config.kexts ?? [], catalog, interfaces, base);
  if ('complaints' in plan) for (const c of plan.complaints) yield { pointer: `/kexts${c.pointer}`, text: c.text };
}

/** The same list with the paths of bundles and folders made absolute. */
function absolutePaths<T extends KextConfig>(config: T, base: string): T {
  return {
    ...config,
    ...(config.kextPath === undefined ? {} : { kextPath: config.kextPath.map(p => resolve(base, p)) }),
    ...('kextLogs' in config && typeof config.kextLogs === 'string'
      ? { kextLogs: resolve(base, config.kextLogs) }
      : {}),
    ...(config.kexts === undefined
      ? {}
      : {
          kexts: config.kexts.map(k => {
            if (typeof k === 'string') return k.includes('/') ? resolve(base, k) : k;
            return k.bundle === undefined ? k : { ...k, bundle: resolve(base, k.bundle) };
          }),
        }),
  };
}

/** Names of the interfaces that there will be. */
function interfaceNames(config: ApplianceConfig): string[] {
  return ['lo0', ...config.cards.map((c, i) => c.name ?? `nke${i}`)];
}

/** What the schema cannot say. Yields complaints in the order of the file's parts. */
export function* meaning(config: ApplianceConfig, base = '.'): Generator<Complaint> {
  const names = new Set<string>();
  const specs = new Set<string>();
  const wires = new Wires();
  const all = config.cards.map((c, i) => c.name ?? `nke${i}`);
  for (const [i, card] of config.cards.entries()) {
    const at = `/cards/${i}`;
    const name = all[i]!;
    if (names.has(name))
      yield {
        pointer: card.name === undefined ? at : `${at}/name`,
        text: `card "${name}" is there twice; give each card its own name`,
      };
    names.add(name);
    try {
      createPort(card.port, { wires });
    } catch (e) {
      yield { pointer: `${at}/port`, text: oneLine(e) };
    }
    if (specs.has(card.port) && !card.port.startsWith('wire:'))
      yield { pointer: `${at}/port`, text: `port "${card.port}" is already the port of another card` };
    specs.add(card.port);
    for (const [j, text] of (card.addresses ?? []).entries())
      if (parsePrefix(text) === undefined)
        yield {
          pointer: `${at}/addresses/${j}`,
          text: `"${text}" is not an address; allowed: ADDRESS/PREFIX, for example 127.0.0.1/8 or fd00::1/64`,
        };
  }
  const ports = new Set(config.cards.map(c => /^udp:.*:(\d+)$/.exec(c.port)?.[1]).filter(p => p !== undefined));
  if (ports.size > 1)
    yield {
      pointer: '/cards',
      text: `udp cards of one appliance must share one UDP port (its SCTP tunnelling port, RFC 6951); found ${[...ports].join(', ')}`,
    };
  for (const [i, route] of (config.routes ?? []).entries()) {
    const at = `/routes/${i}`;
    const destination = parsePrefix(route.destination);
    if (destination === undefined)
      yield {
        pointer: `${at}/destination`,
        text: `"${route.destination}" is not a destination; allowed: ADDRESS/PREFIX, for example 127.0.0.3/32`,
      };
    if (route.gateway !== undefined) {
      const gateway = InAddr.parse(route.gateway);
      if (gateway === undefined || (destination !== undefined && gateway.family !== destination.addr.family))
        yield {
          pointer: `${at}/gateway`,
          text: `"${route.gateway}" is not a gateway; allowed: an address of the destination's family`,
        };
    }
    if (!names.has(route.card))
      yield { pointer: `${at}/card`, text: `there is no card "${route.card}"; the cards are ${all.join(', ')}` };
  }
  yield* kextMeaning(config, interfaceNames(config), base);
}

/**
 * Reads JSON and checks it: the schema, then its meaning. Throws CliError with one line, "file:line:column: ...", for the
 * first thing that is wrong (the first in the file), and says how many more there are.
 */
function parseChecked<T>(
  text: string,
  file: string,
  check: ValidateFunction,
  means: (value: T) => Iterable<Complaint>,
): T {
  const fail = (offset: number, message: string): never => {
    const { line, column } = lineColumn(text, offset);
    throw new CliError(`${file}:${line}:${column}: ${oneLine(message)}`);
  };
  let located: ReturnType<typeof parseJson>;
  try {
    located = parseJson(text);
  } catch (e) {
    if (e instanceof JsonError) return fail(e.offset, e.message);
    throw e;
  }
  const complaints = check(located.value) ? [...means(located.value as T)] : (check.errors ?? []).map(complaint);
  if (complaints.length > 0) {
    const offset = (c: Complaint): number => {
      let pointer = c.pointer;
      let place: Place | undefined;
      while ((place = located.places.get(pointer)) === undefined && pointer !== '')
        pointer = pointer.slice(0, pointer.lastIndexOf('/'));
      return place === undefined ? 0 : c.key ? place.key : place.value;
    };
    const sorted = complaints.map(c => ({ at: offset(c), text: c.text })).sort((a, b) => a.at - b.at);
    const more = sorted.length - 1;
    return fail(sorted[0]!.at, sorted[0]!.text + (more === 0 ? '' : ` (and ${more} more)`));
  }
  const { $schema: _, ...value } = located.value as T & { $schema?: string };
  return value as T;
}

/**
 * Reads a configuration from text; `file` is what complaints call it, and paths of bundles are from its folder. Throws
 * CliError with one line. `allowUnsigned`: the switch, when it is not in the file.
 */
export function parseConfig(text: string, file: string, allowUnsigned?: boolean): ApplianceConfig {
  const base = dirname(file);
  const override = allowUnsigned === true ? { allowUnsignedKexts: true } : {};
  const config = parseChecked<ApplianceConfig>(text, file, validate().config, c =>
    meaning({ ...c, ...override }, base),
  );
  return absolutePaths({ ...config, ...override }, base);
}

/** Reads a preference file of extensions (nke up --kexts FILE) for an appliance with these cards. Throws CliError. */
export function parsePreferences(text: string, file: string, config: ApplianceConfig): KextConfig {
  const base = dirname(file);
  const check = (k: KextConfig) =>
    kextMeaning(
      {
        ...k,
        kextTrust: [...(config.kextTrust ?? []), ...(k.kextTrust ?? [])],
        kextPath: [...(config.kextPath ?? []).map(p => resolve(p)), ...(k.kextPath ?? [])],
        allowUnsignedKexts: config.allowUnsignedKexts,
      },
      interfaceNames(config),
      base,
    );
  return absolutePaths(parseChecked<KextConfig>(text, file, validate().preferences, check), base);
}

/** Reads a configuration file. Throws CliError. */
export function readConfig(file: string, allowUnsigned?: boolean): ApplianceConfig {
  return parseConfig(readText(file, '--config'), file, allowUnsigned);
}

/** Reads a preference file. Throws CliError. */
export function readPreferences(file: string, config: ApplianceConfig): KextConfig {
  return parsePreferences(readText(file, '--kexts'), file, config);
}

/** A file that a flag names, as text of bounded size. */
function readText(file: string, flag: string): string {
  let text: string;
  try {
    const fd = openSync(file, 'r');
    try {
      const stat = fstatSync(fd);
      if (stat.isDirectory()) throw new CliError(`${file}: this is a directory; give a JSON file`);
      if (stat.size > MAX_CONFIG_BYTES)
        throw new CliError(`${file}: ${stat.size} bytes are too many for a configuration; at most ${MAX_CONFIG_BYTES}`);
      text = readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
  } catch (e) {
    if (e instanceof CliError) throw e;
    throw new CliError(`cannot read ${file}: ${oneLine(e)}; give ${flag} a readable JSON file`);
  }
  return text.startsWith('\ufeff') ? text.slice(1) : text;
}

/** Checks a configuration that was made from flags. Throws CliError with one line; `where` names the flags. */
export function checkConfig(config: ApplianceConfig, where = 'options'): ApplianceConfig {
  const check = validate().config;
  const first = check(config) ? meaning(config).next().value : complaint(check.errors![0]!);
  if (first) throw new CliError(`${where}: ${first.text}`);
  return config;
}
