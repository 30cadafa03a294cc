import type { ComponentChildren } from 'preact';
import { adapterName } from './adapter-name.ts';
import type { Controller } from './controller.ts';
import { count } from './format.ts';
import { mode, node, nodeName } from './state.ts';

const ROLES = { agg: 'agg: prefill and decode', prefill: 'prefill', decode: 'decode' } as const;

/** What computes here and what it computes; the node's own name can be changed. */
export function AdapterFacts({ controller }: { controller: Controller }) {
  const { adapter, card, model, node: id } = node.value;
  return (
    <dl class="facts">
      {adapter && (
        <Fact name="Adapter" testId="adapter">
          {adapterName(adapter)}
          {adapter.software && <span class="warn"> software: computes on the CPU</span>}
        </Fact>
      )}
      {model !== null && (
        <Fact name="Model" testId="model">
          {model}
        </Fact>
      )}
      {card && (
        <>
          <Fact name="Role" testId="role">
            {ROLES[card.role]}
          </Fact>
          <Fact name="KV cache" testId="kv-cache">
            {card.kvCacheDtype}, {card.blockSize} tokens a block
          </Fact>
          <Fact name="Limits" testId="limits">
            {count(card.maxNumSeqs)} sequences, {count(card.maxModelLen)} tokens each
          </Fact>
        </>
      )}
      {id !== null && (
        <Fact name="Node" testId="node-id">
          <code>{id}</code>
        </Fact>
      )}
      {mode === 'cluster' && (
        <div>
          <dt>
            <label for="node-name">Name</label>
          </dt>
          <dd>
            <input
              id="node-name"
              data-testid="node-name"
              maxLength={100}
              value={nodeName.value}
              placeholder="none; the hub shows it from the next join on"
              autocomplete="off"
              spellcheck={false}
              onChange={(event) => controller.setNodeName(event.currentTarget.value.trim())}
            />
          </dd>
        </div>
      )}
    </dl>
  );
}

function Fact({ name, testId, children }: { name: string; testId: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd data-testid={testId}>{children}</dd>
    </div>
  );
}
