import type { StepRecord } from './api.ts';
import type { LoraAdapter } from './lora/adapters.ts';
import type { SubmittedStep } from './runner.ts';
import type { StepPlan } from './step-plan.ts';

/** What a step did. inFlight: earlier steps that were not done when it was submitted. hostMs: host time that it took. */
export function recordOf(plan: StepPlan, inFlight: number, submitted: SubmittedStep, hostMs: number): StepRecord {
  const { submits, dispatches, bytes } = submitted;
  return {
    step: plan.step,
    rows: plan.numRows,
    prefillRows: plan.numRows - plan.numDecodeRows,
    decodeRows: plan.numDecodeRows,
    draftRows: plan.numDraftRows,
    inFlight,
    submits,
    dispatches,
    bytes,
    loras: lorasOf(plan).size,
    loraRows: plan.rows.reduce((sum, { sequence, count }) => sum + (sequence.lora ? count : 0), 0),
    constrainedRows: plan.masks.length,
    preempted: plan.preempted,
    hostMs,
  };
}

/** The LoRA adapters that rows of a step go through. */
export function lorasOf({ rows }: StepPlan): Set<LoraAdapter> {
  return new Set(rows.flatMap(({ sequence }) => sequence.lora ?? []));
}
