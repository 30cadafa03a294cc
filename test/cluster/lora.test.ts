import { rmSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { EngineError } from '../../src/engine/api.ts';
import { buffersOf, cachedLoras, expected, LoraCluster, loraFolder, PROMPT } from '../support/lora-cluster.ts';
import { until } from '../support/until.ts';

let dir = '';
beforeAll(() => {
  dir = loraFolder();
});
afterAll(() => rmSync(dir, { recursive: true }));

let lora: LoraCluster;
afterEach(() => lora.close());

describe('LoRA adapters in a cluster', () => {
  it('are models of their own, with the one that they belong to as parent (A1)', async () => {
    lora = await LoraCluster.start(dir, ['one', 'two']);
    await lora.join();
    expect((await lora.models()).map(({ id, parent, root }) => [id, parent, root])).toEqual([
      ['quire-pico', null, 'quire-pico'],
      ['one', 'quire-pico', 'one'],
      ['two', 'quire-pico', 'two'],
    ]);
    const [plain, one, two] = await Promise.all([lora.ask('quire-pico'), lora.ask('one'), lora.ask('two')]);
    expect([plain.tokens, one.tokens, two.tokens]).toEqual([expected(), expected('one'), expected('two')]);
    expect(new Set([plain, one, two].map(({ tokens }) => tokens.join())).size).toBe(3);
    const unknown = await lora.ask('three');
    expect([unknown.status, unknown.code]).toEqual([404, 'model_not_found']);
    expect(unknown.message).toContain("'quire-pico', 'one', 'two'");
  });

  it('share no cached block with each other, and the router knows whose is whose (G6, K7)', async () => {
    lora = await LoraCluster.start(dir, ['one', 'two']);
    const nodes = [await lora.join(), await lora.join()];
    const first = await lora.ask('one', { node: nodes[1]!.id });
    expect(first.cached).toBe(0);
    expect((await lora.ask('two', { node: nodes[1]!.id })).cached).toBe(0);
    await until(() => lora.cluster.hub.state().nodes.every(({ kvEvents }, i) => i === 0 || kvEvents.count >= 2));
    // It goes where its blocks are, which no prompt without the adapter has there.
    const again = await lora.ask('one');
    expect([again.node, again.cached, again.tokens]).toEqual([nodes[1]!.id, 32, first.tokens]);
    expect((await lora.ask('quire-pico', { node: nodes[1]!.id })).cached).toBe(0);
    expect(cachedLoras(nodes[1]!)).toEqual(new Set([undefined, 'one', 'two']));
  });

  it('go to nodes that have them, and to no other (A4)', async () => {
    lora = await LoraCluster.start(dir, ['one']);
    const without = await lora.join({ maxLoras: 0 });
    const refused = await lora.ask('one');
    expect([refused.status, refused.code]).toEqual([503, 'lora_not_ready']);
    expect(refused.message).toContain('max-loras is 0');
    const having = await lora.join();
    const answers = await Promise.all(Array.from({ length: 6 }, (_, i) => lora.ask('one', { prompt: [i, ...PROMPT] })));
    expect(new Set(answers.map(({ node }) => node))).toEqual(new Set([having.id]));
    const named = await lora.ask('one', { node: without.id });
    expect([named.status, named.code]).toEqual([503, 'node_not_ready']);
    expect((await lora.ask('quire-pico', { node: without.id })).tokens).toEqual(expected());
  });

  it('come and go by admin calls while requests run, and leave nothing on the GPU (A2, A5, K13)', async () => {
    lora = await LoraCluster.start(dir, []);
    let stepMs = 0;
    const node = await lora.join({ stepMs: () => stepMs });
    expect((await lora.admin('load', { lora_name: 'one' })).said).toBe(
      "Success: LoRA adapter 'one' added successfully.",
    );
    expect(buffersOf(node)).toBeGreaterThan(0);
    // Slow enough for all that comes before they end.
    stepMs = 150;
    const running = lora.ask('one', { maxTokens: 80 });
    const neighbour = lora.ask('quire-pico', { maxTokens: 80 });
    await until(() => node.engine!.load().running === 2);
    expect((await lora.admin('load', { lora_name: 'two' })).status).toBe(200);
    expect((await lora.ask('two')).tokens).toEqual(expected('two'));
    expect(node.engine!.load().running).toBe(2);
    const mixed = node.engine!.steps().filter(({ loras, decodeRows }) => loras === 2 && decodeRows === 3);
    expect(mixed.length).toBeGreaterThan(0);
    expect((await lora.admin('unload', { lora_name: 'one' })).said).toBe(
      "Success: LoRA adapter 'one' removed successfully.",
    );
    expect((await lora.ask('one')).code).toBe('model_not_found');
    expect(node.engine!.load().running).toBe(2);
    stepMs = 0;
    expect((await running).tokens).toEqual(expected('one', 80));
    expect((await neighbour).tokens).toEqual(expected(undefined, 80));
    await until(() => !cachedLoras(node).has('one'));
    expect(cachedLoras(node)).toEqual(new Set([undefined, 'two']));
    expect((await lora.admin('unload', { lora_name: 'two' })).status).toBe(200);
    await until(() => buffersOf(node) === 0);
    // By its name again, and computed anew.
    expect((await lora.admin('load', { lora_name: 'one' })).status).toBe(200);
    expect(await lora.ask('one')).toMatchObject({ status: 200, cached: 0, tokens: expected('one') });
    expect(node.faults).toEqual([]);
  });

  it('are freed when the node leaves', async () => {
    lora = await LoraCluster.start(dir, ['one', 'two']);
    const node = await lora.join();
    expect(buffersOf(node)).toBeGreaterThan(0);
    await node.leave();
    expect(buffersOf(node)).toBe(0);
  });

  it('are freed when the GPU is lost, and loaded again once the engine is (A2)', async () => {
    lora = await LoraCluster.start(dir, ['one']);
    const node = await lora.join();
    const { engine } = node;
    const before = [...node.device.buffers];
    engine!.lose(new EngineError('device_lost', 'gone'));
    await until(() => before.every(({ destroyed }) => destroyed));
    await until(() => node.engine !== engine && node.engine!.loras?.names.length === 1);
    expect(buffersOf(node)).toBeGreaterThan(0);
    await expect.poll(async () => (await lora.ask('one')).tokens).toEqual(expected('one'));
  });

  it('leave the GPU while the node sleeps, may change meanwhile, and are loaded again when it wakes up (A2, S1)', async () => {
    lora = await LoraCluster.start(dir, ['one']);
    const node = await lora.join();
    expect((await lora.ask('one')).tokens).toEqual(expected('one'));
    const call = (path: string) => fetch(`${lora.url}${path}`, { method: 'POST' });
    expect((await call('/sleep')).status).toBe(200);
    expect([buffersOf(node), lora.lorasOf(node)]).toEqual([0, []]);
    expect((await lora.ask('one')).code).toBe('asleep');
    // Nobody is there to wait for.
    expect((await lora.admin('unload', { lora_name: 'one' })).status).toBe(200);
    expect((await lora.admin('load', { lora_name: 'two' })).status).toBe(200);
    expect(buffersOf(node)).toBe(0);
    expect((await call('/wake_up')).status).toBe(200);
    await until(() => lora.lorasOf(node).length > 0);
    expect(lora.lorasOf(node)).toEqual(['two']);
    expect((await lora.ask('two')).tokens).toEqual(expected('two'));
    expect((await lora.ask('one')).code).toBe('model_not_found');
  });

  it('take the place of one that is leaving once its last request is done (A5)', async () => {
    lora = await LoraCluster.start(dir, ['one', 'two']);
    const node = await lora.join({ stepMs: () => 2, maxLoras: 2 });
    const running = lora.ask('one', { maxTokens: 80 });
    await until(() => node.engine!.load().running === 1);
    await lora.admin('unload', { lora_name: 'one' });
    const loading = lora.admin('load', { lora_name: 'three' });
    expect((await running).tokens).toEqual(expected('one', 80));
    expect((await loading).status).toBe(200);
    expect((await lora.ask('three')).tokens).toEqual(expected('three'));
    expect(lora.lorasOf(node).sort()).toEqual(['three', 'two']);
  });

  it('stay with a request that goes on on another node (G7)', async () => {
    lora = await LoraCluster.start(dir, ['one']);
    const lost = await lora.join({ stepMs: () => 5 });
    await lora.join({ maxLoras: 0 });
    const other = await lora.join();
    const answer = lora.ask('one', { maxTokens: 60, node: lost.id });
    await until(() => lost.engine!.load().counters.sampledTokens > 5);
    await lost.kill();
    const { tokens, status } = await answer;
    expect([status, tokens]).toEqual([200, expected('one', 60)]);
    expect(other.engine!.load().counters.sampledTokens).toBeGreaterThan(0);
    expect(lora.cluster.hub.state().migrations).toBe(1);
  });

  it('are with both nodes of a prompt that is handed over; a prefill node without one is not asked (R2)', async () => {
    lora = await LoraCluster.start(dir, ['one']);
    const bare = await lora.join({ role: 'prefill', maxLoras: 0 });
    const decode = await lora.join({ role: 'decode' });
    expect((await lora.ask('one', { prompt: [3, ...PROMPT] })).tokens).toEqual(expected('one', 6, [3, ...PROMPT]));
    expect(bare.engine!.load().counters.prefillRows).toBe(0);
    const prefill = await lora.join({ role: 'prefill' });
    const before = decode.engine!.load().counters.prefillRows;
    expect((await lora.ask('one')).tokens).toEqual(expected('one'));
    expect(prefill.engine!.load().counters.prefillRows).toBeGreaterThanOrEqual(32);
    // All but the blocks that came.
    expect(decode.engine!.load().counters.prefillRows - before).toBeLessThan(16);
    expect(cachedLoras(decode)).toEqual(new Set(['one']));
    expect(bare.engine!.load().counters.prefillRows).toBe(0);
  });
});
