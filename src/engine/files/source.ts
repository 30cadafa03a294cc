import type { ModelOffer } from '../../protocol/messages.ts';
import { modelError } from '../model-error.ts';
import { FileCheck, type OfferFile } from './file-check.ts';
import { chunksOf } from './stream.ts';

/** Where the files of a model come from: the hub, a static folder, the page's store. */
export interface ModelFiles {
  readonly offer: ModelOffer;
  /** Present where a stream from byte 0 errors at its end unless its bytes are those of the offer; else `readModelFile` checks. */
  readonly verified?: true;
  /**
   * Bytes of the offer's file `path` from byte `from` to its end.
   * Rejects, or the stream errors, with `EngineError` code `model` that names the file.
   */
  open(path: string, from: number): Promise<ReadableStream<Uint8Array>>;
}

/** Says in words what is going on with a file (waiting, retrying, not kept), for the page's progress line. */
export type Notice = (text: string) => void;

/** Largest chunk that `readModelFile` yields, bytes. */
export const MAX_CHUNK_BYTES = 4 * 1024 * 1024;

/** The offer's entry of a file. Throws `EngineError` code `model` when the model has no such file. */
export function offeredFile(offer: ModelOffer, path: string): OfferFile {
  const file = offer.files.find((f) => f.path === path);
  if (!file) {
    const known = offer.files.map((f) => f.path).join(', ');
    throw modelError(offer.name, `the model has no file ${path}; it has: ${known || 'none'}.`);
  }
  return file;
}

/**
 * All bytes of a file in order, in chunks of at most `MAX_CHUNK_BYTES`. The last chunk may come before the hash is known:
 * after it, a file whose length or SHA-256 is not the offer's throws `EngineError` code `model` with the file's name.
 */
export async function* readModelFile(
  files: ModelFiles,
  path: string,
  onProgress: (loaded: number, total: number) => void = () => {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const file = offeredFile(files.offer, path);
  const check = files.verified ? null : await FileCheck.start(file);
  let loaded = 0;
  for await (const part of chunksOf(await files.open(path, 0))) {
    for (let at = 0; at < part.byteLength; at += MAX_CHUNK_BYTES) {
      const chunk = part.subarray(at, at + MAX_CHUNK_BYTES);
      check?.update(chunk);
      loaded += chunk.byteLength;
      onProgress(loaded, file.size);
      yield chunk;
    }
  }
  const wrong = check?.finish();
  if (wrong) throw wrong;
}

/** Most bytes of a file that is read whole (configs, tokenizers, indexes). */
const MAX_JSON_BYTES = 64 * 1024 * 1024;

/** A small file as JSON, checked against the offer's hash first. Throws `EngineError` code `model`. */
export async function readModelJson(files: ModelFiles, path: string): Promise<unknown> {
  const { size } = offeredFile(files.offer, path);
  if (size > MAX_JSON_BYTES) throw modelError(path, `has ${size} bytes; at most ${MAX_JSON_BYTES} are read as JSON.`);
  const bytes = new Uint8Array(size);
  let at = 0;
  for await (const chunk of readModelFile(files, path)) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw modelError(path, 'is not JSON in UTF-8.', { cause });
  }
}
