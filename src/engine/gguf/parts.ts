import { modelError } from '../model-error.ts';
import type { GgufContent, GgufHeader } from './header.ts';

/** One file of a GGUF model. */
export interface GgufPart {
  readonly file: string;
  readonly header: GgufHeader;
}

/**
 * What all files of a model say together: the metadata of the first, the tensors of all (metadata of parts: llama.cpp's
 * `tools/gguf-split/README.md` and `gguf-split.cpp`). Throws `EngineError` code `model` where they are not the parts of one model in their order.
 */
export function joinParts(parts: readonly GgufPart[]): GgufContent {
  for (const [i, { file, header }] of parts.entries()) {
    const count = header.metadata.get('split.count') ?? 1;
    const number = header.metadata.get('split.no') ?? 0;
    if (count === parts.length && number === i) continue;
    throw modelError(
      file,
      `is part ${Number(number) + 1} of ${count} by its metadata, and part ${i + 1} of ${parts.length} here. A split model needs all of its files under the names that they were made with, as in name-00001-of-00003.gguf.`,
    );
  }
  const { file, header } = parts[0]!;
  const tensors = parts.flatMap((part) => part.header.tensors);
  const expected = header.metadata.get('split.tensors.count') ?? tensors.length;
  if (expected === tensors.length) return { metadata: header.metadata, tensors };
  throw modelError(file, `says that its parts have ${expected} tensors, and they have ${tensors.length}.`);
}
