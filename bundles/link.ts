/**
 * From the files of a bundle to running code, without a build: types are stripped by swc (which leaves every character in
 * its place, so that lines in stack traces are right), imports and exports are turned into calls, and each module is
 * compiled as a script of this realm and run within a time limit.
 *
 * Why not import(): a module that was imported can never be unloaded again, and its top level cannot be interrupted. A
 * script is garbage when its extension is gone. The price: named imports are bound when the module starts (two modules
 * that import each other in a ring are refused), and there is no import(), import.meta or await at the top level.
 */

import { createRequire } from 'node:module';
import { Script } from 'node:vm';
import { type Export, type Import, parse, type StaticImport } from 'es-module-lexer/js';
import { BundleError } from './error.js';

export type Namespace = Readonly<Record<string, unknown>>;
type Factory = (
  load: (specifier: string) => Namespace,
  exports: (getters: Record<string, () => unknown>) => void,
) => void;

interface Stripper {
  transformSync(source: string, options: { mode: 'strip-only'; filename: string; module: boolean }): { code: string };
}
let stripper: Stripper | undefined;

/** TypeScript to JavaScript, types replaced by spaces. Throws BundleError with file, line and column. */
export function strip(source: string, file: string): string {
  // 80 ms and 4 MB: only for who loads a bundle.
  stripper ??= createRequire(import.meta.url)('@swc/wasm-typescript') as Stripper;
  try {
    return stripper.transformSync(source, { mode: 'strip-only', filename: file, module: true }).code;
  } catch (e) {
    const d = e as { message?: string; startLine?: number; startColumn?: number };
    const at = d.startLine === undefined ? '' : `:${d.startLine}:${(d.startColumn ?? 0) + 1}`;
    throw new BundleError('EINVAL', `${file}${at}: ${d.message ?? String(e)}`);
  }
}

const lineOf = (source: string, offset: number): number => source.slice(0, offset).split('\n').length;
/** The same text with everything but its line ends made into spaces. */
const blank = (text: string): string => text.replace(/[^\n\r]/g, ' ');
const NAME = '[A-Za-z_$][\\w$]*';
const CLAUSE = new RegExp(`^(?:(?<def>${NAME})\\s*,?\\s*)?(?:\\*\\s*as\\s+(?<ns>${NAME})|\\{(?<named>[^{}]*)\\})?$`);

/** `import ...` as declarations. */
function importPrelude(clause: string, n: number, fail: (why: string) => never): string {
  const m = CLAUSE.exec(clause.trim());
  if (m === null) return fail('this form of import is not known');
  const { def, ns, named } = m.groups!;
  const out: string[] = [];
  if (def !== undefined) out.push(`const ${def} = __m${n}.default;`);
  if (ns !== undefined) out.push(`const ${ns} = __m${n};`);
  for (const part of (named ?? '').split(',').map(p => p.trim())) {
    if (part === '') continue;
    const [, from, to] =
      new RegExp(`^(${NAME})(?:\\s+as\\s+(${NAME}))?$`).exec(part) ?? fail(`"${part}" is not known here`);
    out.push(`const ${to ?? from} = __named(__m${n}, ${n}, "${from}");`);
  }
  return out.join(' ');
}

/** Takes comments out of a piece of source without strings. */
const uncomment = (text: string): string => text.replace(/\/\*[\s\S]*?\*\//g, ' ').replace(/\/\/[^\n]*/g, ' ');

/** A module as the body of a function of (__load, __export, __named), lines kept. Throws BundleError. */
export function toScript(source: string, file: string): { code: string; imports: readonly string[] } {
  let imports: readonly Import[];
  let exports: readonly Export[];
  try {
    [imports, exports] = parse(source);
  } catch (e) {
    const at = (e as { idx?: number }).idx;
    throw new BundleError('EINVAL', `${file}${at === undefined ? '' : `:${lineOf(source, at)}`}: syntax error`);
  }
  const failAt =
    (offset: number) =>
    (why: string): never => {
      throw new BundleError('EINVAL', `${file}:${lineOf(source, offset)}: ${why}`);
    };
  const edits: { from: number; to: number; text: string }[] = [];
  const prelude: string[] = [];
  const getters: string[] = [];
  const specifiers: string[] = [];
  for (const [n, i] of imports.entries()) {
    const fail = failAt(i.importStart);
    if (i.type === 'dynamic') return fail('import() is not possible in an extension; import at the top');
    if (i.type === 'import-meta') return fail('import.meta does not exist in an extension');
    const s: StaticImport = i;
    specifiers.push(s.specifier);
    prelude.push(`const __m${n} = __load(${JSON.stringify(s.specifier)});`);
    const statement = source.slice(s.importStart, s.importEnd);
    edits.push({ from: s.importStart, to: s.importEnd, text: blank(statement) });
    if (statement.startsWith('export')) continue;
    const clause = uncomment(source.slice(s.importStart + 6, s.start - 1));
    const from = /^([\s\S]*?)\s*\bfrom\s*$/.exec(clause);
    if (from !== null) prelude.push(importPrelude(from[1]!, n, fail));
  }
  let anonymous = 0;
  const braces = new Set<number>();
  for (const e of exports) {
    if (e.type === 'reexport-all') {
      prelude.push(
        `__export(Object.fromEntries(Object.keys(__m${e.importIndex}).filter(k => k !== "default").map(k => [k, () => __m${e.importIndex}[k]])));`,
      );
      continue;
    }
    if (e.type !== 'direct') {
      // What was imported above and is exported by a statement without "from".
      if (!imports.some(x => x.importStart === e.exportStart) && !braces.has(e.exportStart)) {
        braces.add(e.exportStart);
        const end = source.indexOf('}', e.exportStart) + 1;
        edits.push({ from: e.exportStart, to: end, text: blank(source.slice(e.exportStart, end)) });
      }
      const name = 'importName' in e ? `[${JSON.stringify(e.importName)}]` : '';
      getters.push(`${JSON.stringify(e.name)}: () => __m${e.importIndex}${name}`);
      continue;
    }
    const rest = source.slice(e.exportStart + 6);
    let local = e.localName;
    if (/^\s*(?:\/\*[\s\S]*?\*\/\s*)*\{/.test(rest)) {
      if (!braces.has(e.exportStart)) {
        braces.add(e.exportStart);
        const end = source.indexOf('}', e.exportStart) + 1;
        edits.push({ from: e.exportStart, to: end, text: blank(source.slice(e.exportStart, end)) });
      }
    } else if (!braces.has(e.exportStart)) {
      braces.add(e.exportStart);
      const word = /^\s+default\b/.exec(rest);
      const to = e.exportStart + 6 + (word?.[0].length ?? 0);
      if (word !== null && local === undefined) local = `__default${anonymous++}`;
      const isNew = word !== null && local!.startsWith('__default');
      edits.push({
        from: e.exportStart,
        to,
        text: isNew ? `const ${local} = ` : blank(source.slice(e.exportStart, to)),
      });
    }
    getters.push(`${JSON.stringify(e.name)}: () => ${local ?? e.name}`);
  }
  let body = source;
  for (const x of edits.sort((a, b) => b.from - a.from)) body = body.slice(0, x.from) + x.text + body.slice(x.to);
  const head = `"use strict"; __export({${getters.join(', ')}}); ${prelude.join(' ')} `;
  return { code: `(function (__load, __export, __named) {${head}${body}\n})`, imports: specifiers };
}

/** A module's import by name, which must exist there. */
function named(file: string) {
  return (ns: Namespace, _n: number, name: string): unknown => {
    if (!(name in ns))
      throw new BundleError('EINVAL', `${file}: "${name}" is not exported by the module it is imported from`);
    return ns[name];
  };
}

/** The modules of one bundle, compiled; each `instantiate` runs them anew. */
export class Program {
  readonly #name: string;
  readonly #scripts = new Map<string, { script: Script; resolve: ReadonlyMap<string, string> }>();
  readonly #entry: string;

  /**
   * Compiles the entry and what it imports. `files`: sources by path; `builtins`: what else may be imported. Throws
   * BundleError with file and line; nothing of the code has run then.
   */
  constructor(name: string, files: ReadonlyMap<string, string>, entry: string, builtins: ReadonlySet<string>) {
    this.#name = name;
    this.#entry = entry;
    const visit = (path: string): void => {
      if (this.#scripts.has(path)) return;
      const file = `${name}/${path}`;
      const source = files.get(path)!;
      const js = path.endsWith('.ts') ? strip(source, file) : source;
      const { code, imports } = toScript(js, file);
      let script: Script;
      try {
        script = new Script(code, { filename: file });
      } catch (e) {
        const line = /^[^\n]*:(\d+)\n/.exec((e as Error).stack ?? '')?.[1];
        throw new BundleError('EINVAL', `${file}${line === undefined ? '' : `:${line}`}: ${(e as Error).message}`);
      }
      const resolve = new Map<string, string>();
      this.#scripts.set(path, { script, resolve });
      for (const s of imports) {
        const target = resolveImport(path, s, files, builtins);
        if (target === undefined)
          throw new BundleError(
            'EINVAL',
            `${file} imports "${s.slice(0, 80)}"; an extension may import ${[...builtins].join(', ')} and its own files (./FILE.ts)`,
          );
        resolve.set(s, target);
        if (!builtins.has(target)) visit(target);
      }
    };
    if (!files.has(entry)) throw new BundleError('ENOENT', `${name}: its entry ${entry} is not there`);
    visit(entry);
  }

  /**
   * Runs the modules, imports first, and gives the exports of the entry. Throws what they throw. The loader calls this as
   * part of start, so that its time limit holds for the top level too.
   */
  instantiate(builtins: Readonly<Record<string, Namespace>>): Namespace {
    const done = new Map<string, Namespace>();
    const running: string[] = [];
    const load = (path: string): Namespace => {
      const ready = done.get(path);
      if (ready !== undefined) return ready;
      if (running.includes(path))
        throw new BundleError(
          'EINVAL',
          `${this.#name}: modules import each other in a ring: ${[...running, path].join(', ')}`,
        );
      const { script, resolve } = this.#scripts.get(path)!;
      const ns: Record<string, unknown> = {};
      running.push(path);
      const factory = script.runInThisContext() as (
        load: Parameters<Factory>[0],
        exports: Parameters<Factory>[1],
        named: (ns: Namespace, n: number, name: string) => unknown,
      ) => void;
      factory(
        s => {
          const target = resolve.get(s)!;
          return Object.hasOwn(builtins, target) ? builtins[target]! : load(target);
        },
        getters => {
          for (const [name, get] of Object.entries(getters))
            if (!Object.hasOwn(ns, name)) Object.defineProperty(ns, name, { get, enumerable: true });
        },
        named(`${this.#name}/${path}`),
      );
      running.pop();
      done.set(path, ns);
      return ns;
    };
    return load(this.#entry);
  }
}

/** "./x.js" of a file "a/b.ts" to the path in the bundle, also where the source is a .ts file. */
function resolveImport(
  from: string,
  specifier: string,
  files: ReadonlyMap<string, string>,
  builtins: ReadonlySet<string>,
): string | undefined {
  if (builtins.has(specifier)) return specifier;
  if (!/^\.\.?\//.test(specifier)) return undefined;
  const parts = from.split('/').slice(0, -1);
  for (const step of specifier.split('/')) {
    if (step === '.') continue;
    if (step === '..') {
      if (parts.pop() === undefined) return undefined;
    } else parts.push(step);
  }
  const path = parts.join('/');
  return [path, path.replace(/\.js$/, '.ts')].find(p => files.has(p) && /\.(ts|js)$/.test(p));
}
