import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { pidAlive } from './cleanup.js';
import { Netns, skipWithoutNetns, sweepNetns } from './netns.js';
import { skipWithout } from './peers.js';

const skip = skipWithoutNetns() || skipWithout('iperf3');
const exists = (name: string) => existsSync(`/run/netns/${name}`);
const module = (name: string) => JSON.stringify(new URL(`./${name}.js`, import.meta.url).href);

/**
 * Runs a program in a Node process of its own that makes a namespace `netns` and starts a sleep in it, then does `act`.
 * Resolves with what it printed (the namespace's name and the pid of the sleep) and how it ended.
 */
async function inChild(act: string, signal?: NodeJS.Signals) {
  const program = `
    import { Netns } from ${module('netns')};
    const netns = new Netns();
    netns.addTap('t0');
    const sleep = netns.start(['sleep', '30']);
    console.log(netns.name, sleep.pid);
    ${act}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const deadline = setTimeout(() => child.kill('SIGKILL'), 20_000);
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
    if (signal && printed.includes('\n')) child.kill(signal);
  });
  const [status, ended] = await new Promise<[number | null, NodeJS.Signals | null]>(resolve =>
    child.on('exit', (...how) => resolve(how)),
  );
  clearTimeout(deadline);
  const [name, pid] = printed.trim().split(' ');
  assert.ok(name && pid, `the child printed ${JSON.stringify(printed)}`);
  return { name, pid: Number(pid), status, signal: ended };
}

/** Whether a pid is gone, a moment given to whoever reaps it. */
async function gone(pid: number): Promise<boolean> {
  for (let i = 0; i < 100 && pidAlive(pid); i++) await new Promise(resolve => setTimeout(resolve, 10));
  return !pidAlive(pid);
}

test('links, addresses and traffic stay in the namespace, which goes with all of them', { skip }, async () => {
  let name: string;
  {
    using one = new Netns();
    using two = new Netns();
    name = one.name;
    assert.notEqual(one.name, two.name);
    one.addTap('t0', { mtu: 9000, mac: '02:00:00:00:00:01' });
    one.addTun('u0');
    one.addBridge('br0', ['t0'], { addresses: ['10.7.0.254/24'] });
    one.addVeth('v0', 'v1', {
      near: { addresses: ['10.7.1.1/24', 'fd07::1/64'] },
      far: { addresses: ['10.7.1.2/24', 'fd07::2/64'] },
      other: two,
    });
    const links = JSON.parse(one.ip('-j', 'link', 'show')) as { ifname: string; mtu: number; address: string }[];
    assert.deepEqual(links.map(link => link.ifname).sort(), ['br0', 'lo', 't0', 'u0', 'v0']);
    const tap = links.find(link => link.ifname === 't0');
    assert.deepEqual([tap?.mtu, tap?.address], [9000, '02:00:00:00:00:01']);
    for (const [address, family] of [
      ['10.7.1.2', '-4'],
      ['fd07::2', '-6'],
    ] as const) {
      const server = two.start(['iperf3', '-s', '-1', family, '-B', address, '--forceflush']);
      await server.until('it listened', () => server.stdout.includes('listening') || undefined);
      const client = one.run(['iperf3', '-c', address, '-n', '1M']);
      assert.equal(client.status, 0, client.stdout + client.stderr);
    }
    one.setLink('v0', false);
    assert.match(one.ip('link', 'show', 'v0'), /state DOWN/);
    assert.throws(() => one.ip('link', 'set', 'nothing', 'up'), /ip -n nke-.*Cannot find device/);
  }
  assert.equal(exists(name), false);
  const here = new Netns();
  here[Symbol.dispose]();
  here[Symbol.dispose](); // twice is once
});

test('a process that ends, throws or is interrupted leaves no namespace and no process', { skip }, async () => {
  const ways: [string, NodeJS.Signals | undefined][] = [
    ['process.exit(3)', undefined],
    ['throw new Error("a test failed")', undefined],
    ['', 'SIGINT'],
    ['', 'SIGTERM'],
  ];
  for (const [act, signal] of ways) {
    const child = await inChild(act, signal);
    assert.equal(exists(child.name), false, `${act}${signal}: namespace`);
    assert.ok(await gone(child.pid), `${act}${signal}: process`);
    assert.equal(child.signal, signal ?? null);
    if (!signal) assert.notEqual(child.status, 0);
  }
});

test('what a killed process left is swept, what a living one has is not', { skip }, async () => {
  using mine = new Netns();
  const child = await inChild('', 'SIGKILL');
  assert.equal(exists(child.name), true);
  process.kill(child.pid, 'SIGKILL'); // its sleep outlived it
  assert.ok(sweepNetns().includes(child.name));
  assert.equal(exists(child.name), false);
  assert.equal(exists(mine.name), true);
});
