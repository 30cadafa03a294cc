import type { ComponentChildren } from 'preact';
import { bytes, count, milliseconds, since } from './format.ts';
import { NodeName } from './node-name.tsx';
import { cluster } from './state.ts';
import { type Step, type Story, storiesOf } from './stories.ts';

const LONGEST_WHOLE = 24;

/** What happens to requests in the cluster, as it happens: who prefilled, who decoded, what moved and how, what migrated. */
export function ActivityPanel() {
  const view = cluster.value;
  if (view.status !== 'reached') return null;
  const { happenings, transfers, totals, migrations, now } = view.state;
  const stories = storiesOf(happenings, transfers);
  return (
    <section class="panel activity" aria-labelledby="activity-title" data-testid="activity">
      <h2 id="activity-title">Activity</h2>
      <dl class="totals">
        <Total name="migrations" testId="migrations" value={migrations} />
        <Total name="KV transfers" testId="transfers" value={totals.transfers} more={bytes(totals.bytes)} />
        <Total name="fall-backs" testId="fall-backs" value={totals.fallBacks} />
        <Total name="moving now" testId="moving" value={transfers.length} />
      </dl>
      {stories.length === 0 ? (
        <p class="quiet">Nothing yet. Each request shows here: its nodes, what moved between them, and migrations.</p>
      ) : (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard, in Safari too
        <ol class="stories" tabIndex={0} aria-label="The last requests, newest first">
          {stories.map((story) => (
            <StoryRow key={story.request} story={story} now={now} />
          ))}
        </ol>
      )}
    </section>
  );
}

function Total(props: { name: string; testId: string; value: number; more?: string }) {
  const { name, testId, value, more } = props;
  return (
    <div class="figure">
      <dt>{name}</dt>
      <dd data-testid={testId} data-value={value}>
        {count(value)}
        {more !== undefined && value > 0 && <small> {more}</small>}
      </dd>
    </div>
  );
}

function StoryRow({ story: { request, steps, at, model }, now }: { story: Story; now: number }) {
  return (
    <li class="story" data-testid="story" data-request={request}>
      <p class="quiet story-head">
        <span title={model}>request {count(request)}</span>
        <time dateTime={new Date(at).toISOString()}>{since(at, now)}</time>
      </p>
      {steps.map((step, i) => (
        // Steps are only ever added, so their place is their name.
        <StepLine key={`step-${i}`} step={step} />
      ))}
    </li>
  );
}

const WORDS: Readonly<Record<Step['kind'], string>> = {
  routed: 'routed',
  planned: 'prefill',
  moving: 'moving',
  moved: 'moved',
  fell_back: 'fell back',
  migrated: 'migrated',
};

function StepLine({ step }: { step: Step }) {
  return (
    <p class="step" data-testid="step" data-state={step.kind}>
      <span class="tag">{WORDS[step.kind]}</span> <StepText step={step} />
    </p>
  );
}

function StepText({ step }: { step: Step }) {
  switch (step.kind) {
    case 'routed':
      return (
        <>
          to <NodeName id={step.node} rank={step.rank} />
          <Facts
            of={[step.overlapBlocks > 0 && `${count(step.overlapBlocks)} of ${blocks(step.promptBlocks)} cached`]}
          />
        </>
      );
    case 'planned':
    case 'moving':
    case 'moved': {
      const { from, to, computedTokens, transport, milliseconds: took } = step;
      const size = [step.blocks !== null && blocks(step.blocks), step.bytes !== null && bytes(step.bytes)];
      return (
        <>
          <NodeName id={from} /> prefills <Arrow /> <NodeName id={to} /> decodes
          <Facts
            of={[
              ...size,
              transport !== null && `by ${transport}`,
              took !== null && `in ${milliseconds(took)}`,
              computedTokens !== null && `${count(computedTokens)} tokens prefilled`,
            ]}
          />
        </>
      );
    }
    case 'fell_back':
      return (
        <>
          <NodeName id={step.node} /> prefilled itself, not <NodeName id={step.prefillNode} />
          <Facts of={[step.transport !== null && `by ${step.transport}`, step.message || step.why]} />
        </>
      );
    case 'migrated':
      return (
        <>
          <NodeName id={step.from} /> <Arrow /> <NodeName id={step.to} />
          <Facts
            of={[
              `after ${tokens(step.completionTokens)}`,
              step.overlapBlocks > 0 && `${blocks(step.overlapBlocks)} cached there`,
              step.numericsChanged && 'other numerics',
            ]}
          />
        </>
      );
  }
}

function Arrow() {
  return (
    <>
      <span aria-hidden="true">→</span>
      <span class="unseen">to</span>
    </>
  );
}

function Facts({ of }: { of: readonly (string | false)[] }): ComponentChildren {
  const facts = of.filter((fact) => fact !== false);
  return facts.length === 0 ? null : (
    <span class="quiet">{facts.map((fact) => `\u00a0· ${whole(fact)}`).join('')}</span>
  );
}

/** A short fact breaks over no line. */
const whole = (fact: string): string => (fact.length <= LONGEST_WHOLE ? fact.replaceAll(' ', '\u00a0') : fact);

const blocks = (value: number): string => `${count(value)} ${value === 1 ? 'block' : 'blocks'}`;
const tokens = (value: number): string => `${count(value)} ${value === 1 ? 'token' : 'tokens'}`;
