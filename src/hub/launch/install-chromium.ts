import { findChromium, type Machine } from './find-chromium.ts';

/** How a missing Chromium is come by; tests put a script in its place. */
export interface Installer {
  readonly machine: Machine;
  readonly isRoot: boolean;
  /** Runs a shell command with its output shown; whether it ended well. */
  readonly run: (command: string) => Promise<boolean>;
  /** Asks a person yes or no; null where nobody can be asked. */
  readonly ask: ((question: string) => Promise<boolean>) | null;
  readonly say: (line: string) => void;
}

export interface InstallChoice {
  /** --chromium or QUIRE_CHROMIUM. */
  readonly named: string | null;
  /** --yes or CI=true: install without asking. */
  readonly yes: boolean;
}

/** The one command that installs Chromium here: Playwright's installer, with the system's libraries where root may add them. */
function installCommand(isRoot: boolean): string {
  return `npx playwright install --no-shell ${isRoot ? '--with-deps ' : ''}chromium`;
}

const APT = 'apt-get update && apt-get install -y chromium';

/**
 * Executable of a Chromium, installed when there is none and somebody agreed to it; null when there is none after all.
 * Throws `ChromiumError` when the one that was named is not there.
 */
export async function ensureChromium(installer: Installer, { named, yes }: InstallChoice): Promise<string | null> {
  const found = findChromium(installer.machine, named);
  if (found !== null) return found;
  const { say, isRoot } = installer;
  const command = installCommand(isRoot);
  say(`No Chromium found. This command installs one: ${command}`);
  const agreed = yes || ((await installer.ask?.('Run it now? [y/N] ')) ?? false);
  if (!agreed) return null;
  if (!(await installer.run(command))) {
    if (!isRoot) {
      say(`"${command}" failed: see its output above.`);
      return null;
    }
    say(`"${command}" failed. Trying the system's own: ${APT}`);
    if (!(await installer.run(APT))) say(`"${APT}" failed too: see its output above.`);
  }
  return findChromium(installer.machine, named);
}
