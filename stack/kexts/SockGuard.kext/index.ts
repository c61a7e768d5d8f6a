/**
 * SockGuard.kext: a small firewall and rate limiter on sockets. Rules are data: the first that fits a call decides (allow,
 * deny, limit), by direction, protocol, the peer's prefix and the service's port. They change while traffic flows: by the
 * live parameter `rules`, or by the commands set, add and remove of its control.
 *
 * Denied calls get EACCES; a denied connection is aborted before it is accepted; a denied message that came in is gone.
 * What is over a limit waits or is lost: a sender that waits gets EAGAIN and its upcall when there are tokens; a message
 * that came in is kept (64 a socket) and injected later, in order.
 */

import {
  EACCES,
  EAGAIN,
  EINVAL,
  EJUSTRETURN,
  type InjectInfo,
  type Kext,
  type KextCallout,
  type KextManifest,
  KPI_IDENTIFIER,
  type Kpi,
  MSG_PEEK,
  type Nanos,
  type SockAddr,
  type SockData,
  type Socket,
  type SocketFilter,
} from '../../kpi.js';
import { MAX_RULES, parseRule, parseRules, type Rule } from './rules.js';

export const SOCKGUARD_KEXT = 'org.nke.SockGuard';
const MSG_NOTIFICATION = 0x2000;
/** Messages of one socket that wait for tokens. */
const MAX_DEFERRED = 64;

const manifest: KextManifest = {
  identifier: SOCKGUARD_KEXT,
  version: '1.0.0',
  kind: 'socket-filter',
  about: 'firewall and rate limiter on sockets',
  dependencies: { [KPI_IDENTIFIER]: '1.1.0' },
  parameters: {
    rules: {
      type: 'string',
      default: '[]',
      maxLength: 4096,
      meaning:
        'rules as JSON: [{"action":"deny","direction":"out","protocol":"udp","prefix":"192.0.2.0/24","port":53}]',
      live: true,
    },
  },
};

const COUNTERS = { allowed: 0, denied: 0, deferred_in: 0, deferred_out: 0, dropped: 0, deferred_full: 0, injected: 0 };

interface Deferred {
  readonly data: Uint8Array;
  readonly info: InjectInfo;
  readonly rule: Rule;
}
/** What is kept of a socket. */
interface Guarded {
  readonly queue: Deferred[];
  /** The program waits for tokens. */
  waiting: boolean;
  /** What the last message that passed has cost, to be given back if it did not go. */
  paid: Rule | undefined;
  paidBytes: number;
}

class Guard {
  readonly #kpi: Kpi;
  readonly #counters: Record<keyof typeof COUNTERS, number> = { ...COUNTERS };
  #rules: Rule[] = [];
  readonly #busy = new Map<Socket, Guarded>();
  readonly #timer: KextCallout;
  #wakeAt = Number.POSITIVE_INFINITY;

  constructor(kpi: Kpi) {
    this.#kpi = kpi;
    this.#timer = kpi.callout(() => this.#tick());
  }

  start(): number {
    const kpi = this.#kpi;
    const rules = this.#parse(String(kpi.params.rules));
    if (typeof rules === 'string') throw new TypeError(rules);
    this.#rules = rules;
    let e = kpi.counters('sockguard', this.#counters);
    if (e >= 0) e = kpi.sflt_register(this.#filter());
    return e < 0 ? e : kpi.ctl_register(this.#control());
  }
  /** Lets go of what waits: it was received before. */
  stop(): void {
    this.#rules = [];
    for (const [so, g] of [...this.#busy]) {
      for (const d of g.queue.splice(0)) this.#kpi.sock_inject_data_in(so, d.data, d.info);
      if (g.waiting) this.#kpi.sock_wakeup(so);
    }
    this.#busy.clear();
  }

  #parse(text: string): Rule[] | string {
    try {
      return parseRules(JSON.parse(text), this.#kpi.clock.now);
    } catch {
      return 'the rules are no JSON';
    }
  }
  #replace(rules: Rule[]): void {
    this.#rules = rules;
    // Who waits for a limit that is gone need not wait any longer.
    this.#wakeAt = this.#kpi.clock.now;
    this.#timer.reset(0);
  }

  #control() {
    const list = () => this.#rules.map((r, i) => ({ rule: i + 1, ...r.text, counters: { ...r.counters } }));
    const must = <T>(x: T | string): T => {
      if (typeof x === 'string') throw new TypeError(x);
      return x;
    };
    return {
      changed: (name: string, value: unknown) => {
        if (name !== 'rules') return 0;
        const rules = this.#parse(String(value));
        if (typeof rules === 'string') return -EINVAL;
        this.#replace(rules);
        return 0;
      },
      statistics: () => ({ rules: this.#rules.length, sockets_waiting: this.#busy.size }),
      commands: {
        list: { meaning: 'the rules, with their counters', run: list },
        set: {
          meaning: 'replaces all rules: {"rules":[...]}',
          run: (args: Readonly<Record<string, unknown>>) => {
            this.#replace(must(parseRules(args.rules, this.#kpi.clock.now)));
            return list();
          },
        },
        add: {
          meaning: 'adds a rule, at the end or in front of another: {"rule":{...},"before":1}',
          run: ({ rule, before }: Readonly<Record<string, unknown>>) => {
            if (this.#rules.length >= MAX_RULES) throw new RangeError(`there are ${MAX_RULES} rules already`);
            const made = must(parseRule(rule, this.#kpi.clock.now));
            const at = before === undefined ? this.#rules.length : Number(before) - 1;
            if (!Number.isInteger(at) || at < 0 || at > this.#rules.length)
              throw new RangeError(`"before" must be 1 to ${this.#rules.length + 1}`);
            this.#replace(this.#rules.toSpliced(at, 0, made));
            return list();
          },
        },
        remove: {
          meaning: 'removes a rule by its number: {"rule":1}',
          run: ({ rule }: Readonly<Record<string, unknown>>) => {
            const at = Number(rule) - 1;
            if (!Number.isInteger(at) || at < 0 || at >= this.#rules.length)
              throw new RangeError(`"rule" must be 1 to ${this.#rules.length}`);
            this.#replace(this.#rules.toSpliced(at, 1));
            return list();
          },
        },
      },
    };
  }

  // Judging

  /** The first rule that fits. `service` is the port that a rule means in this direction. */
  #match(so: Socket, out: boolean, peer: SockAddr | undefined, service: number): Rule | undefined {
    for (let i = 0; i < this.#rules.length; i++) {
      const r = this.#rules[i]!;
      if (!(out ? r.out : r.in)) continue;
      if (r.protocol !== 0 && r.protocol !== so.proto.protocol) continue;
      if (r.port !== 0 && r.port !== service) continue;
      if (r.prefix !== undefined && !(peer?.addr.inPrefix(r.prefix.net, r.prefix.bits) ?? false)) continue;
      r.counters.hits++;
      return r;
    }
    return undefined;
  }
  /** For calls that move no data: limits let them pass. */
  #judge(so: Socket, out: boolean, peer: SockAddr | undefined, service: number): number {
    const r = this.#match(so, out, peer, service);
    if (r?.text.action !== 'deny') {
      this.#counters.allowed++;
      return 0;
    }
    r.counters.denied++;
    this.#counters.denied++;
    return -EACCES;
  }
  #localPort(so: Socket): number {
    const a = so.sockaddr();
    return typeof a === 'number' ? 0 : a.port;
  }
  #peer(so: Socket): SockAddr | undefined {
    const a = so.peeraddr();
    return typeof a === 'number' ? undefined : a;
  }
  #guarded(so: Socket): Guarded {
    let g = this.#busy.get(so);
    if (g === undefined) {
      g = { queue: [], waiting: false, paid: undefined, paidBytes: 0 };
      this.#busy.set(so, g);
    }
    return g;
  }
  #wake(delay: Nanos): void {
    const at = this.#kpi.clock.now + delay;
    if (at >= this.#wakeAt && this.#timer.pending) return;
    this.#wakeAt = at;
    this.#timer.reset(delay);
  }

  #filter(): SocketFilter {
    return {
      name: this.#kpi.identifier,
      detach: so => void this.#busy.delete(so),
      bind: (so, _c, addrs) => this.#judge(so, false, undefined, addrs[0]?.port ?? 0),
      connect_out: (so, _c, addrs) => {
        for (const a of addrs) {
          const e = this.#judge(so, true, a, a.port);
          if (e < 0) return e;
        }
        return 0;
      },
      connect_in: (so, _c, _made, from) => this.#judge(so, false, from, this.#localPort(so)),
      data_out: (so, _c, d) => this.#dataOut(so, d),
      data_in: (so, _c, d) => this.#dataIn(so, d),
      notify: (so, _c, what) => {
        if (what !== 'send-refused') return;
        const g = this.#busy.get(so);
        if (g?.paid === undefined) return;
        g.paid.bucket!.refund(g.paidBytes);
        g.paid.counters.messages--;
        g.paid.counters.bytes -= g.paidBytes;
        g.paid = undefined;
      },
    };
  }
  #dataOut(so: Socket, d: SockData): number {
    const before = this.#busy.get(so);
    if (before !== undefined) before.paid = undefined;
    const peer = d.peer ?? this.#peer(so);
    const r = this.#match(so, true, peer, peer?.port ?? 0);
    if (r === undefined || r.text.action === 'allow') {
      this.#counters.allowed++;
      return 0;
    }
    if (r.bucket === undefined) {
      r.counters.denied++;
      this.#counters.denied++;
      return -EACCES;
    }
    const wait = r.bucket.take(d.len, this.#kpi.clock.now);
    if (wait === 0) {
      const g = this.#guarded(so);
      g.paid = r;
      g.paidBytes = d.len;
      r.counters.messages++;
      r.counters.bytes += d.len;
      return 0;
    }
    if (r.text.excess === 'drop') {
      r.counters.dropped++;
      this.#counters.dropped++;
      return -EJUSTRETURN;
    }
    r.counters.deferred++;
    this.#counters.deferred_out++;
    this.#guarded(so).waiting = true;
    this.#wake(wait);
    return -EAGAIN;
  }
  #dataIn(so: Socket, d: SockData): number {
    if (((d.recv?.msgFlags ?? 0) & MSG_NOTIFICATION) !== 0) return 0;
    const r = this.#match(so, false, d.peer ?? this.#peer(so), this.#localPort(so));
    if (r === undefined || r.text.action === 'allow') {
      this.#counters.allowed++;
      return 0;
    }
    if (r.bucket === undefined) {
      r.counters.denied++;
      this.#counters.denied++;
      return -EJUSTRETURN;
    }
    const g = this.#guarded(so);
    const { now } = this.#kpi.clock;
    // In order: what came earlier goes first.
    const wait = g.queue.length > 0 ? 1 : (d.flags & MSG_PEEK) !== 0 ? 0 : r.bucket.take(d.len, now);
    if (wait === 0) {
      if ((d.flags & MSG_PEEK) === 0) {
        r.counters.messages++;
        r.counters.bytes += d.len;
      }
      return 0;
    }
    if (r.text.excess === 'drop' || g.queue.length >= MAX_DEFERRED) {
      if (r.text.excess !== 'drop') this.#counters.deferred_full++;
      r.counters.dropped++;
      this.#counters.dropped++;
      return -EJUSTRETURN;
    }
    const { from, flags = 0, ppid = 0, sid = 0, assocId = 0 } = d.recv ?? {};
    g.queue.push({ data: d.data.slice(d.off, d.off + d.len), info: { from, flags, ppid, sid, assocId }, rule: r });
    r.counters.deferred++;
    this.#counters.deferred_in++;
    this.#wake(wait);
    return -EJUSTRETURN;
  }

  /** Tokens may be there: gives on what waits. */
  #tick(): void {
    const { now } = this.#kpi.clock;
    this.#wakeAt = Number.POSITIVE_INFINITY;
    for (const [so, g] of [...this.#busy]) {
      if (so.closed) {
        this.#busy.delete(so);
        continue;
      }
      while (g.queue.length > 0) {
        const { data, info, rule } = g.queue[0]!;
        // A rule that is no longer there limits no longer.
        const wait = this.#rules.includes(rule) ? rule.bucket!.take(data.length, now) : 0;
        if (wait > 0) {
          this.#wake(wait);
          break;
        }
        g.queue.shift();
        rule.counters.messages++;
        rule.counters.bytes += data.length;
        this.#counters.injected++;
        this.#kpi.sock_inject_data_in(so, data, info);
      }
      if (g.waiting) {
        g.waiting = false;
        this.#kpi.sock_wakeup(so); // sends again, and waits again if it must
      }
    }
  }
}

/** The extension, to be handed to `stack.kexts.load`. */
export function sockGuardKext(): Kext {
  let guard: Guard | undefined;
  return {
    manifest,
    start: kpi => {
      guard = new Guard(kpi);
      return guard.start();
    },
    stop: () => {
      guard?.stop();
      guard = undefined;
    },
  };
}
