/**
 * Two processes that measure one thing together, for every kind of peer: ours, usrsctp, the kernel of a guest, the npm
 * packages, and the C programs of limit/. Each gives the same Transfer or round trips, so that columns are one line each.
 */

import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileC } from '../vm/compile.js';
import { skipWithout } from '../vm/peers.js';
import { ManagedProcess } from '../vm/process.js';
import { type SctpPeerMode, skipWithoutKernelPeer, startKernelPeer } from '../vm/sctp-peer.js';
import type { Lab } from './lab.js';
import type { NkePeerResult } from './nke-peer.js';
import { installNpmPeer } from './npm-peers/install.js';
import { skipWithoutUsrsctp } from './usrsctp/build.js';
import { freeUdpPorts, startUsrsctp } from './usrsctp/peer.js';

/** User data that arrived, and how long that took. */
export interface Transfer {
  readonly bytes: number;
  readonly messages: number;
  readonly seconds: number;
}

/** Seconds before the measurement in which JavaScript is compiled and windows open. */
export const WARMUP = 2;
/** Beyond what a run should take: after it the processes are killed. */
const PATIENCE = 20;

const here = dirname(fileURLToPath(import.meta.url));

/** How a child's command line is started: plainly, or in a namespace. */
export type Launch = (argv: readonly string[], timeoutMs: number) => ManagedProcess;
export const launch: Launch = (argv, timeoutMs) => new ManagedProcess(argv, { timeoutMs });

/** What to say of a child that did not do its work: which program and mode, how it ended, and its first line of complaint. */
function failure(child: ManagedProcess): Error {
  const { status, signal, timedOut } = child.result ?? { status: null, signal: null, timedOut: true };
  const how = timedOut ? 'took too long' : `ended with ${signal ?? `status ${status}`}`;
  const lines = child.stderr.split('\n').map(l => l.trim());
  // Node shows an uncaught error's place before its message.
  const said = lines.find(l => /^(Uncaught )?\w*Error\b/.test(l)) ?? lines.find(l => l !== '');
  // Paths say nothing to a reader.
  const who = child.argv.filter(a => a !== process.execPath && !a.startsWith('--')).map(a => basename(a));
  return new Error(`${who.slice(0, 3).join(' ')} ${how}${said === undefined ? '' : `: ${said}`}`);
}

/** The last line of a child's output, as JSON, once it has ended well. */
export async function lastJson<T>(child: ManagedProcess): Promise<T> {
  const { status } = await child.ended;
  const line = child.stdout.trimEnd().split('\n').at(-1) ?? '';
  if (status !== 0 || !line.startsWith('{')) throw failure(child);
  return JSON.parse(line) as T;
}

/** A server and a client of one Node program; resolves with what both printed. */
export async function pair<T>(
  server: readonly string[],
  client: readonly string[],
  seconds: number,
  start: { readonly server: Launch; readonly client: Launch } = { server: launch, client: launch },
): Promise<{ readonly server: T; readonly client: T }> {
  const timeout = (seconds + WARMUP + PATIENCE) * 1000;
  await using a = start.server(server, timeout);
  await a
    .until('it listened', () => a.stdout.startsWith('listening') || undefined)
    .catch(() => Promise.reject(failure(a)));
  await using b = start.client(client, timeout);
  const told = await lastJson<T>(b);
  return { server: await lastJson<T>(a), client: told };
}

// Ours

export interface NkeSpec {
  readonly message: number;
  readonly seconds: number;
  readonly busyPoll?: boolean;
  /** Files for the CPU profiles of both ends. */
  readonly profile?: { readonly server: string; readonly client: string };
  /** Cards other than UDP on loopback: arguments of each end, and how it is started. */
  readonly server?: { readonly argv: readonly string[]; readonly launch: Launch };
  readonly client?: { readonly argv: readonly string[]; readonly launch: Launch };
}

/**
 * Socket buffers of a bulk transfer: what keeps both processes busy on loopback and still lies in a processor's cache, where
 * each small message takes an mbuf; larger messages get room for four of them. (Left alone they grow to 4 MiB, which is a tenth
 * slower.)
 */
const receiveBuffer = (message: number): number => Math.max(1_500_000, 4 * message);
const sendBuffer = (message: number): number => Math.min(receiveBuffer(message), 6_000 * message);

/** Two of our appliances; the result of both ends. */
export async function nkePair(
  mode: 'bulk' | 'pingpong',
  o: NkeSpec,
): Promise<{ readonly server: NkePeerResult; readonly client: NkePeerResult }> {
  const [a, b] = await freeUdpPorts(2);
  const common = ['--message', String(o.message), '--seconds', String(o.seconds), '--warmup', String(WARMUP)];
  if (o.busyPoll) common.push('--busy-poll');
  if (mode === 'bulk')
    common.push('--sndbuf', String(sendBuffer(o.message)), '--rcvbuf', String(receiveBuffer(o.message)));
  const program = [process.execPath, join(here, 'nke-peer.js')];
  const server = [...(o.server?.argv ?? ['--port', `udp:127.0.0.1:${a}`])];
  const client = [...(o.client?.argv ?? ['--port', `udp:127.0.0.1:${b}`, '--remote-udp', String(a)])];
  if (o.profile !== undefined) {
    server.push('--profile', o.profile.server);
    client.push('--profile', o.profile.client);
  }
  return pair<NkePeerResult>(
    [...program, mode === 'bulk' ? 'sink' : 'echo', ...server, ...common],
    [...program, mode === 'bulk' ? 'source' : 'pingpong', ...client, ...common],
    o.seconds,
    { server: o.server?.launch ?? launch, client: o.client?.launch ?? launch },
  );
}

/** Busy polling, as whoever wants throughput from a stack in user space has it: each end has a processor of its own. */
export const nkeBulk = async (o: NkeSpec): Promise<Transfer> =>
  (await nkePair('bulk', { busyPoll: true, ...o })).server;

// usrsctp

export const missingUsrsctp = (): string | undefined => skipWithoutUsrsctp() || undefined;

/** Buffers hold two messages, or usrsctp's own sizes if that is more. */
const buffers = (message: number) => ({
  sndbuf: Math.max(1 << 18, 2 * message),
  rcvbuf: Math.max(1 << 17, 2 * message),
});

export async function usrsctpBulk(message: number, seconds: number): Promise<Transfer> {
  const [a, b] = await freeUdpPorts(2);
  const common = { hash: false, message, timeout: Math.ceil(seconds) + PATIENCE, ...buffers(message) };
  await using sink = await startUsrsctp('sink', { ...common, localUdp: a! });
  await using source = await startUsrsctp('source', { ...common, localUdp: b!, remoteUdp: a!, seconds });
  await source.result();
  return await sink.result();
}

export async function usrsctpPingpong(message: number, seconds: number): Promise<readonly number[]> {
  const [a, b] = await freeUdpPorts(2);
  const common = { hash: false, message, timeout: Math.ceil(seconds) + PATIENCE };
  await using _echo = await startUsrsctp('echo', { ...common, localUdp: a! });
  await using client = await startUsrsctp('pingpong', { ...common, localUdp: b!, remoteUdp: a!, seconds });
  return (await client.result()).rttUs!;
}

// The SCTP of a Linux kernel, within the guest

export const missingKernelSctp = (): string | undefined => skipWithoutKernelPeer() || undefined;

async function inGuest(lab: Lab, server: SctpPeerMode, client: SctpPeerMode, message: number, seconds: number) {
  const guest = await lab.guest();
  const common = { hash: false, message, timeout: Math.ceil(seconds) + PATIENCE, ...buffers(message) };
  const listening = await startKernelPeer(guest, server, common);
  const sending = await startKernelPeer(guest, client, { ...common, seconds });
  return { client: await sending.result(), server: await listening.result() };
}

export const kernelSctpBulk = async (lab: Lab, message: number): Promise<Transfer> =>
  (await inGuest(lab, 'sink', 'source', message, lab.seconds)).server;

export const kernelSctpPingpong = async (lab: Lab, message: number): Promise<readonly number[]> =>
  (await inGuest(lab, 'echo', 'pingpong', message, lab.seconds)).client.rttUs!;

// npm packages

export type NpmPeer = 'sctp' | 'werift';

/** Why the package cannot be had; installs it, which may take some seconds. */
export function missingNpmPeer(name: NpmPeer): string | undefined {
  try {
    installNpmPeer(name);
    return undefined;
  } catch (e) {
    return (e as Error).message;
  }
}

async function npmPair(name: NpmPeer, modes: readonly [string, string], message: number, seconds: number) {
  const [a, b] = await freeUdpPorts(2);
  const program = [process.execPath, join(here, 'npm-peers', 'peer.js'), name, installNpmPeer(name)];
  const common = [String(message), String(seconds), String(WARMUP)];
  return pair<Transfer & { rttUs?: readonly number[] }>(
    [...program, modes[0], String(a), String(b), ...common],
    [...program, modes[1], String(b), String(a), ...common],
    seconds,
  );
}

export const npmBulk = async (name: NpmPeer, message: number, seconds: number): Promise<Transfer> =>
  (await npmPair(name, ['sink', 'source'], message, seconds)).server;

export const npmPingpong = async (name: NpmPeer, message: number, seconds: number): Promise<readonly number[]> =>
  (await npmPair(name, ['echo', 'pingpong'], message, seconds)).client.rttUs!;

// C programs of limit/

export const missingCompiler = (): string | undefined => skipWithout('gcc', 'libc6-dev') || undefined;

/** Runs a program of limit/ and gives its line of JSON. */
export async function limitProgram<T>(name: string, args: readonly (string | number)[], seconds: number): Promise<T> {
  const program = compileC(`bench/limit/${name}.c`);
  await using child = launch([program, ...args.map(String)], (seconds + PATIENCE) * 1000);
  return await lastJson<T>(child);
}
