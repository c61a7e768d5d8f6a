/** For tests: a folder for bundles that is gone afterwards, and bundles written into it. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { readFiles } from './bundle.js';
import { generateKey, SIGNATURE_FILE, signFiles } from './sign.js';

export const GOOD_CODE = `import { type Kpi, M_NULL } from 'nke/kpi';
export function start(kpi: Kpi): number {
  return kpi.counters(kpi.identifier, { nothing: M_NULL });
}
export function stop(): void {}
`;

export const manifestOf = (name: string, more: object = {}): string =>
  JSON.stringify({ identifier: `org.example.${name}`, version: '1.0.0', kind: 'filter', ...more }, null, 2);

export class BundleFolder {
  readonly dir: string;
  readonly key = generateKey('test');
  constructor(t: TestContext) {
    this.dir = mkdtempSync(join(tmpdir(), 'nke-kext-'));
    t.after(() => rmSync(this.dir, { recursive: true, force: true }));
  }
  /** Writes NAME.kext: manifest.json and index.ts unless `files` says otherwise. Returns its path. */
  write(name: string, files: Record<string, string | Uint8Array> = {}, manifest: object = {}): string {
    const path = join(this.dir, `${name}.kext`);
    const all = { 'manifest.json': manifestOf(name, manifest), 'index.ts': GOOD_CODE, ...files };
    for (const [file, data] of Object.entries(all)) {
      mkdirSync(dirname(join(path, file)), { recursive: true });
      writeFileSync(join(path, file), data);
    }
    return path;
  }
  sign(path: string, key = this.key): string {
    writeFileSync(join(path, SIGNATURE_FILE), signFiles(readFiles(path, path), key.privatePem).text);
    return path;
  }
  read(path: string, file: string): string {
    return readFileSync(join(path, file), 'utf8');
  }
}
