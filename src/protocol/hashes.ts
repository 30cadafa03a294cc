import { createXXHash3, type IHasher } from 'hash-wasm';
import type { HashScope } from './hash-scope.ts';
import type { StoredBlock } from './kv-events.ts';
import { sha256Cbor } from './sha256-cbor.ts';
import { MAX_WORDS, MIN_WORDS, type SeededSecret, seededSecret, xxh3OfWords } from './xxh3-short.ts';

export type HashAlgo = 'xxh3' | 'sha256';

/** Dynamo's seed of block hashes. */
const SEED = 1337n;
/** How many scopes keep their prepared state; more cost time, nothing else. */
const MAX_SCOPES = 64;

/**
 * The two hashes of a full block. `tokensHash` (u64) is of the block's own tokens, `blockHash` chains it to the
 * blocks before. Prompts of different cache salts, or LoRA adapters, have no block hash in common.
 */
export interface BlockHasher {
  /** tokens: u32 ids of one full block. */
  tokensHash(tokens: readonly number[], scope?: HashScope): bigint;
  /** parent: `blockHash` of the block before, null for the first block. block: its tokens and their `tokensHash`. */
  blockHash(parent: bigint | null, block: HashedTokens, scope?: HashScope): bigint;
}

export interface HashedTokens extends Pick<StoredBlock, 'tokensHash'> {
  readonly tokens: readonly number[];
}

/**
 * `tokensHash` is Dynamo's, bit for bit: XXH3-64 with seed 1337 (plus, wrapping, XXH3-64(adapter's name, seed 0) with a LoRA adapter
 * and XXH3-64(salt, seed 1) under a salt) over u32 little-endian ids. `blockHash` with `xxh3` is Dynamo's too, of 64 bits: the first block's is its `tokensHash`, a later one's XXH3-64 over
 * (parent, tokensHash) as u64 little-endian. With `sha256` it is vLLM's `sha256_cbor`, of 256 bits, from `hashSeed` on.
 */
export async function createBlockHasher(algo: HashAlgo, hashSeed = '0'): Promise<BlockHasher> {
  const dynamo = await xxh3();
  if (algo === 'xxh3') return dynamo;
  const chained = await sha256Cbor(hashSeed);
  return {
    tokensHash: dynamo.tokensHash,
    blockHash: (parent, { tokens }, scope = {}) => chained(parent, tokens, scope),
  };
}

/** What the hashes of one scope begin with. */
interface Seeded {
  readonly secret: SeededSecret;
  /** Start state of the library's hasher. */
  readonly state: Uint8Array;
}

async function xxh3(): Promise<BlockHasher> {
  const hasher = await createXXHash3(1, 0);
  const one = hasher.save();
  const two = (await createXXHash3(2, 0)).save();
  const zero = (await createXXHash3(0, 0)).save();
  const scopes = new Map<string, Seeded>();
  // Most prompts have neither salt nor adapter, and starting anew from a seed is several times faster than loading a state.
  const plainState = await createXXHash3(Number(SEED), 0);
  const plain = seededSecret(SEED);
  const textHash = (text: string, from: Uint8Array) =>
    text === '' ? 0n : finish(hasher.load(from).update(new TextEncoder().encode(text)));
  /** null where the seed is Dynamo's own. */
  const seeded = ({ cacheSalt = '', loraName = '' }: HashScope): Seeded | null => {
    if (cacheSalt === '' && loraName === '') return null;
    const key = `${loraName.length} ${loraName}${cacheSalt}`;
    let known = scopes.get(key);
    if (!known) {
      const seed = BigInt.asUintN(64, SEED + textHash(loraName, zero) + textHash(cacheSalt, one));
      known = { secret: seededSecret(seed), state: stateOfSeed(one, two, seed) };
      if (scopes.size >= MAX_SCOPES) scopes.delete(scopes.keys().next().value!);
      scopes.set(key, known);
    }
    return known;
  };
  const pair = new Uint32Array(4);
  const pairValues = new BigUint64Array(pair.buffer);
  return {
    tokensHash(tokens, scope = {}) {
      const from = seeded(scope);
      const short = tokens.length >= MIN_WORDS && tokens.length <= MAX_WORDS;
      if (short) return xxh3OfWords(tokens, from?.secret ?? plain);
      const started = from === null ? plainState.init() : hasher.load(from.state);
      return finish(started.update(tokenBytes(tokens)));
    },
    blockHash(parent, { tokensHash }, scope = {}) {
      if (parent === null) return tokensHash;
      pairValues[0] = parent;
      pairValues[1] = tokensHash;
      return xxh3OfWords(pair, seeded(scope)?.secret ?? plain);
    },
  };
}

/**
 * The library takes a seed only while it creates a hasher, asynchronously; salts come with requests. Every 64-bit word
 * of XXH3's start state is a constant plus 0, 1 or -1 times the seed, so the states of seeds 1 and 2 give that of any
 * other. The tests hold it against hashers that were created with the seed.
 */
function stateOfSeed(one: Uint8Array, two: Uint8Array, seed: bigint): Uint8Array {
  const state = one.slice();
  const view = new DataView(state.buffer);
  const second = new DataView(two.buffer, two.byteOffset);
  // The first four bytes name the build of the library.
  for (let at = 4; at + 8 <= state.length; at += 8) {
    const word = view.getBigUint64(at, true);
    const slope = second.getBigUint64(at, true) - word;
    view.setBigUint64(at, BigInt.asUintN(64, word + slope * (seed - 1n)), true);
  }
  return state;
}

/** u32 little-endian. */
function tokenBytes(tokens: readonly number[]): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(4 * tokens.length));
  for (let i = 0; i < tokens.length; i++) bytes.setUint32(4 * i, tokens[i]!, true);
  return new Uint8Array(bytes.buffer);
}

function finish(hasher: IHasher): bigint {
  const out = hasher.digest('binary');
  return new DataView(out.buffer, out.byteOffset).getBigUint64(0, false);
}
