/**
 * The control channel of a running appliance: a UNIX socket that speaks one JSON object a line.
 *
 *   request   {"id": 1, "cmd": "ifconfig", "args": {...}}
 *   response  {"id": 1, "ok": true, "result": ...}  or  {"id": 1, "ok": false, "error": "one line", "status": 2}
 *   stream    {"id": 1, "event": ...} until the client hangs up (only of commands that follow something)
 *
 * Whoever may connect may steer the appliance, so the socket is for its owner alone: mode 0600 in a directory of mode 0700.
 * Lines are bounded, and bytes that are no request get an answer that says so; they never end the appliance.
 */

import { chmodSync, lstatSync, mkdirSync, readdirSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { CliError, EXIT_FAILED, EXIT_USAGE, oneLine } from './errors.js';

export const MAX_REQUEST_BYTES = 64 * 1024;
export const MAX_RESPONSE_BYTES = 16 * 1024 * 1024;
export const MAX_CLIENTS = 32;
/** A follower that does not read is hung up on when so many bytes wait for it. */
export const MAX_BACKLOG_BYTES = 4 * 1024 * 1024;
const REQUEST_TIMEOUT_MS = 15_000;
/** sun_path of Linux holds 108 bytes, the last a zero. */
const MAX_PATH_BYTES = 107;

export type Args = Readonly<Record<string, unknown>>;

/** Sends one event to a follower; false when it has gone. */
export type Emit = (event: unknown) => boolean;

/** What a command may hand back to go on sending: called once with the way to send, returns how to stop. */
export class Follow {
  readonly start: (emit: Emit) => () => void;
  constructor(start: (emit: Emit) => () => void) {
    this.start = start;
  }
}

export type Handler = (args: Args) => unknown;
export type Handlers = Readonly<Record<string, Handler>>;

/** The directory of control sockets: $XDG_RUNTIME_DIR/nke, or /tmp/nke-UID. */
export function controlDirectory(env: NodeJS.ProcessEnv = process.env, uid = process.getuid?.() ?? 0): string {
  return env.XDG_RUNTIME_DIR ? join(env.XDG_RUNTIME_DIR, 'nke') : join('/tmp', `nke-${uid}`);
}

/** The control socket of an appliance by name. */
export function controlPath(name: string, env?: NodeJS.ProcessEnv): string {
  return join(controlDirectory(env), `${name}.sock`);
}

/** Makes the default directory, and refuses one that somebody else could write to (it may lie in /tmp). */
function secureDirectory(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  } catch (e) {
    throw new CliError(
      `cannot make the control directory ${dir}: ${oneLine(e)}; set XDG_RUNTIME_DIR or give --control PATH`,
    );
  }
  const stat = lstatSync(dir);
  const uid = process.getuid?.() ?? stat.uid;
  if (!stat.isDirectory() || stat.uid !== uid || (stat.mode & 0o022) !== 0)
    throw new CliError(
      `${dir} is not a directory of yours alone; remove it (rm -r ${dir}), set XDG_RUNTIME_DIR or give --control PATH`,
    );
}

/** True when somebody accepts on a UNIX socket; false when nobody does (a stale socket) or nothing is there. */
function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path);
    const end = (yes: boolean) => {
      socket.destroy();
      resolve(yes);
    };
    socket.on('connect', () => end(true));
    socket.on('error', e => end((e as NodeJS.ErrnoException).code === 'EACCES'));
    socket.setTimeout(1000, () => end(true));
  });
}

/** Frees the path of a socket that nobody listens on; refuses anything else that stands there. */
async function clearStale(path: string): Promise<void> {
  let stat: ReturnType<typeof lstatSync>;
  try {
    stat = lstatSync(path);
  } catch {
    return;
  }
  if (!stat.isSocket())
    throw new CliError(`${path} is there and is not a socket; remove it or give another --control PATH`);
  if (await answers(path))
    throw new CliError(`an appliance already listens on ${path}; stop it or give this one another --name`);
  unlinkSync(path);
}

/** Splits a byte stream into lines of at most `limit` bytes. Returns false when a line grows too long. */
class LineReader {
  readonly #limit: number;
  readonly #line: (text: string) => void;
  #parts: Buffer[] = [];
  #bytes = 0;
  constructor(limit: number, line: (text: string) => void) {
    this.#limit = limit;
    this.#line = line;
  }
  push(chunk: Buffer): boolean {
    let from = 0;
    for (let at = chunk.indexOf(10, from); at >= 0; at = chunk.indexOf(10, from)) {
      if (this.#bytes + (at - from) > this.#limit) return false;
      this.#parts.push(chunk.subarray(from, at));
      const text = Buffer.concat(this.#parts).toString('utf8');
      this.#parts = [];
      this.#bytes = 0;
      from = at + 1;
      this.#line(text);
    }
    if (from < chunk.length) {
      this.#parts.push(chunk.subarray(from));
      this.#bytes += chunk.length - from;
    }
    return this.#bytes <= this.#limit;
  }
}

export interface ControlCounters {
  clients: number;
  requests: number;
  refused_too_many: number;
  bad_requests: number;
  too_long: number;
  failed_requests: number;
  slow_followers: number;
}

/** The appliance's end. */
export class ControlServer {
  readonly path: string;
  readonly counters: ControlCounters = {
    clients: 0,
    requests: 0,
    refused_too_many: 0,
    bad_requests: 0,
    too_long: 0,
    failed_requests: 0,
    slow_followers: 0,
  };
  readonly #handlers: Handlers;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();

  private constructor(path: string, handlers: Handlers) {
    this.path = path;
    this.#handlers = handlers;
    this.#server = createServer(socket => this.#accept(socket));
  }

  /** Listens on `path`. Throws CliError when the path is taken, too long or not to be trusted. */
  static async listen(path: string, handlers: Handlers): Promise<ControlServer> {
    if (Buffer.byteLength(path) > MAX_PATH_BYTES)
      throw new CliError(
        `the control socket's path is longer than ${MAX_PATH_BYTES} bytes: ${path}; give a shorter --control PATH`,
      );
    if (dirname(path) === controlDirectory()) secureDirectory(dirname(path));
    await clearStale(path);
    const control = new ControlServer(path, handlers);
    // bind(2) happens inside listen(): the mask makes the socket 0600 from its first moment.
    const mask = process.umask(0o177);
    try {
      await new Promise<void>((resolve, reject) => {
        control.#server.once('error', reject);
        control.#server.listen(path, resolve);
      });
      chmodSync(path, 0o600);
    } catch (e) {
      throw new CliError(`cannot listen on the control socket ${path}: ${oneLine(e)}; give another --control PATH`);
    } finally {
      process.umask(mask);
    }
    return control;
  }

  #accept(socket: Socket): void {
    if (this.#clients.size >= MAX_CLIENTS) {
      this.counters.refused_too_many++;
      socket.on('error', () => {});
      // Read on, or its end would never be seen and the server could not close.
      socket.resume();
      socket.end(
        `${JSON.stringify({ id: null, ok: false, error: `too many control clients (${MAX_CLIENTS})`, status: EXIT_FAILED })}\n`,
      );
      return;
    }
    this.counters.clients++;
    this.#clients.add(socket);
    let stop: (() => void) | undefined;
    let gone = false;
    const send = (message: unknown): boolean => {
      if (gone) return false;
      socket.write(`${JSON.stringify(message)}\n`);
      if (socket.writableLength <= MAX_BACKLOG_BYTES) return true;
      this.counters.slow_followers++;
      socket.destroy();
      return false;
    };
    const lines = new LineReader(MAX_REQUEST_BYTES, text => {
      if (gone || text.trim() === '') return;
      void this.#answer(text, send).then(follow => {
        if (follow === undefined) return;
        if (gone) return;
        stop?.();
        stop = follow();
        socket.setTimeout(0);
      });
    });
    socket.setTimeout(60_000, () => socket.destroy());
    socket.on('data', chunk => {
      if (gone || lines.push(chunk)) return;
      this.counters.too_long++;
      send({
        id: null,
        ok: false,
        error: `a request is one line of at most ${MAX_REQUEST_BYTES} bytes`,
        status: EXIT_USAGE,
      });
      gone = true;
      socket.end();
      socket.destroySoon();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      gone = true;
      stop?.();
      this.#clients.delete(socket);
    });
  }

  /** Answers one line. Resolves with what starts the stream when the command follows something. */
  async #answer(text: string, send: Emit): Promise<(() => () => void) | undefined> {
    let request: { id?: unknown; cmd?: unknown; args?: unknown };
    try {
      request = JSON.parse(text) as typeof request;
    } catch {
      request = {};
    }
    const id = typeof request?.id === 'number' ? request.id : null;
    const args = request?.args ?? {};
    if (
      request === null ||
      typeof request !== 'object' ||
      typeof request.cmd !== 'string' ||
      args === null ||
      typeof args !== 'object' ||
      Array.isArray(args)
    ) {
      this.counters.bad_requests++;
      send({
        id,
        ok: false,
        error: 'not a request; send one JSON object a line: {"id":1,"cmd":"ifconfig","args":{}}',
        status: EXIT_USAGE,
      });
      return undefined;
    }
    const handler = Object.hasOwn(this.#handlers, request.cmd) ? this.#handlers[request.cmd] : undefined;
    if (handler === undefined) {
      this.counters.bad_requests++;
      const names = Object.keys(this.#handlers).join(', ');
      send({
        id,
        ok: false,
        error: `unknown command ${JSON.stringify(request.cmd.slice(0, 40))}; known: ${names}`,
        status: EXIT_USAGE,
      });
      return undefined;
    }
    this.counters.requests++;
    try {
      const result = await handler(args as Args);
      if (result instanceof Follow) {
        send({ id, ok: true, result: null });
        return () => result.start(event => send({ id, event }));
      }
      send({ id, ok: true, result: result ?? null });
    } catch (e) {
      this.counters.failed_requests++;
      send({ id, ok: false, error: oneLine(e), status: e instanceof CliError ? e.status : EXIT_FAILED });
    }
    return undefined;
  }

  /** Hangs up on all clients and removes the socket. May be called twice. */
  async close(): Promise<void> {
    for (const socket of this.#clients) socket.destroy();
    this.#clients.clear();
    if (!this.#server.listening) return;
    await new Promise<void>(resolve => this.#server.close(() => resolve()));
  }
}

/** Names of the appliances whose sockets stand in the control directory, stale ones included. */
export function runningNames(env?: NodeJS.ProcessEnv): string[] {
  try {
    return readdirSync(controlDirectory(env))
      .filter(f => f.endsWith('.sock'))
      .map(f => f.slice(0, -'.sock'.length))
      .sort();
  } catch {
    return [];
  }
}

/**
 * Which control socket a command means: a path (it has a slash), a name, $NKE_APPLIANCE, or the only one there is.
 * Throws CliError when there is none, or several.
 */
export function chooseControl(which: string | undefined, env: NodeJS.ProcessEnv = process.env): string {
  const asked = which ?? env.NKE_APPLIANCE;
  if (asked !== undefined && asked !== '') return asked.includes('/') ? asked : controlPath(asked, env);
  const names = runningNames(env);
  if (names.length === 1) return controlPath(names[0]!, env);
  if (names.length === 0)
    throw new CliError(
      'no appliance is running (none has a control socket); start one with: nke up --port udp:127.0.0.1:9899 --kext SCTP',
    );
  throw new CliError(`several appliances are running; say which with --appliance NAME: ${names.join(', ')}`);
}

/**
 * Sends one request and gives its result. With `onEvent` the connection stays open and every event is handed on until
 * `signal` aborts or the appliance ends. Throws CliError with the appliance's own words.
 */
export function controlRequest(
  path: string,
  cmd: string,
  args: Args = {},
  onEvent?: (event: unknown) => void,
  signal?: AbortSignal,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let result: { value: unknown } | undefined;
    const fail = (message: string, status = EXIT_FAILED) => {
      socket.destroy();
      reject(new CliError(message, status));
    };
    const finish = () => {
      signal?.removeEventListener('abort', finish);
      socket.destroy();
      resolve(result?.value);
    };
    const timer = setTimeout(
      () => fail(`the appliance at ${path} did not answer within ${REQUEST_TIMEOUT_MS / 1000} s`),
      REQUEST_TIMEOUT_MS,
    );
    const lines = new LineReader(MAX_RESPONSE_BYTES, text => {
      let message: { ok?: boolean; result?: unknown; error?: string; status?: number; event?: unknown };
      try {
        message = JSON.parse(text) as typeof message;
      } catch {
        fail(`what answers at ${path} is not an appliance`);
        return;
      }
      if (message !== null && typeof message === 'object' && 'event' in message) {
        onEvent?.(message.event);
        return;
      }
      clearTimeout(timer);
      if (message?.ok !== true) {
        fail(
          String(message?.error ?? 'the appliance refused without a reason'),
          Number(message?.status ?? EXIT_FAILED),
        );
        return;
      }
      result = { value: message.result };
      if (onEvent === undefined) finish();
    });
    signal?.addEventListener('abort', finish);
    socket.on('connect', () => socket.write(`${JSON.stringify({ id: 1, cmd, args })}\n`));
    socket.on('data', chunk => {
      if (!lines.push(chunk)) fail(`the appliance's answer is longer than ${MAX_RESPONSE_BYTES} bytes`);
    });
    socket.on('error', e => {
      clearTimeout(timer);
      const code = (e as NodeJS.ErrnoException).code;
      const name = path.slice(path.lastIndexOf('/') + 1).replace(/\.sock$/, '');
      if (code === 'ENOENT' || code === 'ECONNREFUSED')
        fail(`no appliance "${name}" is running (${path}); start it with: nke up --name ${name} ...`, EXIT_USAGE);
      else fail(`cannot reach the appliance at ${path}: ${oneLine(e)}`, EXIT_USAGE);
    });
    socket.on('close', () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', finish);
      if (result !== undefined) resolve(result.value);
      else fail(`the appliance at ${path} hung up without an answer`);
    });
  });
}
