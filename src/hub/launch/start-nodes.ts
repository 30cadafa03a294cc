import { systemClock } from '../../protocol/clock.ts';
import type { Role } from '../../protocol/messages.ts';
import { type HeadlessNodes, launchNodes } from './headless-nodes.ts';
import { ensureChromium } from './install-chromium.ts';
import { thisInstaller } from './installer.ts';
import { isRoot } from './machine.ts';
import { followNode } from './node-progress.ts';

/** After so long nobody waits for a node that is not ready: it may have much to download. */
const READY_TIMEOUT_MS = 600_000;

export interface StartNodes {
  /** Role of each node; null = as hub and `query` say. */
  readonly nodes: readonly (Role | null)[];
  /** `--chromium`; null = look for one. */
  readonly chromium: string | null;
  /** Install one without asking. */
  readonly yes: boolean;
  readonly hubUrl: string;
  readonly joinToken: string | null;
  /** Base64 SHA-256 of the hub's public key, for a certificate that the system does not trust. */
  readonly trustedKey: string | null;
  /** Options that every page gets in its address. */
  readonly query: Readonly<Record<string, string>>;
  readonly say: (line: string) => void;
}

/** Headless nodes of this machine, on their way; null when there are none, which has been said. */
export async function startNodes(start: StartNodes): Promise<HeadlessNodes | null> {
  const { nodes, chromium, say } = start;
  const yes = start.yes || process.env.CI === 'true';
  const executable = await ensureChromium(thisInstaller, { named: chromium, yes });
  if (executable === null) return null;
  say(`Starting ${nodes.length === 1 ? 'a headless node' : `${nodes.length} headless nodes`} in ${executable} ...`);
  const { hubUrl, joinToken, trustedKey, query } = start;
  try {
    return await launchNodes({
      executable,
      hubUrl,
      joinToken,
      roles: nodes,
      query,
      isRoot,
      trustedKey,
      adapter: 'auto',
      clock: systemClock,
      say,
    });
  } catch (error) {
    say(`No headless node: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
}

/** Until each node is ready or cannot be; says how it goes. Resolves to how many are ready. */
export async function followNodes({ pages }: HeadlessNodes, say: (line: string) => void): Promise<number> {
  const starts = pages.map(async (page, i) => {
    const start = await followNode(page, (stage) => say(`  node ${i + 1}: ${stage}`), READY_TIMEOUT_MS);
    if (start.outcome === 'failed') say(`Node ${i + 1} cannot serve: ${start.reason}`);
    if (start.outcome === 'waiting') say(`Node ${i + 1} is still ${start.stage}; it goes on.`);
    return start.outcome === 'ready';
  });
  return (await Promise.all(starts)).filter(Boolean).length;
}
