/** How numbers are held in u32 words; 16-bit ones two a word, low half first. */
export type FloatDtype = 'f32' | 'bf16' | 'f16';

/** DTYPE of `shaders/lib/dtype.wgsl`. */
export const DTYPE_CODE: Readonly<Record<FloatDtype, number>> = { f32: 0, bf16: 1, f16: 2 };

export const FLOAT_BYTES: Readonly<Record<FloatDtype, number>> = { f32: 4, bf16: 2, f16: 2 };
