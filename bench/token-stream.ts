import { once } from 'node:events';
import { type Agent, request } from 'node:http';

const PROMPT_TOKENS = 64;

/** Asks for a stream and tells of each token that comes; resolves with how many came. The first id of its prompt is the stream's number. */
export async function readStream(
  url: string,
  agent: Agent,
  { stream, tokens }: { readonly stream: number; readonly tokens: number },
  token: (offset: number) => void,
): Promise<number> {
  const body = JSON.stringify({
    model: 'quire-pico',
    prompt: Array.from({ length: PROMPT_TOKENS }, (_, i) => (i === 0 ? stream : 300 + ((stream * 7 + i) % 3000))),
    max_tokens: tokens,
    ignore_eos: true,
    stream: true,
    return_token_ids: true,
  });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const sent = request(`${url}/v1/completions`, { method: 'POST', agent, headers });
  sent.end(body);
  const [response] = await once(sent, 'response');
  let count = 0;
  let rest = '';
  for await (const bytes of response as AsyncIterable<Buffer>) {
    const events = (rest + bytes.toString()).split('\n\n');
    rest = events.pop() ?? '';
    // A hub that is behind puts several tokens into one event.
    for (const event of events) for (const _id of tokenIds(event)) token(count++);
  }
  return count;
}

function tokenIds(event: string): readonly number[] {
  if (!event.startsWith('data: {')) return [];
  const chunk = JSON.parse(event.slice('data: '.length)) as { choices: { token_ids?: number[] }[] };
  return chunk.choices[0]?.token_ids ?? [];
}
