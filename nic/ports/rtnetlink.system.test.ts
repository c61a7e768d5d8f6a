import assert from 'node:assert/strict';
import { test } from 'node:test';
import { getSystemErrorName } from 'node:util';
import { type Native, native } from '../native.js';
import { liveInNamespace, makeNamespace, noNamespace, run } from './netns.fixture.js';
import { PortError } from './port.js';
import { LinkMonitor } from './rtnetlink.js';

const skip = noNamespace();
if (!skip) liveInNamespace();
const OTHER = skip ? '' : makeNamespace('-link');
const other = OTHER.replace('/run/netns/', '');

/** A veth pair whose far end is in another namespace; gone after the test. */
function it(what: string, body: () => void | Promise<void>) {
  test(`link monitor: ${what}`, { skip }, async () => {
    run('ip', 'link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb', 'netns', OTHER);
    try {
      await body();
    } finally {
      run('ip', '-n', other, 'link', 'del', 'vb');
    }
  });
}

/** Polls, giving the loop its turns, until `done`; the clock only bounds a failure. Returns milliseconds. */
async function until(m: LinkMonitor, what: string, done: () => boolean): Promise<number> {
  const start = performance.now();
  for (;;) {
    m.poll();
    if (done()) return performance.now() - start;
    assert.ok(performance.now() - start < 3000, what);
    await new Promise(resolve => setTimeout(resolve, 1));
  }
}

it('what it knows from the start', () => {
  run('ip', 'link', 'set', 'va', 'address', '02:00:00:00:00:07', 'mtu', '1400', 'up');
  run('ip', 'address', 'add', '10.3.0.1/24', 'dev', 'va');
  const m = LinkMonitor.open('va');
  try {
    assert.equal(m.name, 'va');
    assert.ok(m.fd >= 0 && m.index > 1);
    assert.deepEqual([...m.mac], [2, 0, 0, 0, 0, 7]);
    assert.deepEqual([m.mtu, m.up, m.carrier, m.present], [1400, true, false, true]);
    assert.deepEqual(m.addresses, ['10.3.0.1/24']);
    assert.equal(m.poll(), false, 'no news');
  } finally {
    m.close();
    m.close();
  }
  assert.equal(m.poll(), false);
  m.refresh();
});

it('in another namespace, from outside', () => {
  const m = LinkMonitor.open('vb', OTHER);
  assert.equal(m.present, true);
  m.close();
});

it('changes of MTU, hardware address, state and addresses, each reported once', async () => {
  const m = LinkMonitor.open('va');
  let calls = 0;
  m.onChange = () => calls++;
  try {
    run('ip', 'link', 'set', 'va', 'mtu', '1300');
    assert.equal(m.poll(), true);
    assert.equal(m.mtu, 1300);
    run('ip', 'link', 'set', 'va', 'address', '02:00:00:00:00:08');
    assert.equal(m.poll(), true);
    assert.equal(m.mac[5], 8);
    assert.equal(calls, 2);
    run('ip', 'link', 'set', 'va', 'up');
    await until(m, 'up', () => m.up);
    assert.equal(m.carrier, false, 'the far side is down');
    run('ip', '-n', other, 'link', 'set', 'vb', 'up');
    await until(m, 'carrier', () => m.carrier);
    run('ip', 'address', 'add', '10.3.0.1/24', 'dev', 'va');
    await until(m, 'an address', () => m.addresses.includes('10.3.0.1/24'));
    run('ip', 'address', 'del', '10.3.0.1/24', 'dev', 'va');
    await until(m, 'and without', () => m.addresses.length === 0);
    calls = 0;
    assert.equal(m.poll(), false);
    assert.equal(calls, 0);
  } finally {
    m.close();
  }
});

it('carrier within 10 ms, on links of every kind of index', async () => {
  // The kernel holds announcements back for interfaces whose index equals that of the other end.
  for (const same of [false, true]) {
    run(
      'ip',
      'link',
      'add',
      'vc',
      'index',
      '77',
      'type',
      'veth',
      'peer',
      'name',
      'vd',
      'index',
      same ? '77' : '78',
      'netns',
      OTHER,
    );
    run('ip', 'link', 'set', 'vc', 'up');
    run('ip', '-n', other, 'link', 'set', 'vd', 'up');
    const m = LinkMonitor.open('vc');
    try {
      await until(m, 'carrier', () => m.carrier);
      const times: number[] = [];
      for (let i = 0; i < 10; i++) {
        const up = i % 2 === 1;
        run('ip', '-n', other, 'link', 'set', 'vd', up ? 'up' : 'down');
        times.push(await until(m, `carrier ${up}`, () => m.carrier === up));
      }
      // On a busy machine one or the other may be late; what linkwatch holds back would be most.
      assert.ok(times.filter(ms => ms < 10).length >= 7, `${same}: ${times.map(ms => ms.toFixed(1)).join(' ')}`);
    } finally {
      m.close();
      run('ip', 'link', 'del', 'vc');
    }
  }
});

it('deleted, moved away, renamed: gone; renamed back: there', async () => {
  const m = LinkMonitor.open('va');
  run('ip', 'link', 'set', 'va', 'name', 'vx');
  assert.equal(m.poll(), true);
  assert.deepEqual([m.present, m.carrier, m.up], [false, false, false]);
  run('ip', 'link', 'set', 'vx', 'name', 'va');
  await until(m, 'back', () => m.present);
  run('ip', 'link', 'set', 'va', 'netns', OTHER);
  await until(m, 'moved', () => !m.present);
  m.refresh();
  assert.equal(m.present, false);
  m.close();
  run('ip', '-n', other, 'link', 'set', 'va', 'netns', `/proc/${process.pid}/ns/net`);
});

it('news that was lost is asked for again', () => {
  let lose = false;
  const ENOBUFS = -[...Array(200).keys()].find(n => n > 0 && getSystemErrorName(-n) === 'ENOBUFS')!;
  const leaky: Native = {
    ...native!,
    netlinkReceive(fd, bytes) {
      const r = native!.netlinkReceive(fd, bytes);
      if (!lose || r < 0) return r;
      while (native!.netlinkReceive(fd, bytes) >= 0);
      lose = false;
      return ENOBUFS;
    },
  };
  const m = LinkMonitor.open('va', undefined, leaky);
  run('ip', 'link', 'set', 'va', 'mtu', '1280');
  run('ip', 'address', 'add', '10.3.0.9/24', 'dev', 'va');
  lose = true;
  assert.equal(m.poll(), true);
  assert.equal(m.mtu, 1280);
  assert.deepEqual(m.addresses, ['10.3.0.9/24']);
  m.close();
});

it('messages that lie about their lengths are no reason to stop', () => {
  let forge: Uint8Array | undefined;
  const m = LinkMonitor.open('va', undefined, {
    ...native!,
    netlinkReceive(fd, bytes) {
      if (forge === undefined) return native!.netlinkReceive(fd, bytes);
      bytes.set(forge);
      const n = forge.length;
      forge = undefined;
      return n;
    },
  });
  const message = (type: number, claimed: number, ...body: number[]) => {
    const u8 = new Uint8Array(16 + body.length);
    new Int32Array(u8.buffer, 0, 1)[0] = claimed;
    new Uint16Array(u8.buffer, 0, 8)[2] = type;
    u8.set(body, 16);
    return u8;
  };
  const index = [...new Uint8Array(Int32Array.of(m.index).buffer)];
  const link = [0, 0, 1, 0, ...index, 1, 0, 0, 0, 0, 0, 0, 0];
  for (const bytes of [
    message(16, 0),
    message(16, 15),
    message(16, 4000),
    message(16, 16),
    message(16, 20, 0, 0, 1, 0),
    message(16, 36, ...link, 3, 0, 4, 0), // an attribute shorter than its header
    message(16, 36, ...link, 200, 0, 4, 0), // longer than the message
    message(16, 37, ...link, 5, 0, 4, 0, 9), // an MTU of one byte
    message(20, 24, 2, 24, 0, 0, ...index),
    message(20, 30, 2, 24, 0, 0, ...index, 6, 0, 1, 0, 10, 1), // two bytes of an IPv4 address
    new Uint8Array(7),
  ]) {
    forge = bytes;
    m.poll();
    assert.deepEqual(m.addresses, []);
    assert.equal(m.mtu, 1500);
  }
  m.refresh();
  assert.equal(m.present, true);
  m.close();
});

test('link monitor: what cannot be watched is said', { skip }, () => {
  const fails = (code: string, pattern: RegExp, open: () => LinkMonitor) =>
    assert.throws(open, (e: unknown) => e instanceof PortError && e.code === code && pattern.test(e.message));
  fails('ENODEV', /no network interface nosuch0 here; "ip link"/, () => LinkMonitor.open('nosuch0'));
  fails('EINVAL', /no interface name/, () => LinkMonitor.open('a name with spaces'));
  fails('ENOENT', /namespace at \/run\/netns\/nosuch/, () => LinkMonitor.open('lo', '/run/netns/nosuch'));
});
