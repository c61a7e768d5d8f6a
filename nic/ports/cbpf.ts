/**
 * Classic BPF (the kernel's Documentation/networking/filter.rst): instructions, an assembler with labels, and the translation of a
 * program into eBPF (RFC 9669), for places that take no classic one. One accumulator A, one index register X, sixteen words of
 * scratch memory; a load outside the packet ends the program with 0.
 */

export const LD_W = 0x20; // A = 4 bytes at k, network byte order
export const LD_H = 0x28;
export const LD_B = 0x30;
export const LD_W_X = 0x40; // A = 4 bytes at X + k
export const LD_H_X = 0x48;
export const LD_B_X = 0x50;
export const LDX_IMM = 0x01;
export const LDX_MEM = 0x61;
export const ST = 0x02;
export const STX = 0x03;
export const TAX = 0x07;
export const TXA = 0x87;
export const ADD = 0x04;
export const ADD_X = 0x0c;
export const MUL = 0x24;
export const AND = 0x54;
export const LSH = 0x64;
export const RSH = 0x74;
export const MOD = 0x94;
export const XOR_X = 0xac;
export const JA = 0x05;
export const JEQ = 0x15;
export const JEQ_X = 0x1d;
export const JGE = 0x35;
export const JSET = 0x45;
export const RET = 0x06;
export const RET_A = 0x16;

/** Emits instructions; a conditional jump leads over a long one, so that distance is no matter. */
export class Assembler {
  readonly #code: { op: number; jt: number; jf: number; k: number; to?: string }[] = [];
  readonly #labels = new Map<string, number>();
  #fresh = 0;

  op(op: number, k = 0): void {
    this.#code.push({ op, jt: 0, jf: 0, k });
  }
  when(op: number, k: number, to: string): void {
    this.#code.push({ op, jt: 0, jf: 1, k });
    this.jump(to);
  }
  unless(op: number, k: number, to: string): void {
    this.#code.push({ op, jt: 1, jf: 0, k });
    this.jump(to);
  }
  jump(to: string): void {
    this.#code.push({ op: JA, jt: 0, jf: 0, k: 0, to });
  }
  label(name: string): void {
    this.#labels.set(name, this.#code.length);
  }
  fresh(): string {
    return `.${this.#fresh++}`;
  }
  /**
   * struct sock_filter: u16 code, u8 jt, u8 jf, u32 k, in host byte order. Throws RangeError for a jump to no label, or backwards,
   * which classic BPF does not know.
   */
  bytes(): Uint8Array {
    const out = new Uint8Array(this.#code.length * 8);
    const u16 = new Uint16Array(out.buffer);
    const u32 = new Uint32Array(out.buffer);
    for (const [i, c] of this.#code.entries()) {
      u16[i * 4] = c.op;
      out[i * 8 + 2] = c.jt;
      out[i * 8 + 3] = c.jf;
      const k = c.to === undefined ? c.k : (this.#labels.get(c.to) ?? -1) - i - 1;
      if (c.to !== undefined && k < 0) throw new RangeError(`there is no label ${c.to} ahead`);
      u32[i * 2 + 1] = k;
    }
    return out;
  }
}

// eBPF: A is r0, where packet loads leave their result (RFC 9669 §5.5), X is r7, which they keep, r6 the context; the scratch
// memory lies on the stack.
const [A, X, CONTEXT, STACK] = [0, 7, 6, 10];
const MOV64_REG = 0xbf;
const MOV_REG = 0xbc;
const MOV_IMM = 0xb4;
const STORE_W = 0x63;
const LOAD_W = 0x61;
const EXIT = 0x95;
/** From a class of 64-bit jumps, which classic opcodes would be, to that of 32-bit ones. */
const JMP32 = 1;

type Insn = readonly [code: number, dst: number, src: number, off: number, imm: number];

/** What one classic instruction becomes, but for jumps. */
function translate(op: number, k: number): Insn[] {
  switch (op) {
    case LD_W:
    case LD_H:
    case LD_B:
    case ADD:
    case MUL:
    case AND:
    case LSH:
    case RSH:
    case MOD:
      return [[op, A, 0, 0, k]];
    case LD_W_X:
    case LD_H_X:
    case LD_B_X:
    case ADD_X:
    case XOR_X:
      return [[op, A, X, 0, k]];
    case TAX:
      return [[MOV_REG, X, A, 0, 0]];
    case TXA:
      return [[MOV_REG, A, X, 0, 0]];
    case LDX_IMM:
      return [[MOV_IMM, X, 0, 0, k]];
    case LDX_MEM:
      return [[LOAD_W, X, STACK, -4 * (k + 1), 0]];
    case ST:
      return [[STORE_W, STACK, A, -4 * (k + 1), 0]];
    case STX:
      return [[STORE_W, STACK, X, -4 * (k + 1), 0]];
    case RET:
      return [
        [MOV_IMM, A, 0, 0, k],
        [EXIT, 0, 0, 0, 0],
      ];
    case RET_A:
      return [[EXIT, 0, 0, 0, 0]];
    default:
      throw new RangeError(`no translation of the instruction 0x${op.toString(16)}`);
  }
}

/** The same program as a socket filter in eBPF (BPF_PROG_TYPE_SOCKET_FILTER). Throws RangeError for what this file has no name for. */
export function extended(program: Uint8Array): Uint8Array {
  const dv = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const n = program.byteLength >> 3;
  const out: { insn: Insn; to: number }[] = [{ insn: [MOV64_REG, CONTEXT, 1, 0, 0], to: -1 }];
  const place: number[] = []; // of each classic instruction
  for (let i = 0; i < n; i++) {
    place.push(out.length);
    const op = dv.getUint16(8 * i, true);
    const k = dv.getInt32(8 * i + 4, true);
    if (op === JA) out.push({ insn: [JA, 0, 0, 0, 0], to: i + 1 + k });
    else if ((op & 7) === JA) {
      // Two ways out become a jump and what follows it.
      const reg = op === JEQ_X ? X : 0;
      out.push({ insn: [op + JMP32, A, reg, 0, reg === 0 ? k : 0], to: i + 1 + dv.getUint8(8 * i + 2) });
      out.push({ insn: [JA, 0, 0, 0, 0], to: i + 1 + dv.getUint8(8 * i + 3) });
    } else for (const insn of translate(op, k)) out.push({ insn, to: -1 });
  }
  const bytes = new Uint8Array(8 * out.length);
  const to = new DataView(bytes.buffer);
  for (const [i, o] of out.entries()) {
    const [code, dst, src, off, imm] = o.insn;
    to.setUint8(8 * i, code);
    to.setUint8(8 * i + 1, dst | (src << 4));
    to.setInt16(8 * i + 2, o.to < 0 ? off : place[o.to]! - i - 1, true);
    to.setInt32(8 * i + 4, imm, true);
  }
  return bytes;
}
