import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dataParallel } from '../../../src/config/data-parallel.ts';
import { transportsOf } from '../../../src/config/kv-transfer.ts';
import { nearest } from '../../../src/config/nearest.ts';
import { OptionError } from '../../../src/config/option.ts';
import { offeredOptions, pageOptions, parseArgs } from '../../../src/config/options.ts';
import { OPTIONS } from '../../../src/config/table.ts';

const parse = (line: string, env: Record<string, string> = {}) =>
  parseArgs(line === '' ? [] : line.split(' '), env).options;
const page = (query: string, offered: Record<string, string> = {}) => pageOptions(new URLSearchParams(query), offered);

describe('command line', () => {
  test('without flags all is default', () => {
    const options = parse('');
    expect(options['http-port']).toBe(8080);
    expect(options.nodes).toEqual([null]);
    expect(options['max-model-len']).toBeNull();
    expect(options).not.toHaveProperty('allow-software-adapter');
  });

  test('values, switches and both spellings', () => {
    const options = parse(
      '--block-size=32 --max-num-seqs 4 --enforce-eager --no-enable-prefix-caching --http-host 0.0.0.0',
    );
    expect(options['block-size']).toBe(32);
    expect(options['max-num-seqs']).toBe(4);
    expect(options['enforce-eager']).toBe(true);
    expect(options['enable-prefix-caching']).toBe(false);
    expect(options['http-host']).toBe('0.0.0.0');
  });

  test('an alias sets the option it stands for', () => {
    expect(parse('--prefix-caching-algo sha256')['prefix-caching-hash-algo']).toBe('sha256');
  });

  test("Dynamo's names and variables of the chat template and the parsers", () => {
    expect(parse('--custom-jinja-template a.jinja')['chat-template']).toBe('a.jinja');
    expect(parse('', { DYN_CUSTOM_JINJA_TEMPLATE: 'b.jinja' })['chat-template']).toBe('b.jinja');
    expect(parse('', { DYN_TOOL_CALL_PARSER: 'hermes' })['tool-call-parser']).toBe('hermes');
    expect(parse('--dyn-reasoning-parser granite')['reasoning-parser']).toBe('granite');
    expect(parse('--tool-call-parser none')).toMatchObject({ 'tool-call-parser': 'none', 'reasoning-parser': 'auto' });
    expect(() => parse('--tool-call-parser hermes2')).toThrow('expected one of auto, none, hermes,');
  });

  test('--headless takes what nodes read, and what starts them', () => {
    const line =
      '--headless --hub-url http://h:8080/#join=t --nodes 2 --chromium /c --yes --max-num-seqs 4 --join-token u';
    expect(parse(line)).toMatchObject({ headless: true, 'hub-url': 'http://h:8080/#join=t', 'max-num-seqs': 4 });
    const { notices } = parseArgs(line.split(' '), { DYN_HTTP_PORT: '1', QUIRE_NODES: '3', QUIRE_API_KEY: 'secret' });
    expect(notices.map((notice) => notice.split(' ')[0])).toEqual(['DYN_HTTP_PORT', 'QUIRE_API_KEY']);
    expect(notices.join()).not.toContain('secret');
  });

  test('a port of its own for health or metrics; -1 is none, as in DYN_SYSTEM_PORT=-1', () => {
    expect(parse('--metrics-endpoint-port 9090 --system-port 0')).toMatchObject({
      'metrics-endpoint-port': 9090,
      'system-port': 0,
    });
    expect(parse('', { DYN_SYSTEM_PORT: '-1' })['system-port']).toBeNull();
    expect(parse('', { DYN_SYSTEM_PORT: '9091' })['system-port']).toBe(9091);
    expect(parse('--http-port 0 --system-port 0 --metrics-endpoint-port 0')['http-port']).toBe(0);
  });

  test('repeatable options take all values, others the last', () => {
    expect(parse('--api-key a --api-key b,c')['api-key']).toEqual(['a', 'b', 'c']);
    expect(parse('--nodes 1 --nodes 2').nodes).toEqual([null, null]);
    expect(parse('--model a --model b --served-model-name c --served-model-name d')).toMatchObject({
      model: ['a', 'b'],
      'served-model-name': ['c', 'd'],
    });
  });

  test('a value may hold an equals sign', () => {
    expect(parse('--join-token=a=b')['join-token']).toBe('a=b');
  });
});

describe('precedence: flag or query > environment > offer of the hub > default', () => {
  test('flag over environment over default', () => {
    const env = { DYN_HTTP_PORT: '9000' };
    expect(parse('', env)['http-port']).toBe(9000);
    expect(parse('--http-port 9001', env)['http-port']).toBe(9001);
  });

  test('a flag wins over a variable that would be refused', () => {
    expect(parse('--discovery-backend websocket', { DYN_DISCOVERY_BACKEND: 'etcd' })['discovery-backend']).toBe(
      'websocket',
    );
  });

  test('the router: kv by default, its knobs as Dynamo names them', () => {
    expect(parse('', {})).toMatchObject({ 'router-mode': 'kv', 'router-temperature': 0 });
    const env = { DYN_ROUTER_MODE: 'direct', DYN_ROUTER_TEMPERATURE: '0.5', DYN_ROUTER_PREFILL_LOAD_SCALE: '2' };
    expect(parse('--router-kv-overlap-score-credit 0.25', env)).toMatchObject({
      'router-mode': 'direct',
      'router-temperature': 0.5,
      'router-prefill-load-scale': 2,
      'router-kv-overlap-score-credit': 0.25,
    });
  });

  test('an empty variable is not set', () => {
    expect(parse('', { DYN_HTTP_PORT: '' })['http-port']).toBe(8080);
  });

  test('query over offer over default', () => {
    expect(page('')['max-num-seqs']).toBe(32);
    expect(page('', { 'max-num-seqs': '8' })['max-num-seqs']).toBe(8);
    expect(page('max-num-seqs=2', { 'max-num-seqs': '8' })['max-num-seqs']).toBe(2);
  });

  test('what was set on the hub comes out of a page as it went in, whatever the flags', () => {
    const some = fc.record(
      {
        'block-size': fc.constantFrom('8', '16', '32', '64'),
        'max-num-seqs': fc.integer({ min: 1, max: 4096 }).map(String),
        'kv-cache-dtype': fc.constantFrom('auto', 'f32', 'bf16', 'f16', 'int8'),
        'gpu-memory-utilization': fc.constantFrom('0.5', '.25', '1', '6.5'),
        'enforce-eager': fc.constantFrom('true', 'false'),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(some, (set) => {
        const parsed = parseArgs(
          Object.entries(set).map(([name, value]) => `--${name}=${value}`),
          {},
        );
        const offered = offeredOptions(parsed.given);
        expect(Object.keys(offered).sort()).toEqual(Object.keys(set).sort());
        const there = pageOptions(new URLSearchParams(), offered);
        for (const name of Object.keys(set) as (keyof typeof set)[]) expect(there[name]).toBe(parsed.options[name]);
      }),
    );
  });

  test('the hub offers nothing of its own: no keys, no addresses', () => {
    const { given } = parseArgs(
      ['--api-key', 'k', '--http-port', '1', '--join-token', 't', '--no-enable-prefix-caching'],
      {},
    );
    expect(offeredOptions(given)).toEqual({ 'enable-prefix-caching': 'false' });
  });
});

describe('what cannot be obeyed is refused in one line', () => {
  const refusals: readonly [line: string, part: string][] = [
    ['--max-num-seq 3', 'nearest is --max-num-seqs'],
    ['--no-enforce-eagre', 'nearest is --no-enforce-eager'],
    ['--no-http-port', 'no such option'],
    ['serve', '"serve"'],
    ['-p', '"-p"'],
    ['--http-port', 'expected a value'],
    ['--http-port --yes', 'expected a value'],
    ['--http-port 65536', 'whole number from 0 to 65535, got "65536"'],
    ['--http-port 1e3', 'got "1e3"'],
    ['--block-size 17', 'one of 8, 16, 32, 64'],
    ['--gpu-memory-utilization 65', 'number from 0.01 to 64'],
    ['--enforce-eager=maybe', 'true or false'],
    ['--no-enforce-eager=true', 'takes no value'],
    ['--endpoint-types chat,images', 'chat, completions, embeddings'],
    ['--kv-events-config {', 'expected JSON'],
    ['--kv-events-config {"publisher":"kafka"}', 'publisher'],
    ['--kv-events-config {"endpoint":"tcp://*:5557"}', 'endpoint: only the publisher "zmq" has it'],
    ['--kv-events-config {"publisher":"zmq","endpoint":"localhost:5557"}', 'expected an endpoint such as tcp://*:5557'],
    ['--kv-events-config {"publisher":"zmq","bufer_steps":5}', 'bufer_steps'],
    ['--kv-events-config {"publisher":"zmq","buffer_steps":0}', 'buffer_steps'],
    ['--tls-cert-path a', '--tls-key-path'],
    ['--tls self-signed --tls-cert-path a --tls-key-path b', 'not both'],
    ['--allow-software-adapter', 'Open the page with ?allow-software-adapter'],
    ['--allowed-origins evil', 'expected an origin as browsers write it'],
    ['--allowed-origins https://ok.example,https://ok.example/path', '"https://ok.example/path"'],
    ['--allowed-hosts http://ok.example', 'expected a host name or address'],
    ['--namespace a/b', 'expected letters, digits'],
    ['--system-port -2', 'a port from 0 to 65535, or -1 for none'],
    ['--system-port 8080', '--http-port has this port'],
    ['--system-port 9 --metrics-endpoint-port 9', '--system-port has this port'],
    ['--headless', 'name the hub that they join with --hub-url'],
    ['--hub-url http://hub.test', 'add --headless'],
    ['--hub-fingerprint AB', 'expected 32 bytes in hex'],
    ['--headless --hub-url hub.test', 'expected the address of a hub'],
    ['--headless --hub-url http://hub.test/path', 'expected the address of a hub'],
    ['--headless --hub-url http://hub.test --http-port 1', '--http-port 1: this is an option of the hub'],
    ['--headless --hub-url http://hub.test --model m', '--model m: this is an option of the hub'],
    ['--model a --model b --served-model-name c', 'one name for 2 models'],
    ['--served-model-name a --served-model-name b', '2 names for one model'],
    ['--model a --model b --chat-template c', 'chat_template.jinja'],
    ['--api-key ключ', 'expected visible ASCII characters'],
  ];
  test.each(refusals)('%s', (line, part) => {
    let message = '';
    try {
      parse(line);
    } catch (error) {
      expect(error).toBeInstanceOf(OptionError);
      message = (error as OptionError).message;
    }
    expect(message).toContain(part);
    expect(message).not.toContain('\n');
  });

  const notYet = ['--tensor-parallel-size 2', '--pipeline-parallel-size 2', '--enable-expert-parallel'];
  test.each(notYet)('%s is not there yet, and says so', (line) => {
    expect(() => parse(line)).toThrow(/: not yet: .+\. (What works|Leave it out)/);
  });

  test.each(['--disaggregation-mode agg', '--dtype auto', '--data-parallel-size 1', '--no-batch-invariant'])(
    '%s works, since it is what happens',
    (line) => {
      expect(() => parse(line)).not.toThrow();
    },
  );

  test('a rank outside its group is refused, on the command line and in the address of a page', () => {
    const why = 'a group of data-parallel-size 2 has the ranks 0 to 1';
    expect(() => parse('--data-parallel-size 2 --data-parallel-rank 2')).toThrow(why);
    expect(() => page('data-parallel-rank=2', { 'data-parallel-size': '2' })).toThrow(why);
    const pinned = page('data-parallel-rank=1', { 'data-parallel-size': '2' });
    expect(dataParallel(pinned)).toEqual({ first: 1, engines: 1 });
    expect(dataParallel(parse('--data-parallel-size 3'))).toEqual({ first: 0, engines: 3 });
  });

  test('a variable is named as such', () => {
    expect(() => parse('', { DYN_DISCOVERY_BACKEND: 'etcd' })).toThrow(/^DYN_DISCOVERY_BACKEND=etcd: this is how/);
    expect(() => parse('', { DYN_HTTP_PORT: 'http' })).toThrow(/^DYN_HTTP_PORT=http: expected a whole number/);
  });

  test('the token of other programs is taken, and no node is told of it', () => {
    const { options, given } = parseArgs([], { HF_TOKEN: 'secret', HF_ENDPOINT: 'http://127.0.0.1:9/hf' });
    expect(options).toMatchObject({ 'hf-token': 'secret', 'hf-endpoint': 'http://127.0.0.1:9/hf' });
    expect(offeredOptions(given)).toEqual({});
  });

  test.each(['--hf-endpoint ftp://x', '--hf-endpoint https://u:p@x', '--hf-allowed-hosts https://x'])(
    '%s is refused',
    (line) => {
      expect(() => parse(line)).toThrow(/: expected (the address of a server|a host)/);
    },
  );
});

describe('roles and KV transfer', () => {
  test.each([
    ['3', [null, null, null]],
    ['0', []],
    ['prefill=1,decode=2', ['prefill', 'decode', 'decode']],
    ['agg=1, decode=1', ['agg', 'decode']],
    ['prefill=0', []],
  ])('--nodes %s', (text, roles) => {
    expect(parseArgs(['--nodes', text], {}).options.nodes).toEqual(roles);
  });

  test.each([
    'x',
    '-1',
    '65',
    'prefill',
    'prefill=',
    'prefil=1',
    '1,decode=1',
    'decode=1,2',
    'prefill=40,decode=40',
    '',
  ])('refuses --nodes %s', (text) => expect(() => parseArgs([`--nodes=${text}`], {})).toThrow(OptionError));

  test('the transports are taken in the order given', () => {
    const of = (extra: object) => {
      const config = JSON.stringify({ kv_connector: 'QuireConnector', kv_connector_extra_config: extra });
      return transportsOf(parse(`--kv-transfer-config ${config}`)['kv-transfer-config']);
    };
    expect(of({ transports: ['webrtc', 'relay'] })).toEqual(['webrtc', 'relay']);
    expect(of({})).toEqual(['local', 'relay', 'webrtc']);
    expect(transportsOf(parse('')['kv-transfer-config'])).toEqual(['local', 'relay', 'webrtc']);
  });

  test.each([
    '{}',
    '{"kv_connector":"NixlConnector"}',
    '{"kv_connector":"QuireConnector","kv_role":"kv_none"}',
    '{"kv_connector":"QuireConnector","kv_rank":1}',
    '{"kv_connector":"QuireConnector","kv_connector_extra_config":{"transports":[]}}',
    '{"kv_connector":"QuireConnector","kv_connector_extra_config":{"transports":["relay","relay"]}}',
    '{"kv_connector":"QuireConnector","kv_connector_extra_config":{"transports":["tcp"]}}',
  ])('refuses --kv-transfer-config %s', (config) => {
    expect(() => parse(`--kv-transfer-config ${config}`)).toThrow(OptionError);
  });

  test('a role and what it may do must fit', () => {
    const producer = '{"kv_connector":"QuireConnector","kv_role":"kv_producer"}';
    expect(() => parse(`--kv-transfer-config ${producer}`)).toThrow(
      'is for nodes of disaggregation-mode prefill, not agg',
    );
    expect(() => parse(`--kv-transfer-config ${producer} --nodes prefill=1,decode=1`)).toThrow('not decode');
    expect(() => parse(`--kv-transfer-config ${producer} --nodes prefill=2`)).not.toThrow();
    expect(() => parse(`--kv-transfer-config ${producer} --disaggregation-mode prefill`)).not.toThrow();
    const query = (mode: string) =>
      page(`?${new URLSearchParams({ 'kv-transfer-config': producer, 'disaggregation-mode': mode })}`);
    expect(query('prefill')['disaggregation-mode']).toBe('prefill');
    expect(() => query('decode')).toThrow(OptionError);
  });

  test('the threshold and the timeout', () => {
    const options = parse('--kv-transfer-timeout 2.5 --remote-prefill-min-tokens 512');
    expect([options['kv-transfer-timeout'], options['remote-prefill-min-tokens']]).toEqual([2.5, 512]);
    const defaults = parse('');
    expect([defaults['kv-transfer-timeout'], defaults['remote-prefill-min-tokens']]).toEqual([5, null]);
  });
});

test('a step that cannot hold every running sequence and a prompt is refused, by flag and by query', () => {
  expect(() => parse('--max-num-batched-tokens 32')).toThrow('Raise it to 33, or lower max-num-seqs');
  expect(() => parse('--max-num-batched-tokens 32 --max-num-seqs 31')).not.toThrow();
  expect(() => page('?max-num-seqs=8&max-num-batched-tokens=8')).toThrow(OptionError);
});

describe('a page', () => {
  test('reads the same names', () => {
    const options = page('?enforce-eager&no-enable-prefix-caching&kv-cache-dtype=f32&headless&allow-software-adapter');
    expect(options['enforce-eager']).toBe(true);
    expect(options['enable-prefix-caching']).toBe(false);
    expect(options['kv-cache-dtype']).toBe('f32');
    expect(options.headless).toBe(true);
    expect(options['allow-software-adapter']).toBe(true);
  });

  test.each([
    ['http-port=1', 'Start the hub with --http-port'],
    ['enforce-eagre', 'nearest is ?enforce-eager'],
    ['block-size=x', '?block-size=x: expected'],
    [`${'x'.repeat(5000)}=1`, 'no such option'],
  ])('refuses ?%s', (query, part) => {
    expect(() => page(query)).toThrow(OptionError);
    expect(() => page(query)).toThrow(part);
  });

  test('ignores what a newer hub offers beyond its own table, and what only the hub reads', () => {
    expect(page('', { 'warp-drive': 'on', 'http-port': '1' })).toEqual(page(''));
  });

  test('says that a wrong value came from the hub', () => {
    expect(() => page('', { 'block-size': '17' })).toThrow('offered by the hub');
  });
});

test('no text at all makes reading throw anything but an OptionError', () => {
  const names = Object.keys(OPTIONS);
  const token = fc.oneof(
    fc.string(),
    fc.constantFrom(...names.map((name) => `--${name}`)),
    fc.constantFrom('=', '--', '--no-'),
  );
  fc.assert(
    fc.property(fc.array(token, { maxLength: 6 }), (argv) => {
      try {
        parseArgs(argv, {});
      } catch (error) {
        expect(error).toBeInstanceOf(OptionError);
      }
    }),
  );
});

test('nearest counts single-letter edits', () => {
  expect(nearest('kitten', ['sitting', 'kitchen', 'smitten'])).toBe('kitchen');
  expect(nearest('abc', ['xyz', 'abd'])).toBe('abd');
  expect(nearest('abc', [])).toBeUndefined();
});
