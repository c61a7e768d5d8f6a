/** Branded numbers of SCTP and serial number arithmetic (RFC 9260 §1.6, RFC 1982). */

declare const brand: unique symbol;
/** A 32-bit serial number, kept as a signed 32-bit integer so that compares stay cheap. */
export type Tsn = number & { readonly [brand]: 'tsn' };
/** A 16-bit stream sequence number. */
export type Ssn = number & { readonly [brand]: 'ssn' };
/** A 32-bit verification tag, unsigned; 0 only on packets that carry an INIT. */
export type Vtag = number & { readonly [brand]: 'vtag' };
/** An association's id on its endpoint; real ones start at 3. */
export type AssocId = number & { readonly [brand]: 'assoc' };

export const tsn = (n: number): Tsn => (n | 0) as Tsn;
export const vtag = (n: number): Vtag => (n >>> 0) as Vtag;

/** a > b in serial number arithmetic. */
export const tsnGt = (a: number, b: number): boolean => ((a - b) | 0) > 0;
export const tsnGe = (a: number, b: number): boolean => ((a - b) | 0) >= 0;
export const tsnLt = (a: number, b: number): boolean => ((a - b) | 0) < 0;
export const tsnLe = (a: number, b: number): boolean => ((a - b) | 0) <= 0;
/** a > b for 16-bit stream sequence numbers. */
export const ssnGt = (a: number, b: number): boolean => ((a - b) << 16) >> 16 > 0;
