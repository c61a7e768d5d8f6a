/**
 * What back-quoted commands mean here. No shell is run: only `sysctl` has an effect on a stack in memory, so its assignments are
 * read out and everything else is named and left alone (facts part 6).
 */

import { ENOENT } from '../stack/kern/errno.js';
import { TUNABLES } from '../stack/sctp/tunables.js';

/** One assignment. Values are integers: FreeBSD's SCTP has no others. */
export interface Setting {
  readonly name: string;
  readonly value: number;
  /** `-i` (FreeBSD) or `-e` (Linux): an unknown name is no failure. */
  readonly ignoreUnknown: boolean;
}

export interface CommandPlan {
  readonly settings: readonly Setting[];
  /** Commands, or parts of a sysctl, without an effect here, as written. */
  readonly ignored: readonly string[];
}

/** A line of shell, cut into commands at line breaks, `;`, `&&`, `||`, `|` and `&`, quotes respected; comments are dropped. */
function commands(text: string): string[][] {
  const out: string[][] = [];
  let words: string[] = [];
  let word: string | undefined;
  const endWord = (): void => {
    if (word !== undefined) words.push(word);
    word = undefined;
  };
  const endCommand = (): void => {
    endWord();
    if (words.length > 0) out.push(words);
    words = [];
  };
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (c === '"' || c === "'") {
      const end = text.indexOf(c, i + 1);
      const stop = end < 0 ? text.length : end;
      word = (word ?? '') + text.slice(i + 1, stop);
      i = stop;
    } else if (c === '\\' && text[i + 1] === '\n') {
      endWord();
      i++;
    } else if (c === '\n' || c === ';' || c === '|' || (c === '&' && text[i - 1] !== '>')) endCommand();
    else if (/\s/.test(c)) endWord();
    else if (c === '#' && word === undefined) {
      const end = text.indexOf('\n', i);
      endCommand();
      i = end < 0 ? text.length : end;
    } else word = (word ?? '') + c;
  }
  endCommand();
  return out;
}

/** A sysctl's name alone. */
const NAME = /^[a-z0-9_]+(?:\.[A-Za-z0-9_]+)+$/;

/** Reads the settings out of a command. Never fails: what has no meaning here is in `ignored`. */
export function planCommand(text: string): CommandPlan {
  const settings: Setting[] = [];
  const ignored: string[] = [];
  for (const words of commands(text)) {
    const [program, ...args] = words;
    if (!/^(?:\/\S*\/)?sysctl$/.test(program!)) {
      // `… || true` and the like.
      if (program !== 'true' && program !== ':') ignored.push(words.join(' '));
      continue;
    }
    let ignoreUnknown = false;
    for (const arg of args) {
      if (NAME.test(arg)) continue; // prints a value: to nobody
      if (/^-[a-zA-Z]+$/.test(arg)) {
        ignoreUnknown ||= /[ie]/.test(arg);
        continue;
      }
      // Redirections of its output.
      if (/^\d*[<>]/.test(arg) || arg === '/dev/null') continue;
      const m = /^([A-Za-z0-9_.]+)[=:](-?(?:\d{1,15}|0[xX][0-9a-fA-F]{1,13}))$/.exec(arg);
      if (m === null) ignored.push(`sysctl ${arg}`);
      else settings.push({ name: m[1]!, value: integer(m[2]!), ignoreUnknown });
    }
  }
  return { settings, ignored };
}

const integer = (text: string) => (text.startsWith('-') ? -Number(text.slice(1)) : Number(text));

const SCTP = 'net.inet.sctp.';
const rows = new Map<string, (typeof TUNABLES)[number]>(TUNABLES.map(r => [`${SCTP}${r.name}`, r]));

/**
 * The remark that a setting deserves though it is let pass: of an extension that is not there, of nothing that this stack
 * has, or of another part of the system. `e`: what the stack's sysctl said of it, 0 or -errno.
 */
export function noteOf(s: Setting, e: number): string | undefined {
  const text = `sysctl ${s.name}=${s.value} has no effect`;
  if (e === -ENOENT && !s.name.startsWith(SCTP)) return `${text}: this stack has only its own settings`;
  const row = rows.get(s.name);
  if (e !== 0 || row === undefined) return undefined;
  // A switch that is off is what the stack is like without the extension.
  if ('extension' in row && row.extension !== undefined) {
    const have = row.max === 1 ? 0 : row.default;
    return s.value === have ? undefined : `${text}: the extension ${row.extension} is not there`;
  }
  return 'inert' in row && row.inert === true && s.value !== row.default ? `${text}: ${row.meaning}` : undefined;
}
