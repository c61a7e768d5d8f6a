/**
 * Simulation in virtual time: appliances on one clock that jumps (simulation/simulation.ts), and whole networks described
 * as data (simulation/network.ts).
 */

export {
  type CardDescription,
  type HostDescription,
  Link,
  type LinkDescription,
  Network,
  type NetworkDescription,
  type NetworkEvent,
  type NetworkTap,
} from './simulation/network.js';
export { type Device, type RunLimits, Simulation } from './simulation/simulation.js';
