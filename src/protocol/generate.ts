import * as z from 'zod';
import { MAX_EMBEDDING_CHARS, Pooling } from './pooling.ts';
import { PromptEmbeds } from './prompt-embeds.ts';
import { MAX_STOP_IDS, MAX_TOP_LOGPROBS, SamplingParams, TokenId } from './sampling.ts';
import { Traceparent } from './traceparent.ts';

/** Longest list of ids in one message; far above any context this engine serves. */
export const MAX_IDS = 1 << 20;
export const RequestId = z.string().min(1).max(128);

const offset = z.number().int().min(0);

/** Place of a request among those that wait on a node. */
export const Priority = z
  .number()
  .int()
  .min(-(2 ** 31))
  .max(2 ** 31 - 1);

/** Name of a LoRA adapter: no path can be made of it. */
export const LoraName = z.string().regex(/^(?!\.+$)[\w.-]{1,128}$/);

/** One stream of tokens of a request: `n=3` makes choices 0, 1, 2. `generated` is what earlier attempts already gave. */
export const Choice = z.object({
  choice: z.number().int().min(0).max(127),
  generated: z.array(TokenId).max(MAX_IDS),
});
export type Choice = z.infer<typeof Choice>;

/** Longest grammar, in characters of its EBNF. */
export const MAX_GRAMMAR_LENGTH = 1 << 18;

/** A grammar in xgrammar's EBNF (https://www.w3.org/TR/xml/#sec-notation with regular repetition); it begins at the rule `root`. */
export const Grammar = z.string().min(1).max(MAX_GRAMMAR_LENGTH);

/** Marks of reasoning, as `Thought` has them, at most. */
export const MAX_MARKS = 4;
const marks = z.array(TokenId).max(MAX_MARKS);

/** Reasoning that comes, or may come, before what a grammar holds: the ids that begin it, if the prompt has not, and those that end it. */
export const Thought = z.object({
  /** The answer begins within it. */
  begun: z.boolean(),
  starts: marks,
  ends: marks.min(1),
});
export type Thought = z.infer<typeof Thought>;

/** What an engine computes: the ids of a prompt, continued for each choice, or pooled into one embedding. */
export const GenerateRequest = z.object({
  request: RequestId,
  prompt: z.array(TokenId).min(1).max(MAX_IDS),
  /** In the place of the ids: all of `prompt` is `NO_ID` then. No KV block of it is shared, and no KV event tells of it (rule G13). */
  embeds: PromptEmbeds.optional(),
  choices: z.array(Choice).min(1).max(128),
  sampling: SamplingParams,
  /** Prompts of different salts never share KV blocks. */
  cacheSalt: z.string().max(256).optional(),
  /** The LoRA adapter that it goes through; prompts of different ones share no KV blocks either. */
  loraName: LoraName.optional(),
  /** Lower goes first, as vLLM's; left out = 0. Integers of 32 bits. */
  priority: Priority.optional(),
  /** W3C trace context of whoever asked, for log lines. */
  traceparent: Traceparent.optional(),
  /** Each choice is a sentence of it, or the beginning of one where `maxTokens` ended it (rule G14). */
  grammar: Grammar.optional(),
  /** The grammar begins after it. */
  thought: Thought.optional(),
  /** Ids that stand for no text, and come where the grammar can end: it is over then, and the choice goes on free of it (vLLM's `ignore_eos`). */
  grammarEnds: z.array(TokenId).max(MAX_STOP_IDS).optional(),
  /** The prompt's embedding is wanted, and no token: choice 0 ends with it, and `sampling` is not looked at (rule G15). */
  pooling: Pooling.optional(),
  /** `false`: it neither reads nor fills the prefix cache, and no KV event tells of it (rule H3). */
  cache: z.literal(false).optional(),
});
export type GenerateRequest = z.infer<typeof GenerateRequest>;

/** What the choices of a request are held to; nothing where `grammar` is left out. */
export type HeldTo = Pick<GenerateRequest, 'grammar' | 'thought' | 'grammarEnds'>;

/** Logprob of one token (natural log of the raw softmax, before penalties and temperature, as vLLM's `raw_logprobs`). */
export const TokenLogprob = z.object({
  token: TokenId,
  logprob: z.number(),
  /** 1 = most likely. */
  rank: z.number().int().min(1),
  /** The n most likely tokens, best first, ties by lower id. */
  top: z.array(z.tuple([TokenId, z.number()])).max(MAX_TOP_LOGPROBS),
});
export type TokenLogprob = z.infer<typeof TokenLogprob>;

/** Why a choice ended. `stop` carries the id that ended it in `stopId`. */
export const FinishReason = z.enum(['stop', 'length', 'cancelled']);
export type FinishReason = z.infer<typeof FinishReason>;

/** New tokens of one choice. Frames of a choice follow each other without hole: offset + tokens.length = next offset. */
export const TokensFrame = z.object({
  request: RequestId,
  choice: z.number().int().min(0),
  /** How many tokens of the choice came before. */
  offset,
  tokens: z.array(TokenId).max(4096),
  /** One per token where the request asked for logprobs. */
  logprobs: z.array(TokenLogprob).max(4096).optional(),
  /** Once, with the first frame of choice: the prompt's logprobs; entry 0 is null (no token before it). */
  promptLogprobs: z.array(TokenLogprob.nullable()).max(MAX_IDS).optional(),
  /** Once, with the first frame of a choice: prompt tokens that came from the prefix cache. */
  cachedTokens: offset.optional(),
  /** With the end of a request that pools: base64 of its values, f32, little-endian. */
  embedding: z.string().min(4).max(MAX_EMBEDDING_CHARS).optional(),
  finish: FinishReason.optional(),
  /** The id that ended the choice; it is the last of `tokens`. */
  stopId: TokenId.optional(),
});
export type TokensFrame = z.infer<typeof TokensFrame>;
