/** SctpSocket as a stream: what it promises on any two hosts. Run by sockets.contract.ts. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Message, SctpError } from './index.js';
import { errorOf, finish, hasher, noise, objectPair, pair, settle, sha, type Test, until } from './rig.js';

export function bytes(test: Test): void {
  test('carries bytes both ways and counts them', async w => {
    const p = await pair(w);
    p.b.pipe(p.b);
    const sent = noise(10_000);
    const back: Buffer[] = [];
    let n = 0;
    p.a.on('data', c => {
      back.push(c);
      n += c.length;
    });
    p.a.write(sent);
    await until('all is back', () => n >= sent.length);
    assert.deepEqual(Buffer.concat(back), sent);
    assert.equal(p.a.bytesWritten, 10_000);
    assert.equal(p.a.bytesRead, 10_000);
    await finish(p);
  });

  test('4 MiB through pipeline() arrive whole, then both sides close', async w => {
    const { server, a, b } = await pair(w);
    const whole = noise(4 << 20);
    const parts = function* () {
      for (let i = 0; i < whole.length; i += 100_000) yield whole.subarray(i, i + 100_000);
    };
    const sink = hasher();
    await Promise.all([pipeline(Readable.from(parts()), a), pipeline(b, sink)]);
    assert.equal(sink.bytes, whole.length);
    assert.equal(sink.digest(), sha(whole));
    await until('both closed', () => a.closed && b.closed);
    server.close();
  });

  test('a reader that stops stops the writer; nothing is lost', async w => {
    const { server, a, b } = await pair(
      w,
      { highWaterMark: 4096, rcvbuf: 32_768 },
      { highWaterMark: 4096, sndbuf: 32_768 },
    );
    const chunk = noise(8192);
    let written = 0;
    let more = true;
    for (let i = 0; i < 1000 && more; i++) {
      more = a.write(chunk);
      written++;
      await settle();
    }
    assert.equal(more, false);
    assert.ok(written * chunk.length < 300_000, `${written * chunk.length} bytes went somewhere`);
    assert.ok(b.readableLength <= 4096 + 8192);
    const drained = once(a, 'drain');
    let got = 0;
    b.on('data', c => (got += c.length));
    await drained;
    await until('all is read', () => got === written * chunk.length);
    await finish({ server, a, b });
  });

  test('a write larger than the send buffer goes out in pieces', async w => {
    const { server, a, b } = await pair(w, {}, { sndbuf: 16_384 });
    const whole = noise(200_000);
    const sink = hasher();
    a.end(whole);
    await pipeline(b, sink);
    assert.equal(sink.digest(), sha(whole));
    await until('closed', () => a.closed && b.closed);
    server.close();
  });

  test('setEncoding and strings work as with any stream', async w => {
    const { server, a, b } = await pair(w);
    b.setEncoding('utf8');
    let text = '';
    b.on('data', s => (text += s));
    a.end('zwölf Boxkämpfer', 'utf8');
    await once(b, 'end');
    assert.equal(text, 'zwölf Boxkämpfer');
    await until('closed', () => a.closed && b.closed);
    server.close();
  });

  test('setTimeout tells of idleness and is forgotten at the end', async w => {
    const p = await pair(w);
    await new Promise<void>(resolve => p.a.setTimeout(5, resolve));
    assert.equal(p.a.timeout, 5);
    assert.equal(p.a.destroyed, false);
    await finish(p);
  });

  test("message events and send() are object mode's", async w => {
    const p = await pair(w);
    assert.throws(() => p.a.on('message', () => {}), /needs object mode/);
    assert.throws(() => p.a.send('x'), /needs object mode/);
    await finish(p);
  });
}

export function messages(test: Test): void {
  test('one write is one message, with stream, ppid and order', async w => {
    const { server, a, b } = await objectPair(w, { maxInStreams: 8 }, { outStreams: 8 });
    const got: Message[] = [];
    b.on('message', m => got.push(m));
    a.write({ data: Buffer.from('one'), stream: 3, ppid: 0x01020304 });
    a.send('two', { stream: 3 });
    a.write(Buffer.from('three'));
    a.write('four');
    a.send('five', { stream: 1, ordered: false, ppid: 0xfffffffe });
    await until('five messages', () => got.length === 5);
    const by = new Map(got.map(m => [m.data.toString(), m]));
    assert.deepEqual([...by.keys()].sort(), ['five', 'four', 'one', 'three', 'two']);
    assert.equal(by.get('one')!.stream, 3);
    assert.equal(by.get('one')!.ppid, 0x01020304);
    assert.equal(by.get('one')!.ordered, true);
    assert.equal(by.get('two')!.ssn, (by.get('one')!.ssn + 1) & 0xffff);
    assert.equal(by.get('three')!.stream, 0);
    assert.equal(by.get('five')!.ordered, false);
    assert.equal(by.get('five')!.ppid, 0xfffffffe);
    assert.ok(((by.get('two')!.tsn - by.get('one')!.tsn) | 0) > 0); // other streams may come in between
    await finish({ server, a, b } as never);
  });

  test('the defaults for ppid and stream hold for what says nothing', async w => {
    const { server, a, b } = await objectPair(w, {}, { ppid: 46, stream: 2 });
    const got: Message[] = [];
    b.on('message', m => got.push(m));
    a.write('x');
    a.send('y', { stream: 1 });
    await until('two messages', () => got.length === 2);
    assert.deepEqual(
      got.map(m => [m.data.toString(), m.stream, m.ppid]),
      [
        ['x', 2, 46],
        ['y', 1, 46],
      ],
    );
    await finish({ server, a, b } as never);
  });

  test('a large message comes back whole', async w => {
    const { server, a, b } = await objectPair(w, { sndbuf: 400_000 }, { sndbuf: 400_000 });
    const whole = noise(300_000);
    a.send(whole, { ppid: 7 });
    const [m] = (await once(b, 'data')) as [Message];
    assert.equal(m.ppid, 7);
    assert.equal(m.data.length, whole.length);
    assert.equal(sha(m.data), sha(whole));
    await finish({ server, a, b } as never);
  });

  test('backpressure counts messages', async w => {
    const { server, a, b } = await objectPair(
      w,
      { highWaterMark: 4, rcvbuf: 32_768 },
      { highWaterMark: 4, sndbuf: 32_768 },
    );
    const data = noise(1000);
    let n = 0;
    while (n < 10_000 && a.send(data, { ppid: n })) {
      n++;
      await settle();
    }
    assert.ok(n < 200, `${n} messages went somewhere`);
    assert.ok(b.readableLength <= 4);
    const sent = n + 1;
    const drained = once(a, 'drain');
    const got: number[] = [];
    b.on('message', m => got.push(m.ppid));
    await drained;
    await until('all is read', () => got.length === sent);
    assert.deepEqual(
      got,
      Array.from({ length: sent }, (_, i) => i),
    );
    await finish({ server, a, b } as never);
  });

  test('an empty message and a bad stream number fail the write, with a reason', async w => {
    for (const bad of [{ data: '' }, { data: 'x', stream: 60_000 }, { data: 5 as never }]) {
      const { server, a, b } = await objectPair(w);
      b.on('error', () => {});
      const failed = once(a, 'error');
      a.write(bad);
      const [error] = (await failed) as [SctpError];
      if (bad.data === '') assert.match(error.message, /at least one byte/);
      else if (typeof bad.data === 'number') assert.ok(error instanceof TypeError);
      else assert.equal(error.code, 'EINVAL');
      await until('both are gone', () => a.closed && b.closed);
      server.close();
      await settle();
    }
  });

  test('a message above maxMessageSize ends the association', async w => {
    const { server, a, b } = await objectPair(w, { maxMessageSize: 100_000, sndbuf: 400_000 }, { sndbuf: 400_000 });
    a.on('error', () => {});
    a.send(noise(200_000));
    const error = await errorOf(b);
    assert.equal(error.code, 'EMSGSIZE');
    assert.match(error.reason, /maxMessageSize/);
    await until('both are gone', () => a.closed && b.closed);
    server.close();
  });
}

export function ending(test: Test): void {
  test("'end' comes after all data, then both sides close", async w => {
    const { server, a, b } = await pair(w);
    const order: string[] = [];
    let got = 0;
    a.on('finish', () => order.push('a finish'));
    a.on('close', () => order.push('a close'));
    a.end(noise(50_000));
    await settle();
    b.on('data', c => (got += c.length));
    b.on('end', () => order.push(`b end ${got}`));
    b.on('close', () => order.push('b close'));
    await until('closed', () => a.closed && b.closed);
    assert.ok(order.includes('b end 50000'), order.join());
    assert.ok(order.indexOf('b end 50000') < order.indexOf('b close'));
    assert.ok(order.indexOf('a finish') < order.indexOf('a close'));
    server.close();
  });

  test('a side that only writes closes too', async w => {
    const { server, a, b } = await pair(w);
    b.resume();
    a.end('x');
    await until('closed', () => a.closed && b.closed);
    assert.equal(a.errored, null);
    server.close();
  });

  test("what was sent before the peer's end still arrives", async w => {
    const { server, a, b } = await pair(w);
    let got = 0;
    a.on('data', c => (got += c.length));
    b.write(noise(30_000));
    b.resume();
    a.end();
    await until('closed', () => a.closed && b.closed);
    assert.equal(got, 30_000);
    server.close();
  });

  test('the side that is told to end closes without cutting off what it has sent', async w => {
    const { server, a, b } = await pair(w, {}, { rcvbuf: 4096, highWaterMark: 1024 });
    b.resume();
    b.write(noise(30_000));
    a.end();
    await until('b closed', () => b.closed);
    let got = 0;
    a.on('data', c => (got += c.length));
    await until('a closed', () => a.closed);
    assert.equal(got, 30_000);
    server.close();
  });

  test('a write that comes too late does not undo those before it', async w => {
    const { server, a, b } = await pair(w, { highWaterMark: 1024 }, { rcvbuf: 4096, highWaterMark: 1024 });
    b.write(noise(30_000));
    a.end(noise(20_000)); // not read: b does not come to the end
    await until('the peer has shut down', () => b.status()?.state !== 'ESTABLISHED');
    const failed = errorOf(b);
    b.write('too late');
    b.resume();
    assert.equal((await failed).code, 'EPIPE');
    let got = 0;
    a.on('data', c => (got += c.length));
    await until('both closed', () => a.closed && b.closed);
    assert.equal(got, 30_000);
    server.close();
  });

  test('no half-open: after the peer has ended, a write fails with EPIPE once all is read', async w => {
    const { server, a, b } = await pair(w, { highWaterMark: 1024 });
    a.end(noise(20_000));
    await until('the peer has shut down', () => b.status()?.state !== 'ESTABLISHED');
    let got = 0;
    b.on('data', c => (got += c.length));
    const failed = errorOf(b);
    b.write('too late');
    const error = await failed;
    assert.equal(error.code, 'EPIPE');
    assert.match(error.reason, /RFC 9260 §9/);
    assert.equal(got, 20_000);
    await until('closed', () => a.closed && b.closed);
    assert.equal(a.errored, null);
    server.close();
  });

  test('destroy is ABORT and the peer is told why', async w => {
    const { server, a, b } = await pair(w);
    const failed = errorOf(b);
    const mine = errorOf(a);
    a.destroy(new Error('out of paper'));
    const error = await failed;
    assert.equal((await mine).message, 'out of paper');
    assert.equal(error.code, 'ECONNRESET');
    assert.match(error.reason, /out of paper/);
    assert.match(error.reason, /RFC 9260 §/);
    await until('closed', () => a.closed && b.closed);
    server.close();
  });

  test('destroy without an error closes quietly here; a write under way is told', async w => {
    const { server, a, b } = await pair(w, { rcvbuf: 16_384, highWaterMark: 1024 }, { sndbuf: 16_384 });
    b.on('error', () => {});
    const told: unknown[] = [];
    for (let i = 0; i < 20; i++) a.write(noise(8000), e => told.push(e));
    await settle();
    const before = told.length;
    assert.ok(before < 20);
    a.destroy();
    await once(a, 'close');
    await until('all callbacks', () => told.length === 20);
    assert.ok(told.slice(before).every(e => e instanceof Error));
    await until('closed', () => b.closed);
    server.close();
  });

  test('an aborted peer is noticed by a side that does not read', async w => {
    const { server, a, b } = await pair(w, { highWaterMark: 1024 });
    a.write(noise(40_000)); // b's buffer is full and nobody reads it
    await settle();
    const failed = errorOf(b);
    a.destroy();
    assert.equal((await failed).code, 'ECONNRESET');
    server.close();
  });

  test('both ending at once is one graceful end', async w => {
    const { server, a, b } = await pair(w);
    a.resume();
    b.resume();
    a.end('from a');
    b.end('from b');
    await until('closed', () => a.closed && b.closed);
    assert.equal(a.bytesRead, 6);
    assert.equal(b.bytesRead, 6);
    server.close();
  });

  test('a listener that throws does not harm the stack or the other sockets', async (w, t) => {
    const p = await objectPair(w);
    const caught = await new Promise<Error>(resolve => {
      const others = process.listeners('uncaughtException');
      process.removeAllListeners('uncaughtException');
      t.after(() => {
        process.removeAllListeners('uncaughtException');
        for (const l of others) process.on('uncaughtException', l);
      });
      process.once('uncaughtException', e => {
        for (const l of others) process.on('uncaughtException', l);
        resolve(e);
      });
      p.b.once('data', () => {
        throw new Error("a program's mistake");
      });
      p.a.write('x');
      p.a.write('y');
    });
    assert.equal(caught.message, "a program's mistake");
    let more = '';
    p.b.on('data', m => (more += m.data.toString()));
    await until('the rest', () => more === 'y');
    await finish(p as never);
  });
}
