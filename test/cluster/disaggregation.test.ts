import { afterEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { CLOSE } from '../../src/protocol/close-codes.ts';
import type { Card } from '../../src/protocol/messages.ts';
import { type HubMessageOf, ScriptedNode, type ScriptedNodeOptions } from '../support/scripted-node.ts';
import { BLOCK_BYTES, closePrefill, DecodeEnd, wantedOf } from '../support/scripted-transfer.ts';
import { startTestHub } from '../support/test-hub.ts';

/** Six blocks and one token. */
const PROMPT = Array.from({ length: 97 }, (_, i) => 300 + i);
const TIMEOUT_MS = 300;

let hub: Hub;
afterEach(() => hub.close());

const start = (disaggregation: object = {}, limits: object = {}) =>
  startTestHub(
    {
      disaggregation: {
        transports: ['local', 'relay', 'webrtc'],
        timeoutMs: TIMEOUT_MS,
        minTokens: 32,
        ...disaggregation,
      },
    },
    limits,
  ).then((started) => {
    hub = started;
  });

const join = (role: Card['role'], card: Partial<Omit<Card, 'adapter'>> = {}, options: ScriptedNodeOptions = {}) =>
  ScriptedNode.join(hub.url, { ...options, card: { role, transports: ['relay', 'webrtc'], ...card } });

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: {
    readonly choices: { readonly text: string; readonly token_ids: number[] }[];
    readonly nvext?: { kv_transfer?: object; worker_id?: object; migrations?: object[] };
  };
}

async function complete(body: object = {}, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(`${hub.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      ...{ model: 'quire-pico', prompt: PROMPT, max_tokens: 8, temperature: 0, return_token_ids: true },
      nvext: { extra_fields: ['worker_id'] },
      ...body,
    }),
    ...init,
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
}

async function metric(series: string): Promise<number> {
  const text = await (await fetch(`${hub.url}/metrics`)).text();
  const line = text.split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? 0 : Number(line.slice(series.length + 1));
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

const load = (node: ScriptedNode) => hub.state().nodes.find(({ id }) => id === node.id)?.activeSequences;

/** Nothing of any request or transfer is left. */
async function clean(...nodes: ScriptedNode[]): Promise<void> {
  await until(() => hub.state().inflightRequests === 0 && hub.state().transfers.length === 0);
  for (const node of nodes) expect(load(node)).toBe(0);
  expect(await metric('quire_kv_transfers_active')).toBe(0);
}

/** A decode node whose transfers the test drives by hand, and what it was asked. */
async function byHand(card: Partial<Omit<Card, 'adapter'>> = {}) {
  const ends: DecodeEnd[] = [];
  const goOn: (() => void)[] = [];
  const node = await join('decode', card, {
    tokenMs: 1,
    transfer: (message, self) => {
      ends.push(new DecodeEnd(self, message));
      return new Promise((resolve) => goOn.push(resolve));
    },
  });
  const end = async (nth = 0): Promise<DecodeEnd> => {
    await until(() => ends.length > nth);
    return ends[nth] as DecodeEnd;
  };
  return { node, end, ends, answer: (nth = 0) => goOn[nth]?.() };
}

/** A pair that hands over blocks as it should. */
async function willing(card: Partial<Omit<Card, 'adapter'>> = {}) {
  const waiting = new Map<string, () => void>();
  const prefill = await join('prefill', card, {
    prefill: (message, self) => {
      closePrefill(self, message);
      waiting.get(message.transfer)?.();
    },
  });
  const decode = await join('decode', card, {
    transfer: async (message, self) => {
      const end = new DecodeEnd(self, message);
      const sent = new Promise<void>((resolve) => waiting.set(end.offer.transfer, resolve));
      end.open();
      await sent;
      end.done();
    },
  });
  return { prefill, decode };
}

describe('X: a prompt that another node computes', () => {
  it('gives the answer of one node alone, and every place says that it was disaggregated', async () => {
    await start();
    const agg = await join('agg');
    const alone = await complete();
    await agg.leave();
    const { prefill, decode } = await willing();
    const answer = await complete();
    expect(answer.body.choices[0]!.token_ids).toEqual(alone.body.choices[0]!.token_ids);
    expect(alone.body.nvext?.kv_transfer).toBeUndefined();
    expect(alone.headers.get('x-quire-prefill-node')).toBeNull();
    expect(answer.body.nvext).toEqual({
      worker_id: { prefill_worker_id: prefill.id, decode_worker_id: decode.id },
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
    expect(await metric(`quire_kv_transfers_total{${both},outcome="done"}`)).toBe(1);
    expect(await metric(`quire_kv_transfer_blocks_total{${both}}`)).toBe(6);
    expect(await metric(`quire_kv_transfer_bytes_total{${both}}`)).toBe(6 * BLOCK_BYTES);
    expect(await metric('quire_remote_prefill_tokens_total{model="quire-pico"}')).toBe(97);
    await clean(prefill, decode);
    const ids = { from: prefill.id, to: decode.id };
    expect(hub.state().happenings.slice(1)).toMatchObject([
      { kind: 'routed', request: 2, node: decode.id, prefillNode: prefill.id },
      { kind: 'prefilled', request: 2, node: prefill.id, decodeNode: decode.id, computedTokens: 97, blocks: 6 },
      { kind: 'transferred', request: 2, ...ids, transport: 'relay', blocks: 6, bytes: 6 * BLOCK_BYTES },
    ]);
  });

  it('is told in the last chunk of a stream, and its headers come with the first', async () => {
    await start();
    const { prefill, decode } = await willing();
    const body = { model: 'quire-pico', prompt: PROMPT, max_tokens: 3, stream: true };
    const response = await fetch(`${hub.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    expect(response.headers.get('x-quire-prefill-node')).toBe(prefill.id);
    const chunks = (await response.text()).split('\n\n').filter((line) => line.startsWith('data: {'));
    const told = chunks.map((line) => JSON.parse(line.slice(6)).nvext?.kv_transfer);
    expect(told.slice(0, -1).every((each) => each === undefined)).toBe(true);
    expect(told.at(-1)).toMatchObject({ transport: 'relay', blocks: 6 });
    await clean(prefill, decode);
  });

  it('counts as load of the prefill node, and of the decode node only when that computes it after all', async () => {
    await start();
    const prefill = await join('prefill');
    const { node, end, answer } = await byHand();
    const answered = complete();
    const first = await end();
    expect([load(prefill), load(node)]).toEqual([1, 1]);
    expect(hub.state().transfers).toMatchObject([
      { request: 1, prefillNode: prefill.id, decodeNode: node.id, transport: null, blocks: 0 },
    ]);
    first.open();
    await prefill.next('prefill');
    expect(hub.state().transfers).toMatchObject([{ transport: 'relay', blocks: 6 }]);
    first.local('refused');
    await prefill.next('transfer_cancel');
    answer();
    expect((await answered).body.nvext?.worker_id).toEqual({ prefill_worker_id: node.id, decode_worker_id: node.id });
    await clean(prefill, node);
  });

  it.each([
    ['short of the threshold', {}, { prompt: PROMPT.slice(0, 31) }],
    ['with prompt logprobs', {}, { prompt_logprobs: 0 }],
    ['without a block to hand over', { minTokens: 0 }, { prompt: PROMPT.slice(0, 16) }],
  ])('a prompt %s is computed where its answer is', async (_, config, body) => {
    await start(config);
    const { prefill, decode } = await willing();
    const { status, body: answer } = await complete(body);
    expect(status).toBe(200);
    expect(answer.nvext?.kv_transfer).toBeUndefined();
    expect(decode.of('generate')[0]!.prefill).toBeUndefined();
    expect(prefill.of('prefill')).toHaveLength(0);
  });

  it('--remote-prefill-min-tokens counts uncached tokens, itself included', async () => {
    await start({ minTokens: 33 });
    const { decode } = await willing();
    await complete({ prompt: PROMPT.slice(0, 32) });
    await complete({ prompt: PROMPT.slice(0, 33) });
    expect(decode.of('generate').map(({ prefill }) => prefill !== undefined)).toEqual([false, true]);
  });

  it.each<[string, Partial<Omit<Card, 'adapter'>>]>([
    ['another KV dtype', { kvCacheDtype: 'f16' }],
    ['no way in common', { transports: ['webrtc'] }],
    ['another browser profile', { transports: ['local'], localScope: 'here' }],
    ['too short a context', { maxModelLen: 97 }],
  ])('a prefill node with %s is not asked', async (_, card) => {
    await start();
    await join('prefill', card);
    const decode = await join('decode', { transports: ['local', 'relay'], localScope: 'there' });
    expect((await complete()).status).toBe(200);
    expect(decode.of('generate')[0]!.prefill).toBeUndefined();
  });

  it('ways are offered in the order of --kv-transfer-config; local needs one browser profile', async () => {
    await start({ transports: ['webrtc', 'local', 'relay'] });
    await join('prefill', { transports: ['local', 'relay', 'webrtc'], localScope: 'one' });
    const near = await byHand({ transports: ['local', 'relay', 'webrtc'], localScope: 'one' });
    const answered = complete({}, { headers: { 'content-type': 'application/json', 'x-quire-node': near.node.id } });
    const end = await near.end();
    expect(end.offer.transports).toEqual(['webrtc', 'local', 'relay']);
    end.local('cached');
    near.answer();
    await answered;
  });

  it('a node that gives the same numbers comes before one that does not, and else the answer says so', async () => {
    await start();
    const other = await join('prefill', { numericsId: 'another' }, { prefill: (m, self) => closePrefill(self, m) });
    const { node, end, answer } = await byHand();
    const answered = complete();
    const first = await end();
    expect(first.offer.node).toBe(other.id);
    first.open();
    await other.next('prefill');
    first.done();
    answer();
    expect((await answered).body.nvext?.kv_transfer).toMatchObject({ numerics_changed: true });
    const same = await join('prefill');
    const again = complete();
    expect((await end(1)).offer.node).toBe(same.id);
    (await end(1)).local('cached');
    answer(1);
    await again;
    await clean(node);
  });
});

describe('X: faults end in a local prefill, and the client sees only a later first token', () => {
  const PHASES = ['offered', 'open', 'sent'] as const;

  /** A request that is stopped in a phase of its transfer. */
  async function reach(phase: (typeof PHASES)[number], config: object = {}) {
    await start(config);
    const agg = await join('agg');
    const { choices } = (await complete()).body;
    await agg.leave();
    const prefill = await join('prefill');
    const hand = await byHand();
    const abort = new AbortController();
    const answered = complete({}, { headers: { 'content-type': 'application/json' }, signal: abort.signal });
    const end = await hand.end();
    if (phase !== 'offered') {
      end.open();
      const asked = await prefill.next('prefill');
      if (phase === 'sent') closePrefill(prefill, asked);
    }
    return { ...hand, end, prefill, answered, abort, alone: choices[0]!.token_ids };
  }

  it.each(PHASES)('the prefill node goes while the transfer is %s', async (phase) => {
    const { node, end, prefill, answered, answer, alone } = await reach(phase);
    if (phase === 'sent') {
      // It has done its part: what it sent may still arrive.
      await until(() => hub.state().happenings.some(({ kind }) => kind === 'prefilled'));
      await prefill.leave();
      end.done();
    } else {
      await prefill.leave();
      expect((await node.next('transfer_cancel')).message).toContain('the prefill node is gone');
      end.local('prefill_failed', 'the prefill node is gone');
    }
    answer();
    const { status, body, headers } = await answered;
    expect(status).toBe(200);
    expect(body.choices[0]!.token_ids).toEqual(alone);
    expect(body.nvext?.migrations).toBeUndefined();
    if (phase !== 'sent') {
      expect(headers.get('x-quire-prefill-node')).toBeNull();
      expect(body.nvext?.kv_transfer).toEqual({
        ...{ prefill_node: prefill.id, transport: null },
        ...{ fallback: 'prefill_failed', message: 'the prefill node is gone' },
      });
      expect(await metric('quire_kv_transfer_fallbacks_total{model="quire-pico",reason="prefill_failed"}')).toBe(1);
      expect(hub.state().happenings.at(-1)).toMatchObject({
        kind: 'fell_back',
        node: node.id,
        prefillNode: prefill.id,
      });
    }
    await clean(node);
  });

  it.each(PHASES)('the decode node goes while the transfer is %s: the next one decides anew', async (phase) => {
    const { node, prefill, answered, alone } = await reach(phase);
    const next = await byHand();
    await node.leave();
    if (phase === 'open') expect((await prefill.next('transfer_cancel')).message).toContain('the decode node is gone');
    const end = await next.end();
    expect(end.message.attempt).toBe(1);
    end.open();
    closePrefill(prefill, await prefill.next('prefill', phase === 'offered' ? 0 : 1));
    end.done();
    next.answer();
    const { body } = await answered;
    expect(body.choices[0]!.token_ids).toEqual(alone);
    expect(body.nvext).toMatchObject({
      worker_id: { prefill_worker_id: prefill.id, decode_worker_id: next.node.id },
      kv_transfer: { prefill_node: prefill.id, blocks: 6 },
      migrations: [{ from_node: node.id, to_node: next.node.id }],
    });
    await clean(prefill, next.node);
  });

  it.each(PHASES)('the client goes while the transfer is %s: both nodes are told', async (phase) => {
    const { node, prefill, answered, abort } = await reach(phase);
    abort.abort();
    await expect(answered).rejects.toThrow();
    await node.next('cancel');
    if (phase === 'open') expect((await prefill.next('transfer_cancel')).message).toContain('over');
    await clean(prefill, node);
    const transport = phase === 'offered' ? 'none' : 'relay';
    const series = `quire_kv_transfers_total{model="quire-pico",transport="${transport}",outcome="cancelled"}`;
    expect(await metric(series)).toBe(1);
    // A late word is nobody's concern.
    closePrefill(prefill, {
      transfer: 'gone',
      generate: { prompt: PROMPT },
      wanted: wantedOf(PROMPT),
    } as HubMessageOf<'prefill'>);
    expect(hub.state().nodes).toHaveLength(2);
  });

  it('the prefill node fails: the decode node hears why', async () => {
    const { node, end, prefill, answered, answer, alone } = await reach('open');
    closePrefill(prefill, prefill.of('prefill')[0]!, { failed: 'its GPU has no blocks left', blocks: 0, bytes: 0 });
    const { message } = await node.next('transfer_cancel');
    expect(message).toBe('its GPU has no blocks left');
    end.local('prefill_failed', message);
    answer();
    const { body } = await answered;
    expect(body.choices[0]!.token_ids).toEqual(alone);
    expect(body.nvext?.kv_transfer).toMatchObject({ fallback: 'prefill_failed', message });
    await clean(prefill, node);
  });

  it('the decode node opens nothing: it is told to give up, and the pair rests before it is tried again', async () => {
    const { node, prefill, answered, answer } = await reach('offered', { timeoutMs: 40 });
    await node.next('transfer_cancel');
    // It says nothing even then.
    await until(() => hub.state().transfers.length === 0);
    answer();
    const { body } = await answered;
    expect(body.nvext?.kv_transfer).toMatchObject({
      fallback: 'stalled',
      message: 'the decode node opened no channel',
    });
    await clean(prefill, node);
    await complete();
    expect(node.of('generate').map(({ prefill: offer }) => offer !== undefined)).toEqual([true, false]);
  });

  it('a prefill node that says another stage is lost like one that goes', async () => {
    const { node, end, prefill, answered, answer } = await reach('open');
    prefill.send({ type: 'stage', stage: 'warming', detail: 'device lost', loadedBytes: 0, totalBytes: 0 });
    await node.next('transfer_cancel');
    end.local('closed');
    answer();
    expect((await answered).status).toBe(200);
    await clean(node);
  });
});

describe('X: only the two nodes of a transfer speak of it, and what they say is checked', () => {
  async function open() {
    await start();
    const prefill = await join('prefill');
    const stranger = await join('prefill');
    const hand = await byHand();
    const answered = complete();
    const end = await hand.end();
    const [asked, other] = end.offer.node === prefill.id ? [prefill, stranger] : [stranger, prefill];
    return { ...hand, end, prefill: asked, stranger: other, answered };
  }
  const refused = async (node: ScriptedNode, part: string) =>
    expect(await node.closed).toMatchObject({ code: CLOSE.protocol, reason: expect.stringContaining(part) });
  /** The request is still answered, by whoever is left. */
  const goesOn = async (answered: Promise<Answer>) => {
    await join('agg');
    expect((await answered).status).toBe(200);
  };

  it('a node that speaks of the transfer of others is closed, and the transfer goes on', async () => {
    const { end, prefill, stranger, answer, answered } = await open();
    stranger.send({ type: 'signal', epoch: 1, transfer: end.offer.transfer, data: 'x' });
    await refused(stranger, 'which is between other nodes');
    end.open();
    closePrefill(prefill, await prefill.next('prefill'));
    end.done();
    answer();
    expect((await answered).body.nvext?.kv_transfer).toMatchObject({ blocks: 6 });
  });

  it('the prefill node cannot speak for the decode node', async () => {
    const { end, prefill, answer, answered, node } = await open();
    prefill.send({
      type: 'transfer_closed',
      epoch: 1,
      transfer: end.offer.transfer,
      outcome: { kind: 'local', why: 'cached', message: '' },
    });
    await refused(prefill, 'transfer_closed');
    await node.next('transfer_cancel');
    end.local('prefill_failed');
    answer();
    expect((await answered).status).toBe(200);
  });

  it.each<[string, (end: DecodeEnd) => void, string]>([
    ['other hashes', (end) => end.open({ wanted: wantedOf(PROMPT.map((id) => id + 1)) }), 'hash wanted for block 0'],
    ['more blocks', (end) => end.open({ wanted: wantedOf([...PROMPT, ...PROMPT]) }), 'of a prompt with 6'],
    ['fewer blocks', (end) => end.open({ wanted: wantedOf(PROMPT.slice(0, 40)) }), 'of a prompt with 6'],
    ['a way not offered', (end) => end.open({ transport: 'local' }), 'was not offered'],
    ['done before it is open', (end) => end.done(), 'before it was open'],
    ['two openings', (end) => [end.open(), end.open()], 'opened twice'],
    ['too few blocks done', (end) => [end.open(), end.done({ blocks: 5 })], '5 blocks of 6'],
    ['another way done', (end) => [end.open(), end.done({ transport: 'webrtc' })], 'done by webrtc'],
    ['too many signals', (end) => signals(end, 257), 'more than 256 signals'],
  ])('%s closes the decode node', async (_, say, part) => {
    const { end, node, answered } = await open();
    say(end);
    await refused(node, part);
    await goesOn(answered);
  });

  it.each<[string, (prefill: ScriptedNode, end: DecodeEnd) => Promise<void>, string]>([
    [
      'an end before it was asked',
      async (prefill, end) =>
        closePrefill(prefill, {
          transfer: end.offer.transfer,
          generate: end.message.generate,
          wanted: wantedOf(PROMPT),
        } as HubMessageOf<'prefill'>),
      'no prefill was asked',
    ],
    [
      'more blocks than were wanted',
      async (prefill, end) => {
        end.open();
        closePrefill(prefill, await prefill.next('prefill'), { blocks: 7 });
      },
      '7 blocks were sent of 6',
    ],
  ])('%s closes the prefill node', async (_, say, part) => {
    const { end, prefill, answer, answered, node } = await open();
    await say(prefill, end);
    await refused(prefill, part);
    await node.next('transfer_cancel');
    end.local('prefill_failed');
    answer();
    expect((await answered).status).toBe(200);
  });

  it('signals go from either node to the other, also before the prefill node is asked', async () => {
    const { end, prefill, node, answer, answered } = await open();
    const { transfer } = end.offer;
    node.send({ type: 'signal', epoch: 1, transfer, data: 'an offer' });
    expect(await prefill.next('signal')).toEqual({ type: 'signal', transfer, data: 'an offer' });
    prefill.send({ type: 'signal', epoch: 1, transfer, data: 'an answer' });
    expect(await node.next('signal')).toEqual({ type: 'signal', transfer, data: 'an answer' });
    end.local('no_transport');
    // It heard of the transfer, so it hears of its end.
    await prefill.next('transfer_cancel');
    answer();
    expect((await answered).body.nvext?.kv_transfer).toMatchObject({ fallback: 'no_transport' });
  });

  it('J7: words of an older connection are dropped', async () => {
    const { end, node, prefill, answer, answered } = await open();
    end.open({ epoch: 99, wanted: wantedOf(PROMPT.map((id) => id + 1)) });
    end.open();
    closePrefill(prefill, await prefill.next('prefill'));
    end.done();
    answer();
    expect((await answered).status).toBe(200);
    expect(node.socket.readyState).toBe(1);
  });
});

function signals(end: DecodeEnd, count: number): void {
  for (let i = 0; i < count; i++)
    end.node.send({ type: 'signal', epoch: 1, transfer: end.offer.transfer, data: String(i) });
}
