import type { BrowserContext, Page } from '@playwright/test';
import OpenAI from 'openai';
import type { StepRecord } from '../../src/engine/api.ts';
import type { Hub } from '../../src/hub/hub.ts';
import type { Load } from '../../src/protocol/messages.ts';
import { expect } from './fixture.ts';

/** The official client, which does not try again behind the test's back. */
export function clientOf(url: string): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
}

/** Runs `task` over all items, at most `width` of them at a time; results in the items' order. */
export async function crowd<T, R>(items: readonly T[], width: number, task: (item: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  const queue = items.entries();
  const one = async () => {
    for (const [i, item] of queue) results[i] = await task(item);
  };
  await Promise.all(Array.from({ length: width }, one));
  return results;
}

/**
 * Counters of a hub's only node, once it computes nothing. A node's socket keeps order: a load that comes after
 * a request's last token was taken after it.
 */
export async function countersWhenIdle(hub: Hub): Promise<Load['counters']> {
  const load = () => hub.state().nodes[0]?.loads[0] ?? null;
  const before = load();
  let idle: Load['counters'] | null = null;
  const look = () => {
    const now = load();
    if (now !== null && now !== before && now.running === 0 && now.waiting === 0) idle ??= now.counters;
    return idle !== null;
  };
  await expect.poll(look, { intervals: [50] }).toBe(true);
  return idle!;
}

/** What the counters grew by. */
export function growth(before: Load['counters'], after: Load['counters']): Load['counters'] {
  const entries = Object.entries(after).map(([key, value]) => [key, value - before[key as keyof Load['counters']]]);
  return Object.fromEntries(entries) as Load['counters'];
}

declare global {
  /** The worker of a page under test. */
  var workerUnderTest: Worker | undefined;
}

/** Before a page is opened: keeps hold of the worker that it starts, for `stepRecords`. */
export async function keepWorkers(context: BrowserContext): Promise<void> {
  await context.addInitScript(() => {
    globalThis.Worker = class extends Worker {
      constructor(...args: ConstructorParameters<typeof Worker>) {
        super(...args);
        globalThis.workerUnderTest = this;
      }
    };
  });
}

/** The engine's last steps, asked of the page's worker in comlink's words. */
export function stepRecords(page: Page): Promise<StepRecord[]> {
  return page.evaluate(
    () =>
      new Promise<StepRecord[]>((resolve, reject) => {
        const worker = globalThis.workerUnderTest;
        if (worker === undefined) return reject(new Error('the page has no worker'));
        const id = `steps-${Math.random()}`;
        worker.addEventListener('message', function answer({ data }: MessageEvent) {
          if (data?.id !== id) return;
          worker.removeEventListener('message', answer);
          resolve(data.value);
        });
        worker.postMessage({ id, type: 'APPLY', path: ['steps'], argumentList: [] });
      }),
  );
}
