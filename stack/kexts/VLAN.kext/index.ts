/**
 * VLAN.kext: interfaces for IEEE 802.1Q VLANs. Each is an Ifnet of its own (nke0.10 is VLAN 10 on nke0) whose driver puts
 * the tag in and hands the frame to the parent; frames with a tag come by EtherType 0x8100 and go in as the VLAN's own.
 *
 *   | destination 6 | source 6 | 0x8100 | PCP 3, DEI 1, VID 12 | EtherType 2 | ...
 *
 * A VLAN has the MTU of its parent: a card that knows tags takes frames four bytes longer (IEEE 802.3 clause 3.2.7). It has
 * no offloads: a parent's card looks for IP where there is the tag. Tag 0 (priority only, 802.1Q clause 6.9) belongs to the
 * parent itself; unknown tags and the reserved 4095 are counted and dropped.
 */

import {
  EEXIST,
  EINVAL,
  ENOENT,
  ENOMEM,
  ETHER_HDR_LEN,
  ETHERTYPE_IP,
  ETHERTYPE_IPV6,
  ETHERTYPE_VLAN,
  IFF_BROADCAST,
  IFF_MULTICAST,
  IFF_RUNNING,
  IFF_UP,
  type IfDriver,
  Ifnet,
  InAddr,
  type Kext,
  type KextManifest,
  KPI_IDENTIFIER,
  type Kpi,
  M_NULL,
  type Mbuf,
  type StampedEvent,
} from '../../kpi.js';

export const VLAN_KEXT = 'org.nke.VLAN';
const TAG = 4;
const MACS = 12;
/** VLANs of one host. */
const MAX_VLANS = 256;

const manifest: KextManifest = {
  identifier: VLAN_KEXT,
  version: '1.0.0',
  kind: 'filter',
  about: 'IEEE 802.1Q VLAN interfaces',
  dependencies: { [KPI_IDENTIFIER]: '1.1.0' },
  parameters: {
    vlans: {
      type: 'string',
      default: '',
      maxLength: 4096,
      meaning: 'VLANs to make: "nke0.10=192.0.2.1/24+fd00::1/64 nke0.20": parent, number, addresses',
    },
    pcp: {
      type: 'string',
      default: 'zero',
      values: ['zero', 'tos'],
      meaning: "priority in the tag: none, or the precedence of the packet's TOS or traffic class",
      live: true,
    },
  },
};

/** A VLAN interface. */
class Vlan implements IfDriver {
  readonly ifp: Ifnet;
  readonly parent: Ifnet;
  readonly id: number;
  readonly #kpi: Kpi;
  readonly #counters: VlanCounters;

  constructor(kpi: Kpi, counters: VlanCounters, parent: Ifnet, id: number) {
    this.#kpi = kpi;
    this.#counters = counters;
    this.parent = parent;
    this.id = id;
    this.ifp = new Ifnet(`${parent.name}.${id}`, parent.mac.slice(), parent.mtu, IFF_BROADCAST | IFF_MULTICAST);
    this.ifp.driver = this;
  }

  /** A frame of the stack's: puts the tag in and gives it to the parent. */
  output(m: Mbuf): boolean {
    const { pool } = this.#kpi;
    const { counters } = this.ifp;
    const length = pool.pktlen[m]!;
    const many = (pool.u8[pool.off[m]!]! & 1) !== 0;
    pool.lend(m);
    const pcp = this.#kpi.params.pcp === 'tos' ? priority(this.#kpi, m) : 0;
    m = pool.prepend(m, TAG);
    if (m !== M_NULL && pool.len[m]! < MACS + TAG) m = pool.pullupTo(m, MACS + TAG);
    if (m === M_NULL) {
      this.#counters.nobufs++;
      counters.odrops++;
      return false;
    }
    const at = pool.off[m]!;
    pool.u8.copyWithin(at, at + TAG, at + TAG + MACS);
    pool.dv.setUint16(at + MACS, ETHERTYPE_VLAN);
    pool.dv.setUint16(at + MACS + 2, (pcp << 13) | this.id);
    if (this.#kpi.ifnet_transmit(this.parent, m) < 0) {
      counters.odrops++;
      return false;
    }
    counters.opackets++;
    counters.obytes += length;
    if (many) counters.omcasts++;
    return true;
  }
  flush(): void {} // the parent rings its own doorbell
  ready(): boolean {
    return this.parent.running && (this.parent.driver?.ready() ?? false);
  }
  setUp(up: boolean): number {
    const { ifp } = this;
    if (!up) this.setLink(false, 'the interface was taken down');
    ifp.flags = up ? ifp.flags | IFF_UP : ifp.flags & ~IFF_UP;
    ifp.event({ kind: up ? 'if-up' : 'if-down', ifname: ifp.name });
    if (up) this.follow('carrier of its parent');
    return 0;
  }
  /** The link is the parent's. */
  follow(reason: string): void {
    this.setLink((this.ifp.flags & IFF_UP) !== 0 && this.parent.running, reason);
  }
  setLink(up: boolean, reason: string): void {
    const { ifp } = this;
    if (up === ifp.link) return;
    ifp.link = up;
    ifp.flags = up ? ifp.flags | IFF_RUNNING : ifp.flags & ~IFF_RUNNING;
    ifp.counters.link_changes++;
    ifp.event({ kind: up ? 'link-on' : 'link-off', ifname: ifp.name, reason });
  }
  setMac(): number {
    return -EINVAL; // it has its parent's
  }
  setPromisc(): number {
    return -EINVAL;
  }
  setMulticast(mac: Uint8Array, join: boolean): number {
    return this.#kpi.ifnet_ioctl(this.parent, { kind: 'set-multicast', mac, join });
  }
  detach(): void {}
}

const VLAN_COUNTERS = { received: 0, sent: 0, unknown: 0, priority_tagged: 0, reserved: 0, too_short: 0, nobufs: 0 };
type VlanCounters = Record<keyof typeof VLAN_COUNTERS, number>;

/** IP precedence (RFC 791, RFC 8325 §2.3): the top three bits of TOS or traffic class; 0 for what is no IP. */
function priority(kpi: Kpi, m: Mbuf): number {
  const { pool } = kpi;
  const at = pool.off[m]!;
  if (pool.len[m]! < ETHER_HDR_LEN + 2) return 0;
  const type = pool.dv.getUint16(at + MACS);
  if (type === ETHERTYPE_IP) return pool.u8[at + ETHER_HDR_LEN + 1]! >> 5;
  return type === ETHERTYPE_IPV6 ? (pool.u8[at + ETHER_HDR_LEN]! >> 1) & 7 : 0;
}

class Vlans {
  readonly #kpi: Kpi;
  readonly #counters: VlanCounters = { ...VLAN_COUNTERS };
  readonly #all: Vlan[] = [];
  readonly #macs = new Uint8Array(MACS);

  constructor(kpi: Kpi) {
    this.#kpi = kpi;
  }

  start(): number {
    const kpi = this.#kpi;
    let e = kpi.counters('vlan', this.#counters);
    if (e >= 0) e = kpi.proto_plumb(ETHERTYPE_VLAN, (ifp, m) => this.#input(ifp, m));
    if (e < 0) return e;
    kpi.events.subscribe(event => this.#event(event));
    for (const entry of String(kpi.params.vlans)
      .split(/[\s,]+/)
      .filter(x => x !== '')) {
      const [name = '', addresses = ''] = entry.split('=');
      const made = this.add(name, addresses === '' ? [] : addresses.split('+'));
      if (typeof made === 'number') {
        kpi.log(
          `the VLAN "${entry}" cannot be made: is its parent there, its number 1 to 4094, are its addresses free?`,
        );
        return made;
      }
    }
    return kpi.ctl_register({
      commands: {
        add: {
          meaning: 'makes a VLAN: {"name":"nke0.10","addresses":["192.0.2.1/24"]}',
          run: ({ name, addresses = [] }) => {
            if (typeof name !== 'string' || !Array.isArray(addresses) || !addresses.every(a => typeof a === 'string'))
              throw new TypeError('give {"name":"nke0.10","addresses":["192.0.2.1/24"]}');
            const made = this.add(name, addresses);
            if (typeof made === 'number') throw new RangeError(`${name} cannot be made (errno ${-made})`);
            return made.name;
          },
        },
        remove: {
          meaning: 'removes a VLAN: {"name":"nke0.10"}',
          run: ({ name }) => {
            const v = this.#all.find(x => x.ifp.name === name);
            if (v === undefined) throw new RangeError(`there is no VLAN ${String(name)}`);
            this.#remove(v);
            return v.ifp.name;
          },
        },
        list: {
          meaning: 'all VLANs',
          run: () =>
            this.#all.map(v => ({
              name: v.ifp.name,
              parent: v.parent.name,
              id: v.id,
              link: v.ifp.link,
              mtu: v.ifp.mtu,
              addresses: v.ifp.addresses.map(a => `${a.addr}/${a.prefix}`),
            })),
        },
      },
    });
  }

  /** Makes "PARENT.ID", up, with addresses "ADDRESS/PREFIX". Returns its interface or -errno with nothing left behind. */
  add(name: string, addresses: readonly string[]): Ifnet | number {
    const kpi = this.#kpi;
    const dot = name.lastIndexOf('.');
    const text = name.slice(dot + 1);
    const id = Number(text);
    const parent = dot > 0 ? kpi.ifnet_find(name.slice(0, dot)) : undefined;
    if (parent === undefined) return -ENOENT;
    if (!/^[1-9]\d{0,3}$/.test(text) || id > 4094) return -EINVAL;
    if (this.#find(parent, id) !== undefined) return -EEXIST;
    if (this.#all.length >= MAX_VLANS) return -ENOMEM;
    const wanted = addresses.map(a => {
      const [address = '', bits = ''] = a.split('/');
      const addr = InAddr.parse(address);
      return addr !== undefined && /^\d{1,3}$/.test(bits) ? { addr, prefix: Number(bits) } : undefined;
    });
    if (wanted.includes(undefined)) return -EINVAL;
    const v = new Vlan(kpi, this.#counters, parent, id);
    let e = kpi.ifnet_attach(v.ifp);
    if (e < 0) return e;
    for (const w of wanted) if (e >= 0) e = kpi.ifnet_add_address(v.ifp, w!.addr, w!.prefix);
    if (e >= 0) e = kpi.ifnet_ioctl(v.ifp, { kind: 'set-up', up: true });
    if (e < 0) {
      kpi.ifnet_detach(v.ifp);
      return e;
    }
    this.#all.push(v);
    return v.ifp;
  }
  #remove(v: Vlan): void {
    this.#all.splice(this.#all.indexOf(v), 1);
    this.#kpi.ifnet_detach(v.ifp);
  }
  #find(parent: Ifnet, id: number): Vlan | undefined {
    for (let i = 0; i < this.#all.length; i++) {
      const v = this.#all[i]!;
      if (v.id === id && v.parent === parent) return v;
    }
    return undefined;
  }

  /** A tagged frame, its Ethernet header just taken off: what was in front of the tag is still there. */
  #input(parent: Ifnet, m: Mbuf) {
    const { pool } = this.#kpi;
    const c = this.#counters;
    if (pool.pktlen[m]! < TAG) return this.#drop(m, 'too_short');
    const u8 = pool.u8;
    let at = pool.off[m]!;
    for (let i = 0; i < MACS; i++) this.#macs[i] = u8[at - ETHER_HDR_LEN + i]!;
    if (pool.len[m]! < TAG) {
      m = pool.pullupTo(m, TAG);
      if (m === M_NULL) {
        c.nobufs++;
        return;
      }
      if (pool.len[m]! < TAG) return this.#drop(m, 'too_short');
    }
    at = pool.off[m]!;
    const id = pool.dv.getUint16(at) & 0xfff;
    if (id === 0xfff) return this.#drop(m, 'reserved');
    const v = id === 0 ? undefined : this.#find(parent, id);
    if (id !== 0 && v === undefined) return this.#drop(m, 'unknown');
    // The frame as it was before it was tagged: two bytes of the tag are its EtherType, before them the addresses.
    const more = MACS - 2;
    m = pool.prepend(m, more);
    if (m === M_NULL) {
      c.nobufs++;
      return;
    }
    if (pool.len[m]! < ETHER_HDR_LEN) m = pool.pullupTo(m, ETHER_HDR_LEN);
    if (m === M_NULL) {
      c.nobufs++;
      return;
    }
    at = pool.off[m]!;
    for (let i = 0; i < MACS; i++) u8[at + i] = this.#macs[i]!;
    if (v === undefined) {
      c.priority_tagged++;
      this.#kpi.ifnet_input(parent, m);
      return;
    }
    c.received++;
    const { counters } = v.ifp;
    counters.ipackets++;
    counters.ibytes += pool.pktlen[m]!;
    if ((this.#macs[0]! & 1) !== 0) counters.imcasts++;
    this.#kpi.ifnet_input(v.ifp, m);
  }
  #drop(m: Mbuf, why: keyof typeof VLAN_COUNTERS): void {
    this.#counters[why]++;
    this.#kpi.pool.freem(m);
  }

  /** What happens to a parent happens to its VLANs. */
  #event(e: StampedEvent): void {
    if (!('ifname' in e)) return;
    for (const v of [...this.#all]) {
      if (v.parent.name !== e.ifname) continue;
      if (e.kind === 'if-detached') this.#remove(v);
      else if (e.kind === 'mtu') {
        v.ifp.mtu = v.parent.mtu;
        v.ifp.event({ kind: 'mtu', ifname: v.ifp.name, mtu: v.parent.mtu });
      } else if (e.kind === 'link-on' || e.kind === 'link-off' || e.kind === 'if-up' || e.kind === 'if-down')
        v.follow(`${v.parent.name}: ${e.kind}`);
    }
  }
}

/** The extension, to be handed to `stack.kexts.load`. */
export function vlanKext(): Kext {
  return {
    manifest,
    start: kpi => new Vlans(kpi).start(),
    // Interfaces, addresses and the EtherType go with it.
    stop: () => 0,
  };
}
