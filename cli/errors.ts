/** How a command ends: 0 it held, 1 the run failed, 2 the request was wrong (usage, configuration, privilege, address). */

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

/** An end of the command with one line for the user: what is wrong and what to do about it. */
export class CliError extends Error {
  readonly status: number;
  constructor(message: string, status: number = EXIT_USAGE) {
    super(message);
    this.name = 'CliError';
    this.status = status;
  }
}

/** What went wrong, as one line; an unknown value becomes its text. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\s*\n\s*/g, '; ').trim() || 'unknown error';
}
