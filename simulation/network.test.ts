/** Networks in virtual time: what a description does, what changes while it runs, and that a seed decides every byte. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { AF_INET, SOCK_DGRAM } from '../stack/kern/protosw.js';
import { RecvInfo, type Socket } from '../stack/kern/socket.js';
import { InAddr } from '../stack/netinet/in.js';
import { connect, drain, flood } from './bulk.js';
import { type LinkDescription, Network, type NetworkDescription } from './network.js';
import { Simulation } from './simulation.js';

const MS = 1e6;

function two(line: Omit<LinkDescription, 'ends'> = {}, seed = 1, more: Partial<NetworkDescription> = {}): Network {
  return new Network({
    seed,
    hosts: { a: { cards: [{ addresses: ['10.0.0.1/24'] }] }, b: { cards: [{ addresses: ['10.0.0.2/24'] }] } },
    links: { line: { ends: ['a', 'b'], ...line } },
    ...more,
  });
}

/** A UDP socket bound to a host's port 9, and when what came to it came. */
function udp(net: Network, host: string): { so: Socket; times: number[]; lengths: number[] } {
  const so = net.host(host).socket(AF_INET, SOCK_DGRAM, 0) as Socket;
  assert.equal(so.bind({ addr: InAddr.of('0.0.0.0'), port: 9 }), 0);
  const times: number[] = [];
  const lengths: number[] = [];
  const buf = new Uint8Array(2000);
  so.upcall = () => {
    for (let n = so.recv(buf, 0, buf.length, new RecvInfo()); n >= 0; n = so.recv(buf, 0, buf.length, new RecvInfo())) {
      times.push(net.now);
      lengths.push(n);
    }
  };
  return { so, times, lengths };
}
const to = (address: string) => ({ addr: InAddr.of(address), port: 9 });

test('network: a link delays and paces each direction by its own rule', async () => {
  // 8 Mb/s: a byte takes 1 us; a datagram of 958 bytes is a frame of 1,000.
  const net = two({ delay: 10 * MS, rate: 8e6, towards: { a: { delay: 3 * MS, rate: 0 } } });
  const a = udp(net, 'a');
  const b = udp(net, 'b');
  net.pass(5e9);
  a.so.send(new Uint8Array(1), 0, 1, undefined, to('10.0.0.2')); // (addresses are resolved)
  net.pass(1e9);
  b.times.length = 0;
  const start = net.now;
  for (let i = 0; i < 3; i++) a.so.send(new Uint8Array(958), 0, 958, undefined, to('10.0.0.2'));
  net.pass(1e9);
  assert.deepEqual(
    b.times.map(t => (t - start) / MS),
    [11, 12, 13],
  );
  const back = net.now;
  for (let i = 0; i < 3; i++) b.so.send(new Uint8Array(958), 0, 958, undefined, to('10.0.0.1'));
  net.pass(1e9);
  assert.deepEqual(
    a.times.map(t => (t - back) / MS),
    [3, 3, 3],
  );
  await net.close();
});

test('network: queues are bounded in packets and in bytes, and a path has an MTU that nobody tells', async () => {
  const net = two({ rate: 8e6, queuePackets: 4, towards: { a: { queueBytes: 3000, mtu: 900 } } });
  const a = udp(net, 'a');
  const b = udp(net, 'b');
  net.pass(5e9);
  for (let i = 0; i < 10; i++) a.so.send(new Uint8Array(958), 0, 958, undefined, to('10.0.0.2'));
  net.pass(1e9);
  assert.equal(b.times.length, 4);
  assert.equal(net.link('line').counters('b').fault_queue_full, 6);
  for (let i = 0; i < 10; i++) b.so.send(new Uint8Array(858), 0, 858, undefined, to('10.0.0.1'));
  b.so.send(new Uint8Array(873), 0, 873, undefined, to('10.0.0.1'));
  net.pass(1e9);
  assert.equal(a.times.length, 3);
  const c = net.link('line').counters('a');
  assert.deepEqual([c.fault_queue_full, c.fault_mtu], [7, 1]);
  await net.close();
});

test('network: faults change while it runs, by events and by hand, and merge', async () => {
  const net = two({ delay: MS }, 1, {
    events: [
      { at: 10e9, link: 'line', towards: 'b', set: { loss: 1 } },
      { at: 20e9, link: 'line', towards: 'b', set: { loss: 0 } },
      { at: 30e9, link: 'line', cable: false },
      { at: 40e9, link: 'line', cable: true },
    ],
  });
  const a = udp(net, 'a');
  const b = udp(net, 'b');
  const got: number[] = [];
  for (let second = 5; second <= 50; second += 10) {
    net.pass(second * 1e9 - net.now);
    const before = b.times.length;
    a.so.send(new Uint8Array(10), 0, 10, undefined, to('10.0.0.2'));
    net.pass(1e9);
    got.push(b.times.length - before);
  }
  assert.deepEqual(got, [1, 0, 1, 0, 1]);
  assert.deepEqual(net.link('line').faults('b'), { delay: MS, loss: 0 });
  assert.deepEqual(net.link('line').faults('a'), { delay: MS });
  net.link('line').set({ loss: 0.5 });
  assert.deepEqual(net.link('line').faults('a'), { delay: MS, loss: 0.5 });
  await net.close();
});

test('network: a segment is a learning switch, and each frame passes the faults towards its receiver once', async () => {
  const card = (n: number) => ({ cards: [{ addresses: [`10.0.0.${n}/24`] }] });
  const net = new Network({
    hosts: { a: card(1), b: card(2), c: card(3) },
    links: { lan: { ends: ['a', 'b', 'c'], delay: 2 * MS, towards: { c: { loss: 1 } } } },
  });
  const a = udp(net, 'a');
  const b = udp(net, 'b');
  const c = udp(net, 'c');
  net.pass(5e9);
  a.so.send(new Uint8Array(10), 0, 10, undefined, to('10.0.0.2'));
  net.pass(1e9);
  assert.equal(b.times.length, 1);
  const heard = net.link('lan').counters('c').fault_in!;
  const start = net.now;
  for (let i = 0; i < 5; i++) a.so.send(new Uint8Array(10), 0, 10, undefined, to('10.0.0.2'));
  net.pass(1e9);
  assert.deepEqual(
    b.times.slice(1).map(t => t - start),
    [2, 2, 2, 2, 2].map(t => t * MS),
  );
  assert.equal(net.link('lan').counters('c').fault_in, heard, 'what is for b does not go to c');
  b.so.send(new Uint8Array(10), 0, 10, undefined, to('10.0.0.3'));
  net.pass(1e9);
  assert.equal(c.times.length, 0);
  net.link('lan').cable(false, 'b');
  assert.equal(net.host('b').card('nke0').port.carrier, false);
  assert.equal(net.host('a').card('nke0').port.carrier, true);
  await net.close();
});

test('network: a description that cannot be is refused with its reason', () => {
  const host = { cards: [{ addresses: ['10.0.0.1/24'] }] };
  const net = (links: NetworkDescription['links']) => () => new Network({ hosts: { a: host, b: host }, links });
  assert.throws(net({ x: { ends: ['a'] } }), /needs two ends/);
  assert.throws(net({ x: { ends: ['a', 'c'] } }), /there is no host c: a, b/);
  assert.throws(net({ x: { ends: ['a', 'b/nke1'] } }), /"b\/nke1" is no card of b: b\/nke0/);
  assert.throws(net({ x: { ends: ['a', 'b'] }, y: { ends: ['a', 'b'] } }), /a\/nke0 has two links/);
  assert.throws(net({ x: { ends: ['a', 'b'], loss: 2 } }), /2 is no probability/);
  assert.throws(net({ x: { ends: ['a', 'b'], towards: { c: {} } } }), /there is no host c/);
});

test('simulation: appointments are kept in order of time, those of one time in order of making', () => {
  const sim = new Simulation();
  const done: string[] = [];
  const { now } = sim.clock;
  sim.at(now + 20, () => done.push(`c${sim.clock.now - now}`));
  sim.at(now + 10, () => {
    done.push(`a${sim.clock.now - now}`);
    sim.at(now + 20, () => done.push('d'));
    sim.at(now, () => done.push('late'));
  });
  sim.at(now + 10, () => done.push('b'));
  sim.pass(100);
  assert.deepEqual(done, ['a10', 'late', 'b', 'c20', 'd']);
});

/** A transfer over a line with every trouble at once; the hash of all frames, of where they went and when. */
async function fingerprint(seed: number): Promise<{ hash: string; frames: number; bytes: string }> {
  const trouble = { loss: 0.02, burst: { toBad: 0.002, toGood: 0.3 }, duplicate: 0.01, corrupt: 0.01 };
  const line = { ...trouble, rate: 50e6, queuePackets: 50, delay: 5 * MS, jitter: 0.1 * MS, reorder: 0.02 };
  const net = two(line, seed);
  const hash = createHash('sha256');
  const time = new Float64Array(1);
  let frames = 0;
  net.watch((link, towards, u8, off, len, now) => {
    time[0] = now;
    frames++;
    hash
      .update(link.name)
      .update(towards)
      .update(new Uint8Array(time.buffer))
      .update(u8.subarray(off, off + len));
  });
  const { client, server } = connect(net, 'a', 'b', '10.0.0.2', 1 << 20);
  const read = createHash('sha256');
  drain(server, (u8, n) => read.update(u8.subarray(0, n)));
  flood(client, 1200);
  net.pass(0.5e9);
  assert.equal(client.errorReason, '');
  await net.close();
  return { hash: hash.digest('hex'), frames, bytes: read.digest('hex') };
}

test('network: the same seed gives the same bytes at the same times, another seed others', async () => {
  const first = await fingerprint(7);
  assert.ok(first.frames > 300, `${first.frames} frames`);
  assert.deepEqual(await fingerprint(7), first);
  assert.notEqual((await fingerprint(8)).hash, first.hash);
});
