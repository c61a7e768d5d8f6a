/**
 * What the two processes of `nke demo` share: the shape of their appliances, the messages between them (over the parent's
 * IPC channel), and what each reports in the end.
 */

import { createSocket } from 'node:dgram';
import { Appliance, type ApplianceConfig } from '../appliance.js';
import type { AsyncSocket } from '../sockets/promises.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import { SCTP_PEER_ADDR_PARAMS, SCTP_RTOINFO, SPP_HB_ENABLE } from '../stack/sctp/api.js';
import { CliError, EXIT_FAILED, oneLine } from './errors.js';

export const SENDER = ['127.0.0.1', '127.0.0.2'] as const;
export const RECEIVER = ['127.0.0.3', '127.0.0.4'] as const;
export const SCTP_PORT = 9899;
export const MESSAGE_BYTES = 1400;

export type ToPeer = { readonly type: 'finish' };
export type FromPeer =
  | { readonly type: 'ready'; readonly udpPort: number }
  | { readonly type: 'received'; readonly messages: number; readonly bytes: number; readonly hash: string }
  | { readonly type: 'closed'; readonly end: EndReport }
  | { readonly type: 'failed'; readonly error: string };

/** What is left of an appliance when it has been shut down: its counters, and what it still held (nothing, one hopes). */
export interface EndReport {
  readonly counters: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly mbufsInUse: number;
  readonly unloaded: boolean;
}

/** A UDP port that is free on all of these addresses. Somebody may still take it before it is used: try again then. */
async function freePort(addresses: readonly string[]): Promise<number> {
  const bind = (address: string, port: number) =>
    new Promise<{ port: number; close: () => Promise<void> }>((resolve, reject) => {
      const socket = createSocket('udp4');
      socket.once('error', e => {
        socket.close();
        reject(e);
      });
      socket.bind(port, address, () =>
        resolve({ port: socket.address().port, close: () => new Promise(r => socket.close(() => r())) }),
      );
    });
  for (let attempt = 0; attempt < 50; attempt++) {
    const held: { port: number; close: () => Promise<void> }[] = [];
    try {
      for (const address of addresses) held.push(await bind(address, held[0]?.port ?? 0));
      return held[0]!.port;
    } catch (e) {
      if (held.length === 0)
        throw new CliError(`cannot bind a UDP socket to ${addresses[0]}: ${oneLine(e)}; run: nke doctor`);
    } finally {
      for (const h of held) await h.close();
    }
  }
  throw new CliError(`no UDP port is free on ${addresses.join(' and ')}; stop something that uses many`, EXIT_FAILED);
}

/** One side's appliance: two udp cards on one UDP port, a host route to the other side's address through each. */
export function demoConfig(
  name: string,
  own: readonly string[],
  other: readonly string[],
  udpPort: number,
): ApplianceConfig {
  return {
    name,
    cards: own.map((address, i) => ({
      name: `nke${i}`,
      port: `udp:${address}:${udpPort}`,
      addresses: [`${address}/32`],
      up: false,
    })),
    // One way to each address: a path whose cable is out must fail, not take the other card.
    routes: other.map((address, i) => ({ destination: `${address}/32`, card: `nke${i}` })),
    control: false,
  };
}

/** Makes one side's appliance on a free UDP port. */
export async function demoAppliance(
  name: string,
  own: readonly string[],
  other: readonly string[],
): Promise<{ appliance: Appliance; udpPort: number }> {
  for (let attempt = 0; ; attempt++) {
    const udpPort = await freePort(own);
    try {
      return { appliance: Appliance.create(demoConfig(name, own, other, udpPort)), udpPort };
    } catch (e) {
      if (attempt >= 5 || !oneLine(e).includes('another program')) throw e;
    }
  }
}

/** Time-outs short enough that a pulled cable is noticed while one watches (RFC 9260 §16 has 1 s and 60 s for the Internet). */
export function hurry(socket: AsyncSocket): void {
  socket.setsockopt(IPPROTO_SCTP, SCTP_RTOINFO, { assocId: 0, initial: 200, min: 100, max: 400 });
  socket.setsockopt(IPPROTO_SCTP, SCTP_PEER_ADDR_PARAMS, {
    assocId: 0,
    hbInterval: 200,
    pathMaxRxt: 1,
    pathMtu: 0,
    flags: SPP_HB_ENABLE,
    dscp: 0,
  });
}

/** Unloads what was loaded, closes, and tells what is left. */
export async function endAppliance(appliance: Appliance): Promise<EndReport> {
  let unloaded = false;
  // The extension cannot leave before its last association is gone (SHUTDOWN COMPLETE may still be on its way).
  const counters = { ...appliance.counters() };
  for (let i = 0; i < 100 && !unloaded; i++) {
    Object.assign(counters, appliance.counters());
    try {
      appliance.kextunload('SCTP');
      unloaded = true;
    } catch (e) {
      if (i === 99) throw e;
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  }
  await appliance.close();
  const { small, cluster, jumbo } = appliance.stack.pool.inUse;
  return { counters, mbufsInUse: small + cluster + jumbo, unloaded };
}
