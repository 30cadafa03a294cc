import { modelError } from '../model-error.ts';
import type { ModelFiles } from './source.ts';

/** The GGUF file that the model is; null where it is a folder in the Hugging Face layout. Throws `EngineError` code `model` where there are several. */
export function ggufFile({ offer }: Pick<ModelFiles, 'offer'>): string | null {
  const found = offer.files.filter(({ path }) => path.endsWith('.gguf')).map(({ path }) => path);
  if (found.length > 1) throw modelError(offer.name, `it has several GGUF files: ${found.join(', ')}. Keep one.`);
  return found[0] ?? null;
}
