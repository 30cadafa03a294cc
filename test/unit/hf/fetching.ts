import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import { type FetchPlace, fetchModel } from '../../../src/hub/hf/fetch-model.ts';
import { Hosts } from '../../../src/hub/hf/hosts.ts';
import { COMMIT, ModelSource } from '../../support/model-source.ts';
import { PICO } from '../../support/test-hub.ts';

export const NEEDS = {
  maxModelLen: null,
  skipTokenizerInit: false,
  chatTemplate: null,
  generationConfig: 'auto',
  pooler: { runner: 'auto', config: null },
} as const;

const pico = async (name: string) => readFile(path.join(PICO, name));
export const weights = await pico('model.safetensors');
export const small = {
  'config.json': await pico('config.json'),
  'generation_config.json': await pico('generation_config.json'),
  'tokenizer.json': await pico('tokenizer.json'),
  'tokenizer_config.json': await pico('tokenizer_config.json'),
  'README.md': Buffer.from('not for nodes'),
};
/** Of the weights: what is read before they come. */
export const headerBytes = 8 + Number(weights.readBigUInt64LE(0));

export let downloadDir: string;
/** Has `org/tiny`, which is quire-pico, anew for each test. */
export let source: ModelSource;
/** What was said, and the pauses that were made, milliseconds. */
export let lines: string[];
export let pauses: number[];
beforeEach(async () => {
  downloadDir = await mkdtemp(path.join(tmpdir(), 'quire-fetch-'));
  source = await ModelSource.start({ ...small, 'model.safetensors': weights });
  lines = [];
  pauses = [];
});
afterEach(async () => {
  source.close();
  await rm(downloadDir, { recursive: true });
});

interface Choices extends Partial<FetchPlace> {
  readonly revision?: string;
  readonly gguf?: string;
  readonly allowed?: readonly string[];
  readonly needs?: Parameters<typeof fetchModel>[2];
}

export function fetchTiny({
  revision = 'main',
  gguf,
  allowed = [source.cdnHost],
  needs = NEEDS,
  ...place
}: Choices = {}) {
  return fetchModel(
    { id: 'org/tiny', revision, gguf: gguf ?? null },
    {
      hosts: new Hosts(source.endpoint, allowed),
      token: null,
      downloadDir,
      say: (line) => lines.push(line),
      sleep: async (ms) => void pauses.push(ms),
      ...place,
    },
    needs,
  );
}

/** The one line with which a fetch ends. */
export async function refusal(choices?: Choices): Promise<string> {
  const error = await fetchTiny(choices).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ name: 'HubStartError' });
  const { message } = error as Error;
  expect(message).not.toContain('\n');
  return message;
}

/** Bytes of weights that were given, headers included. */
export const weightBytes = (): number => source.asks('safetensors').reduce((sum, { bytes }) => sum + bytes, 0);

export const folderOf = (): string =>
  path.join(downloadDir, source.endpoint.slice(7).replace(':', '_'), 'org/tiny', COMMIT);
