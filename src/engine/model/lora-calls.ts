import type { KernelCall } from '../gpu/kernel.ts';
import { gated } from '../kernels/gated.ts';
import { type ColumnRun, loraExpand, loraShrink } from '../kernels/lora.ts';
import { matmul } from '../kernels/matmul.ts';
import { LORA_SITES, type LoraSite } from '../lora/sites.ts';
import { STEP_NUM_ROWS } from '../tables.ts';
import { operands } from './operand.ts';
import type { ProgramInputs, StepRows } from './program-inputs.ts';

/** Whether an adapter of the step may change this product. */
export function hasLora({ loras }: StepRows, site: LoraSite): boolean {
  return (loras & (1 << LORA_SITES.indexOf(site))) !== 0;
}

/**
 * What the adapters of the rows add to the product `site` of layer `i` that is in `out`; nothing where no adapter changes it.
 * runs: where `out` does not keep the product's columns in their order.
 */
export function loraCalls(
  p: ProgramInputs,
  rows: StepRows,
  site: LoraSite,
  i: number,
  input: GPUBuffer,
  out: GPUBuffer,
  runs: readonly ColumnRun[] = [],
): KernelCall[] {
  const adapters = hasLora(rows, site) ? p.loras?.of(site, i) : undefined;
  if (!p.loras || !adapters) return [];
  const { product, a, b } = adapters;
  const { columns, targets } = product;
  const { rows: rowTable, slots, shrunk } = p.buffers;
  const shared = { variant: p.variant, bucket: rows.bucket, rows: rowTable, slots, rank: p.loras.sizes.rank };
  const whole = { begin: 0, at: 0, count: columns };
  return [
    loraShrink({
      ...shared,
      label: `layer ${i} ${site} LoRA shrink`,
      inputs: product.inputs,
      targets: targets.length,
      input,
      a,
      out: shrunk,
    }),
    ...(runs.length === 0 ? [whole] : runs).map((run) =>
      loraExpand({
        ...shared,
        label: `layer ${i} ${site} LoRA expand`,
        columns,
        run,
        firstColumns: targets.map(({ firstColumn }) => firstColumn),
        shrunk,
        b,
        out,
      }),
    ),
  ];
}

/** Gate, up and activation of layer `i` one after the other, since what adapters add comes in before the activation. */
export function loraGateUp(p: ProgramInputs, rows: StepRows, i: number): KernelCall[] {
  const { spec, variant, matrices, buffers: b } = p;
  const shared = { variant, matrices, bucket: rows.bucket, step: b.step, countWord: STEP_NUM_ROWS };
  const parts = operands(p.weights.parts('gateUp', i)).map((operand) => ({
    ...operand,
    columns: operand.columns ?? { first: 0, of: operand.n },
  }));
  // Each part has its own gates, then its own ups, and so has the buffer.
  const runs = parts.flatMap(({ n, columns: { first, of } }) => [
    { begin: first, at: 2 * first, count: n },
    { begin: of + first, at: 2 * first + n, count: n },
  ]);
  return [
    ...parts.map((operand) =>
      matmul({
        ...shared,
        ...operand,
        label: `layer ${i} gateUp`,
        n: 2 * operand.n,
        columns: { first: 2 * operand.columns.first, of: 2 * operand.columns.of },
        input: b.normed,
        out: b.gateUp,
        accumulate: false,
      }),
    ),
    ...loraCalls(p, rows, 'gateUp', i, b.normed, b.gateUp, parts.length === 1 ? [] : runs),
    ...parts.map(({ n, columns }) =>
      gated({
        ...shared,
        label: `layer ${i} gated`,
        n,
        columns,
        activation: spec.activation,
        gateUp: b.gateUp,
        out: b.gated,
      }),
    ),
  ];
}
