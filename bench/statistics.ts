/** Medians, spreads and quantiles of samples. */

/** The middle value; NaN of none. */
export function median(samples: readonly number[]): number {
  return quantile(
    [...samples].sort((a, b) => a - b),
    0.5,
  );
}

/** The value below which the share `q` (0 to 1) of a sorted list lies, interpolated between neighbours; NaN of none. */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  if (sorted.length === 0) return Number.NaN;
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  const a = sorted[low]!;
  return at === low ? a : a + (sorted[low + 1]! - a) * (at - low);
}

/** A number as it is kept in results: four significant digits, which is more than any measurement here is good for. */
export const rounded = (n: number): number => Number(n.toPrecision(4));

/**
 * The shares at which a distribution of round trips is told, by our peer and by the C programs alike (QUANTILES in
 * vm/sctp-peer.h and bench/limit/pingpong.c are the same list).
 */
export const QUANTILES = [0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1] as const;

/** "p50", "p99.9", "min", "max". */
export const quantileName = (q: number): string =>
  q === 0 ? 'min' : q === 1 ? 'max' : `p${Number((q * 100).toFixed(2))}`;
