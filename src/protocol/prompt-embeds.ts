import * as z from 'zod';

/** Most bytes of the embeddings that one request brings in the place of token ids; also of the file that holds them. */
export const MAX_EMBEDS_BYTES = 15 << 20;
/** The same in base64, four characters for each three bytes. */
export const MAX_EMBEDS_CHARS = Math.ceil(MAX_EMBEDS_BYTES / 3) * 4;

/** What a prompt has in the place of each token id where its embeddings are given: no model has such an id. */
export const NO_ID = 0xffffffff;

export const EmbedsDtype = z.enum(['f32', 'f16', 'bf16']);
export type EmbedsDtype = z.infer<typeof EmbedsDtype>;

/** Embeddings of a whole prompt: what the first layer gets. A scale that a model multiplies its own embeddings by is in them. */
export const PromptEmbeds = z.object({
  dtype: EmbedsDtype,
  /** Base64 of [prompt.length][hidden size], little-endian. */
  data: z.string().min(4).max(MAX_EMBEDS_CHARS),
});
export type PromptEmbeds = z.infer<typeof PromptEmbeds>;
