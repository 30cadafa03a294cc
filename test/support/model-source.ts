import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** One request that came in. */
export interface Asked {
  readonly server: 'hub' | 'cdn';
  /** With its query. */
  readonly path: string;
  readonly range: string | undefined;
  readonly token: string | undefined;
  /** Bytes of the body that were written. */
  bytes: number;
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

export const COMMIT = 'c0ffee'.padEnd(40, '0');

/**
 * A server that answers as huggingface.co does for one model, `org/tiny`, and a second one that holds its large files, as its CDN does.
 * Both count what they give.
 */
export class ModelSource {
  readonly asked: Asked[] = [];
  /** Takes the next requests for a path that ends so, before the usual answer does. */
  readonly instead: { readonly path: string; readonly answer: Answer }[] = [];
  /** Of each file: what the list says of its hash, where that is not the truth. */
  readonly claimed = new Map<string, string>();
  /** Where requests for large files are sent on to; null = to the second server. */
  sendOn: string | null = null;
  /** Token without which nothing is answered. */
  token: string | null = null;

  private constructor(
    readonly files: Map<string, Buffer>,
    private readonly hub: Server,
    private readonly cdn: Server,
  ) {}

  static async start(files: Readonly<Record<string, Uint8Array>>): Promise<ModelSource> {
    const contents = new Map(Object.entries(files).map(([name, bytes]) => [name, Buffer.from(bytes)]));
    const hub = createServer((request, response) => source.answer('hub', request, response));
    const cdn = createServer((request, response) => source.answer('cdn', request, response));
    const source = new ModelSource(contents, hub, cdn);
    for (const server of [hub, cdn]) await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return source;
  }

  get endpoint(): string {
    return `http://${hostOf(this.hub)}`;
  }

  get cdnHost(): string {
    return hostOf(this.cdn);
  }

  /** Requests whose path holds this text. */
  asks(text: string): Asked[] {
    return this.asked.filter(({ path }) => path.includes(text));
  }

  close(): void {
    for (const server of [this.hub, this.cdn]) {
      server.closeAllConnections();
      server.close();
    }
  }

  private answer(server: Asked['server'], request: IncomingMessage, response: ServerResponse): void {
    const asked: Asked = {
      server,
      path: request.url ?? '',
      range: request.headers.range,
      token: request.headers.authorization,
      bytes: 0,
    };
    this.asked.push(asked);
    const { pathname } = new URL(asked.path, this.endpoint);
    const instead = this.instead.findIndex(({ path }) => pathname.endsWith(path));
    if (instead >= 0) this.instead.splice(instead, 1)[0]!.answer(request, response);
    else if (server === 'cdn') this.give(decodeURIComponent(pathname.slice(1)), asked, response);
    else if (this.token !== null && asked.token !== `Bearer ${this.token}`) response.writeHead(401).end();
    else this.answerHub(pathname, asked, response);
  }

  private answerHub(pathname: string, asked: Asked, response: ServerResponse): void {
    const api = '/api/models/org/tiny';
    const file = new RegExp(`^/org/tiny/resolve/${COMMIT}/(.+)$`).exec(pathname)?.[1];
    const [, folder] = new RegExp(`^${api}/tree/${COMMIT}(?:/(.+))?$`).exec(pathname) ?? [];
    if (pathname === `${api}/revision/main` || pathname === `${api}/revision/${COMMIT}`) {
      json(response, { sha: COMMIT });
    } else if (pathname.startsWith(`${api}/tree/${COMMIT}`)) {
      json(response, this.list(folder === undefined ? '' : `${folder}/`));
    } else if (file === undefined) {
      response.writeHead(404).end();
    } else if (isLarge(file)) {
      const location = this.sendOn ?? `http://${this.cdnHost}`;
      response.writeHead(302, { location: `${location}/${file}?signed=1`, 'content-length': 0 }).end();
    } else {
      this.give(decodeURIComponent(file), asked, response);
    }
  }

  /** prefix: of the paths of a folder's files. */
  private list(prefix: string) {
    const inside = [...this.files].filter(
      ([path]) => path.startsWith(prefix) && !path.slice(prefix.length).includes('/'),
    );
    const entries = inside.map(([path, bytes]) => {
      const sha256 = this.claimed.get(path) ?? createHash('sha256').update(bytes).digest('hex');
      const git = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
      const lfs = isLarge(path) ? { lfs: { oid: sha256, size: bytes.length, pointerSize: 133 } } : {};
      return { type: 'file', path, size: bytes.length, oid: isLarge(path) ? 'a'.repeat(40) : git, ...lfs };
    });
    return [{ type: 'directory', path: 'onnx', oid: 'b'.repeat(40), size: 0 }, ...entries];
  }

  private give(name: string, asked: Asked, response: ServerResponse): void {
    const bytes = this.files.get(name);
    if (bytes === undefined) {
      response.writeHead(404).end();
      return;
    }
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(asked.range ?? '') ?? [];
    const from = Number(first ?? 0);
    const to = last ? Number(last) + 1 : bytes.length;
    const part = bytes.subarray(from, to);
    asked.bytes += part.length;
    const range = first === undefined ? {} : { 'content-range': `bytes ${from}-${to - 1}/${bytes.length}` };
    response.writeHead(first === undefined ? 200 : 206, { 'content-length': part.length, ...range }).end(part);
  }
}

/** Gives the bytes from where it is asked to, and cuts the connection after `count` of them. */
export const cutAfter =
  (bytes: Uint8Array, count: number): Answer =>
  (request, response) => {
    const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const range = `bytes ${from}-${bytes.length - 1}/${bytes.length}`;
    response.writeHead(from === 0 ? 200 : 206, {
      'content-length': bytes.length - from,
      ...(from === 0 ? {} : { 'content-range': range }),
    });
    response.write(bytes.subarray(from, from + count), () => response.destroy());
  };

export const statusWith =
  (status: number, headers: Record<string, string> = {}): Answer =>
  (_, response) =>
    void response.writeHead(status, headers).end();

const isLarge = (name: string): boolean => /\.(safetensors|gguf)$/.test(name);

function hostOf(server: Server): string {
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function json(response: ServerResponse, value: unknown): void {
  const body = Buffer.from(JSON.stringify(value));
  response.writeHead(200, { 'content-length': body.length }).end(body);
}
