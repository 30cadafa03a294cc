import { existsSync } from 'node:fs';
import path from 'node:path';
import { OptionError } from '../../config/option.ts';
import type { Options } from '../../config/table.ts';
import type { ModelConfig } from '../config.ts';
import { fetchModel, type ServingNeeds } from '../hf/fetch-model.ts';
import { Hosts } from '../hf/hosts.ts';
import { type ModelRef, modelRef } from '../hf/model-ref.ts';

/** Where `--model` finds its models. */
export interface ModelPlaces {
  /** Folder of the project: models that come with it are there. */
  readonly root: string;
  /** Where models that are fetched are kept, unless an option says otherwise. */
  readonly modelCache: string;
  readonly say: (line: string) => void;
}

/** A model of `--model`: what lies on this machine, or what is to be fetched. */
type Found = { readonly folder: string } | { readonly ref: ModelRef };

/**
 * The models of `--model`, in their order. A path that is there wins over a name of the same spelling, as in vLLM.
 * Throws `OptionError` for what is neither, before anything is fetched, and `HubStartError` for what cannot be fetched.
 */
export async function modelsOf(options: Options, here: ModelPlaces, needs: ServingNeeds): Promise<ModelConfig[]> {
  const found = options.model.map((model) => find(model, here.root));
  const place = {
    hosts: new Hosts(options['hf-endpoint'], options['hf-allowed-hosts']),
    token: options['hf-token'],
    downloadDir: path.resolve(options['download-dir'] ?? here.modelCache),
    say: here.say,
  };
  const models: ModelConfig[] = [];
  for (const [at, model] of found.entries()) {
    const servedName = options['served-model-name'][at] ?? null;
    if ('folder' in model) models.push({ folder: model.folder, servedName });
    else models.push({ ...(await fetchModel(model.ref, place, needs)), servedName: servedName ?? model.ref.id });
  }
  return models;
}

function find(model: string, root: string): Found {
  if (existsSync(model)) return { folder: path.resolve(model) };
  const own = path.join(root, 'models', model);
  if (!model.includes('..') && existsSync(own)) return { folder: own };
  const ref = modelRef(model);
  if (ref !== null) return { ref };
  throw new OptionError(
    `--model ${model}: there is no such folder. Name a folder in the Hugging Face layout, a GGUF file, org/name or org/name:Q8_0 to fetch a model, or quire-pico.`,
  );
}

/** Where models that are fetched are kept by default. env: of the process; home: the user's folder. */
export function defaultModelCache(env: Readonly<Record<string, string | undefined>>, home: string): string {
  return path.join(env.XDG_CACHE_HOME || path.join(home, '.cache'), 'quire', 'models');
}
