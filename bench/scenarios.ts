/** All scenarios of `nke bench`, in the order in which `all` runs them. A new one is a line here. */

import { associations } from './associations.js';
import { frames } from './frames.js';
import { garbage } from './garbage.js';
import { kext } from './kext.js';
import { latency } from './latency.js';
import { links } from './links.js';
import { lossy } from './lossy-scenario.js';
import { queues } from './queues.js';
import type { Scenario } from './scenario.js';
import { bulk, messages } from './throughput.js';

export const SCENARIOS: readonly Scenario[] = [
  bulk,
  links,
  messages,
  latency,
  associations,
  frames,
  lossy,
  garbage,
  queues,
  kext,
];
