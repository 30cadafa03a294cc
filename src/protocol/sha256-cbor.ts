import { createSHA256 } from 'hash-wasm';
import type { HashScope } from './hash-scope.ts';

/** Hash of one block from its parent's hash (null for the first block), its tokens, and what else it is of. 32 bytes as one number, big-endian. */
export type ChainedHash = (parent: bigint | null, tokens: readonly number[], scope: HashScope) => bigint;

const DIGEST_BYTES = 32;

/**
 * vLLM's `sha256_cbor` (0.11.0: `vllm/utils`, `vllm/v1/core/kv_cache_utils.py`): SHA-256 over the canonical CBOR (RFC 8949, section 4.2) of
 * (parent's hash, token ids, extra keys), extra keys being the name of the LoRA adapter (as vLLM has it since 0.12, before it was a number) and, in
 * the first block, the salt: an array of those that there are, null where there is none. The parent of a first block is the hash of the text `seed`, which vLLM takes from PYTHONHASHSEED.
 */
export async function sha256Cbor(seed: string): Promise<ChainedHash> {
  const hasher = await createSHA256();
  const digest = (bytes: Uint8Array) => hasher.init().update(bytes).digest('binary');
  const none = digest(new CborWriter().text(seed).bytes());
  return (parent, tokens, { cacheSalt = '', loraName = '' }) => {
    const cbor = new CborWriter(5 * tokens.length + 64).array(3);
    cbor.binary(parent === null ? none : bytesOf(parent)).array(tokens.length);
    for (const token of tokens) cbor.unsigned(token);
    const keys = [loraName, parent === null ? cacheSalt : ''].filter((key) => key !== '');
    if (keys.length === 0) cbor.null();
    else cbor.array(keys.length);
    for (const key of keys) cbor.text(key);
    return numberOf(digest(cbor.bytes()));
  };
}

function bytesOf(hash: bigint): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(DIGEST_BYTES));
  for (let i = 0; i < 4; i++) bytes.setBigUint64(8 * i, BigInt.asUintN(64, hash >> BigInt(64 * (3 - i))));
  return new Uint8Array(bytes.buffer);
}

function numberOf(digest: Uint8Array): bigint {
  const view = new DataView(digest.buffer, digest.byteOffset);
  let hash = 0n;
  for (let i = 0; i < 4; i++) hash = (hash << 64n) | view.getBigUint64(8 * i);
  return hash;
}

/** The few kinds of CBOR that a block needs. Lengths and numbers are u32 and written in their shortest form. */
class CborWriter {
  #view: DataView<ArrayBuffer>;
  #length = 0;

  constructor(capacity = 64) {
    this.#view = new DataView(new ArrayBuffer(capacity));
  }

  unsigned(value: number): this {
    return this.#head(0, value);
  }

  binary(bytes: Uint8Array): this {
    return this.#head(2, bytes.length).#append(bytes);
  }

  text(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.#head(3, bytes.length).#append(bytes);
  }

  array(length: number): this {
    return this.#head(4, length);
  }

  null(): this {
    return this.#append(Uint8Array.of(0xf6));
  }

  bytes(): Uint8Array {
    return new Uint8Array(this.#view.buffer, 0, this.#length);
  }

  #head(major: number, value: number): this {
    const kind = major << 5;
    this.#reserve(5);
    const at = this.#length;
    if (value < 24) {
      this.#view.setUint8(at, kind | value);
      this.#length += 1;
    } else if (value < 0x100) {
      this.#view.setUint8(at, kind | 24);
      this.#view.setUint8(at + 1, value);
      this.#length += 2;
    } else if (value < 0x10000) {
      this.#view.setUint8(at, kind | 25);
      this.#view.setUint16(at + 1, value);
      this.#length += 3;
    } else {
      this.#view.setUint8(at, kind | 26);
      this.#view.setUint32(at + 1, value);
      this.#length += 5;
    }
    return this;
  }

  #append(bytes: Uint8Array): this {
    this.#reserve(bytes.length);
    new Uint8Array(this.#view.buffer).set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#view.byteLength) return;
    const grown = new Uint8Array(2 * this.#view.byteLength + more);
    grown.set(new Uint8Array(this.#view.buffer));
    this.#view = new DataView(grown.buffer);
  }
}
