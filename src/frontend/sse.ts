import { toApiError } from './errors.ts';

const SSE_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  // Proxies (nginx) gather small writes otherwise.
  'x-accel-buffering': 'no',
} as const;

/**
 * Server-sent events as OpenAI streams them: `data: {json}` for each chunk, then `data: [DONE]`. Waits for the first chunk, so that what
 * fails before it throws here and is answered with its own status; what fails later is the stream's last event.
 * `left` is called when the reader goes away.
 */
export async function sseResponse(
  chunks: AsyncGenerator<object, void, void>,
  hooks: { left(): void; failed(error: unknown): void },
): Promise<Response> {
  const encoder = new TextEncoder();
  const event = (data: string) => encoder.encode(`data: ${data}\n\n`);
  let ahead: IteratorResult<object, void> | null = await chunks.next();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const result = ahead ?? (await chunks.next());
        ahead = null;
        controller.enqueue(event(result.done === true ? '[DONE]' : JSON.stringify(result.value)));
        if (result.done === true) controller.close();
      } catch (error) {
        hooks.failed(error);
        controller.enqueue(event(JSON.stringify(toApiError(error).body())));
        controller.close();
      }
    },
    cancel() {
      hooks.left();
      // Not awaited: a generator in the middle of waiting returns only after that.
      void chunks.return().catch(() => {});
    },
  });
  return new Response(body, { headers: SSE_HEADERS });
}
