/** A program that knows nothing but the package: the socket API of RFC 6458 in TypeScript, between two appliances. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  AF_INET,
  type Appliance,
  type AssocStatus,
  AsyncSocket,
  connect,
  createEndpoint,
  createServer,
  EAGAIN,
  ENOENT,
  IPPROTO_SCTP,
  MSG_EOR,
  MSG_NOTIFICATION,
  RecvInfo,
  SCTP_BINDX_ADD_ADDR,
  SCTP_EOF,
  SCTP_EVENT,
  SCTP_RECVRCVINFO,
  SCTP_RECVV_RCVINFO,
  SCTP_SENDV_SNDINFO,
  SCTP_STATUS,
  SCTP_UNORDERED,
  Simulation,
  type SndInfo,
  SOCK_SEQPACKET,
  type SockAddr,
  Socket,
  sctp_bindx,
  sctp_connectx,
  sctp_getassocid,
  sctp_getladdrs,
  sctp_getpaddrs,
  sctp_opt_info,
  sctp_peeloff,
  sctp_recvv,
  sctp_sendv,
  sockaddr,
} from './index.js';

const PORT = 5000;

function two() {
  const net = new Simulation(1);
  const host = (name: string, n: number) =>
    net.create({
      name,
      kexts: ['SCTP'],
      cards: [0, 1].map(i => ({ port: `wire:cable${i}`, addresses: [`10.0.${i}.${n}/24`] })),
    });
  return { net, a: host('a', 1), b: host('b', 2) };
}
function open(host: Appliance): Socket {
  const so = host.socket(AF_INET, SOCK_SEQPACKET, IPPROTO_SCTP);
  assert.ok(so instanceof Socket);
  return so;
}
const texts = (list: SockAddr[] | number) => (list as SockAddr[]).map(x => `${x.addr}:${x.port}`).sort();

test('bindx, connectx, sendv, recvv, peeloff and the lists of addresses, by what the package exports', async () => {
  const { net, a, b } = two();
  const server = open(b);
  const both = [sockaddr('10.0.0.2', PORT), sockaddr('10.0.1.2', PORT)];
  assert.equal(sctp_bindx(server, both, SCTP_BINDX_ADD_ADDR), 0);
  assert.equal(server.setsockopt(IPPROTO_SCTP, SCTP_EVENT, { assocId: 0, type: 'assoc-change', on: true }), 0);
  assert.equal(server.setsockopt(IPPROTO_SCTP, SCTP_RECVRCVINFO, 1), 0);
  assert.equal(server.listen(5), 0);
  const client = open(a);
  const id = sctp_connectx(client, both);
  assert.ok(id > 0);
  const sndinfo: SndInfo = { sid: 3, flags: SCTP_UNORDERED, ppid: 46, context: 0, assocId: id };
  const iov = [Buffer.from('one '), Buffer.from('message')];
  assert.equal(sctp_sendv(client, iov, [], { type: SCTP_SENDV_SNDINFO, info: sndinfo }), 11);
  const buffer = Buffer.alloc(1000);
  const info = new RecvInfo();
  assert.ok(net.run(() => server.readable && a.counters().sctp!.sctps_recvsacks! > 0));
  let got = sctp_recvv(server, buffer, info);
  assert.ok((info.msgFlags & MSG_NOTIFICATION) !== 0 && got.n > 0);
  got = sctp_recvv(server, buffer, info);
  assert.deepEqual([got.n, got.infotype, info.sid, info.ppid], [11, SCTP_RECVV_RCVINFO, 3, 46]);
  assert.deepEqual(
    [info.flags, info.msgFlags & MSG_EOR, buffer.toString('utf8', 0, 11)],
    [SCTP_UNORDERED, MSG_EOR, 'one message'],
  );
  assert.deepEqual(texts(sctp_getpaddrs(client, id)), ['10.0.0.2:5000', '10.0.1.2:5000']);
  assert.equal(sctp_getassocid(client, both[1]!), id);
  assert.deepEqual(texts(sctp_getladdrs(server, 0)), ['10.0.0.2:5000', '10.0.1.2:5000']);

  const own = sctp_peeloff(server, info.assocId);
  assert.ok(own instanceof Socket);
  assert.equal(sctp_getpaddrs(server, info.assocId), -ENOENT);
  assert.equal((sctp_opt_info(own, 0, SCTP_STATUS) as AssocStatus).state, 'ESTABLISHED');
  assert.equal(sctp_sendv(client, [], [], { type: SCTP_SENDV_SNDINFO, info: { ...sndinfo, flags: SCTP_EOF } }), 0);
  assert.ok(net.run(() => own.readable && sctp_getpaddrs(client, id) === -ENOENT));
  assert.equal(server.recv(buffer, 0, 1, info), -EAGAIN);
  for (const so of [own, server, client]) so.close();
  await net.close();
});

test('an option that there is not is a TypeError that names it and those that there are', async () => {
  const { net, a } = two();
  const wrong = { address: '10.0.0.2', port: 1, encapPort: 9899 };
  assert.throws(() => connect(a, wrong), {
    name: 'TypeError',
    message: /^connect knows no option 'encapPort'; it knows .*localAddress.*encapsPort/,
  });
  assert.throws(
    () => createServer(a, { streams: 3 } as object),
    /createServer knows no option 'streams'; .*outStreams/,
  );
  assert.throws(
    () => createServer(a).listen({ host: '10.0.0.1' } as object),
    /listen knows no option 'host'; .*address/,
  );
  assert.throws(
    () => createEndpoint(a, { nodelay: true } as object),
    /createEndpoint knows no option 'nodelay'; .*noDelay/,
  );
  assert.throws(
    () => AsyncSocket.create(a, { family: 6 } as object),
    /AsyncSocket.create knows no option 'family'; .*domain/,
  );
  const known = createEndpoint(a, { encapsPort: undefined as never, noDelay: true });
  known.close();
  await net.close();
});
