import { expect, test } from 'vitest';
import { History } from '../../../src/hub/history.ts';
import { HubMetrics } from '../../../src/hub/metrics.ts';
import { ClusterHistory, MAX_SAMPLES, SAMPLE_MS } from '../../../src/protocol/cluster-history.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const NOTHING = { namespace: 'test', models: ['m'], nodes: () => [], inflight: () => 0, queued: () => 0 };
const REQUEST = { model: 'm', endpoint: 'completions', stream: true } as const;

function setUp() {
  const clock = new FakeClock();
  const metrics = new HubMetrics(NOTHING);
  let load = { running: 0, waiting: 0, usedBlocks: 0, totalBlocks: 0, tokensPerSecond: 0 };
  const history = new History({ metrics, load: () => load, clock, now: () => clock.now() });
  return { clock, metrics, history, setLoad: (change: Partial<typeof load>) => (load = { ...load, ...change }) };
}

test('a sample tells what happened since the one before, and nothing older', () => {
  const { clock, metrics, history, setLoad } = setUp();
  const request = metrics.started(REQUEST);
  request.firstToken(0.2);
  for (let i = 0; i < 50; i++) request.generated(1);
  for (let i = 0; i < 49; i++) request.interToken(0.02);
  const counts = { promptTokens: 40, cachedTokens: 10, completionTokens: 50 };
  request.finished({ status: 'success', cause: null, seconds: 1.2, ...counts });
  setLoad({ running: 3, waiting: 1, usedBlocks: 25, totalBlocks: 100 });
  clock.advance(SAMPLE_MS);
  setLoad({ running: 0, waiting: 0, usedBlocks: 0 });
  clock.advance(SAMPLE_MS);
  const [busy, idle] = ClusterHistory.parse({ samples: history.samples() }).samples;
  expect(busy).toMatchObject({
    at: SAMPLE_MS,
    requestsPerSecond: 0.2,
    promptTokensPerSecond: 8,
    generatedTokensPerSecond: 10,
    cacheHitRate: 0.25,
    kvUsage: 0.25,
    running: 3,
    waiting: 1,
  });
  // Within the bucket that the value fell into.
  expect(busy?.firstTokenP50).toBeGreaterThan(0.1);
  expect(busy?.firstTokenP50).toBeLessThanOrEqual(0.25);
  expect(busy?.interTokenP99).toBeGreaterThan(0.01);
  expect(busy?.interTokenP99).toBeLessThanOrEqual(0.025);
  expect(idle).toMatchObject({ requestsPerSecond: 0, generatedTokensPerSecond: 0, kvUsage: 0 });
  expect(idle).toMatchObject({ firstTokenP50: null, interTokenP99: null, cacheHitRate: null });
});

test('is bounded, and ends', () => {
  const { clock, history } = setUp();
  clock.advance(SAMPLE_MS * (MAX_SAMPLES + 5));
  expect(history.samples()).toHaveLength(MAX_SAMPLES);
  expect(history.samples()[0]).toMatchObject({ at: SAMPLE_MS * 6, kvUsage: null });
  history.stop();
  expect(clock.pending).toBe(0);
});
