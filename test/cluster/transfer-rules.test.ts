import { afterEach, describe, expect, it } from 'vitest';
import { CLOSE } from '../../src/protocol/close-codes.ts';
import { type Answer, DisaggregatedHub, PROMPT } from '../support/disaggregated-hub.ts';
import type { HubMessageOf, ScriptedNode } from '../support/scripted-node.ts';
import { closePrefill, type DecodeEnd, wantedOf } from '../support/scripted-transfer.ts';

let cluster: DisaggregatedHub;
afterEach(() => cluster.close());

describe('R3 to R5, R8: only the two nodes of a transfer speak of it, and what they say is checked', () => {
  async function open() {
    cluster = await DisaggregatedHub.start();
    const prefill = await cluster.join('prefill');
    const stranger = await cluster.join('prefill');
    const hand = await cluster.byHand();
    const answered = cluster.complete();
    const end = await hand.end();
    const [asked, other] = end.offer.node === prefill.id ? [prefill, stranger] : [stranger, prefill];
    return { ...hand, end, prefill: asked, stranger: other, answered };
  }
  const refused = async (node: ScriptedNode, part: string) =>
    expect(await node.closed).toMatchObject({ code: CLOSE.protocol, reason: expect.stringContaining(part) });
  /** The request is still answered, by whoever is left. */
  const goesOn = async (answered: Promise<Answer>) => {
    await cluster.join('agg');
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
