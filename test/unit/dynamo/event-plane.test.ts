import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { startEventPlane } from '../../../src/dynamo/events/event-plane.ts';

/** A socket that takes one message, and no other until it is let. */
class SlowSocket {
  readonly sent: number[] = [];
  closed = false;
  readonly lastEndpoint = 'tcp://127.0.0.1:1';
  #let = () => {};
  readonly #open = new Promise<void>((resolve) => {
    this.#let = resolve;
  });

  async bind(): Promise<void> {}

  async send([, , sequence]: Buffer[]): Promise<void> {
    this.sent.push(Number(sequence!.readBigUInt64BE()));
    await this.#open;
  }

  close(): void {
    this.closed = true;
  }

  letGo(): void {
    this.#let();
  }
}

async function start() {
  const socket = new SlowSocket();
  const logged: string[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void logged.push(JSON.parse(line).msg) });
  class Publisher {
    constructor() {
      // biome-ignore lint/correctness/noConstructorReturn: the plane makes its socket by `new`, and the test holds it
      return socket as unknown as Publisher;
    }
  }
  const load = async () => ({ Publisher }) as unknown as typeof import('zeromq');
  return { socket, logged, plane: await startEventPlane({ host: '127.0.0.1', log, load }) };
}

const message = (sequence: number, bytes = 10) => ({
  ...{ publisher: 1, topic: 'kv-events', sequence, publishedAt: 0 },
  payload: new Uint8Array(bytes),
});

describe('the one PUB socket', () => {
  it('keeps so many messages waiting and leaves the rest out, which is said once and shows in the numbers', async () => {
    const { socket, logged, plane } = await start();
    for (let i = 0; i < 20_000; i++) plane.publish(message(i));
    socket.letGo();
    await plane.close();
    expect(socket.sent.length).toBeLessThan(10_000);
    expect(socket.sent).toEqual(socket.sent.map((_, i) => i));
    expect(logged).toEqual([expect.stringContaining('routers ask for what they missed')]);
    expect(socket.closed).toBe(true);
  });

  it('keeps so many bytes waiting', async () => {
    const { socket, plane } = await start();
    for (let i = 0; i < 100; i++) plane.publish(message(i, 1 << 20));
    socket.letGo();
    await plane.close();
    expect(socket.sent.length).toBeLessThan(40);
  });

  it('says in one line that the package is missing', async () => {
    const load = () => Promise.reject(new Error('no such package'));
    const log = pino({ level: 'silent' });
    await expect(startEventPlane({ host: '127.0.0.1', log, load })).rejects.toThrow(
      /^--dynamo: .* zeromq, which is not installed\. Run npm install zeromq\.$/,
    );
  });
});
