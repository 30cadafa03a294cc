import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import * as z from 'zod';
import { transferMetrics } from '../../../src/hub/disagg/transfer-metrics.ts';
import { HubMetrics } from '../../../src/hub/metrics.ts';

const Dashboard = z.object({
  templating: z.object({ list: z.array(z.looseObject({ query: z.unknown() })) }),
  panels: z.array(z.object({ title: z.string(), targets: z.array(z.object({ expr: z.string() })).min(1) })).min(1),
});
const text = readFileSync(new URL('../../../deploy/grafana/quire.json', import.meta.url), 'utf8');
const dashboard = Dashboard.parse(JSON.parse(text));

/** Lines of /metrics of a hub in which everything has happened once. */
async function series(): Promise<string[]> {
  const node = { model: 'm', stage: 'ready', loads: [], card: null };
  const metrics = new HubMetrics({
    ...{ namespace: 'n', models: ['m'], inflight: () => 0, queued: () => 0 },
    nodes: () => [node as never],
  });
  const transfers = transferMetrics(metrics.registry, () => 0);
  const outcome = { blocks: 1, bytes: 1, computedTokens: 1, transport: 'relay' };
  transfers.done('m', outcome as Parameters<typeof transfers.done>[1]);
  const request = metrics.started({ model: 'm', endpoint: 'completions', stream: true });
  request.firstToken(1);
  request.interToken(1);
  request.choiceEnded('stop');
  const counts = { promptTokens: 1, cachedTokens: 0, completionTokens: 1 };
  request.finished({ status: 'cancelled', cause: 'api', seconds: 1, ...counts });
  const migration = { attempt: 1, from: 'a', to: 'b', tokens: 0, numericsChanged: false };
  metrics.migrated('m', 'new_request', migration);
  return (await metrics.registry.metrics()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

const METRIC = /\b(?:vllm:|dynamo_|quire_)[\w:]+/g;

test('every metric that the dashboard asks for is there, with the labels that it asks by', async () => {
  const lines = await series();
  const queries = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  expect(queries.length).toBeGreaterThan(15);
  for (const query of queries) {
    const names = query.match(METRIC) ?? [];
    expect(names, query).not.toHaveLength(0);
    for (const name of names) {
      const own = lines.filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
      expect(own, `${name} in ${query}`).not.toHaveLength(0);
      const [, selector = ''] = query.match(new RegExp(`${name}\\{([^}]*)\\}`)) ?? [];
      const grouped = query.match(/by \(([^)]*)\)/)?.[1]?.split(/, */) ?? [];
      for (const label of [...selector.matchAll(/(\w+)=~?"/g)].map(([, label]) => label).concat(grouped))
        expect(
          own.some((line) => line.includes(`${label}="`)),
          `${label} of ${name}`,
        ).toBe(true);
    }
  }
  const variables = JSON.stringify(dashboard.templating).match(METRIC) ?? [];
  for (const name of variables)
    expect(
      lines.some((line) => line.startsWith(`${name}{`)),
      name,
    ).toBe(true);
});
