/**
 * `--profile`: where a packet's time goes, layer by layer. V8's sampling profiler runs in both processes of a bulk transfer;
 * the time of each sample belongs to the room of the function that was running (self time), so that the shares add up.
 */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { table } from '../cli/format.js';
import { native } from '../nic/native.js';
import { packing } from './packing.js';
import { nkePair } from './peers.js';

/** The parts of Chrome's .cpuprofile format that are read. */
export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly children?: readonly number[];
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  /** Microseconds between a sample and the one before. */
  readonly timeDeltas: readonly number[];
}

/** Layers from the program down to the wire, and what is no layer of ours. */
export const LAYERS = [
  'program',
  'sockets',
  'sctp',
  'ip',
  'dlil',
  'mbufs and timers',
  'driver',
  'rings',
  'firmware',
  'port',
  'C module and system calls',
  'loop',
  'collector',
  'node and V8',
  'idle',
] as const;
export type Layer = (typeof LAYERS)[number];

/** The functions of our C module. */
const NATIVE = new Set(Object.keys(native ?? {}));

/** Path below dist/ to layer; the first that matches counts. */
const ROOMS: readonly (readonly [RegExp, Layer])[] = [
  [/^bench\//, 'program'],
  [/^(sockets\/|stack\/kern\/(socket|protosw))/, 'sockets'],
  [/^stack\/(sctp|kexts)\//, 'sctp'],
  [/^stack\/net\/(dlil|ethernet|ifnet|lltable|loopback)/, 'dlil'],
  [/^stack\/(netinet|net)\//, 'ip'],
  [/^stack\/kern\//, 'mbufs and timers'],
  [/^driver\/virtq/, 'rings'],
  [/^driver\//, 'driver'],
  [/^nic\/(virtq|virtqueue)/, 'rings'],
  [/^firmware\//, 'firmware'],
  [/^nic\/ports\//, 'port'],
  // The offload engine and CRC in JavaScript are work of the card.
  [/^nic\//, 'firmware'],
  [/^(appliance|system|simulation|stack\/stack)/, 'loop'],
];

/** The layer of a function; `root` is the URL of dist/, with a slash at its end. */
export function layerOf(functionName: string, url: string, root: string): Layer {
  if (url === '') {
    if (functionName === '(idle)') return 'idle';
    if (functionName === '(garbage collector)') return 'collector';
    // V8 knows all functions of a Node-API module by one address, and so by the name of one of them.
    return NATIVE.has(functionName) ? 'C module and system calls' : 'node and V8';
  }
  if (!url.startsWith(root)) return 'node and V8';
  const path = url.slice(root.length);
  return ROOMS.find(([pattern]) => pattern.test(path))?.[1] ?? 'loop';
}

export interface LayerTime {
  readonly layer: Layer;
  readonly microseconds: number;
}
export interface HotSpot {
  readonly name: string;
  readonly layer: Layer;
  readonly microseconds: number;
}

type Frame = CpuProfile['nodes'][number]['callFrame'];

/** A function as a reader finds it: its name and the source file, where that is ours. */
function called(frame: Frame | undefined, root: string): string {
  if (frame === undefined) return '(nobody)';
  const where = frame.url.startsWith(root) ? ` ${frame.url.slice(root.length).replace(/\.js$/, '.ts')}` : '';
  return `${frame.functionName || '(anonymous)'}${where}`;
}

/** Time of each layer in a profile, in the order of LAYERS, and the functions that took most of it. */
export function byLayer(profile: CpuProfile, root: string): { layers: LayerTime[]; hot: HotSpot[] } {
  const frames = new Map(profile.nodes.map(n => [n.id, n.callFrame]));
  const callers = new Map(profile.nodes.flatMap(n => (n.children ?? []).map(c => [c, n.callFrame] as const)));
  const layers = new Map<Layer, number>();
  const functions = new Map<string, { layer: Layer; microseconds: number }>();
  for (const [i, id] of profile.samples.entries()) {
    const frame = frames.get(id);
    // A delta is the time since the sample before; the profiler now and then puts two of them out of order.
    const us = Math.max(0, profile.timeDeltas[i + 1] ?? 0);
    if (frame === undefined || us === 0) continue;
    const layer = layerOf(frame.functionName, frame.url, root);
    layers.set(layer, (layers.get(layer) ?? 0) + us);
    const caller = callers.get(id);
    const name =
      NATIVE.has(frame.functionName) && frame.url === ''
        ? `C module, from ${called(caller, root)}`
        : called(frame, root);
    const f = functions.get(name) ?? { layer, microseconds: 0 };
    f.microseconds += us;
    functions.set(name, f);
  }
  return {
    layers: LAYERS.map(layer => ({ layer, microseconds: layers.get(layer) ?? 0 })),
    hot: [...functions]
      .map(([name, f]) => ({ name, ...f }))
      .filter(f => f.layer !== 'idle')
      .sort((x, y) => y.microseconds - x.microseconds)
      .slice(0, 20),
  };
}

export interface SideProfile {
  readonly layers: readonly LayerTime[];
  readonly hot: readonly HotSpot[];
  /** Full data packets that the user data of the profiled time filled. */
  readonly packets: number;
}

export interface ProfileResult {
  readonly message: number;
  /** With the profiler running, which costs some. */
  readonly gbps: number;
  readonly sender: SideProfile;
  readonly receiver: SideProfile;
}

/** Profiles one bulk transfer with messages of `message` bytes. */
export async function profileBulk(message: number, seconds: number): Promise<ProfileResult> {
  const folder = mkdtempSync(join(tmpdir(), 'nke-profile-'));
  try {
    const file = (side: string) => join(folder, `${side}.cpuprofile`);
    const { server, client } = await nkePair('bulk', {
      message,
      seconds,
      profile: { server: file('receiver'), client: file('sender') },
    });
    const root = new URL('../', import.meta.url).href;
    const side = (name: string, bytes: number): SideProfile => ({
      ...byLayer(JSON.parse(readFileSync(file(name), 'utf8')) as CpuProfile, root),
      packets: bytes / packing(message).user,
    });
    return {
      message,
      gbps: (server.bytes * 8e-9) / server.seconds,
      sender: side('sender', client.bytes),
      receiver: side('receiver', server.bytes),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const HOT_SHOWN = 8;

/** For people: nanoseconds of each packet by layer, both sides next to each other, and the functions that take most. */
export function profileText(p: ProfileResult): string {
  const total = (s: SideProfile) => s.layers.reduce((sum, l) => sum + l.microseconds, 0);
  const each = (s: SideProfile, us: number) => ((us * 1000) / s.packets).toFixed(0);
  const share = (s: SideProfile, us: number) => `${((us / total(s)) * 100).toFixed(1)} %`;
  const rows = p.sender.layers
    .map((l, i) => ({ layer: l.layer as string, tx: l.microseconds, rx: p.receiver.layers[i]!.microseconds }))
    .filter(r => r.tx > 0 || r.rx > 0);
  rows.push({ layer: 'all', tx: total(p.sender), rx: total(p.receiver) });
  const layers = table(rows, [
    { head: 'Layer', cell: r => r.layer },
    { head: 'sender ns/packet', cell: r => each(p.sender, r.tx), right: true },
    { head: 'share', cell: r => share(p.sender, r.tx), right: true },
    { head: 'receiver ns/packet', cell: r => each(p.receiver, r.rx), right: true },
    { head: 'share', cell: r => share(p.receiver, r.rx), right: true },
  ]);
  const hot = (name: string, s: SideProfile) =>
    `\n${name}, the functions that take most:\n${table(s.hot.slice(0, HOT_SHOWN), [
      { head: 'Function', cell: f => f.name },
      { head: 'Layer', cell: f => f.layer },
      { head: 'ns/packet', cell: f => each(s, f.microseconds), right: true },
    ])}`;
  const head = `bulk, ${p.message}-byte messages, ${p.gbps.toFixed(2)} Gb/s with the profiler running; time of one data packet\n\n`;
  return head + layers + hot('Sender', p.sender) + hot('Receiver', p.receiver);
}
