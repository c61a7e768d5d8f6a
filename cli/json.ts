/**
 * JSON (RFC 8259) read with positions: the value, and for every part of it where in the text it stands, so that a complaint
 * about a configuration names file, line and column. JSON.parse knows neither the place of a value nor, on Node 20, a line.
 */

/** Where a value stands, and the key in front of it when it is a member of an object. Offsets into the text. */
export interface Place {
  readonly value: number;
  readonly key: number;
}

export interface Located {
  readonly value: unknown;
  /** By JSON pointer (RFC 6901): "" is the whole text, "/cards/0/port" a value in it. */
  readonly places: ReadonlyMap<string, Place>;
}

/** A text that is not JSON. `offset` is the first character that does not fit. */
export class JsonError extends Error {
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(message);
    this.name = 'JsonError';
    this.offset = offset;
  }
}

/** Line and column, both from 1, of an offset into a text. */
export function lineColumn(text: string, offset: number): { line: number; column: number } {
  let line = 1;
  let start = 0;
  for (let i = text.indexOf('\n'); i >= 0 && i < offset; i = text.indexOf('\n', i + 1)) {
    line++;
    start = i + 1;
  }
  return { line, column: offset - start + 1 };
}

/** One step of a JSON pointer, escaped (RFC 6901 §3). */
export function pointerToken(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1');
}

const MAX_DEPTH = 64;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

class Reader {
  readonly #text: string;
  readonly places = new Map<string, Place>();
  #at = 0;
  constructor(text: string) {
    this.#text = text;
  }

  document(): unknown {
    const value = this.#value('', -1, 0);
    this.#space();
    if (this.#at < this.#text.length) this.#fail('nothing may follow the end of the value');
    return value;
  }

  #fail(message: string, at = this.#at): never {
    throw new JsonError(at, message);
  }

  #space(): void {
    for (;;) {
      const c = this.#text.charCodeAt(this.#at);
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) break;
      this.#at++;
    }
    if (this.#text[this.#at] === '/' || this.#text[this.#at] === '#') this.#fail('comments are not allowed in JSON');
  }

  #value(pointer: string, key: number, depth: number): unknown {
    if (depth > MAX_DEPTH) this.#fail(`nested deeper than ${MAX_DEPTH} levels`);
    this.#space();
    this.places.set(pointer, { value: this.#at, key: key < 0 ? this.#at : key });
    const c = this.#text[this.#at];
    if (c === '{') return this.#object(pointer, depth);
    if (c === '[') return this.#array(pointer, depth);
    if (c === '"') return this.#string();
    for (const [word, value] of [
      ['true', true],
      ['false', false],
      ['null', null],
    ] as const)
      if (this.#text.startsWith(word, this.#at)) {
        this.#at += word.length;
        return value;
      }
    NUMBER.lastIndex = this.#at;
    const number = NUMBER.exec(this.#text);
    if (number === null) {
      if (c === undefined) this.#fail('the text ends where a value is expected');
      this.#fail(
        `${JSON.stringify(c)} cannot start a value: an object, array, string, number, true, false or null is expected`,
      );
    }
    this.#at += number[0].length;
    return Number(number[0]);
  }

  #object(pointer: string, depth: number): Record<string, unknown> {
    const open = this.#at++;
    const out: Record<string, unknown> = {};
    this.#space();
    if (this.#take('}')) return out;
    for (;;) {
      this.#space();
      const at = this.#at;
      if (this.#text[at] === '}') this.#fail('a comma may not stand before "}"');
      if (this.#text[at] !== '"')
        this.#fail(
          at >= this.#text.length
            ? `the "{" at offset ${open} is never closed`
            : 'a property name in double quotes is expected',
        );
      const key = this.#string();
      if (Object.hasOwn(out, key)) this.#fail(`property ${JSON.stringify(key)} is given twice`, at);
      this.#space();
      if (!this.#take(':')) this.#fail(`":" is expected after ${JSON.stringify(key)}`);
      const value = this.#value(`${pointer}/${pointerToken(key)}`, at, depth + 1);
      // defineProperty: "__proto__" is a name like any other here.
      Object.defineProperty(out, key, { value, writable: true, enumerable: true, configurable: true });
      this.#space();
      if (this.#take('}')) return out;
      if (!this.#take(','))
        this.#fail(
          this.#at >= this.#text.length ? 'the text ends inside an object: "}" is missing' : '"," or "}" is expected',
        );
    }
  }

  #array(pointer: string, depth: number): unknown[] {
    this.#at++;
    const out: unknown[] = [];
    this.#space();
    if (this.#take(']')) return out;
    for (;;) {
      this.#space();
      if (out.length > 0 && this.#text[this.#at] === ']') this.#fail('a comma may not stand before "]"');
      out.push(this.#value(`${pointer}/${out.length}`, -1, depth + 1));
      this.#space();
      if (this.#take(']')) return out;
      if (!this.#take(','))
        this.#fail(
          this.#at >= this.#text.length ? 'the text ends inside an array: "]" is missing' : '"," or "]" is expected',
        );
    }
  }

  #string(): string {
    const open = this.#at++;
    let out = '';
    for (;;) {
      const c = this.#text[this.#at];
      if (c === undefined || c === '\n') this.#fail('this string is never closed', open);
      if (c < ' ') this.#fail('a control character must be written as \\u00XX in a string');
      this.#at++;
      if (c === '"') return out;
      if (c !== '\\') {
        out += c;
        continue;
      }
      const e = this.#text[this.#at] ?? '';
      if (e === 'u') {
        const hex = this.#text.slice(this.#at + 1, this.#at + 5);
        if (!/^[0-9a-fA-F]{4}$/.test(hex)) this.#fail('\\u must be followed by four hexadecimal digits');
        out += String.fromCharCode(Number.parseInt(hex, 16));
        this.#at += 5;
        continue;
      }
      const plain = ESCAPES[e];
      if (plain === undefined) this.#fail('unknown escape: \\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX are allowed');
      out += plain;
      this.#at++;
    }
  }

  #take(c: string): boolean {
    if (this.#text[this.#at] !== c) return false;
    this.#at++;
    return true;
  }
}

/** Reads a JSON text. Throws JsonError at the first character that does not fit. */
export function parseJson(text: string): Located {
  const reader = new Reader(text);
  return { value: reader.document(), places: reader.places };
}
