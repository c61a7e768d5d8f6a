/** Several receive queues of one interface: which one a frame comes to, what a queue's successor finds, and that others keep theirs. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { native } from '../native.js';
import { repairHeaders } from './headers.js';
import { liveInNamespace, noNamespace, run } from './netns.fixture.js';
import { openPacketGroup, PacketPort, type PacketQueue } from './packet.js';
import { writeIp } from './packets.fixture.js';
import { Batch, Memory, type Port } from './port.js';
import { initQueue, packetSteeringProgram } from './steer.js';
import { TapPort } from './tap.js';
import { TunPort } from './tun.js';
import { openTunTapGroup } from './tuntap.js';

const skip = noNamespace();
if (!skip) liveInNamespace();

const QUEUES = 3;
const CARD = Uint8Array.of(2, 0, 0, 0, 0, 0xa1);
const PEER = Uint8Array.of(2, 0, 0, 0, 0, 0xb1);
const SCTP = 132;
const UDP = 17;
const ROOM = 66_000;

/** A port with memory of its own, which reads and writes a frame at a time. */
class Station implements Disposable {
  readonly #memory = new Memory(new ArrayBuffer(17 * ROOM));
  readonly #rx = new Batch(16);
  readonly #tx = new Batch(1);
  readonly port: Port;
  constructor(port: Port) {
    this.port = port;
    port.open(this.#memory);
    for (let i = 0; i < 16; i++) {
      this.#rx.off[i] = i * ROOM;
      this.#rx.cap[i] = ROOM;
    }
  }
  send(frame: Uint8Array): void {
    this.#memory.u8.set(frame, 16 * ROOM);
    this.#tx.off[0] = 16 * ROOM;
    this.#tx.len[0] = frame.length;
    this.#tx.count = 1;
    assert.equal(this.port.transmit(this.#tx, 0), 1);
  }
  /** What has come: frames, those of trains apart. */
  receive(): Uint8Array[] {
    const rx = this.#rx;
    const out: Uint8Array[] = [];
    for (let n = this.port.receive(rx, 16, 0); n > 0; n = this.port.receive(rx, 16, 0))
      for (let i = 0; i < n; i++) {
        const [at, len, size, hdr] = [rx.off[i]!, rx.len[i]!, rx.segsz[i]!, rx.hdrlen[i]!];
        if (size === 0) out.push(this.#memory.u8.slice(at, at + len));
        else
          for (let o = hdr; o < len; o += size)
            out.push(
              Uint8Array.from([
                ...this.#memory.u8.subarray(at, at + hdr),
                ...this.#memory.u8.subarray(at + o, at + Math.min(len, o + size)),
              ]),
            );
      }
    return out;
  }
  [Symbol.dispose](): void {
    this.port.close();
  }
}

interface Kind {
  readonly six?: boolean;
  readonly udp?: number;
  readonly proto?: number;
  readonly ports?: number;
  readonly vlan?: number;
  readonly to?: Uint8Array;
}

/** An IP packet for the card with a verification tag where SCTP has it. */
function ipPacket(tag: number, { six = false, udp, proto, ports = (5001 << 16) | 2905 }: Kind): Uint8Array {
  const bytes = new Uint8Array(six ? 120 : 100);
  const [from, to] = six ? ['fd00::1', 'fd00::2'] : ['10.7.0.1', '10.7.0.2'];
  const l4 = writeIp(bytes, 0, bytes.length, from!, to!, proto ?? (udp === undefined ? SCTP : UDP));
  const dv = new DataView(bytes.buffer);
  if (udp !== undefined) {
    dv.setUint32(l4, (40_000 << 16) | udp);
    dv.setUint16(l4 + 4, bytes.length - l4);
  }
  const at = l4 + (udp === undefined ? 0 : 8);
  dv.setUint32(at, ports);
  dv.setUint32(at + 4, tag);
  repairHeaders(bytes, 0, bytes.length, false, false);
  return bytes;
}
function frame(tag: number, kind: Kind = {}): Uint8Array {
  const vlan = kind.vlan === undefined ? [] : [0x81, 0, kind.vlan >>> 8, kind.vlan & 255];
  const type = kind.six === true ? [0x86, 0xdd] : [8, 0];
  return Uint8Array.from([...(kind.to ?? CARD), ...PEER, ...vlan, ...type, ...ipPacket(tag, kind)]);
}
const arp = Uint8Array.from([
  ...CARD,
  ...PEER,
  ...[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
  ...PEER,
  ...[10, 7, 0, 1],
  ...CARD,
  ...[10, 7, 0, 2],
  ...new Array(18).fill(0),
]);

/** Which queue gets what `send` sends: exactly one does. */
async function queueOf(queues: readonly Station[], bytes: Uint8Array, send: () => void): Promise<number> {
  send();
  for (let i = 0; i < 3000; i++) {
    const got = queues.map(
      q => q.receive().filter(f => f.length === bytes.length && Buffer.from(f).equals(bytes)).length,
    );
    const n = got.reduce((a, b) => a + b);
    if (n > 0) {
      assert.equal(n, 1, `it comes once: ${got}`);
      return got.indexOf(1);
    }
    await new Promise(resolve => setTimeout(resolve, 2));
  }
  return assert.fail('it does not come');
}

const TAGS = [1, 2, 3, 5, 0x7fffffff, 0x80000000, 0xffffffff];

/** Everything that steering knows, sent through `peer`. */
async function steered(queues: readonly Station[], peer: Station): Promise<void> {
  const check = async (bytes: Uint8Array, want: number, what: string) =>
    assert.equal(await queueOf(queues, bytes, () => peer.send(bytes)), want, what);
  for (const six of [false, true]) {
    for (const tag of TAGS) {
      await check(frame(tag, { six }), tag % QUEUES, `tag ${tag}`);
      await check(frame(tag, { six, vlan: 5 }), tag % QUEUES, `tag ${tag} behind a VLAN tag`);
      await check(frame(tag, { six, udp: 9899 }), tag % QUEUES, `tag ${tag} in UDP`);
    }
    const source = six ? [0xfd000000, 0, 0, 1] : [0x0a070001];
    for (let port = 4000; port < 4008; port++) {
      const ports = ((port << 16) | 2905) >>> 0;
      await check(frame(0, { six, ports }), initQueue(ports, source, QUEUES), `INIT from ${port}`);
    }
    await check(frame(5, { six, proto: six ? 58 : 1 }), 0, 'ICMP');
  }
  await check(arp, 0, 'ARP');
}

/** A veth pair, and so many queues of its end va. */
class Veth implements Disposable {
  readonly group: readonly PacketQueue[];
  readonly stations: Station[] = [];
  readonly peer: Station;
  constructor() {
    run('ip', 'link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb');
    for (const name of ['va', 'vb']) run('ip', 'link', 'set', name, 'up');
    this.group = openPacketGroup({ interface: 'va' }, QUEUES, packetSteeringProgram('ip', QUEUES, 9899));
    for (let q = 0; q < QUEUES; q++) this.stations.push(this.open(q));
    this.peer = new Station(new PacketPort({ interface: 'vb', mac: PEER }));
  }
  open(queue: number): Station {
    return new Station(new PacketPort({ interface: 'va', mac: CARD, queue: this.group[queue]! }));
  }
  [Symbol.dispose](): void {
    for (const s of [...this.stations, this.peer]) s.port.close();
    for (const { fd, bell } of this.group) for (const one of [fd, bell]) if (one >= 0) native!.close(one);
    run('ip', 'link', 'del', 'va');
  }
}
const LIMIT = { skip, timeout: 60_000 };

test('packet: a frame comes to the queue that its tag says, and a queue wakes for its own', LIMIT, async () => {
  using v = new Veth();
  await steered(v.stations, v.peer);
  const foreign = frame(1, { to: Uint8Array.of(2, 0, 0, 0, 0, 0xcc) });
  v.peer.send(foreign);
  const woken = v.stations.map(s => new Promise<void>(resolve => s.port.arm(resolve)));
  for (let tag = 1; tag < 1 + QUEUES; tag++) v.peer.send(frame(tag));
  await Promise.all(woken);
  let [others, own] = [0, 0];
  for (let i = 0; i < 100 && own < QUEUES; i++) {
    for (const [q, s] of v.stations.entries())
      for (const f of s.receive()) {
        assert.ok(!Buffer.from(f).equals(foreign), 'the filter is in force');
        if (Buffer.from(f).equals(frame(q === 0 ? QUEUES : q))) own++;
        else others++;
      }
    await new Promise(resolve => setTimeout(resolve, 2));
  }
  assert.deepEqual([own, others], [QUEUES, 0]);
  let stray = 0;
  v.stations[2]!.port.arm(() => stray++);
  for (let i = 0; i < 20; i++) v.peer.send(frame(1));
  await new Promise(resolve => setTimeout(resolve, 30));
  assert.equal(stray, 0, 'what is for another queue lets it sleep');
  v.stations[2]!.port.disarm();
});

test('packet: queues keep their places when the interface goes down and up', LIMIT, async () => {
  using v = new Veth();
  for (let i = 0; i < 2; i++) {
    run('ip', 'link', 'set', 'va', 'down');
    run('ip', 'link', 'set', 'va', 'up');
    for (const s of [...v.stations, v.peer]) {
      for (let k = 0; k < 200 && !s.port.carrier; k++) {
        s.port.arm(() => {}); // so that it looks at the link
        s.port.disarm();
        s.receive();
        await new Promise(resolve => setTimeout(resolve, 5));
      }
      assert.ok(s.port.carrier);
    }
    await steered(v.stations, v.peer);
  }
});

test('packet: a queue that nobody reads waits for its successor, and the others go on', LIMIT, async () => {
  using v = new Veth();
  await steered(v.stations, v.peer);
  for (let round = 0; round < 40; round++) {
    // The reader of queue 1 is gone without a word; it had read some of what it was sent.
    const left = 1 + (round % 7);
    for (let i = 0; i < left; i++) v.peer.send(frame(1 + QUEUES * (100 * round + i)));
    const zero = frame(QUEUES);
    assert.equal(await queueOf(v.stations.slice(0, 1), zero, () => v.peer.send(zero)), 0);
    const old = v.stations[1]!;
    v.stations[1] = v.open(1);
    const seen: number[] = [];
    for (let k = 0; k < 200 && seen.length < left; k++) {
      for (const f of v.stations[1].receive()) seen.push(new DataView(f.buffer).getUint32(14 + 20 + 4));
      await new Promise(resolve => setTimeout(resolve, 1));
    }
    const sent = Array.from({ length: left }, (_, i) => 1 + QUEUES * (100 * round + i));
    // What the old one has seen of a block that it had not given back comes again.
    assert.deepEqual(seen.slice(-left), sent, `round ${round}`);
    old.port.close(); // for its own sockets; it shuts the queue as well
    v.stations[1].port.close();
    v.stations[1] = v.open(1);
    await steered(v.stations, v.peer);
  }
});

test('packet: a port that was closed lets nothing in, and opens again', LIMIT, async () => {
  using v = new Veth();
  const one = v.stations[1]!;
  one.port.close();
  for (let i = 0; i < 50; i++) v.peer.send(frame(1));
  const zero = frame(QUEUES);
  assert.equal(await queueOf(v.stations.slice(0, 1), zero, () => v.peer.send(zero)), 0);
  v.stations[1] = v.open(1);
  assert.deepEqual(v.stations[1].receive(), []);
  await steered(v.stations, v.peer);
});

test('packet: an interface that was made anew needs new queues', LIMIT, () => {
  using v = new Veth();
  run('ip', 'link', 'del', 'va');
  run('ip', 'link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb');
  assert.throws(() => v.open(0), { code: 'ENODEV', message: /made anew/ });
  assert.throws(() => openPacketGroup({ interface: 'vz' }, 2, packetSteeringProgram('ip', 2, 0)), { code: 'ENODEV' });
});

test(
  'tap: a frame comes to the queue that its tag says, also after one queue’s port has gone and come',
  LIMIT,
  async () => {
    const group = openTunTapGroup(
      true,
      { interface: 'nke0', queues: QUEUES, mtu: 1400 },
      packetSteeringProgram('ethernet', QUEUES, 9899),
    );
    const open = (q: number) => new Station(new TapPort({ interface: 'nke0', queue: group.queues[q]! }));
    const stations = [0, 1, 2].map(open);
    let peer: Station | undefined;
    try {
      assert.equal(group.steered, true);
      assert.equal(stations[0]!.port.capabilities.mtu, 1400);
      peer = new Station(new PacketPort({ interface: 'nke0', mac: PEER }));
      await steered(stations, peer);
      stations[1]!.port.close();
      for (const tag of [QUEUES, 2]) {
        const bytes = frame(tag);
        assert.equal(await queueOf([stations[0]!, stations[2]!], bytes, () => peer!.send(bytes)), tag === 2 ? 1 : 0);
      }
      stations[1] = open(1);
      await steered(stations, peer);
      // And each one's frames reach the kernel side.
      for (const s of stations) {
        const bytes = Uint8Array.from([...PEER, ...CARD, ...frame(9).subarray(12)]);
        assert.equal(await queueOf([peer], bytes, () => s.send(bytes)), 0);
      }
    } finally {
      for (const s of [...stations, peer]) s?.port.close();
      group.close();
    }
    assert.doesNotMatch(run('ip', '-o', 'link', 'show'), /nke0/);
  },
);

test('tap: a persistent interface gets its own steering back', LIMIT, () => {
  run('ip', 'tuntap', 'add', 'dev', 'nkem', 'mode', 'tap', 'multi_queue');
  try {
    const program = packetSteeringProgram('ethernet', 2, 0);
    for (let i = 0; i < 2; i++) {
      const group = openTunTapGroup(true, { interface: 'nkem', queues: 2 }, program);
      assert.equal(group.queues.length, 2);
      group.close();
      group.close();
    }
    run('ip', 'tuntap', 'add', 'dev', 'nkes', 'mode', 'tap');
    const single = () => openTunTapGroup(true, { interface: 'nkes', queues: 2 }, program);
    assert.throws(single, { code: 'E2BIG', message: /multi_queue/ });
  } finally {
    run('ip', 'link', 'del', 'nkem');
    run('ip', 'link', 'del', 'nkes');
  }
});

test('tun: packets come to the queue that their tag says', LIMIT, async () => {
  const options = { interface: 'nke0', queues: QUEUES, addresses: ['10.7.0.1/24'] };
  const group = openTunTapGroup(false, options, packetSteeringProgram('ip', QUEUES, 9899));
  const stations = group.queues.map(queue => new Station(new TunPort({ interface: 'nke0', queue })));
  try {
    // What one queue sends, the kernel routes back out to the same interface.
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
    for (const scope of ['all', 'nke0']) writeFileSync(`/proc/sys/net/ipv4/conf/${scope}/rp_filter`, '0');
    for (const tag of TAGS) {
      const bytes = ipPacket(tag, {});
      bytes.set([10, 7, 0, 9], 12);
      repairHeaders(bytes, 0, bytes.length, false, false);
      const routed = bytes.slice();
      routed[8]!--;
      repairHeaders(routed, 0, routed.length, false, false);
      const sender = stations[(tag + 1) % QUEUES]!;
      assert.equal(await queueOf(stations, routed, () => sender.send(bytes)), tag % QUEUES);
    }
  } finally {
    for (const s of stations) s.port.close();
    group.close();
  }
});
