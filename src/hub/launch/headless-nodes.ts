import { type BrowserContext, chromium, type Page } from 'playwright';
import { isSoftwareAdapter } from '../../protocol/adapter-name.ts';
import { type AdapterChoice, chromiumArgs } from './chromium-args.ts';

export interface HeadlessOptions {
  /** Chromium's executable. */
  readonly executable: string;
  /** Origin of the hub as this machine reaches it. */
  readonly hubUrl: string;
  readonly joinToken: string | null;
  /** Nodes to start, at least 1; each is a page of one browser, so that they share downloaded weights. */
  readonly count: number;
  readonly isRoot: boolean;
  /** Base64 SHA-256 of the hub's public key, for a certificate that the system does not trust. */
  readonly trustedKey: string | null;
  /** `auto`: hardware when the browser has it, else software. */
  readonly adapter: AdapterChoice | 'auto';
  /** One line about what goes on or went wrong, at any time until `close`. */
  readonly say: (line: string) => void;
}

export interface HeadlessNodes {
  readonly adapter: AdapterChoice;
  readonly context: BrowserContext;
  /** One per node, in the order of their start. */
  readonly pages: readonly Page[];
  /** Ends the browser and all its processes. */
  close(): Promise<void>;
}

const LAUNCH_TIMEOUT_MS = 60_000;

/**
 * Starts a headless Chromium with `count` pages that join the hub. They are joining, not yet ready, when this resolves.
 * Rejects when the browser does not start or the hub does not answer; nothing is left running then.
 */
export async function launchNodes(options: HeadlessOptions): Promise<HeadlessNodes> {
  const { say } = options;
  if (options.isRoot) say('Chromium runs without its sandbox, which does not work for root.');
  let adapter: AdapterChoice = options.adapter === 'software' ? 'software' : 'hardware';
  let context = await open(options, adapter);
  try {
    if (options.adapter === 'auto' && !(await hasHardwareAdapter(context, options.hubUrl))) {
      say('NO GPU FOUND: the nodes of this machine compute on the CPU (SwiftShader), far slower than any GPU.');
      await context.close();
      adapter = 'software';
      context = await open(options, adapter);
    }
    const pages: Page[] = [];
    for (let i = 0; i < options.count; i++) {
      // A browser starts with one empty page.
      const page = context.pages()[i] ?? (await context.newPage());
      pages.push(page);
      await openNode(page, options, adapter);
    }
    let closing = false;
    context.on('close', () => {
      if (!closing)
        say('The headless browser ended by itself, and its nodes with it. Start the hub again to have them back.');
    });
    return {
      adapter,
      context,
      pages,
      async close() {
        closing = true;
        await context.close();
      },
    };
  } catch (error) {
    await context.close();
    throw error;
  }
}

/** A browser with a profile of its own in a temporary folder: storage (OPFS) is on disk and ends with it. */
async function open({ executable, isRoot, trustedKey, hubUrl }: HeadlessOptions, adapter: AdapterChoice) {
  const { protocol, hostname, origin } = new URL(hubUrl);
  const secure =
    protocol === 'https:' || hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.');
  return chromium.launchPersistentContext('', {
    executablePath: executable,
    headless: true,
    args: chromiumArgs({ adapter, isRoot, trustedKey, trustedOrigin: secure ? null : origin }),
    // Playwright switches the sandbox off by default.
    chromiumSandbox: !isRoot,
    // Whoever started this closes it, in order; the signals are theirs.
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
    timeout: LAUNCH_TIMEOUT_MS,
  });
}

/** Asks the browser on a page of the hub, since WebGPU is for secure contexts only. */
async function hasHardwareAdapter(context: BrowserContext, hubUrl: string): Promise<boolean> {
  const page = context.pages()[0] ?? (await context.newPage());
  await page.goto(`${hubUrl}/live`);
  const info = await page.evaluate(async () => {
    const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' });
    if (!adapter) return null;
    const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
    return { vendor, architecture, device, description, isFallbackAdapter };
  });
  return info !== null && !isSoftwareAdapter(info);
}

async function openNode(page: Page, options: HeadlessOptions, adapter: AdapterChoice): Promise<void> {
  const { say } = options;
  page.on('crash', () =>
    say('The page of a headless node crashed, and the node with it. Start the hub again to have it back.'),
  );
  page.on('pageerror', (error) => say(`The page of a headless node reports: ${error.message}`));
  await page.goto(nodeUrl(options, adapter));
}

/** Address of a page that joins on its own: the token stays in the fragment, which no server sees. */
export function nodeUrl(
  { hubUrl, joinToken }: Pick<HeadlessOptions, 'hubUrl' | 'joinToken'>,
  adapter: AdapterChoice,
): string {
  const query = adapter === 'software' ? '?headless&allow-software-adapter' : '?headless';
  return `${hubUrl}/${query}${joinToken === null ? '' : `#join=${encodeURIComponent(joinToken)}`}`;
}
