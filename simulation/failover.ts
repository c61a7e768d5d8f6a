/**
 * How long an association of two paths needs to get away from one that has failed, and back when it is whole again
 * (RFC 9260 §6.3.3, §6.4.1, §8.2, §8.3; RFC 7829).
 */

import type { Nanos } from '../stack/kern/clock.js';
import { connect, drain, INFO } from './bulk.js';
import { Network } from './network.js';

export interface FailoverCell {
  /**
   * cable: it is pulled, and the card says so. silent: everything is lost on the way while messages are sent. idle: the
   * same while nothing is sent, so that only heartbeats can tell.
   */
  readonly how: 'cable' | 'silent' | 'idle';
  /** Path.Max.Retrans. */
  readonly pathMaxRetrans: number;
  readonly timers: Timers;
  /** PF threshold of RFC 7829; 65535 = off. */
  readonly pfThreshold: number;
}

/** What is set besides: RTO bounds and HB.interval, ms. */
export interface Timers {
  readonly name: string;
  readonly initial: number;
  readonly min: number;
  readonly max: number;
  readonly heartbeat: number;
}

/** Milliseconds; undefined: it did not happen within `LIMIT` (or cannot). */
export interface FailoverFigures {
  /** From the failure until the reader gets the first message that was to be sent after it. */
  readonly resumed: number | undefined;
  /** From the failure until new data takes the other path. */
  readonly switched: number | undefined;
  /** The longest that a message had to wait from when it was to be sent until it was read. */
  readonly worst: number | undefined;
  /** From the repair until new data takes the first path again. */
  readonly back: number | undefined;
}

export const DEFAULT_TIMERS: Timers = { name: 'RFC 9260', initial: 1000, min: 1000, max: 60_000, heartbeat: 30_000 };
/** For a network whose round trips are known to be short. */
export const FAST_TIMERS: Timers = { name: 'fast', initial: 200, min: 100, max: 1000, heartbeat: 1000 };

const MS = 1e6;
/** One way, of both paths. */
const DELAY = 5 * MS;
const PERIOD = 20 * MS;
const MESSAGE = 1000;
/** Nothing may take longer than that, ns. */
const LIMIT = 900e9;

const PRIMARY = '10.0.0.2';

/** Measures a cell. The same cell gives the same figures. */
export async function failover(cell: FailoverCell): Promise<FailoverFigures> {
  const { timers } = cell;
  const sysctl = {
    'net.inet.sctp.path_rtx_max': cell.pathMaxRetrans,
    'net.inet.sctp.path_pf_threshold': cell.pfThreshold,
    'net.inet.sctp.rto_initial': timers.initial,
    'net.inet.sctp.rto_min': timers.min,
    'net.inet.sctp.rto_max': timers.max,
    'net.inet.sctp.heartbeat_interval': timers.heartbeat,
  };
  const cards = (n: number) => [{ addresses: [`10.0.0.${n}/24`] }, { addresses: [`10.0.1.${n}/24`] }];
  const net = new Network({
    hosts: { a: { cards: cards(1), sysctl }, b: { cards: cards(2), sysctl } },
    links: {
      left: { ends: ['a/nke0', 'b/nke0'], rate: 100e6, delay: DELAY },
      right: { ends: ['a/nke1', 'b/nke1'], rate: 100e6, delay: DELAY },
    },
  });
  const { client, server } = connect(net, 'a', 'b', PRIMARY);
  net.pass(5e9); // both paths are confirmed
  const sim = net.simulation;
  const source = cell.how === 'idle' ? undefined : new Metronome();
  let failed = Number.POSITIVE_INFINITY;
  let repaired = Number.POSITIVE_INFINITY;
  let switched: Nanos | undefined;
  let back: Nanos | undefined;
  const unsubscribe = net.host('a').stack.events.subscribe(e => {
    if (e.kind !== 'protocol' || e.what !== 'failover') return;
    if (e.detail.to !== PRIMARY) switched ??= e.at;
    else if (e.at >= repaired) back ??= e.at;
  });
  let resumed: Nanos | undefined;
  let worst = 0;
  const message = new Uint8Array(MESSAGE);
  drain(server, () => {
    const { now } = sim.clock;
    const meant = source!.read();
    if (meant < failed) return;
    resumed ??= now;
    worst = Math.max(worst, now - meant);
  });
  const send = () => {
    while (source!.due(sim.clock.now) && client.send(message, 0, MESSAGE, INFO) > 0) source!.sent++;
  };
  const tick = () => {
    send();
    sim.at(sim.clock.now + PERIOD, tick);
  };
  if (source !== undefined) {
    source.start = sim.clock.now;
    client.upcall = send;
    tick();
    net.pass(1e9 + PERIOD / 2); // (it fails between two messages, with nothing on its way)
  }
  const whole = (yes: boolean) => {
    if (cell.how === 'cable') net.link('left').cable(yes);
    else net.link('left').set({ loss: yes ? 0 : 1 });
  };
  failed = sim.clock.now;
  whole(false);
  const settled = () => switched !== undefined && (source === undefined || sim.clock.now - source.next < 5 * PERIOD);
  net.run(() => settled() || client.error !== 0, { virtual: LIMIT });
  if (switched !== undefined) {
    net.pass(10e9);
    repaired = sim.clock.now;
    whole(true);
    net.run(() => back !== undefined || client.error !== 0, { virtual: LIMIT });
  }
  unsubscribe();
  await net.close();
  const since = (from: Nanos, at: Nanos | undefined) => (at === undefined ? undefined : (at - from) / MS);
  const read = source === undefined || resumed === undefined ? undefined : worst / MS;
  return {
    resumed: since(failed, resumed),
    switched: since(failed, switched),
    worst: read,
    back: since(repaired, back),
  };
}

/** A source that wants to send a message each period; what it cannot send in time waits. */
class Metronome {
  start: Nanos = 0;
  sent = 0;
  #read = 0;
  due(now: Nanos): boolean {
    return now >= this.start + this.sent * PERIOD;
  }
  /** When the message now read was to be sent. */
  read(): Nanos {
    return this.start + this.#read++ * PERIOD;
  }
  /** When the next message to be read was to be sent. */
  get next(): Nanos {
    return this.start + this.#read * PERIOD;
  }
}
