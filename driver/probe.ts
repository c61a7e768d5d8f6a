/**
 * Finding the card and agreeing with it: registers, self test, feature negotiation, configuration. VIRTIO 1.2 §3.1.1
 * (driver initialisation) steps 1 to 6, §5.1.4 and §5.1.5.
 */

import * as R from '../nic/registers.js';
import { NET_HDR_BYTES, NET_HDR_HASH_BYTES } from '../nic/virtqueue.js';

/** The card could not be taken into use; the message says why and what to do. */
export class ProbeError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = 'ProbeError';
    this.code = code;
  }
}

/** What a driver may leave out, for tests and for measuring what it is worth. */
export interface Wants {
  /** Send and receive trains. Default true. */
  readonly trains?: boolean;
  /** Let the card do checksums. Default true. */
  readonly offloads?: boolean;
  /** Have the card hash flows into `pool.flow`. Default false. */
  readonly hash?: boolean;
  /** Suppress notifications by event index. Default true. */
  readonly eventIdx?: boolean;
}

/** What the card is and what was agreed. */
export interface CardInfo {
  readonly features: R.FeatureWords;
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** The medium carries IP: no neighbour resolution. */
  readonly ipMedium: boolean;
  readonly hdrBytes: number;
  readonly trainTxBytes: number;
  readonly trainTxSegments: number;
  readonly trainRxBytes: number;
  readonly queueSizeMax: readonly [number, number, number];
  readonly control: boolean;
}

const BASIC = [
  R.F_VERSION_1,
  R.F_NET_MTU,
  R.F_NET_MAC,
  R.F_NET_STATUS,
  R.F_NET_CTRL_VQ,
  R.F_NET_CTRL_RX,
  R.F_NET_CTRL_RX_EXTRA,
  R.F_NET_CTRL_MAC_ADDR,
  R.F_NET_NOTF_COAL,
  R.F_RING_RESET,
];
const OFFLOADS = [R.F_NET_CSUM, R.F_NET_GUEST_CSUM, R.F_NKE_SCTP_CSUM, R.F_NKE_GUEST_SCTP_CSUM];

/** Reads an offered or written feature set word by word. */
function offered(bar: R.Bar): R.FeatureWords {
  const w = new Uint32Array(4);
  for (let i = 0; i < 4; i++) {
    bar.write(R.REG.device_feature_select, 4, i);
    w[i] = bar.read(R.REG.device_feature, 4);
  }
  return w;
}

/**
 * Resets the card and brings it to FEATURES_OK. Throws ProbeError when there is no card, the card failed its self test, or
 * it does not accept what was chosen; the card is then marked FAILED.
 */
export function probe(bar: R.Bar, wants: Wants = {}): CardInfo {
  const magic = bar.read(R.REG.magic, 4);
  if (magic === 0xffffffff)
    throw new ProbeError('ENXIO', 'the card has no power: switch it on first (nke power NAME D0)');
  if (magic !== R.VIRTIO_MAGIC || bar.read(R.REG.version, 4) !== 2 || bar.read(R.REG.device_id, 4) !== R.VIRTIO_ID_NET)
    throw new ProbeError('ENODEV', 'no VIRTIO 1.x network card answers at these registers');
  const result = bar.read(R.REG.self_test, 4);
  if (result !== 0)
    throw new ProbeError(
      'EIO',
      `the card failed its power-on self test (code ${result}): power it off and on; if it fails again it is broken`,
    );
  // Steps 1 to 3: reset, seen, able to drive.
  bar.write(R.REG.status, 4, 0);
  if (bar.read(R.REG.status, 4) !== 0) throw new ProbeError('EIO', 'the card does not come out of reset');
  let status = R.STATUS_ACKNOWLEDGE | R.STATUS_DRIVER;
  bar.write(R.REG.status, 4, status);
  // Steps 4 to 6: choose features, have the choice confirmed.
  const offer = offered(bar);
  const wanted = [...BASIC];
  if (wants.offloads !== false) wanted.push(...OFFLOADS);
  if (wants.offloads !== false && wants.trains !== false) wanted.push(R.F_NKE_SCTP_TRAIN, R.F_NKE_GUEST_SCTP_TRAIN);
  if (wants.eventIdx !== false) wanted.push(R.F_RING_EVENT_IDX);
  if (wants.hash === true) wanted.push(R.F_NET_HASH_REPORT);
  const vendor = bar.read(R.REG.vendor_magic, 4) === R.VENDOR_MAGIC;
  const features = R.featureWords(...wanted.filter(f => R.hasFeature(offer, f) && (vendor || f < 120)));
  for (let i = 0; i < 4; i++) {
    bar.write(R.REG.driver_feature_select, 4, i);
    bar.write(R.REG.driver_feature, 4, features[i]!);
  }
  status |= R.STATUS_FEATURES_OK;
  bar.write(R.REG.status, 4, status);
  if ((bar.read(R.REG.status, 4) & R.STATUS_FEATURES_OK) === 0) {
    bar.write(R.REG.status, 4, R.STATUS_FAILED);
    throw new ProbeError(
      'ENOTSUP',
      'the card does not accept the features that this driver needs (VERSION_1 among them)',
    );
  }
  return readConfig(bar, features, vendor);
}

/** Reads the configuration until a whole reading saw no change (§2.5.1). */
function readConfig(bar: R.Bar, features: R.FeatureWords, vendor: boolean): CardInfo {
  const has = (f: number) => R.hasFeature(features, f);
  for (let tries = 0; tries < 16; tries++) {
    const generation = bar.read(R.REG.config_generation, 4);
    const mac = new Uint8Array(6);
    for (let i = 0; i < 6; i++) mac[i] = bar.read(R.REG.mac + i, 1);
    const mtu = has(R.F_NET_MTU) ? bar.read(R.REG.mtu, 2) : 1500;
    const size = [0, 1, 2].map(q => {
      bar.write(R.REG.queue_select, 4, q);
      return bar.read(R.REG.queue_size_max, 4);
    }) as [number, number, number];
    const txTrain = vendor && has(R.F_NKE_SCTP_TRAIN);
    const info: CardInfo = {
      features,
      mac,
      mtu,
      ipMedium: vendor && bar.read(R.REG.medium, 4) === R.MEDIUM_IP,
      hdrBytes: has(R.F_NET_HASH_REPORT) ? NET_HDR_HASH_BYTES : NET_HDR_BYTES,
      trainTxBytes: txTrain ? bar.read(R.REG.train_tx_bytes, 4) : 0,
      trainTxSegments: txTrain ? bar.read(R.REG.train_tx_segments, 4) : 0,
      trainRxBytes: vendor && has(R.F_NKE_GUEST_SCTP_TRAIN) ? bar.read(R.REG.train_rx_bytes, 4) : 0,
      queueSizeMax: size,
      control: has(R.F_NET_CTRL_VQ),
    };
    if (bar.read(R.REG.config_generation, 4) === generation) {
      if (size[0] === 0 || size[1] === 0) throw new ProbeError('ENODEV', 'the card has no receive or transmit queue');
      return info;
    }
  }
  throw new ProbeError('EIO', 'the card changes its configuration faster than it can be read');
}

/** Tells the card where a queue lies and enables it (§4.2.3.2). False when the card refuses. */
export function enableQueue(bar: R.Bar, q: number, size: number, desc: number, avail: number, used: number): boolean {
  bar.write(R.REG.queue_select, 4, q);
  bar.write(R.REG.queue_size, 4, size);
  const address = (low: number, high: number, at: number) => {
    bar.write(low, 4, at >>> 0);
    bar.write(high, 4, Math.floor(at / 4294967296));
  };
  address(R.REG.queue_desc_low, R.REG.queue_desc_high, desc);
  address(R.REG.queue_driver_low, R.REG.queue_driver_high, avail);
  address(R.REG.queue_device_low, R.REG.queue_device_high, used);
  bar.write(R.REG.queue_ready, 4, 1);
  return bar.read(R.REG.queue_ready, 4) === 1;
}
