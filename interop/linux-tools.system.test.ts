// What people use to try SCTP on Linux, inside a guest against our sockets: sctp_test and sctp_darn of lksctp-tools and
// iperf3 --sctp, each as client and as server, over IPv4 and IPv6.
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { Appliance } from '../appliance.js';
import { skipWithout } from '../vm/peers.js';
import { bootGuest, type Guest, skipWithoutGuest } from '../vm/uml.js';
import { accept, connect, deadline, eventually, finish, listen, withClean } from './ends.js';
import { type Iperf3Outcome, runIperf3, serveIperf3 } from './iperf3.js';
import { guestNic, onNet, Place, skipWithoutPlace, v4, v6 } from './place.js';

const skip = skipWithoutGuest() || skipWithoutPlace() || skipWithout('lksctp-tools', 'iperf3');

/**
 * Addresses of ours beyond our network, which iperf3 in the guest takes for one host: SCTP to them is routed to our
 * appliance, TCP (rule "ipproto tcp") to the bridge, where the namespace has the same addresses on its lo.
 */
const FAR4 = '10.10.0.1';
const FAR6 = 'fd10::1';

/** What sctp_test -c 4 sends in one round. */
const CASE_4 = [1, 1000, 2000, 3000, 5000, 10_000, 15_000, 20_000, 25_000, 32_768];

describe('tools on the Linux kernel', () => {
  let place: Place;
  let guest: Guest;

  before(async () => {
    if (skip !== false) return;
    place = new Place();
    try {
      place.addNetwork(0, 1, onNet(0, 254));
      for (const address of [`${FAR4}/32`, `${FAR6}/128`]) place.netns.addAddress('lo', address);
      const route = (far: string, us: string, bridge: string, family: string) => [
        ['ip', family, 'route', 'add', far, 'via', us],
        ['ip', family, 'route', 'add', far, 'via', bridge, 'table', '100'],
        ['ip', family, 'rule', 'add', 'to', far, 'ipproto', 'tcp', 'lookup', '100'],
      ];
      guest = await bootGuest({
        netns: place.netns,
        nics: [guestNic(0)],
        commands: [...route(FAR4, v4(0, 1), v4(0, 254), '-4'), ...route(FAR6, v6(0, 1), v6(0, 254), '-6')],
      });
    } catch (error) {
      place[Symbol.dispose]();
      throw error;
    }
  });
  after(async () => {
    await guest?.shutdown();
    place?.[Symbol.dispose]();
  });

  async function withOurs(body: (ours: Appliance) => Promise<void>): Promise<void> {
    const ours = Appliance.create({
      cards: [
        {
          port: 'tap:nke0',
          mac: '02:00:00:00:00:01',
          addresses: [...onNet(0, 1), `${FAR4}/32`, `${FAR6}/128`],
        },
      ],
      kexts: ['SCTP'],
    });
    await withClean(ours, () => body(ours));
  }

  for (const [family, us, linux, far] of [
    ['IPv4', v4(0, 1), v4(0, 2), FAR4],
    ['IPv6', v6(0, 1), v6(0, 2), FAR6],
  ] as const) {
    test(`${family}: sctp_test receives what we send`, { skip }, async () => {
      await withOurs(async ours => {
        const server = guest.start(['stdbuf', '-oL', 'sctp_test', '-H', linux, '-P', '7000', '-l']);
        try {
          await server.output(/Receiving packets/);
          const socket = await connect(ours, [linux], 7000);
          for (const size of CASE_4) await socket.send(Buffer.alloc(size, 's'));
          await finish(socket);
          await server.output(/SHUTDOWN_COMPLETE/);
          // It reads into 8 KiB or so at a time: the parts of a message add up.
          const parts = [...server.stdout.matchAll(/Data (\d+) bytes/g)].map(m => Number(m[1]));
          assert.equal(
            parts.reduce((a, b) => a + b, 0),
            CASE_4.reduce((a, b) => a + b, 0),
          );
        } finally {
          await server.kill();
        }
      });
    });

    test(`${family}: sctp_test sends to us, messages of 1 byte to 32 KiB, unordered and ordered`, {
      skip,
    }, async () => {
      await withOurs(async ours => {
        const listener = listen(ours, { port: 7001, addresses: [us] });
        for (const order of ['0', '1', '2']) {
          const argv = ['sctp_test', '-H', linux, '-P', '7002', '-h', us, '-p', '7001', '-s'];
          const client = guest.start([...argv, '-c', '4', '-x', '3', '-o', order, '-M', '4']);
          const socket = await accept(listener);
          const sizes: number[] = [];
          for await (const m of socket.messages({ signal: deadline(15_000) })) sizes.push(m.data.length);
          socket.close();
          assert.equal(await client.done, 0, client.stdout + client.stderr);
          const sorted = (list: number[]) => [...list].sort((a, b) => a - b);
          assert.deepEqual(sorted(sizes), sorted([...CASE_4, ...CASE_4, ...CASE_4]));
        }
        listener.close();
      });
    });

    test(`${family}: sctp_darn prints what we send`, { skip }, async () => {
      await withOurs(async ours => {
        const server = guest.start(['stdbuf', '-oL', 'sctp_darn', '-H', linux, '-P', '7003', '-l']);
        try {
          await server.output(/listening/);
          const socket = await connect(ours, [linux], 7003);
          // It takes the last byte for the end of the line and does not print it.
          for (const line of ['from us\n', 'in order\n', 'and whole\n']) await socket.send(Buffer.from(line));
          await server.output(/DATA\(8\):\s+from us\s[\s\S]*DATA\(9\):\s+in order\s[\s\S]*DATA\(10\):\s+and whole\s/);
          await finish(socket);
          await server.output(/SHUTDOWN_COMP/);
        } finally {
          await server.kill();
        }
      });
    });

    test(`${family}: sctp_darn sends to us`, { skip }, async () => {
      await withOurs(async ours => {
        const listener = listen(ours, { port: 7004, addresses: [us] });
        const argv = ['stdbuf', '-oL', 'sctp_darn', '-H', linux, '-P', '7005', '-h', us, '-p', '7004', '-s'];
        const client = guest.start(argv, { input: 'hello\nworld\n' });
        try {
          const socket = await accept(listener);
          const heard: string[] = [];
          for await (const m of socket.messages({ signal: deadline(10_000) }))
            heard.push(m.data.toString().replaceAll('\0', '').trim());
          assert.deepEqual(
            heard.filter(line => line !== ''),
            ['hello', 'world'],
          );
          socket.close();
          listener.close();
        } finally {
          await client.kill();
        }
      });
    });

    const told = (t: TestContext, { sent, ours, peers, seconds }: Iperf3Outcome) => {
      const [from, to] = sent ? [ours, peers] : [peers, ours];
      t.diagnostic(`${((to * 8) / seconds / 1e6).toFixed(0)} Mbit/s`);
      assert.ok(to > 1e6, `${to} bytes in ${seconds} s`);
      assert.ok(to <= from, `${to} of ${from} bytes came`);
    };

    test(`${family}: iperf3 --sctp as client, towards us and (-R) from us`, { skip }, async t => {
      await withOurs(async ours => {
        for (const reverse of [false, true]) {
          let client: ReturnType<Guest['start']> | undefined;
          const argv = ['iperf3', '-c', far, '--sctp', '-t', '1', '-l', '8000', '-J'];
          const outcome = await serveIperf3(ours, far, 5201, () => {
            client = guest.start([...argv, ...(reverse ? ['-R'] : [])]);
          });
          assert.equal(await client!.done, 0, client!.stdout + client!.stderr);
          assert.equal(outcome.sent, reverse);
          told(t, outcome);
          // What it has written arrives whole, also what was under way when the time was over.
          if (!reverse) assert.equal(outcome.ours, outcome.peers);
        }
      });
    });

    test(`${family}: iperf3 as server, from us and (reverse) towards us`, { skip }, async t => {
      await withOurs(async ours => {
        for (const reverse of [false, true]) {
          const server = guest.start(['iperf3', '-s', '-1', '--forceflush']);
          try {
            await server.output(/listening/);
            told(t, await runIperf3(ours, linux, 5201, { seconds: 1, length: 8000, reverse }));
            await eventually('iperf3 had ended', () => server.status === 0);
          } finally {
            if (server.status === undefined) await server.kill();
          }
        }
      });
    });
  }

  test('what we tell the kernel of streams and PPIDs is what sctp_darn shows', { skip }, async () => {
    await withOurs(async ours => {
      const server = guest.start(['stdbuf', '-oL', 'sctp_darn', '-H', v4(0, 2), '-P', '7006', '-l']);
      try {
        await server.output(/listening/);
        const socket = await connect(ours, [v4(0, 2)], 7006);
        // Linux hands the PPID out as it is on the wire: 51 read by a little-endian machine.
        await socket.send(Buffer.from('three\n'), { stream: 3, ppid: 51 });
        await server.output(/sinfo_stream 3[\s\S]*sinfo_ppid 855638016[\s\S]*DATA\(6\):\s+three/);
        await finish(socket);
      } finally {
        await server.kill();
      }
    });
  });
});
