// Builds usrsctp-peer and usrsctp-api: vm/sctp-peer.h and vm/api-peer.h on Debian's usrsctp.
import { compileC } from '../../vm/compile.js';
import { skipWithout } from '../../vm/peers.js';

/** For node:test's `skip`: false when usrsctp-peer can be built and run here, else why not. */
export function skipWithoutUsrsctp(): string | false {
  return skipWithout('libusrsctp-dev', 'gcc', 'libc6-dev');
}

function build(name: string, header: string): string {
  const absent = skipWithoutUsrsctp();
  if (absent) throw new Error(`${name} cannot be built: ${absent}`);
  return compileC(`bench/usrsctp/${name}.c`, [header], ['usrsctp', 'pthread']);
}

/** The path of an up-to-date usrsctp-peer, built if need be. Throws what is missing, or what gcc said. */
export const buildUsrsctpPeer = (): string => build('usrsctp-peer', 'vm/sctp-peer.h');

/** The same of usrsctp-api, the calls of RFC 6458 one by one (vm/api-peer.h). */
export const buildUsrsctpApi = (): string => build('usrsctp-api', 'vm/api-peer.h');
