import { createHmac } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { Hono } from 'hono';
import type { ModelOffer } from '../protocol/messages.ts';
import { parseRange } from './byte-range.ts';
import type { ManifestFile, ModelFolder } from './model-folder.ts';

/**
 * Where files for nodes lie on the hub. With a join token the path holds a secret made from it, so that only nodes that were let in (their
 * `welcome` names the path) can read the weights.
 */
export function secretBase(joinToken: string | null): string {
  if (joinToken === null) return '/models/';
  return `/models/${createHmac('sha256', joinToken).update('models').digest('hex').slice(0, 32)}/`;
}

function modelBase(name: string, joinToken: string | null): string {
  return `${secretBase(joinToken)}${name.split('/').map(encodeURIComponent).join('/')}/`;
}

/** Files by the paths at which the hub serves them. */
export function offeredFiles(base: string, files: readonly ManifestFile[]): Map<string, ManifestFile> {
  return new Map(files.map((file) => [base + encodeURIComponent(file.path), file]));
}

export function modelOffer(model: ModelFolder, joinToken: string | null): ModelOffer {
  return {
    name: model.name,
    fingerprint: model.fingerprint,
    base: modelBase(model.name, joinToken),
    files: model.files.map(({ path, size, sha256 }) => ({ path, size, sha256 })),
    ...(model.pooler && { pooler: { type: model.pooler.type, normalize: model.pooler.normalize } }),
  };
}

/**
 * `GET` and `HEAD` of the files in the manifests, and of nothing else: no path of a request ever reaches the file system.
 * loras: those that come and go.
 */
export function modelRoutes(
  models: readonly ModelFolder[],
  joinToken: string | null,
  loras: { file(pathname: string): ManifestFile | undefined },
): Hono {
  const files = new Map(models.flatMap((model) => [...offeredFiles(modelBase(model.name, joinToken), model.files)]));
  const routes = new Hono();
  routes.on(['GET', 'HEAD'], '/models/*', async (c) => {
    const { pathname } = new URL(c.req.url);
    const file = files.get(pathname) ?? loras.file(pathname);
    if (file === undefined) return c.text('The hub serves no such model file.', 404);
    return await serve(file, c.req.raw);
  });
  return routes;
}

async function serve(file: ManifestFile, request: Request): Promise<Response> {
  const etag = `"${file.sha256}"`;
  const headers = new Headers({
    etag,
    'accept-ranges': 'bytes',
    'cache-control': 'no-cache',
    'content-type': file.path.endsWith('.json') ? 'application/json' : 'application/octet-stream',
  });
  if (request.headers.get('if-none-match') === etag) return new Response(null, { status: 304, headers });
  const ifRange = request.headers.get('if-range');
  const wanted = ifRange === null || ifRange === etag ? (request.headers.get('range') ?? undefined) : undefined;
  const range = parseRange(wanted, file.size);
  if (range === 'unsatisfiable') {
    headers.set('content-range', `bytes */${file.size}`);
    return new Response(null, { status: 416, headers });
  }
  const { first, last } = range ?? { first: 0, last: file.size - 1 };
  headers.set('content-length', String(last - first + 1));
  if (range !== null) headers.set('content-range', `bytes ${first}-${last}/${file.size}`);
  const status = range === null ? 200 : 206;
  if (request.method === 'HEAD' || file.size === 0) return new Response(null, { status, headers });
  const stream = await openUnchanged(file, first, last);
  if (stream === null)
    return new Response('This file changed since the hub started; restart the hub.', { status: 410 });
  return new Response(stream, { status, headers });
}

/** null where the file is no longer the one that was hashed. */
async function openUnchanged(
  file: ManifestFile,
  start: number,
  end: number,
): Promise<ReadableStream<Uint8Array> | null> {
  const handle = await open(file.location, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => null);
  if (handle === null) return null;
  const { size, mtimeMs } = await handle.stat();
  if (size !== file.size || mtimeMs !== file.modified) {
    await handle.close();
    return null;
  }
  // Destroying the stream (a client that left) closes the handle too.
  return Readable.toWeb(handle.createReadStream({ start, end })) as ReadableStream<Uint8Array>;
}
