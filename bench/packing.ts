/** How user messages fill packets of 1,500 bytes of SCTP in UDP over IPv4: what the limit programs must carry for the same work. */

import { COMMON_HEADER, DATA_HEADER } from '../stack/sctp/constants.js';

/** UDP payload of a full packet: 1,500 less IPv4's 20 and UDP's 8. */
const ROOM = 1472;

export interface Packing {
  /** Bytes of UDP payload of one packet. */
  readonly payload: number;
  /** User data in it. */
  readonly user: number;
}

/** Whole messages bundled as they fit (RFC 9260 §6.10); larger ones fragmented (§6.9), the short last fragment left out. */
export function packing(message: number, room = ROOM): Packing {
  const chunk = (DATA_HEADER + message + 3) & ~3;
  const fit = Math.floor((room - COMMON_HEADER) / chunk);
  if (fit >= 1) return { payload: COMMON_HEADER + fit * chunk, user: fit * message };
  const fragment = (room - COMMON_HEADER - DATA_HEADER) & ~3;
  return { payload: COMMON_HEADER + DATA_HEADER + fragment, user: fragment };
}
