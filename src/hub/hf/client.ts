import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { HubStartError } from '../start-error.ts';
import type { Hosts } from './hosts.ts';
import { BusyError, type RetryIo, retryAfterMs, retrying } from './retry.ts';

const MAX_REDIRECTS = 5;
/** A connection that gives nothing for so long counts as broken. */
const STALL_MS = 30_000;
/** Of an answer that only sends on; a longer one is cut off rather than read to its end. */
const MAX_REDIRECT_BODY = 64 << 10;
const BUSY = new Set([408, 425, 429, 500, 502, 503, 504]);

export interface ClientOptions extends RetryIo {
  readonly hosts: Hosts;
  /** Goes to the endpoint's origin and nowhere else. */
  readonly token: string | null;
  readonly stallMs?: number;
}

/** Bytes `first` to `last`, both included; without `last` to the end. */
interface Range {
  readonly first: number;
  readonly last?: number;
}

/** Reads from `HF_ENDPOINT`, over the hosts that the operator allows. All methods throw `HubStartError` for what no retry mends. */
export class HfClient {
  private readonly agents = {
    'http:': new http.Agent({ keepAlive: true }),
    'https:': new https.Agent({ keepAlive: true }),
  };

  /** Throws `HubStartError` for a token that no header can carry. */
  constructor(private readonly options: ClientOptions) {
    if (options.token !== null && !/^[\x21-\x7e]+$/.test(options.token))
      throw new HubStartError('HF_TOKEN has characters that no header can carry. Copy it again.');
  }

  /** Closes what is open. */
  close(): void {
    for (const agent of Object.values(this.agents)) agent.destroy();
  }

  /** Absolute address of `path` at the endpoint. */
  url(path: string): URL {
    return new URL(path, this.options.hosts.endpoint);
  }

  /** A JSON answer of at most `maxBytes`, with the address of the page after it where there is one. */
  async json(url: URL, maxBytes: number): Promise<{ readonly value: unknown; readonly next: URL | null }> {
    return retrying(url.pathname, this.options, async () => {
      const response = await this.open(url, null);
      const text = (await readAtMost(response, maxBytes, url)).toString('utf8');
      try {
        return { value: JSON.parse(text) as unknown, next: this.nextPage(response) };
      } catch {
        throw new HubStartError(`${url} answered with something other than JSON. Is HF_ENDPOINT right?`);
      }
    });
  }

  /** Bytes `first` to `last` (both included) of a file. what: its name for messages. */
  async range(url: URL, first: number, last: number, what: string): Promise<Buffer> {
    return retrying(what, this.options, async () => {
      const response = await this.open(url, { first, last });
      // A server without ranges begins at 0.
      const skip = response.statusCode === 206 ? 0 : first;
      const wanted = last - first + 1;
      const bytes = (await readStart(response, skip + wanted)).subarray(skip, skip + wanted);
      if (bytes.byteLength < wanted) throw new Error(`the answer ended after ${bytes.byteLength} of ${wanted} bytes`);
      return bytes;
    });
  }

  /**
   * The bytes of a file from `from` on, once; throws what `retrying` may mend. `restarted`: they begin at 0 all the same, because the
   * server knows no ranges.
   */
  async stream(url: URL, from: number): Promise<{ readonly body: IncomingMessage; readonly restarted: boolean }> {
    const body = await this.open(url, from === 0 ? null : { first: from });
    if (from === 0) return { body, restarted: false };
    if (body.statusCode === 200) return { body, restarted: true };
    const range = body.headers['content-range'] ?? '';
    if (range.startsWith(`bytes ${from}-`)) return { body, restarted: false };
    body.destroy();
    throw new HubStartError(
      `${url} answered with the range "${range.slice(0, 100)}" where byte ${from} on was asked for.`,
    );
  }

  /** An answer of status 200 or 206, over at most `MAX_REDIRECTS` hosts. */
  private async open(url: URL, range: Range | null): Promise<IncomingMessage> {
    let at = url;
    for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
      const response = await this.send(at, range);
      const status = response.statusCode ?? 0;
      if (status === 200 || status === 206) return response;
      drop(response);
      const { location } = response.headers;
      if (![301, 302, 303, 307, 308].includes(status) || location === undefined) throw this.refusal(at, response);
      if (!URL.canParse(location, at))
        throw new HubStartError(`${at.host} sends on to "${location.slice(0, 200)}", which is no address.`);
      at = new URL(location, at);
    }
    throw new HubStartError(`${url} sends on more than ${MAX_REDIRECTS} times. Is HF_ENDPOINT right?`);
  }

  private send(url: URL, range: Range | null): Promise<IncomingMessage> {
    const { hosts, token, stallMs = STALL_MS } = this.options;
    hosts.check(url);
    const headers = {
      'user-agent': 'quire',
      'accept-encoding': 'identity',
      ...(range === null ? {} : { range: `bytes=${range.first}-${range.last ?? ''}` }),
      ...(token !== null && hosts.isEndpoint(url) ? { authorization: `Bearer ${token}` } : {}),
    };
    return new Promise((resolve, reject) => {
      const options = { headers, lookup: hosts.lookupFor(url), timeout: stallMs };
      const request =
        url.protocol === 'https:'
          ? https.get(url, { ...options, agent: this.agents['https:'] })
          : http.get(url, { ...options, agent: this.agents['http:'] });
      request.on('timeout', () => request.destroy(new Error(`nothing came for ${stallMs} ms`)));
      request.on('error', reject);
      request.on('response', resolve);
    });
  }

  /** What an answer without content means. */
  private refusal(url: URL, response: IncomingMessage): Error {
    const { token, hosts } = this.options;
    const status = response.statusCode ?? 0;
    const said = `${url.origin}${url.pathname} answered ${status}`;
    if (BUSY.has(status)) return new BusyError(said, retryAfterMs(response.headers['retry-after'], Date.now()));
    if (!hosts.isEndpoint(url))
      return new HubStartError(`${said}. Start again; if it stays so, the source is at fault.`);
    if (status === 401 || status === 403) {
      const next =
        token === null
          ? 'The model is not there, or it is gated or private: then set HF_TOKEN to a token that may read it.'
          : 'The token of HF_TOKEN may not read it. Ask for access on the page of the model, or use another token.';
      return new HubStartError(`${said}. ${next}`);
    }
    if (status === 404)
      return new HubStartError(`${said}: there is no such model, revision or file. Check the spelling.`);
    return new HubStartError(`${said}. Is HF_ENDPOINT right?`);
  }

  private nextPage(response: IncomingMessage): URL | null {
    const link = [response.headers.link ?? ''].flat().join(', ');
    const [, next] = /<([^>]+)>\s*;\s*rel="?next"?/.exec(link) ?? [];
    if (next === undefined) return null;
    const url = URL.canParse(next, this.options.hosts.endpoint) ? new URL(next, this.options.hosts.endpoint) : null;
    if (url !== null && this.options.hosts.isEndpoint(url)) return url;
    throw new HubStartError(
      `The list of files goes on at "${next.slice(0, 200)}", which is not ${this.options.hosts.endpoint.host}.`,
    );
  }
}

/** Reads on what is short, so that its connection serves again. */
function drop(response: IncomingMessage): void {
  const length = Number(response.headers['content-length'] ?? Number.POSITIVE_INFINITY);
  response.on('error', () => {});
  if (length <= MAX_REDIRECT_BODY) response.resume();
  else response.destroy();
}

async function readAtMost(response: IncomingMessage, maxBytes: number, url: URL): Promise<Buffer> {
  const bytes = await readStart(response, maxBytes);
  if (bytes.byteLength > maxBytes)
    throw new HubStartError(`${url} answered with more than the ${maxBytes} bytes that are read.`);
  return bytes;
}

/** An answer to its end; of one that is longer than `most`, somewhat more than so many bytes. */
async function readStart(response: IncomingMessage, most: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    parts.push(part);
    bytes += part.byteLength;
    if (bytes > most) break;
  }
  return Buffer.concat(parts);
}
