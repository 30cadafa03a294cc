import { createHash } from 'node:crypto';
import { readFile, realpath } from 'node:fs/promises';
import { checkLora } from '../../engine/lora/check.ts';
import { LORA_CONFIG, LORA_WEIGHTS, MAX_LORA_CONFIG_BYTES } from '../../engine/lora/peft.ts';
import { type ManifestFile, type ModelFolder, manifestFile, readPart } from '../model-folder.ts';

/** A LoRA adapter of this machine, and the model that it belongs to. */
export interface LoraFolder {
  readonly name: string;
  /** Served name of the model. */
  readonly base: string;
  readonly fingerprint: string;
  readonly files: readonly ManifestFile[];
}

/**
 * Reads an adapter in PEFT's layout, hashes it and compares it with the models. It belongs to the one that it fits, of several to that
 * whose name its `base_model_name_or_path` is. Throws `Error` with one line.
 */
export async function readLoraFolder(
  name: string,
  folder: string,
  models: readonly ModelFolder[],
  maxRank: number,
): Promise<LoraFolder> {
  const root = await realpath(folder).catch(() => {
    throw new Error(`LoRA adapter ${name}: its folder is not there.`);
  });
  const files = [await file(name, root, LORA_CONFIG), await file(name, root, LORA_WEIGHTS)] as const;
  const [{ location, size }, weights] = files;
  if (size > MAX_LORA_CONFIG_BYTES)
    throw new Error(
      `LoRA adapter ${name}: ${LORA_CONFIG} has ${size} bytes; at most ${MAX_LORA_CONFIG_BYTES} are read.`,
    );
  const config = parsed(name, await readFile(location, 'utf8'));
  const read = (begin: number, end: number) => readPart(weights.location, begin, end);
  const misfits: unknown[] = [];
  const fitting: ModelFolder[] = [];
  for (const model of models) {
    await checkLora(name, config, { path: LORA_WEIGHTS, size: weights.size, read }, model.spec, maxRank).then(
      () => fitting.push(model),
      (error: unknown) => misfits.push(error),
    );
  }
  if (fitting.length === 0) throw misfits[0];
  const base = fitting.length === 1 ? fitting[0]! : namedBase(name, config, fitting);
  return { name, base: base.name, fingerprint: fingerprintOf(files), files };
}

function file(name: string, root: string, path: string): Promise<ManifestFile> {
  return manifestFile(root, path).catch((error: unknown) => {
    throw new Error(`LoRA adapter ${name}: ${whyUnread(path, error)}`);
  });
}

/** Without the paths that messages of the system have: admins of other machines read it too. */
function whyUnread(path: string, error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT') return `${path} is not there. Its folder holds ${LORA_CONFIG} and ${LORA_WEIGHTS}.`;
  if (code !== undefined) return `${path} cannot be read (${code}).`;
  return error instanceof Error ? error.message : String(error);
}

function parsed(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`LoRA adapter ${name}: ${LORA_CONFIG} is not JSON.`);
  }
}

/** SHA-256 over names and hashes of the files. */
function fingerprintOf(files: readonly ManifestFile[]): string {
  const hash = createHash('sha256');
  for (const { path, sha256 } of files) hash.update(`${path} ${sha256}\n`);
  return hash.digest('hex');
}

function namedBase(name: string, config: unknown, fitting: readonly ModelFolder[]): ModelFolder {
  const named = config instanceof Object && 'base_model_name_or_path' in config ? config.base_model_name_or_path : null;
  const last = typeof named === 'string' ? named.replace(/^.*\//, '') : null;
  const found = fitting.filter(
    (model) => model.name === named || (last !== null && model.name.replace(/^.*\//, '') === last),
  );
  if (found.length === 1) return found[0]!;
  throw new Error(
    `LoRA adapter ${name}: it fits ${fitting.map((model) => model.name).join(' and ')}. Let its base_model_name_or_path name one of them.`,
  );
}
