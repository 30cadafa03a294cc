import { type ClientRequest, request } from 'node:http';

/** What came back. `body` is what was read until the end, or until the client left. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
  /** Whether the answer came to its end. */
  readonly whole: boolean;
}

/** One HTTP request on a connection of its own, which the client can cut at any moment. */
export class RawRequest {
  readonly answer: Promise<RawAnswer>;
  readonly #request: ClientRequest;
  #body = '';
  #events = 0;
  #waiting: { events: number; resolve: () => void } | null = null;

  constructor(url: string, method: 'POST' | 'DELETE' | 'GET', body: object | null, headers: Record<string, string>) {
    const text = body === null ? '' : JSON.stringify(body);
    this.#request = request(url, {
      method,
      agent: false,
      headers: {
        ...headers,
        ...(text && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
      },
    });
    this.answer = new Promise((resolve) => {
      const end = (status: number, answered: RawAnswer['headers'], whole: boolean) => {
        this.#wake(Number.POSITIVE_INFINITY);
        resolve({ status, headers: answered, body: this.#body, whole });
      };
      this.#request.on('error', () => end(0, {}, false));
      this.#request.on('response', (response) => {
        response.setEncoding('utf8');
        response.on('data', (part: string) => {
          this.#body += part;
          this.#events = this.#body.split('\n\n').length - 1;
          this.#wake(this.#events);
        });
        response.on('error', () => {});
        response.on('close', () => end(response.statusCode ?? 0, response.headers, response.complete));
      });
    });
    this.#request.end(text);
  }

  get soFar(): string {
    return this.#body;
  }

  /** Cuts the connection. */
  leave(): void {
    this.#request.destroy();
  }

  /** Resolves when so many server-sent events came, or none will come any more. */
  events(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting = { events: count, resolve };
      this.#wake(this.#events);
    });
  }

  #wake(events: number): void {
    if (this.#waiting === null || events < this.#waiting.events) return;
    this.#waiting.resolve();
    if (Number.isFinite(events)) this.#waiting = null;
  }
}

/** The data of a stream's events. */
export function eventsOf({ body }: RawAnswer): string[] {
  return body
    .split('\n\n')
    .filter((event) => event.startsWith('data: '))
    .map((event) => event.slice('data: '.length));
}
