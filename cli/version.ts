/** The version of the package: read from package.json, which lies above dist/ when compiled. */

import { readFileSync } from 'node:fs';

export function version(): string {
  const here = new URL('../package.json', import.meta.url);
  const file = here.pathname.endsWith('/dist/package.json') ? new URL('../../package.json', import.meta.url) : here;
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
