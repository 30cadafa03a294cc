import { TestEngine } from '../test/gpu/test-engine.ts';
import type { Yardsticks } from './adapter.ts';
import { BATCHES, measureRates, PREFILL_TOKENS, Prompts, RUNS } from './rates.ts';
import { median, short, table } from './table.ts';

/** Prefill and decode rates of the embedded model in Node, and what a decode step costs against what the adapter gives. */
export async function benchEngine(adapter: Yardsticks): Promise<string> {
  const test = await TestEngine.create({ kvCacheDtype: 'auto', maxNumBatchedTokens: null, numGpuBlocksOverride: 2048 });
  const { engine } = test;
  const prompts = new Prompts();
  const rows: (string | number)[][] = [];
  for (const batch of BATCHES) {
    const rates = await measureRates((prompt, maxTokens) => test.one(prompt, { maxTokens }), batch, prompts);
    const steps = engine.steps().filter((step) => step.decodeRows === batch && step.prefillRows === 0);
    const overlapped = steps.filter((step) => step.inFlight > 0);
    const { dispatches = 0, bytes = 0 } = steps.at(-1) ?? {};
    const stepSeconds = batch / rates.decode;
    rows.push([
      batch,
      short(rates.prefill),
      short(rates.decode),
      short(stepSeconds * 1000),
      short(median(steps.map((step) => step.hostMs))),
      percent(overlapped.length / steps.length),
      short(dispatches / batch),
      percent((dispatches * adapter.dispatchSeconds) / stepSeconds),
      short(bytes / 2 ** 20),
      percent(bytes / stepSeconds / adapter.bytesPerSecond),
    ]);
  }
  const { kvCacheDtype, maxNumBatchedTokens, blockSize } = engine.info;
  await test.close();
  const head = [
    'batch',
    'prefill tokens/s',
    'decode tokens/s',
    'ms a decode step',
    'of it host ms',
    'submitted while an earlier readback was pending',
    'dispatches a token',
    'time at the price of a dispatch',
    'MiB a step',
    'of the bandwidth',
  ];
  return table(
    `Engine in Node: quire-pico, ${kvCacheDtype} KV, blocks of ${blockSize}, ${maxNumBatchedTokens} tokens a step; ${PREFILL_TOKENS} prompt tokens in all; medians of ${RUNS} runs`,
    head,
    rows,
  );
}

function percent(part: number): string {
  return `${short(part * 100)} %`;
}
