import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { modelSpec } from '../../src/engine/model/config.ts';
import type { HubConfig } from '../../src/hub/config.ts';
import { GREEDY } from '../../src/protocol/sampling.ts';
import { reference } from '../unit/engine/simulated-gpu.ts';
import { GpulessCluster } from './gpuless-cluster.ts';
import type { GpulessNode, GpulessNodeOptions } from './gpuless-node.ts';
import { adapterContents, randomAdapter } from './lora-adapter.ts';
import { RawRequest } from './raw-request.ts';
import { SCRIPTED_INFO } from './scripted-engine.ts';
import { PICO } from './test-hub.ts';
import { until } from './until.ts';

const spec = modelSpec(JSON.parse(readFileSync(path.join(PICO, 'config.json'), 'utf8')));

export const PROMPT = Array.from({ length: 41 }, (_, i) => (i * 7) % 11);

/** A folder of adapters: `one`, `two` and `three` are well, `large` has too high a rank, `alien` is for another model, `half` lacks its weights. */
export function loraFolder(): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'quire-loras-'));
  const alien = { ...spec, weights: spec.weights.map((w) => (w.role === 'oProj' ? { ...w, cols: w.cols * 2 } : w)) };
  const adapters = {
    one: randomAdapter(spec, { seed: 1, rank: 8 }),
    two: randomAdapter(spec, { seed: 2, targets: ['q_proj', 'v_proj'], dtype: 'BF16' }),
    three: randomAdapter(spec, { seed: 6, rank: 2, dtype: 'F16' }),
    large: randomAdapter(spec, { seed: 3, rank: 32, targets: ['q_proj'] }),
    alien: randomAdapter(alien, { seed: 4, targets: ['o_proj'] }),
    half: randomAdapter(spec, { seed: 5, targets: ['q_proj'] }),
  };
  for (const [name, adapter] of Object.entries(adapters)) {
    mkdirSync(path.join(dir, name));
    for (const [file, bytes] of Object.entries(adapterContents(adapter)))
      writeFileSync(path.join(dir, name, file), bytes);
  }
  rmSync(path.join(dir, 'half', 'adapter_model.safetensors'));
  return dir;
}

export interface LoraAnswer {
  readonly status: number;
  readonly node: string | null;
  readonly code: string | undefined;
  readonly message: string | undefined;
  readonly tokens: number[];
  readonly cached: number;
}

/** A hub with adapters of a folder, its nodes without a GPU, and those who ask it. */
export class LoraCluster {
  private constructor(
    readonly cluster: GpulessCluster,
    readonly dir: string,
  ) {}

  /** Begins with the adapters of these names; room for two. */
  static async start(dir: string, names: readonly string[], config: Partial<HubConfig> = {}): Promise<LoraCluster> {
    const modules = names.map((name) => ({ name, folder: path.join(dir, name) }));
    const loras = { modules, dir, most: 2, maxRank: 8 };
    return new LoraCluster(await GpulessCluster.start({ loras, ...config }), dir);
  }

  get url(): string {
    return this.cluster.url;
  }

  /** A node with room for two adapters; the hub knows that it has all of them when this resolves. */
  async join(options: Partial<GpulessNodeOptions> = {}): Promise<GpulessNode> {
    const node = await this.cluster.join({ maxLoras: 2, ...options });
    const adapters = (await this.models()).filter(({ parent }) => parent !== null).length;
    await until(() => options.maxLoras === 0 || this.lorasOf(node).length === adapters);
    return node;
  }

  /** As the hub has it. */
  lorasOf(node: { readonly id: string }): string[] {
    return this.cluster.hub.state().nodes.find(({ id }) => id === node.id)?.loras ?? [];
  }

  async models() {
    const { data } = (await (await fetch(`${this.url}/v1/models`)).json()) as {
      data: { id: string; parent: string | null; root: string }[];
    };
    return data;
  }

  async ask(model: string, more: { prompt?: number[]; maxTokens?: number; node?: string } = {}): Promise<LoraAnswer> {
    const { prompt = PROMPT, maxTokens = 6, node } = more;
    const fields = { model, prompt, max_tokens: maxTokens };
    const response = await fetch(`${this.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(node !== undefined && { 'x-quire-node': node }) },
      body: JSON.stringify({ ...fields, ignore_eos: true, return_token_ids: true, temperature: 0 }),
    });
    const body = (await response.json()) as {
      choices?: { token_ids: number[] }[];
      usage?: { prompt_tokens_details?: { cached_tokens: number } };
      error?: { code: string; message: string };
    };
    return {
      status: response.status,
      node: response.headers.get('x-quire-node'),
      code: body.error?.code,
      message: body.error?.message,
      tokens: body.choices?.[0]?.token_ids ?? [],
      cached: body.usage?.prompt_tokens_details?.cached_tokens ?? 0,
    };
  }

  async admin(call: 'load' | 'unload', body: object, headers: Record<string, string> = {}) {
    const { answer } = new RawRequest(`${this.url}/v1/${call}_lora_adapter`, 'POST', body, headers);
    const { status, body: said } = await answer;
    const error = said.startsWith('{')
      ? (JSON.parse(said) as { error: { message: string; code: string; param: string } }).error
      : null;
    return { status, said, code: error?.code, param: error?.param, message: error?.message };
  }

  close(): Promise<void> {
    return this.cluster.close();
  }
}

/** What the simulated GPU gives with an adapter, or without. */
export function expected(loraName?: string, maxTokens = 6, prompt = PROMPT): number[] {
  return reference(prompt, { ...GREEDY, maxTokens }, SCRIPTED_INFO.maxModelLen, loraName).tokens;
}

/** Buffers of adapters on a node's GPU. */
export function buffersOf(node: GpulessNode): number {
  return node.device.buffers.filter(({ destroyed }) => !destroyed).length;
}

/** Names of the adapters that its prefix cache has blocks of; undefined stands for none. */
export function cachedLoras(node: GpulessNode): Set<string | undefined> {
  return new Set(node.engine!.snapshot().blocks.map(({ loraName }) => loraName));
}
