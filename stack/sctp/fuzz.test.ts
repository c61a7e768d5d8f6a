import { test } from 'node:test';
import { corpus, Fuzzer, type FuzzState, STATES } from './fuzz.fixture.js';

// A small run of what sctp.fuzz.system.test.ts does at length; NKE_FUZZ_SEED chooses another.
const SEED = Number(process.env.NKE_FUZZ_SEED ?? 1);
/** 14,400 in all: most where most can happen, few where each has to be led up to again. */
const PACKETS: Record<FuzzState, number> = {
  NONE: 1500,
  COOKIE_WAIT: 1500,
  COOKIE_ECHOED: 1000,
  ESTABLISHED: 4000,
  SHUTDOWN_PENDING: 1600,
  SHUTDOWN_SENT: 1600,
  SHUTDOWN_RECEIVED: 1600,
  SHUTDOWN_ACK_SENT: 1600,
};
const packets = corpus();

for (const [i, state] of STATES.entries())
  test(`${PACKETS[state]} mutated packets in ${state}, seed ${SEED + i}`, () => {
    new Fuzzer(state, SEED + i, packets).run(PACKETS[state]);
  });
