import { test } from 'node:test';
import { corpus, Fuzzer, STATES } from './fuzz.fixture.js';

/**
 * A million mutated packets into every state of an association. More on demand:
 *   NKE_FUZZ_PACKETS=50000000 NKE_FUZZ_SEED=123 node --test dist/stack/sctp/sctp.fuzz.system.test.js
 * A failure names the state, the seed and the number of the packet; the same seed brings the same packets again.
 */
const SEED = Number(process.env.NKE_FUZZ_SEED ?? 1000);
const PACKETS = Math.ceil(Number(process.env.NKE_FUZZ_PACKETS ?? 1_000_000) / STATES.length);
const packets = corpus();

for (const [i, state] of STATES.entries())
  test(`${PACKETS} mutated packets in ${state}, seed ${SEED + i}`, t => {
    const r = new Fuzzer(state, SEED + i, packets).run(PACKETS);
    t.diagnostic(`${r.answers} packets came out, the state was brought about ${r.setups} times`);
  });
