import { adapterName } from '../protocol/adapter-name.ts';
import type { ClusterNode, ClusterState } from '../protocol/cluster-state.ts';
import { count, duration, percent, rate } from './format.ts';
import { cluster, node } from './state.ts';

/** A page stays light with thousands of nodes: it lists so many, and counts the rest. */
const LISTED = 64;

/** All nodes of the hub, as it sees them. */
export function ClusterPanel() {
  const view = cluster.value;
  return (
    <section class="panel cluster" aria-labelledby="cluster-title" data-testid="cluster" data-state={view.status}>
      <h2 id="cluster-title">Cluster</h2>
      {view.status === 'unknown' && <p class="quiet">Asking the hub for its nodes …</p>}
      {view.status === 'unreachable' && (
        <p class="notice" role="alert">
          The hub cannot be reached ({view.message}). Check that it runs; this page asks again every two seconds.
        </p>
      )}
      {view.status === 'reached' && <Nodes of={view.state} own={node.value.node} />}
    </section>
  );
}

function Nodes({ of: { nodes, migrations }, own }: { of: ClusterState; own: string | null }) {
  if (nodes.length === 0) return <p class="quiet">No node yet. Requests are answered once a page lends its GPU.</p>;
  const listed = [...nodes].sort((a, b) => Number(b.id === own) - Number(a.id === own) || a.joinedAt - b.joinedAt);
  const total = nodes.reduce((sum, each) => sum + (each.load?.tokensPerSecond ?? 0), 0);
  return (
    <>
      <p class="quiet total">
        <span>
          {count(nodes.length)} {nodes.length === 1 ? 'node' : 'nodes'}
        </span>
        <span>{rate(total)} tokens/s together</span>
        {migrations > 0 && (
          <span data-testid="migrations" title="Requests that lost their node and went on on another one">
            {count(migrations)} {migrations === 1 ? 'migration' : 'migrations'}
          </span>
        )}
      </p>
      <ul class="nodes">
        {listed.slice(0, LISTED).map((each) => (
          <NodeRow key={each.id} of={each} isOwn={each.id === own} />
        ))}
      </ul>
      {nodes.length > LISTED && <p class="quiet">and {count(nodes.length - LISTED)} more</p>}
    </>
  );
}

function NodeRow({ of, isOwn }: { of: ClusterNode; isOwn: boolean }) {
  const { card, load, stage, agent } = of;
  const facts = [card ? agent : '', card?.role, stage === 'ready' ? age(of.joinedAt) : stageText(of)];
  return (
    <li class="cluster-node" data-testid="cluster-node" data-state={stage} data-node={of.id}>
      <span class="dot" data-state={stage} title={stage} />
      <div class="who">
        <p class="name">
          {card ? adapterName(card.adapter) : agent}
          {isOwn && <span class="tag">this page</span>}
          {card?.adapter.software && <span class="tag warn">software</span>}
        </p>
        <p class="quiet">{facts.filter((fact) => fact !== undefined && fact !== '').join(' · ')}</p>
      </div>
      {load && card ? (
        <div class="loads">
          <p class="figure">
            <b>{rate(load.tokensPerSecond)}</b> <span>tokens/s</span>
          </p>
          <Bar name="sequences" value={load.running + load.waiting} max={card.maxNumSeqs} />
          <Bar name="KV blocks" value={load.usedBlocks} max={load.totalBlocks} />
        </div>
      ) : (
        of.totalBytes > 0 && <Bar name="model" value={of.loadedBytes} max={of.totalBytes} />
      )}
    </li>
  );
}

function Bar({ name, value, max }: { name: string; value: number; max: number }) {
  const text = percent(value, max);
  return (
    <label class="bar" title={`${name}: ${count(value)} of ${count(max)}`}>
      <span>{name}</span>
      <meter min={0} max={Math.max(1, max)} value={value} aria-label={`${name}, ${text} used`} />
      <span class="number">{text}</span>
    </label>
  );
}

/** Stage, in words: what the node said, or how much of the model it has. */
function stageText({ stage, loadedBytes, totalBytes, detail }: ClusterNode): string {
  if (stage === 'downloading' && totalBytes > 0) return `downloading, ${percent(loadedBytes, totalBytes)}`;
  return stage === 'draining' || detail === '' ? stage : `${stage}: ${detail}`;
}

const age = (since: number): string => duration(Math.max(0, (Date.now() - since) / 1000));
