import { ActivityPanel } from './activity-panel.tsx';
import { ClusterPanel } from './cluster-panel.tsx';
import type { Controller } from './controller.ts';
import { FiguresPanel } from './figures-panel.tsx';
import { count } from './format.ts';
import { LendBox } from './lend-box.tsx';
import { NodePanel } from './node-panel.tsx';
import { Playground } from './playground.tsx';
import { cluster, headless, mode, node } from './state.ts';

/**
 * The page. Tests find things by `data-testid`, and their state by `data-state`:
 * `stage` (that of the node), `problem`, `capability`, `answer` (the status of its turn), `hub` (the status of the
 * hub), `cluster-node` (the stage of that node), `pool` (its counts as `data-free`, `data-cached`, `data-used`, `data-shared`).
 */
export function App({ controller }: { controller: Controller }) {
  return (
    <div class="page" data-mode={mode} data-headless={headless.value}>
      <a class="skip" href="#prompt">
        Skip to the playground
      </a>
      <header class="masthead">
        <Mark />
        <h1>Quire</h1>
        <p class="tagline">{mode === 'solo' ? 'a model in this page alone' : 'open pages, one inference cluster'}</p>
        <Summary />
      </header>
      <main>
        <NodePanel controller={controller} />
        <Playground controller={controller} />
        {mode === 'cluster' && <ClusterPanel />}
        {mode === 'cluster' && <FiguresPanel />}
        {mode === 'cluster' && <ActivityPanel />}
        {mode === 'cluster' && <LendBox />}
      </main>
    </div>
  );
}

/** What the page belongs to, in one line: its hub, or nothing. */
function Summary() {
  if (mode === 'solo')
    return (
      <p class="summary" data-testid="hub" data-state="solo">
        runs here alone{node.value.model === null ? '' : ` · ${node.value.model}`}
      </p>
    );
  const view = cluster.value;
  if (view.status === 'unknown') return <HubStatus state="unknown" text="asking the hub …" />;
  if (view.status === 'unreachable') return <HubStatus state="unreachable" text="hub out of reach, trying again" />;
  const { readyNodes: ready, inflightRequests, models } = view.state;
  const names = models.map((model) => model.name).join(', ');
  const requests = `${count(inflightRequests)} ${inflightRequests === 1 ? 'request' : 'requests'} running`;
  return (
    <HubStatus
      state="reached"
      dot={ready > 0 ? 'reached' : 'waiting'}
      text={`${names} · ${count(ready)} ${ready === 1 ? 'node' : 'nodes'} ready`}
      more={requests}
    />
  );
}

function HubStatus({ state, dot, text, more }: { state: string; dot?: string; text: string; more?: string }) {
  return (
    <p class="summary" role="status" aria-live="off" data-testid="hub" data-state={state}>
      <span class="dot" data-state={dot ?? state} />
      {text}
      {more !== undefined && <span class="wide"> · {more}</span>}
    </p>
  );
}

/** A gathering of folded sheets, seen from its end, and the thread that holds it. */
function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M4 6.5 16 10.5 28 6.5" />
      <path d="M4 13 16 17 28 13" />
      <path d="M4 19.5 16 23.5 28 19.5" />
      <path class="thread" d="M16 10.5V28" />
    </svg>
  );
}
