import type { ModelSpec } from '../model/spec.ts';
import { modelError } from '../model-error.ts';
import { headerLength, PREFIX_BYTES, parseHeader, shardNames } from './safetensors.ts';
import { WeightPlan } from './weight-plan.ts';

const SINGLE = 'model.safetensors';
export const INDEX = 'model.safetensors.index.json';

/**
 * The safetensors files of a checkpoint in the order in which they load: `model.safetensors`, else the shards of its index.
 * name: of the model, for messages. paths: of all its files. Throws `EngineError` code `model` where it has neither, or lacks a shard.
 */
export async function checkpointFiles(
  name: string,
  paths: readonly string[],
  readIndex: () => Promise<unknown>,
): Promise<string[]> {
  const known = new Set(paths);
  if (known.has(SINGLE)) return [SINGLE];
  if (!known.has(INDEX)) throw modelError(name, `the model has neither ${SINGLE} nor ${INDEX}.`);
  const shards = shardNames(await readIndex(), INDEX);
  const missing = shards.find((shard) => !known.has(shard));
  if (missing !== undefined)
    throw modelError(name, `${INDEX} names ${missing}, and there is no such file. Is the model complete?`);
  return shards;
}

/** A weight file, and how its first bytes are read. */
export interface CheckpointFile {
  readonly path: string;
  readonly size: number;
  /** Bytes `begin` to `end` (not included) of it. */
  read(begin: number, end: number): Promise<Uint8Array>;
}

/**
 * Compares the headers of a checkpoint with the model: every tensor known, of a dtype that can be read, of the right shape, and
 * none missing. Reads headers only. Returns the bytes that its weights take on a GPU.
 * Throws `EngineError` code `model` that names the first tensor which does not fit.
 */
export async function checkCheckpoint(
  spec: ModelSpec,
  files: readonly CheckpointFile[],
  name: string,
): Promise<number> {
  const plan = new WeightPlan(spec);
  for (const { path, size, read } of files) {
    const length = headerLength(await read(0, Math.min(PREFIX_BYTES, size)), size, path);
    plan.place(parseHeader(await read(PREFIX_BYTES, PREFIX_BYTES + length), size, path), path);
  }
  plan.finish(name);
  return plan.bytes;
}
