/** The order of the rooms: who may import whom (README, "The rooms"). An import that breaks it fails here. */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** What a room (or a part of one, the longest match counts) may import of ours beyond itself. `true`: everything. */
const ROOMS: Readonly<Record<string, readonly string[] | true>> = {
  nic: [],
  firmware: ['nic'],
  driver: [
    'nic/registers',
    'nic/virtqueue',
    'stack/kern/mbuf',
    'stack/kern/event',
    'stack/kern/clock',
    'stack/net/ifnet',
  ],
  stack: [],
  sockets: [
    'stack/kern/socket',
    'stack/kern/errno',
    'stack/kern/protosw',
    'stack/kern/event',
    'stack/kern/clock',
    'stack/netinet/in',
    'stack/sctp/api',
  ],
  // Reads folders, checks signatures, compiles: what the stack may not. cli/json: JSON with the places of its parts.
  bundles: ['stack', 'cli/json'],
  'appliance.ts': ['nic', 'firmware', 'driver', 'stack', 'sockets', 'bundles', 'appliance-config', 'system'],
  'appliance-config.ts': ['nic', 'stack', 'bundles/plan'],
  'system.ts': ['nic', 'stack'],
  simulation: ['appliance', 'nic', 'stack'],
  workers: ['appliance', 'appliance-config', 'nic', 'stack/kern/steering'],
  'workers.ts': ['workers', 'appliance', 'appliance-config', 'nic', 'stack/kern/steering'],
  'simulation.ts': ['simulation'],
  packetdrill: ['stack', 'nic/ports/pcapng', 'nic/ports/capture', 'nic/ports/port'],
  'index.ts': ['appliance', 'workers', 'simulation', 'sockets', 'stack', 'nic', 'bundles'],
  cli: [
    'appliance',
    'workers',
    'simulation',
    'sockets',
    'stack',
    'nic',
    'firmware',
    'bundles',
    'bench/bench',
    'packetdrill',
  ],
  'nke.ts': ['cli', 'appliance', 'bench/bench'],
  vm: ['appliance'],
  bench: true,
  interop: true,
};

/** Below the socket layer nothing asks the system for time or chance, and nothing waits. */
const PURE = ['stack/'];
const IMPURE =
  /\b(Date\.now|new Date\(|Math\.random|setTimeout|setInterval|setImmediate|performance\.now|process\.hrtime|randomBytes|new Promise)\b/;

function walk(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap(e => {
    if (['node_modules', 'dist', 'build', '.git'].includes(e.name)) return [];
    const path = join(dir, e.name);
    return e.isDirectory() ? walk(path) : path.endsWith('.ts') && !path.endsWith('.d.ts') ? [path] : [];
  });
}

const files = walk(root).map(path => ({ path, name: relative(root, path), text: readFileSync(path, 'utf8') }));

/** Tests and what only tests use may look into other rooms: they compose what they test. */
const isTest = (name: string) => /\.(test|system\.test|fixture|contract)\.ts$/.test(name);

function roomOf(name: string): string | undefined {
  return Object.keys(ROOMS)
    .filter(r => name === r || name.startsWith(`${r}/`))
    .sort((a, b) => b.length - a.length)[0];
}

/** Relative imports of a file as names from the root, without their ending. */
function imports(file: { path: string; text: string }): string[] {
  const out: string[] = [];
  for (const m of file.text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g))
    out.push(relative(root, join(dirname(file.path), m[1]!)).replace(/\.js$/, ''));
  return out;
}

test('every source file stands in a room', () => {
  const homeless = files.filter(f => roomOf(f.name) === undefined && !isTest(f.name)).map(f => f.name);
  assert.deepEqual(homeless, []);
});

test('imports keep to the order of the rooms', () => {
  const broken: string[] = [];
  for (const f of files) {
    const room = roomOf(f.name);
    if (room === undefined || isTest(f.name)) continue;
    const may = ROOMS[room]!;
    if (may === true) continue;
    for (const target of imports(f)) {
      const own = target === room.replace(/\.ts$/, '') || target.startsWith(`${room}/`);
      if (!own && !may.some(m => target === m || target.startsWith(`${m}/`)))
        broken.push(`${f.name} imports ${target}`);
    }
  }
  assert.deepEqual(broken, []);
});

test('protocol code does no I/O and asks nobody for time or chance', () => {
  const bad: string[] = [];
  for (const f of files) {
    if (!PURE.some(p => f.name.startsWith(p)) || isTest(f.name)) continue;
    for (const [i, line] of f.text.split('\n').entries()) {
      const code = line.replace(/\/\/.*$/, '');
      if (IMPURE.test(code) && !/^\s*\*/.test(line)) bad.push(`${f.name}:${i + 1}: ${line.trim()}`);
    }
  }
  assert.deepEqual(bad, []);
});

test('the README names every room', () => {
  const readme = existsSync(join(root, 'README.md')) ? readFileSync(join(root, 'README.md'), 'utf8') : '';
  for (const room of Object.keys(ROOMS))
    assert.ok(readme.includes(`\`${room.endsWith('.ts') ? room : `${room}/`}\``), `the README does not name ${room}`);
});
