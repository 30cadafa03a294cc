import { createServer } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';

let hub: Hub | null = null;
afterEach(async () => {
  await hub?.close({ graceSeconds: 0 });
  hub = null;
});

const get = async (port: number | null, route: string) => {
  const response = await fetch(`http://127.0.0.1:${port}${route}`);
  return { status: response.status, text: await response.text() };
};

it('--metrics-endpoint-port: Prometheus reads the same series there as on the hub, and finds nothing else', async () => {
  hub = await startTestHub({ metricsPort: 0 });
  const { metrics, system } = hub.sidePorts;
  expect(system).toBeNull();
  expect(metrics).not.toBe(hub.port);
  await ScriptedNode.join(hub.url);
  const there = await get(metrics, '/metrics');
  expect(there.status).toBe(200);
  expect(there.text).toContain('quire_nodes{dynamo_namespace="dynamo",model_name="quire-pico",stage="ready"} 1');
  expect((await get(hub.port, '/metrics')).text).toBe(there.text);
  for (const route of ['/health', '/live', '/v1/models', '/cluster/state', '/']) {
    expect((await get(metrics, route)).status, route).toBe(404);
  }
});

it('--system-port: health, life and metrics, and no API', async () => {
  hub = await startTestHub({ systemPort: 0, namespace: 'lab.7' });
  const { system } = hub.sidePorts;
  expect(await get(system, '/live')).toMatchObject({ status: 200 });
  expect(await get(system, '/health')).toMatchObject({ status: 503 });
  const node = await ScriptedNode.join(hub.url);
  const health = await get(system, '/health');
  expect(health.status).toBe(200);
  expect(JSON.parse(health.text)).toMatchObject({ instances: [{ instance_id: node.id, namespace: 'lab.7' }] });
  expect(hub.state().namespace).toBe('lab.7');
  expect((await get(system, '/metrics')).text).toContain('quire_nodes{dynamo_namespace="lab.7",');
  for (const route of ['/v1/models', '/cluster/state', '/models/quire-pico/config.json', '/']) {
    expect((await get(system, route)).status, route).toBe(404);
  }
});

it('a foreign name is refused there too, against DNS rebinding', async () => {
  hub = await startTestHub({ systemPort: 0, metricsPort: 0 });
  const { request } = await import('node:http');
  for (const port of [hub.sidePorts.system, hub.sidePorts.metrics]) {
    const status = await new Promise((resolve, reject) => {
      const headers = { host: 'evil.example' };
      request({ port, path: '/metrics', headers }, (response) => resolve(response.resume().statusCode))
        .on('error', reject)
        .end();
    });
    expect(status).toBe(403);
  }
});

it('a taken port is one line that names the option, and nothing goes on listening', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => taken.once('listening', resolve));
  const { port } = taken.address() as { port: number };
  await expect(startTestHub({ metricsPort: port })).rejects.toThrow(
    `Cannot listen on 127.0.0.1:${port}: the port is taken. Stop what uses it, or choose another with --metrics-endpoint-port.`,
  );
  hub = await startTestHub({ systemPort: 0 });
  const { system } = hub.sidePorts;
  const first = hub;
  await expect(startTestHub({ port: first.port, systemPort: 0 })).rejects.toThrow('another with --http-port');
  await first.close({ graceSeconds: 0 });
  await expect(fetch(`http://127.0.0.1:${system}/live`)).rejects.toThrow();
  await new Promise((resolve) => taken.close(resolve));
});
