// Builds usrsctp-peer: vm/sctp-peer.h on Debian's usrsctp.
import { compileC } from '../../vm/compile.js';
import { skipWithout } from '../../vm/peers.js';

/** For node:test's `skip`: false when usrsctp-peer can be built and run here, else why not. */
export function skipWithoutUsrsctp(): string | false {
  return skipWithout('libusrsctp-dev', 'gcc', 'libc6-dev');
}

/** The path of an up-to-date usrsctp-peer, built if need be. Throws what is missing, or what gcc said. */
export function buildUsrsctpPeer(): string {
  const absent = skipWithoutUsrsctp();
  if (absent) throw new Error(`usrsctp-peer cannot be built: ${absent}`);
  return compileC('bench/usrsctp/usrsctp-peer.c', ['vm/sctp-peer.h'], ['usrsctp', 'pthread']);
}
