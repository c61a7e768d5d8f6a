/**
 * A program's end of PF_NKE: a socket connected to the control of one extension. What the command line uses too. An answer
 * is there when the request returns, since the extension runs in the same loop.
 */

import { type CtlArgs, MAX_CTL_REPLY, NKEPROTO_CONTROL, PF_NKE } from './ctl.js';
import { errnoName } from './errno.js';
import { SOCK_DGRAM } from './protosw.js';
import { RecvInfo, type SockAddr, type Socket } from './socket.js';

/** What a client needs of a stack. */
export interface ControlHost {
  socket(domain: number, type: number, protocol: number): Socket | number;
  readonly ctl: { address(identifier: string): SockAddr | number };
}

export type ControlAnswer =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly errno: string; readonly reason: string };

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class ControlClient {
  readonly identifier: string;
  readonly #so: Socket;
  readonly #buffer = new Uint8Array(MAX_CTL_REPLY + 1024);
  readonly #info = new RecvInfo();
  #answers: unknown[] = [];
  #id = 0;
  #event: ((event: unknown, dropped: number) => void) | undefined;
  /** Why the socket ended, if it did. */
  ended = '';

  private constructor(identifier: string, so: Socket) {
    this.identifier = identifier;
    this.#so = so;
    so.upcall = () => this.#read();
  }

  /** Connects to an extension's control, or says why not. */
  static open(
    host: ControlHost,
    identifier: string,
  ): ControlClient | { readonly errno: string; readonly reason: string } {
    const address = host.ctl.address(identifier);
    if (typeof address === 'number')
      return { errno: errnoName(address), reason: `no extension ${identifier.slice(0, 128)} is loaded` };
    const so = host.socket(PF_NKE, SOCK_DGRAM, NKEPROTO_CONTROL);
    if (typeof so === 'number') return { errno: errnoName(so), reason: `no control socket (${errnoName(so)})` };
    const e = so.connect(address);
    if (e >= 0) return new ControlClient(identifier, so);
    so.close();
    return { errno: errnoName(e), reason: `cannot connect to ${identifier} (${errnoName(e)})` };
  }

  #read(): void {
    for (;;) {
      const n = this.#so.recv(this.#buffer, 0, this.#buffer.length, this.#info);
      if (n < 0) {
        if (this.#so.errorReason !== '') this.ended = this.#so.errorReason;
        return;
      }
      const message = JSON.parse(decoder.decode(this.#buffer.subarray(0, n))) as { event?: unknown; dropped?: number };
      if ('event' in message) this.#event?.(message.event, message.dropped ?? 0);
      else this.#answers.push(message);
    }
  }

  /** One request and its answer. */
  request(op: string, more: { name?: string; value?: unknown; args?: CtlArgs } = {}): ControlAnswer {
    const id = ++this.#id;
    const n = this.#so.send(encoder.encode(JSON.stringify({ id, op, ...more })));
    if (n < 0)
      return { ok: false, errno: errnoName(n), reason: this.ended || `the control refused it (${errnoName(n)})` };
    const answer = this.#answers.find(a => (a as { id?: number }).id === id) as ControlAnswer | undefined;
    this.#answers = [];
    return answer ?? { ok: false, errno: 'EIO', reason: 'the control did not answer' };
  }
  /** Subscribes to the extension's events. */
  subscribe(fn: (event: unknown, dropped: number) => void): ControlAnswer {
    this.#event = fn;
    return this.request('subscribe');
  }
  close(): void {
    this.#so.close();
  }
}
