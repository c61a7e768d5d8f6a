/** ICMP about packets of ours (RFC 9260 §10): checked by the quoted tag, then too big, unreachable. */

import { ECONNREFUSED } from '../kern/errno.js';
import type { CtlInput } from '../kern/protosw.js';
import { endAssociation } from './abort.js';
import { INIT } from './constants.js';
import { pathFailed, setMtu } from './paths.js';
import { reason, reasonText } from './reasons.js';
import type { Sctp } from './sctp.js';
import { markLost } from './timers.js';
import { vtag } from './types.js';

/** Smallest MTU an ICMP message may bring a path to. */
const MIN_MTU = 512;

export function handleIcmp(s: Sctp, c: CtlInput): void {
  const q = c.payload;
  if (q.length < 8) {
    s.stats.sctps_icmpignored++;
    return;
  }
  const dv = new DataView(q.buffer, q.byteOffset, q.length);
  const localPort = dv.getUint16(0);
  const peerPort = dv.getUint16(2);
  const tag = vtag(dv.getUint32(4));
  const p = s.byAddress(c.dst, c.src, localPort, peerPort);
  const a = p?.asoc;
  // §10 ICMP7 and ICMP8: the tag must be ours to the peer; an INIT has tag 0, its initiate tag is compared if quoted.
  const initTagFits = a !== undefined && tag === 0 && q.length >= 20 && q[12] === INIT && dv.getUint32(16) === a.myTag;
  if (p === undefined || a === undefined || (tag === 0 ? !initTagFits : tag !== a.peerTag)) {
    s.stats.sctps_icmpignored++;
    return;
  }
  s.stats.sctps_icmp++;
  switch (c.kind) {
    case 'too-big': {
      const mtu = c.mtu;
      if (mtu >= MIN_MTU && mtu < p.mtu) {
        setMtu(s, p, mtu, `a router told that packets above ${mtu} bytes are too big`);
        // §7.3: what was lost for its size goes again, fragmented by IP where it is too long now.
        markLost(s, a, p);
        s.markDirty(a);
      }
      break;
    }
    case 'net-unreachable':
    case 'host-unreachable':
      if (p.state === 'active') {
        p.errors = p.maxErrors + 1;
        pathFailed(s, p, reason(`ICMP: ${c.kind.replace('-', ' ')}`, '§10'));
        markLost(s, a, p);
        s.markDirty(a);
      }
      break;
    case 'protocol-unreachable':
    case 'port-unreachable': {
      const why = reason(`ICMP: ${c.kind.replace('-', ' ')}: the peer has no SCTP there`, '§10 ICMP6');
      endAssociation(s, a, a.established ? 'comm-lost' : 'cant-start', ECONNREFUSED, why, reasonText(why));
      break;
    }
    default:
      break;
  }
}
