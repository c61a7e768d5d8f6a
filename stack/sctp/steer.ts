/**
 * Association affinity when several stacks are one host (stack/kern/steering.ts). Every tag that a queue draws leads back to it,
 * so the packets of an association arrive where it lives. Looked at here is only what finds no association:
 *
 *   - an INIT from, or listing, an address that another queue has an association with (restart §5.2.2, collision §5.2.1),
 *     and a reflected tag (§8.5.1): passed to the queue that holds the address;
 *   - a tag of another queue: packets of several associations came as one train, which was steered by its first.
 *
 * A queue only seems to hold an address when another one falls into the same slot: it passes the packet to the next that seems
 * to, and the last one takes it. By its tag a packet is passed once.
 */

import { CSUM_SCTP_OK } from '../kern/mbuf.js';
import { IpInfo } from '../kern/protosw.js';
import { STEER_WORDS, type Steering } from '../kern/steering.js';
import { InAddr } from '../netinet/in.js';
import {
  ABORT,
  COMMON_HEADER,
  INIT,
  INIT_HEADER,
  PARAM_IPV4,
  PARAM_IPV6,
  SHUTDOWN_COMPLETE,
  T_BIT,
} from './constants.js';
import type { PacketContext } from './input.js';
import { peerKey, type Sctp } from './sctp.js';
import { walkTlvs } from './wire.js';

const words = new Int32Array(STEER_WORDS);
const listed = new InAddr();

/** True when a packet that has no association here went to another queue (or was lost on the way, and counted). */
export function steerElsewhere(s: Sctp, p: PacketContext): boolean {
  const st = s.stack.steering;
  if (st === undefined) return false;
  const to = queueFor(s, st, p);
  if (to < 0 || to === st.queue) return false;
  const { src, dst, family, tos, udpSrc, udpDst } = p.info;
  words[0] = family | (tos << 8);
  words[1] = udpSrc;
  words[2] = udpDst;
  words[3] = s.steered | (1 << st.queue);
  words[4] = src.w0;
  words[5] = src.w1;
  words[6] = src.w2;
  words[7] = src.w3;
  words[8] = dst.w0;
  words[9] = dst.w1;
  words[10] = dst.w2;
  words[11] = dst.w3;
  if (!st.pass(to, s.stack.pool.u8, p.off, p.len, words)) {
    s.drop('sctps_steerfull');
    return true;
  }
  s.stats.sctps_steeredout++;
  return true;
}

/** The queue that a packet without an association here belongs to; -1 = this one, or nobody knows. */
function queueFor(s: Sctp, st: Steering, p: PacketContext): number {
  const u8 = s.stack.pool.u8;
  const o = p.off + COMMON_HEADER;
  const type = u8[o]!;
  if (type === INIT && p.tag === 0) {
    const at = st.holder(peerKey(p.info.src, p.dstPort, p.srcPort), s.steered);
    return at >= 0 ? at : listedHolder(s, st, p, o);
  }
  // The tag that is reflected is the peer's own: it says nothing of us.
  if ((type === ABORT || type === SHUTDOWN_COMPLETE) && (u8[o + 1]! & T_BIT) !== 0)
    return st.holder(peerKey(p.info.src, p.dstPort, p.srcPort), s.steered);
  return p.tag === 0 || s.steered !== 0 ? -1 : p.tag % st.queues;
}

/** The queue that has an association with one of the addresses that an INIT lists (§5.1.2). */
function listedHolder(s: Sctp, st: Steering, p: PacketContext, o: number): number {
  const dv = s.stack.pool.dv;
  const len = dv.getUint16(o + 2);
  if (len < INIT_HEADER || o + len > p.off + p.len) return -1;
  let left = s.tunables.max_held_addresses;
  let found = -1;
  walkTlvs(dv, o + INIT_HEADER, o + len, t => {
    if (t.type === PARAM_IPV4 && t.len === 8) listed.read4(dv, t.off + 4);
    else if (t.type === PARAM_IPV6 && t.len === 20) listed.read6(dv, t.off + 4);
    else return true;
    // An association that is here comes first.
    if (s.byAddress(listed, p.info.dst, p.dstPort, p.srcPort) !== undefined) return false;
    found = st.holder(peerKey(listed, p.dstPort, p.srcPort), s.steered);
    return found < 0 && --left > 0;
  });
  return found;
}

/** What other queues pass here comes in like a packet of IP's, its checksum known to be good. */
export function takeSteered(s: Sctp, st: Steering): void {
  const info = new IpInfo();
  st.receive = (u8, off, len, w) => {
    const pool = s.stack.pool;
    const m = pool.get(len);
    if (m === 0) {
      s.drop('sctps_datadropnobuf');
      return;
    }
    pool.u8.set(u8.subarray(off, off + len), pool.off[m]!);
    pool.len[m] = len;
    pool.pktlen[m] = len;
    pool.csum[m] = CSUM_SCTP_OK;
    const family = (w[0]! & 0xff) === 6 ? 6 : 4;
    info.family = family;
    info.tos = w[0]! >>> 8;
    info.udpSrc = w[1]!;
    info.udpDst = w[2]!;
    info.src.copy(new InAddr(family, w[4], w[5], w[6], w[7]));
    info.dst.copy(new InAddr(family, w[8], w[9], w[10], w[11]));
    s.stats.sctps_steeredin++;
    s.steered = w[3]!;
    s.input(m, info);
    s.steered = 0;
    s.stack.kick();
  };
}
