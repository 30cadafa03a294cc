import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { createSecureContext } from 'node:tls';
import { bridgeOptions } from '../../config/dynamo.ts';
import type { KvEventsConfig } from '../../config/kv-events-config.ts';
import { transportsOf } from '../../config/kv-transfer.ts';
import { OptionError } from '../../config/option.ts';
import { offeredOptions, type Parsed } from '../../config/options.ts';
import { SENDABLE_KEY } from '../../config/options-quire.ts';
import { ChatTemplate } from '../../frontend/chat-template.ts';
import { MAX_LORAS } from '../../protocol/messages.ts';
import { DEFAULT_LIMITS, type HubConfig } from '../config.ts';
import { readCanaryPayload } from '../health/payload.ts';
import type { ZmqConfig } from '../kv-publisher/zmq-publisher.ts';
import type { LoraConfig } from '../lora/lora-desk.ts';
import { newSecret } from '../ticket.ts';
import { modelsOf } from './models.ts';
import { isLoopback, isWildcard } from './network.ts';
import { selfSigned, type TlsFiles } from './tls.ts';

/** What the machine tells about itself; tests make it up. */
export interface Surroundings {
  /** Folder of the project: models that come with it and the built page are there. */
  readonly root: string;
  readonly hostname: string;
  /** Addresses under which other machines reach this one. */
  readonly lanAddresses: readonly string[];
  readonly now: () => Date;
  /** Where models that are fetched are kept, unless an option says otherwise. */
  readonly modelCache: string;
  /** Hears how a model that is fetched gets on. */
  readonly say: (line: string) => void;
}

/**
 * The hub's configuration from the options. A hub that other machines reach gets an API key and a join token, made here unless given.
 * Models by name are fetched, last of all. Throws `OptionError` when a file that an option names is not there, `HubStartError` when a model cannot be had.
 */
export async function hubConfig({ options, given }: Parsed, here: Surroundings): Promise<HubConfig> {
  const host = options['http-host'];
  const open = !isLoopback(host);
  const adminKey = options['admin-key'];
  const apiKeys = [...options['api-key'], ...keysOf(options['api-key-file'])];
  if (adminKey !== null && apiKeys.includes(adminKey))
    throw new OptionError(
      '--admin-key is one of the API keys: whoever may ask the model could put the hub to sleep. Give it a key of its own.',
    );
  const names = [here.hostname, ...here.lanAddresses];
  const loras = lorasOf({ options, given });
  const config = {
    host,
    port: options['http-port'],
    metricsPort: options['metrics-endpoint-port'],
    systemPort: options['system-port'],
    namespace: options.namespace,
    tls: await tlsFiles(
      options['tls-cert-path'],
      options['tls-key-path'],
      options.tls === 'self-signed',
      names,
      here.now(),
    ),
    apiKeys: open && apiKeys.length === 0 ? [newSecret()] : apiKeys,
    adminKey,
    joinToken: options['join-token'] ?? (open ? newSecret() : null),
    allowedOrigins: options['allowed-origins'],
    cors: {
      credentials: options['allow-credentials'],
      methods: options['allowed-methods'],
      headers: options['allowed-headers'],
    },
    allowedHosts: [...options['allowed-hosts'], ...(isWildcard(host) ? names : [])],
    blockSize: options['block-size'],
    hashAlgo: options['prefix-caching-hash-algo'],
    hashSeed: options['prefix-caching-hash-seed'],
    router: {
      mode: options['router-mode'],
      knobs: {
        overlapScoreCredit: options['router-kv-overlap-score-credit'],
        prefillLoadScale: options['router-prefill-load-scale'],
        temperature: options['router-temperature'],
      },
    },
    kvPublisher: zmqConfig(options['kv-events-config']),
    disaggregation: {
      transports: transportsOf(options['kv-transfer-config']),
      timeoutMs: options['kv-transfer-timeout'] * 1000,
      minTokens: options['remote-prefill-min-tokens'],
    },
    dynamo: bridgeOptions(options, given),
    nodeOptions: { ...offeredOptions(given), ...(loras.most > 0 && { 'max-loras': String(loras.most) }) },
    loras,
    maxModelLen: options['max-model-len'],
    promptEmbeds: options['enable-prompt-embeds'],
    priorities: options['scheduling-policy'] === 'priority',
    skipTokenizerInit: options['skip-tokenizer-init'],
    chatTemplate: options['chat-template'] === null ? null : readTemplate(options['chat-template']),
    parsers: { toolCalls: options['tool-call-parser'], reasoning: options['reasoning-parser'] },
    pooler: { runner: options.runner, config: options['pooler-config'] },
    generationConfig: options['generation-config'],
    endpointTypes: options['endpoint-types'],
    staticDir: path.join(here.root, 'dist/page'),
    healthCheck: options['health-check-enabled']
      ? {
          waitMs: options['canary-wait-time'] * 1000,
          timeoutMs: options['health-check-request-timeout'] * 1000,
          payload: readCanaryPayload(options['health-check-payload']),
        }
      : null,
    graceSeconds: options['graceful-shutdown-grace-period-secs'],
    drainSeconds: options['runtime-graceful-shutdown-timeout-secs'],
    keepAliveSeconds: options['sse-keep-alive'] === 0 ? null : options['sse-keep-alive'],
    requestTimeoutSeconds: options['request-timeout'],
    migrationLimit: options['migration-limit'],
    limits: DEFAULT_LIMITS,
  };
  return { ...config, models: await modelsOf(options, here, config) };
}

/** Adapters for which `--lora-dir` alone keeps room. */
const LORAS_OF_DIR = 4;

function lorasOf({ options, given }: Pick<Parsed, 'options' | 'given'>): LoraConfig {
  const modules = options['lora-modules'].map((text) => {
    const [name = '', ...folder] = text.split('=');
    return { name, folder: folder.join('=') };
  });
  const dir = options['lora-dir'];
  if (dir !== null && !statSync(dir, { throwIfNoEntry: false })?.isDirectory())
    throw new OptionError(`--lora-dir ${dir}: there is no such folder.`);
  const most = given.has('max-loras')
    ? options['max-loras']
    : Math.min(MAX_LORAS, modules.length + (dir === null ? 0 : LORAS_OF_DIR));
  if (modules.length > most)
    throw new OptionError(
      `--lora-modules names ${modules.length} adapters, and --max-loras is ${most}. Raise the one, or name fewer.`,
    );
  if (most > 0 && modules.length === 0 && dir === null)
    throw new OptionError(
      `--max-loras ${most}: there are none to load. Name adapters with --lora-modules, or their folder with --lora-dir.`,
    );
  return { modules, dir, most, maxRank: options['max-lora-rank'] };
}

/** vLLM's defaults for what is left out; null = no events beyond the hub. */
function zmqConfig(config: KvEventsConfig | null): ZmqConfig | null {
  if (config?.publisher !== 'zmq' || !config.enable_kv_cache_events) return null;
  return {
    endpoint: config.endpoint ?? 'tcp://*:5557',
    replayEndpoint: config.replay_endpoint ?? null,
    bufferSteps: config.buffer_steps ?? 10_000,
    hwm: config.hwm ?? 100_000,
    maxQueueSize: config.max_queue_size ?? 100_000,
    topic: config.topic || 'kv',
  };
}

/** One key a line; empty lines and those that begin with `#` are none. */
function keysOf(file: string | null): string[] {
  if (file === null) return [];
  const lines = readNamed('--api-key-file', file)
    .split('\n')
    .map((line) => line.trim());
  const keys = lines.filter((line) => line !== '' && !line.startsWith('#'));
  if (keys.length === 0) throw new OptionError(`--api-key-file ${file}: there is no key in it. Write one a line.`);
  if (!keys.every((key) => SENDABLE_KEY.test(key)))
    throw new OptionError(`--api-key-file ${file}: a key is one line of visible ASCII characters without spaces.`);
  return keys;
}

function readNamed(flag: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const why =
      error instanceof Error && 'code' in error && error.code !== 'ENOENT'
        ? `cannot be read (${error.code})`
        : 'is not there';
    throw new OptionError(`${flag} ${file}: the file ${why}.`);
  }
}

/** The template that `given` names or is (vLLM's rule: a text with braces that is no file's name is one). Throws `OptionError` where it does not parse. */
function readTemplate(given: string): string {
  const literal = /[{}\n]/.test(given) && !existsSync(given);
  const text = literal ? given : readNamed('--chat-template', given);
  try {
    new ChatTemplate(text, {});
  } catch (error) {
    const why = (error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, ' ');
    throw new OptionError(`--chat-template${literal ? '' : ` ${given}`}: this is no Jinja template (${why}).`);
  }
  return text;
}

async function tlsFiles(
  cert: string | null,
  key: string | null,
  makeOne: boolean,
  names: readonly string[],
  now: Date,
): Promise<TlsFiles | null> {
  if (cert !== null && key !== null) return namedTls(cert, key);
  return makeOne ? selfSigned(['localhost', '127.0.0.1', '::1', ...names], now) : null;
}

function namedTls(certFile: string, keyFile: string): TlsFiles {
  const files = { cert: readNamed('--tls-cert-path', certFile), key: readNamed('--tls-key-path', keyFile) };
  try {
    createSecureContext(files);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new OptionError(
      `--tls-cert-path ${certFile}, --tls-key-path ${keyFile}: these are no certificate and its private key in PEM (${why}).`,
    );
  }
  return files;
}
