import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '../native.js';
import { formatAddress, parseAddress } from './address.js';
import { createPort, Wires } from './open.js';
import { Memory, PortError } from './port.js';

const refuses = (spec: string, text: RegExp, options = {}) =>
  assert.throws(
    () => createPort(spec, options),
    (e: unknown) => e instanceof PortError && e.code === 'EINVAL' && text.test(e.message),
    spec,
  );

test('specifications give the port that they name', () => {
  const wires = new Wires();
  const specs = ['wire:a', 'udp:127.0.0.1:9899', 'udp:[::1]:9899', 'raw:127.0.0.1'];
  if (native) specs.push('tap:nke0', 'tun:nke1');
  const carries = specs.map(spec => {
    const port = createPort(spec, { wires, mtu: 1400 });
    assert.equal(port.capabilities.mtu, 1400);
    assert.ok(port.name.startsWith(spec), port.name);
    return port.capabilities.carries;
  });
  assert.deepEqual(carries, ['ethernet', 'udp', 'udp', 'ip', 'ethernet', 'ip'].slice(0, specs.length));
});

test('two ports of one wire are its two ends, a third is refused', () => {
  const wires = new Wires();
  const a = createPort('wire:x', { wires, wire: { carries: 'ip' } });
  const b = createPort('wire:x', { wires });
  assert.equal(b.capabilities.carries, 'ip');
  a.open(new Memory(new ArrayBuffer(8)));
  b.open(new Memory(new ArrayBuffer(8)));
  assert.equal(a.carrier, true);
  assert.throws(() => createPort('wire:x', { wires }), /both are taken/);
  assert.throws(() => createPort('wire:y'), /options.wires/);
  a.close();
  b.close();
});

test('a wrong specification says what to write', () => {
  const wires = new Wires();
  refuses('', /is no port; write wire:NAME/);
  refuses('eth:0', /is no port; write wire:NAME/);
  refuses('wire:', /write wire:NAME/, { wires });
  refuses('wire:a b', /write wire:NAME/, { wires });
  refuses('udp:127.0.0.1', /write udp:192.0.2.1:9899/);
  refuses('udp:::1:9899', /write udp:192.0.2.1:9899/);
  refuses('udp:[::1]', /write udp:192.0.2.1:9899/);
  refuses('udp:localhost:9899', /not an IPv4 or IPv6 address/);
  refuses('udp:[::1%lo]:9899', /not an IPv4 or IPv6 address/);
  refuses('udp:127.0.0.1:99999', /not a UDP port/);
  refuses('raw:::1', /needs one IPv4 address/);
  refuses('raw:0.0.0.0', /needs one IPv4 address/);
  refuses('wire:a', /MTU of 100/, { wires, mtu: 100 });
  if (native) {
    refuses('tap:', /no interface name/);
    refuses('tap:aaaaaaaaaaaaaaaa', /no interface name/);
    refuses('tun:a/b', /no interface name/);
    refuses('xdp:a/b', /no interface name/);
  }
});

test('addresses: text to words and back', () => {
  assert.deepEqual([...parseAddress('192.0.2.1')!.w], [0, 0, 0xffff, 0xc0000201 | 0]);
  assert.deepEqual([...parseAddress('2001:db8::ff:1')!.w], [0x20010db8, 0, 0, 0xff0001]);
  assert.deepEqual([...parseAddress('::ffff:192.0.2.1')!.w], [0, 0, 0xffff, 0xc0000201 | 0]);
  assert.deepEqual([...parseAddress('::')!.w], [0, 0, 0, 0]);
  assert.deepEqual([...parseAddress('1:2:3:4:5:6:7:8')!.w], [0x10002, 0x30004, 0x50006, 0x70008]);
  for (const bad of ['', '1.2.3', '1.2.3.256', ':::', 'fe80::1%eth0', 'x']) assert.equal(parseAddress(bad), undefined);
  assert.equal(formatAddress(4, 0, 0, 0, 0xc0000201 | 0), '192.0.2.1');
  assert.equal(formatAddress(6, 0x20010db8, 0, 0, 0xff0001), '2001:db8:0:0:0:0:ff:1');
});
