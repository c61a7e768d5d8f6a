/** What runs in each worker appliance of `queues`: a sink that counts, a source on several associations, or a caller. */

import type { Appliance } from '../appliance.js';
import { EAGAIN } from '../stack/kern/errno.js';
import { AF_INET, SOCK_SEQPACKET, SOCK_STREAM } from '../stack/kern/protosw.js';
import { RecvInfo, type SendInfo, SO_LINGER, SOL_SOCKET, Socket } from '../stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP } from '../stack/netinet/in.js';
import { SCTP_NODELAY, SCTP_REMOTE_UDP_ENCAPS_PORT } from '../stack/sctp/api.js';
import type { WorkerContext } from '../workers.js';

export interface QueuesRole {
  readonly role: 'sink' | 'source' | 'server' | 'caller';
  /** Of the other side, for sources and callers. */
  readonly address?: string;
  readonly udp?: number;
  /** Associations of each worker: that send, or that are being set up at the same time. */
  readonly associations?: number;
  readonly message?: number;
}

/** What a worker has done since it began, and when it said so. */
export interface QueuesCount {
  /** Bytes read, or associations set up. */
  readonly done: number;
  readonly ms: number;
  /** Associations that it has now. */
  readonly up: number;
}

const PORT = 5001;
const info: SendInfo = { sid: 0, flags: 0, ppid: 0, context: 0, assocId: 0, prPolicy: 0, prValue: 0 };
const got = new RecvInfo();

function socket(appliance: Appliance, type: number): Socket {
  const so = appliance.socket(AF_INET, type, IPPROTO_SCTP);
  if (!(so instanceof Socket)) throw new Error(`no SCTP socket: ${so}`);
  return so;
}

function listener(appliance: Appliance, type: number): Socket {
  const so = socket(appliance, type);
  so.bind({ addr: InAddr.of('0.0.0.0'), port: PORT });
  so.listen(1024);
  return so;
}

/** Reads and counts what comes on every association. */
function sink(appliance: Appliance, count: { done: number }): void {
  const buf = new Uint8Array(1 << 20);
  const so = listener(appliance, SOCK_STREAM);
  const read = (from: Socket): void => {
    for (let n = from.recv(buf, 0, buf.length, got); ; n = from.recv(buf, 0, buf.length, got)) {
      if (n > 0) count.done += n;
      else {
        if (n !== -EAGAIN) from.close();
        return;
      }
    }
  };
  so.upcall = () => {
    for (let one = so.accept(); one instanceof Socket; one = so.accept()) {
      one.upcall = read;
      read(one);
    }
  };
}

function connect(appliance: Appliance, role: QueuesRole): Socket {
  const so = socket(appliance, SOCK_STREAM);
  so.setsockopt(IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, port: role.udp! });
  so.setsockopt(IPPROTO_SCTP, SCTP_NODELAY, 1);
  return so;
}

/** Sends on every association as fast as it goes. */
function source(appliance: Appliance, role: QueuesRole): void {
  const message = new Uint8Array(role.message!).map((_, i) => i & 255);
  for (let i = 0; i < role.associations!; i++) {
    const so = connect(appliance, role);
    so.upcall = () => {
      if (so.writable) while (so.send(message, 0, message.length, info) > 0);
    };
    so.connect({ addr: InAddr.of(role.address!), port: PORT });
  }
}

/** Sets up associations, so many at a time, and aborts each when it is up. */
function caller(appliance: Appliance, role: QueuesRole, count: { done: number }): void {
  const to = { addr: InAddr.of(role.address!), port: PORT };
  const call = (): void => {
    const so = connect(appliance, role);
    so.setsockopt(SOL_SOCKET, SO_LINGER, { onoff: true, linger: 0 });
    so.upcall = () => {
      if (!so.writable && so.error === 0) return;
      so.upcall = undefined;
      if (so.error === 0) count.done++;
      so.close();
      call();
    };
    const e = so.connect(to);
    // No port is free for the moment: this one rests.
    if (e < 0 && so.error !== 0) setTimeout(call, 10);
  };
  for (let i = 0; i < role.associations!; i++) call();
}

export default function program(appliance: Appliance, context: WorkerContext): void {
  const role = context.data as QueuesRole;
  const count = { done: 0 };
  if (role.role === 'sink') sink(appliance, count);
  else if (role.role === 'server') listener(appliance, SOCK_SEQPACKET);
  else if (role.role === 'source') source(appliance, role);
  else caller(appliance, role, count);
  context.onRequest = (): QueuesCount => ({
    done: count.done,
    ms: performance.timeOrigin + performance.now(),
    up: appliance.sctp()?.sctp?.associationCount ?? 0,
  });
}
