import { describe, expect, test } from 'vitest';
import { chromiumArgs } from '../../../src/hub/launch/chromium-args.ts';
import { ChromiumError, findChromium, type Machine } from '../../../src/hub/launch/find-chromium.ts';
import { ensureChromium, type Installer } from '../../../src/hub/launch/install-chromium.ts';

const OWN = '/home/p/.cache/ms-playwright/chromium-1/chrome';

function machine(files: Iterable<string>, over: Partial<Machine> = {}): Machine {
  const there = new Set(files);
  return {
    env: { PATH: '/usr/local/bin:/usr/bin' },
    platform: 'linux',
    isExecutable: (file) => there.has(file),
    playwrightPath: () => OWN,
    ...over,
  };
}

describe('finding', () => {
  test.each([
    [['/usr/bin/msedge', '/usr/bin/chrome', '/usr/bin/google-chrome', '/usr/bin/chromium', OWN], OWN],
    [['/usr/bin/msedge', '/usr/bin/chrome', '/usr/bin/google-chrome', '/usr/bin/chromium'], '/usr/bin/chromium'],
    [['/usr/bin/msedge', '/usr/bin/chrome', '/usr/bin/google-chrome'], '/usr/bin/google-chrome'],
    [['/usr/bin/msedge', '/usr/bin/chrome'], '/usr/bin/chrome'],
    [['/usr/bin/msedge'], '/usr/bin/msedge'],
    [['/opt/google/chrome/chrome'], '/opt/google/chrome/chrome'],
    [['/usr/bin/chromium', '/usr/local/bin/chromium'], '/usr/local/bin/chromium'],
  ])('of %j it takes %s', (files, expected) => {
    expect(findChromium(machine(files), null)).toBe(expected);
  });

  test('nothing there', () => {
    expect(findChromium(machine([]), null)).toBeNull();
    expect(findChromium(machine([], { env: {} }), null)).toBeNull();
  });

  test('the named one wins over all others, and there is no other way when it is missing', () => {
    const here = machine([OWN, '/my/chromium']);
    expect(findChromium(here, '/my/chromium')).toBe('/my/chromium');
    expect(() => findChromium(here, '/your/chromium')).toThrow(ChromiumError);
  });

  test('macOS and Windows', () => {
    const mac = '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome';
    expect(findChromium(machine([mac], { platform: 'darwin' }), null)).toBe(mac);
    const edge = 'C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe';
    const env = { PATH: 'C:\\Windows', 'PROGRAMFILES(X86)': 'C:\\Program Files (x86)' };
    expect(findChromium(machine([edge], { platform: 'win32', env }), null)).toBe(edge);
    const onPath = machine(['C:\\tools\\chrome.exe'], { platform: 'win32', env: { PATH: 'C:\\Windows;C:\\tools' } });
    expect(findChromium(onPath, null)).toBe('C:\\tools\\chrome.exe');
  });
});

describe('installing', () => {
  /** A machine on which a command puts files; other commands fail. */
  function installer(works: Record<string, string>, over: Partial<Installer> = {}) {
    const files = new Set<string>();
    const ran: string[] = [];
    const said: string[] = [];
    const made: Installer = {
      machine: { ...machine([]), isExecutable: (file) => files.has(file) },
      isRoot: false,
      run: async (command) => {
        ran.push(command);
        const file = works[command];
        if (file) files.add(file);
        return file !== undefined;
      },
      ask: null,
      say: (line) => said.push(line),
      ...over,
    };
    return { made, ran, said };
  }
  const playwright = 'npx playwright install --no-shell chromium';
  const asRoot = 'npx playwright install --no-shell --with-deps chromium';
  const apt = 'apt-get update && apt-get install -y chromium';

  test('nobody to ask: says the one command and runs nothing', async () => {
    const { made, ran, said } = installer({ [playwright]: OWN });
    expect(await ensureChromium(made, { named: null, yes: false })).toBeNull();
    expect(ran).toEqual([]);
    expect(said).toEqual([expect.stringContaining(playwright)]);
  });

  test.each([
    [true, OWN],
    [false, null],
  ])('asked and answered %s', async (answer, expected) => {
    const { made } = installer({ [playwright]: OWN }, { ask: async () => answer });
    expect(await ensureChromium(made, { named: null, yes: false })).toBe(expected);
  });

  test('--yes asks nobody', async () => {
    const ask = () => Promise.reject(new Error('asked'));
    const { made, ran } = installer({ [playwright]: OWN }, { ask });
    expect(await ensureChromium(made, { named: null, yes: true })).toBe(OWN);
    expect(ran).toEqual([playwright]);
  });

  test('root falls back to apt-get; others are told that it failed', async () => {
    const root = installer({ [apt]: '/usr/bin/chromium' }, { isRoot: true });
    expect(await ensureChromium(root.made, { named: null, yes: true })).toBe('/usr/bin/chromium');
    expect(root.ran).toEqual([asRoot, apt]);
    const other = installer({});
    expect(await ensureChromium(other.made, { named: null, yes: true })).toBeNull();
    expect(other.ran).toEqual([playwright]);
    expect(other.said.at(-1)).toContain('failed');
  });

  test('nothing is installed where one is', async () => {
    const { made, ran } = installer({}, { machine: machine(['/usr/bin/chromium']) });
    expect(await ensureChromium(made, { named: null, yes: true })).toBe('/usr/bin/chromium');
    expect(ran).toEqual([]);
  });
});

describe('command line of the browser', () => {
  const plain = { adapter: 'hardware', isRoot: false, trustedKey: null, trustedOrigin: null } as const;

  test('the sandbox goes for root only', () => {
    expect(chromiumArgs(plain)).not.toContain('--no-sandbox');
    expect(chromiumArgs({ ...plain, isRoot: true })).toContain('--no-sandbox');
  });

  test('software is asked for by name, never in secret', () => {
    expect(chromiumArgs(plain).join(' ')).not.toContain('swiftshader');
    expect(chromiumArgs({ ...plain, adapter: 'software' })).toContain('--use-webgpu-adapter=swiftshader');
  });

  test('certificates are trusted by their key, never all of them', () => {
    expect(chromiumArgs(plain).join(' ')).not.toContain('ignore-certificate');
    const args = chromiumArgs({ ...plain, trustedKey: 'abc=' });
    expect(args).toContain('--ignore-certificate-errors-spki-list=abc=');
    expect(args).not.toContain('--ignore-certificate-errors');
  });
});
