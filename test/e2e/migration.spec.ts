import type { Page } from '@playwright/test';
import { findChromium } from '../../src/hub/launch/find-chromium.ts';
import { launchNodes } from '../../src/hub/launch/headless-nodes.ts';
import { isRoot, thisMachine } from '../../src/hub/launch/machine.ts';
import { systemClock } from '../../src/protocol/clock.ts';
import { clientOf } from './client.ts';
import { BROWSER, expect, openReadyNode, READY_MS, test } from './fixture.ts';
import { losablePage, loseDevice } from './lost-device.ts';

test.use(BROWSER);

/** How often the serving page is killed. */
const STREAMS = 20;
/** Enough that a busy engine still has most of them to give when its page dies. */
const TOKENS = 150;

const PROMPTS = [
  { content: 'Tell me a story of a boat.', more: { temperature: 0 } },
  { content: 'Where does the small dog go?', more: { temperature: 0, logprobs: true } },
  { content: 'Tell me a story of a boat.', more: { temperature: 1, top_p: 0.95, seed: 4711, frequency_penalty: 0.5 } },
  { content: 'A day at the lake.', more: { temperature: 0.8, seed: 7, n: 2, presence_penalty: 0.4 } },
] as const;

/** The ways in which a serving page dies; each resolves when its node cannot go on. */
const KILLS = {
  'the page is closed': (page: Page) => page.close(),
  'its process crashes': async (page: Page) => {
    const crashed = new Promise((resolve) => page.once('crash', resolve));
    const session = await page.context().newCDPSession(page);
    // Nobody is left to answer it.
    session.send('Page.crash').catch(() => {});
    await crashed;
  },
  'its GPU device is destroyed': loseDevice,
};

interface Told {
  from_node: string;
  to_node: string;
  completion_tokens: number;
  numerics_changed: boolean;
}

test(`of three pages the serving one is killed in the middle of each of ${STREAMS} streams: every answer is that of an unbroken run`, async ({
  startTestHub,
  context,
}, testInfo) => {
  // Twenty-two pages compile and test their shaders on a software adapter.
  test.setTimeout(480_000);
  const staticDir = await losablePage(testInfo.outputPath());
  const { hub, url } = await startTestHub({ staticDir });
  const client = clientOf(url);
  const pages = new Map<string, Page>();
  const open = async () => {
    const known = new Set(hub.state().nodes.map(({ id }) => id));
    const page = await openReadyNode(context, url);
    pages.set(hub.state().nodes.find(({ id }) => !known.has(id))!.id, page);
  };
  for (let i = 0; i < 3; i++) await open();

  const body = ({ content, more }: (typeof PROMPTS)[number]) => ({
    model: 'quire-pico',
    messages: [{ role: 'user' as const, content }],
    max_completion_tokens: TOKENS,
    ...{ ignore_eos: true },
    ...more,
  });
  const unbroken: string[][] = [];
  for (const prompt of PROMPTS) {
    const { choices } = await client.chat.completions.create(body(prompt));
    unbroken.push(choices.map(({ message }) => message.content ?? ''));
  }

  const kills = Object.entries(KILLS);
  // On a busy machine an answer may end before its page is dead: such a kill does not count.
  let tooLate = 0;
  for (let i = 0; i < STREAMS; ) {
    const [way, kill] = kills[i % kills.length]!;
    const which = i % PROMPTS.length;
    const killAt = 4 + ((i * 5) % 12);
    const texts = unbroken[which]!.map(() => '');
    const migrations: Told[] = [];
    const usage: number[] = [];
    let chunks = 0;
    const stream = client.chat.completions.create({
      ...body(PROMPTS[which]!),
      stream: true,
      stream_options: { include_usage: true },
    });
    const { data, response } = await stream.withResponse();
    const serving = response.headers.get('x-quire-node')!;
    for await (const chunk of data) {
      for (const { index, delta } of chunk.choices) texts[index] += delta.content ?? '';
      migrations.push(...((chunk as { nvext?: { migrations?: Told[] } }).nvext?.migrations ?? []));
      if (chunk.usage) usage.push(chunk.usage.completion_tokens);
      chunks += 1;
      if (chunks === killAt) {
        // What the client has by now came from this page alone.
        const computing = hub.state().nodes.filter(({ activeRequests }) => activeRequests > 0);
        expect(computing.every(({ id }) => id === serving)).toBe(true);
        expect(texts.join('').length).toBeGreaterThan(0);
        await kill(pages.get(serving)!);
      }
    }
    const told = `stream ${i}, ${way} at chunk ${killAt}`;
    expect({ told, texts }).toEqual({ told, texts: unbroken[which] });
    expect(usage).toEqual([TOKENS * texts.length]);
    if (migrations.length === 0) {
      tooLate += 1;
      expect(tooLate, told).toBeLessThan(STREAMS / 2);
    } else {
      expect(migrations, told).toEqual([expect.objectContaining({ from_node: serving, numerics_changed: false })]);
      const [{ completion_tokens, to_node }] = migrations as [Told];
      expect(completion_tokens).toBeGreaterThan(0);
      expect(completion_tokens).toBeLessThan(TOKENS * texts.length);
      expect(pages.has(to_node) && to_node !== serving).toBe(true);
      i += 1;
    }
    expect(hub.state().migrations).toBe(i);

    if (!pages.get(serving)!.isClosed()) await pages.get(serving)!.close();
    pages.delete(serving);
    await expect
      .poll(() =>
        hub
          .state()
          .nodes.map(({ id }) => id)
          .sort(),
      )
      .toEqual([...pages.keys()].sort());
    if (i < STREAMS) await open();
  }
  const metrics = await (await fetch(`${url}/metrics`)).text();
  expect(metrics).toMatch(
    new RegExp(`^dynamo_frontend_model_migration_total\\{.*migration_type="ongoing_request".*\\} ${STREAMS}$`, 'm'),
  );
  const watching = [...pages.values()].at(-1)!;
  await expect(watching.getByTestId('migrations')).toHaveAttribute('data-value', String(STREAMS));
  const newest = watching.getByTestId('story').first();
  await expect(newest.getByTestId('step').last()).toHaveAttribute('data-state', 'migrated');
  await expect(newest).toContainText(/migrated\s.+\safter\s\d+\stokens/);
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
