import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { native } from '../native.js';
import { CapturePort } from './capture.js';
import { writeIp } from './packets.fixture.js';
import { Batch, Memory } from './port.js';
import { createUdpPort } from './udp.js';

const skip =
  spawnSync('tshark', ['-v']).status === 0
    ? native
      ? false
      : 'the C module is not built'
    : 'needs tshark (package tshark)';

const FIELDS = [
  'frame.len',
  'ip.len',
  'ip.checksum.status',
  'udp.length',
  'udp.checksum.status',
  'sctp.checksum.status',
  'sctp.data_tsn_raw',
  '_ws.malformed',
  '_ws.expert.severity',
];

/** Reads a capture with tshark: one row of FIELDS per packet; UDP ports are decoded as SCTP. */
function dissect(file: string, ports: number[]): string[][] {
  const args = [
    '-r',
    file,
    '-o',
    'sctp.checksum:crc-32c',
    '-o',
    'ip.check_checksum:TRUE',
    '-o',
    'udp.check_checksum:TRUE',
    '-T',
    'fields',
  ];
  for (const port of ports) args.push('-d', `udp.port==${port},sctp`);
  for (const field of FIELDS) args.push('-e', field);
  const r = spawnSync('tshark', args, { encoding: 'utf8' });
  assert.equal(r.status, 0, r.stderr);
  return r.stdout
    .replace(/\n+$/, '')
    .split('\n')
    .map(line => line.split('\t'));
}

/** Writes an SCTP packet with one DATA chunk (RFC 9260 §3.3.1) to fill [at, end); the checksum is left zero. */
function writeSctp(u8: Uint8Array, at: number, end: number, tsn: number): void {
  const dv = new DataView(u8.buffer);
  dv.setUint16(at, 5000);
  dv.setUint16(at + 2, 5001);
  dv.setUint32(at + 4, 0x12345678);
  dv.setUint32(at + 8, 0);
  dv.setUint32(at + 12, 0x00030000 | (end - at - 12));
  dv.setUint32(at + 16, tsn);
  dv.setUint32(at + 20, 1);
  dv.setUint32(at + 24, 46);
  for (let i = at + 28; i < end; i++) u8[i] = i;
}

for (const [family, address, header] of [
  ['IPv4', '127.0.0.1', 28],
  ['IPv6', '::1', 48],
] as const) {
  test(`capture: tshark reads a train over ${family} as good SCTP packets, both ways`, { skip }, () => {
    const folder = mkdtempSync(join(tmpdir(), 'nke-'));
    const files = ['a.pcapng', 'b.pcapng'].map(f => join(folder, f));
    const raw = [createUdpPort({ address, port: 0 }), createUdpPort({ address, port: 0 })] as const;
    const [a, b] = raw.map((p, i) => new CapturePort(p, { to: files[i]!, epochSeconds: 1_763_000_000 })) as [
      CapturePort,
      CapturePort,
    ];
    const memory = new Memory(new ArrayBuffer(1 << 19));
    try {
      a.open(memory);
      b.open(memory);
      const size = 1452;
      const end = header + 5 * size + 300;
      const l4 = writeIp(memory.u8, 0, end, address, address, 17);
      memory.dv.setUint16(l4, raw[0].port);
      memory.dv.setUint16(l4 + 2, raw[1].port);
      for (let k = 0; k < 6; k++)
        writeSctp(memory.u8, header + k * size, Math.min(end, header + (k + 1) * size), 1000 + k);
      const tx = new Batch(1);
      tx.count = 1;
      tx.len[0] = end;
      tx.segsz[0] = size;
      tx.hdrlen[0] = header;
      assert.equal(a.transmit(tx, 5), 1);
      const rx = new Batch(6);
      for (let i = 0; i < 6; i++) {
        rx.off[i] = 100_000 + i * 66_000;
        rx.cap[i] = 66_000;
      }
      b.receive(rx, 6, 9);
      a.close();
      b.close();
      for (const file of files) {
        const rows = dissect(file, [raw[0].port, raw[1].port]);
        assert.equal(rows.length, 6);
        for (const [k, row] of rows.entries()) {
          const n = k < 5 ? size : 300;
          const v4 = family === 'IPv4';
          // Status 1 is "good".
          assert.deepEqual(row, [
            String(n + header),
            v4 ? String(n + 28) : '',
            v4 ? '1' : '',
            String(n + 8),
            '1',
            '1',
            String(1000 + k),
            '',
            row[8],
          ]);
          assert.doesNotMatch(row[8]!, /6291456|8388608/, 'neither warning nor error');
        }
      }
    } finally {
      a.close();
      b.close();
      rmSync(folder, { recursive: true });
    }
  });
}
