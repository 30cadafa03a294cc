import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { systemClock } from '../../src/protocol/clock.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import type { Role } from '../../src/protocol/messages.ts';
import { GREEDY } from '../../src/protocol/sampling.ts';
import { GpulessNode, type GpulessNodeOptions } from '../support/gpuless-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';
import { reference } from '../unit/engine/simulated-gpu.ts';

/** Everything but the GPU is real here: the hub, both sockets of each node, its engine loop, scheduler, blocks and transfers. */
let hub: Hub;
let nodes: GpulessNode[];
beforeEach(async () => {
  nodes = [];
  hub = await startTestHub({ disaggregation: { transports: ['relay'], timeoutMs: 10_000, minTokens: 16 } });
});
afterEach(async () => {
  for (const node of nodes) await node.leave();
  await hub.close();
});

async function join(role: Role, options: Partial<GpulessNodeOptions> = {}): Promise<GpulessNode> {
  const node = new GpulessNode({ hubUrl: hub.url, clock: systemClock, role, ...options });
  nodes.push(node);
  await until(() => node.stage === 'ready');
  return node;
}

interface Transfer {
  readonly transport: string | null;
  readonly blocks?: number;
  readonly bytes?: number;
  readonly remote_tokens?: number;
  readonly cached_tokens?: number;
  readonly fallback?: string;
}

async function complete(prompt: readonly number[], maxTokens = 12) {
  const response = await fetch(`${hub.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      ...{
        model: 'quire-pico',
        prompt,
        max_tokens: maxTokens,
        temperature: 0,
        return_token_ids: true,
        ignore_eos: true,
      },
    }),
  });
  const body = await response.json();
  expect(response.status, JSON.stringify(body)).toBe(200);
  return { tokens: body.choices[0].token_ids as number[], transfer: body.nvext?.kv_transfer as Transfer | undefined };
}

/** What one engine alone must give. */
const alone = (prompt: readonly number[], maxTokens = 12) => reference(prompt, { ...GREEDY, maxTokens }, 256).tokens;
const prompt = (length: number, first = 1) => Array.from({ length }, (_, i) => (first * 31 + i * 7) % 11);
const prefilled = (node: GpulessNode) => node.engine?.load().counters.prefillRows ?? 0;

describe('disaggregated serving of whole nodes', () => {
  it('gives the tokens of one engine alone, and the decode node computes at most a block of the prompt', async () => {
    const [p, d] = [await join('prefill'), await join('decode')];
    let before = { p: 0, d: 0 };
    for (const [i, length] of [17, 32, 33, 100, 161].entries()) {
      const ids = prompt(length, i + 1);
      const { tokens, transfer } = await complete(ids);
      expect(tokens).toEqual(alone(ids));
      const blocks = Math.floor((length - 1) / 16);
      expect(transfer).toMatchObject({ transport: 'relay', blocks, remote_tokens: length, cached_tokens: 0 });
      expect(transfer?.bytes).toBeGreaterThan(0);
      const now = { p: prefilled(p), d: prefilled(d) };
      expect(now.p - before.p).toBe(length);
      expect(now.d - before.d).toBeLessThanOrEqual(16);
      before = now;
    }
    expect([...p.faults, ...d.faults]).toEqual([]);
    await until(() => hub.state().transfers.length === 0);
    for (const node of nodes) expect(node.engine?.load()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
  });

  it('moves only what the decode node has not, and the prefill node computes only what it has not', async () => {
    const [p, d] = [await join('prefill'), await join('decode')];
    const [short, long] = [prompt(97), prompt(161)];
    await complete(short);
    const first = prefilled(p);
    const { tokens, transfer } = await complete(long);
    expect(tokens).toEqual(alone(long));
    expect(transfer).toMatchObject({ blocks: 4, remote_tokens: 161 - 96, cached_tokens: 96 });
    expect(prefilled(p) - first).toBe(161 - 96);
    // All of it is there by now: nothing is worth moving.
    const again = await complete(long);
    expect(again).toEqual({ tokens, transfer: undefined });
    expect(d.faults).toEqual([]);
  });

  it("names blocks by vLLM's hashes where the hub has sha256, with the seed that it gives its nodes", async () => {
    await hub.close();
    const nodeOptions = { 'prefix-caching-hash-seed': '42' };
    const disaggregation = { transports: ['relay' as const], timeoutMs: 10_000, minTokens: 16 };
    hub = await startTestHub({ disaggregation, hashAlgo: 'sha256', hashSeed: '42', nodeOptions });
    const [p, d] = [await join('prefill'), await join('decode')];
    const { tokens, transfer } = await complete(prompt(100));
    expect(tokens).toEqual(alone(prompt(100)));
    expect(transfer).toMatchObject({ transport: 'relay', blocks: 6 });
    expect(await complete(prompt(100))).toEqual({ tokens, transfer: undefined });
    const block = await createBlockHasher('sha256', '42').then((hasher) =>
      hasher.blockHash(null, { tokens: prompt(16), tokensHash: 0n }),
    );
    for (const node of [p, d]) expect(node.engine?.snapshot().blocks[0]?.block.blockHash).toBe(block);
    expect([...p.faults, ...d.faults]).toEqual([]);
  });

  it('one flipped bit in a payload is refused, and the answer is right all the same', async () => {
    const flip = (message: Uint8Array<ArrayBuffer>) => {
      if (message.length > 500) message[message.length - 1]! ^= 1;
      return message;
    };
    const [, d] = [await join('prefill'), await join('decode', { relayed: flip })];
    const ids = prompt(100);
    const { tokens, transfer } = await complete(ids);
    expect(tokens).toEqual(alone(ids));
    expect(transfer).toMatchObject({ transport: 'relay', fallback: 'refused' });
    expect(prefilled(d)).toBe(100);
    expect(hub.state().happenings.at(-1)).toMatchObject({ kind: 'fell_back', why: 'refused' });
  });

  it('many at once over two pairs, while nodes of either role leave and come: every answer is right, nothing is left', async () => {
    const slow = { stepMs: () => 2, totalBlocks: 100 };
    const [p1, p2] = [await join('prefill', slow), await join('prefill', slow)];
    const [d1] = [await join('decode', slow), await join('decode', slow)];
    const answers = Array.from({ length: 40 }, async (_, i) => {
      await new Promise((resolve) => setTimeout(resolve, i * 20));
      const ids = prompt(20 + ((i * 37) % 180), i);
      return { ids, ...(await complete(ids, 20)) };
    });
    await until(() => hub.state().happenings.filter(({ kind }) => kind === 'transferred').length >= 5);
    await p1!.leave();
    await join('prefill', slow);
    await until(() => hub.state().happenings.filter(({ kind }) => kind === 'transferred').length >= 10);
    await d1!.leave();
    await join('decode', slow);
    const done = await Promise.all(answers);
    for (const { ids, tokens } of done) expect(tokens).toEqual(alone(ids, 20));
    expect(done.filter(({ transfer }) => transfer?.blocks !== undefined).length).toBeGreaterThan(10);
    await until(() => hub.state().transfers.length === 0 && hub.state().inflightRequests === 0);
    const idle = () => nodes.every(({ engine, stage }) => stage !== 'ready' || engine?.load().usedBlocks === 0);
    await until(idle);
    for (const { activeSequences } of hub.state().nodes) expect(activeSequences).toBe(0);
    expect(p2!.faults).toEqual([]);
  });
});
