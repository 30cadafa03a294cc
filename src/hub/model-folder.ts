import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { modelSpec } from '../engine/model/config.ts';
import { longestSequence } from '../engine/model/context.ts';
import type { ModelSpec } from '../engine/model/spec.ts';
import type { ChatTokenizer } from '../frontend/tokenizer.ts';
import { loadChatTokenizer } from '../frontend/tokenizer.ts';
import { fingerprint } from '../protocol/fingerprint.ts';
import { type GenerationDefaults, generationDefaults } from '../protocol/generation-config.ts';
import type { HubConfig, ModelConfig } from './config.ts';
import { type GgufModel, readGgufModel } from './model-gguf.ts';
import { HubStartError } from './start-error.ts';

/** A file that the hub serves: what was hashed, and where it lies. */
export interface ManifestFile {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
  /** Absolute, links resolved. */
  readonly location: string;
  /** Milliseconds; a file that changed since the start is served no more. */
  readonly modified: number;
}

export interface ModelFolder {
  readonly name: string;
  readonly fingerprint: string;
  readonly files: readonly ManifestFile[];
  readonly spec: ModelSpec;
  /** Of its weights as a GPU holds them, unless an option says otherwise. */
  readonly weightBytes: number;
  /** Longest sequence that the hub takes, in tokens; nodes may take less. */
  readonly maxModelLen: number;
  readonly tokenizer: ChatTokenizer | null;
  readonly generationDefaults: GenerationDefaults;
}

/** Files that a page may need; nothing else of a folder is served. */
const SERVED =
  /^(config|generation_config|self-test|tokenizer|tokenizer_config|model\.safetensors\.index)\.json$|^chat_template\.jinja$|\.safetensors$/;
const GGUF = '.gguf';
const isWeights = (path: string) => path.endsWith('.safetensors') || path.endsWith(GGUF);
const MAX_JSON_BYTES = 64 << 20;
const MAX_FILES = 1024;
const NAME = /^[\w.-]+(\/[\w.-]+)?$/;

/**
 * Reads and hashes a model's folder, or its GGUF file.
 * Throws `HubStartError` with one line: no folder, no config, an architecture that no node can run, a tokenizer that cannot be read.
 */
export async function readModelFolder(model: ModelConfig, config: HubConfig): Promise<ModelFolder> {
  const folder = resolve(model.folder);
  const name = model.servedName ?? basename(folder, GGUF);
  if (!NAME.test(name) || name.includes('..')) {
    throw new HubStartError(
      `Cannot serve a model as "${name}": a name is letters, digits, ".", "_", "-" and at most one "/".`,
    );
  }
  try {
    const files = await modelManifest(folder);
    const generation = await readJson(files, 'generation_config.json');
    const weights = files.filter(({ path }) => isWeights(path));
    const gguf = weights.find(({ path }) => path.endsWith(GGUF));
    const held = gguf ? await readGgufModel(gguf.location, gguf.size, gguf.path) : null;
    const spec = held?.spec ?? modelSpec(await readJson(files, 'config.json'), generation);
    const maxModelLen = longestSequence(spec, config.maxModelLen);
    return {
      name,
      fingerprint: await fingerprint(files),
      files,
      spec,
      weightBytes: held?.weightBytes ?? weights.reduce((sum, { size }) => sum + size, 0),
      maxModelLen,
      tokenizer: config.skipTokenizerInit ? null : await tokenizerOf(files, held, config.chatTemplate),
      generationDefaults: config.generationConfig === 'auto' ? generationDefaults(generation ?? {}) : {},
    };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HubStartError(`Cannot serve the model ${folder}: ${why.replaceAll(/\s*\n\s*/g, ' ')}`, {
      cause: error,
    });
  }
}

async function tokenizerOf(
  files: readonly ManifestFile[],
  gguf: GgufModel | null,
  override: string | null,
): Promise<ChatTokenizer> {
  if (gguf === null) return await readTokenizer(files, override);
  return loadChatTokenizer({ ...gguf.tokenizerFiles(), ...(override !== null && { chatTemplate: override }) });
}

async function readTokenizer(files: readonly ManifestFile[], override: string | null): Promise<ChatTokenizer> {
  const tokenizerJson = await readJson(files, 'tokenizer.json');
  if (tokenizerJson === undefined) {
    throw new Error('it has no tokenizer.json. Add one, or start with --skip-tokenizer-init to serve token ids only.');
  }
  const chatTemplate = override ?? (await readText(files, 'chat_template.jinja'));
  return loadChatTokenizer({
    tokenizerJson,
    tokenizerConfig: (await readJson(files, 'tokenizer_config.json')) ?? {},
    ...(chatTemplate === null ? {} : { chatTemplate }),
  });
}

/**
 * The files that a node may need, hashed: of a folder in Hugging Face layout, or the GGUF file that `folder` is or that lies alone in it.
 * Throws `Error` when it is not there, has no config or no weights, or links out of itself.
 */
export async function modelManifest(folder: string): Promise<ManifestFile[]> {
  const root = await realpath(folder).catch(() => {
    throw new Error('there is no such folder or file. Give --model a folder in Hugging Face layout, or a GGUF file.');
  });
  if (!(await stat(root)).isDirectory()) {
    if (!folder.endsWith(GGUF))
      throw new Error('it is a file, but no GGUF file. Give --model a folder in Hugging Face layout, or a GGUF file.');
    // Who names a link means what it leads to.
    return [{ ...(await manifestFile(dirname(root), basename(root))), path: basename(folder) }];
  }
  const all = await readdir(root);
  const gguf = all.filter((name) => name.endsWith(GGUF)).sort();
  if (gguf.length > 0 && !all.some((name) => name.endsWith('.safetensors'))) {
    if (gguf.length > 1) throw new Error(`it has several GGUF files. Name one: ${gguf.join(', ')}.`);
    return [await manifestFile(root, gguf[0]!)];
  }
  const names = all.filter((name) => SERVED.test(name)).sort();
  if (!names.includes('config.json'))
    throw new Error('it has no config.json. Give --model a folder in Hugging Face layout.');
  if (!names.some((name) => name.endsWith('.safetensors')))
    throw new Error('it has no *.safetensors or *.gguf file with the weights.');
  if (names.length > MAX_FILES) throw new Error(`it has ${names.length} files to serve; at most ${MAX_FILES} work.`);
  const files: ManifestFile[] = [];
  for (const path of names) files.push(await manifestFile(root, path));
  return files;
}

async function manifestFile(root: string, path: string): Promise<ManifestFile> {
  const location = await realpath(join(root, path));
  if (!location.startsWith(root + sep)) {
    throw new Error(
      `${path} is a link to ${location}, outside the folder, and is not served. Put a copy in its place.`,
    );
  }
  const found = await stat(location);
  const { size, mtimeMs } = found;
  if (!found.isFile()) throw new Error(`${path} is not a file.`);
  if (path.endsWith('.json') && size > MAX_JSON_BYTES)
    throw new Error(`${path} has ${size} bytes; at most ${MAX_JSON_BYTES} are read.`);
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(location)) hash.update(chunk as Buffer);
  return { path, size, sha256: hash.digest('hex'), location, modified: mtimeMs };
}

async function readText(files: readonly ManifestFile[], path: string): Promise<string | null> {
  const file = files.find((each) => each.path === path);
  return file === undefined ? null : await readFile(file.location, 'utf8');
}

/** undefined where the folder has no such file. */
async function readJson(files: readonly ManifestFile[], path: string): Promise<unknown> {
  const text = await readText(files, path);
  if (text === null) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${path} is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}
