import { Encoder } from '@msgpack/msgpack';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseJson, writeJson } from '../../../src/dynamo/json.ts';
import { CODECS } from '../../../src/dynamo/wire/codec.ts';
import { readControl } from '../../../src/dynamo/wire/control.ts';
import { Incoming, type Read, WireError } from '../../../src/dynamo/wire/incoming.ts';
import { decodeMsgpack } from '../../../src/dynamo/wire/msgpack.ts';
import { acknowledgement, requestFrames } from '../../../src/dynamo/wire/request-frame.ts';
import { readTwoPart, twoParts, writeTwoPart } from '../../../src/dynamo/wire/two-part.ts';
import { chatAnswer, chatRequest, kill, mockerJson, mockerMsgpack, treeDump } from './captures.ts';
import { requestFrame } from './fake-frontend.ts';

const MAX = 1 << 20;
const frames = requestFrames(MAX);
const messages = twoParts(MAX);

function readAll<T>(read: Read<T>, chunks: readonly Buffer[]): T[] {
  const incoming = new Incoming(read);
  const values = chunks.flatMap((chunk) => incoming.push(chunk));
  if (incoming.pending > 0) throw new Error(`${incoming.pending} bytes are left`);
  return values;
}

/** The bytes cut at these places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...places.map((place) => place % bytes.length), bytes.length].sort((a, b) => a - b);
  return ends.map((end, i) => Buffer.from(bytes.subarray(ends[i - 1] ?? 0, end)));
}

/** Plain data as Dynamo's bodies are, with integers of 64 bits. */
const plain = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constant(null),
    fc.boolean(),
    fc.string(),
    fc.integer(),
    fc.maxSafeInteger(),
    // Whole ones beyond that are written as integers are.
    fc.double({ min: -1e15, max: 1e15, noNaN: true }).map((value) => value + 0),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }),
    fc.bigInt({ min: -(2n ** 63n), max: -(2n ** 53n) }),
    fc.array(tie('value'), { maxLength: 20 }),
    fc.dictionary(fc.string(), tie('value'), { maxKeys: 20, noNullPrototype: true }),
  ),
})).value;

describe('request frames', () => {
  it('are read as a frontend sends them', () => {
    const [frame, ...rest] = readAll(frames, [chatRequest.frame_hex]);
    expect(rest).toEqual([]);
    expect(frame?.path).toBe(chatRequest.path);
    const { header, body } = readTwoPart(frame!.payload);
    expect(JSON.parse(header.toString())).toEqual(chatRequest.control);
    expect(CODECS.json.decode(body)).toEqual(chatRequest.body);
    expect(acknowledgement(null)).toEqual(chatRequest.ack_hex);
  });

  it('are the same at every place where the stream may be cut', () => {
    const bytes = Buffer.concat([chatRequest.frame_hex, mockerJson.request_hex]);
    expect(readAll(frames, [bytes])).toHaveLength(2);
    const told = (chunks: readonly Buffer[]) =>
      readAll(frames, chunks).map(({ path, payload }) => `${path} ${payload.toString('latin1')}`);
    const once = told([bytes]).join();
    const differing = Array.from(bytes, (_, at) => at).filter((at) => told(cut(bytes, [at])).join() !== once);
    expect(differing).toEqual([]);
    expect(told(Array.from(bytes, (byte) => Buffer.of(byte))).join()).toBe(once);
  });

  it('are the same however many of them come, and in whatever pieces', () => {
    const sent = fc.array(
      fc.record({ path: fc.string(), payload: fc.uint8Array({ maxLength: 300 }).map(Buffer.from) }),
      {
        minLength: 1,
      },
    );
    fc.assert(
      fc.property(sent, fc.array(fc.nat(), { maxLength: 40 }), (sent, places) => {
        const bytes = Buffer.concat(sent.map(({ path, payload }) => requestFrame(path, payload)));
        const values = readAll(frames, cut(bytes, places));
        expect(values.map(({ path }) => path)).toEqual(sent.map(({ path }) => Buffer.from(path).toString()));
        expect(values.map(({ payload }) => payload.toString('hex'))).toEqual(
          sent.map(({ payload }) => payload.toString('hex')),
        );
      }),
    );
  });

  it('are refused by their length alone, before their payload has come', () => {
    const frame = requestFrame('1/generate', Buffer.alloc(MAX + 1));
    expect(readAll(frames, [requestFrame('1/generate', Buffer.alloc(MAX))])).toHaveLength(1);
    expect(() => new Incoming(frames).push(frame.subarray(0, 200))).toThrow(/1048577 bytes; at most 1048576/);
  });
});

describe('two-part messages', () => {
  it.each([
    ['an answer', chatAnswer],
    ["the mocker's answer", mockerJson.frames.map(({ hex }) => hex)],
    ["the mocker's answer in msgpack", mockerMsgpack.frames.map(({ hex }) => hex)],
    ['a tree dump', treeDump],
    ['kill', [kill]],
  ])('%s is read in any pieces, and written byte for byte', (_what, captured) => {
    const bytes = Buffer.concat(captured);
    for (let at = 1; at < bytes.length; at += 7) {
      const read = readAll(messages, cut(bytes, [at, at + 30]));
      expect(read.map(writeTwoPart).map((each) => each.toString('hex'))).toEqual(
        captured.map((each) => each.toString('hex')),
      );
    }
  });

  it('are refused by their lengths alone, of 64 bits too', () => {
    const message = writeTwoPart({ header: Buffer.alloc(MAX), body: Buffer.alloc(1) });
    expect(() => new Incoming(messages).push(message.subarray(0, 24))).toThrow(/at most 1048576/);
    expect(() => new Incoming(messages).push(Buffer.alloc(24, 0xff))).toThrow(WireError);
    expect(() => readTwoPart(message.subarray(0, 100))).toThrow(/no two-part message/);
    expect(() => readTwoPart(Buffer.concat([message, message]))).toThrow(/no two-part message/);
  });

  it('of garbage are messages, or nothing yet, or a WireError', () => {
    const garbage = fc.array(fc.uint8Array({ minLength: 1, maxLength: 100 }).map(Buffer.from), { maxLength: 20 });
    fc.assert(
      fc.property(garbage, (chunks) => {
        for (const read of [frames, messages]) {
          const incoming = new Incoming<unknown>(read);
          try {
            for (const chunk of chunks) incoming.push(chunk);
          } catch (error) {
            expect(error).toBeInstanceOf(WireError);
          }
        }
      }),
    );
  });
});

describe('JSON', () => {
  it('of the mocker, with hashes of 64 bits, is written as it was read', () => {
    const bodies = treeDump.map((frame) => readTwoPart(frame).body.toString()).filter((body) => body !== '');
    expect(bodies.join()).toContain('12435704994330299775');
    expect(
      JSON.stringify(parseJson(bodies[0]!), (_key, value) => (typeof value === 'bigint' ? `${value}n` : value)),
    ).toContain('"worker_id":"12435704994330299775n"');
    for (const body of bodies) expect(writeJson(parseJson(body))).toBe(body);
  });

  it('of any data comes back, at whatever size its integers are', () => {
    fc.assert(
      fc.property(plain, (value) => {
        expect(parseJson(writeJson(value))).toEqual(value);
      }),
    );
  });

  it('digits within strings and fractions are no ids', () => {
    const text =
      '{"a":"18446744073709551615","18446744073709551615":"\\\\\\"18446744073709551615","b":1.12345678901234567890,"c":[18446744073709551615,9007199254740991]}';
    const { c, ...rest } = parseJson(text) as { c: unknown[] };
    expect(c).toEqual([18446744073709551615n, 9007199254740991]);
    const { c: _, ...expected } = JSON.parse(text);
    expect(rest).toEqual(expected);
  });

  it('that is none is refused', () => {
    expect(() => CODECS.json.decode(Buffer.from('{"a":18446744073709551615'))).toThrow(WireError);
    expect(() => CODECS.json.decode(Buffer.from([0xff, 0x00]))).toThrow(WireError);
  });
});

describe.each(Object.entries(CODECS))('an item of ids alone, in %s', (_name, codec) => {
  it('is what any item is', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(2 ** 32 - 1), { maxLength: 50 }), (ids) => {
        const body = { data: { data: { token_ids: ids } }, complete_final: false };
        expect(Buffer.from(codec.tokens(ids))).toEqual(Buffer.from(codec.encode(body)));
      }),
    );
  });
});

describe('msgpack', () => {
  it('of a request says what its JSON says', () => {
    const [json, msgpack] = [mockerJson, mockerMsgpack].map(({ request_hex }) => {
      const { header, body } = readTwoPart(readAll(frames, [request_hex])[0]!.payload);
      const { payload_codec } = readControl(header);
      return { payload_codec, value: CODECS[payload_codec].decode(body) };
    });
    expect([json?.payload_codec, msgpack?.payload_codec]).toEqual(['json', 'msgpack']);
    const ids = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
    expect(json?.value).toHaveProperty('token_ids', [...ids(100, 16), ...ids(900, 20)]);
    expect(msgpack?.value).toEqual({ ...(json?.value as object), token_ids: ids(100, 40) });
  });

  it('of the mocker comes back in its own bytes', () => {
    for (const { hex } of mockerMsgpack.frames) {
      const { body } = readTwoPart(hex);
      if (body.length > 0) expect(Buffer.from(CODECS.msgpack.encode(CODECS.msgpack.decode(body)))).toEqual(body);
    }
  });

  it('of any data is read as the library writes it', () => {
    fc.assert(
      fc.property(plain, (value) => {
        const bytes = new Encoder({ useBigInt64: true }).encode(value);
        expect(decodeMsgpack(Buffer.from(bytes))).toEqual(value);
      }),
    );
  });

  it('of garbage, or cut anywhere, is a value or a WireError', () => {
    const check = (bytes: Buffer) => {
      try {
        decodeMsgpack(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(WireError);
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }).map(Buffer.from), check));
    const body = readTwoPart(mockerMsgpack.frames[2]!.hex).body;
    for (let end = 0; end < body.length; end++) expect(() => decodeMsgpack(body.subarray(0, end))).toThrow(WireError);
  });

  it('takes no memory for lengths that are only said, and no depth without end', () => {
    const before = process.memoryUsage().rss;
    for (const head of [0xdd, 0xdf, 0xdb, 0xc6])
      expect(() => decodeMsgpack(Buffer.from([head, 0xff, 0xff, 0xff, 0xff, 0x01]))).toThrow(/ends too early/);
    expect(process.memoryUsage().rss - before).toBeLessThan(256 << 20);
    expect(() => decodeMsgpack(Buffer.alloc(100_000, 0x91))).toThrow(/nested more than 64/);
  });
});
