import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Memory, type Port } from '../nic/ports/port.js';
import { createWire } from '../nic/ports/wire.js';
import { scratchBytes, scratchLayout } from './card.js';
import { Firmware } from './firmware.js';

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const PAGE = 4096;

test('scratch memory: a port that wants a part of the region gets whole pages that nothing else lies in', () => {
  const [plain] = createWire();
  const bytes = 3 * PAGE;
  const opened: (number | undefined)[] = [];
  const port: Port = {
    name: 'wanting',
    capabilities: plain.capabilities,
    counters: {},
    carrier: false,
    regionBytes: bytes,
    open: (_memory, own) => void opened.push(own),
    transmit: () => 0,
    receive: () => 0,
    deadline: () => Number.POSITIVE_INFINITY,
    arm: () => {},
    disarm: () => {},
    onCarrier: undefined,
    close: () => {},
  };
  for (const at of [0, 8, 64, PAGE - 64, PAGE, 123 * 64]) {
    const l = scratchLayout(port, at);
    assert.equal(l.port % PAGE, 0);
    assert.ok(l.port >= l.drain + l.drainBytes);
    assert.equal(l.end, l.port + bytes);
    assert.ok(l.end <= at + scratchBytes(port), `at ${at}`);
  }
  const memory = new Memory(new ArrayBuffer(64 + scratchBytes(port)));
  const fw = new Firmware({ memory, scratchOffset: 64, port, mac: MAC });
  fw.powerOn();
  assert.deepEqual(opened, [fw.card.scratch.port]);
  fw.close();
});

test('scratch memory: other ports get none', () => {
  const [port] = createWire();
  const l = scratchLayout(port, 64);
  assert.equal(l.port, -1);
  assert.equal(l.end, l.drain + l.drainBytes);
  assert.equal(scratchBytes(port), scratchLayout(port, 0).end);
});
