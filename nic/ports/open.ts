/**
 * Port specifications, as a configuration or a command line gives them, to ports:
 *
 *   wire:NAME            one end of a cable in memory; the second port of the same name is the other end
 *   udp:ADDR:PORT        SCTP in UDP from this address and port; IPv6 as udp:[ADDR]:PORT
 *   tap:INTERFACE        Ethernet frames to and from a kernel interface
 *   tun:INTERFACE        IP packets to and from a kernel interface
 *   raw:ADDR             SCTP directly over IPv4
 *   packet:INTERFACE     Ethernet frames to and from a real interface, through rings shared with the kernel
 *   xdp:INTERFACE        the same through AF_XDP: an XDP program hands the card's frames over before the host's stack sees them
 */
import { PacketPort, type PacketPortOptions, type PacketQueue } from './packet.js';
import { type Port, PortError } from './port.js';
import { RawPort } from './raw.js';
import { type PortQueue, SharedPort } from './share.js';
import { TapPort } from './tap.js';
import { TunPort } from './tun.js';
import type { TunTapOptions } from './tuntap.js';
import { createUdpPort, type UdpPortOptions } from './udp.js';
import { createWire, type WireOptions, type WirePort } from './wire.js';
import { XdpPort, type XdpPortOptions } from './xdp.js';

/** The cables of one appliance, by name: the first port takes one end, the second the other. */
export class Wires {
  readonly #spare = new Map<string, WirePort>();
  readonly #used = new Set<string>();

  /** The next end of the cable `name`. The first caller's options hold. Throws PortError for a third end. */
  end(name: string, options: WireOptions): WirePort {
    const spare = this.#spare.get(name);
    if (spare !== undefined) {
      this.#spare.delete(name);
      return spare;
    }
    if (this.#used.has(name)) {
      throw new PortError('EBUSY', `wire:${name} has two ends and both are taken; use another name for another cable`);
    }
    const [a, b] = createWire({ ...options, name });
    this.#used.add(name);
    this.#spare.set(name, b);
    return a;
  }
}

export interface CreatePortOptions {
  readonly mtu?: number;
  readonly wires?: Wires;
  readonly wire?: Omit<WireOptions, 'name' | 'mtu'>;
  readonly udp?: Omit<UdpPortOptions, 'address' | 'port' | 'mtu'>;
  readonly interface?: Omit<TunTapOptions, 'interface' | 'mtu'>;
  readonly packet?: Omit<PacketPortOptions, 'interface' | 'mtu'>;
  readonly xdp?: Omit<XdpPortOptions, 'interface' | 'mtu'>;
  /** For udp, packet, tap and tun: one receive queue of a medium that others have opened. */
  readonly queue?: PortQueue;
}

const packetQueue = ({ fd, bell = -1, blocks = 0, index = 0 }: PortQueue): PacketQueue => ({ fd, bell, blocks, index });

const KINDS =
  'wire:NAME, udp:ADDR:PORT, udp:[ADDR6]:PORT, tap:INTERFACE, tun:INTERFACE, packet:INTERFACE, xdp:INTERFACE or raw:ADDR';

function udpEndpoint(spec: string, rest: string): { address: string; port: number } {
  const m = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(rest);
  if (m === null) {
    throw new PortError(
      'EINVAL',
      `"${spec}" is no UDP port; write udp:192.0.2.1:9899, or udp:[2001:db8::1]:9899 for IPv6`,
    );
  }
  return { address: m[1] ?? m[2] ?? '', port: Number(m[3]) };
}

/**
 * The port that a specification names, not yet open. Throws PortError (code EINVAL for the text itself) with a sentence that
 * says what to write instead. A wire needs `options.wires`, which holds the other end.
 */
export function createPort(spec: string, options: CreatePortOptions = {}): Port {
  const port = bare(spec, options);
  const exchange = options.queue?.exchange;
  return exchange === undefined ? port : new SharedPort(port, exchange);
}

function bare(spec: string, options: CreatePortOptions): Port {
  const colon = spec.indexOf(':');
  const kind = colon < 0 ? spec : spec.slice(0, colon);
  const rest = colon < 0 ? '' : spec.slice(colon + 1);
  const { mtu, queue } = options;
  if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= 576 && mtu <= 65535)) {
    throw new PortError('EINVAL', `an MTU of ${mtu} does not work; give 576 to 65535`);
  }
  switch (kind) {
    case 'wire':
      if (!/^[\w.-]{1,64}$/.test(rest)) {
        throw new PortError('EINVAL', `"${spec}" names no wire; write wire:NAME with letters, digits, - . _`);
      }
      if (options.wires === undefined)
        throw new Error('createPort: a wire needs options.wires, which keeps its other end');
      return options.wires.end(rest, { ...options.wire, mtu });
    case 'udp':
      return createUdpPort({ fd: queue?.fd, ...options.udp, ...udpEndpoint(spec, rest), mtu });
    case 'tap':
      return new TapPort({ queue: queue?.fd, ...options.interface, interface: rest, mtu });
    case 'tun':
      return new TunPort({ queue: queue?.fd, ...options.interface, interface: rest, mtu });
    case 'packet':
      return new PacketPort({
        queue: queue === undefined ? undefined : packetQueue(queue),
        ...options.packet,
        interface: rest,
        mtu,
      });
    case 'xdp':
      return new XdpPort({ ...options.xdp, interface: rest, mtu });
    case 'raw':
      return new RawPort({ address: rest, mtu });
    default:
      throw new PortError('EINVAL', `"${spec}" is no port; write ${KINDS}`);
  }
}
