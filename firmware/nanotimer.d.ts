declare module 'nanotimer' {
  /** A timer that compares process.hrtime() in every turn of the event loop (setImmediate): exact, and it spins. */
  export default class NanoTimer {
    setTimeout(task: () => void, args: unknown, delay: string): void;
    clearTimeout(): void;
    setInterval(task: () => void, args: unknown, interval: string): void;
    clearInterval(): void;
  }
}
