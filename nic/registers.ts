/**
 * The card's registers as rows of data: VIRTIO 1.2 §4.2.2 (MMIO layout, version 2) from 0x000, virtio_net_config
 * (§5.1.4) from 0x100, and the vendor area from 0x200. Firmware, driver, documentation and tests read the same rows.
 * Little endian; control registers are accessed by their full width only.
 */

export type RegisterAccess = 'r' | 'w' | 'rw' | 'w1c'; // w1c: writing a 1 bit clears it

export interface RegisterRow {
  readonly name: string;
  readonly offset: number;
  /** Bytes of one access. */
  readonly width: 1 | 2 | 4;
  /** Elements, one behind the other; 1 when left out. */
  readonly count?: number;
  readonly access: RegisterAccess;
  readonly reset: number;
  readonly meaning: string;
}

export const VIRTIO_MAGIC = 0x74726976; // "virt"
export const VENDOR_MAGIC = 0x31656b6e; // "nke1"
export const VIRTIO_ID_NET = 1;
export const REGISTER_BYTES = 0x300;
export const CONFIG_AREA = 0x100;
export const VENDOR_AREA = 0x200;

/** Speeds in Mb/s by their bit in link_advertise. */
export const LINK_SPEEDS: readonly number[] = [10, 100, 1000, 2500, 5000, 10000, 25000, 40000, 50000, 100000];
export const LINK_SPEEDS_ALL = 0x3ff;
export const SPEED_UNKNOWN = 0xffffffff;

const R = 'r' as const;
const W = 'w' as const;
const RW = 'rw' as const;

const rows = [
  { name: 'magic', offset: 0x000, width: 4, access: R, reset: VIRTIO_MAGIC, meaning: '"virt"' },
  { name: 'version', offset: 0x004, width: 4, access: R, reset: 2, meaning: 'register layout; 2 = VIRTIO 1.x' },
  { name: 'device_id', offset: 0x008, width: 4, access: R, reset: VIRTIO_ID_NET, meaning: '1 = network card' },
  { name: 'vendor_id', offset: 0x00c, width: 4, access: R, reset: 0x454b4e, meaning: '"NKE"' },
  {
    name: 'device_feature',
    offset: 0x010,
    width: 4,
    access: R,
    reset: 0,
    meaning: 'offered features, word device_feature_select',
  },
  {
    name: 'device_feature_select',
    offset: 0x014,
    width: 4,
    access: W,
    reset: 0,
    meaning: 'which 32 bits device_feature shows',
  },
  {
    name: 'driver_feature',
    offset: 0x020,
    width: 4,
    access: W,
    reset: 0,
    meaning: 'accepted features, word driver_feature_select',
  },
  {
    name: 'driver_feature_select',
    offset: 0x024,
    width: 4,
    access: W,
    reset: 0,
    meaning: 'which 32 bits driver_feature sets',
  },
  {
    name: 'queue_select',
    offset: 0x030,
    width: 4,
    access: W,
    reset: 0,
    meaning: 'queue that the queue registers speak of',
  },
  {
    name: 'queue_size_max',
    offset: 0x034,
    width: 4,
    access: R,
    reset: 0,
    meaning: 'largest size of the queue, 0 = no such queue',
  },
  { name: 'queue_size', offset: 0x038, width: 4, access: W, reset: 0, meaning: 'entries, a power of two' },
  { name: 'queue_ready', offset: 0x044, width: 4, access: RW, reset: 0, meaning: '1 = the card may use the queue' },
  {
    name: 'queue_notify',
    offset: 0x050,
    width: 4,
    access: W,
    reset: 0,
    meaning: 'doorbell: number of the queue with new buffers',
  },
  { name: 'interrupt_status', offset: 0x060, width: 4, access: R, reset: 0, meaning: 'ISR_* bits' },
  { name: 'interrupt_ack', offset: 0x064, width: 4, access: W, reset: 0, meaning: 'ISR_* bits that were seen to' },
  {
    name: 'status',
    offset: 0x070,
    width: 4,
    access: RW,
    reset: 0,
    meaning: 'STATUS_* bits; writing 0 resets the card',
  },
  { name: 'queue_desc_low', offset: 0x080, width: 4, access: W, reset: 0, meaning: 'descriptor table, low word' },
  { name: 'queue_desc_high', offset: 0x084, width: 4, access: W, reset: 0, meaning: 'descriptor table, high word' },
  { name: 'queue_driver_low', offset: 0x090, width: 4, access: W, reset: 0, meaning: 'available ring, low word' },
  { name: 'queue_driver_high', offset: 0x094, width: 4, access: W, reset: 0, meaning: 'available ring, high word' },
  { name: 'queue_device_low', offset: 0x0a0, width: 4, access: W, reset: 0, meaning: 'used ring, low word' },
  { name: 'queue_device_high', offset: 0x0a4, width: 4, access: W, reset: 0, meaning: 'used ring, high word' },
  {
    name: 'queue_reset',
    offset: 0x0c0,
    width: 4,
    access: RW,
    reset: 0,
    meaning: 'write 1 to reset the queue; 0 when done',
  },
  { name: 'config_generation', offset: 0x0fc, width: 4, access: R, reset: 0, meaning: 'changes with the config space' },

  { name: 'mac', offset: 0x100, width: 1, count: 6, access: R, reset: 0, meaning: 'hardware address' },
  { name: 'net_status', offset: 0x106, width: 2, access: R, reset: 0, meaning: 'NET_S_* bits: link up' },
  {
    name: 'max_virtqueue_pairs',
    offset: 0x108,
    width: 2,
    access: R,
    reset: 1,
    meaning: 'pairs of receive and transmit queues',
  },
  { name: 'mtu', offset: 0x10a, width: 2, access: R, reset: 1500, meaning: 'largest IP packet in bytes' },
  { name: 'speed', offset: 0x10c, width: 4, access: R, reset: 0xffffffff, meaning: 'Mb/s, all ones = unknown' },
  { name: 'duplex', offset: 0x110, width: 1, access: R, reset: 1, meaning: '1 = full' },
  { name: 'rss_max_key_size', offset: 0x111, width: 1, access: R, reset: 40, meaning: 'longest Toeplitz key in bytes' },
  {
    name: 'rss_max_indirection',
    offset: 0x112,
    width: 2,
    access: R,
    reset: 1,
    meaning: 'entries of the RSS indirection table',
  },
  { name: 'supported_hash_types', offset: 0x114, width: 4, access: R, reset: 0, meaning: 'HASH_TYPE_* bits' },

  {
    name: 'vendor_magic',
    offset: 0x200,
    width: 4,
    access: R,
    reset: VENDOR_MAGIC,
    meaning: '"nke1": the vendor area is there',
  },
  { name: 'medium', offset: 0x204, width: 4, access: R, reset: 0, meaning: 'MEDIUM_*: what the port carries' },
  {
    name: 'train_tx_bytes',
    offset: 0x208,
    width: 4,
    access: R,
    reset: 0,
    meaning: 'largest train taken, link header included',
  },
  { name: 'train_tx_segments', offset: 0x20c, width: 4, access: R, reset: 0, meaning: 'most packets in a train taken' },
  {
    name: 'train_rx_bytes',
    offset: 0x210,
    width: 4,
    access: R,
    reset: 0,
    meaning: 'largest train handed up; 0 = none are',
  },
  {
    name: 'train_rx_segments',
    offset: 0x214,
    width: 4,
    access: R,
    reset: 0,
    meaning: 'most packets in a train handed up',
  },
  {
    name: 'sctp_offload',
    offset: 0x218,
    width: 4,
    access: R,
    reset: 0,
    meaning: 'SCTP_OFFLOAD_*: what the card does for SCTP',
  },
  {
    name: 'sctp_udp_port',
    offset: 0x21c,
    width: 2,
    count: 4,
    access: RW,
    reset: 9899,
    meaning: 'UDP ports taken for SCTP (RFC 6951)',
  },
  {
    name: 'pm_state',
    offset: 0x228,
    width: 4,
    access: RW,
    reset: 0,
    meaning: '0-3 = D0, D1, D2, D3hot (PCI PM 1.2 §3.2.4)',
  },
  { name: 'pm_wake', offset: 0x22c, width: 4, access: RW, reset: 0, meaning: 'WAKE_* bits: what wakes the card' },
  {
    name: 'pm_status',
    offset: 0x230,
    width: 4,
    access: 'w1c',
    reset: 0,
    meaning: 'bit 0 PME_Status: the card asks to be woken',
  },
  {
    name: 'link_control',
    offset: 0x234,
    width: 4,
    access: RW,
    reset: 0,
    meaning: 'bit 0: cable out (for tests and the command line); bit 1: negotiate anew, clears itself',
  },
  { name: 'link_reason', offset: 0x238, width: 4, access: R, reset: 0, meaning: 'LINK_*: why the link is as it is' },
  {
    name: 'self_test',
    offset: 0x23c,
    width: 4,
    access: R,
    reset: 0,
    meaning: 'result of the power-on self test, 0 = passed',
  },
  { name: 'coalesce_rx_usecs', offset: 0x240, width: 4, access: R, reset: 0, meaning: 'interrupt moderation in force' },
  {
    name: 'coalesce_rx_frames',
    offset: 0x244,
    width: 4,
    access: R,
    reset: 0,
    meaning: 'interrupt moderation in force',
  },
  { name: 'coalesce_tx_usecs', offset: 0x248, width: 4, access: R, reset: 0, meaning: 'interrupt moderation in force' },
  {
    name: 'coalesce_tx_frames',
    offset: 0x24c,
    width: 4,
    access: R,
    reset: 0,
    meaning: 'interrupt moderation in force',
  },
  { name: 'firmware_version', offset: 0x250, width: 4, access: R, reset: 0x00010000, meaning: 'major << 16 | minor' },

  {
    name: 'link_advertise',
    offset: 0x254,
    width: 4,
    access: RW,
    reset: LINK_SPEEDS_ALL,
    meaning: 'bits by LINK_SPEEDS: speeds that autonegotiation offers (IEEE 802.3 clause 28)',
  },
  {
    name: 'link_autoneg_usecs',
    offset: 0x258,
    width: 4,
    access: RW,
    reset: 0,
    meaning: 'time that autonegotiation takes; 0 = none, the link is up at once',
  },
  {
    name: 'link_medium_speed',
    offset: 0x25c,
    width: 4,
    access: R,
    reset: 0xffffffff,
    meaning: 'Mb/s that the medium offers, all ones = unknown',
  },
  {
    name: 'flap_penalty',
    offset: 0x260,
    width: 4,
    access: RW,
    reset: 0,
    meaning: 'flap damping: penalty of one loss of link; 0 = no damping',
  },
  {
    name: 'flap_suppress',
    offset: 0x264,
    width: 4,
    access: RW,
    reset: 2000,
    meaning: 'penalty above which the link is held down',
  },
  {
    name: 'flap_reuse',
    offset: 0x268,
    width: 4,
    access: RW,
    reset: 1000,
    meaning: 'penalty below which it is let up again',
  },
  {
    name: 'flap_half_life_ms',
    offset: 0x26c,
    width: 4,
    access: RW,
    reset: 5000,
    meaning: 'time in which the penalty decays to half',
  },
  {
    name: 'flap_max_ms',
    offset: 0x270,
    width: 4,
    access: RW,
    reset: 20000,
    meaning: 'longest time that the link is held down',
  },
  { name: 'flap_figure', offset: 0x274, width: 4, access: R, reset: 0, meaning: 'the penalty now' },
  {
    name: 'thermal_sensor',
    offset: 0x278,
    width: 4,
    access: RW,
    reset: 40000,
    meaning: 'temperature in m°C, signed (written by tests and the command line)',
  },
  {
    name: 'thermal_throttle',
    offset: 0x27c,
    width: 4,
    access: RW,
    reset: 85000,
    meaning: 'm°C from which the card is throttled',
  },
  {
    name: 'thermal_critical',
    offset: 0x280,
    width: 4,
    access: RW,
    reset: 100000,
    meaning: 'm°C from which the link is taken down',
  },
  {
    name: 'thermal_hysteresis',
    offset: 0x284,
    width: 4,
    access: RW,
    reset: 5000,
    meaning: 'm°C below a limit at which its measure is taken back',
  },
  {
    name: 'thermal_rate',
    offset: 0x288,
    width: 4,
    access: RW,
    reset: 20000,
    meaning: 'frames a second, each way, while throttled',
  },
  { name: 'thermal_state', offset: 0x28c, width: 4, access: R, reset: 0, meaning: 'THERMAL_*' },
  {
    name: 'pm_wake_reason',
    offset: 0x290,
    width: 4,
    access: R,
    reset: 0,
    meaning: 'WAKE_* bit that set PME_Status last; slot of a pattern from bit 8',
  },
  {
    name: 'pm_pattern_select',
    offset: 0x294,
    width: 4,
    access: RW,
    reset: 0,
    meaning: 'which slot the pm_pattern registers show, below WAKE_PATTERNS',
  },
  {
    name: 'pm_pattern_control',
    offset: 0x298,
    width: 4,
    access: RW,
    reset: 0,
    meaning: 'where in the frame it begins (bits 0 to 15), its length (16 to 23, at most 64; 0 = none)',
  },
  {
    name: 'pm_pattern_mask',
    offset: 0x29c,
    width: 4,
    count: 2,
    access: RW,
    reset: 0,
    meaning: 'a bit for each byte that is compared, the first is bit 0 of word 0',
  },
  {
    name: 'pm_pattern_data',
    offset: 0x2a4,
    width: 4,
    count: 16,
    access: RW,
    reset: 0,
    meaning: '64 bytes, the first is the lowest of word 0',
  },
] as const satisfies readonly RegisterRow[];

export type RegisterName = (typeof rows)[number]['name'];
/** What the card keeps without power (its NVRAM), and an operator may set. */
export const CARD_SETTINGS = [
  'link_advertise',
  'link_autoneg_usecs',
  'flap_penalty',
  'flap_suppress',
  'flap_reuse',
  'flap_half_life_ms',
  'flap_max_ms',
  'thermal_throttle',
  'thermal_critical',
  'thermal_hysteresis',
  'thermal_rate',
] as const satisfies readonly RegisterName[];
export type CardSetting = (typeof CARD_SETTINGS)[number];
export const REGISTERS: readonly (RegisterRow & { readonly name: RegisterName })[] = rows;

/** Byte offset of each register by name. */
export const REG = Object.fromEntries(rows.map(r => [r.name, r.offset])) as Readonly<Record<RegisterName, number>>;

// status, §2.1
export const STATUS_ACKNOWLEDGE = 1;
export const STATUS_DRIVER = 2;
export const STATUS_DRIVER_OK = 4;
export const STATUS_FEATURES_OK = 8;
export const STATUS_NEEDS_RESET = 0x40;
export const STATUS_FAILED = 0x80;

// interrupt_status, §4.2.2
export const ISR_QUEUE = 1;
export const ISR_CONFIG = 2;
export const ISR_PME = 4; // vendor: the card in a low-power state asks to be woken

export const NET_S_LINK_UP = 1;

export const MEDIUM_ETHERNET = 0;
export const MEDIUM_IP = 1; // the port carries IP: any link address will do, there is no neighbour resolution
export const SCTP_OFFLOAD_TX_CSUM = 1;
export const SCTP_OFFLOAD_RX_CSUM = 2;
export const SCTP_OFFLOAD_TX_TRAIN = 4;
export const SCTP_OFFLOAD_RX_TRAIN = 8;
export const SCTP_OFFLOAD_PORT_CSUM = 0x10; // the port does the CRC32c, not the card

export const WAKE_MAGIC = 1; // a magic packet for our address
export const WAKE_LINK = 2; // carrier change
export const WAKE_PATTERN = 4; // a frame that matches a pattern (pm_pattern_*)
export const WAKE_PATTERNS = 8; // slots
export const WAKE_PATTERN_BYTES = 64;
export const PME_STATUS = 1;
export const LINK_CABLE_OUT = 1;
export const LINK_RESTART = 2;

// thermal_state
export const THERMAL_NORMAL = 0;
export const THERMAL_THROTTLED = 1;
export const THERMAL_CRITICAL = 2;
export const THERMAL_STATES = ['normal', 'throttled', 'critical'] as const;

// link_reason
export const LINK_UP = 0;
export const LINK_NO_CARRIER = 1;
export const LINK_PULLED = 2;
export const LINK_POWER = 3;
export const LINK_RESET = 4;
export const LINK_NEGOTIATING = 5;
export const LINK_FLAPPING = 6;
export const LINK_OVERHEATED = 7;
export const LINK_REMOVED = 8;
export const LINK_SELF_TEST = 9;
export const LINK_NO_SPEED = 10;
export const LINK_REASONS: readonly string[] = [
  'carrier present',
  'the medium reports no carrier',
  'the cable was pulled (link_control)',
  'the card is in a low-power state',
  'the card is being reset',
  'autonegotiation is going on',
  'held down: flapping',
  'overheated',
  'the interface that the port stands on was removed',
  'the card failed its self test',
  'card and medium have no speed in common',
];

/** self_test in words. */
export const SELF_TEST_RESULTS: readonly string[] = [
  'passed',
  'registers do not hold their reset values',
  'scratch memory does not hold what is written to it',
  'the CRC32c unit gives a wrong answer',
  'the Internet checksum unit gives a wrong answer',
  'the receive hash unit gives a wrong answer',
  'a virtqueue does not turn a descriptor round',
];

// Features, by bit number: §6 (reserved), §5.1.3 (network), and ours from 120 on, where no driver but ours looks.
export const F_NET_CSUM = 0;
export const F_NET_GUEST_CSUM = 1;
export const F_NET_MTU = 3;
export const F_NET_MAC = 5;
export const F_NET_STATUS = 16;
export const F_NET_CTRL_VQ = 17;
export const F_NET_CTRL_RX = 18;
export const F_NET_CTRL_VLAN = 19;
export const F_NET_CTRL_RX_EXTRA = 20;
export const F_NET_CTRL_MAC_ADDR = 23;
export const F_RING_INDIRECT_DESC = 28;
export const F_RING_EVENT_IDX = 29;
export const F_VERSION_1 = 32;
export const F_RING_RESET = 40;
export const F_NET_NOTF_COAL = 53;
export const F_NET_HASH_REPORT = 57;
export const F_NKE_SCTP_CSUM = 120; // transmit: the card fills in CRC32c, IPv4 and UDP checksums by parsing the headers
export const F_NKE_GUEST_SCTP_CSUM = 121; // receive: the card checks them
export const F_NKE_SCTP_TRAIN = 122; // transmit: the card takes trains (NET_HDR_GSO_SCTP)
export const F_NKE_GUEST_SCTP_TRAIN = 123; // receive: the driver takes trains

/** Features as four 32-bit words, 128 bits. */
export type FeatureWords = Uint32Array;
export const featureWords = (...bits: readonly number[]): FeatureWords => {
  const w = new Uint32Array(4);
  for (const b of bits) w[b >>> 5] = w[b >>> 5]! | (1 << (b & 31));
  return w;
};
export const hasFeature = (w: FeatureWords, bit: number): boolean => (w[bit >>> 5]! & (1 << (bit & 31))) !== 0;

/** The bus as the driver sees the card: registers and a doorbell, nothing else; and back, the interrupt line. */
export interface Bar {
  /** Reads a register; a bad access reads 0 and is counted, a card without power reads all ones. */
  read(offset: number, width: 1 | 2 | 4): number;
  /** Writes a register. Returns false (and counts) for a bad access. */
  write(offset: number, width: 1 | 2 | 4, value: number): boolean;
  /** Writes queue_notify: there are new buffers in a queue. */
  doorbell(queue: number): void;
  readonly interrupt: InterruptLine;
}

/** The wire from card to driver. The driver hangs its handler on it; a handler may not call back into the card's rings. */
export class InterruptLine {
  handler: (() => void) | undefined;
  /** Times the card raised it. */
  raised = 0;
  raise(): void {
    this.raised++;
    this.handler?.();
  }
}

/** The registers' storage and the rules of access. Firmware uses get/set, the bus uses read/write. */
export class RegisterFile {
  /** Refused accesses by reason. */
  readonly bad = { unmapped: 0, width: 0, read_only: 0, write_only: 0 };
  /** Called after a write from the bus was stored, with the row's name; this is the card's combinational logic. */
  onWrite: (name: RegisterName, value: number, index: number) => void = () => {};
  /** Without power the bus reads all ones and writes go nowhere. */
  powered = true;

  readonly #dv: DataView;
  readonly #rowAt = new Int16Array(REGISTER_BYTES).fill(-1);
  readonly #byName = new Map<string, number>();

  constructor(dv: DataView = new DataView(new ArrayBuffer(REGISTER_BYTES))) {
    if (dv.byteLength < REGISTER_BYTES) throw new RangeError(`a register file needs ${REGISTER_BYTES} bytes`);
    this.#dv = dv;
    for (const [i, row] of REGISTERS.entries()) {
      this.#byName.set(row.name, i);
      for (let at = row.offset; at < row.offset + row.width * (row.count ?? 1); at++) this.#rowAt[at] = i;
    }
    this.reset();
  }

  /** Puts every register to its reset value. */
  reset(): void {
    for (const row of REGISTERS)
      for (let i = 0; i < (row.count ?? 1); i++) this.#store(row.offset + i * row.width, row.width, row.reset);
  }

  read(offset: number, width: 1 | 2 | 4): number {
    if (!this.powered) return width === 4 ? 0xffffffff : 2 ** (8 * width) - 1;
    const row = this.#check(offset, width);
    if (row === undefined) return 0;
    if (row.access === 'w') {
      this.bad.write_only++;
      return 0;
    }
    return this.#load(offset, width);
  }

  write(offset: number, width: 1 | 2 | 4, value: number): boolean {
    if (!this.powered) return true;
    const row = this.#check(offset, width);
    if (row === undefined) return false;
    if (row.access === 'r') {
      this.bad.read_only++;
      return false;
    }
    const v = row.access === 'w1c' ? this.#load(offset, width) & ~value : value;
    this.#store(offset, width, v);
    this.onWrite(row.name, value >>> 0, (offset - row.offset) / width);
    return true;
  }

  /** The card's own view of a register. */
  get(name: RegisterName, index = 0): number {
    const row = REGISTERS[this.#byName.get(name)!]!;
    return this.#load(row.offset + index * row.width, row.width);
  }
  set(name: RegisterName, value: number, index = 0): void {
    const row = REGISTERS[this.#byName.get(name)!]!;
    this.#store(row.offset + index * row.width, row.width, value);
  }

  /** The row that an access means, or undefined (counted) when it hits none squarely. */
  #check(offset: number, width: number): (RegisterRow & { readonly name: RegisterName }) | undefined {
    const i = offset >= 0 && offset < REGISTER_BYTES ? this.#rowAt[offset]! : -1;
    if (i < 0) {
      this.bad.unmapped++;
      return undefined;
    }
    const row = REGISTERS[i]!;
    if (row.width !== width || (offset - row.offset) % width !== 0) {
      this.bad.width++;
      return undefined;
    }
    return row;
  }
  #load(offset: number, width: number): number {
    if (width === 4) return this.#dv.getUint32(offset, true);
    return width === 2 ? this.#dv.getUint16(offset, true) : this.#dv.getUint8(offset);
  }
  #store(offset: number, width: number, value: number): void {
    if (width === 4) this.#dv.setUint32(offset, value >>> 0, true);
    else if (width === 2) this.#dv.setUint16(offset, value, true);
    else this.#dv.setUint8(offset, value);
  }
}
