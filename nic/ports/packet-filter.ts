/**
 * The socket filter of a packet port: a classic BPF program (the kernel's Documentation/networking/filter.rst) that lets only
 * frames for our stations, protocols and addresses up. It is made from a description, so that what a port listens to is data.
 */
import type { PortAddress } from './address.js';
import {
  AND,
  Assembler,
  JEQ,
  JEQ_X,
  JGE,
  JSET,
  LD_B,
  LD_B_X,
  LD_H,
  LD_W,
  LD_W_X,
  LDX_IMM,
  LDX_MEM,
  RET,
  ST,
} from './cbpf.js';

export const ETHERTYPE_IP = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_WOL = 0x0842; // magic packets, which wake a sleeping card
export const ETHERTYPE_VLAN = 0x8100; // IEEE 802.1Q
export const ETHERTYPE_QINQ = 0x88a8; // IEEE 802.1ad
export const ETHERTYPE_IP6 = 0x86dd;

export interface FilterDescription {
  /** Our hardware addresses; with none of them every unicast frame is let in, but those for `host`. */
  readonly stations: readonly Uint8Array[];
  /** The interface's own hardware address. */
  readonly host?: Uint8Array;
  /** Let frames in whatever their destination is. */
  readonly promiscuous?: boolean;
  /** EtherTypes to let in beside ARP, IPv4, IPv6 and magic packets. */
  readonly etherTypes?: readonly number[];
  /** Our IP addresses; without any of a family, all of that family are let in. */
  readonly addresses?: readonly PortAddress[];
  /** Bytes of a frame that come up. */
  readonly snap: number;
}

/** What an IPv4 packet may carry: ICMP, IGMP, UDP, SCTP. */
const PROTOCOLS4 = [1, 2, 17, 132];
/** What may follow an IPv6 header: hop-by-hop, routing, fragment, destination options; UDP, ICMPv6, SCTP. */
const PROTOCOLS6 = [0, 43, 44, 60, 17, 58, 132];

const PACKET_TYPE = 0xfffff000 + 4; // SKF_AD_OFF + SKF_AD_PKTTYPE: how the kernel has classified the frame
const PACKET_OUTGOING = 4;
const L3 = 14;

const high = (mac: Uint8Array) => (mac[0]! << 8) | mac[1]!;
const low = (mac: Uint8Array) => ((mac[2]! << 24) | (mac[3]! << 16) | (mac[4]! << 8) | mac[5]!) >>> 0;

function destination(a: Assembler, d: FilterDescription): void {
  if (d.promiscuous) return;
  a.op(LD_B, 0);
  a.when(JSET, 1, 'type'); // group addresses, broadcast among them
  for (const mac of d.stations) {
    const other = a.fresh();
    a.op(LD_W, 2);
    a.unless(JEQ, low(mac), other);
    a.op(LD_H, 0);
    a.when(JEQ, high(mac), 'type');
    a.label(other);
  }
  if (d.stations.length > 0) a.jump('drop');
  if (d.stations.length > 0 || d.host?.length !== 6) return;
  a.op(LD_W, 2);
  a.unless(JEQ, low(d.host), 'type');
  a.op(LD_H, 0);
  a.when(JEQ, high(d.host), 'drop');
}

function etherType(a: Assembler, d: FilterDescription): void {
  a.label('type');
  a.op(LDX_IMM, 0);
  a.op(LD_H, 12);
  a.when(JEQ, ETHERTYPE_VLAN, 'tagged');
  a.when(JEQ, ETHERTYPE_QINQ, 'tagged');
  a.jump('typed');
  a.label('tagged');
  a.op(LDX_IMM, 4);
  a.op(LD_H, 16);
  a.label('typed');
  a.when(JEQ, ETHERTYPE_IP, 'ip');
  a.when(JEQ, ETHERTYPE_IP6, 'ip6');
  a.when(JEQ, ETHERTYPE_ARP, 'arp');
  for (const type of [ETHERTYPE_WOL, ...(d.etherTypes ?? [])]) a.when(JEQ, type, 'accept');
  a.jump('drop');
}

/** The filter that lets nothing up. */
export function closedFilter(): Uint8Array {
  const a = new Assembler();
  a.op(RET, 0);
  return a.bytes();
}

/** The filter as an array of struct sock_filter. */
export function socketFilter(d: FilterDescription): Uint8Array {
  const a = new Assembler();
  const four = (d.addresses ?? []).filter(x => x.family === 4).map(x => x.w[3]! >>> 0);
  const six = (d.addresses ?? []).filter(x => x.family === 6);
  a.op(LD_W, PACKET_TYPE);
  a.when(JEQ, PACKET_OUTGOING, 'drop'); // what this machine sends (kernels without PACKET_IGNORE_OUTGOING)
  destination(a, d);
  etherType(a, d);

  a.label('ip');
  a.op(LD_B_X, L3 + 9);
  for (const p of PROTOCOLS4) a.when(JEQ, p, 'to4');
  a.jump('drop');
  a.label('to4');
  if (four.length > 0) {
    a.op(LD_W_X, L3 + 16);
    for (const w of four) a.when(JEQ, w, 'accept');
    a.when(JGE, 0xe0000000, 'accept'); // multicast and the limited broadcast
    a.op(LD_B, 0);
    a.unless(JSET, 1, 'drop'); // a subnet's broadcast comes in a group frame
  }
  a.jump('accept');

  a.label('arp'); // RFC 826: questions about us, answers to us, and announcements (sender and target are the same)
  if (four.length > 0) {
    a.op(LD_W_X, L3 + 14);
    a.op(ST, 0);
    a.op(LD_W_X, L3 + 24);
    for (const w of four) a.when(JEQ, w, 'accept');
    a.op(LDX_MEM, 0);
    a.unless(JEQ_X, 0, 'drop');
  }
  a.jump('accept');

  a.label('ip6');
  a.op(LD_B_X, L3 + 6);
  for (const p of PROTOCOLS6) a.when(JEQ, p, 'to6');
  a.jump('drop');
  a.label('to6');
  if (six.length > 0) {
    a.op(LD_B_X, L3 + 24);
    a.when(JEQ, 0xff, 'accept'); // multicast
    a.op(LD_W_X, L3 + 24);
    a.op(AND, 0xffc00000);
    a.when(JEQ, 0xfe800000, 'accept'); // link-local: an interface makes such an address by itself
    for (const x of six) {
      const other = a.fresh();
      for (let w = 0; w < 4; w++) {
        a.op(LD_W_X, L3 + 24 + 4 * w);
        a.unless(JEQ, x.w[w]! >>> 0, other);
      }
      a.jump('accept');
      a.label(other);
    }
    a.jump('drop');
  }

  a.label('accept');
  a.op(RET, d.snap);
  a.label('drop');
  a.op(RET, 0);
  return a.bytes();
}
