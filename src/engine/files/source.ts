import type { ModelOffer } from '../../protocol/messages.ts';
import { MAX_WHOLE_BYTES } from '../../protocol/model-files.ts';
import { modelError } from '../model-error.ts';
import { FileCheck } from './file-check.ts';
import { chunksOf } from './stream.ts';

/** A model's name and what files it has. */
export interface ModelListing {
  readonly name: string;
  readonly files: readonly { readonly path: string; readonly size: number }[];
}

/** Where the files of a model come from: the hub, a static folder, the page's store, a person's own disk. */
export type ModelFiles = OfferedFiles | VerifiedFiles;

/** Files with hashes, which `readModelFile` checks. */
export interface OfferedFiles extends FileSource {
  readonly offer: ModelOffer;
  readonly verified?: undefined;
}

/** Files whose streams error at their end unless their bytes are those that were offered, or that have nothing to be checked against. */
export interface VerifiedFiles extends FileSource {
  readonly offer: ModelListing;
  readonly verified: true;
}

interface FileSource {
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
export function offeredFile<F extends { readonly path: string }>(
  offer: { readonly name: string; readonly files: readonly F[] },
  path: string,
): F {
  const file = offer.files.find((f) => f.path === path);
  if (!file) {
    const known = offer.files.map((f) => f.path).join(', ');
    throw modelError(offer.name, `the model has no file ${path}; it has: ${known || 'none'}.`);
  }
  return file;
}

/** The same of any files, without the hash that some have. */
function listedFile({ offer }: ModelFiles, path: string): ModelListing['files'][number] {
  return offeredFile<ModelListing['files'][number]>(offer, path);
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
  const file = listedFile(files, path);
  const check = files.verified ? null : await FileCheck.start(offeredFile(files.offer, path));
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

/** A small file as text, checked against the offer's hash first. Throws `EngineError` code `model`. */
export async function readModelText(files: ModelFiles, path: string): Promise<string> {
  const { size } = listedFile(files, path);
  if (size > MAX_WHOLE_BYTES) throw modelError(path, `has ${size} bytes; at most ${MAX_WHOLE_BYTES} are read whole.`);
  const bytes = new Uint8Array(size);
  let at = 0;
  for await (const chunk of readModelFile(files, path)) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw modelError(path, 'is not text in UTF-8.', { cause });
  }
}

/** A small file as JSON, checked as `readModelText` does. Throws `EngineError` code `model`. */
export async function readModelJson(files: ModelFiles, path: string): Promise<unknown> {
  const text = await readModelText(files, path);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw modelError(path, 'is not JSON.', { cause });
  }
}
