import type { ModelOffer } from '../../protocol/messages.ts';
import { EngineError } from '../api.ts';
import { modelError } from '../model-error.ts';
import type { OfferFile } from './file-check.ts';
import { type Notice, type OfferedFiles, offeredFile } from './source.ts';
import { chunksOf, dropFirst, toStream } from './stream.ts';

/** Retries in a row that gain less than `PROGRESS_BYTES` each. */
const MAX_RETRIES = 5;
const FIRST_DELAY_MS = 500;
const PROGRESS_BYTES = 1024 * 1024;
/** A connection that gives nothing for so long counts as broken. */
const STALL_MS = 30_000;

export interface FetchOptions {
  /** Called for each retry. */
  readonly onNotice?: Notice;
  readonly fetch?: typeof globalThis.fetch;
  readonly sleep?: (ms: number) => Promise<void>;
  readonly stallMs?: number;
}

/**
 * Model files over HTTP; the offer's `base` is resolved against `baseUrl` (of the hub, or of the page in solo mode).
 * A broken or stalled transfer goes on where it broke (Range), at most `MAX_RETRIES` times without progress, with
 * back-off; a server that knows no ranges is read from the start again. Statuses that waiting does not mend are final.
 * Throws `EngineError` code `model` for an offer whose paths could leave its base.
 */
export function fetchFiles(offer: ModelOffer, baseUrl: string | URL, options: FetchOptions = {}): OfferedFiles {
  const base = new URL(offer.base.endsWith('/') ? offer.base : `${offer.base}/`, baseUrl);
  if (base.protocol !== 'http:' && base.protocol !== 'https:') {
    throw modelError(offer.name, `its files are offered at ${base}; only http and https are fetched.`);
  }
  const urls = new Map(offer.files.map(({ path }) => [path, fileUrl(path, base, offer)]));
  const download = new Download({
    fetch: options.fetch ?? globalThis.fetch.bind(globalThis),
    sleep: options.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms))),
    onNotice: options.onNotice ?? (() => {}),
    stallMs: options.stallMs ?? STALL_MS,
  });
  return {
    offer,
    open: async (path, from) => toStream(download.bytes(urls.get(path)!, offeredFile(offer, path), from)),
  };
}

function fileUrl(path: string, base: URL, offer: ModelOffer): URL {
  const parts = path.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..' || /[\\\0]/.test(part))) {
    throw modelError(offer.name, `"${path}" is no plain relative path of a file.`);
  }
  return new URL(parts.map(encodeURIComponent).join('/'), base);
}

class Download {
  constructor(private readonly io: Required<FetchOptions>) {}

  /** Bytes of the file from `from` on, over as many requests as it takes. */
  async *bytes(url: URL, file: OfferFile, from: number): AsyncGenerator<Uint8Array, void, undefined> {
    let at = from;
    let failures = 0;
    let gained = 0;
    while (at < file.size) {
      let reason = `the answer ended early`;
      try {
        for await (const chunk of this.request(url, file, at)) {
          at += chunk.byteLength;
          gained += chunk.byteLength;
          yield chunk;
        }
      } catch (error) {
        if (error instanceof EngineError) throw error;
        reason = error instanceof Error ? error.message : String(error);
      }
      if (at === file.size) return;
      failures = gained >= PROGRESS_BYTES ? 1 : failures + 1;
      gained = 0;
      const where = `at byte ${at} of ${file.size}: ${reason}`;
      if (failures > MAX_RETRIES) {
        throw modelError(
          file.path,
          `download from ${url} failed ${failures} times, last ${where}. Check the connection, then load again.`,
        );
      }
      const delay = FIRST_DELAY_MS * 2 ** (failures - 1) * (0.5 + Math.random() / 2);
      this.io.onNotice(
        `${file.path}: download broke ${where}; retry ${failures} of ${MAX_RETRIES} in ${Math.round(delay)} ms`,
      );
      await this.io.sleep(delay);
    }
  }

  /** One request's bytes from `at` on. Throws `EngineError` for what a retry does not mend, other errors for what it may. */
  private async *request(url: URL, file: OfferFile, at: number): AsyncGenerator<Uint8Array, void, undefined> {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stalling = async <T>(promise: Promise<T>): Promise<T> => {
      timer = setTimeout(() => abort.abort(new Error(`nothing came for ${this.io.stallMs} ms`)), this.io.stallMs);
      return promise.finally(() => clearTimeout(timer));
    };
    try {
      const response = await stalling(
        // The store keeps the bytes; the HTTP cache would keep them twice.
        this.io.fetch(url, {
          signal: abort.signal,
          cache: 'no-store',
          headers: at > 0 ? { Range: `bytes=${at}-` } : {},
        }),
      );
      const body = this.body(response, url, file, at);
      let left = file.size - at;
      for (;;) {
        const { done, value } = await stalling(body.next());
        if (done) return;
        left -= value.byteLength;
        if (left < 0) throw modelError(file.path, `${url} sent more than the ${file.size} bytes that were offered.`);
        yield value;
      }
    } finally {
      abort.abort();
    }
  }

  private body(response: Response, url: URL, file: OfferFile, at: number): AsyncGenerator<Uint8Array, void, undefined> {
    const { status, statusText, body } = response;
    if (status === 408 || status === 425 || status === 429 || status >= 500)
      throw new Error(`status ${status} ${statusText}`);
    if (!response.ok || !body) throw modelError(file.path, `${url} answered ${status} ${statusText}.`);
    if (status !== 206) return dropFirst(chunksOf(body), at);
    const range = response.headers.get('Content-Range') ?? '';
    if (!range.startsWith(`bytes ${at}-`)) {
      throw modelError(file.path, `${url} answered with the range "${range}" where byte ${at} on was asked for.`);
    }
    return chunksOf(body);
  }
}
