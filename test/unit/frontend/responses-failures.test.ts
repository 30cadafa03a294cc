import { expect, test } from 'vitest';
import { FakeClock } from '../../support/fake-clock.ts';
import { pico, servedModel, testApi } from './support.ts';

const base = { model: 'quire-pico', input: 'Weather in Łódź?' };

test('a stream that fails ends with response.failed; what fails before it began has its own status', async () => {
  const failing = (frames: number) =>
    servedModel({
      async *generate(request) {
        for (let offset = 0; offset < frames; offset++)
          yield {
            request: request.request,
            choice: 0,
            offset,
            tokens: [pico.encode('a', false)[0]!],
            cachedTokens: 0,
          };
        throw new Error('broken');
      },
    });
  const early = testApi([failing(0)]);
  await expect(early.client.responses.create({ ...base, stream: true })).rejects.toMatchObject({ status: 500 });
  const late = testApi([failing(3)]);
  const response = await late.client.responses.stream(base).finalResponse();
  expect(response).toMatchObject({ status: 'failed', error: { code: 'server_error' } });
  expect(late.internalErrors).toHaveLength(1);
  await expect(late.client.responses.retrieve(response.id)).rejects.toMatchObject({ status: 404 });
});

test('what fails before it began, but after a comment, is the one event of its stream: the client throws it', async () => {
  const clock = new FakeClock();
  let fail = () => {};
  const waiting = new Promise<void>((resolve) => {
    fail = resolve;
  });
  const model = servedModel({
    // biome-ignore lint/correctness/useYield: it fails first.
    async *generate() {
      await waiting;
      throw new Error('broken');
    },
  });
  const { client } = testApi([model], { after: (ms, task) => clock.after(ms, task), keepAliveSeconds: 10 });
  const asked = client.responses.create({ ...base, stream: true });
  await new Promise((resolve) => setTimeout(resolve));
  clock.advance(10_000);
  const stream = await asked;
  fail();
  const events: unknown[] = [];
  const read = async () => {
    for await (const event of stream) events.push(event);
  };
  await expect(read()).rejects.toMatchObject({ code: 'internal_error', message: expect.stringContaining('failed') });
  expect(events).toEqual([]);
});
