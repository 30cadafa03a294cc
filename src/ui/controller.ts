/**
 * What a person does on the page, and what comes in from the worker and the hub; the only writer of `state.ts`.
 */
import { batch } from '@preact/signals';
import { proxy, type Remote, wrap } from 'comlink';
import { OptionError } from '../config/option.ts';
import { pageOptions } from '../config/options.ts';
import { checkCapability } from '../node/page/capabilities.ts';
import { keepAlive } from '../node/page/keep-alive.ts';
import { pageServices } from '../node/page/services.ts';
import { SettingsStore } from '../node/page/settings.ts';
import { type ApiFetch, workerFetch } from '../node/page/worker-fetch.ts';
import { IDLE, type NodeSnapshot } from '../node/snapshot.ts';
import type { SoloSource } from '../node/solo-model.ts';
import type { WorkerApi } from '../node/worker-api.ts';
import { ClusterHistory, SAMPLE_MS } from '../protocol/cluster-history.ts';
import { ClusterSummary } from '../protocol/cluster-summary.ts';
import { joinLinkOf, ticketOf } from '../protocol/join-link.ts';
import { loadSum } from '../protocol/load-sum.ts';
import type { Role } from '../protocol/messages.ts';
import { Chat } from './chat.ts';
import { watchCluster } from './cluster-watch.ts';
import type { PickedModel } from './picked-files.ts';
import * as state from './state.ts';

const SUMMARY_TIMEOUT_MS = 4000;
const RATE_MS = 1000;
const RATES_KEPT = 60;
const ROLE_OPTION = 'disaggregation-mode';

/** The page's side of everything; `startPage` makes the one of this page. */
export class Controller {
  readonly chat: Chat;
  private readonly worker: Remote<WorkerApi>;
  private letSleep: (() => void) | null = null;
  /** Leaves only to join anew. */
  private comesBack = false;
  /** Takes the place of the model beside the page. */
  private opened: SoloSource | null = null;
  private lastBytes: { at: number; bytes: number } | null = null;

  constructor(private readonly settings: SettingsStore) {
    const thread = new Worker(new URL('../worker.ts', import.meta.url), { type: 'module', name: 'quire' });
    this.worker = wrap<WorkerApi>(thread);
    thread.onerror = (event) =>
      this.show({
        ...IDLE,
        stage: 'gone',
        problem: {
          code: 'worker',
          message: `The page's worker failed: ${event.message || 'it could not be loaded'}. Reload the page.`,
        },
      });
    const hubFetch: ApiFetch = (path, { signal, ...init }) => fetch(path, { ...init, signal });
    const ownFetch = workerFetch(this.worker);
    this.chat = new Chat(
      (path, init) => (state.alone.value ? ownFetch : hubFetch)(path, init),
      () => servedModel(),
      () => performance.now(),
    );
    void this.worker.subscribe(proxy((snapshot) => this.show(snapshot)));
    setInterval(() => this.recordRate(), RATE_MS);
    // A page that a browser puts away (back-forward cache) leaves; when it is taken out again it joins anew.
    window.addEventListener('pagehide', () => {
      this.comesBack = false;
      void this.worker.leave('now');
    });
    window.addEventListener('pageshow', (event) => {
      if (event.persisted) this.join();
    });
  }

  /** Lends this page's GPU: to its hub, or to the page itself. */
  join(): void {
    if (!state.capability.value.ok) return;
    this.letSleep ??= keepAlive(navigator.locks);
    if (state.alone.value) {
      const url = new URL('models/quire-pico/manifest.json', document.baseURI).href;
      void this.worker.solo({ source: this.opened ?? { kind: 'manifest', url }, query: location.search });
    } else {
      const { joinToken } = this.settings.get();
      const agent = agentOf(state.nodeName.value, navigator.userAgent);
      const options = { hubUrl: location.origin, ticket: joinToken, agent, query: location.search };
      void this.worker.join(options, proxy(pageServices));
    }
  }

  /** Takes the GPU back when its streams have ended; asked again meanwhile, at once: they go on on other nodes. */
  async leave(): Promise<void> {
    this.comesBack = false;
    await this.worker.leave(state.node.value.stage === 'draining' ? 'now' : 'drain');
    this.letSleep?.();
    this.letSleep = null;
    state.openProblem.value = null;
    // A page of a hub lends to it when it starts again.
    if (state.mode === 'cluster') state.alone.value = false;
  }

  /** Runs a model of a person's own, for this page alone, in the place of what runs here. */
  async openModel({ name, files }: PickedModel): Promise<void> {
    if (!state.capability.value.ok) return this.refuseModel(state.capability.value.message);
    if (!state.canOpen.value)
      return this.refuseModel('This page lends its GPU to the hub. Press Leave first, then drop the model again.');
    this.chat.stop();
    batch(() => {
      state.openProblem.value = null;
      state.alone.value = true;
    });
    const opened: SoloSource = { kind: 'files', name, files };
    this.opened = opened;
    await this.worker.leave('now');
    // Another one may have been dropped meanwhile.
    if (this.opened === opened) this.join();
  }

  /** Says why what was dropped is not opened. */
  refuseModel(why: string): void {
    state.openProblem.value = why;
  }

  /** Makes this page's node one of `role`: it leaves when its streams have ended, and joins anew. The address keeps the role. */
  async setRole(role: Role): Promise<void> {
    const address = new URL(location.href);
    address.searchParams.set(ROLE_OPTION, role);
    history.replaceState(null, '', address);
    state.roleAsked.value = role;
    const { stage } = state.node.value;
    if (stage === 'idle' || stage === 'gone') return;
    this.comesBack = true;
    await this.worker.leave('drain');
    if (this.comesBack) this.join();
  }

  /** Name that the hub's dashboard shows from the next join on. */
  setNodeName(name: string): void {
    state.nodeName.value = name.slice(0, 100);
    void this.settings.set({ nodeName: state.nodeName.value });
  }

  setApiKey(key: string): void {
    batch(() => {
      state.apiKey.value = key;
      state.apiKeyWanted.value = false;
    });
    void this.settings.set({ apiKey: key });
  }

  setChatSettings(patch: Partial<state.ChatSettings>): void {
    state.chatSettings.value = { ...state.chatSettings.value, ...patch };
  }

  /** Asks the hub for its nodes and what happened there, once; for its history when there is more of it. */
  async refreshCluster(): Promise<void> {
    try {
      const summary = ClusterSummary.parse(await askHub('/cluster/summary'));
      state.cluster.value = { status: 'reached', state: summary };
      const newest = state.history.value.at(-1)?.at ?? 0;
      if (state.headless.value || summary.now - newest < SAMPLE_MS) return;
      state.history.value = ClusterHistory.parse(await askHub('/cluster/history')).samples;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      state.cluster.value = { status: 'unreachable', message };
    }
  }

  private show(snapshot: NodeSnapshot): void {
    batch(() => {
      state.node.value = snapshot;
      state.downloadRate.value = this.measureDownload(snapshot);
    });
  }

  /** Bytes per second since about a second ago. */
  private measureDownload({ stage, progress }: NodeSnapshot): number | null {
    if (stage !== 'downloading' || !progress) {
      this.lastBytes = null;
      return null;
    }
    const at = performance.now();
    const before = this.lastBytes;
    if (before && at - before.at < RATE_MS) return state.downloadRate.value;
    this.lastBytes = { at, bytes: progress.loadedBytes };
    return before ? ((progress.loadedBytes - before.bytes) * 1000) / (at - before.at) : null;
  }

  private recordRate(): void {
    const { loads } = state.node.value;
    if (loads)
      state.rateHistory.value = [...state.rateHistory.value, loadSum(loads).tokensPerSecond].slice(-RATES_KEPT);
    else if (state.rateHistory.value.length > 0) state.rateHistory.value = [];
  }
}

/** Starts the page: settings, checks, worker, and the join that opening the page means. */
export async function startPage(): Promise<Controller> {
  const settings = await SettingsStore.open();
  const ticket = ticketOf(location.hash);
  if (ticket !== null) {
    await settings.set({ joinToken: ticket });
    // Out of the address: it would land in bookmarks, screenshots and the history.
    history.replaceState(null, '', location.pathname + location.search);
  }
  const { nodeName, apiKey, joinToken } = settings.get();
  batch(() => {
    state.nodeName.value = nodeName;
    state.apiKey.value = apiKey;
    if (state.mode === 'cluster') state.joinLink.value = joinLinkOf(location.origin, joinToken);
    state.capability.value = checkCapability({
      isSecureContext: globalThis.isSecureContext,
      hasWebGpu: navigator.gpu !== undefined,
      hasHub: state.mode === 'cluster',
      location,
    });
  });
  const controller = new Controller(settings);
  try {
    const query = new URLSearchParams(location.search);
    const options = pageOptions(query, {});
    state.headless.value = options.headless;
    if (query.has(ROLE_OPTION)) state.roleAsked.value = options[ROLE_OPTION];
    controller.join();
  } catch (error) {
    if (!(error instanceof OptionError)) throw error;
    state.node.value = { ...IDLE, stage: 'refused', problem: { code: 'option', message: error.message } };
  }
  if (state.mode === 'cluster') void watchCluster(() => controller.refreshCluster(), state.headless.value);
  return controller;
}

function servedModel(): string | null {
  const own = state.node.value.model;
  if (own !== null || state.alone.value || state.cluster.value.status !== 'reached') return own;
  return state.cluster.value.state.models[0]?.name ?? null;
}

/** What the hub shows of a node beside its adapter: its name, and the browser in short. */
function agentOf(name: string, userAgent: string): string {
  const browser = /(?:Firefox|Edg|Chrome|Version)\/\d+/.exec(userAgent)?.[0].replace('Version', 'Safari') ?? 'browser';
  return name === '' ? browser : `${name} (${browser})`;
}

async function askHub(path: string): Promise<unknown> {
  const response = await fetch(path, { signal: AbortSignal.timeout(SUMMARY_TIMEOUT_MS) });
  if (!response.ok) throw new Error(`the hub answered with status ${response.status}`);
  return response.json();
}
