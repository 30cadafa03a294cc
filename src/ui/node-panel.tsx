import type { PageStage } from '../node/snapshot.ts';
import { loadSum } from '../protocol/load-sum.ts';
import { AdapterFacts } from './adapter-facts.tsx';
import { BlockPool } from './block-pool.tsx';
import type { Controller } from './controller.ts';
import { DownloadBar } from './download-bar.tsx';
import { CapabilityNotice, ProblemNotice } from './notices.tsx';
import { OpenModel } from './open-model.tsx';
import { STAGES, WAY } from './stages.ts';
import { alone, capability, headless, node } from './state.ts';
import { Throughput } from './throughput.tsx';

/** This page's node: where it is in its life, how fast it computes, and what its memory holds. */
export function NodePanel({ controller }: { controller: Controller }) {
  const { detail, loads, blockMaps, card, problem } = node.value;
  const able = capability.value.ok;
  const stage: PageStage = able ? node.value.stage : 'refused';
  const { title, meaning } = STAGES[alone.value ? 'solo' : 'cluster'][stage];
  return (
    <section class="panel node" aria-labelledby="stage-title">
      <div class="stage" data-testid="stage" data-state={stage} data-node={node.value.node ?? undefined}>
        <div role="status">
          <h2 id="stage-title">
            <span class="dot" data-state={stage} />
            {title}
          </h2>
          <p class="quiet">{meaning}</p>
        </div>
        {able && <LifeButton stage={stage} controller={controller} />}
      </div>
      <Way stage={stage} />
      {stage === 'downloading' && <DownloadBar />}
      {detail !== '' && (
        <p class="quiet detail" data-testid="detail">
          {detail}
        </p>
      )}
      <CapabilityNotice />
      {problem && <ProblemNotice problem={problem} />}
      {loads && <Throughput load={loadSum(loads)} />}
      {blockMaps?.map((map, i) => (
        <BlockPool key={i} map={map} rank={blockMaps.length > 1 ? (card?.dpRank ?? 0) + i : null} />
      ))}
      {able && <AdapterFacts controller={controller} />}
      {able && !headless.value && <OpenModel controller={controller} />}
    </section>
  );
}

/** Steps from joining to ready, while a node is on its way. */
function Way({ stage }: { stage: PageStage }) {
  const at = WAY.indexOf(stage);
  if (at < 0 || stage === 'ready') return null;
  return (
    <ol class="way" aria-label="Steps to ready">
      {WAY.map((step, i) => (
        <li
          key={step}
          data-state={i < at ? 'done' : i === at ? 'now' : 'ahead'}
          aria-current={i === at ? 'step' : undefined}
        >
          {STAGES[alone.value ? 'solo' : 'cluster'][step].title}
        </li>
      ))}
    </ol>
  );
}

function LifeButton({ stage, controller }: { stage: PageStage; controller: Controller }) {
  const solo = alone.value;
  if (stage === 'draining' && solo)
    return (
      <button type="button" disabled>
        Stopping …
      </button>
    );
  if (stage === 'idle' || stage === 'refused' || stage === 'gone') {
    const first = solo ? 'Start' : 'Lend this GPU';
    return (
      <button type="button" class="primary" data-testid="join" onClick={() => controller.join()}>
        {stage === 'idle' ? first : 'Try again'}
      </button>
    );
  }
  return (
    <button type="button" data-testid="leave" onClick={() => void controller.leave()}>
      {solo ? 'Stop' : stage === 'draining' ? 'Leave now' : 'Leave'}
    </button>
  );
}
