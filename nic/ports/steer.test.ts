import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  native,
  UDP_CAP,
  UDP_IO_V6,
  UDP_LEN,
  UDP_OFF,
  UDP_PORT,
  UDP_ROW,
  UDP_W0,
  UDP_W1,
  UDP_W2,
  UDP_W3,
} from '../native.js';
import { run, runExtended } from './cbpf.fixture.js';
import { extended } from './cbpf.js';
import { writeIp } from './packets.fixture.js';
import { initQueue, packetSteeringProgram, steeringProgram } from './steer.js';
import { createUdpPort, openUdpGroup } from './udp.js';

const skip = native === undefined ? 'the C module is not built' : false;

/** Sends SCTP headers from one socket to a group of `queues` and says which queue each came to. */
function steered(family: 4 | 6, queues: number, packets: readonly { ports: number; tag: number }[]): number[] {
  const nat = native!;
  const address = family === 4 ? '127.0.0.1' : '::1';
  const words = family === 4 ? [0, 0, 0xffff, 0x7f000001] : [0, 0, 0, 1];
  const io = family === 6 ? UDP_IO_V6 : 0;
  const { fds, port } = openUdpGroup({ address, port: 0 }, queues, steeringProgram(family, queues));
  const from = nat.udpOpen(address, 0, 0, 0, 0);
  try {
    const u8 = new Uint8Array(4096);
    const dv = new DataView(u8.buffer);
    const rows = new Int32Array(UDP_ROW);
    return packets.map(p => {
      dv.setUint32(0, p.ports);
      dv.setUint32(4, p.tag);
      rows.fill(0);
      rows[UDP_LEN] = 12;
      rows[UDP_PORT] = port;
      for (const [i, at] of [UDP_W0, UDP_W1, UDP_W2, UDP_W3].entries()) rows[at] = words[i]!;
      assert.equal(nat.udpSend(from, u8, rows, 1, io), 1);
      const got = fds.map(fd => {
        rows.fill(0);
        rows[UDP_OFF] = 2048;
        rows[UDP_CAP] = 2048;
        return nat.udpReceive(fd, u8, rows, 1, io);
      });
      assert.equal(
        got.reduce((a, b) => a + b),
        1,
        `it comes once: ${got}`,
      );
      return got.indexOf(1);
    });
  } finally {
    for (const fd of [...fds, from]) nat.close(fd);
  }
}

const tags = [1, 2, 3, 5, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];
for (const family of [4, 6] as const)
  for (const queues of [1, 2, 3]) {
    test(`IPv${family}, ${queues} queues: the verification tag says which`, { skip }, () => {
      const ports = (5001 << 16) | 5001;
      assert.deepEqual(
        steered(
          family,
          queues,
          tags.map(tag => ({ ports, tag })),
        ),
        tags.map(tag => tag % queues),
      );
    });
    test(`IPv${family}, ${queues} queues: an INIT goes by address and ports`, { skip }, () => {
      const inits = Array.from({ length: 60 }, (_, i) => ({ ports: (((5001 + 7 * i) << 16) | 2905) >>> 0, tag: 0 }));
      const source = family === 4 ? [0x7f000001] : [0, 0, 0, 1];
      const at = steered(family, queues, inits);
      assert.deepEqual(
        at,
        inits.map(p => initQueue(p.ports, source, queues)),
      );
      for (let q = 0; q < queues; q++)
        assert.ok(at.filter(x => x === q).length >= 60 / queues / 2, `queue ${q} gets its part`);
    });
  }

const MACS = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
const SCTP = 132;
const UDP = 17;

/** An IP packet with SCTP's ports and tag where they belong, in UDP if `udp` says to which port. */
function packet(
  six: boolean,
  tag: number,
  o: { proto?: number; udp?: number; fragment?: number; options?: number } = {},
) {
  const l3 = (six ? 40 : 20) + (o.options ?? 0);
  const bytes = new Uint8Array(l3 + 40);
  const [from, to] = six ? ['fd00::1:2', 'fd00::2'] : ['10.7.0.1', '10.7.0.2'];
  writeIp(bytes, 0, bytes.length, from!, to!, o.proto ?? (o.udp === undefined ? SCTP : UDP));
  const dv = new DataView(bytes.buffer);
  if (o.options !== undefined) bytes[0] = 0x40 | (l3 >> 2);
  if (o.fragment !== undefined) dv.setUint16(6, o.fragment);
  if (o.udp !== undefined) dv.setUint32(l3, (40_000 << 16) | o.udp);
  const at = l3 + (o.udp === undefined ? 0 : 8);
  dv.setUint32(at, (5001 << 16) | 2905);
  dv.setUint32(at + 4, tag);
  return bytes;
}
const source = (six: boolean) => (six ? [0xfd000000, 0, 0, 0x00010002] : [0x0a070001]);
const onEthernet = (ip: Uint8Array, six: boolean, ...tag: number[]) =>
  Uint8Array.from([...MACS, ...tag, ...(six ? [0x86, 0xdd] : [8, 0]), ...ip]);

/** The queue by the classic program and by its translation, which agree. */
function both(begin: 'ethernet' | 'ip', queues: number, bytes: Uint8Array, tunnel = 9899): number {
  const program = packetSteeringProgram(begin, queues, tunnel);
  const queue = run(program, bytes);
  assert.equal(runExtended(extended(program), bytes), queue);
  return queue;
}
/** The same of an IP packet, whatever stands in front of it. */
function queueOf(ip: Uint8Array, six: boolean, queues: number, tunnel = 9899): number {
  const queue = both('ip', queues, ip, tunnel);
  assert.equal(both('ethernet', queues, onEthernet(ip, six), tunnel), queue);
  assert.equal(both('ethernet', queues, onEthernet(ip, six, 0x81, 0, 0x60, 7), tunnel), queue, 'behind a VLAN tag');
  assert.equal(both('ethernet', queues, onEthernet(ip, six, 0x88, 0xa8, 0x40, 7), tunnel), queue);
  return queue;
}

for (const six of [false, true]) {
  const ports = (5001 << 16) | 2905;
  test(`packets with ${six ? 'IPv6' : 'IPv4'}: the verification tag says which, also in UDP`, () => {
    for (const queues of [1, 2, 3, 16])
      for (const tag of tags) {
        assert.equal(queueOf(packet(six, tag), six, queues), tag % queues);
        assert.equal(queueOf(packet(six, tag, { udp: 9899 }), six, queues), tag % queues);
        if (!six) assert.equal(queueOf(packet(six, tag, { options: 8 }), six, queues), tag % queues);
      }
  });
  test(`packets with ${six ? 'IPv6' : 'IPv4'}: INITs and other datagrams go by source and ports`, () => {
    const init = initQueue(ports, source(six), 16);
    assert.equal(queueOf(packet(six, 0), six, 16), init);
    assert.equal(queueOf(packet(six, 0, { udp: 9899 }), six, 16), init);
    if (!six) assert.equal(queueOf(packet(six, 0, { options: 4 }), six, 16), init);
    const datagram = initQueue((40_000 << 16) | 53, source(six), 16);
    for (const tag of tags) assert.equal(queueOf(packet(six, tag, { udp: 53 }), six, 16), datagram);
    for (const port of [49_152, 49_153, 65_535])
      assert.equal(queueOf(packet(six, 5, { udp: port }), six, 16), port % 16, 'a port that a queue has drawn');
    assert.equal(queueOf(packet(six, 5, { udp: 60_000 }), six, 16, 60_000), 5, 'the tunnel may have such a port');
    const untunnelled = initQueue((40_000 << 16) | 9899, source(six), 16);
    assert.equal(queueOf(packet(six, 7, { udp: 9899 }), six, 16, 0), untunnelled);
  });
  test(`packets with ${six ? 'IPv6' : 'IPv4'}: what has no tag, and what is cut off, goes to queue 0`, () => {
    for (const proto of six ? [0, 43, 44, 58, 60] : [1, 2, 6])
      assert.equal(queueOf(packet(six, 5, { proto }), six, 4), 0);
    if (!six)
      for (const fragment of [0x2000, 0x0001, 0x2fff]) assert.equal(queueOf(packet(six, 5, { fragment }), six, 4), 0);
    if (!six) assert.equal(queueOf(packet(six, 5, { fragment: 0x4000 }), six, 4), 1, 'DF is no fragment');
    const whole = packet(six, 5);
    const enough = (six ? 40 : 20) + 8;
    for (let n = 0; n < whole.length; n++)
      assert.equal(both('ip', 4, whole.subarray(0, n)), n < enough ? 0 : 1, `${n} bytes`);
  });
}

test('packets: ARP, and what nobody knows, goes to queue 0', () => {
  const arp = Uint8Array.from([...MACS, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...new Array(40).fill(0x45)]);
  assert.equal(both('ethernet', 4, arp), 0);
  assert.equal(both('ip', 4, arp.subarray(14)), 0);
  assert.equal(both('ip', 4, new Uint8Array(60)), 0);
  assert.throws(() => packetSteeringProgram('ip', 0, 0), RangeError);
  assert.throws(() => extended(Uint8Array.of(0xff, 0, 0, 0, 0, 0, 0, 0)), RangeError);
});

test('the hash of an INIT spreads also when all ports are the same and addresses follow each other', () => {
  const all = Array.from({ length: 1000 }, (_, i) => initQueue((2905 << 16) | 2905, [0x0a000000 + i], 4));
  for (let q = 0; q < 4; q++) assert.ok(Math.abs(all.filter(x => x === q).length - 250) < 75, `queue ${q}`);
});

test('a group keeps others away from its port, and a port on one of its sockets leaves it open', { skip }, () => {
  const { fds, port } = openUdpGroup({ address: '127.0.0.1', port: 0 }, 2, steeringProgram(4, 2));
  try {
    assert.throws(() => openUdpGroup({ address: '127.0.0.1', port }, 2, steeringProgram(4, 2)), {
      code: 'EADDRINUSE',
    });
    const p = createUdpPort({ address: '127.0.0.1', port, fd: fds[1] });
    p.close();
    assert.equal(native!.udpPort(fds[1]!), port);
  } finally {
    for (const fd of fds) native!.close(fd);
  }
});
