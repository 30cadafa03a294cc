/** `npm start`: the hub, its page, and headless browser nodes of its own. See `npm start -- --help`. */
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import type { BridgeOptions } from '../config/dynamo.ts';
import { helpText } from '../config/help.ts';
import { OptionError } from '../config/option.ts';
import { type Parsed, parseArgs } from '../config/options.ts';
import { adapterName } from '../protocol/adapter-name.ts';
import type { Card } from '../protocol/messages.ts';
import type { HubConfig } from './config.ts';
import { type Hub, startHub } from './hub.ts';
import { banner } from './launch/banner.ts';
import { ChromiumError, findChromium } from './launch/find-chromium.ts';
import type { HeadlessNodes } from './launch/headless-nodes.ts';
import { hubConfig } from './launch/hub-config.ts';
import { lendTo } from './launch/lend.ts';
import { thisMachine } from './launch/machine.ts';
import { defaultModelCache } from './launch/models.ts';
import { lanAddresses, origin, reachableHosts } from './launch/network.ts';
import { build, isStale } from './launch/page-build.ts';
import { closeOnSignals, endWithNpm } from './launch/shutdown.ts';
import { followNodes, startNodes } from './launch/start-nodes.ts';
import { fingerprint, publicKeyHash } from './launch/tls.ts';
import { HubStartError } from './start-error.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Beside the times for streams, how long sockets and browsers may take to close. */
const CLOSE_MS = 30_000;

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

async function main(): Promise<void> {
  if (process.argv.some((arg) => arg === '--help' || arg === '-h')) {
    process.stdout.write(helpText());
    return;
  }
  const parsed = parseArgs(process.argv.slice(2), process.env);
  const { options } = parsed;
  for (const notice of parsed.notices) say(notice);
  if (options.chromium !== null) findChromium(thisMachine, options.chromium);
  if (options.headless) return lendTo(parsed, say);
  const lan = lanAddresses(os.networkInterfaces());
  const config = await hubConfig(parsed, {
    root: ROOT,
    hostname: os.hostname(),
    lanAddresses: lan,
    now: () => new Date(),
    modelCache: defaultModelCache(process.env, os.homedir()),
    say,
  });
  if (isStale(ROOT, 'page')) {
    say('Building the page ...');
    await build(ROOT, 'page');
  }
  const log = pino({ level: options['log-level'] }, pino.destination({ dest: 2, sync: true }));
  const hub = await startHub(config, { log });
  let nodes: HeadlessNodes | null = null;
  let stopping = false;
  closeOnSignals(
    process,
    {
      async close() {
        stopping = true;
        say(stoppingLine(config));
        await hub.close();
        await nodes?.close();
      },
      exit: (code) => process.exit(code),
      say,
      timeoutMs: (config.graceSeconds + config.drainSeconds) * 1000 + CLOSE_MS,
    },
    Date.now,
  );
  endWithNpm();
  // Whoever read the output may be gone (`npm start | head`): the end must stay an orderly one.
  process.stdout.on('error', () => {});
  say(`The hub is at ${hub.url}.`);
  if (options.nodes.length > 0) {
    nodes = await startNodes({
      nodes: options.nodes,
      chromium: options.chromium,
      yes: options.yes,
      hubUrl: hub.url,
      joinToken: config.joinToken,
      trustedKey: config.tls === null ? null : publicKeyHash(config.tls.cert),
      query: {},
      say,
    });
    if (nodes === null) say('The hub runs without a node of its own.');
    else await followNodes(nodes, say);
  }
  if (stopping) return;
  say(bannerOf(parsed, config, hub, lan));
}

function stoppingLine({ graceSeconds, drainSeconds }: HubConfig): string {
  return `\nStopping: late requests are taken for ${graceSeconds} s, running ones may end (${drainSeconds} s at most). Ctrl-C again ends at once.`;
}

function bannerOf({ options }: Parsed, config: HubConfig, hub: Hub, lan: readonly string[]): string {
  const scheme = config.tls === null ? 'http' : 'https';
  const state = hub.state();
  const ready = state.nodes.filter((node) => node.stage === 'ready');
  const model = (state.models.find(({ readyNodes }) => readyNodes > 0) ?? state.models[0])?.name ?? '';
  return banner({
    url: hub.url,
    lanUrls: reachableHosts(config.host, lan).map((host) => origin(scheme, host, hub.port)),
    models: hub.models,
    model,
    pools: hub.embeddingModels.includes(model),
    endpointTypes: config.endpointTypes,
    adapters: ready.flatMap(({ card }) => (card === null ? [] : [nodeText(card)])),
    apiKey: config.apiKeys[0] ?? null,
    joinToken: config.joinToken,
    tls: config.tls && { fingerprint: fingerprint(config.tls.cert), selfSigned: options.tls === 'self-signed' },
    port: hub.port,
    hostname: os.hostname(),
    systemUrl: sideUrl(hub, hub.sidePorts.system),
    metricsUrl: sideUrl(hub, hub.sidePorts.metrics),
    skipTokenizer: config.skipTokenizerInit,
    dynamo: config.dynamo && { namespace: config.namespace, discovery: placeOf(config.dynamo.discovery) },
  });
}

function placeOf(discovery: BridgeOptions['discovery']): string {
  return discovery.backend === 'file' ? discovery.folder : discovery.endpoints.join(', ');
}

function sideUrl(hub: Hub, port: number | null): string | null {
  if (port === null) return null;
  const url = new URL(hub.url);
  url.port = String(port);
  return url.origin;
}

function nodeText({ adapter, role }: Card): string {
  const software = adapter.software ? ' (software: the CPU, no GPU)' : '';
  return `${adapterName(adapter)}${software}${role === 'agg' ? '' : `, ${role}`}`;
}

try {
  await main();
} catch (error) {
  if (error instanceof OptionError || error instanceof HubStartError || error instanceof ChromiumError) {
    console.error(error.message);
    process.exit(2);
  }
  console.error(error);
  process.exit(1);
}
