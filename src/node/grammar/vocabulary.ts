import type { ModelFiles } from '../../engine/files/source.ts';
import { loadChatTokenizer } from '../../frontend/tokenizer.ts';
import { readTokenizerFiles } from '../tokenizer-files.ts';
import type { Vocabulary } from './messages.ts';

/** What each of `vocabSize` tokens is in a text, from the model's tokenizer; nothing for special tokens and `eosIds`. Rejects with `EngineError` code `model`. */
export async function readVocabulary(
  files: ModelFiles,
  vocabSize: number,
  eosIds: readonly number[],
): Promise<Vocabulary> {
  const tokenizer = loadChatTokenizer(await readTokenizerFiles(files));
  const silent = new Set(eosIds);
  const pieces = Array.from({ length: vocabSize }, (_, id) => {
    const { bytes, special } = tokenizer.piece(id);
    return special || silent.has(id) ? new Uint8Array(0) : bytes;
  });
  const ends = new Uint32Array(vocabSize);
  let length = 0;
  for (const [id, piece] of pieces.entries()) {
    length += piece.byteLength;
    ends[id] = length;
  }
  const bytes = new Uint8Array(length);
  for (const [id, piece] of pieces.entries()) bytes.set(piece, (ends[id] as number) - piece.byteLength);
  return { bytes, ends };
}

/** Whether a token stands for no text, as ids beyond the vocabulary do. */
export function isSilent({ ends }: Vocabulary, id: number): boolean {
  return id >= ends.length || ends[id] === (id === 0 ? 0 : ends[id - 1]);
}
