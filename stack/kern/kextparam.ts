/** Parameters of extensions: the checks of a declaration (manifest) and of a value, shared by loader, bundles and PF_NKE. */

import type { ParamRow, ParamValue } from './kpi.js';

export const PARAM_NAME = /^[a-z][a-z0-9_]{0,31}$/;
export const MAX_PARAMETERS = 64;
export const MAX_TEXT = 256;

/** Why a value does not fit its row, as the end of a sentence ("... is 7; allowed: 1 to 5"), or undefined. */
export function refusesParam(row: ParamRow, value: unknown): string | undefined {
  const shown = JSON.stringify(value)?.slice(0, 60) ?? String(value);
  switch (row.type) {
    case 'boolean':
      return typeof value === 'boolean' ? undefined : `is ${shown}; allowed: true or false`;
    case 'string': {
      const most = row.maxLength ?? MAX_TEXT;
      if (typeof value !== 'string') return `is ${shown}; it must be a text`;
      if (row.values !== undefined && !row.values.includes(value))
        return `is ${shown}; allowed: ${row.values.join(', ')}`;
      return value.length > most ? `is longer than ${most} characters` : undefined;
    }
    default: {
      const min = row.min ?? (row.type === 'integer' ? Number.MIN_SAFE_INTEGER : -Number.MAX_VALUE);
      const max = row.max ?? (row.type === 'integer' ? Number.MAX_SAFE_INTEGER : Number.MAX_VALUE);
      const fits =
        typeof value === 'number' &&
        value >= min &&
        value <= max &&
        (row.type === 'number' || Number.isSafeInteger(value));
      if (fits) return undefined;
      const range = row.min === undefined && row.max === undefined ? '' : ` from ${min} to ${max}`;
      return `is ${shown}; it must be ${row.type === 'integer' ? 'an integer' : 'a number'}${range}`;
    }
  }
}

/** A text from a command line as a value of the row's type, or undefined when it is none. */
export function paramFromText(row: ParamRow, text: string): ParamValue | undefined {
  if (row.type === 'string') return text;
  if (row.type === 'boolean') {
    if (/^(true|on|yes|1)$/.test(text)) return true;
    return /^(false|off|no|0)$/.test(text) ? false : undefined;
  }
  return /^-?(\d+(\.\d+)?|0x[0-9a-fA-F]+)$/.test(text) ? Number(text) : undefined;
}

/**
 * The values that an extension starts with: what was given, defaults for the rest. Returns the first complaint instead,
 * with the parameter's name ("" when it is not about one).
 */
export function paramValues(
  rows: Readonly<Record<string, ParamRow>>,
  given: Readonly<Record<string, unknown>>,
): { values: Record<string, ParamValue> } | { name: string; complaint: string } {
  const values: Record<string, ParamValue> = {};
  for (const name of Object.keys(given)) {
    const row = Object.hasOwn(rows, name) ? rows[name] : undefined;
    if (row === undefined) {
      const known = Object.keys(rows).join(', ');
      return {
        name,
        complaint: `there is no parameter "${name}"; ${known === '' ? 'it has none' : `it has ${known}`}`,
      };
    }
    const why = refusesParam(row, given[name]);
    if (why !== undefined) return { name, complaint: `parameter "${name}" ${why}` };
  }
  for (const [name, row] of Object.entries(rows)) values[name] = (given[name] as ParamValue | undefined) ?? row.default;
  return { values };
}
