import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import type { Hub } from '../../src/hub/hub.ts';
import { CLOSE } from '../../src/protocol/close-codes.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

let hub: Hub;
let clock: FakeClock;
beforeEach(async () => {
  clock = new FakeClock();
  hub = await startTestHub(
    { joinToken: 'let me in', nodeOptions: { 'max-num-seqs': '8' } },
    { helloMs: 300, pingMs: 200 },
    undefined,
    clock,
  );
});
afterEach(() => hub.close());

const ticket = { hello: { ticket: 'let me in' } };

describe('joining over a real WebSocket', () => {
  it('J4, J5: hello, welcome, register, registered; the hub lists the node from then on', async () => {
    const node = await ScriptedNode.greet(hub.url, ticket);
    expect(node.socket.protocol).toBe('quire.v1');
    expect(node.welcome).toMatchObject({
      version: 'quire.v1',
      epoch: 1,
      blockSize: 16,
      hashAlgo: 'xxh3',
      options: { 'max-num-seqs': '8' },
      live: [],
    });
    const paths = node.welcome?.model.files.map((file) => file.path);
    expect(paths).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'self-test.json',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(hub.state()).toMatchObject({
      nodes: [{ id: node.id, stage: 'joining', card: null }],
      models: [{ readyNodes: 0 }],
    });
    node.send({ type: 'register', card: node.card() });
    expect(await node.next('registered')).toEqual({ type: 'registered', node: node.id });
    expect(hub.state()).toMatchObject({ nodes: [{ stage: 'ready', card: node.card() }], models: [{ readyNodes: 1 }] });
  });

  it('J2: a version that the hub does not speak is refused, and told which it does', async () => {
    const node = await ScriptedNode.open(hub.url, { protocols: ['quire.v9'], hello: { versions: ['quire.v9'] } });
    node.hello();
    expect(await node.next('error')).toMatchObject({ code: 'version', message: expect.stringContaining('quire.v1') });
    expect(await node.closed).toMatchObject({ code: CLOSE.version });
    expect(hub.state().nodes).toEqual([]);
  });

  it.each([undefined, '', 'let me i', 'let me in!', 'LET ME IN'])(
    'J3: the ticket %j does not let in',
    async (wrong) => {
      const node = await ScriptedNode.open(hub.url, wrong === undefined ? {} : { hello: { ticket: wrong } });
      node.hello();
      expect(await node.next('error')).toMatchObject({ code: 'ticket' });
      expect(await node.closed).toMatchObject({ code: CLOSE.ticket });
    },
  );

  it('J1: who does not say hello in time is closed', async () => {
    const quick = await ScriptedNode.greet(hub.url, ticket);
    const node = await ScriptedNode.open(hub.url);
    clock.advance(300);
    expect(await node.closed).toMatchObject({ code: CLOSE.timeout });
    expect(quick.socket.readyState).toBe(WebSocket.OPEN);
  });

  it.each([
    ['fingerprint', { fingerprint: 'another' }],
    ['block size', { blockSize: 32 }],
    ['hash algorithm', { hashAlgo: 'sha256' as const }],
  ])('J5: another %s is refused', async (what, card) => {
    const node = await ScriptedNode.greet(hub.url, { ...ticket, card });
    node.send({ type: 'register', card: node.card() });
    expect(await node.next('error')).toMatchObject({ code: 'model', message: expect.stringContaining(what) });
    expect(await node.closed).toMatchObject({ code: CLOSE.model });
    expect(hub.state().models[0]?.readyNodes).toBe(0);
  });

  it('J6: closing is leaving, at once', async () => {
    const node = await ScriptedNode.join(hub.url, ticket);
    const gone = new Promise<void>((resolve) => {
      const stop = hub.onNodeChange(() => {
        if (hub.state().nodes.length > 0) return;
        stop();
        resolve();
      });
    });
    node.socket.terminate();
    await gone;
    expect(hub.state().nodes).toEqual([]);
  });

  it('J7, J8: a node that comes back keeps its id, gets a higher epoch, and its older socket is closed', async () => {
    const first = await ScriptedNode.join(hub.url, ticket);
    const resume = { node: first.id, token: first.welcome!.resumeToken };
    const second = await ScriptedNode.join(hub.url, { hello: { ...ticket.hello, resume } });
    expect(second.id).toBe(first.id);
    expect(second.welcome?.epoch).toBe(2);
    expect(await first.closed).toMatchObject({ code: CLOSE.replaced });
    expect(hub.state().nodes.map(({ id, stage }) => ({ id, stage }))).toEqual([{ id: first.id, stage: 'ready' }]);
  });

  it('J8: a wrong resume token makes a new node, and leaves the other alone', async () => {
    const first = await ScriptedNode.join(hub.url, ticket);
    const resume = { node: first.id, token: 'guessed' };
    const second = await ScriptedNode.join(hub.url, { hello: { ...ticket.hello, resume } });
    expect(second.id).not.toBe(first.id);
    expect(first.socket.readyState).toBe(WebSocket.OPEN);
    expect(hub.state().models[0]?.readyNodes).toBe(2);
  });

  it('L2: a node that answers pings stays, one that does not is gone', async () => {
    const alive = await ScriptedNode.join(hub.url, ticket);
    const frozen = await ScriptedNode.join(hub.url, { ...ticket, pong: false });
    for (let pings = 1; pings <= 6; pings++) {
      clock.advance(200);
      await alive.next('ping', pings - 1);
      await alive.heard();
    }
    expect(await frozen.closed).toMatchObject({ code: CLOSE.timeout });
    expect(frozen.of('ping')).toHaveLength(2);
    expect(hub.state().nodes.map(({ id }) => id)).toEqual([alive.id]);
  });

  it('M4: one node more than the limit is refused before it can say anything', async () => {
    const small = await startTestHub({}, { maxNodes: 2 });
    try {
      const nodes = [await ScriptedNode.join(small.url), await ScriptedNode.join(small.url)];
      await expect(ScriptedNode.open(small.url)).rejects.toThrow('503');
      await nodes[1]?.leave();
      await until(() => small.state().nodes.length === 1);
      await ScriptedNode.join(small.url);
      expect(small.state().models[0]?.readyNodes).toBe(2);
    } finally {
      await small.close();
    }
  });
});
