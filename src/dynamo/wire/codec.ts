import { Encoder } from '@msgpack/msgpack';
import { parseJson, writeJson } from '../json.ts';
import { WireError } from './incoming.ts';
import { decodeMsgpack } from './msgpack.ts';

/** How bodies are written: a request names it, and its answer has the same. */
export type CodecName = 'json' | 'msgpack';

export interface Codec {
  /** Plain data; integers beyond ±(2^53 - 1) as bigints. Throws `WireError`. */
  decode(bytes: Buffer): unknown;
  /** Of plain data with bigints. */
  encode(value: unknown): Uint8Array;
  /** The same of `tokensBody(ids)`. */
  tokens(ids: readonly number[]): Uint8Array;
}

/** Body of an answer's message with token ids alone, which nearly all are. */
const tokensBody = (ids: readonly number[]) => ({ data: { data: { token_ids: ids } }, complete_final: false });

export const CODECS: Readonly<Record<CodecName, Codec>> = {
  json: {
    decode: decodeJson,
    encode: (value) => Buffer.from(writeJson(value)),
    // `JSON.stringify` takes several times as long for so little.
    tokens: (ids) => Buffer.from(`{"data":{"data":{"token_ids":[${ids.join(',')}]}},"complete_final":false}`, 'latin1'),
  },
  msgpack: { decode: decodeMsgpack, encode: encodeMsgpack, tokens: (ids) => encodeMsgpack(tokensBody(ids)) },
};

function encodeMsgpack(value: unknown): Uint8Array {
  return new Encoder({ useBigInt64: true }).encode(value);
}

function decodeJson(bytes: Buffer): unknown {
  try {
    return parseJson(bytes.toString());
  } catch (error) {
    throw new WireError(`a body that is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}
