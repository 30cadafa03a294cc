import type { EndpointType } from '../../config/endpoint-types.ts';

/** All that the banner tells; the hub is up, its nodes are ready or there are none. */
export interface BannerFacts {
  /** Origin as this machine reaches the hub. */
  readonly url: string;
  /** Origins as other machines reach it; empty when the hub listens on loopback only. */
  readonly lanUrls: readonly string[];
  /** Names of the models in the API, and the one to ask first. */
  readonly models: readonly string[];
  readonly model: string;
  /** That one gives embeddings. */
  readonly pools: boolean;
  readonly endpointTypes: readonly EndpointType[];
  /** Of the hub's own nodes that are ready: what each computes on. */
  readonly adapters: readonly string[];
  readonly apiKey: string | null;
  readonly joinToken: string | null;
  /** SHA-256 of the certificate, and whether the hub made it itself; null without TLS. */
  readonly tls: { readonly fingerprint: string; readonly selfSigned: boolean } | null;
  readonly port: number;
  /** Name by which a person would reach this machine by ssh. */
  readonly hostname: string;
  /** Origins of the servers beside the hub's own. */
  readonly systemUrl: string | null;
  readonly metricsUrl: string | null;
  readonly skipTokenizer: boolean;
  /** Where its nodes are workers of a Dynamo deployment; null = nowhere. */
  readonly dynamo: { readonly namespace: string; readonly discovery: string } | null;
}

/** The lines that `npm start` ends with: where the page is, what computes, how to ask, how to add a node. */
export function banner(facts: BannerFacts): string {
  const { url, lanUrls, adapters, apiKey, joinToken, tls, port } = facts;
  const ssh = `ssh -L ${port}:${new URL(url).host} ${facts.hostname}`;
  const rows: [string, string][] = [['Page', url]];
  for (const lan of lanUrls) rows.push(['On the LAN', lan]);
  if (tls) rows.push([tls.selfSigned ? 'Certificate' : 'TLS', certificateText(tls)]);
  if (facts.systemUrl !== null) rows.push(['Health', `${facts.systemUrl}/health`]);
  if (facts.metricsUrl !== null) rows.push(['Metrics', `${facts.metricsUrl}/metrics`]);
  rows.push([facts.models.length === 1 ? 'Model' : 'Models', facts.models.join(', ')]);
  if (facts.dynamo !== null)
    rows.push([
      'Dynamo',
      `nodes are workers of namespace ${facts.dynamo.namespace}, found through ${facts.dynamo.discovery}`,
    ]);
  for (const adapter of adapters.length > 0
    ? adapters
    : ['none here yet: requests are answered once a node has joined'])
    rows.push(['Node', adapter]);
  if (apiKey !== null) rows.push(['API key', apiKey]);
  if (joinToken !== null) rows.push(['Join token', joinToken]);

  const lines = ['', ...rows.map(([name, text]) => `  ${name.padEnd(12)}${text}`), ''];
  const ask = curl(facts);
  if (ask !== null) lines.push('Ask it:', '', `  ${ask}`, '');
  const fragment = joinToken === null ? '' : `#join=${encodeURIComponent(joinToken)}`;
  lines.push('Add a node: open this in a browser with WebGPU.', '');
  for (const each of [url, ...lanUrls]) lines.push(`  ${each}/${fragment}`);
  lines.push('');
  const scheme = tls === null ? 'http' : 'https';
  if (lanUrls.length === 0) {
    lines.push('From another machine: forward the port, then open the same address there.', '', `  ${ssh}`, '');
  } else if (tls === null) {
    lines.push(
      'Browsers give WebGPU only to https and localhost: to lend from another machine, start with --tls self-signed,',
      `or forward the port there (${ssh}) and open ${scheme}://127.0.0.1:${port}/${fragment}`,
      '',
    );
  }
  lines.push('Ctrl-C ends it all.', '');
  return lines.join('\n');
}

function certificateText(tls: { readonly fingerprint: string; readonly selfSigned: boolean }): string {
  const hint = tls.selfSigned ? ' (made now; browsers ask before they trust it, compare this)' : '';
  return `SHA-256 ${tls.fingerprint}${hint}`;
}

/** A line that asks the model as printed, or null when the hub serves no endpoint that takes text. */
function curl(facts: BannerFacts): string | null {
  const { url, apiKey, tls } = facts;
  const call = facts.pools ? embeddingCall(facts) : textCall(facts);
  if (call === null) return null;
  const parts = [
    `curl${tls?.selfSigned ? ' -k' : ''} ${url}/v1/${call.path}`,
    `-H 'Content-Type: application/json'`,
    ...(apiKey === null ? [] : [`-H 'Authorization: Bearer ${apiKey}'`]),
    `-d '${JSON.stringify(call.body).replaceAll("'", "'\\''")}'`,
  ];
  return parts.join(' ');
}

function embeddingCall({ model, endpointTypes, skipTokenizer }: BannerFacts) {
  if (!endpointTypes.includes('embeddings')) return null;
  return { path: 'embeddings', body: { model, input: skipTokenizer ? [1, 2, 3] : 'Once upon a time' } };
}

function textCall({ model, endpointTypes, skipTokenizer }: BannerFacts) {
  const chat = endpointTypes.includes('chat') && !skipTokenizer;
  if (!chat && !endpointTypes.includes('completions')) return null;
  const body = chat
    ? { model, messages: [{ role: 'user', content: 'What is 17 + 25?' }], temperature: 0 }
    : { model, prompt: skipTokenizer ? [1, 2, 3] : 'Once upon a time', temperature: 0, max_tokens: 32 };
  return { path: `${chat ? 'chat/' : ''}completions`, body };
}
