import { describe, expect, it } from 'vitest';
import type { PoolerWish } from '../../../src/config/pooler-config.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';
import {
  filesPooler,
  folderPooler,
  ggufPooler,
  matryoshkaOf,
  offeredPooler,
} from '../../../src/engine/model/pooler.ts';
import { WeightPlan } from '../../../src/engine/weights/weight-plan.ts';
import { memoryFiles } from '../../support/folder-files.ts';
import { splitGguf } from '../../support/gguf-file.ts';
import { picoParts } from '../../support/pico-gguf.ts';
import { tensorsFor } from '../../support/safetensors-file.ts';
import { llama } from './configs.ts';

const AUTO: PoolerWish = { runner: 'auto', config: null };
const wish = (change: Partial<PoolerWish> = {}): PoolerWish => ({ ...AUTO, ...change });

type Module = readonly [type: string, path: string];
const MODULES: readonly Module[] = [
  ['sentence_transformers.models.Transformer', ''],
  ['sentence_transformers.models.Pooling', '1_Pooling'],
  ['sentence_transformers.models.Normalize', '2_Normalize'],
];
/** As Qwen3-Embedding's. */
const LAST = {
  word_embedding_dimension: 1024,
  pooling_mode_cls_token: false,
  pooling_mode_mean_tokens: false,
  pooling_mode_max_tokens: false,
  pooling_mode_mean_sqrt_len_tokens: false,
  pooling_mode_weightedmean_tokens: false,
  pooling_mode_lasttoken: true,
  include_prompt: true,
};
const MEAN = { ...LAST, pooling_mode_lasttoken: false, pooling_mode_mean_tokens: true };

const folder = (pooling: object | undefined, modules: readonly Module[] = MODULES) => {
  const files = new Map<string, unknown>([
    ['modules.json', modules.map(([type, path], idx) => ({ idx, name: String(idx), path, type }))],
    ['1_Pooling/config.json', pooling],
  ]);
  return async (path: string) => files.get(path);
};
const refusal = (made: Promise<unknown>) =>
  made.then(
    () => 'taken',
    (error: Error) => error.message,
  );

describe('a folder of sentence-transformers', () => {
  it('says how it pools', async () => {
    expect(await folderPooler(AUTO, folder(LAST))).toEqual({ type: 'LAST', normalize: true });
    expect(await folderPooler(AUTO, folder(MEAN, MODULES.slice(0, 2)))).toEqual({ type: 'MEAN', normalize: false });
  });

  it('is overruled by the options', async () => {
    expect(await folderPooler(wish({ runner: 'generate' }), folder(LAST))).toBeNull();
    const config = { pooling_type: 'MEAN', use_activation: false } as const;
    expect(await folderPooler(wish({ config }), folder(LAST))).toEqual({ type: 'MEAN', normalize: false });
    const cls = { ...LAST, pooling_mode_lasttoken: false, pooling_mode_cls_token: true };
    expect(await folderPooler(wish({ config: { pooling_type: 'LAST' } }), folder(cls))).toEqual({
      type: 'LAST',
      normalize: true,
    });
  });

  it.each([
    ['pooling_mode_cls_token', { ...LAST, pooling_mode_lasttoken: false, pooling_mode_cls_token: true }],
    ['pooling_mode_max_tokens', { ...LAST, pooling_mode_lasttoken: false, pooling_mode_max_tokens: true }],
    [
      'pooling_mode_lasttoken, pooling_mode_mean_tokens',
      { pooling_mode_lasttoken: true, pooling_mode_mean_tokens: true },
    ],
    ['no pooling_mode', {}],
    ['pooling_mode: is', { pooling_mode: 'weightedmean' }],
    ['include_prompt = false', { ...MEAN, include_prompt: false }],
  ])('is refused by name: %s', async (name, pooling) => {
    const message = await refusal(folderPooler(AUTO, folder(pooling)));
    expect(message).toContain('1_Pooling/config.json');
    expect(message).toContain(name);
    expect(message).toContain('--pooler-config');
  });

  it.each<[string, readonly Module[]]>([
    [
      'module sentence_transformers.models.Dense is not computed',
      [...MODULES, ['sentence_transformers.models.Dense', '3_Dense']],
    ],
    ['its modules are Transformer', MODULES.slice(0, 1)],
    ['its modules are Transformer, Normalize, Pooling', [MODULES[0]!, MODULES[2]!, MODULES[1]!]],
    ['must be in a folder such as 1_Pooling', [MODULES[0]!, ['x.Pooling', '../secrets']]],
    ['its modules are none', []],
  ])('is refused for its modules: %s', async (words, modules) => {
    expect(await refusal(folderPooler(AUTO, folder(LAST, modules)))).toContain(words);
    // Options change how is pooled, not what else a text goes through.
    const config = { pooling_type: 'LAST' } as const;
    expect(await refusal(folderPooler(wish({ runner: 'pooling', config }), folder(LAST, modules)))).toContain(words);
  });

  it('without its pooling module is incomplete', async () => {
    expect(await refusal(folderPooler(AUTO, folder(undefined)))).toContain(
      'is named by modules.json, and is not there',
    );
  });
});

describe('a folder of another kind', () => {
  const plain = async () => undefined;
  it('generates, unless it shall pool: by the last token then, normalized', async () => {
    expect(await folderPooler(AUTO, plain)).toBeNull();
    expect(await folderPooler(wish({ runner: 'pooling' }), plain)).toEqual({ type: 'LAST', normalize: true });
    const config = { pooling_type: 'MEAN', use_activation: false } as const;
    expect(await folderPooler(wish({ runner: 'pooling', config }), plain)).toEqual({ type: 'MEAN', normalize: false });
    expect(await folderPooler(wish({ config }), plain)).toBeNull();
  });

  it('whose files nobody reads here is as its offer says', () => {
    expect(offeredPooler(AUTO, undefined)).toBeNull();
    expect(offeredPooler(AUTO, { type: 'MEAN', normalize: false })).toEqual({ type: 'MEAN', normalize: false });
    expect(offeredPooler(wish({ runner: 'pooling' }), undefined)).toEqual({ type: 'LAST', normalize: true });
  });
});

describe('a GGUF model', () => {
  const metadata = (type?: number) =>
    new Map<string, string | number>([
      ['general.architecture', 'qwen3'],
      ...(type === undefined ? [] : [['qwen3.pooling_type', type] as const]),
    ]);
  it('pools as its metadata say', () => {
    expect(ggufPooler(AUTO, metadata())).toBeNull();
    expect(ggufPooler(AUTO, metadata(0))).toBeNull();
    expect(ggufPooler(AUTO, metadata(1))).toEqual({ type: 'MEAN', normalize: true });
    expect(ggufPooler(AUTO, metadata(3))).toEqual({ type: 'LAST', normalize: true });
    expect(ggufPooler(wish({ runner: 'generate' }), metadata(3))).toBeNull();
    expect(() => ggufPooler(AUTO, metadata(2))).toThrow('qwen3.pooling_type = 2: is pooling that is not computed here');
  });

  it.each([[[]], [[30]]])('says so in its files, also in parts: %j', async (counts) => {
    const { metadata, tensors } = picoParts('Q8_0');
    const files = (more: object) =>
      memoryFiles(splitGguf('pico', { metadata: { ...metadata, ...more }, tensors }, ...counts), [1 << 20]);
    expect(await filesPooler(AUTO, files({}))).toBeNull();
    const mean = { 'qwen3.pooling_type': 1 };
    expect(await filesPooler(AUTO, files(mean))).toEqual({ type: 'MEAN', normalize: true });
  });
});

it.each([
  [{}, null],
  [{ is_matryoshka: false }, null],
  [{ is_matryoshka: true }, 'any'],
  [{ matryoshka_dimensions: [64, 128] }, [64, 128]],
])('embeddings may be cut where the config says so: %j', (config, wanted) => {
  expect(matryoshkaOf(config)).toEqual(wanted);
});

describe('a model that pools', () => {
  const spec = modelSpec(llama(), undefined, true);
  it('has no head among its weights, and leaves one in the file aside', () => {
    expect(spec.pools).toBe(true);
    expect(spec.weights.some(({ role }) => role === 'lmHead')).toBe(false);
    const plan = new WeightPlan(spec);
    const tensors = Object.entries(tensorsFor(modelSpec(llama()), 'BF16'));
    const placed = plan.place(infos(tensors), 'file');
    expect(placed.flatMap((each, i) => (each === null ? tensors[i]![0] : []))).toEqual(['lm_head.weight']);
    plan.finish('file');
  });

  it('may have tensors and an architecture without a head, which one that generates may not', () => {
    const tensors = infos(Object.entries(tensorsFor(spec, 'BF16'))).map((tensor) => ({
      ...tensor,
      name: tensor.name.replace('model.', ''),
    }));
    const plan = new WeightPlan(spec);
    expect(plan.place(tensors, 'file').every((placed) => placed !== null)).toBe(true);
    plan.finish('file');
    expect(() => new WeightPlan(modelSpec(llama())).place(tensors, 'file')).toThrow('is not part of');
    const headless = llama({ architectures: ['LlamaModel'] });
    expect(modelSpec(headless, undefined, true).pools).toBe(true);
    expect(() => modelSpec(headless)).toThrow('Start with --runner pooling');
    expect(() => modelSpec(llama({ architectures: ['LlamaBiModel'] }), undefined, true)).toThrow('not supported');
  });
});

function infos(tensors: readonly (readonly [string, { shape: readonly number[] }])[]) {
  return tensors.map(([name, { shape }]) => ({ name, dtype: 'BF16' as const, shape: [...shape], begin: 0, end: 0 }));
}
