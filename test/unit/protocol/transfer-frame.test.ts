import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_EVENT_BLOCKS } from '../../../src/protocol/kv-events.ts';
import { type FrameHeader, MAX_PAYLOAD_BYTES } from '../../../src/protocol/transfer.ts';
import {
  createPayloadHash,
  joinFrame,
  MAX_FRAME_BYTES,
  makeFrame,
  readHeader,
  splitFrame,
} from '../../../src/protocol/transfer-frame.ts';

const BIG = 0xffff_ffff_ffff_ffffn;
const HEADER: FrameHeader = {
  type: 'blocks',
  transfer: 't',
  frame: 3,
  fingerprint: 'f',
  kvCacheDtype: 'f16',
  section: { firstBlock: 1, blocks: 2, firstLayer: 0, layers: 4 },
  hashes: [1n, BIG],
  payloadHash: BIG,
};

describe('X2: a frame', () => {
  test('as one run of bytes: u32 little-endian length of the header, header, payload', () => {
    const bytes = joinFrame(makeFrame({ type: 'abort', transfer: 't', message: 'm' }, new Uint8Array([9, 8])));
    const text = '{"type":"abort","transfer":"t","message":"m"}';
    expect([...bytes]).toEqual([text.length, 0, 0, 0, ...new TextEncoder().encode(text), 9, 8]);
  });

  test('comes out as it went in, u64 and all, behind any prefix', () => {
    const payload = new Uint8Array([1, 2, 3]);
    const bytes = joinFrame(makeFrame(HEADER, payload), new Uint8Array([7, 7]));
    expect([...bytes.subarray(0, 2)]).toEqual([7, 7]);
    const frame = splitFrame(bytes.subarray(2));
    if (typeof frame === 'string') throw new Error(frame);
    expect(readHeader(frame)).toEqual({ ok: true, header: HEADER });
    expect(frame.payload).toEqual(payload);
  });

  test('the header of the largest frame fits', () => {
    const hashes = new Array<bigint>(MAX_EVENT_BLOCKS).fill(BIG);
    const frame = makeFrame({ ...HEADER, transfer: 't'.repeat(128), hashes }, new Uint8Array(MAX_PAYLOAD_BYTES));
    expect(readHeader(frame).ok).toBe(true);
    expect(joinFrame(frame).length).toBeLessThanOrEqual(MAX_FRAME_BYTES);
  });

  test.each([
    [
      'a header that is too long',
      { head: new Uint8Array((128 << 10) + 1), payload: new Uint8Array(0) },
      '131073 bytes',
    ],
    ['a payload that is too long', { ...makeFrame(HEADER), payload: new Uint8Array(MAX_PAYLOAD_BYTES + 1) }, '4194305'],
    [
      'a payload behind end',
      { ...makeFrame({ type: 'ack', transfer: 't', frames: 0, credit: 1 }), payload: new Uint8Array(1) },
      'behind ack',
    ],
    ['a hash beyond 64 bits', makeFrame({ ...HEADER, payloadHash: BIG + 1n }), 'payloadHash'],
    ['a credit beyond the bound', makeFrame({ type: 'ack', transfer: 't', frames: 0, credit: 65 }), 'credit'],
    ['a negative frame', makeFrame({ ...HEADER, frame: -1 }), 'frame'],
  ])('%s is told, not thrown', (_name, frame, why) => {
    const parsed = readHeader(frame);
    expect(parsed.ok ? '' : parsed.why).toContain(why);
  });

  test('whatever comes, reading it never throws', () => {
    const bytes = fc.uint8Array({ maxLength: 200 });
    const patched = fc.tuple(fc.nat(), fc.nat(255)).map(([at, value]) => {
      const whole = joinFrame(makeFrame(HEADER, new Uint8Array(5)));
      whole[at % whole.length] = value;
      return whole;
    });
    fc.assert(
      fc.property(fc.oneof(bytes, patched), (some) => {
        const frame = splitFrame(new Uint8Array(some));
        if (typeof frame !== 'string') readHeader(frame);
      }),
      { numRuns: 2000 },
    );
  });
});

test('payload hashes are XXH3-64 with seed 0', async () => {
  const hash = await createPayloadHash();
  // Of the reference implementation (xxHash v0.8.2, xxhsum -H3).
  expect(hash(new Uint8Array(0))).toBe(0x2d06800538d394c2n);
  expect(hash(new TextEncoder().encode('a'))).toBe(0xe6c632b61e964e1fn);
  expect(hash(new TextEncoder().encode('abc'))).toBe(0x78af5f94892f3950n);
});
