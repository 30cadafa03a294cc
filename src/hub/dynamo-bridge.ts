import { readFile } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { Registry as MetricsRegistry } from 'prom-client';
import { type Bridge, type BridgeConfig, startBridge } from '../dynamo/bridge.ts';
import type { BridgeFile, BridgeHub, BridgeModel, BridgeNode } from '../dynamo/ports.ts';
import { BridgeStartError } from '../dynamo/start-error.ts';
import type { ServedModel } from '../frontend/backend.ts';
import type { Clock } from '../protocol/clock.ts';
import { sequenceLength } from './candidates.ts';
import type { HubConfig } from './config.ts';
import { hasRank } from './has-rank.ts';
import type { ModelFolder } from './model-folder.ts';
import type { Registry } from './registry.ts';
import type { KvIndex } from './router/kv-index.ts';
import { HubStartError } from './start-error.ts';

export type { Bridge, BridgeConfig };

/** What a bridge gets of the hub that starts it. */
export interface HubForBridge {
  readonly config: Pick<HubConfig, 'chatTemplate' | 'blockSize' | 'priorities'>;
  readonly folders: readonly ModelFolder[];
  /** Of the folders, as the API serves them. */
  readonly models: readonly ServedModel[];
  readonly registry: Registry;
  readonly index: KvIndex;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: MetricsRegistry;
}

/** The files of a model that a frontend needs; its weights stay here. */
const FILES = ['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json'];
const TEMPLATE = 'chat_template.jinja';

/** Starts the bridge to Dynamo (`--dynamo`), before any node is there. Throws `HubStartError`, one line that says what to do. */
export async function startHubBridge(config: BridgeConfig, hub: HubForBridge): Promise<Bridge> {
  const { clock, log, metrics } = hub;
  try {
    const bridge = await startBridge(config, await bridgeHub(hub), { clock, log, metrics, now: Date.now });
    const { namespace, discovery } = config;
    log.info({ address: bridge.address, namespace, discovery }, 'nodes become workers of a Dynamo deployment');
    return bridge;
  } catch (error) {
    if (error instanceof BridgeStartError) throw new HubStartError(error.message, { cause: error });
    throw error;
  }
}

async function bridgeHub({ config, folders, models, registry, index }: HubForBridge): Promise<BridgeHub> {
  const bridged: BridgeModel[] = [];
  for (const [i, folder] of folders.entries()) {
    const served = models[i]!;
    const files = await filesOf(folder, config.chatTemplate);
    bridged.push({ served, maxModelLen: folder.maxModelLen, blockSize: config.blockSize, files });
  }
  return {
    models: bridged,
    priorities: config.priorities,
    nodes: () =>
      models.flatMap(({ name }) =>
        [...registry.ready(name), ...registry.prefillers(name)].flatMap(({ id, card }): BridgeNode[] =>
          card === null ? [] : [{ id, model: name, card }],
        ),
      ),
    onNodeChange: (listener) => registry.onChange(listener),
    onLoad: (listener) => registry.onLoad(listener),
    followKv: (follower) => index.follow(follower),
    generate(model, request, { node, rank, prefill }, signal) {
      const { backend } = models.find(({ name }) => name === model)!;
      const able = registry.ready(model).find(({ id }) => id === node)?.card;
      // A node that left, or that is too small, is better replaced than missed: nobody would ask anew.
      const there = able != null && able.maxModelLen >= sequenceLength(request);
      const own = there && rank !== null && hasRank(able, rank);
      return backend.generate(request, signal, {
        node: there ? node : null,
        rank: own ? rank : null,
        prefill,
        knobs: {},
        routed() {},
        transferred() {},
        migrated() {},
      });
    },
  };
}

/** template: takes the place of the model's own; null = none does. */
async function filesOf({ files }: ModelFolder, template: string | null): Promise<BridgeFile[]> {
  const found: BridgeFile[] = [];
  for (const { path, location } of files) {
    if (FILES.includes(path) || (path === TEMPLATE && template === null))
      found.push({ name: path, bytes: await readFile(location) });
  }
  if (template !== null) found.push({ name: TEMPLATE, bytes: Buffer.from(template) });
  const hasTokenizer = found.some(({ name }) => name === 'tokenizer.json');
  // Tokenizers need no configuration of their own; a card does.
  if (hasTokenizer && !found.some(({ name }) => name === 'tokenizer_config.json'))
    found.push({ name: 'tokenizer_config.json', bytes: Buffer.from('{}') });
  return found;
}
