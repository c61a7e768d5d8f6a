/**
 * getsockopt and setsockopt with C's arguments: literal → bytes of the struct → object of the stack, and back (RFC 6458 §8;
 * rows in structs.ts). A length below the struct's is EINVAL, as FreeBSD's SCTP has it; options of SOL_SOCKET that only
 * switch a bit are kept per descriptor, since they mean nothing to a stack in memory.
 */

import type { SockAddr } from '../stack/kern/socket.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import type { Expr } from './ast.js';
import { compareRecord, numberOf, recordOf } from './expressions.js';
import type { Difference } from './result.js';
import { decodeStruct, encodeStruct, layoutOf, optionRow } from './structs.js';
import type { Descriptor, Outcome } from './syscalls.js';
import { ERRNOS } from './values.js';

const EINVAL = ERRNOS.EINVAL!;
const ENOPROTOOPT = ERRNOS.ENOPROTOOPT!;
const SOL_SOCKET = 0xffff;
const SO_ACCEPTCONN = 0x0002;
const SO_ERROR = 0x1007;
const SO_TYPE = 0x1008;
const SO_PROTOCOL = 0x1016;
/** SO_DEBUG, SO_REUSEADDR, SO_KEEPALIVE, SO_DONTROUTE, SO_BROADCAST, SO_USELOOPBACK, SO_OOBINLINE, SO_REUSEPORT, SO_TIMESTAMP. */
const BITS = 0x1 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | 0x400;
/** Levels below the socket: IP and IPv6 options that are kept the same way. */
const KEPT: ReadonlySet<string> = new Set(['0 3', '0 4', '41 4', '41 27', '41 61']);

export interface OptionEnvironment {
  readonly d: Descriptor;
  readonly peer: SockAddr;
}

const done = (value: number, differences: readonly Difference[] = []): Outcome => ({ value, differences });
const key = (level: number, option: number): number => level * 0x100000 + option;

/** An option that is a number kept here; undefined: not one of those. */
function keptNumber(d: Descriptor, level: number, option: number): number | undefined {
  if (level === SOL_SOCKET) {
    if (option === SO_ERROR) return d.so.takeError();
    if (option === SO_TYPE) return d.so.proto.type;
    if (option === SO_PROTOCOL) return d.so.proto.protocol;
    if ((option & BITS) !== 0 && (option & (option - 1)) === 0 && option < 0x1000)
      return (d.bits.get(key(level, option)) ?? 0) === 0 ? 0 : option; // the bit itself reads back
  } else if (KEPT.has(`${level} ${option}`)) return d.bits.get(key(level, option)) ?? 0;
  return undefined;
}

const levelName = (level: number): 'sctp' | 'socket' | undefined =>
  level === IPPROTO_SCTP ? 'sctp' : level === SOL_SOCKET ? 'socket' : undefined;

/** getsockopt(2). `len`: `[n]`, the size of the buffer and then of what was written. */
export function getOption(
  env: OptionEnvironment,
  level: number,
  option: number,
  literal: Expr | undefined,
  len: Expr | undefined,
): Outcome {
  const { d, peer } = env;
  const name = levelName(level);
  const row = name === undefined ? undefined : optionRow(name, option);
  const layout = row?.layout ?? layoutOf('int');
  const room = numberOf(len) ?? layout.size;
  const input = encodeStruct(layout, recordOf(literal, layout, peer));
  const arg = row === undefined ? undefined : row.codec.toApi(decodeStruct(layout, input));
  const kept = keptNumber(d, level, option);
  const got = kept ?? d.so.getsockopt(level, option, layout.name === 'int' ? undefined : arg);
  if (kept === undefined && typeof got === 'number' && got < 0) return done(got);
  if (level === SOL_SOCKET && room < layout.size) return done(0); // the value is cut
  if (room < layout.size) return done(-EINVAL);
  const record =
    row === undefined || typeof kept === 'number'
      ? { value: typeof got === 'boolean' ? Number(got) : (got as number) }
      : row.codec.toC(got);
  const bytes = encodeStruct(layout, record);
  const differences: Difference[] = [];
  if (literal !== undefined) compareRecord('value', literal, layout, decodeStruct(layout, bytes), differences);
  const want = numberOf(len);
  if (want !== undefined && want !== bytes.length)
    differences.push({ field: 'length', expected: String(want), got: String(bytes.length) });
  return { value: 0, differences };
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
  if (literal === undefined || literal.kind === 'null') return -EINVAL;
  const name = levelName(level);
  const row = name === undefined ? undefined : optionRow(name, option);
  if (row === undefined) {
    if (level === SOL_SOCKET && (option === SO_ERROR || option === SO_TYPE || option === SO_ACCEPTCONN))
      return -ENOPROTOOPT;
    const n = numberOf(literal) ?? 0;
    if (keptNumber(d, level, option) === undefined) return d.so.setsockopt(level, option, n);
    if ((len ?? 4) < 4) return -EINVAL;
    d.bits.set(key(level, option), n);
    return 0;
  }
  if (row.number === SO_ERROR && level === SOL_SOCKET) return -ENOPROTOOPT;
  const bytes = encodeStruct(row.layout, recordOf(literal, row.layout, peer));
  if (len !== undefined && len < row.layout.size) return -EINVAL;
  const given = len === undefined ? bytes : bytes.subarray(0, Math.min(bytes.length, len));
  const record = decodeStruct(row.layout, given);
  return d.so.setsockopt(level, option, row.codec.toApi(record));
}
