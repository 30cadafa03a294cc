import type { NodePhase } from '../node/snapshot.ts';
import { AdapterFacts } from './adapter-facts.tsx';
import { BlockPool } from './block-pool.tsx';
import type { Controller } from './controller.ts';
import { DownloadBar } from './download-bar.tsx';
import { CapabilityNotice, ProblemNotice } from './notices.tsx';
import { STAGES, WAY } from './stages.ts';
import { capability, mode, node } from './state.ts';
import { Throughput } from './throughput.tsx';

/** This page's node: where it is in its life, how fast it computes, and what its memory holds. */
export function NodePanel({ controller }: { controller: Controller }) {
  const { detail, load, blockMap, problem } = node.value;
  const able = capability.value.ok;
  const phase: NodePhase = able ? node.value.phase : 'refused';
  const { title, meaning } = STAGES[mode][phase];
  return (
    <section class="panel node" aria-labelledby="stage-title">
      <div class="stage" data-testid="stage" data-state={phase} data-node={node.value.node ?? undefined}>
        <div role="status">
          <h2 id="stage-title">
            <span class="dot" data-state={phase} />
            {title}
          </h2>
          <p class="quiet">{meaning}</p>
        </div>
        {able && <LifeButton phase={phase} controller={controller} />}
      </div>
      <Way phase={phase} />
      {phase === 'downloading' && <DownloadBar />}
      {detail !== '' && (
        <p class="quiet detail" data-testid="detail">
          {detail}
        </p>
      )}
      <CapabilityNotice />
      {problem && <ProblemNotice problem={problem} />}
      {load && <Throughput load={load} />}
      {blockMap && <BlockPool map={blockMap} />}
      {able && <AdapterFacts controller={controller} />}
    </section>
  );
}

/** Steps from joining to ready, while a node is on its way. */
function Way({ phase }: { phase: NodePhase }) {
  const at = WAY.indexOf(phase);
  if (at < 0 || phase === 'ready') return null;
  return (
    <ol class="way" aria-label="Steps to ready">
      {WAY.map((step, i) => (
        <li
          key={step}
          data-state={i < at ? 'done' : i === at ? 'now' : 'ahead'}
          aria-current={i === at ? 'step' : undefined}
        >
          {STAGES[mode][step].title}
        </li>
      ))}
    </ol>
  );
}

function LifeButton({ phase, controller }: { phase: NodePhase; controller: Controller }) {
  const solo = mode === 'solo';
  if (phase === 'draining' && solo)
    return (
      <button type="button" disabled>
        Stopping …
      </button>
    );
  if (phase === 'idle' || phase === 'refused' || phase === 'gone') {
    const first = solo ? 'Start' : 'Lend this GPU';
    return (
      <button type="button" class="primary" data-testid="join" onClick={() => controller.join()}>
        {phase === 'idle' ? first : 'Try again'}
      </button>
    );
  }
  return (
    <button type="button" data-testid="leave" onClick={() => void controller.leave()}>
      {solo ? 'Stop' : phase === 'draining' ? 'Leave now' : 'Leave'}
    </button>
  );
}
