import { OptionError } from './option.ts';

interface DynamoOptions {
  readonly dynamo: boolean;
  readonly 'dynamo-allow': readonly string[];
  readonly 'discovery-backend': 'websocket' | 'file' | 'etcd';
  readonly 'file-kv': string | null;
  readonly 'etcd-endpoints': readonly string[];
  readonly 'request-plane': 'websocket' | 'tcp';
  readonly 'event-plane': 'websocket' | 'zmq';
  readonly 'tcp-rpc-host': string;
  readonly 'tcp-rpc-port': number;
}

/** What was set, by flag name, and where it stood. */
type Given = ReadonlyMap<string, { readonly source: string }>;

/** How the bridge to a Dynamo deployment is reached, and where it registers. */
export interface BridgeOptions {
  readonly discovery:
    | { readonly backend: 'file'; readonly folder: string }
    | { readonly backend: 'etcd'; readonly endpoints: readonly string[] };
  readonly host: string;
  readonly port: number;
  readonly allow: readonly string[];
}

/** Flags of the bridge alone: without it nothing reads them. */
const OWN = ['dynamo-allow', 'file-kv', 'etcd-endpoints', 'tcp-rpc-host', 'tcp-rpc-port'];
const PLANES = { 'request-plane': 'tcp', 'event-plane': 'zmq' } as const;

/** The options of `--dynamo`; null without it. Throws `OptionError` for what it lacks, or cannot use. */
export function bridgeOptions(options: DynamoOptions, given: Given): BridgeOptions | null {
  if (!options.dynamo) {
    for (const name of ['discovery-backend', 'request-plane', 'event-plane'] as const) {
      if (options[name] === 'websocket') continue;
      throw new OptionError(
        `${given.get(name)?.source}: this is how the nodes of a hub appear in a Dynamo deployment. Add --dynamo, or leave it out.`,
      );
    }
    return null;
  }
  for (const [name, works] of Object.entries(PLANES)) {
    const source = given.get(name)?.source;
    if (source !== undefined && options[name as keyof typeof PLANES] !== works)
      throw new OptionError(`${source}: with --dynamo only ${works} works. Say so, or leave it out.`);
  }
  return {
    discovery: discoveryOf(options),
    host: options['tcp-rpc-host'],
    port: options['tcp-rpc-port'],
    allow: options['dynamo-allow'],
  };
}

/** Lines to say at start: what is set for the bridge, where there is none. Throws `OptionError` for flags. */
export function unusedOfBridge({ dynamo }: Pick<DynamoOptions, 'dynamo'>, given: Given): string[] {
  if (dynamo) return [];
  const unused = OWN.flatMap((name) => given.get(name)?.source ?? []);
  const flag = unused.find((source) => source.startsWith('--'));
  if (flag !== undefined) throw new OptionError(`${flag}: this is an option of the bridge to Dynamo. Add --dynamo.`);
  return unused.map((source) => `${source.split('=')[0]} is set and not used: only with --dynamo it is.`);
}

function discoveryOf(options: DynamoOptions): BridgeOptions['discovery'] {
  const folder = options['file-kv'];
  const endpoints = options['etcd-endpoints'];
  switch (options['discovery-backend']) {
    case 'file':
      if (folder !== null) return { backend: 'file', folder };
      throw new OptionError(
        '--dynamo with DYN_DISCOVERY_BACKEND=file needs DYN_FILE_KV: the folder that the processes of the deployment share.',
      );
    case 'etcd':
      if (endpoints.length > 0) return { backend: 'etcd', endpoints };
      throw new OptionError(
        '--dynamo with DYN_DISCOVERY_BACKEND=etcd needs ETCD_ENDPOINTS, such as http://127.0.0.1:2379.',
      );
    case 'websocket':
      throw new OptionError(
        '--dynamo: where is the deployment? Set DYN_DISCOVERY_BACKEND=file and DYN_FILE_KV to its folder, or DYN_DISCOVERY_BACKEND=etcd and ETCD_ENDPOINTS.',
      );
  }
}
