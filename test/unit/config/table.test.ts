import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { helpText, optionsMarkdown } from '../../../src/config/help.ts';
import type { Option } from '../../../src/config/option.ts';
import { OPTIONS } from '../../../src/config/table.ts';

/** Every flag that the design names, written down by hand. */
const FLAGS = `
  model served-model-name disaggregation-mode kv-transfer-config kv-events-config enable-prompt-embeds block-size
  num-gpu-blocks-override gpu-memory-utilization max-model-len max-num-seqs max-num-batched-tokens kv-cache-dtype dtype
  quantization enable-prefix-caching prefix-caching-hash-algo enforce-eager data-parallel-size data-parallel-rank
  enable-expert-parallel tensor-parallel-size pipeline-parallel-size metrics-endpoint-port router-mode
  router-kv-overlap-score-credit router-prefill-load-scale router-temperature migration-limit batch-invariant
  endpoint-types namespace discovery-backend request-plane event-plane dynamo dynamo-allow headless generation-config tool-call-parser
  reasoning-parser chat-template http-host http-port nodes api-key join-token allowed-origins allowed-hosts tls-cert-path
  tls-key-path tls skip-tokenizer-init yes
`;

/** Every variable that the design names. */
const VARIABLES = `
  DYN_NAMESPACE DYN_DISCOVERY_BACKEND DYN_REQUEST_PLANE DYN_EVENT_PLANE DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS
  DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS DYN_HEALTH_CHECK_PAYLOAD DYN_HEALTH_CHECK_ENABLED DYN_CANARY_WAIT_TIME
  DYN_HEALTH_CHECK_REQUEST_TIMEOUT DYN_MIGRATION_LIMIT DYN_SYSTEM_PORT DYN_FILE_KV ETCD_ENDPOINTS DYN_TCP_RPC_HOST DYN_TCP_RPC_PORT QUIRE_CHROMIUM HF_ENDPOINT HF_TOKEN
`;

const words = (text: string): string[] => text.trim().split(/\s+/);
const rows = Object.entries(OPTIONS) as unknown as [string, Option<unknown>][];

test('every flag of the design has a row', () => {
  expect(words(FLAGS).filter((flag) => !Object.hasOwn(OPTIONS, flag))).toEqual([]);
  expect(OPTIONS['prefix-caching-hash-algo'].alias).toBe('prefix-caching-algo');
});

test('every variable of the design has a row, and no two rows share one', () => {
  const variables = rows.flatMap(([, row]) => row.env ?? []);
  expect(words(VARIABLES).filter((name) => !variables.includes(name))).toEqual([]);
  expect(new Set(variables).size).toBe(variables.length);
});

test('variables begin as their group says', () => {
  for (const [name, { group, env }] of rows) {
    if (group === 'Runtime' && env) expect(env, name).toMatch(/^DYN_|^ETCD_ENDPOINTS$/);
    if (group === 'Quire' && env) expect(env, name).toMatch(/^QUIRE_/);
  }
});

test.each(rows)('--%s explains itself and its default is a value of its own kind', (name, row) => {
  expect(row.help).toMatch(/^\S.*[.]$/);
  expect(helpText()).toContain(name);
  if (row.default === null) return;
  // The value of --nodes is a role for each, and its text a number.
  const texts = name === 'nodes' ? [String(row.defaultText)] : [row.default].flat().map(String);
  if (texts.length > 0) expect(row.kind.read(texts)).toEqual(row.default);
});

test('--help has three groups and fits 100 columns', () => {
  const lines = helpText().split('\n');
  expect(lines.filter((line) => / options \(/.test(line)).map((line) => line.split(' ')[0])).toEqual([
    'Runtime',
    'Quire',
    'Engine',
  ]);
  expect(lines.filter((line) => line.length > 100)).toEqual([]);
});

test('docs/options.md is what the table says (npx tsx scripts/write-options.ts writes it)', () => {
  const written = readFileSync(new URL('../../../docs/options.md', import.meta.url), 'utf8');
  expect(written).toBe(optionsMarkdown());
});
