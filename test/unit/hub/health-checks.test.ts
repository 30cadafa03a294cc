import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { HealthChecks } from '../../../src/hub/health/health-checks.ts';
import type { NodeSocket } from '../../../src/hub/node-socket.ts';
import type { HubMessage } from '../../../src/protocol/messages.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const PAYLOAD = {
  prompt: [1],
  choices: [{ choice: 0, generated: [] }],
  sampling: { ...GREEDY, maxTokens: 1 },
  cache: false as const,
};

function setUp() {
  const clock = new FakeClock();
  const sent: HubMessage[] = [];
  const socket = {
    id: 'node',
    model: 'm',
    state: 'ready',
    ill: null as string | null,
    send: (message: HubMessage) => sent.push(message),
    setIll(ill: string | null) {
      this.ill = ill;
    },
  };
  const node = socket as unknown as NodeSocket;
  let busy = false;
  const checks = new HealthChecks({
    config: { waitMs: 10_000, timeoutMs: 3000 },
    clock,
    sockets: () => [node],
    busy: () => () => busy,
    payload: () => PAYLOAD,
    log: pino({ level: 'silent' }),
  });
  const probes = () => sent.flatMap((message) => (message.type === 'generate' ? [message.generate] : []));
  const frame = (request: string, finish?: 'length') => ({
    ...{ request, attempt: 0, choice: 0, offset: 0, tokens: [9] },
    ...(finish ? { finish } : {}),
  });
  const answer = () => checks.tokens(node, [frame(probes().at(-1)!.request, 'length')]);
  const setBusy = (value: boolean) => {
    busy = value;
  };
  return { clock, sent, socket, node, checks, probes, answer, frame, setBusy };
}

describe('health checks', () => {
  test('H1: a node is probed when it was idle for the wait, and again so long after its answer', () => {
    const { clock, probes, answer, socket } = setUp();
    clock.advance(10_000);
    expect(probes()).toEqual([]);
    clock.advance(1000);
    expect(probes()).toMatchObject([{ prompt: [1], cache: false }]);
    clock.advance(500);
    answer();
    clock.advance(9999);
    expect(probes()).toHaveLength(1);
    clock.advance(2000);
    expect(probes()).toHaveLength(2);
    expect(new Set(probes().map(({ request }) => request)).size).toBe(2);
    expect(socket.ill).toBeNull();
  });

  test('H1: a node at work is never probed', () => {
    const { clock, probes, setBusy } = setUp();
    setBusy(true);
    clock.advance(100_000);
    expect(probes()).toEqual([]);
    setBusy(false);
    clock.advance(9000);
    expect(probes()).toEqual([]);
    clock.advance(2000);
    expect(probes()).toHaveLength(1);
  });

  test('H2: no answer in time: cancelled, and out of discovery until one passes', () => {
    const { clock, probes, answer, sent, socket } = setUp();
    clock.advance(11_000);
    clock.advance(2999);
    expect(socket.ill).toBeNull();
    clock.advance(1);
    expect(socket.ill).toBe('no answer to a health check within 3 s');
    expect(sent.at(-1)).toEqual({ type: 'cancel', request: probes()[0]!.request, attempt: 0 });
    clock.advance(11_000);
    expect(probes()).toHaveLength(2);
    expect(socket.ill).not.toBeNull();
    answer();
    expect(socket.ill).toBeNull();
  });

  test('H2: a failure counts; a node that has too much to do, or that answers others meanwhile, is well', () => {
    const { clock, probes, checks, node, socket, frame } = setUp();
    clock.advance(11_000);
    const failure = (code: 'engine' | 'overloaded') =>
      ({ type: 'failed', epoch: 1, request: probes().at(-1)!.request, attempt: 0, code, message: 'why' }) as const;
    checks.failed(node, failure('overloaded'));
    expect(socket.ill).toBeNull();
    clock.advance(11_000);
    clock.advance(1000);
    checks.tokens(node, [frame('of somebody')]);
    clock.advance(2000);
    expect(socket.ill).toBeNull();
    clock.advance(11_000);
    checks.failed(node, failure('engine'));
    expect(socket.ill).toBe('a health check failed: why');
  });

  test('a node that is lost, and a hub that ends, leave no timer', () => {
    const { clock, checks, node, socket } = setUp();
    clock.advance(11_000);
    checks.lost(node);
    expect(clock.pending).toBe(1);
    clock.advance(5000);
    expect(socket.ill).toBeNull();
    checks.stop();
    expect(clock.pending).toBe(0);
  });
});
