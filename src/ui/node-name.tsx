import { node } from './state.ts';

/** Enough of an id to tell nodes of one cluster apart. */
const SHOWN = 6;

/** A node's id, shortened; this page's own node is named so. */
export function NodeName({ id }: { id: string }) {
  const own = id === node.value.node;
  return (
    <code class="node-name" data-own={own} title={own ? `${id}, this page` : id}>
      {shortId(id)}
    </code>
  );
}

export const shortId = (id: string): string => id.slice(0, SHOWN);
