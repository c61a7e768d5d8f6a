/** The package's programming interface: the appliance, its sockets, and simulation in virtual time. */

export {
  Appliance,
  type ApplianceConfig,
  ApplianceError,
  type ApplianceOptions,
  type Card,
  type CardConfig,
  type FaultConfig,
  type KextConfig,
  type RouteConfig,
  SystemRandom,
  systemNow,
} from './appliance.js';
export type { CatalogOptions, Found } from './bundles/catalog.js';
export type { KextEntry, KextPreference } from './bundles/plan.js';
export {
  type CardDescription,
  type Device,
  type HostDescription,
  Link,
  type LinkDescription,
  Network,
  type NetworkDescription,
  type NetworkEvent,
  type NetworkTap,
  type RunLimits,
  Simulation,
} from './simulation.js';
export * from './sockets/index.js';
export { ControlClient } from './stack/kern/ctlclient.js';
export * from './stack/kern/errno.js';
export type { StampedEvent } from './stack/kern/event.js';
export type { Kext, KextManifest, KextStatus } from './stack/kern/kext.js';
export type { Kpi } from './stack/kern/kpi.js';
export { SOCK_SEQPACKET, SOCK_STREAM } from './stack/kern/protosw.js';
export {
  MSG_DONTWAIT,
  MSG_EOF,
  MSG_EOR,
  MSG_NOTIFICATION,
  MSG_PEEK,
  MSG_TRUNC,
  type NextInfo,
  RecvInfo,
  type SendInfo,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  type SockAddr,
  Socket,
} from './stack/kern/socket.js';
export { AF_INET, AF_INET6, InAddr, IPPROTO_SCTP } from './stack/netinet/in.js';
export * from './stack/sctp/api.js';
export * from './stack/sctp/library.js';
export {
  WorkerAppliances,
  type WorkerCard,
  type WorkerContext,
  type WorkerExit,
  type WorkersOptions,
} from './workers.js';
