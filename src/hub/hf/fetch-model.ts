import { mkdir, statfs } from 'node:fs/promises';
import path from 'node:path';
import { MODULES, pooledModules } from '../../engine/model/pooler.ts';
import { checkCheckpoint, checkpointFiles, INDEX } from '../../engine/weights/checkpoint.ts';
import { isModelFile, MAX_WHOLE_BYTES } from '../../protocol/model-files.ts';
import { bytes } from '../../protocol/quantities.ts';
import { ggufFacts, modelFacts, readModelFile } from '../model-folder.ts';
import { HubStartError } from '../start-error.ts';
import { chosenGguf } from './choose-gguf.ts';
import { HfClient } from './client.ts';
import { bytesHere, downloadFile } from './download.ts';
import type { Hosts } from './hosts.ts';
import { type Kept, keptModel, recordModel, withLock } from './kept-model.ts';
import { commitOf, filesOf, fileUrl, type SourceFile } from './listing.ts';
import { isCommit, type ModelRef } from './model-ref.ts';
import { DownloadProgress } from './progress.ts';

/** Of a GGUF header that is read before its file comes: most have some megabytes of vocabulary. */
const FIRST_RANGE_BYTES = 256 * 1024;
const MOST_RANGE_BYTES = 4 * 1024 * 1024;

/** Where models come from, and where they go. */
export interface FetchPlace {
  readonly hosts: Hosts;
  readonly token: string | null;
  /** Folder under which each commit of each model has its own. */
  readonly downloadDir: string;
  readonly say: (line: string) => void;
  readonly sleep?: (ms: number) => Promise<void>;
  readonly now?: () => number;
  readonly freeBytes?: (folder: string) => Promise<number>;
  readonly stallMs?: number;
}

/** A model that lies in a folder of this machine, with the SHA-256 of each of its files as they were when they came. */
export interface FetchedModel {
  readonly folder: string;
  readonly hashes: ReadonlyMap<string, string>;
}

/** What of the hub's configuration decides whether a model can be served. */
export type ServingNeeds = Parameters<typeof modelFacts>[1];

/**
 * Fetches a model by name, unless it is there. Config, tokenizer and the headers of the weights come first: what this
 * engine cannot run is refused by name before a byte of weights is asked for. Throws `HubStartError`.
 */
export async function fetchModel(ref: ModelRef, place: FetchPlace, needs: ServingNeeds): Promise<FetchedModel> {
  const { downloadDir, hosts, token, say, stallMs } = place;
  const source = `${hosts.endpoint.host}${hosts.endpoint.pathname}`.replace(/[^\w.-]+/g, '_').replace(/_$/, '');
  // Each GGUF of a commit is a model of its own, and so a folder of its own.
  const suffix = ref.gguf === null ? '' : `.${ref.gguf}`;
  const folderOf = (commit: string) => path.join(downloadDir, source, ref.id, commit + suffix);
  if (isCommit(ref.revision)) {
    const hashes = await keptModel(folderOf(ref.revision));
    if (hashes !== null) return { folder: folderOf(ref.revision), hashes };
  }
  const io = { say, sleep: place.sleep ?? ((ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))) };
  const client = new HfClient({ hosts, token, ...io, ...(stallMs === undefined ? {} : { stallMs }) });
  try {
    say(`${ref.id}: there is no such folder, so ${hosts.endpoint.host} is asked`);
    const commit = await commitOf(client, ref);
    if (isCommit(ref.revision) && commit !== ref.revision)
      throw new HubStartError(`commit ${ref.revision} was asked for, and ${commit} came. Is HF_ENDPOINT right?`);
    const folder = folderOf(commit);
    const kept = await keptModel(folder);
    if (kept !== null) {
      say(`${ref.id}: commit ${commit} is here already, in ${folder}`);
      return { folder, hashes: kept };
    }
    await mkdir(folder, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
      throw new HubStartError(`${folder} cannot be made (${error.code}). Name another folder with --download-dir.`);
    });
    const fetching = new Fetching(ref, commit, folder, client, io, place);
    return { folder, hashes: await withLock(folder, () => fetching.run(needs)) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HubStartError(`Cannot serve ${ref.id}: ${why.replaceAll(/\s*\n\s*/g, ' ')}`, { cause: error });
  } finally {
    client.close();
  }
}

/** One model on its way. */
class Fetching {
  private readonly kept: Kept['files'] = [];

  constructor(
    private readonly ref: ModelRef,
    private readonly commit: string,
    private readonly folder: string,
    private readonly client: HfClient,
    private readonly io: { readonly say: (line: string) => void; readonly sleep: (ms: number) => Promise<void> },
    private readonly place: FetchPlace,
  ) {}

  /** Returns the SHA-256 of each file. */
  async run(needs: ServingNeeds): Promise<ReadonlyMap<string, string>> {
    const { commit, folder } = this;
    const { id } = this.ref;
    const listed = await filesOf(this.client, id, commit);
    const gguf = chosenGguf(
      listed.map((file) => file.path),
      this.ref.gguf,
    );
    const weights = gguf ? await this.checkedGguf(listed, gguf, needs) : await this.checkedWeights(listed, needs);
    const total = weights.reduce((sum, { size }) => sum + size, 0);
    const here = (await Promise.all(weights.map((file) => bytesHere(folder, file)))).reduce((sum, n) => sum + n, 0);
    await this.checkDisk(total - here);
    const resumed = here > 0 ? `, ${bytes(here)} of it here already` : '';
    this.io.say(`${id}: ${bytes(total)} of weights${resumed}, commit ${commit}, into ${folder}`);
    const now = this.place.now ?? (() => performance.now());
    const startedAt = now();
    const progress = new DownloadProgress(id, here, total, this.io.say, now);
    for (const file of weights) await this.bring(file, (count) => progress.add(count));
    await recordModel(folder, { id, commit, files: this.kept });
    this.io.say(`${id}: all ${bytes(total)} are here and checked, after ${((now() - startedAt) / 1000).toFixed(1)} s`);
    return new Map(this.kept.map(({ path, sha256 }) => [path, sha256]));
  }

  /** The GGUF files to fetch, in the order of their parts, once their headers speak for the model. */
  private async checkedGguf(
    listed: readonly SourceFile[],
    gguf: readonly string[],
    needs: ServingNeeds,
  ): Promise<SourceFile[]> {
    const files = gguf.map((name) => listed.find(({ path }) => path === name)!);
    await ggufFacts(
      files.map(({ path: name, size }) => ({ path: name, size, bytes: () => this.start(name, size) })),
      needs,
    );
    return files;
  }

  /** A file from its beginning, in ranges that grow: how long a GGUF header is, it says itself. */
  private async *start(name: string, size: number): AsyncGenerator<Uint8Array, void, undefined> {
    const url = fileUrl(this.client, this.ref.id, this.commit, name);
    for (let at = 0, step = FIRST_RANGE_BYTES; at < size; at += step, step = Math.min(2 * step, MOST_RANGE_BYTES))
      yield await this.client.range(url, at, Math.min(at + step, size) - 1, name);
  }

  /** The safetensors files to fetch, once all that can be known without them speaks for the model. */
  private async checkedWeights(listed: readonly SourceFile[], needs: ServingNeeds): Promise<SourceFile[]> {
    const { client, folder, commit } = this;
    const { id } = this.ref;
    const small = listed.filter(({ path }) => isModelFile(path) && !path.endsWith('.safetensors'));
    if (!small.some(({ path }) => path === 'config.json'))
      throw new Error(
        'it has no config.json. Name a model in the layout of Hugging Face transformers, or one with GGUF files on its first level.',
      );
    for (const file of small) {
      if (file.size > MAX_WHOLE_BYTES)
        throw new Error(`${file.path} has ${file.size} bytes; at most ${MAX_WHOLE_BYTES} are read.`);
      await this.bring(file, () => {});
    }
    const here = this.kept.map(({ path: name }) => ({ path: name, location: path.join(folder, name) }));
    await this.bringPooling(here, needs);
    const { spec } = await modelFacts(here, needs);
    const paths = await checkpointFiles(
      id,
      listed.map((file) => file.path),
      () => readModelFile(here, INDEX),
    );
    const weights = listed.filter((file) => paths.includes(file.path));
    const readable = weights.map(({ path: name, size }) => ({
      path: name,
      size,
      read: (begin: number, end: number) => client.range(fileUrl(client, id, commit, name), begin, end - 1, name),
    }));
    await checkCheckpoint(spec, readable, id);
    return weights;
  }

  /** Of a sentence-transformers model: what its pooling module is like, also where nobody asks now, since the folder is kept. It is added to `here`. */
  private async bringPooling(here: { path: string; location: string }[], { pooler }: ServingNeeds): Promise<void> {
    const modules = await readModelFile(here, MODULES);
    if (modules === undefined) return;
    const folder = pooler.runner === 'generate' ? folderOrNull(modules) : pooledModules(modules).folder;
    const files = folder === null ? [] : await filesOf(this.client, this.ref.id, this.commit, folder);
    for (const file of files) {
      if (!isModelFile(file.path)) continue;
      await this.bring(file, () => {});
      here.push({ path: file.path, location: path.join(this.folder, file.path) });
    }
  }

  private async bring(file: SourceFile, onBytes: (bytes: number) => void): Promise<void> {
    const { client, folder, io, commit } = this;
    const url = fileUrl(client, this.ref.id, commit, file.path);
    const sha256 = await downloadFile({ client, url, file, folder, io, onBytes });
    this.kept.push({ path: file.path, size: file.size, sha256 });
  }

  private async checkDisk(needed: number): Promise<void> {
    const free = await (this.place.freeBytes ?? freeBytes)(this.folder);
    if (free >= needed) return;
    throw new Error(
      `${bytes(needed)} of weights are still to come into ${this.folder}, and its disk has ${bytes(free)} free. Free some, or name another folder with --download-dir.`,
    );
  }
}

/** null where they are none that is computed here. */
function folderOrNull(modules: unknown): string | null {
  try {
    return pooledModules(modules).folder;
  } catch {
    return null;
  }
}

async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}
