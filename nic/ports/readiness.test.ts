import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { native } from '../native.js';

/** Runs a program in which `port` is open and a timer that holds nothing prints and disarms; returns what it printed. */
function lifetime(make: string, armed: boolean): string {
  const from = (file: string) => JSON.stringify(new URL(file, import.meta.url).href);
  const script = `
    import { createUdpPort } from ${from('./udp.js')};
    import { createWire } from ${from('./wire.js')};
    import { native } from ${from('../native.js')};
    import { Memory } from ${from('./port.js')};
    const port = ${make};
    port.open(new Memory(new ArrayBuffer(64)));
    port.arm(() => console.log('woken'));
    ${armed ? '' : 'port.disarm();'}
    setTimeout(() => { console.log('alive'); port.disarm(); }, 30).unref();`;
  const r = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 10_000 });
  assert.equal(r.status, 0, r.stderr);
  return r.stdout;
}

const kinds: [string, string, boolean][] = [
  ['wire', 'createWire()[0]', true],
  ['udp with the C module', "createUdpPort({ address: '127.0.0.1', port: 0 }, native)", native !== undefined],
  ['udp on node:dgram', "createUdpPort({ address: '127.0.0.1', port: 0 }, null)", true],
];

for (const [name, make, here] of kinds) {
  test(`${name}: armed it keeps the process alive, disarmed it does not`, {
    skip: !here && 'the C module is not built',
  }, () => {
    assert.equal(lifetime(make, true), 'alive\n');
    assert.equal(lifetime(make, false), '');
  });
}
