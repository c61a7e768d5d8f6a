// Questions and answers of one line each with a C peer (vm/api-peer.h), over its standard input and output or over TCP.
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { onExit } from '../vm/cleanup.js';

/** Longest line that a peer may answer with, and the longest that it may take to. */
const MAX_LINE = 1 << 16;
const ANSWER_MS = 30_000;

export class LineClient implements Disposable {
  readonly #to: Writable;
  readonly #close: () => void;
  #text = '';
  #waiting: { resolve: (line: string) => void; reject: (error: Error) => void } | undefined;
  #ended: Error | undefined;

  constructor(from: Readable, to: Writable, close: () => void) {
    this.#to = to;
    this.#close = close;
    from.setEncoding('utf8');
    from.on('data', (text: string) => this.#read(text));
    for (const s of [from, to]) s.on('error', e => this.#end(e));
    from.on('close', () => this.#end(new Error(`the peer has ended: ${this.#text}`)));
  }
  /** A program of this machine. Disposing of the client ends it. */
  static program(argv: readonly string[]): LineClient {
    const child: ChildProcess = spawn(argv[0]!, argv.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] });
    const forget = onExit(() => child.kill('SIGKILL'));
    child.once('exit', forget);
    return new LineClient(child.stdout!, child.stdin!, () => child.kill('SIGKILL'));
  }

  #read(text: string): void {
    this.#text += text;
    const end = this.#text.indexOf('\n');
    if (end < 0) {
      if (this.#text.length > MAX_LINE) this.#end(new Error('the peer says more than a line'));
      return;
    }
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 1);
    const w = this.#waiting;
    this.#waiting = undefined;
    if (line.startsWith('{"usage"')) w?.reject(new Error(`the peer did not understand: ${line}`));
    else w?.resolve(line);
  }
  #end(error: Error): void {
    this.#ended ??= error;
    this.#waiting?.reject(this.#ended);
    this.#waiting = undefined;
  }

  /** One question at a time. Rejects when the peer has ended, does not understand, or takes too long. */
  ask(line: string): Promise<string> {
    if (this.#waiting !== undefined) throw new Error('one question at a time');
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => this.#end(new Error(`no answer to: ${line}`)), ANSWER_MS);
      const settled =
        <T>(fn: (value: T) => void) =>
        (value: T) => {
          clearTimeout(late);
          fn(value);
        };
      this.#waiting = { resolve: settled(resolve), reject: settled(reject) };
      this.#to.write(`${line}\n`);
    });
  }
  [Symbol.dispose](): void {
    this.#to.end();
    this.#close();
  }
}
