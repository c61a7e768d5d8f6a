/**
 * What to do with a valid COOKIE ECHO when an association exists (RFC 9260 §5.2.4, table 12), as a pure function.
 *
 * | local tag | peer's tag | tie-tags | action                                                    |
 * | differs   | differs    | match    | A: the peer restarted                                      |
 * | matches   | differs, 0 | any      | B: both sides began at once, our INIT ACK won              |
 * | differs   | matches    | 0        | C: an old cookie arrives late: discard                     |
 * | matches   | matches    | any      | D: the association is up (or now is), COOKIE ACK again     |
 * | otherwise                         | discard                                                    |
 */

export type CookieAction = 'restart' | 'collision' | 'discard' | 'duplicate';

export interface CookieView {
  readonly myTag: number;
  readonly peerTag: number;
  readonly tieLocal: number;
  readonly tiePeer: number;
  readonly myTsn: number;
}
export interface AssocView {
  readonly myTag: number;
  readonly peerTag: number;
  readonly initialTsn: number;
  /** Tie-tags given out in INIT ACKs for this association; 0, 0 = none. */
  readonly tieLocal: number;
  readonly tiePeer: number;
}

/** Cases B and D also want our initial TSN in the cookie to be the association's: both together act as a 64-bit tag. */
export function resolveCookie(c: CookieView, a: AssocView): CookieAction {
  const mine = c.myTag === a.myTag;
  const peers = c.peerTag === a.peerTag;
  if (mine) {
    if ((c.myTsn | 0) !== (a.initialTsn | 0)) return 'discard';
    return peers ? 'duplicate' : 'collision';
  }
  if (peers) return 'discard';
  const tied = c.tieLocal !== 0 && c.tiePeer !== 0 && c.tieLocal === a.tieLocal && c.tiePeer === a.tiePeer;
  return tied ? 'restart' : 'discard';
}
