import * as z from 'zod';
import type { PoolerWish } from '../../config/pooler-config.ts';
import type { Pooler, PoolingType } from '../../protocol/pooling.ts';
import { ggufFiles } from '../files/gguf-file.ts';
import { type ModelFiles, readModelJson } from '../files/source.ts';
import { readGgufContent } from '../gguf/read-header.ts';
import type { GgufMetadata } from '../gguf/types.ts';
import { checked, modelError } from '../model-error.ts';

export const MODULES = 'modules.json';

/** sentence-transformers' list of what a text goes through. */
const Modules = z.array(z.looseObject({ type: z.string().max(256), path: z.string().max(256).default('') })).max(32);

/** Of a pooling module: what it pools by is the field that is true (sentence-transformers' `Pooling.py`). */
const PoolingJson = z.looseObject({ include_prompt: z.boolean().optional() });
const MODES: Readonly<Record<string, PoolingType>> = {
  pooling_mode_lasttoken: 'LAST',
  pooling_mode_mean_tokens: 'MEAN',
};

/** What a model's files say of pooling: nothing; that it is made for embeddings; and how, unless that is nothing that is computed here. */
type Own = (Omit<Pooler, 'type'> & { readonly type: PoolingType | { readonly unknown: string } }) | null;

/**
 * How a model pools; null where it generates. Options win over what its files say, as in vLLM, and where neither says anything LAST and
 * normalized are the defaults. Throws `EngineError` code `model` for pooling that is not computed here, by name.
 */
function chosen({ runner, config }: PoolerWish, own: Own): Pooler | null {
  if (runner === 'generate' || (runner === 'auto' && own === null)) return null;
  const type = config?.pooling_type ?? own?.type ?? 'LAST';
  if (typeof type !== 'string')
    throw modelError(
      type.unknown,
      'is pooling that is not computed here: last token and mean are. Choose another model, or, if you know better, --pooler-config \'{"pooling_type":"LAST"}\'.',
    );
  return { type, normalize: config?.use_activation ?? own?.normalize ?? true };
}

/** The same where its files are not asked: `own` is what somebody said of it who read them. */
export function offeredPooler(wish: PoolerWish, own: Pooler | undefined): Pooler | null {
  return chosen(wish, own ?? null);
}

/** The same of a folder; `read` gives a JSON file of it, undefined where it has none of that name. */
export async function folderPooler(wish: PoolerWish, read: (path: string) => Promise<unknown>): Promise<Pooler | null> {
  if (wish.runner === 'generate') return null;
  const modules = await read(MODULES);
  if (modules === undefined) return chosen(wish, null);
  const { folder, normalize } = pooledModules(modules);
  const path = `${folder}/config.json`;
  const config = await read(path);
  if (config === undefined) throw modelError(path, `is named by ${MODULES}, and is not there. Is the model complete?`);
  return chosen(wish, { type: typeOf(config, path), normalize });
}

/** The same of a GGUF model: llama.cpp's `pooling_type` (`llama_pooling_type` in llama.h). Its tools normalize embeddings, unless told otherwise. */
export function ggufPooler(wish: PoolerWish, metadata: GgufMetadata): Pooler | null {
  const architecture = String(metadata.get('general.architecture'));
  const key = `${architecture}.pooling_type`;
  const value = metadata.get(key);
  if (value === undefined || value === 0) return chosen(wish, null);
  const types: Readonly<Record<string, PoolingType>> = { 1: 'MEAN', 3: 'LAST' };
  const type = types[String(value)] ?? { unknown: `${key} = ${String(value)}` };
  return chosen(wish, { type, normalize: true });
}

/** The same of files, wherever they are. */
export async function filesPooler(wish: PoolerWish, files: ModelFiles): Promise<Pooler | null> {
  const gguf = ggufFiles(files);
  if (gguf) return ggufPooler(wish, (await readGgufContent(files, gguf)).metadata);
  const has = (path: string) => files.offer.files.some((file) => file.path === path);
  return folderPooler(wish, async (path) => (has(path) ? await readModelJson(files, path) : undefined));
}

/** Of `modules.json`: folder of the pooling module, and whether a normalizing one follows. Throws `EngineError` code `model` for modules that are not computed here. */
export function pooledModules(json: unknown): { folder: string; normalize: boolean } {
  const modules = checked(Modules, json, MODULES).map(({ type, path }) => ({
    kind: type.split('.').at(-1),
    type,
    path,
  }));
  const strange = modules.find(({ kind }) => !['Transformer', 'Pooling', 'Normalize'].includes(kind ?? ''));
  if (strange)
    throw modelError(
      MODULES,
      `module ${strange.type} is not computed here. Choose a model of a transformer, pooling and normalizing alone, or, where it is for text too, --runner generate.`,
    );
  const kinds = modules.map(({ kind }) => kind).join(', ');
  if (!/^Transformer, Pooling(, Normalize)?$/.test(kinds))
    throw modelError(
      MODULES,
      `its modules are ${kinds || 'none'}; they must be Transformer, Pooling and, where there is one, Normalize.`,
    );
  const folder = modules[1]!.path;
  if (!/^\d+_Pooling$/.test(folder))
    throw modelError(MODULES, `its pooling module is in "${folder}"; it must be in a folder such as 1_Pooling.`);
  return { folder, normalize: modules.length === 3 };
}

function typeOf(json: unknown, path: string): PoolingType | { readonly unknown: string } {
  const config = checked(PoolingJson, json, path);
  const modes = Object.keys(config).filter((key) => key.startsWith('pooling_mode') && config[key] !== false);
  const [mode = 'no pooling_mode', ...more] = modes;
  const type = more.length === 0 && config[mode] === true ? MODES[mode] : undefined;
  if (type === undefined) return { unknown: `${path}: ${modes.join(', ') || mode}` };
  // Who asks sends the whole text: which of it is a prompt nobody here knows.
  if (type === 'MEAN' && config.include_prompt === false) return { unknown: `${path}: include_prompt = false` };
  return type;
}

/** Numbers of values to which the embeddings of a model may be cut: any, these alone, or null: none. vLLM's keys of `config.json`. */
export type Matryoshka = 'any' | readonly number[] | null;

const MatryoshkaJson = z.looseObject({
  is_matryoshka: z.boolean().nullish(),
  matryoshka_dimensions: z.array(z.number().int().min(1)).max(256).nullish(),
});

/** Throws `EngineError` code `model`. */
export function matryoshkaOf(config: unknown): Matryoshka {
  const { is_matryoshka: any, matryoshka_dimensions: some } = checked(MatryoshkaJson, config, 'config.json');
  if (some && some.length > 0) return some;
  return any === true ? 'any' : null;
}
