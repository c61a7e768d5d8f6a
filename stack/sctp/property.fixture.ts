/**
 * Properties of whole associations under random faults: two hosts, random messages on random streams both ways, random loss,
 * duplication, reordering, corruption and delay, random ends. Every message arrives exactly once and in the order of its
 * stream; flight sizes and queues agree at every step; timers and mbufs are gone at the end.
 *
 * A seed that fails is named in the error; NKE_SEED=n replays it alone, NKE_SEEDS=n runs seeds 1..n.
 */

import assert from 'node:assert/strict';
import { SeededRandom } from '../kern/clock.js';
import { EAGAIN, ENOBUFS } from '../kern/errno.js';
import { SHUT_WR, type Socket } from '../kern/socket.js';
import { SCTP_UNORDERED } from './api.js';
import { at, check as check_, drain, SctpPair, sendInfo } from './harness.js';
import { checkInvariants } from './invariants.js';
import type { Sctp } from './sctp.js';

class Dice {
  readonly #r: SeededRandom;
  constructor(seed: number) {
    this.#r = new SeededRandom(seed);
  }
  /** 0..n-1 */
  below(n: number): number {
    return this.#r.u32() % n;
  }
  chance(p: number): boolean {
    return this.#r.u32() / 2 ** 32 < p;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

/** One direction: what was sent and has not arrived, by stream and order. */
class Flow {
  readonly #dice: Dice;
  readonly #ordered = new Map<number, number[]>();
  readonly #unordered = new Set<number>();
  readonly #sizes = new Map<number, number>();
  readonly #pieces = new Map<number, Uint8Array[]>();
  readonly #sizeMax: number;
  left: number;
  next = 0;
  constructor(dice: Dice, messages: number) {
    this.#dice = dice;
    this.left = messages;
    this.#sizeMax = dice.pick([1, 100, 1400, 3000, 20000]);
  }
  get missing(): number {
    return this.#sizes.size;
  }
  /** Message `id`: its number in front (as far as it fits into one byte for the small ones), then a pattern. */
  static fill(id: number, n: number): Uint8Array {
    const m = new Uint8Array(n);
    for (let i = 0; i < n; i++) m[i] = (id * 31 + i * 7) & 255;
    return m;
  }
  send(so: Socket): void {
    while (this.left > 0 && !this.#dice.chance(0.1)) {
      const id = this.next;
      const size = 1 + this.#dice.below(this.#sizeMax);
      const sid = this.#dice.below(5);
      const flags = this.#dice.chance(0.3) ? SCTP_UNORDERED : 0;
      const n = so.send(Flow.fill(id, size), 0, size, sendInfo({ sid, flags, ppid: id }));
      if (n < 0) {
        assert.ok(n === -EAGAIN || n === -ENOBUFS, `send gave ${n}: ${so.errorReason}`);
        return;
      }
      this.next++;
      this.left--;
      this.#sizes.set(id, size);
      if (flags !== 0) this.#unordered.add(id);
      else {
        const list = this.#ordered.get(sid);
        if (list === undefined) this.#ordered.set(sid, [id]);
        else list.push(id);
      }
    }
  }
  receive(so: Socket): number | undefined {
    const { messages, end } = drain(so, 8192);
    for (const m of messages) {
      const id = m.ppid;
      const size = this.#sizes.get(id);
      assert.ok(size !== undefined, `message ${id} came twice or was never sent`);
      const pieces = this.#pieces.get(id) ?? [];
      pieces.push(m.data);
      if (!m.eor) {
        this.#pieces.set(id, pieces);
        continue;
      }
      this.#pieces.delete(id);
      assert.equal(
        pieces.reduce((n, x) => n + x.length, 0),
        size,
        `length of message ${id}`,
      );
      assert.deepEqual(Buffer.concat(pieces), Buffer.from(Flow.fill(id, size)), `bytes of message ${id}`);
      this.#sizes.delete(id);
      if ((m.flags & SCTP_UNORDERED) !== 0) assert.ok(this.#unordered.delete(id), `message ${id} was sent in order`);
      else assert.equal(this.#ordered.get(m.sid)?.shift(), id, `order on stream ${m.sid}`);
    }
    return end;
  }
}

/** What an association stands at, for the message of a failing seed. */
function describe(s: Sctp): string {
  return [...s.associations()]
    .map(
      a =>
        `${a.state} outstanding ${a.outstanding} flight ${a.flight} resend ${a.resend} pending ${a.out.pending} peerRwnd ${a.peerRwnd}/${a.peerArwnd} ` +
        `errors ${a.errors}; held ${a.heldBytes} in ${a.heldChunks}, queued ${a.endpoint.rcvBytes}, window ${s.receiver.window(a)}; ` +
        a.paths.map(p => `${p.state} mtu ${p.mtu} cwnd ${p.cwnd} flight ${p.flight} rto ${p.rto / 1e6}`).join(', '),
    )
    .join('; ');
}

function run(seed: number): void {
  const dice = new Dice(seed);
  const calm = dice.chance(0.15);
  const loss = calm ? 0 : dice.pick([0, 0.01, 0.05, 0.15, 0.25]);
  const dup = calm ? 0 : dice.pick([0, 0, 0.02, 0.2]);
  const corrupt = calm ? 0 : dice.pick([0, 0, 0.02, 0.1]);
  const jitter = calm ? 0 : dice.pick([0, 100_000, 5_000_000, 60_000_000]);
  const trains = dice.chance(0.2);
  const p = new SctpPair({
    seed,
    // At times hardly more than what is kept in reserve.
    pool: { small: dice.pick([512, 220]), cluster: dice.pick([1024, 1024, 260]), jumbo: trains ? 16 : 4 },
    links: dice.pick([1, 1, 2, 3]),
    family: dice.pick([4, 6] as const),
    encaps: dice.chance(0.25) ? 9899 : 0,
    mtu: dice.pick([1280, 1500, 1500, 9000]),
    trains,
    ...(dice.chance(0.3) ? { rate: dice.pick([1e6, 1e7, 1e8]), queue: 60_000 } : {}),
    loss: () => dice.chance(loss),
    delay: () => 5e6 + (jitter === 0 ? 0 : dice.below(jitter)),
    alter: f => {
      if (!trains && dice.chance(corrupt)) f[dice.below(f.length)]! ^= 1 << dice.below(8);
      return f;
    },
    tunables: {
      // Random faults on every packet are no reason to give up within the test.
      assoc_rtx_max: 200,
      init_rtx_max: 200,
      recvspace: dice.pick([6000, 20_000, 262_144]),
      sendspace: dice.pick([20_000, 262_144]),
      ...(dice.chance(0.2) ? { sack_freq: 1 } : {}),
      ...(dice.chance(0.2) ? { maxburst: 0 } : {}),
      ...(dice.chance(0.2) ? { initial_cwnd: 0 } : {}),
    },
  });
  // Duplicates: what was sent is now and then sent again, by the wire itself.
  if (dup > 0)
    for (const l of p.links)
      for (const e of [l.a, l.b]) {
        const output = e.output.bind(e);
        e.output = m => {
          if (!dice.chance(dup)) return output(m);
          const pool = e.stack.pool;
          const copy = pool.fromBytes(pool.toBytes(m), 0, pool.pktlen[m]!, 64);
          if (copy !== 0) {
            pool.copyHeader(copy, m);
            output(copy);
          }
          return output(m);
        };
      }
  const sctps = p.kexts.map(k => k.sctp!);
  let checks = 0;
  const check = () => {
    checks++;
    for (const x of sctps) checkInvariants(x, checks % 8 === 0);
  };
  const l = p.socket('b');
  const c = p.socket('a');
  check_(l.bind(at(p.family === 4 ? '0.0.0.0' : '::', 5000)));
  check_(l.listen(1));
  c.connect(at(p.addr('b'), 5000));
  let accepted: Socket | number = -1;
  assert.ok(
    p.net.runUntil(() => {
      check();
      if (typeof accepted === 'number') accepted = l.accept();
      return typeof accepted !== 'number' && c.writable;
    }, 3000e9),
    'no connection',
  );
  const s = accepted as unknown as Socket;
  const most = dice.pick([1, 10, 40]);
  const up = new Flow(dice, most);
  const down = new Flow(dice, dice.chance(0.5) ? 0 : most);
  const lazy = dice.chance(0.2);
  let ends = 0;
  let steps = 0;
  const done = p.net.runUntil(() => {
    check();
    if (++steps % 3 === 0 || !lazy) {
      up.send(c);
      down.send(s);
    }
    if (lazy && dice.chance(0.9) && up.left > 0) return false;
    if (up.receive(s) !== undefined || down.receive(c) !== undefined) ends++;
    return up.left + down.left + up.missing + down.missing === 0;
  }, 3000e9);
  assert.ok(
    done,
    `${up.left}+${down.left} messages not sent, ${up.missing}+${down.missing} not arrived: ${sctps.map(describe).join(' | ')}`,
  );
  assert.equal(ends, 0, 'a socket ended early');
  switch (dice.below(4)) {
    case 0:
      c.shutdown(SHUT_WR);
      break;
    case 1:
      s.shutdown(SHUT_WR);
      break;
    case 2:
      c.shutdown(SHUT_WR);
      s.shutdown(SHUT_WR);
      break;
    default:
      break;
  }
  p.net.runUntil(
    () => {
      check();
      return false;
    },
    dice.pick([0, 1e7, 5e9]),
  );
  for (const so of dice.chance(0.5) ? [c, s, l] : [l, s, c]) so.close();
  assert.equal(p.end(), 0, 'mbufs leaked');
  for (const h of [p.a, p.b]) assert.equal(h.callouts.pending, 0, 'timers left');
}

/** Runs seeds from..from+count-1, or the one that NKE_SEED names; throws with the seed that fails and how to replay it. */
export function runSeeds(from: number, count: number): void {
  const only = process.env.NKE_SEED;
  const first = only === undefined ? Number(process.env.NKE_SEED_FROM ?? from) : Number(only);
  const last = only === undefined ? first + Number(process.env.NKE_SEEDS ?? count) - 1 : first;
  for (let seed = first; seed <= last; seed++) {
    try {
      run(seed);
    } catch (e) {
      throw new Error(`seed ${seed} fails (NKE_SEED=${seed} replays it): ${(e as Error).message}`, { cause: e });
    }
  }
}
