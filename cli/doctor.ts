/**
 * `nke doctor`: tries what each port needs on this machine and names, for what fails, the one right, device or kernel feature
 * that is missing and the command that mends it. What is looked at comes in through `Environment`, so that every finding
 * can be tested on any machine.
 */

import { createSocket } from 'node:dgram';
import { accessSync, closeSync, constants, existsSync, openSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants as os } from 'node:os';
import {
  native,
  nativeError,
  UDP_CAP,
  UDP_LEN,
  UDP_OFF,
  UDP_OPEN_GRO,
  UDP_PORT,
  UDP_RESULT,
  UDP_ROW,
  UDP_SEGSZ,
  UDP_W2,
  UDP_W3,
} from '../nic/native.js';
import { oneLine } from './errors.js';

/** capability(7) numbers. */
const CAP_NET_ADMIN = 12;
const CAP_NET_RAW = 13;

/** What the doctor may look at. Functions that try something return undefined for "works" or the reason why not. */
export interface Environment {
  readonly platform: string;
  readonly nodeVersion: string;
  readonly uid: number;
  /** Effective capabilities as a bit mask (CapEff of /proc/self/status), or undefined when the system has none. */
  readonly capabilities: bigint | undefined;
  exists(path: string): boolean;
  /** Tries to open a device for reading and writing. */
  tryDevice(path: string): string | undefined;
  tryNative(): string | undefined;
  tryRawPackage(): string | undefined;
  /** Binds a UDP socket on loopback, and says whether the kernel takes UDP_SEGMENT and UDP_GRO on it. */
  tryUdp(): Promise<{ bind?: string; offload?: string }>;
}

export type Status = 'ok' | 'warning' | 'missing';

export interface Finding {
  readonly name: string;
  readonly status: Status;
  /** What was found, or what is missing. */
  readonly detail: string;
  /** The command or step that mends it. */
  readonly fix?: string;
  /** What cannot be used without it. */
  readonly needed?: string;
}

export interface PortVerdict {
  readonly port: 'wire' | 'udp' | 'tap' | 'tun' | 'raw';
  readonly usable: boolean;
  readonly note: string;
}

export interface Report {
  readonly findings: readonly Finding[];
  readonly ports: readonly PortVerdict[];
  /** The embedded default (udp on loopback) can run. */
  readonly ready: boolean;
}

function has(env: Environment, capability: number): boolean {
  return env.capabilities === undefined ? env.uid === 0 : ((env.capabilities >> BigInt(capability)) & 1n) === 1n;
}

function nodeFinding(env: Environment): Finding {
  const [major = 0, minor = 0] = env.nodeVersion.replace(/^v/, '').split('.').map(Number);
  const name = 'Node.js';
  if (major > 20 || (major === 20 && minor >= 19)) return { name, status: 'ok', detail: env.nodeVersion };
  return {
    name,
    status: 'missing',
    detail: `${env.nodeVersion} is older than 20.19`,
    fix: 'install Node.js 20.19 or newer (Debian: apt-get install nodejs)',
    needed: 'everything',
  };
}

function nativeFinding(env: Environment): Finding {
  const why = env.tryNative();
  const name = 'C module nic/native';
  if (why === undefined) return { name, status: 'ok', detail: 'loaded' };
  return {
    name,
    status: 'warning',
    detail: why,
    fix: 'apt-get install build-essential && npm run build',
    needed: "tap, tun, and udp at full speed (without it udp uses Node's own sockets)",
  };
}

function tunDevice(env: Environment): Finding {
  const path = '/dev/net/tun';
  const name = path;
  const needed = 'tap, tun';
  if (!env.exists(path)) {
    const fix =
      env.exists('/proc/misc') && env.uid === 0
        ? 'modprobe tun; mkdir -p /dev/net && mknod /dev/net/tun c 10 200'
        : 'as root: modprobe tun; mkdir -p /dev/net && mknod /dev/net/tun c 10 200 (a container: run it with --device /dev/net/tun)';
    return { name, status: 'missing', detail: 'the device is not there', fix, needed };
  }
  const why = env.tryDevice(path);
  if (why === undefined) return { name, status: 'ok', detail: 'opens' };
  return {
    name,
    status: 'missing',
    detail: why,
    fix: 'as root: modprobe tun && chmod 0666 /dev/net/tun (a container: run it with --device /dev/net/tun)',
    needed,
  };
}

function capability(env: Environment, name: string, bit: number, needed: string): Finding {
  if (has(env, bit)) return { name, status: 'ok', detail: 'held' };
  const cap = name.toLowerCase();
  return {
    name,
    status: 'missing',
    detail: 'this process does not have it',
    fix: `run as root, or: sudo setcap ${cap}+ep "$(readlink -f "$(command -v node)")" (a container: --cap-add ${name.slice(4)})`,
    needed,
  };
}

function rawPackage(env: Environment): Finding {
  const why = env.tryRawPackage();
  const name = 'npm package raw-socket';
  if (why === undefined) return { name, status: 'ok', detail: 'loaded' };
  return {
    name,
    status: 'missing',
    detail: why,
    fix: 'apt-get install build-essential && npm install raw-socket',
    needed: 'raw',
  };
}

function kernelSctp(env: Environment): Finding {
  const name = "the kernel's own SCTP";
  if (!env.exists('/proc/net/sctp') && !env.exists('/proc/sys/net/sctp'))
    return { name, status: 'ok', detail: 'not loaded: it cannot answer our packets' };
  return {
    name,
    status: 'warning',
    detail: 'loaded: it answers packets of a raw port with ABORT, because it does not know our associations',
    fix: 'as root: rmmod sctp_diag sctp (or use udp, or a tap in a network namespace)',
    needed: "raw on the host's own addresses",
  };
}

/** Looks at everything and draws the conclusion for each port. */
export async function examine(env: Environment): Promise<Report> {
  const node = nodeFinding(env);
  const native = nativeFinding(env);
  const tried = await env.tryUdp();
  const bind: Finding =
    tried.bind === undefined
      ? { name: 'UDP on loopback', status: 'ok', detail: 'binds' }
      : {
          name: 'UDP on loopback',
          status: 'missing',
          detail: tried.bind,
          fix: 'bring loopback up: ip link set lo up',
          needed: 'udp, the embedded default',
        };
  const offload: Finding =
    tried.offload === undefined
      ? { name: 'UDP_SEGMENT and UDP_GRO', status: 'ok', detail: 'packet trains in one system call' }
      : {
          name: 'UDP_SEGMENT and UDP_GRO',
          status: 'warning',
          detail: tried.offload,
          fix: 'use Linux 5.0 or newer and build nic/native; until then udp runs without trains',
          needed: 'udp at full speed',
        };
  const admin = capability(env, 'CAP_NET_ADMIN', CAP_NET_ADMIN, 'tap, tun');
  const rawRight = capability(env, 'CAP_NET_RAW', CAP_NET_RAW, 'raw');
  const tun = tunDevice(env);
  const raw = rawPackage(env);
  const kernel = kernelSctp(env);
  const works = (...all: Finding[]) => all.every(f => f.status !== 'missing');
  const lacks = (...all: Finding[]) => all.filter(f => f.status !== 'ok').map(f => f.name);
  const verdict = (
    port: PortVerdict['port'],
    usable: boolean,
    missing: readonly string[],
    note: string,
  ): PortVerdict => ({
    port,
    usable,
    note: usable ? note : `needs ${missing.join(', ')}`,
  });
  const tunUsable = env.platform === 'linux' && native.status === 'ok' && works(tun, admin);
  const ports = [
    verdict('wire', node.status === 'ok', ['Node.js'], 'in memory'),
    verdict(
      'udp',
      works(node, bind),
      lacks(bind),
      native.status === 'ok' ? (offload.status === 'ok' ? 'packet trains' : 'single packets') : "Node's own sockets",
    ),
    verdict('tap', tunUsable, lacks(native, tun, admin), 'Ethernet'),
    verdict('tun', tunUsable, lacks(native, tun, admin), 'IP'),
    verdict(
      'raw',
      works(raw, rawRight),
      lacks(raw, rawRight),
      kernel.status === 'ok' ? 'IP protocol 132' : "beware: the kernel's SCTP answers too",
    ),
  ];
  return {
    findings: [node, native, bind, offload, tun, admin, raw, rawRight, kernel],
    ports,
    ready: works(node, bind),
  };
}

/** This machine. */
export function thisMachine(): Environment {
  return {
    platform: process.platform,
    nodeVersion: process.version,
    uid: process.getuid?.() ?? -1,
    capabilities: readCapabilities(),
    exists: existsSync,
    tryDevice(path) {
      try {
        accessSync(path, constants.R_OK | constants.W_OK);
        closeSync(openSync(path, 'r+'));
        return undefined;
      } catch (e) {
        return oneLine(e);
      }
    },
    tryNative() {
      return nativeError;
    },
    tryRawPackage() {
      try {
        createRequire(import.meta.url)('raw-socket');
        return undefined;
      } catch (e) {
        const text = oneLine(e);
        return text.includes("Cannot find module 'raw-socket'")
          ? 'not installed (its build needs a compiler)'
          : text.split(';')[0]!;
      }
    },
    async tryUdp() {
      return { bind: await tryBind(), offload: tryOffload() };
    },
  };
}

function readCapabilities(): bigint | undefined {
  try {
    const m = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'));
    return m === null ? undefined : BigInt(`0x${m[1]}`);
  } catch {
    return undefined;
  }
}

/** Binds a UDP socket to 127.0.0.1. */
function tryBind(): Promise<string | undefined> {
  return new Promise(resolve => {
    const socket = createSocket('udp4');
    socket.once('error', e => {
      socket.close();
      resolve(oneLine(e));
    });
    socket.bind(0, '127.0.0.1', () => socket.close(() => resolve(undefined)));
  });
}

/** Sends a train of two datagrams to itself (UDP_SEGMENT) and looks whether it comes back as one (UDP_GRO). */
function tryOffload(): string | undefined {
  if (native === undefined) return 'not tried: the C module is missing';
  const fd = native.udpOpen('127.0.0.1', 0, UDP_OPEN_GRO, 0, 0);
  if (fd < 0) return `UDP_GRO was refused (${errorName(-fd)})`;
  try {
    const region = new Uint8Array(1024);
    const row = new Int32Array(UDP_ROW);
    row[UDP_LEN] = 128;
    row[UDP_SEGSZ] = 64;
    row[UDP_PORT] = native.udpPort(fd);
    row[UDP_W2] = 0xffff;
    row[UDP_W3] = 0x7f000001;
    const sent = native.udpSend(fd, region, row, 1, 0);
    if (sent !== 1 || row[UDP_RESULT] !== 0)
      return `UDP_SEGMENT was refused (${errorName(sent < 0 ? -sent : row[UDP_RESULT]!)})`;
    row.fill(0);
    row[UDP_OFF] = 512;
    row[UDP_CAP] = 512;
    // Loopback delivers within the send call.
    const received = native.udpReceive(fd, region, row, 1, 0);
    return received === 1 && row[UDP_LEN] === 128 && row[UDP_SEGSZ] === 64
      ? undefined
      : 'the kernel cuts trains but does not join them (UDP_GRO)';
  } finally {
    native.close(fd);
  }
}

/** Linux's errno by name: the system's numbers, not the stack's. */
function errorName(errno: number): string {
  return Object.entries(os.errno).find(([, n]) => n === errno)?.[0] ?? `errno ${errno}`;
}
