import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Pairs } from '../../../../src/hub/disagg/pairs.ts';
import {
  type Ending,
  type TransferEnd,
  type TransferMessage,
  Transfers,
} from '../../../../src/hub/disagg/transfers.ts';
import type { HubMessage } from '../../../../src/protocol/messages.ts';
import { GREEDY } from '../../../../src/protocol/sampling.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const HASHES = [11n, 22n, 33n];
const GENERATE = {
  request: 'r',
  prompt: Array.from({ length: 50 }, (_, i) => i),
  choices: [
    { choice: 0, generated: [7, 8] },
    { choice: 1, generated: [] },
  ],
  sampling: { ...GREEDY, maxTokens: 99, logprobs: 3 },
  cacheSalt: 'salt',
};

/** A node that does as the rules say, one message at a time: what it was told, and what it has still to say. */
class Node implements TransferEnd {
  readonly told: HubMessage[] = [];
  readonly outbox: TransferMessage[] = [];
  readonly #open = new Set<string>();
  constructor(readonly id: string) {}

  send(message: HubMessage): void {
    this.told.push(message);
    if (message.type === 'prefill') {
      this.#open.add(message.transfer);
    } else if (message.type === 'transfer_cancel' && this.#open.delete(message.transfer)) {
      this.closePrefill(message.transfer, 'cancelled');
    }
  }

  /** Whether it holds something for a transfer on the prefill side. */
  holds(transfer: string): boolean {
    return this.#open.has(transfer);
  }

  closePrefill(transfer: string, failed: string | null): void {
    this.#open.delete(transfer);
    this.outbox.push({ type: 'prefill_closed', epoch: 1, transfer, computedTokens: 50, blocks: 2, bytes: 8, failed });
  }
}

function setUp() {
  const clock = new FakeClock();
  let ids = 0;
  const transfers = new Transfers({
    clock,
    ...{ timeoutMs: 1000, openMs: 2000, maxMs: 60_000 },
    hashes: () => HASHES,
    newId: () => `t${ids++}`,
  });
  const begin = (decode: Node, prefill: Node) => {
    const endings: Ending[] = [];
    let over = 0;
    const begun = transfers.begin({
      ...{ decode, prefill, prefillRank: 2, transports: ['relay', 'webrtc'], generate: GENERATE },
      opened() {},
      prefilled() {},
      ended: (ending) => void endings.push(ending),
      over: () => {
        over += 1;
      },
    });
    return { id: begun.transfer.id, offer: begun.prefill, endings, over: () => over };
  };
  return { clock, transfers, begin };
}

const open = (transfer: string): TransferMessage => ({
  ...{ type: 'transfer_open', epoch: 1, transfer, transport: 'relay', credit: 4 },
  wanted: { firstBlock: 1, hashes: HASHES.slice(1) },
});
const done = (transfer: string): TransferMessage => ({
  ...{ type: 'transfer_closed', epoch: 1, transfer },
  outcome: {
    ...{ kind: 'done', transport: 'relay', blocks: 2, bytes: 8 },
    ...{ computedTokens: 50, cachedTokens: 0, milliseconds: 3 },
  },
});
const local = (transfer: string): TransferMessage => ({
  ...{ type: 'transfer_closed', epoch: 1, transfer },
  outcome: { kind: 'local', why: 'refused', message: '' },
});

describe('R3 to R7: the state of transfers', () => {
  it('the prefill node is asked for the prompt alone: one token, no choices of the request, its salt', () => {
    const { transfers, begin } = setUp();
    const [d, p] = [new Node('d'), new Node('p')];
    const { id, offer } = begin(d, p);
    expect(offer).toEqual({ transfer: id, node: 'p', transports: ['relay', 'webrtc'], timeoutMs: 1000 });
    expect(transfers.receive(d, open(id))).toBeNull();
    expect(p.told).toEqual([
      {
        ...{ type: 'prefill', transfer: id, rank: 2, peer: 'd', transport: 'relay', credit: 4, timeoutMs: 1000 },
        wanted: { firstBlock: 1, hashes: [22n, 33n] },
        generate: {
          ...{ request: id, prompt: GENERATE.prompt, cacheSalt: 'salt' },
          choices: [{ choice: 0, generated: [] }],
          sampling: { ...GREEDY, maxTokens: 1 },
        },
      },
    ]);
  });

  it.each([
    ['offered', 1000 + 2 * 2000],
    ['open', 60_000],
  ] as const)(
    'R6: a transfer that stays %s is given up after %i ms, and the last word awaited for 1000',
    (phase, ms) => {
      const { clock, transfers, begin } = setUp();
      const [d, p] = [new Node('d'), new Node('p')];
      const { id, endings, over } = begin(d, p);
      if (phase === 'open') transfers.receive(d, open(id));
      clock.advance(ms - 1);
      expect(d.told).toEqual([]);
      clock.advance(1);
      expect(d.told).toMatchObject([{ type: 'transfer_cancel', transfer: id }]);
      expect(p.told.filter(({ type }) => type === 'transfer_cancel')).toHaveLength(phase === 'open' ? 1 : 0);
      clock.advance(999);
      expect(endings).toEqual([]);
      clock.advance(1);
      expect(endings).toMatchObject([{ kind: 'local', why: 'stalled' }]);
      expect([over(), transfers.size]).toEqual([1, 0]);
    },
  );

  it('a prefill node that does not say its end is told, and forgotten', () => {
    const { clock, transfers, begin } = setUp();
    const [d, p] = [new Node('d'), new Node('p')];
    const { id, endings, over } = begin(d, p);
    transfers.receive(d, open(id));
    transfers.receive(d, done(id));
    expect([endings.length, over()]).toEqual([1, 0]);
    // The last acknowledgement may still pass.
    expect(transfers.passage(id, 'd')).toEqual({ kind: 'to', node: 'p' });
    clock.advance(1000);
    expect(p.told.at(-1)).toMatchObject({ type: 'transfer_cancel' });
    expect([over(), transfers.size]).toEqual([1, 0]);
    expect(transfers.passage(id, 'd')).toEqual({ kind: 'nobody' });
  });

  it('frames pass only between the two nodes of an open transfer that goes by relay', () => {
    const { transfers, begin } = setUp();
    const [d, p] = [new Node('d'), new Node('p')];
    const { id } = begin(d, p);
    expect(transfers.passage(id, 'p')).toEqual({ kind: 'nobody' });
    transfers.receive(d, open(id));
    expect(transfers.passage(id, 'p')).toEqual({ kind: 'to', node: 'd' });
    expect(transfers.passage(id, 'd')).toEqual({ kind: 'to', node: 'p' });
    expect(transfers.passage(id, 'x')).toEqual({ kind: 'stranger' });
    const other = begin(d, p);
    transfers.receive(d, { ...open(other.id), transport: 'webrtc' } as TransferMessage);
    expect(transfers.passage(other.id, 'p')).toEqual({ kind: 'nobody' });
    transfers.channelLost('p', 'gone');
    expect(d.told).toMatchObject([{ type: 'transfer_cancel', transfer: id }]);
    expect(transfers.passage(id, 'p')).toEqual({ kind: 'nobody' });
  });

  it('however messages cross, nodes leave and requests end: every transfer ends once, nothing is held, no honest node is blamed', () => {
    const kinds = {
      begin: 3,
      open: 4,
      done: 4,
      local: 1,
      close: 2,
      fail: 1,
      deliver: 8,
      end: 1,
      cancel: 1,
      lose: 1,
      wait: 1,
    };
    type Kind = keyof typeof kinds;
    const step = fc.record({
      kind: fc.oneof(
        ...Object.entries(kinds).map(([kind, weight]) => ({ weight, arbitrary: fc.constant(kind as Kind) })),
      ),
      one: fc.nat(7),
      two: fc.nat(7),
    });
    const seen = new Map<string, number>();
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
        const { clock, transfers, begin } = setUp();
        let names = 0;
        const decodes = [new Node('d0'), new Node('d1')];
        const prefills = [new Node('p0'), new Node('p1')];
        const all: (ReturnType<typeof begin> & { d: Node; p: Node; said: Set<string> })[] = [];
        const deliver = (node: Node) => {
          const message = node.outbox.shift();
          if (message !== undefined) expect(transfers.receive(node, message)).toBeNull();
        };
        for (const { kind, one, two } of steps) {
          const [d, p] = [decodes[one % 2]!, prefills[two % 2]!];
          const t = one > 2 ? all.at(-1 - (two % 2)) : all[two % Math.max(1, all.length)];
          if (kind === 'begin') all.push({ ...begin(d, p), d, p, said: new Set() });
          // An honest decode node opens once, ends once, and is done only with what was sent.
          const sent = t?.p.told.some((told) => told.type === 'prefill' && told.transfer === t.id) ?? false;
          if (t !== undefined && decodes.includes(t.d) && !t.said.has('end')) {
            if (kind === 'open' && !t.said.has('open')) t.d.outbox.push(open(t.id));
            if (kind === 'done' && sent) t.d.outbox.push(done(t.id));
            if (kind === 'local') t.d.outbox.push(local(t.id));
            if (kind === 'open') t.said.add('open');
            if (kind === 'local' || (kind === 'done' && sent)) t.said.add('end');
          }
          if (t !== undefined && (kind === 'close' || kind === 'fail') && t.p.holds(t.id))
            t.p.closePrefill(t.id, kind === 'fail' ? 'broken' : null);
          if (kind === 'deliver') deliver(one > 5 || t === undefined ? p : decodes.includes(t.d) ? t.d : d);
          if (kind === 'end' && t !== undefined) {
            transfers.end(t.id, 'over');
            t.said.add('end');
          }
          if (kind === 'cancel' && t !== undefined) transfers.cancel(t.id, 'cancelled');
          if (kind === 'lose') {
            const side = one > 3 ? decodes : prefills;
            transfers.lost(side[two % 2]!);
            names += 1;
            side[two % 2] = new Node(`again${names}`);
          }
          if (kind === 'wait') clock.advance(500 * (1 + one));
        }
        for (const node of [...decodes, ...prefills]) while (node.outbox.length > 0) deliver(node);
        clock.advance(200_000);
        expect(transfers.size).toBe(0);
        for (const { id, endings, over, p } of all) {
          expect(endings).toHaveLength(1);
          expect(over()).toBe(1);
          const ending = endings[0]!;
          const outcome = ending.kind === 'local' ? ending.why : ending.kind;
          seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
          // Who holds something and is still there was told to let go.
          if (prefills.includes(p)) expect(p.holds(id)).toBe(false);
        }
      }),
      { numRuns: 1500 },
    );
    for (const outcome of ['done', 'refused', 'stalled', 'cancelled']) expect(seen.get(outcome)).toBeGreaterThan(200);
  });
});

describe('what was measured between two nodes', () => {
  it('gives the rate of the first transport that was measured, and the time of opening', () => {
    const clock = new FakeClock();
    const pairs = new Pairs(clock);
    expect([pairs.transferRate('p', 'd', ['local', 'relay']), pairs.openMs('p', 'd')]).toEqual([null, null]);
    pairs.done('p', 'd', 'relay', 100, 50);
    pairs.opened('p', 'd', 8);
    expect(pairs.transferRate('p', 'd', ['local', 'relay'])).toBe(2);
    expect(pairs.openMs('p', 'd')).toBeCloseTo(8);
    pairs.done('p', 'd', 'local', 100, 10);
    expect(pairs.transferRate('p', 'd', ['local', 'relay'])).toBe(10);
    expect(pairs.transferRate('d', 'p', ['local', 'relay'])).toBeNull();
    clock.advance(300_001);
    expect(pairs.transferRate('p', 'd', ['local', 'relay'])).toBeNull();
    pairs.done('p', 'd', 'relay', 1, 1);
    pairs.forget('d');
    expect(pairs.transferRate('p', 'd', ['relay'])).toBeNull();
  });

  it('a pair rests after a failure, twice as long after each further one, at most 5 minutes; success ends that', () => {
    const clock = new FakeClock();
    const pairs = new Pairs(clock);
    for (const seconds of [10, 20, 40, 80, 160, 300, 300]) {
      pairs.failed('p', 'd');
      clock.advance(seconds * 1000 - 1);
      expect(pairs.usable('p', 'd')).toBe(false);
      expect(pairs.usable('p', 'e')).toBe(true);
      clock.advance(1);
      expect(pairs.usable('p', 'd')).toBe(true);
    }
    pairs.done('p', 'd', 'relay', 1, 1);
    pairs.failed('p', 'd');
    clock.advance(10_000);
    expect(pairs.usable('p', 'd')).toBe(true);
  });
});
