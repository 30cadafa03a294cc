import OpenAI from 'openai';
import { afterEach, expect, it } from 'vitest';
import { systemClock } from '../../src/protocol/clock.ts';
import type { Role } from '../../src/protocol/messages.ts';
import { startBridgedHub } from '../support/bridged-hub.ts';
import { DynamoFrontend, fileDeployment } from '../support/dynamo-frontend.ts';
import { GpulessNode } from '../support/gpuless-node.ts';
import { until } from '../support/until.ts';

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

it('prefill workers of Dynamo hand the blocks of prompts to decode workers, and are missed by nobody when they leave', async () => {
  const deployment = await fileDeployment();
  open.push(deployment);
  const disaggregation = { transports: ['relay'] as const, timeoutMs: 5000, minTokens: 20 };
  const hub = await startBridgedHub(deployment, { disaggregation });
  open.push(hub);
  const frontend = await DynamoFrontend.start(deployment, '--router-mode', 'kv');
  open.push(frontend);
  const join = async (role: Role): Promise<GpulessNode> => {
    const node = new GpulessNode({ hubUrl: hub.url, clock: systemClock, role });
    open.push({ close: () => node.leave() });
    await until(() => node.stage === 'ready');
    return node;
  };
  const decode = await join('decode');
  const prefill = [await join('prefill'), await join('prefill')];
  await frontend.serves('quire-pico', 3);
  const client = new OpenAI({ baseURL: `${frontend.url}/v1`, apiKey: 'none', maxRetries: 0 });
  const ask = (content: string) =>
    client.chat.completions.create({
      ...{ model: 'quire-pico', messages: [{ role: 'user', content }], max_tokens: 8 },
      ...{ ignore_eos: true, nvext: { extra_fields: ['worker_id'] } },
    });
  const transferred = () =>
    hub.state().happenings.flatMap((happening) => (happening.kind === 'transferred' ? [happening] : []));

  /** Which node of ours the prefill workers of Dynamo turned out to be. */
  const chosen = new Map<number, Set<string>>();
  let asked = 0;
  while (chosen.size < 2 && asked < 15) {
    const answer = await ask(`${asked} ${'sheets of a quire '.repeat(12)}`);
    asked += 1;
    expect(answer.usage?.completion_tokens).toBe(8);
    expect(transferred()).toHaveLength(asked);
    const last = transferred().at(-1)!;
    expect(last.to).toBe(decode.id);
    expect(last.blocks).toBeGreaterThan(0);
    const { nvext } = answer as { nvext?: { worker_id?: { prefill_worker_id?: number } } };
    const worker = nvext?.worker_id?.prefill_worker_id ?? 0;
    chosen.set(worker, new Set([...(chosen.get(worker) ?? []), last.from]));
  }
  // Each is one node: it is Dynamo that chooses, and not the hub.
  const found = [...chosen.values()].map((nodes) => [...nodes]);
  expect(found.flat().sort()).toEqual(prefill.map(({ id }) => id).sort());

  for (const node of prefill) await node.leave();
  await frontend.serves('quire-pico', 1);
  expect((await ask(`again ${'sheets of a quire '.repeat(12)}`)).usage?.completion_tokens).toBe(8);
  expect(transferred()).toHaveLength(asked);
});
