import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { liveInNamespace, noNamespace } from './netns.fixture.js';
import { ipEnd, writeIp, writePayload } from './packets.fixture.js';
import { portContract } from './port.contract.js';
import { Batch, Memory } from './port.js';
import { RawPort } from './raw.js';

function why(): string | false {
  try {
    createRequire(import.meta.url).resolve('raw-socket');
  } catch {
    return 'the optional package raw-socket is not installed';
  }
  return noNamespace();
}
const skip = why();
if (!skip) liveInNamespace();

const SCTP = 132;

portContract(
  'raw, over loopback',
  () => ({
    a: ipEnd(new RawPort({ address: '127.0.0.1' }), '127.0.0.1', '127.0.0.2', SCTP),
    b: ipEnd(new RawPort({ address: '127.0.0.2' }), '127.0.0.2', '127.0.0.1', SCTP),
  }),
  { smallest: 28, longest: p => p.capabilities.mtu, refusesWithin: 0, skip },
);

test('raw: what is not SCTP over IPv4 from this address is taken, dropped and counted', { skip }, () => {
  const port = new RawPort({ address: '127.0.0.1' });
  const memory = new Memory(new ArrayBuffer(8192));
  port.open(memory);
  try {
    const tx = new Batch(4);
    tx.count = 4;
    tx.off.set([0, 1000, 2000, 3000]);
    tx.len.fill(80);
    writeIp(memory.u8, 0, 80, '127.0.0.1', '127.0.0.2', 17);
    writeIp(memory.u8, 1000, 1080, '127.0.0.9', '127.0.0.2', SCTP);
    writeIp(memory.u8, 2000, 2080, '::1', '::1', SCTP);
    writeIp(memory.u8, 3000, 3080, '127.0.0.1', '127.0.0.2', SCTP);
    writePayload(memory.u8, 3020, 3080, 1);
    assert.equal(port.transmit(tx, 0), 4);
    assert.equal(port.counters.tx_unsupported, 3);
    assert.equal(port.counters.tx_packets, 1);
    // Its own packet to somebody else comes by, as every SCTP packet of the machine does, and is passed over.
    const rx = new Batch(1);
    rx.cap[0] = 2000;
    assert.equal(port.receive(rx, 1, 0), 0);
    assert.equal(port.counters.rx_foreign, 1);
  } finally {
    port.close();
  }
});
