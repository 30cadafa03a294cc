import { createBLAKE3 } from 'hash-wasm';
import type { ReasoningParser, ToolCallParser } from '../../config/parser-names.ts';
import type { ModelParsers } from '../../frontend/parsers/model-parsers.ts';
import type { Card, Role } from '../../protocol/messages.ts';
import type { BridgeFile, BridgeModel } from '../ports.ts';
import { BridgeStartError } from '../start-error.ts';
import { slugOf } from './names.ts';

/** A file as a card names it: whoever fetches `path` checks its bytes, and keeps them by their checksum. */
export interface CheckedFile {
  readonly path: string;
  readonly checksum: `blake3:${string}`;
  readonly size: number;
}

/** A model's files, hashed, by their names. */
export type CheckedFiles = ReadonlyMap<string, CheckedFile>;

const NEEDED = ['config.json', 'tokenizer.json', 'tokenizer_config.json'];

/** Dynamo's names for what reads answers here (`dynamo._core.get_tool_parser_names()`, `get_reasoning_parser_names()`). */
const TOOL_PARSERS: Readonly<Record<ToolCallParser, string>> = {
  hermes: 'hermes',
  qwen3_coder: 'qwen3_coder',
  llama3_json: 'llama3_json',
  mistral: 'mistral',
  pythonic: 'pythonic',
  phi4_mini_json: 'phi4',
  jamba: 'jamba',
};
const REASONING_PARSERS: Readonly<Record<ReasoningParser, string>> = {
  qwen3: 'qwen3',
  deepseek_r1: 'deepseek_r1',
  granite: 'granite',
  basic: 'basic',
};

/** Throws `BridgeStartError` where a model lacks a file that Dynamo's frontends need. */
export function requireFiles(model: string, files: readonly BridgeFile[]): void {
  const missing = NEEDED.find((needed) => !files.some(({ name }) => name === needed));
  if (missing === undefined) return;
  throw new BridgeStartError(
    `--dynamo: the model ${model} has no ${missing}, which Dynamo's frontends need. Serve it from a folder in Hugging Face layout.`,
  );
}

/** Hashes the files of a model. url: where the frontends get one of that checksum (64 hex digits). */
export async function checkFiles(
  files: readonly BridgeFile[],
  url: (file: BridgeFile, digest: string) => string,
): Promise<CheckedFiles> {
  const hasher = await createBLAKE3();
  return new Map(
    files.map((file) => {
      const digest = hasher.init().update(file.bytes).digest('hex');
      return [file.name, { path: url(file, digest), checksum: `blake3:${digest}` as const, size: file.bytes.length }];
    }),
  );
}

/**
 * Dynamo's model card (1.4.0) for a node. All but `runtime_config` is the same for all nodes of a model and role: Dynamo compares it, and
 * refuses a worker whose card differs. files: those of `requireFiles` at least.
 */
export function modelCard({ served, maxModelLen, blockSize }: BridgeModel, files: CheckedFiles, node: Card): object {
  const { name, parsers } = served;
  const generation = files.get('generation_config.json');
  const template = files.get('chat_template.jinja');
  return {
    display_name: name,
    slug: slugOf(name),
    model_info: { hf_config_json: files.get('config.json') },
    tokenizer: { hf_tokenizer_json: files.get('tokenizer.json') },
    prompt_formatter: { hf_tokenizer_config_json: files.get('tokenizer_config.json') },
    ...(template && { chat_template_file: { hf_chat_template: { is_custom: false, file: template } } }),
    ...(generation && { gen_config: { hf_generation_config_json: generation } }),
    context_length: maxModelLen,
    kv_cache_block_size: blockSize,
    migration_limit: 0,
    ...roleFields(node.role),
    model_input: 'Tokens',
    runtime_config: runtimeConfig(node, parsers),
  };
}

/** A decode node computes prompts itself where no prefill node does, so it needs none. */
function roleFields(role: Role) {
  const answers = 'Chat | Completions';
  switch (role) {
    case 'agg':
      return { model_type: answers, worker_type: 'aggregated', needs: [] };
    case 'decode':
      return { model_type: answers, worker_type: 'decode', needs: [] };
    case 'prefill':
      return { model_type: '', worker_type: 'prefill', needs: [['decode']] };
  }
}

function runtimeConfig(node: Card, { toolCalls, reasoning }: ModelParsers) {
  return {
    context_length: node.maxModelLen,
    total_kv_blocks: node.totalBlocks,
    max_num_seqs: node.maxNumSeqs,
    max_num_batched_tokens: node.maxNumBatchedTokens,
    data_parallel_start_rank: node.dpRank,
    data_parallel_size: node.dpSize,
    kv_event_publishing_enabled: true,
    enable_local_indexer: true,
    tool_call_parser: toolCalls === null || toolCalls === 'none' ? null : TOOL_PARSERS[toolCalls],
    reasoning_parser: reasoning === null ? null : REASONING_PARSERS[reasoning],
  };
}
