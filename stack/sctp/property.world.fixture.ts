/**
 * Property runs: two hosts whose network, clock, memory and tunables are drawn from a seed: loss, duplicates, corruption,
 * reordering, delay, cables pulled, a clock that jumps, a host that forgets everything it knew.
 */

import assert from 'node:assert/strict';
import { MSEC, SEC } from '../kern/clock.js';
import { SCTP_KEXT } from '../kexts/SCTP.kext/index.js';
import type { Stack } from '../stack.js';
import type { VirtualNet } from '../testing.js';
import { CHUNK_NAMES } from './constants.js';
import { SctpPair } from './harness.js';
import { checkInvariants } from './invariants.js';
import type { Dice } from './property.flow.fixture.js';
import type { Sctp } from './sctp.js';

export type Side = 0 | 1;
export const HOSTS = ['a', 'b'] as const;

export class World {
  readonly dice: Dice;
  readonly pair: SctpPair;
  readonly net: VirtualNet;
  readonly hosts: readonly [Stack, Stack];
  readonly heavy: boolean;
  /** Nothing gets through. */
  dark = false;
  readonly trace: ((line: string) => void) | undefined;
  readonly #every: number;
  #checks = 0;
  readonly #cable: number[] = [];

  /** `heavy`: few associations with much data, in place of many with little. */
  constructor(seed: number, dice: Dice, heavy: boolean, trace?: (line: string) => void) {
    this.dice = dice;
    this.heavy = heavy;
    this.#every = dice.pick([1, 4, 16, 64]);
    const calm = dice.chance(0.15);
    const loss = calm ? 0 : dice.pick([0, 0.01, 0.05, 0.15, 0.25]);
    const corrupt = calm ? 0 : dice.pick([0, 0, 0.02, 0.1]);
    const jitter = calm ? 0 : dice.pick([0, 100_000, 5_000_000, 60_000_000]);
    const trains = dice.chance(heavy ? 0.2 : 0.05);
    this.pair = new SctpPair({
      seed,
      start: dice.pick([1, 1e6 + 0.5, 2 ** 31 / 1e3, 4e6]) * SEC,
      // At times hardly more than what is kept in reserve.
      pool: heavy
        ? { small: dice.pick([512, 220]), cluster: dice.pick([1024, 1024, 260]), jumbo: trains ? 16 : 4 }
        : { small: 1024, cluster: 512, jumbo: trains ? 16 : 2 },
      links: dice.pick([1, 1, 2, 3]),
      family: dice.pick([4, 4, 6] as const),
      encaps: dice.chance(0.2) ? 9899 : 0,
      mtu: dice.pick([1280, 1500, 1500, 9000]),
      trains,
      ...(dice.chance(0.3) ? { rate: dice.pick([1e6, 1e7, 1e8]), queue: 60_000 } : {}),
      loss: () => this.dark || (loss > 0 && dice.chance(loss)),
      delay: () => 5 * MSEC + (jitter === 0 ? 0 : dice.below(jitter)),
      alter: f => {
        if (corrupt > 0 && !trains && dice.chance(corrupt)) {
          // Nothing protects the addresses of IPv6: one that was changed on the way there and back is a good packet.
          const from = this.pair.family === 6 && this.pair.encaps === 0 ? 54 : 0;
          f[from + dice.below(f.length - from)]! ^= 1 << dice.below(8);
        }
        return f;
      },
      tunables: {
        // Random faults on every packet are no reason to give up within the test.
        assoc_rtx_max: 200,
        init_rtx_max: 200,
        recvspace: dice.pick([6000, 20_000, 262_144]),
        sendspace: dice.pick([20_000, 262_144]),
        // Not below Valid.Cookie.Life: a cookie that comes again late must find its tag still held.
        vtag_time_wait: dice.pick([60, 300]),
        // With these faults much data takes longer than T5 would let a shutdown take.
        shutdown_guard_time: 1e6,
        ...(dice.chance(0.2) ? { sack_freq: 1 } : {}),
        ...(dice.chance(0.2) ? { maxburst: 0 } : {}),
        ...(dice.chance(0.2) ? { initial_cwnd: 0 } : {}),
        ...(dice.chance(0.1) ? { rto_min: 20, rto_initial: 20 } : {}),
      },
    });
    this.net = this.pair.net;
    this.hosts = [this.pair.a, this.pair.b];
    if (trace !== undefined) {
      this.trace = line => trace(`${(this.net.clock.now / 1e6).toFixed(3)} ${line}`);
      for (const [i, h] of [this.pair.a, this.pair.b].entries())
        h.events.subscribe(e => {
          if (e.kind === 'protocol') this.trace?.(`  ${HOSTS[i]} ${e.what}: ${e.reason} ${JSON.stringify(e.detail)}`);
        });
      for (const l of this.pair.links)
        l.onFrame = (from, f) => this.trace?.(`  ${from === this.pair.a ? 'a' : 'b'} sends ${chunksOf(f, this.pair)}`);
    }
    if (!calm && dice.chance(0.3)) this.#duplicate(dice.pick([0.02, 0.2]));
  }

  /** What was sent is now and then sent again, by the wire itself. */
  #duplicate(dup: number): void {
    for (const l of this.pair.links)
      for (const e of [l.a, l.b]) {
        const output = e.output.bind(e);
        e.output = m => {
          if (!this.dice.chance(dup)) return output(m);
          const { pool } = e.stack;
          const copy = pool.fromBytes(pool.toBytes(m), 0, pool.pktlen[m]!, 64);
          if (copy !== 0) {
            pool.copyHeader(copy, m);
            output(copy);
          }
          return output(m);
        };
      }
  }

  sctp(host: Side): Sctp {
    return this.pair.kexts[host].sctp!;
  }
  check(): void {
    if (++this.#checks % this.#every !== 0) return;
    const deep = this.#checks % (8 * this.#every) === 0;
    for (const k of this.pair.kexts) if (k.sctp !== undefined) checkInvariants(k.sctp, deep);
  }
  readonly #step = (): boolean => {
    this.check();
    return false;
  };
  /** Virtual time goes on. */
  run(duration: number): void {
    const until = this.net.clock.now + duration;
    this.net.runUntil(this.#step, duration);
    if (this.net.clock.now < until) this.net.runUntil(until);
  }

  /** Something happens to the network or to the clock; all of it passes. */
  mishap(): void {
    const d = this.dice;
    if (d.chance(0.5)) {
      const by = d.pick([1, 30, 900, 5000]) * MSEC;
      this.trace?.(`the clock jumps by ${by / 1e6} ms`);
      this.net.clock.now += by;
      return;
    }
    const i = d.below(this.pair.links.length);
    const link = this.pair.links[i]!;
    link.setCarrier(!link.carrier);
    this.trace?.(`link ${i} ${link.carrier ? 'back' : 'lost'}`);
    if (!link.carrier) this.#cable.push(i);
  }
  /** All cables are back. */
  mend(): void {
    for (const i of this.#cable.splice(0)) this.pair.links[i]!.setCarrier(true);
  }
  /** A host forgets every association without a word to the peers: its sockets are closed already. */
  crash(host: Side): void {
    const k = this.pair.kexts[host];
    this.dark = true;
    this.run(this.dice.pick([0, 100 * MSEC, 3 * SEC])); // what was in flight is dropped or answered
    k.abortAll('power failure');
    this.run(0);
    const stack = this.hosts[host];
    const out = stack.kexts.unload(SCTP_KEXT);
    assert.ok(out.ok, out.ok ? '' : out.reason);
    const back = stack.kexts.load(k);
    assert.ok(back.ok, back.ok ? '' : back.reason);
    this.dark = false;
  }
  /** The extension cannot leave while it has endpoints, and trying changes nothing. */
  tryUnload(host: Side): void {
    assert.ok(this.sctp(host).endpoints.size > 0);
    assert.equal(this.hosts[host].kexts.unload(SCTP_KEXT).ok, false, 'unloaded with endpoints alive');
  }

  /** What associations stand at, for the message of a failing seed. */
  describe(): string {
    const one = (s: Sctp) =>
      [...s.associations()].map(
        a =>
          `${a.localPort}-${a.peerPort} ${a.state} outstanding ${a.outstanding} flight ${a.flight} resend ${a.resend} pending ${a.out.pending} ` +
          `open ${a.out.open} peerRwnd ${a.peerRwnd}/${a.peerArwnd} errors ${a.errors}; held ${a.heldBytes} in ${a.heldChunks}, ` +
          `queued ${a.endpoint.rcvBytes}, window ${s.receiver.window(a)}; ` +
          a.paths.map(p => `${p.state} mtu ${p.mtu} cwnd ${p.cwnd} flight ${p.flight} rto ${p.rto / 1e6}`).join(', '),
      );
    return this.pair.kexts
      .map((k, i) => (k.sctp === undefined ? '' : `${HOSTS[i]}: ${one(k.sctp).join('; ')}`))
      .join(' | ');
  }
}

/** Ports and chunks of a frame, for the trace. */
function chunksOf(frame: Uint8Array, pair: SctpPair): string {
  const v = new DataView(frame.buffer, frame.byteOffset, frame.length);
  let at = 14 + (pair.family === 4 ? 20 : 40) + (pair.encaps === 0 ? 0 : 8);
  if (at + 12 > frame.length) return `${frame.length} bytes`;
  const out = [`${v.getUint16(at)}-${v.getUint16(at + 2)}`];
  for (at += 12; at + 4 <= frame.length && out.length < 20; ) {
    const type = frame[at]!;
    const len = v.getUint16(at + 2);
    out.push(`${CHUNK_NAMES[type] ?? type}${type === 0 && at + 16 <= frame.length ? ` ${v.getUint32(at + 4)}` : ''}`);
    if (len < 4) break;
    at += (len + 3) & ~3;
  }
  return out.join(' ');
}
