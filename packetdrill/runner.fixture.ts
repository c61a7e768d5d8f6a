/** For tests: scripts that begin with an association up, run in memory, and what they must end with. */

import assert from 'node:assert/strict';
import { parse } from './parser.js';
import type { RunOptions, ScriptResult } from './result.js';
import { runScript } from './runner.js';

/** One-to-one: listener 3, association 4 (tag 22 here, 11 there; our TSNs from 500, the peer's from 100). */
export const UP = `0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 < sctp: INIT[flgs=0, tag=11, a_rwnd=65536, os=5, is=5, tsn=100]
+0 > sctp: INIT_ACK[flgs=0, tag=22, a_rwnd=..., os=..., is=..., tsn=500, ...]
+0 < sctp: COOKIE_ECHO[flgs=0, len=..., val=...]
+0 > sctp: COOKIE_ACK[flgs=0]
+0 accept(3, ..., ...) = 4
+0 fcntl(4, F_SETFL, O_RDWR|O_NONBLOCK) = 0
`;
/** Lines of UP: what is appended begins on the next. */
export const NEXT = 10;
/** One-to-many: socket 3 with association 3, the same numbers. */
export const MANY = `0 socket(..., SOCK_SEQPACKET, IPPROTO_SCTP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
+0 < sctp: INIT[flgs=0, tag=11, a_rwnd=65536, os=5, is=5, tsn=100]
+0 > sctp: INIT_ACK[flgs=0, tag=22, a_rwnd=..., os=..., is=..., tsn=500, ...]
+0 < sctp: COOKIE_ECHO[flgs=0, len=..., val=...]
+0 > sctp: COOKIE_ACK[flgs=0]
`;
/** One-to-many without an association; OPEN is its INIT, ANSWER what the peer says to that. */
export const LONELY = `0 socket(..., SOCK_SEQPACKET, IPPROTO_SCTP) = 3
+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
`;
export const OPEN = '+0 > sctp: INIT[flgs=0, tag=1, a_rwnd=..., os=..., is=..., tsn=500, ...]\n';
export const ANSWER =
  '+0 < sctp: INIT_ACK[flgs=0, tag=2, a_rwnd=65536, os=5, is=5, tsn=100, STATE_COOKIE[len=4, val=...]]\n';

export function run(text: string, options: Partial<RunOptions> = {}): ScriptResult {
  return runScript(parse('x.pkt', text), { tight: false, abi: 'compact', ...options });
}
export function passes(text: string, options: Partial<RunOptions> = {}): ScriptResult {
  const r = run(text, options);
  assert.ok(r.ok, JSON.stringify(r.failure));
  return r;
}
/** The script must fail on this line; gives the differences as "field: expected / got" and the sentence. */
export function fails(text: string, line: number, options: Partial<RunOptions> = {}): { what: string; all: string } {
  const r = run(text, options);
  assert.ok(!r.ok, 'it passed');
  assert.equal(r.failure!.at.line, line, JSON.stringify(r.failure));
  const d = (r.failure!.differences ?? []).map(x => `${x.field}: ${x.expected} / ${x.got}`);
  return { what: r.failure!.what, all: d.join('; ') };
}
