import { createBlockHasher } from '../src/protocol/hashes.ts';
import { PrefixCache } from '../test/support/prefix-cache.ts';
import { type HubMessageOf, ScriptedNode } from '../test/support/scripted-node.ts';

/** Tokens of a KV block, of all that is compared. */
export const BLOCK_SIZE = 16;
/** Sequences that compute at once. */
export const MAX_SEQUENCES = 256;
/** More than a run fills: nothing is evicted. */
export const BLOCKS = 1 << 20;
/** How often a node tells of its load, as a page does. */
const LOAD_MS = 1000;

interface Running {
  readonly message: HubMessageOf<'generate'>;
  /** Prompt and answer so far. */
  readonly tokens: number[];
}

const hasher = await createBlockHasher('xxh3');

/**
 * A node that plays an engine: each step gives the next token of every request, in one message as a node sends it, with the events of its prefix cache. A
 * step takes as long whatever is in it; an engine that has nothing to do begins one as soon as a request comes.
 */
export class ScriptedPlayer {
  readonly #cache = new PrefixCache(hasher, BLOCK_SIZE);
  readonly #loads: NodeJS.Timeout;
  #running: Running[] = [];
  #step: NodeJS.Timeout | null = null;
  #computed = 0;

  private constructor(
    private readonly node: ScriptedNode,
    private readonly stepMs: number,
  ) {
    // After the node's own listener, which keeps what came.
    node.socket.on('message', () => this.#take());
    this.#loads = setInterval(() => {
      const usedBlocks = this.#running.reduce((sum, { tokens }) => sum + Math.ceil(tokens.length / BLOCK_SIZE), 0);
      node.load({ steps: this.#computed }, { running: this.#running.length, usedBlocks, totalBlocks: BLOCKS });
    }, LOAD_MS);
  }

  /** stepMs: how long a step takes. */
  static async join(hubUrl: string, stepMs: number): Promise<ScriptedPlayer> {
    const card = { maxNumSeqs: MAX_SEQUENCES, totalBlocks: BLOCKS };
    return new ScriptedPlayer(await ScriptedNode.join(hubUrl, { reply: null, card }), stepMs);
  }

  async leave(): Promise<void> {
    clearInterval(this.#loads);
    clearTimeout(this.#step ?? undefined);
    await this.node.leave();
  }

  #take(): void {
    for (const message of this.node.received.splice(0)) {
      if (message.type === 'generate') {
        const { prompt } = message.generate;
        this.#running.push({ message, tokens: [...prompt] });
        this.#cache.compute(prompt);
      } else if (message.type === 'cancel') {
        this.#running = this.#running.filter(({ message: { generate } }) => generate.request !== message.request);
      }
    }
    if (this.#step === null) this.#steps();
  }

  /** One step, and those that follow. */
  #steps(): void {
    this.#step = this.#running.length === 0 ? null : setTimeout(() => this.#steps(), this.stepMs);
    if (this.#step === null) return;
    this.#computed += 1;
    const frames = this.#running.map((running) => this.#frame(running));
    this.node.send({ type: 'tokens', epoch: this.node.welcome?.epoch ?? 0, frames });
    this.#running = this.#running.filter((_, at) => frames[at]?.finish === undefined);
    const events = this.#cache.takeEvents();
    if (events.length > 0) this.node.send({ type: 'kv_events', rank: 0, events });
  }

  #frame({ message: { attempt, generate }, tokens }: Running) {
    const offset = tokens.length - generate.prompt.length;
    const token = 400 + ((offset + generate.prompt[0]!) % 400);
    tokens.push(token);
    if (tokens.length % BLOCK_SIZE === 0) this.#cache.compute(tokens);
    return {
      ...{ request: generate.request, attempt, choice: 0, offset, tokens: [token] },
      ...(offset === 0 ? { cachedTokens: 0 } : {}),
      ...(offset + 1 === generate.sampling.maxTokens ? { finish: 'length' as const } : {}),
    };
  }
}
