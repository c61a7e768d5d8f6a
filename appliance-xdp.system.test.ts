/** Appliances on xdp: cards, on the two ends of a veth pair in a network namespace: what they make of their packet memory. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { Appliance, type CardConfig } from './appliance.js';
import { Place, skipWithoutPlace } from './interop/place.js';
import { PortError } from './nic/ports/port.js';
import { XdpPort } from './nic/ports/xdp.js';
import { EAGAIN } from './stack/kern/errno.js';
import { AF_INET, SOCK_STREAM } from './stack/kern/protosw.js';
import { RecvInfo, type SendInfo, Socket } from './stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP } from './stack/netinet/in.js';

/** Why AF_XDP cannot be had here, or false. */
function skipWithoutXdp(): string | false {
  const why = skipWithoutPlace();
  if (why) return why;
  try {
    new XdpPort({ interface: 'nothere' });
    return false;
  } catch (e) {
    if (e instanceof PortError) return e.message;
    throw e;
  }
}
const skip = skipWithoutXdp();

const appliance = (port: string, host: number, more: Partial<CardConfig> = {}) =>
  Appliance.create({ cards: [{ port, addresses: [`10.82.0.${host}/24`], ...more }], kexts: ['SCTP'] });

function socket(a: Appliance): Socket {
  const so = a.socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
  assert.ok(so instanceof Socket);
  return so;
}

/** Calls `done` with every upcall of the socket until it says true; rejects after ten seconds. */
function upcalls(so: Socket, done: () => boolean, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what}: not within ten seconds`)), 10_000);
    so.upcall = () => {
      if (!done()) return;
      so.upcall = undefined;
      clearTimeout(timer);
      resolve();
    };
    so.upcall(so);
  });
}

const info: SendInfo = { sid: 0, flags: 0, ppid: 0, context: 0, assocId: 0, prPolicy: 0, prValue: 0 };
const MESSAGE = 1400;
const MESSAGES = 4000;

/** Sends messages over an association from a to b, as fast as they go; the hashes of both ends. */
async function transfer(a: Appliance, b: Appliance): Promise<{ sent: string; received: string }> {
  const listener = socket(b);
  assert.equal(listener.bind({ addr: InAddr.of('0.0.0.0'), port: 7 }), 0);
  assert.equal(listener.listen(1), 0);
  const out = socket(a);
  let inn: Socket | undefined;
  const accepted = upcalls(
    listener,
    () => {
      const so = listener.accept();
      if (so instanceof Socket) inn = so;
      return inn !== undefined;
    },
    'accept',
  );
  out.connect({ addr: InAddr.of('10.82.0.2'), port: 7 });
  await upcalls(out, () => out.writable, 'connect');
  await accepted;
  const hashes = [createHash('sha256'), createHash('sha256')] as const;
  const message = new Uint8Array(MESSAGE);
  const buf = new Uint8Array(1 << 16);
  const got = new RecvInfo();
  let n = 0;
  let bytes = 0;
  const sending = upcalls(
    out,
    () => {
      for (; n < MESSAGES; n++) {
        message.fill(n).set([n >> 8, n & 255]);
        const r = out.send(message, 0, MESSAGE, info);
        if (r === -EAGAIN) return false;
        assert.equal(r, MESSAGE);
        hashes[0].update(message);
      }
      return true;
    },
    'send',
  );
  await upcalls(
    inn!,
    () => {
      for (let r = inn!.recv(buf, 0, buf.length, got); r > 0; r = inn!.recv(buf, 0, buf.length, got)) {
        hashes[1].update(buf.subarray(0, r));
        bytes += r;
      }
      return bytes >= MESSAGES * MESSAGE;
    },
    'receive',
  );
  await sending;
  for (const so of [out, inn!, listener]) so.close();
  return { sent: hashes[0].digest('hex'), received: hashes[1].digest('hex') };
}

test('xdp: the packet memory is the region of the mbufs; bulk goes in trains, and single packets without a copy', {
  skip,
}, async () => {
  using place = new Place();
  place.netns.addVeth('xa', 'xb');
  const a = appliance('xdp:xa', 1);
  const b = appliance('xdp:xb', 2, { capture: '/dev/null' }); // a decorator hands its part of the region on
  try {
    for (const x of [a, b])
      assert.match(
        x.cards[0]!.port.describe!(),
        /packet memory is the card's region, packets are sent from where they lie/,
      );
    const { sent, received } = await transfer(a, b);
    assert.equal(received, sent);
    const [from, to] = [a.counters(), b.counters()];
    assert.equal(from['port.nke0']!.tx_copied, 0);
    assert.equal(to['port.nke0']!.tx_copied, 0);
    assert.equal(from['card.nke0']!.tx_trains_cut, 0, 'the port cuts');
    assert.ok(to['card.nke0']!.rx_trains! > 0);
    assert.equal(to['card.nke0']!.rx_csum_sctp_bad, 0);
    assert.equal(from['port.nke0']!.xdp_tx_invalid_descs, 0);
  } finally {
    await Promise.all([a.close(), b.close()]);
  }
});

test('xdp: behind faults, which hold packets in a store of their own, the packet memory is the port’s', {
  skip,
}, async () => {
  using place = new Place();
  place.netns.addVeth('xa', 'xb');
  const a = appliance('xdp:xa', 1, { faults: { loss: 0 } });
  const b = appliance('xdp:xb', 2);
  try {
    assert.match(a.cards[0]!.port.describe!(), /packet memory of its own;/);
    const { sent, received } = await transfer(a, b);
    assert.equal(received, sent);
    assert.ok(a.counters()['port.nke0']!.tx_copied! > MESSAGES / 2);
  } finally {
    await Promise.all([a.close(), b.close()]);
  }
});
