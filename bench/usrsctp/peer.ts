// Starts usrsctp-peer, our quiet C program over Debian's usrsctp, and reads its one line of JSON. The modes and options
// are those of bench/usrsctp/usrsctp-peer.c.
//
// What gives usrsctp its best speed on loopback over UDP, at MTU 1500 and with 1,400-byte messages (one per packet):
// nothing much. Buffers of 64 KiB to 4 MiB, SCTP_NODELAY and leaving the checksum out on loopback (its own default,
// which we turn off) all stay within the noise of 0.45 to 0.8 Gb/s. Only a larger path MTU helps, by bundling: about
// 1 Gb/s at --mtu 9000 and 1.9 at --mtu 32000 (at 65000 it no longer connects); that is another scenario, not a tuning.
import { createSocket } from 'node:dgram';
import type { Netns } from '../../vm/netns.js';
import { type Ended, ManagedProcess } from '../../vm/process.js';
import { buildUsrsctpPeer } from './build.js';

export type UsrsctpMode = 'sink' | 'source' | 'echo' | 'pingpong';

/** Options of usrsctp-peer; what is left out has the program's default (in brackets). */
export interface UsrsctpOptions {
  /** UDP encapsulation port of this end, and of the other end (a server learns it from the packets). */
  localUdp: number;
  remoteUdp?: number;
  /** SCTP port of the server (5001), of a client (any). */
  port?: number;
  localPort?: number;
  /** Addresses to bind to (127.0.0.1) and, for a client, to connect to (127.0.0.1). */
  addresses?: readonly string[];
  peers?: readonly string[];
  /** Bytes of a message (1400); streams over which messages are spread (1); unordered delivery (false). */
  message?: number;
  streams?: number;
  unordered?: boolean;
  /** How much a client sends: at least one of them. */
  bytes?: number;
  count?: number;
  seconds?: number;
  /** Socket buffers in bytes (256 KiB, 128 KiB), a fixed path MTU (discovered). */
  sndbuf?: number;
  rcvbuf?: number;
  mtu?: number;
  /** SHA-256 of the payload (true), CRC32c also on loopback (true), Nagle's algorithm off (false; true for echo). */
  hash?: boolean;
  crc?: boolean;
  nodelay?: boolean;
  /** Associations after which a server ends (1), seconds after which the program gives up (60). */
  associations?: number;
  timeout?: number;
}

/** The JSON line of one association. `seconds`: a sink's from its first byte, a source's until all is acknowledged. */
export interface UsrsctpResult {
  mode: UsrsctpMode;
  bytes: number;
  messages: number;
  seconds: number;
  gbps: number;
  /** SHA-256 of all payload bytes in the order sent or received, null with hash: false. */
  sha256: string | null;
  /** source: seconds until the last message was handed to the stack. */
  queued?: number;
  /** pingpong: microseconds. */
  rttMedianUs?: number;
  rttP99Us?: number;
  rttMaxUs?: number;
}

const flags: Record<keyof UsrsctpOptions, string> = {
  localUdp: '--local-udp',
  remoteUdp: '--remote-udp',
  port: '--port',
  localPort: '--local-port',
  addresses: '--address',
  peers: '--peer',
  message: '--message',
  streams: '--streams',
  unordered: '--unordered',
  bytes: '--bytes',
  count: '--count',
  seconds: '--seconds',
  sndbuf: '--sndbuf',
  rcvbuf: '--rcvbuf',
  mtu: '--mtu',
  hash: '--hash',
  crc: '--crc',
  nodelay: '--nodelay',
  associations: '--associations',
  timeout: '--timeout',
};

/** The argument array after the program's name. */
export function usrsctpArguments(mode: UsrsctpMode, options: UsrsctpOptions): string[] {
  const argv: string[] = [mode];
  for (const [name, value] of Object.entries(options) as [keyof UsrsctpOptions, unknown][]) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) {
      argv.push(flags[name], typeof one === 'boolean' ? (one ? 'on' : 'off') : String(one));
    }
  }
  return argv;
}

/** A running usrsctp-peer. Dispose of it with `await using`: it is killed if it still runs. */
export class UsrsctpPeer implements AsyncDisposable {
  readonly mode: UsrsctpMode;
  readonly process: ManagedProcess;

  constructor(mode: UsrsctpMode, child: ManagedProcess) {
    this.mode = mode;
    this.process = child;
  }

  /** Resolves when a server listens; at once for a client. */
  async ready(): Promise<void> {
    if (this.mode === 'source' || this.mode === 'pingpong') return;
    await this.process.until('it listened', () => this.process.stdout.startsWith('{"ready":true}\n') || undefined);
  }

  /** Waits for the end; the results of all associations, one of a client. Rejects with what went wrong. */
  async results(): Promise<UsrsctpResult[]> {
    const ended: Ended = await this.process.ended;
    const lines = this.process.stdout.split('\n').filter(line => line.startsWith('{'));
    const parsed = lines.map(line => JSON.parse(line) as { ready?: true; error?: string });
    const error = parsed.find(line => line.error !== undefined)?.error;
    if (error !== undefined) throw new Error(`usrsctp ${this.mode}: ${error}`);
    if (ended.status !== 0) {
      const how = ended.timedOut ? 'killed after its time' : `ended with ${ended.signal ?? ended.status}`;
      throw new Error(`usrsctp ${this.mode}: ${how}\n${this.process.tail()}`);
    }
    return parsed.filter(line => !line.ready) as UsrsctpResult[];
  }

  /** The result of the one association. */
  async result(): Promise<UsrsctpResult> {
    const [only, ...more] = await this.results();
    if (!only || more.length > 0) throw new Error(`usrsctp ${this.mode}: not one association but ${more.length + 1}`);
    return only;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
  }
}

/** Starts usrsctp-peer, in a namespace if one is given; builds it first if need be. Resolves when a server listens. */
export async function startUsrsctp(mode: UsrsctpMode, options: UsrsctpOptions, netns?: Netns): Promise<UsrsctpPeer> {
  const argv = [buildUsrsctpPeer(), ...usrsctpArguments(mode, options)];
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
