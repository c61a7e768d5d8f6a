/** `nke kext new`: a working extension of each kind, in TypeScript with a test, to be changed by its author. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KPI_IDENTIFIER, KPI_VERSION } from '../stack/kern/kext.js';
import { BundleError } from './error.js';
import { KINDS, type Kind } from './manifest.js';

const HEAD = (name: string, what: string) => `/**
 * ${name}.kext: ${what}
 *
 * Load it:  nke kextload ./${name}.kext
 * Test it:  nke kext test ./${name}.kext
 */

`;

const FILTER = (
  name: string,
) => `${HEAD(name, 'a data-link filter that counts frames, and drops those longer than a limit.')}import { type IfFilter, type Kpi, M_NULL, type Mbuf } from 'nke/kpi';

export function start(kpi: Kpi): number {
  const { pool, params } = kpi;
  const counters = { input: 0, output: 0, dropped: 0 };
  /** Returns the frame, or frees it and says so with M_NULL. */
  const look = (m: Mbuf): Mbuf => {
    if (pool.pktlen[m]! <= (params.limit as number)) return m;
    counters.dropped++;
    pool.freem(m);
    return M_NULL;
  };
  const filter: IfFilter = {
    name: kpi.identifier,
    input: (_ifp, m) => {
      counters.input++;
      return look(m);
    },
    output: (_ifp, m) => {
      counters.output++;
      return look(m);
    },
  };
  const e = kpi.counters(kpi.identifier, counters);
  return e < 0 ? e : kpi.iflt_attach(filter, kpi.where[0]);
}

/** What start has registered is taken back by the loader. */
export function stop(): number {
  return 0;
}
`;

const PROTOCOL = (
  name: string,
) => `${HEAD(name, 'a transport protocol over IP (number 253, for experiments: RFC 3692) that counts what arrives.')}import { AF_INET, AF_INET6, type Kpi, type Protosw, SOCK_RAW } from 'nke/kpi';

const PROTOCOL = 253;

export function start(kpi: Kpi): number {
  const counters = { packets: 0, bytes: 0 };
  let e = kpi.counters(kpi.identifier, counters);
  for (const domain of [AF_INET, AF_INET6]) {
    if (e < 0) return e;
    const row: Protosw = {
      domain,
      type: SOCK_RAW,
      protocol: PROTOCOL,
      name: kpi.identifier,
      // The packet is ours: who keeps or passes it on says so, everybody else frees it.
      input: m => {
        counters.packets++;
        counters.bytes += kpi.pool.pktlen[m]!;
        kpi.pool.freem(m);
      },
    };
    e = kpi.proto_add(row);
  }
  return e;
}

/** What start has registered is taken back by the loader. */
export function stop(): number {
  return 0;
}
`;

const FAMILY = (
  name: string,
) => `${HEAD(name, 'a protocol of its own on an EtherType (0x88b5, for experiments: IEEE 802), which counts its frames.')}import { type Kpi } from 'nke/kpi';

const ETHERTYPE = 0x88b5;

export function start(kpi: Kpi): number {
  const counters = { frames: 0, bytes: 0 };
  const e = kpi.counters(kpi.identifier, counters);
  if (e < 0) return e;
  return kpi.proto_plumb(ETHERTYPE, (_ifp, m) => {
    counters.frames++;
    counters.bytes += kpi.pool.pktlen[m]!;
    kpi.pool.freem(m);
  });
}

/** What start has registered is taken back by the loader. */
export function stop(): number {
  return 0;
}
`;

const SOCKET_FILTER = (
  name: string,
) => `${HEAD(name, 'a socket filter that counts messages both ways, and denies those that are longer than a limit.')}import { EMSGSIZE, type Kpi, type SocketFilter } from 'nke/kpi';

export function start(kpi: Kpi): number {
  const { params } = kpi;
  const counters = { sent: 0, received: 0, denied: 0 };
  const filter: SocketFilter = {
    name: kpi.identifier,
    // 0 goes on, -EJUSTRETURN swallows, any other -errno is what the program is told.
    data_out: (_so, _cookie, d) => {
      if (d.len > (params.limit as number)) {
        counters.denied++;
        return -EMSGSIZE;
      }
      counters.sent++;
      return 0;
    },
    data_in: () => {
      counters.received++;
      return 0;
    },
  };
  const e = kpi.counters(kpi.identifier, counters);
  return e < 0 ? e : kpi.sflt_register(filter);
}

/** What start has registered is taken back by the loader. */
export function stop(): number {
  return 0;
}
`;

const LIBRARY = (
  name: string,
) => `${HEAD(name, 'symbols for other extensions: they depend on this one and ask kpi.symbols for them.')}import { type Kpi } from 'nke/kpi';

export function start(kpi: Kpi): number {
  kpi.export_symbols({ greet: (who: string) => \`hello, \${who}\` });
  return 0;
}

/** The symbols go with the extension. */
export function stop(): number {
  return 0;
}
`;

const CODE: Readonly<Record<Kind, (name: string) => string>> = {
  filter: FILTER,
  protocol: PROTOCOL,
  family: FAMILY,
  'socket-filter': SOCKET_FILTER,
  library: LIBRARY,
};

const TEST_BODY: Readonly<Record<Kind, string>> = {
  filter: `  const frame = net.a.pool.fromBytes(new Uint8Array(60));
  net.a.interfaces.transmit(net.link.a.ifp, frame);
  net.run();
  assert.equal(net.a.counters.group(net.identifier)!.output, 1);
`,
  protocol: `  assert.notEqual(net.a.protocols.inputFor(4, 253), undefined);
`,
  family: `  assert.ok(net.a.interfaces.hasProtocol(0x88b5));
`,
  'socket-filter': `  const so = net.a.socket(2, 2, 17); // AF_INET, SOCK_DGRAM, UDP
  assert.ok(typeof so !== 'number');
  so.send(new Uint8Array(5), 0, 5, undefined, { addr: InAddr.of('10.0.0.2'), port: 7 });
  so.close();
  assert.equal(net.a.counters.group(net.identifier)!.sent, 1);
`,
  library: '',
};

const TEST = (name: string, kind: Kind) => `import assert from 'node:assert/strict';
import { test } from 'node:test';
${kind === 'socket-filter' ? "import { InAddr } from 'nke/kpi';\n" : ''}import { network } from 'nke/testing';

test('${name} loads, works and leaves nothing behind', () => {
  // Two hosts on a link in virtual time; the extension is loaded on the first.
  const net = network();
  const before = net.inventory();
  assert.deepEqual(net.load(), { ok: true });
${TEST_BODY[kind]}  assert.deepEqual(net.unload(), { ok: true });
  assert.deepEqual(net.inventory(), before);
});
`;

/** Writes NAME.kext into a folder. Throws BundleError when the name will not do or something is there. Returns the path. */
export function writeSkeleton(name: string, kind: string, into = '.'): string {
  if (!/^[A-Za-z][A-Za-z0-9_-]{0,31}$/.test(name))
    throw new BundleError(
      'EINVAL',
      `"${name}" is no name for an extension; allowed: a letter, then letters, digits, "_" and "-", at most 32`,
    );
  if (!(KINDS as readonly string[]).includes(kind))
    throw new BundleError('EINVAL', `"${kind}" is no kind of extension; allowed: ${KINDS.join(', ')}`);
  const k = kind as Kind;
  const path = join(into, `${name}.kext`);
  try {
    mkdirSync(path);
  } catch (e) {
    const there = (e as NodeJS.ErrnoException).code === 'EEXIST';
    throw new BundleError(
      there ? 'EEXIST' : 'EACCES',
      there ? `${path} is there already` : `cannot make ${path}: ${(e as Error).message}`,
    );
  }
  const parameters =
    k === 'filter' || k === 'socket-filter'
      ? {
          limit: {
            type: 'integer',
            default: 65535,
            min: k === 'filter' ? 14 : 1,
            max: 65535,
            meaning: `longest ${k === 'filter' ? 'frame' : 'message'} that passes, bytes`,
            live: true,
          },
        }
      : {};
  const manifest = {
    identifier: `org.example.${name}`,
    version: '0.1.0',
    kind: k,
    about: `What ${name} does, in a sentence`,
    dependencies: { [KPI_IDENTIFIER]: KPI_VERSION },
    entry: 'index.ts',
    parameters,
  };
  const write = (file: string, text: string) => writeFileSync(join(path, file), text, { flag: 'wx' });
  write('manifest.json', `${JSON.stringify(manifest, null, 2)}\n`);
  write('index.ts', CODE[k](name));
  write('index.test.ts', TEST(name, k));
  return path;
}
