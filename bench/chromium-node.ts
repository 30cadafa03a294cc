import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Hub } from '../src/hub/hub.ts';
import { findChromium } from '../src/hub/launch/find-chromium.ts';
import { launchNodes } from '../src/hub/launch/headless-nodes.ts';
import { isRoot, thisMachine } from '../src/hub/launch/machine.ts';
import { build, isStale } from '../src/hub/launch/page-build.ts';
import { systemClock } from '../src/protocol/clock.ts';
import { startTestHub } from '../test/support/test-hub.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const READY_MS = 300_000;

/** A hub of this process with one page of a headless Chromium as its node. */
export interface PageNode {
  readonly hub: Hub;
  /** Milliseconds that the node spent in each stage before it was ready, as the hub saw it. */
  readonly phases: Readonly<Record<string, number>>;
  /** The page once more; resolves when its node is ready again. */
  reload(): Promise<void>;
  close(): Promise<void>;
}

/** Resolves when the node is ready. The page is built when its sources changed. */
export async function openPageNode(software: boolean): Promise<PageNode> {
  const executable = findChromium(thisMachine, process.env.QUIRE_CHROMIUM ?? null);
  if (executable === null) throw new Error('No Chromium found. Install one: npx tsx scripts/ensure-chromium.ts');
  if (isStale(ROOT, 'page')) await build(ROOT, 'page');
  const hub = await startTestHub({ staticDir: path.join(ROOT, 'dist/page') });
  let ready = untilReady(hub);
  const browser = await launchNodes({
    executable,
    hubUrl: hub.url,
    joinToken: null,
    roles: [null],
    query: {},
    isRoot,
    trustedKey: null,
    adapter: software ? 'software' : 'auto',
    clock: systemClock,
    say: (line) => console.error(line),
  });
  let phases = await ready;
  return {
    hub,
    get phases() {
      return phases;
    },
    async reload() {
      ready = untilReady(hub);
      await browser.pages[0]!.reload();
      phases = await ready;
    },
    async close() {
      await browser.close();
      await hub.close({ graceSeconds: 0, drainSeconds: 0 });
    },
  };
}

/** Follows the next node from its first message on. */
function untilReady(hub: Hub): Promise<Record<string, number>> {
  const known = new Set(hub.state().nodes.map(({ id }) => id));
  const phases: Record<string, number> = {};
  let stage: string | null = null;
  let since = 0;
  return new Promise((resolve, reject) => {
    const giveUp = setTimeout(() => reject(new Error(`The page is not ready but ${stage}.`)), READY_MS);
    const stop = hub.onNodeChange(() => {
      const node = hub.state().nodes.find(({ id }) => !known.has(id));
      if (node === undefined || node.stage === stage) return;
      const now = performance.now();
      if (stage !== null) phases[stage] = (phases[stage] ?? 0) + now - since;
      stage = node.stage;
      since = now;
      if (stage !== 'ready') return;
      clearTimeout(giveUp);
      stop();
      resolve(phases);
    });
  });
}
