import { Writable } from 'node:stream';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';

it('logs name requests, nodes and reasons, and hold no prompt, no answer, no key and no token', async () => {
  let text = '';
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString();
      done();
    },
  });
  const log = pino({ level: 'trace' }, sink);
  const hub = await startTestHub({ apiKeys: ['sekret-key'], joinToken: 'sekret-ticket' }, {}, log);
  const node = await ScriptedNode.join(hub.url, { hello: { ticket: 'sekret-ticket' }, reply: () => [300] });
  const refused = await ScriptedNode.open(hub.url, { hello: { ticket: 'sekret-guess', agent: 'a stranger' } });
  refused.hello();
  await refused.closed;
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const ask = (body: object) =>
    fetch(`${hub.url}/v1/chat/completions?key=sekret-query`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: 'Bearer sekret-key',
        'x-request-id': 'request-77',
        traceparent,
      },
      body: JSON.stringify({ model: 'quire-pico', max_tokens: 1, ...body }),
    });
  const answer = await ask({ messages: [{ role: 'user', content: 'sekret-prompt' }] });
  expect(answer.status).toBe(200);
  expect((await ask({ messages: 'sekret-prompt' })).status).toBe(400);
  await fetch(`${hub.url}${node.welcome?.model.base}config.json`);
  const { generate } = await node.next('generate');
  expect(generate.traceparent).toBe(traceparent);
  await hub.close();

  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(lines).toContainEqual(
    expect.objectContaining({ requestId: 'request-77', msg: '/v1/chat/completions', status: 200 }),
  );
  expect(lines).toContainEqual(
    expect.objectContaining({ msg: expect.stringContaining('a node is ready'), node: node.id }),
  );
  const traceId = traceparent.split('-')[1];
  const counts = { promptTokens: generate.prompt.length, completionTokens: 1, status: 'success' };
  expect(lines).toContainEqual(expect.objectContaining({ requestId: 'request-77', traceId, ...counts }));
  expect(lines).toContainEqual(expect.objectContaining({ request: generate.request, traceId, node: node.id }));
  expect(lines).toContainEqual(expect.objectContaining({ code: 'ticket', agent: 'a stranger' }));
  expect(text).not.toContain('sekret');
  expect(text).not.toContain(node.welcome!.resumeToken);
  expect(text).not.toContain(node.welcome!.model.base);
});
