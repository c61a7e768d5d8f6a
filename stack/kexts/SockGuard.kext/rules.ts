/** Rules of SockGuard: what they say, checked, and the token bucket of those that limit. */

import { InAddr, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, type Nanos, SEC } from '../../kpi.js';

export const MAX_RULES = 256;
const PROTOCOLS: Readonly<Record<string, number>> = {
  sctp: IPPROTO_SCTP,
  tcp: IPPROTO_TCP,
  udp: IPPROTO_UDP,
  udplite: IPPROTO_UDPLITE,
};

/** A rule as data. The first that fits decides; what fits none is allowed. */
export interface RuleText {
  readonly action: 'allow' | 'deny' | 'limit';
  /** What leaves (bind, connect, send) or comes (accepted connections, received messages); default both. */
  readonly direction?: 'in' | 'out' | 'both';
  /** "sctp", "udp", "udplite", "tcp" or a number; default any. */
  readonly protocol?: string | number;
  /** The peer's address: "192.0.2.0/24"; default any. */
  readonly prefix?: string;
  /** The port of the service: the peer's for what leaves, our own for what comes; default any. */
  readonly port?: number;
  /** With limit: messages and bytes a second, and what a bucket holds (default: one second's worth). */
  readonly messages?: number;
  readonly bytes?: number;
  readonly burst?: number;
  /** With limit: what is over it waits (default) or is lost. */
  readonly excess?: 'defer' | 'drop';
}

export interface Rule {
  readonly text: RuleText;
  readonly in: boolean;
  readonly out: boolean;
  readonly protocol: number; // 0 = any
  readonly prefix: { readonly net: InAddr; readonly bits: number } | undefined;
  readonly port: number; // 0 = any
  readonly bucket: Bucket | undefined;
  readonly counters: {
    hits: number;
    messages: number;
    bytes: number;
    denied: number;
    deferred: number;
    dropped: number;
  };
}

/** A token bucket for messages and one for bytes; each may be missing. A message larger than the bucket passes when it is full. */
export class Bucket {
  readonly #rates: readonly [number, number];
  readonly #sizes: readonly [number, number];
  readonly #tokens: [number, number];
  #at: Nanos;

  constructor(messages: number, bytes: number, burst: number, now: Nanos) {
    this.#rates = [messages, bytes];
    this.#sizes = [Math.max(1, messages * burst), Math.max(1, bytes * burst)];
    this.#tokens = [...this.#sizes];
    this.#at = now;
  }
  #fill(now: Nanos): void {
    const dt = Math.max(0, now - this.#at) / SEC;
    this.#at = now;
    for (const k of [0, 1] as const) this.#tokens[k] = Math.min(this.#sizes[k], this.#tokens[k] + this.#rates[k] * dt);
  }
  /** Takes the tokens of a message, or says how long until there are enough (nanoseconds); 0 = taken. */
  take(n: number, now: Nanos): Nanos {
    this.#fill(now);
    let wait = 0;
    for (const k of [0, 1] as const) {
      if (this.#rates[k] === 0) continue;
      const need = Math.min(k === 0 ? 1 : n, this.#sizes[k]);
      // A millionth of slack: sums of fractions do not come out even.
      if (this.#tokens[k] < need - 1e-6)
        wait = Math.max(wait, Math.ceil(((need - this.#tokens[k]) / this.#rates[k]) * SEC));
    }
    if (wait > 0) return wait;
    if (this.#rates[0] > 0) this.#tokens[0] -= 1;
    if (this.#rates[1] > 0) this.#tokens[1] -= n;
    return 0;
  }
  /** Gives back what was taken for a message that did not go. */
  refund(n: number): void {
    if (this.#rates[0] > 0) this.#tokens[0] = Math.min(this.#sizes[0], this.#tokens[0] + 1);
    if (this.#rates[1] > 0) this.#tokens[1] = Math.min(this.#sizes[1], this.#tokens[1] + n);
  }
}

const KEYS = ['action', 'direction', 'protocol', 'prefix', 'port', 'messages', 'bytes', 'burst', 'excess'];

/** A rule of what somebody sent, or a sentence that says what is wrong with it. */
export function parseRule(x: unknown, now: Nanos): Rule | string {
  if (typeof x !== 'object' || x === null || Array.isArray(x))
    return 'a rule is an object: {"action":"deny","protocol":"udp"}';
  const r = x as Record<string, unknown>;
  for (const key of Object.keys(r))
    if (!KEYS.includes(key)) return `a rule has no "${key.slice(0, 40)}"; it has ${KEYS.join(', ')}`;
  const {
    action,
    direction = 'both',
    protocol = 0,
    prefix,
    port = 0,
    messages = 0,
    bytes = 0,
    burst = 1,
    excess = 'defer',
  } = r;
  if (action !== 'allow' && action !== 'deny' && action !== 'limit') return '"action" must be allow, deny or limit';
  if (direction !== 'in' && direction !== 'out' && direction !== 'both') return '"direction" must be in, out or both';
  const number = typeof protocol === 'string' && Object.hasOwn(PROTOCOLS, protocol) ? PROTOCOLS[protocol]! : protocol;
  const whole = (v: unknown, most: number): v is number =>
    typeof v === 'number' && Number.isInteger(v) && v >= 0 && v <= most;
  if (!whole(number, 255)) return `"protocol" must be ${Object.keys(PROTOCOLS).join(', ')} or a number up to 255`;
  if (!whole(port, 65535)) return '"port" must be a number up to 65535';
  if (!whole(messages, 1e9) || !whole(bytes, 1e12)) return '"messages" and "bytes" must be whole numbers a second';
  if (typeof burst !== 'number' || !(burst >= 0.001 && burst <= 3600)) return '"burst" must be 0.001 to 3600 seconds';
  if (excess !== 'defer' && excess !== 'drop') return '"excess" must be defer or drop';
  if ((action === 'limit') !== (messages > 0 || bytes > 0))
    return '"limit" needs "messages" or "bytes" a second, and only limit has them';
  let net: Rule['prefix'];
  if (prefix !== undefined) {
    const [address = '', bits] = String(prefix).split('/');
    const a = InAddr.parse(address);
    const n = bits === undefined ? (a?.family === 4 ? 32 : 128) : /^\d{1,3}$/.test(bits) ? Number(bits) : -1;
    if (a === undefined || n < 0 || n > (a.family === 4 ? 32 : 128))
      return '"prefix" must be ADDRESS/BITS, such as 192.0.2.0/24';
    net = { net: a, bits: n };
  }
  return {
    text: r as unknown as RuleText,
    in: direction !== 'out',
    out: direction !== 'in',
    protocol: number,
    prefix: net,
    port,
    bucket: action === 'limit' ? new Bucket(messages, bytes, burst, now) : undefined,
    counters: { hits: 0, messages: 0, bytes: 0, denied: 0, deferred: 0, dropped: 0 },
  };
}

/** A list of rules, or what is wrong with which. */
export function parseRules(x: unknown, now: Nanos): Rule[] | string {
  if (!Array.isArray(x)) return 'rules are a list: [{"action":"deny","protocol":"udp","port":53}]';
  if (x.length > MAX_RULES) return `there are ${x.length} rules; at most ${MAX_RULES}`;
  const out: Rule[] = [];
  for (const [i, one] of x.entries()) {
    const rule = parseRule(one, now);
    if (typeof rule === 'string') return `rule ${i + 1}: ${rule}`;
    out.push(rule);
  }
  return out;
}
