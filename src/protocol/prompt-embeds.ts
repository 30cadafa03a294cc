/** Most bytes of the embeddings that one request brings in the place of token ids; also of the file that holds them. */
export const MAX_EMBEDS_BYTES = 15 << 20;

/** Types of their values. */
export const EMBEDS_DTYPES = ['f32', 'f16', 'bf16'] as const;
export type EmbedsDtype = (typeof EMBEDS_DTYPES)[number];
