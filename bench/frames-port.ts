/**
 * Frames out of a real port into a peer of the same kind on the other side: two processes, in namespaces made for the
 * measurement (packet, xdp, udp: on the ends of a veth pair; tap: two TAPs on a bridge), or the two ends of a cable in memory.
 */

import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Netns, skipWithoutNetns } from '../vm/netns.js';
import type { ManagedProcess } from '../vm/process.js';
import type { FramesPortRun } from './frames-port-run.js';
import { nodeProgram } from './nodes.js';
import { lastJson } from './peers.js';

export const portKinds = ['packet', 'xdp', 'tap', 'udp', 'wire'] as const;
export type PortKind = (typeof portKinds)[number];

/** Frames that the peer received, counted there after a warm-up. */
export type FramesOverPort = FramesPortRun;

const program = join(dirname(fileURLToPath(import.meta.url)), 'frames-port-run.js');
const PATIENCE = 20;

/** For `skip`: false when `kind` can be measured here, else why not. */
export function skipWithoutPort(kind: PortKind): string | false {
  return kind === 'wire' ? false : skipWithoutNetns();
}

interface Side {
  readonly netns: Netns;
  readonly spec: string;
}

/** Two sides of a medium; the namespaces are the caller's to dispose of. */
function medium(kind: Exclude<PortKind, 'wire'>, a: Netns, b: Netns): { tx: Side; rx: Side } {
  if (kind === 'tap') {
    a.addTap('ta');
    a.addTap('tb');
    a.addBridge('bridge0', ['ta', 'tb']);
    return { tx: { netns: a, spec: 'tap:ta' }, rx: { netns: a, spec: 'tap:tb' } };
  }
  const address = kind === 'udp';
  a.addVeth('va', 'vb', {
    other: b,
    near: { mac: '02:00:00:00:01:01', addresses: address ? ['10.7.0.1/24'] : [] },
    far: { mac: '02:00:00:00:01:02', addresses: address ? ['10.7.0.2/24'] : [] },
  });
  if (kind === 'udp')
    return { tx: { netns: a, spec: 'udp:10.7.0.1:9899' }, rx: { netns: b, spec: 'udp:10.7.0.2:9899' } };
  return { tx: { netns: a, spec: `${kind}:va` }, rx: { netns: b, spec: `${kind}:vb` } };
}

/**
 * Frames of `size` bytes, FCS counted (64 is the shortest), sent as fast as the port takes them for `seconds`. Throws when the
 * port cannot be opened here (see skipWithoutPort).
 */
export async function framesOverPort(kind: PortKind, size: number, seconds: number): Promise<FramesOverPort> {
  const timeoutMs = (seconds + PATIENCE) * 1000;
  if (kind === 'wire')
    return nodeProgram<FramesOverPort>('frames-port-run', ['both', 'wire:a', size, seconds], { timeoutMs });
  using a = new Netns();
  using b = new Netns();
  const { tx, rx } = medium(kind, a, b);
  const start = (role: string, side: Side): ManagedProcess =>
    side.netns.start([process.execPath, program, role, side.spec, String(size), String(seconds)], { timeoutMs });
  await using sink = start('receive', rx);
  await sink.until('it opened its port', () => sink.stdout.startsWith('ready') || undefined);
  await using source = start('send', tx);
  const failed = source.ended.then(async () => {
    throw new Error(`the sender of ${kind} frames ended: ${source.stderr.trim().split('\n').at(-1) ?? ''}`);
  });
  // It sends until it is stopped: whoever ends first decides.
  const result = await Promise.race([lastJson<FramesOverPort>(sink), failed]);
  failed.catch(() => {});
  source.kill();
  return result;
}
