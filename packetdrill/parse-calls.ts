/**
 * System calls: `name(args) = result [ERRNO] [(note)]`, and the expressions in them. Beyond nplab's: numbers in parentheses,
 * and sizeof.
 */

import type { Expr, StructField, Syscall } from './ast.js';
import { type Cursor, shown } from './cursor.js';
import { ParseError } from './error.js';

export function parseSyscall(c: Cursor): Syscall {
  const at = c.at();
  const name = c.expectWord('the name of a system call').text;
  c.expect('(', ` behind ${name}`);
  const args = c.list(')', () => parseExpr(c));
  c.expect('=', ' and the result of the call');
  const result = parseExpr(c);
  if (result.kind === 'list' || result.kind === 'struct' || result.kind === 'string')
    throw new ParseError(result.at, 'a result is a number or `...`', 'a number or `...`', result.kind);
  // A name in small letters is a call that lacks its time, not an errno.
  const errno = c.token.kind === 'word' && /^[A-Z]/.test(c.token.text) ? c.take().text : undefined;
  const note = parseNote(c);
  return { at, name, args, result, errno, note };
}

/** The free text in parentheses, up to the first `)`. Its words are no tokens, so it is read from the source. */
function parseNote(c: Cursor): string | undefined {
  let note: string | undefined;
  while (c.is('(')) {
    const from = c.token.end;
    const text = c.lexer.rawUntilParenthesis(from);
    // The parenthesis is the token in hand; what the lexer gives now stands behind the note.
    c.take();
    c.lastEnd = from + text.length + 1;
    const tidy = text.trim().replace(/\s+/g, ' ');
    note = note === undefined ? tidy : `${note}; ${tidy}`;
  }
  return note;
}

export function parseExpr(c: Cursor): Expr {
  return c.nested(() => {
    const at = c.at();
    const first = primary(c);
    if (!c.is('|')) return first;
    const joined = [first];
    while (c.accept('|')) joined.push(primary(c));
    const terms = joined.flatMap(t => (t.kind === 'or' ? t.terms : [t]));
    for (const t of terms)
      if (t.kind !== 'int' && t.kind !== 'word' && t.kind !== 'call')
        throw new ParseError(t.at, 'only numbers and names can be joined with |', 'a number or a name', t.kind);
    return { kind: 'or', at, terms };
  });
}

function primary(c: Cursor): Expr {
  const t = c.token;
  const at = c.at();
  switch (t.kind) {
    case 'int':
    case 'hex':
    case 'float':
      c.take();
      if (t.kind !== 'float' && !Number.isSafeInteger(t.value))
        throw new ParseError(at, `${shown(t.text)} does not fit into 53 bits`, 'a smaller number', shown(t.text));
      return { kind: 'int', at, value: t.value, hex: t.kind === 'hex' };
    case 'string':
    case 'address':
      c.take();
      return { kind: 'string', at, value: t.text };
    case 'ellipsis':
      c.take();
      return { kind: 'any', at };
    case 'word':
      c.take();
      if (t.text === 'NULL') return { kind: 'null', at };
      if (!c.accept('(')) return { kind: 'word', at, word: t.text };
      if (t.text === 'sizeof') return { kind: 'call', at, name: t.text, args: [typeName(c)] };
      return { kind: 'call', at, name: t.text, args: c.list(')', () => parseExpr(c)) };
    case 'punct':
      if (c.accept('[')) return { kind: 'list', at, items: c.list(']', () => parseExpr(c)) };
      if (c.accept('{')) return { kind: 'struct', at, fields: c.list('}', () => field(c)) };
      if (c.accept('(')) {
        const inner = parseExpr(c);
        c.expect(')');
        return inner;
      }
  }
  return c.fail('an expression (a number, a name, a string, [list], {struct} or `...`)');
}

/** `struct sctp_rtoinfo)` or `int)`: what sizeof takes. */
function typeName(c: Cursor): Expr {
  c.acceptWord('struct');
  const at = c.at();
  const { text } = c.expectWord('the name of a struct or a type');
  c.expect(')', ' behind the type');
  return { kind: 'word', at, word: text };
}

/** `name=value`, `name(count)=value`, or a value alone. */
function field(c: Cursor): StructField {
  const at = c.at();
  const value = parseExpr(c);
  if (!c.is('=')) return { at, value };
  if (value.kind === 'word') {
    c.take();
    return { at, name: value.word, value: parseExpr(c) };
  }
  if (value.kind === 'call' && value.args.length === 1) {
    c.take();
    return { at, name: value.name, count: value.args[0], value: parseExpr(c) };
  }
  return c.fail('`,` or `}`: only a field name can stand in front of `=`');
}
