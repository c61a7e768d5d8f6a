/**
 * What the socket's edge promises, as tests that run on any two hosts: on the fake protocol of this folder and on real
 * SCTP stacks. Call `socketsContract(name, makeRig)` from a test file.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { connecting, paths, servers } from './net.contract.js';
import { endpoints, promises, waiting } from './promises.contract.js';
import { type Body, type Rig, settle, WAIT, Watched, type World } from './rig.js';
import { bytes, ending, messages } from './stream.contract.js';

export type { Rig } from './rig.js';

export function socketsContract(name: string, makeRig: () => Rig | Promise<Rig>): void {
  let port = 5000;
  /** A test with hosts of its own; at its end no socket may be open and no upcall set. */
  const test = (title: string, body: Body) =>
    it(title, WAIT, async t => {
      const rig = await makeRig();
      const client = new Watched(rig.client);
      const server = new Watched(rig.server);
      port++;
      const w: World = {
        ...rig,
        advance: ms => rig.advance(ms),
        setPath: rig.setPath === undefined ? undefined : (address, up) => rig.setPath!(address, up),
        close: () => rig.close(),
        client,
        server,
        port,
        at: { address: rig.serverAddresses.slice(0, 1), port },
      };
      const alive = setInterval(() => {}, 1000); // a test that hangs ends by its timeout, not by an empty event loop
      try {
        await body(w, t);
        await settle();
        const sockets = [...client.sockets, ...server.sockets];
        assert.equal(sockets.filter(s => !s.closed).length, 0, 'sockets left open');
        assert.equal(sockets.filter(s => s.upcall !== undefined).length, 0, 'upcalls left set');
      } catch (error) {
        await (async () => rig.close())().catch(() => {}); // what is left over then is not the news
        throw error;
      } finally {
        clearInterval(alive);
      }
      await rig.close();
    });

  describe(`sockets on ${name}`, () => {
    describe('connecting', () => connecting(test));
    describe('byte streams', () => bytes(test));
    describe('messages', () => messages(test));
    describe('ending', () => ending(test));
    describe('server', () => servers(test));
    describe('paths', () => paths(test));
    describe('promises', () => promises(test));
    describe('promises: waiting and failing', () => waiting(test));
    describe('endpoint', () => endpoints(test));
  });
}
