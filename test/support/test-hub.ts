import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Logger, pino } from 'pino';
import { parseArgs } from '../../src/config/options.ts';
import type { HubConfig, HubLimits } from '../../src/hub/config.ts';
import { type Hub, startHub } from '../../src/hub/hub.ts';
import { hubConfig } from '../../src/hub/launch/hub-config.ts';
import type { CostKnobs } from '../../src/hub/router/cost.ts';
import { type Clock, systemClock } from '../../src/protocol/clock.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

export const PICO = path.join(ROOT, 'models/quire-pico');

/** The options' defaults. */
export const DEFAULT_KNOBS: CostKnobs = { overlapScoreCredit: 1, prefillLoadScale: 1, temperature: 0 };

/** A hub on a free port of this machine, with the embedded model and no page; all else is the options' default. */
export async function startTestHub(
  config: Partial<Omit<HubConfig, 'limits'>> = {},
  limits: Partial<HubLimits> = {},
  log: Logger = pino({ level: 'silent' }),
  clock: Clock = systemClock,
): Promise<Hub> {
  const here = {
    root: ROOT,
    hostname: 'test',
    lanAddresses: [],
    now: () => new Date(),
    modelCache: path.join(tmpdir(), 'quire-test-models'),
    say: () => {},
  };
  const defaults = await hubConfig(parseArgs(['--http-port', '0'], {}), here);
  const whole = { ...defaults, staticDir: null, graceSeconds: 0, drainSeconds: 0, ...config };
  return startHub({ ...whole, limits: { ...defaults.limits, ...limits } }, { log, clock });
}
