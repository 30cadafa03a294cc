import * as z from 'zod';
import { HubStartError } from '../start-error.ts';
import type { HfClient } from './client.ts';
import type { ModelRef } from './model-ref.ts';

const MAX_ANSWER_BYTES = 16 << 20;
/** Of a thousand entries each at huggingface.co. */
const MAX_PAGES = 16;

const Hex40 = z.string().regex(/^[\da-f]{40}$/);
const size = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const Revision = z.object({ sha: Hex40 });
const Entry = z.object({
  type: z.string().max(32),
  path: z.string().max(1024),
  size: size.optional(),
  /** Of the git blob; of a large file that is the pointer to it. */
  oid: z.string().max(128).optional(),
  lfs: z.object({ oid: z.string().regex(/^[\da-f]{64}$/), size }).nullish(),
});
const Page = z.array(Entry).max(10_000);

/** What a source says that a file's bytes have. */
export type SourceHash =
  /** Of the bytes. */
  | { readonly algorithm: 'sha256'; readonly hex: string }
  /** Of the bytes as a git blob: SHA-1 over `blob <size>\0` and the bytes. */
  | { readonly algorithm: 'git'; readonly hex: string };

/** A file of a commit. */
export interface SourceFile {
  readonly path: string;
  readonly size: number;
  /** null where the source gives none. */
  readonly hash: SourceHash | null;
}

/** The commit that a revision is now. Throws `HubStartError`. */
export async function commitOf(client: HfClient, { id, revision }: ModelRef): Promise<string> {
  const url = client.url(`api/models/${id}/revision/${encodeURIComponent(revision)}`);
  const { value } = await client.json(url, MAX_ANSWER_BYTES);
  return parsed(Revision, value, url).sha;
}

/** The files of one folder of a commit, `''` = its first level, by their paths; those of folders in it are left aside. Throws `HubStartError`. */
export async function filesOf(client: HfClient, id: string, commit: string, folder = ''): Promise<SourceFile[]> {
  const files: SourceFile[] = [];
  const prefix = folder === '' ? '' : `${folder}/`;
  let url: URL | null = client.url(`api/models/${id}/tree/${commit}${folder === '' ? '' : `/${folder}`}`);
  for (let page = 0; url !== null; page++) {
    if (page === MAX_PAGES) throw new HubStartError(`${id} has more files than the ${MAX_PAGES} lists that are read.`);
    const { value, next } = await client.json(url, MAX_ANSWER_BYTES);
    for (const entry of parsed(Page, value, url)) {
      if (entry.type !== 'file' || !entry.path.startsWith(prefix) || entry.path.slice(prefix.length).includes('/'))
        continue;
      const bytes = entry.lfs?.size ?? entry.size;
      if (bytes === undefined)
        throw new HubStartError(`${url.origin} gives no size of ${entry.path}. Is HF_ENDPOINT right?`);
      files.push({ path: entry.path, size: bytes, hash: hashOf(entry) });
    }
    url = next;
  }
  return files;
}

/** Where the bytes of a file are asked for. */
export function fileUrl(client: HfClient, id: string, commit: string, path: string): URL {
  return client.url(`${id}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`);
}

function hashOf({ lfs, oid }: z.infer<typeof Entry>): SourceHash | null {
  if (lfs) return { algorithm: 'sha256', hex: lfs.oid };
  return oid !== undefined && Hex40.safeParse(oid).success ? { algorithm: 'git', hex: oid } : null;
}

function parsed<T extends z.ZodType>(schema: T, value: unknown, url: URL): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new HubStartError(
    `${url.origin}${url.pathname} answered otherwise than huggingface.co does (${issue?.path.join('.')}: ${issue?.message}). Is HF_ENDPOINT right?`,
  );
}
