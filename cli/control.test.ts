import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { SeededRandom } from '../stack/kern/clock.js';
import {
  ControlServer,
  chooseControl,
  controlDirectory,
  controlPath,
  controlRequest,
  Follow,
  type Handlers,
  MAX_CLIENTS,
  MAX_REQUEST_BYTES,
  runningNames,
} from './control.js';
import { CliError } from './errors.js';

let dir: string;
before(() => {
  dir = mkdtempSync(join(tmpdir(), 'nke-control-'));
});
after(() => rmSync(dir, { recursive: true, force: true }));

const handlers: Handlers = {
  add: args => Number(args.a) + Number(args.b),
  later: async () => 'done',
  refuse: () => {
    throw new CliError('no such card; the cards are nke0', 2);
  },
  crash: () => {
    throw new TypeError('broken\ninside');
  },
  follow: () =>
    new Follow(emit => {
      for (let i = 0; i < 3; i++) emit({ i });
      return () => {
        stopped++;
      };
    }),
};
let stopped = 0;

/** Runs with a server on a path of its own, which is gone afterwards. */
async function withServer(name: string, body: (server: ControlServer) => Promise<void>): Promise<void> {
  const server = await ControlServer.listen(join(dir, name), handlers);
  try {
    await body(server);
  } finally {
    await server.close();
  }
  assert.equal(existsSync(server.path), false);
}

/** Sends bytes as they are and gives everything that comes back until the server hangs up or `lines` lines are there. */
function raw(path: string, data: Buffer, lines = Number.POSITIVE_INFINITY): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(path, () => socket.write(data));
    socket.on('data', d => {
      text += d.toString();
      if (text.split('\n').length > lines) socket.destroy();
    });
    socket.on('error', e =>
      (e as NodeJS.ErrnoException).code === 'EPIPE' || (e as NodeJS.ErrnoException).code === 'ECONNRESET'
        ? undefined
        : reject(e),
    );
    socket.on('close', () => resolve(text));
  });
}

test('requests are answered, errors carry their words and status', async () => {
  await withServer('a.sock', async server => {
    assert.equal(await controlRequest(server.path, 'add', { a: 2, b: 3 }), 5);
    assert.equal(await controlRequest(server.path, 'later'), 'done');
    await assert.rejects(controlRequest(server.path, 'refuse'), {
      message: 'no such card; the cards are nke0',
      status: 2,
    });
    await assert.rejects(controlRequest(server.path, 'crash'), { message: 'broken; inside', status: 1 });
    await assert.rejects(controlRequest(server.path, 'toString'), /unknown command "toString"; known: add, later/);
    assert.deepEqual(
      { ...server.counters, clients: 0 },
      {
        clients: 0,
        requests: 4,
        refused_too_many: 0,
        bad_requests: 1,
        too_long: 0,
        failed_requests: 2,
        slow_followers: 0,
      },
    );
  });
});

test('the socket is for its owner alone', async () => {
  const mask = process.umask(0);
  try {
    await withServer('mode.sock', async server => assert.equal(statSync(server.path).mode & 0o777, 0o600));
  } finally {
    process.umask(mask);
  }
});

test('a follower gets events until it hangs up, and is then forgotten', async () => {
  await withServer('f.sock', async server => {
    const abort = new AbortController();
    const events: unknown[] = [];
    await controlRequest(
      server.path,
      'follow',
      {},
      e => {
        events.push(e);
        if (events.length === 3) abort.abort();
      },
      abort.signal,
    );
    assert.deepEqual(events, [{ i: 0 }, { i: 1 }, { i: 2 }]);
    // The server hears of the hang-up with the next turn of the event loop at the latest.
    for (let i = 0; i < 100 && stopped === 0; i++) await new Promise(resolve => setImmediate(resolve));
    assert.equal(stopped, 1);
  });
});

test('garbage is answered or hung up on, and the server lives', async () => {
  await withServer('g.sock', async server => {
    for (const line of [
      '',
      '{',
      'null',
      '[]',
      '5',
      '"x"',
      '{"cmd":5}',
      '{"cmd":"add","args":[]}',
      '{"cmd":"add","args":null,"id":{}}',
      '\u0000\u0001',
    ])
      if (line !== '') assert.match(await raw(server.path, Buffer.from(`${line}\n`), 1), /"ok":(false|true)/, line);
    const random = new SeededRandom(7);
    for (let i = 0; i < 50; i++) {
      const junk = Buffer.alloc(200);
      random.fill(junk);
      junk[199] = 10;
      const answer = await raw(server.path, junk, 1);
      assert.match(answer, /^\{"id":null,"ok":false,"error":"not a request/);
    }
    assert.equal(await controlRequest(server.path, 'add', { a: 1, b: 1 }), 2);
  });
});

test('a line without end is refused at the bound', async () => {
  await withServer('l.sock', async server => {
    const answer = await raw(server.path, Buffer.alloc(MAX_REQUEST_BYTES + 1, 0x61));
    assert.match(answer, /one line of at most 65536 bytes/);
    assert.equal(server.counters.too_long, 1);
    const padded = `{"id":1,"cmd":"add","args":{"a":1,"b":2,"x":"${'y'.repeat(60_000)}"}}\n`;
    assert.match(await raw(server.path, Buffer.from(padded), 1), /"result":3/);
  });
});

test('more clients than allowed are told so', async () => {
  await withServer('m.sock', async server => {
    const idle = await Promise.all(
      Array.from(
        { length: MAX_CLIENTS },
        () =>
          new Promise<ReturnType<typeof connect>>(resolve => {
            const s: ReturnType<typeof connect> = connect(server.path, () => resolve(s));
          }),
      ),
    );
    assert.match(await raw(server.path, Buffer.alloc(0)), /too many control clients/);
    for (const s of idle) s.destroy();
  });
});

test('a stale socket is taken over, a live one and anything else is not', async () => {
  const path = join(dir, 's.sock');
  // A socket whose owner died without removing it: made by a process that is killed.
  const { spawnSync } = await import('node:child_process');
  spawnSync(process.execPath, [
    '-e',
    `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`,
    path,
  ]);
  assert.ok(existsSync(path));
  await withServer('s.sock', async () => {
    await assert.rejects(ControlServer.listen(path, handlers), /already listens on .*another --name/);
  });
  writeFileSync(path, 'precious');
  await assert.rejects(ControlServer.listen(path, handlers), /is not a socket/);
  assert.ok(existsSync(path));
  await assert.rejects(ControlServer.listen(join(dir, 'x'.repeat(120)), handlers), /longer than 107 bytes/);
  await assert.rejects(ControlServer.listen(join(dir, 'no', 'such', 'a.sock'), handlers), /cannot listen/);
});

test('nobody there, and somebody who is no appliance', async () => {
  await assert.rejects(controlRequest(join(dir, 'none.sock'), 'add'), {
    message: /no appliance "none" is running .*nke up --name none/,
    status: 2,
  });
  const path = join(dir, 'other.sock');
  const other = createServer(s => s.resume().end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  await new Promise<void>(resolve => other.listen(path, resolve));
  await assert.rejects(controlRequest(path, 'add'), /is not an appliance/);
  await new Promise(resolve => other.close(resolve));
  const mute = createServer(s => s.destroy());
  await new Promise<void>(resolve => mute.listen(path, resolve));
  await assert.rejects(controlRequest(path, 'add'), /hung up|cannot reach/);
  await new Promise(resolve => mute.close(resolve));
});

test('which appliance is meant', async () => {
  const env = { XDG_RUNTIME_DIR: dir };
  assert.equal(controlDirectory({}, 1000), '/tmp/nke-1000');
  assert.equal(controlPath('a', env), join(dir, 'nke', 'a.sock'));
  assert.throws(() => chooseControl(undefined, env), /no appliance is running/);
  const { mkdirSync } = await import('node:fs');
  mkdirSync(join(dir, 'nke'));
  writeFileSync(join(dir, 'nke', 'one.sock'), '');
  assert.equal(chooseControl(undefined, env), join(dir, 'nke', 'one.sock'));
  writeFileSync(join(dir, 'nke', 'two.sock'), '');
  assert.deepEqual(runningNames(env), ['one', 'two']);
  assert.throws(() => chooseControl(undefined, env), /--appliance NAME: one, two/);
  assert.equal(chooseControl('two', env), join(dir, 'nke', 'two.sock'));
  assert.equal(chooseControl(undefined, { ...env, NKE_APPLIANCE: 'one' }), join(dir, 'nke', 'one.sock'));
  assert.equal(chooseControl('/x/y.sock', env), '/x/y.sock');
});
