/**
 * 1 GiB from socket to socket over two cards and a faulty cable, in virtual time, under each kind of trouble and all at
 * once: the hashes must be equal, and every packet that the cable spoilt must have been counted and dropped by its
 * checksum. NKE_TRANSFER_BYTES changes the amount.
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import type { FaultConfig } from './appliance.js';
import { Simulation } from './simulation.js';
import { AF_INET, SOCK_STREAM } from './stack/kern/protosw.js';
import { RecvInfo, type SendInfo, Socket } from './stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP } from './stack/netinet/in.js';

const TOTAL = Number(process.env.NKE_TRANSFER_BYTES ?? 2 ** 30);
const MESSAGE = 8192;

/**
 * Bursts in which all packets are lost, two on average: 5 % of all packets. The burst is counted in packets, not in time:
 * after a time-out each lonely retransmission meets the same burst, so Association.Max.Retrans (10) would soon be used up;
 * the test raises it.
 */
const bursts = { toBad: 0.0263, toGood: 0.5, lossGood: 0, lossBad: 1 };
const FAULTS: Record<string, FaultConfig> = {
  'loss 1 %': { loss: 0.01 },
  'loss 5 % in bursts': { burst: bursts },
  duplication: { duplicate: 0.05 },
  reordering: { reorder: 0.05, reorderDelay: 300 },
  corruption: { corrupt: 0.01 },
  'all at once': {
    loss: 0.01,
    burst: { ...bursts, toBad: 0.005 },
    duplicate: 0.01,
    reorder: 0.02,
    reorderDelay: 300,
    corrupt: 0.005,
  },
};

function connected(net: Simulation): { client: Socket; server: Socket; listener: Socket } {
  const [a, b] = net.appliances;
  const make = (host: typeof a): Socket => {
    const so = host!.socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
    assert.ok(so instanceof Socket, `socket: ${so}`);
    return so;
  };
  const listener = make(b);
  assert.equal(listener.bind({ addr: InAddr.of('10.0.0.2'), port: 7 }), 0);
  assert.equal(listener.listen(1), 0);
  const client = make(a);
  client.connect({ addr: InAddr.of('10.0.0.2'), port: 7 });
  let server: Socket | undefined;
  const up = net.run(
    () => {
      const s = listener.accept();
      if (s instanceof Socket) server = s;
      return server !== undefined && client.writable;
    },
    { virtual: 300e9 },
  );
  assert.ok(up && server !== undefined, `not connected: ${client.errorReason}`);
  return { client, server, listener };
}

/** Sends `total` bytes and returns both hashes and what arrived. */
function transfer(
  net: Simulation,
  client: Socket,
  server: Socket,
  total: number,
): { sent: string; received: string; bytes: number } {
  const out = createHash('sha256');
  const inn = createHash('sha256');
  const msg = new Uint8Array(MESSAGE);
  const words = new Uint32Array(msg.buffer);
  const buf = new Uint8Array(1 << 17);
  const info: SendInfo = { sid: 0, flags: 0, ppid: 0, context: 0, assocId: 0, prPolicy: 0, prValue: 0 };
  const got = new RecvInfo();
  let n = 0;
  let sent = 0;
  let bytes = 0;
  let ready = false;
  let ended = false;
  client.upcall = () => {
    while (sent < total) {
      if (!ready) {
        // Every message differs, in every word.
        for (let i = 0, x = (n++ * 2654435761) >>> 0; i < words.length; i++)
          words[i] = x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
        ready = true;
      }
      const size = Math.min(MESSAGE, total - sent);
      if (client.send(msg, 0, size, info) < 0) return;
      out.update(size === MESSAGE ? msg : msg.subarray(0, size));
      sent += size;
      ready = false;
    }
  };
  server.upcall = () => {
    for (;;) {
      const k = server.recv(buf, 0, buf.length, got);
      if (k <= 0) {
        ended = k === 0;
        return;
      }
      inn.update(buf.subarray(0, k));
      bytes += k;
    }
  };
  client.upcall(client);
  net.run(() => (sent >= total && bytes >= total) || client.error !== 0 || server.error !== 0 || ended, {
    virtual: 1e15,
  });
  assert.equal(client.errorReason, '');
  assert.equal(server.errorReason, '');
  return { sent: out.digest('hex'), received: inn.digest('hex'), bytes };
}

const sum = (record: Readonly<Record<string, number>> | undefined, names: RegExp): number =>
  Object.entries(record ?? {}).reduce((a, [k, v]) => (names.test(k) ? a + v : a), 0);

describe(`${TOTAL} bytes over a faulty cable, in virtual time`, { timeout: 600_000 }, () => {
  for (const [name, faults] of Object.entries(FAULTS)) {
    test(name, async () => {
      const net = new Simulation(11);
      for (const n of [1, 2])
        net.create({
          name: `host${n}`,
          cards: [{ port: 'wire:cable', addresses: [`10.0.0.${n}/24`], faults: { ...faults, seed: n } }],
          kexts: ['SCTP'],
          sysctl: { 'net.inet.sctp.assoc_rtx_max': 40, 'net.inet.sctp.path_rtx_max': 40 },
        });
      net.pass(10e9); // announcements and duplicate address detection are over
      const idle = net.appliances.map(a => ({ ...a.stack.pool.inUse }));
      const { client, server, listener } = connected(net);
      const r = transfer(net, client, server, TOTAL);
      assert.equal(r.bytes, TOTAL);
      assert.equal(r.received, r.sent);
      if (faults.corrupt !== undefined) {
        const spoilt = net.appliances.reduce((a, x) => a + sum(x.stack.counters.group('port.nke0'), /corrupt/), 0);
        const dropped = net.appliances.reduce((a, x) => a + sum(x.stack.counters.group('sctp'), /checksumerrors/), 0);
        assert.ok(spoilt > 0, 'the cable has spoilt nothing');
        assert.ok(dropped > 0, 'no packet was dropped by its checksum');
      }
      for (const so of [client, server, listener]) so.close();
      net.run(() => false, { virtual: 400e9 });
      for (const [i, a] of net.appliances.entries()) {
        assert.equal([...(a.sctp()?.associations() ?? [])].length, 0);
        assert.deepEqual(
          { ...a.stack.pool.inUse },
          idle[i],
          `${name}: mbufs of host ${i + 1} are back where they were`,
        );
      }
      await net.close();
    });
  }
});
