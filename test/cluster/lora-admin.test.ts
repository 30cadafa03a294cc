import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { GpulessCluster } from '../support/gpuless-cluster.ts';
import { LoraCluster, loraFolder } from '../support/lora-cluster.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { until } from '../support/until.ts';

let dir = '';
beforeAll(() => {
  dir = loraFolder();
});
afterAll(() => rmSync(dir, { recursive: true }));

let lora: LoraCluster;
afterEach(() => lora.close());

describe('admin calls for adapters', () => {
  it.each([
    [{ lora_name: 'one', lora_path: '/etc/passwd' }, 'lora_path'],
    [{ lora_name: 'one', lora_path: 'one' }, 'lora_path'],
    [{ lora_name: 'one', load_inplace: true }, 'load_inplace'],
    [{ lora_name: '../one' }, 'lora_name'],
    [{ lora_name: '..' }, 'lora_name'],
    [{ lora_name: '.' }, 'lora_name'],
    [{ lora_name: '' }, 'lora_name'],
    [{ lora_name: 'a/one' }, 'lora_name'],
    [{ lora_name: 'a\\one' }, 'lora_name'],
    [{ lora_name: 'https://example.org/one' }, 'lora_name'],
    [{ lora_name: ['one'] }, 'lora_name'],
    [{}, 'lora_name'],
    [['one'], 'lora_name'],
    [{ lora_name: 'quire-pico' }, 'lora_name'],
    [{ lora_name: 'large' }, 'lora_name'],
    [{ lora_name: 'alien' }, 'lora_name'],
    [{ lora_name: 'half' }, 'lora_name'],
  ])('refuse %j and name %s', async (body, param) => {
    lora = await LoraCluster.start(dir, []);
    expect(await lora.admin('load', body)).toMatchObject({ status: 400, param });
    expect(await lora.models()).toHaveLength(1);
  });

  it('say what is wrong with a folder, and tell no path of the machine', async () => {
    lora = await LoraCluster.start(dir, []);
    const large = await lora.admin('load', { lora_name: 'large' });
    const alien = await lora.admin('load', { lora_name: 'alien' });
    const half = await lora.admin('load', { lora_name: 'half' });
    expect(large.message).toContain('its rank is 32, and there is room for 8. Raise --max-lora-rank');
    expect(alien.message).toContain('o_proj.lora_A.weight is [4,');
    expect(half.message).toContain('adapter_model.safetensors is not there');
    mkdirSync(path.join(dir, 'outside'));
    for (const file of ['adapter_config.json', 'adapter_model.safetensors'])
      symlinkSync(path.join(dir, 'one', file), path.join(dir, 'outside', file));
    const outside = await lora.admin('load', { lora_name: 'outside' });
    expect([outside.status, outside.message]).toEqual([400, expect.stringContaining('outside the folder')]);
    const missing = await lora.admin('load', { lora_name: 'nowhere' });
    expect([missing.status, missing.code]).toEqual([404, 'lora_not_found']);
    expect(missing.message).toContain("There is no LoRA adapter 'nowhere'");
    for (const { said } of [large, alien, half, outside, missing]) expect(said).not.toContain(dir);
  });

  it('refuse a second one of a name, and more than there may be; unload what is not there with 404', async () => {
    lora = await LoraCluster.start(dir, ['one', 'two']);
    expect(await lora.admin('load', { lora_name: 'one' })).toMatchObject({
      status: 400,
      message: expect.stringContaining('loaded already'),
    });
    expect(await lora.admin('load', { lora_name: 'half' })).toMatchObject({
      status: 400,
      message: expect.stringContaining('--max-loras'),
    });
    expect(await lora.admin('unload', { lora_name: 'half' })).toMatchObject({ status: 404, code: 'lora_not_found' });
    expect(await lora.admin('unload', { lora_name: 'one' })).toMatchObject({ status: 200 });
    // One of --lora-modules is loaded by its name again; without --lora-dir no other is.
    expect(await lora.admin('load', { lora_name: 'one' })).toMatchObject({ status: 200 });
  });

  it('know no folders but those of --lora-modules where there is no --lora-dir', async () => {
    lora = await LoraCluster.start(dir, [], { loras: { modules: [], dir: null, most: 2, maxRank: 8 } });
    expect(await lora.admin('load', { lora_name: 'one' })).toMatchObject({
      status: 404,
      message: expect.stringContaining('--lora-dir'),
    });
  });

  it('are an admin’s alone: the API key is none, and is not asked for', async () => {
    lora = await LoraCluster.start(dir, [], { apiKeys: ['api'], adminKey: 'admin' });
    const name = { lora_name: 'one' };
    expect(await lora.admin('load', name, { authorization: 'Bearer api' })).toMatchObject({
      status: 401,
      code: 'invalid_admin_key',
    });
    expect(await lora.admin('unload', name)).toMatchObject({ status: 401, code: 'invalid_admin_key' });
    expect(await lora.admin('load', name, { authorization: 'Bearer admin' })).toMatchObject({ status: 200 });
    expect(await lora.admin('unload', name, { authorization: 'Bearer admin' })).toMatchObject({ status: 200 });
  });
});

describe('what hub and node say of adapters', () => {
  it('A2: a node is told all that it shall have after it registered, and after each change; the files are where the offer says', async () => {
    lora = await LoraCluster.start(dir, ['one']);
    const node = await ScriptedNode.join(lora.url);
    const first = await node.next('loras');
    expect(first.adapters.map(({ name }) => name)).toEqual(['one']);
    const [offer] = first.adapters;
    const urls = offer!.files.map((file) => new URL(offer!.base + file.path, lora.url));
    expect(offer!.files.map((file) => file.path)).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
    for (const url of urls) expect((await fetch(url)).status).toBe(200);
    expect((await fetch(new URL(`${offer!.base}../../config.json`, lora.url))).status).toBe(404);
    const loading = lora.admin('load', { lora_name: 'two' });
    const second = await node.next('loras', 1);
    expect(second.adapters.map(({ name }) => name)).toEqual(['one', 'two']);
    node.send({
      type: 'loras',
      revision: second.revision,
      loaded: second.adapters.map(({ name, fingerprint }) => ({ name, fingerprint })),
      failed: [],
    });
    expect((await loading).status).toBe(200);
    await lora.admin('unload', { lora_name: 'one' });
    expect((await node.next('loras', 2)).adapters.map(({ name }) => name)).toEqual(['two']);
    for (const url of urls) expect((await fetch(url)).status).toBe(404);
    // Its engine starts anew: it has none, and is told again.
    node.send({ type: 'stage', stage: 'warming', detail: '', loadedBytes: 0, totalBytes: 0 });
    node.send({ type: 'register', card: node.card() });
    expect((await node.next('loras', 3)).adapters.map(({ name }) => name)).toEqual(['two']);
    expect(await lora.ask('two')).toMatchObject({ status: 503, code: 'lora_not_ready' });
    await node.leave();
  });

  it('A3: only what a node says to have, by name and fingerprint, is sent to it; the request names the adapter', async () => {
    lora = await LoraCluster.start(dir, ['one']);
    const node = await ScriptedNode.join(lora.url);
    const { revision, adapters } = await node.next('loras');
    const fingerprint = adapters[0]!.fingerprint;
    node.send({
      type: 'loras',
      revision,
      loaded: [
        { name: 'one', fingerprint: 'another' },
        { name: 'made-up', fingerprint },
      ],
      failed: [],
    });
    await until(() => lora.lorasOf(node).length === 2);
    expect(await lora.ask('one')).toMatchObject({ status: 503, code: 'lora_not_ready' });
    node.send({ type: 'loras', revision, loaded: [{ name: 'one', fingerprint }], failed: [] });
    await expect.poll(async () => (await lora.ask('one')).status).toBe(200);
    expect((await node.next('generate')).generate.loraName).toBe('one');
    await lora.ask('quire-pico');
    expect(node.of('generate').at(-1)!.generate.loraName).toBeUndefined();
    await node.leave();
  });

  it('A5: where all nodes fail to load one, the call says why, and it is gone again', async () => {
    lora = await LoraCluster.start(dir, []);
    const node = await ScriptedNode.join(lora.url);
    const loading = lora.admin('load', { lora_name: 'one' });
    const { revision, adapters } = await node.next('loras', 1);
    const { name, fingerprint } = adapters[0]!;
    const failed = [{ name, fingerprint, message: 'no memory here' }];
    // Of another revision: nobody hears it.
    node.send({ type: 'loras', revision: revision - 1, loaded: [{ name, fingerprint }], failed: [] });
    node.send({ type: 'loras', revision, loaded: [], failed });
    expect(await loading).toMatchObject({
      status: 503,
      code: 'lora_not_loaded',
      message: expect.stringContaining('no memory here'),
    });
    expect((await node.next('loras', 2)).adapters).toEqual([]);
    expect(await lora.models()).toHaveLength(1);
    await node.leave();
  });

  it('an adapter that does not fit ends the start of the hub', async () => {
    lora = await LoraCluster.start(dir, []);
    await expect(
      GpulessCluster.start({
        loras: { modules: [{ name: 'x', folder: path.join(dir, 'alien') }], dir: null, most: 1, maxRank: 8 },
      }),
    ).rejects.toThrow('LoRA adapter x');
    await expect(
      GpulessCluster.start({
        loras: { modules: [{ name: 'quire-pico', folder: path.join(dir, 'one') }], dir: null, most: 1, maxRank: 8 },
      }),
    ).rejects.toThrow('Two models are served as quire-pico');
  });
});
