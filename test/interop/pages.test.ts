import path from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { findChromium } from '../../src/hub/launch/find-chromium.ts';
import { type HeadlessNodes, launchNodes } from '../../src/hub/launch/headless-nodes.ts';
import { isRoot, thisMachine } from '../../src/hub/launch/machine.ts';
import { build, isStale } from '../../src/hub/launch/page-build.ts';
import { systemClock } from '../../src/protocol/clock.ts';
import { startBridgedHub } from '../support/bridged-hub.ts';
import { type Deployment, DynamoFrontend, fileDeployment } from '../support/dynamo-frontend.ts';

/** Two real pages on the software adapter, behind a real frontend of Dynamo, asked by OpenAI's own client. */

const ROOT = path.resolve(import.meta.dirname, '../..');
const MODEL = 'quire-pico';
let deployment: Deployment;
let hub: Hub;
let frontend: DynamoFrontend;
let browser: HeadlessNodes;
/** By way of Dynamo, and of the hub's own API. */
let dynamo: OpenAI;
let own: OpenAI;

beforeAll(async () => {
  if (isStale(ROOT, 'page')) await build(ROOT, 'page');
  deployment = await fileDeployment();
  hub = await startBridgedHub(deployment, { staticDir: path.join(ROOT, 'dist/page') });
  frontend = await DynamoFrontend.start(deployment, '--router-mode', 'kv');
  const executable = findChromium(thisMachine, process.env.QUIRE_CHROMIUM ?? null);
  if (executable === null)
    throw new Error('No Chromium found. Install one: npx playwright install --no-shell chromium');
  browser = await launchNodes({
    ...{ executable, isRoot, hubUrl: hub.url, joinToken: null, trustedKey: null },
    ...{ roles: [null, null], query: {}, adapter: 'software', clock: systemClock, say() {} },
  });
  const client = (url: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  dynamo = client(frontend.url);
  own = client(hub.url);
  await frontend.until('both pages are workers', async () => (await frontend.workers()) === 2, 150_000);
  await frontend.serves(MODEL, 2);
});
afterAll(async () => {
  await browser?.close();
  await frontend?.close();
  await hub?.close();
  await deployment?.close();
});

const chat = (content: string, more: object = {}) => ({
  model: MODEL,
  messages: [{ role: 'user' as const, content }],
  max_tokens: 24,
  temperature: 0,
  ...more,
});

describe('browser pages as workers of a real Dynamo frontend', () => {
  it("answer as the hub's own API does, whole and streamed", async () => {
    const [theirs, ours] = [
      await dynamo.chat.completions.create(chat('Hello')),
      await own.chat.completions.create(chat('Hello')),
    ];
    const text = ours.choices[0]?.message.content;
    expect(text).not.toBe('');
    expect(theirs.choices[0]).toMatchObject({
      message: { content: text },
      finish_reason: ours.choices[0]?.finish_reason,
    });
    expect(theirs.usage).toMatchObject({
      prompt_tokens: ours.usage?.prompt_tokens,
      completion_tokens: ours.usage?.completion_tokens,
    });
    let streamed = '';
    for await (const chunk of await dynamo.chat.completions.create({ ...chat('Hello'), stream: true }))
      streamed += chunk.choices[0]?.delta.content ?? '';
    expect(streamed).toBe(text);
  });

  it('give the logprobs of their tokens', async () => {
    const more = { logprobs: true, top_logprobs: 3, max_tokens: 4 };
    const [theirs, ours] = [
      await dynamo.chat.completions.create(chat('Hello', more)),
      await own.chat.completions.create(chat('Hello', more)),
    ];
    // The frontend has them as f32.
    const values = (answer: typeof ours) =>
      answer.choices[0]?.logprobs?.content?.map(({ token, logprob, top_logprobs }) => [
        token,
        Math.fround(logprob),
        top_logprobs.length,
      ]);
    expect(values(ours)).toHaveLength(4);
    expect(values(theirs)).toEqual(values(ours));
  });

  it('get a prompt again that they hold, and say how much of it was cached', async () => {
    const long = Array.from({ length: 20 }, (_, i) => `Sheet ${i} is folded.`).join(' ');
    const ask = () =>
      dynamo.chat.completions.create(chat(long, { max_tokens: 2, nvext: { extra_fields: ['timing'] } }));
    await ask();
    const timing = (answer: object) => (answer as { nvext?: { timing?: { kv_hit_rate?: number } } }).nvext?.timing;
    await frontend.until('the router knows the prompt', async () => (timing(await ask())?.kv_hit_rate ?? 0) > 0.9);
    for (let i = 0; i < 3; i++) {
      const again = await ask();
      const { prompt_tokens = 0, prompt_tokens_details } = again.usage ?? {};
      expect(timing(again)?.kv_hit_rate).toBeGreaterThan(0.9);
      expect(prompt_tokens_details?.cached_tokens).toBeGreaterThan(prompt_tokens - 32);
    }
  });

  it('stop strings are cut off whole', async () => {
    const whole = (await own.chat.completions.create(chat('Hello'))).choices[0]?.message.content ?? '';
    const stop = whole.slice(10, 14);
    const { choices } = await dynamo.chat.completions.create(chat('Hello', { stop: [stop] }));
    expect(choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: whole.slice(0, whole.indexOf(stop)) },
    });
  });

  it('go on for each other: a page that is closed in the middle of a stream is not missed', async () => {
    const wanted = await own.chat.completions.create(chat('Tell me', { max_tokens: 80, ignore_eos: true }));
    const asked = { ...chat('Tell me', { max_tokens: 80, ignore_eos: true }), stream: true as const };
    let text = '';
    let closed = false;
    for await (const chunk of await dynamo.chat.completions.create(asked)) {
      text += chunk.choices[0]?.delta.content ?? '';
      if (closed || text.length < 20) continue;
      closed = true;
      const serving = hub.state().nodes.find(({ activeRequests }) => activeRequests > 0)?.id;
      for (const page of browser.pages)
        if ((await page.getByTestId('stage').getAttribute('data-node')) === serving) await page.close();
    }
    expect(closed).toBe(true);
    expect(hub.state().migrations).toBe(1);
    expect(text).toBe(wanted.choices[0]?.message.content);
  });
});
