/**
 * manifest.json of a bundle: what it must say, checked by hand so that every complaint names its line ("FILE:3:17: ...").
 *
 *   identifier    "org.example.Foo"
 *   version       "1.0.0", up to three numbers
 *   kind          filter, family, protocol, socket-filter or library
 *   about         a sentence for kextstat (may be left out)
 *   dependencies  {"org.nke.kpi.stack": "1.1.0"}: identifiers and their least versions
 *   entry         the file with start and stop, default index.ts
 *   parameters    {"limit": {"type": "integer", "default": 1, "min": 0, "max": 9, "meaning": "...", "live": true}}
 */

import { JsonError, type Located, lineColumn, parseJson, pointerToken } from '../cli/json.js';
import { IDENTIFIER, type KextManifest, VERSION } from '../stack/kern/kext.js';
import { MAX_PARAMETERS, PARAM_NAME, refusesParam } from '../stack/kern/kextparam.js';
import type { ParamRow, ParamValue } from '../stack/kern/kpi.js';
import { BundleError } from './error.js';

export const KINDS = ['filter', 'family', 'protocol', 'socket-filter', 'library'] as const;
export type Kind = (typeof KINDS)[number];

/** A manifest as a bundle carries it. */
export interface BundleManifest extends KextManifest {
  readonly entry: string;
  readonly parameters: Readonly<Record<string, ParamRow>>;
}

/** A file of a bundle: path segments of letters, digits, "_", "-" and ".", none of them starting with a dot. */
export const BUNDLE_PATH = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(\/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}){0,3}$/;
const MAX_DEPENDENCIES = 32;

type Complain = (pointer: string, text: string) => never;
const shown = (v: unknown): string => (JSON.stringify(v) ?? String(v)).slice(0, 80);
const isObject = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);

/** Names of an object that are not known; the first is complained about. */
function onlyKeys(o: object, known: readonly string[], at: string, complain: Complain): void {
  for (const key of Object.keys(o))
    if (!known.includes(key))
      complain(`${at}/${pointerToken(key)}`, `unknown property ${shown(key)}; allowed here: ${known.join(', ')}`);
}

function text(o: Record<string, unknown>, name: string, most: number, complain: Complain, otherwise?: string): string {
  const v = o[name] ?? otherwise;
  if (v === undefined) return complain('', `property "${name}" is missing`);
  if (typeof v !== 'string' || v === '' || v.length > most)
    return complain(`/${name}`, `"${name}" is ${shown(v)}; it must be a text of 1 to ${most} characters`);
  return v;
}

function parameterRow(at: string, name: string, v: unknown, complain: Complain): ParamRow {
  if (!PARAM_NAME.test(name))
    complain(at, `${shown(name)} is no parameter's name; allowed: a small letter, then small letters, digits and "_"`);
  if (!isObject(v)) return complain(at, `parameter "${name}" is ${shown(v)}; it must be an object`);
  onlyKeys(v, ['type', 'default', 'min', 'max', 'values', 'maxLength', 'meaning', 'live'], at, complain);
  const types = ['integer', 'number', 'boolean', 'string'];
  if (!types.includes(v.type as string))
    complain(
      v.type === undefined ? at : `${at}/type`,
      `"type" of "${name}" is ${shown(v.type)}; allowed: ${types.join(', ')}`,
    );
  if (typeof v.meaning !== 'string' || v.meaning === '' || v.meaning.length > 512)
    complain(v.meaning === undefined ? at : `${at}/meaning`, `parameter "${name}" needs a "meaning": a sentence`);
  const numeric = v.type === 'integer' || v.type === 'number';
  for (const key of ['min', 'max'] as const)
    if (v[key] !== undefined && (!numeric || typeof v[key] !== 'number'))
      complain(
        `${at}/${key}`,
        `"${key}" of "${name}" is ${shown(v[key])}; it must be a number, and only numbers have it`,
      );
  if (numeric && typeof v.min === 'number' && typeof v.max === 'number' && v.min > v.max)
    complain(`${at}/min`, `"min" of "${name}" is greater than its "max"`);
  if (v.values !== undefined) {
    const list = v.values;
    if (
      v.type !== 'string' ||
      !Array.isArray(list) ||
      list.length === 0 ||
      list.length > 64 ||
      !list.every(x => typeof x === 'string' && x.length <= 64)
    )
      complain(`${at}/values`, `"values" of "${name}" must be a list of texts, and only strings have it`);
  }
  if (
    v.maxLength !== undefined &&
    (v.type !== 'string' ||
      !Number.isInteger(v.maxLength) ||
      (v.maxLength as number) < 0 ||
      (v.maxLength as number) > 4096)
  )
    complain(`${at}/maxLength`, `"maxLength" of "${name}" must be an integer from 0 to 4096, and only strings have it`);
  if (v.live !== undefined && typeof v.live !== 'boolean')
    complain(`${at}/live`, `"live" of "${name}" must be true or false`);
  const row: ParamRow = {
    type: v.type as ParamRow['type'],
    default: v.default as ParamValue,
    meaning: v.meaning as string,
    ...(v.min === undefined ? {} : { min: v.min as number }),
    ...(v.max === undefined ? {} : { max: v.max as number }),
    ...(v.values === undefined ? {} : { values: v.values as string[] }),
    ...(v.maxLength === undefined ? {} : { maxLength: v.maxLength as number }),
    ...(v.live === undefined ? {} : { live: v.live as boolean }),
  };
  if (v.default === undefined) complain(at, `parameter "${name}" needs a "default"`);
  const why = refusesParam(row, v.default);
  if (why !== undefined) complain(`${at}/default`, `the default of "${name}" ${why}`);
  return row;
}

/** Reads a manifest; `file` is what complaints call it. Throws BundleError, "FILE:line:column: ...". */
export function parseManifest(source: string, file: string): BundleManifest {
  let located: Located;
  const fail = (offset: number, message: string): never => {
    const { line, column } = lineColumn(source, offset);
    throw new BundleError('EINVAL', `${file}:${line}:${column}: ${message}`);
  };
  try {
    located = parseJson(source);
  } catch (e) {
    if (e instanceof JsonError) return fail(e.offset, e.message);
    throw e;
  }
  const complain: Complain = (pointer, message) => {
    const place = located.places.get(pointer) ?? located.places.get('')!;
    return fail(place.key >= 0 && pointer !== '' ? place.key : place.value, message);
  };
  const o = located.value;
  if (!isObject(o)) return complain('', 'a manifest is a JSON object');
  onlyKeys(o, ['identifier', 'version', 'kind', 'about', 'dependencies', 'entry', 'parameters'], '', complain);
  const identifier = text(o, 'identifier', 256, complain);
  if (!IDENTIFIER.test(identifier))
    complain('/identifier', `${shown(identifier)} is not an extension identifier such as org.example.Foo`);
  const version = text(o, 'version', 32, complain);
  if (!VERSION.test(version)) complain('/version', `${shown(version)} is not a version such as 1.2.0`);
  const kind = text(o, 'kind', 32, complain);
  if (!(KINDS as readonly string[]).includes(kind))
    complain('/kind', `"kind" is ${shown(kind)}; allowed: ${KINDS.join(', ')}`);
  const entry = text(o, 'entry', 128, complain, 'index.ts');
  if (!BUNDLE_PATH.test(entry) || !/\.(ts|js)$/.test(entry) || /\.d\.ts$/.test(entry))
    complain('/entry', `"entry" is ${shown(entry)}; it must be a .ts or .js file inside the bundle`);
  const about = o.about === undefined ? undefined : text(o, 'about', 256, complain);
  const dependencies: Record<string, string> = {};
  const wanted = o.dependencies ?? {};
  if (!isObject(wanted))
    return complain('/dependencies', '"dependencies" must be an object: {"identifier": "version"}');
  if (Object.keys(wanted).length > MAX_DEPENDENCIES)
    complain('/dependencies', `at most ${MAX_DEPENDENCIES} dependencies are allowed`);
  for (const [id, least] of Object.entries(wanted)) {
    const at = `/dependencies/${pointerToken(id)}`;
    if (!IDENTIFIER.test(id)) complain(at, `${shown(id)} is not an extension identifier`);
    if (id === identifier) complain(at, `${identifier} cannot depend on itself`);
    if (typeof least !== 'string' || !VERSION.test(least))
      complain(at, `${shown(least)} is not a version such as 1.2.0`);
    dependencies[id] = least as string;
  }
  const parameters: Record<string, ParamRow> = {};
  const rows = o.parameters ?? {};
  if (!isObject(rows)) return complain('/parameters', '"parameters" must be an object of parameters by name');
  if (Object.keys(rows).length > MAX_PARAMETERS)
    complain('/parameters', `at most ${MAX_PARAMETERS} parameters are allowed`);
  for (const [name, v] of Object.entries(rows))
    parameters[name] = parameterRow(`/parameters/${pointerToken(name)}`, name, v, complain);
  return { identifier, version, kind, entry, dependencies, parameters, ...(about === undefined ? {} : { about }) };
}
