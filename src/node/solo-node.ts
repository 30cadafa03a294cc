import { dataParallel } from '../config/data-parallel.ts';
import { OptionError } from '../config/option.ts';
import { pageOptions } from '../config/options.ts';
import { EngineError, type StepRecord } from '../engine/api.ts';
import type { ModelFiles } from '../engine/files/source.ts';
import { cardOf } from './card.ts';
import type { EngineIdentity, StartListener } from './engine-offer.ts';
import { LocalBackend } from './local-backend.ts';
import { Progress } from './progress.ts';
import type { Ranks, RanksListener } from './ranks.ts';
import type { SnapshotFeed } from './snapshot-feed.ts';
import { createSoloApi, type SoloApi } from './solo-api.ts';
import { findModel, type OpenFiles, type SoloSource } from './solo-model.ts';

/** What a solo node needs of the worker around it. */
export interface SoloPlace {
  readonly source: SoloSource;
  /** The page's query; a page alone has nobody else to take options from. */
  readonly query: string;
  readonly feed: SnapshotFeed;
  readonly now: () => number;
  readonly openFiles: OpenFiles;
  startEngine(
    request: { offer: EngineIdentity; files: ModelFiles; progress: Progress },
    listener: RanksListener & Pick<StartListener, 'adapter'>,
  ): Promise<Ranks>;
}

/** The engine of this page alone, with the OpenAI API on top. One life: start once, leave once. */
export class SoloNode {
  private readonly starting = new AbortController();
  private readonly backend = new LocalBackend();
  private engines: Ranks | null = null;
  private api: SoloApi | null = null;

  constructor(private readonly place: SoloPlace) {}

  /** Loads the model and makes it answer; what went wrong shows in the snapshots. */
  async start(): Promise<void> {
    const { feed } = this.place;
    try {
      await this.load();
    } catch (error) {
      if (this.starting.signal.aborted) return;
      await this.stop();
      const code = error instanceof EngineError ? error.code : 'internal';
      const message = error instanceof Error ? error.message : String(error);
      feed.update({ stage: 'refused', detail: '', progress: null, problem: { code, message } });
    }
  }

  /** Answers a request to the API; 503 until the engine is ready. */
  async fetch(request: Request): Promise<Response> {
    if (this.api) return this.api(request);
    const error = {
      message: 'The model of this page is not loaded yet. Wait until it is ready.',
      type: 'service_unavailable',
      param: null,
      code: 'no_engine',
    };
    return Response.json({ error }, { status: 503 });
  }

  steps(): StepRecord[] {
    return this.engines?.engines[0].steps() ?? [];
  }

  async leave(): Promise<void> {
    this.starting.abort();
    await this.stop();
    this.place.feed.update({ stage: 'idle', detail: '', progress: null });
  }

  private async load(): Promise<void> {
    const { place } = this;
    const { feed, source } = place;
    const options = pageOptions(new URLSearchParams(place.query), {});
    if (dataParallel(options).engines > 1)
      throw new OptionError('data-parallel-size: a page alone has one engine. Leave it out, or join a hub.');
    const looking = source.kind === 'files' ? 'looking at the files' : 'reading the manifest of the model';
    feed.update({ stage: 'joining', detail: looking, problem: null });
    const wish = { runner: options.runner, config: options['pooler-config'] };
    const model = await findModel(source, wish, place.openFiles, this.starting.signal);
    const { pooler } = model;
    const { name, files: listed } = model.listing;
    feed.update({ model: name });
    const listener = this.listener();
    const progress = new Progress(listener.progress, listed, place.now);
    const files = await model.open((notice) => progress.say(notice));
    const generationConfig = options['generation-config'];
    const offer: EngineIdentity = {
      model: { name, fingerprint: model.fingerprint, ...(pooler && { pooler }) },
      blockSize: options['block-size'],
      hashAlgo: options['prefix-caching-hash-algo'],
      options: {
        'generation-config': generationConfig,
        'prefix-caching-hash-seed': options['prefix-caching-hash-seed'],
        runner: options.runner,
        ...(options['pooler-config'] && { 'pooler-config': JSON.stringify(options['pooler-config']) }),
      },
    };
    const engines = await place.startEngine({ offer, files, progress }, listener);
    const [engine] = engines.engines;
    const api = await createSoloApi(files, engine, this.backend, {
      generationConfig,
      pooler,
      promptEmbeds: options['enable-prompt-embeds'],
    });
    if (this.starting.signal.aborted) return engines.close();
    this.engines = engines;
    this.api = api;
    this.backend.use(engine);
    feed.update({ stage: 'ready', detail: '', progress: null, card: cardOf(engines, offer.hashAlgo) });
    feed.follow(engines);
  }

  private listener(): RanksListener & StartListener {
    const { feed } = this.place;
    const { signal } = this.starting;
    return {
      ...this.backend.listener,
      lost: (error) => {
        if (signal.aborted) return;
        this.starting.abort();
        this.backend.listener.lost(error);
        void this.stop();
        const problem = { code: error.code, message: `${error.message} Try again, or reload the page.` };
        feed.update({ stage: 'gone', detail: '', progress: null, problem });
      },
      adapter: (adapter) => {
        if (!signal.aborted) feed.update({ adapter });
      },
      progress: (stage, detail, loadedBytes, totalBytes) => {
        if (!signal.aborted) feed.update({ stage, detail, progress: { loadedBytes, totalBytes } });
      },
    };
  }

  private async stop(): Promise<void> {
    const { engines } = this;
    this.engines = null;
    this.api = null;
    this.backend.use(null);
    this.place.feed.follow(null);
    await engines?.close();
  }
}
