/**
 * The modes of AF_XDP, tried from the best to the plainest: how a program is attached and a socket bound in each, and what an
 * interface said to those that it does not have.
 */
import { getSystemErrorName } from 'node:util';
import type { Native } from '../native.js';
import { PortError } from './port.js';
import { stepError, XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, XDP_QUEUES, type XdpProgram } from './xdp-program.js';
import {
  XDP_COPY,
  XDP_SHARED_UMEM,
  XDP_USE_NEED_WAKEUP,
  XDP_USE_SG,
  XDP_ZEROCOPY,
  XskError,
  XskQueue,
  type XskSizes,
} from './xsk.js';

export type XdpMode = 'zero-copy' | 'native' | 'generic';

const MODES: readonly { readonly mode: XdpMode; readonly attach: number; readonly bind: number }[] = [
  { mode: 'zero-copy', attach: XDP_FLAGS_DRV_MODE, bind: XDP_ZEROCOPY },
  { mode: 'native', attach: XDP_FLAGS_DRV_MODE, bind: XDP_COPY },
  { mode: 'generic', attach: XDP_FLAGS_SKB_MODE, bind: XDP_COPY },
];

/** What the interface and its socket are, for opening. */
export interface XdpTarget {
  readonly native: Native;
  /** Of the port, for messages. */
  readonly name: string;
  /** Of the interface. */
  readonly index: number;
  readonly netns: string | undefined;
}

/**
 * Attaches the program and binds the first queue in the first mode that the interface takes, or in `only`. `pieces`: packets may
 * be longer than a chunk. Returns the mode and why those before it were refused; throws PortError when there is none.
 */
export function bindFirst(
  target: XdpTarget,
  program: XdpProgram,
  queue: XskQueue,
  pieces: boolean,
  only: XdpMode | undefined,
): { mode: XdpMode; refused: string[] } {
  const { name, index } = target;
  const refused: string[] = [];
  let attached = 0;
  let last: PortError | undefined;
  for (const m of MODES) {
    if (only !== undefined && m.mode !== only) continue;
    if (attached !== m.attach) {
      const r = program.attach(m.attach);
      attached = r === 0 ? m.attach : 0;
      if (r < 0) {
        last = stepError(name, 'attach', getSystemErrorName(r));
        if (last.code === 'EBUSY' || last.code === 'EEXIST' || last.code === 'EPERM') throw last;
        refused.push(`${m.mode}: the program is not attached (${last.code})`);
        continue;
      }
    }
    const r = queue.bind(index, 0, m.bind | XDP_USE_NEED_WAKEUP | (pieces ? XDP_USE_SG : 0), 0);
    if (r === 0) return { mode: m.mode, refused };
    last = stepError(name, 'bind', getSystemErrorName(r));
    refused.push(`${m.mode}: the socket is not bound (${last.code})`);
  }
  const code = last?.code ?? 'ENOTSUP';
  if (code === 'EBUSY')
    throw new PortError(code, `cannot open ${name}: another AF_XDP socket has its queue 0; close that one`);
  if (code === 'EPERM') throw last!;
  const hint = pieces ? 'packets of more than a page need Linux 6.6: lower the MTU, or use packet:IF' : 'use packet:IF';
  throw new PortError(code, `cannot open ${name}: ${refused.join('; ')}; ${hint} instead`);
}

/** A socket for every further queue of the interface, bound, on the packet memory of `first`. Throws PortError. */
export function bindFurther(target: XdpTarget, first: XskQueue, sizes: XskSizes, queues: XskQueue[]): void {
  for (let i = 1; i < XDP_QUEUES; i++) {
    let q: XskQueue;
    try {
      q = new XskQueue(target.native, sizes, target.netns, undefined);
    } catch (e) {
      if (e instanceof XskError) throw stepError(target.name, `${e.what} of queue ${i}`, getSystemErrorName(e.errno));
      throw e;
    }
    const r = q.bind(target.index, i, XDP_SHARED_UMEM, first.fd);
    if (r < 0) {
      q.close();
      const code = getSystemErrorName(r);
      if (code === 'EINVAL') return; // there is no such queue
      throw stepError(target.name, `bind of queue ${i}`, code);
    }
    queues.push(q);
  }
}
