/**
 * A list that fills while its former content is worked off. Both of its arrays are kept: an array whose length is set to
 * zero gives its storage back, and every batch would allocate it anew.
 */
export class Worklist<T> {
  #filling: (T | undefined)[] = [];
  #waiting = 0;
  #working: (T | undefined)[] = [];
  #at = 0;
  #end = 0;

  /** True when nothing waits, nor is left of the last batch. */
  get empty(): boolean {
    return this.#waiting === 0 && this.#at === this.#end;
  }
  push(x: T): void {
    this.#filling[this.#waiting++] = x;
  }
  /**
   * Begins a batch with all that waits; what is pushed from now on waits for the next one. What is left of a batch that was
   * broken off (by an exception) comes before it, as a batch of its own.
   */
  begin(): void {
    if (this.#at < this.#end) return;
    const list = this.#filling;
    this.#filling = this.#working;
    this.#working = list;
    this.#at = 0;
    this.#end = this.#waiting;
    this.#waiting = 0;
  }
  /** Takes the next entry of the batch; undefined at its end. */
  next(): T | undefined {
    if (this.#at === this.#end) return undefined;
    const i = this.#at++;
    const x = this.#working[i];
    this.#working[i] = undefined;
    return x;
  }
}
