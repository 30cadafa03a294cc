import { ggufFiles } from '../files/gguf-file.ts';
import { type ModelFiles, offeredFile, readModelJson } from '../files/source.ts';
import { readGgufParts } from '../gguf/read-header.ts';
import type { ModelSpec } from '../model/spec.ts';
import { checkpointFiles, INDEX } from './checkpoint.ts';
import type { LoadedWeights, LoadOptions } from './loaded.ts';
import { WeightLoader } from './loader.ts';

/**
 * Streams a checkpoint (a GGUF file, or its parts; or safetensors, one file, or shards with an index) into GPU buffers, one per `WeightSpec`, a chunk
 * at a time. Matrices stay as they are stored (integers in the layout of `lib/blocks.wgsl`), unless floats are to be quantized or
 * converted; vectors become f32.
 * Throws `EngineError` code `model` for files that do not fit the model, are damaged or exceed a limit of the device, and
 * `out_of_memory` when the GPU has no room; all buffers are freed then.
 */
export async function loadWeights(
  device: GPUDevice,
  spec: ModelSpec,
  files: ModelFiles,
  options: LoadOptions = {},
): Promise<LoadedWeights> {
  const { offer } = files;
  const names = offer.files.map(({ path }) => path);
  const gguf = ggufFiles(files);
  const paths: readonly string[] =
    gguf ?? (await checkpointFiles(offer.name, names, () => readModelJson(files, INDEX)));
  const total = paths.reduce((sum, path) => sum + offeredFile(files.offer, path).size, 0);
  const loader = new WeightLoader(device, spec, options);
  // The header of a later shard is not known yet when the first one allocates; the model's size is.
  const { dtype = 'auto', quantization = 'none' } = options;
  const asStored = dtype === 'auto' && quantization === 'none';
  if (gguf && paths.length > 1) loader.foresee(await readGgufParts(files, gguf, () => false));
  else if (paths.length > 1 && asStored) loader.refuseAbove(leastBytes(spec, total), offer.name);
  try {
    let before = 0;
    for (const path of paths) {
      await loader.load(files, path, (loaded) => options.onProgress?.(before + loaded, total));
      before += offeredFile(files.offer, path).size;
    }
    return await loader.finish(files.offer.name);
  } catch (error) {
    loader.destroy();
    throw error;
  }
}

/** What the weights take at the least, by the size of their files: those may hold tensors that no model needs. */
function leastBytes(spec: ModelSpec, fileBytes: number): number {
  const values = spec.weights.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
  return Math.min(fileBytes, values * (fileBytes / values > 3 ? 4 : 2));
}
