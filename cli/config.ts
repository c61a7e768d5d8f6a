/**
 * A configuration file to an ApplianceConfig: JSON with positions (json.ts), the published schema (config.schema.json),
 * then what a schema cannot say (addresses, prefixes, names that must fit together). Every complaint is one line,
 * "file:line:column: what is wrong, what is allowed".
 */

import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import type { ApplianceConfig } from '../appliance.js';
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

let validator: ValidateFunction | undefined;

function validate(): ValidateFunction {
  if (validator === undefined) {
    const schema = JSON.parse(readFileSync(schemaUrl(), 'utf8')) as object;
    // verbose: an error carries the part of the schema it broke, whose description and examples say what is allowed.
    validator = new Ajv({
      allErrors: true,
      verbose: true,
      useDefaults: false,
      strict: true,
      allowUnionTypes: true,
    }).compile(schema);
  }
  return validator;
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

/** What the schema cannot say. Yields complaints in the order of the file's parts. */
export function* meaning(config: ApplianceConfig): Generator<Complaint> {
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
}

/**
 * Reads a configuration from text; `file` is what complaints call it. Throws CliError with one line,
 * "file:line:column: ...", for the first thing that is wrong (the first in the file), and says how many more there are.
 */
export function parseConfig(text: string, file: string): ApplianceConfig {
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
  const check = validate();
  const complaints = check(located.value)
    ? [...meaning(located.value as ApplianceConfig)]
    : (check.errors ?? []).map(complaint);
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
  const { $schema: _, ...config } = located.value as ApplianceConfig & { $schema?: string };
  return config;
}

/** Reads a configuration file. Throws CliError. */
export function readConfig(file: string): ApplianceConfig {
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
    throw new CliError(`cannot read ${file}: ${oneLine(e)}; give --config a readable JSON file`);
  }
  return parseConfig(text.startsWith('\ufeff') ? text.slice(1) : text, file);
}

/** Checks a configuration that was made from flags. Throws CliError with one line; `where` names the flags. */
export function checkConfig(config: ApplianceConfig, where = 'options'): ApplianceConfig {
  const check = validate();
  const first = check(config) ? meaning(config).next().value : complaint(check.errors![0]!);
  if (first) throw new CliError(`${where}: ${first.text}`);
  return config;
}
