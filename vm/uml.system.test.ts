import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { pidAlive } from './cleanup.js';
import { Netns, skipWithoutNetns } from './netns.js';
import { skipWithout } from './peers.js';
import { processesOfSession } from './process.js';
import { skipWithoutKernelPeer, startKernelPeer } from './sctp-peer.js';
import { bootGuest, type Guest, sweepGuests } from './uml.js';

const skip = skipWithoutKernelPeer() || skipWithoutNetns() || skipWithout('iperf3', 'lksctp-tools');

/** Folders of guests of the process `pid` that are still there. */
function foldersOf(pid: number): string[] {
  const bases = [...new Set([tmpdir(), '/dev/shm'])].filter(existsSync);
  return bases.flatMap(base => readdirSync(base)).filter(name => name.startsWith(`nke-uml-${pid}-`));
}

/** Nothing of these guests is left: no process, no folder. */
function assertNothingLeft(pids: readonly number[]): void {
  for (const pid of pids) {
    assert.equal(pidAlive(pid), false);
    assert.deepEqual(processesOfSession(pid), []);
  }
  assert.deepEqual(foldersOf(process.pid), []);
}

test('a guest boots with SCTP, runs commands exactly as given, and cannot write to the host', { skip }, async () => {
  const guest = await bootGuest();
  try {
    assert.match(guest.release, /^\d+\.\d+/);
    assert.match(await guest.check(['ls', '/proc/net/sctp']), /assocs[\s\S]*snmp/);
    // RFC 6951 in this kernel: see the head of uml.ts.
    assert.equal(await guest.sysctl('net.sctp.udp_port', 9899), '9899');
    assert.equal(await guest.sysctl('net.sctp.encap_port'), '0');
    await assert.rejects(guest.sysctl('net.sctp.no_such_thing'), /No such file/);

    const words = ['a b', '', '$(touch /tmp/x)', 'é\n"\'\\', '*'];
    const { status, stdout, stderr } = await guest.run(['printf', '<%s>', ...words]);
    assert.deepEqual([status, stdout, stderr], [0, words.map(word => `<${word}>`).join(''), '']);
    const failed = await guest.run(['sh', '-c', 'cat; echo trouble >&2; exit 3'], { input: 'read\0this' });
    assert.deepEqual(failed, { status: 3, stdout: 'read\0this', stderr: 'trouble\n' });
    assert.equal((await guest.run(['no-such-program'])).status, 127);
    const large = await guest.check(['seq', '200000'], { timeoutMs: 20_000 });
    assert.equal(large.length, 1288895);

    assert.notEqual((await guest.run(['touch', '/etc/nke-was-here'])).status, 0);
    await guest.check(['touch', '/tmp/nke-was-here', '/run/nke-was-here']);
    for (const folder of ['/etc', '/tmp', '/run']) assert.equal(existsSync(`${folder}/nke-was-here`), false);
    assert.throws(() => guest.start(['echo', 'a\0b']), /without NUL/);
  } finally {
    await guest.shutdown();
  }
  assertNothingLeft([guest.pid]);
  assert.throws(() => guest.start(['true']), /the guest has ended/);
});

test('servers show their output while they run and can be ended; a late command is killed', { skip }, async () => {
  await using guest = await bootGuest({ modules: [] });
  const server = guest.start(['sh', '-c', 'for i in 1 2 3; do echo line $i; done; exec sleep 100']);
  assert.equal((await server.output(/line (3)/))[1], '3');
  assert.equal(server.status, undefined);
  assert.equal(await server.kill(), 143);
  assert.equal(await guest.start(['sleep', '100']).kill('KILL'), 137);
  await assert.rejects(guest.start(['echo', 'x']).output(/never/), /ended with status 0 before/);
  await assert.rejects(guest.run(['sleep', '101'], { timeoutMs: 300 }), /300 ms passed/);
  const left = await guest.run(['sh', '-c', 'sleep 0.5; grep -a "^sleep.10" /proc/[0-9]*/cmdline']);
  assert.equal(left.stdout, '');

  // A guest that loses its power in the middle of a command: the command's promise tells.
  const orphan = guest.start(['sleep', '100']);
  guest.kill();
  await assert.rejects(orphan.done, /the guest ended \(SIGKILL\)/);
});

/** iperf3 --sctp for a second from one guest to an address of another; bytes received. */
async function iperf(client: Guest, server: Guest, address: string): Promise<number> {
  const listener = server.start(['iperf3', '-s', '-1', '--forceflush']);
  await listener.output(/listening/);
  const output = await client.check(['iperf3', '-c', address, '--sctp', '-t', '1', '-l', '8000', '-J'], {
    timeoutMs: 20_000,
  });
  await listener.done;
  const report = JSON.parse(output) as { end: { streams: [{ receiver: { bytes: number } }] } };
  return report.end.streams[0].receiver.bytes;
}

test('two guests speak SCTP over bridged TAPs: IPv4, IPv6 and two paths', { skip }, async t => {
  const pids: number[] = [];
  let name = '';
  {
    using netns = new Netns();
    name = netns.name;
    for (const tap of ['a0', 'a1', 'b0', 'b1']) netns.addTap(tap);
    netns.addBridge('br0', ['a0', 'b0']);
    netns.addBridge('br1', ['a1', 'b1']);
    const cards = (side: string, n: number) => [
      { tap: `${side}0`, mac: `02:00:00:00:00:0${n}`, addresses: [`10.8.0.${n}/24`, `fd08::${n}/64`] },
      { tap: `${side}1`, addresses: [`10.8.1.${n}/24`, `fd08:1::${n}/64`] },
    ];
    const [a, b] = await Promise.all([
      bootGuest({ netns, nics: cards('a', 1), memory: '192M' }),
      bootGuest({ netns, nics: cards('b', 2), commands: [['mkdir', '/tmp/set-up']] }),
    ]);
    pids.push(a.pid, b.pid);
    try {
      assert.match(await a.check(['ip', 'link', 'show', 'vec0']), /02:00:00:00:00:01/);
      await b.check(['test', '-d', '/tmp/set-up']);
      for (const address of ['10.8.0.2', 'fd08::2']) {
        const bytes = await iperf(a, b, address);
        t.diagnostic(`iperf3 --sctp to ${address}: ${((bytes * 8) / 1e6).toFixed(0)} Mbit/s`);
        assert.ok(bytes > 100_000, `${bytes} bytes in a second`);
      }
      // Our own program on the kernel's SCTP, for the hash; both ends bound to two addresses.
      const [near, far] = [
        ['10.8.0.1', '10.8.1.1'],
        ['10.8.0.2', '10.8.1.2'],
      ];
      const sink = await startKernelPeer(b, 'sink', { addresses: far });
      const to = { addresses: near, peers: far, bytes: 8 << 20, message: 1400 };
      const source = await startKernelPeer(a, 'source', to);
      const [sent, received] = await Promise.all([source.result(), sink.result()]);
      assert.equal(received.sha256, sent.sha256);
      assert.equal(received.messages, Math.ceil((8 << 20) / 1400));
      t.diagnostic(`kernel-peer, 1,400-byte messages: ${(received.gbps * 1000).toFixed(0)} Mbit/s`);
      // lksctp-tools, both ends bound to two addresses: the kernel lists both paths.
      const server = b.start(['stdbuf', '-oL', 'sctp_darn', '-H', '10.8.0.2', '-B', '10.8.1.2', '-P', '7000', '-l']);
      await server.output(/listening|recv/i);
      const talker = a.start([
        'sh',
        '-c',
        '(echo over two paths; sleep 3) | exec "$@"',
        'sh',
        'sctp_darn',
        '-H',
        '10.8.0.1',
        '-B',
        '10.8.1.1',
        '-P',
        '7001',
        '-h',
        '10.8.0.2',
        '-p',
        '7000',
        '-s',
      ]);
      await server.output(/over two paths|SCTP_COMM_UP|Data/i);
      const associations = await a.check(['cat', '/proc/net/sctp/assocs']);
      assert.match(associations, /\*?10\.8\.0\.1 .*10\.8\.1\.1 .*<-> .*10\.8\.0\.2 .*10\.8\.1\.2/);
      await talker.kill('KILL');
      await server.kill('KILL');
    } finally {
      await Promise.all([a.shutdown(), b.shutdown()]);
    }
  }
  assertNothingLeft(pids);
  assert.equal(existsSync(`/run/netns/${name}`), false);
});

test('a guest whose host process is killed powers itself off, and its folders are swept', { skip }, async () => {
  const program = `
    import { bootGuest } from ${JSON.stringify(new URL('./uml.js', import.meta.url).href)};
    const guest = await bootGuest({ modules: [] });
    console.log(guest.pid);
    setTimeout(() => {}, 60_000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const deadline = setTimeout(() => child.kill('SIGKILL'), 40_000);
  const guest = await new Promise<number>((resolve, reject) => {
    child.stdout.setEncoding('utf8').once('data', (text: string) => resolve(Number(text)));
    child.once('exit', () => reject(new Error('the child ended before its guest was up')));
  });
  clearTimeout(deadline);
  assert.ok(pidAlive(guest));
  child.kill('SIGKILL');
  for (let i = 0; i < 500 && processesOfSession(guest).length > 0; i++) await new Promise(next => setTimeout(next, 20));
  assert.deepEqual(processesOfSession(guest), []);
  assert.ok(foldersOf(child.pid!).length > 0);
  sweepGuests();
  assert.deepEqual(foldersOf(child.pid!), []);
});
