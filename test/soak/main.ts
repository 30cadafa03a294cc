/**
 * `npm run test:soak [-- MINUTES]`: for an hour, or as long as is said, clients that leave, cancel, run out of time or stay, and nodes of
 * all roles that join, leave and are killed, over real sockets. After each round everything comes to rest: then nothing may be left of it,
 * and every answer that was not ended early must be right. Ends with status 1 at the first fault.
 */
import type { Role } from '../../src/protocol/messages.ts';
import { GpulessCluster } from '../support/gpuless-cluster.ts';
import { type Ended, endedSomehow, errorCode, pause, pick, tokensOf, whole } from '../support/random-requests.ts';
import { until } from '../support/until.ts';

const ROUND_MS = 30_000;
const AT_ONCE = 30;
const MAX_NODES = 9;
/** Of one node, both ends counted: the connection to the hub and the bulk socket. */
const SOCKETS_OF_NODE = 4;
/** Of the hub and of a node at rest: pings, reports, a snapshot for its page. */
const TIMERS_OF_NODE = 6;

const minutes = Number(process.argv[2] ?? 60);
if (!(minutes > 0))
  throw new Error(`"${process.argv[2]}" is no number of minutes. Usage: npm run test:soak [-- MINUTES]`);

const cluster = await GpulessCluster.start({ migrationLimit: 100 });
const seen = { rounds: 0, requests: 0, cancelled: 0, complete: 0, joins: 0, leaves: 0, kills: 0 };

async function join(role: Role): Promise<void> {
  seen.joins += 1;
  await cluster.join({ role, maxNumSeqs: 3, stepMs: () => Math.random() * 5 });
}

/** Nodes come and go, by their own will or not. The first one stays, so that no request is without a node for long. */
async function disturb(over: () => boolean): Promise<void> {
  while (!over()) {
    await pause(whole(50, 800));
    const others = cluster.nodes.slice(1);
    if (others.length < 3 || (others.length < MAX_NODES - 1 && Math.random() < 0.4)) {
      await join(pick('agg', 'prefill', 'decode'));
      continue;
    }
    const node = pick(...others);
    cluster.nodes.splice(cluster.nodes.indexOf(node), 1);
    const kill = Math.random() < 0.6;
    seen[kill ? 'kills' : 'leaves'] += 1;
    await (kill ? node.kill() : node.leave(pick('drain', 'now')));
    if (node.faults.length > 0) throw new Error(node.faults.join('\n'));
  }
}

function check({ how, deleted, answer, wanted }: Ended): void {
  seen.requests += 1;
  if (how === 'leave') return;
  const code = errorCode(answer);
  if (code === null && !deleted) {
    seen.complete += 1;
    const [got, right] = [tokensOf(answer, wanted.length), wanted].map((each) => JSON.stringify(each));
    if (got !== right) throw new Error(`an answer is ${got} and should be ${right}`);
    return;
  }
  seen.cancelled += 1;
  const fine = deleted ? code === 'request_cancelled' : how === 'timeout' && code === 'timeout';
  if (!fine) throw new Error(`${how}: the client got ${code}: ${answer.body.slice(-500)}`);
}

/** Nothing is held but by the nodes that are there. */
async function rest(): Promise<void> {
  const count = cluster.nodes.length;
  await until(
    () => {
      const { sockets, timers, ...others } = cluster.held();
      const held = Object.values(others).some((value) => value > 0);
      return !held && sockets <= SOCKETS_OF_NODE * count + 4 && timers <= TIMERS_OF_NODE * count + 10;
    },
    () => ({ nodes: count, ...cluster.held() }),
  );
  const faults = cluster.nodes.flatMap((node) => node.faults);
  if (faults.length > 0) throw new Error(faults.join('\n'));
}

await join('agg');
const end = Date.now() + minutes * 60_000;
while (Date.now() < end) {
  const roundEnd = Math.min(end, Date.now() + ROUND_MS);
  const over = () => Date.now() >= roundEnd;
  const client = async () => {
    while (!over()) check(await endedSomehow(cluster.url));
  };
  await Promise.all([disturb(over), ...Array.from({ length: AT_ONCE }, client)]);
  await rest();
  seen.rounds += 1;
  globalThis.gc?.();
  const heap = `${(process.memoryUsage().heapUsed / 2 ** 20).toFixed(1)} MiB of heap`;
  console.log(
    `${Object.entries(seen)
      .map(([what, n]) => `${n} ${what}`)
      .join(', ')}; nothing left, ${heap}`,
  );
}
await cluster.close();
