import { statSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError, badRequest, unavailable } from '../../frontend/errors.ts';
import type { Clock } from '../../protocol/clock.ts';
import { LoraName } from '../../protocol/generate.ts';
import type { LoraId, ModelOffer } from '../../protocol/messages.ts';
import type { ManifestFile, ModelFolder } from '../model-folder.ts';
import { offeredFiles, secretBase } from '../model-routes.ts';
import type { NodeSocket } from '../node-socket.ts';
import { HubStartError } from '../start-error.ts';
import { type LoraFolder, readLoraFolder } from './lora-folder.ts';

/** Which LoRA adapters a hub has, and which more it may load. */
export interface LoraConfig {
  /** Those that it begins with. */
  readonly modules: readonly { readonly name: string; readonly folder: string }[];
  /** Folder whose subfolders an admin may load by their names; null = those of `modules` alone. */
  readonly dir: string | null;
  /** Adapters at once. */
  readonly most: number;
  readonly maxRank: number;
}

export interface LoraDeskOptions {
  readonly config: LoraConfig;
  readonly models: readonly ModelFolder[];
  readonly joinToken: string | null;
  readonly clock: Pick<Clock, 'after'>;
}

/** The nodes as an adapter needs them. */
export interface LoraNodes {
  /** Those that compute answers with a model (served name). */
  ready(model: string): readonly NodeSocket[];
  /** All are told which adapters they shall have now. */
  lorasChanged(): void;
  /** Calls `listener` after each change of a node. Returns how to stop it. */
  onChange(listener: () => void): () => void;
}

/** How long a call waits for a first node to have the adapter. */
const LOAD_MS = 120_000;

/** A LoRA adapter that requests may name now. */
export interface ServedLora extends LoraId {
  /** Served name of its model. */
  readonly base: string;
}

/** The LoRA adapters of the hub: read and checked once, offered to nodes, loaded and unloaded by admins. */
export class LoraDesk {
  /** Grows with every change: tells apart what nodes were told. */
  revision = 0;
  readonly #options: LoraDeskOptions;
  readonly #adapters = new Map<string, LoraFolder>();
  /** Names whose folders are being read. */
  readonly #reading = new Set<string>();
  #nodes: LoraNodes | null = null;

  private constructor(options: LoraDeskOptions) {
    this.#options = options;
  }

  /** Reads the adapters that the hub begins with. Throws `HubStartError` with one line. */
  static async open(options: LoraDeskOptions): Promise<LoraDesk> {
    const desk = new LoraDesk(options);
    for (const { name, folder } of options.config.modules) {
      if (options.models.some((model) => model.name === name) || desk.#adapters.has(name))
        throw new HubStartError(`Two models are served as ${name}. Give the LoRA adapter another name.`);
      await desk.#read(name, folder).catch((error: unknown) => {
        throw new HubStartError(messageOf(error), { cause: error });
      });
    }
    return desk;
  }

  /** From now on nodes are told, and calls wait for them. */
  use(nodes: LoraNodes): void {
    this.#nodes = nodes;
  }

  /** Whether there may ever be any. */
  get possible(): boolean {
    return this.#options.config.most > 0;
  }

  /** In the order in which they came. */
  served(): readonly ServedLora[] {
    return [...this.#adapters.values()];
  }

  /** What nodes of a model shall have. */
  offers(model: string): ModelOffer[] {
    return [...this.#adapters.values()].filter(({ base }) => base === model).map((adapter) => this.#offer(adapter));
  }

  /** The file at a path of the hub; undefined where there is none. */
  file(pathname: string): ManifestFile | undefined {
    for (const adapter of this.#adapters.values()) {
      const found = offeredFiles(this.#offer(adapter).base, adapter.files).get(pathname);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /**
   * Loads an adapter by its name; resolves once a node has it, or at once while no node is ready: those that come load it then.
   * Throws `ApiError`: 400 for a name that is taken, a folder that does not fit, or one too many; 404 for an unknown name; 503 where no node
   * could load it in time.
   */
  async load(name: string): Promise<void> {
    const { config, models } = this.#options;
    if (models.some((model) => model.name === name))
      throw badRequest(`'${name}' is the name of a model of this hub.`, 'lora_name');
    if (this.#adapters.has(name) || this.#reading.has(name))
      throw badRequest(`The LoRA adapter '${name}' is loaded already. Unload it first to load it anew.`, 'lora_name');
    const folder = this.#folderOf(name);
    if (folder === null) throw this.#unknown(name);
    if (this.#adapters.size + this.#reading.size >= config.most)
      throw badRequest(
        `This hub may have ${config.most} LoRA adapters at once. Unload one, or start it with a higher --max-loras.`,
        'lora_name',
      );
    this.#reading.add(name);
    try {
      await this.#read(name, folder);
    } catch (error) {
      throw badRequest(messageOf(error), 'lora_name');
    } finally {
      this.#reading.delete(name);
    }
    this.#changed();
    await this.#onSomeNode(this.#adapters.get(name)!);
  }

  /** No request gets it from now on; those that run go on. Throws `ApiError` 404. */
  unload(name: string): void {
    if (!this.#adapters.delete(name)) {
      const message = `The LoRA adapter '${name.slice(0, 128)}' is not loaded.`;
      throw new ApiError(404, 'not_found_error', message, { code: 'lora_not_found', param: 'lora_name' });
    }
    this.#changed();
  }

  async #read(name: string, folder: string): Promise<void> {
    const { models, config } = this.#options;
    this.#adapters.set(name, await readLoraFolder(name, folder, models, config.maxRank));
  }

  /** Of `--lora-modules`, or a subfolder of `--lora-dir`; null where neither has the name. */
  #folderOf(name: string): string | null {
    const { dir, modules } = this.#options.config;
    const module = modules.find((each) => each.name === name);
    if (module !== undefined) return module.folder;
    if (dir === null || !LoraName.safeParse(name).success) return null;
    const folder = join(dir, name);
    return statSync(folder, { throwIfNoEntry: false })?.isDirectory() ? folder : null;
  }

  #unknown(name: string): ApiError {
    const { dir, modules } = this.#options.config;
    const known = modules.map((module) => `'${module.name}'`).join(', ') || 'none';
    const rest = dir === null ? ' Start the hub with --lora-dir to load others by name.' : '';
    const message = `There is no LoRA adapter '${name.slice(0, 128)}' to load: a name is that of a subfolder of --lora-dir, or one of --lora-modules (${known}).${rest}`;
    return new ApiError(404, 'not_found_error', message, { code: 'lora_not_found', param: 'lora_name' });
  }

  #changed(): void {
    this.revision += 1;
    this.#nodes?.lorasChanged();
  }

  /** Resolves once a ready node has it, or none is there. Where all of them failed, or nothing came of it in time, it is taken back. */
  async #onSomeNode(adapter: LoraFolder): Promise<void> {
    const nodes = this.#nodes;
    if (nodes === null) return;
    const { name, base } = adapter;
    const outcome = await new Promise<string | null>((resolve) => {
      const look = () => {
        const ready = nodes.ready(base);
        const failures = ready.flatMap((socket) => socket.loras.failure(adapter) ?? []);
        if (ready.some((socket) => socket.loras.has(adapter)) || ready.length === 0) done(null);
        else if (this.#adapters.get(name) !== adapter) done('it was unloaded meanwhile');
        else if (failures.length === ready.length) done(failures[0]!);
      };
      const done = (failure: string | null) => {
        stopTimer();
        stopListening();
        resolve(failure);
      };
      const stopTimer = this.#options.clock.after(LOAD_MS, () =>
        done(`no node had it after ${LOAD_MS / 1000} seconds`),
      );
      const stopListening = nodes.onChange(look);
      look();
    });
    if (outcome === null) return;
    if (this.#adapters.get(name) === adapter) this.unload(name);
    throw unavailable(`The LoRA adapter '${name}' is not loaded: ${outcome}`, 'lora_not_loaded');
  }

  #offer({ name, fingerprint, files }: LoraFolder): ModelOffer {
    return {
      name,
      fingerprint,
      base: `${secretBase(this.#options.joinToken)}lora/${name}/${fingerprint.slice(0, 16)}/`,
      files: files.map(({ path, size, sha256 }) => ({ path, size, sha256 })),
    };
  }
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replaceAll(/\s*\n\s*/g, ' ');
}
