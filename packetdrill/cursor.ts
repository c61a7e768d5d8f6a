/** The parser's hand on the token stream: one token of lookahead, and the ways to say what was wanted there. */

import type { Position } from './ast.js';
import { ParseError } from './error.js';
import type { Lexer, Token } from './lexer.js';

/** Nesting of lists, structs, parameters in parameters: far above any script, far below the stack's end. */
export const MAX_DEPTH = 64;

export class Cursor {
  readonly lexer: Lexer;
  /** The token to look at. */
  token: Token;
  /** End of the last token that was taken. */
  lastEnd = 0;
  #depth = 0;

  constructor(lexer: Lexer) {
    this.lexer = lexer;
    this.token = lexer.next();
  }

  /** Position of the current token, or of a given one. */
  at(token: Token = this.token): Position {
    return this.lexer.position(token.start);
  }

  take(): Token {
    const t = this.token;
    this.lastEnd = t.end;
    this.token = this.lexer.next();
    return t;
  }

  /** The token behind the current one; nothing is taken. */
  peek(): Token {
    const mark = this.lexer.mark();
    const t = this.lexer.next();
    this.lexer.reset(mark);
    return t;
  }

  is(punct: string): boolean {
    return this.token.kind === 'punct' && this.token.text === punct;
  }

  isWord(word: string): boolean {
    return this.token.kind === 'word' && this.token.text === word;
  }

  isNumber(): boolean {
    return this.token.kind === 'int' || this.token.kind === 'hex';
  }

  /** Takes the punctuation mark if it stands here. */
  accept(punct: string): boolean {
    if (!this.is(punct)) return false;
    this.take();
    return true;
  }

  acceptWord(word: string): boolean {
    if (!this.isWord(word)) return false;
    this.take();
    return true;
  }

  expect(punct: string, why = ''): Token {
    if (!this.is(punct)) this.fail(`\`${punct}\`${why}`);
    return this.take();
  }

  expectWord(what: string): Token {
    if (this.token.kind !== 'word') this.fail(what);
    return this.take();
  }

  /** A decimal or hex integer from 0 (or `min`) to `max`. */
  number(what: string, max: number, min = 0): number {
    if (!this.isNumber()) this.fail(what);
    const { value } = this.token;
    if (!(value >= min && value <= max)) {
      const text = shown(this.token.text);
      throw new ParseError(this.at(), `${what}: ${text} is not within ${min} … ${max}`, `${min} … ${max}`, text);
    }
    this.take();
    return value;
  }

  /** `a, b, c` up to a closing mark, which is taken too; the opening one was. */
  list<T>(close: string, item: () => T): T[] {
    const out: T[] = [];
    if (this.accept(close)) return out;
    for (;;) {
      out.push(item());
      if (this.accept(close)) return out;
      if (!this.is(',')) this.fail(`\`,\` or \`${close}\``);
      this.take();
    }
  }

  /** Runs `body` one level deeper; hostile nesting ends in a ParseError. */
  nested<T>(body: () => T): T {
    if (++this.#depth > MAX_DEPTH) throw new ParseError(this.at(), `nested deeper than ${MAX_DEPTH} levels`);
    try {
      return body();
    } finally {
      this.#depth--;
    }
  }

  /** Ends with `expected WHAT, found TOKEN`. */
  fail(expected: string, token: Token = this.token): never {
    const found = describe(token);
    throw new ParseError(this.at(token), `expected ${expected}, found ${found}`, expected, found);
  }
}

/** Text for a message, cut when long. */
export const shown = (text: string) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);

/** A token as a message names it. */
export function describe(t: Token): string {
  const text = shown(t.text);
  switch (t.kind) {
    case 'eof':
      return 'the end of the file';
    case 'string':
      return `the string ${JSON.stringify(text)}`;
    case 'command':
      return 'a back-quoted command';
    case 'code':
      return 'a code section';
    case 'option':
      return `the option --${text}`;
    default:
      return `\`${text}\``;
  }
}
