import { afterEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { MAX_HAPPENINGS } from '../../src/protocol/cluster-state.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { DEFAULT_KNOBS, startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

let hub: Hub;
afterEach(() => hub.close());

const complete = (headers: Record<string, string> = {}) =>
  fetch(`${hub.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model: 'quire-pico', prompt: [1, 2, 3], max_tokens: 2 }),
  });
const health = async () => {
  const response = await fetch(`${hub.url}/health`);
  return { code: response.status, ...(await response.json()) };
};
const join = (role: 'agg' | 'prefill' | 'decode') => ScriptedNode.join(hub.url, { card: { role } });

describe('J5: the role of a node', () => {
  it('prefill nodes get no requests, and make no model ready', async () => {
    hub = await startTestHub();
    const prefill = await join('prefill');
    expect(await health()).toMatchObject({ code: 503, instances: [{ instance_id: prefill.id, role: 'prefill' }] });
    const refused = await complete();
    expect(refused.status).toBe(503);
    expect((await refused.json()).error.message).toContain('Only prefill nodes are ready');
    expect((await complete({ 'x-quire-node': prefill.id })).status).toBe(503);
    expect(prefill.of('generate')).toHaveLength(0);
  });

  it('decode nodes serve alone, and before those of role agg once a prefill node is there', async () => {
    hub = await startTestHub({ router: { mode: 'round-robin', knobs: DEFAULT_KNOBS } });
    const [decode, agg] = [await join('decode'), await join('agg')];
    expect(await health()).toMatchObject({ code: 200, status: 'healthy' });
    for (let i = 0; i < 4; i++) expect((await complete()).status).toBe(200);
    expect([decode.of('generate').length, agg.of('generate').length]).toEqual([2, 2]);
    await join('prefill');
    for (let i = 0; i < 4; i++) expect((await complete()).headers.get('x-quire-node')).toBe(decode.id);
    expect((await complete({ 'x-quire-node': agg.id })).headers.get('x-quire-node')).toBe(agg.id);
    await decode.leave();
    await until(() => hub.state().nodes.length === 2);
    expect((await complete()).headers.get('x-quire-node')).toBe(agg.id);
  });

  it('a request too long for every decode node goes to one of role agg', async () => {
    hub = await startTestHub();
    await join('prefill');
    const decode = await ScriptedNode.join(hub.url, { card: { role: 'decode', maxModelLen: 4 } });
    const agg = await join('agg');
    const answer = await complete();
    expect(answer.status).toBe(200);
    expect(answer.headers.get('x-quire-node')).toBe(agg.id);
    expect(decode.of('generate')).toHaveLength(0);
  });

  it('the state tells what happened, in order, without the ids of requests', async () => {
    hub = await startTestHub();
    const node = await join('agg');
    for (let i = 0; i < 2; i++) await complete();
    const { happenings, transfers } = hub.state();
    expect(transfers).toEqual([]);
    const routed = {
      kind: 'routed',
      node: node.id,
      prefillNode: null,
      attempt: 0,
      promptBlocks: 1,
      model: 'quire-pico',
    };
    expect(happenings).toMatchObject([
      { ...routed, number: 1, request: 1 },
      { ...routed, number: 2, request: 2 },
    ]);
    for (let i = 0; i < 130; i++) await complete();
    expect(hub.state().happenings).toHaveLength(MAX_HAPPENINGS);
    expect(hub.state().happenings.at(-1)).toMatchObject({ number: 132 });
    expect(JSON.stringify(hub.state())).not.toContain('cmpl-');
  });
});
