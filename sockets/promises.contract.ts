/** AsyncSocket and SctpEndpoint: what they promise on any two hosts. Run by sockets.contract.ts. */

import assert from 'node:assert/strict';
import { getEventListeners, once } from 'node:events';
import { SHUT_WR } from '../stack/kern/socket.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import { SCTP_STATUS } from '../stack/sctp/api.js';
import { AsyncSocket, createEndpoint, type Message, SctpError, sockaddr, sockaddrs } from './index.js';
import { asyncPair, failure, noise, settle, type Test, until, type World } from './rig.js';

export function promises(test: Test): void {
  test('accepts, connects, sends and receives', async w => {
    const { listener, a, b } = await asyncPair(w);
    assert.equal(a.peer().port, w.port);
    assert.equal(b.address().port, w.port);
    await a.send(Buffer.from('hello'), { stream: 1, ppid: 9, ordered: false });
    const m = (await b.recv())!;
    assert.equal(m.data.toString(), 'hello');
    assert.deepEqual([m.stream, m.ppid, m.ordered], [1, 9, false]);
    const buffer = new Uint8Array(100);
    await b.send(Buffer.from('back'));
    const n = await a.recvInto(buffer);
    assert.equal(Buffer.from(buffer.subarray(0, n)).toString(), 'back');
    assert.equal(typeof a.getsockopt(IPPROTO_SCTP, SCTP_STATUS, 0), 'object');
    a.shutdown(SHUT_WR);
    assert.equal(await b.recv(), undefined);
    assert.equal(await a.recv(), undefined);
    for (const s of [a, b, listener]) s.close();
  });

  test('for await gives every message in order and ends with the peer', async w => {
    const { listener, a, b } = await asyncPair(w);
    const sending = (async () => {
      for (let i = 0; i < 500; i++) await a.send(Buffer.from(`message ${i}`));
      a.shutdown();
    })();
    let i = 0;
    for await (const m of b) assert.equal(m.data.toString(), `message ${i++}`);
    assert.equal(i, 500);
    await sending;
    assert.equal(await a.recv(), undefined);
    for (const s of [a, b, listener]) s.close();
  });

  test('bulk: sendMany, trySend and drained against tryRecvInto and readable', async w => {
    const { listener, a, b } = await asyncPair(w);
    const data = noise(1000);
    const many = function* () {
      for (let i = 0; i < 2000; i++) yield data;
    };
    const sending = a.sendMany(many()).then(async n => {
      assert.equal(n, 2000);
      let waited = 0;
      for (let i = 0; i < 500; i++) {
        while (!a.trySend(data)) {
          waited++;
          await a.drained();
        }
      }
      assert.ok(waited < 5000, `${waited} waits`);
      a.shutdown();
    });
    const buffer = new Uint8Array(4096);
    let bytes = 0;
    for (;;) {
      const n = b.tryRecvInto(buffer);
      if (n === 0) break;
      if (n < 0) await b.readable();
      else bytes += n;
    }
    await sending;
    assert.equal(bytes, 2_500_000);
    for (const s of [a, b, listener]) s.close();
  });

  test('sends that wait keep their order, and trySend does not overtake', async w => {
    const { listener, a, b } = await asyncPair(w);
    while (a.trySend(noise(1000))) if (a.waiting > 0) break;
    await settle();
    while (a.trySend(noise(1000)));
    const sends = ['x', 'y', 'z'].map(s => a.send(Buffer.from(s.repeat(1000))));
    assert.equal(a.waiting, 3);
    assert.equal(a.trySend(Buffer.from('now')), false);
    const tail: string[] = [];
    for await (const m of b) {
      const c = String.fromCharCode(m.data[0]!);
      if (m.data.length === 1000 && m.data.every(x => x === m.data[0])) tail.push(c);
      if (c === 'z' && tail.length === 3) break;
    }
    assert.deepEqual(tail, ['x', 'y', 'z']);
    await Promise.all(sends);
    for (const s of [a, b, listener]) s.close();
  });

  test('incoming gives every association; await using closes', async w => {
    const listener = AsyncSocket.create(w.server);
    listener.bind(sockaddr(w.serverAddresses[0]!, w.port));
    listener.listen();
    const clients = [1, 2, 3].map(() => AsyncSocket.create(w.client));
    for (const c of clients) await c.connect(sockaddr(w.serverAddresses[0]!, w.port));
    const got: AsyncSocket[] = [];
    for await (const s of listener.incoming()) if (got.push(s) === 3) break;
    for (const s of [...clients, ...got, listener]) await s[Symbol.asyncDispose]();
    assert.equal(listener.closed, true);
  });

  test('a socket has one owner', async w => {
    const a = AsyncSocket.create(w.client);
    assert.throws(() => new AsyncSocket(a.so), /has an owner/);
    a.close();
    assert.equal(a.closed, true);
  });

  test('notifications come in band when asked for', async w => {
    const { listener, a, b } = await asyncPair(w);
    b.subscribe('shutdown');
    a.shutdown();
    const m = (await b.recv())!;
    assert.equal(m.notification?.type, 'shutdown');
    assert.equal(await b.recv(), undefined);
    for (const s of [a, b, listener]) s.close();
  });
}

export function waiting(test: Test): void {
  test('refused, timed out', async w => {
    const a = AsyncSocket.create(w.client);
    const refused = await failure(a.connect(sockaddr(w.serverAddresses[0]!, w.port)));
    assert.equal(refused.code, 'ECONNREFUSED');
    assert.match(refused.reason, /RFC 9260 §/);
    a.close();
    const b = AsyncSocket.create(w.client);
    const late = failure(b.connect(sockaddr(w.silentAddress, w.port)));
    for (let i = 0; i < 60; i++) await w.advance(10_000);
    assert.equal((await late).code, 'ETIMEDOUT');
    b.close();
  });

  test('a signal ends every kind of waiting and loses nothing', async w => {
    const { listener, a, b } = await asyncPair(w);
    const waits: [string, AsyncSocket, (signal: AbortSignal) => Promise<unknown>][] = [
      ['accept', listener, signal => listener.accept({ signal })],
      ['recv', b, signal => b.recv({ signal })],
      ['recvInto', b, signal => b.recvInto(new Uint8Array(10), { signal })],
      ['readable', b, signal => b.readable({ signal })],
    ];
    for (const [what, socket, start] of waits) {
      const c = new AbortController();
      const p = start(c.signal);
      assert.equal(getEventListeners(c.signal, 'abort').length, 1, what);
      assert.equal(socket.waiting, 1, what);
      c.abort(new Error(what));
      await assert.rejects(p, { message: what });
      assert.equal(getEventListeners(c.signal, 'abort').length, 0, what);
      assert.equal(socket.waiting, 0, what);
      await assert.rejects(start(c.signal), { message: what });
    }
    const idle = new AbortController();
    await a.send(Buffer.from('x'), undefined, { signal: idle.signal });
    assert.equal((await b.recv({ signal: idle.signal }))!.data.toString(), 'x');
    assert.equal(getEventListeners(idle.signal, 'abort').length, 0);

    do await settle();
    while (a.trySend(noise(1000)));
    const c = new AbortController();
    const sends = [a.send(noise(1000), undefined, { signal: c.signal }), a.drained({ signal: c.signal })];
    c.abort();
    for (const r of await Promise.allSettled(sends)) assert.equal(r.status, 'rejected');
    assert.equal(a.waiting, 0);
    for (const s of [a, b, listener]) s.abort();
  });

  test('a cancelled connect closes its socket', async w => {
    const a = AsyncSocket.create(w.client);
    const c = new AbortController();
    const p = a.connect(sockaddrs([w.silentAddress], w.port), { signal: c.signal });
    c.abort();
    await assert.rejects(p, { name: 'AbortError' });
    assert.equal(a.closed, true);
  });

  test('close rejects who waits', async w => {
    const { listener, a, b } = await asyncPair(w);
    const all = [failure(listener.accept()), failure(a.recv()), failure(a.readable())];
    listener.close();
    a.close();
    for (const p of all) assert.equal((await p).code, 'ECONNABORTED');
    assert.equal((await failure(a.recv())).code, 'EINVAL');
    assert.equal(await b.recv(), undefined);
    b.close();
  });

  test('an abort reaches everyone who waits, with its reason', async w => {
    const { listener, a, b } = await asyncPair(w);
    while (b.trySend(noise(1000)));
    const all = [failure(b.recv()), failure(b.recv()), failure(b.send(noise(1000)))];
    a.abort('gone fishing');
    for (const p of all) {
      const e = await p;
      assert.equal(e.code, 'ECONNRESET');
      assert.match(e.reason, /gone fishing/);
    }
    assert.equal(b.waiting, 0);
    b.close();
    listener.close();
  });

  test('waiting is bounded', async w => {
    const listener = AsyncSocket.create(w.server, { maxWaiting: 2 });
    listener.bind(sockaddr(w.serverAddresses[0]!, w.port));
    listener.listen();
    const two = [failure(listener.accept()), failure(listener.accept())];
    assert.equal((await failure(listener.accept())).code, 'ENOBUFS');
    listener.close();
    await Promise.all(two);
  });
}

export function endpoints(test: Test): void {
  const at = (w: World) => sockaddr(w.serverAddresses[0]!, w.port);

  test('sending sets an association up; both know it by its id', async w => {
    const s = createEndpoint(w.server, w.at);
    const c = createEndpoint(w.client, { address: w.clientAddresses[0]! });
    const events: string[] = [];
    c.on('assocChange', e => events.push(e.state));
    s.on('message', m => assert.equal(s.send(m.assocId, `${m.data} back`, { ppid: m.ppid }), true));
    assert.equal(c.send(at(w), 'there', { ppid: 5, stream: 1 }), true);
    const [m] = (await once(c, 'message')) as [Message];
    assert.equal(m.data.toString(), 'there back');
    assert.equal(m.ppid, 5);
    assert.equal(m.from!.port, w.port);
    assert.deepEqual(c.associations(), [m.assocId]);
    assert.equal(c.status(m.assocId)!.state, 'ESTABLISHED');
    assert.equal(c.remoteAddresses(m.assocId)[0]!.port, w.port);
    assert.equal(c.paths(m.assocId).length, 1);
    assert.ok(events.includes('comm-up'));
    c.shutdown(m.assocId);
    await until('it is over', () => events.includes('shutdown-comp'));
    assert.deepEqual(c.associations(), []);
    for (const e of [c, s]) {
      e.close();
      await once(e, 'close');
    }
  });

  test('a full buffer says false, then drain', async w => {
    const s = createEndpoint(w.server, { ...w.at, rcvbuf: 32_768 });
    const c = createEndpoint(w.client, { address: w.clientAddresses[0]!, sndbuf: 32_768 });
    s.pause();
    const data = noise(1000);
    let sent = 0;
    for (let more = true; more && sent < 10_000; ) {
      while ((more = c.send(at(w), data))) sent++;
      const before = sent;
      await settle();
      while ((more = c.send(at(w), data))) sent++;
      more = sent > before;
    }
    assert.ok(sent < 200, `${sent} messages went somewhere`);
    const drain = once(c, 'drain');
    let got = 0;
    s.on('message', () => got++);
    s.resume();
    await drain;
    await until('all arrived', () => got === sent);
    c.close();
    s.close();
  });

  test('refused and aborted associations are notifications, not the end of the endpoint', async w => {
    const c = createEndpoint(w.client, { address: w.clientAddresses[0]! });
    const seen: { state: string; reason: { section: string } }[] = [];
    c.on('assocChange', e => seen.push(e));
    const failed = once(c, 'sendFailed');
    c.send(at(w), 'nobody home');
    await failed;
    await until('told', () => seen.some(e => e.state === 'cant-start'));
    assert.match(seen[0]!.reason.section, /RFC 9260 §/);

    const s = createEndpoint(w.server, w.at);
    c.send(at(w), 'again');
    const [m] = (await once(s, 'message')) as [Message];
    s.abort(m.assocId, 'enough');
    await until('lost', () => seen.some(e => e.state === 'comm-lost'));
    assert.equal(c.closed, false);
    assert.throws(
      () => c.send(m.assocId + 1000, 'x'),
      (e: SctpError) => e instanceof SctpError,
    );
    c.close();
    s.close();
  });

  test('closes by signal; set-up errors are thrown and leave nothing open', async w => {
    const control = new AbortController();
    const s = createEndpoint(w.server, { ...w.at, signal: control.signal });
    assert.equal(s.address().port, w.port);
    assert.throws(
      () => createEndpoint(w.server, w.at),
      (e: SctpError) => e.code === 'EADDRINUSE',
    );
    const unused = new AbortController();
    const other = createEndpoint(w.client, { address: w.clientAddresses[0]!, signal: unused.signal });
    other.close();
    assert.equal(getEventListeners(unused.signal, 'abort').length, 0);
    control.abort();
    await once(s, 'close');
    assert.equal(getEventListeners(control.signal, 'abort').length, 0);
  });
}
