import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { get } from 'node:https';
import { connect, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import OpenAI from 'openai';
import { generate as selfSigned } from 'selfsigned';
import { afterEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { CLOSE } from '../../src/protocol/close-codes.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { Gate } from '../support/gate.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

let hub: Hub | null = null;
afterEach(async () => {
  await hub?.close({ graceSeconds: 0, drainSeconds: 0 });
  hub = null;
});

function clientOf({ url }: Hub): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
}

const BODY = { model: 'quire-pico', prompt: [1, 2], max_tokens: 20 };

/** Sockets, servers and files that keep the process alive, by kind. */
function handles(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) {
    if (/TCP|TLS|HTTP|FSReq/i.test(kind)) counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

describe('starting', () => {
  it('a taken port is one line that says what to do', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const address = other.address();
    const port = address !== null && typeof address === 'object' ? address.port : 0;
    const error = await startTestHub({ port }).catch((e: unknown) => e);
    expect(error).toMatchObject({ name: 'HubStartError' });
    expect((error as Error).message).toBe(
      `Cannot listen on 127.0.0.1:${port}: the port is taken. Stop what uses it, or choose another with --http-port.`,
    );
    await new Promise((resolve) => other.close(resolve));
  });

  it('an address that is not of this machine too', async () => {
    await expect(startTestHub({ host: '203.0.113.7' })).rejects.toThrow(/--http-host/);
  });
});

describe('stopping', () => {
  it('says no more on /health at once, and still takes what comes late for the grace period', async () => {
    const clock = new FakeClock();
    hub = await startTestHub({ graceSeconds: 0.5, drainSeconds: 30 }, {}, undefined, clock);
    const { url } = hub;
    const gate = new Gate();
    const node = await ScriptedNode.join(url, { gate });
    const running = clientOf(hub).completions.create({ ...BODY, max_tokens: 60 });
    await node.next('generate');
    const closing = hub.close();
    expect(await node.next('drain')).toMatchObject({ graceSeconds: 0.5 });
    const health = await fetch(`${url}/health`);
    expect(health.status).toBe(503);
    expect(await health.json()).toMatchObject({ status: 'draining', instances: [{ status: 'ready' }] });
    expect((await fetch(`${url}/live`)).status).toBe(200);
    // A node may still come: one that was lost for a moment, or whatever the last requests need.
    await ScriptedNode.join(url);
    expect((await clientOf(hub).completions.create({ ...BODY, prompt: [3], max_tokens: 2 })).usage).toMatchObject({
      completion_tokens: 2,
    });
    clock.advance(499);
    expect((await clientOf(hub).completions.create({ ...BODY, prompt: [4], max_tokens: 2 })).usage).toMatchObject({
      completion_tokens: 2,
    });
    clock.advance(1);
    await expect(clientOf(hub).completions.create(BODY)).rejects.toMatchObject({ status: 503, code: 'hub_stopping' });
    expect((await fetch(`${url}/live`)).status).toBe(200);
    expect((await fetch(`${url}/health`)).status).toBe(503);
    gate.open();
    expect((await running).usage?.completion_tokens).toBe(60);
    await closing;
    expect(await node.closed).toMatchObject({ code: CLOSE.goingAway });
    await expect(fetch(`${url}/live`)).rejects.toThrow();
  });

  it('waits out the grace period though nothing runs, and ends with the last stream, not at the end of its time', async () => {
    const clock = new FakeClock();
    hub = await startTestHub({ graceSeconds: 0.4, drainSeconds: 3600 }, {}, undefined, clock);
    const gate = new Gate();
    const node = await ScriptedNode.join(hub.url, { gate });
    let over = false;
    const closing = hub.close().then(() => {
      over = true;
    });
    clock.advance(399);
    const late = clientOf(hub).completions.create({ ...BODY, max_tokens: 30 });
    await node.next('generate');
    clock.advance(1000);
    await expect(clientOf(hub).completions.create(BODY)).rejects.toMatchObject({ code: 'hub_stopping' });
    expect(over).toBe(false);
    gate.open();
    await closing;
    expect((await late).usage?.completion_tokens).toBe(30);
    await node.closed;
  });

  it('moves what a node leaves behind while the hub drains, like at any other time', async () => {
    hub = await startTestHub({ graceSeconds: 0, drainSeconds: 30 });
    const first = await ScriptedNode.join(hub.url, { hangAfter: 3 });
    const running = clientOf(hub).completions.create(BODY);
    await until(() => first.quiet.length === 1);
    const closing = hub.close();
    await first.next('drain');
    first.socket.terminate();
    await until(() => hub?.state().nodes.length === 0);
    await ScriptedNode.join(hub.url);
    expect((await running).usage?.completion_tokens).toBe(20);
    await closing;
  });

  it('ends what is not done when its time is over, with an error that says so', async () => {
    hub = await startTestHub();
    const node = await ScriptedNode.join(hub.url, { reply: null });
    const running = expect(clientOf(hub).completions.create(BODY)).rejects.toMatchObject({
      status: 503,
      code: 'hub_stopping',
    });
    await node.next('generate');
    await hub.close({ graceSeconds: 0.1, drainSeconds: 0.1 });
    await running;
  });

  it('a second call does not wait for the times of the first', async () => {
    hub = await startTestHub({ graceSeconds: 3600, drainSeconds: 3600 });
    const node = await ScriptedNode.join(hub.url, { reply: null });
    const running = expect(clientOf(hub).completions.create(BODY)).rejects.toMatchObject({ status: 503 });
    await node.next('generate');
    const first = hub.close();
    await hub.close({ graceSeconds: 0, drainSeconds: 0 });
    await first;
    await running;
  });

  it('leaves nothing open, though nodes do not answer and connections were opened ahead', async () => {
    const own = await startTestHub({ graceSeconds: 0 });
    const nodes = await Promise.all([1, 2, 3].map(() => ScriptedNode.join(own.url, { reply: null })));
    // The router asks the first node, which does not even read that the hub ends.
    nodes[0]?.socket.pause();
    await ScriptedNode.open(own.url);
    const ahead = connect(own.port, '127.0.0.1');
    await once(ahead, 'connect');
    const asked = expect(clientOf(own).completions.create(BODY)).rejects.toThrow();
    await until(() => own.state().inflightRequests > 0);
    expect(Object.keys(handles())).toContain('TCPServerWrap');
    await own.close();
    await own.close();
    await asked;
    ahead.destroy();
    for (const node of nodes) node.socket.terminate();
    await until(() => Object.keys(handles()).length === 0, handles);
    await expect(fetch(`${own.url}/live`)).rejects.toThrow();
  });
});

describe('https', () => {
  it('serves the API and takes nodes with the certificate it was given', async () => {
    const { cert, private: key } = await selfSigned([{ name: 'commonName', value: 'localhost' }], {
      extensions: [{ name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] }],
    });
    hub = await startTestHub({ tls: { cert, key } });
    expect(hub.url).toMatch(/^https:/);
    const node = await ScriptedNode.join(hub.url, { ca: cert, headers: { origin: hub.url } });
    await expect(ScriptedNode.open(hub.url)).rejects.toThrow(/self.signed/);
    await expect(ScriptedNode.open(hub.url, { ca: cert, headers: { origin: 'https://evil.example' } })).rejects.toThrow(
      '403',
    );
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      get(`${hub?.url}/health`, { ca: cert }, resolve).on('error', reject);
    });
    const body = await text(response);
    expect(JSON.parse(body)).toMatchObject({ status: 'healthy', instances: [{ instance_id: node.id }] });
  });
});
