import type { Remote } from 'comlink';
import { describe, expect, test } from 'vitest';
import { workerFetch } from '../../../src/node/page/worker-fetch.ts';
import type { ApiRequest, ApiResponseSink, WorkerApi } from '../../../src/node/worker-api.ts';

/** The worker's side of one request, in the hands of the test. */
function setUp() {
  const asked: { request: ApiRequest; sink: ApiResponseSink }[] = [];
  const aborted: number[] = [];
  const worker = {
    request: async (request: ApiRequest, sink: ApiResponseSink) => asked.push({ request, sink }),
    abort: async (number: number) => void aborted.push(number),
  } as unknown as Remote<WorkerApi>;
  return { asked, aborted, fetchApi: workerFetch(worker) };
}

const INIT = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' } as const;
const bytes = (text: string) => new TextEncoder().encode(text);

describe('fetching from the worker', () => {
  test('passes the request on and puts the chunks together', async () => {
    const { asked, fetchApi } = setUp();
    const answer = fetchApi('/v1/chat/completions', { ...INIT, signal: new AbortController().signal });
    const { request, sink } = asked[0]!;
    expect(request).toEqual({
      method: 'POST',
      path: '/v1/chat/completions',
      headers: [['content-type', 'application/json']],
      body: '{}',
    });
    sink.head({ status: 201, headers: [['x-test', 'yes']] });
    const response = await answer;
    sink.chunk(bytes('one '));
    sink.chunk(bytes('two'));
    sink.end(null);
    expect(response.status).toBe(201);
    expect(response.headers.get('x-test')).toBe('yes');
    expect(await response.text()).toBe('one two');
  });

  test('aborting tells the worker once, and the reader; what comes later is dropped', async () => {
    const { asked, aborted, fetchApi } = setUp();
    const stop = new AbortController();
    const answer = fetchApi('/v1/models', { ...INIT, signal: stop.signal });
    const { sink } = asked[0]!;
    sink.head({ status: 200, headers: [] });
    const text = (await answer).text();
    stop.abort(new Error('enough'));
    sink.chunk(bytes('late'));
    sink.end(null);
    await expect(text).rejects.toThrow('enough');
    expect(aborted).toEqual([1]);
  });

  test('cancelling the body tells the worker too', async () => {
    const { asked, aborted, fetchApi } = setUp();
    const answer = fetchApi('/v1/models', { ...INIT, signal: new AbortController().signal });
    asked[0]!.sink.head({ status: 200, headers: [] });
    await (await answer).body?.cancel();
    await Promise.resolve();
    expect(aborted).toEqual([1]);
  });

  test('a failure before or in the middle of the answer reaches the caller', async () => {
    const { asked, fetchApi } = setUp();
    const never = fetchApi('/v1/models', { ...INIT, signal: new AbortController().signal });
    asked[0]!.sink.end('no engine');
    await expect(never).rejects.toThrow('no engine');
    const broken = fetchApi('/v1/models', { ...INIT, signal: new AbortController().signal });
    asked[1]!.sink.head({ status: 200, headers: [] });
    const text = (await broken).text();
    asked[1]!.sink.end('lost in the middle');
    await expect(text).rejects.toThrow('lost in the middle');
  });

  test('a signal that is aborted already asks for nothing', async () => {
    const { asked, fetchApi } = setUp();
    await expect(fetchApi('/v1/models', { ...INIT, signal: AbortSignal.abort() })).rejects.toThrow();
    expect(asked).toHaveLength(0);
  });
});
