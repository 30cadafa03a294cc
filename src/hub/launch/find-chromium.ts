import path from 'node:path';

/** What the search looks at; tests put a made-up machine in its place. */
export interface Machine {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly platform: NodeJS.Platform;
  /** Whether an executable file is there. */
  readonly isExecutable: (file: string) => boolean;
  /** Where Playwright's installer puts its Chromium. */
  readonly playwrightPath: () => string;
}

/** A browser that is named but not there. The message is one line. */
export class ChromiumError extends Error {
  override name = 'ChromiumError';
}

const COMMANDS = [
  'chromium',
  'chromium-browser',
  'google-chrome',
  'google-chrome-stable',
  'chrome',
  'msedge',
  'microsoft-edge',
];

/** Where installers put browsers that are on no PATH. `%NAME%` = a variable. */
const PLACES: Partial<Record<NodeJS.Platform, readonly string[]>> = {
  linux: ['/opt/google/chrome/chrome', '/opt/microsoft/msedge/msedge'],
  darwin: [
    '/Applications/Chromium.app/Contents/MacOS/Chromium',
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
    '/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge',
  ],
  win32: [
    '%PROGRAMFILES%\\Google\\Chrome\\Application\\chrome.exe',
    '%LOCALAPPDATA%\\Google\\Chrome\\Application\\chrome.exe',
    '%PROGRAMFILES(X86)%\\Microsoft\\Edge\\Application\\msedge.exe',
  ],
};

/**
 * Executable of a Chromium: `named` (--chromium or QUIRE_CHROMIUM) alone when given, else Playwright's own, else the first of
 * chromium, google-chrome, chrome, msedge on PATH or in its usual place. null when there is none.
 * Throws `ChromiumError` when `named` is not there.
 */
export function findChromium(machine: Machine, named: string | null): string | null {
  if (named !== null) {
    if (machine.isExecutable(named)) return named;
    throw new ChromiumError(
      `There is no browser at ${named} (from --chromium or QUIRE_CHROMIUM). Name an executable file, or leave it out.`,
    );
  }
  return candidates(machine).find(machine.isExecutable) ?? null;
}

function candidates({ env, platform, playwrightPath }: Machine): string[] {
  const windows = platform === 'win32';
  const { join } = windows ? path.win32 : path.posix;
  const folders = (env.PATH ?? '').split(windows ? ';' : ':').filter(Boolean);
  const onPath = COMMANDS.flatMap((command) => folders.map((f) => join(f, windows ? `${command}.exe` : command)));
  const places = (PLACES[platform] ?? []).map((place) => place.replace(/%([^%]+)%/g, (_all, name) => env[name] ?? ''));
  return [playwrightPath(), ...onPath, ...places];
}
