/**
 * SCTPSupport.kext: what SCTP.kext needs of the stack and the stack does not have, as symbols for extensions that depend
 * on this one (the historical pair: SCTPSupport.kext brought missing kernel symbols and was loaded first). Here: CRC32c
 * (RFC 9260 appendix A) by the fastest means of the machine, and the completion of packets whose checksum was left to a
 * card that turns out not to do it.
 */

import { type Kext, type KextManifest, KPI_IDENTIFIER } from '../../kern/kext.js';
import type { Kpi } from '../../kern/kpi.js';
import type { Mbuf } from '../../kern/mbuf.js';
import { crc32c as tableCrc32c } from '../../sctp/crc32c.js';
import type { Crc32c } from '../../sctp/sctp.js';

export const SCTP_SUPPORT_KEXT = 'org.nke.SCTPSupport';

const manifest: KextManifest = {
  identifier: SCTP_SUPPORT_KEXT,
  version: '1.0.0',
  kind: 'library',
  dependencies: { [KPI_IDENTIFIER]: '1.1.0' },
  about: 'CRC32c and delayed checksums for SCTP.kext',
};

export interface SctpSupportOptions {
  /** CRC32c of the machine, if it has something faster than a table. */
  readonly crc32c?: Crc32c;
}

/** What it exports. */
export interface SctpSupportSymbols {
  readonly crc32c: Crc32c;
  /** Fills in the CRC32c of the SCTP packet that begins `skip` bytes into m. */
  readonly delayedChecksum: (m: Mbuf, skip: number) => void;
}

/** The extension, to be handed to `stack.kexts.load`; SCTP.kext brings it along. */
export function sctpSupportKext(options: SctpSupportOptions = {}): Kext {
  return {
    manifest,
    builtin: true,
    start: kpi => {
      const counters = { delayed_checksums: 0, delayed_chains: 0 };
      const crc32c = options.crc32c ?? tableCrc32c;
      const symbols: SctpSupportSymbols = {
        crc32c,
        delayedChecksum: (m, skip) => delayedChecksum(kpi, crc32c, counters, m, skip),
      };
      kpi.export_symbols(symbols as unknown as Record<string, unknown>);
      const e = kpi.counters('sctpsupport', counters);
      if (e < 0) return e;
      return kpi.sysctl_proc('kern.sctpsupport', 'crc32c', {
        meaning: 'How CRC32c is computed: by the machine (instruction or C module) or by tables',
        get: () => (crc32c === tableCrc32c ? 'table' : 'machine'),
      });
    },
    stop: () => 0,
  };
}

/** Fills in the CRC32c of a packet that the card on its way cannot do: `skip` bytes of headers stand in front. */
function delayedChecksum(
  kpi: Kpi,
  crc32c: Crc32c,
  counters: { delayed_checksums: number; delayed_chains: number },
  m: Mbuf,
  skip: number,
): void {
  const { pool } = kpi;
  const n = pool.pktlen[m]! - skip;
  if (n < 12) return;
  counters.delayed_checksums++;
  if (pool.next[m] === 0) {
    const off = pool.off[m]! + skip;
    pool.dv.setUint32(off + 8, 0);
    pool.dv.setUint32(off + 8, crc32c(pool.u8, off, n), true);
    return;
  }
  // A chain: its bytes are laid out flat once; this is never the fast path.
  counters.delayed_chains++;
  const flat = new Uint8Array(n);
  pool.copyout(m, skip, n, flat, 0);
  flat.fill(0, 8, 12);
  const crc = crc32c(flat, 0, n);
  let at = skip + 8;
  let x = m;
  while (at >= pool.len[x]!) {
    at -= pool.len[x]!;
    x = pool.next[x]!;
  }
  pool.dv.setUint32(pool.off[x]! + at, crc, true);
}
