import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Environment, examine, type PortVerdict, thisMachine } from './doctor.js';

/** A machine on which everything works, with parts changed. */
function machine(change: Partial<Environment> & { there?: readonly string[] } = {}): Environment {
  const there = change.there ?? ['/dev/net/tun'];
  return {
    platform: 'linux',
    nodeVersion: 'v20.20.2',
    uid: 1000,
    capabilities: 0x1ffffffffffn,
    exists: path => there.includes(path),
    tryDevice: () => undefined,
    tryNative: () => undefined,
    tryRawPackage: () => undefined,
    tryUdp: async () => ({}),
    ...change,
  };
}

const usable = (ports: readonly PortVerdict[]) => ports.filter(p => p.usable).map(p => p.port);

test('where everything works every port is usable and nothing is to mend', async () => {
  const report = await examine(machine());
  assert.deepEqual(usable(report.ports), ['wire', 'udp', 'tap', 'tun', 'raw']);
  assert.ok(report.findings.every(f => f.status === 'ok' && f.fix === undefined));
  assert.equal(report.ready, true);
});

test('each missing thing is named, with what mends it, and costs exactly the ports that need it', async () => {
  const cases: [Partial<Environment> & { there?: string[] }, string, string[], RegExp][] = [
    [{ capabilities: 0n }, 'CAP_NET_ADMIN', ['wire', 'udp'], /setcap cap_net_admin\+ep/],
    [{ capabilities: 1n << 12n }, 'CAP_NET_RAW', ['wire', 'udp', 'tap', 'tun'], /--cap-add NET_RAW/],
    [{ there: [] }, '/dev/net/tun', ['wire', 'udp', 'raw'], /mknod \/dev\/net\/tun c 10 200/],
    [{ tryDevice: () => 'EACCES: permission denied' }, '/dev/net/tun', ['wire', 'udp', 'raw'], /chmod 0666/],
    [{ tryNative: () => 'not built' }, 'C module nic/native', ['wire', 'udp', 'raw'], /npm run build/],
    [
      { tryRawPackage: () => 'not installed' },
      'npm package raw-socket',
      ['wire', 'udp', 'tap', 'tun'],
      /npm install raw-socket/,
    ],
    [
      { tryUdp: async () => ({ bind: 'EADDRNOTAVAIL' }) },
      'UDP on loopback',
      ['wire', 'tap', 'tun', 'raw'],
      /ip link set lo up/,
    ],
    [
      { tryUdp: async () => ({ offload: 'refused' }) },
      'UDP_SEGMENT and UDP_GRO',
      ['wire', 'udp', 'tap', 'tun', 'raw'],
      /Linux 5\.0/,
    ],
    [{ nodeVersion: 'v18.2.0' }, 'Node.js', ['tap', 'tun', 'raw'], /20\.19/],
  ];
  for (const [change, name, ports, fix] of cases) {
    const report = await examine(machine(change));
    const finding = report.findings.find(f => f.name === name)!;
    assert.notEqual(finding.status, 'ok', name);
    assert.match(finding.fix ?? '', fix, name);
    assert.deepEqual(usable(report.ports), ports, name);
    assert.equal(report.ready, ports.includes('udp'), name);
    for (const p of report.ports)
      if (!p.usable && finding.needed?.includes(p.port)) assert.ok(p.note.includes(name), `${p.port}: ${p.note}`);
  }
});

test('a kernel SCTP is a warning, for it would answer our packets', async () => {
  for (const path of ['/proc/net/sctp', '/proc/sys/net/sctp']) {
    const report = await examine(machine({ there: ['/dev/net/tun', path] }));
    const finding = report.findings.find(f => f.name.includes('kernel'))!;
    assert.equal(finding.status, 'warning');
    assert.match(finding.fix!, /rmmod/);
    assert.match(report.ports.find(p => p.port === 'raw')!.note, /kernel/);
    assert.equal(report.ready, true);
  }
});

test('without capabilities (macOS) root counts', async () => {
  const mac = machine({ platform: 'darwin', capabilities: undefined, uid: 0 });
  assert.deepEqual(usable((await examine(mac)).ports), ['wire', 'udp', 'raw']);
});

test('this machine can be looked at without harm', async () => {
  const report = await examine(thisMachine());
  assert.equal(report.ports.length, 5);
  assert.equal(report.ready, true);
});
