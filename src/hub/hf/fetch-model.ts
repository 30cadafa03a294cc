import { mkdir, statfs } from 'node:fs/promises';
import path from 'node:path';
import { checkCheckpoint, checkpointFiles, INDEX } from '../../engine/weights/checkpoint.ts';
import { isModelFile } from '../../protocol/model-files.ts';
import { bytes } from '../../protocol/quantities.ts';
import { MAX_JSON_BYTES, modelFacts, readModelFile } from '../model-folder.ts';
import { HubStartError } from '../start-error.ts';
import { HfClient } from './client.ts';
import { bytesHere, downloadFile } from './download.ts';
import type { Hosts } from './hosts.ts';
import { type Kept, keptModel, recordModel, withLock } from './kept-model.ts';
import { commitOf, filesOf, fileUrl, type SourceFile } from './listing.ts';
import { isCommit, type ModelRef } from './model-ref.ts';
import { DownloadProgress } from './progress.ts';

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
  const folderOf = (commit: string) => path.join(downloadDir, source, ref.id, commit);
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
    const fetching = new Fetching(ref.id, commit, folder, client, io, place);
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
    private readonly id: string,
    private readonly commit: string,
    private readonly folder: string,
    private readonly client: HfClient,
    private readonly io: { readonly say: (line: string) => void; readonly sleep: (ms: number) => Promise<void> },
    private readonly place: FetchPlace,
  ) {}

  /** Returns the SHA-256 of each file. */
  async run(needs: ServingNeeds): Promise<ReadonlyMap<string, string>> {
    const { id, commit, folder } = this;
    const listed = await filesOf(this.client, id, commit);
    const small = listed.filter(({ path }) => isModelFile(path) && !path.endsWith('.safetensors'));
    if (!small.some(({ path }) => path === 'config.json'))
      throw new Error('it has no config.json. Name a model in the layout of Hugging Face transformers.');
    for (const file of small) {
      if (file.size > MAX_JSON_BYTES)
        throw new Error(`${file.path} has ${file.size} bytes; at most ${MAX_JSON_BYTES} are read.`);
      await this.bring(file, () => {});
    }
    const weights = await this.checkedWeights(listed, needs);
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

  /** The weight files to fetch, once all that can be known without them speaks for the model. */
  private async checkedWeights(listed: readonly SourceFile[], needs: ServingNeeds): Promise<SourceFile[]> {
    const { client, folder, id, commit } = this;
    const here = this.kept.map(({ path: name }) => ({ path: name, location: path.join(folder, name) }));
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

  private async bring(file: SourceFile, onBytes: (bytes: number) => void): Promise<void> {
    const { client, folder, io, id, commit } = this;
    const url = fileUrl(client, id, commit, file.path);
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

async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}
