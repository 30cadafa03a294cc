import { setTimeout as delay } from 'node:timers/promises';
import OpenAI from 'openai';
import { afterEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import { LivingNode } from '../support/living-node.ts';
import { ownPort } from '../support/own-port.ts';
import { scriptedToken } from '../support/scripted-engine.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

const hasher = await createBlockHasher('xxh3');
let hub: Hub | null = null;
let nodes: LivingNode[] = [];
afterEach(async () => {
  await Promise.all(nodes.map(({ node }) => node.leave('now')));
  nodes = [];
  await hub?.close();
  hub = null;
});

async function open(count: number, tokenMs = 5): Promise<LivingNode[]> {
  const opened = Array.from({ length: count }, () => new LivingNode(hub!.url, { hasher, tokenMs }));
  nodes.push(...opened);
  return Promise.all(opened.map((each) => each.ready()));
}

const readyIds = () => hub!.state().nodes.flatMap(({ id, stage }) => (stage === 'ready' ? [id] : []));

describe('rolling replacement', () => {
  it('of every node under load loses no request, streaming or not, and cuts none', async () => {
    hub = await startTestHub();
    const old = await open(8);
    const client = new OpenAI({ baseURL: `${hub.url}/v1`, apiKey: 'none', maxRetries: 0 });
    let asked = 0;
    let going = true;
    const migrated: unknown[] = [];
    const caller = async (): Promise<number> => {
      let done = 0;
      while (going) {
        const prompt = [300 + (asked % 97), 301 + (asked % 89), asked++];
        const expected = Array.from({ length: 30 }, (_, offset) => scriptedToken(prompt, 0, offset));
        const body = { model: 'quire-pico', prompt, max_tokens: 30, ...{ ignore_eos: true, return_token_ids: true } };
        const ids: number[] = [];
        if (asked % 2 === 0) {
          for await (const chunk of await client.completions.create({ ...body, stream: true }))
            for (const choice of chunk.choices) ids.push(...((choice as { token_ids?: number[] }).token_ids ?? []));
        } else {
          const { choices } = await client.completions.create(body);
          ids.push(...((choices[0] as { token_ids?: number[] }).token_ids ?? []));
        }
        expect(ids).toEqual(expected);
        done += 1;
      }
      return done;
    };
    const callers = Array.from({ length: 24 }, caller);
    const before = readyIds();
    for (const leaving of old) {
      const [fresh] = await open(1);
      await delay(20);
      await leaving.node.leave('drain');
      expect(leaving.snapshot.stage).toBe('idle');
      expect(leaving.engine.closed).toBe(true);
      expect(fresh!.snapshot.stage).toBe('ready');
    }
    going = false;
    const done = (await Promise.all(callers)).reduce((sum, each) => sum + each, 0);
    expect(done).toBe(asked);
    expect(done).toBeGreaterThan(100);
    expect(readyIds()).toHaveLength(8);
    expect(readyIds().filter((id) => before.includes(id))).toEqual([]);
    // Each request ended where it ran: nothing had to move.
    expect(hub.state().migrations).toBe(0);
    expect(migrated).toEqual([]);
  });

  it('of pages that are closed without a word moves what ran there, and loses none', async () => {
    hub = await startTestHub();
    const old = await open(4);
    const asks = Array.from({ length: 24 }, (_, i) => complete([500, i], 60));
    await until(() => hub!.state().inflightRequests === 24);
    for (const closed of old) {
      await open(1);
      void closed.node.leave('now');
    }
    for (const { status } of await Promise.all(asks)) expect(status).toBe(200);
    expect(hub.state().migrations).toBeGreaterThan(0);
  });
});

describe('a lost engine', () => {
  it('is out of discovery at once, what ran there goes on elsewhere, and the node comes back without a new connection', async () => {
    hub = await startTestHub();
    const [first, second] = await open(2);
    const asks = Array.from({ length: 8 }, (_, i) => complete([600, i], 100));
    await until(() => hub!.state().inflightRequests === 8);
    const ids = readyIds();
    const { node: id } = first!.snapshot;
    first!.engine.lose('The GPU device was lost.');
    await until(() => readyIds().length === 1);
    const node = hub.state().nodes.find((each) => each.id === id);
    expect(node).toMatchObject({ stage: 'warming', detail: expect.stringContaining('The GPU device was lost.') });
    for (const { status } of await Promise.all(asks)) expect(status).toBe(200);
    await until(() => readyIds().length === 2);
    expect(readyIds()).toEqual(ids);
    expect(first!.engines).toHaveLength(2);
    await second!.node.leave('drain');
    expect(await complete([700], 3)).toMatchObject({ status: 200, node: id });
  });

  it('twice in a short time ends the node, and the hub is told why', async () => {
    hub = await startTestHub();
    const [only] = await open(1);
    only!.engine.lose('The GPU device was lost.');
    await until(() => only!.engines.length === 2 && readyIds().length === 1);
    only!.engine.lose('The GPU device was lost.');
    await until(() => hub!.state().nodes.length === 0);
    expect(only!.snapshot).toMatchObject({
      stage: 'gone',
      problem: { code: 'device_lost', message: expect.stringContaining('second loss within 2 minutes') },
    });
  });
});

describe('a restart of the hub', () => {
  it('brings all nodes back with their caches, and requests hit them', async () => {
    const port = await ownPort();
    hub = await startTestHub({ port });
    await open(6);
    const prompts = Array.from({ length: 6 }, (_, i) => Array.from({ length: 97 }, (_, at) => 300 + 97 * i + at));
    for (const prompt of prompts) await complete(prompt, 2);
    await hub.close();
    await delay(1500);
    hub = await startTestHub({ port });
    const told = () => hub!.state().nodes.filter(({ kvEvents }) => kvEvents.count > 0);
    await until(() => readyIds().length === 6 && told().length === 6);
    for (const { engines } of nodes) expect(engines).toHaveLength(1);
    for (const prompt of prompts) expect(await complete(prompt, 2)).toMatchObject({ status: 200, overlap: '6' });
  });
});

async function complete(prompt: number[], tokens: number) {
  const response = await fetch(`${hub!.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'quire-pico', prompt, max_tokens: tokens, ignore_eos: true }),
  });
  const body = await response.text();
  const { status, headers } = response;
  return { status, body, node: headers.get('x-quire-node'), overlap: headers.get('x-quire-overlap-blocks') };
}
