import { createHash } from 'node:crypto';
import { createReadStream, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { OfferedFiles } from '../../src/engine/files/source.ts';
import { offeredFile } from '../../src/engine/files/source.ts';

/** The files of a folder of this machine (not of its subfolders) as a model, hashed when the offer is made. */
export function folderFiles(folder: string): OfferedFiles {
  const paths = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)
    .sort();
  const files = paths.map((path) => {
    const bytes = readFileSync(join(folder, path));
    return { path, size: bytes.byteLength, sha256: createHash('sha256').update(bytes).digest('hex') };
  });
  const offer = { name: folder, fingerprint: '', base: '/', files };
  return {
    offer,
    open: async (path, from) => {
      offeredFile(offer, path);
      return Readable.toWeb(createReadStream(join(folder, path), { start: from })) as ReadableStream<Uint8Array>;
    },
  };
}

/** Files held in memory as a model; `chunkSizes` says how their streams are cut (repeated; default: one chunk). */
export function memoryFiles(
  contents: Readonly<Record<string, Uint8Array>>,
  chunkSizes?: readonly number[],
): OfferedFiles {
  const files = Object.entries(contents).map(([path, bytes]) => {
    return { path, size: bytes.byteLength, sha256: createHash('sha256').update(bytes).digest('hex') };
  });
  return {
    offer: { name: 'memory', fingerprint: '', base: '/', files },
    open: async (path, from) => streamOf(contents[path]!.subarray(from), chunkSizes),
  };
}

/** Bytes as a stream, cut into chunks of the given sizes in turn. */
export function streamOf(
  bytes: Uint8Array,
  chunkSizes: readonly number[] = [bytes.byteLength],
): ReadableStream<Uint8Array> {
  let at = 0;
  let turn = 0;
  return new ReadableStream<Uint8Array>(
    {
      pull: (controller) => {
        if (at >= bytes.byteLength) return controller.close();
        const size = chunkSizes[turn++ % chunkSizes.length]!;
        controller.enqueue(bytes.slice(at, at + size));
        at += size;
      },
    },
    { highWaterMark: 0 },
  );
}
