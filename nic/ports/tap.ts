/**
 * TAP port: Ethernet frames to and from a kernel interface (the kernel's tuntap.rst). The frames' other side is the
 * interface itself: `capabilities.mac` is its address, which the card must not take for its own.
 */
import type { Native } from '../native.js';
import { type TunTapOptions, TunTapPort } from './tuntap.js';

export class TapPort extends TunTapPort {
  constructor(options: TunTapOptions, native?: Native) {
    super(true, options, native);
  }
}
