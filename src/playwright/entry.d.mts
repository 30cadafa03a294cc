import type {
  Page,
  PlaywrightTestArgs,
  PlaywrightTestOptions,
  PlaywrightWorkerArgs,
  PlaywrightWorkerOptions,
  TestType,
} from '@playwright/test';

/** The adapter that a node computes on, as WebGPU names it. */
export interface QuireAdapter {
  /** The name that a person would use. */
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  /** It computes on the CPU. */
  readonly software: boolean;
  /** WebGPU features that the engine uses. */
  readonly features: readonly string[];
}

/** A page that serves. */
export interface QuireNode {
  /** Its id at the hub: what `x-quire-node` of a response names. */
  readonly id: string;
  readonly page: Page;
  readonly adapter: QuireAdapter;
}

/** A hub of this test. */
export interface QuireHub {
  /** Origin; the OpenAI API is at `<url>/v1`. */
  readonly url: string;
  /** Names of the models that it serves. */
  readonly models: readonly string[];
  /** What `/v1` wants as bearer token; null = nothing. */
  readonly apiKey: string | null;
  /**
   * Opens one more page in the test's browser context and waits until it serves. `query`: options of the page.
   * Skips the test where there is no adapter of the wanted kind; rejects with the page's own words when the node cannot serve.
   */
  openNode(query?: Readonly<Record<string, string>>): Promise<QuireNode>;
}

export interface QuireOptions {
  /**
   * `hardware` (default): tests that need a node are skipped where WebGPU has no GPU. `software`: Chromium's CPU adapter, which is everywhere.
   */
  quireAdapter: 'hardware' | 'software';
  /** Flags of the hub, as `npm start -- ...` takes them. */
  quireFlags: readonly string[];
}

export interface QuireFixtures {
  quireHub: QuireHub;
  /** One node of that hub, ready. */
  quireNode: QuireNode;
}

export const test: TestType<
  PlaywrightTestArgs & PlaywrightTestOptions & Pick<QuireOptions, 'quireFlags'> & QuireFixtures,
  PlaywrightWorkerArgs & PlaywrightWorkerOptions & Pick<QuireOptions, 'quireAdapter'>
>;
export { expect } from '@playwright/test';
