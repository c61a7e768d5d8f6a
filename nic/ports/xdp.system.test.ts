import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { type Native, native } from '../native.js';
import { repairHeaders } from './headers.js';
import { liveInNamespace, makeNamespace, noNamespace, run } from './netns.fixture.js';
import { etherEnd, readPayload, writeIp, writePayload } from './packets.fixture.js';
import { type Pair, portContract } from './port.contract.js';
import { BATCH_L3_TRUSTED, Batch, Memory, PortError } from './port.js';
import { XDP_REGION_BYTES, XdpPort, type XdpPortOptions } from './xdp.js';

/** Why AF_XDP cannot be had here, or false. */
function noXdp(): string | false {
  const why = noNamespace();
  if (why) return why;
  const fd = native!.xdpOpen();
  if (fd < 0) return 'needs a kernel with AF_XDP, and the privilege to use it';
  native!.close(fd);
  return false;
}

const skip = noXdp();
const there = skip ? '' : makeNamespace('-far');
if (!skip) liveInNamespace();
const far = there.slice(there.lastIndexOf('/') + 1);

const MAC_A = Uint8Array.of(2, 0, 0, 0, 0, 0xa1);
const MAC_B = Uint8Array.of(2, 0, 0, 0, 0, 0xb1);
const ALL = new Uint8Array(6).fill(0xff);
const REGION = 4 << 20;

const farIp = (...args: string[]) => run('ip', '-n', far, ...args);

/** A veth pair: nkea here, nkeb in the other namespace; both up, IPv6 off. */
function veth(...extra: string[]): void {
  run('ip', 'link', 'add', 'nkea', ...extra, 'type', 'veth', 'peer', 'name', 'nkeb', ...extra, 'netns', far);
  farIp('link', 'set', 'nkeb', 'addrgenmode', 'none');
  run('ip', 'link', 'set', 'nkea', 'addrgenmode', 'none', 'up');
  farIp('link', 'set', 'nkeb', 'up');
}
const unveth = () => void spawnSync('ip', ['link', 'del', 'nkea']);

const portA = (o: Partial<XdpPortOptions> = {}) => new XdpPort({ interface: 'nkea', mac: MAC_A, ...o });
const portB = (o: Partial<XdpPortOptions> = {}) => new XdpPort({ interface: 'nkeb', netns: there, mac: MAC_B, ...o });

function pair(o: Partial<XdpPortOptions>, ...extra: string[]): Pair {
  veth(...extra);
  return { a: etherEnd(portA(o), MAC_B, MAC_A), b: etherEnd(portB(o), MAC_A, MAC_B), dispose: unveth };
}

const traits = {
  smallest: 60,
  longest: (p: { capabilities: { mtu: number } }) => p.capabilities.mtu + 14,
  refusesWithin: 0,
  skip,
};

portContract('xdp, native', () => pair({ mode: 'native' }), traits);
portContract('xdp, generic', () => pair({ mode: 'generic' }), traits);
portContract(
  'xdp, MTU 3000, two queues',
  () => pair({}, 'mtu', '3000', 'numrxqueues', '2', 'numtxqueues', '2'),
  traits,
);
portContract('xdp, MTU 9000: packets in pieces', () => pair({}, 'mtu', '9000'), traits);

/** A port whose packet memory is the region: the contract's own Memory is none, so that its bytes go through another one. */
class RegionPort extends XdpPort {
  #outer: Memory | undefined;
  readonly #inner = new Memory(native!.allocate(REGION + XDP_REGION_BYTES));
  override open(memory: Memory): void {
    super.open(this.#inner, REGION);
    this.#outer = memory;
  }
  override transmit(batch: Batch, now: number): number {
    const outer = this.#outer;
    if (outer === undefined) return 0;
    this.#inner.u8.set(outer.u8);
    const off = batch.off.slice();
    // An offset outside the caller's region must be outside this one too.
    for (let i = 0; i < batch.count; i++) if (off[i]! + batch.len[i]! > REGION) batch.off[i] = this.#inner.u8.length;
    const taken = super.transmit(batch, now);
    batch.off.set(off);
    this.#inner.u8.fill(0xdd, 0, REGION); // what was taken is no longer read
    return taken;
  }
  override receive(batch: Batch, posted: number, now: number): number {
    const n = super.receive(batch, posted, now);
    for (let i = 0; i < n; i++)
      this.#outer!.u8.set(this.#inner.u8.subarray(batch.off[i], batch.off[i]! + batch.len[i]!), batch.off[i]);
    return n;
  }
}

for (const [mtu, mode] of [
  ['1500', 'native'],
  ['9000', 'native'],
  ['1500', 'generic'],
] as const)
  portContract(
    `xdp, sent from the region, ${mode}, MTU ${mtu}`,
    () => {
      veth('mtu', mtu);
      const a = new RegionPort({ interface: 'nkea', mac: MAC_A, mode });
      const b = new RegionPort({ interface: 'nkeb', netns: there, mac: MAC_B, mode });
      return { a: etherEnd(a, MAC_B, MAC_A), b: etherEnd(b, MAC_A, MAC_B), dispose: unveth };
    },
    traits,
  );

/** A port, open, with a region and batches. */
class Host {
  readonly memory: Memory;
  readonly tx = new Batch(64);
  readonly rx = new Batch(16);
  readonly port: XdpPort;
  /** `region`: the port's packet memory is the region. */
  constructor(port: XdpPort, region = false) {
    this.port = port;
    const bytes = 1 << 21;
    this.memory = new Memory(region ? native!.allocate(bytes + XDP_REGION_BYTES) : new ArrayBuffer(bytes));
    port.open(this.memory, region ? bytes : undefined);
  }
  /** Sends a frame of 100 bytes. */
  send(to: Uint8Array, from: Uint8Array, type = 0x88b5, body: (u8: Uint8Array) => void = () => {}): void {
    const u8 = this.memory.u8;
    u8.fill(0, 0, 100);
    u8.set(to);
    u8.set(from, 6);
    u8.set([type >>> 8, type & 255], 12);
    body(u8);
    this.tx.count = 1;
    this.tx.off[0] = 0;
    this.tx.len[0] = 100;
    assert.equal(this.port.transmit(this.tx, 0), 1);
  }
  /** Receives into rooms for trains; how many were filled. */
  receive(): number {
    for (let i = 0; i < 16; i++) {
      this.rx.off[i] = (i + 1) << 16;
      this.rx.cap[i] = 65536;
    }
    return this.port.receive(this.rx, 16, 0);
  }
  /** EtherTypes of what has arrived. */
  received(): number[] {
    const n = this.receive();
    return Array.from({ length: n }, (_, i) => this.memory.dv.getUint16(this.rx.off[i]! + 12));
  }
}

/** Runs `body` with a fresh pair of interfaces; ports made by `make` are closed after it. */
function it(
  what: string,
  body: (open: (port: XdpPort, region?: boolean) => Host) => Promise<void> | void,
  ...extra: string[]
): void {
  test(`xdp: ${what}`, { skip }, async () => {
    const hosts: XdpPort[] = [];
    veth(...extra);
    try {
      await body((port, region) => {
        hosts.push(port);
        return new Host(port, region);
      });
    } finally {
      for (const port of hosts) port.close();
      unveth();
    }
  });
}

/** Waits until `done`, in turns of the event loop with the port armed; the time it took in ms. */
async function until(port: XdpPort, done: () => boolean, ms = 2000): Promise<number> {
  const begin = performance.now();
  const rx = new Batch(1);
  while (!done()) {
    const left = ms - (performance.now() - begin);
    if (left <= 0) assert.fail('it did not happen');
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, left);
      port.arm(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    port.disarm();
    port.receive(rx, 0, 0);
  }
  return performance.now() - begin;
}

/** A train at 1024: 34 bytes of headers, 20 SCTP packets of 1,000 bytes and one of 500; in it payloads with seeds from 100 on. */
function train(host: Host, six = false): { hdr: number; count: number } {
  const { u8 } = host.memory;
  const [at, size, count] = [1024, 1000, 21];
  const hdr = six ? 54 : 34;
  const len = hdr + (count - 1) * size + 500;
  u8.set(MAC_B, at);
  u8.set(MAC_A, at + 6);
  u8.set(six ? [0x86, 0xdd] : [8, 0], at + 12);
  writeIp(u8, at + 14, at + hdr + size, six ? 'fd00::1' : '10.7.0.1', six ? 'fd00::2' : '10.7.0.2', 132);
  for (let k = 0; k < count; k++) {
    const p = at + hdr + k * size;
    const n = k < count - 1 ? size : 500;
    u8.set([0x13, 0x89, 0x13, 0x8a, 1, 2, 3, 4, 0, 0, 0, k, 0, 3, (n - 12) >>> 8, (n - 12) & 255], p);
    writePayload(u8, p + 16, p + n, 100 + k);
  }
  host.tx.count = 1;
  host.tx.off[0] = at;
  host.tx.len[0] = len;
  host.tx.segsz[0] = size;
  host.tx.hdrlen[0] = hdr;
  assert.equal(host.port.transmit(host.tx, 0), 1);
  assert.equal(host.port.counters.tx_packets, count);
  host.tx.segsz[0] = 0;
  return { hdr, count };
}

for (const region of [false, true]) {
  const where = region ? 'the region' : 'memory of its own';
  it(`a train is cut into packets with headers of their own, ${where}`, open => {
    for (const six of [false, true]) {
      const a = open(portA(), region);
      const b = open(portB({ trains: false }), region);
      const { hdr, count } = train(a, six);
      const seeds: number[] = [];
      const { u8 } = b.memory;
      for (let n = b.receive(); n > 0; n = b.receive())
        for (let i = 0; i < n; i++) {
          const [off, len] = [b.rx.off[i]!, b.rx.len[i]!];
          assert.equal(b.rx.segsz[i], 0);
          const mended = u8.slice(off, off + len);
          repairHeaders(mended, 14, len, false, false);
          assert.deepEqual(u8.slice(off, off + len), mended, 'headers that are true');
          seeds.push(readPayload(u8, off + hdr + 16, off + len));
        }
      assert.deepEqual(
        seeds,
        Array.from({ length: count }, (_, i) => 100 + i),
      );
      a.port.close();
      b.port.close();
    }
  });

  it(`SCTP packets of a flow come out as a train, ${where}; the frames are used again and again`, open => {
    const a = open(portA(), region);
    const b = open(portB(), region);
    const { hdr, count } = train(a);
    assert.equal(b.receive(), 1);
    assert.equal(b.rx.segsz[0], 1000);
    assert.equal(b.rx.hdrlen[0], hdr);
    assert.equal(b.rx.flags[0], BATCH_L3_TRUSTED);
    const { u8 } = b.memory;
    const [off, len] = [b.rx.off[0]!, b.rx.len[0]!];
    assert.equal(len, hdr + 20 * 1000 + 500);
    for (let k = 0; k < count; k++) {
      const p = off + hdr + k * 1000;
      assert.equal(readPayload(u8, p + 16, Math.min(p + 1000, off + len)), 100 + k);
    }
    const mended = u8.slice(off, off + len);
    repairHeaders(mended, 14, len, false, false);
    assert.deepEqual(u8.slice(off, off + len), mended, 'one header that is true for the whole');
    // Many times what the rings hold.
    for (let round = 1; round <= 400; round++) {
      a.tx.segsz[0] = 1000;
      assert.equal(a.port.transmit(a.tx, 0), 1);
      assert.equal(b.receive(), 1);
      assert.equal(b.rx.len[0], len);
    }
    assert.equal(b.port.counters.rx_packets, 401 * count);
    assert.equal(a.port.counters.tx_packets, 401 * count);
  });
}

it('trains that make no sense are dropped and counted', open => {
  const a = open(portA(), true);
  train(a);
  const bad = (segsz: number, hdrlen: number, len: number) => {
    a.tx.segsz[0] = segsz;
    a.tx.hdrlen[0] = hdrlen;
    a.tx.len[0] = len;
    assert.equal(a.port.transmit(a.tx, 0), 1);
  };
  bad(-1, 34, 5000);
  bad(1000, 5000, 5000);
  bad(1000, 13, 5000);
  bad(1000, 34, 16 << 20);
  assert.equal(a.port.counters.tx_errors, 4);
  bad(1500, 34, 5000); // packets of more than the MTU
  bad(10, 34, 34 + 650); // 65 of them
  assert.equal(a.port.counters.tx_oversize, 2);
  assert.equal(a.port.counters.tx_packets, 21);
});

it('the packet memory: the region when it can be, and then single packets are sent from where they lie; else its own', open => {
  const a = open(portA(), true);
  assert.deepEqual([a.port.status!.region, a.port.status!.direct], [true, true]);
  assert.match(a.port.describe(), /; packet memory is the card's region, packets are sent from where they lie;/);
  const b = open(portB());
  assert.deepEqual([b.port.status!.region, b.port.status!.direct], [false, false]);
  a.send(MAC_B, MAC_A, 0x88b6);
  assert.deepEqual(b.received(), [0x88b6]);
  assert.equal(a.port.counters.tx_copied, 0);
  b.send(MAC_A, MAC_B, 0x88b6);
  assert.equal(b.port.counters.tx_copied, 1);
  a.port.close();
  // A kernel that does not lock so much: the port makes do with less, and says so.
  const refusing = Object.create(native!) as Native;
  refusing.xdpUmem = (fd, region, ...rest) =>
    region.length > XDP_REGION_BYTES ? -105 : native!.xdpUmem(fd, region, ...rest);
  const c = open(new XdpPort({ interface: 'nkea', mac: MAC_A }, refusing), true);
  assert.equal(c.port.status!.region, false);
  assert.match(c.port.describe(), /packet memory of its own \(not the card's region: ENOBUFS\)/);
  c.send(MAC_B, MAC_A, 0x88b7);
  assert.deepEqual(b.received(), [0x88b7]);
});

const attached = () => /xdp/.test(run('ip', 'link', 'show', 'nkea'));
/** The interface as ip shows it in detail: what must be the same before and after. */
const shown = () => run('ip', '-d', 'link', 'show', 'nkea');

const fails = (port: XdpPort, code: string, message: RegExp) =>
  assert.throws(
    () => port.open(new Memory(new ArrayBuffer(4096))),
    e => e instanceof PortError && e.code === code && message.test(e.message),
  );

it('says which mode it got, and why not the one before; zero-copy alone is refused', open => {
  const { port } = open(portA());
  const s = port.status!;
  assert.equal(s.mode, 'native');
  assert.equal(s.driver, 'veth');
  assert.equal(s.queues, 1);
  assert.match(s.refused.join(), /zero-copy: .*ENOTSUP/);
  assert.match(
    port.describe(),
    /^native mode \(driver veth\); 1 queue; packet memory of its own; need-wakeup; zero-copy: /,
  );
  port.close();
  assert.match(port.describe(), /closed/);
  fails(portA({ mode: 'zero-copy' }), 'ENOTSUP', /zero-copy/);
  assert.equal(attached(), false);
});

it(
  'binds every queue of the interface, and receives from each',
  open => {
    const b = open(portB());
    assert.equal(b.port.status!.queues, 4);
    // The kernel of the other side spreads over its queues; each flow finds a socket.
    run('ip', 'address', 'add', '10.7.0.1/24', 'dev', 'nkea');
    run('ip', 'neighbour', 'add', '10.7.0.2', 'lladdr', '02:00:00:00:00:b1', 'dev', 'nkea');
    const script = `const s=require('dgram').createSocket('udp4');let n=0;
    for(let p=0;p<64;p++)s.send('hello',9000+p,'10.7.0.2',()=>{if(++n===64)s.close()})`;
    run(process.execPath, '-e', script);
    let got = 0;
    for (let i = 0; i < 20; i++) got += b.received().filter(type => type === 0x0800).length;
    assert.equal(got, 64);
  },
  'numrxqueues',
  '4',
  'numtxqueues',
  '4',
);

it('leaves the interface as it found it', open => {
  const before = shown();
  const { port } = open(portA());
  assert.equal(attached(), true);
  assert.notEqual(shown(), before);
  port.close();
  assert.equal(shown(), before);
});

it('a killed process leaves no program behind', async () => {
  const before = shown();
  const script = `import { XdpPort } from ${JSON.stringify(new URL('./xdp.js', import.meta.url).href)};
    import { Memory } from ${JSON.stringify(new URL('./port.js', import.meta.url).href)};
    const p = new XdpPort({ interface: 'nkea' });
    p.open(new Memory(new ArrayBuffer(4096)));
    p.arm(() => {});
    console.log('open');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await once(child.stdout, 'data');
    assert.equal(attached(), true);
  } finally {
    const ended = once(child, 'close');
    child.kill('SIGKILL');
    await ended;
  }
  for (let i = 0; i < 100 && shown() !== before; i++) await new Promise(resolve => setTimeout(resolve, 10));
  assert.equal(shown(), before);
  // And the queue is free again.
  const port = portA();
  port.open(new Memory(new ArrayBuffer(4096)));
  port.close();
});

it('only the card’s frames are taken from the host; the program learns where the card lives', open => {
  const a = open(portA());
  const b = open(portB({ mac: undefined }));
  const host = Uint8Array.from(
    farIp('-o', 'link', 'show', 'nkeb')
      .match(/link\/ether (\S+)/)![1]!
      .split(':'),
    x => Number.parseInt(x, 16),
  );
  const other = Uint8Array.of(2, 0, 0, 0, 0, 0xee);
  for (const [to, type] of [
    [MAC_B, 0x88b4],
    [other, 0x88b5],
    [host, 0x88b6],
  ] as const)
    a.send(to, MAC_A, type);
  assert.deepEqual(b.received(), [0x88b4, 0x88b5], 'nobody has said yet who b is; the host is not');
  a.send(ALL, MAC_A, 0x88b7);
  assert.deepEqual(b.received(), [0x88b7]);
  b.send(MAC_A, MAC_B, 0x88b8);
  assert.equal(b.port.counters.stations, 1);
  assert.deepEqual(a.received(), [0x88b8]);
  for (const [to, type] of [
    [MAC_B, 0x88b9],
    [other, 0x88ba],
    [host, 0x88bb],
  ] as const)
    a.send(to, MAC_A, type);
  assert.deepEqual(b.received(), [0x88b9]);
  // Sixteen addresses are learned, no more.
  for (let i = 1; i <= 20; i++) b.send(MAC_A, Uint8Array.of(2, 0, 0, 0, 1, i), 0x88b8);
  assert.equal(b.port.counters.stations, 16);
  assert.equal(b.port.counters.stations_refused, 5);
});

/** Requests a hardware address by ARP, as 10.7.0.9. */
const arp = (target: number[]) => (u8: Uint8Array) => {
  u8.set([0, 1, 8, 0, 6, 4, 0, 1, ...MAC_A, 10, 7, 0, 9, 0, 0, 0, 0, 0, 0, ...target], 14);
};

it('the host keeps its ARP, and does not answer for the card', open => {
  farIp('address', 'add', '10.7.0.1/24', 'dev', 'nkeb');
  for (const addresses of [undefined, ['10.7.0.2/24']]) {
    const a = open(portA());
    const b = open(portB(addresses === undefined ? {} : { addresses }));
    a.send(ALL, MAC_A, 0x0806, arp([10, 7, 0, 1]));
    assert.deepEqual(a.received(), [0x0806], 'the host answers for itself');
    assert.deepEqual(b.received(), []);
    a.send(ALL, MAC_A, 0x0806, arp([10, 7, 0, 2]));
    assert.deepEqual(a.received(), [], 'and not for the card');
    assert.deepEqual(b.received(), [0x0806]);
    // SCTP to an address of the host, at the card's hardware address: no ICMP, no ABORT from the host.
    for (const to of ['10.7.0.1', '10.7.0.2'])
      a.send(MAC_B, MAC_A, 0x0800, u8 => writePayload(u8, writeIp(u8, 14, 100, '10.7.0.9', to, 132), 100, 1));
    assert.deepEqual(b.received(), [0x0800, 0x0800]);
    assert.deepEqual(a.received(), []);
    a.port.close();
    b.port.close();
  }
});

it('addresses that the host gets later are its own', async open => {
  const a = open(portA());
  const b = open(portB());
  a.send(ALL, MAC_A, 0x0806, arp([10, 7, 0, 1]));
  assert.deepEqual(b.received(), [0x0806]);
  farIp('address', 'add', '10.7.0.1/24', 'dev', 'nkeb');
  b.port.arm(() => {});
  b.port.disarm();
  b.received();
  a.send(ALL, MAC_A, 0x0806, arp([10, 7, 0, 1]));
  assert.deepEqual(b.received(), []);
  assert.deepEqual(a.received(), [0x0806]);
});

it('one hardware address for host and card', open => {
  const a = open(portA());
  farIp('link', 'set', 'nkeb', 'address', '02:00:00:00:00:b1');
  farIp('address', 'add', '10.7.0.1/24', 'dev', 'nkeb');
  const b = open(portB({ addresses: ['10.7.0.2'] }));
  const to = (address: string) => (u8: Uint8Array) => {
    writePayload(u8, writeIp(u8, 14, 100, '10.7.0.9', address, 132), 100, 1);
  };
  a.send(MAC_B, MAC_A, 0x0800, to('10.7.0.2'));
  assert.deepEqual(b.received(), [0x0800]);
  a.send(MAC_B, MAC_A, 0x0800, to('10.7.0.1'));
  assert.deepEqual(b.received(), [], 'this one is the host’s');
});

it('carrier within 10 ms: the other side goes down and up, this side goes down', async open => {
  const { port } = open(portA());
  const seen: boolean[] = [];
  const times: number[] = [];
  port.onCarrier = up => seen.push(up);
  const change = async (set: (...args: string[]) => string, name: string, state: 'up' | 'down') => {
    set('link', 'set', name, state);
    times.push(await until(port, () => port.carrier === (state === 'up')));
  };
  for (let i = 0; i < 5; i++) {
    for (const [set, name] of [
      [farIp, 'nkeb'],
      [(...args: string[]) => run('ip', ...args), 'nkea'],
    ] as const) {
      await change(set, name, 'down');
      await change(set, name, 'up');
    }
  }
  assert.deepEqual(
    seen,
    times.map((_, i) => i % 2 === 1),
  );
  assert.equal(port.counters.link_changes, times.length);
  // A machine with other work to do delays one or the other.
  times.sort((x, y) => x - y);
  assert.ok(times[times.length >> 1]! < 10, `${times.map(t => t.toFixed(1))} ms`);
});

it('an interface that is down: no carrier, frames are counted and dropped; it works once it is up', async open => {
  run('ip', 'link', 'set', 'nkea', 'down');
  const a = open(portA());
  assert.equal(a.port.carrier, false);
  a.send(MAC_B, MAC_A);
  assert.equal(a.port.counters.tx_no_carrier, 1);
  run('ip', 'link', 'set', 'nkea', 'up');
  await until(a.port, () => a.port.carrier);
  const b = open(portB());
  a.send(MAC_B, MAC_A, 0x88bb);
  assert.deepEqual(b.received(), [0x88bb]);
});

it('an interface that disappears in mid-run', async open => {
  const a = open(portA());
  const b = open(portB());
  a.send(MAC_B, MAC_A);
  assert.equal(b.received().length, 1);
  unveth();
  await until(a.port, () => !a.port.carrier);
  await until(b.port, () => !b.port.carrier);
  a.send(MAC_B, MAC_A);
  assert.equal(a.port.counters.tx_no_carrier, 1);
  assert.deepEqual([a.port.removed, a.port.counters.removed], [true, 1]);
  assert.deepEqual(b.received(), []);
  a.port.close();
  fails(a.port, 'ENODEV', /no network interface nkea/);
  veth();
  a.port.open(a.memory);
  assert.equal(a.port.carrier, true);
});

it('a change of the MTU', async open => {
  const a = open(portA());
  assert.equal(a.port.capabilities.mtu, 1500);
  run('ip', 'link', 'set', 'nkea', 'mtu', '1280');
  await until(a.port, () => a.port.capabilities.mtu === 1280);
  a.tx.count = 1;
  a.tx.len[0] = 1295;
  a.port.transmit(a.tx, 0);
  assert.equal(a.port.counters.tx_oversize, 1);
  // More than the packet memory was laid out for: as far as it goes.
  run('ip', 'link', 'set', 'nkea', 'mtu', '3000');
  await until(a.port, () => a.port.capabilities.mtu > 1280);
  assert.equal(a.port.capabilities.mtu, 2048 - 256 - 2 - 18);
  assert.equal(a.port.counters.mtu_changes, 2);
});

it('no interface, no Ethernet, another program, no namespace', open => {
  fails(new XdpPort({ interface: 'nothere' }), 'ENODEV', /no network interface nothere/);
  fails(new XdpPort({ interface: 'lo' }), 'ENOTSUP', /no Ethernet/);
  assert.throws(() => new XdpPort({ interface: 'a/b' }), /no interface name/);
  assert.throws(() => new XdpPort({ interface: 'x', addresses: ['here'] }), /no IP address/);
  fails(portA({ mtu: 2000 }), 'EINVAL', /the interface has 1500/);
  run('ip', 'address', 'add', '10.7.0.1/24', 'dev', 'nkea');
  fails(portA({ addresses: ['10.7.0.1'] }), 'EADDRINUSE', /the host has the address 10.7.0.1.24 itself/);
  open(portA());
  fails(portA(), 'EBUSY', /another XDP program/);
});

it('no privilege', () => {
  const script = `process.setgroups([]); process.setgid(65534); process.setuid(65534);
    const { XdpPort } = await import(${JSON.stringify(new URL('./xdp.js', import.meta.url).href)});
    const { Memory } = await import(${JSON.stringify(new URL('./port.js', import.meta.url).href)});
    try { new XdpPort({ interface: 'nkea' }).open(new Memory(new ArrayBuffer(4096))); } catch (e) { console.log(e.code, e.message); }`;
  const said = run(process.execPath, '--input-type=module', '-e', script);
  assert.match(said, /^EPERM cannot open xdp:nkea: AF_XDP needs root, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF/);
  assert.equal(attached(), false);
});

it('kernels without AF_XDP, without BPF, without locked memory', () => {
  const without = (change: Partial<Native>) =>
    new XdpPort({ interface: 'nkea' }, Object.assign(Object.create(native!), change) as Native);
  fails(without({ xdpOpen: () => -97 }), 'EAFNOSUPPORT', /no AF_XDP .*packet:/);
  fails(without({ bpfMapCreate: () => -38 }), 'ENOSYS', /no BPF .*packet:/);
  fails(without({ xdpUmem: () => -105 }), 'ENOBUFS', /ulimit -l/);
  fails(without({ bpfLinkCreate: () => -22 }), 'EINVAL', /native: .*generic: .*packet:/);
  // What had been opened is gone again: the same can be opened at once.
  const port = portA();
  port.open(new Memory(new ArrayBuffer(4096)));
  port.close();
});

it('what the verifier says is told', () => {
  const bad = Object.create(native!) as Native;
  // Its first row, r6 = r1, becomes r6 = r5, which was never written.
  bad.bpfProgLoad = (type, attach, code, flags, log) => {
    code[1] = 0x56;
    return native!.bpfProgLoad(type, attach, code, flags, log);
  };
  fails(new XdpPort({ interface: 'nkea' }, bad), 'EACCES', /R5 !read_ok/);
});

it('the kernel’s own counts', open => {
  const a = open(portA());
  const b = open(portB());
  // More than the rings hold, and nobody receives.
  a.tx.count = 64;
  a.tx.len.fill(100);
  a.memory.u8.set(MAC_B);
  a.memory.u8.set(MAC_A, 6);
  for (let sent = 0; sent < 2560; sent += 64) assert.equal(a.port.transmit(a.tx, 0), 64);
  b.port.close();
  assert.equal(a.port.counters.tx_packets, 2560);
  const { xdp_rx_dropped, xdp_rx_fill_ring_empty, xdp_rx_ring_full } = b.port.counters;
  assert.ok(xdp_rx_dropped + xdp_rx_fill_ring_empty + xdp_rx_ring_full >= 512, JSON.stringify(b.port.counters));
});
