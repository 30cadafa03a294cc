import type { ProductArgs } from '../kernels/product.ts';
import type { LoadedWeight } from '../weights/loaded.ts';

/** A weight's part as the right operand of a product. */
export type Operand = Pick<ProductArgs, 'n' | 'k' | 'dtype' | 'scalesAt' | 'columns' | 'weight'>;

/** What a weight of one or more parts is multiplied with: one product a part, each with columns of its own of what all of them write. */
export function operands(parts: readonly LoadedWeight[]): Operand[] {
  const of = parts.reduce((sum, { outputs }) => sum + outputs, 0);
  return parts.map(({ outputs: n, cols: k, dtype, scalesAt, firstOutput: first, buffer: weight }) => {
    return { n, k, dtype, scalesAt, columns: { first, of }, weight };
  });
}
