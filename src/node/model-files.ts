import { fetchFiles } from '../engine/files/http-files.ts';
import { openOpfs, type StorageNavigator } from '../engine/files/opfs.ts';
import type { ModelFiles, Notice, OfferedFiles } from '../engine/files/source.ts';
import { storedFiles } from '../engine/files/stored-files.ts';
import type { ModelOffer } from '../protocol/messages.ts';

/** Where the files of an offer come from. */
export interface FilesPlace {
  readonly offer: ModelOffer;
  /** The offer's `base` is relative to this address. */
  readonly baseUrl: string;
  readonly storage: StorageNavigator;
  /** Ends running downloads. */
  readonly signal: AbortSignal;
  readonly onNotice: Notice;
}

/** The model's files: from the page's store where they are kept, else over the network, keeping them. */
export async function openModelFiles({ offer, baseUrl, storage, signal, onNotice }: FilesPlace): Promise<ModelFiles> {
  const source = endingFiles(fetchFiles(offer, baseUrl, { onNotice }), signal);
  const opened = await openOpfs(storage);
  if (opened.store) return storedFiles(source, opened.store, onNotice);
  onNotice(`The model is not kept for the next visit: ${opened.reason}.`);
  return source;
}

/** The same files, whose reading ends with the signal. */
export function endingFiles(files: OfferedFiles, signal: AbortSignal): OfferedFiles {
  return {
    ...files,
    open: async (path, from) => {
      signal.throwIfAborted();
      return (await files.open(path, from)).pipeThrough(new TransformStream<Uint8Array, Uint8Array>(), { signal });
    },
  };
}
