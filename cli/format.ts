/** What the commands print: tables, sizes, rates and times for people. Nothing here is read by programs: they use --json. */

export interface Column<T> {
  readonly head: string;
  readonly cell: (row: T) => string | number;
  /** Numbers stand to the right; text (the default) to the left. */
  readonly right?: boolean;
}

/** Characters that would move the cursor or end the line: anything from a peer or a file is shown with them escaped. */
export function printable(text: string): string {
  // Cc: C0 and C1 controls; Zl and Zp: line and paragraph separators.
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, c => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** A table with a head line, columns two spaces apart, no trailing blanks; ends in a newline. */
export function table<T>(rows: readonly T[], columns: readonly Column<T>[]): string {
  const cells = rows.map(row => columns.map(c => printable(String(c.cell(row)))));
  const width = columns.map((c, i) => Math.max(c.head.length, ...cells.map(line => line[i]!.length)));
  const line = (texts: readonly string[]) =>
    texts
      .map((t, i) => (columns[i]!.right ? t.padStart(width[i]!) : t.padEnd(width[i]!)))
      .join('  ')
      .trimEnd();
  return [line(columns.map(c => c.head)), ...cells.map(line)].join('\n') + '\n';
}

/** Counters, one a line with the value in front as netstat(1) prints them; zeros only when `all`. */
export function counterLines(counters: Readonly<Record<string, number>>, all = false): string {
  const shown = Object.entries(counters).filter(([, n]) => all || n !== 0);
  if (shown.length === 0) return '        (all zero)\n';
  return shown.map(([name, n]) => `        ${String(n).padStart(12)} ${name}\n`).join('');
}

/** 1536 -> "1.50 KiB". */
export function bytes(n: number): string {
  return scaled(n, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']);
}

/** Bits a second from bytes and seconds: 125000000, 1 -> "1.00 Gb/s". */
export function rate(byteCount: number, seconds: number): string {
  return scaled(seconds > 0 ? (byteCount * 8) / seconds : 0, 1000, ['b/s', 'kb/s', 'Mb/s', 'Gb/s', 'Tb/s']);
}

function scaled(n: number, base: number, units: readonly string[]): string {
  let i = 0;
  while (Math.abs(n) >= base && i < units.length - 1) {
    n /= base;
    i++;
  }
  return `${i === 0 ? Math.round(n) : n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2)} ${units[i]}`;
}

/** Nanoseconds as "850 ns", "12.5 us", "3.20 ms", "2.50 s". */
export function duration(ns: number): string {
  if (!Number.isFinite(ns)) return 'never';
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toFixed(1)} us`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(2)} ms`;
  return `${(ns / 1e9).toFixed(2)} s`;
}

/** 1234567 -> "1,234,567", whatever the machine's locale. */
export function grouped(n: number): string {
  const s = String(Math.trunc(Math.abs(n))).replace(/\B(?=(\d{3})+(?!\d))/g, ',');
  return n < 0 ? `-${s}` : s;
}

/** The candidate nearest to `word` when it looks like a slip of the pen (edit distance at most 2), else undefined. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let distance = 3;
  for (const c of candidates) {
    const d = editDistance(word.toLowerCase(), c.toLowerCase());
    if (d < distance && d < c.length) {
      best = c;
      distance = d;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return 3;
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++)
      row.push(Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    previous = row;
  }
  return previous[b.length]!;
}
