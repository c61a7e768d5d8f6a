import assert from 'node:assert/strict';
import { test } from 'node:test';
import { installPeers, type Machine, missing, type Peer, peerAvailable, peers } from './peers.js';

const table: Peer[] = [
  { package: 'here', purpose: 'is there', files: ['/no/such', '/here'] },
  { package: 'gone', purpose: 'is not there', files: ['/gone'] },
];

/** A machine with some files; commands are recorded, and `install` makes files appear. */
function machine(options: { uid: number; files?: string[]; install?: string[]; failed?: string }) {
  const files = new Set(options.files ?? ['/here']);
  const ran: string[] = [];
  const said: string[] = [];
  const fake: Machine = {
    exists: path => files.has(path),
    uid: options.uid,
    run(argv) {
      ran.push(argv.join(' '));
      if (argv[1] === 'install') for (const file of options.install ?? []) files.add(file);
      return { ok: options.failed === undefined, output: options.failed ?? '' };
    },
    say: line => said.push(line),
  };
  return { fake, ran, said };
}

test('a package is there when one of its files is', () => {
  const { fake } = machine({ uid: 0 });
  assert.deepEqual(
    missing(table, fake).map(peer => peer.package),
    ['gone'],
  );
  assert.deepEqual(peerAvailable('here', table, fake), { available: true });
});

test('an absent peer gives the reason and the command that mends it', () => {
  const state = peerAvailable('gone', table, machine({ uid: 0 }).fake);
  assert.ok(!state.available);
  assert.match(state.reason, /^gone is not installed \(is not there\).*apt-get install .* gone$/);
  assert.throws(() => peerAvailable('unheard-of', table), /no peer is called unheard-of/);
});

test('nothing runs when all is there', () => {
  const { fake, ran } = machine({ uid: 0, files: ['/here', '/gone'] });
  assert.equal(installPeers(table, fake), 0);
  assert.deepEqual(ran, []);
});

test('root installs what is missing and only that', () => {
  const { fake, ran } = machine({ uid: 0, install: ['/gone'] });
  assert.equal(installPeers(table, fake), 0);
  assert.deepEqual(ran, ['apt-get update -q', 'apt-get install -y --no-install-recommends gone']);
});

test('root whose install failed says so and exits 1', () => {
  const { fake, said } = machine({ uid: 0, failed: 'E: no such package' });
  assert.equal(installPeers(table, fake), 1);
  assert.ok(said.some(line => line.includes('E: no such package')));
  assert.ok(said.some(line => line.includes('MISSING gone')));
});

test('without root nothing is run, the missing package and the command are named', () => {
  const { fake, ran, said } = machine({ uid: 1000 });
  assert.equal(installPeers(table, fake), 1);
  assert.deepEqual(ran, []);
  assert.ok(said.some(line => line.includes('MISSING gone: is not there')));
  assert.match(said.at(-1)!, /apt-get update && apt-get install -y --no-install-recommends gone$/);
});

test('the real table names each package once, with a purpose and absolute files', () => {
  assert.equal(new Set(peers.map(peer => peer.package)).size, peers.length);
  for (const peer of peers) {
    assert.ok(peer.purpose.length > 0 && peer.files.length > 0, peer.package);
    for (const file of peer.files) assert.ok(file.startsWith('/'), file);
  }
});
