import { type ModelFiles, offeredFile, readModelFile, readModelJson } from '../files/source.ts';
import { modelError } from '../model-error.ts';
import { ChunkReader } from '../weights/chunk-reader.ts';
import { widen } from '../weights/float16.ts';
import { headerLength, PREFIX_BYTES, parseHeader } from '../weights/safetensors.ts';
import { isFloatType } from '../weights/tensor-types.ts';
import { LORA_CONFIG, LORA_WEIGHTS, MAX_LORA_CONFIG_BYTES, PeftAdapter, type PlacedTensor } from './peft.ts';
import type { LoraProduct } from './sites.ts';

/**
 * Reads an adapter in PEFT's layout, tensor by tensor: each goes to `take` as f32, row by row as it is stored. All is checked before the
 * first is taken, but for the file's hash: when this resolves, it was right.
 * Throws `EngineError` code `model` for what does not fit the model, or is not what was offered.
 */
export async function readLoraAdapter(
  name: string,
  files: ModelFiles,
  products: readonly LoraProduct[],
  maxRank: number,
  take: (tensor: PlacedTensor, values: Float32Array<ArrayBuffer>) => void,
): Promise<void> {
  const { size: configBytes } = offeredFile<{ path: string; size: number }>(files.offer, LORA_CONFIG);
  if (configBytes > MAX_LORA_CONFIG_BYTES)
    throw modelError(LORA_CONFIG, `has ${configBytes} bytes; at most ${MAX_LORA_CONFIG_BYTES} are read.`);
  const peft = new PeftAdapter(name, await readModelJson(files, LORA_CONFIG), products, maxRank);
  const { size } = offeredFile<{ path: string; size: number }>(files.offer, LORA_WEIGHTS);
  const reader = new ChunkReader(readModelFile(files, LORA_WEIGHTS));
  try {
    const header = await reader.exactly(
      headerLength(await reader.exactly(Math.min(PREFIX_BYTES, size)), size, LORA_WEIGHTS),
    );
    const tensors = parseHeader(header, size, LORA_WEIGHTS);
    for (const [i, placed] of peft.place(tensors).entries()) {
      const { begin, end, dtype } = tensors[i]!;
      const bytes = await reader.exactly(end - begin);
      if (!isFloatType(dtype)) throw modelError(LORA_WEIGHTS, `dtype ${dtype} is not supported.`);
      take(placed, widen(bytes, dtype));
    }
    await reader.drain();
  } finally {
    await reader.close();
  }
}
