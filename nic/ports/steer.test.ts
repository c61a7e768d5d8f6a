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
import { initQueue, steeringProgram } from './steer.js';
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
