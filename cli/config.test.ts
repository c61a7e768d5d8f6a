import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { BundleFolder } from '../bundles/bundles.fixture.js';
import { checkConfig, parseConfig, readConfig } from './config.js';
import { CliError } from './errors.js';
import { JsonError, lineColumn, parseJson } from './json.js';

/** The one line that a bad configuration is refused with. */
function refusal(text: string): string {
  try {
    parseConfig(text, 'a.json');
  } catch (e) {
    assert.ok(e instanceof CliError, String(e));
    assert.equal(e.status, 2);
    assert.ok(!e.message.includes('\n'));
    return e.message;
  }
  return assert.fail('accepted');
}

test('JSON with positions gives what JSON.parse gives', () => {
  const text = ' {"a": [1, -2.5e3, true, null, {"b\\u0041\\n": "x"}], "": {}, "__proto__": 1}\n';
  const { value, places } = parseJson(text);
  assert.deepEqual(value, JSON.parse(text));
  assert.equal(text.slice(places.get('/a/1')!.value).startsWith('-2.5e3'), true);
  assert.equal(text[places.get('/__proto__')!.key], '"');
});

test('a text that is not JSON is refused where it goes wrong', () => {
  const at = (text: string) => {
    try {
      parseJson(text);
    } catch (e) {
      assert.ok(e instanceof JsonError);
      return e.offset;
    }
    return -1;
  };
  assert.equal(at(''), 0);
  assert.equal(at('{"a":1,}'), 7);
  assert.equal(at('{"a":1 "b":2}'), 7);
  assert.equal(at('[1,]'), 3);
  assert.equal(at('// x\n{}'), 0);
  assert.equal(at('{"a":01}'), 6);
  assert.equal(at('"abc'), 0);
  assert.equal(at('"a\\qc"'), 3);
  assert.equal(at('{} {}'), 3);
  assert.equal(at('{"a":1,"a":2}'), 7);
  assert.equal(at('['.repeat(10000)) > 0, true);
  assert.deepEqual(lineColumn('ab\ncd\n', 4), { line: 2, column: 2 });
});

test('a good configuration is taken as it is', () => {
  const config = parseConfig(
    '{"$schema":"./config.schema.json","name":"a","cards":[{"port":"udp:127.0.0.1:9899","addresses":["127.0.0.1/8"]}],"kexts":["SCTP"]}',
    'a.json',
  );
  assert.deepEqual(config, {
    name: 'a',
    cards: [{ port: 'udp:127.0.0.1:9899', addresses: ['127.0.0.1/8'] }],
    kexts: ['SCTP'],
  });
});

test('a bad configuration: file, line, column, what is wrong, what is allowed', () => {
  assert.match(
    refusal('{\n  "cards": [\n    { "prot": "wire:a" }\n  ]\n}'),
    /^a\.json:3:5: property "port" is missing; required here: port \(and 1 more\)$/,
  );
  assert.match(
    refusal('{\n  "cards": [{"port": "wire:a", "mut": 1500}]\n}'),
    /^a\.json:2:32: unknown property "mut" \(did you mean "mtu"\?\); allowed here: name, port/,
  );
  assert.match(
    refusal('{"cards": [{"port": "wire:a", "mtu": "big"}]}'),
    /^a\.json:1:38: "mtu" is a string; it must be an integer from 576 to 65535$/,
  );
  assert.match(
    refusal('{"cards": [{"port": "wire:a", "mtu": 70000}]}'),
    /^a\.json:1:38: "mtu" is 70000; allowed: 576 to 65535$/,
  );
  assert.match(refusal('{"cards": []}'), /^a\.json:1:11: "cards" has 0 entries; allowed: 1 to 16$/);
  assert.match(
    refusal('{"name":"../x","cards":[{"port":"wire:a"}]}'),
    /^a\.json:1:9: "name" is "\.\.\/x", which must match pattern .*allowed: .*letters.*for example "a"$/,
  );
  assert.match(refusal('[]'), /^a\.json:1:1: the configuration is an array; it must be an object$/);
  assert.match(refusal('{\n"cards": [{"port": "wire:a"},]}'), /^a\.json:2:30: a comma may not stand before "\]"$/);
  assert.match(
    refusal('{"cards":[{"port":"wire:a"}],"kexts":["SCTP","SCTP"]}'),
    /^a\.json:1:46: this entry of "kexts" is there twice$/,
  );
});

test('what the schema cannot say is said with its place too', () => {
  const card = '{"cards":[{"port":"wire:a","addresses":["10.0.0.1/24"]}';
  assert.match(refusal(`${card},{"name":"nke0","port":"wire:b"}]}`), /^a\.json:1:65: card "nke0" is there twice/);
  assert.match(
    refusal('{"cards":[{"port":"wire:a","addresses":["10.0.0.1/33"]}]}'),
    /^a\.json:1:41: "10\.0\.0\.1\/33" is not an address; allowed: ADDRESS\/PREFIX/,
  );
  assert.match(refusal('{"cards":[{"port":"ftp:a"}]}'), /^a\.json:1:19: .*ftp/);
  assert.match(
    refusal('{"cards":[{"port":"udp:127.0.0.1:1"},{"port":"udp:127.0.0.2:2"}]}'),
    /^a\.json:1:10: udp cards .* share one UDP port/,
  );
  assert.match(
    refusal(`${card}],"routes":[{"destination":"0.0.0.0/0","card":"nke7"}]}`),
    /there is no card "nke7"; the cards are nke0$/,
  );
  assert.match(
    refusal(`${card}],"routes":[{"destination":"0.0.0.0/0","gateway":"::1","card":"nke0"}]}`),
    /"::1" is not a gateway/,
  );
});

test('the preference list of extensions is checked, line by line, before anything is loaded', t => {
  const f = new BundleFolder(t);
  f.write('A', {}, { parameters: { n: { type: 'integer', default: 1, min: 0, max: 9, meaning: 'x' } } });
  const file = join(f.dir, 'a.json');
  const read = (kexts: string, more = '') =>
    parseConfig(`{"cards":[{"port":"wire:a"}],${more}\n"kexts":[\n${kexts}\n]}`, file, true);
  const wrong = (kexts: string, words: RegExp, more?: string) =>
    assert.throws(
      () => read(kexts, more),
      (e: unknown) => {
        assert.match((e as Error).message.replace(file, 'a.json'), words);
        return true;
      },
    );
  assert.deepEqual(read('"SCTP",\n{"bundle":"A.kext","on":["nke0"],"params":{"n":2}}').kexts, [
    'SCTP',
    { bundle: join(f.dir, 'A.kext'), on: ['nke0'], params: { n: 2 } },
  ]);
  wrong('"SCTP",\n"TCP"', /^a\.json:4:1: there is no extension "TCP"; there is SCTP/);
  wrong('{"bundle":"B.kext"}', /^a\.json:3:11: there is no bundle/);
  wrong('"SCTP",\n{"bundle":"A.kext",\n"params":{"n":10}}', /^a\.json:5:15: parameter "n" is 10; .*0 to 9/);
  wrong('{"bundle":"A.kext","params":{"m":1}}', /^a\.json:3:34: there is no parameter "m"; it has n/);
  wrong('{"bundle":"A.kext","on":["lo0","nke1"]}', /^a\.json:3:32: there is no interface "nke1"; there are lo0, nke0/);
  wrong('{"name":"SCTP","bundle":"A.kext"}', /^a\.json:3:1: an extension needs one of "name" and "bundle"/);
  wrong('{}', /^a\.json:3:1: .*fewer than 1|must NOT have fewer/);
  wrong('7', /^a\.json:3:1: .* is a number; it must be a string or an object/);
  wrong('{"bundle":"A.kext","prams":{}}', /unknown property "prams" \(did you mean "params"\?\)/);
  wrong('"SCTP"', /^a\.json:1:43: "nke-ed25519 AA" is not a public key/, '"kextTrust":["nke-ed25519 AA"],');
  assert.throws(
    () => parseConfig('{"cards":[{"port":"wire:a"}],"kexts":["./A.kext"]}', file),
    /a\.json:1:39: A\.kext is refused: it is not signed/,
  );
});

test('a file that cannot be read is one line', () => {
  assert.throws(
    () => readConfig('/nonexistent/x.json'),
    /^CliError: cannot read \/nonexistent\/x\.json: ENOENT.*--config/,
  );
  assert.throws(() => readConfig('/'), /this is a directory/);
});

test('flags are checked by the same rules', () => {
  assert.throws(() => checkConfig({ cards: [{ port: 'nonsense' }] }), /^CliError: options: .*nonsense/);
  assert.throws(() => checkConfig({ cards: [] }), /cards/);
});
