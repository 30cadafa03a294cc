import { adapterName } from '../src/protocol/adapter-name.ts';
import { openPageNode } from './chromium-node.ts';
import { BATCHES, measureRates, PREFILL_TOKENS, Prompts, RUNS } from './rates.ts';
import { short, table } from './table.ts';

/** The same rates as the engine's, asked over HTTP of a hub whose node is a page of headless Chromium. */
export async function benchPage(software: boolean): Promise<string> {
  const node = await openPageNode(software);
  try {
    const { card } = node.hub.state().nodes[0]!;
    const prompts = new Prompts();
    const rows: (string | number)[][] = [];
    for (const batch of BATCHES) {
      const rates = await measureRates((prompt, maxTokens) => ask(node.hub.url, prompt, maxTokens), batch, prompts);
      rows.push([batch, short(rates.prefill), short(rates.decode)]);
    }
    const adapter = card === null ? '' : adapterName(card.adapter);
    return table(
      `Page in headless Chromium on ${adapter}, over HTTP: ${card?.kvCacheDtype} KV, ${card?.maxNumBatchedTokens} tokens a step; ${PREFILL_TOKENS} prompt tokens in all; medians of ${RUNS} runs`,
      ['batch', 'prefill tokens/s', 'decode tokens/s'],
      rows,
    );
  } finally {
    await node.close();
  }
}

async function ask(url: string, prompt: number[], maxTokens: number): Promise<void> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'quire-pico', prompt, max_tokens: maxTokens, temperature: 0, ignore_eos: true }),
  });
  const body = await response.text();
  if (!response.ok) throw new Error(`The hub answered ${response.status}: ${body}`);
}
