import type { Clock } from '../protocol/clock.ts';
import { type ApiError, toApiError } from './errors.ts';

const SSE_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  // Proxies (nginx) gather small writes otherwise.
  'x-accel-buffering': 'no',
} as const;

const encoder = new TextEncoder();

/** How an API writes its streams. */
export interface StreamStyle {
  /** Each event is named by its object's `type`. */
  readonly named: boolean;
  /** Data of the last event where nothing failed; null = there is none beside the chunks. */
  readonly done: string | null;
  /** What is sent into a silence: whole lines that clients skip. */
  readonly keepAlive: string;
}

/** Readers of server-sent events skip lines that begin with a colon. */
const COMMENT = ': keep-alive\n\n';
/** As OpenAI streams /v1/chat/completions and /v1/completions. */
export const PLAIN_CHUNKS: StreamStyle = { named: false, done: '[DONE]', keepAlive: COMMENT };
/** As OpenAI streams /v1/responses. */
export const NAMED_EVENTS: StreamStyle = { named: true, done: null, keepAlive: COMMENT };

export interface KeepAlive {
  /** A stream in which nothing was sent for so long, and at most twice as long, gets a comment; null = it does not. */
  readonly keepAliveSeconds: number | null;
  readonly after: Clock['after'];
  /** No comments once it has aborted: a body that nobody wants may never be told so. */
  readonly signal: AbortSignal;
}

/** What the API makes of a stream. */
interface StreamForm {
  readonly style: StreamStyle;
  failure(error: ApiError): object;
}
interface Hooks {
  left(): void;
  failed(error: unknown): void;
}
type Chunk = IteratorResult<object, void>;

/**
 * Server-sent events: `data: {json}` for each chunk, in the style of `form`. Waits for the first chunk, so that what
 * fails before it throws here and is answered with its own status; but not for longer than `keepAliveSeconds`. What fails later is the
 * stream's last event. `left` is called when the reader goes away.
 */
export async function sseResponse(
  chunks: AsyncGenerator<object, void, void>,
  form: StreamForm,
  hooks: Hooks,
  keepAlive: KeepAlive,
): Promise<Response> {
  const first = chunks.next();
  const timer = new Silence(keepAlive);
  const silence = new Promise<'silence'>((resolve) => timer.start(() => resolve('silence')));
  const begun = await Promise.race([first, silence]).finally(() => timer.stop());
  // So that a failure that nobody waits for yet is none of the process.
  first.catch(() => {});
  const body = new ReadableStream(new EventBody(chunks, form, hooks, timer, { first, late: begun === 'silence' }));
  return new Response(body, { headers: SSE_HEADERS });
}

/** Calls back once every `keepAliveSeconds`, from `start` until `stop` or the request's end. */
class Silence {
  readonly #keepAlive: KeepAlive;
  #cancel = () => {};

  constructor(keepAlive: KeepAlive) {
    this.#keepAlive = keepAlive;
    keepAlive.signal.addEventListener('abort', () => this.stop(), { once: true });
  }

  start(task: () => void): void {
    const { after, keepAliveSeconds, signal } = this.#keepAlive;
    if (keepAliveSeconds === null || signal.aborted) return;
    this.#cancel = after(keepAliveSeconds * 1000, () => {
      this.start(task);
      task();
    });
  }

  stop(): void {
    this.#cancel();
  }
}

/** The bytes of a stream. What every token passes makes no closures and no async functions of its own. */
class EventBody implements UnderlyingDefaultSource<Uint8Array> {
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  #ahead: Promise<Chunk> | null;
  /** Whether anything was sent since the last look. */
  #sent = false;
  readonly #keepAlive: Uint8Array;

  constructor(
    private readonly chunks: AsyncGenerator<object, void, void>,
    private readonly form: StreamForm,
    private readonly hooks: Hooks,
    private readonly timer: Silence,
    private readonly begun: { readonly first: Promise<Chunk>; readonly late: boolean },
  ) {
    this.#ahead = begun.first;
    this.#keepAlive = encoder.encode(form.style.keepAlive);
  }

  start(controller: ReadableStreamDefaultController<Uint8Array>): void {
    this.#controller = controller;
    if (this.begun.late) controller.enqueue(this.#keepAlive);
    this.timer.start(() => {
      // A reader that does not read needs no comments.
      if (!this.#sent && (controller.desiredSize ?? 0) > 0) controller.enqueue(this.#keepAlive);
      this.#sent = false;
    });
  }

  pull(): Promise<void> {
    const next = this.#ahead ?? this.chunks.next();
    this.#ahead = null;
    return next.then(this.#put, this.#fail);
  }

  cancel(): void {
    this.timer.stop();
    this.hooks.left();
    // Not awaited: a generator in the middle of waiting returns only after that.
    void this.chunks.return().catch(() => {});
  }

  readonly #put = (result: Chunk): void => {
    this.#sent = true;
    if (result.done === true) this.#end(doneEvent(this.form.style));
    else this.#controller?.enqueue(encoder.encode(event(result.value, this.form.style)));
  };

  readonly #fail = (error: unknown): void => {
    this.hooks.failed(error);
    this.#end(event(this.form.failure(toApiError(error)), this.form.style));
  };

  #end(last: string): void {
    this.timer.stop();
    if (last !== '') this.#controller?.enqueue(encoder.encode(last));
    this.#controller?.close();
  }
}

function event(chunk: object, { named }: StreamStyle): string {
  const data = `data: ${JSON.stringify(chunk)}\n\n`;
  return named && 'type' in chunk ? `event: ${chunk.type}\n${data}` : data;
}

const doneEvent = ({ done }: StreamStyle) => (done === null ? '' : `data: ${done}\n\n`);
