import path from 'node:path';
import { type Logger, pino } from 'pino';
import { DEFAULT_LIMITS, type HubConfig, type HubLimits } from '../../src/hub/config.ts';
import { type Hub, startHub } from '../../src/hub/hub.ts';
import type { CostKnobs } from '../../src/hub/router/cost.ts';

export const PICO = path.resolve(import.meta.dirname, '../../models/quire-pico');

/** The options' defaults. */
export const DEFAULT_KNOBS: CostKnobs = { overlapScoreCredit: 1, prefillLoadScale: 1, temperature: 0 };

/** A hub on a free port of this machine, with the embedded model. */
export function startTestHub(
  config: Partial<Omit<HubConfig, 'limits'>> = {},
  limits: Partial<HubLimits> = {},
  log: Logger = pino({ level: 'silent' }),
): Promise<Hub> {
  const whole: HubConfig = {
    host: '127.0.0.1',
    port: 0,
    tls: null,
    models: [{ folder: PICO, servedName: null }],
    apiKeys: [],
    joinToken: null,
    allowedOrigins: [],
    allowedHosts: [],
    blockSize: 16,
    hashAlgo: 'xxh3',
    router: { mode: 'kv', knobs: DEFAULT_KNOBS },
    nodeOptions: {},
    maxModelLen: null,
    skipTokenizerInit: false,
    chatTemplate: null,
    generationConfig: 'auto',
    endpointTypes: ['chat', 'completions'],
    staticDir: null,
    graceSeconds: 0,
    migrationLimit: 3,
    ...config,
    limits: { ...DEFAULT_LIMITS, ...limits },
  };
  return startHub(whole, { log });
}
