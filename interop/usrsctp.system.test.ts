// Our stack and usrsctp (FreeBSD's in user space) over UDP encapsulation (RFC 6951) on loopback: the quiet peer of
// bench/usrsctp for amounts and hashes, and Debian's example programs as they come.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Appliance } from '../appliance.js';
import { skipWithoutUsrsctp } from '../bench/usrsctp/build.js';
import { freeUdpPorts, startUsrsctp } from '../bench/usrsctp/peer.js';
import { accept, closeClean, connect, echo, finish, listen, receive, send, within } from './ends.js';

const skip = skipWithoutUsrsctp();
const MiB = 1 << 20;
const PORT = 5001;

/** Our appliance on loopback and a UDP port for the peer. */
async function ends(address = '127.0.0.1'): Promise<{ ours: Appliance; near: number; far: number }> {
  const [near, far] = (await freeUdpPorts(2)) as [number, number];
  const host = address.includes(':') ? `[${address}]` : address;
  const ours = Appliance.create({ cards: [{ port: `udp:${host}:${near}` }], kexts: ['SCTP'] });
  return { ours, near, far };
}

for (const message of [100, 1400, 60_000]) {
  const bytes = message === 100 ? 8 * MiB : 64 * MiB;
  const amount = { bytes, message };

  test(`usrsctp: ${bytes / MiB} MiB in ${message}-byte messages from us to it`, { skip }, async t => {
    const { ours, far } = await ends();
    try {
      await using sink = await startUsrsctp('sink', { localUdp: far });
      const socket = await connect(ours, ['127.0.0.1'], PORT, { encaps: far });
      const sent = await send(socket, amount);
      await finish(socket);
      const received = await sink.result();
      t.diagnostic(`${(received.gbps * 1000).toFixed(0)} Mbit/s`);
      assert.deepEqual([received.bytes, received.messages], [sent.bytes, sent.messages]);
      assert.equal(received.sha256, sent.sha256);
    } finally {
      await closeClean(ours);
    }
  });

  test(`usrsctp: ${bytes / MiB} MiB in ${message}-byte messages from it to us`, { skip }, async t => {
    const { ours, near, far } = await ends();
    try {
      const listener = listen(ours, { port: PORT });
      const source = await startUsrsctp('source', { localUdp: far, remoteUdp: near, ...amount });
      await using _ = source;
      const socket = await accept(listener);
      const received = await receive(socket);
      socket.close();
      listener.close();
      const sent = await source.result();
      t.diagnostic(`${((received.bytes * 8) / received.seconds / 1e6).toFixed(0)} Mbit/s`);
      assert.deepEqual([received.bytes, received.messages], [sent.bytes, sent.messages]);
      assert.equal(received.sha256, sent.sha256);
    } finally {
      await closeClean(ours);
    }
  });
}
