import { OptionError } from './option.ts';

/** Of the options that only a hub reads, those that starting nodes for another hub reads too. */
const ALSO_HEADLESS: ReadonlySet<string> = new Set([
  'nodes',
  'chromium',
  'yes',
  'hub-url',
  'hub-fingerprint',
  'join-token',
  'graceful-shutdown-grace-period-secs',
  'runtime-graceful-shutdown-timeout-secs',
]);

interface HeadlessOptions {
  readonly headless: boolean;
  readonly 'hub-url': string | null;
  readonly 'hub-fingerprint': string | null;
}

/** What was set, as far as it matters here: the flag's name, whether only a hub reads it, and where it stood. */
interface GivenOption {
  readonly name: string;
  readonly hubOnly: boolean;
  readonly source: string;
}

/**
 * `--headless` starts nodes of a hub that runs elsewhere. Throws `OptionError` for flags of a hub beside it, and for its own flags without it.
 * Returns lines to say at start: variables of a hub that nothing reads then.
 */
export function checkHeadless(options: HeadlessOptions, given: readonly GivenOption[]): string[] {
  if (!options.headless) {
    for (const name of ['hub-url', 'hub-fingerprint'] as const) {
      if (options[name] === null) continue;
      throw new OptionError(`--${name} names a hub that runs elsewhere: add --headless to start nodes for it.`);
    }
    return [];
  }
  if (options['hub-url'] === null)
    throw new OptionError('--headless starts nodes and no hub: name the hub that they join with --hub-url.');
  const unread = given.filter(({ name, hubOnly }) => hubOnly && !ALSO_HEADLESS.has(name));
  const flag = unread.find(({ source }) => source.startsWith('--'));
  if (flag !== undefined) {
    throw new OptionError(
      `${flag.source}: this is an option of the hub, which with --headless runs elsewhere. Give it there.`,
    );
  }
  return unread.map(
    ({ source }) => `${source.split('=')[0]} is set and not used: with --headless there is no hub here.`,
  );
}
