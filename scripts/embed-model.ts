import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Plugin } from 'vite';
import { modelManifest } from '../src/hub/model-folder.ts';
import { fingerprint } from '../src/protocol/fingerprint.ts';
import { ModelOffer } from '../src/protocol/messages.ts';

/**
 * Puts a model's files beside the page, as `models/<name>/...`, with a `manifest.json` of the shape that a hub offers its nodes
 * (`ModelOffer`; its `base` is relative to the manifest), so that the page needs a static file server and nothing else.
 */
export function embedModel(folder: string): Plugin {
  const name = path.basename(folder);
  return {
    name: 'quire:embed-model',
    async generateBundle() {
      const files = await modelManifest(folder);
      for (const file of files) {
        this.emitFile({
          type: 'asset',
          fileName: `models/${name}/${file.path}`,
          source: await readFile(file.location),
        });
      }
      const offer = ModelOffer.parse({
        name,
        fingerprint: await fingerprint(files),
        base: './',
        files: files.map(({ path, size, sha256 }) => ({ path, size, sha256 })),
      });
      this.emitFile({
        type: 'asset',
        fileName: `models/${name}/manifest.json`,
        source: JSON.stringify(offer, null, 2),
      });
    },
  };
}
