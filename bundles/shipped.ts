/**
 * The extensions that ship with the package, by the name that kextload takes. Their code is compiled with the package and
 * trusted as a part of it (npm checks the package's digest when it is installed), so they bear no signature of their own;
 * their folders stack/kexts/NAME.kext have a manifest like any other, which a test compares with the code.
 */

import type { Kext, KextManifest } from '../stack/kern/kext.js';
import { lldpKext } from '../stack/kexts/LLDP.kext/index.js';
import { packetLogKext } from '../stack/kexts/PacketLog.kext/index.js';
import { sctpKext } from '../stack/kexts/SCTP.kext/index.js';
import { sctpSupportKext } from '../stack/kexts/SCTPSupport.kext/index.js';
import { sockGuardKext } from '../stack/kexts/SockGuard.kext/index.js';
import { udpLiteKext } from '../stack/kexts/UDPLite.kext/index.js';
import { vlanKext } from '../stack/kexts/VLAN.kext/index.js';

/** What the machine has that an extension may use. */
export interface Machine {
  readonly crc32c?: (u8: Uint8Array, off: number, n: number) => number;
}

export interface Shipped {
  readonly make: (machine: Machine) => Kext;
}

export const SHIPPED: Readonly<Record<string, Shipped>> = {
  SCTP: { make: ({ crc32c }) => sctpKext({ crc32c }) },
  SCTPSupport: { make: ({ crc32c }) => sctpSupportKext({ crc32c }) },
  LLDP: { make: () => lldpKext() },
  PacketLog: { make: () => packetLogKext() },
  SockGuard: { make: () => sockGuardKext() },
  UDPLite: { make: () => udpLiteKext() },
  VLAN: { make: () => vlanKext() },
};

/** Name and manifest of each. */
export function shippedManifests(): readonly { readonly name: string; readonly manifest: KextManifest }[] {
  return Object.entries(SHIPPED).map(([name, s]) => ({ name, manifest: s.make({}).manifest }));
}
