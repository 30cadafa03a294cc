import type { Hub } from '../../src/hub/hub.ts';
import { CountingClock } from './counting-clock.ts';
import { GpulessNode, type GpulessNodeOptions } from './gpuless-node.ts';
import { seriesSum } from './series.ts';
import { startTestHub } from './test-hub.ts';
import { until } from './until.ts';

type HubChange = NonNullable<Parameters<typeof startTestHub>[0]>;

/** A hub and its nodes without a GPU, over real sockets, and a count of all that they hold. */
export class GpulessCluster {
  readonly nodes: GpulessNode[] = [];

  private constructor(
    readonly hub: Hub,
    readonly clock: CountingClock,
  ) {}

  /** Prompts of 20 tokens and more are computed by prefill nodes, where there are any. */
  static async start(config: HubChange = {}): Promise<GpulessCluster> {
    const clock = new CountingClock();
    const disaggregation = { transports: ['relay'] as const, timeoutMs: 5000, minTokens: 20 };
    return new GpulessCluster(await startTestHub({ disaggregation, ...config }, {}, undefined, clock), clock);
  }

  get url(): string {
    return this.hub.url;
  }

  async join(options: Partial<GpulessNodeOptions> = {}): Promise<GpulessNode> {
    const node = new GpulessNode({ hubUrl: this.url, clock: this.clock, ...options });
    this.nodes.push(node);
    await until(() => node.stage === 'ready');
    return node;
  }

  /** Everything that a request may hold on to. */
  held() {
    const { inflightRequests, nodes: states } = this.hub.state();
    const loads = this.nodes.flatMap(({ engine }) => (engine === null ? [] : [engine.load()]));
    const sum = (read: (load: (typeof loads)[number]) => number) =>
      loads.reduce((total, load) => total + read(load), 0);
    const resources = process.getActiveResourcesInfo();
    return {
      requests: inflightRequests,
      requestsOfNodes: states.reduce((total, { activeRequests }) => total + activeRequests, 0),
      sequencesByTheRouter: states.reduce((total, { activeSequences }) => total + activeSequences, 0),
      sequencesRunning: sum(({ running }) => running),
      sequencesWaiting: sum(({ waiting }) => waiting),
      blocks: sum(({ usedBlocks }) => usedBlocks),
      transfers: this.hub.state().transfers.length,
      timers: this.clock.pending,
      sockets: resources.filter((name) => name.startsWith('TCP')).length,
    };
  }

  /** Sum of a metric's series whose labels hold this text. */
  metric(name: string, labels: string): Promise<number> {
    return seriesSum(this.url, name, labels);
  }

  /** Ends nodes and hub. Not one timer survives them; a node that waits for a request that is over would make this throw. */
  async close(): Promise<void> {
    const left = Promise.all(this.nodes.map((node) => node.leave('drain'))).then(() => true);
    if (!(await Promise.race([left, new Promise((resolve) => setTimeout(resolve, 60_000, false))])))
      throw new Error('a node still has requests or transfers');
    await this.hub.close();
    await until(() => this.clock.pending === 0);
  }
}
