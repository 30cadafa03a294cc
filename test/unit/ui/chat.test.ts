import { beforeEach, describe, expect, test } from 'vitest';
import type { ApiFetch } from '../../../src/node/page/worker-fetch.ts';
import { Chat } from '../../../src/ui/chat.ts';
import { apiKeyWanted, chatBusy, chatSettings, turns } from '../../../src/ui/state.ts';

const encode = (text: string) => new TextEncoder().encode(text);
const data = (value: unknown) => encode(`data: ${JSON.stringify(value)}\n\n`);
const piece = (content: string, tokens: number, finish: string | null = null) =>
  data({ choices: [{ delta: { content }, finish_reason: finish, token_ids: Array(tokens).fill(7) }] });
const USAGE = data({
  choices: [],
  usage: { prompt_tokens: 40, completion_tokens: 3, prompt_tokens_details: { cached_tokens: 32 } },
});
const DONE = encode('data: [DONE]\n\n');

/** An API whose answers the test writes, and a clock that it turns. */
class World {
  now = 1000;
  readonly bodies: { messages: unknown; temperature?: number }[] = [];
  private waiting: ((value: ReadableStreamDefaultController<Uint8Array>) => void) | null = null;
  readonly chat: Chat;

  constructor(answer: { status: number; body: string } | null = null, model: string | null = 'pico') {
    const fetchApi: ApiFetch = async (_path, { body, signal }) => {
      this.bodies.push(JSON.parse(body ?? 'null'));
      if (answer) return new Response(answer.body, { status: answer.status });
      const stream = new ReadableStream<Uint8Array>({
        start: (controller) => {
          signal.addEventListener('abort', () => controller.error(signal.reason));
          this.waiting?.(controller);
        },
      });
      return new Response(stream);
    };
    this.chat = new Chat(
      fetchApi,
      () => model,
      () => this.now,
    );
  }

  /** The stream of the next question. */
  asked(): Promise<ReadableStreamDefaultController<Uint8Array>> {
    return new Promise((resolve) => {
      this.waiting = resolve;
    });
  }
}

const settled = () => new Promise((resolve) => setTimeout(resolve));

/** Sends a question and answers it, `gapMs` between its pieces. */
async function converse(world: World, question: string, pieces: readonly Uint8Array[], gapMs: number): Promise<void> {
  const asked = world.asked();
  const sent = world.chat.send(question);
  const stream = await asked;
  for (const bytes of pieces) {
    world.now += gapMs;
    stream.enqueue(bytes);
    await settled();
  }
  stream.close();
  await sent;
}

beforeEach(() => {
  turns.value = [];
  apiKeyWanted.value = false;
  chatSettings.value = { temperature: null, maxTokens: 64 };
});

describe('the playground’s conversation', () => {
  test('grows with its stream and measures it', async () => {
    const world = new World();
    await converse(world, 'Hi', [piece('Hel', 1), piece('lo', 1), piece('!', 1, 'stop'), USAGE, DONE], 500);
    expect(turns.value).toMatchObject([
      {
        question: 'Hi',
        answer: 'Hello!',
        status: 'done',
        // First piece after 500 ms, then two tokens in 1000 ms.
        stats: { firstTokenMs: 500, tokensPerSecond: 2, completionTokens: 3, promptTokens: 40, cachedTokens: 32 },
      },
    ]);
    expect(chatBusy.value).toBe(false);
  });

  test('keeps reasoning apart, and does not send it back', async () => {
    const world = new World();
    const thought = data({ choices: [{ delta: { reasoning_content: 'hm' }, finish_reason: null, token_ids: [7] }] });
    await converse(world, 'Hi', [thought, thought, piece('Yes', 1, 'stop'), USAGE, DONE], 1);
    expect(turns.value).toMatchObject([{ reasoning: 'hmhm', answer: 'Yes', stats: { completionTokens: 3 } }]);
    await converse(world, 'So?', [piece('.', 1, 'stop'), USAGE, DONE], 1);
    expect(world.bodies[1]?.messages).toContainEqual({ role: 'assistant', content: 'Yes' });
  });

  test('claims no speed for a burst', async () => {
    const world = new World();
    await converse(world, 'Hi', [piece('Hel', 1), piece('lo!', 12, 'stop'), USAGE, DONE], 10);
    expect(turns.value[0]?.stats?.tokensPerSecond).toBeNull();
  });

  test('sends what was said before, and only a temperature that was chosen', async () => {
    const world = new World();
    await converse(world, 'One', [piece('1', 1, 'stop'), USAGE, DONE], 1);
    chatSettings.value = { temperature: 0, maxTokens: 64 };
    await converse(world, 'Two', [piece('2', 1, 'stop'), USAGE, DONE], 1);
    expect(world.bodies.map((body) => body.temperature)).toEqual([undefined, 0]);
    expect(world.bodies[1]?.messages).toEqual([
      { role: 'user', content: 'One' },
      { role: 'assistant', content: '1' },
      { role: 'user', content: 'Two' },
    ]);
  });

  test('keeps what came before it was stopped, and goes on', async () => {
    const world = new World();
    const asked = world.asked();
    const sent = world.chat.send('Tell me a story');
    (await asked).enqueue(piece('Once', 1));
    await settled();
    expect(turns.value[0]?.status).toBe('streaming');
    expect(chatBusy.value).toBe(true);
    world.chat.stop();
    await sent;
    expect(turns.value).toMatchObject([{ answer: 'Once', status: 'stopped', error: null }]);
    await converse(world, 'Go on', [piece('upon', 1, 'stop'), USAGE, DONE], 1);
    expect(turns.value[1]).toMatchObject({ answer: 'upon', status: 'done' });
  });

  test('says why there is no answer: the API’s own words, a missing key, no model, a broken stream', async () => {
    const error = JSON.stringify({ error: { message: 'The API key is missing or wrong.' } });
    await new World({ status: 401, body: error }).chat.send('Hi');
    expect(apiKeyWanted.value).toBe(true);
    await new World(null, null).chat.send('Hi');
    await converse(new World(), 'Hi', [piece('Hel', 1)], 1);
    expect(turns.value.map((turn) => turn.status)).toEqual(['failed', 'failed', 'failed']);
    expect(turns.value[0]?.error).toBe('The API key is missing or wrong.');
    expect(turns.value[1]?.error).toMatch(/No model is being served/);
    expect(turns.value[2]?.error).toMatch(/broke off/);
  });
});
