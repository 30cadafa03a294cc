import { readdir } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { Hosts } from '../../../src/hub/hf/hosts.ts';
import { readModelFolder } from '../../../src/hub/model-folder.ts';
import { COMMIT, statusWith } from '../../support/model-source.ts';
import { fetchTiny, folderOf, headerBytes, lines, NEEDS, refusal, small, source, weightBytes } from './fetching.ts';

const MIB = 1024 * 1024;

/** The tiny model, made for embeddings. */
function sentenceTransformer(pooling: object, modules = ['Transformer', 'Pooling', 'Normalize']): void {
  const list = modules.map((kind, idx) => ({
    idx,
    name: String(idx),
    path: kind === 'Transformer' ? '' : `${idx}_${kind}`,
    type: `sentence_transformers.models.${kind}`,
  }));
  source.files.set('modules.json', Buffer.from(JSON.stringify(list)));
  source.files.set('1_Pooling/config.json', Buffer.from(JSON.stringify(pooling)));
}

test('a model for embeddings comes with what its folder says of pooling', async () => {
  sentenceTransformer({ pooling_mode_cls_token: false, pooling_mode_mean_tokens: true });
  const { folder, hashes } = await fetchTiny();
  expect([...hashes.keys()]).toEqual(expect.arrayContaining(['modules.json', '1_Pooling/config.json']));
  const read = await readModelFolder({ folder, servedName: 'tiny', hashes }, NEEDS);
  expect(read.pooler).toEqual({ type: 'MEAN', normalize: true, matryoshka: null });
  expect(read.spec.pools).toBe(true);
  expect(read.files.map(({ path }) => path)).toContain('1_Pooling/config.json');
});

test('the same that is fetched for its text is there for embeddings later', async () => {
  sentenceTransformer({ pooling_mode_lasttoken: true });
  const generate = { ...NEEDS, pooler: { runner: 'generate', config: null } } as const;
  const { folder, hashes } = await fetchTiny({ needs: generate });
  const read = (needs: Parameters<typeof readModelFolder>[1]) =>
    readModelFolder({ folder, servedName: 'tiny', hashes }, needs);
  expect((await read(generate)).pooler).toBeNull();
  expect((await read(NEEDS)).pooler).toMatchObject({ type: 'LAST' });
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

  test.each([
    [
      'CLS',
      { pooling_mode_cls_token: true },
      /1_Pooling\/config\.json: pooling_mode_cls_token: is pooling that is not/,
    ],
    [
      'of two kinds',
      { pooling_mode_lasttoken: true, pooling_mode_max_tokens: true },
      /pooling_mode_max_tokens: is pool/,
    ],
  ])('pooling by %s', async (_, pooling, message) => {
    sentenceTransformer(pooling);
    expect(await refusal()).toMatch(message);
    expect(source.asks('safetensors')).toEqual([]);
  });

  test('a module that is not computed, and an encoder', async () => {
    sentenceTransformer({ pooling_mode_lasttoken: true }, ['Transformer', 'Pooling', 'Dense', 'Normalize']);
    expect(await refusal()).toMatch(/modules\.json: module sentence_transformers\.models\.Dense is not computed here/);
    sentenceTransformer({ pooling_mode_mean_tokens: true });
    source.files.set('config.json', config({ use_bidirectional_attention: true }));
    expect(await refusal()).toMatch(/use_bidirectional_attention = true is not supported/);
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

  test('a folder that cannot be made', async () => {
    expect(await refusal({ downloadDir: '/dev/null/models' })).toMatch(/cannot be made \(ENOTDIR\).*--download-dir/);
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
