import type { Page } from '@playwright/test';
import OpenAI from 'openai';
import type { ApiRequest, ApiResponseHead } from '../../src/node/worker-api.ts';

/** The official client of a page without a hub: its requests go to the page's worker. Needs `keepWorkers` before the page is opened. */
export function soloClient(page: Page): OpenAI {
  const fetch = async (url: string | URL | Request, init: RequestInit = {}) => {
    const headers = [...new Headers(init.headers)].filter(([name]) => name.startsWith('content-'));
    const { pathname: path } = new URL(String(url));
    const { head, chunks } = await page.evaluate(askWorker, {
      method: 'POST',
      path,
      headers,
      body: init.body as string,
    });
    return new Response(chunks.join(''), { status: head.status, headers: head.headers.map(([k, v]) => [k, v]) });
  };
  return new OpenAI({ baseURL: 'http://this.page/v1', apiKey: 'none', maxRetries: 0, fetch });
}

/** In the page: a request in comlink's words, whose sink is a port; resolves when the answer has ended, with its text in the pieces that came. */
function askWorker(request: ApiRequest): Promise<{ head: ApiResponseHead; chunks: string[] }> {
  return new Promise((resolve, reject) => {
    const { port1: sink, port2 } = new MessageChannel();
    const chunks: string[] = [];
    const decoder = new TextDecoder();
    let head: ApiResponseHead;
    sink.onmessage = ({ data: { id, path, argumentList } }) => {
      const value = argumentList?.[0]?.value;
      if (path?.[0] === 'head') head = value;
      if (path?.[0] === 'chunk') chunks.push(decoder.decode(value, { stream: true }));
      if (path?.[0] === 'end') value === null ? resolve({ head, chunks }) : reject(new Error(value));
      sink.postMessage({ id, type: 'RAW', value: undefined });
    };
    const argumentList = [
      { type: 'RAW', value: request },
      { type: 'HANDLER', name: 'proxy', value: port2 },
    ];
    const message = { id: `ask-${Math.random()}`, type: 'APPLY', path: ['request'], argumentList };
    globalThis.workerUnderTest!.postMessage(message, [port2]);
  });
}
