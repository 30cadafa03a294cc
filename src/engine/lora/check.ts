import type { ModelSpec } from '../model/spec.ts';
import type { CheckpointFile } from '../weights/checkpoint.ts';
import { headerLength, PREFIX_BYTES, parseHeader } from '../weights/safetensors.ts';
import { LORA_WEIGHTS, PeftAdapter } from './peft.ts';
import { loraProducts } from './sites.ts';

/**
 * Compares an adapter with a model: its config, and every tensor by the header of its file. No weights are read.
 * Throws `EngineError` code `model` that names the first thing which is not supported or does not fit.
 */
export async function checkLora(
  name: string,
  config: unknown,
  { size, read }: CheckpointFile,
  spec: ModelSpec,
  maxRank: number,
): Promise<void> {
  const peft = new PeftAdapter(name, config, loraProducts(spec), maxRank);
  const length = headerLength(await read(0, Math.min(PREFIX_BYTES, size)), size, LORA_WEIGHTS);
  peft.place(parseHeader(await read(PREFIX_BYTES, PREFIX_BYTES + length), size, LORA_WEIGHTS));
}
