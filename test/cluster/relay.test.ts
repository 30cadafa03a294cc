import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { CLOSE } from '../../src/protocol/close-codes.ts';
import { DisaggregatedHub } from '../support/disaggregated-hub.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { ScriptedBulk } from '../support/scripted-bulk.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { closePrefill } from '../support/scripted-transfer.ts';
import { until } from '../support/until.ts';

let cluster: DisaggregatedHub;
afterEach(() => cluster.close());

const MIB = 1 << 20;
const url = () => cluster.hub.url;

/** A relayed transfer that is open, with the bulk sockets of its nodes. */
async function open(limits: object = {}) {
  cluster = await DisaggregatedHub.start({}, limits);
  const prefill = await cluster.join('prefill');
  const hand = await cluster.byHand();
  const bulk = {
    prefill: await ScriptedBulk.join(url(), prefill),
    decode: await ScriptedBulk.join(url(), hand.node),
  };
  const answered = cluster.complete();
  const end = await hand.end();
  end.open();
  const asked = await prefill.next('prefill');
  return { ...hand, end, prefill, asked, bulk, answered, transfer: asked.transfer };
}

describe('R9, R10: KV blocks over bulk sockets', () => {
  it('frames go both ways between the nodes of the transfer, byte for byte, the last acknowledgement included', async () => {
    const { bulk, transfer, end, prefill, asked, answer, answered } = await open();
    const frames = [randomBytes(5 * MIB - 4096), randomBytes(0), randomBytes(77)];
    for (const frame of frames) bulk.prefill.send(transfer, frame);
    bulk.decode.send(transfer, Buffer.from('ack 1'));
    await until(() => bulk.decode.frames.length === 3 && bulk.prefill.frames.length === 1);
    expect(bulk.decode.frames.every((frame, i) => frame.equals(frames[i]!))).toBe(true);
    end.done();
    await until(() => cluster.hub.state().happenings.some(({ kind }) => kind === 'transferred'));
    bulk.decode.send(transfer, Buffer.from('ack 2'));
    await until(() => bulk.prefill.frames.length === 2);
    expect(bulk.prefill.frames.map(String)).toEqual(['ack 1', 'ack 2']);
    closePrefill(prefill, asked);
    await until(() => cluster.hub.state().transfers.length === 0);
    bulk.prefill.send(transfer, Buffer.from('late'));
    answer();
    expect((await answered).status).toBe(200);
    expect(bulk.decode.frames).toHaveLength(3);
    expect(bulk.prefill.socket.readyState).toBe(1);
  });

  it('a decode node that reads slowly slows its prefill node down, and the hub keeps little of it', async () => {
    const { bulk, transfer, end, answer, answered, prefill } = await open({ bulkStallMs: 600_000 });
    bulk.decode.socket.pause();
    const frame = randomBytes(MIB);
    const total = 48;
    let taken = 0;
    const sendNext = () => {
      if (taken === total) return;
      bulk.prefill.send(transfer, frame, () => {
        taken += 1;
        sendNext();
      });
    };
    sendNext();
    await until(() => taken >= 4);
    // Until nothing has moved for a while.
    for (let before = -1; before !== taken; ) {
      before = taken;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    // The hub's 4 MiB and a frame, and what the kernel keeps of both connections.
    expect(taken).toBeLessThan(32);
    // Nobody else waits for it: the connections of both nodes answer, and other requests too.
    const other = await cluster.join('agg');
    expect((await cluster.complete({}, { 'x-quire-node': other.id })).status).toBe(200);
    expect(prefill.socket.readyState).toBe(1);
    bulk.decode.socket.resume();
    await until(() => bulk.decode.frames.length === total);
    expect(bulk.decode.frames.every((each) => each.equals(frame))).toBe(true);
    end.done();
    answer();
    expect((await answered).status).toBe(200);
  });

  it('a decode node that reads nothing is closed, its transfer falls back, and its sender is read again', async () => {
    const { bulk, transfer, end, node, prefill, answer, answered } = await open({ bulkStallMs: 200 });
    bulk.decode.socket.pause();
    for (let i = 0; i < 64; i++) bulk.prefill.send(transfer, Buffer.alloc(MIB));
    expect((await node.next('transfer_cancel')).message).toContain('bulk socket');
    await prefill.next('transfer_cancel');
    end.local('closed');
    answer();
    const { status, body } = await answered;
    expect(status).toBe(200);
    expect(body.nvext?.kv_transfer).toMatchObject({ fallback: 'closed' });
    await until(() => bulk.prefill.socket.bufferedAmount === 0);
    await cluster.clean(prefill, node);
  });

  it("a node that speaks of another's transfer is closed, and the transfer goes on", async () => {
    const { bulk, transfer, end, answer, answered } = await open();
    const stranger = await ScriptedBulk.join(url(), await cluster.join('prefill'));
    stranger.send(transfer, Buffer.from('evil'));
    expect(await stranger.closed).toMatchObject({ code: CLOSE.protocol });
    bulk.prefill.send(transfer, Buffer.from('good'));
    await until(() => bulk.decode.frames.length > 0);
    expect(bulk.decode.frames.map(String)).toEqual(['good']);
    end.done();
    answer();
    expect((await answered).body.nvext?.kv_transfer).toMatchObject({ blocks: 6 });
  });

  it.each(['prefill', 'decode'] as const)('the bulk socket of the %s node goes: both nodes are told', async (role) => {
    const { bulk, end, node, prefill, answer, answered } = await open();
    bulk[role].socket.terminate();
    await node.next('transfer_cancel');
    await prefill.next('transfer_cancel');
    end.local('closed');
    answer();
    expect((await answered).body.nvext?.kv_transfer).toMatchObject({ fallback: 'closed' });
    await cluster.clean(prefill, node);
  });

  it('only a connected node opens one, from where it may, and it ends with the node', async () => {
    const clock = new FakeClock();
    cluster = await DisaggregatedHub.start({}, { helloMs: 300 }, {}, clock);
    await expect(ScriptedBulk.open(url(), { origin: 'https://evil.example' })).rejects.toThrow('403');
    await expect(ScriptedBulk.open(url(), { host: 'evil.example' })).rejects.toThrow('403');
    const node = await cluster.join('prefill');
    expect(await (await ScriptedBulk.join(url(), node, 'wrong')).closed).toMatchObject({ code: CLOSE.ticket });
    const silent = await ScriptedBulk.open(url());
    clock.advance(300);
    expect(await silent.closed).toMatchObject({ code: CLOSE.timeout });
    const huge = await ScriptedBulk.join(url(), node);
    huge.send('x', Buffer.alloc(6 * MIB));
    expect(await huge.closed).toMatchObject({ code: 1009 });
    const bulk = await ScriptedBulk.join(url(), node);
    await bulk.heard();
    const resume = { node: node.id, token: node.welcome!.resumeToken };
    await node.leave();
    expect(await bulk.closed).toMatchObject({ code: CLOSE.goingAway });
    const late = await ScriptedBulk.join(url(), node);
    expect(await late.closed).toMatchObject({ code: CLOSE.ticket });
    const again = await ScriptedNode.join(url(), { hello: { resume } });
    const open = await ScriptedBulk.join(url(), again);
    await open.heard();
    expect(open.socket.readyState).toBe(1);
  });
});
