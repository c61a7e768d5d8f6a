// Starts usrsctp-peer, our quiet C program over Debian's usrsctp, and reads its one line of JSON. Modes, options
// and results are in vm/sctp-peer.ts.
//
// What gives usrsctp its best speed on loopback over UDP, at MTU 1500 and with 1,400-byte messages (one per packet):
// nothing much. Buffers of 64 KiB to 4 MiB, SCTP_NODELAY and leaving the checksum out on loopback (its own default,
// which we turn off) all stay within the noise of 0.45 to 0.8 Gb/s. Only a larger path MTU helps, by bundling: about
// 1 Gb/s at --mtu 9000 and 1.9 at --mtu 32000 (at 65000 it no longer connects); that is another scenario, not a tuning.
import { createSocket } from 'node:dgram';
import type { Netns } from '../../vm/netns.js';
import { ManagedProcess } from '../../vm/process.js';
import {
  isServer,
  readyLine,
  type SctpPeerMode,
  type SctpPeerOptions,
  type SctpPeerResult,
  sctpPeerArguments,
  sctpPeerResults,
} from '../../vm/sctp-peer.js';
import { buildUsrsctpPeer } from './build.js';

/** A running usrsctp-peer. Dispose of it with `await using`: it is killed if it still runs. */
export class UsrsctpPeer implements AsyncDisposable {
  readonly mode: SctpPeerMode;
  readonly process: ManagedProcess;

  constructor(mode: SctpPeerMode, child: ManagedProcess) {
    this.mode = mode;
    this.process = child;
  }

  /** Resolves when a server listens; at once for a client. */
  async ready(): Promise<void> {
    if (!isServer(this.mode)) return;
    await this.process.until('it listened', () => this.process.stdout.startsWith(readyLine) || undefined);
  }

  /** Waits for the end; the results of all associations, one of a client. Rejects with what went wrong. */
  async results(): Promise<SctpPeerResult[]> {
    const { status } = await this.process.ended;
    try {
      return sctpPeerResults(this.process.stdout, status, this.process.tail());
    } catch (error) {
      throw new Error(`usrsctp ${this.mode}: ${(error as Error).message}`);
    }
  }

  /** The result of the one association. */
  async result(): Promise<SctpPeerResult> {
    const [only, ...more] = await this.results();
    if (!only || more.length > 0) throw new Error(`usrsctp ${this.mode}: not one association but ${more.length + 1}`);
    return only;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
  }
}

/** Starts usrsctp-peer, in a namespace if one is given; builds it first if need be. Resolves when a server listens. */
export async function startUsrsctp(
  mode: SctpPeerMode,
  options: SctpPeerOptions & { localUdp: number },
  netns?: Netns,
): Promise<UsrsctpPeer> {
  const argv = [buildUsrsctpPeer(), ...sctpPeerArguments(mode, options)];
  // The program ends by itself after --timeout; the deadline here is for the case that it cannot.
  const start = { timeoutMs: ((options.timeout ?? 60) + 5) * 1000 };
  const peer = new UsrsctpPeer(mode, netns ? netns.start(argv, start) : new ManagedProcess(argv, start));
  try {
    await peer.ready();
  } catch (error) {
    await peer[Symbol.asyncDispose]();
    throw error;
  }
  return peer;
}

/** `count` UDP ports that are free on this machine at this moment. */
export async function freeUdpPorts(count: number): Promise<number[]> {
  const sockets = await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = createSocket('udp4');
      await new Promise<void>((resolve, reject) => {
        socket.once('error', reject);
        socket.bind(0, '0.0.0.0', resolve);
      });
      return socket;
    }),
  );
  const ports = sockets.map(socket => socket.address().port);
  await Promise.all(sockets.map(socket => new Promise<void>(resolve => socket.close(() => resolve()))));
  return ports;
}
