/** The other process of failover.ts: runs ip(8) and says when an interface has lost its carrier. Started by fork(). */

import { spawn } from 'node:child_process';
import { LinkMonitor } from '../nic/ports/rtnetlink.js';

const PATIENCE_MS = 5000;

process.on('message', ({ watch, args }: { watch: string; args: string[] }) => {
  const clock = () => Number(process.hrtime.bigint() / 1000n) / 1000;
  const fail = (error: string) => void process.send!({ error });
  let monitor: LinkMonitor;
  try {
    monitor = LinkMonitor.open(watch, undefined, undefined, false);
  } catch (e) {
    return fail((e as Error).message);
  }
  const began = clock();
  const end = began + PATIENCE_MS;
  const child = spawn('ip', args, { stdio: 'inherit' });
  child.once('error', e => fail(`ip: ${e.message}`));
  // Without sleeping: what is measured begins when the kernel says so, not when this process wakes.
  const look = () => {
    monitor.poll();
    const now = clock();
    if (monitor.carrier && now < end) return void setImmediate(look);
    const lost = !monitor.carrier;
    monitor.close();
    if (lost) process.send!({ at: now, began });
    else fail(`ip ${args.join(' ')} did not take the carrier of ${watch} away`);
  };
  look();
});
process.once('disconnect', () => process.exit(0));
process.send!({ at: 0, began: 0 });
