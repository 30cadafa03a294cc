import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { modelSpec } from '../engine/model/config.ts';
import { longestSequence } from '../engine/model/context.ts';
import { folderPooler, type Matryoshka, matryoshkaOf } from '../engine/model/pooler.ts';
import type { ModelSpec } from '../engine/model/spec.ts';
import { checkCheckpoint, checkpointFiles, INDEX } from '../engine/weights/checkpoint.ts';
import type { ChatTokenizer } from '../frontend/tokenizer.ts';
import { loadChatTokenizer } from '../frontend/tokenizer.ts';
import { fingerprint } from '../protocol/fingerprint.ts';
import { type GenerationDefaults, generationDefaults } from '../protocol/generation-config.ts';
import {
  type GgufNames,
  ggufModels,
  isModelFile,
  isPoolingFolder,
  MAX_MODEL_FILES,
  MAX_WHOLE_BYTES,
} from '../protocol/model-files.ts';
import type { Pooler } from '../protocol/pooling.ts';
import type { HubConfig, ModelConfig } from './config.ts';
import { type GgufSource, ggufOnDisk, readGgufModel } from './model-gguf.ts';
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
  /** How it makes embeddings; null = it generates. */
  readonly pooler: (Pooler & { readonly matryoshka: Matryoshka }) | null;
}

const GGUF = '.gguf';
const NAME = /^[\w.-]+(\/[\w.-]+)?$/;

/**
 * Reads and hashes a model's folder, or its GGUF file or files.
 * Throws `HubStartError` with one line: no folder, no config, an architecture that no node can run, a tokenizer that cannot be read.
 */
export async function readModelFolder(model: ModelConfig, config: FactsConfig): Promise<ModelFolder> {
  const folder = resolve(model.folder);
  const name = model.servedName ?? ggufModels([basename(folder)])[0]?.name ?? basename(folder);
  if (!NAME.test(name) || name.includes('..')) {
    throw new HubStartError(
      `Cannot serve a model as "${name}": a name is letters, digits, ".", "_", "-" and at most one "/".`,
    );
  }
  try {
    const files = await modelManifest(folder);
    if (model.hashes) refuseDamaged(files, model.hashes);
    const gguf = files.filter(({ path }) => path.endsWith(GGUF)).map(ggufOnDisk);
    const facts = gguf.length > 0 ? await ggufFacts(gguf, config) : await folderFacts(name, files, config);
    return {
      name,
      fingerprint: await fingerprint(files),
      files,
      ...facts,
    };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HubStartError(`Cannot serve the model ${folder}: ${why.replaceAll(/\s*\n\s*/g, ' ')}`, {
      cause: error,
    });
  }
}

type Facts = Pick<ModelFolder, 'spec' | 'weightBytes' | 'maxModelLen' | 'tokenizer' | 'generationDefaults' | 'pooler'>;
type FactsConfig = Pick<
  HubConfig,
  'maxModelLen' | 'skipTokenizerInit' | 'chatTemplate' | 'generationConfig' | 'pooler'
>;

/** What the headers of a GGUF model's files say of it, and whether it can be served. Throws `Error`. */
export async function ggufFacts(files: readonly GgufSource[], config: FactsConfig): Promise<Facts> {
  const { spec, weightBytes, pooler, tokenizerFiles } = await readGgufModel(files, config.pooler);
  const { chatTemplate } = config;
  return {
    pooler: pooler && { ...pooler, matryoshka: null },
    spec,
    weightBytes,
    maxModelLen: longestSequence(spec, config.maxModelLen),
    tokenizer: config.skipTokenizerInit
      ? null
      : loadChatTokenizer({ ...tokenizerFiles(), ...(chatTemplate !== null && { chatTemplate }) }),
    generationDefaults: {},
  };
}

async function folderFacts(name: string, files: readonly ManifestFile[], config: FactsConfig): Promise<Facts> {
  const facts = await modelFacts(files, config);
  await checkWeights(name, facts.spec, files);
  const weightBytes = files.reduce((sum, { path, size }) => sum + (path.endsWith('.safetensors') ? size : 0), 0);
  return { ...facts, weightBytes };
}

/** A file of a model, on this machine. */
type Placed = Pick<ManifestFile, 'path' | 'location'>;

/** What the small files of a model say of it, and whether they can be served. Throws `Error`. */
export async function modelFacts(files: readonly Placed[], config: FactsConfig): Promise<Omit<Facts, 'weightBytes'>> {
  const generation = await readModelFile(files, 'generation_config.json');
  const raw = await readModelFile(files, 'config.json');
  const pooler = await folderPooler(config.pooler, (path) => readModelFile(files, path));
  const spec = modelSpec(raw, generation, pooler !== null);
  return {
    spec,
    pooler: pooler && { ...pooler, matryoshka: matryoshkaOf(raw) },
    maxModelLen: longestSequence(spec, config.maxModelLen),
    tokenizer: config.skipTokenizerInit ? null : await readTokenizer(files, config.chatTemplate),
    generationDefaults: config.generationConfig === 'auto' ? generationDefaults(generation ?? {}) : {},
  };
}

/** Throws `Error` where the weights are not those of the model, by their headers. */
async function checkWeights(name: string, spec: ModelSpec, files: readonly ManifestFile[]): Promise<void> {
  const paths = await checkpointFiles(
    name,
    files.map(({ path }) => path),
    () => readModelFile(files, INDEX),
  );
  const weights = files.filter(({ path }) => paths.includes(path));
  const readable = weights.map(({ path, size, location }) => ({
    path,
    size,
    read: (begin: number, end: number) => readPart(location, begin, end),
  }));
  await checkCheckpoint(spec, readable, name);
}

/** Bytes `begin` to `end` (not included) of a file. */
export async function readPart(location: string, begin: number, end: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  if (begin === end) return Buffer.alloc(0);
  for await (const part of createReadStream(location, { start: begin, end: end - 1 })) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

/** Throws `Error` that names a file whose bytes are not those that were fetched. */
function refuseDamaged(files: readonly ManifestFile[], hashes: ReadonlyMap<string, string>): void {
  for (const { path, sha256, location } of files) {
    if (hashes.get(path) === sha256) continue;
    throw new Error(
      `${path} is not what was fetched (SHA-256 ${sha256}, ${hashes.get(path) ?? 'none'} then). Remove ${location} and start again: it is fetched anew.`,
    );
  }
}

async function readTokenizer(files: readonly Placed[], override: string | null): Promise<ChatTokenizer> {
  const tokenizerJson = await readModelFile(files, 'tokenizer.json');
  if (tokenizerJson === undefined) {
    throw new Error('it has no tokenizer.json. Add one, or start with --skip-tokenizer-init to serve token ids only.');
  }
  const chatTemplate = override ?? (await readText(files, 'chat_template.jinja'));
  return loadChatTokenizer({
    tokenizerJson,
    tokenizerConfig: (await readModelFile(files, 'tokenizer_config.json')) ?? {},
    ...(chatTemplate === null ? {} : { chatTemplate }),
  });
}

/**
 * The files that a node may need, hashed: of a folder in Hugging Face layout, or the GGUF file that `folder` is or that lies alone in it,
 * with the other parts of a split one. Throws `Error` when it is not there, has no config or no weights, or links out of itself.
 */
export async function modelManifest(folder: string): Promise<ManifestFile[]> {
  const root = await realpath(folder).catch(() => {
    throw new Error('there is no such folder or file. Give --model a folder in Hugging Face layout, or a GGUF file.');
  });
  if (!(await stat(root)).isDirectory()) {
    if (!folder.endsWith(GGUF))
      throw new Error('it is a file, but no GGUF file. Give --model a folder in Hugging Face layout, or a GGUF file.');
    const beside = dirname(folder);
    const model = ggufModels(await readdir(beside)).find(({ files }) => files.includes(basename(folder)));
    const files: ManifestFile[] = [];
    for (const path of wholeGguf(model)) {
      // Who names a link means what it leads to.
      const real = await realpath(join(beside, path));
      files.push({ ...(await manifestFile(dirname(real), basename(real))), path });
    }
    return files;
  }
  const all = await readdir(root);
  const gguf = ggufModels(all);
  if (gguf.length > 0 && !all.some((name) => name.endsWith('.safetensors'))) {
    if (gguf.length > 1)
      throw new Error(`it has several GGUF files. Name one: ${gguf.map(({ files }) => files[0]).join(', ')}.`);
    const files: ManifestFile[] = [];
    for (const path of wholeGguf(gguf[0])) files.push(await manifestFile(root, path));
    return files;
  }
  const names = [...all.filter(isModelFile), ...(await poolingFiles(root, all))].sort();
  if (!names.includes('config.json'))
    throw new Error('it has no config.json. Give --model a folder in Hugging Face layout.');
  if (!names.some((name) => name.endsWith('.safetensors')))
    throw new Error('it has no *.safetensors or *.gguf file with the weights.');
  if (names.length > MAX_MODEL_FILES)
    throw new Error(`it has ${names.length} files to serve; at most ${MAX_MODEL_FILES} work.`);
  const files: ManifestFile[] = [];
  for (const path of names) files.push(await manifestFile(root, path));
  return files;
}

async function poolingFiles(root: string, names: readonly string[]): Promise<string[]> {
  const folders = names.filter(isPoolingFolder);
  const found = await Promise.all(folders.map((name) => readdir(join(root, name)).catch((): string[] => [])));
  return folders.filter((_, i) => found[i]!.includes('config.json')).map((name) => `${name}/config.json`);
}

/** Names of its files, in the order of its parts. Throws `Error` that names the first that is missing. */
export function wholeGguf(model: GgufNames | undefined): readonly string[] {
  const [missing] = model?.missing ?? [];
  if (model && missing === undefined) return model.files;
  throw new Error(`it lacks ${missing ?? 'its file'}. A split model needs all of its parts beside each other.`);
}

/** A file of a folder, hashed. Throws `Error` where it is none, or leads out of the folder. */
export async function manifestFile(root: string, path: string): Promise<ManifestFile> {
  const location = await realpath(join(root, path));
  if (!location.startsWith(root + sep)) {
    throw new Error(`${path} is a link to a place outside the folder, and is not served. Put a copy in its place.`);
  }
  const found = await stat(location);
  const { size, mtimeMs } = found;
  if (!found.isFile()) throw new Error(`${path} is not a file.`);
  if (path.endsWith('.json') && size > MAX_WHOLE_BYTES)
    throw new Error(`${path} has ${size} bytes; at most ${MAX_WHOLE_BYTES} are read.`);
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(location)) hash.update(chunk as Buffer);
  return { path, size, sha256: hash.digest('hex'), location, modified: mtimeMs };
}

async function readText(files: readonly Placed[], path: string): Promise<string | null> {
  const file = files.find((each) => each.path === path);
  return file === undefined ? null : await readFile(file.location, 'utf8');
}

/** undefined where the folder has no such file. */
export async function readModelFile(files: readonly Placed[], path: string): Promise<unknown> {
  const text = await readText(files, path);
  if (text === null) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${path} is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}
