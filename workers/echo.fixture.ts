/** The program of the workers under test: an echo server on one port, for IPv4 and IPv6, and what a test asks of it. */

import type { Appliance } from '../appliance.js';
import { AF_INET, AF_INET6, SOCK_DGRAM, SOCK_SEQPACKET } from '../stack/kern/protosw.js';
import { RecvInfo, type SendInfo, Socket } from '../stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP, IPPROTO_UDP } from '../stack/netinet/in.js';
import { SCTP_REMOTE_UDP_ENCAPS_PORT } from '../stack/sctp/api.js';
import type { WorkerContext } from './protocol.js';

export const ECHO_PORT = 7;

function endpoint(appliance: Appliance, port: number): Socket {
  const so = appliance.socket(AF_INET6, SOCK_SEQPACKET, IPPROTO_SCTP);
  if (!(so instanceof Socket)) throw new Error(`no SCTP socket: ${so}`);
  const e = so.bind({ addr: InAddr.of('::'), port });
  if (e < 0) throw new Error(`cannot bind port ${port}: ${e}`);
  so.listen(128);
  const buf = new Uint8Array(1 << 16);
  const got = new RecvInfo();
  so.upcall = () => {
    for (let n = so.recv(buf, 0, buf.length, got); n > 0; n = so.recv(buf, 0, buf.length, got)) {
      const info: SendInfo = {
        sid: got.sid,
        flags: 0,
        ppid: 0,
        context: 0,
        assocId: got.assocId,
        prPolicy: 0,
        prValue: 0,
      };
      so.send(buf, 0, n, info);
    }
  };
  return so;
}

/** Sends a datagram from a port that the stack draws; resolves with that port when it is answered. */
function ask(appliance: Appliance, addr: InAddr, port: number): Promise<number> {
  const so = appliance.socket(addr.family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM, IPPROTO_UDP);
  if (!(so instanceof Socket)) throw new Error(`no UDP socket: ${so}`);
  const buf = new Uint8Array(16);
  return new Promise(resolve => {
    so.upcall = () => {
      if (so.recv(buf, 0, buf.length, new RecvInfo()) !== 4) return;
      const name = so.sockaddr();
      so.close();
      resolve(typeof name === 'number' ? name : name.port);
    };
    so.connect({ addr, port });
    so.send(new Uint8Array(4), 0, 4);
    appliance.kick();
  });
}

export default function echo(appliance: Appliance, context: WorkerContext): void {
  if ((context.data as { refuse?: boolean } | undefined)?.refuse === true) throw new Error('not today');
  endpoint(appliance, ECHO_PORT);
  context.onRequest = (name, args) => {
    const a = args as Record<string, unknown>;
    if (name === 'crash')
      setImmediate(() => {
        throw new Error('a test asked for it');
      });
    else if (name === 'hang') return new Promise(() => {});
    else if (name === 'connect') {
      const so = endpoint(appliance, a.from as number);
      so.setsockopt(IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, port: a.udp ?? 0 });
      return so.connect({ addr: InAddr.of(a.to as string), port: a.port as number });
    } else if (name === 'ask') return ask(appliance, InAddr.of(a.to as string), a.port as number);
    else if (name === 'states')
      return appliance
        .sctp()!
        .associations()
        .map(x => x.state);
    else throw Object.assign(new Error(`no request ${name}`), { code: 'EINVAL' });
    return undefined;
  };
}
