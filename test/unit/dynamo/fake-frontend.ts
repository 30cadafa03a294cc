import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { CODECS, type CodecName } from '../../../src/dynamo/wire/codec.ts';
import { Incoming, type Read } from '../../../src/dynamo/wire/incoming.ts';
import { type TwoPart, twoParts, writeTwoPart } from '../../../src/dynamo/wire/two-part.ts';

/** A request frame as frontends write it. */
export function requestFrame(path: string, payload: Buffer, headers: object = { 'x-endpoint-path': path }): Buffer {
  const [name, json] = [Buffer.from(path), Buffer.from(JSON.stringify(headers))];
  const [nameLength, jsonLength, payloadLength] = [Buffer.alloc(2), Buffer.alloc(2), Buffer.alloc(4)];
  nameLength.writeUInt16BE(name.length);
  jsonLength.writeUInt16BE(json.length);
  payloadLength.writeUInt32BE(payload.length);
  return Buffer.concat([nameLength, name, jsonLength, json, payloadLength, payload]);
}

const acknowledgements: Read<string> = (bytes) => {
  if (bytes.length < 4) return null;
  const length = 4 + bytes.readUInt32BE(0);
  return bytes.length < length ? null : { value: bytes.toString('utf8', 4, length), length };
};

/** Values that come, for those who wait for them. */
class Inbox<T> {
  readonly all: T[] = [];
  #ended = false;
  #changed = () => {};

  push(...values: T[]): void {
    this.all.push(...values);
    this.#changed();
  }

  end(): void {
    this.#ended = true;
    this.#changed();
  }

  /** Resolves when there are so many, or no more will come. */
  async first(count: number): Promise<T[]> {
    while (this.all.length < count && !this.#ended) await new Promise<void>((resolve) => (this.#changed = resolve));
    return this.all.slice(0, count);
  }
}

/** One answer as the frontend sees it. */
export class HomeStream {
  readonly #messages = new Inbox<TwoPart>();
  readonly ended: Promise<void>;

  constructor(
    readonly socket: Socket,
    readonly codec: CodecName,
  ) {
    const incoming = new Incoming(twoParts(1 << 24));
    socket.on('data', (chunk) => this.#messages.push(...incoming.push(chunk)));
    socket.on('error', () => {});
    this.ended = once(socket, 'end').then(
      () => this.#messages.end(),
      () => this.#messages.end(),
    );
    socket.on('close', () => this.#messages.end());
  }

  /** All messages, in bytes, once the sentinel has come or the worker has closed. Then the frontend closes. */
  async bytes(): Promise<Buffer> {
    for (let count = 1; ; count++) {
      const messages = await this.#messages.first(count);
      if (messages.length === count && messages.at(-1)?.header.toString() !== '"sentinel"') continue;
      this.socket.end();
      return Buffer.concat(messages.map((message) => writeTwoPart(message)));
    }
  }

  /** Bodies and headers of the first messages, or of all where there are fewer. */
  async messages(count = Number.POSITIVE_INFINITY): Promise<unknown[]> {
    const messages = await this.#messages.first(count);
    return messages.map(({ header, body }) =>
      body.length > 0 ? CODECS[this.codec].decode(body) : JSON.parse(header.toString()),
    );
  }

  say(word: string): void {
    this.socket.write(writeTwoPart({ header: Buffer.from(JSON.stringify(word)) }));
  }
}

/** What a Dynamo frontend does on the request plane: one connection for all requests, and a port that answers come to. */
export class FakeFrontend {
  readonly acks = new Inbox<string>();
  readonly #homes: Inbox<Socket>;
  #streams = 0;

  private constructor(
    readonly requests: Socket,
    readonly server: Server,
    homes: Inbox<Socket>,
  ) {
    this.#homes = homes;
    const incoming = new Incoming(acknowledgements);
    requests.on('data', (chunk) => this.acks.push(...incoming.push(chunk)));
    requests.on('error', () => {});
    requests.on('close', () => this.acks.end());
  }

  /** address: of the request plane. */
  static async start(address: string, host = '127.0.0.1'): Promise<FakeFrontend> {
    const homes = new Inbox<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => homes.push(socket));
    server.listen(0, host);
    await once(server, 'listening');
    const colon = address.lastIndexOf(':');
    const requests = connect(Number(address.slice(colon + 1)), address.slice(0, colon).replace(/^\[(.*)\]$/, '$1'));
    await once(requests, 'connect');
    return new FakeFrontend(requests, server, homes);
  }

  get home(): string {
    const { address, port } = this.server.address() as AddressInfo;
    return `${address}:${port}`;
  }

  /** The bytes of a request; `home`: where its answer shall go. */
  frame(
    path: string,
    body: unknown,
    {
      codec = 'json',
      subject = randomUUID(),
      home = this.home,
    }: { codec?: CodecName; subject?: string; home?: string } = {},
  ): Buffer {
    const id = randomUUID();
    const info = JSON.stringify({ address: home, subject, context: id, stream_type: 'response' });
    const control = {
      ...{ id, request_type: 'single_in', response_type: 'many_out', payload_codec: codec },
      connection_info: { transport: 'tcp_server', info },
    };
    const header = Buffer.from(JSON.stringify(control));
    return requestFrame(path, writeTwoPart({ header, body: CODECS[codec].encode(body) }));
  }

  /** Sends a request; resolves to its answer when the worker has called home. */
  async ask(path: string, body: unknown, options: Parameters<FakeFrontend['frame']>[2] = {}): Promise<HomeStream> {
    this.requests.write(this.frame(path, body, options));
    return this.next(options.codec ?? 'json');
  }

  /** The next connection that comes home. */
  async next(codec: CodecName = 'json'): Promise<HomeStream> {
    this.#streams += 1;
    const homes = await this.#homes.first(this.#streams);
    return new HomeStream(homes[this.#streams - 1]!, codec);
  }

  close(): void {
    this.requests.destroy();
    for (const socket of this.#homes.all) socket.destroy();
    this.server.close();
  }
}
