import { proxy, type Remote } from 'comlink';
import type { ApiResponseHead, WorkerApi } from '../worker-api.ts';

/** `fetch`, as far as the playground needs it. */
export type ApiFetch = (path: string, init: ApiInit) => Promise<Response>;

export interface ApiInit {
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  readonly signal: AbortSignal;
}

/**
 * The API inside the worker, as a fetch. Chunks come by messages, since not every browser can transfer a ReadableStream.
 * Aborting the signal or cancelling the body stops the computation.
 */
export function workerFetch(worker: Remote<WorkerApi>): ApiFetch {
  return (path, { method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted();
      let controller: ReadableStreamDefaultController<Uint8Array>;
      let over = false;
      let number: Promise<number>;
      const stop = () => {
        if (over) return;
        over = true;
        signal.removeEventListener('abort', aborted);
        void number.then((n) => worker.abort(n));
      };
      const aborted = () => {
        stop();
        controller.error(signal.reason);
        reject(signal.reason);
      };
      const stream = new ReadableStream<Uint8Array>({
        start(c) {
          controller = c;
        },
        cancel: stop,
      });
      const sink = {
        head: (head: ApiResponseHead) =>
          resolve(new Response(stream, { status: head.status, headers: head.headers.map(([k, v]) => [k, v]) })),
        chunk: (bytes: Uint8Array) => {
          if (!over) controller.enqueue(bytes);
        },
        end: (error: string | null) => {
          if (over) return;
          over = true;
          signal.removeEventListener('abort', aborted);
          if (error === null) controller.close();
          else {
            controller.error(new Error(error));
            reject(new Error(error));
          }
        },
      };
      signal.addEventListener('abort', aborted);
      number = worker.request({ method, path, headers: Object.entries(headers), body }, proxy(sink));
      number.catch(reject);
    });
}
