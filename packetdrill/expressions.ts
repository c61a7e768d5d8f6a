/**
 * The values in system calls: numbers, addresses, struct literals and I/O vectors out of expressions, and the comparison of
 * what a call gave with what a literal says (facts parts 5 and 5.2).
 */

import type { SockAddr } from '../stack/kern/socket.js';
import { AF_INET, AF_INET6, InAddr } from '../stack/netinet/in.js';
import { type CRecord, type CType, type CValue, LAYOUTS, type Layout, swap16, swap32 } from '../stack/sctp/layout.js';
import type { Expr, StructExpr, StructField } from './ast.js';
import { ScriptError } from './encode.js';
import type { Difference } from './result.js';
import { fieldName, isAssocId } from './structs.js';
import { wordValue } from './values.js';

const OPERATORS: Readonly<Record<string, (n: number) => number>> = {
  htonl: swap32,
  ntohl: swap32,
  htons: swap16,
  ntohs: swap16,
};

/** The number that an expression stands for; undefined for `...`. A list of one is its element. */
export function numberOf(e: Expr | undefined): number | undefined {
  if (e === undefined) return undefined;
  switch (e.kind) {
    case 'int':
      return e.value;
    case 'word': {
      const n = wordValue(e.word);
      if (n === undefined) throw new ScriptError(`"${e.word}" is no constant that FreeBSD or this tool knows`, e.at);
      return n;
    }
    case 'or':
      return e.terms.reduce((all, t) => (all | need(t, 'a number')) >>> 0, 0);
    case 'call': {
      const f = Object.hasOwn(OPERATORS, e.name) ? OPERATORS[e.name] : undefined;
      if (f !== undefined && e.args.length === 1) {
        const n = numberOf(e.args[0]);
        return n === undefined ? undefined : f(n);
      }
      if (e.name === 'sizeof' && e.args.length === 1) return sizeOf(e.args[0]!);
      throw new ScriptError(`${e.name}(…) is not a number`, e.at);
    }
    case 'null':
      return 0;
    case 'any':
      return undefined;
    case 'list':
      if (e.items.length === 1) return numberOf(e.items[0]);
      break;
    default:
  }
  throw new ScriptError('a number is expected here', e.at);
}

/** sizeof(struct sctp_rtoinfo), sizeof(int), …: amd64's. */
const SIZES: ReadonlyMap<string, number> = new Map([
  ...['int', 'uint32_t', 'int32_t', 'unsigned', 'socklen_t', 'in_addr_t'].map(t => [t, 4] as const),
  ...['uint16_t', 'int16_t', 'short', 'in_port_t'].map(t => [t, 2] as const),
  ...['uint8_t', 'int8_t', 'char', 'sa_family_t'].map(t => [t, 1] as const),
  ...['uint64_t', 'int64_t', 'long', 'size_t'].map(t => [t, 8] as const),
  ['in_addr', 4],
  ['in6_addr', 16],
  ['sockaddr', 16],
  ['sockaddr_in', 16],
  ['sockaddr_in6', 28],
  ['sockaddr_storage', 128],
]);
function sizeOf(e: Expr): number {
  const name = e.kind === 'word' ? e.word : '';
  const size = SIZES.get(name) ?? LAYOUTS.get(name)?.size;
  if (size === undefined) throw new ScriptError('sizeof wants the name of a struct or a type', e.at);
  return size;
}

/** A number that must be there. */
export function need(e: Expr | undefined, what: string): number {
  const n = numberOf(e);
  if (n === undefined) throw new ScriptError(`the call needs ${what}`, e?.at);
  return n;
}

/** An address in an expression: `inet_addr("…")`, `inet_pton(…, "…")`, `{s_addr=…}`, `"…"`, INADDR_ANY. */
export function inAddr(e: Expr): InAddr | undefined {
  if (e.kind === 'any') return undefined;
  if (e.kind === 'struct' && e.fields.length === 1) return inAddr(e.fields[0]!.value);
  if (e.kind === 'list' && e.items.length === 1) return inAddr(e.items[0]!);
  const text = e.kind === 'string' ? e : e.kind === 'call' ? e.args[e.args.length - 1] : undefined;
  if (text?.kind === 'any') return undefined;
  const a = text?.kind === 'string' ? InAddr.parse(text.value) : undefined;
  if (a !== undefined) return a;
  const n = e.kind === 'call' || e.kind === 'string' ? undefined : numberOf(e);
  if (n !== undefined) return new InAddr(4, 0, 0, 0xffff, swap32(n));
  throw new ScriptError('an address is expected here', e.at);
}

const fieldOf = (e: StructExpr, ...names: readonly string[]): StructField | undefined =>
  e.fields.find(f => f.name !== undefined && names.includes(f.name));

const FAMILY = ['sa_family', 'sin_family', 'sin6_family'] as const;
const familyText = (n: number): string =>
  n === AF_INET || n === 4 ? 'AF_INET' : n === AF_INET6 || n === 6 ? 'AF_INET6' : String(n);

/** A sockaddr literal. `...` and parts of it left open are the obvious one's; NULL is undefined. */
export function sockaddr(e: Expr | undefined, obvious: SockAddr | undefined): SockAddr | undefined {
  if (e === undefined || e.kind === 'any') return obvious;
  if (e.kind === 'null' || (e.kind === 'int' && e.value === 0)) return undefined;
  if (e.kind === 'list' && e.items.length === 1) return sockaddr(e.items[0], obvious);
  if (e.kind !== 'struct') throw new ScriptError('a sockaddr literal, NULL or ... is expected here', e.at);
  const port = numberOf(fieldOf(e, 'sin_port', 'sin6_port')?.value);
  const where = fieldOf(e, 'sin_addr', 'sin6_addr');
  const addr = where === undefined ? undefined : inAddr(where.value);
  const family = numberOf(fieldOf(e, ...FAMILY)?.value);
  if (addr === undefined && obvious === undefined) throw new ScriptError('the address is not known here', e.at);
  if (family !== undefined && addr !== undefined && (family === AF_INET6) !== (addr.family === 6))
    throw new ScriptError('the address does not fit sa_family', e.at);
  return { addr: addr ?? obvious!.addr, port: port === undefined ? (obvious?.port ?? 0) : swap16(port) };
}

/** sockaddrs of a list: `[{…}, {…}]`, `...` (the obvious one) or a single literal. */
export function sockaddrs(e: Expr | undefined, obvious: SockAddr): SockAddr[] {
  if (e === undefined || e.kind === 'any') return [obvious];
  if (e.kind === 'null') return [];
  const items = e.kind === 'list' ? e.items : [e];
  return items.flatMap(x => sockaddr(x, obvious) ?? []);
}

// -------------------------------------------------------------------------------------------------------------- literals

/** The record that a literal writes; `...` and fields left out are absent. A list stands for a struct of one field. */
export function recordOf(e: Expr | undefined, l: Layout, peer: SockAddr): CRecord {
  const out: CRecord = {};
  if (e === undefined || e.kind === 'any' || e.kind === 'null') return out;
  if (e.kind !== 'struct') {
    const first = l.fields[0]!;
    const only = e.kind === 'list' && e.items.length === 1 ? e.items[0]! : undefined;
    if (only?.kind === 'struct' && first.type.kind !== 'sockaddrs') return recordOf(only, l, peer);
    const v = literalValue(e, first.type, peer);
    if (v !== undefined) out[first.name] = v;
    return out;
  }
  for (const [i, f] of e.fields.entries()) {
    if (f.name === undefined && f.value.kind === 'any') continue;
    const field = field_(l, f, i);
    const v = literalValue(f.value, field.type, peer);
    if (v !== undefined) out[field.name] = v;
  }
  return out;
}

/** The field of the layout that a field of a literal means: by its name, or by its place. */
function field_(l: Layout, f: StructField, i: number) {
  const field = f.name === undefined ? l.fields[i] : l.fields.find(x => x.name === fieldName(f.name!));
  if (field === undefined) throw new ScriptError(`struct ${l.name} has no field ${f.name ?? i + 1}`, f.at);
  return field;
}

function literalValue(e: Expr, type: CType, peer: SockAddr): CValue {
  if (type.kind === 'sockaddr') return sockaddr(e, peer);
  if (e.kind === 'any') return undefined;
  if (type.kind === 'struct') return recordOf(e, type.layout, peer);
  if (type.kind === 'sockaddrs') return sockaddrs(e, peer);
  if (type.kind === 'tail') {
    if (e.kind === 'null') return [];
    if (e.kind === 'string') return [...new TextEncoder().encode(e.value)];
    const items = e.kind === 'list' ? e.items : [e];
    if (items.some(x => x.kind === 'any')) return undefined;
    return items.map(x => need(x, 'a number'));
  }
  return numberOf(e);
}

/** How a value got from the stack is shown in the script's numbers; for TSNs in notifications. */
export type Translate = (field: string, n: number) => number;

/** Compares a record with the literal; fields that the literal leaves out or open are not looked at. */
export function compareRecord(
  where: string,
  e: Expr,
  l: Layout,
  got: CRecord,
  out: Difference[],
  translate: Translate = (_f, n) => n,
): void {
  if (e.kind === 'any' || e.kind === 'null') return;
  if (e.kind !== 'struct') {
    const first = l.fields[0]!;
    if (first.type.kind === 'sockaddrs') {
      compareAddresses(where, e, got[first.name] as readonly SockAddr[], out);
      return;
    }
    const only = e.kind === 'list' && e.items.length === 1 ? e.items[0]! : undefined;
    if (only?.kind === 'struct') {
      compareRecord(where, only, l, got, out, translate);
      return;
    }
    const n = numberOf(e);
    if (n !== undefined) compareNumber(where, e, n, Number(got[first.name] ?? 0), first.type, out);
    return;
  }
  for (const [i, f] of e.fields.entries()) {
    if (f.name === undefined && f.value.kind === 'any') continue;
    const field = field_(l, f, i);
    const name = `${where}, ${f.name ?? field.name}`;
    const v = got[field.name];
    if (f.value.kind === 'any') continue;
    if (field.type.kind === 'struct')
      compareRecord(name, f.value, field.type.layout, (v ?? {}) as CRecord, out, translate);
    else if (field.type.kind === 'sockaddr') compareAddress(name, f.value, v as SockAddr | undefined, out);
    else if (field.type.kind === 'tail') compareList(name, f.value, v, out);
    else if (field.type.kind === 'sockaddrs') compareAddresses(name, f.value, v as readonly SockAddr[], out);
    else {
      const n = numberOf(f.value);
      // FreeBSD leaves the id of one-to-one sockets as it was handed in.
      if (n === undefined || (n === 0 && isAssocId(field.name))) continue;
      compareNumber(name, f.value, n, translate(field.name, Number(v ?? 0)), field.type, out);
    }
  }
}

/** Numbers as the field's type holds them: -1 and 0xffffffff are one value of a u32. */
function compareNumber(field: string, written: Expr, e: number, g: number, type: CType, out: Difference[]): void {
  const scalar = type.kind === 'scalar' ? type.scalar : 'u32';
  const norm = (n: number): number =>
    scalar === 'u8' ? n & 0xff : scalar === 'u16' ? n & 0xffff : scalar === 'u64' ? n : n >>> 0;
  if (norm(e) === norm(g)) return;
  const only = written.kind === 'list' ? written.items[0] : written;
  out.push({ field, expected: only?.kind === 'word' ? `${e} (${only.word})` : String(e), got: String(g) });
}

function compareList(field: string, e: Expr, v: CValue, out: Difference[]): void {
  const got = Array.isArray(v) || v instanceof Uint8Array ? [...(v as readonly number[])] : [];
  if (e.kind === 'any' || (e.kind === 'list' && e.items.length === 1 && e.items[0]!.kind === 'any')) return;
  const want = e.kind === 'string' ? [...new TextEncoder().encode(e.value)] : listOf(e).map(numberOf);
  if (want.length !== got.length || want.some((x, i) => x !== undefined && x !== got[i]))
    out.push({ field, expected: `[${want.map(x => x ?? '...').join(', ')}]`, got: `[${got.join(', ')}]` });
}

export const listOf = (e: Expr): readonly Expr[] => (e.kind === 'list' ? e.items : [e]);

export const addressText = (a: SockAddr | undefined): string => (a === undefined ? 'none' : `${a.addr} port ${a.port}`);

/** An address literal against one; v4-mapped and plain IPv4 are the same address. */
export function compareAddress(field: string, e: Expr, got: SockAddr | undefined, out: Difference[]): void {
  if (e.kind === 'any') return;
  const want = sockaddr(e, got);
  const family = e.kind === 'struct' ? numberOf(fieldOf(e, ...FAMILY)?.value) : undefined;
  if (got !== undefined && family !== undefined && family !== (got.addr.family === 6 ? AF_INET6 : AF_INET)) {
    out.push({ field: `${field}, sa_family`, expected: familyText(family), got: familyText(got.addr.family) });
    return;
  }
  const plain = (a: InAddr): InAddr => (a.isV4Mapped ? new InAddr(4, 0, 0, 0xffff, a.w3) : a);
  const equal =
    want === undefined || got === undefined
      ? want === got
      : want.port === got.port && plain(want.addr).equals(plain(got.addr));
  if (!equal) out.push({ field, expected: addressText(want), got: addressText(got) });
}

/** Addresses in any order: `...` and `[...]` are not looked at, `...` among others stands for any one. */
export function compareAddresses(field: string, e: Expr, got: readonly SockAddr[], out: Difference[]): void {
  const items = listOf(e);
  if (e.kind === 'null' || (items.length === 1 && items[0]!.kind === 'any')) return;
  const left = [...got];
  const missing: string[] = [];
  for (const item of items) {
    if (item.kind === 'any') continue;
    const at = left.findIndex(a => {
      const differences: Difference[] = [];
      compareAddress(field, item, a, differences);
      return differences.length === 0;
    });
    if (at < 0) missing.push(addressText(sockaddr(item, got[0])));
    else left.splice(at, 1);
  }
  if (missing.length > 0 || items.length !== got.length)
    out.push({
      field,
      expected: missing.length > 0 ? missing.join(', ') : `${items.length} of them`,
      got: got.map(addressText).join(', ') || 'none',
    });
}

// ----------------------------------------------------------------------------------------------------------- I/O vectors

/** One element of an I/O vector: what its base is said to hold, and its length. */
export interface Iovec {
  readonly base: Expr;
  readonly len: number;
}

/** `[{iov_base=…, iov_len=N}, {…, N}]` */
export function iovecs(e: Expr | undefined): Iovec[] {
  if (e === undefined || e.kind === 'null') return [];
  if (e.kind !== 'list') throw new ScriptError('a list of iovecs is expected here', e.at);
  return e.items.map(x => {
    if (x.kind !== 'struct') throw new ScriptError('an iovec is expected here', x.at);
    const base = fieldOf(x, 'iov_base') ?? x.fields[0];
    const len = fieldOf(x, 'iov_len') ?? x.fields[1];
    if (base === undefined || len === undefined) throw new ScriptError('an iovec has a base and a length', x.at);
    return { base: base.value, len: need(len.value, 'iov_len') };
  });
}

/** A field of a struct literal by name. */
export const member = (e: StructExpr, name: string): StructField | undefined => fieldOf(e, name);
