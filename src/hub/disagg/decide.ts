/** What is known of the node that computes the answer. Rates are blocks per millisecond; null = not measured. */
export interface DecodeFacts {
  readonly prefillRate: number | null;
  /** Prompt blocks that it has to compute for others before. */
  readonly queuedBlocks: number;
  /** Leading blocks of the prompt that its prefix cache has. */
  readonly overlapBlocks: number;
  /** Sequences that run on it, and wait while it computes a prompt. */
  readonly sequences: number;
}

/** What is known of a node that could compute the prompt, and of the way from it to the decode node. */
export interface PrefillFacts {
  readonly prefillRate: number | null;
  readonly queuedBlocks: number;
  readonly overlapBlocks: number;
  /** Blocks per millisecond on the way; null = not measured. */
  readonly transferRate: number | null;
  /** Milliseconds until the channel is open; null = not measured. */
  readonly openMs: number | null;
}

export interface Question<P extends PrefillFacts> {
  readonly promptTokens: number;
  readonly blockSize: number;
  /** `--remote-prefill-min-tokens`; null = by what was measured. */
  readonly minTokens: number | null;
  readonly decode: DecodeFacts;
  readonly prefills: readonly P[];
}

/** While nobody's prefill rate is known: so many uncached tokens are worth a try, which measures. */
const FIRST_GUESS_TOKENS = 128;
/** While it is not known: until a channel of two nodes that talk through the hub is open. */
const FIRST_GUESS_OPEN_MS = 20;

/**
 * The node that shall compute the prompt for the decode node; null = the decode node itself.
 *
 *   local  = (queued blocks of D + wanted blocks) / prefill rate of D
 *   remote = opening + max((queued blocks of P + blocks that P has not) / prefill rate of P, wanted blocks / transfer rate)
 *
 * since P sends while it computes. Remote prefill pays when remote < local x (2 + running sequences of D): a prompt that D computes
 * delays each of its running answers too, and one more that may come. A prefill rate that was not measured is taken to be the other
 * node's, and a way that was not measured to cost nothing, so that it gets measured. A fixed `minTokens` decides alone.
 */
export function decide<P extends PrefillFacts>(question: Question<P>): P | null {
  const { promptTokens, blockSize, minTokens, decode, prefills } = question;
  const blocks = transferableBlocks(promptTokens, blockSize);
  const wanted = blocks - decode.overlapBlocks;
  if (wanted <= 0) return null;
  const anyRate = prefills.find(({ prefillRate }) => prefillRate !== null)?.prefillRate ?? decode.prefillRate;
  let best: P | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (const prefill of prefills) {
    // Where no rate is known at all, one of 1 still puts the nodes in the right order.
    const rate = prefill.prefillRate ?? decode.prefillRate ?? anyRate ?? 1;
    const computing = (prefill.queuedBlocks + Math.max(0, blocks - prefill.overlapBlocks)) / rate;
    const moving = prefill.transferRate === null ? 0 : wanted / prefill.transferRate;
    const ms = (prefill.openMs ?? FIRST_GUESS_OPEN_MS) + Math.max(computing, moving);
    if (ms >= least) continue;
    least = ms;
    best = prefill;
  }
  if (best === null) return null;
  const uncached = promptTokens - decode.overlapBlocks * blockSize;
  if (minTokens !== null) return uncached >= minTokens ? best : null;
  const localRate = decode.prefillRate ?? best.prefillRate ?? anyRate;
  if (localRate === null) return uncached >= FIRST_GUESS_TOKENS ? best : null;
  const local = (decode.queuedBlocks + wanted) / localRate;
  return least < local * (2 + decode.sequences) ? best : null;
}

/** Full blocks of a prompt without its last token, which the decode node always computes. */
export function transferableBlocks(promptTokens: number, blockSize: number): number {
  return Math.floor((promptTokens - 1) / blockSize);
}
