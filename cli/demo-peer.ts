/** The second process of `nke demo`: an appliance that receives on two paths and answers over the parent's IPC channel. */

import { sockaddrs } from '../sockets/message.js';
import { AsyncSocket } from '../sockets/promises.js';
import {
  demoAppliance,
  endAppliance,
  type FromPeer,
  hurry,
  RECEIVER,
  SCTP_PORT,
  SENDER,
  type ToPeer,
} from './demo-protocol.js';
import { CliError, oneLine } from './errors.js';
import { Digest, isMessage, MAX_MESSAGE_BYTES } from './pattern.js';
import { eachMessage } from './traffic.js';

export async function demoPeer(): Promise<void> {
  const { send } = process;
  if (send === undefined) throw new CliError('demo-peer is started by nke demo; run: nke demo');
  const tell = (m: FromPeer) =>
    new Promise<void>(resolve => send.call(process, m, undefined, undefined, () => resolve()));
  // A parent that died without a word must not leave us behind.
  process.once('disconnect', () => process.exit(1));
  const finish = new Promise<void>(resolve =>
    process.on('message', (m: ToPeer) => (m.type === 'finish' ? resolve() : undefined)),
  );
  try {
    const { appliance, udpPort } = await demoAppliance('demo-b', RECEIVER, SENDER);
    for (const card of appliance.cards) appliance.up(card.name, true);
    appliance.kextload('SCTP');
    const listener = AsyncSocket.create(appliance);
    hurry(listener);
    listener.bind(...sockaddrs(RECEIVER, SCTP_PORT));
    listener.listen(1);
    await tell({ type: 'ready', udpPort });
    const socket = await listener.accept();
    const digest = new Digest();
    const buf = Buffer.allocUnsafe(MAX_MESSAGE_BYTES);
    let messages = 0;
    await eachMessage(socket, buf, size => {
      if (!isMessage(buf, 0, size, messages)) throw new CliError(`message ${messages} is not what was sent`);
      messages++;
      digest.update(buf, 0, size);
      return undefined;
    });
    socket.close();
    listener.close();
    await tell({ type: 'received', messages, bytes: digest.bytes, hash: digest.hex() });
    await finish;
    await tell({ type: 'closed', end: await endAppliance(appliance) });
  } catch (e) {
    await tell({ type: 'failed', error: oneLine(e) });
    process.exitCode = 1;
  }
  process.removeAllListeners('disconnect');
  process.disconnect();
}
