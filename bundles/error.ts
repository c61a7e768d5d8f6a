/** A bundle that cannot be used as asked: one line that says what is wrong, where, and what to do. */

import type { ErrnoName } from '../stack/kern/errno.js';

export class BundleError extends Error {
  readonly code: ErrnoName;
  constructor(code: ErrnoName, message: string) {
    super(message.replace(/\s*\n\s*/g, ' ').slice(0, 2000));
    this.name = 'BundleError';
    this.code = code;
  }
}
