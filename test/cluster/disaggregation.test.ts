import { afterEach, describe, expect, it } from 'vitest';
import { type CardChange, DisaggregatedHub, PROMPT, TIMEOUT_MS } from '../support/disaggregated-hub.ts';
import { BLOCK_BYTES, closePrefill, wantedOf } from '../support/scripted-transfer.ts';

let cluster: DisaggregatedHub;
afterEach(() => cluster.close());

describe('R1, R2: a prompt that another node computes', () => {
  it('gives the answer of one node alone, and every place says that it was disaggregated', async () => {
    cluster = await DisaggregatedHub.start();
    const agg = await cluster.join('agg');
    const alone = await cluster.complete();
    await agg.leave();
    const { prefill, decode } = await cluster.willing();
    const answer = await cluster.complete();
    expect(answer.body.choices[0]!.token_ids).toEqual(alone.body.choices[0]!.token_ids);
    expect(alone.body.nvext?.kv_transfer).toBeUndefined();
    expect(alone.headers.get('x-quire-prefill-node')).toBeNull();
    expect(answer.body.nvext).toEqual({
      worker_id: {
        ...{ prefill_worker_id: prefill.id, prefill_dp_rank: 0 },
        ...{ decode_worker_id: decode.id, decode_dp_rank: 0 },
      },
      kv_transfer: {
        ...{ prefill_node: prefill.id, transport: 'relay', blocks: 6, bytes: 6 * BLOCK_BYTES },
        ...{ remote_tokens: 97, cached_tokens: 0, milliseconds: 0, numerics_changed: false },
      },
    });
    expect(answer.headers.get('x-quire-node')).toBe(decode.id);
    expect(answer.headers.get('x-quire-prefill-node')).toBe(prefill.id);
    const asked = prefill.of('prefill')[0]!;
    expect(asked).toMatchObject({ peer: decode.id, transport: 'relay', credit: 4, timeoutMs: TIMEOUT_MS });
    expect(asked.generate).toMatchObject({ request: asked.transfer, prompt: PROMPT, sampling: { maxTokens: 1 } });
    expect(asked.wanted).toEqual(wantedOf(PROMPT));
    expect(prefill.of('generate')).toHaveLength(0);
    const both = 'model="quire-pico",transport="relay"';
    expect(await cluster.metric(`quire_kv_transfers_total{${both},outcome="done"}`)).toBe(1);
    expect(await cluster.metric(`quire_kv_transfer_blocks_total{${both}}`)).toBe(6);
    expect(await cluster.metric(`quire_kv_transfer_bytes_total{${both}}`)).toBe(6 * BLOCK_BYTES);
    expect(await cluster.metric('quire_remote_prefill_tokens_total{model="quire-pico"}')).toBe(97);
    await cluster.clean(prefill, decode);
    const ids = { from: prefill.id, to: decode.id };
    expect(cluster.hub.state().happenings.slice(1)).toMatchObject([
      { kind: 'routed', request: 2, node: decode.id, prefillNode: prefill.id },
      { kind: 'prefilled', request: 2, node: prefill.id, decodeNode: decode.id, computedTokens: 97, blocks: 6 },
      { kind: 'transferred', request: 2, ...ids, transport: 'relay', blocks: 6, bytes: 6 * BLOCK_BYTES },
    ]);
  });

  it('is told in the last chunk of a stream, and its headers come with the first', async () => {
    cluster = await DisaggregatedHub.start();
    const { prefill, decode } = await cluster.willing();
    const body = { model: 'quire-pico', prompt: PROMPT, max_tokens: 3, stream: true };
    const response = await fetch(`${cluster.hub.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    expect(response.headers.get('x-quire-prefill-node')).toBe(prefill.id);
    const chunks = (await response.text()).split('\n\n').filter((line) => line.startsWith('data: {'));
    const told = chunks.map((line) => JSON.parse(line.slice(6)).nvext?.kv_transfer);
    expect(told.slice(0, -1).every((each) => each === undefined)).toBe(true);
    expect(told.at(-1)).toMatchObject({ transport: 'relay', blocks: 6 });
    await cluster.clean(prefill, decode);
  });

  it('counts as load of the prefill node, and of the decode node only when that computes it after all', async () => {
    cluster = await DisaggregatedHub.start();
    const prefill = await cluster.join('prefill');
    const { node, end, answer } = await cluster.byHand();
    const answered = cluster.complete();
    const first = await end();
    expect([cluster.load(prefill), cluster.load(node)]).toEqual([1, 1]);
    expect(cluster.hub.state().transfers).toMatchObject([
      { request: 1, prefillNode: prefill.id, decodeNode: node.id, transport: null, blocks: 0 },
    ]);
    first.open();
    await prefill.next('prefill');
    expect(cluster.hub.state().transfers).toMatchObject([{ transport: 'relay', blocks: 6 }]);
    first.local('refused');
    await prefill.next('transfer_cancel');
    answer();
    expect((await answered).body.nvext?.worker_id).toMatchObject({
      prefill_worker_id: node.id,
      decode_worker_id: node.id,
    });
    await cluster.clean(prefill, node);
  });

  it.each([
    ['short of the threshold', {}, { prompt: PROMPT.slice(0, 31) }],
    ['with prompt logprobs', {}, { prompt_logprobs: 0 }],
    ['without a block to hand over', { minTokens: 0 }, { prompt: PROMPT.slice(0, 16) }],
  ])('a prompt %s is computed where its answer is', async (_, config, body) => {
    cluster = await DisaggregatedHub.start(config);
    const { prefill, decode } = await cluster.willing();
    const { status, body: answer } = await cluster.complete(body);
    expect(status).toBe(200);
    expect(answer.nvext?.kv_transfer).toBeUndefined();
    expect(decode.of('generate')[0]!.prefill).toBeUndefined();
    expect(prefill.of('prefill')).toHaveLength(0);
  });

  it('--remote-prefill-min-tokens counts uncached tokens, itself included', async () => {
    cluster = await DisaggregatedHub.start({ minTokens: 33 });
    const { decode } = await cluster.willing();
    await cluster.complete({ prompt: PROMPT.slice(0, 32) });
    await cluster.complete({ prompt: PROMPT.slice(0, 33) });
    expect(decode.of('generate').map(({ prefill }) => prefill !== undefined)).toEqual([false, true]);
  });

  it.each<[string, CardChange]>([
    ['another KV dtype', { kvCacheDtype: 'f16' }],
    ['no way in common', { transports: ['webrtc'] }],
    ['another browser profile', { transports: ['local'], localScope: 'here' }],
    ['too short a context', { maxModelLen: 97 }],
  ])('a prefill node with %s is not asked', async (_, card) => {
    cluster = await DisaggregatedHub.start();
    await cluster.join('prefill', card);
    const decode = await cluster.join('decode', { transports: ['local', 'relay'], localScope: 'there' });
    expect((await cluster.complete()).status).toBe(200);
    expect(decode.of('generate')[0]!.prefill).toBeUndefined();
  });

  it('ways are offered in the order of --kv-transfer-config; local needs one browser profile', async () => {
    cluster = await DisaggregatedHub.start({ transports: ['webrtc', 'local', 'relay'] });
    await cluster.join('prefill', { transports: ['local', 'relay', 'webrtc'], localScope: 'one' });
    const near = await cluster.byHand({ transports: ['local', 'relay', 'webrtc'], localScope: 'one' });
    const answered = cluster.complete({}, { 'x-quire-node': near.node.id });
    const end = await near.end();
    expect(end.offer.transports).toEqual(['webrtc', 'local', 'relay']);
    end.local('cached');
    near.answer();
    await answered;
  });

  it('a node that gives the same numbers comes before one that does not, and else the answer says so', async () => {
    cluster = await DisaggregatedHub.start();
    const other = await cluster.join(
      'prefill',
      { numericsId: 'another' },
      { prefill: (m, self) => closePrefill(self, m) },
    );
    const { node, end, answer } = await cluster.byHand();
    const answered = cluster.complete();
    const first = await end();
    expect(first.offer.node).toBe(other.id);
    first.open();
    await other.next('prefill');
    first.done();
    answer();
    expect((await answered).body.nvext?.kv_transfer).toMatchObject({ numerics_changed: true });
    const same = await cluster.join('prefill');
    const again = cluster.complete();
    expect((await end(1)).offer.node).toBe(same.id);
    (await end(1)).local('cached');
    answer(1);
    await again;
    await cluster.clean(node);
  });
});
