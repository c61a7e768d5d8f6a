/**
 * PacketLog.kext: writes the frames of interfaces as pcapng (draft-ietf-opsawg-pcapng), one ring of files an interface,
 * filtered by a tcpdump expression. It stands nearest to the wire: it sees what comes before other filters have changed
 * it, and what goes after them. Frames are never held up: what cannot be written is counted and forgotten.
 *
 * An extension does no I/O of its own. Bytes go to a sink of the kernel programming interface, in blocks of up to 64 KiB,
 * at the latest a tenth of a second old; the appliance writes them into the folder that its configuration names, within
 * the bounds given here. Expressions are compiled by libpcap (through the machine's tcpdump) when they are set; the program
 * that comes back is checked and interpreted here.
 */

import {
  EINVAL,
  ENOENT,
  EOPNOTSUPP,
  IFF_ORDER_WIRE,
  type IfFilter,
  type Ifnet,
  type Kext,
  type KextCallout,
  type KextManifest,
  KPI_IDENTIFIER,
  type Kpi,
  M_NULL,
  type Mbuf,
  MSEC,
  SEC,
  type Sink,
} from '../../kpi.js';
import { Bpf } from './bpf.js';

export const PACKETLOG_KEXT = 'org.nke.PacketLog';
const BATCH = 65536;
const FLUSH_AFTER = 100 * MSEC;
const LINKTYPE_ETHERNET = 1;
const INBOUND = 1;
const OUTBOUND = 2;
/** Fixed fields, flags option, end of options, closing length. */
const EPB_OVERHEAD = 44;

const manifest: KextManifest = {
  identifier: PACKETLOG_KEXT,
  version: '1.0.0',
  kind: 'filter',
  about: 'packet log: pcapng ring files per interface',
  dependencies: { [KPI_IDENTIFIER]: '1.1.0' },
  parameters: {
    filter: {
      type: 'string',
      default: '',
      maxLength: 1024,
      meaning: 'what to log, in the language of tcpdump ("sctp or udp port 9899"); empty: everything',
      live: true,
    },
    snaplen: {
      type: 'integer',
      default: 262144,
      min: 64,
      max: 262144,
      meaning: 'bytes of a frame that are kept',
      live: true,
    },
    file_kib: { type: 'integer', default: 10240, min: 64, max: 1048576, meaning: 'size of a file, KiB' },
    files: { type: 'integer', default: 4, min: 1, max: 1000, meaning: 'files of an interface; the oldest is removed' },
  },
};

const COUNTERS = { frames: 0, bytes: 0, filtered: 0, truncated: 0, lost: 0, write_errors: 0 };

/** The log of one interface. */
interface Log {
  readonly ifp: Ifnet;
  readonly sink: Sink;
  readonly u8: Uint8Array;
  readonly dv: DataView;
  at: number;
}

class PacketLog {
  readonly #kpi: Kpi;
  readonly #counters: Record<keyof typeof COUNTERS, number> = { ...COUNTERS };
  readonly #logs: Log[] = [];
  readonly #timer: KextCallout;
  readonly #flat = new Uint8Array(65536 + 512);
  #program: Bpf | undefined;
  #snaplen: number;

  constructor(kpi: Kpi) {
    this.#kpi = kpi;
    this.#snaplen = kpi.params.snaplen as number;
    this.#timer = kpi.callout(() => this.flush());
  }

  start(): number {
    const kpi = this.#kpi;
    const program = this.#compile(String(kpi.params.filter));
    if (typeof program === 'string') throw new TypeError(`the filter cannot be used: ${program}`);
    this.#program = program;
    let e = kpi.counters('packetlog', this.#counters);
    for (const name of kpi.where.length > 0 ? kpi.where : kpi.ifnet_list().map(i => i.name)) {
      if (e < 0) return e;
      e = this.#open(name);
      if (e === -EOPNOTSUPP)
        throw new TypeError('there is no folder for packet logs: name one as kextLogs in the configuration');
    }
    if (e >= 0) e = kpi.iflt_attach(this.#filter());
    if (e < 0) return e;
    // Interfaces that come later are logged too, unless some were named.
    if (kpi.where.length === 0)
      kpi.events.subscribe(event => {
        if (event.kind === 'if-attached') this.#open(event.ifname);
      });
    return kpi.ctl_register({
      changed: (name, value) => {
        if (name === 'snaplen') this.#snaplen = value as number;
        if (name !== 'filter') return 0;
        const made = this.#compile(String(value));
        if (typeof made === 'string') {
          kpi.log(`the filter cannot be used: ${made}`);
          return -EINVAL;
        }
        this.#program = made;
        return 0;
      },
      commands: {
        flush: { meaning: 'writes what is gathered', run: () => this.flush() },
        check: {
          meaning: 'says what is wrong with a filter expression, or null: {"filter":"udp"}',
          run: ({ filter }) => {
            const made = this.#compile(String(filter ?? ''));
            return typeof made === 'string' ? made : null;
          },
        },
      },
    });
  }
  flush(): void {
    for (const log of this.#logs) this.#write(log);
  }

  /** undefined: everything passes. A sentence: why it cannot be. */
  #compile(expression: string): Bpf | undefined | string {
    if (expression.trim() === '') return undefined;
    const program = this.#kpi.bpf_compile(expression);
    return typeof program === 'string' ? program : Bpf.check(program);
  }

  #open(name: string): number {
    const ifp = this.#kpi.ifnet_find(name);
    if (ifp === undefined) return -ENOENT;
    const { file_kib, files } = this.#kpi.params;
    const sink = this.#kpi.sink(name, {
      suffix: 'pcapng',
      fileBytes: (file_kib as number) * 1024,
      files: files as number,
      header: header(name),
    });
    if (typeof sink === 'number') return sink;
    const u8 = new Uint8Array(BATCH);
    this.#logs.push({ ifp, sink, u8, dv: new DataView(u8.buffer), at: 0 });
    return 0;
  }

  #filter(): IfFilter {
    return {
      name: this.#kpi.identifier,
      order: IFF_ORDER_WIRE,
      input: (ifp, m) => {
        this.#frame(ifp, m, INBOUND);
        return m;
      },
      output: (ifp, m) => {
        this.#frame(ifp, m, OUTBOUND);
        return m;
      },
      event: (ifp, e) => {
        if (e.kind !== 'if-detached') return;
        const i = this.#logs.findIndex(l => l.ifp === ifp);
        if (i < 0) return;
        const [log] = this.#logs.splice(i, 1);
        this.#write(log!);
        log!.sink.close();
      },
    };
  }
  #log(ifp: Ifnet): Log | undefined {
    for (let i = 0; i < this.#logs.length; i++) if (this.#logs[i]!.ifp === ifp) return this.#logs[i];
    return undefined;
  }

  /** A frame goes by: a train is logged as the one long packet that it is in memory. */
  #frame(ifp: Ifnet, m: Mbuf, direction: number): void {
    const log = this.#log(ifp);
    if (log === undefined) return;
    const { pool } = this.#kpi;
    const wire = pool.pktlen[m]!;
    let keep = Math.min(wire, this.#snaplen, BATCH - EPB_OVERHEAD - 4);
    if (this.#program !== undefined) {
      let { u8 } = pool;
      let off = pool.off[m]!;
      let caplen = pool.len[m]!;
      if (pool.next[m] !== M_NULL && caplen < wire) {
        caplen = pool.copyout(m, 0, Math.min(wire, this.#flat.length), this.#flat, 0);
        u8 = this.#flat;
        off = 0;
      }
      keep = Math.min(keep, this.#program.run(u8, off, caplen, wire));
      if (keep === 0) {
        this.#counters.filtered++;
        return;
      }
    }
    const padded = (keep + 3) & ~3;
    if (log.at + padded + EPB_OVERHEAD > BATCH) this.#write(log);
    const { dv } = log;
    const p = log.at;
    const total = padded + EPB_OVERHEAD;
    const { epoch } = this.#kpi.stack.host;
    this.#stamp(dv, p + 12, epoch?.seconds ?? 0, epoch?.nanos ?? 0);
    dv.setUint32(p, 6, true); // enhanced packet block
    dv.setUint32(p + 4, total, true);
    dv.setUint32(p + 8, 0, true);
    const kept = pool.copyout(m, 0, keep, log.u8, p + 28);
    log.u8.fill(0, p + 28 + kept, p + 28 + padded);
    dv.setUint32(p + 20, keep, true);
    dv.setUint32(p + 24, wire, true);
    let at = p + 28 + padded;
    dv.setUint16(at, 2, true); // epb_flags: direction
    dv.setUint16(at + 2, 4, true);
    dv.setUint32(at + 4, direction, true);
    dv.setUint32(at + 8, 0, true);
    at += 12;
    dv.setUint32(at, total, true);
    log.at = at + 4;
    this.#counters.frames++;
    this.#counters.bytes += keep;
    if (keep < wire) this.#counters.truncated++;
    if (!this.#timer.pending) this.#timer.reset(FLUSH_AFTER);
  }
  /** Nanoseconds since 1970 as two words, high first: more than 53 bits, so worked in two halves. */
  #stamp(dv: DataView, at: number, epochSeconds: number, epochNanos: number): void {
    const { now } = this.#kpi.clock;
    const whole = Math.floor(now / SEC);
    const seconds = epochSeconds + whole;
    const nanos = epochNanos + (now - whole * SEC);
    const high = Math.floor(seconds / 65536) * 1e9;
    const low = (seconds % 65536) * 1e9 + (high % 65536) * 65536 + nanos;
    dv.setUint32(at, Math.floor(high / 65536) + Math.floor(low / 0x1_0000_0000), true);
    dv.setUint32(at + 4, low % 0x1_0000_0000, true);
  }
  #write(log: Log): void {
    if (log.at === 0) return;
    const n = log.sink.write(log.u8.subarray(0, log.at));
    log.at = 0;
    if (n >= 0) return;
    // Frames are forgotten rather than kept: the disk may be full for long.
    this.#counters.lost++;
    if (this.#counters.write_errors++ === 0)
      this.#kpi.events.emit('log failed', `the log of ${log.ifp.name} cannot be written (errno ${-n})`);
  }
}

const encoder = new TextEncoder();

/** Section header, and an interface description with its name and nanosecond time stamps. */
function header(ifname: string): Uint8Array {
  const name = encoder.encode(ifname.slice(0, 64));
  const padded = (name.length + 3) & ~3;
  const idb = 16 + 4 + padded + 8 + 4 + 4;
  const u8 = new Uint8Array(28 + idb);
  const dv = new DataView(u8.buffer);
  dv.setUint32(0, 0x0a0d0d0a, true);
  dv.setUint32(4, 28, true);
  dv.setUint32(8, 0x1a2b3c4d, true);
  dv.setUint16(12, 1, true);
  dv.setInt32(16, -1, true);
  dv.setInt32(20, -1, true);
  dv.setUint32(24, 28, true);
  let at = 28;
  dv.setUint32(at, 1, true);
  dv.setUint32(at + 4, idb, true);
  dv.setUint16(at + 8, LINKTYPE_ETHERNET, true);
  dv.setUint32(at + 12, 262144, true);
  at += 16;
  dv.setUint16(at, 2, true); // if_name
  dv.setUint16(at + 2, name.length, true);
  u8.set(name, at + 4);
  at += 4 + padded;
  dv.setUint16(at, 9, true); // if_tsresol: 10^-9
  dv.setUint16(at + 2, 1, true);
  u8[at + 4] = 9;
  at += 8 + 4; // and the end of options
  dv.setUint32(at, idb, true);
  return u8;
}

/** The extension, to be handed to `stack.kexts.load`. */
export function packetLogKext(): Kext {
  let log: PacketLog | undefined;
  return {
    manifest,
    start: kpi => {
      log = new PacketLog(kpi);
      return log.start();
    },
    stop: () => {
      log?.flush();
      log = undefined;
    },
  };
}
