import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EEXIST, EOPNOTSUPP, EPROTONOSUPPORT } from './errno.js';
import { AF_INET, AF_INET6, ProtocolSwitch, type Protosw, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM } from './protosw.js';
import { socreate } from './socket.js';

const row = (type: number, extra: Partial<Protosw> = {}): Protosw => ({
  domain: AF_INET,
  type,
  protocol: 132,
  name: `p${type}`,
  ...extra,
});

describe('ProtocolSwitch', () => {
  it('finds rows by type and protocol, and input by family and number', () => {
    const sw = new ProtocolSwitch();
    const a = row(SOCK_STREAM, { input: () => {} });
    const b = row(SOCK_SEQPACKET, { input: () => {} });
    assert.equal(sw.add(a), 0);
    assert.equal(sw.add(b), 0);
    assert.equal(sw.add(row(SOCK_STREAM)), -EEXIST);
    assert.equal(sw.find(AF_INET, SOCK_SEQPACKET, 132), b);
    assert.equal(sw.find(AF_INET, SOCK_SEQPACKET, 0), b);
    assert.equal(sw.find(AF_INET6, SOCK_STREAM, 132), undefined);
    assert.equal(sw.inputFor(4, 132), a); // added first
    assert.equal(sw.inputFor(6, 132), undefined);
    sw.remove(a);
    assert.equal(sw.inputFor(4, 132), b);
    sw.remove(a); // not there: nothing happens
    sw.remove(b);
    assert.equal(sw.inputFor(4, 132), undefined);
  });
  it('calls each flush once', () => {
    const sw = new ProtocolSwitch();
    let n = 0;
    const flush = () => n++;
    sw.add(row(SOCK_STREAM, { flush }));
    sw.add(row(SOCK_SEQPACKET, { flush }));
    sw.flush();
    assert.equal(n, 1);
  });
  it('socreate says what is missing', () => {
    const sw = new ProtocolSwitch();
    assert.equal(
      socreate(sw, AF_INET, SOCK_STREAM, 132, () => {}),
      -EPROTONOSUPPORT,
    );
    sw.add(row(SOCK_DGRAM));
    assert.equal(
      socreate(sw, AF_INET, SOCK_DGRAM, 132, () => {}),
      -EOPNOTSUPP,
    );
  });
});
