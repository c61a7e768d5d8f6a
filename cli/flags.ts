/**
 * The flags that describe an appliance, the same for `nke up` and every `nke traffic`: a port and what follows it until the
 * next port is one card. Together they make the ApplianceConfig that a file would.
 */

import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ApplianceConfig, CardConfig, RouteConfig } from '../appliance.js';
import { parseKey } from '../bundles/sign.js';
import { checkConfig, readConfig, readPreferences } from './config.js';
import { CliError, oneLine } from './errors.js';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface Draft {
  cards: (Mutable<CardConfig> & { addresses?: string[] })[];
  kexts: string[];
  preferences: string | undefined;
  trust: string[];
  kextPath: string[];
  routes: RouteConfig[];
  sysctl: Record<string, number>;
  file: string | undefined;
  /** Flags that cannot stand beside --config. */
  used: Set<string>;
}

/** A whole number in a range, for commander's argument parsing. */
export function integer(min: number, max: number): (text: string) => number {
  return text => {
    const n = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(n >= min && n <= max)) throw new InvalidArgumentError(`a whole number from ${min} to ${max} is wanted.`);
    return n;
  };
}

/** A number above zero. */
export function positive(text: string): number {
  const n = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!(n > 0 && n <= 1e9)) throw new InvalidArgumentError('a number above 0 is wanted.');
  return n;
}

/** Adds the flags to a command. The returned function makes the checked configuration after parsing; it throws CliError. */
export function applianceFlags(
  command: Command,
  defaults: { readonly name: string; readonly kexts: readonly string[] },
): () => ApplianceConfig {
  const draft: Draft = {
    cards: [],
    kexts: [],
    preferences: undefined,
    trust: [],
    kextPath: [],
    routes: [],
    sysctl: {},
    file: undefined,
    used: new Set(),
  };
  const flag = (flags: string, text: string, take: (value: string, name: string) => void): void => {
    const option = new Option(flags, text);
    option.argParser((value: string) => {
      draft.used.add(option.long!);
      take(value, option.long!);
      return value;
    });
    command.addOption(option);
  };
  /** The card that a flag speaks of: the one of the last --port. */
  const card = (name: string) => {
    const last = draft.cards.at(-1);
    if (last === undefined) throw new InvalidArgumentError(`${name} belongs to a card: put it behind its --port.`);
    return last;
  };
  flag(
    '--port <spec>',
    'a card and its medium: udp:ADDRESS:PORT, tap:DEVICE, tun:DEVICE, raw:ADDRESS or wire:NAME (repeat for more cards)',
    v => draft.cards.push({ port: v }),
  );
  flag('--address <address/prefix>', 'an address of that card (repeat for more)', (v, n) => {
    const c = card(n);
    c.addresses = [...(c.addresses ?? []), v];
  });
  flag('--card <name>', 'name of that card (default: nke0, nke1, ...)', (v, n) => {
    card(n).name = v;
  });
  flag('--mtu <bytes>', 'MTU of that card', (v, n) => {
    card(n).mtu = integer(576, 65535)(v);
  });
  flag('--mac <address>', 'hardware address of that card', (v, n) => {
    card(n).mac = v;
  });
  flag('--capture <file>', "write that card's frames to a pcapng file", (v, n) => {
    card(n).capture = v;
  });
  flag(
    '--fault <name=value>',
    'a fault of that card: loss=0.01, duplicate, reorder, corrupt (shares), delay (us), rate (bit/s), seed',
    (v, n) => {
      const m = /^([a-zA-Z]+)=(\d+(?:\.\d+)?(?:e\d+)?)$/.exec(v);
      if (m === null) throw new InvalidArgumentError('NAME=NUMBER is wanted, for example loss=0.01.');
      const c = card(n);
      c.faults = { ...c.faults, [m[1]!]: Number(m[2]) };
    },
  );
  flag('--route <destination,card[,gateway]>', 'a static route, for example 0.0.0.0/0,nke0,192.0.2.1', v => {
    const [destination = '', to = '', gateway] = v.split(',');
    draft.routes.push({ destination, card: to, ...(gateway === undefined ? {} : { gateway }) });
  });
  flag('--sysctl <name=value>', 'set a tunable at start (repeat for more)', v => {
    const m = /^([a-z0-9_.]+)=(-?\d+)$/.exec(v);
    if (m === null) throw new InvalidArgumentError('NAME=NUMBER is wanted, for example net.inet.sctp.rto_min=200.');
    draft.sysctl[m[1]!] = Number(m[2]);
  });
  flag(
    '--kext <name>',
    `an extension to load at start: a name or a bundle's path (repeat for more)${defaults.kexts.length > 0 ? `; default: ${defaults.kexts.join(', ')}` : ''}`,
    v => draft.kexts.push(v),
  );
  flag(
    '--kexts <file>',
    'a preference file: which extensions to load, in which order, where, with which parameters',
    v => {
      draft.preferences = v;
    },
  );
  flag('--kext-trust <file>', 'a public key (nke kext keygen) whose bundles are believed (repeat for more)', v => {
    draft.trust.push(readKey(v));
  });
  flag('--kext-path <folder>', 'a folder to look for bundles in (repeat for more)', v => {
    draft.kextPath.push(v);
  });
  command.option('--allow-unsigned-kexts', 'also load bundles that are unsigned, altered, or signed by strangers');
  flag('--config <file>', 'take all of this from a JSON file (schema: config.schema.json)', v => {
    draft.file = v;
  });
  command.option('--name <name>', 'name of the appliance and of its control socket');
  command.option('--busy-poll', 'never sleep: lowest latency, one core fully used');
  command.option(
    '--control <path>',
    'control socket (default: $XDG_RUNTIME_DIR/nke/NAME.sock or /tmp/nke-UID/NAME.sock)',
  );
  command.option('--no-control', 'no control socket');
  return () => {
    const given = command.opts<{
      name?: string;
      busyPoll?: boolean;
      control?: string | boolean;
      allowUnsignedKexts?: boolean;
    }>();
    const unsigned = given.allowUnsignedKexts === true;
    const config = draft.file === undefined ? fromDraft(draft, defaults, unsigned) : fromFile(draft, unsigned);
    const merged: ApplianceConfig = {
      ...config,
      name: given.name ?? config.name ?? defaults.name,
      ...(given.busyPoll === undefined ? {} : { busyPoll: given.busyPoll }),
      // commander sets control to true because --no-control exists.
      ...(given.control === true && config.control !== undefined ? {} : { control: given.control ?? true }),
    };
    return checkConfig(merged);
  };
}

function fromFile(draft: Draft, unsigned: boolean): ApplianceConfig {
  const others = [...draft.used].filter(u => u !== '--config');
  if (others.length > 0)
    throw new CliError(`--config already says what ${others.join(', ')} would; leave one of them out`);
  return readConfig(draft.file!, unsigned);
}

function fromDraft(
  draft: Draft,
  defaults: { readonly name: string; readonly kexts: readonly string[] },
  unsigned: boolean,
): ApplianceConfig {
  if (draft.cards.length === 0)
    throw new CliError(
      'an appliance needs a card: give --port, for example --port udp:127.0.0.1:9899, or --config FILE',
    );
  const config: ApplianceConfig = {
    cards: draft.cards,
    kexts: draft.kexts.length > 0 || draft.preferences !== undefined ? draft.kexts : [...defaults.kexts],
    ...(draft.trust.length > 0 ? { kextTrust: draft.trust } : {}),
    ...(draft.kextPath.length > 0 ? { kextPath: draft.kextPath } : {}),
    ...(unsigned ? { allowUnsignedKexts: true } : {}),
    ...(draft.routes.length > 0 ? { routes: draft.routes } : {}),
    ...(Object.keys(draft.sysctl).length > 0 ? { sysctl: draft.sysctl } : {}),
  };
  if (draft.preferences === undefined) return config;
  const preferences = readPreferences(draft.preferences, config);
  return {
    ...config,
    kexts: [...(config.kexts ?? []), ...(preferences.kexts ?? [])],
    kextTrust: [...(config.kextTrust ?? []), ...(preferences.kextTrust ?? [])],
    kextPath: [...(config.kextPath ?? []), ...(preferences.kextPath ?? [])],
  };
}

/** The line of a public key from its file. */
function readKey(file: string): string {
  try {
    return parseKey(readFileSync(file, 'utf8').slice(0, 4096)).text;
  } catch (e) {
    throw new CliError(`--kext-trust ${file}: ${oneLine(e)}`);
  }
}
