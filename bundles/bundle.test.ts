import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';
import fc from 'fast-check';
import { VirtualNet } from '../stack/testing.js';
import { Bundle } from './bundle.js';
import { BundleFolder, manifestOf } from './bundles.fixture.js';
import { Catalog } from './catalog.js';
import { BundleError } from './error.js';
import { timeGuard } from './guard.js';
import { strip, toScript } from './link.js';
import { parseManifest } from './manifest.js';
import { planKexts } from './plan.js';
import { SHIPPED } from './shipped.js';
import { generateKey, parseKey, SIGNATURE_FILE } from './sign.js';
import { writeSkeleton } from './skeleton.js';
import { runTests } from './testing.js';

const refused = (fn: () => unknown, words: RegExp) =>
  assert.throws(fn, (e: unknown) => {
    assert.ok(e instanceof BundleError, String(e));
    assert.match(e.message, words);
    return true;
  });

describe('manifest', () => {
  it('takes a whole one', () => {
    const m = parseManifest(
      manifestOf('A', {
        about: 'x',
        entry: 'src/main.ts',
        dependencies: { 'org.nke.SCTP': '1.0' },
        parameters: { n: { type: 'integer', default: 1, min: 0, max: 2, meaning: 'x', live: true } },
      }),
      'm',
    );
    assert.equal(m.entry, 'src/main.ts');
    assert.deepEqual(m.parameters.n, { type: 'integer', default: 1, min: 0, max: 2, meaning: 'x', live: true });
  });
  const bad: [string, RegExp][] = [
    ['', /^m:1:1: the text ends/],
    ['[]', /^m:1:1: a manifest is a JSON object/],
    ['{"identifier": "a b.c"\n}', /^m:1:2: "a b\.c" is not an extension identifier/],
    ['{\n"version": "1",\n"kind": "filter"\n}', /^m:1:1: property "identifier" is missing/],
    [manifestOf('A', { version: '1.x' }), /^m:3:3: "1\.x" is not a version/],
    [manifestOf('A', { kind: 'virus' }), /^m:4:3: "kind" is "virus"; allowed: filter, /],
    [manifestOf('A', { entry: '../../etc/passwd' }), /^m:5:3: "entry" is .* inside the bundle/],
    [manifestOf('A', { entry: '/bin/sh' }), /inside the bundle/],
    [manifestOf('A', { entry: '.hidden.ts' }), /inside the bundle/],
    [manifestOf('A', { entry: 'x.wasm' }), /inside the bundle/],
    [manifestOf('A', { surprise: 1 }), /^m:5:3: unknown property "surprise"/],
    [manifestOf('A', { dependencies: { x: '1' } }), /"x" is not an extension identifier/],
    [manifestOf('A', { dependencies: { 'org.x': '1,0' } }), /^m:6:5: "1,0" is not a version/],
    [manifestOf('A', { dependencies: { 'org.example.A': '1' } }), /cannot depend on itself/],
    [manifestOf('A', { dependencies: [] }), /must be an object/],
    [manifestOf('A', { parameters: { Big: {} } }), /no parameter's name/],
    [
      manifestOf('A', { parameters: { n: { type: 'integer', default: 9, max: 5, meaning: 'x' } } }),
      /default of "n" is 9/,
    ],
    [
      manifestOf('A', { parameters: { n: { type: 'integer', default: 1, min: 2, max: 1, meaning: 'x' } } }),
      /greater than/,
    ],
    [manifestOf('A', { parameters: { n: { type: 'object', default: {}, meaning: 'x' } } }), /"type" of "n"/],
    [
      manifestOf('A', { parameters: { n: { type: 'string', default: 'c', values: ['a'], meaning: 'x' } } }),
      /allowed: a$/,
    ],
    [manifestOf('A', { parameters: { n: { type: 'boolean', default: true } } }), /needs a "meaning"/],
    ['{"__proto__": {"identifier": "org.a"}, "version": "1"}', /unknown property "__proto__"/],
  ];
  for (const [text, words] of bad)
    it(`refuses ${text.replace(/\s+/g, ' ').slice(0, 70)}`, () => refused(() => parseManifest(text, 'm'), words));
  it('any text is a manifest or a BundleError', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), text => {
        try {
          parseManifest(text, 'm');
        } catch (e) {
          assert.ok(e instanceof BundleError);
          assert.match(e.message, /^m:\d+:\d+: /);
        }
      }),
      { numRuns: 300, seed: 3 },
    );
  });
});

describe('signature', () => {
  it('of a trusted key is taken; every other bundle is refused, unless the switch is on', t => {
    const f = new BundleFolder(t);
    const path = f.write('A', { 'lib/x.ts': 'export const x = 1;' });
    const trust = [parseKey(f.key.publicLine)];
    refused(() => new Bundle(path, { trust }), /A\.kext is refused: it is not signed; sign it/);
    f.sign(path);
    const good = new Bundle(path, { trust });
    assert.deepEqual(good.verdict, { ok: true, key: f.key.id });
    refused(() => new Bundle(path), /does not trust/);
    refused(() => new Bundle(path, { trust: [parseKey(generateKey('other').publicLine)] }), /does not trust/);
    const signature = f.read(path, SIGNATURE_FILE);
    const spoil: [() => void, RegExp][] = [
      [() => appendFileSync(join(path, 'index.ts'), ' '), /index\.ts has been altered/],
      [() => appendFileSync(join(path, 'manifest.json'), '\n'), /manifest\.json has been altered/],
      [() => writeFileSync(join(path, 'extra.ts'), ''), /extra\.ts is not covered/],
      [() => unlinkSync(join(path, 'lib/x.ts')), /signed file lib\/x\.ts is missing/],
      [() => writeFileSync(join(path, SIGNATURE_FILE), 'no'), /is not JSON/],
      [() => writeFileSync(join(path, SIGNATURE_FILE), 'null'), /does not say/],
      [() => writeFileSync(join(path, SIGNATURE_FILE), signature.replace('Ed25519', 'none')), /does not say/],
      [
        () =>
          writeFileSync(join(path, SIGNATURE_FILE), signature.replace(/"signature": ".{8}/, '"signature": "AAAAAAAA')),
        /signature is wrong/,
      ],
      [
        () => writeFileSync(join(path, SIGNATURE_FILE), signature.replace(/"signature": "[^"]*"/, '"signature": ""')),
        /signature is wrong/,
      ],
    ];
    for (const [change, words] of spoil) {
      rmSync(path, { recursive: true });
      f.write('A', { 'lib/x.ts': 'export const x = 1;', [SIGNATURE_FILE]: signature });
      new Bundle(path, { trust });
      change();
      refused(() => new Bundle(path, { trust }), words);
      const allowed = new Bundle(path, { trust, allowUnsigned: true });
      assert.ok(!allowed.verdict.ok);
    }
    // Digests and signature of another key under the trusted key's name.
    rmSync(path, { recursive: true });
    f.sign(f.write('A'), generateKey('thief'));
    const stolen = f.read(path, SIGNATURE_FILE).replace(/"key": "[^"]*"/, `"key": "${f.key.id}"`);
    writeFileSync(join(path, SIGNATURE_FILE), stolen);
    refused(() => new Bundle(path, { trust }), /signature is wrong/);
  });
  it('keys are checked', () => {
    for (const line of [
      '',
      'nke-ed25519',
      'nke-ed25519 AAAA',
      'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5',
      'nke-ed25519 ' + 'A'.repeat(44),
    ])
      refused(() => parseKey(line), /not a public key/);
  });
});

describe('a hostile folder', () => {
  const cases: [string, (path: string) => void, RegExp][] = [
    ['a symbolic link to a file', p => symlinkSync('/etc/passwd', join(p, 'x.ts')), /x\.ts is a symbolic link/],
    ['a symbolic link to a folder', p => symlinkSync('/etc', join(p, 'lib')), /lib is a symbolic link/],
    [
      'a symbolic link for a manifest',
      p => {
        unlinkSync(join(p, 'manifest.json'));
        symlinkSync('/etc/hostname', join(p, 'manifest.json'));
      },
      /symbolic link/,
    ],
    ['a pipe', p => void execFileSync('mkfifo', [join(p, 'pipe')]), /pipe is not a plain file/],
    ['a huge file', p => writeFileSync(join(p, 'big.ts'), Buffer.alloc((1 << 20) + 1)), /at most 1048576/],
    [
      'many files',
      p => Array.from({ length: 130 }, (_, i) => writeFileSync(join(p, `f${i}.ts`), '')),
      /more than 128 files/,
    ],
    [
      'much in all',
      p => Array.from({ length: 5 }, (_, i) => writeFileSync(join(p, `f${i}.bin`), Buffer.alloc(1 << 20))),
      /larger than/,
    ],
    ['a hidden file', p => writeFileSync(join(p, '.x'), ''), /no file name for a bundle/],
    ['a name with a line end', p => writeFileSync(join(p, 'a\nb'), ''), /no file name for a bundle/],
    ['deep folders', p => mkdirSync(join(p, 'a/b/c/d/e'), { recursive: true }), /at most 4 levels/],
    ['no manifest', p => unlinkSync(join(p, 'manifest.json')), /has no manifest\.json/],
    ['no entry', p => unlinkSync(join(p, 'index.ts')), /entry index\.ts is not there/],
    ['bytes that are no text', p => writeFileSync(join(p, 'manifest.json'), Uint8Array.of(0xff, 0xfe)), /not UTF-8/],
  ];
  for (const [what, spoil, words] of cases)
    it(`${what}: refused`, t => {
      const path = new BundleFolder(t).write('A');
      spoil(path);
      refused(() => new Bundle(path, { allowUnsigned: true }), words);
    });
  it('something else than a bundle: refused', t => {
    const f = new BundleFolder(t);
    refused(() => new Bundle(join(f.dir, 'none.kext')), /there is no bundle/);
    refused(() => new Bundle(f.dir), /is not a bundle/);
    writeFileSync(join(f.dir, 'file.kext'), '');
    refused(() => new Bundle(join(f.dir, 'file.kext')), /is not a bundle/);
  });
});

describe('code', () => {
  const run = (files: Record<string, string>, t: TestContext) => {
    const path = new BundleFolder(t).write('A', files);
    const stack = new VirtualNet().addHost('a');
    stack.kexts.guard = timeGuard(150);
    return { stack, result: stack.kexts.load(new Bundle(path, { allowUnsigned: true }).kext()) };
  };
  it('of several modules, with every form of import and export', t => {
    const { result, stack } = run(
      {
        'index.ts': `/* a comment with import x from 'y' */
import type { Kpi } from 'nke/kpi';
import * as kpiModule from "nke/kpi";
import def, { a as alpha, default as same, type T, /* c */ later, } from './lib/x.js';
import './side.ts';
export { start as begin, alpha as reexported, kpiModule };
export { b as renamed, default as again } from './lib/x.ts';
export * from './lib/x.ts';
const text = \`
import z from 'nowhere'
export const no = 1;
\`;
export default class { readonly n: number = 1; }
export const one: number = 1, two = 2;
export function start(kpi: Kpi): number {
  const v: T = alpha;
  const all = [def(), v, same === def, later(), kpiModule.M_NULL, (globalThis as any).nkeSide, text.length > 0, one + two];
  return kpi.counters('t', { sum: all.every(x => x !== undefined) ? 1 : 0 });
}
export async function later2(): Promise<void> {}
export const stop = (): void => {};
`,
        'lib/x.ts': `export type T = number;
export default function named(): string { return 'd'; }
export const a = 1;
export let b = 2;
export function later(): number { return b; }
`,
        'side.ts': `(globalThis as any).nkeSide = 'side';`,
      },
      t,
    );
    assert.deepEqual(result, { ok: true });
    assert.equal(stack.counters.group('t')!.sum, 1);
    delete (globalThis as Record<string, unknown>).nkeSide;
  });
  it('exports stay live, and modules run once', () => {
    const { code } = toScript('export let n = 0; export const inc = () => { n++; };', 'f');
    const ns: Record<string, () => unknown> = {};
    new Script(code).runInThisContext()(
      () => ({}),
      (g: object) => Object.assign(ns, g),
      () => undefined,
    );
    (ns.inc!() as () => void)();
    assert.equal(ns.n!(), 1);
  });
  const refuse = (files: Record<string, string>, words: RegExp, t: TestContext) => refused(() => run(files, t), words);
  it('that does not compile is refused with file and line, before anything runs', t => {
    refuse({ 'index.ts': 'export function start() {}\nlet x: = 3' }, /^A\.kext\/index\.ts:2:8: /, t);
    refuse({ 'index.ts': '\n\nenum A { x }' }, /^A\.kext\/index\.ts:3:1: .*enum/, t);
    refuse({ 'index.ts': 'const a = 1;\nconst a = 2;' }, /^A\.kext\/index\.ts/, t);
    refuse({ 'index.ts': 'import fs from "node:fs"' }, /may import nke\/kpi and its own files/, t);
    refuse({ 'index.ts': 'import x from "../B.kext/index.ts"' }, /may import/, t);
    refuse({ 'index.ts': 'import x from "/etc/x.ts"' }, /may import/, t);
    refuse({ 'index.ts': 'import x from "./none.ts"' }, /may import/, t);
    refuse({ 'index.ts': '\nawait import("./x.ts")' }, /index\.ts:2: import\(\) is not possible/, t);
    refuse({ 'index.ts': 'export const a = import.meta.url' }, /import\.meta does not exist/, t);
  });
  it('that breaks when it runs is refused and leaves nothing', t => {
    const cases: [Record<string, string>, RegExp][] = [
      [{ 'index.ts': 'export const start = 1;' }, /does not export a function start/],
      [{ 'index.ts': 'export function start() {}' }, /does not export a function stop/],
      [{ 'index.ts': 'throw new Error("top");' }, /did not start: top/],
      [{ 'index.ts': 'import { none } from "./x.ts"; export {none as start};', 'x.ts': '' }, /"none" is not exported/],
      [
        { 'index.ts': 'import "./a.ts";', 'a.ts': 'import "./b.ts";', 'b.ts': 'import "./a.ts";' },
        /in a ring: index\.ts, a\.ts, b\.ts, a\.ts/,
      ],
      [{ 'index.ts': 'for (;;) {}' }, /did not return within 150 ms/],
      [
        {
          'index.ts': 'export function stop() {}\nexport function start(kpi) { kpi.counters("x", {}); while (true); }',
        },
        /did not return within 150 ms; taken back: counters x/,
      ],
    ];
    for (const [files, words] of cases) {
      const { result, stack } = run(files, t);
      assert.ok(!result.ok);
      assert.match(result.reason, words);
      assert.deepEqual(stack.kexts.list(), []);
      assert.ok(!stack.counters.has('x'));
    }
  });
  it('whose stop hangs is taken out by force', t => {
    const { result, stack } = run(
      {
        'index.ts': 'export function start(kpi) { return kpi.counters("x", {}); } export function stop() { for (;;); }',
      },
      t,
    );
    assert.ok(result.ok);
    const r = stack.kexts.unload('org.example.A');
    assert.ok(r.ok);
    assert.deepEqual(r.notes, [
      'its stop failed: stop of org.example.A did not return within 150 ms',
      'taken back: counters x',
    ]);
  });
  it('starts from scratch at each load, and is garbage afterwards', t => {
    const path = new BundleFolder(t).write('A', {
      'index.ts':
        'let n = 0; export function start(kpi) { return kpi.counters("x", { n: ++n }); } export function stop() {}',
    });
    const stack = new VirtualNet().addHost('a');
    const kext = new Bundle(path, { allowUnsigned: true }).kext();
    for (let i = 0; i < 3; i++) {
      assert.ok(stack.kexts.load(kext).ok);
      assert.equal(stack.counters.group('x')!.n, 1);
      assert.ok(stack.kexts.unload('org.example.A').ok);
    }
  });
  it('any text compiles or is a BundleError', () => {
    const words = fc.constantFrom(
      'import',
      'export',
      'default',
      '{',
      '}',
      '*',
      'as',
      'from',
      "'./x.ts'",
      'x',
      'const',
      'function',
      '=',
      '1',
      ';',
      '\n',
      '`',
      '/',
      '//',
      '(',
      ')',
      'class',
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(words, { maxLength: 12 }).map(w => w.join(' ')),
        ),
        text => {
          try {
            toScript(strip(text, 'f'), 'f');
          } catch (e) {
            assert.ok(e instanceof BundleError, String(e));
          }
        },
      ),
      { numRuns: 400, seed: 9 },
    );
  });
});

describe('plan: the preference list', () => {
  it('is checked whole before anything is loaded, each complaint at its place', t => {
    const f = new BundleFolder(t);
    f.write('Lib', {}, { version: '1.5' });
    f.write(
      'User',
      {},
      { dependencies: { 'org.example.Lib': '1.2' }, parameters: { n: { type: 'integer', default: 1, meaning: 'x' } } },
    );
    f.write('New', {}, { dependencies: { 'org.example.Lib': '2.0' } });
    f.write('Lost', {}, { dependencies: { 'org.example.Nowhere': '1' } });
    f.write('X', {}, { dependencies: { 'org.example.Y': '1' } });
    f.write('Y', {}, { dependencies: { 'org.example.X': '1' } });
    f.write('Kpi', {}, { dependencies: { 'org.nke.kpi.stack': '99' } });
    f.write('Syntax', { 'index.ts': 'let : = 1' });
    const catalog = new Catalog({ allowUnsigned: true });
    const plan = (list: Parameters<typeof planKexts>[0]) => planKexts(list, catalog, ['lo0', 'nke0'], f.dir);
    const complaints = (list: Parameters<typeof planKexts>[0]) => {
      const p = plan(list);
      assert.ok('complaints' in p);
      return p.complaints.map(c => `${c.pointer} ${c.text}`);
    };
    const ok = plan(['SCTP', { bundle: './Lib.kext' }, { bundle: 'User.kext', on: ['nke0'], params: { n: 7 } }]);
    assert.ok('steps' in ok);
    assert.deepEqual(
      ok.steps.map(s => [s.found.name, s.on, s.params]),
      [
        ['SCTP', [], {}],
        ['Lib.kext', [], {}],
        ['User.kext', ['nke0'], { n: 7 }],
      ],
    );
    assert.ok('steps' in plan(['./User.kext']));
    const expect: [Parameters<typeof planKexts>[0], RegExp[]][] = [
      [['TCP'], [/^\/0 there is no extension "TCP"; there is SCTP/]],
      [[{ bundle: './None.kext' }], [/^\/0\/bundle there is no bundle/]],
      [['SCTP', 'org.nke.SCTP'], [/^\/1 org\.nke\.SCTP is there already, as entry 1/]],
      [['SCTP', 'SCTPSupport'], [/^\/1 org\.nke\.SCTPSupport is loaded by an entry before/]],
      [['./New.kext'], [/^\/0 .*needs org\.example\.Lib 2\.0 or later; there is 1\.5/]],
      [['./Lost.kext'], [/^\/0 .*which is nowhere to be found/]],
      [['./X.kext'], [/^\/0 a dependency cycle: org\.example\.X needs org\.example\.Y needs org\.example\.X/]],
      [['./Kpi.kext'], [/needs org\.nke\.kpi\.stack 99 or later; there is 1\./]],
      [['./Syntax.kext'], [/^\/0 Syntax\.kext\/index\.ts:1:\d+: /]],
      [
        [{ bundle: './User.kext', on: ['lo0', 'eth0'], params: { n: 'x' } }, 'SCTQ'],
        [/^\/0\/on\/1 there is no interface "eth0"/, /^\/0\/params\/n parameter "n" is "x"/, /^\/1 there is no/],
      ],
      [[{ name: 'SCTP', params: { x: 1 } }], [/^\/0\/params\/x there is no parameter "x"; it has none/]],
    ];
    for (const [list, words] of expect) {
      const got = complaints(list);
      assert.equal(got.length, words.length, got.join('\n'));
      for (const [i, w] of words.entries()) assert.match(got[i]!, w);
    }
    const strict = planKexts(['./Lib.kext'], new Catalog(), [], f.dir);
    assert.ok('complaints' in strict && /is refused: it is not signed/.test(strict.complaints[0]!.text));
  });
  it('loads dependencies from beside the bundle, first, and refuses a ring at load too', t => {
    const f = new BundleFolder(t);
    const user = f.write('User', {}, { dependencies: { 'org.example.Lib': '1', 'org.nke.SCTPSupport': '1' } });
    f.write('Lib');
    const x = f.write('X', {}, { dependencies: { 'org.example.Y': '1' } });
    f.write('Y', {}, { dependencies: { 'org.example.X': '1' } });
    const stack = new VirtualNet().addHost('a');
    const catalog = new Catalog({ allowUnsigned: true });
    assert.ok(stack.kexts.load(catalog.bundle(user).make()).ok);
    assert.deepEqual(
      stack.kexts.list().map(k => k.identifier),
      ['org.example.Lib', 'org.nke.SCTPSupport', 'org.example.User'],
    );
    const r = stack.kexts.load(catalog.bundle(x).make());
    assert.ok(!r.ok && /cycle/.test(r.reason));
    assert.equal(stack.kexts.list().length, 3);
  });
});

describe('skeletons', () => {
  for (const kind of ['filter', 'family', 'protocol', 'socket-filter', 'library'])
    it(`of a ${kind}: loads as it is, passes its own test, leaves nothing`, t => {
      const f = new BundleFolder(t);
      const path = writeSkeleton('Mine', kind, f.dir);
      assert.deepEqual(runTests(path), ['index.test.ts']);
      f.sign(path);
      const stack = new VirtualNet().addHost('a');
      const kext = new Bundle(path, { trust: [parseKey(f.key.publicLine)] }).kext();
      assert.deepEqual(stack.kexts.load(kext), { ok: true });
      assert.deepEqual(stack.kexts.unload('org.example.Mine'), { ok: true });
    });
  it('refuse bad names and what is there', t => {
    const f = new BundleFolder(t);
    refused(() => writeSkeleton('../x', 'filter', f.dir), /no name for an extension/);
    refused(() => writeSkeleton('X', 'virus', f.dir), /no kind of extension/);
    writeSkeleton('X', 'filter', f.dir);
    refused(() => writeSkeleton('X', 'filter', f.dir), /is there already/);
  });
});

test('the manifests of shipped extensions say what their code says', () => {
  const here = fileURLToPath(new URL('..', import.meta.url));
  const root = here.endsWith('/dist/') ? join(here, '..') : here;
  for (const [name, shipped] of Object.entries(SHIPPED)) {
    const file = join(root, 'stack/kexts', `${name}.kext/manifest.json`);
    const { entry, ...said } = parseManifest(readFileSync(file, 'utf8'), file);
    assert.equal(entry, 'index.ts');
    const { parameters = {}, ...code } = shipped.make({}).manifest;
    assert.deepEqual(said, { ...code, parameters });
  }
});

test('the time limit: what returns, throws or hangs, also one inside the other', () => {
  const guard = timeGuard(100);
  assert.equal(
    guard('x', () => guard('y', () => 42)),
    42,
  );
  assert.throws(
    () =>
      guard('x', () => {
        throw new TypeError('own');
      }),
    TypeError,
  );
  assert.throws(
    () =>
      guard('x', () => {
        for (;;);
      }),
    /^Error: x did not return within 100 ms$/,
  );
});
