/**
 * eBPF: a small assembler (RFC 9669, the instruction set), and the XDP program that decides which frames of an interface are the
 * card's. There is no compiler at run time: a program is a list of rows, made for the addresses of the moment and loaded again
 * when they change.
 *
 * What is the card's (`StationRule`):
 *  - Unicast to the card's own hardware address: everything. The host's stack has no use for it. While that address is not known,
 *    everything but what goes to the interface's own one.
 *  - Unicast to the interface's own address, when the card was given the same one: what goes to the card's IP addresses.
 *  - Broadcast and multicast cannot be had by both: a frame redirected to the card is lost for the host. When the card's IP
 *    addresses are known, it takes ARP requests and neighbour solicitations for these, and the host keeps the rest (router
 *    advertisements, MLD and everybody else's ARP among it). When they are not known, it takes all but ARP requests and
 *    neighbour solicitations for the host's own addresses.
 *  - The bridges' group addresses 01:80:c2:00:00:0x (IEEE 802.1Q §8.6.3: STP, LACP, LLDP, PAUSE) stay with the host.
 * One VLAN tag (802.1Q or 802.1ad) may stand in front of the EtherType.
 */
import { parseAddress } from './address.js';

/** One instruction; `to` names the label that a jump goes to. */
export interface Row {
  readonly code: number;
  readonly dst?: number;
  readonly src?: number;
  readonly off?: number;
  readonly imm?: number;
  readonly to?: string;
}
/** A row, or a label: the place of the next row. */
export type Line = Row | string;

// Registers: r0 result, r1-r5 arguments and scratch, r6-r9 kept over calls.
export const [R0, R1, R2, R3, R4, R5, R6, R7, R8, R9] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] as const;

// RFC 9669 §3: classes, sizes, operations.
const LD = 0x00;
const LDX = 0x01;
const JMP = 0x05;
const JMP32 = 0x06;
const ALU64 = 0x07;
const MEM = 0x60;
const SIZES = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 } as const;
const SRC_REG = 0x08;
const PSEUDO_MAP_FD = 1;

/** dst = the `size` bytes at src + off. */
export const load = (size: 1 | 2 | 4 | 8, dst: number, src: number, off: number): Row => ({
  code: LDX | MEM | SIZES[size],
  dst,
  src,
  off,
});
export const movReg = (dst: number, src: number): Row => ({ code: ALU64 | 0xb0 | SRC_REG, dst, src });
export const movImm = (dst: number, imm: number): Row => ({ code: ALU64 | 0xb0, dst, imm });
export const addImm = (dst: number, imm: number): Row => ({ code: ALU64, dst, imm });
export const andImm = (dst: number, imm: number): Row => ({ code: ALU64 | 0x50, dst, imm });
export const jump = (to: string): Row => ({ code: JMP, to });
/** Jumps when dst > src, as unsigned 64-bit numbers. */
export const jumpGreater = (dst: number, src: number, to: string): Row => ({
  code: JMP | 0x20 | SRC_REG,
  dst,
  src,
  to,
});
/** Jumps when the low 32 bits of dst are (not) imm. */
export const jumpEqual = (dst: number, imm: number, to: string): Row => ({ code: JMP32 | 0x10, dst, imm, to });
export const jumpNot = (dst: number, imm: number, to: string): Row => ({ code: JMP32 | 0x50, dst, imm, to });
export const call = (helper: number): Row => ({ code: JMP | 0x80, imm: helper });
export const exit: Row = { code: JMP | 0x90 };
/** dst = the map of this descriptor: two slots, the second one empty (§5.4). */
export const loadMap = (dst: number, fd: number): readonly Row[] => [
  { code: LD | SIZES[8], dst, src: PSEUDO_MAP_FD, imm: fd },
  { code: 0 },
];

/**
 * Bytes of a program, little endian: u8 code, u4 dst, u4 src, s16 off, s32 imm for each row. Throws RangeError for a label that
 * is missing, given twice or too far away.
 */
export function assemble(lines: readonly Line[]): Uint8Array {
  const labels = new Map<string, number>();
  let n = 0;
  for (const line of lines) {
    if (typeof line !== 'string') n++;
    else if (labels.has(line)) throw new RangeError(`label ${line} is there twice`);
    else labels.set(line, n);
  }
  const out = new Uint8Array(8 * n);
  const dv = new DataView(out.buffer);
  let i = 0;
  for (const line of lines) {
    if (typeof line === 'string') continue;
    let off = line.off ?? 0;
    if (line.to !== undefined) {
      const target = labels.get(line.to);
      if (target === undefined) throw new RangeError(`there is no label ${line.to}`);
      off = target - i - 1;
    }
    if (off < -0x8000 || off > 0x7fff) throw new RangeError(`row ${i}: the offset ${off} has more than 16 bits`);
    dv.setUint8(8 * i, line.code);
    dv.setUint8(8 * i + 1, (line.dst ?? 0) | ((line.src ?? 0) << 4));
    dv.setInt16(8 * i + 2, off, true);
    dv.setInt32(8 * i + 4, (line.imm ?? 0) | 0, true);
    i++;
  }
  return out;
}

// XDP.
export const XDP_PASS = 2;
export const BPF_REDIRECT_MAP = 51;
/** Words of struct xdp_md. */
const MD_DATA = 0;
const MD_DATA_END = 4;
const MD_RX_QUEUE = 16;

/** Whose frames the program takes; see the head of this file. */
export interface StationRule {
  /** The card's hardware addresses. */
  readonly macs: readonly Uint8Array[];
  /** The interface's own one. */
  readonly hostMac?: Uint8Array;
  /** The card's IP addresses, "192.0.2.1" or "192.0.2.1/24"; none: not known. */
  readonly addresses: readonly string[];
  /** The host's on this interface. */
  readonly hostAddresses: readonly string[];
}

/** Most addresses that one program is made for; those beyond are left out. */
export const STATION_ADDRESSES = 64;

/** Two or four bytes of the wire as a load gives them: little endian. */
const wire16 = (v: number) => ((v & 0xff) << 8) | (v >>> 8);
const wire32 = (v: number) => ((v & 0xff) << 24) | ((v & 0xff00) << 8) | ((v >>> 8) & 0xff00) | ((v >>> 24) & 0xff);
const same = (a: Uint8Array, b: Uint8Array | undefined) => b !== undefined && a.every((x, i) => x === b[i]);
const macLow = (m: Uint8Array) => m[0]! | (m[1]! << 8) | (m[2]! << 16) | (m[3]! << 24);
const macHigh = (m: Uint8Array) => m[4]! | (m[5]! << 8);

const ARP = wire16(0x0806);
const IPV4 = wire16(0x0800);
const IPV6 = wire16(0x86dd);
const VLAN = wire16(0x8100);
const SERVICE_VLAN = wire16(0x88a8);
const ICMPV6 = 58;
const NEIGHBOUR_SOLICITATION = 135;

/** Goes to `to` unless `n` bytes lie behind the register. Spoils r2. */
const need = (reg: number, n: number, to: string): Row[] => [movReg(R2, reg), addImm(R2, n), jumpGreater(R2, R8, to)];

/**
 * The lines that compare the address at r9 + off with those listed: `take` or `pass` by whether it is one of the card's, or, when
 * these are not known, none of the host's.
 */
function judge(rule: StationRule, family: 4 | 6, off: number, name: string): Line[] {
  const known = rule.addresses.length > 0;
  const lines: Line[] = [];
  const list = (known ? rule.addresses : rule.hostAddresses).slice(0, STATION_ADDRESSES);
  for (const [i, text] of list.entries()) {
    const a = parseAddress(text.split('/')[0]!);
    if (a?.family !== family) continue;
    const next = `${name}-${i}`;
    const words = family === 4 ? [a.w[3]!] : [...a.w];
    for (const [k, word] of words.entries()) lines.push(load(4, R3, R9, off + 4 * k), jumpNot(R3, wire32(word), next));
    lines.push(jump(known ? 'take' : 'pass'), next);
  }
  lines.push(jump(known ? 'pass' : 'take'));
  return lines;
}

/** Unicast, its destination in r3 and r4. */
function unicast(rule: StationRule): Line[] {
  if (rule.macs.length === 0) {
    if (rule.hostMac === undefined) return [jump('take')];
    return [jumpNot(R3, macLow(rule.hostMac), 'take'), jumpEqual(R4, macHigh(rule.hostMac), 'pass'), jump('take')];
  }
  const lines: Line[] = [];
  for (const [i, mac] of rule.macs.slice(0, STATION_ADDRESSES).entries()) {
    lines.push(jumpNot(R3, macLow(mac), `mac-${i}`));
    lines.push(jumpEqual(R4, macHigh(mac), same(mac, rule.hostMac) ? 'shared' : 'take'), `mac-${i}`);
  }
  return [...lines, jump('pass')];
}

/** One hardware address for host and card: by IP address. The verifier refuses rows that nothing leads to. */
function sharedStation(rule: StationRule): Line[] {
  return [
    'shared',
    jumpEqual(R5, ARP, 'arp'),
    jumpEqual(R5, IPV6, 'shared6'),
    jumpNot(R5, IPV4, 'pass'),
    ...need(R9, 20, 'pass'),
    ...judge(rule, 4, 16, 'ip4'),
    'shared6',
    ...need(R9, 40, 'pass'),
    ...judge(rule, 6, 24, 'ip6'),
  ];
}

/** The program for these addresses; `map` is the descriptor of the XSKMAP, whose keys are receive queues. */
export function stationProgram(rule: StationRule, map: number): Line[] {
  const shared = rule.macs.some(mac => same(mac, rule.hostMac));
  const rest = rule.addresses.length > 0 ? 'pass' : 'take';
  return [
    // r6 context, r7 data, r8 its end, r5 EtherType, r9 what follows it.
    movReg(R6, R1),
    load(4, R7, R6, MD_DATA),
    load(4, R8, R6, MD_DATA_END),
    ...need(R7, 14, 'pass'),
    movReg(R9, R7),
    addImm(R9, 14),
    load(2, R5, R7, 12),
    jumpEqual(R5, VLAN, 'tagged'),
    jumpEqual(R5, SERVICE_VLAN, 'tagged'),
    jump('station'),
    'tagged',
    ...need(R7, 18, 'pass'),
    addImm(R9, 4),
    load(2, R5, R7, 16),

    'station',
    load(4, R3, R7, 0),
    load(2, R4, R7, 4),
    load(1, R2, R7, 0),
    andImm(R2, 1),
    jumpEqual(R2, 1, 'group'),
    ...unicast(rule),

    ...(shared ? sharedStation(rule) : []),

    'group',
    jumpNot(R3, 0x00c28001, 'no-bridge'),
    andImm(R4, 0xf0ff),
    jumpEqual(R4, 0, 'pass'),
    'no-bridge',
    jumpEqual(R5, ARP, 'arp'),
    jumpNot(R5, IPV6, rest),
    // IPv6, then at once a neighbour solicitation: its target is at 48.
    ...need(R9, 64, rest),
    load(1, R2, R9, 6),
    jumpNot(R2, ICMPV6, rest),
    load(1, R2, R9, 40),
    jumpNot(R2, NEIGHBOUR_SOLICITATION, rest),
    ...judge(rule, 6, 48, 'ns'),

    'arp', // target protocol address at 24
    ...need(R9, 28, 'pass'),
    ...judge(rule, 4, 24, 'arp'),

    // To the socket of this queue, and to the host when there is none.
    'take',
    ...loadMap(R1, map),
    load(4, R2, R6, MD_RX_QUEUE),
    movImm(R3, XDP_PASS),
    call(BPF_REDIRECT_MAP),
    exit,
    'pass',
    movImm(R0, XDP_PASS),
    exit,
  ];
}
