/** TUN port: IPv4 and IPv6 packets to and from a kernel interface (the kernel's tuntap.rst). */
import type { Native } from '../native.js';
import { type TunTapOptions, TunTapPort } from './tuntap.js';

export class TunPort extends TunTapPort {
  constructor(options: TunTapOptions, native?: Native) {
    super(false, options, native);
  }
}
