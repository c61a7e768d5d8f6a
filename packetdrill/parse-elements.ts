/**
 * Chunks, parameters and error causes: `NAME[key=value, …, TAIL]`, all of one shape, checked against the rows of forms.ts.
 * Fields may stand in any order, though the dialect fixes one; each is wanted exactly once.
 */

import { isIPv4, isIPv6 } from 'node:net';
import {
  ANY,
  type Cause,
  type Chunk,
  type Gap,
  type HeartbeatInformation,
  type Parameter,
  type Position,
} from './ast.js';
import type { Cursor } from './cursor.js';
import { ParseError } from './error.js';
import {
  ADDRESS_TYPES,
  CAUSES,
  CHUNK_TYPES,
  CHUNKS,
  EDMIDS,
  type Field,
  type Form,
  PARAMETER_TYPES,
  PARAMETERS,
} from './forms.js';

const MAX = { u8: 0xff, u16: 0xffff, u32: 0xffffffff } as const;

/** A wildcard that was written, for the rule that inbound packets are fully specified. */
interface Wild {
  readonly at: Position;
  readonly element: string;
  readonly key: string;
}

type Made = Record<string, unknown> & { name: string; at: Position };

/** `DIR` decides what may be left open. */
export function parseChunks(c: Cursor, direction: 'in' | 'out'): Chunk[] {
  const elements = new Elements(c, direction === 'in');
  const out: Chunk[] = [];
  if (c.token.kind !== 'word') return out;
  do out.push(elements.topChunk());
  while (c.accept(';'));
  return out;
}

class Elements {
  readonly #c: Cursor;
  readonly #inbound: boolean;
  #wilds: Wild[] = [];

  constructor(c: Cursor, inbound: boolean) {
    this.#c = c;
    this.#inbound = inbound;
  }

  topChunk(): Chunk {
    this.#wilds = [];
    const chunk = this.#chunk();
    if (this.#inbound)
      for (const w of this.#wilds)
        if (!mayBeOpenInbound(chunk.name, w, chunk))
          throw new ParseError(
            w.at,
            `${w.element}: ${w.key}=... cannot be sent: an inbound packet says what is in it`,
            `a value for ${w.key}`,
            '...',
          );
    return chunk;
  }

  readonly #chunk = (): Chunk => this.#element(CHUNKS, 'a chunk') as unknown as Chunk;
  readonly #parameter = (): Parameter => this.#element(PARAMETERS, 'a parameter') as unknown as Parameter;
  readonly #cause = (): Cause => this.#element(CAUSES, 'an error cause') as unknown as Cause;

  #element(forms: ReadonlyMap<string, Form>, what: string): Made {
    return this.#c.nested(() => {
      const c: Cursor = this.#c;
      const word = c.token;
      const form = word.kind === 'word' ? forms.get(word.text) : undefined;
      if (form === undefined) c.fail(what);
      const made: Made = { name: form.name, at: c.at() };
      c.take();
      c.expect('[', ` behind ${form.name}`);
      if (form.whole && c.token.kind === 'ellipsis') {
        for (const field of form.fields) {
          this.#wilds.push({ at: c.at(), element: form.name, key: field.key });
          made[field.key] = ANY;
        }
        c.take();
        c.expect(']');
        return made;
      }
      const lens = this.#items(form, made);
      this.#complete(form, made);
      this.#checkLength(form, made, lens);
      return made;
    });
  }

  /** Everything between the brackets, the closing one included. Returns where `len` was written. */
  #items(form: Form, made: Made): Position {
    const c: Cursor = this.#c;
    let len = made.at;
    const tail: unknown[] = [];
    let inTail = false;
    if (form.tail !== undefined && form.tail.of !== 'heartbeat-information') made[form.tail.key] = tail;
    c.list(']', () => {
      const t = c.token;
      if (t.kind === 'ellipsis' && form.tail !== undefined && !inTail) {
        made[form.tail.key] = this.#wild(form.name, form.tail.key);
        if (!c.is(']')) c.fail('`]` behind the `...` that stands for all that follows');
        return;
      }
      const field = t.kind === 'word' ? form.fields.find(x => x.key === t.text) : undefined;
      if (field !== undefined && !inTail) {
        if (field.key === 'len') len = c.at();
        this.#field(form, field, made);
        return;
      }
      if (form.tail === undefined || t.kind !== 'word' || c.peek().text === '=') c.fail(wanted(form, made, inTail));
      inTail = true;
      if (form.tail.of === 'parameters') tail.push(this.#parameter());
      else if (form.tail.of === 'causes') tail.push(this.#cause());
      else if (made[form.tail.key] !== undefined) c.fail('`]`: there is one parameter only');
      else if (t.text !== 'HEARTBEAT_INFORMATION') c.fail('HEARTBEAT_INFORMATION');
      else made[form.tail.key] = this.#parameter() as HeartbeatInformation;
    });
    return len;
  }

  #field(form: Form, field: Field, made: Made): void {
    const c: Cursor = this.#c;
    if (Object.hasOwn(made, field.key))
      throw new ParseError(c.at(), `${form.name}: ${field.key}= is there twice`, 'each field once', field.key);
    c.take();
    c.expect('=', ` behind ${field.key}`);
    made[field.key] = this.#value(form, field);
  }

  /** Required fields are there, left-out ones get what they stand for. */
  #complete(form: Form, made: Made): void {
    for (const field of form.fields) {
      if (Object.hasOwn(made, field.key)) continue;
      if (field.optional === undefined)
        throw new ParseError(made.at, `${form.name} lacks ${field.key}=`, `${field.key}=`, 'nothing');
      if (field.optional.absent !== undefined) made[field.key] = field.optional.absent;
    }
    if (form.tail?.of === 'heartbeat-information' && made[form.tail.key] === undefined)
      throw new ParseError(made.at, `${form.name} lacks HEARTBEAT_INFORMATION`, 'HEARTBEAT_INFORMATION', 'nothing');
    if (form.name === 'I_DATA' && (made.ppid === undefined) === (made.fsn === undefined))
      throw new ParseError(
        made.at,
        'I_DATA wants either ppid= (first fragment) or fsn= (another one)',
        'ppid= or fsn=',
        made.ppid === undefined ? 'neither' : 'both',
      );
    if ((made.sender_next_tsn === undefined) !== (made.receiver_next_tsn === undefined))
      throw new ParseError(made.at, `${form.name} wants sender_next_tsn= and receiver_next_tsn= together`);
  }

  /** Lengths that no packet can have (facts 4.1, 4.5): below the fixed part, and inbound below the bytes given. */
  #checkLength(form: Form, made: Made, at: Position): void {
    if (form.minimum === undefined || typeof made.len !== 'number') return;
    const bytes = made.val ?? made.info;
    const given = this.#inbound && bytes instanceof Uint8Array ? bytes.length : 0;
    const least = form.minimum + given;
    const exact = this.#inbound && form.name === 'COOKIE_ECHO' && bytes instanceof Uint8Array;
    if (made.len < least || (exact && made.len !== least))
      throw new ParseError(
        at,
        `${form.name}: len=${made.len}, but the header${given > 0 ? ` and ${given} bytes` : ''} take ${least}`,
        exact ? `len=${least}` : `len=${least} or more`,
        `len=${made.len}`,
      );
  }

  /** Takes the `...` that stands here. */
  #wild(element: string, key: string): typeof ANY {
    this.#wilds.push({ at: this.#c.at(), element, key });
    this.#c.take();
    return ANY;
  }

  #value(form: Form, field: Field): unknown {
    const c: Cursor = this.#c;
    if (c.token.kind === 'ellipsis') return this.#wild(form.name, field.key);
    const what = `${field.key}=`;
    switch (field.kind) {
      case 'u8':
      case 'u16':
      case 'u32':
        return c.number(`a number for ${what}`, MAX[field.kind]);
      case 'flags':
        return this.#flags(form);
      case 'edmid':
        return this.#numberOrName(EDMIDS, MAX.u32, `a number or SCTP_OVER_DTLS for ${what}`);
      case 'ipv4':
      case 'ipv6':
        return this.#addressOf(field.kind);
      case 'text':
        if (c.token.kind !== 'string') c.fail(`a string for ${what}`);
        return c.take().text;
      case 'parameter':
        return this.#parameter();
      case 'chunk':
        return this.#chunk();
      default:
        return this.#bracketed(form, field);
    }
  }

  /** Kinds that are written in brackets; `[...]` is the same as `...`. */
  #bracketed(form: Form, field: Field): unknown {
    const c: Cursor = this.#c;
    c.expect('[', ` or \`...\` for ${field.key}=`);
    if (c.token.kind === 'ellipsis') {
      const any = this.#wild(form.name, field.key);
      c.expect(']');
      return any;
    }
    const list = <T>(item: () => T) => c.list(']', item);
    switch (field.kind) {
      case 'bytes':
        return Uint8Array.from(list(() => c.number('a byte', 0xff)));
      case 'u16-list':
        return list(() => c.number('a number', MAX.u16));
      case 'u32-list':
        return list(() => c.number('a number', MAX.u32));
      case 'gaps':
        return list((): Gap => {
          const start = this.#num(form, field, 'the first offset of a gap block', MAX.u16);
          c.expect(':', ' between first and last offset');
          return { start, end: this.#num(form, field, 'the last offset of a gap block', MAX.u16) };
        });
      case 'stream-sequences':
        return list(() => this.#tuple(form, field, ['sid', 'ssn'], [MAX.u16, MAX.u16]));
      case 'stream-messages':
        return list(() => this.#tuple(form, field, ['sid', 'u', 'mid'], [MAX.u16, 1, MAX.u32]));
      case 'address-types':
        return list(() => this.#numberOrName(ADDRESS_TYPES, MAX.u16, 'IPv4, IPv6, HOSTNAME or a number'));
      case 'chunk-types':
        return list(() => this.#numberOrName(CHUNK_TYPES, MAX.u8, 'a chunk type by name or number'));
      case 'parameter-types':
        return list(() => this.#numberOrName(PARAMETER_TYPES, MAX.u16, 'a parameter type by name or number'));
      case 'parameters':
        return list(this.#parameter);
      default:
        throw new Error(`no brackets for a field of kind ${field.kind}`);
    }
  }

  #num(form: Form, field: Field, what: string, max: number): number | typeof ANY {
    return this.#c.token.kind === 'ellipsis' ? this.#wild(form.name, field.key) : this.#c.number(what, max);
  }

  /** `{1, 2}`, or with names `{sid=1, ssn=2}`. */
  #tuple(form: Form, field: Field, keys: readonly string[], max: readonly number[]): Record<string, unknown> {
    const c: Cursor = this.#c;
    c.expect('{', ` for {${keys.join(',')}}`);
    const out: Record<string, unknown> = {};
    for (const [i, key] of keys.entries()) {
      if (i > 0) c.expect(',', ` before ${key}`);
      if (c.acceptWord(key)) c.expect('=', ` behind ${key}`);
      out[key] = this.#num(form, field, key, max[i]!);
    }
    c.expect('}');
    return out;
  }

  #numberOrName(names: ReadonlyMap<string, number>, max: number, what: string): number {
    const c: Cursor = this.#c;
    if (c.isNumber()) return c.number(what, max);
    const known = c.token.kind === 'word' ? names.get(c.token.text) : undefined;
    if (known === undefined) c.fail(what);
    c.take();
    return known;
  }

  #flags(form: Form): number {
    const c: Cursor = this.#c;
    if (c.token.kind !== 'word')
      return c.number(`flags: a number${form.letters ? `, letters of ${form.letters}` : ''} or \`...\``, 0xff);
    const letters = form.letters ?? '';
    let flags = 0;
    for (const letter of c.token.text) {
      const index = letters.indexOf(letter);
      const bit = 1 << (letters.length - 1 - index);
      if (index < 0 || (flags & bit) !== 0)
        c.fail(
          letters === '' ? 'a number or `...` for flgs=' : `a number, or letters of ${letters}, each at most once`,
        );
      flags |= bit;
    }
    c.take();
    return flags;
  }

  /** An address, bare or in double quotes. */
  #addressOf(family: 'ipv4' | 'ipv6'): string {
    const c: Cursor = this.#c;
    const t = c.token;
    const good = family === 'ipv4' ? isIPv4 : isIPv6;
    if ((t.kind !== 'address' && t.kind !== 'string') || !good(t.text))
      c.fail(family === 'ipv4' ? 'an IPv4 address or `...`' : 'an IPv6 address or `...`');
    return c.take().text;
  }
}

/** What could have stood where something else does. */
function wanted(form: Form, made: Made, inTail: boolean): string {
  const left = inTail ? [] : form.fields.filter(x => !Object.hasOwn(made, x.key)).map(x => `${x.key}=`);
  const tail =
    form.tail === undefined
      ? []
      : [
          { parameters: 'a parameter', causes: 'an error cause', 'heartbeat-information': 'HEARTBEAT_INFORMATION' }[
            form.tail.of
          ],
        ];
  const all = [...left, ...tail];
  return all.length === 0 ? `\`]\` at the end of ${form.name}` : `${all.join(' or ')} in ${form.name}`;
}

/** The exceptions of facts 4.1: what the runner fills in by itself. */
function mayBeOpenInbound(chunk: string, wild: Wild, tree: Chunk): boolean {
  const { element, key } = wild;
  switch (element) {
    case 'INIT':
    case 'INIT_ACK':
      return key === 'tsn';
    case 'COOKIE_ECHO':
      // The length comes with the stored cookie; with bytes written out nothing else says it.
      return key === 'val' || (key === 'len' && tree.name === 'COOKIE_ECHO' && tree.val === ANY);
    case 'HEARTBEAT_ACK':
      return key === 'info';
    case 'HEARTBEAT_INFORMATION':
      return key === 'val' || chunk === 'HEARTBEAT_ACK';
    case 'STATE_COOKIE':
    case 'PAD':
      return key === 'val';
    default:
      return false;
  }
}
