// The peer programs of tests and benchmarks as seen from TypeScript: modes, options and the one line of JSON of
// vm/sctp-peer.h. bench/usrsctp/peer.ts runs it on usrsctp, startKernelPeer() here on the SCTP of a Linux guest's kernel.
import { compileC } from './compile.js';
import { skipWithout } from './peers.js';
import { type Guest, type GuestJob, skipWithoutGuest } from './uml.js';

export type SctpPeerMode = 'sink' | 'source' | 'echo' | 'pingpong';

/** Options of a peer program; what is left out has the program's default (in brackets). */
export interface SctpPeerOptions {
  /** usrsctp only: UDP encapsulation port of this end, and of the other end (a server learns it from the packets). */
  localUdp?: number;
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
  /** Socket buffers in bytes (256 KiB, 128 KiB), usrsctp only: a fixed path MTU (discovered). */
  sndbuf?: number;
  rcvbuf?: number;
  mtu?: number;
  /** SHA-256 of the payload (true), usrsctp only: CRC32c also on loopback (true), Nagle's algorithm off (false; true for echo). */
  hash?: boolean;
  crc?: boolean;
  nodelay?: boolean;
  /** Associations after which a server ends (1), seconds after which the program gives up (60). */
  associations?: number;
  timeout?: number;
  /** sink and source: end by ABORT after bytes, count or seconds (false). */
  abort?: boolean;
}

/** The JSON line of one association. `seconds`: a sink's from its first byte, a source's until all is acknowledged. */
export interface SctpPeerResult {
  mode: SctpPeerMode;
  bytes: number;
  messages: number;
  seconds: number;
  gbps: number;
  /**
   * SHA-256 of all payload bytes in the order sent or received, null with hash: false. Equal at both ends only for one
   * stream in order: between streams, loss changes the order.
   */
  sha256: string | null;
  /** source: seconds until the last message was handed to the stack. */
  queued?: number;
  /** pingpong: microseconds. */
  rttMedianUs?: number;
  rttP99Us?: number;
  rttMaxUs?: number;
  /** pingpong: microseconds at the shares of QUANTILES (bench/statistics.ts). */
  rttUs?: number[];
}

const flags: Record<keyof SctpPeerOptions, string> = {
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
  abort: '--abort',
};

/** The argument array after the program's name. */
export function sctpPeerArguments(mode: SctpPeerMode, options: SctpPeerOptions): string[] {
  const argv: string[] = [mode];
  for (const [name, value] of Object.entries(options) as [keyof SctpPeerOptions, unknown][]) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) {
      argv.push(flags[name], typeof one === 'boolean' ? (one ? 'on' : 'off') : String(one));
    }
  }
  return argv;
}

/** Whether a mode waits for associations, and says when it does. */
export const isServer = (mode: SctpPeerMode) => mode === 'sink' || mode === 'echo';

/** What a server prints first. */
export const readyLine = '{"ready":true}\n';

/**
 * Reads what a peer program printed until it ended with `status`: the results of all its associations, one of a client.
 * Throws with the error that it gave, or with `output` when it gave none.
 */
export function sctpPeerResults(stdout: string, status: number | null, output: string): SctpPeerResult[] {
  const lines = stdout.split('\n').filter(line => line.startsWith('{'));
  const parsed = lines.map(line => JSON.parse(line) as { ready?: true; error?: string });
  const error = parsed.find(line => line.error !== undefined)?.error;
  if (error !== undefined) throw new Error(error);
  if (status !== 0) throw new Error(`ended with ${status === null ? 'a signal' : `status ${status}`}\n${output}`);
  return parsed.filter(line => !line.ready) as SctpPeerResult[];
}

/** For node:test's `skip`: false when kernel-peer can be built and a guest booted to run it. */
export function skipWithoutKernelPeer(): string | false {
  return skipWithoutGuest() || skipWithout('gcc', 'libc6-dev');
}

/** A peer program that runs in a guest. */
export class KernelPeer {
  readonly mode: SctpPeerMode;
  readonly job: GuestJob;

  constructor(mode: SctpPeerMode, job: GuestJob) {
    this.mode = mode;
    this.job = job;
  }

  /** Waits for its end (its own --timeout is the bound); the results of all its associations. */
  async results(): Promise<SctpPeerResult[]> {
    const status = await this.job.done;
    try {
      return sctpPeerResults(this.job.stdout, status, this.job.stdout + this.job.stderr);
    } catch (error) {
      throw new Error(`kernel ${this.mode}: ${(error as Error).message}`);
    }
  }

  /** The result of the one association. */
  async result(): Promise<SctpPeerResult> {
    const [only, ...more] = await this.results();
    if (!only || more.length > 0) throw new Error(`kernel ${this.mode}: not one association but ${more.length + 1}`);
    return only;
  }
}

/** Builds kernel-peer if need be and starts it in the guest. Resolves when a server listens. */
export async function startKernelPeer(guest: Guest, mode: SctpPeerMode, options: SctpPeerOptions): Promise<KernelPeer> {
  const program = guest.put(compileC('vm/kernel-peer.c', ['vm/sctp-peer.h']));
  const job = guest.start([program, ...sctpPeerArguments(mode, options)]);
  if (isServer(mode)) await job.output(/^\{"ready":true\}/);
  return new KernelPeer(mode, job);
}
