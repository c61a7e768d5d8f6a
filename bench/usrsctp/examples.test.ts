import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tsctpResult, withoutDebug } from './examples.js';

test('results of tsctp are read at both ends, debug lines are not', () => {
  const debug = '[S][0.000] Bind called port: 5001\n[P][0.003] something\n';
  assert.equal(withoutDebug(`${debug}hello\n`), 'hello\n');
  assert.deepEqual(
    tsctpResult(`${debug}Sending of 1000 messages of length 1400 took 0.109176 seconds.\nThroughput\n`),
    {
      messages: 1000,
      bytes: 1400000,
      seconds: 0.109176,
    },
  );
  assert.deepEqual(tsctpResult(`${debug}1400, 1000, 1000, 1400000, 0.124265, 11266245.523679, 0\n`), {
    messages: 1000,
    bytes: 1400000,
    seconds: 0.124265,
  });
  assert.equal(tsctpResult(debug), undefined);
});
