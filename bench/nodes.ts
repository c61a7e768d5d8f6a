/** Runs a program of this folder in a Node process of its own and gives its line of JSON. */

import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lastJson, launch } from './peers.js';

const here = dirname(fileURLToPath(import.meta.url));

export async function nodeProgram<T>(
  name: string,
  args: readonly (string | number)[],
  options: { readonly flags?: readonly string[]; readonly timeoutMs: number },
): Promise<T> {
  const argv = [process.execPath, ...(options.flags ?? []), join(here, `${name}.js`), ...args.map(String)];
  await using child = launch(argv, options.timeoutMs);
  return await lastJson<T>(child);
}
