/** The package's programming interface: the appliance, its sockets, and simulation in virtual time. */

export {
  Appliance,
  type ApplianceConfig,
  ApplianceError,
  type ApplianceOptions,
  type Card,
  type CardConfig,
  type FaultConfig,
  type RouteConfig,
  SystemRandom,
  systemNow,
} from './appliance.js';
export { type RunLimits, Simulation } from './simulation.js';
export * from './sockets/index.js';
export type { StampedEvent } from './stack/kern/event.js';
export { AF_INET, AF_INET6, InAddr, IPPROTO_SCTP } from './stack/netinet/in.js';
export * from './stack/sctp/api.js';
