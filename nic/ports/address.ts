/**
 * Internet addresses as a port needs them: four 32-bit words in host order, IPv4 as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2).
 * The hardware knows nothing of the stack's InAddr; it compares words and prints text for errors and for Node's sockets.
 */
import { isIPv4, isIPv6 } from 'node:net';

export interface PortAddress {
  readonly family: 4 | 6;
  readonly w: Int32Array;
}

function words4(text: string): number {
  let w = 0;
  for (const part of text.split('.')) w = (w << 8) | Number(part);
  return w;
}

function words6(text: string): Int32Array {
  let s = text;
  const tail = s.slice(s.lastIndexOf(':') + 1);
  if (tail.includes('.')) {
    const w = words4(tail);
    s = s.slice(0, s.length - tail.length) + (w >>> 16).toString(16) + ':' + (w & 0xffff).toString(16);
  }
  const [left = '', right] = s.split('::');
  const groups = (half: string) => (half === '' ? [] : half.split(':').map(g => Number.parseInt(g, 16)));
  const a = groups(left);
  const b = right === undefined ? [] : groups(right);
  const all = [...a, ...new Array<number>(8 - a.length - b.length).fill(0), ...b];
  return Int32Array.from([0, 2, 4, 6], i => (all[i]! << 16) | all[i + 1]!);
}

/** Parses "192.0.2.1" or "2001:db8::1"; undefined for anything else (a zone such as %eth0 included). */
export function parseAddress(text: string): PortAddress | undefined {
  if (isIPv4(text)) return { family: 4, w: Int32Array.from([0, 0, 0xffff, words4(text)]) };
  if (isIPv6(text) && !text.includes('%')) return { family: 6, w: words6(text) };
  return undefined;
}

/** Text of four words: a dotted quad, or eight groups without compression (every parser takes it). */
export function formatAddress(family: 4 | 6, w0: number, w1: number, w2: number, w3: number): string {
  if (family === 4) return `${w3 >>> 24}.${(w3 >>> 16) & 255}.${(w3 >>> 8) & 255}.${w3 & 255}`;
  const groups: string[] = [];
  for (const w of [w0, w1, w2, w3]) groups.push((w >>> 16).toString(16), (w & 0xffff).toString(16));
  return groups.join(':');
}
