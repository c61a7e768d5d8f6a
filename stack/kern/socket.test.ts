import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InAddr } from '../netinet/in.js';
import { EAGAIN, EINVAL, ENOMEM } from './errno.js';
import { AF_INET, ProtocolSwitch, type Protosw, SOCK_STREAM } from './protosw.js';
import { RecvInfo, Socket, socreate, type Usrreqs, wouldBlock } from './socket.js';

/** A protocol that writes down what it is asked. */
function recorder(log: string[], answers: Partial<Record<keyof Usrreqs, unknown>> = {}): Protosw {
  const call = (name: keyof Usrreqs) => () => {
    log.push(name);
    return answers[name] ?? 0;
  };
  const names = [
    'attach',
    'close',
    'bind',
    'listen',
    'connect',
    'accept',
    'send',
    'recv',
    'shutdown',
    'sockaddr',
    'peeraddr',
    'getopt',
    'setopt',
    'readable',
    'writable',
    'space',
  ] as const;
  const usrreqs = Object.fromEntries(names.map(n => [n, call(n)])) as unknown as Usrreqs;
  return { domain: AF_INET, type: SOCK_STREAM, protocol: 132, name: 'rec', usrreqs };
}
const somewhere = { addr: InAddr.of('192.0.2.1'), port: 1 };

describe('Socket', () => {
  it('passes calls on, and kicks the loop when there is work', () => {
    const log: string[] = [];
    let kicks = 0;
    const so = new Socket(recorder(log), () => kicks++);
    so.bind(somewhere);
    so.listen(5);
    assert.equal(kicks, 0);
    so.connect(somewhere);
    so.send(new Uint8Array(3));
    so.shutdown(1);
    so.setsockopt(1, 2, 3);
    assert.equal(kicks, 4);
    so.recv(new Uint8Array(3), 0, 3, new RecvInfo());
    assert.deepEqual(log, ['bind', 'listen', 'connect', 'send', 'shutdown', 'setopt', 'recv']);
  });
  it('does not kick for a send that would block', () => {
    let kicks = 0;
    const so = new Socket(recorder([], { send: -EAGAIN }), () => kicks++);
    assert.ok(wouldBlock(so.send(new Uint8Array(1))));
    assert.equal(kicks, 0);
  });
  it('is dead after close, which happens once', () => {
    const log: string[] = [];
    const so = new Socket(recorder(log, { readable: true, writable: true, space: 9 }), () => {});
    so.upcall = () => assert.fail('closed');
    assert.deepEqual([so.readable, so.writable, so.space], [true, true, 9]);
    assert.equal(so.close(), 0);
    assert.equal(so.upcall, undefined);
    assert.equal(so.close(), -EINVAL);
    for (const n of [
      so.bind(somewhere),
      so.connect(somewhere),
      so.send(new Uint8Array(1)),
      so.listen(1),
      so.accept(),
      so.shutdown(0),
      so.setsockopt(0, 0, 0),
      so.getsockopt(0, 0),
    ])
      assert.equal(n, -EINVAL);
    assert.deepEqual([so.readable, so.writable, so.space], [false, false, 0]);
    assert.equal(log.filter(x => x === 'close').length, 1);
  });
  it('gives its error once', () => {
    const so = new Socket(recorder([]), () => {});
    so.error = 54;
    assert.equal(so.takeError(), 54);
    assert.equal(so.takeError(), 0);
  });
  it('is not made of a protocol without sockets, nor when attach fails', () => {
    assert.throws(() => new Socket({ domain: AF_INET, type: 1, protocol: 1, name: 'x' }, () => {}), TypeError);
    const sw = new ProtocolSwitch();
    sw.add(recorder([], { attach: -ENOMEM }));
    assert.equal(
      socreate(sw, AF_INET, SOCK_STREAM, 0, () => {}),
      -ENOMEM,
    );
  });
});
