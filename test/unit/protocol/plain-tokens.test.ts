import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NodeMessage } from '../../../src/protocol/messages.ts';
import { isPlainTokens } from '../../../src/protocol/plain-tokens.ts';

/** JSON has no -0: what came over a socket is the same after another way through text. */
const sent = (message: unknown): unknown => JSON.parse(JSON.stringify(message));

const plainFrame = fc.record(
  {
    request: fc.string({ minLength: 1, maxLength: 128 }),
    attempt: fc.integer({ min: 0, max: 1024 }),
    choice: fc.nat(),
    offset: fc.maxSafeNat(),
    tokens: fc.array(fc.integer({ min: 0, max: 0xffffffff }), { maxLength: 40 }),
    cachedTokens: fc.maxSafeNat(),
    finish: fc.constantFrom('stop', 'length', 'cancelled'),
    stopId: fc.integer({ min: 0, max: 0xffffffff }),
  },
  { requiredKeys: ['request', 'attempt', 'choice', 'offset', 'tokens'] },
);
const plain = fc.record({
  type: fc.constant('tokens'),
  epoch: fc.maxSafeNat(),
  frames: fc.array(plainFrame, { maxLength: 5 }),
});

/** Values at the bounds and of other types, one of which takes the place of something. */
const strange = fc.oneof(
  fc.constantFrom<unknown>(-1, 0, 1.5, 1024, 1025, 4096, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 1e300, null, true),
  fc.constantFrom<unknown>('', 'tokens', 'stop', 'x'.repeat(128), 'x'.repeat(129), [], {}, [[]], [null], [-1], [1.5]),
  fc.constantFrom<unknown>(Array(4096).fill(7), Array(4097).fill(7), [2 ** 32 - 1], [2 ** 32], ['7']),
  fc.jsonValue(),
);
const KEYS = [
  'request',
  'attempt',
  'choice',
  'offset',
  'tokens',
  'cachedTokens',
  'finish',
  'stopId',
  'logprobs',
  'new',
];

test('a step with ids alone is known without the schema, which takes it as it is', () => {
  fc.assert(
    fc.property(plain, (message) => {
      expect(isPlainTokens(sent(message))).toBe(true);
      expect(NodeMessage.parse(sent(message))).toEqual(sent(message));
    }),
  );
});

test('what the schema refuses or changes is not taken without it', () => {
  let refused = 0;
  const changed = fc
    .tuple(plain, fc.constantFrom('type', 'epoch', 'frames', 'extra', ...KEYS), fc.option(strange, { nil: undefined }))
    .map(([message, key, value]) => {
      const inFrame = KEYS.includes(key) && message.frames[0] !== undefined;
      return inFrame
        ? { ...message, frames: [{ ...message.frames[0], [key]: value }, ...message.frames.slice(1)] }
        : { ...message, [key]: value };
    });
  fc.assert(
    fc.property(fc.oneof({ weight: 8, arbitrary: changed }, fc.jsonValue()), (message) => {
      const json = sent(message ?? null);
      const parsed = NodeMessage.safeParse(json);
      if (isPlainTokens(json)) expect(parsed.success && parsed.data).toEqual(json);
      else refused += 1;
    }),
    { numRuns: 3000 },
  );
  expect(refused).toBeGreaterThan(1000);
});

const frame = { request: 'r', attempt: 0, choice: 0, offset: 0, tokens: [1] };
const message = (frames: readonly object[]) => ({ type: 'tokens', epoch: 1, frames });
const one = (change: object) => message([{ ...frame, ...change }]);

test.each([
  ['frames', message(Array(4096).fill(frame)), message(Array(4097).fill(frame))],
  ['tokens of a frame', one({ tokens: Array(4096).fill(1) }), one({ tokens: Array(4097).fill(1) })],
  ['attempts', one({ attempt: 1024 }), one({ attempt: 1025 })],
  ['characters of a request', one({ request: 'x'.repeat(128) }), one({ request: 'x'.repeat(129) })],
  ['an id', one({ tokens: [0xffffffff], stopId: 0xffffffff }), one({ tokens: [0x100000000] })],
])('%s: the bound is the schema’s', (_, within, beyond) => {
  expect([isPlainTokens(within), NodeMessage.safeParse(within).success]).toEqual([true, true]);
  expect([isPlainTokens(beyond), NodeMessage.safeParse(beyond).success]).toEqual([false, false]);
});
