import type { KernelCall } from '../gpu/kernel.ts';
import { bytesPerValue, DTYPE_CODE, isBlockDtype, type WeightDtype } from './dtype.ts';

const WORKGROUP = 64;

export interface EmbedArgs {
  readonly label: string;
  /** Rows to dispatch. */
  readonly bucket: number;
  readonly width: number;
  /** Tokens whose rows `weight` holds. */
  readonly tokens: { readonly first: number; readonly count: number };
  readonly dtype: WeightDtype;
  /** Word of `weight` where its scales begin; of weights in blocks only. */
  readonly scalesAt?: number;
  readonly scale: number;
  /** [bucket] vec4<u32>(slot, position, token, active) */
  readonly rows: GPUBuffer;
  /** [tokens.count][width] as stored */
  readonly weight: GPUBuffer;
  /** [bucket][width] f32 */
  readonly out: GPUBuffer;
}

/** out[r] = weight[token of row r - tokens.first] * scale, for active rows with one of the tokens; the others stay. */
export function embed(a: EmbedArgs): KernelCall {
  if (isBlockDtype(a.dtype) && a.scalesAt === undefined)
    throw new Error(`${a.label}: where the scales of its ${a.dtype} weight begin is not said.`);
  return {
    label: a.label,
    shader: 'embed.wgsl',
    constants: {
      FIRST: a.tokens.first,
      TOKENS: a.tokens.count,
      WIDTH: a.width,
      DTYPE: DTYPE_CODE[a.dtype],
      SCALES_AT: a.scalesAt ?? 0,
      SCALE: a.scale,
      WORKGROUP,
    },
    bindings: [
      { buffer: a.rows, access: 'read' },
      { buffer: a.weight, access: 'read' },
      { buffer: a.out, access: 'read_write' },
    ],
    workgroups: [Math.ceil(a.width / WORKGROUP), a.bucket, 1],
    bytes: a.bucket * a.width * (bytesPerValue(a.dtype) + 4),
    flops: a.bucket * a.width,
  };
}
