/**
 * Link speed of a network interface from sysfs (/sys/class/net/NAME/speed, Documentation/ABI/testing/sysfs-class-net). What
 * is mounted at /sys belongs to one network namespace, perhaps not to ours: index and hardware address must agree.
 */
import { readFileSync } from 'node:fs';
import type { LinkMonitor } from './rtnetlink.js';

/** Mb/s, or undefined: unknown, no carrier, or an interface that has none (a TAP's and a veth's are made up, but told). */
export function linkSpeed(m: LinkMonitor): number | undefined {
  const read = (file: string) => readFileSync(`/sys/class/net/${m.name}/${file}`, 'latin1').trim();
  try {
    if (Number(read('ifindex')) !== m.index) return undefined;
    const mac = Array.from(m.mac, b => b.toString(16).padStart(2, '0')).join(':');
    if (mac !== '' && read('address') !== mac) return undefined;
    const speed = Number(read('speed'));
    return Number.isInteger(speed) && speed > 0 ? speed : undefined;
  } catch {
    return undefined; // EINVAL without a carrier, ENOENT in another namespace
  }
}
