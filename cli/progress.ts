/**
 * Progress for people: a live bar on a terminal (npm package cli-progress), a plain line a second elsewhere, nothing at all
 * when a program reads along (--json).
 */

import { Presets, SingleBar } from 'cli-progress';

export interface Progress {
  /** `fraction` of the whole, 0 to 1, and what stands behind the bar. */
  update(fraction: number, text: string): void;
  /** A line of its own; the bar goes on below it. */
  note(text: string): void;
  stop(): void;
}

const LINE_MS = 1000;

/** A progress display on `out`. `now` gives milliseconds. */
export function progress(
  title: string,
  out: NodeJS.WriteStream,
  quiet = false,
  now: () => number = () => performance.now(),
): Progress {
  if (quiet) return { update() {}, note() {}, stop() {} };
  return out.isTTY ? bar(title, out) : lines(title, out, now);
}

function bar(title: string, out: NodeJS.WriteStream): Progress {
  const options = {
    format: `${title} [{bar}] {percentage}% {text}`,
    stream: out,
    hideCursor: true,
    barsize: 28,
    fps: 10,
    etaBuffer: 1,
    linewrap: false,
  };
  let shown = new SingleBar(options, Presets.shades_classic);
  shown.start(1000, 0, { text: '' });
  let value = 0;
  let text = '';
  return {
    update(fraction, t) {
      value = Math.round(Math.min(1, Math.max(0, fraction)) * 1000);
      text = t;
      shown.update(value, { text });
    },
    note(line) {
      shown.stop();
      // The bar that was drawn becomes the note; a new one is drawn below it.
      out.write(`\u001b[1A\u001b[2K${line}\n`);
      shown = new SingleBar(options, Presets.shades_classic);
      shown.start(1000, value, { text });
    },
    stop() {
      shown.stop();
    },
  };
}

function lines(title: string, out: NodeJS.WritableStream, now: () => number): Progress {
  let last = Number.NEGATIVE_INFINITY;
  return {
    update(fraction, text) {
      const t = now();
      if (t - last < LINE_MS) return;
      last = t;
      out.write(`${title} ${String(Math.round(fraction * 100)).padStart(3)}% ${text}\n`);
    },
    note(line) {
      out.write(`${line}\n`);
    },
    stop() {},
  };
}
