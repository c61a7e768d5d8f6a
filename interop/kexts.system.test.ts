// Shipped extensions against what Linux has of the same: VLAN.kext and the kernel's 802.1Q interfaces, UDPLite.kext and the
// kernel's UDP-Lite, LLDP.kext and PacketLog.kext and tshark. The kernel is at the other end of a TAP in a namespace.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { Appliance, type ApplianceConfig } from '../appliance.js';
import { compileBpf } from '../bundles/host.js';
import { ControlClient } from '../stack/kern/ctlclient.js';
import { RecvInfo, Socket } from '../stack/kern/socket.js';
import { LLDP_KEXT, type Neighbour } from '../stack/kexts/LLDP.kext/index.js';
import { PACKETLOG_KEXT } from '../stack/kexts/PacketLog.kext/index.js';
import { UDPLITE_RECV_CSCOV, UDPLITE_SEND_CSCOV } from '../stack/kexts/UDPLite.kext/index.js';
import { AF_INET, AF_INET6, InAddr, IPPROTO_UDPLITE, SOCK_DGRAM } from '../stack/kpi.js';
import { skipWithout } from '../vm/peers.js';
import type { ManagedProcess } from '../vm/process.js';
import { bootGuest, skipWithoutGuest } from '../vm/uml.js';
import { eventually, withClean } from './ends.js';
import { guestNic, onNet, Place, skipWithoutPlace, v4 } from './place.js';

const skip = skipWithoutPlace();
const skipTshark = skip || skipWithout('tshark');
const KERNEL4 = '10.9.0.254';
const KERNEL6 = 'fd09:1::254';

/** A namespace with a TAP whose far end is the kernel, and an appliance on it. */
async function onTap(
  t: TestContext,
  more: Partial<ApplianceConfig>,
  body: (ours: Appliance, place: Place) => Promise<void>,
) {
  using place = new Place();
  place.netns.addTap('tap0');
  place.netns.addAddress('tap0', `${KERNEL4}/24`);
  place.netns.addAddress('tap0', `${KERNEL6}/64`);
  const capture = join(mkdtempSync(join(tmpdir(), 'nke-kexts-')), 'tap0.pcapng');
  t.after(() => rmSync(join(capture, '..'), { recursive: true, force: true }));
  const ours = Appliance.create({
    name: 'ours',
    cards: [{ port: 'tap:tap0', mac: '02:00:00:00:00:01', addresses: ['10.9.0.1/24', 'fd09:1::1/64'], capture }],
    ...more,
  });
  await withClean(ours, () => body(ours, place));
}
/** The fields of packets in a capture file, a line each. */
function fields(place: Place, file: string, filter: string, ...names: string[]): string[] {
  const args = ['tshark', '-n', '-r', file, '-Y', filter, '-T', 'fields', ...names.flatMap(n => ['-e', n])];
  const done = place.netns.run(args, { timeoutMs: 60_000 });
  assert.equal(done.status, 0, done.stderr);
  return done.stdout.split('\n').filter(l => l !== '');
}
/** Waits until a program has printed something. */
const output = (p: ManagedProcess, words: RegExp) =>
  p.until(`${words} was printed`, () => (words.test(p.stdout) ? true : undefined), 20_000);
const python = (place: Place, program: string, ...args: string[]) =>
  place.netns.start(['python3', '-u', '-c', program, ...args], { timeoutMs: 30_000 });

describe('VLAN.kext and the kernel’s VLAN interfaces', () => {
  // In a guest: not every kernel that tests run on has 802.1Q.
  test('ping both ways on two VLANs, IPv4 and IPv6, whole MTU', { skip: skip || skipWithoutGuest() }, async () => {
    using place = new Place();
    place.addNetwork(0);
    const guest = await bootGuest({
      netns: place.netns,
      nics: [guestNic(0)],
      modules: ['ipv6', '8021q'],
      commands: ['10', '20'].flatMap(id => [
        ['ip', 'link', 'add', 'link', 'vec0', 'name', `v${id}`, 'type', 'vlan', 'id', id],
        ['ip', 'link', 'set', `v${id}`, 'up'],
        ['ip', 'address', 'add', `10.${id}.0.254/24`, 'dev', `v${id}`],
        ['ip', 'address', 'add', `fd${id}::254/64`, 'dev', `v${id}`, 'nodad'],
      ]),
    });
    try {
      const ours = Appliance.create({
        name: 'ours',
        cards: [{ name: 'nke0', port: 'tap:nke0', mac: '02:00:00:00:00:01', addresses: [...onNet(0, 1)] }],
        kexts: [{ name: 'VLAN', params: { vlans: 'nke0.10=10.10.0.1/24+fd10::1/64 nke0.20=10.20.0.1/24' } }],
      });
      await withClean(ours, async () => {
        // The kernel's side echoes datagrams of the whole MTU, on each VLAN and without a tag.
        const echo = guest.start([
          '/usr/bin/python3',
          '-u',
          '-c',
          `import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.setsockopt(41, 26, 0); s.bind(('::', 7)); print('ready')
while True:
    d, a = s.recvfrom(2000); s.sendto(d, a)`,
        ]);
        await echo.output(/ready/);
        for (const [to, size] of [
          ['10.10.0.254', 1472],
          ['10.20.0.254', 1472],
          ['fd10::254', 1452],
          [v4(0, 2), 1472],
        ] as const) {
          const addr = InAddr.of(to);
          const so = ours.socket(addr.family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM, 17);
          assert.ok(so instanceof Socket);
          const buf = new Uint8Array(2000);
          for (let i = 0; i < 5; i++) {
            so.send(new Uint8Array(size).fill(i), 0, size, undefined, { addr, port: 7 });
            const n: number = await eventually(`the echo of ${to}`, (): number | undefined => {
              const got: number = so.recv(buf, 0, buf.length, new RecvInfo());
              return got >= 0 ? got : undefined;
            });
            assert.equal(n, size);
            assert.deepEqual(buf.subarray(0, n), new Uint8Array(size).fill(i));
          }
          so.close();
        }
        await echo.kill();
        // The other way: our datagrams to the kernel's addresses, which it refuses with ICMP.
        for (const to of ['10.10.0.254', '10.20.0.254', 'fd10::254']) {
          const addr = InAddr.of(to);
          const so = ours.socket(addr.family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM, 17);
          assert.ok(so instanceof Socket);
          so.connect({ addr, port: 7000 });
          so.send(new Uint8Array(1000));
          await eventually(`the answer of ${to}`, () => so.error !== 0);
          so.close();
        }
        const c = ours.counters().vlan!;
        assert.ok(c.received! >= 12, JSON.stringify(c));
        assert.equal(c.unknown, 0);
      });
    } finally {
      await guest.shutdown();
    }
  });
});

/** Answers each datagram with its own bytes; coverage from the arguments. */
const ECHO = `import socket, sys
f = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
s = socket.socket(f, socket.SOCK_DGRAM, 136)
s.setsockopt(136, 10, int(sys.argv[2])); s.setsockopt(136, 11, int(sys.argv[3]))
s.bind((sys.argv[1], 7)); print('ready')
while True:
    d, a = s.recvfrom(65535); s.sendto(d, a); print('echoed', len(d))`;

describe('UDPLite.kext and the kernel’s UDP-Lite', () => {
  for (const [family, domain, kernel] of [
    ['IPv4', AF_INET, KERNEL4],
    ['IPv6', AF_INET6, KERNEL6],
  ] as const)
    test(`${family}: every coverage both ways; damage where nothing is covered, and where it is`, { skip }, t =>
      onTap(t, { kexts: ['UDPLite'] }, async (ours, place) => {
        // Damages the last byte of UDP-Lite frames, on their way out or in.
        let damage = '';
        const hurt = (ifp: unknown, m: number, way: string) => {
          const { pool } = ours.stack;
          const type = pool.dv.getUint16(pool.off[m]! + 12);
          const proto = pool.u8[pool.off[m]! + (type === 0x0800 ? 23 : 20)];
          if (ifp !== undefined && way === damage && proto === IPPROTO_UDPLITE) {
            pool.u8[pool.off[m]! + pool.len[m]! - 1]! ^= 0x10;
          }
          return m;
        };
        ours.stack.interfaces.attachFilter({
          name: 'damage',
          input: (i, m) => hurt(i, m, 'in'),
          output: (i, m) => hurt(i, m, 'out'),
        });
        const buf = new Uint8Array(65536);
        for (const coverage of [0, 8, 20, 500]) {
          const server = python(place, ECHO, kernel, String(coverage), coverage === 0 ? '0' : '8');
          try {
            await output(server, /ready/);
            const so = ours.socket(domain, SOCK_DGRAM, IPPROTO_UDPLITE);
            assert.ok(so instanceof Socket);
            so.setsockopt(IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, coverage);
            if (coverage > 0) so.setsockopt(IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, 8);
            assert.equal(so.connect({ addr: InAddr.of(kernel), port: 7 }), 0);
            const data = Uint8Array.from({ length: 200 }, (_, i) => i);
            const echo = async () => {
              assert.equal(so.send(data), data.length);
              return await eventually('the echo', () => {
                const n = so.recv(buf, 0, buf.length, new RecvInfo());
                return n >= 0 ? buf.slice(0, n) : undefined;
              });
            };
            damage = '';
            assert.deepEqual(await echo(), data, `coverage ${coverage}`);
            for (damage of ['out', 'in']) {
              if (coverage >= 8 && coverage < 208) {
                const want = data.slice();
                want[199]! ^= 0x10;
                assert.deepEqual(await echo(), want, `coverage ${coverage}, damaged on its way ${damage}`);
              } else {
                const before = ours.counters()!.udplite!.bad_checksum!;
                so.send(data);
                if (damage === 'in')
                  await eventually('it is dropped', () => ours.counters()!.udplite!.bad_checksum! > before);
                else await new Promise(resolve => setTimeout(resolve, 100));
                assert.ok(so.recv(buf, 0, buf.length, new RecvInfo()) < 0);
              }
            }
            damage = '';
            so.close();
          } finally {
            await server.kill();
          }
        }
        // Nobody listens: the kernel's ICMP reaches the socket.
        const so = ours.socket(domain, SOCK_DGRAM, IPPROTO_UDPLITE);
        assert.ok(so instanceof Socket);
        so.connect({ addr: InAddr.of(kernel), port: 99 });
        so.send(new Uint8Array(5));
        await eventually('ICMP port unreachable', () => so.error !== 0);
        so.close();
        assert.equal(ours.stack.kexts.list()[0]!.faults, 0);
      }),
    );
});

describe('LLDP.kext and PacketLog.kext and tshark', () => {
  test('the dissector reads every TLV; a neighbour of the kernel’s side is found', { skip: skipTshark }, async t => {
    const dir = mkdtempSync(join(tmpdir(), 'nke-log-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    await onTap(
      t,
      {
        kextLogs: dir,
        kexts: [
          'LLDP',
          {
            name: 'PacketLog',
            on: ['nke0'],
            params: typeof compileBpf('udp') === 'string' ? {} : { filter: 'ether proto 0x88cc' },
          },
        ] as ApplianceConfig['kexts'],
      },
      async (ours, place) => {
        const talk = python(
          place,
          `import socket, struct
def tlv(t, v): return struct.pack('!H', t << 9 | len(v)) + v
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('tap0', 0))
mac = s.getsockname()[4]
pdu = tlv(1, b'\\x04' + mac) + tlv(2, b'\\x05tap0') + tlv(3, b'\\x00\\x78') + tlv(5, b'kernel') + tlv(7, b'\\x00\\x14\\x00\\x10') + tlv(0, b'')
s.send(b'\\x01\\x80\\xc2\\x00\\x00\\x0e' + mac + b'\\x88\\xcc' + pdu); print('sent')`,
        );
        await output(talk, /sent/);
        const ctl = ControlClient.open(ours.stack, LLDP_KEXT);
        assert.ok(ctl instanceof ControlClient);
        const found = await eventually('the neighbour', () => {
          const r = ctl.request('call', { name: 'neighbours' });
          return r.ok ? (r.value as Neighbour[])[0] : undefined;
        });
        assert.equal(found.systemName, 'kernel');
        assert.deepEqual(found.capabilities, ['bridge', 'router']);
        assert.deepEqual(found.enabled, ['router']);
        // It goes with a last word, and the log is written.
        const { sent } = ours.counters()!.lldp! as { sent: number };
        ours.kextunload('LLDP');
        const log = ControlClient.open(ours.stack, PACKETLOG_KEXT);
        assert.ok(log instanceof ControlClient);
        assert.ok(log.request('call', { name: 'flush' }).ok);
        const [file] = readdirSync(dir);
        assert.equal(file, 'org.nke.PacketLog.nke0.0001.pcapng');
        const path = join(dir, file);
        const lines = fields(
          place,
          path,
          'lldp && eth.src == 02:00:00:00:00:01',
          'lldp.chassis.id.mac',
          'lldp.port.id',
          'lldp.time_to_live',
          'lldp.tlv.system.name',
          'lldp.mgn.addr.ip4',
        );
        assert.equal(lines.length, sent + 1);
        assert.equal(lines[0], '02:00:00:00:00:01\tnke0\t121\tours\t10.9.0.1');
        assert.match(lines.at(-1)!, /^02:00:00:00:00:01\tnke0\t0/);
        assert.equal(fields(place, path, 'lldp && eth.src != 02:00:00:00:00:01', 'frame.len').length, 1);
        assert.deepEqual(fields(place, path, '_ws.malformed || _ws.expert.severity >= 6291456', 'frame.number'), []);
        if (typeof compileBpf('udp') !== 'string') assert.deepEqual(fields(place, path, '!lldp', 'frame.number'), []);
        const [when] = fields(place, path, 'frame.number == 1', 'frame.time_epoch');
        assert.ok(Math.abs(Number(when) - Date.now() / 1000) < 60);
      },
    );
  });
});
