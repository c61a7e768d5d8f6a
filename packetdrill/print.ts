/**
 * The tree back to the dialect's text: for reports of what was expected and what came, and for making scripts. What is printed
 * parses to the same tree, positions and sources apart.
 */

import {
  ANY,
  type Cause,
  type Chunk,
  type Echoed,
  type Encap,
  type Expr,
  type IcmpPacket,
  type IpInfo,
  type Packet,
  type Parameter,
  type Script,
  type ScriptEvent,
  type SctpPacket,
  type Syscall,
  type Time,
} from './ast.js';
import {
  ADDRESS_TYPES,
  CAUSES,
  CHUNK_TYPES,
  CHUNKS,
  EDMIDS,
  type Field,
  type FieldKind,
  type Form,
  PARAMETER_TYPES,
  PARAMETERS,
} from './forms.js';

/** Names by number; of several names for a number the first. */
function reverse(names: ReadonlyMap<string, number>): ReadonlyMap<number, string> {
  const out = new Map<number, string>();
  for (const [name, n] of names) if (!out.has(n)) out.set(n, name);
  return out;
}

const NAMES: Partial<Record<FieldKind, ReadonlyMap<number, string>>> = {
  'address-types': reverse(ADDRESS_TYPES),
  'chunk-types': reverse(CHUNK_TYPES),
  'parameter-types': reverse(PARAMETER_TYPES),
  edmid: reverse(EDMIDS),
};

const hex = (n: number, digits = 2) => `0x${n.toString(16).padStart(digits, '0')}`;
const num = (v: unknown) => (v === ANY ? '...' : String(v));
const list = (items: readonly string[]) => `[${items.join(', ')}]`;

/** A string in double quotes with the escapes that the lexer knows. */
function quote(text: string): string {
  const inner = text.replace(/["\\]|[\p{Cc}]/gu, c => {
    if (c === '"' || c === '\\') return `\\${c}`;
    return c === '\n'
      ? '\\n'
      : c === '\t'
        ? '\\t'
        : c === '\r'
          ? '\\r'
          : `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return `"${inner}"`;
}

// -------------------------------------------------------------------------------------------------------------- elements

/** A field's value as the dialect writes it. `form` gives the flag letters. */
export function printValue(kind: FieldKind, value: unknown, form?: Form): string {
  if (value === ANY) return '...';
  switch (kind) {
    case 'u8':
    case 'u16':
    case 'u32':
      return String(value);
    case 'flags':
      return printFlags(value as number, form?.letters ?? '');
    case 'edmid':
      return NAMES.edmid!.get(value as number) ?? String(value);
    case 'bytes':
      return list(Array.from(value as Uint8Array, b => hex(b)));
    case 'gaps':
      return list((value as { start: unknown; end: unknown }[]).map(g => `${num(g.start)}:${num(g.end)}`));
    case 'u16-list':
    case 'u32-list':
      return list((value as number[]).map(String));
    case 'stream-sequences':
      return list((value as { sid: unknown; ssn: unknown }[]).map(s => `{${num(s.sid)},${num(s.ssn)}}`));
    case 'stream-messages':
      return list(
        (value as { sid: unknown; u: unknown; mid: unknown }[]).map(s => `{${num(s.sid)},${num(s.u)},${num(s.mid)}}`),
      );
    case 'address-types':
    case 'chunk-types':
    case 'parameter-types':
      return list(
        (value as number[]).map(
          n => NAMES[kind]!.get(n) ?? (n > 9 ? hex(n, kind === 'chunk-types' ? 2 : 4) : String(n)),
        ),
      );
    case 'ipv4':
    case 'ipv6':
      return String(value);
    case 'text':
      return quote(value as string);
    case 'parameters':
      return list((value as Parameter[]).map(printParameter));
    case 'parameter':
      return printParameter(value as Parameter);
    case 'chunk':
      return printChunk(value as Chunk);
  }
}

function printFlags(flags: number, letters: string): string {
  if (flags === 0) return '0';
  if (flags >> letters.length !== 0) return hex(flags);
  return [...letters].filter((_, i) => (flags & (1 << (letters.length - 1 - i))) !== 0).join('');
}

/** A number whose row says nothing about base: types of generic elements read better in hex. */
function printField(form: Form, field: Field, value: unknown): string {
  const generic = (field.key === 'type' || field.key === 'code') && typeof value === 'number';
  const text = generic ? hex(value, field.kind === 'u8' ? 2 : 4) : printValue(field.kind, value, form);
  return `${field.key}=${text}`;
}

function printElement(form: Form, element: Readonly<Record<string, unknown>>): string {
  const items: string[] = [];
  for (const field of form.fields) {
    const value = element[field.key];
    const absent = field.optional?.absent;
    const left = value === undefined || (Array.isArray(absent) && Array.isArray(value) && value.length === 0);
    if (field.optional === undefined || !left) items.push(printField(form, field, value));
  }
  if (form.tail !== undefined) {
    const tail = element[form.tail.key];
    if (tail === ANY) items.push('...');
    else if (form.tail.of === 'causes') items.push(...(tail as Cause[]).map(printCause));
    else if (form.tail.of === 'parameters') items.push(...(tail as Parameter[]).map(printParameter));
    else items.push(printParameter(tail as Parameter));
  }
  return `${form.name}[${items.join(', ')}]`;
}

const asRecord = (x: unknown) => x as Readonly<Record<string, unknown>>;

export function printChunk(chunk: Chunk): string {
  return printElement(CHUNKS.get(chunk.name)!, asRecord(chunk));
}

export function printParameter(parameter: Parameter): string {
  return printElement(PARAMETERS.get(parameter.name)!, asRecord(parameter));
}

export function printCause(cause: Cause): string {
  return printElement(CAUSES.get(cause.name)!, asRecord(cause));
}

// --------------------------------------------------------------------------------------------------------------- packets

export function printPacket(p: Packet): string {
  const parts = [p.direction === 'in' ? '<' : '>', ...p.encap.map(printEncap)];
  if (p.ip !== undefined) parts.push(printIpInfo(p.ip));
  if (p.ports !== undefined) parts.push(`${p.ports.src} > ${p.ports.dst}`);
  parts.push(p.transport === 'sctp' ? printSctp(p) : printIcmp(p));
  return parts.join(' ');
}

function printEncap(e: Encap): string {
  if (e.kind === 'gre') return 'gre :';
  if (e.kind !== 'mpls') return `${e.kind} ${e.ip === undefined ? '' : `${printIpInfo(e.ip)} `}${e.src} > ${e.dst} :`;
  const labels = e.labels.map(l => `(label ${l.label}, tc ${l.tc}, ${l.bottom ? '[S], ' : ''}ttl ${l.ttl})`);
  return `mpls ${labels.join(', ')} :`;
}

const ECN_NAMES = ['noecn', 'ect1', 'ect0', 'ce'] as const;

function printIpInfo(ip: IpInfo): string {
  const items: string[] = [];
  if (ip.ttl !== undefined) items.push(`ttl ${ip.ttl}`);
  if (ip.tos !== undefined) items.push(`tos ${hex(ip.tos)}`);
  if (ip.dscp !== undefined) items.push(`dscp ${hex(ip.dscp)}`);
  if (ip.ecn !== undefined) items.push(ip.ecn === 'ect01' ? 'ect01' : ECN_NAMES[ip.ecn]);
  if (ip.flowlabel !== undefined) items.push(`flowlabel ${hex(ip.flowlabel, 5)}`);
  return `(${items.join(', ')})`;
}

function printSctp(p: SctpPacket): string {
  const head: string[] = [];
  if (p.checksum !== undefined) head.push(p.checksum === 'bad' ? 'bad_crc32c' : 'zero_checksum');
  if (p.tag !== undefined) head.push(`tag=${p.tag}`);
  const udp = p.udp === undefined ? '' : `/udp(${p.udp.src} > ${p.udp.dst})`;
  const body = p.raw === undefined ? (p.chunks ?? []).map(printChunk).join('; ') : list(Array.from(p.raw, b => hex(b)));
  return `sctp${head.length > 0 ? `(${head.join(', ')})` : ''}${udp}:${body === '' ? '' : ` ${body}`}`;
}

function printEchoed(e: Echoed): string {
  if (e.kind === 'udp') return `[udp(${e.len})]`;
  if (e.kind === 'tcp') return `[${e.start}:${e.end}(${e.len})]`;
  return `[sctp(${e.tag})${e.udp === undefined ? '' : `/udp(${e.udp.src} > ${e.udp.dst})`}]`;
}

function printIcmp(p: IcmpPacket): string {
  const parts = ['icmp', p.type];
  if (p.code !== undefined) parts.push(p.code);
  if (p.mtu !== undefined) parts.push(`mtu ${p.mtu}`);
  if (p.id !== undefined) parts.push(`id ${p.id}`);
  if (p.echoed !== undefined) parts.push(printEchoed(p.echoed));
  return parts.join(' ');
}

// ---------------------------------------------------------------------------------------------------------- system calls

export function printExpr(e: Expr): string {
  switch (e.kind) {
    case 'int':
      return e.hex ? hex(e.value, 1) : decimal(e.value);
    case 'word':
      return e.word;
    case 'or':
      return e.terms.map(printExpr).join('|');
    case 'string':
      return quote(e.value);
    case 'list':
      return list(e.items.map(printExpr));
    case 'struct':
      return `{${e.fields
        .map(f => {
          const count = f.count === undefined ? '' : `(${printExpr(f.count)})`;
          return `${f.name === undefined ? '' : `${f.name}${count}=`}${printExpr(f.value)}`;
        })
        .join(', ')}}`;
    case 'call':
      return `${e.name}(${e.args.map(printExpr).join(', ')})`;
    case 'any':
      return '...';
    case 'null':
      return 'NULL';
  }
}

export function printSyscall(s: Syscall): string {
  const errno = s.errno === undefined ? '' : ` ${s.errno}`;
  const note = s.note === undefined ? '' : ` (${s.note})`;
  return `${s.name}(${s.args.map(printExpr).join(', ')}) = ${printExpr(s.result)}${errno}${note}`;
}

// ---------------------------------------------------------------------------------------------------------------- script

/** Digits and a point, never an exponent: the lexer knows none. */
function decimal(n: number): string {
  const plain = String(n);
  return plain.includes('e') ? n.toFixed(12).replace(/\.?0+$/, '') : plain;
}

export function printTime(t: Time): string {
  switch (t.kind) {
    case 'any':
      return '*';
    case 'absolute':
      return decimal(t.seconds);
    case 'relative':
      return `+${decimal(t.seconds)}`;
    case 'window':
      return t.relative ? `+${decimal(t.from)}~+${decimal(t.to)}` : `${decimal(t.from)}~${decimal(t.to)}`;
    case 'blocking':
      return `${t.relative ? '+' : ''}${decimal(t.from)}...${decimal(t.to)}`;
  }
}

export function printEvent(e: ScriptEvent): string {
  const what = () => {
    switch (e.kind) {
      case 'packet':
        return printPacket(e.packet);
      case 'syscall':
        return printSyscall(e.call);
      case 'command':
        return `\`${e.command.text}\``;
      case 'code':
        return `%{${e.text}}%`;
    }
  };
  return `${printTime(e.time)} ${what()}`;
}

function printOption(name: string, value: string | undefined): string {
  if (value === undefined) return `--${name}`;
  // A value that is itself SYM="text" keeps its quotes inside.
  const plain = /^[A-Za-z0-9_.:/,=-]+$/.test(value) || /^\w+=(?:"[^"]*"|`[^`]*`)$/.test(value);
  return `--${name}=${plain ? value : quote(value)}`;
}

/** A whole script, one event a line. */
export function printScript(s: Script): string {
  const lines = s.options.map(o => printOption(o.name, o.value));
  if (s.init !== undefined) lines.push(`\`${s.init.text}\``);
  lines.push(...s.events.map(printEvent));
  if (s.cleanup !== undefined) lines.push(`\`${s.cleanup.text}\``);
  return `${lines.join('\n')}\n`;
}
