/**
 * Calls code of an extension for a bounded time. A loop without end cannot be interrupted from inside the thread it runs
 * on; node:vm can, by terminating a script from a watchdog thread. So the call is made from a one-line script that runs
 * with a time limit. The code is what it is afterwards: nothing of this is on the path of a packet.
 */

import { Script } from 'node:vm';
import type { KextGuard } from '../stack/kern/kext.js';

/** How long start, stop or the top level of an extension may take. */
export const START_LIMIT_MS = 2000;

const SLOT = Symbol.for('nke.kext.call');
let pending: (() => unknown) | undefined;
const script = new Script('globalThis[Symbol.for("nke.kext.call")]()', { filename: 'nke:kext-call' });

/** The guard with a limit; throws what the code throws, or an Error that names the limit. */
export function timeGuard(limitMs: number = START_LIMIT_MS): KextGuard {
  return (what, fn) => {
    if (!Object.hasOwn(globalThis, SLOT))
      Object.defineProperty(globalThis, SLOT, {
        value: () => {
          const call = pending!;
          pending = undefined;
          return call();
        },
      });
    pending = fn;
    try {
      return script.runInThisContext({ timeout: limitMs });
    } catch (e) {
      if ((e as NodeJS.ErrnoException | undefined)?.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT')
        throw new Error(`${what} did not return within ${limitMs} ms`);
      throw e;
    } finally {
      pending = undefined;
    }
  };
}
