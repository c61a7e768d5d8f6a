import assert from 'node:assert/strict';
import { after, before, describe, mock, test } from 'node:test';
import { FakeNetwork } from '../sockets/fake.js';
import { sockaddrs } from '../sockets/message.js';
import { AsyncSocket } from '../sockets/promises.js';
import { Socket } from '../stack/kern/socket.js';
import { type ClientOptions, type Mode, SERVICE_PORT, TrafficClient, TrafficServer } from './traffic.js';

const client = (mode: Mode, change: Partial<ClientOptions> = {}): ClientOptions => ({
  mode,
  to: sockaddrs('192.0.2.2', SERVICE_PORT[mode]),
  from: [],
  encapsPort: 0,
  count: 500,
  seconds: undefined,
  sizes: [1400],
  streams: 1,
  unordered: false,
  stallSeconds: 5,
  ...change,
});

/** A server of a mode on one fake host, and `body` with the other host. */
async function serving(
  mode: Mode,
  body: (host: ReturnType<FakeNetwork['host']>, server: TrafficServer) => Promise<void>,
): Promise<void> {
  const net = new FakeNetwork({ sndbuf: 20_000, rcvbuf: 20_000 });
  const host = net.host('192.0.2.1');
  const server = new TrafficServer(net.host('192.0.2.2'), {
    mode,
    port: SERVICE_PORT[mode],
    addresses: sockaddrs('192.0.2.2', SERVICE_PORT[mode]),
    family: 4,
    size: 999,
  });
  const stop = new AbortController();
  const run = server.run(stop.signal);
  try {
    await body(host, server);
  } finally {
    stop.abort();
    await run;
    net.step();
    net.close();
  }
  assert.equal(net.pcbs, 0);
}

describe('traffic', { timeout: 10_000 }, () => {
  let alive: NodeJS.Timeout | undefined;
  before(() => {
    alive = setInterval(() => {}, 1000);
    // send() has copied when it returns; the fake's slice() of a Buffer is a view, so it is handed copies.
    const { send } = Socket.prototype;
    mock.method(
      Socket.prototype,
      'send',
      function (this: Socket, ...[data, off = 0, len = data.length - off, ...rest]: Parameters<typeof send>) {
        return send.call(this, Uint8Array.from(data.subarray(off, off + len)), 0, len, ...rest);
      },
    );
  });
  after(() => {
    clearInterval(alive);
    mock.restoreAll();
  });

  test('echo: everything comes back, hash and order checked', async () => {
    await serving('echo', async (host, server) => {
      const r = await new TrafficClient(host, client('echo', { sizes: [1, 64, 1400, 9000] })).run();
      assert.equal(r.error, undefined);
      assert.deepEqual(r.sent, { messages: 500, bytes: 125 * (1 + 64 + 1400 + 9000) });
      assert.deepEqual(r.received, r.sent);
      assert.equal(r.sentHash, r.receivedHash);
      assert.equal(server.tally.received.bytes, r.sent.bytes);
    });
  });

  test('echo over several streams, and unordered', async () => {
    await serving('echo', async host => {
      for (const unordered of [false, true]) {
        const r = await new TrafficClient(host, client('echo', { streams: 4, unordered, count: 100 })).run();
        assert.equal(r.error, undefined);
        assert.equal(r.received.messages, 100);
      }
    });
  });

  test('discard: everything is acknowledged before the end', async () => {
    await serving('discard', async (host, server) => {
      const r = await new TrafficClient(host, client('discard')).run();
      assert.equal(r.error, undefined);
      assert.deepEqual(server.tally.received, r.sent);
      assert.equal(r.received.messages, 0);
    });
  });

  test('chargen: the characters are checked, the server is told when it is enough', async () => {
    await serving('chargen', async (host, server) => {
      const r = await new TrafficClient(host, client('chargen', { count: 300 })).run();
      assert.equal(r.error, undefined);
      assert.ok(r.received.messages >= 300);
      assert.equal(server.tally.failed, 0);
    });
  });

  test('a server that changes what it echoes is found out', async () => {
    const net = new FakeNetwork();
    const liar = AsyncSocket.create(net.host('192.0.2.2'));
    liar.bind(...sockaddrs('192.0.2.2', 7));
    liar.listen();
    const lying = (async () => {
      const s = await liar.accept();
      let n = 0;
      for await (const m of s) {
        if (++n === 7) m.data[100]! ^= 1;
        await s.send(m.data);
      }
      s.close();
    })();
    const r = await new TrafficClient(net.host('192.0.2.1'), client('echo', { count: 20 })).run();
    assert.equal(r.ok, false);
    assert.equal(r.errors, 1);
    assert.match(r.error!, /message 6 of stream 0 \(1400 bytes\) came back changed/);
    assert.notEqual(r.sentHash, r.receivedHash);
    await lying;
    liar.close();
    net.close();
  });

  test('nobody listens: the reason is told', async () => {
    const net = new FakeNetwork();
    net.host('192.0.2.2');
    const r = await new TrafficClient(net.host('192.0.2.1'), client('echo')).run();
    assert.equal(r.ok, false);
    assert.match(r.error!, /^connect ECONNREFUSED: .*§8\.4/);
    net.close();
  });

  test('a server that stops reading is given up on', async () => {
    const net = new FakeNetwork();
    const deaf = AsyncSocket.create(net.host('192.0.2.2'));
    deaf.bind(...sockaddrs('192.0.2.2', 7));
    deaf.listen();
    const accepted = deaf.accept();
    const r = await new TrafficClient(net.host('192.0.2.1'), client('echo', { stallSeconds: 0.3 })).run();
    assert.match(r.error!, /nothing has moved for 0\.3 s/);
    (await accepted).close();
    deaf.close();
    net.close();
  });
});
