/** Runs BPF programs, classic ones and what becomes of them. Test support only. */
import assert from 'node:assert/strict';

/** Runs a classic BPF program as the kernel does (Documentation/networking/filter.rst); `type` is the frame's packet type. */
export function run(program: Uint8Array, frame: Uint8Array, type = 0): number {
  const dv = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const code = new DataView(program.buffer);
  const memory = new Array<number>(16).fill(0);
  let a = 0;
  let x = 0;
  for (let pc = 0, steps = 0; steps < 4096; pc++, steps++) {
    assert.ok(pc * 8 < program.length, 'it ends with a return');
    const op = code.getUint16(pc * 8, true);
    const jt = program[pc * 8 + 2]!;
    const jf = program[pc * 8 + 3]!;
    const k = code.getUint32(pc * 8 + 4, true);
    const load = (at: number, n: number): boolean => {
      if (at === 0xfffff004) a = type;
      else if (at + n > frame.length) return false;
      else a = n === 4 ? dv.getUint32(at) : n === 2 ? dv.getUint16(at) : dv.getUint8(at);
      return true;
    };
    const jump = (yes: boolean) => {
      pc += yes ? jt : jf;
    };
    let inside = true;
    if (op === 0x20) inside = load(k, 4);
    else if (op === 0x28) inside = load(k, 2);
    else if (op === 0x30) inside = load(k, 1);
    else if (op === 0x40) inside = load(x + k, 4);
    else if (op === 0x48) inside = load(x + k, 2);
    else if (op === 0x50) inside = load(x + k, 1);
    else if (op === 0x01) x = k;
    else if (op === 0x61) x = memory[k]!;
    else if (op === 0x02) memory[k] = a;
    else if (op === 0x03) memory[k] = x;
    else if (op === 0x07) x = a;
    else if (op === 0x87) a = x;
    else if (op === 0x04) a = (a + k) >>> 0;
    else if (op === 0x0c) a = (a + x) >>> 0;
    else if (op === 0x24) a = Math.imul(a, k) >>> 0;
    else if (op === 0x64) a = (a << k) >>> 0;
    else if (op === 0x74) a >>>= k;
    else if (op === 0x94) a %= k;
    else if (op === 0xac) a = (a ^ x) >>> 0;
    else if (op === 0x16) return a;
    else if (op === 0x54) a = (a & k) >>> 0;
    else if (op === 0x05) pc += k;
    else if (op === 0x15) jump(a === k);
    else if (op === 0x1d) jump(a === x);
    else if (op === 0x35) jump(a >= k);
    else if (op === 0x45) jump((a & k) !== 0);
    else if (op === 0x06) return k;
    else assert.fail(`instruction ${op}`);
    if (!inside) return 0; // a load beyond the frame drops it
  }
  return assert.fail('it does not end');
}

/** Runs a socket filter in eBPF (RFC 9669) that loads from the packet only by the old packet loads (§5.5). */
export function runExtended(program: Uint8Array, frame: Uint8Array): number {
  const dv = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const code = new DataView(program.buffer, program.byteOffset, program.length);
  const r = new Array<number | undefined>(11).fill(undefined);
  const stack = new Map<number, number>();
  const value = (n: number): number => r[n] ?? assert.fail(`r${n} holds nothing`);
  for (let pc = 0, steps = 0; steps < 4096; pc++, steps++) {
    assert.ok(pc * 8 < program.length, 'it ends with an exit');
    const op = code.getUint8(pc * 8);
    const dst = program[pc * 8 + 1]! & 15;
    const src = program[pc * 8 + 1]! >>> 4;
    const off = code.getInt16(pc * 8 + 2, true);
    const imm = code.getInt32(pc * 8 + 4, true);
    const k = imm >>> 0;
    const jump = (yes: boolean) => {
      pc += yes ? off : 0;
    };
    if ((op & 7) === 0) {
      const n = [4, 2, 1][(op >>> 3) & 3]!;
      const at = ((op & 0xe0) === 0x40 ? value(src) : 0) + imm;
      if (at < 0 || at + n > frame.length) return 0;
      r.fill(undefined, 1, 6);
      r[0] = n === 4 ? dv.getUint32(at) : n === 2 ? dv.getUint16(at) : dv.getUint8(at);
    } else if (op === 0xbf) assert.deepEqual([dst, src], [6, 1], 'the context is kept where packet loads want it');
    else if (op === 0xbc) r[dst] = value(src);
    else if (op === 0xb4) r[dst] = k;
    else if (op === 0x63) stack.set(off, value(src));
    else if (op === 0x61) r[dst] = stack.get(off) ?? assert.fail('what was not written is read');
    else if (op === 0x04) r[dst] = (value(dst) + k) >>> 0;
    else if (op === 0x0c) r[dst] = (value(dst) + value(src)) >>> 0;
    else if (op === 0x24) r[dst] = Math.imul(value(dst), k) >>> 0;
    else if (op === 0x54) r[dst] = (value(dst) & k) >>> 0;
    else if (op === 0x64) r[dst] = (value(dst) << k) >>> 0;
    else if (op === 0x74) r[dst] = value(dst) >>> k;
    else if (op === 0x94) r[dst] = value(dst) % k;
    else if (op === 0xac) r[dst] = (value(dst) ^ value(src)) >>> 0;
    else if (op === 0x05) jump(true);
    else if (op === 0x16) jump(value(dst) === k);
    else if (op === 0x1e) jump(value(dst) === value(src));
    else if (op === 0x36) jump(value(dst) >= k);
    else if (op === 0x46) jump((value(dst) & k) !== 0);
    else if (op === 0x95) return value(0);
    else assert.fail(`instruction 0x${op.toString(16)}`);
  }
  return assert.fail('it does not end');
}
