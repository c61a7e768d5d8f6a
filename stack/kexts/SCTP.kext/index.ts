/**
 * SCTP.kext: SCTP as a loadable network kernel extension. Load: four protosw rows (IPv4 and IPv6, one-to-one and
 * one-to-many), the sysctls net.inet.sctp.*, the counters, the UDP tunnel (RFC 6951). CRC32c and the hook for delayed
 * checksums come from SCTPSupport.kext, which is loaded first. Unload is refused while endpoints exist. Unlike the
 * historical extension a start that fails half-way leaves nothing behind.
 */

import { EBUSY, EINVAL } from '../../kern/errno.js';
import { type Kext, type KextManifest, KPI_IDENTIFIER } from '../../kern/kext.js';
import type { Kpi } from '../../kern/kpi.js';
import { AF_INET, AF_INET6, type Protosw, SOCK_SEQPACKET, SOCK_STREAM } from '../../kern/protosw.js';
import { IPPROTO_SCTP } from '../../netinet/in.js';
import { abortAssociation } from '../../sctp/abort.js';
import type { AssocStatus, PathInfo } from '../../sctp/api.js';
import { CAUSE_USER_ABORT } from '../../sctp/constants.js';
import { assocStatus, pathInfo } from '../../sctp/options.js';
import { reason } from '../../sctp/reasons.js';
import { type Crc32c, Sctp } from '../../sctp/sctp.js';
import { startShutdown } from '../../sctp/shutdown.js';
import { refuses, TUNABLES, type Tunables } from '../../sctp/tunables.js';
import { sctpUsrreqs } from '../../sctp/usrreq.js';
import { cause, textBytes } from '../../sctp/wire.js';
import { SCTP_SUPPORT_KEXT, type SctpSupportSymbols, sctpSupportKext } from '../SCTPSupport.kext/index.js';

export const SCTP_KEXT = 'org.nke.SCTP';

const manifest: KextManifest = {
  identifier: SCTP_KEXT,
  version: '1.0.0',
  kind: 'protocol',
  dependencies: { [KPI_IDENTIFIER]: '1.1.0', [SCTP_SUPPORT_KEXT]: '1.0.0' },
  about: 'Stream Control Transmission Protocol, RFC 9260',
};

export interface SctpKextOptions {
  /** CRC32c of the machine, if it has something faster than a table; for the SCTPSupport.kext that this one brings along. */
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
  /** Endpoints that hold it, also those that are closing. */
  references(): readonly string[];
  /** Listening endpoints: port and addresses (empty = any). */
  listeners(): { port: number; style: string; addresses: string[] }[];
}

/** SCTP as an extension, to be handed to `stack.kexts.load`. */
export function sctpKext(options: SctpKextOptions = {}): SctpKext {
  let sctp: Sctp | undefined;
  let kpi: Kpi | undefined;

  /** Moves the UDP tunnel to another port; 0 closes it. The old one stays when the new one is taken. */
  function retunnel(port: number): number {
    const s = sctp!;
    if (port === s.tunnelPort) return 0;
    if (port !== 0) {
      const e = kpi!.udp_tunnel(port, s.input);
      if (e < 0) return e;
    }
    if (s.tunnelPort !== 0) kpi!.udp_untunnel(s.tunnelPort);
    s.tunnelPort = port;
    s.tunables.udp_tunneling_port = port;
    return 0;
  }

  function start(on: Kpi): number {
    const { crc32c, delayedChecksum } = on.symbols(SCTP_SUPPORT_KEXT) as unknown as SctpSupportSymbols;
    const s = new Sctp(on.stack, crc32c);
    // From here on a failure ends its timers and subscriptions with the rest.
    on.at_stop('SCTP state', () => {
      s.finish();
      sctp = undefined;
      kpi = undefined;
    });
    Object.assign(s.tunables, options.tunables ?? {});
    const wantedPort = s.tunables.udp_tunneling_port;
    s.tunables.udp_tunneling_port = 0;
    sctp = s;
    kpi = on;
    on.at_stop('UDP tunnel', () => retunnel(0));
    const usrreqs = sctpUsrreqs(s);
    for (const domain of [AF_INET, AF_INET6])
      for (const type of [SOCK_SEQPACKET, SOCK_STREAM]) {
        const row: Protosw = {
          domain,
          type,
          protocol: IPPROTO_SCTP,
          name: `sctp${domain === AF_INET ? '' : '6'}/${type === SOCK_STREAM ? 'stream' : 'seqpacket'}`,
          input: s.input,
          ctlinput: s.ctlinput,
          flush: s.flush,
          usrreqs,
        };
        const e = on.proto_add(row);
        if (e < 0) return e;
      }
    const e = registerSysctls(on, s);
    if (e < 0) return e;
    const e2 = on.counters('sctp', s.stats);
    if (e2 < 0) return e2;
    const hook = (on.stack.sctpDelayedChecksum = (m, skip) => delayedChecksum(m, skip));
    on.at_stop('checksum hook', () => {
      if (on.stack.sctpDelayedChecksum === hook) on.stack.sctpDelayedChecksum = undefined;
    });
    return retunnel(wantedPort);
  }

  function registerSysctls(on: Kpi, s: Sctp): number {
    const special: readonly string[] = ['udp_tunneling_port', 'auth_enable', 'asconf_enable'];
    const e = on.sysctl(
      'net.inet.sctp',
      TUNABLES.filter(r => !special.includes(r.name)),
      s.tunables,
    );
    if (e < 0) return e;
    const meaning = (name: string) => TUNABLES.find(r => r.name === name)!.meaning;
    const e2 = on.sysctl_proc('net.inet.sctp', 'udp_tunneling_port', {
      meaning: meaning('udp_tunneling_port'),
      get: () => s.tunnelPort,
      set: v => {
        const n = Number(v);
        return Number.isInteger(n) && n >= 0 && n <= 65535 ? retunnel(n) : -EINVAL;
      },
    });
    if (e2 < 0) return e2;
    for (const name of ['auth_enable', 'asconf_enable'] as const) {
      const e3 = on.sysctl_proc('net.inet.sctp', name, {
        meaning: meaning(name),
        get: () => s.tunables[name],
        set: v => {
          const n = Number(v);
          if ((n !== 0 && n !== 1) || refuses(s.tunables, name, n)) return -EINVAL;
          s.tunables[name] = n;
          return 0;
        },
      });
      if (e3 < 0) return e3;
    }
    return 0;
  }

  return {
    manifest,
    builtin: true,
    brings: { [SCTP_SUPPORT_KEXT]: () => sctpSupportKext({ crc32c: options.crc32c }) },
    get sctp() {
      return sctp;
    },
    start,
    // All that start registered the loader takes back, last first.
    stop: () => (sctp !== undefined && sctp.endpoints.size > 0 ? -EBUSY : 0),
    drain: on => {
      if (!on || sctp === undefined) return;
      for (const a of [...sctp.associations()]) startShutdown(sctp, a);
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
