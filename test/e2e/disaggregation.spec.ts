import type { BrowserContext, Page } from '@playwright/test';
import OpenAI from 'openai';
import type { Hub } from '../../src/hub/hub.ts';
import type { Role } from '../../src/protocol/messages.ts';
import type { TransportName } from '../../src/protocol/transfer.ts';
import { BROWSER, expect, expectStage, test } from './fixture.ts';

test.use(BROWSER);

const BLOCK_SIZE = 16;
/** Long enough for several chunks of prefill, and different from its first block on. */
const STORIES = ['a boat', 'two old dogs', 'the moon over a harbour'].map(
  (what) =>
    `${what}. Tell me a story of ${what}, and of all that happened to it. ${'It was long ago, and far away. '.repeat(12)}`,
);
const CHAT = (content: string) => ({
  model: 'quire-pico',
  messages: [{ role: 'user' as const, content }],
  max_completion_tokens: 24,
  temperature: 0,
  ...{ ignore_eos: true, nvext: { extra_fields: ['worker_id'] } },
});

interface Told {
  readonly worker_id: { readonly decode_worker_id?: string; readonly prefill_worker_id?: string };
  readonly kv_transfer?: Record<string, unknown>;
}

/** Opens a page of this role and waits until it serves. Returns its id. */
async function openNode(
  context: BrowserContext,
  hub: Hub,
  role: Role,
  query = '',
): Promise<{ id: string; page: Page }> {
  const known = new Set(hub.state().nodes.map(({ id }) => id));
  const page = await context.newPage();
  await page.goto(`${hub.url}/?allow-software-adapter&disaggregation-mode=${role}${query}`);
  await expectStage(page, 'ready');
  return { id: hub.state().nodes.find(({ id }) => !known.has(id))!.id, page };
}

/** quire-pico: 6 layers of K and V, 2 heads of 64 dims. */
function bytesOfBlock(hub: Hub, node: string): number {
  const dtype = hub.state().nodes.find(({ id }) => id === node)!.card!.kvCacheDtype;
  return 6 * 2 * BLOCK_SIZE * 2 * 64 * (dtype === 'f32' ? 4 : 2);
}

const counters = (hub: Hub, node: string) => hub.state().nodes.find(({ id }) => id === node)!.loads[0]!.counters;

for (const transport of ['local', 'relay', 'webrtc'] satisfies TransportName[]) {
  test(`greedy answers are those of one node alone, over ${transport}, and the prefill node computed the prompts`, async ({
    startTestHub,
    context,
  }) => {
    const { hub, url } = await startTestHub({
      disaggregation: { transports: [transport], timeoutMs: 30_000, minTokens: 1 },
    });
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
    const alone = await openNode(context, hub, 'agg');
    const expected = [];
    for (const story of STORIES) expected.push(await client.chat.completions.create(CHAT(story)));
    await alone.page.close();
    await expect.poll(() => hub.state().nodes.length).toBe(0);

    const prefill = await openNode(context, hub, 'prefill');
    const decode = await openNode(context, hub, 'decode');
    let remoteTokens = 0;
    for (const [i, story] of STORIES.entries()) {
      const answer = await client.chat.completions.create(CHAT(story));
      expect(answer.choices[0]?.message.content).toBe(expected[i]!.choices[0]?.message.content);
      expect(answer.usage?.completion_tokens).toBe(24);
      const { worker_id, kv_transfer } = (answer as unknown as { nvext: Told }).nvext;
      const prompt = answer.usage!.prompt_tokens;
      expect(prompt).toBe(expected[i]!.usage!.prompt_tokens);
      expect(worker_id).toMatchObject({ prefill_worker_id: prefill.id, decode_worker_id: decode.id });
      const blocks = Number(kv_transfer?.blocks);
      expect(kv_transfer).toMatchObject({ transport });
      expect(kv_transfer).not.toHaveProperty('fallback');
      expect(blocks).toBeGreaterThan(4);
      expect(Number(kv_transfer?.bytes)).toBe(blocks * bytesOfBlock(hub, decode.id));
      // All that neither node had: the shared beginning of the prompts stays in the caches.
      expect(Number(kv_transfer?.remote_tokens) + Number(kv_transfer?.cached_tokens)).toBe(prompt);
      remoteTokens += Number(kv_transfer?.remote_tokens);
    }
    await expect.poll(() => counters(hub, prefill.id).prefillRows).toBeGreaterThanOrEqual(remoteTokens);
    expect(counters(hub, decode.id).prefillRows).toBeLessThanOrEqual(STORIES.length * BLOCK_SIZE);
    // Both ends know that all went well, and nothing is held any more.
    const kinds = () => hub.state().happenings.flatMap(({ kind }) => (kind === 'prefilled' ? [kind] : []));
    await expect.poll(kinds).toHaveLength(STORIES.length);
    expect(hub.state().transfers).toEqual([]);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toContain(
      `quire_kv_transfers_total{model="quire-pico",transport="${transport}",outcome="done"} ${STORIES.length}`,
    );
    expect(metrics).not.toMatch(/quire_kv_transfer_fallbacks_total\{/);

    // A person sees it too: below the answer, and in what happens in the cluster.
    const { page } = decode;
    await page.getByTestId('prompt').fill('The green locker holds a clock. Ada lives in Quito. What is in the locker?');
    await page.getByTestId('send').click();
    await expect(page.getByTestId('answer')).toHaveAttribute('data-state', 'done', { timeout: 30_000 });
    await expect(page.getByTestId('answer-way')).toHaveAttribute('data-node', decode.id);
    const moved = page.getByTestId('answer-transfer');
    await expect(moved).toHaveAttribute('data-state', 'moved');
    await expect(moved).toHaveAttribute('data-transport', transport);
    await expect(moved).toContainText(`prefilled by ${prefill.id.slice(0, 6)} · `);
    const step = page.getByTestId('story').first().getByTestId('step');
    await expect(step).toHaveAttribute('data-state', 'moved');
    await expect(step).toContainText(`${prefill.id.slice(0, 6)} prefills`);
    await expect(step).toContainText(`by ${transport}`);
    await expect(page.getByTestId('transfers')).toHaveAttribute('data-value', String(STORIES.length + 1));
  });
}

test('a prefill node that is closed in the middle: the client sees only a later first token', async ({
  startTestHub,
  context,
}) => {
  const { hub, url } = await startTestHub({
    disaggregation: { transports: ['local', 'relay'], timeoutMs: 30_000, minTokens: 1 },
  });
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  const prefill = await openNode(context, hub, 'prefill');
  const decode = await openNode(context, hub, 'decode');
  const pending = client.chat.completions.create(CHAT(STORIES[0]!));
  await expect.poll(() => hub.state().transfers.length, { intervals: [5] }).toBe(1);
  await prefill.page.close();
  const answer = await pending;
  const { kv_transfer } = (answer as unknown as { nvext: Told }).nvext;
  expect(kv_transfer).toHaveProperty('fallback');
  // With nobody else to ask, it computes all of it alone: the answer is the same.
  const again = await client.chat.completions.create(CHAT(STORIES[0]!));
  expect(answer.choices[0]?.message.content).toBe(again.choices[0]?.message.content);
  expect(counters(hub, decode.id).prefillRows).toBeGreaterThan(BLOCK_SIZE);
});
