import { offeredOptions, type Parsed } from '../../config/options.ts';
import type { HeadlessNodes } from './headless-nodes.ts';
import { remoteHub } from './remote-hub.ts';
import { closeOnSignals, endWithNpm } from './shutdown.ts';
import { followNodes, startNodes } from './start-nodes.ts';

/** Beside the times for their streams, how long pages may take to say that they have left. */
const LEAVE_MS = 5000;
/** Then, how long the browser may take to close. */
const CLOSE_MS = 30_000;

/**
 * `--headless`: nodes of this machine for a hub elsewhere, until a signal ends them. Resolves when they are ready or cannot be.
 * Throws `OptionError` when the hub cannot be reached or its certificate is not to be trusted. Ends the process with 1 when no node could be started.
 */
export async function lendTo({ options, given }: Parsed, say: (line: string) => void): Promise<void> {
  const { origin, joinToken, trustedKey } = await remoteHub({
    url: options['hub-url'] ?? '',
    joinToken: options['join-token'],
    fingerprint: options['hub-fingerprint'],
  });
  const { headless: _, ...query } = offeredOptions(given);
  const streamMs =
    (options['graceful-shutdown-grace-period-secs'] + options['runtime-graceful-shutdown-timeout-secs']) * 1000;
  let nodes: HeadlessNodes | null = null;
  closeOnSignals(
    process,
    {
      async close() {
        say('\nLeaving the hub. Ctrl-C again ends at once.');
        await nodes?.leave(streamMs + LEAVE_MS);
        await nodes?.close();
      },
      exit: (code) => process.exit(code),
      say,
      timeoutMs: streamMs + LEAVE_MS + CLOSE_MS,
    },
    Date.now,
  );
  endWithNpm();
  process.stdout.on('error', () => {});
  const { nodes: roles, chromium, yes } = options;
  nodes = await startNodes({ nodes: roles, chromium, yes, hubUrl: origin, joinToken, trustedKey, query, say });
  if (nodes === null) process.exit(1);
  const ready = await followNodes(nodes, say);
  say(`${ready} of ${roles.length} nodes lend to ${origin}. Ctrl-C takes them back.`);
}
