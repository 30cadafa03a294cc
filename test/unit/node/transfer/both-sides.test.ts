import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LEASE_MS } from '../../../../src/node/transfer/sender.ts';
import { MAX_PAYLOAD_BYTES } from '../../../../src/protocol/transfer.ts';
import { type Frame, makeFrame, readHeader } from '../../../../src/protocol/transfer-frame.ts';
import { TIMEOUT_MS, TRANSFER, transferPair } from './pair.ts';
import { FACTS, HeldChannel, settled } from './support.ts';

/** A pair whose frames the test passes on itself. */
function held(options: Partial<Parameters<typeof transferPair>[0]> = {}) {
  const decode = new HeldChannel();
  const prefill = new HeldChannel();
  const pair = transferPair({ ...options, decode, prefill: Promise.resolve(prefill) });
  const flow = async () => {
    for (let quiet = 0; quiet < 3; ) {
      await settled();
      const forth = prefill.sent.shift();
      const back = decode.sent.shift();
      if (forth) decode.listener?.frame(forth);
      if (back) prefill.listener?.frame(back);
      quiet = forth || back ? 0 : quiet + 1;
    }
  };
  return { ...pair, decode, prefill, flow };
}

const headerOf = (frame: Frame) => {
  const parsed = readHeader(frame);
  if (!parsed.ok) throw new Error(parsed.why);
  return parsed.header;
};

describe('a transfer', () => {
  test('X3: blocks of each finished chunk go while the next computes; all arrive and are committed once', async () => {
    const { computed, flow, reservation, outcomes, closed, engine, prefill } = held();
    await flow();
    computed(2);
    await flow();
    expect(reservation.writes).toHaveLength(1);
    expect(reservation.state).toBe('open');
    computed(5);
    await flow();
    computed(6);
    await flow();
    expect(reservation.state).toBe('committed');
    expect(reservation.isWhole()).toBe(true);
    const bytes = 6 * 3 * 2 * 64;
    expect(outcomes).toEqual([
      { kind: 'done', transport: 'relay', blocks: 6, bytes, computedTokens: 96, cachedTokens: 0, milliseconds: 0 },
    ]);
    expect(closed).toEqual([{ computedTokens: 96, blocks: 6, bytes, failed: null }]);
    expect(engine.started).toEqual([TRANSFER]);
    expect(engine.cancelled).toEqual([TRANSFER]);
    expect(prefill.isClosed).toBe(true);
  });

  test('X4: blocks that the decode node has are not sent', async () => {
    const { computed, flow, reservation, engine } = held({ firstBlock: 3, blocks: 2 });
    computed(5);
    await flow();
    expect(reservation.isWhole()).toBe(true);
    expect(engine.exported).toEqual([{ firstBlock: 3, blocks: 2, firstLayer: 0, layers: 3 }]);
  });

  test('X5: a block larger than a frame goes layer by layer', async () => {
    const facts = { ...FACTS, layers: 5, layerBlockBytes: MAX_PAYLOAD_BYTES / 8 };
    const { computed, flow, reservation, engine, outcomes } = held({ facts, blocks: 2 });
    computed(2);
    await flow();
    expect(engine.exported.slice(0, 5)).toEqual(
      [0, 1, 2, 3, 4].map((firstLayer) => ({ firstBlock: 0, blocks: 1, firstLayer, layers: 1 })),
    );
    expect(outcomes[0]).toMatchObject({ kind: 'done', blocks: 2, bytes: 2 * 5 * 2 * facts.layerBlockBytes });
    expect(reservation.isWhole()).toBe(true);
  });

  test('X5: where one layer of a block is larger than a frame, there is no transfer', async () => {
    const { closed, engine } = held({ facts: { ...FACTS, layerBlockBytes: MAX_PAYLOAD_BYTES } });
    expect(closed[0]?.failed).toContain(`a frame takes ${MAX_PAYLOAD_BYTES}`);
    expect(engine.started).toEqual([]);
  });

  test('X6: never more frames on their way than the credit says', async () => {
    const facts = { ...FACTS, layerBlockBytes: 1 << 19 };
    const { computed, prefill, decode, reservation, flow } = held({ facts, blocks: 9, credit: 2 });
    computed(9);
    for (let i = 0; i < 20; i++) await settled();
    expect(prefill.sent).toHaveLength(2);
    decode.listener?.frame(prefill.sent.shift()!);
    prefill.listener?.frame(decode.sent.shift()!);
    for (let i = 0; i < 20; i++) await settled();
    expect(prefill.sent).toHaveLength(2);
    await flow();
    expect(reservation.isWhole()).toBe(true);
  });

  test('X6: while the channel is full nothing is exported', async () => {
    const { computed, prefill, engine, flow, reservation } = held();
    await settled();
    prefill.writable = false;
    computed(6);
    await flow();
    expect(engine.exported).toEqual([]);
    prefill.writable = true;
    prefill.listener?.drained();
    await flow();
    expect(reservation.state).toBe('committed');
  });
});

describe('X8: a frame that differs is refused, nothing of it is written, and the decode node computes itself', () => {
  const cases: [string, (frame: Frame) => Frame | Frame[], string][] = [
    [
      'one flipped bit',
      (f) => ({ ...f, payload: f.payload.map((byte, at) => (at === 100 ? byte ^ 4 : byte)) }),
      'payload does not have the hash',
    ],
    ['a byte too few', (f) => ({ ...f, payload: f.payload.slice(1) }), 'its payload has'],
    ['another fingerprint', (f) => rewritten(f, { fingerprint: 'e'.repeat(64) }), 'another fingerprint'],
    ['another dtype', (f) => rewritten(f, { kvCacheDtype: 'f16' }), 'KV dtype is f16, and here it is f32'],
    ['another hash', (f) => rewritten(f, { hashes: [1n, 2n] }), 'block hashes'],
    ['a hash too few', (f) => rewritten(f, { hashes: [1_000_003n] }), 'block hashes'],
    ['another transfer', (f) => rewritten(f, { transfer: 'x' }), 'it is of transfer x'],
    ['another number', (f) => rewritten(f, { frame: 1 }), 'it is number 1, and 0 was next'],
    ['the same frame twice', (f) => [f, f], 'it is number 0, and 1 was next'],
    [
      'later blocks first',
      (f) => rewritten(f, { section: { firstBlock: 1, blocks: 2, firstLayer: 0, layers: 3 } }),
      'begins at block 1',
    ],
    [
      'later layers first',
      (f) => rewritten(f, { section: { firstBlock: 0, blocks: 2, firstLayer: 1, layers: 2 } }),
      'begins at layer 1',
    ],
    [
      'more blocks than wanted',
      (f) => rewritten(f, { section: { firstBlock: 0, blocks: 7, firstLayer: 0, layers: 3 } }),
      'has 7 blocks, and 6 are wanted',
    ],
    [
      'more layers than there are',
      (f) => rewritten(f, { section: { firstBlock: 0, blocks: 2, firstLayer: 0, layers: 4 } }),
      'has 4 layers',
    ],
    [
      'an early end',
      () => makeFrame({ type: 'end', transfer: TRANSFER, frames: 0, computedTokens: 0, cachedTokens: 0 }),
      'ended after 0 of 6 blocks',
    ],
    [
      'a wrong count at the end',
      () => makeFrame({ type: 'end', transfer: TRANSFER, frames: 3, computedTokens: 0, cachedTokens: 0 }),
      '3 frames were sent and 0 came',
    ],
    [
      'an acknowledgement',
      () => makeFrame({ type: 'ack', transfer: TRANSFER, frames: 0, credit: 1 }),
      'only this side gives',
    ],
    ['garbage', () => ({ head: new Uint8Array([0xff, 0xfe, 1]), payload: new Uint8Array(3) }), 'no JSON'],
    [
      'another JSON',
      () => ({ head: new TextEncoder().encode('{"type":"blocks"}'), payload: new Uint8Array(0) }),
      'a header with a wrong',
    ],
  ];
  test.each(cases)('%s', async (_name, change, message) => {
    const { computed, prefill, decode, reservation, outcomes, flow, closed, engine } = held();
    computed(2);
    await settled();
    await settled();
    const changed = change(prefill.sent.shift()!);
    const frames = Array.isArray(changed) ? changed : [changed];
    for (const frame of frames) decode.listener?.frame(frame);
    expect(outcomes).toEqual([expect.objectContaining({ kind: 'local', why: 'refused', transport: 'relay' })]);
    expect(outcomes[0]).toHaveProperty('message', expect.stringContaining(message));
    expect(reservation.state).toBe('aborted');
    expect(reservation.writes).toHaveLength(frames.length - 1);
    await flow();
    computed(6);
    await flow();
    expect(reservation.writesAfterEnd).toBe(0);
    expect(closed[0]?.failed).toContain('refused');
    expect(engine.cancelled).toEqual([TRANSFER]);
  });

  test('blocks cut by layers: another number of blocks in the later layers', async () => {
    const facts = { ...FACTS, layerBlockBytes: MAX_PAYLOAD_BYTES / 4 };
    const { computed, prefill, decode, outcomes } = held({ facts, blocks: 3 });
    computed(3);
    for (let i = 0; i < 10; i++) await settled();
    decode.listener?.frame(prefill.sent.shift()!);
    const section = { firstBlock: 0, blocks: 2, firstLayer: 1, layers: 1 };
    decode.listener?.frame(rewritten(prefill.sent.shift()!, { section }));
    expect(outcomes[0]).toHaveProperty('message', expect.stringContaining('their first layers came with 1'));
  });
});

describe('the decode side', () => {
  test('X8: gives up when nothing comes for the time that the hub says, counted from the last frame', async () => {
    const { computed, clock, flow, outcomes, reservation, closed } = held();
    clock.advance(TIMEOUT_MS - 1);
    computed(2);
    await flow();
    clock.advance(TIMEOUT_MS - 1);
    expect(outcomes).toEqual([]);
    clock.advance(1);
    expect(outcomes).toEqual([expect.objectContaining({ kind: 'local', why: 'stalled' })]);
    expect(reservation.state).toBe('aborted');
    await flow();
    expect(closed[0]?.failed).toContain('gave up');
  });

  test('X9: a frame that comes when all is over is counted, and never written', async () => {
    const { computed, clock, prefill, decode, seen, reservation } = held();
    computed(2);
    await settled();
    await settled();
    clock.advance(TIMEOUT_MS);
    decode.listener?.frame(prefill.sent.shift()!);
    expect(seen.late).toBe(1);
    expect(reservation.writes).toEqual([]);
    expect(reservation.writesAfterEnd).toBe(0);
  });

  test('a channel that closes ends the transfer on both sides', async () => {
    const { computed, decode, prefill, outcomes, closed, flow } = held();
    computed(2);
    await flow();
    decode.listener?.closed('the network went');
    prefill.listener?.closed('the network went');
    expect(outcomes).toEqual([expect.objectContaining({ kind: 'local', why: 'closed' })]);
    expect(closed[0]?.failed).toContain('the network went');
  });
});

describe('the prefill side', () => {
  test('X7: holds blocks under a lease that acknowledgements renew', async () => {
    const { computed, clock, flow, prefill, closed, engine } = held();
    computed(2);
    await flow();
    clock.advance(TIMEOUT_MS - 1);
    computed(4);
    for (let i = 0; i < 5; i++) await settled();
    expect(prefill.sent).toHaveLength(1);
    clock.advance(LEASE_MS - 1);
    expect(closed).toEqual([]);
    clock.advance(1);
    expect(closed[0]?.failed).toBe('The decode node acknowledged nothing for 10 s.');
    expect(engine.cancelled).toEqual([TRANSFER]);
  });

  test('X7: a prompt that takes long to compute loses no lease', async () => {
    const { computed, clock, flow, closed } = held();
    computed(2);
    await flow();
    clock.advance(TIMEOUT_MS - 1);
    expect(closed).toEqual([]);
  });

  test.each([
    ['more than was sent', 3, 1],
    ['less than before', 0, 1],
  ])('refuses an acknowledgement of %s', async (_name, frames, credit) => {
    const { computed, flow, prefill, closed } = held();
    computed(2);
    await flow();
    prefill.listener?.frame(makeFrame({ type: 'ack', transfer: TRANSFER, frames, credit }));
    expect(closed[0]?.failed).toContain('it acknowledges');
  });

  test('a failing export ends the transfer on both sides with its reason', async () => {
    const { computed, engine, flow, outcomes, closed } = held();
    engine.export = async () => {
      throw new Error('the device was lost');
    };
    computed(2);
    await flow();
    expect(closed[0]?.failed).toBe('the device was lost');
    expect(outcomes[0]).toMatchObject({ kind: 'local', why: 'prefill_failed' });
  });

  test('an engine that has another payload than the section says sends nothing', async () => {
    const { computed, engine, flow, closed } = held();
    engine.tamper = (payload) => payload.slice(1);
    computed(2);
    await flow();
    expect(closed[0]?.failed).toContain('exported');
  });

  test('a channel that never opens ends the transfer', async () => {
    const decode = new HeldChannel();
    const { closed } = transferPair({ decode, prefill: Promise.reject(new Error('no such page')) });
    await settled();
    expect(closed[0]?.failed).toContain('no such page');
  });
});

test('X10: whatever a network does: every byte is right and committed once, or nothing enters', async () => {
  const step = fc.record({
    what: fc.constantFrom('pass', 'pass', 'pass', 'pass', 'drop', 'twice', 'swap', 'flip', 'wait', 'compute', 'close'),
    at: fc.nat(1000),
  });
  const seen = { done: 0, local: 0 };
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 40 }),
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 1, max: 6 }),
      async (steps, blocks, credit) => {
        const facts = { ...FACTS, layers: 1, layerBlockBytes: 3 << 17 };
        const { computed, prefill, decode, reservation, outcomes, clock, flow, closed, engine } = held({
          facts,
          blocks,
          credit,
        });
        let have = 0;
        let acked = 0;
        for (const { what, at } of steps) {
          await settled();
          const way = at % 3 === 0 ? ([decode, prefill] as const) : ([prefill, decode] as const);
          const [from, to] = way;
          const deliver = (frame: Frame | undefined) => {
            if (!frame) return;
            const parsed = readHeader(frame);
            if (parsed.ok && parsed.header.type === 'ack') acked = Math.max(acked, parsed.header.frames);
            to.listener?.frame(frame);
          };
          if (what === 'compute' && have < blocks) computed(++have);
          else if (what === 'pass') deliver(from.sent.shift());
          else if (what === 'drop') from.sent.shift();
          else if (what === 'twice') deliver(from.sent[0]);
          else if (what === 'swap' && from.sent.length > 1) deliver(from.sent.splice(1, 1)[0]);
          else if (what === 'flip' && from.sent[0]) {
            const [frame] = from.sent;
            const part = frame.payload.length > 0 && at % 2 === 0 ? frame.payload : frame.head;
            part[at % part.length]! ^= 1 << (at % 7);
          } else if (what === 'wait') clock.advance(at * 3);
          else if (what === 'close') from.listener?.closed('cut');
          expect(engine.exported.length - acked).toBeLessThanOrEqual(credit);
        }
        if (have < blocks) computed(blocks);
        await flow();
        // Whatever was left hanging ends by itself.
        clock.advance(TIMEOUT_MS);
        await flow();
        clock.advance(LEASE_MS);
        expect(outcomes).toHaveLength(1);
        expect(closed).toHaveLength(1);
        expect(reservation.writesAfterEnd).toBe(0);
        if (outcomes[0]?.kind === 'done') {
          expect(reservation.state).toBe('committed');
          expect(reservation.isWhole()).toBe(true);
          seen.done++;
        } else {
          expect(reservation.state).toBe('aborted');
          seen.local++;
        }
      },
    ),
    { numRuns: 150 },
  );
  expect(Math.min(seen.done, seen.local)).toBeGreaterThan(10);
});

/** The frame with another header, whose payload hash is still that of its payload. */
function rewritten(frame: Frame, patch: object): Frame {
  const header = { ...headerOf(frame), ...patch } as Parameters<typeof makeFrame>[0];
  return makeFrame(header, frame.payload);
}
