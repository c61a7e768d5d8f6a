// Starts the example programs of Debian's libusrsctp-examples over UDP encapsulation (RFC 6951), as independent peers.
// How they are called (0.9.5), found by running them:
//   echo_server    LOCAL_UDP REMOTE_UDP                                  SCTP port 7, all addresses; runs until killed
//   discard_server LOCAL_UDP REMOTE_UDP                                  SCTP port 9, all addresses; runs until killed
//   client         ADDRESS PORT LOCAL_PORT LOCAL_UDP REMOTE_UDP          sends standard input a line per message, prints
//                                                                        what comes back; LOCAL_PORT 0 = any
//   tsctp          -E LOCAL_UDP -U REMOTE_UDP -p PORT [-L BIND] [-R RCVBUF]             server; runs until killed
//   tsctp          … -l LENGTH -n MESSAGES | -T SECONDS [-D] [-S SNDBUF] ADDRESS        client
// They open the UDP port on all addresses, and as root a raw SCTP socket too. echo_server, discard_server and client
// list every address of the machine in INIT and INIT ACK (IPv6 too) and send HEARTBEATs to all the peer lists, so run
// them in a namespace that has only what they shall see. Their CRC32c is right also on loopback. The library prints a
// debug line ("[S][seconds] …", "[P]…") for nearly everything: useless for speed, and cut out of what is given here.
import { readFileSync } from 'node:fs';
import type { Netns } from '../../vm/netns.js';
import { skipWithout } from '../../vm/peers.js';
import { ManagedProcess, type StartOptions } from '../../vm/process.js';

/** What all examples have in common. */
export interface ExampleOptions {
  localUdp: number;
  remoteUdp: number;
  /** Where it runs; without it in the namespace of this process. */
  netns?: Netns;
  /** Milliseconds after which it is killed, default 30,000. */
  timeoutMs?: number;
}

/** For node:test's `skip`: false when the examples are there, else why not. */
export function skipWithoutExamples(): string | false {
  return skipWithout('libusrsctp-examples');
}

/** Output without the library's debug lines. */
export function withoutDebug(output: string): string {
  return output
    .split('\n')
    .filter(line => !/^\[[SP]\]\[\d+\.\d+\]/.test(line))
    .join('\n');
}

/** Standard output is made line by line (stdbuf), else nothing of a server that is killed would ever be seen. */
function start(program: string, args: readonly string[], options: ExampleOptions, more: StartOptions = {}) {
  const argv = ['stdbuf', '-oL', `/usr/lib/usrsctp/${program}`, ...args];
  const how: StartOptions = { timeoutMs: options.timeoutMs ?? 30_000, ...more };
  return options.netns ? options.netns.start(argv, how) : new ManagedProcess(argv, how);
}

/**
 * Servers have no banner. They open their UDP port in usrsctp_init(), then bind and listen at once: wait for the port in
 * the table of the child's own namespace (proc(5), /proc/PID/net/udp), and a tenth of a second more.
 */
async function listening(child: ManagedProcess, localUdp: number): Promise<ManagedProcess> {
  const port = `:${localUdp.toString(16).toUpperCase().padStart(4, '0')} `;
  for (let i = 0; i < 250 && !child.result; i++) {
    const open = child.pid !== undefined && readFileSync(`/proc/${child.pid}/net/udp`, 'utf8').includes(port);
    await new Promise(resolve => setTimeout(resolve, open ? 100 : 20));
    if (open && !child.result) return child;
  }
  await child[Symbol.asyncDispose]();
  throw new Error(`${child.argv.join(' ')}: did not open UDP port ${localUdp}\n${child.tail()}`);
}

/** echo_server: SCTP port 7, sends back every message on its stream. Resolves when it listens. */
export async function startEchoServer(options: ExampleOptions): Promise<ManagedProcess> {
  return listening(
    start('echo_server', [String(options.localUdp), String(options.remoteUdp)], options),
    options.localUdp,
  );
}

/** discard_server: SCTP port 9, prints a line for each message ("Msg of length N received from …"). */
export async function startDiscardServer(options: ExampleOptions): Promise<ManagedProcess> {
  return listening(
    start('discard_server', [String(options.localUdp), String(options.remoteUdp)], options),
    options.localUdp,
  );
}

/** What `client` connects to and sends. */
export interface ClientOptions extends ExampleOptions {
  address: string;
  port: number;
  /** 0 = any. */
  localPort?: number;
  /** Sent a line per message, the newline included; then it shuts down. */
  input: string;
  /** Milliseconds until it shuts down, default 0: whoever answers after a SHUTDOWN answers nobody (RFC 9260 §9.2). */
  hold?: number;
}

/** client: ends when the association has. withoutDebug(stdout) holds what came back and the notifications. */
export function startClient(options: ClientOptions): ManagedProcess {
  const numbers = [options.port, options.localPort ?? 0, options.localUdp, options.remoteUdp];
  return start('client', [options.address, ...numbers.map(String)], options, {
    input: options.input,
    hold: options.hold ?? 0,
  });
}

export interface TsctpServerOptions extends ExampleOptions {
  port: number;
  /** Address to bind to, default all. */
  bind?: string;
  rcvbuf?: number;
}

/** tsctp as server: receives and discards until killed. Resolves when it listens. */
export async function startTsctpServer(options: TsctpServerOptions): Promise<ManagedProcess> {
  const args = ['-E', String(options.localUdp), '-U', String(options.remoteUdp), '-p', String(options.port)];
  if (options.bind !== undefined) args.push('-L', options.bind);
  if (options.rcvbuf !== undefined) args.push('-R', String(options.rcvbuf));
  return listening(start('tsctp', args, options), options.localUdp);
}

export interface TsctpClientOptions extends ExampleOptions {
  port: number;
  address: string;
  /** Address to bind to, default all. */
  bind?: string;
  /** Bytes of a message. */
  length: number;
  /** How much is sent: so many messages, or for so many seconds. */
  messages?: number;
  seconds?: number;
  unordered?: boolean;
  nodelay?: boolean;
  sndbuf?: number;
}

/** tsctp as client. */
export function startTsctpClient(options: TsctpClientOptions): ManagedProcess {
  const args = ['-E', String(options.localUdp), '-U', String(options.remoteUdp), '-p', String(options.port)];
  args.push('-l', String(options.length));
  if (options.messages === undefined && options.seconds === undefined) throw new Error('tsctp: messages or seconds?');
  // -n 0 sends without end, so with a time alone it must be said.
  args.push('-n', String(options.messages ?? 0));
  if (options.seconds !== undefined) args.push('-T', String(options.seconds));
  if (options.bind !== undefined) args.push('-L', options.bind);
  if (options.sndbuf !== undefined) args.push('-S', String(options.sndbuf));
  if (options.unordered) args.push('-u');
  if (options.nodelay) args.push('-D');
  return start('tsctp', [...args, options.address], options);
}

/** What tsctp printed at the end of an association, at either end. */
export interface TsctpResult {
  messages: number;
  bytes: number;
  seconds: number;
}

/**
 * Reads what tsctp says at the end of an association. A client: "Sending of N messages of length L took S seconds.",
 * until the last was handed to the stack. A server: "length, messages, receive calls, bytes, seconds, bytes per second,
 * …". Undefined while there is neither.
 */
export function tsctpResult(output: string): TsctpResult | undefined {
  const text = withoutDebug(output);
  const sent = /^Sending of (\d+) messages of length (\d+) took ([\d.]+) seconds\.$/m.exec(text);
  if (sent) return { messages: Number(sent[1]), bytes: Number(sent[1]) * Number(sent[2]), seconds: Number(sent[3]) };
  const received = /^\d+, (\d+), \d+, (\d+), ([\d.]+), [\d.]+, \d+$/m.exec(text);
  if (!received) return undefined;
  return { messages: Number(received[1]), bytes: Number(received[2]), seconds: Number(received[3]) };
}
