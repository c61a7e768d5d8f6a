/**
 * Layout of a split virtqueue and of virtio_net_hdr: the one file that the device side (nic/virtq-device.ts) and the
 * driver side (driver/virtq-driver.ts) share. VIRTIO 1.2 §2.7 (split virtqueues) and §5.1.6 (network device operation).
 *
 * A queue of N entries (N a power of two, at most 32768) is three areas anywhere in shared memory, all little endian:
 *
 *   descriptor table, 16 N bytes, 16-byte aligned      le64 addr | le32 len | le16 flags | le16 next
 *   available ring, 6 + 2 N bytes, 2-byte aligned      le16 flags | le16 idx | le16 ring[N] | le16 used_event
 *   used ring, 6 + 8 N bytes, 4-byte aligned           le16 flags | le16 idx | { le32 id | le32 len }[N] | le16 avail_event
 *
 * `idx` counts up without bound (mod 65536); entry i lies at ring[i mod N]. Both sides read and write the areas through
 * Uint16Array and Uint32Array over the whole region, which is little endian on every machine that Node runs on.
 */

// Descriptor, §2.7.5
export const DESC_BYTES = 16;
export const DESC_ADDR = 0;
export const DESC_LEN = 8;
export const DESC_FLAGS = 12;
export const DESC_NEXT = 14;
export const DESC_F_NEXT = 1; // continues in the descriptor `next`
export const DESC_F_WRITE = 2; // the device writes it (otherwise reads it)
export const DESC_F_INDIRECT = 4; // holds a table of descriptors

// Available ring, §2.7.6
export const AVAIL_FLAGS = 0;
export const AVAIL_IDX = 2;
export const AVAIL_RING = 4;
export const AVAIL_F_NO_INTERRUPT = 1;

// Used ring, §2.7.8
export const USED_FLAGS = 0;
export const USED_IDX = 2;
export const USED_RING = 4;
export const USED_ELEM_BYTES = 8;
export const USED_F_NO_NOTIFY = 1;

export const QUEUE_SIZE_MAX = 32768;

/** Bytes of each area for a queue of n entries. */
export const descBytes = (n: number): number => n * DESC_BYTES;
export const availBytes = (n: number): number => 6 + 2 * n;
export const usedBytes = (n: number): number => 6 + n * USED_ELEM_BYTES;
/** Byte offset of used_event within the available ring, and of avail_event within the used ring (§2.7.7, §2.7.10). */
export const usedEventAt = (n: number): number => AVAIL_RING + 2 * n;
export const availEventAt = (n: number): number => USED_RING + n * USED_ELEM_BYTES;

/** Bytes that a queue of n entries takes when its areas are laid one behind the other from a 16-byte boundary. */
export const queueBytes = (n: number): number => usedOffset(n) + ((usedBytes(n) + 15) & ~15);
export const availOffset = (n: number): number => descBytes(n);
export const usedOffset = (n: number): number => (availOffset(n) + availBytes(n) + 3) & ~3;

/**
 * True when the other side, who asked to be told at `event`, is to be told now that idx went from `before` to `after`
 * (§2.7.7.1, vring_need_event). All three are 16-bit counters.
 */
export const needEvent = (event: number, after: number, before: number): boolean =>
  ((after - event - 1) & 0xffff) < ((after - before) & 0xffff);

/**
 * virtio_net_hdr, §5.1.6: 12 bytes in front of every frame, 20 when VIRTIO_NET_F_HASH_REPORT is negotiated.
 *
 *   u8 flags | u8 gso_type | le16 hdr_len | le16 gso_size | le16 csum_start | le16 csum_offset | le16 num_buffers
 *   [ le32 hash_value | le16 hash_report | le16 padding ]
 */
export const NET_HDR_BYTES = 12;
export const NET_HDR_HASH_BYTES = 20;
export const NET_HDR_FLAGS = 0;
export const NET_HDR_GSO_TYPE = 1;
export const NET_HDR_HDR_LEN = 2;
export const NET_HDR_GSO_SIZE = 4;
export const NET_HDR_CSUM_START = 6;
export const NET_HDR_CSUM_OFFSET = 8;
export const NET_HDR_NUM_BUFFERS = 10;
export const NET_HDR_HASH_VALUE = 12;
export const NET_HDR_HASH_TYPE = 16;

export const NET_HDR_F_NEEDS_CSUM = 1; // transmit: sum from csum_start, store at csum_start + csum_offset
export const NET_HDR_F_DATA_VALID = 2; // receive: the layer 4 checksum was good
// Vendor bits, valid only when the vendor feature that brings them was negotiated.
export const NET_HDR_F_SCTP_CSUM = 0x10; // transmit: fill in CRC32c; receive: every CRC32c in this entry was good
export const NET_HDR_F_SCTP_BAD = 0x20; // receive: a CRC32c in this entry was bad
export const NET_HDR_F_IP_CSUM = 0x40; // transmit: fill in the IPv4 header checksum; receive: it was good
export const NET_HDR_F_UDP_CSUM = 0x80; // transmit: fill in the whole UDP checksum, pseudo-header included

export const NET_HDR_GSO_NONE = 0;
/**
 * Vendor type: a train of SCTP packets of one flow. `hdr_len` bytes of link, IP and (RFC 6951) UDP headers that hold for all
 * of them, then SCTP packets of `gso_size` bytes each, common header included, the last one perhaps shorter.
 */
export const NET_HDR_GSO_SCTP = 0x10;

// Hash types of hash_report, §5.1.6.4.4, and as bits of hash_types, §5.1.6.4.3.1
export const HASH_REPORT_NONE = 0;
export const HASH_REPORT_IPV4 = 1;
export const HASH_REPORT_UDPV4 = 3;
export const HASH_REPORT_IPV6 = 4;
export const HASH_REPORT_UDPV6 = 6;
export const HASH_TYPE_IPV4 = 1 << 0;
export const HASH_TYPE_UDPV4 = 1 << 2;
export const HASH_TYPE_IPV6 = 1 << 3;
export const HASH_TYPE_UDPV6 = 1 << 5;

// Queues of a card with one pair, §5.1.2
export const RX_QUEUE = 0;
export const TX_QUEUE = 1;
export const CTRL_QUEUE = 2;

// Control queue, §5.1.6.5: { u8 class | u8 command | data } readable, { u8 ack } writable
export const NET_OK = 0;
export const NET_ERR = 1;
export const CTRL_RX = 0;
export const CTRL_RX_PROMISC = 0;
export const CTRL_RX_ALLMULTI = 1;
export const CTRL_RX_ALLUNI = 2;
export const CTRL_RX_NOMULTI = 3;
export const CTRL_RX_NOUNI = 4;
export const CTRL_RX_NOBCAST = 5;
export const CTRL_MAC = 1;
export const CTRL_MAC_TABLE_SET = 0; // le32 n | n × 6 bytes unicast, then the same for multicast
export const CTRL_MAC_ADDR_SET = 1; // 6 bytes
export const CTRL_VLAN = 2;
export const CTRL_VLAN_ADD = 0; // le16 id
export const CTRL_VLAN_DEL = 1;
export const CTRL_MQ = 4;
export const CTRL_MQ_VQ_PAIRS_SET = 0; // le16 pairs
export const CTRL_MQ_HASH_CONFIG = 2; // le32 hash_types | le16 reserved[4] | u8 key length | key
export const CTRL_NOTF_COAL = 6;
export const CTRL_NOTF_COAL_TX_SET = 0; // le32 max_packets | le32 max_usecs
export const CTRL_NOTF_COAL_RX_SET = 1;
