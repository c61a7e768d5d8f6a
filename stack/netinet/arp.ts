/**
 * ARP (RFC 826), with announcements and conflict counting of RFC 5227. The table and its timers are net/lltable.ts.
 *
 *  |  hardware type = 1   |  protocol type 0x0800 | 6 | 4 |  operation  |
 *  |  sender link address, 6  |  sender IP, 4  |  target link, 6  |  target IP, 4  |     28 bytes
 */

import type { Mbuf } from '../kern/mbuf.js';
import { M_NULL } from '../kern/mbuf.js';
import { ETHER_BROADCAST, ETHER_HDR_LEN, ETHERTYPE_ARP, ETHERTYPE_IP, readMac, writeMac } from '../net/ethernet.js';
import { IFF_LOOPBACK, IFF_NOARP, type Ifnet } from '../net/ifnet.js';
import { type LlEntry, LlTable } from '../net/lltable.js';
import type { Stack } from '../stack.js';
import { InAddr } from './in.js';

export const ARP_LEN = 28;
export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;

export const ARP_COUNTERS = {
  received: 0,
  malformed: 0,
  bad_sender: 0,
  conflicts: 0,
  not_on_link: 0,
  requests_received: 0,
  replies_received: 0,
  requests_sent: 0,
  replies_sent: 0,
  announcements_sent: 0,
  no_source: 0,
  nobufs: 0,
};

export class Arp {
  readonly counters: Record<keyof typeof ARP_COUNTERS, number> = { ...ARP_COUNTERS };
  readonly table: LlTable;
  readonly #stack: Stack;
  readonly #mac = new Uint8Array(6);
  readonly #sender = new InAddr();
  readonly #target = new InAddr();

  constructor(stack: Stack) {
    this.#stack = stack;
    this.table = new LlTable(stack.clock, stack.callouts, stack.pool, {
      solicit: (e, unicast) => this.#solicit(e, unicast),
      release: (e, m) => stack.interfaces.release(e, m),
    });
    stack.counters.add('arp', this.counters);
    stack.counters.add('arp.table', this.table.counters);
    stack.interfaces.attachProtocol(ETHERTYPE_ARP, (ifp, m) => this.input(ifp, m));
    stack.interfaces.setResolver(4, this.table);
    stack.interfaces.onAddress((ifp, addr, added) => {
      if (added && addr.family === 4) this.announce(ifp, addr);
    });
    // What the switches between us and the others have learnt may be wrong after a link change (RFC 5227 §2.1.1, §2.3).
    stack.interfaces.onUsable((ifp, usable) => {
      if (usable) for (const a of ifp.addresses) if (a.addr.family === 4) this.announce(ifp, a.addr);
    });
  }

  /** An ARP packet, Ethernet header stripped (it lies in front). Takes ownership. */
  input(ifp: Ifnet, m: Mbuf) {
    const pool = this.#stack.pool;
    const c = this.counters;
    c.received++;
    if (pool.pktlen[m]! < ARP_LEN || (ifp.flags & (IFF_NOARP | IFF_LOOPBACK)) !== 0) return this.#drop(m, 'malformed');
    if ((m = pool.pullupTo(m, ARP_LEN)) === M_NULL) {
      c.nobufs++;
      return;
    }
    const dv = pool.dv;
    const at = pool.off[m]!;
    const op = dv.getUint16(at + 6);
    const bad = dv.getUint32(at) !== 0x00010800 || dv.getUint16(at + 4) !== 0x0604;
    if (bad || (op !== ARP_REQUEST && op !== ARP_REPLY)) return this.#drop(m, 'malformed');
    const mac = this.#mac;
    readMac(dv, at + 8, mac);
    const sender = this.#sender.read4(dv, at + 14);
    const target = this.#target.read4(dv, at + 24);
    // A group can neither ask nor answer, and nobody else speaks with our link address.
    if ((mac[0]! & 1) !== 0 || sender.isMulticast || sender.isBroadcast || sender.isLoopback)
      return this.#drop(m, 'bad_sender');
    if (ifp.has(sender)) {
      // Ours, if it says so with our link address (an echo); else somebody else claims the address (RFC 5227 §2.4).
      if (!mac.every((b, i) => b === ifp.mac[i])) {
        c.conflicts++;
        this.announce(ifp, sender);
      }
      pool.freem(m);
      return;
    }
    if (op === ARP_REQUEST) c.requests_received++;
    else c.replies_received++;
    const ours = ifp.has(target);
    if (!sender.isUnspecified) {
      // RFC 826's merge: what is known is updated, new entries are made for who asks for us, if it can be on this link.
      const onLink = this.#stack.routes.isOnLink(ifp, sender);
      if (!onLink) c.not_on_link++;
      else this.table.learn(ifp, sender, mac, ours && op === ARP_REQUEST, op === ARP_REPLY && ours);
    }
    pool.freem(m);
    if (op === ARP_REQUEST && ours && this.#send(ifp, mac, ARP_REPLY, target, mac, sender)) c.replies_sent++;
  }

  /** Tells the link that an address is here: a request for it from itself (RFC 5227 §2.3). */
  announce(ifp: Ifnet, addr: InAddr): void {
    if (!ifp.running || (ifp.flags & (IFF_NOARP | IFF_LOOPBACK)) !== 0) return;
    if (this.#send(ifp, ETHER_BROADCAST, ARP_REQUEST, addr, undefined, addr)) this.counters.announcements_sent++;
  }

  #solicit(e: LlEntry, unicast: boolean): void {
    const source = sourceFor(e.ifp, e.addr);
    if (source === undefined) {
      this.counters.no_source++;
      return;
    }
    if (this.#send(e.ifp, unicast ? e.mac : ETHER_BROADCAST, ARP_REQUEST, source, undefined, e.addr))
      this.counters.requests_sent++;
  }

  #send(
    ifp: Ifnet,
    to: Uint8Array,
    op: number,
    sender: InAddr,
    targetMac: Uint8Array | undefined,
    target: InAddr,
  ): boolean {
    const pool = this.#stack.pool;
    const m = pool.getSmall();
    if (m === M_NULL) {
      this.counters.nobufs++;
      return false;
    }
    const dv = pool.dv;
    const at = pool.off[m]!;
    writeMac(dv, at, to);
    writeMac(dv, at + 6, ifp.mac);
    dv.setUint16(at + 12, ETHERTYPE_ARP);
    const p = at + ETHER_HDR_LEN;
    dv.setUint16(p, 1);
    dv.setUint16(p + 2, ETHERTYPE_IP);
    dv.setUint16(p + 4, 0x0604);
    dv.setUint16(p + 6, op);
    writeMac(dv, p + 8, ifp.mac);
    sender.write(dv, p + 14);
    if (targetMac !== undefined) writeMac(dv, p + 18, targetMac);
    else {
      dv.setInt32(p + 18, 0);
      dv.setUint16(p + 22, 0);
    }
    target.write(dv, p + 24);
    pool.len[m] = pool.pktlen[m] = ETHER_HDR_LEN + ARP_LEN;
    return this.#stack.interfaces.transmit(ifp, m) === 0;
  }

  #drop(m: Mbuf, why: keyof typeof ARP_COUNTERS): void {
    this.counters[why]++;
    this.#stack.pool.freem(m);
  }
}

/** The interface's address to ask with: one of the neighbour's subnet, else the first of the family. */
export function sourceFor(ifp: Ifnet, neighbour: InAddr): InAddr | undefined {
  let first: InAddr | undefined;
  for (const { addr, prefix } of ifp.addresses) {
    if (addr.family !== neighbour.family) continue;
    if (neighbour.inPrefix(addr, prefix)) return addr;
    first ??= addr;
  }
  return first;
}
