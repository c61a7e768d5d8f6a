import { test } from 'node:test';
import { corpus, Fuzzer, type FuzzState, STATES } from './fuzz.fixture.js';

// A small run of what sctp.fuzz.system.test.ts does at length; NKE_FUZZ_SEED chooses another.
const SEED = Number(process.env.NKE_FUZZ_SEED ?? 1);
/** 50,000 in all: most where most can happen, few where each has to be led up to again. */
const PACKETS: Record<FuzzState, number> = {
  NONE: 5000,
  COOKIE_WAIT: 5000,
  COOKIE_ECHOED: 3000,
  ESTABLISHED: 12_000,
  SHUTDOWN_PENDING: 6250,
  SHUTDOWN_SENT: 6250,
  SHUTDOWN_RECEIVED: 6250,
  SHUTDOWN_ACK_SENT: 6250,
};
const packets = corpus();

for (const [i, state] of STATES.entries())
  test(`${PACKETS[state]} mutated packets in ${state}, seed ${SEED + i}`, () => {
    new Fuzzer(state, SEED + i, packets).run(PACKETS[state]);
  });
