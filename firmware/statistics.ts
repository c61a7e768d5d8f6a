/**
 * Counters of the card, as rows of data: every frame that the card takes is counted as passed on or under the one reason
 * for which it was dropped. Names follow ethtool's habit (direction first).
 */

const rows = [
  ['rx_frames', 'frames handed to the driver; a train counts as one'],
  ['rx_packets', 'packets handed to the driver, those inside trains each'],
  ['rx_bytes', 'bytes handed to the driver, link header included'],
  ['rx_trains', 'trains handed to the driver'],
  ['rx_multicast', 'multicast and broadcast frames handed to the driver'],
  ['rx_runt', 'dropped: shorter than a link or IP header'],
  ['rx_oversize', 'dropped: longer than the MTU allows'],
  ['rx_truncated', 'dropped: the port reported more bytes than its room'],
  ['rx_not_ip', 'dropped: on an IP medium, neither version 4 nor 6'],
  ['rx_filtered', 'dropped: address filter'],
  ['rx_vlan_filtered', 'dropped: VLAN filter'],
  ['rx_train_refused', 'dropped: a train for a driver that takes none'],
  ['rx_link_down', 'dropped: arrived while the link was down'],
  ['rx_disabled', 'dropped: arrived while no driver was running the card'],
  ['rx_asleep', 'dropped: arrived in a low-power state'],
  ['rx_short_buffer', 'receive buffers handed back unused: too small for a frame'],
  ['rx_no_buffer', 'times the receive queue had no buffer when the card looked'],
  ['rx_csum_sctp_ok', 'frames or trains whose SCTP CRC32c was good'],
  ['rx_csum_sctp_bad', 'frames or trains with a bad SCTP CRC32c, handed up marked'],
  ['rx_csum_ip_bad', 'frames with a bad IPv4 header checksum, handed up unmarked'],
  ['rx_csum_udp_bad', 'frames with a bad UDP checksum, handed up unmarked'],
  ['tx_frames', 'frames taken from the driver and passed to the port; a train counts as one'],
  ['tx_packets', 'packets passed to the port, those inside trains each'],
  ['tx_bytes', 'bytes taken from the driver and passed to the port'],
  ['tx_trains', 'trains taken from the driver'],
  ['tx_trains_cut', 'trains cut into packets by the card, because the port takes none'],
  ['tx_gathered', 'frames copied together because they lay scattered'],
  ['tx_busy', 'times the port refused: frames stayed in the ring'],
  ['tx_runt', 'dropped: no room for a header, or shorter than a link header'],
  ['tx_oversize', 'dropped: longer than the MTU allows'],
  ['tx_not_ip', 'dropped: on an IP medium, EtherType is neither IPv4 nor IPv6 (ARP among them)'],
  ['tx_bad_train', 'dropped: a train whose sizes make no sense or that was not negotiated'],
  ['tx_bad_csum_request', 'dropped: a checksum was asked for that the headers do not allow'],
  ['tx_link_down', 'dropped: the link was down'],
  ['tx_csum_sctp', 'frames or trains whose CRC32c was filled in'],
  ['desc_bad', 'descriptor chains refused: out of memory bounds, looped, wrong direction'],
  ['queue_broken', 'queues stopped until reset, because their ring made no sense'],
  ['queue_refused', 'queues not enabled, because size or addresses made no sense'],
  ['ctrl_commands', 'control commands carried out'],
  ['ctrl_errors', 'control commands refused'],
  ['doorbells', 'doorbell writes'],
  ['interrupts', 'interrupts raised'],
  ['interrupts_held', 'interrupts held back by moderation'],
  ['resets', 'device resets'],
  ['queue_resets', 'single-queue resets'],
  ['link_changes', 'link went up or down'],
  ['power_changes', 'changes of power state'],
  ['wakes', 'wake events signalled'],
] as const;

export type CounterName = (typeof rows)[number][0];
export type CardCounters = Record<CounterName, number>;
/** The counters and what they mean. */
export const CARD_COUNTERS: readonly (readonly [CounterName, string])[] = rows;

/** All counters at zero. */
export function cardCounters(): CardCounters {
  const c = {} as CardCounters;
  for (const [name] of rows) c[name] = 0;
  return c;
}
