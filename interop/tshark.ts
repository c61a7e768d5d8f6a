// Reads a capture of ours with tshark: what it calls malformed or wrong, the state of every CRC32c, and fields by name.
import { spawnSync } from 'node:child_process';
import { skipWithout } from '../vm/peers.js';

/** For node:test's `skip`: false when tshark is there, else why not. */
export function skipWithoutTshark(): string | false {
  return skipWithout('tshark');
}

/** The values of `fields` for each packet that passes `filter`; a field that occurs several times is joined by commas. */
export function dissect(
  file: string,
  fields: readonly string[],
  options: { udpPorts?: readonly number[]; filter?: string } = {},
): string[][] {
  const argv = ['-n', '-r', file, '-T', 'fields'];
  // In tshark 4.0 a preference of this kind is given by its description's first word; what it calls good is checked in
  // capture.system.test.ts with a packet that is bad.
  for (const preference of ['sctp.checksum:crc-32c', 'ip.check_checksum:TRUE', 'udp.check_checksum:TRUE'])
    argv.push('-o', preference);
  for (const port of options.udpPorts ?? []) argv.push('-d', `udp.port==${port},sctp`);
  if (options.filter !== undefined) argv.push('-Y', options.filter);
  for (const field of fields) argv.push('-e', field);
  const done = spawnSync('tshark', argv, {
    encoding: 'utf8',
    timeout: 60_000,
    killSignal: 'SIGKILL',
    maxBuffer: 256 << 20,
  });
  if (done.status !== 0) throw new Error(`tshark ${file}: ${done.error?.message ?? done.stderr}`);
  const text = done.stdout.replace(/\n$/, '');
  return text === '' ? [] : text.split('\n').map(line => line.split('\t'));
}

/** What is wrong in a capture: nothing, if it is ours. */
export interface Verdict {
  packets: number;
  sctp: number;
  /** SCTP packets whose CRC32c is right, and those whose is not. */
  good: number;
  bad: number;
  /** Numbers of frames that tshark calls malformed, or about which it has an error to tell. */
  malformed: string[];
}

/** Expert information of this severity (PI_ERROR) is an error in the packet, not an observation about the traffic. */
const PI_ERROR = 0x00800000;

export function verdict(file: string, udpPorts: readonly number[] = []): Verdict {
  const fields = ['frame.number', 'sctp.checksum.status', '_ws.malformed', '_ws.expert.severity', 'ip.checksum.status'];
  const rows = dissect(file, fields, { udpPorts });
  const out: Verdict = { packets: rows.length, sctp: 0, good: 0, bad: 0, malformed: [] };
  for (const [number = '', crc = '', malformed = '', severities = '', ip = ''] of rows) {
    if (crc !== '') out.sctp++;
    if (crc === '1') out.good++;
    if (crc === '0') out.bad++;
    const errors = severities.split(',').some(s => Number(s) === PI_ERROR);
    if (malformed !== '' || ip.includes('0') || (errors && crc !== '0')) out.malformed.push(number);
  }
  return out;
}
