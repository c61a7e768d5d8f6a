/**
 * Properties of whole associations under random faults: episodes of two hosts, many associations, random calls on both ends
 * and random faults between them (property.world, property.app and property.port.fixture.ts). Every message arrives exactly once,
 * whole and in the order of its stream, nothing arrives that was not sent, flight sizes and queues agree at every step, and
 * timers, mbufs and endpoints are gone at the end. Everything follows from the episode's seed.
 *
 * NKE_SEED=n replays one episode, NKE_SEEDS=n runs n of them; property-run.ts runs as many as you like.
 */

import assert from 'node:assert/strict';
import { MSEC, SEC } from '../kern/clock.js';
import { SO_LINGER, SOL_SOCKET } from '../kern/socket.js';
import { App } from './property.app.fixture.js';
import { Dice } from './property.flow.fixture.js';
import type { Conn, End } from './property.port.fixture.js';
import { HOSTS, type Side, World } from './property.world.fixture.js';

/** Turns of the users after which an episode is thought to be stuck. */
const MAX_TURNS = 6000;

export interface EpisodeResult {
  readonly associations: number;
  readonly messages: number;
  readonly notifications: number;
}

class Episode {
  readonly dice: Dice;
  readonly world: World;
  readonly app: App;
  readonly #count: number;
  readonly #wave: number;
  #crashes: number;

  constructor(seed: number, trace: ((line: string) => void) | undefined) {
    const d = (this.dice = new Dice(seed));
    const heavy = d.chance(0.05);
    this.world = new World(seed, d, heavy, trace);
    this.app = new App(this.world);
    this.#count = heavy ? 2 : 30 + d.below(40);
    this.#wave = 1 + d.below(heavy ? 2 : 12);
    this.#crashes = d.chance(0.25) ? 1 : 0;
  }

  run(): EpisodeResult {
    const { app, world } = this;
    let opened = 0;
    for (let turn = 0; opened < this.#count || app.live.size > 0; turn++) {
      if (turn > MAX_TURNS) throw new Error(`stuck: ${this.#stuck()}`);
      while (opened < this.#count && app.live.size < this.#wave && app.open()) opened++;
      this.#pass();
      for (const p of app.ports) if (p.ready && !this.dice.chance(0.1)) p.receive(this.dice.pick([1, 100, 100]));
      for (const c of [...app.live]) this.#act(c);
      this.#world();
    }
    const messages = app.conns.reduce((n, c) => n + c.ends[0].out.delivered + c.ends[1].out.delivered, 0);
    for (const p of [...app.ports]) p.close();
    world.mend();
    assert.equal(world.pair.end(), 0, 'mbufs leaked');
    for (const h of world.hosts) assert.equal(h.callouts.pending, 0, 'timers left');
    return { associations: app.conns.length, messages, notifications: app.notes };
  }

  /** Time passes: a little, or until the next thing happens. */
  #pass(): void {
    const { net } = this.world;
    const wait = this.dice.pick([0, 1, 12, 12, 40, 300]) * MSEC;
    const idle = net.deadline() - net.clock.now;
    // Who has something to read does so in time, or T5 ends what waits for it.
    let most = 60 * SEC;
    for (const p of this.app.ports) if (p.ready) most = SEC;
    this.world.run(Number.isFinite(idle) && idle > wait ? Math.min(idle + 1, most) : wait);
  }

  #act(c: Conn): void {
    const { app, dice: d } = this;
    c.age++;
    for (const e of c.ends) this.#user(e);
    if (!c.ending) {
      const done = c.left + c.missing === 0 && c.ends.every(e => e.up && e.out.open === undefined);
      if (done ? d.chance(0.4) : d.chance(0.01)) app.end(c);
      return;
    }
    for (const e of c.ends) {
      // The other side of an end by shutdown closes when it has read all; whoever lost the peer sees it by reading.
      const p = e.port;
      if (p?.kind !== 'one' || p.so.readable || !d.chance(0.2)) continue;
      if (c.spoilt || (e.up && c.missing === 0 && e.out.open === undefined)) {
        e.ended = true;
        e.port = undefined;
        if (!e.up) p.so.setsockopt(SOL_SOCKET, SO_LINGER, { onoff: true, linger: 0 });
        c.next?.spoil(); // the restart under way meets an association that is shutting down
        p.close();
      }
    }
    // The peer has forgotten it before it was up: its cookie means nothing there any more.
    for (const e of c.ends)
      if (c.spoilt && !e.up && !e.ended && e.port?.kind === 'hub' && d.chance(0.05)) app.giveUp(e, e.port);
    if (!app.over(c)) return;
    if (c.missing > 0) {
      const what = c.ends.map(
        e => `${HOSTS[e.host]}'s ${[...e.out.waiting.values()].filter(m => !m.maybe).map(m => m.ppid)}`,
      );
      throw new Error(`association ${c.number} has ended and these messages have not arrived: ${what.join(', ')}`);
    }
    for (const e of c.ends) e.port?.ends.delete(e.id);
    app.live.delete(c);
  }
  #user(e: End): void {
    const { app, dice: d } = this;
    const p = e.port;
    if (p === undefined || e.ended) return;
    if (p.kind === 'one' && !e.up && p.so.writable) e.up = true;
    if (d.chance(0.7)) app.send(e);
    if (d.chance(0.05)) app.probe(e);
    if (p.kind === 'hub' && e.up && d.chance(0.03)) app.peelOff(e);
  }

  #world(): void {
    const { app, dice: d, world } = this;
    if (d.chance(0.02)) world.mishap();
    if (d.chance(0.2)) world.mend();
    if (d.chance(0.01)) world.tryUnload(d.below(2) as Side);
    if (d.chance(0.02)) app.sendAll(d.pick(app.fixed[d.below(2)]!.slice(2)));
    if (this.#crashes > 0 && app.conns.length > 3 && d.chance(0.02)) {
      this.#crashes--;
      world.mend();
      app.crash(d.below(2) as Side);
    }
  }

  #stuck(): string {
    const users = [...this.app.live].map(
      c =>
        `${c.number}${c.ending ? ' ending' : ''}${c.spoilt ? ' spoilt' : ''} left ${c.left} missing ${c.missing} ` +
        c.ends.map(e => `${e.port?.name ?? '-'}${e.up ? ' up' : ''}${e.ended ? ' ended' : ''}`).join(' / '),
    );
    return `${users.join('; ')} | ${this.world.describe()}`;
  }
}

/** One episode. Throws when a property does not hold. `trace` gets a line for each call. */
export function runEpisode(seed: number, trace?: (line: string) => void): EpisodeResult {
  return new Episode(seed, trace).run();
}

/** Runs episodes from..from+count-1, or the one that NKE_SEED names; throws with the seed that fails and how to replay it. */
export function runSeeds(from: number, count: number): EpisodeResult {
  const only = process.env.NKE_SEED;
  const first = only === undefined ? Number(process.env.NKE_SEED_FROM ?? from) : Number(only);
  const last = only === undefined ? first + Number(process.env.NKE_SEEDS ?? count) - 1 : first;
  const total = { associations: 0, messages: 0, notifications: 0 };
  for (let seed = first; seed <= last; seed++) {
    try {
      const r = runEpisode(seed);
      total.associations += r.associations;
      total.messages += r.messages;
      total.notifications += r.notifications;
    } catch (e) {
      throw new Error(`seed ${seed} fails (NKE_SEED=${seed} replays it): ${(e as Error).message}`, { cause: e });
    }
  }
  return total;
}
