import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fillPattern, patternPeriod } from './payload.js';
import { sctpPeerArguments, sctpPeerResults } from './sctp-peer.js';

test('options become the arguments of the C program', () => {
  assert.deepEqual(
    sctpPeerArguments('source', { localUdp: 1, remoteUdp: 2, peers: ['127.0.0.1', '::1'], hash: false }),
    [...['source', '--local-udp', '1', '--remote-udp', '2', '--peer', '127.0.0.1', '--peer', '::1', '--hash', 'off']],
  );
  assert.deepEqual(sctpPeerArguments('sink', { localUdp: 1, port: undefined }), ['sink', '--local-udp', '1']);
});

test('the pattern is the same however it is cut into messages', () => {
  const whole = new Uint8Array(3 * patternPeriod);
  fillPattern(whole, 0, whole.length, 0);
  assert.deepEqual(whole.subarray(0, patternPeriod), whole.subarray(patternPeriod, 2 * patternPeriod));
  const cut = new Uint8Array(whole.length);
  for (let at = 0; at < cut.length; at += 1400) fillPattern(cut, at, Math.min(1400, cut.length - at), at);
  assert.deepEqual(cut, whole);
  // xorshift32 from 1: its first state is 270369 (0x42021).
  assert.equal(whole[0], 0x21);
});

test('results are read after the ready line; an error or a bad status is thrown', () => {
  const line = '{"mode":"sink","bytes":3,"messages":1,"seconds":1,"gbps":0,"sha256":null}\n';
  assert.deepEqual(
    sctpPeerResults(`{"ready":true}\n${line}${line}`, 0, '').map(result => result.bytes),
    [3, 3],
  );
  assert.throws(() => sctpPeerResults('{"ready":true}\n{"error":"timeout"}\n', 3, ''), /^Error: timeout$/);
  assert.throws(() => sctpPeerResults('', 2, 'usage: x'), /status 2\nusage: x/);
  assert.throws(() => sctpPeerResults('', null, 'gone'), /a signal\ngone/);
});
