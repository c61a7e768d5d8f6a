import { test } from 'node:test';
import { corpus, Fuzzer, STATES } from './fuzz.fixture.js';

// A small run of what sctp.fuzz.system.test.ts does at length; NKE_FUZZ_SEED chooses another.
const SEED = Number(process.env.NKE_FUZZ_SEED ?? 1);
const PACKETS = 50_000;
const packets = corpus();

for (const [i, state] of STATES.entries())
  test(`${PACKETS / STATES.length} mutated packets in ${state}, seed ${SEED + i}`, () => {
    new Fuzzer(state, SEED + i, packets).run(PACKETS / STATES.length);
  });
