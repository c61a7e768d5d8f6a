/**
 * What back-quoted commands mean here. No shell is run: only `sysctl` has an effect on a stack in memory, so its assignments are
 * read out and everything else is named and left alone (facts part 6).
 */

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
