import type { PoolerWish } from '../config/pooler-config.ts';
import { EngineError } from '../engine/api.ts';
import { checkLocalFiles, localFiles } from '../engine/files/local-files.ts';
import type { ModelFiles, ModelListing, Notice } from '../engine/files/source.ts';
import { filesPooler, offeredPooler } from '../engine/model/pooler.ts';
import { ModelOffer } from '../protocol/messages.ts';
import type { Pooler } from '../protocol/pooling.ts';

/** Where a page without a hub has its model from; plain, since it comes from the page's other thread. */
export type SoloSource =
  /** Beside the page: `url` is the absolute address of its `manifest.json`. */
  | { readonly kind: 'manifest'; readonly url: string }
  /** Handed to the page by a person. */
  | { readonly kind: 'files'; readonly name: string; readonly files: readonly File[] };

/** A model that a page can run alone. */
export interface SoloModel {
  readonly listing: ModelListing;
  readonly fingerprint: string;
  /** How it makes embeddings; null = it generates. */
  readonly pooler: Pooler | null;
  open(onNotice: Notice): Promise<ModelFiles>;
}

/** Makes `ModelFiles` of an offer whose `base` is relative to `baseUrl`. */
export type OpenFiles = (
  offer: ModelOffer,
  baseUrl: string,
  signal: AbortSignal,
  onNotice: Notice,
) => Promise<ModelFiles>;

/** Finds the model, and refuses one of a person's files that cannot run. Rejects with `EngineError` code `model`. */
export async function findModel(
  source: SoloSource,
  wish: PoolerWish,
  openFiles: OpenFiles,
  signal: AbortSignal,
): Promise<SoloModel> {
  if (source.kind === 'files') {
    const files = localFiles(source.name, source.files, signal);
    const pooler = used(wish, await filesPooler(wish, files));
    await checkLocalFiles(files, pooler !== null);
    // Nobody compares it: a page alone has no other node to share anything with.
    return { listing: files.offer, fingerprint: 'local', pooler, open: async () => files };
  }
  const { url } = source;
  const offer = await readManifest(url, signal);
  return {
    listing: offer,
    fingerprint: offer.fingerprint,
    pooler: used(wish, offeredPooler(wish, offer.pooler)),
    open: (onNotice) => openFiles(offer, url, signal, onNotice),
  };
}

/** Throws `EngineError` code `model` where a wish comes to nothing. */
function used({ config }: PoolerWish, pooler: Pooler | null): Pooler | null {
  if (config === null || pooler !== null) return pooler;
  throw new EngineError(
    'model',
    '?pooler-config: the model is not for embeddings. Open the page with ?runner=pooling too, or leave it out.',
  );
}

/** Throws `EngineError` code `model`. */
async function readManifest(url: string, signal: AbortSignal): Promise<ModelOffer> {
  const wrong = (why: string, cause?: unknown) =>
    new EngineError('model', `${url}: ${why}. Was the whole folder of the solo build copied?`, { cause });
  const response = await fetch(url, { signal, cache: 'no-cache' }).catch((cause: unknown) => {
    throw wrong('the manifest of the model cannot be fetched', cause);
  });
  if (!response.ok) throw wrong(`the manifest of the model is not there (status ${response.status})`);
  const manifest = ModelOffer.safeParse(await response.json().catch(() => null));
  if (!manifest.success) throw wrong('the manifest of the model cannot be read');
  return manifest.data;
}
