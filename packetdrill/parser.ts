/**
 * A script from its text: options, init command, events, cleanup command (facts parts 1 and 2). Recursive descent by hand,
 * strict in what makes a script mean something else, lenient where the facts advise it. Ends with a Script or a ParseError,
 * whatever the text is.
 */

import type { Command, Script, ScriptEvent, ScriptOption, Time, Warning } from './ast.js';
import { Cursor } from './cursor.js';
import { ParseError } from './error.js';
import { type Defines, Lexer } from './lexer.js';
import { parseSyscall } from './parse-calls.js';
import { parsePacket } from './parse-packet.js';

export interface ParseOptions {
  /** `--define NAME` (undefined) and `--define NAME=VALUE`. FreeBSD is defined always. */
  readonly defines?: Defines;
}

/** Options that mean something or are knowingly ignored; others are a warning. `wire_*` is ignored too. */
const OPTIONS: ReadonlySet<string> = new Set(
  (
    'ip_version bind_port connect_port local_ip remote_ip gateway_ip netmask_ip local_linklocal_ip gateway_linklocal_ip ' +
    'mtu speed tolerance_usecs tolerance_percent udp_encapsulation init_scripts define D verbose v debug dry_run ' +
    'non_fatal no_cleanup code_command code_format code_sockopt tcp_ts_tick_usecs tcp_md5_secret tun_dev persistent_tun_dev'
  ).split(' '),
);

/** Parses a script. Throws ParseError and nothing else. */
export function parse(file: string, source: string, options: ParseOptions = {}): Script {
  const defines = new Map<string, string | undefined>([['FreeBSD', undefined], ...(options.defines ?? [])]);
  return new Parser(new Lexer(file, source, defines)).script();
}

class Parser {
  readonly #c: Cursor;
  readonly #warnings: Warning[] = [];
  /** Time of the last absolute stamp. */
  #latest = 0;
  #first = true;

  constructor(lexer: Lexer) {
    this.#c = new Cursor(lexer);
  }

  script(): Script {
    const c: Cursor = this.#c;
    const options: ScriptOption[] = [];
    const optionList = (): void => {
      while (c.token.kind === 'option') options.push(this.#option());
    };
    optionList();
    const init = this.#commands();
    // Options behind the init command are misplaced but mean the same.
    optionList();
    const events: ScriptEvent[] = [];
    while (this.#startsTime()) events.push(this.#event());
    if (events.length === 0) c.fail('an event, which starts with its time');
    const cleanup = this.#commands();
    if (c.token.kind !== 'eof') c.fail(cleanup === undefined ? 'the time of an event' : 'the end of the file');
    return { file: c.lexer.file, options, init, events, cleanup, warnings: this.#warnings };
  }

  #option(): ScriptOption {
    const at = this.#c.at();
    const { text: name, argument: value } = this.#c.take();
    if (!OPTIONS.has(name) && !name.startsWith('wire_')) this.#warnings.push({ at, text: `unknown option --${name}` });
    return { at, name, value };
  }

  /** The init or the cleanup command; several in a row are one of several lines. */
  #commands(): Command | undefined {
    if (this.#c.token.kind !== 'command') return undefined;
    const { at, text } = this.#command();
    const lines = [text];
    while (this.#c.token.kind === 'command') lines.push(this.#command().text);
    return { at, text: lines.join('\n') };
  }

  #command(): Command {
    const at = this.#c.at();
    return { at, text: this.#c.take().text };
  }

  #startsTime(): boolean {
    const { kind } = this.#c.token;
    return kind === 'int' || kind === 'float' || this.#c.is('+') || this.#c.is('*');
  }

  #event(): ScriptEvent {
    const c: Cursor = this.#c;
    const start = c.token.start;
    const at = c.at();
    const time = this.#time();
    const t = c.token;
    const outbound = c.is('>');
    const call = t.kind === 'word';
    if ((time.kind === 'any' || time.kind === 'window') && !outbound)
      throw new ParseError(at, `the time ${time.kind === 'any' ? '*' : 'a~b'} is for expected packets (>) only`);
    if (time.kind === 'blocking' && !call) throw new ParseError(at, 'the time a...b is for system calls only');
    this.#order(time, at);
    // Comments and white space behind an event belong to the next.
    const source = () => c.lexer.source.slice(start, c.lastEnd);
    if (outbound || c.is('<')) {
      const packet = parsePacket(c);
      return { kind: 'packet', at, time, packet, source: source() };
    }
    if (call) {
      const syscall = parseSyscall(c);
      return { kind: 'syscall', at, time, call: syscall, source: source() };
    }
    if (t.kind === 'command') {
      const command = this.#command();
      return { kind: 'command', at, time, command, source: source() };
    }
    if (t.kind === 'code') {
      c.take();
      return { kind: 'code', at, time, text: t.text, source: source() };
    }
    return c.fail('a packet (`<` or `>`), a system call, a back-quoted command or %{ code }%');
  }

  /** A time stamp (facts part 2). */
  #time(): Time {
    const c: Cursor = this.#c;
    const at = c.at();
    if (c.accept('*')) return { kind: 'any' };
    const relative = c.accept('+');
    const from = this.#seconds();
    if (c.accept('~')) {
      const second = c.accept('+');
      if (second && !relative) throw new ParseError(at, 'a~+b: both ends of a window count from the same origin');
      return { kind: 'window', relative, from, to: this.#end(from, 'window') };
    }
    if (c.token.kind === 'ellipsis') {
      c.take();
      if (c.accept('+') && !relative)
        throw new ParseError(at, 'a...+b: both ends of a call count from the same origin');
      return { kind: 'blocking', relative, from, to: this.#end(from, 'blocking call') };
    }
    return relative ? { kind: 'relative', seconds: from } : { kind: 'absolute', seconds: from };
  }

  #seconds(): number {
    const c: Cursor = this.#c;
    const { kind, value } = c.token;
    if (kind !== 'int' && kind !== 'float') c.fail('a time in seconds');
    if (!(value >= 0 && value <= 1e9)) c.fail('a time from 0 to 1000000000 seconds');
    c.take();
    return value;
  }

  #end(from: number, what: string): number {
    const at = this.#c.at();
    const to = this.#seconds();
    if (to < from) throw new ParseError(at, `this ${what} ends (${to}) before it starts (${from})`);
    return to;
  }

  /** The script starts at 0, and absolute times do not run backwards. */
  #order(time: Time, at: ReturnType<Cursor['at']>): void {
    const start = time.kind === 'any' ? undefined : 'from' in time ? time.from : time.seconds;
    if (this.#first && start !== 0) throw new ParseError(at, 'the first event has to be at time 0');
    this.#first = false;
    const absolute = time.kind === 'absolute' || (time.kind !== 'relative' && time.kind !== 'any' && !time.relative);
    if (!absolute || start === undefined) return;
    if (start < this.#latest) throw new ParseError(at, `time runs backwards: ${start} after ${this.#latest}`);
    this.#latest = start;
  }
}
