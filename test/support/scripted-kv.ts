import { EngineError, type EngineInfo, type KvReservation, type PrefillProgress } from '../../src/engine/api.ts';
import type { GenerateRequest } from '../../src/protocol/generate.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import { type KvSection, sectionBytes } from '../../src/protocol/transfer.ts';
import { PrefixCache } from './prefix-cache.ts';

const hasher = await createBlockHasher('xxh3');

/** Chained hashes of the full blocks of a prompt. */
export function promptHashes(prompt: readonly number[], blockSize: number, salt?: string): bigint[] {
  const hashes: bigint[] = [];
  for (let end = blockSize; end <= prompt.length; end += blockSize) {
    const tokens = prompt.slice(end - blockSize, end);
    const block = { tokens, tokensHash: hasher.tokensHash(tokens, { cacheSalt: salt }) };
    hashes.push(hasher.blockHash(hashes.at(-1) ?? null, block, { cacheSalt: salt }));
  }
  return hashes;
}

/** The K (part 0) or V (part 1) of a block in one layer, as every scripted engine computes it: a function of the tokens up to its end, and of the layer. */
export function scriptedPart(hash: bigint, layer: number, part: 0 | 1, bytes: number): Uint8Array {
  let state = Number(BigInt.asUintN(32, hash)) ^ Math.imul(2 * layer + part + 1, 0x9e3779b1);
  return Uint8Array.from({ length: bytes }, () => {
    state = Math.imul(state ^ (state >>> 15), 0x85ebca6b) + 0x27d4eb2f;
    return state >>> 24;
  });
}

type Shape = Pick<EngineInfo, 'blockSize' | 'layers' | 'layerBlockBytes' | 'totalBlocks'>;

interface Prefill {
  readonly prompt: readonly number[];
  readonly cacheSalt: string | undefined;
  readonly hashes: readonly bigint[];
  readonly cachedTokens: number;
  computed: number;
}

/** The KV pool of a scripted engine: real bytes by block hash, so that a test sees which ones moved. */
export class ScriptedKv {
  readonly cache: PrefixCache;
  readonly prefills = new Map<string, Prefill>();
  readonly reservations = new Set<ScriptedReservation>();
  /** Bytes of blocks that came from elsewhere, by hash: [layer][K, V]. What is computed here is `scriptedPart`. */
  readonly written = new Map<bigint, Uint8Array[]>();

  constructor(readonly shape: Shape) {
    this.cache = new PrefixCache(hasher, shape.blockSize);
  }

  get reserved(): number {
    return [...this.reservations].reduce((sum, { hashes }) => sum + hashes.length, 0);
  }

  /** Blocks of a prompt that a lookup could use. */
  leading({ prompt, cacheSalt }: GenerateRequest): number {
    return this.cache.leading(prompt, cacheSalt);
  }

  /** A prompt whose KV came from elsewhere and differs from what this engine would have computed. */
  spoiled({ prompt, cacheSalt }: GenerateRequest): boolean {
    return promptHashes(prompt, this.shape.blockSize, cacheSalt).some((hash) =>
      this.written.get(hash)?.some((bytes, i) => {
        const own = scriptedPart(hash, i >> 1, (i & 1) as 0 | 1, this.shape.layerBlockBytes);
        return bytes.some((byte, at) => byte !== own[at]);
      }),
    );
  }

  prefill({ request, prompt, cacheSalt }: GenerateRequest): PrefillProgress | null {
    const hashes = promptHashes(prompt, this.shape.blockSize, cacheSalt);
    const cachedTokens = this.cache.leading(prompt, cacheSalt) * this.shape.blockSize;
    const prefill: Prefill = { prompt, cacheSalt, hashes, cachedTokens, computed: cachedTokens };
    this.prefills.set(request, prefill);
    return cachedTokens > 0 ? this.progress(prefill) : null;
  }

  /** The next chunk of every prompt that is not computed whole. */
  *step(rows: number): Generator<{ request: string; rows: number; progress: PrefillProgress }> {
    for (const [request, prefill] of this.prefills) {
      const before = prefill.computed;
      if (before === prefill.prompt.length) continue;
      prefill.computed = Math.min(before + rows, prefill.prompt.length);
      this.cache.compute(prefill.prompt.slice(0, prefill.computed), prefill.cacheSalt);
      yield { request, rows: prefill.computed - before, progress: this.progress(prefill) };
    }
  }

  export(request: string, section: KvSection): ArrayBuffer {
    const prefill = this.prefills.get(request);
    const { layers, layerBlockBytes } = this.shape;
    const end = section.firstBlock + section.blocks;
    if (!prefill || end > this.progress(prefill).blocks || section.firstLayer + section.layers > layers)
      throw new EngineError('invalid_request', `request ${request}: these blocks are not computed`);
    const out = new Uint8Array(sectionBytes(section, layerBlockBytes));
    let at = 0;
    for (let layer = section.firstLayer; layer < section.firstLayer + section.layers; layer++) {
      for (const part of [0, 1] as const) {
        for (const hash of prefill.hashes.slice(section.firstBlock, end)) {
          const moved = this.written.get(hash)?.[2 * layer + part];
          out.set(moved ?? scriptedPart(hash, layer, part, layerBlockBytes), at);
          at += layerBlockBytes;
        }
      }
    }
    return out.buffer;
  }

  reserve(request: GenerateRequest, committed: () => void): KvReservation | 'cached' | 'no_room' {
    const { blockSize, totalBlocks } = this.shape;
    const wanted = Math.floor((request.prompt.length - 1) / blockSize);
    const firstBlock = this.leading(request);
    if (wanted === firstBlock) return 'cached';
    if (this.reserved + wanted - firstBlock > totalBlocks) return 'no_room';
    const hashes = promptHashes(request.prompt, blockSize, request.cacheSalt).slice(firstBlock, wanted);
    const reservation = new ScriptedReservation(this, request, firstBlock, hashes, committed);
    this.reservations.add(reservation);
    return reservation;
  }

  private progress({ computed, cachedTokens, prompt }: Prefill): PrefillProgress {
    return {
      blocks: Math.floor(computed / this.shape.blockSize),
      done: computed === prompt.length,
      computedTokens: computed - cachedTokens,
      cachedTokens,
    };
  }
}

/** Blocks of a scripted engine that wait for their bytes. */
export class ScriptedReservation implements KvReservation {
  /** By layer, then K and V, then block: null until written. */
  private readonly parts: (Uint8Array | null)[][];

  constructor(
    private readonly kv: ScriptedKv,
    private readonly request: GenerateRequest,
    readonly firstBlock: number,
    readonly hashes: readonly bigint[],
    private readonly committed: () => void,
  ) {
    this.parts = Array.from({ length: 2 * kv.shape.layers }, () => hashes.map(() => null));
  }

  write(section: KvSection, payload: Uint8Array): void {
    this.requireOpen();
    const { layers, layerBlockBytes } = this.kv.shape;
    const first = section.firstBlock - this.firstBlock;
    const fits = first >= 0 && first + section.blocks <= this.hashes.length;
    if (!fits || section.firstLayer + section.layers > layers)
      throw new EngineError('invalid_request', 'The section is not within the reserved blocks.');
    if (payload.length !== sectionBytes(section, layerBlockBytes))
      throw new EngineError('invalid_request', `A payload of ${payload.length} bytes for another section.`);
    let at = 0;
    for (let part = 2 * section.firstLayer; part < 2 * (section.firstLayer + section.layers); part++) {
      for (let block = first; block < first + section.blocks; block++) {
        this.parts[part]![block] = payload.slice(at, at + layerBlockBytes);
        at += layerBlockBytes;
      }
    }
  }

  commit(): void {
    this.requireOpen();
    if (this.parts.some((blocks) => blocks.includes(null)))
      throw new EngineError('invalid_request', 'Some of the blocks were not written.');
    this.kv.reservations.delete(this);
    for (const [block, hash] of this.hashes.entries())
      this.kv.written.set(
        hash,
        this.parts.map((blocks) => blocks[block]!),
      );
    const end = (this.firstBlock + this.hashes.length) * this.kv.shape.blockSize;
    this.kv.cache.compute(this.request.prompt.slice(0, end), this.request.cacheSalt);
    this.committed();
  }

  abort(): void {
    this.kv.reservations.delete(this);
  }

  private requireOpen(): void {
    if (!this.kv.reservations.has(this)) throw new EngineError('invalid_request', 'The reservation has ended.');
  }
}
