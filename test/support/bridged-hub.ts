import type { BridgeOptions } from '../../src/config/dynamo.ts';
import type { Hub } from '../../src/hub/hub.ts';
import type { Deployment } from './dynamo-frontend.ts';
import { startTestHub } from './test-hub.ts';

type HubParameters = Parameters<typeof startTestHub>;

/** A hub whose nodes are workers of a deployment on this machine. */
export function startBridgedHub(
  { discovery }: Deployment,
  config: HubParameters[0] = {},
  limits: HubParameters[1] = {},
): Promise<Hub> {
  const dynamo: BridgeOptions = { discovery, host: '127.0.0.1', port: 0, allow: [] };
  return startTestHub({ dynamo, ...config }, limits);
}
