import { expect } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { type Clock, systemClock } from '../../src/protocol/clock.ts';
import type { Card } from '../../src/protocol/messages.ts';
import { ScriptedNode, type ScriptedNodeOptions } from './scripted-node.ts';
import { closePrefill, DecodeEnd } from './scripted-transfer.ts';
import { seriesValue } from './series.ts';
import { startTestHub } from './test-hub.ts';
import { until } from './until.ts';

/** Six blocks and one token. */
export const PROMPT = Array.from({ length: 97 }, (_, i) => 300 + i);
/** Longer than any test: a transfer ends because something happened, not because a busy machine took its time. */
export const TIMEOUT_MS = 120_000;

export type CardChange = Partial<Omit<Card, 'adapter'>>;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: {
    readonly choices: { readonly text: string; readonly token_ids: number[] }[];
    readonly nvext?: { kv_transfer?: object; worker_id?: object; migrations?: object[] };
  };
}

/** A decode node whose transfers the test drives by hand, and what it was asked. */
export interface HandDriven {
  readonly node: ScriptedNode;
  /** The `nth` transfer (from 0), as soon as it is offered. */
  end(nth?: number): Promise<DecodeEnd>;
  /** Its transfer is over, one way or the other: it answers. */
  answer(nth?: number): void;
}

/** A hub whose prompts of 32 tokens and more are computed by prefill nodes, and its scripted nodes. */
export class DisaggregatedHub {
  private constructor(readonly hub: Hub) {}

  static async start(
    disaggregation: object = {},
    limits: object = {},
    config: Parameters<typeof startTestHub>[0] = {},
    clock: Clock = systemClock,
  ): Promise<DisaggregatedHub> {
    const usual = { transports: ['local', 'relay', 'webrtc'] as const, timeoutMs: TIMEOUT_MS, minTokens: 32 };
    return new DisaggregatedHub(
      await startTestHub({ ...config, disaggregation: { ...usual, ...disaggregation } }, limits, undefined, clock),
    );
  }

  close(): Promise<void> {
    return this.hub.close();
  }

  join(role: Card['role'], card: CardChange = {}, options: ScriptedNodeOptions = {}): Promise<ScriptedNode> {
    const transports: Card['transports'] = ['relay', 'webrtc'];
    return ScriptedNode.join(this.hub.url, { ...options, card: { role, transports, ...card } });
  }

  async complete(body: object = {}, headers: object = {}, signal: AbortSignal | null = null): Promise<Answer> {
    const response = await fetch(`${this.hub.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({
        ...{ model: 'quire-pico', prompt: PROMPT, max_tokens: 8, temperature: 0, return_token_ids: true },
        nvext: { extra_fields: ['worker_id'] },
        ...body,
      }),
      signal,
    });
    return { status: response.status, headers: response.headers, body: await response.json() };
  }

  async metric(series: string): Promise<number> {
    return (await seriesValue(this.hub.url, series)) ?? 0;
  }

  /** Sequences that the hub counts on a node. */
  load(node: ScriptedNode): number | undefined {
    return this.hub.state().nodes.find(({ id }) => id === node.id)?.activeSequences;
  }

  /** Nothing of any request or transfer is left. */
  async clean(...nodes: ScriptedNode[]): Promise<void> {
    await until(() => this.hub.state().inflightRequests === 0 && this.hub.state().transfers.length === 0);
    for (const node of nodes) expect(this.load(node)).toBe(0);
    expect(await this.metric('quire_kv_transfers_active')).toBe(0);
  }

  async byHand(card: CardChange = {}): Promise<HandDriven> {
    const ends: DecodeEnd[] = [];
    const goOn: (() => void)[] = [];
    const node = await this.join('decode', card, {
      tokenMs: 1,
      transfer: (message, self) => {
        ends.push(new DecodeEnd(self, message));
        return new Promise((resolve) => goOn.push(resolve));
      },
    });
    return {
      node,
      end: async (nth = 0) => {
        await until(() => ends.length > nth);
        return ends[nth] as DecodeEnd;
      },
      answer: (nth = 0) => goOn[nth]?.(),
    };
  }

  /** A pair that hands over blocks as it should. */
  async willing(card: CardChange = {}): Promise<{ prefill: ScriptedNode; decode: ScriptedNode }> {
    const waiting = new Map<string, () => void>();
    const prefill = await this.join('prefill', card, {
      prefill: (message, self) => {
        closePrefill(self, message);
        waiting.get(message.transfer)?.();
      },
    });
    const decode = await this.join('decode', card, {
      transfer: async (message, self) => {
        const end = new DecodeEnd(self, message);
        const sent = new Promise<void>((resolve) => waiting.set(end.offer.transfer, resolve));
        end.open();
        await sent;
        end.done();
      },
    });
    return { prefill, decode };
  }
}
