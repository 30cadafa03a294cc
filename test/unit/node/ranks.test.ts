import { describe, expect, test } from 'vitest';
import { listenerOf, Ranks } from '../../../src/node/ranks.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import { ScriptedEngine } from '../../support/scripted-engine.ts';
import { WELCOME } from './fake-socket.ts';
import { setUp } from './one-node.ts';

const request = (id: string): GenerateRequest => ({
  request: id,
  prompt: [1, 2, 3],
  choices: [{ choice: 0, generated: [] }],
  sampling: { ...GREEDY, maxTokens: 3 },
});

/** A registered node with the ranks 2 and 3. */
async function twoRanks() {
  const engines: ScriptedEngine[] = [];
  const { sockets, clock, node } = setUp(async (_offer, listener) => {
    const made = [2, 3].map((rank) => new ScriptedEngine(listenerOf(listener, rank)));
    engines.push(...made);
    return new Ranks([made[0]!, made[1]!], 2);
  });
  sockets.last().listener.opened();
  sockets.last().say(WELCOME);
  await new Promise((resolve) => setImmediate(resolve));
  sockets.last().say({ type: 'registered', node: 'node-1' });
  const ask = (id: string, rank: number) =>
    sockets.last().say({ type: 'generate', attempt: 0, rank, generate: request(id) });
  return { hub: sockets.last(), clock, node, engines, ask };
}

describe('J5: a node of several data-parallel ranks', () => {
  test('says so on its card, and tells cache and load of each', async () => {
    const { hub, clock, engines, ask } = await twoRanks();
    expect(hub.of('register')[0]?.card).toMatchObject({ dpRank: 2, dpSize: 2 });
    expect(hub.of('kv_snapshot').map(({ rank }) => rank)).toEqual([2, 3]);
    ask('r', 3);
    clock.advance(1100);
    expect(hub.of('load').slice(-2)).toMatchObject([
      { load: { rank: 2, running: 0 } },
      { load: { rank: 3, running: 1 } },
    ]);
    engines[1]!.prefill({ ...request('p'), prompt: Array.from({ length: 33 }, (_, i) => i) });
    engines[1]!.step();
    expect(hub.of('kv_events')).toMatchObject([{ rank: 3, events: [{ type: 'stored' }] }]);
    hub.say({ type: 'kv_snapshot_request', rank: 3 });
    expect(hub.of('kv_snapshot').at(-1)?.rank).toBe(3);
  });

  test('G1: a request runs on the rank that the hub names, and is cancelled there', async () => {
    const { hub, engines, ask } = await twoRanks();
    ask('a', 2);
    ask('b', 3);
    expect(engines.map((engine) => engine.load().running)).toEqual([1, 1]);
    hub.say({ type: 'cancel', request: 'b', attempt: 0 });
    expect(engines.map((engine) => engine.load().running)).toEqual([1, 0]);
    expect(engines.map(({ cancelled }) => cancelled)).toEqual([[], ['b']]);
    engines[0]!.step();
    expect(hub.of('tokens').flatMap(({ frames }) => frames.map((frame) => frame.request))).toEqual(['a']);
  });

  test('G1: asked for a rank that it has not, it says so', async () => {
    const { hub, ask } = await twoRanks();
    ask('r', 0);
    expect(hub.of('failed')).toMatchObject([
      { request: 'r', code: 'overloaded', message: 'This node has no engine of rank 0 now.' },
    ]);
  });

  test('one rank that hangs takes all out of service, and all are closed', async () => {
    const { hub, clock, engines } = await twoRanks();
    engines[1]!.beating = false;
    for (let i = 0; i < 40; i++) {
      clock.advance(500);
      await new Promise((resolve) => setImmediate(resolve));
      if (engines.length > 2) break;
    }
    expect(hub.of('stage').at(-1)).toMatchObject({ stage: 'warming' });
    expect(engines.slice(0, 2).map(({ closed }) => closed)).toEqual([true, true]);
    expect(engines).toHaveLength(4);
  });

  test('leaving closes all of them', async () => {
    const { node, engines } = await twoRanks();
    await node.leave('now');
    expect(engines.map(({ closed }) => closed)).toEqual([true, true]);
  });
});
