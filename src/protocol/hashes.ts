import { createSHA256, createXXHash3, type IHasher } from 'hash-wasm';

export type HashAlgo = 'xxh3' | 'sha256';

/** Dynamo's seed of block hashes. */
const SEED = 1337n;
/** How many salts keep their prepared state; more salts cost time, nothing else. */
const MAX_SALTS = 64;

/**
 * The two hashes of a full block, as u64. `tokensHash` is of the block's own tokens, `blockHash` chains it to the
 * blocks before. A cache salt changes both, so that prompts of different salts have no hash in common.
 */
export interface BlockHasher {
  /** tokens: u32 ids of one full block. */
  tokensHash(tokens: readonly number[], salt?: string): bigint;
  /** parent: `blockHash` of the block before, null for the first block, whose hash is its `tokensHash`. */
  blockHash(parent: bigint | null, tokensHash: bigint, salt?: string): bigint;
}

/**
 * `xxh3` is Dynamo's, bit for bit: XXH3-64 with seed 1337 (plus, wrapping, XXH3-64(salt, seed 1) under a salt) over
 * u32 little-endian ids, then over (parent, tokensHash) as u64 little-endian.
 * `sha256` is the first 64 bits, big-endian, of SHA-256 over (u32 length of salt, salt, the same bytes).
 */
export async function createBlockHasher(algo: HashAlgo): Promise<BlockHasher> {
  const digest = algo === 'xxh3' ? await xxh3() : await sha256();
  return {
    tokensHash(tokens, salt = '') {
      const bytes = new DataView(new ArrayBuffer(4 * tokens.length));
      for (let i = 0; i < tokens.length; i++) bytes.setUint32(4 * i, tokens[i]!, true);
      return digest(new Uint8Array(bytes.buffer), salt);
    },
    blockHash(parent, tokensHash, salt = '') {
      if (parent === null) return tokensHash;
      return digest(new Uint8Array(new BigUint64Array([parent, tokensHash]).buffer), salt);
    },
  };
}

type Digest = (bytes: Uint8Array, salt: string) => bigint;

async function xxh3(): Promise<Digest> {
  const hasher = await createXXHash3(1, 0);
  const one = hasher.save();
  const two = (await createXXHash3(2, 0)).save();
  const states = new Map<string, Uint8Array>();
  // Most prompts have no salt, and starting anew from a seed is several times faster than loading a state.
  const unsalted = await createXXHash3(Number(SEED), 0);
  return (bytes, salt) => {
    if (salt === '') return finish(unsalted.init().update(bytes));
    let state = states.get(salt);
    if (!state) {
      const shift = finish(hasher.load(one).update(new TextEncoder().encode(salt)));
      state = stateOfSeed(one, two, BigInt.asUintN(64, SEED + shift));
      if (states.size >= MAX_SALTS) states.delete(states.keys().next().value!);
      states.set(salt, state);
    }
    return finish(hasher.load(state).update(bytes));
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

async function sha256(): Promise<Digest> {
  const hasher = await createSHA256();
  return (bytes, salt) => {
    const saltBytes = new TextEncoder().encode(salt);
    const length = new DataView(new ArrayBuffer(4));
    length.setUint32(0, saltBytes.length, true);
    return finish(hasher.init().update(new Uint8Array(length.buffer)).update(saltBytes).update(bytes));
  };
}

function finish(hasher: IHasher): bigint {
  const out = hasher.digest('binary');
  return new DataView(out.buffer, out.byteOffset).getBigUint64(0, false);
}
