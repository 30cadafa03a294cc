import { afterEach, describe, expect, it } from 'vitest';
import { DisaggregatedHub, PROMPT } from '../support/disaggregated-hub.ts';
import type { HubMessageOf } from '../support/scripted-node.ts';
import { closePrefill, wantedOf } from '../support/scripted-transfer.ts';
import { until } from '../support/until.ts';

let cluster: DisaggregatedHub;
afterEach(() => cluster.close());

describe('R6, R7: faults end in a local prefill, and the client sees only a later first token', () => {
  const PHASES = ['offered', 'open', 'sent'] as const;

  /** A request that is stopped in a phase of its transfer. */
  async function reach(phase: (typeof PHASES)[number], config: object = {}, limits: object = {}) {
    cluster = await DisaggregatedHub.start(config, limits);
    const agg = await cluster.join('agg');
    const { choices } = (await cluster.complete()).body;
    await agg.leave();
    const prefill = await cluster.join('prefill');
    const hand = await cluster.byHand();
    const abort = new AbortController();
    const answered = cluster.complete({}, {}, abort.signal);
    const end = await hand.end();
    if (phase !== 'offered') {
      end.open();
      const asked = await prefill.next('prefill');
      if (phase === 'sent') closePrefill(prefill, asked);
    }
    return { ...hand, end, prefill, answered, abort, alone: choices[0]!.token_ids };
  }

  it('the prefill node is put to sleep: it does not wait for what it computes for others', async () => {
    const { node, end, prefill, answered, answer, alone } = await reach('open');
    const slept = fetch(`${cluster.hub.url}/sleep?node=${prefill.id}`, { method: 'POST' });
    await prefill.next('sleep');
    prefill.send({ type: 'stage', stage: 'asleep', detail: '', loadedBytes: 0, totalBytes: 0 });
    expect((await slept).status).toBe(200);
    await node.next('transfer_cancel');
    end.local('prefill_failed', 'the prefill node is gone');
    answer();
    const { status, body } = await answered;
    expect({ status, ids: body.choices[0]!.token_ids }).toEqual({ status: 200, ids: alone });
    // The next prompt is offered to nobody.
    const next = await cluster.complete();
    expect(next.body.choices[0]!.token_ids).toEqual(alone);
    expect(next.body.nvext?.kv_transfer).toBeUndefined();
    await cluster.clean(prefill, node);
  });

  it.each(PHASES)('the prefill node goes while the transfer is %s', async (phase) => {
    const { node, end, prefill, answered, answer, alone } = await reach(phase);
    if (phase === 'sent') {
      // It has done its part: what it sent may still arrive.
      await until(() => cluster.hub.state().happenings.some(({ kind }) => kind === 'prefilled'));
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
      expect(
        await cluster.metric('quire_kv_transfer_fallbacks_total{model="quire-pico",reason="prefill_failed"}'),
      ).toBe(1);
      expect(cluster.hub.state().happenings.at(-1)).toMatchObject({
        kind: 'fell_back',
        node: node.id,
        prefillNode: prefill.id,
      });
    }
    await cluster.clean(node);
  });

  it.each(PHASES)('the decode node goes while the transfer is %s: the next one decides anew', async (phase) => {
    const { node, prefill, answered, alone } = await reach(phase);
    const next = await cluster.byHand();
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
    await cluster.clean(prefill, next.node);
  });

  it.each(PHASES)('the client goes while the transfer is %s: both nodes are told', async (phase) => {
    const { node, prefill, answered, abort } = await reach(phase);
    abort.abort();
    await expect(answered).rejects.toThrow();
    await node.next('cancel');
    if (phase === 'open') expect((await prefill.next('transfer_cancel')).message).toContain('over');
    await cluster.clean(prefill, node);
    const transport = phase === 'offered' ? 'none' : 'relay';
    const series = `quire_kv_transfers_total{model="quire-pico",transport="${transport}",outcome="cancelled"}`;
    expect(await cluster.metric(series)).toBe(1);
    // A late word is nobody's concern.
    closePrefill(prefill, {
      transfer: 'gone',
      generate: { prompt: PROMPT },
      wanted: wantedOf(PROMPT),
    } as HubMessageOf<'prefill'>);
    expect(cluster.hub.state().nodes).toHaveLength(2);
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
    await cluster.clean(prefill, node);
  });

  it('the decode node opens nothing: it is told to give up, and the pair rests before it is tried again', async () => {
    const { node, prefill, answered, answer } = await reach('offered', { timeoutMs: 40 }, { transferOpenMs: 20 });
    await node.next('transfer_cancel');
    // It says nothing even then.
    await until(() => cluster.hub.state().transfers.length === 0);
    answer();
    const { body } = await answered;
    expect(body.nvext?.kv_transfer).toMatchObject({
      fallback: 'stalled',
      message: 'the decode node opened no channel',
    });
    await cluster.clean(prefill, node);
    await cluster.complete();
    expect(node.of('generate').map(({ prefill: offer }) => offer !== undefined)).toEqual([true, false]);
  });

  it('a prefill node that says another stage is lost like one that goes', async () => {
    const { node, end, prefill, answered, answer } = await reach('open');
    prefill.send({ type: 'stage', stage: 'warming', detail: 'device lost', loadedBytes: 0, totalBytes: 0 });
    await node.next('transfer_cancel');
    end.local('closed');
    answer();
    expect((await answered).status).toBe(200);
    await cluster.clean(node);
  });
});
