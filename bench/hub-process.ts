/** A hub in a process of its own, for the benches of the hub, in the Dynamo deployment of its argument if it has one: tells its address, and what it used whenever it is asked. */
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
const [deployment] = process.argv.slice(2);
const dynamo =
  deployment === undefined ? null : { discovery: JSON.parse(deployment), host: '127.0.0.1', port: 0, allow: [] };
const hub = await startTestHub({ dynamo });
process.on('message', (what) => {
  if (what === 'memory') collect();
  const { heapUsed, external, rss } = process.memoryUsage();
  const usage: HubUsage = { cpu: process.cpuUsage(), heapBytes: heapUsed + external, rssBytes: rss };
  process.send?.(usage);
});
process.on('disconnect', () => process.exit());
process.send?.({ url: hub.url });
