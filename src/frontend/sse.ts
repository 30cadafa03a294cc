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
/** As Anthropic streams /v1/messages. */
export const MESSAGE_EVENTS: StreamStyle = {
  named: true,
  done: null,
  keepAlive: 'event: ping\ndata: {"type": "ping"}\n\n',
};

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
/** A string is a chunk's JSON. */
export type Chunks = IteratorResult<readonly (object | string)[], void>;

/** The chunks of a stream as they come: all that one delta gives at once. */
export interface ChunkSource {
  /** Asked again only once the answer is there. */
  next(): Promise<Chunks>;
  /** Nobody reads it any more. */
  return(): void;
}

/**
 * Server-sent events: `data: {json}` for each chunk, in the style of `form`. Waits for the first chunk, so that what
 * fails before it throws here and is answered with its own status; but not for longer than `keepAliveSeconds`. What fails later is the
 * stream's last event. `left` is called when the reader goes away. The body is an `EventStream`.
 */
export async function sseResponse(
  chunks: ChunkSource,
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
  const events = new Events(chunks, form, hooks, timer, { first, late: begun === 'silence' });
  // A body that nobody reads would never come to its end, and its request neither.
  keepAlive.signal.addEventListener('abort', () => events.aborted(), { once: true });
  return new Response(new EventStream(events), { headers: SSE_HEADERS });
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

/** Where the text of a stream goes. */
export interface EventSink {
  /** Takes whole events, and whether it wants more now; else it asks for them by `more`. */
  write(text: string): boolean;
  /** Whether all that it took went on, so that it is known to be read. */
  readonly empty: boolean;
  end(): void;
}

/** The body of an answer in events: bytes for whoever reads it, or the events' text for a server that has a quicker way than a Web stream. */
export class EventStream extends ReadableStream<Uint8Array> {
  readonly #events: Events;

  constructor(events: Events) {
    super(
      {
        start: (controller) => events.writeTo(new ControllerSink(controller)),
        pull: () => events.more(),
        cancel: () => events.left(),
      },
      // Nothing is asked for ahead of the reader.
      { highWaterMark: 0 },
    );
    this.#events = events;
  }

  /** From now on the events go to `sink`. Only for a stream that nobody has read from. */
  writeTo(sink: EventSink): Pick<Events, 'more' | 'left'> {
    this.#events.writeTo(sink);
    return this.#events;
  }
}

class ControllerSink implements EventSink {
  constructor(private readonly controller: ReadableStreamDefaultController<Uint8Array>) {}

  write(text: string): boolean {
    this.controller.enqueue(encoder.encode(text));
    return false;
  }

  get empty(): boolean {
    return this.controller.desiredSize === 0;
  }

  end(): void {
    this.controller.close();
  }
}

/** The text of a stream. What every token passes makes no closures and no async functions of its own. */
class Events {
  #sink: EventSink | null = null;
  #ahead: Promise<Chunks> | null;
  /** Whether it begins with a comment: nothing else was there in time. */
  #late: boolean;
  #asking = false;
  #aborted = false;
  #over = false;
  /** Whether anything was sent since the last look. */
  #sent = false;

  constructor(
    private readonly chunks: ChunkSource,
    private readonly form: StreamForm,
    private readonly hooks: Hooks,
    private readonly timer: Silence,
    begun: { readonly first: Promise<Chunks>; readonly late: boolean },
  ) {
    this.#ahead = begun.first;
    this.#late = begun.late;
    timer.start(() => {
      // A reader that does not read needs no comments.
      if (!this.#sent && this.#sink?.empty === true) this.#sink.write(form.style.keepAlive);
      this.#sent = false;
    });
  }

  writeTo(sink: EventSink): void {
    this.#sink = sink;
    if (this.#over) sink.end();
  }

  /** The sink has room. */
  more(): void {
    if (this.#asking || this.#over) return;
    if (this.#late) {
      this.#late = false;
      if (this.#sink?.write(this.form.style.keepAlive) !== true) return;
    }
    this.#asking = true;
    const next = this.#ahead ?? this.chunks.next();
    this.#ahead = null;
    next.then(this.#put, this.#fail);
  }

  /** The chunks end by themselves now, after at most one more: whether or not there is room. */
  aborted(): void {
    this.#aborted = true;
    this.more();
  }

  /** The reader is gone. */
  left(): void {
    if (this.#over) return;
    this.#over = true;
    this.timer.stop();
    this.hooks.left();
    this.chunks.return();
  }

  readonly #put = (result: Chunks): void => {
    this.#asking = false;
    if (this.#over) return;
    try {
      this.#write(result);
    } catch (error) {
      this.#fail(error);
    }
  };

  readonly #fail = (error: unknown): void => {
    if (this.#over) return;
    this.hooks.failed(error);
    this.#end(event(this.form.failure(toApiError(error)), this.form.style));
  };

  #write(result: Chunks): void {
    this.#sent = true;
    const { style } = this.form;
    if (result.done === true) {
      this.#end(doneEvent(style));
      return;
    }
    let text = '';
    for (const chunk of result.value) text += event(chunk, style);
    if (text === '' || this.#sink?.write(text) === true || this.#aborted) this.more();
  }

  #end(last: string): void {
    this.#over = true;
    this.timer.stop();
    if (last !== '') this.#sink?.write(last);
    this.#sink?.end();
  }
}

function event(chunk: object | string, { named }: StreamStyle): string {
  if (typeof chunk === 'string') return `data: ${chunk}\n\n`;
  const data = `data: ${JSON.stringify(chunk)}\n\n`;
  return named && 'type' in chunk ? `event: ${chunk.type}\n${data}` : data;
}

const doneEvent = ({ done }: StreamStyle) => (done === null ? '' : `data: ${done}\n\n`);
