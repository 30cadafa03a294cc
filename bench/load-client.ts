/** A process of its own that reads many streams of a server at once, for `frontends.ts`: the same for whatever server it is. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';

export interface Load {
  readonly url: string;
  readonly model: string;
  /** The server's process, whose CPU time is read. */
  readonly pid: number;
  readonly streams: number;
  /** Of each stream. */
  readonly tokens: number;
}

/** Of the time in which all streams ran: neither their beginnings nor their ends are in it. */
export interface LoadResult {
  readonly tokens: number;
  /** Events a token: fewer than one where a token alone is no text, or several came at once. */
  readonly eventsPerToken: number;
  readonly seconds: number;
  /** Microseconds of the server's CPU time. */
  readonly user: number;
  readonly system: number;
}

const PROMPT_TOKENS = 64;
/** The first tokens of a stream set up what the later ones use. */
const SKIPPED = 10;
/** Of `/proc/PID/stat`, in microseconds: Linux has 100 a second wherever Node runs. */
const TICK = 10_000;
const CHOICE = '"choices":[{';

interface Moment {
  readonly events: number;
  readonly at: number;
  readonly user: number;
  readonly system: number;
}

process.on('message', async (load: Load) => process.send?.(await run(load)));
process.on('disconnect', () => process.exit());

async function run(load: Load): Promise<LoadResult> {
  const agent = new Agent({ keepAlive: true, maxSockets: load.streams });
  let events = 0;
  let settled = 0;
  let begin: Moment | null = null;
  let end: Moment | null = null;
  const now = (): Moment => ({ events, at: performance.now(), ...cpuTime(load.pid) });
  const one = async (stream: number) => {
    let own = 0;
    const tokens = await readEvents(load, stream, agent, (count) => {
      events += count;
      own += count;
      if (own >= SKIPPED && own - count < SKIPPED && ++settled === load.streams) begin = now();
    });
    end ??= now();
    if (tokens !== load.tokens)
      throw new Error(`${load.url} gave ${tokens} tokens where ${load.tokens} were asked for.`);
  };
  await Promise.all(Array.from({ length: load.streams }, (_, stream) => one(stream)));
  agent.destroy();
  // TypeScript does not see what callbacks set.
  const [from, to] = [begin as Moment | null, end as Moment | null];
  if (from === null || to === null || to.at <= from.at)
    throw new Error(`${load.url}: some streams ended before others began. Ask for more tokens of each.`);
  const eventsPerToken = events / (load.streams * load.tokens);
  return {
    tokens: (to.events - from.events) / eventsPerToken,
    eventsPerToken,
    seconds: (to.at - from.at) / 1000,
    user: to.user - from.user,
    system: to.system - from.system,
  };
}

/** Tells how many events each piece had; resolves with the tokens by the answer's own count. */
async function readEvents(
  { url, model, tokens }: Load,
  stream: number,
  agent: Agent,
  came: (events: number) => void,
): Promise<number> {
  const body = JSON.stringify({
    model,
    prompt: Array.from({ length: PROMPT_TOKENS }, (_, i) => 300 + ((stream * 7 + i * (stream + 1)) % 3000)),
    max_tokens: tokens,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const sent = request(`${url}/v1/completions`, { method: 'POST', agent, headers });
  sent.end(body);
  const [response] = await once(sent, 'response');
  let rest = '';
  let last = '';
  for await (const bytes of response as AsyncIterable<Buffer>) {
    const events = (rest + bytes.toString('latin1')).split('\n\n');
    rest = events.pop() ?? '';
    let count = 0;
    for (const event of events) {
      if (event.includes(CHOICE)) count += 1;
      else if (event.includes('completion_tokens')) last = event;
    }
    if (count > 0) came(count);
  }
  return Number(/"completion_tokens":(\d+)/.exec(last)?.[1] ?? 0);
}

/** User and system time of a process with all its threads. */
function cpuTime(pid: number): { user: number; system: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The second field is a name in parentheses, which may have spaces; user and system time are the 14th and 15th (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { user: Number(fields[11]) * TICK, system: Number(fields[12]) * TICK };
}
