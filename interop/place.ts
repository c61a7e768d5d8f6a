// Where an interoperation test runs: this process itself moves into the network namespace of the test (setns(2) of the main
// thread), so that an appliance made in it opens its TAPs and UDP sockets there, and sockets of node:net are there too.
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Appliance, type ApplianceConfig } from '../appliance.js';
import { native, nativeError } from '../nic/native.js';
import { Netns, skipWithoutNetns } from '../vm/netns.js';
import type { ManagedProcess } from '../vm/process.js';
import type { GuestNic } from '../vm/uml.js';

/** For node:test's `skip`: false when an appliance can be run in a namespace of its own here, else why not. */
export function skipWithoutPlace(): string | false {
  if (native === undefined) return `the C module is not built: ${nativeError}`;
  return skipWithoutNetns();
}

/** A namespace with this process inside. Disposing of it goes back home and removes the namespace with all its links. */
export class Place implements Disposable {
  readonly netns = new Netns();
  readonly #home: number;

  constructor() {
    this.#home = openSync('/proc/self/ns/net', 'r');
    try {
      this.#enter(`/run/netns/${this.netns.name}`);
    } catch (error) {
      closeSync(this.#home);
      this.netns[Symbol.dispose]();
      throw error;
    }
  }

  #enter(path: string): void {
    const e = native!.enterNamespace(path);
    if (e !== 0) throw new Error(`cannot enter the network namespace ${path}: errno ${-e}`);
  }

  /** A bridge `br${n}` over a TAP for us, `nke${n}`, and TAPs `g${i}n${n}` of as many guests. */
  addNetwork(n: number, guests = 1, bridgeAddresses: readonly string[] = []): void {
    const taps = [`nke${n}`, ...Array.from({ length: guests }, (_, i) => `g${i}n${n}`)];
    for (const tap of taps) this.netns.addTap(tap);
    this.netns.addBridge(`br${n}`, taps, { addresses: bridgeAddresses });
  }

  [Symbol.dispose](): void {
    this.#enter(`/proc/self/fd/${this.#home}`);
    closeSync(this.#home);
    this.netns[Symbol.dispose]();
  }
}

/** The addresses of host `host` on network n, IPv4 and IPv6. We are host 1, guests 2 and 3, the bridge itself is 254. */
export const v4 = (n: number, host: number) => `10.9.${n}.${host}`;
export const v6 = (n: number, host: number) => `fd09:${n + 1}::${host}`;
export const onNet = (n: number, host: number) => [`${v4(n, host)}/24`, `${v6(n, host)}/64`];

/** A guest's card on network n; guest 0 is host 2. */
export const guestNic = (n: number, guest = 0): GuestNic => ({
  tap: `g${guest}n${n}`,
  addresses: onNet(n, 2 + guest),
});

/**
 * An appliance with a TAP on each of the networks, as host 1. Close it with closeClean(). Its MAC addresses are always the
 * same, as those of hardware are: the guest's neighbour caches outlive one appliance after the other.
 */
export function tapAppliance(
  networks: readonly number[],
  more: Partial<ApplianceConfig> = {},
  capture?: string,
): Appliance {
  return Appliance.create({
    cards: networks.map(n => ({
      port: `tap:nke${n}`,
      mac: `02:00:00:00:0${n}:01`,
      addresses: onNet(n, 1),
      ...(capture === undefined ? {} : { capture: `${capture}.${n}` }),
    })),
    kexts: ['SCTP'],
    ...more,
  });
}

/** The command `nke` in a namespace. */
export function nke(netns: Netns, args: readonly string[], timeoutMs = 30_000): ManagedProcess {
  const program = fileURLToPath(new URL('../nke.js', import.meta.url));
  return netns.start([process.execPath, program, ...args], { timeoutMs });
}
