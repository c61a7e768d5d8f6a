/** Ethernet II framing (IEEE 802.3 clause 3.2.6 type interpretation) and the group addresses that IP maps to. */

import type { InAddr } from '../netinet/in.js';

export const ETHER_HDR_LEN = 14;
export const ETHER_ADDR_LEN = 6;
export const ETHERTYPE_IP = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_VLAN = 0x8100;
export const ETHERTYPE_IPV6 = 0x86dd;

export const ETHER_BROADCAST: Uint8Array = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff);

/** Writes a 6-byte link address at a region offset. */
export function writeMac(dv: DataView, off: number, mac: Uint8Array): void {
  dv.setUint8(off, mac[0]!);
  dv.setUint8(off + 1, mac[1]!);
  dv.setUint8(off + 2, mac[2]!);
  dv.setUint8(off + 3, mac[3]!);
  dv.setUint8(off + 4, mac[4]!);
  dv.setUint8(off + 5, mac[5]!);
}

/** Reads a 6-byte link address at a region offset into `mac`. */
export function readMac(dv: DataView, off: number, mac: Uint8Array): void {
  for (let i = 0; i < ETHER_ADDR_LEN; i++) mac[i] = dv.getUint8(off + i);
}

/** True when the 6 bytes at a region offset are `mac`. */
export function isMac(dv: DataView, off: number, mac: Uint8Array): boolean {
  for (let i = 0; i < ETHER_ADDR_LEN; i++) if (dv.getUint8(off + i) !== mac[i]) return false;
  return true;
}

/** True when the 6 bytes at a region offset are ff:ff:ff:ff:ff:ff. */
export function isBroadcastMac(dv: DataView, off: number): boolean {
  return dv.getInt32(off) === -1 && dv.getUint16(off + 4) === 0xffff;
}

/** Writes the group address of an IP multicast address: RFC 1112 §6.4 (low 23 bits), RFC 2464 §7 (low 32 bits). */
export function writeMulticastMac(dv: DataView, off: number, dst: InAddr): void {
  if (dst.family === 4) {
    dv.setUint16(off, 0x0100);
    dv.setUint32(off + 2, 0x5e000000 | (dst.w3 & 0x7fffff));
  } else {
    dv.setUint16(off, 0x3333);
    dv.setInt32(off + 2, dst.w3);
  }
}

/** The group address of an IP multicast address, as its own array. */
export function multicastMac(dst: InAddr): Uint8Array {
  const mac = new Uint8Array(ETHER_ADDR_LEN);
  writeMulticastMac(new DataView(mac.buffer), 0, dst);
  return mac;
}

/** "02:00:00:00:00:01". */
export function macText(mac: Uint8Array): string {
  return Array.from(mac, b => b.toString(16).padStart(2, '0')).join(':');
}

/** Parses "02:00:00:00:00:01"; undefined for anything else. */
export function parseMac(text: string): Uint8Array | undefined {
  const parts = text.split(':');
  if (parts.length !== 6 || !parts.every(p => /^[0-9a-fA-F]{2}$/.test(p))) return undefined;
  return Uint8Array.from(parts, p => Number.parseInt(p, 16));
}
