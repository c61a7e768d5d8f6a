/**
 * SCTP.kext: SCTP as a loadable network kernel extension. Load: four protosw rows (IPv4 and IPv6, one-to-one and
 * one-to-many), the sysctls net.inet.sctp.*, the counters, the UDP tunnel (RFC 6951). Unload is refused while endpoints
 * exist. Unlike the historical extension a start that fails half-way leaves nothing behind.
 */

import { EBUSY, EINVAL } from '../../kern/errno.js';
import { type Kext, type KextManifest, KPI_IDENTIFIER } from '../../kern/kext.js';
import type { Mbuf } from '../../kern/mbuf.js';
import { AF_INET, AF_INET6, type Protosw, SOCK_SEQPACKET, SOCK_STREAM } from '../../kern/protosw.js';
import { IPPROTO_SCTP } from '../../netinet/in.js';
import { abortAssociation } from '../../sctp/abort.js';
import type { AssocStatus, PathInfo } from '../../sctp/api.js';
import { CAUSE_USER_ABORT } from '../../sctp/constants.js';
import { crc32c as tableCrc32c } from '../../sctp/crc32c.js';
import { assocStatus, pathInfo } from '../../sctp/options.js';
import { reason } from '../../sctp/reasons.js';
import { type Crc32c, Sctp } from '../../sctp/sctp.js';
import { refuses, TUNABLES, type Tunables } from '../../sctp/tunables.js';
import { sctpUsrreqs } from '../../sctp/usrreq.js';
import { cause, textBytes } from '../../sctp/wire.js';
import type { Stack } from '../../stack.js';

export const SCTP_KEXT = 'org.nke.SCTP';

const manifest: KextManifest = {
  identifier: SCTP_KEXT,
  version: '1.0.0',
  kind: 'protocol',
  dependencies: { [KPI_IDENTIFIER]: '1.0.0' },
};

export interface SctpKextOptions {
  /** CRC32c of the machine, if it has something faster than a table. */
  readonly crc32c?: Crc32c;
  /** Settings other than the defaults, in force from the first socket on. */
  readonly tunables?: Partial<Tunables>;
}

/** What `nke netstat -p sctp` and `nke paths` print of an association. */
export interface AssocListing extends AssocStatus {
  readonly localPort: number;
  readonly peerPort: number;
  readonly localAddresses: readonly string[];
  readonly paths: readonly PathInfo[];
}

export interface SctpKext extends Kext {
  /** All associations, with their paths. Empty while not loaded. */
  associations(): AssocListing[];
  /** The protocol's own state, for tests and debuggers; undefined while not loaded. */
  readonly sctp: Sctp | undefined;
  /** Ends every association by ABORT at once, for an appliance that is closed; its reason is told to both sides. */
  abortAll(why: string): void;
  /** Listening endpoints: port and addresses (empty = any). */
  listeners(): { port: number; style: string; addresses: string[] }[];
}

/** SCTP as an extension, to be handed to `stack.kexts.load`. */
export function sctpKext(options: SctpKextOptions = {}): SctpKext {
  let sctp: Sctp | undefined;
  let rows: Protosw[] = [];
  let stack: Stack | undefined;

  /** Moves the UDP tunnel to another port; 0 closes it. The old one stays when the new one is taken. */
  function retunnel(port: number): number {
    const s = sctp!;
    if (port === s.tunnelPort) return 0;
    if (port !== 0) {
      const e = s.stack.udp.tunnel(port, s.input);
      if (e < 0) return e;
    }
    if (s.tunnelPort !== 0) s.stack.udp.untunnel(s.tunnelPort);
    s.tunnelPort = port;
    s.tunables.udp_tunneling_port = port;
    return 0;
  }

  function start(on: Stack): number {
    const s = new Sctp(on, options.crc32c ?? tableCrc32c);
    Object.assign(s.tunables, options.tunables ?? {});
    const wantedPort = s.tunables.udp_tunneling_port;
    s.tunables.udp_tunneling_port = 0;
    sctp = s;
    stack = on;
    const usrreqs = sctpUsrreqs(s);
    rows = [AF_INET, AF_INET6].flatMap(domain =>
      [SOCK_SEQPACKET, SOCK_STREAM].map(
        (type): Protosw => ({
          domain: domain as typeof AF_INET,
          type,
          protocol: IPPROTO_SCTP,
          name: `sctp${domain === AF_INET ? '' : '6'}/${type === SOCK_STREAM ? 'stream' : 'seqpacket'}`,
          input: s.input,
          ctlinput: s.ctlinput,
          flush: s.flush,
          usrreqs,
        }),
      ),
    );
    const e = register(s, wantedPort);
    if (e < 0) withdraw();
    return e;
  }

  function register(s: Sctp, port: number): number {
    for (const row of rows) {
      const e = s.stack.protocols.add(row);
      if (e < 0) return e;
    }
    const special: readonly string[] = ['udp_tunneling_port', 'auth_enable', 'asconf_enable'];
    const plain = TUNABLES.filter(r => !special.includes(r.name));
    const e = s.stack.sysctl.add('net.inet.sctp', plain, s.tunables);
    if (e < 0) return e;
    const tunnelRow = TUNABLES.find(r => r.name === 'udp_tunneling_port')!;
    s.stack.sysctl.addProcedure('net.inet.sctp', 'udp_tunneling_port', {
      meaning: tunnelRow.meaning,
      get: () => s.tunnelPort,
      set: v => {
        const n = Number(v);
        return Number.isInteger(n) && n >= 0 && n <= 65535 ? retunnel(n) : -EINVAL;
      },
    });
    for (const name of ['auth_enable', 'asconf_enable'] as const)
      s.stack.sysctl.addProcedure('net.inet.sctp', name, {
        meaning: TUNABLES.find(r => r.name === name)!.meaning,
        get: () => s.tunables[name],
        set: v => {
          const n = Number(v);
          if ((n !== 0 && n !== 1) || refuses(s.tunables, name, n)) return -EINVAL;
          s.tunables[name] = n;
          return 0;
        },
      });
    s.stack.counters.add('sctp', s.stats);
    s.stack.sctpDelayedChecksum = (m: Mbuf, skip: number) => delayedChecksum(s, m, skip);
    return retunnel(port);
  }

  function withdraw(): void {
    if (sctp === undefined || stack === undefined) return;
    retunnel(0);
    for (const row of rows) stack.protocols.remove(row);
    stack.sysctl.remove('net.inet.sctp');
    stack.counters.remove('sctp');
    stack.sctpDelayedChecksum = undefined;
    sctp.finish();
    sctp = undefined;
    rows = [];
  }

  return {
    manifest,
    get sctp() {
      return sctp;
    },
    start,
    stop: () => {
      if (sctp !== undefined && sctp.endpoints.size > 0) return -EBUSY;
      withdraw();
      return 0;
    },
    abortAll: why => {
      if (sctp === undefined) return;
      for (const a of [...sctp.associations()])
        abortAssociation(sctp, a, [cause(CAUSE_USER_ABORT, textBytes(why))], reason(why, '§9.1'));
    },
    references: () =>
      sctp === undefined
        ? []
        : [...sctp.endpoints].map(
            ep =>
              `${ep.gone ? 'closing ' : ''}${ep.style} endpoint on port ${ep.port} (${ep.asocs.size} association${ep.asocs.size === 1 ? '' : 's'})`,
          ),
    associations: () =>
      sctp === undefined
        ? []
        : [...sctp.associations()].map(a => ({
            ...assocStatus(a),
            localPort: a.localPort,
            peerPort: a.peerPort,
            localAddresses: a.localAddresses.map(String),
            paths: a.paths.map(pathInfo),
          })),
    listeners: () =>
      sctp === undefined
        ? []
        : [...sctp.endpoints]
            .filter(ep => ep.listening)
            .map(ep => ({ port: ep.port, style: ep.style, addresses: ep.addresses.map(String) })),
  };
}

/** Fills in the CRC32c of a packet that the card on its way cannot do: `skip` bytes of headers stand in front. */
function delayedChecksum(s: Sctp, m: Mbuf, skip: number): void {
  const pool = s.stack.pool;
  const n = pool.pktlen[m]! - skip;
  if (n < 12) return;
  if (pool.next[m] === 0) {
    const off = pool.off[m]! + skip;
    pool.dv.setUint32(off + 8, 0);
    pool.dv.setUint32(off + 8, s.crc32c(pool.u8, off, n), true);
    return;
  }
  // A chain: its bytes are laid out flat once; this is never the fast path.
  const flat = new Uint8Array(n);
  pool.copyout(m, skip, n, flat, 0);
  flat.fill(0, 8, 12);
  const crc = s.crc32c(flat, 0, n);
  let at = skip + 8;
  let x = m;
  while (at >= pool.len[x]!) {
    at -= pool.len[x]!;
    x = pool.next[x]!;
  }
  pool.dv.setUint32(pool.off[x]! + at, crc, true);
}
