import type { ComponentChildren } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { ChatDrawer } from './chat-drawer.tsx';
import { Composer } from './composer.tsx';
import type { Controller } from './controller.ts';
import { EXAMPLES } from './examples.ts';
import { alone, apiKeyWanted, chatBusy, cluster, node, turns } from './state.ts';
import { Turn } from './turn.tsx';

/** Pixels from the end within which the log follows new text. */
const NEAR_END = 48;

/** A chat with the cluster, or with the model of this page alone. */
export function Playground({ controller }: { controller: Controller }) {
  const { chat } = controller;
  const asked = turns.value;
  return (
    <section class="panel playground" aria-labelledby="playground-title">
      <div class="bar-top">
        <h2 id="playground-title">Playground</h2>
        <button
          type="button"
          class="small"
          data-testid="clear"
          disabled={asked.length === 0}
          onClick={() => chat.clear()}
        >
          New chat
        </button>
        <ChatDrawer controller={controller} />
      </div>
      <Log>
        {asked.length === 0 ? (
          <Welcome ask={(prompt) => void chat.send(prompt)} />
        ) : (
          // Turns are only ever added, so their place is their name.
          asked.map((turn, i) => <Turn key={`turn-${i}`} turn={turn} />)
        )}
      </Log>
      {apiKeyWanted.value && <KeyForm controller={controller} />}
      <Composer chat={chat} />
    </section>
  );
}

/** Scrolls along with new text, unless the reader has scrolled back. */
function Log({ children }: { children: ComponentChildren }) {
  const log = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  useLayoutEffect(() => {
    if (log.current && follows.current && turns.value.length > 0) log.current.scrollTop = log.current.scrollHeight;
  });
  return (
    <div
      class="log"
      ref={log}
      role="log"
      aria-label="Conversation"
      // Half a sentence read aloud again and again helps nobody: an answer is announced when it is complete.
      aria-busy={chatBusy.value}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard, in Safari too
      tabIndex={0}
      onScroll={({ currentTarget: at }) => {
        follows.current = at.scrollHeight - at.scrollTop - at.clientHeight < NEAR_END;
      }}
    >
      {children}
    </div>
  );
}

function Welcome({ ask }: { ask: (prompt: string) => void }) {
  const ready = canAnswer();
  return (
    <div class="welcome">
      <p class="lead">{ready ? 'Ask something, or begin with one of these.' : waitingFor()}</p>
      <ul class="examples">
        {EXAMPLES.map(({ kind, prompt }) => (
          <li key={kind}>
            <button type="button" data-testid="example" disabled={!ready} onClick={() => ask(prompt)}>
              <b>{kind}</b>
              <span>{prompt}</span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function KeyForm({ controller }: { controller: Controller }) {
  const field = useRef<HTMLInputElement>(null);
  return (
    <form
      class="key-form"
      onSubmit={(event) => {
        event.preventDefault();
        controller.setApiKey(field.current?.value.trim() ?? '');
      }}
    >
      <label for="api-key">
        This hub asks for an API key; it printed one when it started. Enter it, then ask again.
      </label>
      <input id="api-key" data-testid="api-key" ref={field} type="password" autocomplete="off" required />
      <button type="submit" class="primary">
        Use it
      </button>
    </form>
  );
}

/** Whether something can answer now: a node of the hub, or this page's own. */
function canAnswer(): boolean {
  if (node.value.stage === 'ready') return true;
  if (alone.value) return false;
  return cluster.value.status === 'reached' && cluster.value.state.models.some((model) => model.readyNodes > 0);
}

function waitingFor(): string {
  if (alone.value) return 'Once the model is ready, begin with one of these.';
  if (cluster.value.status === 'unreachable') return 'The hub is out of reach. It answers as soon as it is back.';
  if (cluster.value.status === 'reached' && cluster.value.state.groups.some(({ stage }) => stage === 'asleep'))
    return 'The nodes sleep. Once whoever runs the hub wakes them, begin with one of these.';
  return 'No node is ready yet. Once one is, begin with one of these.';
}
