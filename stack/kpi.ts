/**
 * What the code of an extension may import, as `nke/kpi`: the types of the kernel programming interface, the constants
 * that packets and registrations need, and addresses. Everything else an extension gets from the `kpi` that its `start` is
 * handed.
 */

export { MSEC, type Nanos, SEC, USEC } from './kern/clock.js';
export type { ControlCommand, ControlHandlers, CtlArgs } from './kern/ctl.js';
export * from './kern/errno.js';
export type { KernelEvent, StampedEvent } from './kern/event.js';
export { type Kext, type KextManifest, KPI_IDENTIFIER, KPI_VERSION } from './kern/kext.js';
export type {
  BpfProgram,
  KextCallout,
  Kpi,
  ParamRow,
  ParamValue,
  Sink,
  SinkOptions,
} from './kern/kpi.js';
export { KextFault, KextPool } from './kern/kpipool.js';
export {
  CSUM_IP,
  CSUM_L3_OK,
  CSUM_L4_OK,
  CSUM_SCTP,
  CSUM_SCTP_BAD,
  CSUM_SCTP_OK,
  CSUM_UDP,
  HEADROOM,
  M_BCAST,
  M_LOOP,
  M_MCAST,
  M_NULL,
  type Mbuf,
} from './kern/mbuf.js';
export {
  type CtlInput,
  type Domain,
  type IpInfo,
  type Protosw,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_SEQPACKET,
  SOCK_STREAM,
} from './kern/protosw.js';
export { EJUSTRETURN, type InjectInfo, type SockData, type SocketFilter, type SocketNotice } from './kern/sflt.js';
export {
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_PEEK,
  MSG_TRUNC,
  type RecvInfo,
  type SendInfo,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SO_BROADCAST,
  SO_ERROR,
  SO_LINGER,
  SO_RCVBUF,
  SO_REUSEADDR,
  SO_SNDBUF,
  SOL_SOCKET,
  type SockAddr,
  type Socket,
  type Usrreqs,
} from './kern/socket.js';
export type { SysctlProcedure, SysctlRow } from './kern/sysctl.js';
export { IFF_ORDER_STACK, IFF_ORDER_WIRE, type IfFilter, type IfIoctl } from './net/dlil.js';
export * from './net/ethernet.js';
export * from './net/ifnet.js';
export * from './netinet/in.js';
export { finish as cksumFinish, sumChain as cksumChain, sumPseudo as cksumPseudo } from './netinet/in_cksum.js';
