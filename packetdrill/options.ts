/**
 * getsockopt and setsockopt with C's arguments: the literal becomes the bytes of its struct, which go through the stack's
 * binary interface (stack/sctp/binary.ts; RFC 6458 §8). Options of FreeBSD's sockets that mean nothing to a stack in memory
 * are kept per descriptor.
 */

import { SOL_SOCKET, type SockAddr, Socket } from '../stack/kern/socket.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import { getsockopt, setsockopt } from '../stack/sctp/binary.js';
import { type CRecord, decodeStruct, encodeStruct, type Layout, layoutOf } from '../stack/sctp/layout.js';
import { type OptionRow, optionRow } from '../stack/sctp/optionrows.js';
import type { Expr } from './ast.js';
import { type Descriptor, keptKey, type Outcome } from './descriptors.js';
import { compareRecord, numberOf, recordOf } from './expressions.js';
import type { Difference } from './result.js';
import { isAssocId, layoutWith } from './structs.js';
import { ERRNOS, wordValue } from './values.js';

const { EFAULT, EINVAL } = ERRNOS as Record<'EFAULT' | 'EINVAL', number>;
const INT = layoutOf('int');
const TIMEVAL = layoutOf('timeval');
/** What setsockopt takes at most, and a byte more, which is refused. */
const MOST = 65537;

/** Options that are kept, by level: numbers, and timevals. Those that switch a bit of so_options read that bit back. */
const word = (name: string): number => wordValue(name)!;
const BITS: ReadonlySet<number> = new Set(
  (
    'SO_DEBUG SO_KEEPALIVE SO_DONTROUTE SO_BROADCAST SO_USELOOPBACK SO_OOBINLINE SO_REUSEPORT SO_TIMESTAMP ' +
    'SO_NOSIGPIPE SO_BINTIME SO_NO_OFFLOAD SO_NO_DDP SO_REUSEPORT_LB'
  )
    .split(' ')
    .map(word),
);
const NUMBERS: ReadonlyMap<number, number> = new Map(
  // With what they read before they are set.
  (
    [
      ['SO_SNDLOWAT', 2048],
      ['SO_RCVLOWAT', 1],
      ['SO_USER_COOKIE', 0],
      ['SO_SETFIB', 0],
    ] as const
  ).map(([name, n]) => [word(name), n]),
);
const TIMES: ReadonlySet<number> = new Set(['SO_SNDTIMEO', 'SO_RCVTIMEO'].map(word));
const IP: ReadonlyMap<number, number> = new Map(
  (
    [
      ['IP_TTL', 64],
      ['IP_RECVDSTADDR', 0],
      ['IP_PORTRANGE', 0],
      ['IP_RECVIF', 0],
      ['IP_BINDANY', 0],
      ['IP_RECVTTL', 0],
      ['IP_MINTTL', 0],
      ['IP_DONTFRAG', 0],
      ['IP_RECVTOS', 0],
    ] as const
  ).map(([name, n]) => [word(name), n]),
);
const IP6: ReadonlyMap<number, number> = new Map(
  (
    [
      ['IPV6_UNICAST_HOPS', 64],
      ['IPV6_PORTRANGE', 0],
      ['IPV6_RECVPKTINFO', 0],
      ['IPV6_RECVHOPLIMIT', 0],
      ['IPV6_USE_MIN_MTU', -1],
      ['IPV6_RECVTCLASS', 0],
      ['IPV6_AUTOFLOWLABEL', 1],
      ['IPV6_DONTFRAG', 0],
      ['IPV6_BINDANY', 0],
    ] as const
  ).map(([name, n]) => [word(name), n]),
);
const SO_DOMAIN = word('SO_DOMAIN');
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;

export interface OptionEnvironment {
  readonly d: Descriptor;
  readonly peer: SockAddr;
}

const done = (value: number, differences: readonly Difference[] = []): Outcome => ({ value, differences });

/** The struct of a kept option, and what it reads now; undefined: not one of those. */
function kept(d: Descriptor, level: number, option: number): { layout: Layout; value: CRecord } | undefined {
  const number = (otherwise: number) => ({ value: d.kept.get(keptKey(level, option))?.value ?? otherwise });
  if (level === SOL_SOCKET) {
    if (option === SO_DOMAIN) return { layout: INT, value: { value: d.so.proto.domain } };
    if (BITS.has(option)) return { layout: INT, value: { value: number(0).value === 0 ? 0 : option } };
    if (TIMES.has(option))
      return { layout: TIMEVAL, value: d.kept.get(keptKey(level, option)) ?? { tv_sec: 0, tv_usec: 0 } };
    const n = NUMBERS.get(option);
    return n === undefined ? undefined : { layout: INT, value: number(n) };
  }
  const six = d.so.proto.domain !== 2;
  const table = level === IPPROTO_IP && !six ? IP : level === IPPROTO_IPV6 && six ? IP6 : undefined;
  const n = table?.get(option);
  return n === undefined ? undefined : { layout: INT, value: number(n) };
}

function rowOf(level: number, option: number): OptionRow | undefined {
  if (level === IPPROTO_SCTP) return optionRow('sctp', option);
  return level === SOL_SOCKET ? optionRow('socket', option) : undefined;
}

/** The struct that a literal for an option is written in: the option's own, or the one whose fields it has. */
function layoutFor(row: OptionRow | undefined, literal: Expr | undefined): Layout {
  if (row !== undefined) return row.layout;
  const named = literal?.kind === 'struct' ? literal.fields.flatMap(f => f.name ?? []) : [];
  return (named.length === 0 ? undefined : layoutWith(named)) ?? INT;
}

/** `bytes` with exactly `n` of them. */
function sized(bytes: Uint8Array, n: number): Uint8Array {
  if (n <= bytes.length) return bytes.subarray(0, n);
  const out = new Uint8Array(Math.min(n, MOST));
  out.set(bytes);
  return out;
}

/**
 * getsockopt(2). `len`: `[n]`, the size of the buffer and then of what was written. `assocId`: of sctp_opt_info, put in
 * the struct whatever the literal says.
 */
export function getOption(
  env: OptionEnvironment,
  level: number,
  option: number,
  literal: Expr | undefined,
  len: Expr | undefined,
  assocId?: number,
): Outcome {
  const { d, peer } = env;
  if (len?.kind === 'null') return done(-EFAULT);
  const row = rowOf(level, option);
  const mine = kept(d, level, option);
  const layout = mine?.layout ?? layoutFor(row, literal);
  const record = recordOf(literal, layout, peer);
  const id = layout.fields.find(f => isAssocId(f.name));
  if (assocId !== undefined && id !== undefined) record[id.name] = assocId;
  const input = encodeStruct(layout, record);
  const room = numberOf(len) ?? (layout.name === 'sctp_getaddresses' ? MOST : Math.max(input.length, layout.size));
  if (room < 0) return done(-EINVAL);
  let bytes: Uint8Array;
  if (mine !== undefined) bytes = sized(encodeStruct(layout, mine.value), Math.min(room, layout.size));
  else {
    const got = getsockopt(d.so, level, option, literal?.kind === 'null' ? undefined : sized(input, room).slice());
    if (typeof got === 'number') return done(got);
    if (got instanceof Socket) return peeled(got, d, record);
    bytes = got;
  }
  const differences: Difference[] = [];
  // A value that was cut is compared as far as it goes.
  const whole = sized(bytes, Math.max(bytes.length, layout.size));
  if (literal !== undefined) compareRecord('value', literal, layout, decodeStruct(layout, whole), differences);
  const want = numberOf(len);
  if (want !== undefined && want !== bytes.length)
    differences.push({ field: 'length', expected: String(want), got: String(bytes.length) });
  return { value: 0, differences };
}

/** SCTP_PEELOFF as macOS has it: the descriptor is in the struct, not in the result. */
function peeled(so: Socket, d: Descriptor, record: CRecord): Outcome {
  const label = typeof record.new_sd === 'number' ? record.new_sd : -1;
  return { value: 0, differences: [], opened: { so, nonblocking: d.nonblocking, kept: new Map() }, label };
}

/** setsockopt(2): 0 or -errno. */
export function setOption(
  env: OptionEnvironment,
  level: number,
  option: number,
  literal: Expr | undefined,
  len: number | undefined,
): number {
  const { d, peer } = env;
  const mine = kept(d, level, option);
  const layout = mine?.layout ?? layoutFor(rowOf(level, option), literal);
  if ((len ?? 0) < 0) return -EINVAL;
  if (literal === undefined || literal.kind === 'null') return setsockopt(d.so, level, option, undefined);
  const bytes = encodeStruct(layout, recordOf(literal, layout, peer));
  const given = sized(bytes, len ?? bytes.length);
  if (mine === undefined || (level === SOL_SOCKET && option === SO_DOMAIN)) {
    const r = setsockopt(d.so, level, option, given.slice());
    return Math.min(r, 0); // SCTP_CONNECT_X gives an id
  }
  if (given.length < layout.size) return -EINVAL;
  d.kept.set(keptKey(level, option), decodeStruct(layout, given));
  return 0;
}
