import type { Page } from '@playwright/test';
import OpenAI from 'openai';
import { findChromium } from '../../src/hub/launch/find-chromium.ts';
import { launchNodes } from '../../src/hub/launch/headless-nodes.ts';
import { isRoot, thisMachine } from '../../src/hub/launch/machine.ts';
import { systemClock } from '../../src/protocol/clock.ts';
import { BROWSER, expect, openReadyNode, READY_MS, test } from './fixture.ts';

test.use(BROWSER);

const GREEDY = { temperature: 0 };
const SAMPLED = { temperature: 1, top_p: 0.95, seed: 4711, frequency_penalty: 0.5 };

test('the page that serves is closed in the middle of a stream: the answer is that of an unbroken run, greedy and sampled', async ({
  startTestHub,
  context,
}) => {
  const { hub, url } = await startTestHub();
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  const body = (more: object) => ({
    model: 'quire-pico',
    messages: [{ role: 'user' as const, content: 'Tell me a story of a boat.' }],
    max_completion_tokens: 120,
    ...{ ignore_eos: true },
    ...more,
  });
  const pages = new Map<string, Page>();
  const open = async () => {
    const known = new Set(hub.state().nodes.map(({ id }) => id));
    const page = await openReadyNode(context, url);
    pages.set(hub.state().nodes.find(({ id }) => !known.has(id))!.id, page);
  };
  for (let i = 0; i < 3; i++) await open();

  for (const sampling of [GREEDY, SAMPLED]) {
    const whole = await client.chat.completions.create(body(sampling));
    expect(whole.usage?.completion_tokens).toBe(120);
    const before = hub.state().migrations;
    let text = '';
    let killed: string | null = null;
    const migrations: { from_node: string; numerics_changed: boolean; completion_tokens: number }[] = [];
    for await (const chunk of await client.chat.completions.create({ ...body(sampling), stream: true })) {
      text += chunk.choices[0]?.delta.content ?? '';
      migrations.push(...((chunk as { nvext?: { migrations: typeof migrations } }).nvext?.migrations ?? []));
      if (killed !== null || text.length < 20) continue;
      // What the client has by now came from this page.
      killed = hub.state().nodes.find(({ activeRequests }) => activeRequests === 1)!.id;
      await pages.get(killed)!.close();
    }
    expect(text).toBe(whole.choices[0]?.message.content);
    expect(migrations).toEqual([expect.objectContaining({ from_node: killed, numerics_changed: false })]);
    expect(migrations[0]?.completion_tokens).toBeGreaterThan(0);
    expect(migrations[0]?.completion_tokens).toBeLessThan(120);
    expect(hub.state().migrations).toBe(before + 1);
    expect(hub.state().nodes.some(({ id }) => id === killed)).toBe(false);
  }
  const [page] = context.pages().filter((each) => each.url().startsWith(url));
  await expect(page!.getByTestId('migrations')).toHaveAttribute('data-value', '2');
});

test('a node of the hub whose page ends is started again', async ({ startTestHub }) => {
  const { hub, url } = await startTestHub();
  const said: string[] = [];
  const nodes = await launchNodes({
    executable: findChromium(thisMachine, process.env.QUIRE_CHROMIUM ?? null)!,
    hubUrl: url,
    joinToken: null,
    roles: [null],
    query: {},
    isRoot,
    trustedKey: null,
    adapter: 'software',
    clock: systemClock,
    say: (line) => said.push(line),
  });
  const ready = () => hub.state().nodes.filter(({ stage }) => stage === 'ready');
  try {
    await expect.poll(() => ready().length, { timeout: READY_MS }).toBe(1);
    const first = ready()[0]!.id;
    await nodes.pages[0]!.close();
    await expect
      .poll(() => ready().map(({ id }) => id), { timeout: READY_MS })
      .toEqual([expect.not.stringMatching(first)]);
    expect(said).toContain('Node 1 was closed. It is started again in 1 s.');
  } finally {
    await nodes.close();
  }
});
