// Runs the rows of api-cases.ts and api-calls.ts against one peer.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Appliance } from '../appliance.js';
import { CALLS, outcome } from './api-calls.js';
import { CASES, type Net } from './api-cases.js';
import { type ApiEnd, OurEnd } from './api-end.js';

export interface Setting {
  readonly ours: Appliance;
  readonly peer: ApiEnd;
  readonly v4: readonly string[];
  readonly v6: readonly string[];
  /** The peer's UDP port, 0 = plain SCTP. */
  readonly encaps: number;
  readonly net: Net;
}

/** NKE_API_TRACE=1 prints every call and what it gave. */
function traced(end: ApiEnd): ApiEnd {
  if (process.env.NKE_API_TRACE === undefined) return end;
  return {
    name: end.name,
    v4: end.v4,
    v6: end.v6,
    call: async (name, args) => {
      const reply = await end.call(name, args);
      console.log(end.name, name, JSON.stringify(args ?? {}), JSON.stringify(reply));
      return reply;
    },
  };
}

/** `setting` is asked for when a test runs: it is made in `before`. */
export function runRows(peer: 'usrsctp' | 'linux', skip: string | false, setting: () => Setting): void {
  const limits = { timeout: 30_000 };
  for (const [role, oursFirst] of [
    ['we are the client', true],
    ['we are the server', false],
  ] as const)
    describe(role, () => {
      for (const row of CASES) {
        const without = row.without?.[peer] ?? row.withoutAs?.[`${peer} ${oursFirst ? 'server' : 'client'}`];
        test(row.name, { skip: skip || without || false, ...limits }, async () => {
          const { ours, peer: other, v4, v6, encaps, net } = setting();
          const own = new OurEnd(ours, v4, v6, encaps);
          try {
            await (oursFirst ? row.run(traced(own), traced(other), net) : row.run(traced(other), traced(own), net));
          } finally {
            own.end();
          }
        });
      }
    });
  describe('the same call on both: defaults and errors', () => {
    for (const row of CALLS)
      test(row.name, { skip, ...limits }, async () => {
        const { ours, peer: other, v4, v6, encaps } = setting();
        const own = new OurEnd(ours, v4, v6, encaps);
        try {
          const mine = await outcome(row, own);
          assert.deepEqual(mine, row.gives, 'ours');
          const difference = row.differs?.[peer];
          if (difference !== undefined) assert.notDeepEqual(difference[0], mine, 'a difference that is none');
          assert.deepEqual(await outcome(row, other), difference === undefined ? mine : difference[0], peer);
        } finally {
          own.end();
        }
      });
  });
}
