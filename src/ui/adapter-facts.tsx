import type { ComponentChildren } from 'preact';
import { adapterName } from '../protocol/adapter-name.ts';
import type { Controller } from './controller.ts';
import { count } from './format.ts';
import { RoleField } from './role-field.tsx';
import { alone, node, nodeName } from './state.ts';

/** What computes here and what it computes; the node's own name can be changed. */
export function AdapterFacts({ controller }: { controller: Controller }) {
  const { adapter, card, model, handedOver, node: id } = node.value;
  return (
    <div class="facts">
      <dl>
        {adapter && (
          <Fact name="Adapter" testId="adapter">
            {adapterName(adapter)}
            {adapter.software && <span class="warn"> (software: computes on the CPU)</span>}
          </Fact>
        )}
        {model !== null && (
          <Fact name="Model" testId="model">
            {model}
          </Fact>
        )}
      </dl>
      {!alone.value && <RoleField controller={controller} />}
      {(card !== null || !alone.value) && (
        <details>
          <summary>More of this node</summary>
          <dl>
            {card && (
              <>
                <Fact name="KV cache" testId="kv-cache">
                  {card.kvCacheDtype}, {card.blockSize} tokens a block
                </Fact>
                <Fact name="Limits" testId="limits">
                  {count(card.maxNumSeqs)} sequences of {count(card.maxModelLen)} tokens,{' '}
                  {count(card.maxNumBatchedTokens)} tokens a step
                </Fact>
              </>
            )}
            {card && card.transports.length > 0 && (
              <Fact name="KV moves" testId="transports">
                by {card.transports.join(', ')}
              </Fact>
            )}
            {handedOver && (
              <Fact name="KV handed over" testId="handed-over">
                {count(handedOver.taken)} blocks taken, {count(handedOver.given)} given
                {handedOver.lateFrames > 0 && `, ${count(handedOver.lateFrames)} late frames dropped`}
              </Fact>
            )}
            {id !== null && (
              <Fact name="Id" testId="node-id">
                <code>{id}</code>
              </Fact>
            )}
          </dl>
          {!alone.value && <NameField controller={controller} />}
        </details>
      )}
    </div>
  );
}

/** A name among the adapters of a cluster; it goes to the hub when the node joins. */
function NameField({ controller }: { controller: Controller }) {
  return (
    <div class="name-field">
      <label for="node-name">Name</label>
      <input
        id="node-name"
        data-testid="node-name"
        maxLength={100}
        value={nodeName.value}
        placeholder="none"
        autocomplete="off"
        spellcheck={false}
        aria-describedby="node-name-hint"
        onChange={(event) => controller.setNodeName(event.currentTarget.value.trim())}
      />
      <p class="quiet" id="node-name-hint">
        The cluster shows it from the next join on.
      </p>
    </div>
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
