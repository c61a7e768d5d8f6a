/** The one error that reading a script can end with. */

import type { Position } from './ast.js';

/** A script that does not follow the dialect. The message starts with `file:line:column: `. */
export class ParseError extends Error {
  readonly at: Position;
  /** What is wrong, without the position. */
  readonly what: string;
  /** What should have stood there, when that can be said. */
  readonly expected?: string;
  /** What stood there. */
  readonly got?: string;

  constructor(at: Position, what: string, expected?: string, got?: string) {
    super(`${at.file}:${at.line}:${at.column}: ${what}`);
    this.name = 'ParseError';
    this.at = at;
    this.what = what;
    this.expected = expected;
    this.got = got;
  }
}
