/**
 * Receive-side scaling of SCTP in UDP: the classic BPF program (the kernel's Documentation/networking/filter.rst) that picks one
 * of several sockets of a port for a datagram (SO_ATTACH_REUSEPORT_CBPF, socket(7)). It sees the UDP payload, an SCTP packet.
 *
 * Queue = verification tag modulo the number of queues. The receiver of a packet drew its tag (RFC 9260 §5.3.1), and a queue
 * draws only tags that lead to it: the packets of an association meet whatever address they come from. The tag of an INIT is 0:
 * its queue comes from a hash of the source address and both ports, so that associations spread also when all ports are the same.
 */

// Instructions.
const LD_W = 0x20; // A = 4 bytes at k, network byte order
const TAX = 0x07;
const XOR_X = 0xac;
const MUL = 0x24;
const RSH = 0x74;
const MOD = 0x94;
const JEQ = 0x15;
const RET_A = 0x16;

/** SKF_NET_OFF: loads from here on count from the IP header. */
const NETWORK = -0x100000;

const SCTP_PORTS = 0;
const SCTP_TAG = 4;
/** 2^32 divided by the golden ratio (Knuth): its product's upper bits depend on all bits of the factor. */
const GOLDEN = 0x9e3779b1;

/** Where the words of the source address stand in an IP header (RFC 791 §3.1, RFC 8200 §3). */
const SOURCE = { 4: [12], 6: [8, 12, 16, 20] } as const;

/** The queue of an INIT, as the program below works it out: `ports` and the words of the address in network byte order. */
export function initQueue(ports: number, address: readonly number[], queues: number): number {
  let h = ports;
  for (const w of address) h ^= w;
  return (Math.imul(h, GOLDEN) >>> 16) % queues;
}

/** The program for a socket of a family: instructions of 8 bytes. A packet that is too short for a tag goes to queue 0. */
export function steeringProgram(family: 4 | 6, queues: number): Uint8Array {
  if (!Number.isInteger(queues) || queues < 1 || queues > 0xffff) throw new RangeError(`${queues} queues`);
  const init: [number, number][] = [[LD_W, SCTP_PORTS]];
  for (const at of SOURCE[family])
    init.push(
      [TAX, 0],
      [LD_W, NETWORK + at],
      [XOR_X, 0], //
    );
  init.push([MUL, GOLDEN], [RSH, 16], [MOD, queues], [RET_A, 0]);
  const code: [op: number, k: number, jt?: number][] = [
    [LD_W, SCTP_TAG],
    [JEQ, 0, 2], // no tag: over the next two
    [MOD, queues],
    [RET_A, 0],
    ...init,
  ];
  const out = new Uint8Array(code.length * 8);
  const u16 = new Uint16Array(out.buffer);
  const u32 = new Uint32Array(out.buffer);
  for (const [i, [op, k, jt = 0]] of code.entries()) {
    u16[i * 4] = op; // struct sock_filter: u16 code, u8 jt, u8 jf, u32 k, in host byte order
    out[i * 8 + 2] = jt;
    u32[i * 2 + 1] = k >>> 0;
  }
  return out;
}
