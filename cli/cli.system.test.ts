/** The command line as a user has it: processes, sockets, signals, exit statuses. No privilege; everything on loopback. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('../nke.js', import.meta.url));
let dir: string;
const running = new Set<ChildProcess>();

before(() => {
  dir = mkdtempSync(join(tmpdir(), 'nke-cli-'));
});
after(() => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** A started command; `ended` resolves when it has. */
function start(
  command: string,
  args: readonly string[],
): { child: ChildProcess; ended: Promise<Ended>; line: (pattern: RegExp) => Promise<string> } {
  const child = spawn(command, args, {
    env: { ...process.env, XDG_RUNTIME_DIR: dir, NKE_APPLIANCE: '' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let out = '';
  let err = '';
  const waiting: { pattern: RegExp; resolve: (line: string) => void; reject: (e: Error) => void }[] = [];
  const look = () => {
    for (const w of [...waiting]) {
      const m = w.pattern.exec(out);
      if (m === null) continue;
      waiting.splice(waiting.indexOf(w), 1);
      w.resolve(m[0]);
    }
  };
  child.stdout!.on('data', d => {
    out += String(d);
    look();
  });
  child.stderr!.on('data', d => {
    err += String(d);
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', status => {
      running.delete(child);
      for (const w of waiting) w.reject(new Error(`ended with ${status} before ${w.pattern}: ${out}${err}`));
      resolve({ status, out, err });
    });
  });
  const line = (pattern: RegExp) =>
    new Promise<string>((resolve, reject) => {
      waiting.push({ pattern, resolve, reject });
      look();
    });
  return { child, ended, line };
}

const start_nke = (...args: string[]) => start(process.execPath, [program, ...args]);
const nke = (...args: string[]) => start_nke(...args).ended;

/** A UDP port that is free on some loopback addresses. */
async function freePort(...addresses: string[]): Promise<number> {
  const open = (address: string, port: number) =>
    new Promise<ReturnType<typeof createSocket>>((resolve, reject) => {
      const s = createSocket('udp4');
      s.once('error', reject);
      s.bind(port, address, () => resolve(s));
    });
  const first = await open(addresses[0]!, 0);
  const { port } = first.address();
  const rest = await Promise.all(addresses.slice(1).map(a => open(a, port)));
  for (const s of [first, ...rest]) s.close();
  return port;
}

/** JSON of a command that must succeed. */
async function json<T>(...args: string[]): Promise<T> {
  const r = await nke(...args, '--json');
  assert.equal(r.status, 0, r.err);
  return JSON.parse(r.out) as T;
}

/** A command that must be refused: status 2, one line on stderr. */
async function refused(why: RegExp, ...args: string[]): Promise<void> {
  const r = await nke(...args);
  assert.equal(r.status, 2, `${args.join(' ')}: ${r.out}${r.err}`);
  assert.match(r.err, why);
  assert.equal(r.err.trim().split('\n').length, 1, r.err);
}

describe('nke', { timeout: 120_000 }, () => {
  test('up, every command against it, and a clean end', async () => {
    const port = await freePort('127.0.0.11', '127.0.0.12');
    const up = start_nke(
      'up',
      '--name',
      'a',
      '--port',
      `udp:127.0.0.11:${port}`,
      '--address',
      '127.0.0.11/8',
      '--port',
      `udp:127.0.0.12:${port}`,
      '--kext',
      'SCTP',
      '--json',
    );
    const ready = JSON.parse(await up.line(/\{.*\}/)) as { control: string; pid: number };
    assert.equal(statSync(ready.control).mode & 0o777, 0o600);
    assert.equal(statSync(join(dir, 'nke')).mode & 0o777, 0o700);

    const interfaces = await json<{ name: string; link: boolean; addresses: string[] }[]>('ifconfig');
    assert.deepEqual(
      interfaces.map(i => i.name),
      ['lo0', 'nke0', 'nke1'],
    );
    assert.deepEqual(interfaces[1]!.addresses, ['127.0.0.11/8']);
    assert.deepEqual(interfaces[2]!.addresses, ['127.0.0.12/8']);
    assert.ok(interfaces.every(i => i.link));
    assert.deepEqual(await json('sysctl', 'net.inet.sctp.rto_min=250'), await json('sysctl', 'net.inet.sctp.rto_min'));
    assert.equal((await json<{ value: number }[]>('sysctl', 'net.inet.sctp.udp_tunneling_port'))[0]!.value, port);
    assert.equal((await json<{ link: boolean }[]>('link', 'nke0', 'down'))[0]!.link, false);
    assert.equal((await json<{ link: boolean }[]>('link', 'nke0', 'up'))[0]!.link, true);
    for (const celsius of [90, 30]) {
      const rows = await json<{ name: string; value: number }[]>('card', 'nke0', `temperature=${celsius}`);
      assert.equal(rows.find(r => r.name === 'temperature')!.value, celsius);
    }
    assert.equal((await json<{ power: string }[]>('power', 'nke1', 'd3hot'))[0]!.power, 'D3hot');
    assert.equal((await json<{ power: string }[]>('power', 'all', 'wake'))[1]!.power, 'D0');
    assert.deepEqual((await json<{ addresses: string[] }[]>('ifconfig', 'nke0', '10.9.8.7/24'))[0]!.addresses, [
      '127.0.0.11/8',
      '10.9.8.7/24',
    ]);
    assert.deepEqual(
      (await json<{ addresses: string[] }[]>('ifconfig', 'nke0', '10.9.8.7/24', 'delete'))[0]!.addresses,
      ['127.0.0.11/8'],
    );
    assert.deepEqual(await json('paths'), []);
    assert.ok('sctp' in (await json<object>('netstat', '-s')));
    assert.ok((await json<unknown[]>('netstat', '-r')).length >= 3);
    assert.ok((await json<unknown[]>('netstat', '-m')).length === 3);
    assert.ok('sctps_currestab' in (await json<{ counters: { sctp: object } }>('netstat', '-p', 'sctp')).counters.sctp);
    await json('kextunload', 'SCTP');
    const sctp = (await json<{ name: string; state: string }[]>('kextstat')).find(k => k.name === 'SCTP');
    assert.equal(sctp!.state, 'not loaded');
    await json('kextload', 'SCTP');
    const events = (await nke('event', '--json')).out
      .trim()
      .split('\n')
      .map(l => (JSON.parse(l) as { kind: string }).kind);
    for (const kind of ['link-off', 'link-on', 'power', 'kext-loaded', 'kext-unloaded', 'address-added'])
      assert.ok(events.includes(kind), kind);
    for (const command of ['ifconfig', 'kextstat', 'sysctl', 'netstat', 'paths', 'event']) {
      const r = await nke(command);
      assert.equal(r.status, 0, r.err);
      assert.ok(r.out.length > 0, command);
    }

    await refused(/there is no interface "nke7"; there are lo0, nke0, nke1/, 'ifconfig', 'nke7');
    await refused(/there is no card "nke9"/, 'link', 'nke9', 'down');
    await refused(/allowed: up, down/, 'link', 'nke0', 'sideways');
    await refused(/there is no sysctl net\.nonsense/, 'sysctl', 'net.nonsense=1');
    await refused(/rto_min cannot be -1 .*allowed: 0 to/, 'sysctl', 'net.inet.sctp.rto_min=-1');
    await refused(/there is no extension "TCP"; there is SCTP/, 'kextload', 'TCP');
    await refused(/is loaded already/, 'kextload', 'SCTP');
    await refused(/there are no counters of "tcp"; there are/, 'netstat', '-p', 'tcp');
    await refused(/already listens .*another --name/, 'up', '--name', 'a', '--port', 'wire:x');
    await refused(/another program uses this port/, 'up', '--name', 'b', '--port', `udp:127.0.0.11:${port}`);
    assert.deepEqual(readdirSync(join(dir, 'nke')), ['a.sock']);

    const following = start_nke('event', '--follow', '--json');
    // The stream has begun when an event of ours comes through it.
    const poke = setInterval(
      () => void nke('ifconfig', 'nke0', '10.9.8.7/24').then(() => nke('ifconfig', 'nke0', '10.9.8.7/24', 'delete')),
      700,
    );
    await following.line(/address-added/);
    clearInterval(poke);
    following.child.kill('SIGINT');
    assert.equal((await following.ended).status, 0);

    up.child.kill('SIGTERM');
    assert.equal((await up.ended).status, 0);
    assert.equal(existsSync(ready.control), false);
    await refused(/no appliance is running/, 'ifconfig');
  });

  test('bad requests: one line, status 2, nothing left behind', async () => {
    await refused(/needs a card: give --port/, 'up');
    await refused(/is no port; write wire:NAME/, 'up', '--port', 'smoke:signal');
    await refused(/--address belongs to a card/, 'up', '--address', '10.0.0.1/8');
    await refused(/unknown option '--prot'/, 'up', '--prot', 'wire:x');
    await refused(/unknown command 'fly'/, 'fly');
    await refused(/ENOENT.*--config/, 'up', '--config', join(dir, 'none.json'));
    await refused(/not an Internet address/, 'traffic', 'client', 'localhost', '--port', 'wire:x');
    await refused(
      /exclude each other/,
      'traffic',
      'client',
      '127.0.0.1',
      '--port',
      'wire:x',
      '--messages',
      '1',
      '--seconds',
      '1',
    );
    await refused(/not one of this machine's|EADDRNOTAVAIL/, 'up', '--port', 'udp:192.0.2.77:9899');
    const file = join(dir, 'bad.json');
    writeFileSync(file, '{\n  "cards": [\n    { "port": "wire:a", "mtu": 12 }\n  ]\n}\n');
    const r = await nke('up', '--config', file);
    assert.equal(r.status, 2);
    assert.match(r.err, /bad\.json:3:32: "mtu" is 12; allowed: 576 to 65535\n$/);
    assert.deepEqual(existsSync(join(dir, 'nke')) ? readdirSync(join(dir, 'nke')) : [], []);
    for (const args of [
      ['--help'],
      ['up', '--help'],
      ['traffic', 'client', '--help'],
      ['paths', '--help'],
      ['--version'],
    ]) {
      const help = await nke(...args);
      assert.equal(help.status, 0);
      assert.ok(args[0] === '--version' || help.out.includes('Examples:'), args.join(' '));
    }
  });

  test('a configuration file runs, its capture is written', async () => {
    const port = await freePort('127.0.0.13');
    const file = join(dir, 'good.json');
    const capture = join(dir, 'good.pcapng');
    writeFileSync(
      file,
      JSON.stringify({
        name: 'good',
        cards: [{ name: 'eth7', port: `udp:127.0.0.13:${port}`, capture }],
        kexts: ['SCTP'],
        sysctl: { 'net.inet.sctp.rto_min': 333 },
      }),
    );
    const up = start_nke('up', '--config', file);
    await up.line(/good is up/);
    assert.equal((await json<{ value: number }[]>('sysctl', '-a', 'good', 'net.inet.sctp.rto_min'))[0]!.value, 333);
    up.child.kill('SIGINT');
    assert.equal((await up.ended).status, 0);
    assert.ok(statSync(capture).size > 0);
  });

  test('traffic: client against our echo, discard and chargen servers', async () => {
    const port = await freePort('127.0.0.14', '127.0.0.15');
    const other = await freePort('127.0.0.14', '127.0.0.15');
    for (const [mode, more] of [
      ['echo', ['--messages', '2000', '--size', '1,64,1400,20000']],
      ['echo', ['--messages', '2000', '--streams', '7', '--unordered']],
      ['discard', ['--seconds', '0.5']],
      ['chargen', ['--messages', '1000']],
    ] as const) {
      const server = start_nke('traffic', mode, '--port', `udp:127.0.0.14:${port}`, '--json');
      await server.line(/"ready":true/);
      const client = await nke(
        'traffic',
        'client',
        '127.0.0.14',
        '--mode',
        mode,
        '--encaps-port',
        String(port),
        '--port',
        `udp:127.0.0.15:${other}`,
        ...more,
        '--json',
      );
      assert.equal(client.status, 0, client.out + client.err);
      const result = JSON.parse(client.out) as { ok: boolean; sent: { bytes: number }; received: { bytes: number } };
      assert.equal(result.ok, true);
      server.child.kill('SIGTERM');
      const ended = await server.ended;
      assert.equal(ended.status, 0, ended.err);
      const tally = JSON.parse(ended.out.trim().split('\n').at(-1)!) as { failed: number; received: { bytes: number } };
      assert.equal(tally.failed, 0);
      assert.equal(tally.received.bytes, result.sent.bytes);
    }
    const nobody = await nke(
      'traffic',
      'client',
      '127.0.0.14',
      '--encaps-port',
      String(port),
      '--port',
      `udp:127.0.0.15:${other}`,
      '--json',
    );
    assert.equal(nobody.status, 1);
    assert.match(nobody.out, /"error":"connect E[A-Z]+: .*RFC 9260/);
  });

  const usrsctp = '/usr/lib/usrsctp';
  test("traffic: client against usrsctp's echo and discard servers", {
    skip: existsSync(join(usrsctp, 'echo_server')) ? false : 'Debian package libusrsctp-examples is not installed',
  }, async () => {
    const ours = await freePort('127.0.0.1');
    for (const mode of ['echo', 'discard'] as const) {
      const theirs = await freePort('0.0.0.0');
      const server = start(join(usrsctp, `${mode}_server`), [String(theirs), String(ours)]);
      try {
        // It says nothing when it is ready; the client's INIT is repeated until it answers.
        const client = await nke(
          'traffic',
          'client',
          '127.0.0.1',
          '--mode',
          mode,
          '--encaps-port',
          String(theirs),
          '--port',
          `udp:127.0.0.1:${ours}`,
          '--messages',
          '1000',
          '--size',
          '64,1400,4000',
          '--json',
        );
        assert.equal(client.status, 0, client.out + client.err);
      } finally {
        server.child.kill('SIGKILL');
        await server.ended;
      }
    }
  });

  test('doctor says that the default can run', async () => {
    const report = await json<{ ready: boolean; ports: { port: string; usable: boolean }[] }>('doctor');
    assert.equal(report.ready, true);
    assert.equal(report.ports.find(p => p.port === 'udp')!.usable, true);
    assert.match((await nke('doctor')).out, /Usable/);
  });

  test('the demonstration holds: two processes, two paths, a pulled cable, every byte', async () => {
    const began = performance.now();
    const r = await nke('demo', '--json', '--seconds', '3');
    assert.equal(r.status, 0, r.out.slice(0, 2000) + r.err);
    assert.ok(performance.now() - began < 20_000);
    const s = JSON.parse(r.out) as {
      ok: boolean;
      sent: { bytes: number; sha256: string };
      received: { bytes: number; sha256: string };
      failoverMs: number;
      checks: Record<string, boolean>;
      steps: { step: string }[];
    };
    assert.equal(s.ok, true);
    assert.equal(s.sent.bytes, s.received.bytes);
    assert.equal(s.sent.sha256, s.received.sha256);
    assert.ok(s.failoverMs < 1000);
    assert.ok(Object.values(s.checks).every(Boolean));
    const steps = s.steps.map(x => x.step);
    for (const step of [
      'power up',
      'link up',
      'kextload',
      'path',
      'cable out',
      'failover',
      'cable in',
      'path back',
      'shutdown',
      'kextunload',
    ])
      assert.ok(steps.includes(step), step);
  });
});
