/**
 * Classic BPF (bpf(4), McCanne and Jacobson 1993): checks a program once and runs it over frames. A checked program ends:
 * jumps go forward only, and every way comes to a return. What libpcap compiles (tcpdump -ddd) passes; nothing is trusted.
 */

import type { BpfProgram } from '../../kpi.js';

/** Instructions of a program, and words of scratch memory. */
export const BPF_MAXINSNS = 4096;
const BPF_MEMWORDS = 16;

const CLASS = 0x07;
const LD = 0x00;
const LDX = 0x01;
const ST = 0x02;
const STX = 0x03;
const ALU = 0x04;
const JMP = 0x05;
const RET = 0x06;
const MISC = 0x07;
const SIZE = 0x18; // W 0x00, H 0x08, B 0x10
const MODE = 0xe0; // IMM 0x00, ABS 0x20, IND 0x40, MEM 0x60, LEN 0x80, MSH 0xa0
const SRC_X = 0x08;

const KNOWN = new Set<number>();
for (const size of [0x00, 0x08, 0x10]) for (const mode of [0x20, 0x40]) KNOWN.add(LD | size | mode);
for (const code of [0x00, 0x60, 0x80]) KNOWN.add(LD | code).add(LDX | code);
KNOWN.add(LDX | 0x10 | 0xa0)
  .add(ST)
  .add(STX)
  .add(RET)
  .add(RET | 0x10)
  .add(MISC)
  .add(MISC | 0x80);
for (let op = 0; op <= 0xa0; op += 0x10) if (op !== 0x80) KNOWN.add(ALU | op).add(ALU | op | SRC_X);
KNOWN.add(ALU | 0x80);
for (const op of [0x10, 0x20, 0x30, 0x40]) KNOWN.add(JMP | op).add(JMP | op | SRC_X);
KNOWN.add(JMP);

export class Bpf {
  readonly length: number;
  readonly #code: Uint16Array;
  readonly #jt: Uint8Array;
  readonly #jf: Uint8Array;
  readonly #k: Uint32Array;
  readonly #mem = new Uint32Array(BPF_MEMWORDS);

  private constructor(program: BpfProgram) {
    this.length = program.length;
    this.#code = Uint16Array.from(program, i => i[0]);
    this.#jt = Uint8Array.from(program, i => i[1]);
    this.#jf = Uint8Array.from(program, i => i[2]);
    this.#k = Uint32Array.from(program, i => i[3]);
  }

  /** A program that is safe to run, or a sentence that says why not. */
  static check(program: BpfProgram): Bpf | string {
    const n = program.length;
    if (n < 1 || n > BPF_MAXINSNS) return `the program has ${n} instructions; allowed: 1 to ${BPF_MAXINSNS}`;
    for (const [i, [code, jt, jf, k]] of program.entries()) {
      const at = `instruction ${i}`;
      const whole = (x: number, most: number) => Number.isInteger(x) && x >= 0 && x <= most;
      if (!whole(jt, 255) || !whole(jf, 255) || !whole(k, 0xffffffff)) return `${at} is out of range`;
      if (!KNOWN.has(code)) return `${at} is of no known kind (0x${Number(code).toString(16)})`;
      const cls = code & CLASS;
      if (cls === JMP) {
        if (code === JMP ? i + 1 + k >= n : i + 1 + Math.max(jt, jf) >= n) return `${at} jumps out of the program`;
      } else if (cls === ST || cls === STX || ((cls === LD || cls === LDX) && (code & MODE) === 0x60)) {
        if (k >= BPF_MEMWORDS) return `${at} uses memory word ${k}; there are ${BPF_MEMWORDS}`;
      } else if (cls === ALU && (code & SRC_X) === 0) {
        const op = code & 0xf0;
        if ((op === 0x30 || op === 0x90) && k === 0) return `${at} divides by zero`;
        if ((op === 0x60 || op === 0x70) && k > 31) return `${at} shifts by ${k}`;
      }
    }
    if ((program[n - 1]![0] & CLASS) !== RET) return 'the program does not end in a return';
    return new Bpf(program);
  }

  /** Runs over `caplen` bytes at `off` of a packet that is `wire` bytes long. Returns how many bytes to keep; 0 = not matched. */
  run(u8: Uint8Array, off: number, caplen: number, wire: number): number {
    const mem = this.#mem.fill(0);
    let a = 0;
    let x = 0;
    for (let pc = 0; pc < this.length; pc++) {
      const code = this.#code[pc]!;
      const k = this.#k[pc]!;
      switch (code & CLASS) {
        case LD: {
          const mode = code & MODE;
          if (mode === 0x00) a = k;
          else if (mode === 0x60) a = mem[k]!;
          else if (mode === 0x80) a = wire;
          else {
            const at = mode === 0x40 ? x + k : k;
            const size = code & SIZE;
            const need = size === 0 ? 4 : size === 0x08 ? 2 : 1;
            if (at + need > caplen) return 0; // also when x + k is beyond all frames
            const p = off + at;
            a = u8[p]!;
            if (need >= 2) a = (a << 8) | u8[p + 1]!;
            if (need === 4) a = ((a << 16) | (u8[p + 2]! << 8) | u8[p + 3]!) >>> 0;
          }
          break;
        }
        case LDX: {
          const mode = code & MODE;
          if (mode === 0x00) x = k;
          else if (mode === 0x60) x = mem[k]!;
          else if (mode === 0x80) x = wire;
          else {
            if (k >= caplen) return 0;
            x = (u8[off + k]! & 15) << 2;
          }
          break;
        }
        case ST:
          mem[k] = a;
          break;
        case STX:
          mem[k] = x;
          break;
        case ALU: {
          const v = (code & SRC_X) !== 0 ? x : k;
          const r = alu(code & 0xf0, a, v);
          if (r < 0) return 0;
          a = r;
          break;
        }
        case JMP: {
          const op = code & 0xf0;
          if (op === 0) {
            pc += k;
            break;
          }
          const v = (code & SRC_X) !== 0 ? x : k;
          const yes = op === 0x10 ? a === v : op === 0x20 ? a > v : op === 0x30 ? a >= v : (a & v) !== 0;
          pc += yes ? this.#jt[pc]! : this.#jf[pc]!;
          break;
        }
        case RET:
          return (code & 0x18) === 0x10 ? a : k;
        default: // MISC: TAX, TXA
          if ((code & 0x80) === 0) x = a;
          else a = x;
      }
    }
    return 0;
  }
}

/** An unsigned 32-bit result, or -1: division by zero. */
function alu(op: number, a: number, v: number): number {
  switch (op) {
    case 0x00:
      return (a + v) >>> 0;
    case 0x10:
      return (a - v) >>> 0;
    case 0x20:
      return Math.imul(a, v) >>> 0;
    case 0x30:
      return v === 0 ? -1 : Math.floor(a / v);
    case 0x40:
      return (a | v) >>> 0;
    case 0x50:
      return (a & v) >>> 0;
    case 0x60:
      return v > 31 ? 0 : (a << v) >>> 0;
    case 0x70:
      return v > 31 ? 0 : a >>> v;
    case 0x80:
      return -a >>> 0;
    case 0x90:
      return v === 0 ? -1 : a % v;
    default:
      return (a ^ v) >>> 0;
  }
}
