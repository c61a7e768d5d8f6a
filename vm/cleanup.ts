// What must be undone when this process ends, however it ends: by itself, by a failed test, by an exception or by
// SIGINT, SIGTERM or SIGHUP. Namespaces, guests and peers register here the moment they exist. Only SIGKILL escapes;
// what it leaves is found by the names, which carry the pid (see sweep() in netns.ts and uml.ts).

import { readFileSync } from 'node:fs';

const pending = new Map<symbol, () => void>();
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
let installed = false;

/** Runs everything pending, newest first; one that fails does not keep the others from running. */
function undoAll(): void {
  for (const [key, undo] of [...pending].reverse()) {
    pending.delete(key);
    try {
      undo();
    } catch (error) {
      process.stderr.write(`nke: cleaning up failed: ${error instanceof Error ? error.message : String(error)}\n`);
    }
  }
}

/** Cleans up, then lets the signal do what it would have done, unless someone else handles it too. */
function onSignal(signal: NodeJS.Signals): void {
  undoAll();
  if (process.listenerCount(signal) > 1) return;
  process.off(signal, onSignal);
  process.kill(process.pid, signal);
}

/**
 * Registers a synchronous undo step to run when the process ends.
 * Returns a function that takes the registration back (the thing is already gone).
 */
export function onExit(undo: () => void): () => void {
  if (!installed) {
    installed = true;
    process.on('exit', undoAll);
    for (const signal of signals) process.on(signal, onSignal);
  }
  const key = Symbol();
  pending.set(key, undo);
  return () => {
    pending.delete(key);
  };
}

/** Whether a process with this id runs (whoever owns it); one that has ended and only waits to be reaped does not. */
export function pidAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  return processStat(pid)?.state !== 'Z';
}

/** State letter and session of a process, from proc(5)'s stat; undefined when it is gone or there is no /proc. */
export function processStat(pid: number): { state: string; session: number } | undefined {
  try {
    // "pid (comm) state ppid pgrp session …"; comm may hold spaces and parentheses, so read from the last one.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0]!, session: Number(fields[3]) };
  } catch {
    return undefined;
  }
}
