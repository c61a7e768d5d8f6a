/** connect and createServer: what they promise on any two hosts. Run by sockets.contract.ts. */

import assert from 'node:assert/strict';
import { getEventListeners, once } from 'node:events';
import { connect, createServer, type Host, SctpError, type SctpSocket } from './index.js';
import { errorOf, finish, listening, noise, pair, settle, type Test, until } from './rig.js';

export function connecting(test: Test): void {
  test('connects, tells its state, and knows both names', async w => {
    const server = createServer(w.server);
    await listening(server, w);
    assert.equal(server.address()!.port, w.port);
    const a = connect(w.client, w.at);
    assert.equal(a.connecting, true);
    assert.equal(a.readyState, 'opening');
    const [[b]] = (await Promise.all([once(server, 'connection'), once(a, 'connect')])) as [[SctpSocket], unknown];
    assert.equal(a.connecting, false);
    assert.equal(a.readyState, 'open');
    assert.equal(a.status()!.state, 'ESTABLISHED');
    assert.equal(a.remoteAddresses()[0]!.addr.toString(), w.serverAddresses[0]);
    assert.equal(a.remoteAddresses()[0]!.port, w.port);
    assert.equal(b.localAddresses()[0]!.port, w.port);
    assert.equal(b.remoteAddresses()[0]!.port, a.localAddresses()[0]!.port);
    await finish({ server, a, b });
    assert.equal(a.readyState, 'closed');
    assert.equal(a.status(), undefined);
  });

  test('refused: the reason names its section, error comes before close', async w => {
    const a = connect(w.client, w.at);
    const order: string[] = [];
    a.on('error', () => order.push('error'));
    a.on('close', () => order.push('close'));
    const error = await errorOf(a);
    assert.equal(error.code, 'ECONNREFUSED');
    assert.equal(error.syscall, 'connect');
    assert.match(error.reason, /RFC 9260 §/);
    await until('closed', () => a.closed);
    assert.equal(w.client.sockets[0]!.errorReason, '', 'a reason is told once');
    assert.deepEqual(order, ['error', 'close']);
  });

  test('nobody answers: ETIMEDOUT after the INITs', async w => {
    const a = connect(w.client, { address: w.silentAddress, port: w.port, initAttempts: 2, initTimeout: 1000 });
    const failed = errorOf(a);
    await settle();
    assert.equal(a.connecting, true);
    for (let i = 0; i < 120; i++) await w.advance(1000);
    const error = await failed;
    assert.equal(error.code, 'ETIMEDOUT');
    assert.match(error.reason, /RFC 9260 §/);
  });

  test('a signal ends it before, during and after connecting', async w => {
    const done = AbortSignal.abort();
    const before = connect(w.client, { ...w.at, signal: done });
    assert.equal((await errorOf(before)).name, 'AbortError');

    const during = new AbortController();
    const b = connect(w.client, { address: w.silentAddress, port: w.port, signal: during.signal });
    await settle();
    const failed = errorOf(b);
    during.abort();
    assert.equal((await failed).name, 'AbortError');
    assert.equal(b.connecting, false);

    const after = new AbortController();
    const p = await pair(w, {}, { signal: after.signal });
    assert.equal(getEventListeners(after.signal, 'abort').length, 1);
    const seen = [errorOf(p.a), errorOf(p.b)];
    after.abort();
    const [mine, theirs] = await Promise.all(seen);
    assert.equal(mine!.name, 'AbortError');
    assert.equal(theirs!.code, 'ECONNRESET');
    p.server.close();
    await settle();
    for (const s of [during.signal, after.signal]) assert.equal(getEventListeners(s, 'abort').length, 0);
  });

  test('a signal has no listener left after a normal end', async w => {
    const c = new AbortController();
    const p = await pair(w, {}, { signal: c.signal });
    await finish(p);
    assert.equal(getEventListeners(c.signal, 'abort').length, 0);
  });

  test('writes and end before the association is up wait for it', async w => {
    const server = createServer(w.server);
    await listening(server, w);
    const a = connect(w.client, w.at);
    a.write('early ');
    a.end('bird');
    const [b] = (await once(server, 'connection')) as [SctpSocket];
    const text: Buffer[] = [];
    for await (const chunk of b) text.push(chunk as Buffer);
    assert.equal(Buffer.concat(text).toString(), 'early bird');
    if (!a.closed) await once(a, 'close');
    const empty = connect(w.client, w.at).end();
    const [other] = (await once(server, 'connection')) as [SctpSocket];
    await until('both closed', () => empty.closed && other.closed);
    assert.equal(empty.errored, null);
    server.close();
  });

  test('what is wrong with the call is thrown, what is wrong with the address is an event', async w => {
    assert.throws(() => connect(w.client, { address: 'example', port: 1 }), /not an Internet address: example/);
    assert.throws(() => connect(w.client, { ...w.at, port: 70_000 }), /not a port: 70000/);
    const a = connect(w.client, { ...w.at, localAddress: '198.51.100.77' });
    const error = await errorOf(a);
    assert.equal(error.code, 'EADDRNOTAVAIL');
    assert.equal(error.syscall, 'bind');
    const none: Host = { socket: () => -43 };
    assert.throws(
      () => connect(none, w.at),
      (e: SctpError) => e.code === 'EPROTONOSUPPORT' && /load its network kernel extension/.test(e.message),
    );
  });
}

export function servers(test: Test): void {
  test('an address in use is an error event; after close it is free', async w => {
    const one = createServer(w.server);
    await listening(one, w);
    const two = createServer(w.server);
    const failed = errorOf(two);
    two.listen(w.at);
    const error = await failed;
    assert.equal(error.code, 'EADDRINUSE');
    assert.equal(error.syscall, 'bind');
    assert.equal(two.listening, false);
    one.close();
    await once(one, 'close');
    await listening(two, w);
    two.close();
  });

  test('close waits for the associations, new ones are refused', async w => {
    const { server, a, b } = await pair(w);
    let closed = false;
    server.close(() => (closed = true));
    await settle();
    assert.equal(closed, false);
    assert.equal(server.connections, 1);
    assert.equal((await errorOf(connect(w.client, w.at))).code, 'ECONNREFUSED');
    a.resume();
    b.resume();
    a.end();
    await until('closed', () => closed);
    assert.equal(server.connections, 0);
    let code: string | undefined;
    server.close(e => (code = (e as NodeJS.ErrnoException).code));
    await until('told', () => code === 'ERR_SERVER_NOT_RUNNING');
  });

  test('closes by signal and by asyncDispose', async w => {
    const c = new AbortController();
    const one = createServer(w.server);
    await listening(one, w, { signal: c.signal });
    assert.equal(getEventListeners(c.signal, 'abort').length, 1);
    c.abort();
    await once(one, 'close');
    const unused = new AbortController();
    const two = createServer(w.server);
    await listening(two, w, { signal: unused.signal });
    two.close();
    assert.equal(getEventListeners(unused.signal, 'abort').length, 0);
    await once(two, 'close');
    const { server, a, b } = await pair(w);
    for (const s of [a, b]) s.on('error', () => {});
    setImmediate(() => server.closeAllConnections());
    await server[Symbol.asyncDispose]();
    await until('closed', () => a.closed && b.closed);
    await server[Symbol.asyncDispose]();
  });

  test('maxConnections aborts what is too much', async w => {
    const { server, a, b } = await pair(w, { maxConnections: 1 });
    const dropped = once(server, 'drop');
    const extra = connect(w.client, w.at);
    const error = await errorOf(extra);
    await dropped;
    assert.equal(error.code, 'ECONNRESET');
    assert.match(error.reason, /no room/);
    assert.equal(server.dropped, 1);
    await finish({ server, a, b });
  });

  test('serves many at the same time', async w => {
    const server = createServer(w.server, {}, s => s.pipe(s));
    await listening(server, w);
    const clients = Array.from({ length: 20 }, () => connect(w.client, w.at));
    const answers = clients.map(async (c, i) => {
      const sent = noise(5000 + i, i + 1);
      c.write(sent);
      const back: Buffer[] = [];
      let n = 0;
      for await (const chunk of c) {
        back.push(chunk as Buffer);
        n += (chunk as Buffer).length;
        if (n === sent.length) c.end(); // not before: there is no half-open
      }
      assert.deepEqual(Buffer.concat(back), sent);
    });
    await Promise.all(answers);
    server.close();
    await until('closed', () => clients.every(c => c.closed) && server.connections === 0);
  });
}

export function paths(test: Test): void {
  test('status and streams are as negotiated', async w => {
    const p = await pair(w, { maxInStreams: 5 }, { outStreams: 9 });
    assert.equal(p.a.status()!.outstrms, 5);
    assert.equal(p.b.status()!.instrms, 5);
    assert.ok(p.a.paths().length >= 1);
    assert.equal(p.a.paths().filter(x => x.primary).length, 1);
    p.a.setNoDelay(true).setHeartbeat(5000).setHeartbeat(false);
    await finish(p);
  });

  test('multi-homing: all addresses, setPrimary, a path that fails and recovers', async (w, t) => {
    if (w.serverAddresses.length < 2) return t.skip('one address');
    const address = w.serverAddresses.slice(0, 2);
    const server = createServer(w.server);
    await listening(server, w, { address });
    const a = connect(w.client, {
      address,
      port: w.port,
      localAddress: w.clientAddresses.slice(0, 2),
      heartbeat: 500,
      pathMaxRetrans: 1,
    });
    const [[b]] = (await Promise.all([once(server, 'connection'), once(a, 'connect')])) as [[SctpSocket], unknown];
    const names = a.remoteAddresses().map(r => r.addr.toString());
    assert.deepEqual(names.sort(), [...address].sort());
    for (let i = 0; i < 10; i++) await w.advance(1000); // paths get confirmed (RFC 9260 §5.4)
    await settle();
    const second = address.find(
      x =>
        a
          .paths()
          .find(p => p.primary)!
          .address.addr.toString() !== x,
    )!;
    a.setPrimary(second);
    assert.equal(
      a
        .paths()
        .find(p => p.primary)!
        .address.addr.toString(),
      second,
    );
    assert.throws(() => a.setPrimary('198.51.100.99'), SctpError);
    if (w.setPath !== undefined) {
      const seen: string[] = [];
      a.on('path', c => seen.push(`${c.address.addr} ${c.state}`));
      const happens = async (what: string) => {
        for (let i = 0; i < 300 && !seen.includes(what); i++) {
          await w.advance(1000);
          await settle();
        }
        assert.ok(seen.includes(what), `${what} is not among ${seen.join()}`);
      };
      w.setPath(second, false);
      await happens(`${second} unreachable`);
      w.setPath(second, true);
      await happens(`${second} available`);
    }
    await finish({ server, a, b });
  });

  test('senderDry is told to who asks', async w => {
    const { server, a, b } = await pair(w);
    b.resume();
    const dry = once(a, 'senderDry');
    a.write(noise(20_000));
    await dry;
    await finish({ server, a, b });
  });

  test('assocChange and peerShutdown are events', async w => {
    const server = createServer(w.server);
    await listening(server, w);
    const a = connect(w.client, w.at);
    const seen: string[] = [];
    a.on('assocChange', c => seen.push(c.state));
    const [b] = (await once(server, 'connection')) as [SctpSocket];
    b.on('peerShutdown', () => seen.push('shutdown'));
    await until('up', () => seen.includes('comm-up'));
    await finish({ server, a, b });
    assert.ok(seen.includes('shutdown'), seen.join());
    assert.ok(seen.includes('shutdown-comp'), seen.join());
  });
}
