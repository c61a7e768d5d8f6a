/** The socket's edge on two real stacks, joined by two links in virtual time: the same contract as on the fake. */

import assert from 'node:assert/strict';
import { MSEC } from '../stack/kern/clock.js';
import { SctpPair } from '../stack/sctp/harness.js';
import { socketsContract } from './sockets.contract.js';

/** Virtual time that passes with every turn of the event loop: a round trip of 10 ms takes one, a delayed SACK ten. */
const TURN = 20 * MSEC;

socketsContract('real stacks', () => {
  const pair = new SctpPair({ links: 2 });
  let timer: NodeJS.Immediate;
  const run = () => {
    timer = setImmediate(run);
    pair.net.run(TURN);
  };
  run();
  return {
    client: pair.a,
    server: pair.b,
    clientAddresses: [pair.addr('a', 0), pair.addr('a', 1)],
    serverAddresses: [pair.addr('b', 0), pair.addr('b', 1)],
    silentAddress: '10.0.0.77',
    advance: ms => void pair.net.run(ms * MSEC),
    setPath(address, up) {
      const i = [0, 1].findIndex(link => pair.addr('b', link) === address);
      pair.links[i]!.options = { ...pair.links[i]!.options, loss: () => !up };
    },
    close() {
      clearImmediate(timer);
      assert.equal(pair.end(), 0, 'mbufs leaked');
    },
  };
});
