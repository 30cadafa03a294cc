import * as z from 'zod';

const rate = z.number().min(0);
const seconds = z.number().min(0).nullable();

/** What the cluster did between two looks of the hub at itself. */
export const HistorySample = z.object({
  /** Unix milliseconds, by the hub's clock, of the later look. */
  at: z.number(),
  requestsPerSecond: rate,
  promptTokensPerSecond: rate,
  generatedTokensPerSecond: rate,
  /** From a request's arrival to its first token, and between two tokens of a choice: quantiles of those that came, null where none did. */
  firstTokenP50: seconds,
  firstTokenP99: seconds,
  interTokenP50: seconds,
  interTokenP99: seconds,
  /** Share of the prompt tokens that the prefix cache had, 0 to 1; null where no request ended. */
  cacheHitRate: z.number().nullable(),
  /** Share of the KV blocks in use, 0 to 1; null without nodes. */
  kvUsage: z.number().nullable(),
  /** Sequences on the nodes. */
  running: z.number(),
  waiting: z.number(),
});
export type HistorySample = z.infer<typeof HistorySample>;

/** Most samples, and milliseconds between two: ten minutes. */
export const MAX_SAMPLES = 120;
export const SAMPLE_MS = 5000;

/** Answer of `GET /cluster/history`, oldest first. */
export const ClusterHistory = z.object({ samples: z.array(HistorySample).max(MAX_SAMPLES) });
export type ClusterHistory = z.infer<typeof ClusterHistory>;
