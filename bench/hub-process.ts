/** A hub in a process of its own, for `hub.ts` and `hub-scale.ts`: tells its address, and what it used whenever it is asked. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { startTestHub } from '../test/support/test-hub.ts';

export interface HubUsage {
  readonly cpu: NodeJS.CpuUsage;
  /** After a collection. */
  readonly heapBytes: number;
  readonly rssBytes: number;
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const hub = await startTestHub();
process.on('message', (what) => {
  if (what === 'memory') collect();
  const { heapUsed, external, rss } = process.memoryUsage();
  const usage: HubUsage = { cpu: process.cpuUsage(), heapBytes: heapUsed + external, rssBytes: rss };
  process.send?.(usage);
});
process.on('disconnect', () => process.exit());
process.send?.({ url: hub.url });
