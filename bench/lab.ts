/** What all runs of one `nke bench` share: its options, and what is costly to set up (a Linux guest), made when first used. */

import { bootGuest, type Guest } from '../vm/uml.js';

export interface LabOptions {
  /** Seconds measured in each run. */
  readonly seconds: number;
  /** Runs of each cell. */
  readonly repeat: number;
  /** Fewer points, smaller numbers: to see that it works. */
  readonly quick: boolean;
}

/** Bytes that a socket of the guest may ask for. */
const GUEST_BUFFER = 16 << 20;

export class Lab implements AsyncDisposable {
  readonly options: LabOptions;
  readonly #made = new Map<string, Promise<AsyncDisposable>>();

  constructor(options: LabOptions) {
    this.options = options;
  }

  get seconds(): number {
    return this.options.seconds;
  }

  /** Something that is made once and let go at the end; the same failure every time when it cannot be made. */
  once<T extends AsyncDisposable>(name: string, make: () => Promise<T>): Promise<T> {
    const made = this.#made.get(name) ?? make();
    this.#made.set(name, made);
    return made as Promise<T>;
  }

  /** A Linux kernel as a process (user-mode Linux); its loopback has the MTU of Ethernet. */
  guest(): Promise<Guest> {
    return this.once('guest', async () => {
      const mtu = ['ip', 'link', 'set', 'dev', 'lo', 'mtu', '1500'];
      const guest = await bootGuest({ commands: [mtu], lifetimeMs: 3_600_000 });
      // Room for messages of a megabyte.
      for (const name of ['net.core.wmem_max', 'net.core.rmem_max']) await guest.sysctl(name, GUEST_BUFFER);
      return guest;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const made = await Promise.allSettled([...this.#made.values()].reverse());
    this.#made.clear();
    for (const m of made) if (m.status === 'fulfilled') await m.value[Symbol.asyncDispose]();
  }
}
