/**
 * Descriptors of a script: labels on the stack's sockets, and how a call on one is begun, attempted and ends (facts part 5).
 * A call is begun once and then attempted until it gives an outcome: one that would block on a blocking descriptor is
 * attempted again after every step of the stack.
 */

import { Callout } from '../stack/kern/callout.js';
import type { Nanos } from '../stack/kern/clock.js';
import { MSEC, SEC } from '../stack/kern/clock.js';
import { MSG_DONTWAIT, SOL_SOCKET, type SockAddr, type Socket } from '../stack/kern/socket.js';
import type { CRecord } from '../stack/sctp/layout.js';
import type { Stack } from '../stack/stack.js';
import type { Expr, Syscall } from './ast.js';
import { need } from './expressions.js';
import type { Mapping } from './mapping.js';
import type { Abi, Difference } from './result.js';
import { ERRNOS, wordValue } from './values.js';

const EAGAIN = ERRNOS.EAGAIN!;
const EBADF = ERRNOS.EBADF!;

/** How a call ended: its value or -errno, and what differs in its output arguments. */
export interface Outcome {
  readonly value: number;
  readonly differences: readonly Difference[];
  /** A descriptor that the call has opened, bound to the label in the script's result, or to this one. */
  readonly opened?: Descriptor;
  readonly label?: number;
  /** -errno that a script may expect as well, where systems differ. */
  readonly also?: number;
}
export type Attempt = () => Outcome | 'blocked';

export interface Descriptor {
  readonly so: Socket;
  nonblocking: boolean;
  /** Options that mean nothing to the stack, as their struct's record, by level and number: options.ts. */
  readonly kept: Map<number, CRecord>;
}

/** What calls need of the run. */
export interface Environment {
  readonly stack: Stack;
  readonly domain: number;
  readonly abi: Abi;
  readonly mapping: Mapping;
  /** The obvious addresses. */
  readonly bindAddress: SockAddr;
  readonly connectAddress: SockAddr;
  peer(): SockAddr;
  /** A socket has been made: it is the one under test. */
  made(so: Socket): void;
  /** The socket under test is bound, listens, or connects. */
  bound(so: Socket): void;
  connecting(so: Socket, to: SockAddr): void;
  /** It sends to an address, which may be what sets up an association (one-to-many). */
  sending(so: Socket, to: SockAddr): void;
}

/** Calls by their name. */
export type Calls = Readonly<Record<string, (args: readonly Expr[], call: Syscall) => Attempt>>;

export const done = (value: number, differences: readonly Difference[] = []): Outcome => ({ value, differences });

/** A time-out in virtual time: the stack's wheel wakes whoever waits for the call. */
export class Timeout {
  readonly #stack: Stack;
  readonly #after: Nanos;
  readonly #callout = new Callout(() => {});
  #until: Nanos | undefined;
  /** Counts from the first time that `over` is asked. Infinity: for ever. */
  constructor(stack: Stack, after: Nanos) {
    this.#stack = stack;
    this.#after = after;
  }
  get over(): boolean {
    const { clock } = this.#stack;
    if (this.#until === undefined) {
      this.#until = clock.now + this.#after;
      if (this.#after > 0 && this.#after !== Number.POSITIVE_INFINITY)
        this.#stack.callouts.reset(this.#callout, this.#after);
    }
    return clock.now >= this.#until;
  }
}

const SO_RCVTIMEO = wordValue('SO_RCVTIMEO')!;
const SO_SNDTIMEO = wordValue('SO_SNDTIMEO')!;
/** Where options.ts keeps an option. */
export const keptKey = (level: number, option: number): number => level * 0x100000 + option;

export class Descriptors {
  readonly env: Environment;
  readonly #fds = new Map<number, Descriptor>();

  constructor(env: Environment) {
    this.env = env;
  }

  get(fd: number): Descriptor | undefined {
    return this.#fds.get(fd);
  }
  set(fd: number, d: Descriptor): void {
    this.#fds.set(fd, d);
  }
  delete(fd: number): void {
    this.#fds.delete(fd);
  }

  /** A call on the descriptor in the first argument: -EBADF without it. */
  on(args: readonly Expr[], f: (d: Descriptor) => Attempt): Attempt {
    const d = this.#fds.get(need(args[0], 'a descriptor'));
    return d === undefined ? () => done(-EBADF) : f(d);
  }
  /** One that never blocks. */
  now(args: readonly Expr[], f: (d: Descriptor) => number | Outcome): Attempt {
    return this.on(args, d => () => {
      const r = f(d);
      return typeof r === 'number' ? done(r) : r;
    });
  }
  /** What would block does, unless the descriptor, the call or a time-out (SO_RCVTIMEO, SO_SNDTIMEO) says otherwise. */
  blocking(d: Descriptor, way: 'send' | 'receive', flags: number, f: () => Outcome): Attempt {
    const t = d.kept.get(keptKey(SOL_SOCKET, way === 'send' ? SO_SNDTIMEO : SO_RCVTIMEO));
    const after = t === undefined ? 0 : Number(t.tv_sec) * SEC + Number(t.tv_usec) * (MSEC / 1000);
    const timeout = new Timeout(this.env.stack, after === 0 ? Number.POSITIVE_INFINITY : after);
    return () => {
      const r = f();
      const blocks = r.value === -EAGAIN && !d.nonblocking && (flags & MSG_DONTWAIT) === 0;
      return blocks && !timeout.over ? 'blocked' : r;
    };
  }
  /** The outcome of a call that opens a descriptor. */
  open(so: Socket, nonblocking: boolean): Outcome {
    return { value: 0, differences: [], opened: { so, nonblocking, kept: new Map() } };
  }
}
