import { isModelFile, MAX_MODEL_FILES } from '../../protocol/model-files.ts';
import { joinParts } from '../gguf/parts.ts';
import { ggufWeightBytes, readGgufParts } from '../gguf/read-header.ts';
import { ggufSpec } from '../gguf/spec.ts';
import { modelSpec } from '../model/config.ts';
import { modelError } from '../model-error.ts';
import { checkCheckpoint, checkpointFiles, INDEX } from '../weights/checkpoint.ts';
import { ggufFiles } from './gguf-file.ts';
import { MAX_CHUNK_BYTES, readModelJson, type VerifiedFiles } from './source.ts';
import { toStream } from './stream.ts';

/**
 * A model of files of this device that a person handed to the page. They are read in slices, each of at most `MAX_CHUNK_BYTES`; there is
 * nothing to compare their bytes with. What no model needs is left aside. signal: ends the reading.
 * Throws `EngineError` code `model` that names the file which is missing, there twice, or of another format.
 */
export function localFiles(name: string, given: readonly File[], signal: AbortSignal): VerifiedFiles {
  const files = new Map<string, File>();
  const has = (ending: string) => given.some((each) => each.name.endsWith(ending));
  const gguf = has('.gguf') && !has('.safetensors');
  for (const file of given.filter((each) => (gguf ? each.name.endsWith('.gguf') : isModelFile(each.name)))) {
    if (files.has(file.name))
      throw modelError(name, `two files are named ${file.name}. Open the files of one model alone.`);
    files.set(file.name, file);
  }
  if (files.size > MAX_MODEL_FILES)
    throw modelError(name, `it has ${files.size} files; at most ${MAX_MODEL_FILES} work.`);
  const missing = ['config.json', 'tokenizer.json'].filter((each) => !files.has(each));
  if (![...files.keys()].some((each) => each.endsWith('.safetensors'))) missing.push('*.safetensors');
  if (!gguf && missing.length > 0) throw modelError(name, missingText(missing, given));
  return {
    offer: { name, files: [...files].map(([path, { size }]) => ({ path, size })) },
    verified: true,
    open: async (path, from) => {
      const file = files.get(path);
      if (file === undefined) throw modelError(name, `the model has no file ${path}.`);
      return toStream(slices(file, from, signal));
    },
  };
}

/**
 * Whether the weights are those of the model, by their headers, before anything is loaded. pools: it shall give embeddings.
 * Throws `EngineError` code `model`: an architecture, field or dtype that cannot be run, a tensor that does not fit, a shard that is missing.
 */
export async function checkLocalFiles(files: VerifiedFiles, pools = false): Promise<void> {
  const gguf = ggufFiles(files);
  if (gguf) {
    const parts = await readGgufParts(files, gguf);
    ggufWeightBytes(parts, ggufSpec(joinParts(parts), gguf[0], pools));
    return;
  }
  const spec = modelSpec(await readModelJson(files, 'config.json'), undefined, pools);
  const { name, files: listed } = files.offer;
  const names = listed.map(({ path }) => path);
  const paths = await checkpointFiles(name, names, () => readModelJson(files, INDEX));
  const weights = listed.filter(({ path }) => paths.includes(path));
  const read = (path: string) => (begin: number, end: number) => readPart(files, path, begin, end);
  await checkCheckpoint(
    spec,
    weights.map(({ path, size }) => ({ path, size, read: read(path) })),
    name,
  );
}

async function readPart(files: VerifiedFiles, path: string, begin: number, end: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(end - begin);
  const reader = (await files.open(path, begin)).getReader();
  try {
    for (let at = 0; at < bytes.byteLength; ) {
      const { done, value } = await reader.read();
      if (done) throw modelError(path, `ended at byte ${begin + at}, and ${end} are wanted.`);
      const part = value.subarray(0, bytes.byteLength - at);
      bytes.set(part, at);
      at += part.byteLength;
    }
    return bytes;
  } finally {
    await reader.cancel().catch(() => {});
  }
}

async function* slices(file: File, from: number, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = from; at < file.size; at += MAX_CHUNK_BYTES) {
    signal.throwIfAborted();
    const buffer = await file
      .slice(at, at + MAX_CHUNK_BYTES)
      .arrayBuffer()
      .catch((cause: unknown) => {
        const why = cause instanceof Error ? cause.message : String(cause);
        throw modelError(file.name, `cannot be read any more (${why}). Was it changed or moved? Open it again.`, {
          cause,
        });
      });
    yield new Uint8Array(buffer);
  }
}

function missingText(missing: readonly string[], given: readonly File[]): string {
  const names = given.map((each) => each.name);
  const other = names.find((each) => /\.(bin|pt|pth|onnx)$/i.test(each));
  const seen = other === undefined ? '' : ` ${other} is of a format that is not read here.`;
  return `it has no ${missing.join(', no ')}.${seen} Open the folder of a model in the layout of Hugging Face, with its weights as safetensors, or a GGUF file.`;
}
