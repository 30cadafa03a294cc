import { useState } from 'preact/hooks';
import { adapterName } from '../protocol/adapter-name.ts';
import type { ClusterNode } from '../protocol/cluster-state.ts';
import { type ClusterSummary, groupKey, groupOf, type NodeGroup, shownStage } from '../protocol/cluster-summary.ts';
import { loadSum } from '../protocol/load-sum.ts';
import type { Card } from '../protocol/messages.ts';
import { count, percent, rate, since } from './format.ts';
import { NodeName } from './node-name.tsx';
import { cluster, node } from './state.ts';

/** From so many on, nodes that are alike share a row, which opens. */
const GROUPED_FROM = 9;

/** All nodes of the hub, as it sees them. */
export function ClusterPanel() {
  const view = cluster.value;
  return (
    <section class="panel cluster" aria-labelledby="cluster-title" data-testid="cluster" data-state={view.status}>
      <h2 id="cluster-title">Cluster</h2>
      {view.status === 'unknown' && <p class="quiet">Asking the hub for its nodes …</p>}
      {view.status === 'unreachable' && (
        <p class="notice" role="alert">
          The hub cannot be reached ({view.message}). Check that it runs; this page goes on asking.
        </p>
      )}
      {view.status === 'reached' && <Nodes of={view.state} own={node.value.node} />}
    </section>
  );
}

function Nodes({ of, own }: { of: ClusterSummary; own: string | null }) {
  const { nodes, nodeCount, groups } = of;
  if (nodeCount === 0) return <p class="quiet">No node yet. Requests are answered once a page lends its GPU.</p>;
  const total = groups.reduce((sum, each) => sum + each.tokensPerSecond, 0);
  const listed = [...nodes].sort((a, b) => Number(b.id === own) - Number(a.id === own) || a.joinedAt - b.joinedAt);
  return (
    <>
      <p class="quiet total">
        <span data-testid="nodes" data-value={nodeCount}>
          {nodesText(nodeCount)}
        </span>
        <span>{rate(total)} tokens/s together</span>
      </p>
      {nodeCount < GROUPED_FROM ? (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard, in Safari too
        <ul class="nodes" tabIndex={0} aria-label="Nodes">
          {listed.map((each) => (
            <NodeRow key={each.id} of={each} isOwn={each.id === own} now={of.now} />
          ))}
        </ul>
      ) : (
        <Groups of={of} listed={listed} own={own} />
      )}
    </>
  );
}

/** One row for nodes that are alike; only one is open at a time, and only an open one lists its nodes. */
function Groups({ of, listed, own }: { of: ClusterSummary; listed: readonly ClusterNode[]; own: string | null }) {
  const [open, setOpen] = useState<string | null>(null);
  const grouped = of.groups.reduce((sum, each) => sum + each.nodes, 0);
  return (
    <>
      <ul class="nodes">
        {of.groups.map((group) => {
          const key = groupKey(group);
          const isOpen = key === open;
          const inside = isOpen ? listed.filter((each) => groupKey(groupOf(each)) === key) : [];
          return (
            <li key={key} class="node-group" data-testid="node-group" data-state={group.stage} data-nodes={group.nodes}>
              <button type="button" aria-expanded={isOpen} onClick={() => setOpen(isOpen ? null : key)}>
                <GroupRow of={group} />
              </button>
              {isOpen && (
                <ul>
                  {inside.map((each) => (
                    <NodeRow key={each.id} of={each} isOwn={each.id === own} now={of.now} />
                  ))}
                  {inside.length < group.nodes && (
                    <li class="quiet more">and {nodesText(group.nodes - inside.length)} more</li>
                  )}
                </ul>
              )}
            </li>
          );
        })}
      </ul>
      {grouped < of.nodeCount && <p class="quiet">and {nodesText(of.nodeCount - grouped)} more, of other kinds</p>}
    </>
  );
}

function GroupRow({ of }: { of: NodeGroup }) {
  const requests = of.activeRequests > 0 ? requestsText(of.activeRequests) : '';
  const facts = [of.stage, requests, of.model].filter((fact) => fact !== '');
  return (
    <span class="cluster-node">
      <span class="dot" data-state={of.stage} />
      <span class="who">
        <span class="name">
          {count(of.nodes)} × {of.adapter || 'not yet known'}
          <RoleTag role={of.role} />
          {of.software && <span class="tag warn">software</span>}
        </span>
        <span class="quiet">{facts.join(' · ')}</span>
      </span>
      {of.totalBlocks > 0 && (
        <span class="loads">
          <Rate of={of.tokensPerSecond} />
          <Bar name="sequences" value={of.sequences} max={of.maxSequences} />
          <Bar name="KV blocks" value={of.usedBlocks} max={of.totalBlocks} />
        </span>
      )}
    </span>
  );
}

function NodeRow({ of, isOwn, now }: { of: ClusterNode; isOwn: boolean; now: number }) {
  const { card, loads, agent, activeRequests } = of;
  const load = loadSum(loads);
  const stage = shownStage(of);
  const facts = [
    card ? agent : '',
    stage === 'ready' ? `joined ${since(of.joinedAt, now)}` : stageText(of),
    activeRequests > 0 ? requestsText(activeRequests) : '',
  ];
  return (
    <li class="cluster-node" data-testid="cluster-node" data-state={stage} data-node={of.id}>
      <span class="dot" data-state={stage} title={stage} />
      <div class="who">
        <p class="name">
          {card ? adapterName(card.adapter) : agent}
          <RoleTag role={card?.role ?? null} />
          {card && <RanksTag of={card} />}
          {isOwn && <span class="tag">this page</span>}
          {card?.adapter.software && <span class="tag warn">software</span>}
          <NodeName id={of.id} />
        </p>
        <p class="quiet">{facts.filter((fact) => fact !== '').join(' · ')}</p>
      </div>
      {loads.length > 0 && card ? (
        <div class="loads">
          <Rate of={load.tokensPerSecond} />
          <Bar name="sequences" value={load.running + load.waiting} max={card.maxNumSeqs * card.dpSize} />
          <Bar name="KV blocks" value={load.usedBlocks} max={load.totalBlocks} />
        </div>
      ) : (
        of.totalBytes > 0 && <Bar name="model" value={of.loadedBytes} max={of.totalBytes} />
      )}
    </li>
  );
}

function RoleTag({ role }: { role: NodeGroup['role'] }) {
  return role === null ? null : (
    <span class="tag role" data-role={role}>
      {role}
    </span>
  );
}

/** Of a node that has not just the one rank that most have. */
function RanksTag({ of }: { of: Pick<Card, 'dpRank' | 'dpSize'> }) {
  if (of.dpSize > 1) return <span class="tag">{count(of.dpSize)} ranks</span>;
  return of.dpRank === 0 ? null : <span class="tag">rank {of.dpRank}</span>;
}

function Rate({ of }: { of: number }) {
  return (
    <span class="figure">
      <b>{rate(of)}</b> <span>tokens/s</span>
    </span>
  );
}

function Bar({ name, value, max }: { name: string; value: number; max: number }) {
  const text = percent(value, max);
  return (
    <span class="bar" title={`${name}: ${count(value)} of ${count(max)}`}>
      <span>{name}</span>
      <meter min={0} max={Math.max(1, max)} value={value} aria-label={`${name}, ${text} used`} />
      <span class="number">{text}</span>
    </span>
  );
}

/** Stage, in words: what the node said, or how much of the model it has. */
function stageText({ stage, loadedBytes, totalBytes, detail, unhealthy }: ClusterNode): string {
  if (unhealthy !== null) return `unhealthy: ${unhealthy}`;
  if (stage === 'downloading' && totalBytes > 0) return `downloading, ${percent(loadedBytes, totalBytes)}`;
  return stage === 'draining' || detail === '' ? stage : `${stage}: ${detail}`;
}

const nodesText = (nodes: number): string => `${count(nodes)} ${nodes === 1 ? 'node' : 'nodes'}`;
const requestsText = (requests: number): string => `${count(requests)} ${requests === 1 ? 'request' : 'requests'}`;
