import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { type FetchPlace, fetchModel } from '../../../src/hub/hf/fetch-model.ts';
import { Hosts } from '../../../src/hub/hf/hosts.ts';
import { COMMIT, cutAfter, ModelSource, statusWith } from '../../support/model-source.ts';
import { safetensorsFile, tensorsFor } from '../../support/safetensors-file.ts';
import { PICO } from '../../support/test-hub.ts';

const NEEDS = { maxModelLen: null, skipTokenizerInit: false, chatTemplate: null, generationConfig: 'auto' } as const;
const MIB = 1024 * 1024;

const pico = async (name: string) => readFile(path.join(PICO, name));
const weights = await pico('model.safetensors');
const small = {
  'config.json': await pico('config.json'),
  'generation_config.json': await pico('generation_config.json'),
  'tokenizer.json': await pico('tokenizer.json'),
  'tokenizer_config.json': await pico('tokenizer_config.json'),
  'README.md': Buffer.from('not for nodes'),
};
const spec = modelSpec(JSON.parse(small['config.json'].toString()));
const headerBytes = 8 + Number(weights.readBigUInt64LE(0));

let downloadDir: string;
let source: ModelSource;
let lines: string[];
let pauses: number[];
beforeEach(async () => {
  downloadDir = await mkdtemp(path.join(tmpdir(), 'quire-fetch-'));
  source = await ModelSource.start({ ...small, 'model.safetensors': weights });
  lines = [];
  pauses = [];
});
afterEach(async () => {
  source.close();
  await rm(downloadDir, { recursive: true });
});

interface Choices extends Partial<FetchPlace> {
  readonly revision?: string;
  readonly allowed?: readonly string[];
  readonly needs?: Parameters<typeof fetchModel>[2];
}

function fetchTiny({ revision = 'main', allowed = [source.cdnHost], needs = NEEDS, ...place }: Choices = {}) {
  return fetchModel(
    { id: 'org/tiny', revision },
    {
      hosts: new Hosts(source.endpoint, allowed),
      token: null,
      downloadDir,
      say: (line) => lines.push(line),
      sleep: async (ms) => void pauses.push(ms),
      ...place,
    },
    needs,
  );
}

async function refusal(choices?: Choices): Promise<string> {
  const error = await fetchTiny(choices).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ name: 'HubStartError' });
  const { message } = error as Error;
  expect(message).not.toContain('\n');
  return message;
}

/** Bytes of weights that were given, headers included. */
const weightBytes = (): number => source.asks('safetensors').reduce((sum, { bytes }) => sum + bytes, 0);

const folderOf = (): string => path.join(downloadDir, source.endpoint.slice(7).replace(':', '_'), 'org/tiny', COMMIT);

describe('a model by name', () => {
  test('comes once, with the files that pages need, and is a folder from then on', async () => {
    const { folder, hashes } = await fetchTiny();
    expect(folder).toBe(folderOf());
    expect((await readdir(folder)).sort()).toEqual([
      '.quire.json',
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect((await readFile(path.join(folder, 'model.safetensors'))).equals(weights)).toBe(true);
    expect(hashes.get('model.safetensors')).toBe(createHash('sha256').update(weights).digest('hex'));
    expect(weightBytes()).toBe(headerBytes + weights.length);
    expect(lines[0]).toMatch(/^org\/tiny: there is no such folder, so 127\.0\.0\.1:\d+ is asked$/);
    expect(lines[1]).toMatch(/^org\/tiny: 11\.5 MB of weights, commit c0ffee0+, into \//);
    expect(lines.at(-1)).toMatch(/^org\/tiny: all 11\.5 MB are here and checked, after \d+\.\d s$/);

    source.asked.length = 0;
    expect(await fetchTiny()).toEqual({ folder, hashes });
    expect(source.asked.map(({ path }) => path)).toEqual(['/api/models/org/tiny/revision/main']);
    expect(lines.at(-1)).toBe(`org/tiny: commit ${COMMIT} is here already, in ${folder}`);
  });

  test('that is here, by its commit, needs no network', async () => {
    const first = await fetchTiny({ revision: COMMIT });
    source.asked.length = 0;
    expect(await fetchTiny({ revision: COMMIT })).toEqual(first);
    expect(source.asked).toEqual([]);
  });

  test('in shards: the index is read, other weight files are left where they are', async () => {
    const tensors = Object.entries(tensorsFor(spec, 'BF16'));
    const shards = {
      'a.safetensors': Buffer.from(safetensorsFile(Object.fromEntries(tensors.slice(0, 9)))),
      'b.safetensors': Buffer.from(safetensorsFile(Object.fromEntries(tensors.slice(9)))),
    };
    const weight_map = Object.fromEntries(
      tensors.map(([name], i) => [name, i < 9 ? 'a.safetensors' : 'b.safetensors']),
    );
    source.files.delete('model.safetensors');
    for (const [name, bytes] of Object.entries(shards)) source.files.set(name, bytes);
    source.files.set('model.safetensors.index.json', Buffer.from(JSON.stringify({ weight_map })));
    source.files.set('consolidated.safetensors', weights);
    const { folder } = await fetchTiny();
    for (const [name, bytes] of Object.entries(shards))
      expect((await readFile(path.join(folder, name))).equals(bytes)).toBe(true);
    expect(source.asks('consolidated')).toEqual([]);
  });

  test('tells bytes, rate and time left while it comes', async () => {
    let at = 0;
    await fetchTiny({ now: () => (at += 1000) });
    const told = lines.filter((line) => line.includes('left'));
    expect(told[0]).toMatch(/^org\/tiny: [\d.]+ [kM]B of 11\.5 MB \(\d+ %\), [\d.]+ [kM]B\/s, \d+ (s|min) left$/);
  });
});

describe('a broken download', () => {
  test('goes on where it broke, in the same start', async () => {
    const cut = cutAfter(weights, 3 * MIB);
    source.instead.push({ path: '/model.safetensors', answer: statusWith(503) });
    await fetchTiny();
    expect(pauses).toHaveLength(1);
    await rm(folderOf(), { recursive: true });
    source.asked.length = 0;
    const cdn = source.cdnHost;
    // The header's two requests come first, each over the hub to the CDN.
    const headerAsks = 2;
    let seen = 0;
    const watch = { path: '/model.safetensors', answer: cut };
    const push = source.asked.push.bind(source.asked);
    source.asked.push = (asked) => {
      if (asked.server === 'cdn' && ++seen === headerAsks + 1) source.instead.push(watch);
      return push(asked);
    };
    await fetchTiny({ allowed: [cdn] });
    const body = source.asks('signed').slice(headerAsks);
    expect(body).toHaveLength(2);
    expect(body[0]?.range).toBeUndefined();
    const resumedAt = Number(/^bytes=(\d+)-$/.exec(body[1]?.range ?? '')?.[1]);
    expect(resumedAt).toBeGreaterThan(0);
    expect(resumedAt).toBeLessThanOrEqual(3 * MIB);
    expect(body[1]?.bytes).toBe(weights.length - resumedAt);
    expect(lines.some((line) => /^model\.safetensors: .*; try 1 of 5 in /.test(line))).toBe(true);
  });

  test('goes on behind what an earlier start left', async () => {
    await fetchTiny();
    const part = path.join(folderOf(), 'model.safetensors');
    await rm(path.join(folderOf(), '.quire.json'));
    await rm(part);
    await writeFile(`${part}.part`, weights.subarray(0, 5 * MIB));
    source.asked.length = 0;
    const { folder } = await fetchTiny();
    expect((await readFile(path.join(folder, 'model.safetensors'))).equals(weights)).toBe(true);
    expect(weightBytes()).toBe(headerBytes + weights.length - 5 * MIB);
    expect(source.asks('signed').at(-1)?.range).toBe(`bytes=${5 * MIB}-`);
    expect(lines.some((line) => line.includes('5.2 MB of it here already'))).toBe(true);
  });

  test('of a server without ranges is read from the start, and kept from where it was', async () => {
    await fetchTiny();
    const target = path.join(folderOf(), 'model.safetensors');
    await rm(path.join(folderOf(), '.quire.json'));
    await rm(target);
    await writeFile(`${target}.part`, weights.subarray(0, 5 * MIB));
    let asks = 0;
    const push = source.asked.push.bind(source.asked);
    source.asked.push = (asked) => {
      if (asked.server === 'cdn' && ++asks === 3)
        source.instead.push({ path: '/model.safetensors', answer: (_, response) => void response.end(weights) });
      return push(asked);
    };
    const { folder } = await fetchTiny();
    expect((await readFile(path.join(folder, 'model.safetensors'))).equals(weights)).toBe(true);
  });

  test.each([429, 503])('answered with %i and Retry-After waits so long', async (status) => {
    source.instead.push({ path: '/revision/main', answer: statusWith(status, { 'retry-after': '7' }) });
    await fetchTiny();
    expect(pauses).toEqual([7000]);
  });

  test('that shall wait for an hour ends the start, and says so', async () => {
    source.instead.push({ path: '/revision/main', answer: statusWith(429, { 'retry-after': '3600' }) });
    expect(await refusal()).toMatch(/answered 429, and the server asks to come back in 3600 s/);
    expect(pauses).toEqual([]);
  });

  test('that never comes ends after five more tries, each later than the one before', async () => {
    for (let i = 0; i < 6; i++) source.instead.push({ path: '/revision/main', answer: statusWith(500) });
    expect(await refusal()).toMatch(/failed 6 times in a row, last: .* answered 500/);
    expect(source.asked).toHaveLength(6);
    expect(pauses).toHaveLength(5);
    pauses.forEach((ms, i) => {
      expect(ms).toBeGreaterThanOrEqual(500 * 2 ** i);
      expect(ms).toBeLessThanOrEqual(1000 * 2 ** i);
    });
  });

  test('that stalls is broken off', async () => {
    source.instead.push({ path: '/revision/main', answer: () => {} });
    await fetchTiny({ stallMs: 100 });
    expect(lines[1]).toContain('nothing came for 100 ms');
  });
});

describe('what cannot be served is refused before a byte of weights is asked for', () => {
  const config = (change: object) =>
    Buffer.from(JSON.stringify({ ...JSON.parse(small['config.json'].toString()), ...change }));

  test.each([
    ['an architecture', { model_type: 'mamba' }, /config\.json: model_type "mamba" is not supported/],
    ['a field', { mlp_bias: true }, /config\.json: mlp_bias = true is not supported/],
    ['a quantization', { quantization_config: { quant_method: 'awq' } }, /quantization_config = .*awq.* quantized/],
  ])('%s, by name', async (_, change, message) => {
    source.files.set('config.json', config(change));
    expect(await refusal()).toMatch(message);
    expect(source.asks('safetensors')).toEqual([]);
  });

  test('a dtype, from the header alone', async () => {
    const header = Buffer.from(
      JSON.stringify({ 'model.embed_tokens.weight': { dtype: 'F8_E4M3', shape: [4], data_offsets: [0, 4] } }),
    );
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(header.length));
    source.files.set('model.safetensors', Buffer.concat([prefix, header, Buffer.alloc(4)]));
    expect(await refusal()).toMatch(/tensor model\.embed_tokens\.weight: dtype F8_E4M3 is not supported/);
    expect(weightBytes()).toBe(8 + header.length);
    expect(source.asks('signed').map(({ range }) => range)).toEqual(['bytes=0-7', `bytes=8-${7 + header.length}`]);
  });

  test('a tensor of another shape', async () => {
    source.files.set('config.json', config({ intermediate_size: 64 }));
    expect(await refusal()).toMatch(/tensor model\.layers\.\d+\.mlp\.\w+\.weight: has shape/);
    expect(weightBytes()).toBe(headerBytes);
  });

  test.each([
    ['config.json', /no config\.json/],
    ['tokenizer.json', /no tokenizer\.json.*--skip-tokenizer-init/],
    ['model.safetensors', /neither model\.safetensors nor/],
  ])('a model without %s', async (name, message) => {
    source.files.delete(name);
    expect(await refusal()).toMatch(message);
    expect(weightBytes()).toBe(0);
  });

  test('but not one without a tokenizer, where ids alone are served', async () => {
    source.files.delete('tokenizer.json');
    await fetchTiny({ needs: { ...NEEDS, skipTokenizerInit: true } });
  });

  test('a disk that is too full, in numbers', async () => {
    expect(await refusal({ freeBytes: async () => 1_000_000 })).toMatch(
      /11\.5 MB of weights are still to come into .*, and its disk has 1\.0 MB free.*--download-dir/,
    );
    expect(weightBytes()).toBe(headerBytes);
  });

  test('a context longer than the model has', async () => {
    expect(await refusal({ needs: { ...NEEDS, maxModelLen: 4096 } })).toMatch(/--max-model-len 4096 is more than/);
    expect(source.asks('safetensors')).toEqual([]);
  });

  test('a model or a revision that is not there', async () => {
    expect(await refusal({ revision: 'nowhere' })).toMatch(/answered 404: there is no such model, revision or file/);
  });
});

describe('hashes', () => {
  test('weights with other bytes than the source lists are removed', async () => {
    source.claimed.set('model.safetensors', 'f'.repeat(64));
    expect(await refusal()).toMatch(
      /model\.safetensors has other bytes than its source lists \(sha256 .*listed f{64}\)/,
    );
    expect(await readdir(folderOf())).not.toContain('model.safetensors');
    expect(await readdir(folderOf())).not.toContain('model.safetensors.part');
    source.claimed.clear();
    await fetchTiny();
  });

  test('a small file is compared as the git blob that it is', async () => {
    const other = Buffer.from(small['config.json']);
    other[other.length - 3] = 32;
    source.instead.push({
      path: '/resolve/'.concat(COMMIT, '/config.json'),
      answer: (_, response) => void response.end(other),
    });
    expect(await refusal()).toMatch(/config\.json has other bytes than its source lists \(git /);
    expect(source.asks('safetensors')).toEqual([]);
  });

  test('a file that is longer than listed is cut off', async () => {
    source.instead.push({
      path: '/config.json',
      answer: (_, response) => void response.end(Buffer.concat([small['config.json'], Buffer.alloc(MIB)])),
    });
    expect(await refusal()).toMatch(/config\.json has more than the 669 bytes/);
  });
});

describe('hosts', () => {
  test('the token goes to the endpoint and nowhere else', async () => {
    source.token = 'hf_secret';
    expect(await refusal()).toMatch(/answered 401\. .*set HF_TOKEN/);
    source.asked.length = 0;
    await fetchTiny({ token: 'hf_secret' });
    for (const { server, token } of source.asked) expect(token).toBe(server === 'hub' ? 'Bearer hf_secret' : undefined);
    expect(source.asked.filter(({ server }) => server === 'cdn').length).toBeGreaterThan(0);
    expect(lines.join()).not.toContain('secret');
  });

  test('a host that nobody named is not asked', async () => {
    expect(await refusal({ allowed: [] })).toMatch(
      new RegExp(`sends on to http://${source.cdnHost}, which nobody allowed.*--hf-allowed-hosts ${source.cdnHost}`),
    );
    expect(source.asked.filter(({ server }) => server === 'cdn')).toEqual([]);
  });

  test.each(['http://169.254.169.254', 'http://[::1]:1', 'http://10.0.0.1', 'file:///etc/passwd', 'ftp://127.0.0.1'])(
    'nor %s',
    async (sendOn) => {
      source.sendOn = sendOn;
      expect(await refusal()).toMatch(/sends on to .*(nobody allowed|only https)/);
    },
  );

  test('a name within an allowed domain that turns out to be of this machine is not asked', async () => {
    const port = source.cdnHost.split(':')[1];
    source.sendOn = `http://files.example.test:${port}`;
    const hosts = new Hosts(source.endpoint, [`*.example.test:${port}`], (_, __, done) =>
      done(null, [{ address: '127.0.0.1', family: 4 }]),
    );
    expect(await refusal({ hosts })).toMatch(/files\.example\.test:\d+ has the address 127\.0\.0\.1, which is of this/);
    expect(source.asked.filter(({ server }) => server === 'cdn')).toEqual([]);
    const named = new Hosts(source.endpoint, [`files.example.test:${port}`], (_, __, done) =>
      done(null, [{ address: '127.0.0.1', family: 4 }]),
    );
    await fetchTiny({ hosts: named });
  });

  test('endless sending on ends', async () => {
    for (let i = 0; i < 20; i++)
      source.instead.push({
        path: '/revision/main',
        answer: statusWith(302, { location: '/api/models/org/tiny/revision/main' }),
      });
    expect(await refusal()).toMatch(/sends on more than 5 times/);
  });
});

test('another hub that fetches the same model is not disturbed', async () => {
  await fetchTiny();
  await rm(path.join(folderOf(), '.quire.json'));
  await writeFile(path.join(folderOf(), '.lock'), String(process.ppid));
  expect(await refusal()).toMatch(new RegExp(`Another hub \\(process ${process.ppid}\\) is fetching`));
  // One that died left its lock.
  await writeFile(path.join(folderOf(), '.lock'), '2147483646');
  await fetchTiny();
  expect(await stat(path.join(folderOf(), '.lock')).catch(() => null)).toBeNull();
});
