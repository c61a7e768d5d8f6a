import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { repairHeaders } from './headers.js';
import { liveInNamespace, makeNamespace, noNamespace, run } from './netns.fixture.js';
import { createPort } from './open.js';
import { PacketPort, type PacketPortOptions } from './packet.js';
import { etherEnd, readPayload, writeIp, writePayload } from './packets.fixture.js';
import { portContract } from './port.contract.js';
import { BATCH_L3_TRUSTED, Batch, Memory, type Port, PortError } from './port.js';

const skip = noNamespace();
if (!skip) liveInNamespace();
const OTHER = skip ? '' : makeNamespace('-far');
const far = (...args: string[]) => run('ip', '-n', OTHER.replace('/run/netns/', ''), ...args);

const MAC_A = Uint8Array.of(2, 0, 0, 0, 0, 0xa1);
const MAC_B = Uint8Array.of(2, 0, 0, 0, 0, 0xb1);
const TYPE = 0x88b5;

/** A veth pair: va here, vb in the other namespace; both up. Far indices differ from ours, as they mostly do. */
function veth(mtu = 1500): void {
  unveth(); // what a test that failed left
  spawnSync('ip', ['-n', OTHER.replace('/run/netns/', ''), 'link', 'del', 'vb']);
  run(
    'ip',
    'link',
    'add',
    'va',
    'mtu',
    String(mtu),
    'type',
    'veth',
    'peer',
    'name',
    'vb',
    'mtu',
    String(mtu),
    'netns',
    OTHER,
  );
  run('ip', 'link', 'set', 'va', 'up');
  far('link', 'set', 'vb', 'up');
}
const unveth = () => spawnSync('ip', ['link', 'del', 'va']);

const near = (o: Partial<PacketPortOptions> = {}) =>
  new PacketPort({ interface: 'va', mac: MAC_A, etherTypes: [TYPE], ...o });
const distant = (o: Partial<PacketPortOptions> = {}) =>
  new PacketPort({ interface: 'vb', netns: OTHER, mac: MAC_B, etherTypes: [TYPE], ...o });

for (const mtu of [1500, 9000]) {
  portContract(
    `packet, a veth pair between namespaces, MTU ${mtu}`,
    () => {
      veth(mtu);
      return { a: etherEnd(near(), MAC_B, MAC_A), b: etherEnd(distant(), MAC_A, MAC_B), dispose: unveth };
    },
    { smallest: 60, longest: p => p.capabilities.mtu + 14, refusesWithin: 0, skip },
  );
}

const REGION = 4 << 20;
const ROOM = 66_000;

/** A port that is open, with a region and batches. */
class Station {
  readonly port: PacketPort;
  readonly memory = new Memory(new ArrayBuffer(REGION));
  readonly tx = new Batch(64);
  readonly rx = new Batch(16);
  constructor(port: PacketPort) {
    this.port = port;
    port.open(this.memory);
  }
  get u8(): Uint8Array {
    return this.memory.u8;
  }
  /** Sends the frame that `write` writes at the offset it is given; its length is what `write` returns. */
  send(write: (u8: Uint8Array, off: number) => number): number {
    this.tx.off[0] = 1024;
    this.tx.len[0] = write(this.u8, 1024);
    this.tx.segsz[0] = 0;
    this.tx.hdrlen[0] = 0;
    this.tx.count = 1;
    return this.port.transmit(this.tx, 0);
  }
  receive(): number {
    for (let i = 0; i < 16; i++) {
      this.rx.off[i] = (1 << 20) + i * ROOM;
      this.rx.cap[i] = ROOM;
    }
    return this.port.receive(this.rx, 16, 0);
  }
  /** Receives until something satisfies `match`, sleeping by arm, or until `ms` have passed. */
  async until(match: (off: number, len: number, i: number) => boolean, ms = 1000): Promise<boolean> {
    const end = performance.now() + ms;
    for (;;) {
      const n = this.receive();
      for (let i = 0; i < n; i++) if (match(this.rx.off[i]!, this.rx.len[i]!, i)) return true;
      if (performance.now() > end) return false;
      if (n === 0) await wake(this.port, Math.max(1, end - performance.now()));
    }
  }
}

function wake(port: Port, ms: number): Promise<boolean> {
  return new Promise(resolve => {
    const timer = setTimeout(() => {
      port.disarm();
      resolve(false);
    }, ms);
    port.arm(() => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}

/** Runs `body` with a veth pair and ports, all of which are gone afterwards. */
function it(
  what: string,
  body: (
    a: (o?: Partial<PacketPortOptions>) => Station,
    b: (o?: Partial<PacketPortOptions>) => Station,
  ) => Promise<void> | void,
) {
  test(`packet: ${what}`, { skip }, async () => {
    const open: PacketPort[] = [];
    const station = (port: PacketPort) => {
      open.push(port);
      return new Station(port);
    };
    veth();
    try {
      await body(
        o => station(near(o)),
        o => station(distant(o)),
      );
    } finally {
      for (const port of open) port.close();
      unveth();
    }
  });
}

const ether = (u8: Uint8Array, off: number, to: Uint8Array, from: Uint8Array, type: number) => {
  u8.set(to, off);
  u8.set(from, off + 6);
  u8[off + 12] = type >>> 8;
  u8[off + 13] = type;
};
/** A frame of our own type with a payload of `n` bytes. */
const plain =
  (to: Uint8Array, from: Uint8Array, seed: number, n = 100) =>
  (u8: Uint8Array, off: number) => {
    ether(u8, off, to, from, TYPE);
    writePayload(u8, off + 14, off + 14 + n, seed);
    return 14 + n;
  };
const hasSeed = (s: Station, seed: number) => (off: number, len: number) =>
  readPayload(s.u8, off + 14, off + len) === seed;

/** Waits for a carrier state; milliseconds since `from`. */
async function carrierIs(port: PacketPort, up: boolean, from: number): Promise<number> {
  const batch = new Batch(1);
  while (port.carrier !== up) {
    if (performance.now() - from > 3000) assert.fail(`carrier did not become ${up}`);
    await wake(port, 100);
    port.receive(batch, 0, 0);
  }
  return performance.now() - from;
}

const failure = (what: () => void): PortError => {
  try {
    what();
  } catch (e) {
    assert.ok(e instanceof PortError, String(e));
    return e;
  }
  return assert.fail('it did not fail');
};

test('packet: an interface that does not exist, and one that carries no Ethernet', { skip }, () => {
  const memory = new Memory(new ArrayBuffer(4096));
  const e = failure(() => createPort('packet:nosuch0').open(memory));
  assert.equal(e.code, 'ENODEV');
  assert.match(e.message, /no network interface nosuch0.*ip link/);
  assert.match(failure(() => createPort('packet:lo').open(memory)).message, /no Ethernet/);
  assert.match(failure(() => createPort('packet:a/b')).message, /no interface name/);
  assert.match(
    failure(() => new PacketPort({ interface: 'x', netns: '/run/netns/nosuch' }).open(memory)).message,
    /no network namespace/,
  );
});

test('packet: without privilege it says what is needed', { skip }, () => {
  const index = fileURLToPath(new URL('./open.js', import.meta.url));
  const program = `
    process.setgroups([]); process.setgid(65534); process.setuid(65534);
    const { createPort } = await import(${JSON.stringify(index)});
    const { Memory } = await import(${JSON.stringify(fileURLToPath(new URL('./port.js', import.meta.url)))});
    try { createPort('packet:lo').open(new Memory(new ArrayBuffer(4096))); console.log('opened'); }
    catch (e) { console.log(e.code + ' ' + e.message); }`;
  const r = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  assert.match(r.stdout, /^EPERM cannot open packet:lo: a packet socket needs root or CAP_NET_RAW/, r.stderr);
});

it('an MTU above the interface’s, its own hardware address and its own IP address are refused', () => {
  const memory = new Memory(new ArrayBuffer(4096));
  assert.match(failure(() => near({ mtu: 4000 }).open(memory)).message, /the interface has 1500; give at most that/);
  const own = Uint8Array.from(JSON.parse(run('ip', '-j', 'link', 'show', 'va'))[0].address.split(':'), x =>
    Number.parseInt(x as string, 16),
  );
  assert.match(failure(() => near({ mac: own }).open(memory)).message, /hardware address is the interface's own/);
  run('ip', 'address', 'add', '10.7.0.1/24', 'dev', 'va');
  assert.match(
    failure(() => near({ addresses: ['10.7.0.1'] }).open(memory)).message,
    /the host has the address 10.7.0.1/,
  );
});

it('opens on an interface that is down, and works when it comes up', async (open, other) => {
  run('ip', 'link', 'set', 'va', 'down');
  const a = open();
  assert.equal(a.port.carrier, false);
  assert.equal(a.send(plain(MAC_B, MAC_A, 1)), 1, 'taken');
  assert.equal(a.port.counters.tx_no_carrier, 1);
  run('ip', 'link', 'set', 'va', 'up');
  await carrierIs(a.port, true, performance.now());
  const b = other();
  await carrierIs(b.port, true, performance.now());
  a.send(plain(MAC_B, MAC_A, 2));
  assert.ok(await b.until(hasSeed(b, 2)));
  b.send(plain(MAC_A, MAC_B, 3));
  assert.ok(await a.until(hasSeed(a, 3)));
});

it('the far side down and up is a carrier change within 10 ms', async open => {
  const a = open();
  const seen: boolean[] = [];
  a.port.onCarrier = up => seen.push(up);
  const times: number[] = [];
  for (let i = 0; i < 4; i++) {
    for (const up of [false, true]) {
      far('link', 'set', 'vb', up ? 'up' : 'down');
      times.push(await carrierIs(a.port, up, performance.now()));
    }
  }
  assert.deepEqual(seen, [false, true, false, true, false, true, false, true]);
  assert.equal(a.port.counters.link_changes, 8);
  // On a machine that is busy with other things one or the other may be late; what the kernel holds back would be most.
  assert.ok(times.filter(ms => ms < 10).length >= 6, times.map(ms => ms.toFixed(1)).join(' '));
});

it('down and up again while frames go', async (open, other) => {
  const a = open();
  const b = other();
  run('ip', 'link', 'set', 'va', 'down');
  await carrierIs(a.port, false, performance.now());
  await carrierIs(b.port, false, performance.now());
  assert.equal(a.send(plain(MAC_B, MAC_A, 1)), 1);
  assert.equal(a.port.counters.tx_no_carrier, 1);
  run('ip', 'link', 'set', 'va', 'up');
  await carrierIs(a.port, true, performance.now());
  a.send(plain(MAC_B, MAC_A, 2));
  assert.ok(await b.until(hasSeed(b, 2)), JSON.stringify([a.port.counters, b.port.counters]));
  assert.equal(a.port.counters.removed, 0);
});

for (const [how, take] of [
  ['deleted', () => run('ip', 'link', 'del', 'va')],
  ['moved away', () => run('ip', 'link', 'set', 'va', 'netns', OTHER)],
  ['renamed', () => run('ip', 'link', 'set', 'va', 'name', 'vz')],
] as const) {
  it(`an interface that is ${how} in mid-run: no carrier, nothing breaks`, async open => {
    const a = open();
    a.send(plain(MAC_B, MAC_A, 1));
    take();
    await carrierIs(a.port, false, performance.now());
    assert.equal(a.port.removed, true);
    assert.equal(a.port.counters.removed, 1);
    assert.equal(a.send(plain(MAC_B, MAC_A, 2)), 1, 'taken and dropped');
    assert.equal(a.port.counters.tx_no_carrier, 1);
    assert.equal(a.receive(), 0);
    let wakes = 0;
    for (; wakes < 5 && (await wake(a.port, 50)); wakes++) a.receive();
    assert.ok(wakes < 5, 'and it does not spin');
    a.port.close();
    assert.equal(failure(() => a.port.open(a.memory)).code, 'ENODEV');
    spawnSync('ip', ['link', 'del', 'vz']);
    spawnSync('ip', ['-n', OTHER.replace('/run/netns/', ''), 'link', 'del', 'vb']);
  });
}

it('a changed MTU is reported, and kept to', async open => {
  const a = open();
  run('ip', 'link', 'set', 'va', 'mtu', '1300');
  await wake(a.port, 500);
  a.receive();
  assert.equal(a.port.capabilities.mtu, 1300);
  assert.equal(a.port.counters.mtu_changes, 1);
  assert.equal(a.send(plain(MAC_B, MAC_A, 1, 1400)), 1);
  assert.equal(a.port.counters.tx_oversize, 1);
  run('ip', 'link', 'set', 'va', 'mtu', '9000');
  await wake(a.port, 500);
  a.receive();
  assert.ok(a.port.capabilities.mtu >= 1500 && a.port.capabilities.mtu < 9000, 'no more than its ring holds');
});

it('VLAN tags arrive where they were, both ways', async (open, other) => {
  const a = open();
  const b = other();
  for (const [from, to, source, target] of [
    [a, b, MAC_A, MAC_B],
    [b, a, MAC_B, MAC_A],
  ] as const) {
    from.send((u8, off) => {
      ether(u8, off, target, source, 0x8100);
      u8.set([0x60 | 1, 0x23, TYPE >>> 8, TYPE & 255], off + 14);
      writePayload(u8, off + 18, off + 1518, 77);
      return 1518;
    });
    let tag: number[] = [];
    assert.ok(
      await to.until((off, len) => {
        tag = [...to.u8.subarray(off + 12, off + 18)];
        return len === 1518 && readPayload(to.u8, off + 18, off + len) === 77;
      }),
    );
    assert.deepEqual(tag, [0x81, 0, 0x61, 0x23, TYPE >>> 8, TYPE & 255]);
  }
});

it('the filter: foreign stations, protocols and addresses do not come up', async (open, other) => {
  const a = open({ addresses: ['10.7.0.1'] });
  const b = other();
  const packet = (to: string, proto: number, mac: Uint8Array, seed: number) => (u8: Uint8Array, off: number) => {
    ether(u8, off, mac, MAC_B, 0x0800);
    const at = writeIp(u8, off + 14, off + 134, '10.7.0.2', to, proto);
    writePayload(u8, at, off + 134, seed);
    return 134;
  };
  b.send(packet('10.7.0.1', 132, Uint8Array.of(2, 0, 0, 0, 0, 0x99), 1)); // another station
  b.send(packet('10.7.0.9', 132, MAC_A, 2)); // another address
  b.send(packet('10.7.0.1', 6, MAC_A, 3)); // TCP
  b.send(packet('10.7.0.255', 17, Uint8Array.of(255, 255, 255, 255, 255, 255), 4)); // broadcast
  b.send(packet('10.7.0.1', 132, MAC_A, 5));
  const seeds: number[] = [];
  await a.until((off, len) => {
    const seed = readPayload(a.u8, off + 34, off + len);
    if (seed >= 0) seeds.push(seed);
    return seed === 5;
  });
  assert.deepEqual(seeds, [4, 5]);
  a.port.setAddresses(['10.7.0.9']);
  b.send(packet('10.7.0.1', 132, MAC_A, 6));
  b.send(packet('10.7.0.9', 132, MAC_A, 7));
  assert.ok(
    await a.until((off, len) => {
      const seed = readPayload(a.u8, off + 34, off + len);
      assert.notEqual(seed, 6);
      return seed === 7;
    }),
  );
});

it('without a given address it learns the card’s from what it sends', async (open, other) => {
  const a = new Station(new PacketPort({ interface: 'va', etherTypes: [TYPE] }));
  const b = other();
  try {
    a.send(plain(MAC_B, MAC_A, 1));
    assert.ok(await b.until(hasSeed(b, 1)));
    b.send(plain(Uint8Array.of(2, 0, 0, 0, 0, 0x99), MAC_B, 2));
    b.send(plain(MAC_A, MAC_B, 3));
    let wrong = 0;
    assert.ok(
      await a.until((off, len) => {
        if (hasSeed(a, 2)(off, len)) wrong++;
        return hasSeed(a, 3)(off, len);
      }),
    );
    assert.equal(wrong, 0);
  } finally {
    a.port.close();
  }
  void open;
});

const promiscuity = () =>
  JSON.parse(run('ip', '-j', '-d', 'link', 'show', 'va'))[0] as { promiscuity: number; allmulti: number };

it('the interface is left as it was found', open => {
  const before = promiscuity();
  const a = open({ promiscuous: true });
  assert.equal(promiscuity().promiscuity, before.promiscuity + 1);
  a.port.close();
  assert.deepEqual(promiscuity(), before);
});

it('also after a crash of ours', () => {
  const before = promiscuity();
  const program = `
    const { native } = await import(${JSON.stringify(fileURLToPath(new URL('../native.js', import.meta.url)))});
    const { PacketPort } = await import(${JSON.stringify(fileURLToPath(new URL('./packet.js', import.meta.url)))});
    const { Memory } = await import(${JSON.stringify(fileURLToPath(new URL('./port.js', import.meta.url)))});
    new PacketPort({ interface: 'va', promiscuous: true, mac: Uint8Array.of(2, 0, 0, 0, 0, 0xa1) }).open(new Memory(new ArrayBuffer(4096)));
    console.log('open');
    process.kill(process.pid, 'SIGKILL');`;
  const r = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  assert.equal(r.signal, 'SIGKILL');
  assert.deepEqual(promiscuity(), before);
});

it('the host’s own stack does not answer for us, and its frames do not come back to us', async (open, other) => {
  // Both hosts have addresses of their own on the link; ours are others.
  run('ip', 'address', 'add', '10.7.0.101/24', 'dev', 'va');
  far('address', 'add', '10.7.0.102/24', 'dev', 'vb');
  writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
  const a = open({ addresses: ['10.7.0.1'] });
  const b = other({ promiscuous: true, mac: MAC_B });
  // SCTP and an ARP request for our address, from B to A; then the host of A would speak, if it did, before a frame of A's own.
  b.send((u8, off) => {
    ether(u8, off, MAC_A, MAC_B, 0x0800);
    const at = writeIp(u8, off + 14, off + 134, '10.7.0.2', '10.7.0.1', 132);
    writePayload(u8, at, off + 134, 1);
    return 134;
  });
  b.send((u8, off) => {
    ether(u8, off, Uint8Array.of(255, 255, 255, 255, 255, 255), MAC_B, 0x0806);
    u8.set([0, 1, 8, 0, 6, 4, 0, 1, ...MAC_B, 10, 7, 0, 2, 0, 0, 0, 0, 0, 0, 10, 7, 0, 1], off + 14);
    u8.fill(0, off + 42, off + 60);
    return 60;
  });
  let sctp = 0;
  let arp = 0;
  await a.until((off, len) => {
    if (readPayload(a.u8, off + 34, off + len) === 1) sctp++;
    if (a.u8[off + 13] === 6) arp++;
    return sctp + arp === 2;
  });
  assert.deepEqual([sctp, arp], [1, 1], 'we heard both');
  a.send(plain(MAC_B, MAC_A, 9));
  const answers: string[] = [];
  assert.ok(
    await b.until((off, len) => {
      if (hasSeed(b, 9)(off, len)) return true;
      answers.push(Buffer.from(b.u8.subarray(off, off + len)).toString('hex'));
      return false;
    }),
  );
  assert.deepEqual(answers, []);
  // A sees the wire and not what its host sends.
  assert.equal(await a.until(() => true, 20), false);
});

/** An SCTP packet in an Ethernet frame: one DATA chunk with a payload. */
const sctp = (u8: Uint8Array, off: number, n: number, seed: number) => {
  ether(u8, off, MAC_B, MAC_A, 0x0800);
  const at = writeIp(u8, off + 14, off + n, '10.7.0.1', '10.7.0.2', 132);
  u8.set([0x13, 0x89, 0x13, 0x8a, 1, 2, 3, 4, 0, 0, 0, 0, 0, 3, (n - 46) >>> 8, (n - 46) & 255], at);
  writePayload(u8, at + 16, off + n, seed);
  return n;
};

it('a train is cut into packets, and SCTP packets of a flow come out as a train', async (open, other) => {
  const a = open();
  const b = other();
  const plainB = other({ trains: false });
  // 34 bytes of headers; 20 packets of 1,000 bytes and one of 500.
  const segsz = 1000;
  const u8 = a.u8;
  const at = 1024;
  sctp(u8, at, 34 + segsz, 0);
  for (let k = 0; k < 21; k++) {
    const p = at + 34 + k * segsz;
    u8.set(u8.subarray(at + 34, at + 50), p);
    writePayload(u8, p + 16, p + (k < 20 ? segsz : 500), 100 + k);
  }
  a.tx.off[0] = at;
  a.tx.len[0] = 34 + 20 * segsz + 500;
  a.tx.segsz[0] = segsz;
  a.tx.hdrlen[0] = 34;
  a.tx.count = 1;
  assert.equal(a.port.transmit(a.tx, 0), 1);
  assert.equal(a.port.counters.tx_packets, 21);
  const seeds: number[] = [];
  await plainB.until((off, len) => {
    const copy = plainB.u8.slice(off, off + len);
    repairHeaders(copy, 14, len, false, false);
    assert.deepEqual(plainB.u8.slice(off, off + len), copy, 'headers that are true');
    seeds.push(readPayload(plainB.u8, off + 50, off + len));
    return seeds.length === 21;
  });
  assert.deepEqual(
    seeds,
    Array.from({ length: 21 }, (_, i) => 100 + i),
  );
  const got: number[] = [];
  let trains = 0;
  await b.until((off, len, i) => {
    const size = b.rx.segsz[i]! || len - 34;
    if (b.rx.segsz[i]! > 0) trains++;
    for (let p = off + 34; p < off + len; p += size) got.push(readPayload(b.u8, p + 16, Math.min(p + size, off + len)));
    return got.length >= 21;
  });
  assert.deepEqual(got, seeds);
  assert.ok(trains >= 1);
  assert.equal(b.port.counters.rx_packets, 21);
});

it('a datagram of the host on the far side: its checksum is left out and vouched for; a train of them is too long', async open => {
  far('address', 'add', '10.7.0.102/24', 'dev', 'vb');
  far('neighbour', 'add', '10.7.0.1', 'lladdr', '02:00:00:00:00:a1', 'dev', 'vb', 'nud', 'permanent');
  const a = open({ addresses: ['10.7.0.1'] });
  const module = JSON.stringify(fileURLToPath(new URL('../native.js', import.meta.url)));
  const program = `
    const { native } = await import(${module});
    const fd = native.udpOpen('10.7.0.102', 0, 0, 0, 0);
    const row = (len, segsz) => Int32Array.of(0, len, segsz, 9, 0, 0, 0, 0xffff, 0x0a070001, 0, 0, 0);
    for (const [len, segsz] of [[500, 0], [5000, 1000], [501, 0]]) native.udpSend(fd, new Uint8Array(8192), row(len, segsz), 1, 0);`;
  run('ip', 'netns', 'exec', OTHER.replace('/run/netns/', ''), process.execPath, '--input-type=module', '-e', program);
  const seen: [number, number][] = [];
  await a.until((off, len, i) => {
    if (a.u8[off + 12] === 8 && a.u8[off + 23] === 17) seen.push([len - 42, a.rx.flags[i]!]);
    return seen.length === 2;
  });
  assert.deepEqual(seen, [
    [500, BATCH_L3_TRUSTED],
    [501, BATCH_L3_TRUSTED],
  ]);
  assert.equal(a.port.counters.rx_oversize, 1);
});

it('no room in the ring of a receiver that sleeps: drops are counted', (open, other) => {
  const a = open();
  const b = other({ receiveBlocks: 2 });
  for (let i = 0; i < 400; i++) a.send(plain(MAC_B, MAC_A, i, 1400));
  while (b.receive() > 0);
  b.port.close();
  assert.ok(b.port.counters.rx_dropped > 0, JSON.stringify(b.port.counters));
  assert.ok(b.port.counters.rx_packets + b.port.counters.rx_dropped >= 400 - 90);
});
