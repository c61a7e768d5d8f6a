// The payload that the peer programs of vm/sctp-peer.h send, so that the other end can be TypeScript: byte number i of the whole stream of
// messages is table[i mod 65521], the table being the low bytes of xorshift32 started at 1.

/** Length of the pattern before it repeats; a prime, so no two messages near each other are alike. */
export const patternPeriod = 65521;

const table = new Uint8Array(patternPeriod);
for (let i = 0, x = 1; i < patternPeriod; i++) {
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  table[i] = x;
}

/** Fills target[at .. at+length) with the pattern from byte `offset` of the stream. */
export function fillPattern(target: Uint8Array, at: number, length: number, offset: number): void {
  let from = offset % patternPeriod;
  for (let done = 0; done < length; ) {
    const take = Math.min(length - done, patternPeriod - from);
    target.set(table.subarray(from, from + take), at + done);
    done += take;
    from = 0;
  }
}
