/**
 * The LLDP data unit (IEEE 802.1AB clause 9): a list of TLVs behind EtherType 0x88cc, each a type of 7 bits, a length of 9
 * and the value. The first three are chassis id, port id and time to live, in this order; an end marks the last.
 */

import { InAddr, macText } from '../../kpi.js';

export const ETHERTYPE_LLDP = 0x88cc;
/** Nearest bridge, clause 7.1: not forwarded by anything that forwards. */
export const LLDP_GROUP: Uint8Array = Uint8Array.of(0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e);

const END = 0;
const CHASSIS_ID = 1;
const PORT_ID = 2;
const TTL = 3;
const PORT_DESCRIPTION = 4;
const SYSTEM_NAME = 5;
const SYSTEM_DESCRIPTION = 6;
const CAPABILITIES = 7;
const MANAGEMENT_ADDRESS = 8;

const ID_MAC = { chassis: 4, port: 3 };
const ID_NETWORK = { chassis: 5, port: 4 };
const PORT_IFNAME = 5;
/** Capabilities by their bit, clause 8.5.8. */
export const CAPABILITY_NAMES = [
  'other',
  'repeater',
  'bridge',
  'wlan',
  'router',
  'telephone',
  'docsis',
  'station',
  'cvlan',
  'svlan',
  'tpmr',
] as const;
export const CAP_STATION = 1 << 7;
/** Management addresses and organisational TLVs that are kept of one neighbour. */
const MAX_ADDRESSES = 8;

/** What a neighbour says of itself. */
export interface Lldpdu {
  /** Subtype and value, as text: a MAC address, a network address, or what it says. */
  readonly chassisSubtype: number;
  readonly chassis: string;
  readonly portSubtype: number;
  readonly port: string;
  /** Seconds that this is valid; 0: the neighbour takes its leave. */
  readonly ttl: number;
  readonly portDescription: string;
  readonly systemName: string;
  readonly systemDescription: string;
  readonly capabilities: readonly string[];
  readonly enabled: readonly string[];
  readonly addresses: readonly string[];
  /** Organisationally specific and unknown TLVs. */
  readonly others: number;
}

export interface OwnLldpdu {
  readonly mac: Uint8Array;
  readonly ifname: string;
  readonly ifindex: number;
  readonly ttl: number;
  readonly systemName: string;
  readonly systemDescription: string;
  readonly addresses: readonly InAddr[];
}

class Writer {
  readonly u8 = new Uint8Array(1500);
  readonly dv = new DataView(this.u8.buffer);
  at = 0;
  /** Opens a TLV; returns where its value begins. */
  tlv(type: number, length: number): number {
    this.dv.setUint16(this.at, (type << 9) | length);
    const value = this.at + 2;
    this.at = value + length;
    return value;
  }
  text(type: number, subtype: number | undefined, bytes: Uint8Array): void {
    const head = subtype === undefined ? 0 : 1;
    const at = this.tlv(type, head + bytes.length);
    if (subtype !== undefined) this.u8[at] = subtype;
    this.u8.set(bytes, at + head);
  }
}

const encoder = new TextEncoder();
/** UTF-8 of at most n bytes, cut between characters. */
function utf8(text: string, n: number): Uint8Array {
  const out = new Uint8Array(n);
  return out.subarray(0, encoder.encodeInto(text, out).written);
}

/** The data unit that an interface sends; with ttl 0 only what says who takes its leave (clause 9.2.7.2). */
export function encode(own: OwnLldpdu): Uint8Array {
  const w = new Writer();
  w.text(CHASSIS_ID, ID_MAC.chassis, own.mac);
  w.text(PORT_ID, PORT_IFNAME, utf8(own.ifname, 255));
  w.dv.setUint16(w.tlv(TTL, 2), own.ttl);
  if (own.ttl > 0) {
    w.text(SYSTEM_NAME, undefined, utf8(own.systemName, 255));
    w.text(SYSTEM_DESCRIPTION, undefined, utf8(own.systemDescription, 255));
    const caps = w.tlv(CAPABILITIES, 4);
    w.dv.setUint16(caps, CAP_STATION);
    w.dv.setUint16(caps + 2, CAP_STATION);
    for (const a of own.addresses.slice(0, MAX_ADDRESSES)) {
      const n = a.family === 4 ? 4 : 16;
      const at = w.tlv(MANAGEMENT_ADDRESS, 1 + 1 + n + 1 + 4 + 1);
      w.u8[at] = 1 + n;
      w.u8[at + 1] = a.family === 4 ? 1 : 2; // IANA address family numbers
      a.write(w.dv, at + 2);
      w.u8[at + 2 + n] = 2; // ifIndex
      w.dv.setUint32(at + 3 + n, own.ifindex);
      w.u8[at + 7 + n] = 0; // no object identifier
    }
  }
  w.tlv(END, 0);
  return w.u8.subarray(0, w.at);
}

const decoder = new TextDecoder();
/** Text of a stranger: printable, bounded. */
function printable(b: Uint8Array): string {
  return decoder.decode(b).replace(/[^\x20-\x7e\u00a0-\uffff]/g, '?');
}
function address(family: number, b: Uint8Array): string | undefined {
  const dv = new DataView(b.buffer, b.byteOffset, b.length);
  if (family === 1 && b.length === 4) return new InAddr().read4(dv, 0).toString();
  if (family === 2 && b.length === 16) return new InAddr().read6(dv, 0).toString();
  return family === 6 && b.length === 6 ? macText(b) : undefined;
}
function identifier(kind: 'chassis' | 'port', subtype: number, b: Uint8Array): string {
  if (subtype === ID_MAC[kind] && b.length === 6) return macText(b);
  if (subtype === ID_NETWORK[kind]) return address(b[0]!, b.subarray(1)) ?? printable(b);
  return printable(b);
}
const names = (bits: number): string[] => CAPABILITY_NAMES.filter((_, i) => (bits & (1 << i)) !== 0);

/** Reads a data unit, Ethernet header stripped; a sentence when it must be discarded (clause 9.2.8.7). */
export function decode(b: Uint8Array): Lldpdu | string {
  const dv = new DataView(b.buffer, b.byteOffset, b.length);
  let chassis: [number, string] | undefined;
  let port: [number, string] | undefined;
  let ttl: number | undefined;
  const texts = ['', '', ''];
  let caps = [0, 0];
  const addresses: string[] = [];
  let others = 0;
  const seen = new Set<number>();
  let n = 0;
  for (let at = 0; at + 2 <= b.length; n++) {
    const head = dv.getUint16(at);
    const type = head >>> 9;
    const length = head & 0x1ff;
    const v = b.subarray(at + 2, at + 2 + length);
    if (v.length < length) return `TLV ${type} says ${length} bytes, the frame ends after ${v.length}`;
    at += 2 + length;
    if (n < 3 && type !== n + 1) return `TLV ${n + 1} of the first three is type ${type}`;
    if (type === END) break;
    if (type <= CAPABILITIES) {
      // What must be there once must not be there twice; of the others the first counts.
      if (seen.has(type)) {
        if (type <= TTL) return `TLV ${type} is there twice`;
        others++;
        continue;
      }
      seen.add(type);
    }
    if (type === CHASSIS_ID || type === PORT_ID) {
      if (length < 2 || length > 256) return `TLV ${type} has ${length} bytes`;
      const id: [number, string] = [v[0]!, identifier(type === CHASSIS_ID ? 'chassis' : 'port', v[0]!, v.subarray(1))];
      if (type === CHASSIS_ID) chassis = id;
      else port = id;
    } else if (type === TTL) {
      if (length < 2) return 'the time to live is short';
      ttl = (v[0]! << 8) | v[1]!;
    } else if (type <= SYSTEM_DESCRIPTION) texts[type - PORT_DESCRIPTION] = printable(v.subarray(0, 255));
    else if (type === CAPABILITIES && length >= 4) caps = [(v[0]! << 8) | v[1]!, (v[2]! << 8) | v[3]!];
    else if (type === MANAGEMENT_ADDRESS && length >= 9 && v[0]! >= 2 && v[0]! + 7 <= length) {
      const a = address(v[1]!, v.subarray(2, 1 + v[0]!));
      if (a !== undefined && addresses.length < MAX_ADDRESSES) addresses.push(a);
    } else others++;
  }
  if (chassis === undefined || port === undefined || ttl === undefined)
    return 'chassis id, port id or time to live is missing';
  return {
    chassisSubtype: chassis[0],
    chassis: chassis[1],
    portSubtype: port[0],
    port: port[1],
    ttl,
    portDescription: texts[0]!,
    systemName: texts[1]!,
    systemDescription: texts[2]!,
    capabilities: names(caps[0]!),
    enabled: names(caps[1]!),
    addresses,
    others,
  };
}
