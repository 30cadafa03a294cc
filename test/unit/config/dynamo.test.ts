import { describe, expect, it, test } from 'vitest';
import { bridgeOptions } from '../../../src/config/dynamo.ts';
import { parseArgs } from '../../../src/config/options.ts';

const words = (line: string) => (line === '' ? [] : line.split(' '));
const bridge = (line: string, env: Record<string, string> = {}) => {
  const { options, given } = parseArgs(words(line), env);
  return bridgeOptions(options, given);
};
const FILE = { DYN_DISCOVERY_BACKEND: 'file', DYN_FILE_KV: '/tmp/dynkv' };

describe('--dynamo', () => {
  it("takes Dynamo's own variables, as its other processes do", () => {
    const planes = { DYN_REQUEST_PLANE: 'tcp', DYN_EVENT_PLANE: 'zmq', DYN_TCP_RPC_HOST: '192.0.2.7' };
    expect(bridge('--dynamo', { ...FILE, ...planes })).toEqual({
      discovery: { backend: 'file', folder: '/tmp/dynkv' },
      host: '192.0.2.7',
      port: 0,
      allow: [],
    });
    const etcd = { DYN_DISCOVERY_BACKEND: 'etcd', ETCD_ENDPOINTS: 'http://10.0.0.1:2379,http://10.0.0.2:2379' };
    expect(bridge('--dynamo --dynamo-allow 10.0.0.0/8,fd00::/8 --tcp-rpc-host ::1 --tcp-rpc-port 9301', etcd)).toEqual({
      discovery: { backend: 'etcd', endpoints: ['http://10.0.0.1:2379', 'http://10.0.0.2:2379'] },
      host: '::1',
      port: 9301,
      allow: ['10.0.0.0/8', 'fd00::/8'],
    });
  });

  it('is off by default', () => {
    expect(bridge('')).toBeNull();
  });

  test.each([
    ['--dynamo', {}, /^--dynamo: where is the deployment\? Set DYN_DISCOVERY_BACKEND=file and DYN_FILE_KV/],
    ['--dynamo', { DYN_DISCOVERY_BACKEND: 'file' }, /needs DYN_FILE_KV/],
    ['--dynamo --discovery-backend etcd', {}, /needs ETCD_ENDPOINTS/],
    ['--dynamo --request-plane websocket', FILE, /^--request-plane websocket: with --dynamo only tcp works/],
    ['--dynamo', { ...FILE, DYN_REQUEST_PLANE: 'nats' }, /^DYN_REQUEST_PLANE=nats: expected one of websocket, tcp/],
    ['--dynamo', { ...FILE, DYN_TCP_RPC_HOST: '0.0.0.0' }, /^DYN_TCP_RPC_HOST=0\.0\.0\.0: expected a numeric address/],
    ['--dynamo', { ...FILE, DYN_TCP_RPC_HOST: 'gpu.example' }, /expected a numeric address/],
    ['--dynamo --dynamo-allow example.org', FILE, /^--dynamo-allow example\.org: expected an address or a network/],
    ['--discovery-backend etcd', {}, /^--discovery-backend etcd: .* Add --dynamo/],
    ['', { DYN_REQUEST_PLANE: 'tcp' }, /^DYN_REQUEST_PLANE=tcp: .* Add --dynamo/],
    ['--file-kv /tmp', {}, /^--file-kv \/tmp: this is an option of the bridge to Dynamo\. Add --dynamo\.$/],
  ])('%s with %j says what to do', (line, env, message) => {
    expect(() => bridge(line, env as Record<string, string>)).toThrow(message);
  });

  it('says which variables nothing reads without it', () => {
    const { notices } = parseArgs([], { ETCD_ENDPOINTS: 'http://127.0.0.1:2379' });
    expect(notices).toEqual(['ETCD_ENDPOINTS is set and not used: only with --dynamo it is.']);
  });
});
