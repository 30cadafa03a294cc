import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { splitGguf } from '../support/gguf-file.ts';
import { picoGguf, picoParts } from '../support/pico-gguf.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { PICO, startTestHub } from '../support/test-hub.ts';

let scratch: string;
let folder: string;
let hub: Hub | null = null;
beforeEach(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'quire-models-'));
  folder = path.join(scratch, 'tiny');
  await cp(PICO, folder, { recursive: true });
  await writeFile(path.join(scratch, 'secret.json'), '{"secret": true}');
  await writeFile(path.join(folder, 'notes.txt'), 'not for nodes');
  await writeFile(path.join(folder, '.env'), 'KEY=1');
});
afterEach(async () => {
  await hub?.close();
  hub = null;
  await rm(scratch, { recursive: true });
});

async function start(more: Parameters<typeof startTestHub>[0] = {}): Promise<Hub> {
  hub = await startTestHub({ models: [{ folder, servedName: null }], ...more });
  return hub;
}

/** A path as it is written, without the cleaning that `fetch` does. */
function rawGet(url: string, rawPath: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    get({ hostname, port, path: rawPath }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    }).on('error', reject);
  });
}

describe('model files', () => {
  it('a node gets every file of its offer, with the size and hash that were offered', async () => {
    const { url } = await start();
    const node = await ScriptedNode.greet(url);
    const { base, files } = node.welcome!.model;
    expect(files.map((file) => file.path)).toContain('model.safetensors');
    for (const file of files) {
      const response = await fetch(url + base + file.path);
      const bytes = new Uint8Array(await response.arrayBuffer());
      expect(bytes.byteLength).toBe(file.size);
      expect(createHash('sha256').update(bytes).digest('hex')).toBe(file.sha256);
      expect(response.headers.get('etag')).toBe(`"${file.sha256}"`);
      expect(response.headers.get('content-length')).toBe(String(file.size));
    }
  });

  it('a download goes on where it broke: ranges, and If-Range against a changed file', async () => {
    const { url } = await start();
    const weights = await readFile(path.join(folder, 'model.safetensors'));
    const address = `${url}/models/tiny/model.safetensors`;
    const rest = await fetch(address, { headers: { range: 'bytes=1000000-' } });
    expect(rest.status).toBe(206);
    expect(rest.headers.get('content-range')).toBe(`bytes 1000000-${weights.length - 1}/${weights.length}`);
    expect(Buffer.from(await rest.arrayBuffer()).equals(weights.subarray(1_000_000))).toBe(true);

    const etag = rest.headers.get('etag')!;
    const part = await fetch(address, { headers: { range: 'bytes=5-9', 'if-range': etag } });
    expect(part.status).toBe(206);
    expect(Buffer.from(await part.arrayBuffer()).equals(weights.subarray(5, 10))).toBe(true);
    const changed = await fetch(address, { headers: { range: 'bytes=5-9', 'if-range': '"older"' } });
    expect(changed.status).toBe(200);
    await changed.body?.cancel();

    const beyond = await fetch(address, { headers: { range: `bytes=${weights.length}-` } });
    expect(beyond.status).toBe(416);
    expect(beyond.headers.get('content-range')).toBe(`bytes */${weights.length}`);
    expect((await fetch(address, { headers: { 'if-none-match': etag } })).status).toBe(304);
    const head = await fetch(address, { method: 'HEAD' });
    expect(head.headers.get('content-length')).toBe(String(weights.length));
    expect((await head.arrayBuffer()).byteLength).toBe(0);
  });

  it.each([
    '/models/tiny/../../secret.json',
    '/models/tiny/..%2f..%2fsecret.json',
    '/models/tiny/%2e%2e/secret.json',
    '/models/tiny/..\\secret.json',
    '/models/../secret.json',
    '/models/tiny/./notes.txt',
    '/models/tiny/notes.txt',
    '/models/tiny/.env',
    '/models/tiny/',
    '/models/tiny',
    '/models/other/config.json',
    '/models/tiny/config.json%00',
    '/models/tiny/config.json/',
    '/models//tiny/config.json',
    '/models/tiny/../../../../../../etc/passwd',
    '//etc/passwd',
    '/..%2f..%2f..%2fetc/passwd',
  ])('%s is not served', async (rawPath) => {
    const { url } = await start({ staticDir: path.join(scratch, 'tiny') });
    const { status, body } = await rawGet(url, rawPath);
    // The scratch page folder holds notes and weights too; nothing outside it may come.
    expect([400, 404]).toContain(status);
    expect(body).not.toMatch(/"secret": true|root:x|KEY=/);
  });

  it('a link out of the folder stops the hub from starting; one that stays inside is a file', async () => {
    const link = path.join(folder, 'extra.safetensors');
    await symlink(path.join(folder, 'model.safetensors'), link);
    const { url } = await start();
    expect((await fetch(`${url}/models/tiny/extra.safetensors`, { method: 'HEAD' })).status).toBe(200);
    await hub?.close();
    hub = null;
    await rm(link);
    await symlink(path.join(scratch, 'secret.json'), link);
    await expect(start()).rejects.toThrow('extra.safetensors is a link to a place outside the folder');
  });

  it('a file that changed after the hub hashed it is served no more', async () => {
    const { url } = await start();
    const address = `${url}/models/tiny/tokenizer_config.json`;
    expect((await fetch(address)).status).toBe(200);
    await truncate(path.join(folder, 'tokenizer_config.json'), 5);
    expect((await fetch(address)).status).toBe(410);
    await rm(path.join(folder, 'tokenizer_config.json'));
    await symlink(path.join(scratch, 'secret.json'), path.join(folder, 'tokenizer_config.json'));
    const replaced = await fetch(address);
    expect(replaced.status).toBe(410);
    expect(await replaced.text()).not.toContain('secret');
  });

  it('with a join token, only who was let in knows where the files are', async () => {
    const { url } = await start({ joinToken: 'ticket' });
    expect((await fetch(`${url}/models/tiny/config.json`)).status).toBe(404);
    const node = await ScriptedNode.greet(url, { hello: { ticket: 'ticket' } });
    const { base } = node.welcome!.model;
    expect(base).toMatch(/^\/models\/[0-9a-f]{32}\/tiny\/$/);
    expect(base).not.toContain('ticket');
    expect((await fetch(`${url}${base}config.json`)).status).toBe(200);
  });

  it('a name with a slash works in the API and in paths', async () => {
    const { url } = await start({ models: [{ folder, servedName: 'org/tiny-1' }] });
    expect((await fetch(`${url}/models/org/tiny-1/config.json`)).status).toBe(200);
    const listed = (await (await fetch(`${url}/v1/models/org/tiny-1`)).json()) as { id: string };
    expect(listed.id).toBe('org/tiny-1');
  });
});

describe('folders that cannot be served end the start with one line', () => {
  it.each([
    [
      'a file in its place',
      async () => {
        await rm(folder, { recursive: true });
        await writeFile(folder, '');
      },
      /it is a file/,
    ],
    ['no folder', async () => rm(folder, { recursive: true }), /there is no such folder/],
    ['no config', async () => rm(path.join(folder, 'config.json')), /no config\.json/],
    ['no weights', async () => rm(path.join(folder, 'model.safetensors')), /no \*\.safetensors/],
    [
      'a config that is no JSON',
      async () => writeFile(path.join(folder, 'config.json'), '{'),
      /config\.json is not JSON/,
    ],
    [
      'another architecture',
      async () => writeFile(path.join(folder, 'config.json'), '{"model_type":"mamba"}'),
      /mamba.*Supported/,
    ],
    ['no tokenizer', async () => rm(path.join(folder, 'tokenizer.json')), /--skip-tokenizer-init/],
  ])('%s', async (_, damage, message) => {
    await damage();
    const error = await start().catch((e: unknown) => e);
    expect(error).toMatchObject({ name: 'HubStartError', message: expect.stringMatching(message) });
    expect((error as Error).message).not.toContain('\n');
  });

  it('a longer context than the model was made for', async () => {
    await expect(start({ maxModelLen: 2049 })).rejects.toThrow(/--max-model-len 2049 is more than the 2048/);
    await start({ maxModelLen: 2048 });
  });

  it('without a tokenizer ids are served with --skip-tokenizer-init', async () => {
    await rm(path.join(folder, 'tokenizer.json'));
    const { url } = await start({ skipTokenizerInit: true });
    await ScriptedNode.join(url);
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'tiny', prompt: [1, 2], max_tokens: 2, return_token_ids: true }),
    });
    const answer = (await response.json()) as { choices: { token_ids: number[] }[] };
    expect(answer.choices[0]?.token_ids).toHaveLength(2);
  });

  it('two models of one name', async () => {
    const models = [folder, PICO].map((each) => ({ folder: each, servedName: 'same' }));
    await expect(start({ models })).rejects.toThrow(/Two models are served as same/);
  });
});

describe('a GGUF file', () => {
  const writeGguf = (file: string) => writeFile(file, picoGguf('Q8_0'));

  it('is served, hashed and named as a model of its own', async () => {
    const file = path.join(scratch, 'pico-Q8_0.gguf');
    await writeGguf(file);
    const { url } = await start({ models: [{ folder: file, servedName: null }] });
    const { model } = (await ScriptedNode.greet(url)).welcome!;
    const bytes = await readFile(file);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    expect(model.name).toBe('pico-Q8_0');
    expect(model.files).toEqual([{ path: 'pico-Q8_0.gguf', size: bytes.length, sha256 }]);
    expect(model.fingerprint).toBe(createHash('sha256').update(`${sha256}  pico-Q8_0.gguf\n`).digest('hex'));
    const response = await fetch(url + model.base + model.files[0]!.path);
    expect(Buffer.from(await response.arrayBuffer()).equals(bytes)).toBe(true);
  });

  it('may lie alone in a folder, or be what a link leads to', async () => {
    const own = path.join(scratch, 'own');
    await mkdir(own);
    await writeGguf(path.join(own, 'x.gguf'));
    await symlink(path.join(own, 'x.gguf'), path.join(scratch, 'linked.gguf'));
    const { url } = await start({
      models: [
        { folder: own, servedName: null },
        { folder: path.join(scratch, 'linked.gguf'), servedName: null },
      ],
    });
    const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
    expect(models.data.map(({ id }) => id)).toEqual(['own', 'linked']);
  });

  it('in parts is one model: all of them are offered, whichever is named', async () => {
    const parts = splitGguf('pico-Q8_0', picoParts('Q8_0'), 9, 30);
    const names = Object.keys(parts);
    for (const own of ['own', 'linked']) await mkdir(path.join(scratch, own));
    for (const [name, bytes] of Object.entries(parts)) {
      await writeFile(path.join(scratch, 'own', name), bytes);
      await symlink(path.join(scratch, 'own', name), path.join(scratch, 'linked', name));
    }
    const models = ['own', `own/${names[1]}`, `linked/${names[0]}`];
    for (const [i, each] of models.entries()) {
      const { url } = await start({ models: [{ folder: path.join(scratch, each), servedName: null }] });
      const { model } = (await ScriptedNode.greet(url)).welcome!;
      expect(model.name).toBe(i === 0 ? 'own' : 'pico-Q8_0');
      expect(model.files.map((file) => file.path)).toEqual(names);
      for (const { path: name } of model.files) {
        const bytes = Buffer.from(await (await fetch(url + model.base + name)).arrayBuffer());
        expect(bytes.equals(parts[name]!)).toBe(true);
      }
    }
    await rm(path.join(scratch, 'own', names[2]!));
    await expect(start({ models: [{ folder: path.join(scratch, 'own'), servedName: null }] })).rejects.toThrow(
      /it lacks pico-Q8_0-00003-of-00003\.gguf\. A split model needs all of its parts/,
    );
  });

  it('among others of a folder is not chosen by chance; one of no model is refused in a line', async () => {
    const own = path.join(scratch, 'own');
    await mkdir(own);
    for (const name of ['a.gguf', 'b.gguf']) await writeFile(path.join(own, name), 'GGUF');
    await expect(start({ models: [{ folder: own, servedName: null }] })).rejects.toThrow(
      /has several GGUF files\. Name one: a\.gguf, b\.gguf\./,
    );
    await expect(start({ models: [{ folder: path.join(own, 'a.gguf'), servedName: null }] })).rejects.toThrow(
      /Cannot serve the model .*a\.gguf: a\.gguf: .*cut short/,
    );
  });
});
