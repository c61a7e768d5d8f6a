import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tsctpResult, withoutDebug } from './examples.js';
import { fillPattern, patternPeriod } from './pattern.js';
import { usrsctpArguments } from './peer.js';

test('options become the arguments of the C program', () => {
  assert.deepEqual(usrsctpArguments('source', { localUdp: 1, remoteUdp: 2, peers: ['127.0.0.1', '::1'], hash: false }), [
    ...['source', '--local-udp', '1', '--remote-udp', '2', '--peer', '127.0.0.1', '--peer', '::1', '--hash', 'off'],
  ]);
  assert.deepEqual(usrsctpArguments('sink', { localUdp: 1, port: undefined }), ['sink', '--local-udp', '1']);
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

test('results of tsctp are read at both ends, debug lines are not', () => {
  const debug = '[S][0.000] Bind called port: 5001\n[P][0.003] something\n';
  assert.equal(withoutDebug(`${debug}hello\n`), 'hello\n');
  assert.deepEqual(tsctpResult(`${debug}Sending of 1000 messages of length 1400 took 0.109176 seconds.\nThroughput\n`), {
    messages: 1000,
    bytes: 1400000,
    seconds: 0.109176,
  });
  assert.deepEqual(tsctpResult(`${debug}1400, 1000, 1000, 1400000, 0.124265, 11266245.523679, 0\n`), {
    messages: 1000,
    bytes: 1400000,
    seconds: 0.124265,
  });
  assert.equal(tsctpResult(debug), undefined);
});
