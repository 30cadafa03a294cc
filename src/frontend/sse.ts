import type { Clock } from '../protocol/clock.ts';
import { toApiError } from './errors.ts';

const SSE_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  // Proxies (nginx) gather small writes otherwise.
  'x-accel-buffering': 'no',
} as const;

const encoder = new TextEncoder();
const event = (data: string) => encoder.encode(`data: ${data}\n\n`);
/** Readers of server-sent events skip lines that begin with a colon. */
const COMMENT = encoder.encode(': keep-alive\n\n');

export interface KeepAlive {
  /** A stream in which nothing was sent for so long, and at most twice as long, gets a comment; null = it does not. */
  readonly keepAliveSeconds: number | null;
  readonly after: Clock['after'];
  /** No comments once it has aborted: a body that nobody wants may never be told so. */
  readonly signal: AbortSignal;
}

/**
 * Server-sent events as OpenAI streams them: `data: {json}` for each chunk, then `data: [DONE]`. Waits for the first chunk, so that what
 * fails before it throws here and is answered with its own status; but not for longer than `keepAliveSeconds`. What fails later is the
 * stream's last event. `left` is called when the reader goes away.
 */
export async function sseResponse(
  chunks: AsyncGenerator<object, void, void>,
  hooks: { left(): void; failed(error: unknown): void },
  { keepAliveSeconds, after, signal }: KeepAlive,
): Promise<Response> {
  const first = chunks.next();
  let stopTimer = () => {};
  const every = (task: () => void) => {
    if (keepAliveSeconds === null || signal.aborted) return;
    stopTimer = after(keepAliveSeconds * 1000, () => {
      every(task);
      task();
    });
  };
  signal.addEventListener('abort', () => stopTimer(), { once: true });
  const silence = new Promise<'silence'>((resolve) => every(() => resolve('silence')));
  const begun = await Promise.race([first, silence]).finally(() => stopTimer());
  let ahead: Promise<IteratorResult<object, void>> | null = first;
  // So that a failure that nobody waits for yet is none of the process.
  first.catch(() => {});
  let sent = false;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      if (begun === 'silence') controller.enqueue(COMMENT);
      every(() => {
        // A reader that does not read needs no comments.
        if (!sent && (controller.desiredSize ?? 0) > 0) controller.enqueue(COMMENT);
        sent = false;
      });
    },
    async pull(controller) {
      const end = (data: string) => {
        stopTimer();
        controller.enqueue(event(data));
        controller.close();
      };
      try {
        const result = await (ahead ?? chunks.next());
        ahead = null;
        sent = true;
        if (result.done === true) end('[DONE]');
        else controller.enqueue(event(JSON.stringify(result.value)));
      } catch (error) {
        hooks.failed(error);
        end(JSON.stringify(toApiError(error).body()));
      }
    },
    cancel() {
      stopTimer();
      hooks.left();
      // Not awaited: a generator in the middle of waiting returns only after that.
      void chunks.return().catch(() => {});
    },
  });
  return new Response(body, { headers: SSE_HEADERS });
}
