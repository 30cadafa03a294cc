/** What happened in the cluster, told request by request; pure, `activity-panel.tsx` draws. */
import type { ActiveTransfer, Happening } from '../protocol/cluster-state.ts';

type Of<K extends Happening['kind']> = Extract<Happening, { kind: K }>;

/** One step of a request's way. Nodes are named by their ids. */
export type Step =
  | Pick<Of<'routed'>, 'kind' | 'node' | 'rank' | 'overlapBlocks' | 'promptBlocks'>
  /** Another node computes the prompt: `moving` as long as the hub knows the transfer, then `moved`; `planned` where no end was told. */
  | {
      readonly kind: 'planned' | 'moving' | 'moved';
      readonly from: string;
      readonly to: string;
      readonly computedTokens: number | null;
      readonly transport: string | null;
      readonly blocks: number | null;
      readonly bytes: number | null;
      readonly milliseconds: number | null;
    }
  | Pick<Of<'fell_back'>, 'kind' | 'node' | 'prefillNode' | 'transport' | 'why' | 'message'>
  | {
      readonly kind: 'migrated';
      readonly from: string;
      readonly to: string;
      readonly completionTokens: number;
      readonly numericsChanged: boolean;
      readonly overlapBlocks: number;
    };
type Transfer = Extract<Step, { kind: 'planned' | 'moving' | 'moved' }>;

export interface Story {
  readonly request: number;
  readonly model: string;
  /** Unix milliseconds, by the hub's clock, of the last step. */
  readonly at: number;
  /** In the order in which they happened, at least one. */
  readonly steps: readonly Step[];
}

/** Stories of more than a request that went to a node and ended there. */
const NOTABLE_STORIES = 20;
/** The others; in a busy cluster they are many, and they would hide the notable ones. */
const PLAIN_STORIES = 6;

/** The newest stories, newest first. `happenings`: oldest first. */
export function storiesOf(happenings: readonly Happening[], transfers: readonly ActiveTransfer[]): Story[] {
  const told = new Map<number, { model: string; at: number; steps: Step[] }>();
  for (const happening of happenings) {
    const { request, model, at } = happening;
    const story = told.get(request) ?? { model, at, steps: [] };
    // The last to have changed comes last.
    told.delete(request);
    told.set(request, { model, at, steps: tell(story.steps, happening) });
  }
  for (const transfer of transfers) {
    const steps = told.get(transfer.request)?.steps;
    const at = steps?.findLastIndex((step) => isTransfer(step, transfer.prefillNode, transfer.decodeNode)) ?? -1;
    const step = steps?.[at];
    if (steps === undefined || step?.kind !== 'planned') continue;
    const { transport, blocks } = transfer;
    steps[at] = { ...step, kind: 'moving', transport, blocks: blocks > 0 ? blocks : null };
  }
  let notable = NOTABLE_STORIES;
  let plain = PLAIN_STORIES;
  return [...told]
    .reverse()
    .map(([request, story]) => ({ request, ...story }))
    .filter(({ steps }) => (steps.every(({ kind }) => kind === 'routed') ? plain-- > 0 : notable-- > 0));
}

/** The steps with one more thing that happened; it may add to a step that is there. */
function tell(steps: readonly Step[], happening: Happening): Step[] {
  const last = steps.at(-1);
  switch (happening.kind) {
    case 'routed': {
      const { node, rank, prefillNode, overlapBlocks, promptBlocks } = happening;
      if (prefillNode !== null) return [...steps, planned(prefillNode, node)];
      // That a migrated request went to its new node was just said.
      if (last?.kind === 'migrated' && last.to === node) return [...steps.slice(0, -1), { ...last, overlapBlocks }];
      return [...steps, { kind: 'routed', node, rank, overlapBlocks, promptBlocks }];
    }
    case 'prefilled': {
      const { node, decodeNode, computedTokens } = happening;
      // The prefill node did its part, and nothing came of it.
      if (last?.kind === 'fell_back' && last.prefillNode === node && last.node === decodeNode) return [...steps];
      return withTransfer(steps, node, decodeNode, (step) => ({ ...step, computedTokens }));
    }
    case 'transferred': {
      const { from, to, transport, blocks, bytes, milliseconds } = happening;
      const moved = { kind: 'moved' as const, transport, blocks, bytes, milliseconds };
      return withTransfer(steps, from, to, (step) => ({ ...step, ...moved }));
    }
    case 'fell_back': {
      const { kind, node, prefillNode, transport, why, message } = happening;
      const step = { kind, node, prefillNode, transport, why, message };
      return isTransfer(last, prefillNode, node) ? [...steps.slice(0, -1), step] : [...steps, step];
    }
    case 'migrated': {
      const { kind, from, to, completionTokens, numericsChanged } = happening;
      return [...steps, { kind, from, to, completionTokens, numericsChanged, overlapBlocks: 0 }];
    }
  }
}

function planned(from: string, to: string): Transfer {
  const unknown = { computedTokens: null, transport: null, blocks: null, bytes: null, milliseconds: null };
  return { kind: 'planned', from, to, ...unknown };
}

function isTransfer(step: Step | undefined, from: string, to: string): step is Transfer {
  const moves = step?.kind === 'planned' || step?.kind === 'moving' || step?.kind === 'moved';
  return moves && step.from === from && step.to === to;
}

/** Changes the last transfer between two nodes; the list may have lost what came before it, then it begins here. */
function withTransfer(steps: readonly Step[], from: string, to: string, change: (step: Transfer) => Transfer): Step[] {
  const at = steps.findLastIndex((step) => isTransfer(step, from, to));
  const step = steps[at];
  if (!isTransfer(step, from, to)) return [...steps, change(planned(from, to))];
  return steps.with(at, change(step));
}
