/** Feature negotiation, the card's half: what is offered, and which choices of a driver are accepted. VIRTIO 1.2 §2.2, §5.1.3. */

import * as R from '../nic/registers.js';
import type { Card } from './card.js';

/** What this card offers, which follows from its port. */
export function offeredFeatures(card: Card): R.FeatureWords {
  const bits = [
    R.F_NET_CSUM,
    R.F_NET_GUEST_CSUM,
    R.F_NET_MTU,
    R.F_NET_MAC,
    R.F_NET_STATUS,
    R.F_NET_CTRL_VQ,
    R.F_NET_CTRL_RX,
    R.F_NET_CTRL_RX_EXTRA,
    R.F_NET_CTRL_MAC_ADDR,
    R.F_NET_NOTF_COAL,
    R.F_NET_HASH_REPORT,
    R.F_RING_INDIRECT_DESC,
    R.F_RING_EVENT_IDX,
    R.F_VERSION_1,
    R.F_RING_RESET,
    R.F_NKE_SCTP_CSUM,
    R.F_NKE_GUEST_SCTP_CSUM,
    R.F_NKE_SCTP_TRAIN,
  ];
  if (!card.isIp) bits.push(R.F_NET_CTRL_VLAN);
  if (card.port.capabilities.train > 0) bits.push(R.F_NKE_GUEST_SCTP_TRAIN);
  return R.featureWords(...bits);
}

/** Features that need another one, §5.1.3.1. */
const NEEDS: readonly (readonly [number, number])[] = [
  [R.F_NET_CTRL_RX, R.F_NET_CTRL_VQ],
  [R.F_NET_CTRL_VLAN, R.F_NET_CTRL_VQ],
  [R.F_NET_CTRL_RX_EXTRA, R.F_NET_CTRL_RX],
  [R.F_NET_CTRL_MAC_ADDR, R.F_NET_CTRL_VQ],
  [R.F_NET_NOTF_COAL, R.F_NET_CTRL_VQ],
  [R.F_NET_HASH_REPORT, R.F_NET_CTRL_VQ],
  [R.F_NKE_SCTP_TRAIN, R.F_NKE_SCTP_CSUM],
];

/** True when the driver's choice is a subset of what was offered, has VERSION_1, and leaves out nothing that is needed. */
export function acceptable(offered: R.FeatureWords, accepted: R.FeatureWords): boolean {
  for (let i = 0; i < 4; i++) if ((accepted[i]! & ~offered[i]!) !== 0) return false;
  if (!R.hasFeature(accepted, R.F_VERSION_1)) return false;
  return NEEDS.every(([f, needs]) => !R.hasFeature(accepted, f) || R.hasFeature(accepted, needs));
}
