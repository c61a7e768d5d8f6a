/**
 * Readiness: how a port keeps the two promises of Port.arm: at most one wake per arm, and an armed port keeps the process
 * alive. SoftReadiness serves ports without a descriptor, FdReadiness those whose descriptor the C module can poll.
 */
import { type Native, POLL_ERROR } from '../native.js';
import { PortError } from './port.js';

const FOREVER = 0x7fffffff;

/** Wakes from a turn of its own (setImmediate), so that never a wake comes from inside a port's method. */
export class SoftReadiness {
  #wake: (() => void) | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #anchor: NodeJS.Timeout | undefined;
  readonly #fire = () => {
    this.#immediate = undefined;
    const wake = this.#wake;
    this.#release();
    wake?.();
  };

  get armed(): boolean {
    return this.#wake !== undefined;
  }

  /** `ready`: there is something already, so wake in the next turn. */
  arm(wake: () => void, ready: boolean): void {
    this.#wake = wake;
    this.#anchor ??= setInterval(() => {}, FOREVER);
    this.#anchor.ref();
    if (ready) this.signal();
  }

  /** Something happened: an armed port wakes, once. */
  signal(): void {
    if (this.#wake !== undefined) this.#immediate ??= setImmediate(this.#fire);
  }

  disarm(): void {
    if (this.#immediate !== undefined) clearImmediate(this.#immediate);
    this.#immediate = undefined;
    this.#release();
  }

  #release(): void {
    this.#wake = undefined;
    this.#anchor?.unref();
  }

  close(): void {
    this.disarm();
    if (this.#anchor !== undefined) clearInterval(this.#anchor);
    this.#anchor = undefined;
  }
}

/** One or two descriptors polled on Node's loop; the second one is watched for reading only (a link monitor). */
export class FdReadiness {
  readonly #native: Native;
  readonly #ids: number[] = [];
  #wake: (() => void) | undefined;
  #immediate: NodeJS.Immediate | undefined;
  /** Set when the loop reported an error condition: there may be something in the error queue. */
  error = false;
  readonly #fire = () => {
    this.#immediate = undefined;
    const wake = this.#wake;
    this.disarm();
    wake?.();
  };

  /** Throws PortError when the loop takes no more descriptors; closes what it registered. */
  constructor(native: Native, fds: readonly number[]) {
    this.#native = native;
    for (const fd of fds) {
      const id = native.pollOpen(fd, events => {
        if (events & POLL_ERROR) this.error = true;
        this.#fire();
      });
      if (id < 0) {
        this.close();
        throw new PortError(
          'EPOLL',
          `cannot watch a descriptor (errno ${-id}): too many ports are open in this process`,
        );
      }
      this.#ids.push(id);
    }
  }

  /** `events` (POLL_*) for the first descriptor; `ready`: wake in the next turn whatever the descriptors say. */
  arm(wake: () => void, events: number, ready: boolean): void {
    this.#wake = wake;
    for (let i = 0; i < this.#ids.length; i++) this.#native.pollArm(this.#ids[i]!, i === 0 ? events : 1);
    if (ready) this.#immediate ??= setImmediate(this.#fire);
  }

  /** Something happened that no descriptor tells: an armed port wakes, in the next turn. */
  signal(): void {
    if (this.#wake !== undefined) this.#immediate ??= setImmediate(this.#fire);
  }

  disarm(): void {
    this.#wake = undefined;
    if (this.#immediate !== undefined) clearImmediate(this.#immediate);
    this.#immediate = undefined;
    for (const id of this.#ids) this.#native.pollDisarm(id);
  }

  close(): void {
    this.disarm();
    for (const id of this.#ids) this.#native.pollClose(id);
    this.#ids.length = 0;
  }
}
