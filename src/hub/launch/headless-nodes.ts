import { type BrowserContext, chromium, type Page } from 'playwright';
import { isSoftwareAdapter } from '../../protocol/adapter-name.ts';
import type { Clock } from '../../protocol/clock.ts';
import type { Role } from '../../protocol/messages.ts';
import { type AdapterChoice, chromiumArgs } from './chromium-args.ts';
import { Keeper, type Running } from './keeper.ts';

export interface HeadlessOptions {
  /** Chromium's executable. */
  readonly executable: string;
  /** Origin of the hub as this machine reaches it. */
  readonly hubUrl: string;
  readonly joinToken: string | null;
  /** Nodes to start, at least one, by role (null = as hub and `query` say); each is a page of one browser, so that they share downloaded weights. */
  readonly roles: readonly (Role | null)[];
  /** Options that every page gets in its address. */
  readonly query: Readonly<Record<string, string>>;
  readonly isRoot: boolean;
  /** Base64 SHA-256 of the hub's public key, for a certificate that the system does not trust. */
  readonly trustedKey: string | null;
  /** `auto`: hardware when the browser has it, else software. */
  readonly adapter: AdapterChoice | 'auto';
  readonly clock: Clock;
  /** One line about what goes on or went wrong, at any time until `close`. */
  readonly say: (line: string) => void;
}

export interface HeadlessNodes {
  readonly adapter: AdapterChoice;
  /** One per node, as they are now: one that ends is replaced. */
  readonly pages: readonly Page[];
  /** The nodes leave the hub as if a person said so, and let their streams end; at most `timeoutMs`. Then `close`. */
  leave(timeoutMs: number): Promise<void>;
  /** Ends the browser and all its processes. */
  close(): Promise<void>;
}

const LAUNCH_TIMEOUT_MS = 60_000;

/**
 * Starts a headless Chromium with a page for each of `roles` that join the hub. They are joining, not yet ready, when this resolves.
 * Rejects when the browser does not start or the hub does not answer; nothing is left running then. Later a page that crashes or is
 * closed is opened again, and a browser that ends started again, until `close`.
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
    const browser = new NodeBrowser(options, adapter, context);
    await browser.begin();
    return browser;
  } catch (error) {
    await context.close();
    throw error;
  }
}

class NodeBrowser implements HeadlessNodes {
  readonly pages: Page[] = [];
  readonly #keepers: readonly Keeper[];
  /** null between the end of a browser and the start of the next. */
  #context: Promise<BrowserContext> | null;
  /** A browser starts with one empty page; the first node that is started takes it. */
  #empty: Page | null = null;

  constructor(
    private readonly options: HeadlessOptions,
    readonly adapter: AdapterChoice,
    context: BrowserContext,
  ) {
    this.#context = Promise.resolve(context);
    this.#watch(context);
    const { roles, clock, say } = options;
    this.#keepers = roles.map((_, at) => {
      return new Keeper({ name: `Node ${at + 1}`, start: () => this.#start(at), clock, say });
    });
  }

  /** Rejects when a page cannot be opened. */
  async begin(): Promise<void> {
    try {
      for (const keeper of this.#keepers) await keeper.begin();
    } catch (error) {
      this.#stop();
      throw error;
    }
  }

  async leave(timeoutMs: number): Promise<void> {
    this.#stop();
    // A page that crashed or has no button any more has left already.
    await Promise.all(this.pages.map((page) => leavePage(page, timeoutMs).catch(() => {})));
  }

  async close(): Promise<void> {
    this.#stop();
    const context = await this.#context?.catch(() => null);
    await context?.close();
  }

  #stop(): void {
    for (const keeper of this.#keepers) keeper.stop();
  }

  #watch(context: BrowserContext): void {
    this.#empty = context.pages()[0] ?? null;
    context.once('close', () => {
      this.#context = null;
    });
  }

  /** After the browser has ended, whichever node is started first brings up a new one for all. */
  #running(): Promise<BrowserContext> {
    this.#context ??= open(this.options, this.adapter).then(
      (context) => {
        this.#watch(context);
        return context;
      },
      (error: unknown) => {
        this.#context = null;
        throw error;
      },
    );
    return this.#context;
  }

  async #start(at: number): Promise<Running> {
    const context = await this.#running();
    const empty = this.#empty;
    this.#empty = null;
    const page = empty ?? (await context.newPage());
    this.pages[at] = page;
    const ended = new Promise<string>((resolve) => {
      page.once('crash', () => {
        resolve('crashed');
        void page.close().catch(() => {});
      });
      page.once('close', () => resolve('was closed'));
    });
    page.on('pageerror', (error) => this.options.say(`The page of a headless node reports: ${error.message}`));
    try {
      await page.goto(nodeUrl(this.options, this.adapter, this.options.roles[at] ?? null));
    } catch (error) {
      await page.close().catch(() => {});
      throw error;
    }
    return { ended };
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

async function leavePage(page: Page, timeoutMs: number): Promise<void> {
  await page.getByTestId('leave').click({ timeout: timeoutMs });
  await page.locator('[data-testid="stage"][data-state="idle"]').waitFor({ timeout: timeoutMs });
}

/** Address of a page that joins on its own: the token stays in the fragment, which no server sees. */
function nodeUrl(
  { hubUrl, joinToken, query }: Pick<HeadlessOptions, 'hubUrl' | 'joinToken' | 'query'>,
  adapter: AdapterChoice,
  role: Role | null,
): string {
  const software = adapter === 'software' ? { 'allow-software-adapter': 'true' } : {};
  const own = role === null ? {} : { 'disaggregation-mode': role };
  const search = new URLSearchParams({ headless: 'true', ...software, ...query, ...own });
  return `${hubUrl}/?${search}${joinToken === null ? '' : `#join=${encodeURIComponent(joinToken)}`}`;
}
