/** The options of a script (facts parts 1.1 and 1.2) as values with their defaults. */

import { InAddr } from '../stack/netinet/in.js';
import type { Position, ScriptOption } from './ast.js';
import { ScriptError } from './encode.js';

export interface Settings {
  /** The socket is IPv6, the wire IPv4. */
  readonly mapped: boolean;
  readonly local: InAddr;
  readonly remote: InAddr;
  readonly gateway: InAddr;
  /** Of the interface, as "192.168.0.1/16". */
  readonly addresses: readonly string[];
  readonly bindPort: number;
  readonly connectPort: number;
  readonly mtu: number;
  readonly toleranceUs: number;
  /** Of the time since the previous event. */
  readonly tolerancePercent: number;
  /** Captured UDP is SCTP in UDP. */
  readonly udpEncapsulation: boolean;
  readonly notes: readonly string[];
}

const DEFAULTS = {
  4: { local: '192.168.0.1', gateway: '192.168.0.2', remote: '192.0.2.1', prefix: 16 },
  6: { local: 'fd3d:fa7b:d17d::1', gateway: 'fd3d:fa7b:d17d::2', remote: '2001:db8::1', prefix: 48 },
} as const;
/** Smallest MTU that each family allows (RFC 791, RFC 8200 §5); the largest is IP's. */
const MIN_MTU = { 4: 68, 6: 1280 } as const;

/** Reads the options; those of the command line win. Throws ScriptError for a value that makes no sense. */
export function readSettings(options: readonly ScriptOption[], overrides?: ReadonlyMap<string, string>): Settings {
  const given = new Map<string, { readonly value: string; readonly at: Position | undefined }>();
  for (const o of options) if (o.value !== undefined) given.set(o.name, { value: o.value, at: o.at });
  for (const [name, value] of overrides ?? []) given.set(name, { value, at: undefined });
  const bad = (name: string, what: string) =>
    new ScriptError(`--${name}=${given.get(name)?.value}: ${what}`, given.get(name)?.at);
  const number = (name: string, otherwise: number, min: number, max: number): number => {
    const o = given.get(name);
    if (o === undefined) return otherwise;
    const n = Number(o.value);
    if (!(n >= min && n <= max)) throw bad(name, `a number from ${min} to ${max} is expected`);
    return n;
  };
  const version = (given.get('ip_version')?.value ?? 'ipv4').replaceAll('_', '-').toLowerCase();
  if (!['ipv4', 'ipv6', 'ipv4-mapped-ipv6'].includes(version))
    throw bad('ip_version', 'ipv4, ipv6 or ipv4-mapped-ipv6 is expected');
  const family = version === 'ipv6' ? 6 : 4;
  const d = DEFAULTS[family];
  /** An address, with or without a prefix length behind it. */
  const address = (name: string, otherwise: string): { addr: InAddr; prefix: number | undefined } => {
    const [text, prefix] = (given.get(name)?.value ?? otherwise).split('/');
    const addr = InAddr.parse(text!);
    if (addr === undefined || addr.family !== family) throw bad(name, `an ${version} address is expected`);
    return { addr, prefix: prefix === undefined ? undefined : Number(prefix) };
  };
  const local = address('local_ip', d.local);
  const prefix = local.prefix ?? netmask(given.get('netmask_ip')?.value) ?? d.prefix;
  return {
    mapped: version === 'ipv4-mapped-ipv6',
    local: local.addr,
    remote: address('remote_ip', d.remote).addr,
    gateway: address('gateway_ip', d.gateway).addr,
    addresses: [
      `${local.addr}/${prefix}`,
      ...(family === 6 ? [linkLocal(given.get('local_linklocal_ip')?.value)] : []),
    ],
    bindPort: number('bind_port', 8080, 1, 65535),
    connectPort: number('connect_port', 8080, 1, 65535),
    mtu: number('mtu', 1500, MIN_MTU[family], 65535),
    toleranceUs: number('tolerance_usecs', 4000, 0, 1e10),
    tolerancePercent: number('tolerance_percent', 5, 0, 100),
    udpEncapsulation: given.get('udp_encapsulation')?.value === 'sctp',
    notes: [],
  };
}

const linkLocal = (text: string | undefined): string => `${(text ?? 'fe80::1').split('/')[0]}/64`;

/** "255.255.0.0", "/16" or "16" as a prefix length. */
function netmask(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\/?\d+$/.test(text)) return Number(text.replace('/', ''));
  const a = InAddr.parse(text);
  if (a?.family !== 4) return undefined;
  return Math.clz32(~a.w3);
}
