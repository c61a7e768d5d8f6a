import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from './address.js';
import { run } from './cbpf.fixture.js';
import { closedFilter, type FilterDescription, socketFilter } from './packet-filter.js';

const OURS = [2, 0, 0, 0, 0, 1];
const HOST = [2, 0, 0, 0, 0, 9];
const ALL = [255, 255, 255, 255, 255, 255];
const mac = (m: number[]) => Uint8Array.from(m);
const addresses = (...text: string[]) => text.map(t => parseAddress(t)!);

const frame = (to: number[], type: number, ...rest: number[]) =>
  Uint8Array.from([...to, 2, 0, 0, 0, 0, 5, type >>> 8, type & 255, ...rest, ...new Array(64).fill(0)]);
const ip4 = (proto: number, to: string) => [
  0x45,
  0,
  0,
  40,
  0,
  0,
  0,
  0,
  64,
  proto,
  0,
  0,
  10,
  7,
  0,
  2,
  ...to.split('.').map(Number),
];
const arp = (sender: string, target: string) => [
  0,
  1,
  8,
  0,
  6,
  4,
  0,
  1,
  2,
  0,
  0,
  0,
  0,
  5,
  ...sender.split('.').map(Number),
  0,
  0,
  0,
  0,
  0,
  0,
  ...target.split('.').map(Number),
];
const ip6 = (next: number, to: string) => {
  const w = parseAddress(to)!.w;
  const out = [0x60, 0, 0, 0, 0, 0, next, 64, ...new Array<number>(16).fill(0)];
  for (const x of w) out.push((x >>> 24) & 255, (x >>> 16) & 255, (x >>> 8) & 255, x & 255);
  return out;
};

const filter = (d: Partial<FilterDescription>) => socketFilter({ stations: [mac(OURS)], snap: 1518, ...d });
const passes = (d: Partial<FilterDescription>, f: Uint8Array, type = 0) => run(filter(d), f, type) === 1518;

test('packet filter: our station, group addresses, and nobody else', () => {
  const body = ip4(132, '10.7.0.1');
  assert.equal(passes({}, frame(OURS, 0x0800, ...body)), true);
  assert.equal(passes({}, frame(ALL, 0x0800, ...body)), true);
  assert.equal(passes({}, frame([0x33, 0x33, 0, 0, 0, 1], 0x86dd, ...ip6(58, 'ff02::1'))), true);
  assert.equal(passes({}, frame(HOST, 0x0800, ...body)), false);
  assert.equal(passes({}, frame([2, 0, 0, 0, 0, 2], 0x0800, ...body)), false);
  assert.equal(passes({}, frame([3, 0, 0, 0, 0, 1], 0x0800, ...body)), true, 'a group address');
  assert.equal(passes({}, frame([4, 0, 0, 0, 0, 1], 0x0800, ...body)), false, 'only the first bytes differ');
  assert.equal(passes({ stations: [mac(HOST), mac(OURS)] }, frame(OURS, 0x0800, ...body)), true);
  assert.equal(passes({ promiscuous: true }, frame(HOST, 0x0800, ...body)), true);
});

test('packet filter: without a station everything but what is for the host', () => {
  const d = { stations: [], host: mac(HOST) };
  assert.equal(passes(d, frame(OURS, 0x0800, ...ip4(132, '10.7.0.1'))), true);
  assert.equal(passes(d, frame(HOST, 0x0800, ...ip4(132, '10.7.0.1'))), false);
  assert.equal(passes({ stations: [] }, frame(HOST, 0x0800, ...ip4(132, '10.7.0.1'))), true);
});

test('packet filter: what the machine itself sends is not for us', () => {
  assert.equal(passes({ promiscuous: true }, frame(OURS, 0x0800, ...ip4(132, '10.7.0.1')), 4), false);
});

test('packet filter: protocols', () => {
  for (const [proto, want] of [
    [1, true],
    [2, true],
    [6, false],
    [17, true],
    [47, false],
    [132, true],
  ] as const) {
    assert.equal(passes({}, frame(OURS, 0x0800, ...ip4(proto, '10.7.0.1'))), want, `IPv4 ${proto}`);
  }
  for (const [next, want] of [
    [0, true],
    [6, false],
    [17, true],
    [44, true],
    [58, true],
    [132, true],
  ] as const) {
    assert.equal(passes({}, frame(OURS, 0x86dd, ...ip6(next, 'fd00::1'))), want, `IPv6 ${next}`);
  }
  assert.equal(passes({}, frame(OURS, 0x0806, ...arp('10.7.0.2', '10.7.0.1'))), true);
  assert.equal(passes({}, frame(OURS, 0x0842)), true, 'magic packets');
  assert.equal(passes({}, frame(OURS, 0x88cc)), false);
  assert.equal(passes({ etherTypes: [0x88cc] }, frame(OURS, 0x88cc)), true);
});

test('packet filter: the same behind a VLAN tag that is in the frame', () => {
  assert.equal(passes({}, frame(OURS, 0x8100, 0, 5, 8, 0, ...ip4(132, '10.7.0.1'))), true);
  assert.equal(passes({}, frame(OURS, 0x8100, 0, 5, 8, 0, ...ip4(6, '10.7.0.1'))), false);
  assert.equal(
    passes({ addresses: addresses('10.7.0.1') }, frame(OURS, 0x88a8, 0, 5, 8, 0, ...ip4(132, '10.7.0.9'))),
    false,
  );
});

test('packet filter: IPv4 addresses', () => {
  const d = { addresses: addresses('10.7.0.1', '10.7.0.3') };
  assert.equal(passes(d, frame(OURS, 0x0800, ...ip4(132, '10.7.0.1'))), true);
  assert.equal(passes(d, frame(OURS, 0x0800, ...ip4(132, '10.7.0.3'))), true);
  assert.equal(passes(d, frame(OURS, 0x0800, ...ip4(132, '10.7.0.2'))), false);
  assert.equal(passes(d, frame(ALL, 0x0800, ...ip4(17, '10.7.0.255'))), true, 'a subnet’s broadcast');
  assert.equal(passes(d, frame(OURS, 0x0800, ...ip4(17, '10.7.0.255'))), false);
  assert.equal(passes(d, frame([1, 0, 0x5e, 0, 0, 1], 0x0800, ...ip4(2, '224.0.0.1'))), true);
  assert.equal(passes(d, frame(OURS, 0x86dd, ...ip6(132, 'fd00::1'))), true, 'no IPv6 address was given');
});

test('packet filter: ARP about us, to us, and announcements', () => {
  const d = { addresses: addresses('10.7.0.1') };
  assert.equal(passes(d, frame(ALL, 0x0806, ...arp('10.7.0.2', '10.7.0.1'))), true);
  assert.equal(passes(d, frame(ALL, 0x0806, ...arp('10.7.0.2', '10.7.0.7'))), false);
  assert.equal(passes(d, frame(ALL, 0x0806, ...arp('10.7.0.7', '10.7.0.7'))), true);
});

test('packet filter: IPv6 addresses, multicast and link-local', () => {
  const d = { addresses: addresses('fd00::1', '2001:db8::7') };
  assert.equal(passes(d, frame(OURS, 0x86dd, ...ip6(132, 'fd00::1'))), true);
  assert.equal(passes(d, frame(OURS, 0x86dd, ...ip6(132, '2001:db8::7'))), true);
  assert.equal(passes(d, frame(OURS, 0x86dd, ...ip6(132, 'fd00::2'))), false);
  assert.equal(passes(d, frame(OURS, 0x86dd, ...ip6(58, 'fe80::1'))), true);
  assert.equal(passes(d, frame([0x33, 0x33, 255, 0, 0, 1], 0x86dd, ...ip6(58, 'ff02::1:ff00:1'))), true);
});

test('packet filter: a frame that ends early is dropped', () => {
  for (const n of [0, 5, 13, 14, 22])
    assert.equal(passes({}, frame(OURS, 0x0800, ...ip4(132, '10.7.0.1')).subarray(0, n)), false);
});

test('the closed filter lets nothing in', () => {
  assert.equal(run(closedFilter(), frame(OURS, 0x0806)), 0);
  assert.equal(run(closedFilter(), new Uint8Array(0)), 0);
});
