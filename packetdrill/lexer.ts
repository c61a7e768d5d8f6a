/**
 * Words of a packetdrill script: longest match, comments, `#ifdef` … `#endif`, substitution of defined words. The parser pulls
 * one token at a time, because notes behind an errno are free text that no token table fits. Beyond nplab's, whose #ifdef has
 * neither: blocks nest, and there are #ifndef and #else.
 */

import { isIPv4, isIPv6 } from 'node:net';
import type { Position } from './ast.js';
import { ParseError } from './error.js';

export type TokenKind =
  | 'int'
  | 'hex'
  | 'float'
  | 'word'
  | 'string'
  | 'address'
  | 'ellipsis'
  | 'command'
  | 'code'
  | 'option'
  | 'punct'
  | 'eof';

export interface Token {
  readonly kind: TokenKind;
  /** As written; for string, command and code what stands between the delimiters (escapes resolved in strings). */
  readonly text: string;
  /** int, hex, float: the number. */
  readonly value: number;
  /** option: the value, as text. */
  readonly argument?: string;
  /** Offsets into the source, the end exclusive. */
  readonly start: number;
  readonly end: number;
}

/** Words with their replacement; a replacement of `undefined` only makes `#ifdef` true. */
export type Defines = ReadonlyMap<string, string | undefined>;

/** White space; a line that goes on with a backslash as in C. */
const SPACE = /(?:[ \t\r\n\f\v]|\\\r?\n)*/y;
const WORD = /[A-Za-z0-9_]+/y;
const INTEGER = /-?[0-9]+/y;
/** `.5`, `0.5`, and `1.` where no `...` begins. */
const FLOAT = /[0-9]*\.[0-9]+|[0-9]+\.(?!\.)/y;
const HEX = /0[xX][0-9a-fA-F]+/y;
const IPV4 = /[0-9]{1,3}(?:\.[0-9]{1,3}){3}/y;
const IPV6 = /[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,8}(?:\.[0-9]{1,3}){0,3}/y;
const DIRECTIVE = /#[ \t]*([A-Za-z_]+)/y;
const NAME = /[ \t]*([A-Za-z0-9_]+)/y;
/** `--name`, and `-D` and `-v` as on the tool's command line. */
const OPTION = /--[A-Za-z][A-Za-z0-9_-]*|-[A-Za-z]+/y;
const OPTION_VALUE = /[^\s"`]+/y;
const PUNCTUATION = '<>()[]{},;:=+*~|/-';

/** An `#ifdef` that is open, inside another or not. Never changed: a mark keeps it. */
interface Conditional {
  /** Offset of its `#`. */
  readonly start: number;
  readonly outer: Conditional | undefined;
  /** Its `#else` has been. */
  readonly elseSeen: boolean;
}

/** A place in the source to come back to. */
export interface Mark {
  readonly offset: number;
  readonly open: Conditional | undefined;
}

export class Lexer {
  readonly file: string;
  readonly source: string;
  /** Offset of the next character to look at. */
  #offset = 0;
  #open: Conditional | undefined;
  #lines: number[] | undefined;
  readonly #defines: Map<string, string | undefined>;

  constructor(file: string, source: string, defines: Defines) {
    this.file = file;
    this.source = source;
    this.#defines = new Map(defines);
    if (source.charCodeAt(0) === 0xfeff) this.#offset = 1;
    // The line that lets a script be called like a program.
    if (source.startsWith('#!', this.#offset)) {
      const end = source.indexOf('\n', this.#offset);
      this.#offset = end < 0 ? source.length : end;
    }
  }

  /** Line and column of an offset. */
  position(offset: number): Position {
    if (this.#lines === undefined) {
      this.#lines = [0];
      for (let i = this.source.indexOf('\n'); i >= 0; i = this.source.indexOf('\n', i + 1)) this.#lines.push(i + 1);
    }
    let low = 0;
    let high = this.#lines.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#lines[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return { file: this.file, line: low + 1, column: offset - this.#lines[low]! + 1 };
  }

  /** The next token. Throws ParseError for what is none. */
  next(): Token {
    this.#skip();
    const start = this.#offset;
    if (start >= this.source.length) return this.#token('eof', start, start, 'end of file');
    const c = this.source[start]!;
    if (c === '"') return this.#string(start);
    if (c === '`') return this.#delimited('command', start, 1, '`');
    if (this.source.startsWith('%{', start)) return this.#delimited('code', start, 2, '}%');
    if (this.source.startsWith('...', start)) return this.#token('ellipsis', start, start + 3);
    if (c === '-' && this.#match(OPTION) !== undefined) return this.#option(start);
    const longest = this.#longest();
    if (longest !== undefined) return longest;
    if (PUNCTUATION.includes(c)) return this.#token('punct', start, start + 1);
    throw new ParseError(this.position(start), `unexpected character ${JSON.stringify(c)}`);
  }

  /**
   * The text from `from` up to the `)` that closes it on its line, else to the next `)`, and goes on behind that. `from` is
   * the end of the `(` token, the last that was pulled.
   */
  rawUntilParenthesis(from: number): string {
    let end = -1;
    for (let i = from, depth = 1; depth > 0 && i < this.source.length && this.source[i] !== '\n'; i++) {
      if (this.source[i] === '(') depth++;
      else if (this.source[i] === ')' && --depth === 0) end = i;
    }
    if (end < 0) end = this.source.indexOf(')', from);
    if (end < 0) throw new ParseError(this.position(from - 1), 'this ( is never closed');
    this.#offset = end + 1;
    return this.source.slice(from, end);
  }

  /** A place to come back to with `reset`. */
  mark(): Mark {
    return { offset: this.#offset, open: this.#open };
  }

  reset(to: Mark): void {
    this.#offset = to.offset;
    this.#open = to.open;
  }

  #token(kind: TokenKind, start: number, end: number, text = this.source.slice(start, end), value = 0): Token {
    this.#offset = end;
    return { kind, text, value, start, end };
  }

  /** End of a match of a sticky expression here. */
  #match(pattern: RegExp): number | undefined {
    pattern.lastIndex = this.#offset;
    return pattern.test(this.source) ? pattern.lastIndex : undefined;
  }

  /** White space, comments and directives. */
  #skip(): void {
    const s = this.source;
    for (;;) {
      this.#offset = this.#match(SPACE)!;
      if (s.startsWith('//', this.#offset)) {
        const end = s.indexOf('\n', this.#offset);
        this.#offset = end < 0 ? s.length : end;
      } else if (s.startsWith('/*', this.#offset)) {
        const end = s.indexOf('*/', this.#offset + 2);
        if (end < 0) throw new ParseError(this.position(this.#offset), 'this comment is never closed');
        this.#offset = end + 2;
      } else if (s[this.#offset] === '#') this.#directive();
      else break;
    }
    if (this.#offset >= s.length && this.#open !== undefined) throw this.#unclosed(this.#open.start);
  }

  /** `#ifdef NAME`, `#ifndef NAME`, `#else` and `#endif`. Text of a branch not taken is thrown away unread. */
  #directive(): void {
    const start = this.#offset;
    const at = this.position(start);
    const end = this.#match(DIRECTIVE);
    const name = end === undefined ? '' : this.source.slice(start + 1, end).trim();
    const open = this.#open;
    this.#offset = end ?? start;
    switch (name) {
      case 'ifdef':
      case 'ifndef': {
        const nameEnd = this.#match(NAME);
        if (nameEnd === undefined) throw new ParseError(at, `#${name} wants a name behind it`, 'a name');
        const symbol = this.source.slice(end!, nameEnd).trim();
        this.#offset = nameEnd;
        this.#open = { start, outer: open, elseSeen: false };
        if (this.#defines.has(symbol) !== (name === 'ifdef')) this.#skipBranch(this.#open);
        return;
      }
      case 'else':
        if (open === undefined) throw new ParseError(at, '#else without #ifdef');
        if (open.elseSeen) throw new ParseError(at, 'this #ifdef has an #else already');
        this.#open = { ...open, elseSeen: true };
        this.#skipBranch(this.#open);
        return;
      case 'endif':
        if (open === undefined) throw new ParseError(at, '#endif without #ifdef');
        this.#open = open.outer;
        return;
      default:
        throw new ParseError(
          at,
          `unknown directive #${name.slice(0, 40)}; there are #ifdef, #ifndef, #else and #endif`,
          '#ifdef, #ifndef, #else or #endif',
          `#${name.slice(0, 40)}`,
        );
    }
  }

  /** Goes on behind the `#endif` of a block whose branch here is not taken, or behind its `#else`, which then is. */
  #skipBranch(block: Conditional): void {
    const directive = /#[ \t]*(ifn?def|else|endif)\b/g;
    directive.lastIndex = this.#offset;
    let depth = 0;
    for (let m = directive.exec(this.source); m !== null; m = directive.exec(this.source)) {
      if (m[1] === 'ifdef' || m[1] === 'ifndef') depth++;
      else if (depth > 0) depth -= m[1] === 'endif' ? 1 : 0;
      else if (m[1] === 'endif' || !block.elseSeen) {
        this.#offset = directive.lastIndex;
        this.#open = m[1] === 'endif' ? block.outer : { ...block, elseSeen: true };
        return;
      } else throw new ParseError(this.position(m.index), 'this #ifdef has an #else already');
    }
    throw this.#unclosed(block.start);
  }

  #unclosed(start: number): ParseError {
    return new ParseError(this.position(start), 'this #ifdef has no #endif', '#endif', 'end of file');
  }

  /** Numbers, addresses and words: the longest wins, at equal length the first of these rows. */
  #longest(): Token | undefined {
    const start = this.#offset;
    const s = this.source;
    let kind: TokenKind | undefined;
    let end = start;
    const offer = (k: TokenKind, e: number | undefined): void => {
      if (e !== undefined && e > end) {
        kind = k;
        end = e;
      }
    };
    offer('address', this.#address());
    offer('float', this.#match(FLOAT));
    offer('hex', this.#match(HEX));
    offer('int', this.#match(INTEGER));
    offer('word', this.#match(WORD));
    if (kind === undefined) return undefined;
    const text = s.slice(start, end);
    if (kind === 'word') {
      // The one name with a hyphen (RFC 5865).
      if (text === 'voice' && s.startsWith('-admit', end)) return this.#token('word', start, end + 6);
      const replacement = this.#defines.get(text);
      if (replacement !== undefined) return this.#replace(replacement, start, end);
    }
    return this.#token(kind, start, end, text, kind === 'word' || kind === 'address' ? 0 : Number(text));
  }

  /** End of an IPv4 or IPv6 address here. A colon behind an IPv6 address may belong to what follows. */
  #address(): number | undefined {
    const four = this.#match(IPV4);
    if (four !== undefined && isIPv4(this.source.slice(this.#offset, four))) return four;
    const six = this.#match(IPV6);
    if (six === undefined) return undefined;
    for (const end of [six, six - 1]) if (isIPv6(this.source.slice(this.#offset, end))) return end;
    return undefined;
  }

  /** A defined word: its value's first character says what it is. */
  #replace(value: string, start: number, end: number): Token {
    const plain = (kind: TokenKind, text: string, n = 0) => this.#token(kind, start, end, text, n);
    if (value.startsWith('"')) return plain('string', value.slice(1, value.endsWith('"') ? -1 : undefined));
    if (value.startsWith('`')) return plain('command', value.slice(1, value.endsWith('`') ? -1 : undefined));
    if (/^0[xX][0-9a-fA-F]+$/.test(value)) return plain('hex', value, Number(value));
    if (/^-?[0-9]+$/.test(value)) return plain('int', value, Number(value));
    return plain('word', value);
  }

  #delimited(kind: TokenKind, start: number, opening: number, closing: string): Token {
    const end = this.source.indexOf(closing, start + opening);
    if (end < 0)
      throw new ParseError(this.position(start), `this ${this.source.slice(start, start + opening)} is never closed`);
    return this.#token(kind, start, end + closing.length, this.source.slice(start + opening, end));
  }

  /** A string in double quotes with the escapes of C. */
  #string(start: number): Token {
    const s = this.source;
    let text = '';
    let i = start + 1;
    let plain = i;
    for (; i < s.length && s[i] !== '"'; i++) {
      if (s[i] !== '\\') continue;
      text += s.slice(plain, i);
      const m = /^\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|([\s\S]))/.exec(s.slice(i, i + 4));
      if (m === null) break;
      if (m[1] !== undefined) text += String.fromCharCode(Number.parseInt(m[1], 16));
      else if (m[2] !== undefined) text += String.fromCharCode(Number.parseInt(m[2], 8) & 0xff);
      else text += ESCAPES[m[3]!] ?? m[3]!;
      i += m[0].length - 1;
      plain = i + 1;
    }
    if (s[i] !== '"') throw new ParseError(this.position(start), 'this string is never closed', '"', 'end of file');
    return this.#token('string', start, i + 1, text + s.slice(plain, i));
  }

  /**
   * `--name`, `--name=value` with space around the `=` allowed. A value is a string, a command, or everything up to white space
   * or a comment. `--define SYM=value` takes effect for what follows.
   */
  #option(start: number): Token {
    const s = this.source;
    let end = this.#match(OPTION)!;
    let name = s.slice(start, end).replace(/^--?/, '');
    let argument: string | undefined;
    if (s[start + 1] !== '-' && name.length > 1 && name.startsWith('D')) {
      // -DNAME or -DNAME=VALUE
      this.#offset = start + 2;
      name = 'D';
      [argument, end] = this.#optionValue();
    } else {
      const equals = /[ \t]*=[ \t\r\n]*/y;
      const space = /[ \t]+(?=[A-Za-z_])/y;
      equals.lastIndex = space.lastIndex = end;
      const takesNext = name === 'define' || name === 'D';
      if (equals.test(s) || (takesNext && space.test(s))) {
        this.#offset = Math.max(equals.lastIndex, space.lastIndex);
        [argument, end] = this.#optionValue();
      }
    }
    if ((name === 'define' || name === 'D') && argument !== undefined) {
      const cut = argument.indexOf('=');
      if (cut < 0) this.#defines.set(argument, undefined);
      else this.#defines.set(argument.slice(0, cut), argument.slice(cut + 1));
    }
    this.#offset = end;
    return { kind: 'option', text: name, value: 0, argument, start, end };
  }

  #optionValue(): [string, number] {
    const at = this.#offset;
    const c = this.source[at];
    if (c === '"' || c === '`') {
      const token = c === '"' ? this.#string(at) : this.#delimited('command', at, 1, '`');
      return [token.text, token.end];
    }
    let end = this.#match(OPTION_VALUE);
    if (end === undefined) throw new ParseError(this.position(at), 'an option value is wanted behind the =', 'a value');
    let value = this.source.slice(at, end);
    const comment = value.search(/\/\/|\/\*/);
    if (comment > 0) {
      value = value.slice(0, comment);
      end = at + comment;
    }
    // SYM="value": the string belongs to it.
    if (value.endsWith('=') && (this.source[end] === '"' || this.source[end] === '`')) {
      const from = end;
      const token = this.source[end] === '"' ? this.#string(end) : this.#delimited('command', end, 1, '`');
      return [value + this.source.slice(from, token.end), token.end];
    }
    return [value, end];
  }
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', a: '\x07', b: '\b', f: '\f', v: '\v' };
