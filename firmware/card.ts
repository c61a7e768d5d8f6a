/** What the card's pipelines share: memory, port, registers, engine, filter, and what was negotiated with the driver. */

import { ETHER_HEADER, OffloadEngine } from '../nic/offload.js';
import type { Memory, Port } from '../nic/ports/port.js';
import {
  F_NET_CTRL_VLAN,
  F_NET_GUEST_CSUM,
  F_NET_HASH_REPORT,
  F_NKE_GUEST_SCTP_CSUM,
  F_NKE_GUEST_SCTP_TRAIN,
  F_NKE_SCTP_CSUM,
  F_NKE_SCTP_TRAIN,
  type FeatureWords,
  hasFeature,
  RegisterFile,
} from '../nic/registers.js';
import { NET_HDR_BYTES, NET_HDR_HASH_BYTES } from '../nic/virtqueue.js';
import { ReceiveFilter } from './filters.js';
import { type CardCounters, cardCounters } from './statistics.js';

/** Entries that the pipelines move at once. */
export const BATCH = 128;
export const VLAN_TAG = 4;
/** Largest train the card takes from the driver, link header included, and most packets in it. */
export const TRAIN_BYTES = 65535 + ETHER_HEADER;
export const TRAIN_SEGMENTS = 64;

/**
 * Scratch memory: packets cut from trains and gathered frames; receive bounce buffers; a place to drain the port into; the
 * port's own part of the region, whole pages (Port.regionBytes).
 */
export const GATHER_BYTES = 192 * 1024;
export const CUT_BYTES = 192 * 1024;
export const RX_BOUNCE_SLOTS = 8;
const PAGE = 4096;

export interface ScratchLayout {
  /** Frames gathered from several descriptors (GATHER_BYTES), packets cut from trains (CUT_BYTES). */
  readonly gather: number;
  readonly cut: number;
  readonly bounce: number;
  readonly bounceBytes: number;
  readonly drain: number;
  readonly drainBytes: number;
  /** Port.regionBytes, at a page; -1 when the port wants none. */
  readonly port: number;
  readonly end: number;
}

/** Where the card's scratch memory lies when it starts at `offset` (8-byte aligned). */
export function scratchLayout(port: Port, offset: number): ScratchLayout {
  const frame = (port.capabilities.mtu + ETHER_HEADER + VLAN_TAG + NET_HDR_HASH_BYTES + 63) & ~63;
  const drainBytes = (Math.max(frame, port.capabilities.train) + 127) & ~63;
  const bounce = offset + GATHER_BYTES + CUT_BYTES;
  const drain = bounce + RX_BOUNCE_SLOTS * frame;
  const drained = drain + drainBytes;
  const portBytes = port.regionBytes ?? 0;
  const page = Math.ceil(drained / PAGE) * PAGE;
  return {
    gather: offset,
    cut: offset + GATHER_BYTES,
    bounce,
    bounceBytes: frame,
    drain,
    drainBytes,
    port: portBytes > 0 ? page : -1,
    end: portBytes > 0 ? page + portBytes : drained,
  };
}

/** Bytes of scratch memory that a card with this port needs in the region. */
export const scratchBytes = (port: Port): number =>
  scratchLayout(port, 0).end + ((port.regionBytes ?? 0) > 0 ? PAGE : 0); // an offset that is not at a page costs up to one more

export class Card {
  readonly memory: Memory;
  readonly port: Port;
  readonly registers = new RegisterFile();
  readonly counters: CardCounters = cardCounters();
  readonly engine: OffloadEngine;
  readonly filter = new ReceiveFilter();
  readonly scratch: ScratchLayout;
  /** The port carries IP: the card strips and writes link headers. */
  readonly isIp: boolean;
  /** The port throws IP and UDP headers away (RFC 6951 over a socket): their checksums need no filling. */
  readonly isUdp: boolean;
  /** Largest IP packet now; never more than `mtuMax`, for which the scratch memory was laid out. */
  mtu: number;
  readonly mtuMax: number;
  /** Factory address and the one in use. */
  readonly factoryMac: Uint8Array;
  readonly mac: Uint8Array;

  // Negotiated.
  hdrBytes = NET_HDR_BYTES;
  txCsum = false;
  rxCsum = false;
  guestCsum = false;
  txTrain = false;
  rxTrain = false;
  hashReport = false;
  hashTypes = 0;
  linkUp = false;

  constructor(memory: Memory, port: Port, scratchOffset: number, mac: Uint8Array) {
    this.memory = memory;
    this.port = port;
    this.scratch = scratchLayout(port, scratchOffset);
    if (scratchOffset % 8 !== 0 || this.scratch.end > memory.buffer.byteLength)
      throw new RangeError(
        `the card's scratch memory needs ${scratchBytes(port)} bytes of the region at an 8-byte boundary`,
      );
    this.isIp = port.capabilities.carries !== 'ethernet';
    this.isUdp = port.capabilities.carries === 'udp';
    this.mtu = this.mtuMax = port.capabilities.mtu;
    this.factoryMac = mac.slice();
    this.mac = mac.slice();
    this.engine = new OffloadEngine(memory, BATCH);
    this.filter.reset(mac);
  }

  /** Takes what the driver accepted. */
  negotiate(f: FeatureWords): void {
    this.hashReport = hasFeature(f, F_NET_HASH_REPORT);
    this.hdrBytes = this.hashReport ? NET_HDR_HASH_BYTES : NET_HDR_BYTES;
    this.txCsum = hasFeature(f, F_NKE_SCTP_CSUM);
    this.rxCsum = hasFeature(f, F_NKE_GUEST_SCTP_CSUM);
    this.guestCsum = hasFeature(f, F_NET_GUEST_CSUM);
    this.txTrain = hasFeature(f, F_NKE_SCTP_TRAIN);
    this.rxTrain = hasFeature(f, F_NKE_GUEST_SCTP_TRAIN);
    this.filter.vlanFiltering = hasFeature(f, F_NET_CTRL_VLAN);
  }

  /** Forgets what was negotiated and set. */
  reset(): void {
    this.negotiate(new Uint32Array(4));
    this.hashTypes = 0;
    this.mac.set(this.factoryMac);
    this.filter.reset(this.mac);
  }

  /** True when UDP port number `p` is taken for SCTP (RFC 6951 §5.1). */
  sctpUdpPort(p: number): boolean {
    return this.udpPorts[0] === p || this.udpPorts[1] === p || this.udpPorts[2] === p || this.udpPorts[3] === p;
  }
  readonly udpPorts = new Int32Array([9899, 9899, 9899, 9899]);
}
