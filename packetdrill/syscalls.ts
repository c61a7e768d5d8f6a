/**
 * System calls on the stack's sockets, with FreeBSD's arguments, results and errno values (facts part 5): the table of all
 * of them, by name.
 */

import type { Expr, Syscall } from './ast.js';
import { connectionCalls } from './connection-calls.js';
import { dataCalls } from './data-calls.js';
import { type Attempt, type Descriptor, Descriptors, type Environment } from './descriptors.js';
import { ScriptError } from './encode.js';
import { queryCalls } from './query-calls.js';

export type { Attempt, Outcome } from './descriptors.js';

export class Kernel {
  readonly #descriptors: Descriptors;
  readonly #calls: ReadonlyMap<string, (args: readonly Expr[], call: Syscall) => Attempt>;

  constructor(env: Environment) {
    const k = new Descriptors(env);
    this.#descriptors = k;
    this.#calls = new Map(Object.entries({ ...connectionCalls(k), ...dataCalls(k), ...queryCalls(k) }));
  }

  /** Prepares a call. Throws ScriptError for a call that cannot be made sense of. */
  begin(call: Syscall): Attempt {
    const f = this.#calls.get(call.name);
    if (f === undefined) throw new ScriptError(`the system call ${call.name} is not known here`, call.at);
    return f(call.args, call);
  }
  /** Gives the descriptor that a call opened the script's label. */
  label(fd: number, d: Descriptor): void {
    this.#descriptors.set(fd, d);
  }
}
