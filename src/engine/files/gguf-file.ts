import { ggufModels } from '../../protocol/model-files.ts';
import { modelError } from '../model-error.ts';
import type { ModelFiles } from './source.ts';

/**
 * The GGUF file that the model is, or its parts in their order; null where it is a folder in the Hugging Face layout.
 * Throws `EngineError` code `model` where there are several models, or a part is missing.
 */
export function ggufFiles({ offer }: Pick<ModelFiles, 'offer'>): readonly [string, ...string[]] | null {
  const [model, ...others] = ggufModels(offer.files.map(({ path }) => path));
  if (model === undefined) return null;
  if (others.length > 0) {
    const names = [model, ...others].map(({ files }) => files[0]).join(', ');
    throw modelError(offer.name, `it has several GGUF files: ${names}. Keep one.`);
  }
  const [missing] = model.missing;
  const [first, ...rest] = model.files;
  if (missing === undefined && first !== undefined) return [first, ...rest];
  throw modelError(offer.name, `it lacks ${missing}, one of its ${model.files.length + model.missing.length} parts.`);
}
