/** The socket's edge on the fake protocol: the contract, then what only a fake can bring about. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { FakeNetwork } from './fake.js';
import { AsyncSocket, connect, createServer, type Message, SctpError, type SctpSocket, sockaddr } from './index.js';
import { socketsContract } from './sockets.contract.js';

function network() {
  const net = new FakeNetwork();
  const client = net.host('192.0.2.1', '198.51.100.1', '2001:db8::1');
  const server = net.host('192.0.2.2', '198.51.100.2', '2001:db8::2');
  net.silent.add('203.0.113.9');
  return { net, client, server };
}

socketsContract('the fake protocol', () => {
  const { net, client, server } = network();
  return {
    client,
    server,
    clientAddresses: ['192.0.2.1', '198.51.100.1'],
    serverAddresses: ['192.0.2.2', '198.51.100.2'],
    silentAddress: '203.0.113.9',
    advance: ms => net.advance(ms),
    setPath: (address, up) => net.setPath(address, up),
    close() {
      net.close();
      assert.equal(net.pcbs, 0, 'protocol control blocks left');
      assert.equal(net.ends.size, 0, 'associations left');
    },
  };
});

describe('sockets, on the fake only', { timeout: 10_000 }, () => {
  let alive: NodeJS.Timeout | undefined;
  before(() => {
    alive = setInterval(() => {}, 1000);
  });
  after(() => clearInterval(alive));

  async function objects(sndbuf = 65536, rcvbuf = 65536) {
    const n = network();
    const server = createServer(n.server, { objectMode: true, rcvbuf, maxMessageSize: 300_000 }).listen({
      port: 7,
      address: '192.0.2.2',
    });
    const a = connect(n.client, { address: '192.0.2.2', port: 7, objectMode: true, sndbuf });
    const [[b]] = (await Promise.all([once(server, 'connection'), once(a, 'connect')])) as [
      [SctpSocket<Message>],
      unknown,
    ];
    const done = () => {
      for (const s of [a, b]) {
        s.on('error', () => {});
        s.destroy();
      }
      server.close();
      n.net.close();
    };
    return { ...n, a, b, listener: server, done };
  }

  it('puts a message together that is delivered in parts smaller than a window', async () => {
    const { a, b, done } = await objects(300_000, 10_000);
    const got: number[] = [];
    b.on('message', m => got.push(m.data.length));
    a.send(Buffer.alloc(250_000, 1));
    a.send(Buffer.alloc(250_000, 2)); // together more than maxMessageSize, but not at the same time
    a.send('tail');
    while (got.length < 3) await turn();
    assert.deepEqual(got, [250_000, 250_000, 4]);
    done();
  });

  it('refuses what is larger than the send buffer with EMSGSIZE', async () => {
    const { a, done } = await objects(10_000);
    a.send(Buffer.alloc(10_001));
    const [error] = (await once(a, 'error')) as [SctpError];
    assert.equal(error.code, 'EMSGSIZE');
    assert.equal(error.syscall, 'send');
    done();
  });

  it('an option that the stack refuses is thrown, and the socket is not left open', () => {
    const { net, client } = network();
    assert.throws(
      () => connect(client, { address: '192.0.2.2', port: 7, sndbuf: -1 }),
      (e: SctpError) => e.code === 'EINVAL' && e.syscall === 'setsockopt(SO_SNDBUF)',
    );
    assert.equal(net.pcbs, 0);
    net.close();
  });

  it('byte mode fills the send buffer to the brim', async () => {
    const n = network();
    const server = createServer(n.server, { rcvbuf: 10_000, highWaterMark: 1024 }).listen({ port: 7 });
    const a = connect(n.client, { address: '192.0.2.2', port: 7, sndbuf: 100_000 });
    const [b] = (await once(server, 'connection')) as [SctpSocket];
    a.write(Buffer.alloc(300_000));
    for (let i = 0; i < 20; i++) await turn();
    assert.ok(a.bytesWritten > 99_000, `${a.bytesWritten} bytes`);
    b.resume();
    a.end();
    await once(b, 'close');
    assert.equal(b.bytesRead, 300_000);
    server.close();
    n.net.close();
  });

  it('tells of a restart', async () => {
    const { server, a, done } = await objects();
    const changes: string[] = [];
    a.on('assocChange', c => changes.push(c.state));
    server.restart();
    const [change] = await once(a, 'restart');
    assert.equal(change.reason.section, 'RFC 9260 §5.2.4.1');
    assert.equal(changes.at(-1), 'restart');
    done();
  });

  it('makes one upcall and reads many messages: no promise and no turn per message', async () => {
    const { net, a, b, done } = await objects();
    let got = 0;
    b.on('message', () => got++);
    for (let i = 0; i < 16; i++) a.send('x'.repeat(100));
    const upcalls = net.upcalls;
    while (got < 16) await turn();
    assert.ok(net.upcalls - upcalls <= 4, `${net.upcalls - upcalls} upcalls`);
    done();
  });

  it('gathers many messages into few chunks in byte mode', async () => {
    const n = network();
    const server = createServer(n.server).listen({ port: 7 });
    const a = connect(n.client, { address: '192.0.2.2', port: 7 });
    const [b] = (await once(server, 'connection')) as [SctpSocket];
    let chunks = 0;
    b.on('data', () => chunks++);
    a.cork();
    for (let i = 0; i < 100; i++) a.write(Buffer.alloc(100, i));
    a.uncork();
    a.end();
    await once(b, 'close');
    assert.equal(b.bytesRead, 10_000);
    assert.ok(chunks <= 3, `${chunks} chunks`);
    server.close();
    n.net.close();
  });

  it('falls back to a sentence of its own when the protocol gave no reason', () => {
    const error = new SctpError(-54, 'recv');
    assert.equal(error.code, 'ECONNRESET');
    assert.equal(error.errno, 54);
    assert.match(error.message, /^recv ECONNRESET: the peer aborted/);
    assert.equal(new SctpError(-999, 'x').code, 'errno 999');
  });

  it('uses IPv6 when an address says so', async () => {
    const n = network();
    const server = createServer(n.server).listen({ address: '2001:db8::2', port: 7 });
    const a = connect(n.client, { address: '2001:db8::2', port: 7, encapsPort: 9899, localPort: 4000 });
    const [b] = (await once(server, 'connection')) as [SctpSocket];
    assert.equal(b.remoteAddresses()[0]!.port, 4000);
    b.resume();
    a.end();
    await once(a, 'close');
    server.close();
    n.net.close();
  });

  it('a late upcall does not wake a drained() that has nothing to wait for', async () => {
    const n = network();
    const l = AsyncSocket.create(n.server);
    l.bind(sockaddr('192.0.2.2', 7));
    l.listen();
    const a = AsyncSocket.create(n.client);
    const [b] = await Promise.all([l.accept(), a.connect([sockaddr('192.0.2.2', 7)])]);
    await a.drained(); // nothing was refused
    while (a.trySend(new Uint8Array(1000)));
    let woke = false;
    const waits = a.drained().then(() => {
      woke = true;
    });
    await Promise.resolve();
    assert.equal(woke, false);
    assert.equal((await b.recv())!.data.length, 1000);
    await waits;
    assert.equal(a.trySend(new Uint8Array(1000)), true);
    for (const s of [a, b, l]) s.abort();
    n.net.close();
  });
});
