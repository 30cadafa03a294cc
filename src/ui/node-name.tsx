import { cluster, node } from './state.ts';

/** Enough of an id to tell nodes of one cluster apart. */
const SHOWN = 6;

/** A node's id, shortened; this page's own node is named so. rank: told where the node has more than one. */
export function NodeName({ id, rank }: { id: string; rank?: number }) {
  const own = id === node.value.node;
  const view = cluster.value;
  const card = view.status === 'reached' ? view.state.nodes.find((each) => each.id === id)?.card : null;
  const several = rank !== undefined && (card?.dpSize ?? 1) > 1;
  return (
    <code class="node-name" data-own={own} title={own ? `${id}, this page` : id}>
      {shortId(id)}
      {several && ` rank ${rank}`}
    </code>
  );
}

export const shortId = (id: string): string => id.slice(0, SHOWN);
