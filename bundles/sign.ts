/**
 * Signatures of bundles: Ed25519 (RFC 8032) over the SHA-512 digests of all files. The file SIGNATURE of a bundle is JSON:
 *
 *   {"algorithm": "Ed25519", "key": "3f9a…" (key id), "digests": {"index.ts": "hex", ...}, "signature": "base64"}
 *
 * Signed are the bytes "nke-kext-1\n" and a line "HEX  PATH\n" for each file, in order of path. A public key is written on
 * one line, "nke-ed25519 BASE64 comment"; its id is the first 16 hexadecimal digits of the SHA-256 of its 32 bytes.
 */

import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import { BundleError } from './error.js';

export const SIGNATURE_FILE = 'SIGNATURE';
const ALGORITHM = 'Ed25519';
const PUBLIC = /^nke-ed25519 ([A-Za-z0-9+/]{43}=)(?: [ -~]{0,200})?$/;
/** SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 §4) up to its 32 bytes. */
const SPKI = Buffer.from('302a300506032b6570032100', 'hex');

export type Files = ReadonlyMap<string, Buffer>;

/** A key that this appliance believes. */
export interface TrustedKey {
  readonly id: string;
  /** As written. */
  readonly text: string;
  readonly raw: Buffer;
}

const keyId = (raw: Buffer): string => createHash('sha256').update(raw).digest('hex').slice(0, 16);

/** Reads "nke-ed25519 BASE64 comment". Throws BundleError. */
export function parseKey(line: string): TrustedKey {
  const m = PUBLIC.exec(line.trim());
  const raw = m === null ? undefined : Buffer.from(m[1]!, 'base64');
  if (raw === undefined || raw.length !== 32)
    throw new BundleError(
      'EINVAL',
      `"${line.trim().slice(0, 40)}" is not a public key; it must be a line "nke-ed25519 BASE64", as nke kext keygen writes it`,
    );
  return { id: keyId(raw), text: line.trim(), raw };
}

/** A new pair: the private key as PEM (PKCS #8), the public one as a line. */
export function generateKey(comment: string): { privatePem: string; publicLine: string; id: string } {
  const pair = generateKeyPairSync('ed25519');
  const raw = pair.publicKey.export({ type: 'spki', format: 'der' }).subarray(SPKI.length);
  return {
    privatePem: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    publicLine: `nke-ed25519 ${raw.toString('base64')} ${comment.replace(/[^ -~]/g, '?').slice(0, 200)}\n`,
    id: keyId(raw),
  };
}

/** SHA-512 of every file but the signature, by path. */
function digestsOf(files: Files): Record<string, string> {
  const out: Record<string, string> = {};
  for (const path of [...files.keys()].sort())
    if (path !== SIGNATURE_FILE) out[path] = createHash('sha512').update(files.get(path)!).digest('hex');
  return out;
}
function signedBytes(digests: Readonly<Record<string, string>>): Buffer {
  const lines = Object.keys(digests)
    .sort()
    .map(path => `${digests[path]}  ${path}\n`);
  return Buffer.from(`nke-kext-1\n${lines.join('')}`);
}

/** The text of the file SIGNATURE. Throws BundleError when the key is none. */
export function signFiles(files: Files, privatePem: string): { text: string; id: string } {
  let key: ReturnType<typeof createPrivateKey>;
  try {
    key = createPrivateKey(privatePem);
  } catch {
    throw new BundleError('EINVAL', 'this is not a private key; make one with: nke kext keygen FILE');
  }
  if (key.asymmetricKeyType !== 'ed25519')
    throw new BundleError('EINVAL', `the key is ${key.asymmetricKeyType}; bundles are signed with Ed25519`);
  const raw = createPublicKey(key).export({ type: 'spki', format: 'der' }).subarray(SPKI.length);
  const digests = digestsOf(files);
  const signature = sign(null, signedBytes(digests), key).toString('base64');
  const id = keyId(raw);
  return { text: `${JSON.stringify({ algorithm: ALGORITHM, key: id, digests, signature }, null, 2)}\n`, id };
}

export type Verdict = { readonly ok: true; readonly key: string } | { readonly ok: false; readonly reason: string };
const no = (reason: string): Verdict => ({ ok: false, reason });

/** Whether the files are exactly those that a trusted key has signed; if not, why. */
export function verifyFiles(files: Files, trust: readonly TrustedKey[]): Verdict {
  const text = files.get(SIGNATURE_FILE);
  if (text === undefined) return no('it is not signed');
  let o: { algorithm?: unknown; key?: unknown; digests?: unknown; signature?: unknown };
  try {
    o = JSON.parse(text.toString('utf8')) as typeof o;
  } catch {
    return no(`its ${SIGNATURE_FILE} is not JSON`);
  }
  if (typeof o !== 'object' || o === null || o.algorithm !== ALGORITHM)
    return no(`its ${SIGNATURE_FILE} does not say "algorithm": "${ALGORITHM}"`);
  const { digests, key, signature } = o;
  if (typeof digests !== 'object' || digests === null || typeof key !== 'string' || typeof signature !== 'string')
    return no(`its ${SIGNATURE_FILE} lacks key, digests or signature`);
  const said = new Map<string, unknown>(Object.entries(digests));
  const now = digestsOf(files);
  for (const [path, hash] of Object.entries(now)) {
    if (!said.has(path)) return no(`its file ${path} is not covered by the signature`);
    if (said.get(path) !== hash) return no(`its file ${path} has been altered since it was signed`);
  }
  for (const path of said.keys())
    if (!Object.hasOwn(now, path)) return no(`its signed file ${path.slice(0, 80)} is missing`);
  const trusted = trust.find(t => t.id === key);
  if (trusted === undefined)
    return no(`it is signed with key ${key.slice(0, 16)}, which this appliance does not trust`);
  const spki = createPublicKey({ key: Buffer.concat([SPKI, trusted.raw]), format: 'der', type: 'spki' });
  const bytes = Buffer.from(signature, 'base64');
  if (bytes.length !== 64 || !verify(null, signedBytes(now), spki, bytes)) return no('its signature is wrong');
  return { ok: true, key: trusted.id };
}
