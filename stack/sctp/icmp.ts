/** ICMP about packets of ours (RFC 9260 §10): checked by the quoted tag, then too big, unreachable. */

import { ECONNREFUSED, ECONNRESET } from '../kern/errno.js';
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
/** Smallest MTU of a link with IPv6 (RFC 8200 §5): who reports less is not believed (RFC 8201 §4). */
const MIN_MTU6 = 1280;

export function handleIcmp(s: Sctp, c: CtlInput): void {
  const q = c.payload;
  if (q.length < 8) {
    s.drop('sctps_icmpignored');
    return;
  }
  const dv = new DataView(q.buffer, q.byteOffset, q.length);
  const localPort = dv.getUint16(0);
  const peerPort = dv.getUint16(2);
  const tag = vtag(dv.getUint32(4));
  const p = s.byAddress(c.dst, c.src, localPort, peerPort);
  const a = p?.asoc;
  // §10 ICMP6: the tag must be ours to the peer; an INIT has tag 0, its initiate tag is compared instead and must be quoted.
  const initTagFits = a !== undefined && tag === 0 && q.length >= 20 && q[12] === INIT && dv.getUint32(16) === a.myTag;
  const tagFits = tag === 0 ? initTagFits : tag === a?.peerTag;
  // RFC 6951 §5.5: what was quoted from a tunnel must have gone to the UDP port that the path uses.
  if (p === undefined || a === undefined || !tagFits || (c.udpSrc !== 0 && c.udpDst !== p.encapsPort)) {
    s.drop('sctps_icmpignored', a);
    return;
  }
  s.stats.sctps_icmp++;
  switch (c.kind) {
    case 'too-big': {
      if (p.addr.family === 6 && c.mtu < MIN_MTU6) {
        s.drop('sctps_icmpignored', a);
        break;
      }
      const mtu = Math.max(c.mtu, MIN_MTU);
      if (mtu < p.mtu) {
        setMtu(s, p, mtu, `a router told that packets above ${c.mtu} bytes are too big`);
        // §7.3: what was lost for its size goes again, fragmented by IP where it is too long now; the rest has got through.
        markLost(s, a, p, p.chunkRoom);
        s.markDirty(a);
      }
      break;
    }
    case 'net-unreachable':
    case 'host-unreachable':
    case 'admin-prohibited':
      if (p.state === 'active') {
        p.errors = p.maxErrors + 1;
        pathFailed(s, p, reason(`ICMP: ${c.kind.replace('-', ' ')}`, '§10 ICMP9'));
        markLost(s, a, p);
        s.markDirty(a);
      }
      break;
    case 'protocol-unreachable':
    case 'port-unreachable': {
      // ICMP8: as an ABORT with the T bit; one about an INIT counts in COOKIE-WAIT only.
      if (tag === 0 && a.state !== 'COOKIE_WAIT') {
        s.drop('sctps_icmpignored', a);
        break;
      }
      const why = reason(`ICMP: ${c.kind.replace('-', ' ')}: the peer has no SCTP there`, '§10 ICMP8');
      const errno = a.state === 'COOKIE_WAIT' ? ECONNREFUSED : ECONNRESET;
      endAssociation(s, a, a.established ? 'comm-lost' : 'cant-start', errno, why, reasonText(why));
      break;
    }
    default:
      s.drop('sctps_icmpignored', a);
      break;
  }
}
