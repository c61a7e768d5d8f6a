/**
 * Receive-side scaling of SCTP: classic BPF programs (cbpf.ts) that pick one of several receive queues for a packet.
 *
 * Queue = verification tag modulo the number of queues. The receiver of a packet drew its tag (RFC 9260 §5.3.1), and a queue
 * draws only tags that lead to it: the packets of an association meet whatever address they come from. The tag of an INIT is 0:
 * its queue comes from a hash of the source address and both ports, so that associations spread also when all ports are the same.
 *
 * Media that carry more than SCTP: a datagram that is no tunnel's (RFC 6951) goes by its destination port modulo the number of
 * queues if that is one of those that a queue draws for itself (RFC 6335 §6), else as an INIT does. Everything else, ARP, ICMP,
 * fragments and IPv6 extension headers among it, goes to queue 0; what is not for it alone it passes on (share.ts, and for SCTP
 * stack/sctp/steer.ts). A packet that is too short for what is looked at goes there too.
 */
import {
  ADD,
  ADD_X,
  AND,
  Assembler,
  JEQ,
  JGE,
  JSET,
  LD_B_X,
  LD_H,
  LD_H_X,
  LD_W,
  LD_W_X,
  LDX_IMM,
  LDX_MEM,
  LSH,
  MOD,
  MUL,
  RET,
  RET_A,
  RSH,
  ST,
  STX,
  TAX,
  TXA,
  XOR_X,
} from './cbpf.js';

/** SKF_NET_OFF: loads from here on count from the IP header. */
const NETWORK = -0x100000;

const SCTP_PORTS = 0;
const SCTP_TAG = 4;
/** 2^32 divided by the golden ratio (Knuth): its product's upper bits depend on all bits of the factor. */
const GOLDEN = 0x9e3779b1;

const UDP = 17;
const SCTP = 132;
/** More fragments, or not the first one (RFC 791 §3.1). */
const FRAGMENT = 0x3fff;
/** Ports from here on are drawn. */
const DYNAMIC_PORTS = 49152;
const TYPE_VLAN = 0x8100;
const TYPE_QINQ = 0x88a8;

/** Where the words of the source address stand in an IP header (RFC 791 §3.1, RFC 8200 §3). */
const SOURCE = { 4: [12], 6: [8, 12, 16, 20] } as const;

/** The queue of an INIT, as the programs below work it out: `ports` and the words of the address in network byte order. */
export function initQueue(ports: number, address: readonly number[], queues: number): number {
  let h = ports;
  for (const w of address) h ^= w;
  return (Math.imul(h, GOLDEN) >>> 16) % queues;
}

function check(queues: number): void {
  if (!Number.isInteger(queues) || queues < 1 || queues > 0xffff) throw new RangeError(`${queues} queues`);
}

/** A holds what is to be hashed. */
function hashed(a: Assembler, queues: number): void {
  a.op(MUL, GOLDEN);
  a.op(RSH, 16);
  a.op(MOD, queues);
  a.op(RET_A);
}

/** The program for sockets of a UDP port, which see the UDP payload, an SCTP packet: instructions of 8 bytes. */
export function steeringProgram(family: 4 | 6, queues: number): Uint8Array {
  check(queues);
  const a = new Assembler();
  a.op(LD_W, SCTP_TAG);
  a.when(JEQ, 0, 'init');
  a.op(MOD, queues);
  a.op(RET_A);
  a.label('init');
  a.op(LD_W, SCTP_PORTS);
  for (const at of SOURCE[family]) {
    a.op(TAX);
    a.op(LD_W, NETWORK + at);
    a.op(XOR_X);
  }
  hashed(a, queues);
  return a.bytes();
}

/** Words of scratch memory. */
const [L3, L4, HASH] = [0, 1, 2];

/**
 * The program for packets that begin with an Ethernet header, in which one VLAN tag may be, or with the IP header. `tunnel` is the
 * UDP port that SCTP comes to (RFC 6951), 0 = none. Instructions of 8 bytes.
 */
export function packetSteeringProgram(begin: 'ethernet' | 'ip', queues: number, tunnel: number): Uint8Array {
  check(queues);
  const a = new Assembler();
  a.op(LDX_IMM, begin === 'ip' ? 0 : 14);
  if (begin === 'ethernet') {
    a.op(LD_H, 12);
    a.when(JEQ, TYPE_VLAN, 'tagged');
    a.unless(JEQ, TYPE_QINQ, 'ip');
    a.label('tagged');
    a.op(LDX_IMM, 18);
  }
  a.label('ip');
  a.op(STX, L3);
  a.op(LD_B_X, 0);
  a.op(AND, 0xf0); // ARP begins with 0
  a.when(JEQ, 0x40, 'ip4');
  a.when(JEQ, 0x60, 'ip6');
  a.jump('other');

  a.label('ip4');
  a.op(LD_H_X, 6);
  a.when(JSET, FRAGMENT, 'other');
  a.op(LD_B_X, 0);
  a.op(AND, 15);
  a.op(LSH, 2);
  a.op(ADD_X);
  a.op(ST, L4);
  a.op(LD_B_X, 9);
  transport(a, 4, queues, tunnel);

  a.label('ip6');
  a.op(TXA);
  a.op(ADD, 40);
  a.op(ST, L4);
  a.op(LD_B_X, 6);
  transport(a, 6, queues, tunnel);

  a.label('other');
  a.op(RET, 0);
  return a.bytes();
}

/** A holds the protocol behind the IP header. */
function transport(a: Assembler, family: 4 | 6, queues: number, tunnel: number): void {
  const [sctp, flow, tunnelled] = [`sctp${family}`, `flow${family}`, `tunnel${family}`];
  a.when(JEQ, SCTP, sctp);
  a.unless(JEQ, UDP, 'other');
  a.op(LDX_MEM, L4);
  a.op(LD_H_X, 2);
  if (tunnel !== 0) a.when(JEQ, tunnel, tunnelled);
  a.unless(JGE, DYNAMIC_PORTS, flow);
  a.op(MOD, queues);
  a.op(RET_A);

  if (tunnel !== 0) {
    a.label(tunnelled);
    a.op(TXA);
    a.op(ADD, 8);
    a.op(ST, L4);
  }
  a.label(sctp);
  a.op(LDX_MEM, L4);
  a.op(LD_W_X, SCTP_TAG);
  a.when(JEQ, 0, flow);
  a.op(MOD, queues);
  a.op(RET_A);

  a.label(flow);
  a.op(LDX_MEM, L4);
  a.op(LD_W_X, SCTP_PORTS); // UDP's stand there too
  for (const at of SOURCE[family]) {
    a.op(ST, HASH);
    a.op(LDX_MEM, L3);
    a.op(LD_W_X, at);
    a.op(LDX_MEM, HASH);
    a.op(XOR_X);
  }
  hashed(a, queues);
}
