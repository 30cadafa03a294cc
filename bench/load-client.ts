/** A process of its own that keeps many streams of a server busy and measures what comes, for `dynamo.ts`: the same for whatever server it is. */
import { once, setMaxListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { quantile } from './table.ts';

export interface Load {
  readonly url: string;
  readonly model: string;
  /** Each asks again as soon as it was answered. */
  readonly streams: number;
  /** No prompt of one run comes in another one. */
  readonly run: number;
  /** Processes whose CPU time is read. */
  readonly pids: readonly number[];
}

/** Of the time in which all streams ran: neither their beginnings nor their ends are in it. */
export interface LoadResult {
  readonly seconds: number;
  /** That ended. */
  readonly requests: number;
  readonly tokens: number;
  /** Milliseconds from a request to its first event, and from an event to the next one of the same request. */
  readonly first: Quantiles;
  readonly gap: Quantiles;
  /** Microseconds of CPU time, in the order of `pids`, with all threads. */
  readonly cpu: readonly CpuTime[];
}

export interface Quantiles {
  readonly p50: number;
  readonly p99: number;
}

export interface CpuTime {
  readonly user: number;
  readonly system: number;
}

const PROMPT_TOKENS = 64;
/** Tokens of an answer: each length of these as often as another. */
const [SHORTEST, LONGEST] = [50, 150];
/** Streams begin one after the other, so that requests do not all come at once. */
const RAMP_MS = 2000;
const MEASURED_MS = 6000;
/** Until what was broken off at the end is over everywhere. */
const SETTLE_MS = 500;
/** Of `/proc/PID/stat`, in microseconds: Linux has 100 a second wherever Node runs. */
const TICK = 10_000;
const CHOICE = '"choices":[{';

process.on('message', async (load: Load) => process.send?.(await run(load)));
process.on('disconnect', () => process.exit());

/** What came while it counted. */
class Seen {
  counting = false;
  requests = 0;
  events = 0;
  readonly first: number[] = [];
  readonly gaps: number[] = [];
  /** Of all requests that ended, counted or not. */
  readonly whole = { events: 0, tokens: 0 };
}

async function run(load: Load): Promise<LoadResult> {
  const agent = new Agent({ keepAlive: true, maxSockets: load.streams });
  const seen = new Seen();
  const over = new AbortController();
  setMaxListeners(load.streams, over.signal);
  const stream = async (number: number) => {
    await delay((RAMP_MS * number) / load.streams);
    for (let nth = 0; !over.signal.aborted; nth++) await ask(load, number, nth, agent, seen, over.signal);
  };
  const streams = Promise.all(Array.from({ length: load.streams }, (_, number) => stream(number)));
  const measured = measure(load.pids, seen).finally(() => over.abort());
  // A stream that fails ends the run.
  await Promise.race([streams, measured]);
  const { seconds, cpu } = await measured;
  await streams;
  agent.destroy();
  await delay(SETTLE_MS);
  const of = (values: readonly number[]) => ({ p50: quantile(values, 0.5), p99: quantile(values, 0.99) });
  const { requests, first, gaps, whole } = seen;
  return {
    seconds,
    requests,
    tokens: (seen.events * whole.tokens) / whole.events,
    first: of(first),
    gap: of(gaps),
    cpu,
  };
}

async function measure(pids: readonly number[], seen: Seen): Promise<Pick<LoadResult, 'seconds' | 'cpu'>> {
  await delay(RAMP_MS);
  seen.counting = true;
  const before = { at: performance.now(), cpu: pids.map(cpuTime) };
  await delay(MEASURED_MS);
  seen.counting = false;
  const cpu = pids.map((pid, at) => {
    const { user, system } = cpuTime(pid);
    return { user: user - before.cpu[at]!.user, system: system - before.cpu[at]!.system };
  });
  return { seconds: (performance.now() - before.at) / 1000, cpu };
}

/** One request; resolves early when all is over. */
async function ask(
  { url, model, run, streams }: Load,
  stream: number,
  nth: number,
  agent: Agent,
  seen: Seen,
  over: AbortSignal,
): Promise<void> {
  const number = (run * streams + stream) * 100 + nth;
  const tokens = SHORTEST + ((stream * 37 + nth * 61) % (LONGEST - SHORTEST + 1));
  const body = JSON.stringify({
    model,
    prompt: Array.from({ length: PROMPT_TOKENS }, (_, at) => 300 + (at < 4 ? digit(number, at) : (at * 7) % 3000)),
    max_tokens: tokens,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const begun = performance.now();
  let last = begun;
  let events = 0;
  let usage = '';
  try {
    const sent = request(`${url}/v1/completions`, { method: 'POST', agent, headers, signal: over });
    sent.end(body);
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    if (response.statusCode !== 200) throw new Error(`${url} answered ${response.statusCode}: ${await text(response)}`);
    let rest = '';
    for await (const bytes of response as AsyncIterable<Buffer>) {
      const at = performance.now();
      const pieces = (rest + bytes.toString('latin1')).split('\n\n');
      rest = pieces.pop() ?? '';
      for (const piece of pieces) {
        if (!piece.includes(CHOICE)) {
          if (piece.includes('completion_tokens')) usage = piece;
          continue;
        }
        if (seen.counting) {
          seen.events += 1;
          (events === 0 ? seen.first : seen.gaps).push(at - last);
        }
        events += 1;
        last = at;
      }
    }
  } catch (error) {
    if (over.aborted) return;
    throw error;
  }
  const came = Number(/"completion_tokens":(\d+)/.exec(usage)?.[1] ?? 0);
  if (came !== tokens) throw new Error(`${url} gave ${came} tokens where ${tokens} were asked for.`);
  if (seen.counting) seen.requests += 1;
  seen.whole.events += events;
  seen.whole.tokens += tokens;
}

function digit(number: number, at: number): number {
  return Math.floor(number / 100 ** at) % 100;
}

/** User and system time of a process with all its threads. */
function cpuTime(pid: number): CpuTime {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The second field is a name in parentheses, which may have spaces; user and system time are the 14th and 15th (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { user: Number(fields[11]) * TICK, system: Number(fields[12]) * TICK };
}
