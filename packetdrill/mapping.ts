/**
 * Script numbers and live numbers (facts parts 4.6 to 4.8). What the peer picks goes on the wire as written. What the stack
 * under test picks, its tag and its initial TSN, appears in an outbound INIT or INIT ACK, where the script writes labels of
 * its own: a Base remembers both, and every later number is moved by the difference. Each INIT ACK has a Base of its own,
 * kept with its cookie; it comes into force when that cookie has been accepted, so that an INIT that leads to nothing (a
 * collision, an attack, a restart given up) does not disturb the association that is up.
 */

/** What the stack under test knows; so that a cookie that was refused switches nothing. */
export interface Associations {
  /** True while an association with this tag of ours exists. */
  alive(tag: number): boolean;
  /** True while that association waits for an answer to its INIT or COOKIE ECHO. */
  opening(tag: number): boolean;
  /** The peer's tag of that association, 0 or undefined when it is not known yet. */
  peerTag(tag: number): number | undefined;
}

/** One pair of numbers that the stack under test chose, with the script's names for them. */
export class Base {
  readonly liveTag: number;
  readonly liveTsn: number;
  /** The script's labels; undefined until the INIT or INIT ACK has been matched. */
  tag: number | undefined;
  tsn: number | undefined;
  /** The tag that the peer had chosen then; 0 = none yet. */
  peerTag = 0;
  /** Of an INIT, not of an INIT ACK: the stack under test has opened. */
  readonly active: boolean;
  constructor(liveTag: number, liveTsn: number, active: boolean) {
    this.liveTag = liveTag;
    this.liveTsn = liveTsn;
    this.active = active;
  }
  tsnToLive(n: number): number {
    return (n + this.liveTsn - (this.tsn ?? this.liveTsn)) >>> 0;
  }
  tsnToScript(n: number): number {
    return (n - this.liveTsn + (this.tsn ?? this.liveTsn)) >>> 0;
  }
  tagToLive(n: number): number {
    return (n + this.liveTag - (this.tag ?? this.liveTag)) >>> 0;
  }
  tagToScript(n: number): number {
    return (n - this.liveTag + (this.tag ?? this.liveTag)) >>> 0;
  }
}

/** Most pairs remembered: every INIT of a flood of them makes one. */
const MAX_BASES = 4096;

export class Mapping {
  readonly #stack: Associations;
  readonly #bases: Base[] = [];
  /** In force now. */
  current: Base | undefined;
  /** The cookie captured last and whose numbers it stands for. */
  cookie: { readonly bytes: Uint8Array; readonly base: Base } | undefined;
  /** The information of the HEARTBEAT captured last. */
  heartbeat: Uint8Array | undefined;
  /** The peer's tag in the INIT or INIT ACK injected last. */
  #peerTag = 0;

  constructor(stack: Associations) {
    this.#stack = stack;
  }

  // What the stack under test sends.

  /** An outbound INIT or INIT ACK has been captured: the numbers that it is to be read with. */
  sentInit(tag: number, tsn: number, active: boolean): Base {
    const live = tag >>> 0;
    let b = this.#bases.find(x => x.liveTag === live && x.liveTsn === tsn >>> 0);
    if (b === undefined) {
      if (this.#bases.length >= MAX_BASES) this.#bases.shift();
      this.#bases.push((b = new Base(live, tsn >>> 0, active)));
    }
    if (!active) b.peerTag = this.#peerTag;
    return b;
  }
  /**
   * It has met its line in the script. An INIT's numbers hold from now on; those of an INIT ACK only when nothing is up that
   * could be disturbed, else they wait for their cookie.
   */
  matchedInit(base: Base, active: boolean, cookie: Uint8Array | undefined): void {
    if (cookie !== undefined) this.cookie = { bytes: cookie, base };
    if (active || this.current === undefined || !this.#stack.alive(this.current.liveTag)) this.current = base;
  }
  /**
   * The script's labels for an outbound INIT or INIT ACK, taken the first time. While an INIT of its own is under way, the
   * stack's INIT ACK must repeat that one's numbers (RFC 9260 §5.2.1): one that does not is not given the label again.
   */
  label(base: Base, tag: number, tsn: number): void {
    if (base.tag !== undefined) return;
    const cur = this.current;
    if (cur !== undefined && cur !== base && cur.active && this.#stack.opening(cur.liveTag)) {
      base.tag = cur.tagToScript(base.liveTag);
      base.tsn = cur.tsnToScript(base.liveTsn);
      return;
    }
    base.tag = tag;
    base.tsn = tsn;
  }

  // What the peer sends.

  /** The numbers that an inbound packet speaks in: those of its cookie when it gives one back, else those in force. */
  forPacket(givesCookieBack: boolean): Base | undefined {
    return givesCookieBack ? (this.cookie?.base ?? this.current) : this.current;
  }
  /** An inbound INIT or INIT ACK with this tag is about to arrive, intact. */
  peerInit(tag: number, ack: boolean): void {
    this.#peerTag = tag;
    if (ack && this.current?.active) this.current.peerTag = tag;
  }
  /** An inbound packet with the captured cookie has been processed: if the association is there, its numbers hold. */
  cookieGiven(): void {
    const b = this.cookie?.base;
    if (b !== undefined && this.#stack.alive(b.liveTag)) this.current = b;
  }
  /** The tag that the stack under test puts on its packets: the peer's. */
  peerTagNow(): number {
    const b = this.current;
    if (b === undefined) return 0;
    const known = this.#stack.peerTag(b.liveTag);
    return known !== undefined && known !== 0 ? known : b.peerTag;
  }
  /**
   * The verification tag of an injected packet: `written` as in `sctp(tag=N)`, undefined when not written; `reflected` for
   * ABORT and SHUTDOWN COMPLETE with the T bit, which carry the peer's own tag.
   */
  verificationTag(base: Base | undefined, written: number | undefined, reflected: boolean, init: boolean): number {
    if (written === undefined) {
      if (init) return 0;
      if (reflected) return this.peerTagNow() || this.#peerTag;
      return base?.liveTag ?? 0;
    }
    if (written === 0 || reflected || base === undefined) return written >>> 0;
    return base.tagToLive(written) || 1;
  }
}
